//! A folder of PNG and JPEG files.
//!
//! Classes are the folders in it, in the order of their names; without folders, `labels.txt`
//! has a line for every picture, its name, white space and its label; without either there are
//! no labels. Pictures come in the order of classes and names, or of the lines. Names that
//! begin with a dot do not count, other files are left out and counted.
//!
//! **Size.** Without one, pictures are taken as they are, and all must have the size of the
//! first. With one, as is usual for ImageNet: the shorter side is scaled to `shorter` and the
//! longer one to `floor(shorter * long / short)`, with an antialiased [`Filter`], and from the middle a part of the size is cut, its corner at half
//! of what is left over, halves rounded to even. `shorter` is 8/7 of the larger side of the
//! size where nobody says otherwise: 256 for 224.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use niwaki_tensors::{Limits, MappedFile, read_limited};
use rayon::prelude::*;

use super::picture::{Picture, decode};
use super::{Imported, Target, unreadable};
use crate::dataset::fault::DataFault;
use crate::dataset::images::fault;
use crate::dataset::resize::{Filter, resize};
use crate::dataset::write::{Form, Output};
use crate::error::{Error, ErrorKind};

/// The name of the file of labels.
const LABELS: &str = "labels.txt";

/// Pictures that are decoded before they are written.
const PIECE: usize = 64;

/// How pictures become images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pictures {
    size: Option<(usize, usize)>,
    shorter: usize,
    channels: usize,
    filter: Filter,
}

impl Default for Pictures {
    /// Colours, as large as they are.
    fn default() -> Self {
        Self { size: None, shorter: 0, channels: 3, filter: Filter::default() }
    }
}

impl Pictures {
    /// Images of one or three channels and, where it is said, of a height and width; `shorter` is
    /// what the shorter side is scaled to before that part is cut out.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Usage`] for other channels, a side of 0 or above 65536, and a shorter side
    /// that is below a side of the size, or that is given without one.
    pub fn new(size: Option<(usize, usize)>, shorter: Option<usize>, channels: usize) -> Result<Self, Error> {
        let wrong = |what: String| Err(ErrorKind::Usage { what }.into());
        if ![1, 3].contains(&channels) {
            return wrong(format!("{channels} channels; expected 1 or 3"));
        }
        let Some((height, width)) = size else {
            return match shorter {
                Some(shorter) => wrong(format!("a shorter side of {shorter} without a size; expected both")),
                None => Ok(Self { size, channels, ..Self::default() }),
            };
        };
        let larger = height.max(width);
        // 8/7, rounded.
        let shorter = shorter.unwrap_or((16 * larger + 7) / 14);
        if height.min(width) == 0 || shorter > 1 << 16 {
            return wrong(format!("a size of {height}x{width} from {shorter} pixels; expected sides of 1 to 65536"));
        }
        if shorter < larger {
            return wrong(format!("a shorter side of {shorter}; expected at least {larger}, a side of the size"));
        }
        Ok(Self { size, shorter, channels, ..Self::default() })
    }

    /// The same, scaled with another filter.
    #[must_use]
    pub fn filtered(self, filter: Filter) -> Self {
        Self { filter, ..self }
    }

    /// The image that becomes of a picture.
    fn image(&self, picture: Picture) -> Result<Picture, DataFault> {
        let Some(to) = self.size else { return Ok(picture) };
        let Picture { height, width, planes } = picture;
        let long = |long: usize, short: usize| {
            let scaled = self.shorter as u64 * long as u64 / short as u64;
            if scaled <= 1 << 16 {
                Ok(scaled as usize)
            } else {
                Err(DataFault::Limit { what: "pixels in a row or column", found: scaled, max: 1 << 16 })
            }
        };
        let scaled =
            if height <= width { (self.shorter, long(width, height)?) } else { (long(height, width)?, self.shorter) };
        let corner = |from: usize, to: usize| ((from - to) as f64 / 2.0).round_ties_even() as usize;
        let (top, left) = (corner(scaled.0, to.0), corner(scaled.1, to.1));
        let mut cut = Vec::with_capacity(self.channels * to.0 * to.1);
        for plane in planes.chunks(height * width) {
            let plane = resize(plane, (height, width), scaled, self.filter);
            let rows = plane.chunks(scaled.1).skip(top).take(to.0);
            rows.for_each(|row| cut.extend_from_slice(&row[left..left + to.1]));
        }
        Ok(Picture { height: to.0, width: to.1, planes: cut })
    }

