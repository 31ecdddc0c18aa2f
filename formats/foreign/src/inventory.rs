//! The stored tensors of one checkpoint by name.

use std::collections::BTreeMap;

use niwaki_tensors::{Checkpoint, Dtype, byte_len};

use crate::error::{Error, ErrorKind};

/// One tensor as it is stored.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    name: &'a str,
    dtype: Dtype,
    shape: &'a [usize],
    bytes: &'a [u8],
}

impl<'a> Stored<'a> {
    /// A tensor of its parts.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Bytes`] where type and shape need another number of bytes,
    /// [`ErrorKind::Overflow`] where that number does not fit into `usize`.
    pub fn new(name: &'a str, dtype: Dtype, shape: &'a [usize], bytes: &'a [u8]) -> Result<Self, Error> {
        let elements = shape.iter().try_fold(1usize, |n, dim| n.checked_mul(*dim));
        let needs = elements.and_then(|n| byte_len(dtype, n));
        match needs {
            Some(needs) if needs == bytes.len() => Ok(Self { name, dtype, shape, bytes }),
            Some(needs) => Err(Error::from(ErrorKind::Bytes { needs, has: bytes.len() }).of(name)),
            None => Err(Error::from(ErrorKind::Overflow).of(name)),
        }
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Its element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Its dimensions.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// Its bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// How many elements it has.
    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// `F32 256x64`.
    pub(crate) fn form(&self) -> String {
        form(self.dtype, self.shape)
    }
}

/// Type and shape in words.
pub(crate) fn form(dtype: Dtype, shape: &[usize]) -> String {
    format!("{dtype} {}", dims(shape))
}

/// `256x64`; `scalar` for no dimensions.
pub(crate) fn dims(shape: &[usize]) -> String {
    match shape {
        [] => "scalar".to_owned(),
        _ => shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x"),
    }
}

/// All stored tensors of a checkpoint, by name.
#[derive(Clone, Debug, Default)]
pub struct Inventory<'a> {
    all: BTreeMap<&'a str, Stored<'a>>,
}

impl<'a> Inventory<'a> {
    /// The tensors of an open checkpoint, pads left out.
    ///
    /// # Errors
    ///
    /// Those of [`Stored::new`]; an open checkpoint has none.
    pub fn of(checkpoint: &'a Checkpoint) -> Result<Self, Error> {
        let views = checkpoint.tensors().filter(|view| !niwaki_tensors::is_pad(view.name()));
        let stored = views.map(|view| Stored::new(view.name(), view.dtype(), view.shape(), view.bytes()));
        Ok(stored.collect::<Result<Vec<_>, _>>()?.into_iter().collect())
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<Stored<'a>> {
        self.all.get(name).copied()
    }

    /// All tensors, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = Stored<'a>> + '_ {
        self.all.values().copied()
    }
}

impl<'a> FromIterator<Stored<'a>> for Inventory<'a> {
    /// Of two tensors of one name the last counts.
    fn from_iter<I: IntoIterator<Item = Stored<'a>>>(all: I) -> Self {
        Self { all: all.into_iter().map(|stored| (stored.name, stored)).collect() }
    }
}
