//! The inputs of products, in the order in which a kernel reads them.

use super::{CHUNK, SUMS};
use crate::simd::Level;
use crate::{Error, ErrorKind, stamp};

/// Columns that share a scale, where inputs are rounded.
pub(crate) const BLOCK: usize = 32;

/// In which order inputs stand, and whether they are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Floats in their order.
    Plain,
    /// Floats by chunks of 128: first those of columns 0, 8, 16, .., then of 1, 9, 17, ..
    Turned,
    /// Codes of 8 bits in their order, scale and sum for four columns.
    Fours,
    /// Codes of 8 bits by chunks of 128: first even columns, then odd ones; scale and sum for eight.
    Eights,
}

/// How long the parts of a [`Scratch`] are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Floats.
    pub floats: usize,
    /// Sums of codes.
    pub sums: usize,
    /// Codes.
    pub codes: usize,
}

/// Memory of the caller's for inputs in a form: as long as [`Form::sizes`] says.
#[derive(Debug)]
pub struct Scratch<'a> {
    /// Floats.
    pub floats: &'a mut [f32],
    /// Sums of codes.
    pub sums: &'a mut [i32],
    /// Codes.
    pub codes: &'a mut [i8],
}

/// One row of inputs, ready for products with many rows of weights.
///
/// ```
/// use niwaki_codes::product::{Form, Inputs, Scratch, Kernel};
/// use niwaki_codes::{Scheme, UniformView};
///
/// let Scheme::Uniform(scheme) = "int4/row/sym".parse()? else { unreachable!() };
/// let scale = 0.5f32.to_le_bytes();
/// let weights = UniformView::new(scheme, 1, 3, &[0x91, 0x0F], &scale, None)?; // -3.5 0.5 3.5
/// let x = Inputs::plain(&[1.0, 2.0, 3.0]);
/// let mut y = [0.0];
/// weights.products(Kernel::best(), 0..1, &x, &mut y)?;
/// assert_eq!(y, [8.0]);
/// # Ok::<(), niwaki_codes::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    len: usize,
    pub(super) kind: Kind<'a>,
}

