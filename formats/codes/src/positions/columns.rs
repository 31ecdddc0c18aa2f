//! The columns of kept weights, row by row: runs of positions at a time.

use super::{Cursor, PositionsView};
#[cfg(target_arch = "x86_64")]
use crate::simd::Avx512;
use crate::simd::Level;

/// Wider low codes and longer rows are read by the scalar kernel.
#[cfg(target_arch = "x86_64")]
const LOW_BITS: u32 = 16;
#[cfg(target_arch = "x86_64")]
const COLS: usize = 1 << 30;

/// Columns that one step of a reader takes: room for fewer is not used.
pub const STEP: usize = 16;

/// Reads the columns of the kept weights of one row after the other.
///
/// ```
/// use niwaki_codes::{PositionsView, simd::Level};
///
/// // Positions 3, 17, 18, 41 and 79 of 80, in rows of 40.
/// let view = PositionsView::new(80, 5, &[0x2d, 0x01, 0x13, 0x92, 0x0f])?;
/// let (mut columns, mut room) = (view.columns(40, 0, 0), [0; 16]);
/// let count = columns.read(Level::best(), &mut room);
/// assert_eq!(room[..count], [3, 17, 18]);
/// assert_eq!(columns.read(Level::best(), &mut room), 0);
/// columns.next_row();
/// let count = columns.read(Level::best(), &mut room);
/// assert_eq!((&room[..count], columns.before()), (&[1, 39][..], 5));
/// # Ok::<(), niwaki_codes::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Columns<'a> {
    view: PositionsView<'a>,
    cols: usize,
    /// Flat index of the first weight of the row.
    first: usize,
    /// The bit of the upper part that is read next.
    bit: usize,
    /// The number of the kept weight that comes next.
    index: usize,
    /// Whether it is of a later row, or there is none.
    done: bool,
}

impl<'a> PositionsView<'a> {
    /// The columns of the kept weights of the rows from `row` on, where rows have `cols` weights and
    /// those before it keep `before`: [`kept_in`](Self::kept_in) counts them.
    pub fn columns(&self, cols: usize, row: usize, before: usize) -> Columns<'a> {
        let mut columns =
            Columns { view: *self, cols, first: row.saturating_mul(cols), bit: 0, index: before, done: true };
        columns.begin();
        columns
    }
}

impl Columns<'_> {
    /// How many kept weights come before the next one.
    pub fn before(&self) -> usize {
        self.index
    }

    /// Goes on to the next row, from the end of a row.
    pub fn next_row(&mut self) {
        self.first = self.first.saturating_add(self.cols);
        self.begin();
    }

    fn begin(&mut self) {
        self.bit = (self.first >> self.view.sizes.low_bits).saturating_add(self.index);
        self.done = false;
    }

    /// Reads the columns of the next kept weights of the row, as many as there is room for or up to
    /// [`STEP`] fewer, and says how many they are: none at its end. Of positions that ascend all are
    /// columns of the row; what stands for one below the row is none of them.
    pub fn read(&mut self, level: Level, out: &mut [u32]) -> usize {
        #[cfg(target_arch = "x86_64")]
        if let Level::Avx512(proof) = level
            && self.view.sizes.low_bits <= LOW_BITS
            && self.cols <= COLS
        {
            return self.read_avx512(proof, out);
        }
        let _ = level;
        self.read_scalar(out)
    }

    /// The definition, but that the other kernel leaves room at times.
    fn read_scalar(&mut self, out: &mut [u32]) -> usize {
        let (mut cursor, mut count) = (Cursor::at(self.view, self.bit, self.index), 0);
        let end = self.first.saturating_add(self.cols);
        for out in out {
            match cursor.advance() {
                Some((place, _)) if place < end && !self.done => *out = self.column(place),
                _ => {
                    self.done = true;
                    break;
                }
            }
            count += 1;
        }
        (self.bit, self.index) = (cursor.bit(), self.index + count);
        count
    }

    /// The column of a place; one that there is not for a place below the row.
    #[inline(always)]
    fn column(&self, place: usize) -> u32 {
        place.checked_sub(self.first).and_then(|column| u32::try_from(column).ok()).unwrap_or(u32::MAX)
    }

    #[cfg(target_arch = "x86_64")]
    fn read_avx512(&mut self, _: Avx512, out: &mut [u32]) -> usize {
        // SAFETY: an `Avx512` is only made by `Avx512::detect`, which saw the features.
        unsafe { self.steps(out) }
    }

    /// Sixteen bits of the upper part at a time: the places of those set are compressed into lanes, and
    /// each lane takes its low code from two words of 16 bits.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2")]
    fn steps(&mut self, out: &mut [u32]) -> usize {
        use core::arch::x86_64::*;

        let (sizes, mut count) = (self.view.sizes, 0);
        let (cols, width) = (_mm512_set1_epi32(self.cols as i32), sizes.low_bits as usize);
        let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let begins = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(width as i32));
        let mask = _mm512_set1_epi32(sizes.low_mask() as i32);
        let shift = _mm_cvtsi32_si128(width as i32);
        while let Some(out) = out.get_mut(count..).and_then(|out| out.first_chunk_mut::<STEP>()) {
            // Where a bit counted from here on stands for the first weight of its stretch.
            let base = (self.bit.wrapping_sub(self.index) << width).wrapping_sub(self.first) as isize;
            if self.done || self.index >= self.view.kept || base >= self.cols as isize {
                self.done = true;
                break;
            }
            let set = self.sixteen_bits();
            let bit = self.index * width;
            let starts = _mm512_add_epi32(begins, _mm512_set1_epi32((bit % 8) as i32));
            let word = _mm512_srli_epi32::<4>(starts);
            let words =
                _mm512_add_epi32(_mm512_or_si512(word, _mm512_slli_epi32::<16>(word)), _mm512_set1_epi32(1 << 16));
            let bytes = self.view.lower.get(bit / 8..).unwrap_or(&[]);
            let some = u64::MAX.checked_shr(64 - bytes.len().min(64) as u32).unwrap_or(0);
            // SAFETY: bytes are read that are there.
            let bytes = unsafe { _mm512_maskz_loadu_epi8(some, bytes.as_ptr().cast()) };
            let pairs = _mm512_permutexvar_epi16(words, bytes);
            let low = _mm512_and_si512(_mm512_srlv_epi32(pairs, _mm512_and_si512(starts, _mm512_set1_epi32(15))), mask);
            let high = _mm512_sub_epi32(_mm512_maskz_compress_epi32(set, lanes), lanes);
            let place =
                _mm512_add_epi32(_mm512_or_si512(_mm512_sll_epi32(high, shift), low), _mm512_set1_epi32(base as i32));
            // SAFETY: there is room for sixteen numbers.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), place) }
            let mut n = (set.count_ones() as usize).min(self.view.kept - self.index);
            let later = _mm512_cmpge_epi32_mask(place, cols).trailing_zeros() as usize;
            if later < n {
                (n, self.done) = (later, true);
            }
            (self.bit, self.index, count) = (self.bit + STEP, self.index + n, count + n);
        }
        count
    }

    /// The sixteen bits of the upper part that come next; clear ones past its end.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn sixteen_bits(&self) -> u16 {
        let bytes = self.view.upper.get(self.bit / 8..).unwrap_or(&[]);
        let mut word = [0; 4];
        let word = match bytes.first_chunk() {
            Some(word) => u32::from_le_bytes(*word),
            None => {
                word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                u32::from_le_bytes(word)
            }
        };
        (word >> (self.bit % 8)) as u16
    }
}
