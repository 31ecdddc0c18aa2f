//! IDX, the format of MNIST: a magic number, dimensions, bytes.
//!
//! ```text
//! 0 0 TYPE RANK   TYPE is 8 for unsigned bytes, the only one read here
//! RANK dimensions, 4 bytes each, most significant first
//! elements, the last dimension fastest
//! ```
//!
//! Images have rank 3, `[N, H, W]`, or 4, `[N, C, H, W]`; labels rank 1. Either file may be
//! gzipped, whatever its name. Classes without names are called 0, 1, and so on.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind as IoKind, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::picture::DEFLATE;
use super::{Imported, Split, Target, unreadable};
use crate::dataset::fault::DataFault;
use crate::dataset::images::fault;
use crate::dataset::write::{Form, Output};
use crate::error::{Blame, Error, ErrorKind};

/// Bytes of one item at most: 64 MiB.
const MOST: u64 = 1 << 26;

/// An IDX file of unsigned bytes, item by item.
#[derive(Debug)]
pub struct Idx<R> {
    reader: R,
    dims: Vec<usize>,
    item_bytes: usize,
    left: usize,
}

fn of(fault: DataFault) -> Error {
    ErrorKind::Data(fault).into()
}

/// Why bytes could not be read: the file's fault, or the disk's.
fn stopped(error: std::io::Error, expected: &str) -> Error {
    let found = match error.kind() {
        IoKind::UnexpectedEof => "ends early",
        IoKind::InvalidInput | IoKind::InvalidData => "is a broken gzip stream",
        _ => return Error::below(error, Blame::Io),
    };
    of(DataFault::File { found: found.to_owned(), expected: expected.to_owned() })
}

impl<R: Read> Idx<R> {
    /// Reads the header. `bytes` bounds how many bytes there can be, header included.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Data`] for another magic number, type or rank, for more elements than fit,
    /// and for items of more than 64 MiB.
    pub fn new(mut reader: R, bytes: u64) -> Result<Self, Error> {
        let mut magic = [0; 4];
        reader.read_exact(&mut magic).map_err(|e| stopped(e, "an IDX file"))?;
        let rank = match magic {
            [0, 0, 8, rank @ 1..=4] => usize::from(rank),
            _ => {
                let found = format!("begins with {magic:02x?}");
                let expected = "IDX of unsigned bytes: [00, 00, 08, 01] to [00, 00, 08, 04]".to_owned();
                return Err(of(DataFault::File { found, expected }));
            }
        };
        let mut dims = Vec::with_capacity(rank);
        for _ in 0..rank {
            let mut dim = [0; 4];
            reader.read_exact(&mut dim).map_err(|e| stopped(e, "an IDX header"))?;
            dims.push(u32::from_be_bytes(dim) as usize);
        }
        let item_bytes = dims[1..].iter().try_fold(1u64, |product, dim| product.checked_mul(*dim as u64));
        let item_bytes = item_bytes.unwrap_or(u64::MAX);
        if item_bytes > MOST {
            return Err(of(DataFault::Limit { what: "bytes an item", found: item_bytes, max: MOST }));
        }
        if dims.contains(&0) {
            return Err(of(DataFault::Empty));
        }
        // Below 2^32 times 2^26.
        let needs = 4 + 4 * rank as u64 + dims[0] as u64 * item_bytes;
        if needs > bytes {
            return Err(of(DataFault::Length { found: Some(bytes), expected: needs }));
        }
        Ok(Self { reader, left: dims[0], item_bytes: item_bytes as usize, dims })
    }

    /// The dimensions, that of the items first; none is 0.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Bytes of one item.
    pub fn item_bytes(&self) -> usize {
        self.item_bytes
    }

    /// Reads the next `items` items, or as many as there are.
    ///
    /// # Errors
    ///
    /// A file that ends early, and whatever the system refuses.
    pub fn next(&mut self, items: usize) -> Result<Vec<u8>, Error> {
        let items = items.min(self.left);
        let mut bytes = vec![0; items * self.item_bytes];
        let shape = self.dims.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
        self.reader.read_exact(&mut bytes).map_err(|e| stopped(e, &format!("{shape} bytes after the header")))?;
        self.left -= items;
        Ok(bytes)
    }

