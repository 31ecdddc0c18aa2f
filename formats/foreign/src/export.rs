//! Our codes in the layouts of others.
//!
//! An [`Outline`] names the stored tensors of one weight with their types and shapes, before
//! anything is computed; [`Outline::pieces`] then lays codes out. Codes stay as they are; scales
//! are rounded to the type that they are stored in, and how many that changed is said.

pub(crate) mod config;
mod fit;
mod floats;
mod lay;

use std::ops::Range;

use niwaki_codes::{Grouping, Symmetry, Uniform};
use niwaki_tensors::Dtype;

use crate::Format;
use crate::compressed::stream_words;
use crate::error::{Error, ErrorKind};
use crate::weights::check_rows;

pub use config::{Activations, Module, ModuleScheme, quantization_config};
pub use floats::float_parts;

/// One tensor to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its dimensions.
    pub shape: Vec<usize>,
}

/// The stored tensors of one weight of evenly spaced codes, and how they are filled.
#[derive(Clone, Debug)]
pub struct Outline {
    pub(crate) format: Format,
    /// As it is stored: with groups even where one scale served a row.
    pub(crate) scheme: Uniform,
    rows: usize,
    cols: usize,
    scales: Dtype,
    parts: Vec<Part>,
}

/// Some rows of codes with their parameters.
#[derive(Clone, Copy, Debug)]
pub struct Coded<'a> {
    /// One code a byte, row by row.
    pub codes: &'a [u8],
    /// One scale a group of these rows; one in all where the scheme has one for the tensor.
    pub scales: &'a [f32],
    /// As many zero points; none for symmetric schemes.
    pub zeros: &'a [u8],
}

/// Bytes that belong into a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Index of the part.
    pub part: usize,
    /// Where in the part the bytes begin.
    pub at: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What some rows became.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pieces {
    /// Bytes for the parts.
    pub pieces: Vec<Piece>,
    /// Scales and biases that the type they are stored in could not hold exactly.
    pub rounded: usize,
}

impl Outline {
    /// The layout of the weight `name` (`P.weight`) of `rows` by `cols` codes, with scales of
    /// the type `scales`: F16, BF16 or F32.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Scheme`] where the format cannot hold the scheme in that size; it names the
    /// nearest scheme that it can.
    pub fn new(
        format: Format,
        name: &str,
        scheme: &Uniform,
        (rows, cols): (usize, usize),
        scales: Dtype,
    ) -> Result<Self, Error> {
        let scheme = fit::fit(format, scheme, (rows, cols), scales).map_err(|e| e.of(name))?;
        rows.checked_mul(cols).ok_or(ErrorKind::Overflow)?;
        let mut outline = Self { format, scheme, rows, cols, scales, parts: Vec::new() };
        outline.parts = outline.name_parts(name);
        Ok(outline)
    }

    /// The format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The scheme as it is stored.
    pub fn scheme(&self) -> &Uniform {
        &self.scheme
    }

    /// The tensors to store, in the order of their names.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Rows that [`pieces`](Self::pieces) takes at a time: a multiple of this many, or what is
    /// left at the end. None where it takes all rows at once.
    pub fn step(&self) -> Option<usize> {
        match self.format {
            Format::PackQuantized if self.scheme.symmetry == Symmetry::Affine => Some(32),
            Format::PackQuantized | Format::IntQuantized | Format::Mlx => Some(1),
            _ => None,
        }
    }

    /// Groups of one row, as stored.
    fn groups(&self) -> usize {
        match self.scheme.grouping {
            Grouping::Group(group) => self.cols.div_ceil(group.get()),
            Grouping::Row | Grouping::Tensor => 1,
        }
    }

    fn name_parts(&self, name: &str) -> Vec<Part> {
        let head = name.strip_suffix("weight").unwrap_or(name);
        let part =
            |leaf: &str, dtype, shape: &[usize]| Part { name: format!("{head}{leaf}"), dtype, shape: shape.to_vec() };
        let (rows, cols, groups, bits) = (self.rows, self.cols, self.groups(), self.scheme.bits.get());
        let table = match self.scheme.grouping {
            Grouping::Tensor => vec![1],
            _ => vec![rows, groups],
        };
        let affine = self.scheme.symmetry == Symmetry::Affine;
        match self.format {
            Format::IntQuantized => {
                let mut parts =
                    vec![part("weight", Dtype::I8, &[rows, cols]), part("weight_scale", self.scales, &table)];
                parts.extend(affine.then(|| part("weight_zero_point", Dtype::I8, &table)));
                parts
            }
            Format::Gptq | Format::GptqV2 => vec![
                part("g_idx", Dtype::I32, &[cols]),
                part("qweight", Dtype::I32, &[stream_words(cols, bits), rows]),
                part("qzeros", Dtype::I32, &[groups, stream_words(rows, bits)]),
                part("scales", self.scales, &[groups, rows]),
            ],
            Format::Awq => vec![
                part("qweight", Dtype::I32, &[cols, rows / 8]),
                part("qzeros", Dtype::I32, &[groups, rows / 8]),
                part("scales", self.scales, &[groups, rows]),
            ],
            Format::Mlx => vec![
                part("biases", self.scales, &[rows, groups]),
                part("scales", self.scales, &[rows, groups]),
                part("weight", Dtype::U32, &[rows, stream_words(cols, bits)]),
            ],
            _ => {
                let mut parts = vec![
                    part("weight_packed", Dtype::I32, &[rows, stream_words(cols, bits)]),
                    part("weight_scale", self.scales, &table),
                    part("weight_shape", Dtype::I64, &[2]),
                ];
                let zeros = [stream_words(rows, bits), groups];
                parts.extend(affine.then(|| part("weight_zero_point", Dtype::I32, &zeros)));
                parts
            }
        }
    }

    /// Lays out the rows `some`. `given` is the scheme that `coded` has, from which the outline
    /// was made.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Range`] for buffers of other lengths or rows that [`step`](Self::step) does
    /// not allow, [`ErrorKind::Scale`] for scales that are not finite where they are stored,
    /// [`ErrorKind::Scheme`] for a zero point of 0 in GPTQ v1.
    pub fn pieces(&self, given: &Uniform, some: Range<usize>, coded: Coded<'_>) -> Result<Pieces, Error> {
        check_rows(&some, (self.rows, self.cols), coded.codes.len())?;
        let whole = some == (0..self.rows);
        let ends = |row: usize, step: usize| row.is_multiple_of(step) || row == self.rows;
        let aligned = self.step().is_some_and(|step| ends(some.start, step) && ends(some.end, step));
        if !whole && !aligned {
            return Err(ErrorKind::Range { needs: self.rows, has: some.len() }.into());
        }
        let groups = given.groups(some.len(), self.cols);
        if coded.scales.len() != groups {
            return Err(ErrorKind::Range { needs: groups, has: coded.scales.len() }.into());
        }
        let zeros = if given.symmetry == Symmetry::Affine { groups } else { 0 };
        if coded.zeros.len() != zeros {
            return Err(ErrorKind::Range { needs: zeros, has: coded.zeros.len() }.into());
        }
        lay::lay(self, given, some, coded)
    }

    /// Rows, columns and groups of a row.
    fn size(&self) -> (usize, usize, usize) {
        (self.rows, self.cols, self.groups())
    }
}
