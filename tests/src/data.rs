//! Made-up data of the transcripts: what `dataset import` takes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use crate::folder::repository;

/// A tokenizer that knows five words.
pub const TOKENIZER: &str = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],
"normalizer":{"type":"Lowercase"},"pre_tokenizer":{"type":"Whitespace"},"post_processor":null,"decoder":null,
"model":{"type":"WordLevel","vocab":{"[UNK]":0,"the":1,"bonsai":2,"is":3,"small":4,".":5},"unk_token":"[UNK]"}}
"#;

/// Writes into `made`: `fashion`, 60 test images of the bundled sample as IDX; `pictures`, two
/// classes of PNG; `tokenizer.json` and `text.txt`.
///
/// # Panics
///
/// If a file cannot be written.
pub fn write_data(made: &Path) {
    let sample = fs::read(repository().join("tests/fixtures/fashion-cnn/sample.safetensors")).unwrap();
    // The file ends with 500 labels of eight bytes and 500 images.
    let (rest, images) = sample.split_at(sample.len() - 500 * 784);
    let labels = &rest[rest.len() - 500 * 8..];
    let labels: Vec<u8> = labels.chunks(8).map(|label| label[0]).take(60).collect();
    fs::create_dir_all(made.join("fashion")).unwrap();
    fs::write(made.join("fashion/t10k-images-idx3-ubyte"), idx(&[60, 28, 28], &images[..60 * 784])).unwrap();
    fs::write(made.join("fashion/t10k-labels-idx1-ubyte"), idx(&[60], &labels)).unwrap();

    for (name, height, width) in [("cats/one.png", 20, 30), ("cats/two.png", 24, 24), ("dogs/one.png", 40, 32)] {
        let path = made.join("pictures").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let pixels: Vec<u8> = (0..height * width * 3u32).map(|i| (i * 7 / 5) as u8).collect();
        fs::write(path, png(width, height, png::ColorType::Rgb, &pixels)).unwrap();
    }
    fs::write(made.join("pictures/dogs/notes.txt"), "not a picture\n").unwrap();
    fs::write(made.join("tokenizer.json"), TOKENIZER).unwrap();
    fs::write(made.join("text.txt"), "The bonsai is small.\nThe pine is not. The end.\n").unwrap();
}

/// An IDX file of unsigned bytes.
pub fn idx(dims: &[u32], data: &[u8]) -> Vec<u8> {
    let head = [0, 0, 8, dims.len() as u8];
    head.into_iter().chain(dims.iter().flat_map(|d| d.to_be_bytes())).chain(data.iter().copied()).collect()
}

/// A PNG file of 8 bits a sample.
///
/// # Panics
///
/// If the pixels are not as many as the size says.
pub fn png(width: u32, height: u32, color: png::ColorType, pixels: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(color);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(pixels).unwrap();
    writer.finish().unwrap();
    bytes
}