    /// Checks that nothing follows, where all items have been read.
    ///
    /// # Errors
    ///
    /// [`DataFault::Length`] for a file that goes on.
    pub fn finish(mut self) -> Result<(), Error> {
        if self.left > 0 {
            return Ok(());
        }
        let mut more = [0];
        match self.reader.read(&mut more).map_err(|e| stopped(e, "an IDX file"))? {
            0 => Ok(()),
            _ => {
                let expected = 4 + 4 * self.dims.len() as u64 + self.dims[0] as u64 * self.item_bytes as u64;
                Err(of(DataFault::Length { found: None, expected }))
            }
        }
    }
}

/// An IDX file, unpacked where it is gzipped.
fn open(path: &Path) -> Result<Idx<Box<dyn Read>>, Error> {
    let read = |e| unreadable(e, path);
    if !std::fs::metadata(path).map_err(read)?.is_file() {
        let found = "is no file".to_owned();
        return Err(fault(DataFault::File { found, expected: "an IDX file".to_owned() }, path));
    }
    let file = File::open(path).map_err(read)?;
    let bytes = file.metadata().map_err(read)?.len();
    let mut file = BufReader::with_capacity(1 << 16, file);
    let packed = file.fill_buf().map_err(read)?.starts_with(&[0x1f, 0x8b]);
    let (reader, bytes): (Box<dyn Read>, u64) = if packed {
        (Box::new(MultiGzDecoder::new(file)), bytes.saturating_mul(DEFLATE))
    } else {
        (Box::new(file), bytes)
    };
    Idx::new(reader, bytes).map_err(|e| e.at(path))
}

/// The files of images and labels that `source` means.
fn files(source: &Path, split: Option<Split>) -> Result<[PathBuf; 2], Error> {
    let missing = |expected: String| fault(DataFault::Missing { expected }, source);
    if source.is_dir() {
        let prefix = if split.unwrap_or_default() == Split::Train { "train" } else { "t10k" };
        let find = |what: &str| {
            let names = ["-ubyte", "-ubyte.gz"]
                .map(|end| [format!("{prefix}-{what}{end}"), format!("{prefix}-{}{end}", what.replacen('-', ".", 1))]);
            match names.concat().into_iter().map(|name| source.join(name)).find(|path| path.is_file()) {
                Some(path) => Ok(path),
                None => Err(missing(format!("file `{prefix}-{what}-ubyte` or `{prefix}-{what}-ubyte.gz`"))),
            }
        };
        return Ok([find("images-idx3")?, find("labels-idx1")?]);
    }
    if split.is_some() {
        let what = format!("`{}`: a split is one of a folder's; expected a folder", source.display());
        return Err(ErrorKind::Usage { what }.into());
    }
    std::fs::metadata(source).map_err(|e| unreadable(e, source))?;
    let name = source.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    for (images, labels) in [("images-idx3", "labels-idx1"), ("images.idx3", "labels.idx1")] {
        if let Some((before, after)) = name.split_once(images) {
            let after = after.strip_suffix(".gz").unwrap_or(after);
            let labels = source.with_file_name(format!("{before}{labels}{after}"));
            let mut packed = labels.clone().into_os_string();
            packed.push(".gz");
            let packed = PathBuf::from(packed);
            return match [labels, packed].into_iter().find(|path| path.is_file()) {
                Some(labels) => Ok([source.to_owned(), labels]),
                None => Err(missing("file of labels beside it, named the same with `labels-idx1`".to_owned())),
            };
        }
    }
    let found = "is neither a folder nor named like images".to_owned();
    Err(fault(DataFault::File { found, expected: "`…images-idx3-ubyte` or `….gz`".to_owned() }, source))
}

