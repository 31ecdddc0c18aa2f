//! Weights of a layer as rows of codes.

use niwaki_codes::simd::Level;
use niwaki_codes::{Bits, Grouping, Symmetry, Uniform, Widths, pack_row, packed_bytes, unpack_row};
use niwaki_image::{DraftTensor, Kind, Row};
use niwaki_model::{Graph, Tensor, ValueId};
use niwaki_quant::{Fit, UniformOut, Values, encode_rows};

use super::grid::{Grid, times};
use super::nested::{self, Nested};
use crate::error::{Error, ErrorKind};

/// The largest bias, in steps of the sum: with it, sums of 49,000 products stay within 32 bits.
const MOST_BIAS: f64 = (1 << 29) as f64;

/// How weights become codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codes {
    /// Codes of one width.
    Rows {
        /// 8 or 4 bits.
        bits: Bits,
        /// How the scale of a row is chosen.
        fit: Fit,
        /// What becomes of those that are 0.
        zeros: Zeros,
    },
    /// Bit-planes that serve several widths.
    Elastic(Widths),
}

/// What becomes of codes that are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zeros {
    /// They are stored like all others.
    Stored,
    /// A bit for each weight says which are not 0, and only these are stored, in tensors that this makes smaller.
    LeftOut,
}

/// Rows of weights in the order in which a device takes them: of each place of a window the channels.
pub(crate) struct Rows {
    pub(crate) cols: usize,
    pub(crate) weights: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

impl Rows {
    /// Those of a kernel `[O, C, h, w]`.
    pub(crate) fn of_kernel(kernel: &Tensor, bias: Vec<f32>) -> Option<Self> {
        let (&[rows, channels, down, across], all) = (kernel.shape().first_chunk::<4>()?, kernel.get::<f32>()?);
        let places = down * across;
        let mut weights = Vec::with_capacity(all.len());
        for row in 0..rows {
            for place in 0..places {
                weights.extend((0..channels).map(|channel| all[(row * channels + channel) * places + place]));
            }
        }
        Some(Self { cols: channels * places, weights, bias })
    }

    /// Those of a matrix whose columns, or rows where it is `turned`, are inputs of this shape: channels, rows and columns as
    /// flattening has them.
    pub(crate) fn of_matrix(matrix: &Tensor, turned: bool, [h, w, c]: [usize; 3], bias: Vec<f32>) -> Option<Self> {
        let (&[high, wide], all) = (matrix.shape().first_chunk::<2>()?, matrix.get::<f32>()?);
        let (rows, cols) = if turned { (wide, high) } else { (high, wide) };
        if cols != h * w * c || matrix.rank() != 2 {
            return None;
        }
        let at = |row: usize, col: usize| if turned { col * wide + row } else { row * wide + col };
        let mut weights = Vec::with_capacity(all.len());
        for row in 0..rows {
            for place in 0..h * w {
                weights.extend((0..c).map(|channel| all[at(row, channel * h * w + place)]));
            }
        }
        Some(Self { cols, weights, bias })
    }

    pub(crate) fn count(&self) -> usize {
        self.bias.len()
    }

    /// Codes of each row, and their scales.
    ///
    /// # Errors
    ///
    /// Weights that are no numbers.
    pub(crate) fn encode(&self, how: Codes, input: Grid) -> Result<Coded, Error> {
        if let Some(index) = self.weights.iter().chain(&self.bias).position(|w| !w.is_finite()) {
            return Err(ErrorKind::NotFinite { index }.into());
        }
        // A row of zeros has no scale, and that of a tiny row would make its bias a huge number of steps.
        let least = |bias: f32| {
            let least = f64::from(bias.abs()) / (f64::from(input.scale) * MOST_BIAS);
            least.max(f64::from(f32::MIN_POSITIVE))
        };
        match how {
            Codes::Rows { bits, fit, .. } => self.uniform(how, (bits, fit), least),
            Codes::Elastic(widths) => {
                let mut coded = Coded { how, codes: Vec::with_capacity(self.weights.len()), scales: Vec::new() };
                for (row, bias) in self.weights.chunks(self.cols.max(1)).zip(&self.bias) {
                    let Nested { codes, scales } = Nested::of(row, widths, least(*bias));
                    coded.codes.extend(codes);
                    coded.scales.push(scales);
                }
                Ok(coded)
            }
        }
    }

    fn uniform(&self, how: Codes, (bits, fit): (Bits, Fit), least: impl Fn(f32) -> f64) -> Result<Coded, Error> {
        let scheme = Uniform::new(bits, Grouping::Row, Symmetry::Symmetric);
        let (mut packed, mut scales) = (vec![0; self.count() * scheme.row_bytes(self.cols)], vec![0; 4 * self.count()]);
        let out = UniformOut { codes: &mut packed, scales: &mut scales, zeros: &mut [] };
        let values = Values::F32(bytemuck::cast_slice(&self.weights));
        encode_rows(Level::best(), &scheme, fit, values, self.cols, out).map_err(|e| unlike(&e))?;
        let (half, mut unpacked) = (bits.half() as i16, vec![0; self.cols]);
        let mut coded = Coded { how, codes: Vec::with_capacity(self.weights.len()), scales: Vec::new() };
        let rows = packed.chunks(scheme.row_bytes(self.cols).max(1)).zip(scales.as_chunks::<4>().0);
        for ((row, scale), bias) in rows.zip(&self.bias) {
            unpack_row(Level::best(), bits, row, &mut unpacked).map_err(|e| unlike(&e))?;
            let mut codes: Vec<i16> = unpacked.iter().map(|code| i16::from(*code) - half).collect();
            let (found, least) = (f64::from(f32::from_le_bytes(*scale)), least(*bias));
            let zeros = codes.iter().all(|code| *code == 0);
            let scale = if zeros || found.abs() < least { least } else { found };
            if scale != found {
                codes.iter_mut().for_each(|code| *code = (f64::from(*code) * found / scale).round() as i16);
            }
            coded.codes.extend(codes);
            coded.scales.push(vec![scale]);
        }
        Ok(coded)
    }
}

fn unlike(error: &dyn std::error::Error) -> ErrorKind {
    ErrorKind::Unlike { what: error.to_string() }
}

/// Rows of codes and their scales.
pub(crate) struct Coded {
    how: Codes,
    /// Codes with signs; of elastic ones those without of the widest.
    codes: Vec<i16>,
    /// Of each row that of each width, narrowest first.
    scales: Vec<Vec<f64>>,
}

impl Coded {
    /// The finest step that an output can have.
    pub(crate) fn finest(&self, input: Grid) -> f64 {
        let most = self.scales.iter().flatten().fold(0.0, |most: f64, scale| most.max(scale.abs()));
        // The factor is to be below 1.
        most * f64::from(input.scale) * (1.0 + 2f64.powi(-20))
    }

