//! Labelled images, read by memory map.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use niwaki_model::Tensor;
use niwaki_tensors::{Checkpoint, Dtype, Limits, TensorView};

use super::fault::DataFault;
use super::preprocessing::{Preprocessing, classes_of};
use crate::error::{Error, ErrorKind};

/// The name of the tensor of pixels.
pub(super) const IMAGES: &str = "images";
/// The name of the tensor of labels.
pub(super) const LABELS: &str = "labels";

/// Channels of an image at most: for each there is a table of 256 numbers.
const MOST_CHANNELS: usize = 4096;

/// Images with their labels: `images` U8 or F32 `[N, C, H, W]` and, except in data that nobody
/// labelled, `labels` I64 `[N]`.
///
/// Opening looks at shapes, metadata and labels, and at no pixel. A batch is computed from the
/// map straight into the caller's buffer.
///
/// # Examples
///
/// ```
/// use niwaki_engine::dataset::Dataset;
/// # let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/fashion-cnn/sample.safetensors");
///
/// let data = Dataset::open(sample.as_ref())?;
/// assert_eq!((data.len(), data.shape(), data.classes()), (500, [1, 28, 28], 10));
/// let mut pixels = vec![0.0; 32 * data.item_len()];
/// data.batch(0..32, &mut pixels)?;
/// # Ok::<(), niwaki_engine::Error>(())
/// ```
pub struct Dataset {
    checkpoint: Checkpoint,
    path: PathBuf,
    /// Images, channels, height, width.
    dims: [usize; 4],
    item_len: usize,
    preprocessing: Preprocessing,
    names: Option<Vec<String>>,
    labelled: bool,
    classes: usize,
    /// For each channel, what becomes of the 256 pixels; empty for F32.
    table: Vec<f32>,
}

/// The tensor `name` of a dataset.
pub(super) fn tensor<'a>(checkpoint: &'a Checkpoint, name: &str) -> Result<TensorView<'a>, Error> {
    let missing = || DataFault::Missing { expected: format!("tensor `{name}`") };
    checkpoint.get(name).ok_or_else(|| fault(missing(), checkpoint.path()))
}

/// A fault of the file at `path`.
pub(super) fn fault(fault: DataFault, path: &Path) -> Error {
    Error::from(ErrorKind::Data(fault)).at(path)
}

/// The number at `index` of I64 elements.
pub(super) fn integer(bytes: &[u8], index: usize) -> Option<i64> {
    let bytes = bytes.get(index.checked_mul(8)?..)?.first_chunk()?;
    Some(i64::from_le_bytes(*bytes))
}