/// Makes a dataset of images and labels.
pub(super) fn import(source: &Path, split: Option<Split>, target: &Target<'_>) -> Result<Imported, Error> {
    let [images_path, labels_path] = files(source, split)?;
    let mut images = open(&images_path)?;
    let mut labels = open(&labels_path)?;
    let shape = match *images.dims() {
        [_, h, w] => [1, h, w],
        [_, c, h, w] => [c, h, w],
        _ => {
            let (found, expected) = (images.dims().to_vec(), "[N, H, W] or [N, C, H, W]".to_owned());
            return Err(fault(DataFault::Shape { found, expected }, &images_path));
        }
    };
    if labels.dims().len() != 1 {
        let (found, expected) = (labels.dims().to_vec(), "[N]".to_owned());
        return Err(fault(DataFault::Shape { found, expected }, &labels_path));
    }
    let (found, expected) = (labels.dims()[0], images.dims()[0]);
    if found != expected {
        let count = DataFault::Count { what: "labels", found: found as u64, expected: expected as u64 };
        return Err(fault(count, &labels_path));
    }
    let all = labels.next(usize::MAX).map_err(|e| e.at(&labels_path))?;
    labels.finish().map_err(|e| e.at(&labels_path))?;
    let classes = all.iter().max().map_or(0, |label| usize::from(*label) + 1);
    let names = (0..classes).map(|label| label.to_string()).collect();
    let (metadata, classes) = target.metadata(shape[0], Some(names), classes)?;

    let items = target.taken(expected);
    let total = (items * images.item_bytes()) as u64;
    let output = Output::create(target.out, Form::Images { items, shape, labelled: true }, metadata, target.options)?;
    let labels: Vec<u32> = all[..items].iter().map(|label| u32::from(*label)).collect();
    output.labels(0, &labels)?;
    let piece = (65_536 / images.item_bytes()).max(1);
    for first in (0..items).step_by(piece) {
        let bytes = images.next(piece.min(items - first)).map_err(|e| e.at(&images_path))?;
        output.items(first, &bytes)?;
        (target.progress)((first * images.item_bytes() + bytes.len()) as u64, total);
    }
    images.finish().map_err(|e| e.at(&images_path))?;
    Ok(Imported { items, shape: shape.to_vec(), classes: Some(classes), output_bytes: output.finish()?, left_out: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idx(head: &[u8], dims: &[u32], data: &[u8]) -> Vec<u8> {
        head.iter().copied().chain(dims.iter().flat_map(|d| d.to_be_bytes())).chain(data.iter().copied()).collect()
    }

    fn read(bytes: &[u8]) -> Result<(Vec<usize>, Vec<u8>), String> {
        let mut idx = Idx::new(bytes, bytes.len() as u64).map_err(|e| e.to_string())?;
        let data = idx.next(usize::MAX).map_err(|e| e.to_string())?;
        let dims = idx.dims().to_vec();
        idx.finish().map_err(|e| e.to_string())?;
        Ok((dims, data))
    }

    #[test]
    fn items_come_in_order() {
        let bytes = idx(&[0, 0, 8, 2], &[3, 2], &[1, 2, 3, 4, 5, 6]);
        assert_eq!(read(&bytes), Ok((vec![3, 2], vec![1, 2, 3, 4, 5, 6])));
        let mut idx = Idx::new(&bytes[..], 100).expect("a header");
        assert_eq!((idx.item_bytes(), idx.next(2).expect("two items")), (2, vec![1, 2, 3, 4]));
        idx.finish().expect("items may be left");
    }

    #[test]
    fn every_malformation_is_named() {
        for (bytes, text) in [
            (vec![], "ends early; expected an IDX file"),
            (vec![0, 0, 8, 3, 0], "ends early; expected an IDX header"),
            (
                idx(&[0, 0, 9, 1], &[1], &[1]),
                "begins with [00, 00, 09, 01]; expected IDX of unsigned bytes: [00, 00, 08, 01] to [00, 00, 08, 04]",
            ),
            (
                idx(&[0, 0, 8, 5], &[1; 5], &[1]),
                "begins with [00, 00, 08, 05]; expected IDX of unsigned bytes: [00, 00, 08, 01] to [00, 00, 08, 04]",
            ),
            (idx(&[0, 0, 8, 1], &[0], &[]), "has no items; expected at least one"),
            (idx(&[0, 0, 8, 1], &[3], &[1, 2]), "has 10 bytes; expected 11"),
            (idx(&[0, 0, 8, 1], &[2], &[1, 2, 3]), "has more bytes than expected: 10"),
            (
                idx(&[0, 0, 8, 4], &[u32::MAX; 4], &[]),
                "18446744073709551615 bytes an item; at most 67108864 are dealt with",
            ),
            (idx(&[0, 0, 8, 3], &[u32::MAX, 1, 1], &[]), "has 16 bytes; expected 4294967311"),
        ] {
            assert_eq!(read(&bytes), Err(text.to_owned()), "{bytes:?}");
        }
    }
}