    fn read(&self, path: &Path) -> Result<Picture, Error> {
        let file = MappedFile::open(path)?;
        decode(file.bytes(), self.channels).and_then(|picture| self.image(picture)).map_err(|f| fault(f, path))
    }
}

/// Pictures with their labels.
struct Listing {
    pictures: Vec<(PathBuf, u32)>,
    labelled: bool,
    /// Names of classes, where folders name them.
    classes: Option<Vec<String>>,
    /// One more than the largest label.
    labels: usize,
    left_out: u64,
}

/// Names in a folder, in order, without those that begin with a dot.
fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| unreadable(e, folder))? {
        let name = entry.map_err(|e| unreadable(e, folder))?.file_name();
        let name = name.into_string().map_err(|name| {
            let found = format!("holds `{}`", name.display());
            fault(DataFault::File { found, expected: "names in UTF-8".to_owned() }, folder)
        })?;
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Whether a file is named like a picture.
fn is_picture(name: &str) -> bool {
    let end = name.rsplit_once('.').map_or("", |(_, end)| end);
    ["png", "jpg", "jpeg"].iter().any(|known| end.eq_ignore_ascii_case(known))
}

fn list(folder: &Path) -> Result<Listing, Error> {
    let all = names(folder)?;
    let (folders, files): (Vec<String>, Vec<String>) = all.into_iter().partition(|name| folder.join(name).is_dir());
    let (pictures, others): (Vec<String>, Vec<String>) = files.into_iter().partition(|name| is_picture(name));
    let listing = match folders.is_empty() {
        true => flat(folder, pictures, &others)?,
        false if pictures.is_empty() => of_classes(folder, folders, others.len() as u64)?,
        false => {
            let found = format!("holds folders and pictures, `{}` and `{}`", folders[0], pictures[0]);
            return Err(fault(DataFault::File { found, expected: "either".to_owned() }, folder));
        }
    };
    if listing.pictures.is_empty() {
        return Err(fault(DataFault::Missing { expected: "PNG or JPEG files".to_owned() }, folder));
    }
    Ok(listing)
}

fn of_classes(folder: &Path, classes: Vec<String>, mut left_out: u64) -> Result<Listing, Error> {
    let mut pictures = Vec::new();
    for (class, label) in classes.iter().zip(0..) {
        let class = folder.join(class);
        for name in names(&class)? {
            let path = class.join(&name);
            if path.is_dir() {
                let found = "is a folder".to_owned();
                return Err(fault(
                    DataFault::File { found, expected: "pictures in the folder of a class".to_owned() },
                    &path,
                ));
            }
            if is_picture(&name) {
                pictures.push((path, label));
            } else {
                left_out += 1;
            }
        }
    }
    Ok(Listing { pictures, labelled: true, labels: classes.len(), classes: Some(classes), left_out })
}

fn flat(folder: &Path, pictures: Vec<String>, others: &[String]) -> Result<Listing, Error> {
    let left_out = others.iter().filter(|name| *name != LABELS).count() as u64;
    if left_out == others.len() as u64 {
        let pictures = pictures.into_iter().map(|name| (folder.join(name), 0)).collect();
        return Ok(Listing { pictures, labelled: false, classes: None, labels: 0, left_out });
    }
    let path = folder.join(LABELS);
    let text = read_limited(&path, &Limits::default())?;
    let labelled = labels(&text).map_err(|f| fault(f, &path))?;
    let mut unlabelled: BTreeMap<&str, ()> = pictures.iter().map(|name| (name.as_str(), ())).collect();
    for (line, (name, _)) in (1..).zip(&labelled) {
        if unlabelled.remove(name.as_str()).is_none() {
            let why = if pictures.contains(name) { "stands there twice" } else { "is no picture of the folder" };
            return Err(fault(DataFault::Line { line, what: format!("`{name}` {why}") }, &path));
        }
    }
    if let Some((name, ())) = unlabelled.first_key_value() {
        return Err(fault(DataFault::Missing { expected: format!("line for `{name}`") }, &path));
    }
    let labels = labelled.iter().map(|(_, label)| *label as usize + 1).max().unwrap_or(0);
    let pictures = labelled.into_iter().map(|(name, label)| (folder.join(name), label)).collect();
    Ok(Listing { pictures, labelled: true, classes: None, labels, left_out })
}

/// The lines of a file of labels; the label is the last word.
fn labels(text: &[u8]) -> Result<Vec<(String, u32)>, DataFault> {
    let text = std::str::from_utf8(text).map_err(|_| DataFault::File {
        found: "is not UTF-8 text".to_owned(),
        expected: "lines of a name and a label".to_owned(),
    })?;
    let lines = text.lines().zip(1..).map(|(text, line)| {
        let wrong = || DataFault::Line { line, what: "no name and label below 16777216".to_owned() };
        let (name, label) = text.trim_end().rsplit_once(char::is_whitespace).ok_or_else(wrong)?;
        let label = label.parse().ok().filter(|label| *label < 1 << 24).ok_or_else(wrong)?;
        Ok((name.trim_end().to_owned(), label))
    });
    lines.collect()
}

/// Makes a dataset of the pictures in a folder.
pub(super) fn import(source: &Path, how: &Pictures, target: &Target<'_>) -> Result<Imported, Error> {
    let listing = list(source)?;
    let (metadata, classes) = target.metadata(how.channels, listing.classes, listing.labels)?;
    let items = target.taken(listing.pictures.len());
    let first = how.read(&listing.pictures[0].0)?;
    let expected = (first.height, first.width);
    let shape = [how.channels, expected.0, expected.1];
    let labelled = listing.labelled;
    let item_len = shape.iter().product::<usize>();
    let pool = target.options.pool()?;
    let output = Output::create(target.out, Form::Images { items, shape, labelled }, metadata, target.options)?;
    // Large pictures wait for each other in smaller numbers.
    let piece = ((1 << 26) / item_len).clamp(1, PIECE);
    for (number, piece_of) in listing.pictures[..items].chunks(piece).enumerate() {
        let read = |(path, _): &(PathBuf, u32)| -> Result<Picture, Error> {
            let picture = how.read(path)?;
            let found = (picture.height, picture.width);
            if found == expected {
                return Ok(picture);
            }
            let error = fault(DataFault::Size { found, expected }, path);
            Err(error.hinting("`--size HxW` brings all pictures to one size"))
        };
        let pictures: Vec<Result<Picture, Error>> = pool.install(|| piece_of.par_iter().map(read).collect());
        let pictures = pictures.into_iter().collect::<Result<Vec<Picture>, Error>>()?;
        let bytes: Vec<u8> = pictures.into_iter().flat_map(|picture| picture.planes).collect();
        let labels: Vec<u32> = piece_of.iter().map(|(_, label)| *label).collect();
        output.labels(number * piece, &labels)?;
        output.items(number * piece, &bytes)?;
        (target.progress)((number * piece * item_len + bytes.len()) as u64, (items * item_len) as u64);
    }
    let classes = labelled.then_some(classes);
    Ok(Imported { items, shape: shape.to_vec(), classes, output_bytes: output.finish()?, left_out: listing.left_out })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_cut_out_of_what_covers_it() {
        // 2x8 with shorter side 2: not scaled; 2x2 of columns 3 and 4.
        let picture = || Picture { height: 2, width: 8, planes: (0..16).collect() };
        let how = Pictures::new(Some((2, 2)), Some(2), 1).expect("valid");
        assert_eq!(how.image(picture()).expect("room").planes, [3, 4, 11, 12]);
        let whole = Pictures::new(None, None, 1).expect("valid");
        assert_eq!(whole.image(picture()).expect("as it is").planes, (0..16).collect::<Vec<u8>>());
        // 8/7 of 7 is 8.
        let how = Pictures::new(Some((7, 5)), None, 1).expect("valid");
        let image = how.image(picture()).expect("room");
        assert_eq!((image.height, image.width, image.planes.len()), (7, 5, 35));
        assert_eq!(Pictures::new(Some((224, 224)), None, 3).expect("valid").shorter, 256);
        for (size, shorter, channels) in [
            (None, Some(3), 3),
            (Some((0, 3)), None, 3),
            (Some((5, 9)), Some(8), 3),
            (None, None, 2),
            (Some((70_000, 1)), None, 1),
        ] {
            assert!(Pictures::new(size, shorter, channels).is_err(), "{size:?} {shorter:?} {channels}");
        }
        let long = Picture { height: 1, width: 100_000, planes: vec![0; 100_000] };
        assert!(how.image(long).is_err());
    }

    #[test]
    fn lines_are_a_name_and_a_label() {
        assert_eq!(labels(b"a b.png\t7\nc.png 0 \n"), Ok(vec![("a b.png".into(), 7), ("c.png".into(), 0)]));
        for (text, line) in [(&b"a.png"[..], 1), (b"a.png 1\n\n", 2), (b"a.png -1", 1), (b"a.png 16777216", 1)] {
            assert!(matches!(labels(text), Err(DataFault::Line { line: l, .. }) if l == line), "{text:?}");
        }
        assert!(labels(b"\xff 1").is_err());
    }
}
