//! Weights of a layer as rows of codes.

use niwaki_codes::simd::Level;
use niwaki_codes::{Bits, Grouping, Symmetry, Uniform, pack_row, packed_bytes, unpack_row};
use niwaki_image::{DraftTensor, Kind, Row};
use niwaki_model::{Graph, Tensor, ValueId};
use niwaki_quant::{Fit, UniformOut, Values, encode_rows};

use super::grid::{Grid, times};
use crate::error::{Error, ErrorKind};

/// The largest bias, in steps of the sum: with it, sums of 49,000 products stay within 32 bits.
const MOST_BIAS: f64 = (1 << 29) as f64;

/// How weights become codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codes {
    /// 8 or 4 bits.
    pub bits: Bits,
    /// How the scale of a row is chosen.
    pub fit: Fit,
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
        let scheme = Uniform::new(how.bits, Grouping::Row, Symmetry::Symmetric);
        let (mut packed, mut scales) = (vec![0; self.count() * scheme.row_bytes(self.cols)], vec![0; 4 * self.count()]);
        let out = UniformOut { codes: &mut packed, scales: &mut scales, zeros: &mut [] };
        let values = Values::F32(bytemuck::cast_slice(&self.weights));
        encode_rows(Level::best(), &scheme, how.fit, values, self.cols, out).map_err(|e| unlike(&e))?;
        let (half, mut unpacked) = (how.bits.half() as i16, vec![0; self.cols]);
        let mut coded = Coded { bits: how.bits, codes: Vec::with_capacity(self.weights.len()), scales: Vec::new() };
        let rows = packed.chunks(scheme.row_bytes(self.cols).max(1)).zip(scales.as_chunks::<4>().0);
        for ((row, scale), bias) in rows.zip(&self.bias) {
            unpack_row(Level::best(), how.bits, row, &mut unpacked).map_err(|e| unlike(&e))?;
            let mut codes: Vec<i8> = unpacked.iter().map(|code| (i16::from(*code) - half) as i8).collect();
            let found = f64::from(f32::from_le_bytes(*scale));
            // A row of zeros has no scale, and that of a tiny row would make its bias a huge number of steps.
            let least = f64::from(bias.abs()) / (f64::from(input.scale) * MOST_BIAS);
            let zeros = codes.iter().all(|code| *code == 0);
            let scale = if zeros || found.abs() < least { least.max(f64::from(f32::MIN_POSITIVE)) } else { found };
            if scale != found {
                codes.iter_mut().for_each(|code| *code = (f64::from(*code) * found / scale).round() as i8);
            }
            coded.codes.extend(codes);
            coded.scales.push(scale);
        }
        Ok(coded)
    }
}

fn unlike(error: &dyn std::error::Error) -> ErrorKind {
    ErrorKind::Unlike { what: error.to_string() }
}

/// Rows of signed codes and their scales.
pub(crate) struct Coded {
    bits: Bits,
    codes: Vec<i8>,
    scales: Vec<f64>,
}

impl Coded {
    /// The finest step that an output can have.
    pub(crate) fn finest(&self, input: Grid) -> f64 {
        let most = self.scales.iter().fold(0.0, |most: f64, scale| most.max(scale.abs()));
        // The factor is to be below 1.
        most * f64::from(input.scale) * (1.0 + 2f64.powi(-20))
    }

    /// The tensor of an image, with the numbers of rows for these grids.
    ///
    /// # Errors
    ///
    /// An output whose steps are finer than [`finest`](Self::finest).
    pub(crate) fn tensor(&self, rows: &Rows, input: Grid, output: Grid) -> Result<DraftTensor, Error> {
        let cols = rows.cols;
        let mut numbers = Vec::with_capacity(rows.count());
        for ((codes, scale), bias) in self.codes.chunks(cols.max(1)).zip(&self.scales).zip(&rows.bias) {
            let step = f64::from(input.scale) * scale;
            let sum: i64 = codes.iter().map(|code| i64::from(*code)).sum();
            let bias = (f64::from(*bias) / step).round() - (sum * i64::from(input.zero)) as f64;
            let times = times(step / f64::from(output.scale));
            let what = || ErrorKind::Unsupported { what: "a row whose sums are coarser than its outputs".to_owned() };
            numbers.push(Row { bias: bias as i32, times: times.ok_or_else(what)? });
        }
        let kind = if self.bits.get() == 4 { Kind::Int4 } else { Kind::Int8 };
        let bytes = packed_bytes(cols, self.bits);
        let mut codes = vec![0; bytes * rows.count()];
        for (row, packed) in self.codes.chunks(cols.max(1)).zip(codes.chunks_mut(bytes.max(1))) {
            pack_row(Level::best(), self.bits, bytemuck::cast_slice(row), packed).map_err(|e| unlike(&e))?;
        }
        Ok(DraftTensor { kind, cols, codes, rows: numbers })
    }
}

/// The numbers of a constant vector of so many; zeros where there is none. None for another constant.
pub(crate) fn bias(graph: &Graph, value: Option<ValueId>, rows: usize) -> Option<Vec<f32>> {
    let Some(value) = value else { return Some(vec![0.0; rows]) };
    let all = graph.constant(value)?.get::<f32>()?;
    (all.len() == rows).then(|| all.to_vec())
}
