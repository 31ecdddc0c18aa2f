//! The codes of blocks, one a byte, apart from the scales among them.
//!
//! A field of `width` bits in runs of `run` bytes holds code `i` in this place:
//!
//! ```text
//! byte    at + run * floor(i / (run * 8 / width)) + i mod run
//! bit     width * (floor(i / run) mod (8 / width))
//! ```
//!
//! Each type has its codes in one such field, or the low and the high bits in two.

use crate::{Bits, BlockType, Error, ErrorKind, stamp};

/// Where some bits of the codes of a block lie.
#[derive(Clone, Copy)]
struct Field {
    at: usize,
    width: u32,
    run: usize,
}

const fn field(at: usize, width: u32, run: usize) -> Field {
    Field { at, width, run }
}

impl BlockType {
    /// The width of its codes.
    pub const fn code_bits(self) -> Bits {
        let (low, high) = self.fields();
        let high = if let Some(high) = high { high.width } else { 0 };
        if let Ok(bits) = Bits::new(low.width + high) { bits } else { Bits::MAX }
    }

    /// The fields of the low and the high bits.
    const fn fields(self) -> (Field, Option<Field>) {
        match self {
            Self::Q4_0 | Self::Iq4Nl => (field(2, 4, 16), None),
            Self::Q4_1 => (field(4, 4, 16), None),
            Self::Q5_0 => (field(6, 4, 16), Some(field(2, 1, 1))),
            Self::Q5_1 => (field(8, 4, 16), Some(field(4, 1, 1))),
            Self::Q8_0 => (field(2, 8, 32), None),
            Self::Q2K => (field(16, 2, 32), None),
            Self::Q3K => (field(32, 2, 32), Some(field(0, 1, 32))),
            Self::Q4K => (field(16, 4, 32), None),
            Self::Q5K => (field(48, 4, 32), Some(field(16, 1, 32))),
            Self::Q6K => (field(0, 4, 64), Some(field(128, 2, 32))),
            Self::Iq4Xs => (field(8, 4, 16), None),
            Self::Mxfp4 => (field(1, 4, 16), None),
        }
    }

    /// What is added to the numbers that are stored, modulo 2^8: those of Q8_0 have a sign, codes none.
    const fn lifted(self) -> u8 {
        match self {
            Self::Q8_0 => 128,
            _ => 0,
        }
    }
}

/// Unpacks the codes of consecutive blocks, one a byte, in the order of the weights: `q` of
/// `FORMAT.md` 13, and of [`BlockType::Q8_0`] `q + 128`.
///
/// # Errors
///
/// [`ErrorKind::BlockRow`] unless `codes` is a whole number of blocks, [`ErrorKind::Range`]
/// unless `blocks` has the bytes of as many.
pub fn unpack_blocks(level: crate::simd::Level, kind: BlockType, blocks: &[u8], codes: &mut [u8]) -> Result<(), Error> {
    same_blocks(kind, blocks.len(), codes.len())?;
    unpack(level, kind, blocks, codes);
    Ok(())
}

/// Packs codes, as [`unpack_blocks`] gives them, into consecutive blocks, whose scales and
/// minima stay. Bits of a code above its width are dropped.
///
/// # Errors
///
/// Those of [`unpack_blocks`].
///
/// # Examples
///
/// ```
/// use niwaki_codes::{BlockType, pack_blocks, simd::Level, unpack_blocks};
///
/// let mut block = [0x11; 18];
/// let mut codes = [0; 32];
/// unpack_blocks(Level::best(), BlockType::Q4_0, &block, &mut codes)?;
/// assert_eq!(codes, [1; 32]);
/// codes[16] = 15;
/// pack_blocks(Level::best(), BlockType::Q4_0, &codes, &mut block)?;
/// assert_eq!(block[..4], [0x11, 0x11, 0xF1, 0x11]);
/// # Ok::<(), niwaki_codes::Error>(())
/// ```
pub fn pack_blocks(level: crate::simd::Level, kind: BlockType, codes: &[u8], blocks: &mut [u8]) -> Result<(), Error> {
    same_blocks(kind, blocks.len(), codes.len())?;
    pack(level, kind, codes, blocks);
    Ok(())
}

fn same_blocks(kind: BlockType, has: usize, codes: usize) -> Result<(), Error> {
    let needs = kind.row_bytes(codes)?;
    if needs == has { Ok(()) } else { Err(ErrorKind::Range { needs, has }.into()) }
}

stamp! {
    fn unpack = unpack_body(kind: BlockType, blocks: &[u8], codes: &mut [u8]) -> ();
}

stamp! {
    fn pack = pack_body(kind: BlockType, codes: &[u8], blocks: &mut [u8]) -> ();
}

#[inline(always)]
fn unpack_body(kind: BlockType, blocks: &[u8], codes: &mut [u8]) {
    let ((low, high), lifted) = (kind.fields(), kind.lifted());
    let pairs = blocks.chunks_exact(kind.bytes()).zip(codes.chunks_exact_mut(kind.elements()));
    for (block, codes) in pairs {
        codes.fill(lifted);
        spread(low, 0, block, codes);
        if let Some(high) = high {
            spread(high, low.width, block, codes);
        }
    }
}

#[inline(always)]
fn pack_body(kind: BlockType, codes: &[u8], blocks: &mut [u8]) {
    let ((low, high), lifted) = (kind.fields(), kind.lifted());
    let pairs = blocks.chunks_exact_mut(kind.bytes()).zip(codes.chunks_exact(kind.elements()));
    for (block, codes) in pairs {
        gather(low, (0, lifted), block, codes);
        if let Some(high) = high {
            gather(high, (low.width, lifted), block, codes);
        }
    }
}

impl Field {
    /// The lowest bits, as many as the field has of a code.
    #[inline(always)]
    const fn mask(self) -> u8 {
        (0xFFu16 >> (8 - self.width)) as u8
    }

    /// Of each run of codes, the first byte and the lowest bit.
    #[inline(always)]
    fn places(self) -> impl Iterator<Item = (usize, u32)> {
        let each = 8 / self.width as usize;
        (0..).map(move |run| (self.at + run / each * self.run, (run % each) as u32 * self.width))
    }
}

/// Adds the bits of a field to codes, where they begin with bit `up`.
#[inline(always)]
fn spread(field: Field, up: u32, block: &[u8], codes: &mut [u8]) {
    for (codes, (at, bit)) in codes.chunks_exact_mut(field.run).zip(field.places()) {
        for (code, byte) in codes.iter_mut().zip(block.get(at..).unwrap_or(&[])) {
            *code = code.wrapping_add((*byte >> bit & field.mask()) << up);
        }
    }
}

/// Writes the bits of codes from `up` on into a field of a block.
#[inline(always)]
fn gather(field: Field, (up, lifted): (u32, u8), block: &mut [u8], codes: &[u8]) {
    for (codes, (at, bit)) in codes.chunks_exact(field.run).zip(field.places()) {
        for (code, byte) in codes.iter().zip(block.get_mut(at..).unwrap_or(&mut [])) {
            let bits = code.wrapping_sub(lifted) >> up & field.mask();
            *byte = *byte & !(field.mask() << bit) | bits << bit;
        }
    }
}
