//! What a device image makes of images on this machine, to be compared with what a device does.

use std::error::Error;
use std::fmt::Write;
use std::path::Path;

use niwaki_engine::dataset::Dataset;
use niwaki_engine::image::input_codes;
use niwaki_image::Image;

/// Codes that go in, those that come out, and the label.
struct Example {
    input: Vec<i8>,
    output: Vec<i8>,
    label: usize,
}

fn examples(image: &Path, data: &Path, count: usize) -> Result<Vec<Example>, Box<dyn Error>> {
    let bytes = std::fs::read(image)?;
    let image = Image::parse(&bytes)?;
    let data = Dataset::open(data)?;
    let mut numbers = vec![0.0; data.item_len()];
    let mut arena = vec![0; image.arena()];
    let example = |item| {
        data.batch(std::iter::once(item), &mut numbers)?;
        let input = input_codes(&image, &numbers);
        let output = niwaki_micro::run(&image, &input, &mut arena)?.to_vec();
        Ok(Example { input, output, label: data.label(item)? })
    };
    (0..count.min(data.len())).map(example).collect()
}

/// The inputs, outputs and labels of the first `count` images of a dataset, as a header of C.
///
/// # Errors
///
/// A file that is no device image, or no dataset for it.
pub fn vectors(image: &Path, data: &Path, count: usize) -> Result<String, Box<dyn Error>> {
    let all = examples(image, data, count)?;
    let (mut inputs, mut outputs, mut labels) = (String::new(), String::new(), String::new());
    for Example { input, output, label } in &all {
        writeln!(inputs, "{{{}}},", listed(input))?;
        writeln!(outputs, "{{{}}},", listed(output))?;
        write!(labels, "{label}, ")?;
    }
    let [takes, makes] = all.first().map_or([0; 2], |first| [first.input.len(), first.output.len()]);
    let count = all.len();
    Ok(format!(
        "#include <stdint.h>\n#define VECTORS {count}\nstatic const int8_t inputs[VECTORS][{takes}] = {{\n{inputs}}};\n\
         static const int8_t outputs[VECTORS][{makes}] = {{\n{outputs}}};\n\
         static const uint16_t labels[VECTORS] = {{{labels}}};\n"
    ))
}

/// The same as bytes: of each image the codes that go in, those that come out, and the label, a byte.
///
/// # Errors
///
/// Those of [`vectors`]; a label beyond 255.
pub fn vector_bytes(image: &Path, data: &Path, count: usize) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut bytes = Vec::new();
    for Example { input, output, label } in examples(image, data, count)? {
        bytes.extend(input.iter().chain(&output).map(|code| *code as u8));
        bytes.push(u8::try_from(label)?);
    }
    Ok(bytes)
}

fn listed(codes: &[i8]) -> String {
    codes.iter().map(i8::to_string).collect::<Vec<_>>().join(",")
}