/// Dimensions of a tensor of the type and rank that it must have.
pub(super) fn dims<const N: usize>(
    tensor: &TensorView<'_>,
    dtypes: &[Dtype],
    (dtype, shape): (&'static str, &str),
) -> Result<[usize; N], DataFault> {
    if !dtypes.contains(&tensor.dtype()) {
        return Err(DataFault::Type { found: tensor.dtype(), expected: dtype });
    }
    let found = tensor.shape();
    found.try_into().map_err(|_| DataFault::Shape { found: found.to_vec(), expected: shape.to_owned() })
}

impl Dataset {
    /// Opens the dataset at `path`.
    ///
    /// # Errors
    ///
    /// Those of [`Checkpoint::open`], and [`ErrorKind::Data`] for tensors, labels or metadata
    /// that are not as described [above](Self), and for a dataset without items.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::of_checkpoint(Checkpoint::open(path, &Limits::default())?)
    }

    /// The dataset in an open file.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open) that are of the file's contents.
    pub fn of_checkpoint(checkpoint: Checkpoint) -> Result<Self, Error> {
        let path = checkpoint.path().to_owned();
        let images = tensor(&checkpoint, IMAGES)?;
        let metadata = checkpoint.metadata();
        let of_images = |f: DataFault| fault(f, &path).of(IMAGES);
        let dims: [usize; 4] =
            dims(&images, &[Dtype::U8, Dtype::F32], ("U8 or F32", "[N, C, H, W]")).map_err(of_images)?;
        let [items, channels, height, width] = dims;
        if items == 0 || channels == 0 || height == 0 || width == 0 {
            return Err(of_images(DataFault::Empty));
        }
        if channels > MOST_CHANNELS {
            let (found, max) = (channels as u64, MOST_CHANNELS as u64);
            return Err(of_images(DataFault::Limit { what: "channels", found, max }));
        }
        // The product is part of that of a tensor that is there.
        let item_len = channels * height * width;
        let preprocessing = Preprocessing::of_metadata(&metadata, channels).map_err(|f| fault(f, &path))?;
        let names = classes_of(&metadata).map_err(|f| fault(f, &path))?;
        let labels = checkpoint.get(LABELS);
        let counted = match labels {
            Some(labels) => count_classes(&labels, items, names.as_deref()).map_err(|f| fault(f, &path).of(LABELS))?,
            None => names.as_ref().map_or(0, Vec::len),
        };
        let table = match images.dtype() {
            Dtype::U8 => {
                let of = |c: usize| (0..256).map(move |pixel| (f64::from(pixel), c));
                (0..channels).flat_map(of).map(|(pixel, c)| preprocessing.value(pixel, c)).collect()
            }
            _ => Vec::new(),
        };
        let labelled = labels.is_some();
        Ok(Self { path, dims, item_len, preprocessing, names, labelled, classes: counted, table, checkpoint })
    }

    /// What a black pixel of each channel is after preprocessing.
    pub fn black(&self) -> Vec<f32> {
        (0..self.shape()[0]).map(|c| self.preprocessing().value(0.0, c)).collect()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many images there are: at least one.
    pub fn len(&self) -> usize {
        self.dims[0]
    }

    /// Never: an empty dataset does not open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Channels, height and width of every image.
    pub fn shape(&self) -> [usize; 3] {
        [self.dims[1], self.dims[2], self.dims[3]]
    }

    /// Numbers in one image.
    pub fn item_len(&self) -> usize {
        self.item_len
    }

    /// How many classes there are: those named, else one more than the largest label.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The names of the classes, where the file has them.
    pub fn names(&self) -> Option<&[String]> {
        self.names.as_deref()
    }

    /// Whether images have labels.
    pub fn labelled(&self) -> bool {
        self.labelled
    }

    /// What is done to pixels.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// The checkpoint that holds the images.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The class of image `item`: below [`classes`](Self::classes).
    ///
    /// # Errors
    ///
    /// [`DataFault::Item`], and [`DataFault::Missing`] where there are no labels.
    pub fn label(&self, item: usize) -> Result<usize, Error> {
        let labels = tensor(&self.checkpoint, LABELS)?;
        let found = integer(labels.bytes(), item).and_then(|label| usize::try_from(label).ok());
        found.ok_or_else(|| fault(DataFault::Item { found: item, items: self.len() }, &self.path))
    }

    /// The class of an image for a model of so many; none where there are no labels.
    ///
    /// # Errors
    ///
    /// Those of [`label`](Self::label), and a class that the model does not have.
    pub(crate) fn class(&self, item: usize, classes: usize) -> Result<Option<usize>, Error> {
        if !self.labelled() {
            return Ok(None);
        }
        match self.label(item)? {
            label if label < classes => Ok(Some(label)),
            label => {
                let what = format!("label {label} of image {item}: the model has {classes} classes");
                Err(Error::from(ErrorKind::Unlike { what }).at(&self.path))
            }
        }
    }

    /// The images `items`, a range or any list of numbers, ready for a model: `out` gets
    /// `[B, C, H, W]` with preprocessing applied.
    ///
    /// # Errors
    ///
    /// [`DataFault::Item`], [`DataFault::Buffer`], [`DataFault::NotFinite`], and a file that
    /// changed since it was opened.
    pub fn batch(&self, items: impl IntoIterator<Item = usize>, out: &mut [f32]) -> Result<(), Error> {
        self.checkpoint.ensure_unchanged()?;
        let images = tensor(&self.checkpoint, IMAGES)?;
        let mut rest = &mut *out;
        let mut wanted = 0;
        for item in items {
            wanted += self.item_len;
            if let Some((now, later)) = std::mem::take(&mut rest).split_at_mut_checked(self.item_len) {
                self.fill(&images, item, now)?;
                rest = later;
            }
        }
        if out.len() == wanted {
            return Ok(());
        }
        Err(fault(DataFault::Buffer { found: out.len(), expected: wanted }, &self.path))
    }

    /// The same as a tensor `[B, C, H, W]`.
    ///
    /// # Errors
    ///
    /// Those of [`batch`](Self::batch).
    pub(crate) fn tensor(&self, items: impl ExactSizeIterator<Item = usize>) -> Result<Tensor, Error> {
        let (count, [c, h, w]) = (items.len(), self.shape());
        let mut images = vec![0.0f32; count * self.item_len];
        self.batch(items, &mut images)?;
        let unlike = || Error::from(ErrorKind::Unlike { what: format!("images of {c}x{h}x{w}") }).at(&self.path);
        Tensor::of([count, c, h, w], images).ok_or_else(unlike)
    }

    /// Where the elements of `item` are in the tensor of images.
    fn elements(&self, item: usize) -> Result<Range<usize>, Error> {
        if item >= self.len() {
            return Err(fault(DataFault::Item { found: item, items: self.len() }, &self.path));
        }
        let at = item * self.item_len;
        Ok(at..at + self.item_len)
    }

    fn fill(&self, images: &TensorView<'_>, item: usize, out: &mut [f32]) -> Result<(), Error> {
        let elements = self.elements(item)?;
        let plane = self.item_len / self.dims[1];
        if images.dtype() == Dtype::U8 {
            let pixels = images.slice_bytes(elements)?;
            let planes = pixels.chunks(plane).zip(out.chunks_mut(plane)).zip(self.table.chunks(256));
            for ((pixels, out), table) in planes {
                for (out, pixel) in out.iter_mut().zip(pixels) {
                    *out = table[usize::from(*pixel)];
                }
            }
            return Ok(());
        }
        images.decode_f32(elements, out)?;
        if let Some(index) = out.iter().position(|x| !x.is_finite()) {
            return Err(fault(DataFault::NotFinite { item, index }, &self.path).of(IMAGES));
        }
        for (channel, plane) in out.chunks_mut(plane).enumerate() {
            plane.iter_mut().for_each(|x| *x = self.preprocessing.value(f64::from(*x), channel));
        }
        Ok(())
    }

    /// The pixels of image `item` as they are stored.
    pub(super) fn pixels(&self, item: usize) -> Result<&[u8], Error> {
        let images = tensor(&self.checkpoint, IMAGES)?;
        if images.dtype() != Dtype::U8 {
            let found = images.dtype();
            return Err(fault(DataFault::Type { found, expected: "U8" }, &self.path).of(IMAGES));
        }
        Ok(images.slice_bytes(self.elements(item)?)?)
    }
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dataset").field("path", &self.path).field("dims", &self.dims).finish_non_exhaustive()
    }
}

/// How many classes labels speak of, having looked at all of them.
fn count_classes(labels: &TensorView<'_>, items: usize, names: Option<&[String]>) -> Result<usize, DataFault> {
    let [count] = dims(labels, &[Dtype::I64], ("I64", "[N]"))?;
    if count != items {
        return Err(DataFault::Count { what: "labels", found: count as u64, expected: items as u64 });
    }
    // Without names, a bound that any classifier stays below.
    let most = names.map_or(1 << 24, <[String]>::len);
    let mut largest = 0;
    for item in 0..items {
        let found = integer(labels.bytes(), item).unwrap_or(-1);
        match usize::try_from(found).ok().filter(|label| *label < most) {
            Some(label) => largest = largest.max(label),
            None => return Err(DataFault::Label { item, found, classes: most }),
        }
    }
    Ok(names.map_or(largest + 1, <[String]>::len))
}
