//! Bytes read as a list of choices.

use std::num::NonZeroU32;

use niwaki_codes::floats::{Blocks, Float};
use niwaki_codes::{Bits, BlockType, Elastic, GroupSize, Grouping, Scheme, Symmetry, Uniform, Widths};

/// The bytes that are left. Past their end everything is zero.
pub(crate) struct Script<'a> {
    rest: &'a [u8],
}

impl<'a> Script<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let (first, rest) = self.rest.split_first().unwrap_or((&0, &[]));
        self.rest = rest;
        *first
    }

    /// Below 240 the byte itself, modulo 40; above, eight bytes: a size that nothing fits.
    pub(crate) fn size(&mut self) -> usize {
        match self.byte() {
            small @ 0..240 => usize::from(small % 40),
            _ => u64::from_le_bytes(std::array::from_fn(|_| self.byte())) as usize,
        }
    }

    /// A part of a tensor. The first byte chooses: 0 is no part; below 200 it has `needs`
    /// bytes, the script's own over and over; above, the script's own, so many.
    pub(crate) fn part(&mut self, needs: usize) -> Option<Vec<u8>> {
        match self.byte() {
            0 => None,
            1..200 if needs <= 1 << 14 => {
                let own = self.take(needs);
                let own = if own.is_empty() { &[0x5a] } else { own };
                Some(own.iter().copied().cycle().take(needs).collect())
            }
            other => Some(self.take(usize::from(other) % 64).to_vec()),
        }
    }

    fn take(&mut self, n: usize) -> &'a [u8] {
        let (now, rest) = self.rest.split_at(n.min(self.rest.len()));
        self.rest = rest;
        now
    }

    fn group(&mut self) -> GroupSize {
        GroupSize::new(self.size().saturating_add(1)).or_else(|_| GroupSize::new(64)).expect("64 is a group size")
    }

    fn bits(&mut self) -> Bits {
        Bits::new(u32::from(2 + self.byte() % 7)).expect("2 to 8")
    }

    pub(crate) fn uniform(&mut self) -> Uniform {
        let bits = self.bits();
        let kind = self.byte();
        let grouping = match kind % 4 {
            0 => Grouping::Tensor,
            1 => Grouping::Row,
            _ => Grouping::Group(self.group()),
        };
        let symmetry = if kind & 64 == 0 { Symmetry::Symmetric } else { Symmetry::Affine };
        let scheme = Uniform::new(bits, grouping, symmetry);
        if kind & 128 == 0 { scheme } else { scheme.with_f32_scales() }
    }

    pub(crate) fn elastic(&mut self) -> Elastic {
        let set = self.byte();
        let widths = Widths::new(Bits::all().filter(|bits| set >> (bits.get() - 2) & 1 == 1));
        Elastic { group: self.group(), widths: widths.unwrap_or(Widths::ALL) }
    }

    pub(crate) fn block(&mut self) -> BlockType {
        BlockType::ALL[usize::from(self.byte()) % BlockType::ALL.len()]
    }

    pub(crate) fn float(&mut self) -> Float {
        let kind = self.byte();
        match kind % 8 {
            0 => Float::Fp8E4m3(Blocks::Tensor),
            1 => Float::Fp8E4m3(Blocks::Row),
            2 | 3 => {
                let side = u32::try_from(self.size()).ok().and_then(NonZeroU32::new);
                Float::Fp8E4m3(Blocks::Square(side.unwrap_or(NonZeroU32::MAX)))
            }
            4 => Float::Mxfp4,
            5 => Float::Nvfp4,
            _ => Float::Nf4(self.group()),
        }
    }

    pub(crate) fn scheme(&mut self) -> Scheme {
        match self.byte() % 2 {
            0 => Scheme::Uniform(self.uniform()),
            _ => Scheme::Elastic(self.elastic()),
        }
    }
}
