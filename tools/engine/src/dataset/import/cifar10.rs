//! CIFAR-10 (Krizhevsky 2009), in either of two forms.
//!
//! The classic one: `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`, records of a
//! label and the red, green and blue plane of 32x32 pixels. Sheets: `data_batch_1.png` and so
//! on, 1024 pixels wide, each row an image in the order of its pixels, with the labels of all
//! rows in `train_lables.json` and `test_lables.json` (so spelled; the right spelling is read
//! too). Batches may have any number of records. A folder with both is read as the first.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use niwaki_tensors::{Limits, MappedFile, read_limited};
use rayon::prelude::*;

use super::picture::refused;
use super::{Imported, Split, Target, unreadable};
use crate::dataset::fault::DataFault;
use crate::dataset::images::fault;
use crate::dataset::write::{Form, Output};
use crate::error::Error;
use crate::progress::counting;

/// The classes in the order of their labels.
const CLASSES: [&str; 10] = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
/// Bytes of a picture.
const PICTURE: usize = 3 * 1024;
/// Bytes of a record: a label and a picture.
const RECORD: usize = 1 + PICTURE;
/// Records that are written at once.
const PIECE: usize = 64;

/// Makes a dataset of one split.
pub(super) fn import(source: &Path, split: Split, target: &Target<'_>) -> Result<Imported, Error> {
    std::fs::read_dir(source).map_err(|e| unreadable(e, source))?;
    let stems: Vec<String> = match split {
        Split::Train => (1..=5).map(|i| format!("data_batch_{i}")).collect(),
        Split::Test => vec!["test_batch".to_owned()],
    };
    let paths = |extension| stems.iter().map(|stem| source.join(format!("{stem}.{extension}"))).collect::<Vec<_>>();
    let (records, sheets) = (paths("bin"), paths("png"));
    let found = |all: &[PathBuf]| all.iter().any(|path| path.is_file());
    let batches = if found(&records) {
        records.iter().map(|path| Batch::of_records(path)).collect::<Result<Vec<_>, _>>()?
    } else if found(&sheets) {
        of_sheets(&sheets, source, split)?
    } else {
        let expected = format!("file `{}.bin` or `{}.png`", stems[0], stems[0]);
        return Err(fault(DataFault::Missing { expected }, source));
    };

    let items = target.taken(batches.iter().map(|batch| batch.items).sum());
    let (metadata, classes) = target.metadata(3, Some(CLASSES.map(str::to_owned).to_vec()), CLASSES.len())?;
    let shape = [3, 32, 32];
    let output = Output::create(target.out, Form::Images { items, shape, labelled: true }, metadata, target.options)?;
    let done = counting(target.progress, (items * PICTURE) as u64);
    let mut first = 0;
    let places = batches.iter().map(|batch| {
        let at = first;
        first += batch.items;
        (batch, at)
    });
    let work: Vec<_> = places.filter(|(_, at)| *at < items).collect();
    let write = |(batch, at): (&Batch, usize)| batch.write(at, batch.items.min(items - at), &output, &done);
    // All of them, so that the first error in order is the one that is told.
    let results: Vec<Result<(), Error>> = target.options.pool()?.install(|| work.into_par_iter().map(write).collect());
    results.into_iter().collect::<Result<(), Error>>()?;
    Ok(Imported { items, shape: shape.to_vec(), classes: Some(classes), output_bytes: output.finish()?, left_out: 0 })
}

/// One file.
struct Batch {
    path: PathBuf,
    items: usize,
    pixels: Pixels,
}

enum Pixels {
    Records(MappedFile),
    Sheet(Vec<u8>),
}

/// The label of a record, where it is one of the ten.
fn check(label: u8, item: usize, path: &Path) -> Result<u32, Error> {
    let found = i64::from(label);
    let wrong = || fault(DataFault::Label { item, found, classes: CLASSES.len() }, path);
    if usize::from(label) < CLASSES.len() { Ok(u32::from(label)) } else { Err(wrong()) }
}

impl Batch {
    fn of_records(path: &Path) -> Result<Self, Error> {
        let file = MappedFile::open(path)?;
        let bytes = file.bytes().len();
        if bytes == 0 {
            return Err(fault(DataFault::Empty, path));
        }
        if bytes % RECORD != 0 {
            let (found, expected) = (format!("has {bytes} bytes"), format!("a multiple of {RECORD}"));
            return Err(fault(DataFault::File { found, expected }, path));
        }
        Ok(Self { path: path.to_owned(), items: bytes / RECORD, pixels: Pixels::Records(file) })
    }