/// What stands where; everything but plain floats is padded with zeros to whole chunks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind<'a> {
    Plain(&'a [f32]),
    /// Floats, and the sum of each eight columns.
    Turned(&'a [f32], &'a [f32]),
    Rounded(Rounded<'a>),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Rounded<'a> {
    pub(super) eights: bool,
    pub(super) codes: &'a [i8],
    /// One for each lane.
    pub(super) scales: &'a [f32],
    /// One for each lane.
    pub(super) sums: &'a [i32],
}

impl<'a> Rounded<'a> {
    /// Scales and sums of the lanes from a column on that begins a chunk, sixteen at a time.
    #[inline(always)]
    pub(super) fn lanes(&self, first: usize) -> (&'a [[f32; SUMS]], &'a [[i32; SUMS]]) {
        let lane = first / if self.eights { 8 } else { 4 };
        let (scales, sums) = (self.scales.get(lane..).unwrap_or(&[]), self.sums.get(lane..).unwrap_or(&[]));
        (scales.as_chunks().0, sums.as_chunks().0)
    }
}

impl Form {
    /// What a row of so many inputs takes in this form.
    pub const fn sizes(self, len: usize) -> Sizes {
        // Longer rows do not fit into memory, and are refused with the scratch.
        let padded = if len > isize::MAX as usize / 8 { usize::MAX } else { len.next_multiple_of(CHUNK) };
        match self {
            Self::Plain => Sizes { floats: 0, sums: 0, codes: 0 },
            Self::Turned => Sizes { floats: padded.saturating_add(padded / 8), sums: 0, codes: 0 },
            Self::Fours => Sizes { floats: padded / 4, sums: padded / 4, codes: padded },
            Self::Eights => Sizes { floats: padded / 8, sums: padded / 8, codes: padded },
        }
    }
}

impl<'a> Inputs<'a> {
    /// Floats as they are.
    pub const fn plain(x: &'a [f32]) -> Self {
        Self { len: x.len(), kind: Kind::Plain(x) }
    }

    /// Floats in a form. Rounded ones become `code * scale`, where 127 scales are the largest of a
    /// block of 32; where one is not finite, so is no product.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Range`] for scratch that is too short.
    pub fn new(level: Level, form: Form, x: &'a [f32], scratch: Scratch<'a>) -> Result<Self, Error> {
        let sizes = form.sizes(x.len());
        let Scratch { floats, sums, codes } = scratch;
        let floats = part(floats, sizes.floats)?;
        let (sums, codes) = (part(sums, sizes.sums)?, part(codes, sizes.codes)?);
        let kind = match form {
            Form::Plain => Kind::Plain(x),
            Form::Turned => {
                let (turned, sums) = floats.split_at_mut(sizes.floats / 9 * 8);
                turn(level, x, turned, sums);
                Kind::Turned(turned, sums)
            }
            Form::Fours => {
                round_fours(level, x, codes, floats, sums);
                Kind::Rounded(Rounded { eights: false, codes, scales: floats, sums })
            }
            Form::Eights => {
                round_eights(level, x, codes, floats, sums);
                Kind::Rounded(Rounded { eights: true, codes, scales: floats, sums })
            }
        };
        Ok(Self { len: x.len(), kind })
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Their form.
    pub const fn form(&self) -> Form {
        match self.kind {
            Kind::Plain(_) => Form::Plain,
            Kind::Turned(..) => Form::Turned,
            Kind::Rounded(Rounded { eights: false, .. }) => Form::Fours,
            Kind::Rounded(Rounded { eights: true, .. }) => Form::Eights,
        }
    }

    /// The floats, where they are as they were given.
    pub const fn as_plain(&self) -> Option<&'a [f32]> {
        match self.kind {
            Kind::Plain(x) => Some(x),
            _ => None,
        }
    }

    /// The input of a column, or what it was rounded to; none past the last.
    pub fn get(&self, column: usize) -> Option<f32> {
        let (first, at) = (column / CHUNK * CHUNK, column % CHUNK);
        match self.kind {
            Kind::Plain(x) => x.get(column).copied(),
            _ if column >= self.len => None,
            Kind::Turned(x, _) => x.get(first + at % 8 * SIXTEENTH + at / 8).copied(),
            Kind::Rounded(Rounded { eights: true, codes, scales, .. }) => {
                let code = codes.get(first + at % 2 * (CHUNK / 2) + at / 2)?;
                Some(scales.get(column / 8)? * f32::from(*code))
            }
            Kind::Rounded(Rounded { codes, scales, .. }) => {
                Some(scales.get(column / 4)? * f32::from(*codes.get(column)?))
            }
        }
    }

    /// Those from `first`, a multiple of 128, on, as floats in their order; zeros past the last.
    pub(super) fn floats(&self, first: usize, out: &mut [f32; CHUNK]) {
        out.fill(0.0);
        match self.kind {
            Kind::Plain(x) => {
                let from = x.get(first..).unwrap_or(&[]);
                out.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            }
            Kind::Turned(x, _) => {
                let chunk = x.get(first..).unwrap_or(&[]);
                for (at, from) in chunk.iter().take(CHUNK).enumerate() {
                    out[at % SIXTEENTH * 8 + at / SIXTEENTH] = *from;
                }
            }
            Kind::Rounded(Rounded { eights, codes, scales, .. }) => {
                let wide = if eights { 8 } else { 4 };
                let chunk = codes.get(first..).unwrap_or(&[]);
                for (at, code) in chunk.iter().take(CHUNK).enumerate() {
                    let column = if eights { at % (CHUNK / 2) * 2 + at / (CHUNK / 2) } else { at };
                    let scale = scales.get((first + column) / wide).copied().unwrap_or(0.0);
                    out[column] = scale * f32::from(*code);
                }
            }
        }
    }
}

/// Lanes of a chunk.
const SIXTEENTH: usize = CHUNK / 8;

fn part<T>(all: &mut [T], needs: usize) -> Result<&mut [T], Error> {
    let has = all.len();
    all.get_mut(..needs).ok_or_else(|| ErrorKind::Range { needs, has }.into())
}

stamp! {
    fn turn = turn_body(x: &[f32], turned: &mut [f32], sums: &mut [f32]) -> ();
}

#[inline(always)]
fn turn_body(x: &[f32], turned: &mut [f32], sums: &mut [f32]) {
    let chunks = turned.as_chunks_mut::<CHUNK>().0.iter_mut().zip(sums.as_chunks_mut::<SIXTEENTH>().0);
    for ((turned, sums), x) in chunks.zip(x.chunks(CHUNK)) {
        let mut whole = [0.0; CHUNK];
        whole.iter_mut().zip(x).for_each(|(to, from)| *to = *from);
        for (lane, (eight, sum)) in whole.as_chunks::<8>().0.iter().zip(sums).enumerate() {
            for (place, x) in eight.iter().enumerate() {
                turned[place * SIXTEENTH + lane] = *x;
            }
            let [a, b, c, d, e, f, g, h] = *eight;
            *sum = ((a + b) + (c + d)) + ((e + f) + (g + h));
        }
    }
}

stamp! {
    fn round_fours = fours_body(x: &[f32], codes: &mut [i8], scales: &mut [f32], sums: &mut [i32]) -> ();
}

stamp! {
    fn round_eights = eights_body(x: &[f32], codes: &mut [i8], scales: &mut [f32], sums: &mut [i32]) -> ();
}

#[inline(always)]
fn fours_body(x: &[f32], codes: &mut [i8], scales: &mut [f32], sums: &mut [i32]) {
    // The padding of a chunk is whole blocks.
    let mut x = x.chunks(BLOCK);
    let lanes = scales.as_chunks_mut::<8>().0.iter_mut().zip(sums.as_chunks_mut::<8>().0);
    for (codes, (scales, sums)) in codes.as_chunks_mut::<BLOCK>().0.iter_mut().zip(lanes) {
        let scale;
        (*codes, scale) = round(x.next().unwrap_or(&[]));
        *scales = [scale; 8];
        for (four, sum) in codes.as_chunks::<4>().0.iter().zip(sums) {
            *sum = four.iter().map(|code| i32::from(*code)).sum();
        }
    }
}

#[inline(always)]
fn eights_body(x: &[f32], codes: &mut [i8], scales: &mut [f32], sums: &mut [i32]) {
    let mut x = x.chunks(BLOCK);
    let lanes = scales.as_chunks_mut::<SIXTEENTH>().0.iter_mut().zip(sums.as_chunks_mut::<SIXTEENTH>().0);
    for (codes, (scales, sums)) in codes.as_chunks_mut::<CHUNK>().0.iter_mut().zip(lanes) {
        for block in 0..CHUNK / BLOCK {
            let (rounded, scale) = round(x.next().unwrap_or(&[]));
            for (lane, eight) in rounded.as_chunks::<8>().0.iter().enumerate() {
                scales[block * 4 + lane] = scale;
                sums[block * 4 + lane] = eight.iter().map(|code| i32::from(*code)).sum();
            }
            for (at, [even, odd]) in rounded.as_chunks::<2>().0.iter().enumerate() {
                codes[block * BLOCK / 2 + at] = *even;
                codes[CHUNK / 2 + block * BLOCK / 2 + at] = *odd;
            }
        }
    }
}

/// Rounds a block to codes from -127 to 127, ties to even; its scale is not finite where an input is not.
#[inline(always)]
fn round(x: &[f32]) -> ([i8; BLOCK], f32) {
    /// Added and taken away, it leaves the nearest whole number.
    const WHOLE: f32 = 12_582_912.0;
    let mut whole = [0.0; BLOCK];
    whole.iter_mut().zip(x).for_each(|(to, from)| *to = *from);
    let (mut largest, mut finite) = (0.0f32, true);
    for x in &whole {
        let size = f32::from_bits(x.to_bits() & 0x7FFF_FFFF);
        largest = if size > largest { size } else { largest };
        finite &= size <= f32::MAX;
    }
    let scale = largest / 127.0;
    // Blocks too small for the scale's reciprocal are zeros.
    let times = if scale >= f32::MIN_POSITIVE && finite { 127.0 / largest } else { 0.0 };
    let codes = whole.map(|x| ((x * times + WHOLE).to_bits() as i32).wrapping_sub(WHOLE.to_bits() as i32) as i8);
    (codes, if finite { scale } else { f32::NAN })
}
