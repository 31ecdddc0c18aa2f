//! Datasets: what is imported, what is read, what is refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use niwaki_conformance::checkpoints::{self, Tensor, f32s};
use niwaki_conformance::cli::{Answer, niwaki};
use niwaki_conformance::data::{TOKENIZER, idx, png};
use niwaki_conformance::folder::{Folder, repository, sample};
use niwaki_engine::dataset::{Dataset, Tokens, shuffled};
use niwaki_tensors::{Checkpoint, Limits};
use png::ColorType;

/// A command on paths inside the folder: words that begin with `@` are paths in it.
fn attempt(folder: &Folder, line: &str) -> Answer {
    niwaki(line.split(' ').map(|word| word.strip_prefix('@').map_or(word.to_owned(), |name| folder.at(name))))
}

fn run(folder: &Folder, line: &str) -> String {
    attempt(folder, line).ok().out.replace(&folder.at(""), "@")
}

/// The message of a failure, with `@` for the folder.
fn refusal(folder: &Folder, line: &str) -> String {
    let message = attempt(folder, line).error().replace(&folder.at(""), "@");
    assert!(!message.contains('\n') && message.len() < 400, "{message}");
    message
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn put(folder: &Folder, name: &str, bytes: impl AsRef<[u8]>) {
    let path = folder.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Bytes of a tensor of a file.
fn bytes_of(path: &str, name: &str) -> Vec<u8> {
    let data = Dataset::open(Path::new(path)).unwrap();
    data.checkpoint().get(name).unwrap().bytes().to_vec()
}

/// Images and labels of the fixture, as IDX files in `mnist`, one of them gzipped.
fn write_idx(folder: &Folder) -> (Vec<u8>, Vec<u8>) {
    let images = bytes_of(&sample(), "images");
    let data = Dataset::open(Path::new(&sample())).unwrap();
    let labels: Vec<u8> = (0..500).map(|item| data.label(item).unwrap() as u8).collect();
    put(folder, "mnist/train-images-idx3-ubyte.gz", gzip(&idx(&[500, 28, 28], &images)));
    put(folder, "mnist/train-labels-idx1-ubyte", idx(&[500], &labels));
    (images, labels)
}

#[test]
fn idx_files_become_the_dataset_that_they_were_made_of() {
    let folder = Folder::new("idx");
    let (images, labels) = write_idx(&folder);
    let said = run(&folder, "dataset import idx @mnist --mean 0.2860 --std 0.3530 -o @a.safetensors");
    assert_eq!(said, "500 images of 1x28x28, 10 classes\nwrote @a.safetensors, 387 KiB\n");
    run(&folder, "dataset import idx @mnist/train-images-idx3-ubyte.gz --mean 0.286 --std 0.353 -o @b.safetensors");
    let a = std::fs::read(folder.at("a.safetensors")).unwrap();
    assert!(a == std::fs::read(folder.at("b.safetensors")).unwrap());
    assert_eq!(bytes_of(&folder.at("a.safetensors"), "images"), images);

    let (ours, theirs) = (Dataset::open(Path::new(&folder.at("a.safetensors"))), Dataset::open(Path::new(&sample())));
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
    assert_eq!((ours.len(), ours.shape(), ours.classes(), ours.is_empty()), (500, [1, 28, 28], 10, false));
    let (mut a, mut b) = (vec![0.0; 500 * 784], vec![0.0; 500 * 784]);
    ours.batch(0..500, &mut a).unwrap();
    theirs.batch(0..500, &mut b).unwrap();
    assert_eq!(a, b);
    let expected = ((f64::from(images[784 * 3 + 400]) / 255.0 - 0.286) / 0.353) as f32;
    assert!((a[784 * 3 + 400] - expected).abs() <= f32::EPSILON * expected.abs().max(1.0));
    // Any order.
    let order = &shuffled(500, 1, 0)[..7];
    let mut c = vec![0.0; 7 * 784];
    ours.batch(order.iter().copied(), &mut c).unwrap();
    for (item, image) in order.iter().zip(c.chunks(784)) {
        assert_eq!(image, &a[item * 784..(item + 1) * 784]);
        assert_eq!(ours.label(*item).unwrap(), usize::from(labels[*item]));
    }
    assert!(
        ours.batch([500], &mut vec![0.0; 784]).unwrap_err().to_string().ends_with("no item 500; expected 0 to 499")
    );
    assert!(ours.batch(0..2, &mut vec![0.0; 784]).unwrap_err().to_string().ends_with("784 elements; expected 1568"));
    assert!(ours.label(500).is_err());

    let said = run(&folder, "dataset import idx @mnist --limit 3 --classes a,b,c,d,e,f,g,h,i,j -o @c.safetensors");
    assert!(said.starts_with("3 images of 1x28x28, 10 classes\n"), "{said}");
    let three = Dataset::open(Path::new(&folder.at("c.safetensors"))).unwrap();
    assert_eq!((three.len(), three.names().unwrap()[9].as_str()), (3, "j"));
}

#[test]
fn idx_files_that_do_not_fit_are_refused() {
    let folder = Folder::new("idx-bad");
    let import = |folder: &Folder| refusal(folder, "dataset import idx @m -o @o.safetensors");
    assert_eq!(import(&folder), "`@m`: does not exist; expected data to import");
    put(&folder, "m/train-labels-idx1-ubyte", idx(&[2], &[1, 2]));
    assert_eq!(import(&folder), "`@m`: has no file `train-images-idx3-ubyte` or `train-images-idx3-ubyte.gz`");
    let images = "m/train-images-idx3-ubyte.gz";
    let whole = idx(&[2, 2, 2], &[0; 8]);
    for (bytes, text) in [
        (idx(&[3, 2, 2], &[0; 12]), "`@m/train-labels-idx1-ubyte`: has 2 labels; expected 3"),
        (idx(&[2, 4], &[0; 8]), "`@m/train-images-idx3-ubyte.gz`: is 2x4; expected [N, H, W] or [N, C, H, W]"),
        (idx(&[2, 2, 2], &[0; 7]), "`@m/train-images-idx3-ubyte.gz`: has 23 bytes; expected 24"),
        (gzip(&whole)[..20].to_vec(), "`@m/train-images-idx3-ubyte.gz`: ends early; expected "),
        (gzip(&whole[..20]), "`@m/train-images-idx3-ubyte.gz`: ends early; expected 2x2x2 bytes after the header"),
        (gzip(&[&whole[..], &[1]].concat()), "`@m/train-images-idx3-ubyte.gz`: has more bytes than expected: 24"),
        (
            vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
            "`@m/train-images-idx3-ubyte.gz`: is a broken gzip stream; expected an IDX file",
        ),
        (gzip(&idx(&[u32::MAX, 8000, 8000], &[])), "`@m/train-images-idx3-ubyte.gz`: has "),
        (vec![], "`@m/train-images-idx3-ubyte.gz`: ends early; expected an IDX file"),
    ] {
        put(&folder, images, bytes);
        let found = import(&folder);
        assert!(found.starts_with(text), "{found}\n{text}");
    }
    put(&folder, images, &whole);
    put(&folder, "m/train-labels-idx1-ubyte", idx(&[2, 1], &[1, 2]));
    assert_eq!(import(&folder), "`@m/train-labels-idx1-ubyte`: is 2x1; expected [N]");
    assert_eq!(folder.names(), ["m"], "nothing is left behind");

    put(&folder, "m/train-labels-idx1-ubyte", idx(&[2], &[1, 2]));
    for (flags, text) in [
        ("--std 0", "`std` is `0`; expected finite numbers above 0"),
        ("--mean 1,2", "`mean` is `1,2`; expected 1 number"),
        ("--scale -1", "`scale` is `-1`; expected a finite number above 0"),
        ("--classes a,b", "2 names of classes; expected 3, one for each label"),
        ("--limit 0", "no item is left under a limit of 0"),
        ("--size 3x3", "`--size` means nothing for `idx`"),
        ("--length 3", "`--length` means nothing for `idx`"),
        ("--mean NaN", "`--mean NaN`: expected a number"),
    ] {
        assert_eq!(refusal(&folder, &format!("dataset import idx @m {flags} -o @o.safetensors")), text);
    }
    let file = refusal(&folder, &format!("dataset import idx @{images} --split test -o @o.safetensors"));
    assert_eq!(file, format!("`@{images}`: a split is one of a folder's; expected a folder"));
    assert_eq!(refusal(&folder, "dataset import svhn @m -o @o.safetensors"), "no kind of data `svhn`");
    run(&folder, "dataset import idx @m -o @o.safetensors");
    let exists = refusal(&folder, "dataset import idx @m -o @o.safetensors");
    assert!(exists.starts_with("`@o.safetensors`"), "{exists}");
}

/// Records of CIFAR-10 with made-up pixels.
fn records(first: u8, count: u8) -> Vec<u8> {
    let pixels = |label: u8| (0..3072u32).map(move |i| (i * 7 + i / 1024 * 31 + u32::from(label) * 13) as u8);
    (first..first + count).flat_map(|label| std::iter::once(label % 10).chain(pixels(label))).collect()
}

/// The sheet of such records: each a row of 1024 colours.
fn sheet(records: &[u8]) -> Vec<u8> {
    let colours = |record: &[u8]| (0..3072).map(|i| record[1 + i % 3 * 1024 + i / 3]).collect::<Vec<u8>>();
    let rows: Vec<u8> = records.chunks(3073).flat_map(colours).collect();
    png(1024, (records.len() / 3073) as u32, ColorType::Rgb, &rows)
}

#[test]
fn cifar_10_is_the_same_from_records_and_from_sheets() {
    let folder = Folder::new("cifar");
    let mut labels = Vec::new();
    for batch in 1..=5u8 {
        let records = records(batch, batch * 30);
        labels.extend(records.chunks(3073).map(|record| record[0].to_string()));
        put(&folder, &format!("png/data_batch_{batch}.png"), sheet(&records));
        put(&folder, &format!("bin/data_batch_{batch}.bin"), records);
    }
    put(&folder, "png/train_lables.json", format!("[{}]", labels.join(", ")));
    let said = run(&folder, "dataset import cifar10 @bin -o @a.safetensors --threads 3");
    assert_eq!(said, "450 images of 3x32x32, 10 classes\nwrote @a.safetensors, 1.32 MiB\n");
    run(&folder, "dataset import cifar10 @png -o @b.safetensors --threads 1");
    let a = std::fs::read(folder.at("a.safetensors")).unwrap();
    assert!(a == std::fs::read(folder.at("b.safetensors")).unwrap());
    let data = Dataset::open(Path::new(&folder.at("a.safetensors"))).unwrap();
    assert_eq!((data.names().unwrap()[7].as_str(), data.label(29).unwrap()), ("horse", 0));
    let images = bytes_of(&folder.at("a.safetensors"), "images");
    assert_eq!(images[..3072], records(1, 1)[1..]);
    assert_eq!(images[30 * 3072..31 * 3072], records(2, 1)[1..]);
    for source in ["bin", "png"] {
        run(&folder, &format!("dataset import cifar10 @{source} --limit 40 -o @{source}.safetensors"));
        assert_eq!(bytes_of(&folder.at(&format!("{source}.safetensors")), "images"), images[..40 * 3072]);
    }

    let train = "dataset import cifar10 @bin -o @o.safetensors";
    put(&folder, "bin/data_batch_2.bin", &records(1, 2)[1..]);
    assert_eq!(refusal(&folder, train), "`@bin/data_batch_2.bin`: has 6145 bytes; expected a multiple of 3073");
    let mut wrong = records(1, 3);
    wrong[2 * 3073] = 10;
    put(&folder, "bin/data_batch_2.bin", wrong);
    assert_eq!(refusal(&folder, train), "`@bin/data_batch_2.bin`: the label of item 2 is 10; expected 0 to 9");
    put(&folder, "bin/data_batch_2.bin", "");
    assert_eq!(refusal(&folder, train), "`@bin/data_batch_2.bin`: has no items; expected at least one");
    let test = "dataset import cifar10 @bin --split test -o @o.safetensors";
    assert_eq!(refusal(&folder, test), "`@bin`: has no file `test_batch.bin` or `test_batch.png`");

    let test = "dataset import cifar10 @png --split test -o @o.safetensors";
    put(&folder, "png/test_batch.png", sheet(&records(0, 5)));
    assert_eq!(refusal(&folder, test), "`@png`: has no file `test_lables.json`");
    for (labels, text) in [
        ("[1,2]", "has 2 labels; expected 5"),
        ("[1,2,3,4,5,6]", "has 6 labels; expected 5"),
        ("{}", "is no list of numbers below 256; expected [6, 9, …]"),
        ("[-1]", "is no list of numbers below 256; expected [6, 9, …]"),
    ] {
        put(&folder, "png/test_labels.json", labels);
        assert_eq!(refusal(&folder, test), format!("`@png/test_labels.json`: {text}"));
    }
    put(&folder, "png/test_labels.json", "[1,2,3,4,99]");
    assert_eq!(refusal(&folder, test), "`@png/test_batch.png`: the label of item 4 is 99; expected 0 to 9");
    put(&folder, "png/test_labels.json", "[1,2,3,4,5]");
    let whole = sheet(&records(0, 5));
    put(&folder, "png/test_batch.png", &whole[..whole.len() / 2]);
    assert!(refusal(&folder, test).starts_with("`@png/test_batch.png`: cannot be decoded: "));
    put(&folder, "png/test_batch.png", png(8, 1, ColorType::Rgb, &[0; 24]));
    let text = "`@png/test_batch.png`: is 8 pixels wide and 8-bit RGB; expected 1024 pixels, 8-bit RGB";
    assert_eq!(refusal(&folder, test), text);
}

/// A folder of two classes with pictures of several kinds, all 6x4 (HxW).
fn write_pictures(folder: &Folder) {
    let ramp: Vec<u8> = (0..24).map(|i| i * 10).collect();
    let colours: Vec<u8> = (0..72).map(|i| 255 - i).collect();
    put(folder, "set/cats/b.png", png(4, 6, ColorType::Grayscale, &ramp));
    put(folder, "set/cats/a.PNG", png(4, 6, ColorType::Rgb, &colours));
    let transparent: Vec<u8> = colours.chunks(3).flat_map(|c| [c[0], c[1], c[2], 9]).collect();
    put(folder, "set/dogs/x.png", png(4, 6, ColorType::Rgba, &transparent));
    put(folder, "set/dogs/notes.txt", "not a picture");
    put(folder, "set/.hidden/y.png", "not looked at");
}

#[test]
fn folders_of_classes_become_labels() {
    let folder = Folder::new("pictures");
    write_pictures(&folder);
    let said = run(&folder, "dataset import images @set -o @a.safetensors");
    assert_eq!(
        said,
        "3 images of 3x6x4, 2 classes\n1 file that is neither PNG nor JPEG was left out\nwrote @a.safetensors, 496 B\n"
    );
    let data = Dataset::open(Path::new(&folder.at("a.safetensors"))).unwrap();
    assert_eq!(data.names().unwrap(), ["cats", "dogs"]);
    assert_eq!([0, 1, 2].map(|i| data.label(i).unwrap()), [0, 0, 1]);
    let images = bytes_of(&folder.at("a.safetensors"), "images");
    let green: Vec<u8> = (0..24).map(|i| 255 - (3 * i + 1)).collect();
    assert_eq!(images[24..48], green, "a.PNG, plane by plane");
    assert_eq!(images[72..96], images[120..144], "grey in every channel");
    assert_eq!(images[..72], images[144..], "transparency is dropped");

    run(&folder, "dataset import images @set --channels 1 --size 3x2 --shorter 4 -o @b.safetensors");
    let grey = Dataset::open(Path::new(&folder.at("b.safetensors"))).unwrap();
    assert_eq!(grey.shape(), [1, 3, 2]);
    // Not scaled; rows 2 to 4 (1.5 rounded to even) and columns 1 and 2.
    assert_eq!(bytes_of(&folder.at("b.safetensors"), "images")[6..12], [90, 100, 130, 140, 170, 180]);
    for threads in [1, 2, 5] {
        let line = format!("dataset import images @set --size 5x5 -o @t.safetensors --force --threads {threads}");
        run(&folder, &line);
        let bytes = std::fs::read(folder.at("t.safetensors")).unwrap();
        put(&folder, &format!("t{threads}"), bytes);
    }
    let read = |name| std::fs::read(folder.at(name)).unwrap();
    assert!(read("t1") == read("t2") && read("t1") == read("t5"));
}

#[test]
fn pictures_are_scaled_as_pillow_does_it() {
    let folder = Folder::new("scaled");
    let path = repository().join("tests/golden/corruptions.safetensors");
    let golden = Checkpoint::open(path, &Limits::default()).unwrap();
    let planes = golden.get("picture-37x53").unwrap().bytes();
    let colours: Vec<u8> = (0..37 * 53).flat_map(|i| [0, 1, 2].map(|c| planes[c * 37 * 53 + i])).collect();
    put(&folder, "set/a.png", png(53, 37, ColorType::Rgb, &colours));
    for (flag, name) in
        [("", ""), (" --filter bilinear", ""), (" --filter bicubic", "-bicubic"), (" --filter box", "-box")]
    {
        run(&folder, &format!("dataset import images @set --size 20x24{flag} --force -o @o.safetensors"));
        let expected = golden.get(&format!("picture-37x53-20x24{name}")).unwrap();
        assert_eq!(expected.shape(), [3, 20, 24]);
        assert_eq!(bytes_of(&folder.at("o.safetensors"), "images"), expected.bytes(), "{name}");
    }
}

#[test]
fn pictures_without_classes_have_a_list_or_no_labels() {
    let folder = Folder::new("flat");
    for (name, pixel) in [("a.png", 1), ("b b.png", 2), ("c.png", 3)] {
        put(&folder, &format!("set/{name}"), png(1, 1, ColorType::Grayscale, &[pixel]));
    }
    let import = "dataset import images @set --channels 1 --force -o @o.safetensors";
    assert!(run(&folder, import).starts_with("3 images of 1x1x1, no labels\n"));
    let data = Dataset::open(Path::new(&folder.at("o.safetensors"))).unwrap();
    assert!(!data.labelled() && data.label(0).is_err() && data.classes() == 0);
    put(&folder, "set/labels.txt", "c.png 4\na.png 0\nb b.png 2\n");
    assert!(run(&folder, import).starts_with("3 images of 1x1x1, 5 classes\n"));
    assert_eq!(bytes_of(&folder.at("o.safetensors"), "images"), [3, 1, 2]);
    for (text, expected) in [
        ("c.png 4\na.png 0\n", "`@set/labels.txt`: has no line for `b b.png`"),
        ("c.png 4\nc.png 4\n", "`@set/labels.txt`: line 2: `c.png` stands there twice"),
        ("d.png 4\n", "`@set/labels.txt`: line 1: `d.png` is no picture of the folder"),
        ("a.png one\n", "`@set/labels.txt`: line 1: no name and label below 16777216"),
    ] {
        put(&folder, "set/labels.txt", text);
        assert_eq!(refusal(&folder, import), expected);
    }
}

#[test]
fn pictures_that_cannot_be_are_refused() {
    let folder = Folder::new("pictures-bad");
    let import = |folder: &Folder| refusal(folder, "dataset import images @set --force -o @o.safetensors");
    std::fs::create_dir(folder.path().join("set")).unwrap();
    assert_eq!(import(&folder), "`@set`: has no PNG or JPEG files");
    let good = png(5, 5, ColorType::Grayscale, &[7; 25]);
    let jpeg = std::fs::read(repository().join("tests/fixtures/pictures/steps.jpg")).unwrap();
    // A header that promises 60000x60000 pixels, its checksum right.
    let mut bomb = good.clone();
    bomb[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let crc = crc32(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&crc.to_be_bytes());
    let mut large = good.clone();
    large[16..24].copy_from_slice(&[0, 0, 0x1f, 0xff, 0, 0, 0x1f, 0xff]);
    let crc = crc32(&large[12..29]);
    large[29..33].copy_from_slice(&crc.to_be_bytes());
    let mut flipped = good.clone();
    let last = flipped.len() - 20;
    flipped[last] ^= 1;
    for (bytes, text) in [
        (vec![], "is neither PNG nor JPEG; expected a picture of either format"),
        (b"GIF89a".to_vec(), "is neither PNG nor JPEG; expected a picture of either format"),
        (good[..20].to_vec(), "cannot be decoded: "),
        (good[..good.len() - 16].to_vec(), "cannot be decoded: "),
        (flipped, "cannot be decoded: "),
        (bomb, "3600000000 pixels; at most 67108864 are dealt with"),
        (large, "cannot be decoded: "),
        (jpeg[..jpeg.len() / 2].to_vec(), "cannot be decoded: "),
        (jpeg[..30].to_vec(), "cannot be decoded: "),
        ([&[0xff, 0xd8][..], &[0x5a; 300]].concat(), "cannot be decoded: "),
    ] {
        put(&folder, "set/p.png", bytes);
        let found = import(&folder);
        assert!(found.starts_with(&format!("`@set/p.png`: {text}")), "{found}\n{text}");
    }
    put(&folder, "set/p.png", &good);
    put(&folder, "set/q.jpg", &jpeg);
    let found = attempt(&folder, "dataset import images @set --force -o @o.safetensors");
    assert!(found.err.contains("q.jpg`: is 16x24; expected 5x5\n\nhint: `--size HxW`"), "{found:?}");
    put(&folder, "set/class/r.png", &good);
    assert_eq!(import(&folder), "`@set`: holds folders and pictures, `class` and `p.png`; expected either");
    put(&folder, "two/class/deep/r.png", &good);
    let deep = refusal(&folder, "dataset import images @two -o @o.safetensors");
    assert_eq!(deep, "`@two/class/deep`: is a folder; expected pictures in the folder of a class");
    put(&folder, "comma/a,b/r.png", &good);
    let comma = refusal(&folder, "dataset import images @comma -o @o.safetensors");
    assert_eq!(comma, "`classes` is `a,b`; expected names without commas, none of them empty");
    run(&folder, "dataset import images @comma --classes ab -o @o.safetensors");
    for (flags, text) in [
        ("--size 0x3", "a size of 0x3 from 3 pixels; expected sides of 1 to 65536"),
        ("--size 3", "a shorter side of 2; expected at least 3, a side of the size --shorter 2"),
        ("--size 3x", "`--size 3x`: expected HxW, for example 224x224"),
        ("--channels 2", "2 channels; expected 1 or 3"),
    ] {
        let (text, more) = text.split_once(" --shorter").unwrap_or((text, ""));
        let more = if more.is_empty() { String::new() } else { format!(" --shorter{more}") };
        let line = format!("dataset import images @comma {flags}{more} --force -o @o.safetensors");
        assert_eq!(refusal(&folder, &line), text);
    }
}

/// The checksum of PNG.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[test]
fn jpeg_is_decoded_to_what_libjpeg_makes_of_it() {
    let folder = Folder::new("jpeg");
    let jpeg = std::fs::read(repository().join("tests/fixtures/pictures/steps.jpg")).unwrap();
    put(&folder, "set/a.jpg", jpeg);
    run(&folder, "dataset import images @set -o @o.safetensors");
    let ours = bytes_of(&folder.at("o.safetensors"), "images");
    // Decoded by Pillow 13.0.0, colours in turn.
    let theirs = std::fs::read(repository().join("tests/fixtures/pictures/steps.rgb")).unwrap();
    assert_eq!((ours.len(), theirs.len()), (3 * 16 * 24, 3 * 16 * 24));
    // Decoders may round differently: T.83 allows a pixel one step of the transform, and each
    // colour hangs on two components.
    for (i, pixel) in ours.iter().enumerate() {
        let expected = theirs[i % 384 * 3 + i / 384];
        assert!(pixel.abs_diff(expected) <= 3, "{i}: {pixel} {expected}");
    }
}

#[test]
fn text_becomes_windows_of_tokens() {
    let folder = Folder::new("text");
    put(&folder, "tokenizer.json", TOKENIZER);
    put(&folder, "text.txt", "The bonsai is small.\nThe pine is not. The");
    let import = "dataset import text @text.txt --tokenizer @tokenizer.json";
    let said = run(&folder, &format!("{import} --length 4 -o @o.safetensors"));
    assert_eq!(
        said,
        "2 windows of 4 tokens\n3 tokens at the end fill no window and were left out\nwrote @o.safetensors, 192 B\n"
    );
    let tokens = Tokens::open(Path::new(&folder.at("o.safetensors"))).unwrap();
    assert_eq!((tokens.len(), tokens.length(), tokens.vocabulary()), (2, 4, Some(6)));
    let mut batch = [9; 8];
    tokens.batch([1, 0], &mut batch).unwrap();
    assert_eq!(batch, [5, 1, 0, 3, 1, 2, 3, 4]);
    assert!(tokens.batch([2], &mut [0; 4]).is_err() && tokens.batch([0], &mut [0; 5]).is_err());

    for (line, text) in [
        (import.to_owned(), "`@text.txt`: has 11 tokens; expected at least 512, one window"),
        (
            format!("{import} --length 0"),
            "`@text.txt`: 0 tokens in a window, which needs at least one; at most 1048576 are dealt with",
        ),
        ("dataset import text @text.txt".to_owned(), "missing `--tokenizer FILE`"),
        (format!("{import} --mean 1"), "`--mean` means nothing for `text`"),
    ] {
        assert_eq!(refusal(&folder, &format!("{line} -o @p.safetensors")), text);
    }
    put(&folder, "tokenizer.json", &TOKENIZER[..90]);
    let found = refusal(&folder, &format!("{import} -o @p.safetensors"));
    assert!(found.starts_with("`@tokenizer.json`: tokenizer: "), "{found}");
    put(&folder, "tokenizer.json", TOKENIZER);
    put(&folder, "text.txt", b"the \xff");
    let found = refusal(&folder, &format!("{import} -o @p.safetensors"));
    assert_eq!(found, "`@text.txt`: byte 4 is not UTF-8; expected a text in UTF-8");
}

/// A file with metadata before the tensors.
fn write_with(folder: &Folder, metadata: &str, tensors: &[Tensor<'_>]) {
    let header = checkpoints::header(tensors);
    let header = format!("{{\"__metadata__\":{metadata},{}", &header[1..]);
    let data: Vec<u8> = tensors.iter().flat_map(|t| t.3.iter().copied()).collect();
    put(folder, "d.safetensors", checkpoints::file(&header, &data));
}

fn i64s(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// A tensor of zeros, of bytes.
fn images(dims: &'static [usize]) -> Tensor<'static> {
    ("images", "U8", dims, vec![0; dims.iter().product()])
}

/// A tensor of labels; at most three.
fn labels(labels: &[i64]) -> Tensor<'static> {
    const DIMS: [&[usize]; 4] = [&[0], &[1], &[2], &[3]];
    ("labels", "I64", DIMS[labels.len()], i64s(labels))
}

/// How many classes a dataset of such contents has, or why it does not open.
fn open(metadata: &str, tensors: &[Tensor<'_>]) -> Result<usize, String> {
    let folder = Folder::new("opener");
    write_with(&folder, metadata, tensors);
    let path = folder.at("d.safetensors");
    let data = Dataset::open(Path::new(&path)).map(|data| data.classes());
    data.map_err(|e| e.to_string().replace(&format!("`{path}`: "), ""))
}

#[test]
fn tensors_that_are_no_dataset_do_not_open() {
    assert_eq!(open("{}", &[images(&[2, 1, 2, 2]), labels(&[0, 7])]), Ok(8));
    let half = ("images", "F16", &[1, 1, 1, 1][..], vec![0; 2]);
    let narrow = ("labels", "I32", &[2][..], vec![0; 8]);
    let column = ("labels", "I64", &[2, 1][..], vec![0; 16]);
    for (tensors, text) in [
        (vec![labels(&[1])], "has no tensor `images`"),
        (vec![images(&[4, 2])], "tensor `images`: is 4x2; expected [N, C, H, W]"),
        (vec![half], "tensor `images`: is F16; expected U8 or F32"),
        (vec![images(&[0, 1, 2, 2])], "tensor `images`: has no items; expected at least one"),
        (vec![images(&[3, 0, 2, 2])], "tensor `images`: has no items; expected at least one"),
        (vec![images(&[1, 5000, 1, 1])], "tensor `images`: 5000 channels; at most 4096 are dealt with"),
        (vec![images(&[3, 1, 1, 1]), labels(&[1, 2])], "tensor `labels`: has 2 labels; expected 3"),
        (vec![images(&[2, 1, 1, 1]), narrow], "tensor `labels`: is I32; expected I64"),
        (vec![images(&[2, 1, 1, 1]), column], "tensor `labels`: is 2x1; expected [N]"),
        (
            vec![images(&[2, 1, 1, 1]), labels(&[0, -1])],
            "tensor `labels`: the label of item 1 is -1; expected 0 to 16777215",
        ),
    ] {
        assert_eq!(open("{}", &tensors), Err(text.to_owned()));
    }
}

#[test]
fn metadata_that_means_nothing_is_refused() {
    let two = || [images(&[2, 3, 1, 1]), labels(&[2, 0])];
    assert_eq!(open("{\"classes\":\"a,b,c\"}", &two()), Ok(3));
    for (metadata, text) in [
        ("{\"classes\":\"a,b\"}", "tensor `labels`: the label of item 0 is 2; expected 0 to 1"),
        ("{\"classes\":\"a,,b\"}", "`classes` is ``; expected names without commas, none of them empty"),
        ("{\"std\":\"0\"}", "`std` is `0`; expected finite numbers above 0"),
        ("{\"mean\":\"nan\"}", "`mean` is `NaN`; expected finite numbers"),
        ("{\"mean\":\"1,2\"}", "`mean` is `1,2`; expected 1 or 3 numbers"),
        ("{\"layout\":\"nhwc\"}", "`layout` is `nhwc`; expected nchw"),
    ] {
        assert_eq!(open(metadata, &two()), Err(text.to_owned()));
    }
}

#[test]
fn pixels_that_are_no_numbers_are_refused() {
    let folder = Folder::new("nan");
    let nan = f32s(&[0.5, 1.0, f32::NAN, 2.0]);
    write_with(&folder, "{\"scale\":\"2\"}", &[("images", "F32", &[2, 1, 1, 2], nan)]);
    let data = Dataset::open(Path::new(&folder.at("d.safetensors"))).unwrap();
    let mut out = [0.0; 2];
    data.batch([0], &mut out).unwrap();
    assert_eq!(out, [1.0, 2.0]);
    let error = data.batch([1], &mut out).unwrap_err().to_string();
    let text = "tensor `images`: pixel 0 of item 1 is NaN or infinite; expected a finite number";
    assert!(error.ends_with(text), "{error}");
    let grey = refusal(&folder, "dataset corrupt @d.safetensors --kind fog --severity 1 -o @o.safetensors");
    assert_eq!(grey, "`@d.safetensors`: tensor `images`: is F32; expected U8");
}

/// The first window of two tokens, or why there is none.
fn window(metadata: &str, tensor: Tensor<'_>) -> Result<[u32; 2], String> {
    let folder = Folder::new("tokens");
    write_with(&folder, metadata, &[tensor]);
    let path = folder.at("d.safetensors");
    let mut out = [0; 2];
    let read = Tokens::open(Path::new(&path)).and_then(|tokens| tokens.batch([0], &mut out));
    read.map(|()| out).map_err(|e| e.to_string().replace(&format!("`{path}`: "), ""))
}

#[test]
fn tokens_that_are_none_are_refused() {
    let pair = |a, b| ("tokens", "I64", &[1, 2][..], i64s(&[a, b]));
    assert_eq!(window("{}", pair(7, 4_294_967_295)), Ok([7, u32::MAX]));
    for (metadata, tensor, text) in [
        ("{}", pair(7, -1), "tensor `tokens`: token 1 of item 0 is -1; expected 0 to 4294967295"),
        ("{\"vocabulary\":\"7\"}", pair(7, 1), "tensor `tokens`: token 0 of item 0 is 7; expected 0 to 6"),
        ("{\"vocabulary\":\"many\"}", pair(7, 1), "`vocabulary` is `many`; expected a number from 1 to 4294967296"),
        ("{}", ("tokens", "I32", &[1, 2], vec![0; 8]), "tensor `tokens`: is I32; expected I64"),
        ("{}", ("tokens", "I64", &[2], vec![0; 16]), "tensor `tokens`: is 2; expected [N, T]"),
        ("{}", ("tokens", "I64", &[0, 2], vec![]), "tensor `tokens`: has no items; expected at least one"),
        ("{}", ("images", "I64", &[1, 2], vec![0; 16]), "has no tensor `tokens`"),
    ] {
        assert_eq!(window(metadata, tensor), Err(text.to_owned()));
    }
}

/// The real CIFAR-10, where `NIWAKI_CIFAR10` names a folder with it: both splits have the
/// published hash of their records.
#[test]
fn cifar_10_has_its_published_hash() {
    use sha2::{Digest, Sha256};

    let Some(source) = std::env::var_os("NIWAKI_CIFAR10") else {
        println!("skipped: NIWAKI_CIFAR10 names no folder with CIFAR-10");
        return;
    };
    for (split, expected) in [
        ("test", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
        ("train", "a0181da372c0d63a5920fdbea2ec3f83ecbc552d378218e1cb473cf634941a3b"),
    ] {
        let folder = Folder::new("cifar-real");
        let out = folder.at("o.safetensors");
        let source = source.to_string_lossy();
        niwaki(["dataset", "import", "cifar10", &source, "--split", split, "-o", &out]).ok();
        let data = Dataset::open(Path::new(&out)).unwrap();
        let images = data.checkpoint().get("images").unwrap();
        let mut hash = Sha256::new();
        for (item, image) in images.bytes().chunks(3072).enumerate() {
            hash.update([data.label(item).unwrap() as u8]);
            hash.update(image);
        }
        let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, expected, "{split}");
    }
}