    /// The tensor of an image, with the numbers of rows for these grids.
    ///
    /// # Errors
    ///
    /// An output whose steps are finer than [`finest`](Self::finest).
    pub(crate) fn tensor(&self, rows: &Rows, input: Grid, output: Grid) -> Result<DraftTensor, Error> {
        let numbers = match self.how {
            Codes::Rows { .. } => self.numbers(rows, (input, output), 0, |code| code.into())?,
            Codes::Elastic(widths) => {
                let mut all = Vec::new();
                for (nth, width) in widths.iter().enumerate() {
                    let number = |code| nested::number(code, widths, width);
                    all.extend(self.numbers(rows, (input, output), nth, number)?);
                }
                all
            }
        };
        let cols = rows.cols;
        let (kind, codes) = match self.how {
            Codes::Elastic(widths) => (Kind::Elastic, self.planes(cols, widths)),
            Codes::Rows { bits, zeros, .. } => self.stored(cols, bits, zeros)?,
        };
        Ok(DraftTensor { kind, cols, codes, rows: numbers })
    }

    /// The numbers of rows at the `nth` of the widths, where codes are these numbers.
    fn numbers(
        &self,
        rows: &Rows,
        (input, output): (Grid, Grid),
        nth: usize,
        number: impl Fn(i16) -> i64,
    ) -> Result<Vec<Row>, Error> {
        let mut numbers = Vec::with_capacity(rows.count());
        for ((codes, scales), bias) in self.codes.chunks(rows.cols.max(1)).zip(&self.scales).zip(&rows.bias) {
            let step = f64::from(input.scale) * scales[nth];
            let sum: i64 = codes.iter().map(|code| number(*code)).sum();
            let bias = (f64::from(*bias) / step).round() - (sum * i64::from(input.zero)) as f64;
            let times = times(step / f64::from(output.scale));
            let what = || ErrorKind::Unsupported { what: "a row whose sums are coarser than its outputs".to_owned() };
            numbers.push(Row { bias: bias as i32, times: times.ok_or_else(what)? });
        }
        Ok(numbers)
    }

    /// Codes as they stand in the file, those of zeros left out where that takes fewer bytes.
    fn stored(&self, cols: usize, bits: Bits, zeros: Zeros) -> Result<(Kind, Vec<u8>), Error> {
        let narrow = bits.get() == 4;
        let (dense, sparse) = if narrow { (Kind::Int4, Kind::Sparse4) } else { (Kind::Int8, Kind::Sparse8) };
        let pack = |row: &[i16]| {
            let (row, mut packed): (Vec<u8>, _) =
                (row.iter().map(|c| *c as u8).collect(), vec![0; packed_bytes(row.len(), bits)]);
            pack_row(Level::best(), bits, &row, &mut packed).map_err(|e| unlike(&e))?;
            Ok::<_, Error>(packed)
        };
        let rows = || self.codes.chunks(cols.max(1));
        let mut all = Vec::new();
        rows().try_for_each(|row| pack(row).map(|row| all.extend(row)))?;
        if zeros == Zeros::LeftOut {
            let mut kept: Vec<u8> = rows().flat_map(|row| bits_of(row.iter().map(|code| *code != 0))).collect();
            for row in rows() {
                kept.extend(pack(&row.iter().copied().filter(|code| *code != 0).collect::<Vec<i16>>())?);
            }
            if kept.len() < all.len() {
                return Ok((sparse, kept));
            }
        }
        Ok((dense, all))
    }

    /// Planes of all rows, the most significant bits first.
    fn planes(&self, cols: usize, widths: Widths) -> Vec<u8> {
        let rows = || self.codes.chunks(cols.max(1));
        let plane = |bit: u32| rows().flat_map(move |row| bits_of(row.iter().map(move |code| code >> bit & 1 == 1)));
        (0..widths.widest().get()).rev().flat_map(plane).collect()
    }
}

/// A bit for each, the lowest of a byte first.
fn bits_of(all: impl Iterator<Item = bool>) -> Vec<u8> {
    let all: Vec<bool> = all.collect();
    all.chunks(8).map(|eight| eight.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit))).collect()
}

/// The numbers of a constant vector of so many; zeros where there is none. None for another constant.
pub(crate) fn bias(graph: &Graph, value: Option<ValueId>, rows: usize) -> Option<Vec<f32>> {
    let Some(value) = value else { return Some(vec![0.0; rows]) };
    let all = graph.constant(value)?.get::<f32>()?;
    (all.len() == rows).then(|| all.to_vec())
}