    /// Writes the first `items` records from item number `at` on.
    fn write(&self, at: usize, items: usize, output: &Output, done: &(dyn Fn(u64) + Sync)) -> Result<(), Error> {
        let mut pending = Pending { output, done, at, labels: Vec::new(), pixels: Vec::new() };
        match &self.pixels {
            Pixels::Records(file) => {
                for (item, record) in file.bytes().chunks_exact(RECORD).take(items).enumerate() {
                    pending.labels.push(check(record[0], item, &self.path)?);
                    pending.pixels.extend_from_slice(&record[1..]);
                    pending.flush(PIECE)?;
                }
                file.ensure_unchanged()?;
            }
            Pixels::Sheet(labels) => {
                let mut reader = sheet(&self.path)?;
                for (item, label) in labels.iter().take(items).enumerate() {
                    let row = reader.next_row().map_err(|e| refused(&e, &self.path))?;
                    let row =
                        row.ok_or_else(|| fault(DataFault::Picture { why: "it ends early".to_owned() }, &self.path))?;
                    pending.labels.push(check(*label, item, &self.path)?);
                    let plane = |colour| row.data().iter().skip(colour).step_by(3);
                    pending.pixels.extend((0..3).flat_map(plane));
                    pending.flush(PIECE)?;
                }
            }
        }
        pending.flush(1)
    }
}

/// Records that wait to be written.
struct Pending<'a> {
    output: &'a Output,
    done: &'a (dyn Fn(u64) + Sync),
    at: usize,
    labels: Vec<u32>,
    pixels: Vec<u8>,
}

impl Pending<'_> {
    /// Writes what waits, where it is at least so many.
    fn flush(&mut self, least: usize) -> Result<(), Error> {
        if self.labels.len() < least {
            return Ok(());
        }
        self.output.labels(self.at, &self.labels)?;
        self.output.items(self.at, &self.pixels)?;
        (self.done)(self.pixels.len() as u64);
        self.at += self.labels.len();
        self.labels.clear();
        self.pixels.clear();
        Ok(())
    }
}

/// A sheet, its header checked.
fn sheet(path: &Path) -> Result<png::Reader<BufReader<File>>, Error> {
    let file = File::open(path).map_err(|e| unreadable(e, path))?;
    let reader = png::Decoder::new(BufReader::new(file)).read_info().map_err(|e| refused(&e, path))?;
    let info = reader.info();
    let plain = info.color_type == png::ColorType::Rgb && info.bit_depth == png::BitDepth::Eight && !info.interlaced;
    if info.width != 1024 || !plain {
        let kind = if plain { "8-bit RGB" } else { "not 8-bit RGB in rows" };
        let found = format!("is {} pixels wide and {kind}", info.width);
        return Err(fault(DataFault::File { found, expected: "1024 pixels, 8-bit RGB".to_owned() }, path));
    }
    Ok(reader)
}

/// Sheets with the labels of their rows.
fn of_sheets(paths: &[PathBuf], source: &Path, split: Split) -> Result<Vec<Batch>, Error> {
    let prefix = if split == Split::Train { "train" } else { "test" };
    let names = ["lables", "labels"].map(|word| source.join(format!("{prefix}_{word}.json")));
    let Some(labels_path) = names.iter().find(|path| path.is_file()) else {
        return Err(fault(DataFault::Missing { expected: format!("file `{prefix}_lables.json`") }, source));
    };
    let text = read_limited(labels_path, &Limits::default())?;
    let labels: Vec<u8> = serde_json::from_slice(&text).map_err(|_| {
        let found = "is no list of numbers below 256".to_owned();
        fault(DataFault::File { found, expected: "[6, 9, …]".to_owned() }, labels_path)
    })?;
    let mut rest = &labels[..];
    let mut rows = 0;
    let mut batches = Vec::new();
    for path in paths {
        let items = sheet(path)?.info().height as usize;
        rows += items;
        let (now, later) = rest.split_at(items.min(rest.len()));
        rest = later;
        batches.push(Batch { path: path.clone(), items, pixels: Pixels::Sheet(now.to_vec()) });
    }
    if rows != labels.len() {
        let count = DataFault::Count { what: "labels", found: labels.len() as u64, expected: rows as u64 };
        return Err(fault(count, labels_path));
    }
    Ok(batches)
}
