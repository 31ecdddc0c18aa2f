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

/// Bits that are read at a time, and columns.
#[cfg(target_arch = "x86_64")]
const STEP: usize = 16;

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

    /// Reads the columns of the next kept weights of the row, as many as there is room for or somewhat
    /// fewer, and says how many they are: none at its end. Of positions that ascend all are
    /// columns of the row; what stands for one below the row is none of them.
    pub fn read(&mut self, level: Level, out: &mut [u32]) -> usize {
        #[cfg(target_arch = "x86_64")]
        if let Level::Avx512(proof) = level
            && self.view.sizes.low_bits <= LOW_BITS
            && self.cols <= COLS
            && !self.done
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
        let count = unsafe {
            let (first, bits) = self.bits(out);
            self.columns(first, out.get_mut(..bits).unwrap_or_default())
        };
        // Few bytes are left, and read one by one.
        if count == 0 && !self.done { self.read_scalar(out) } else { count }
    }

    /// The places of the next set bits of the upper part, counted from the first that is said, as many as
    /// there is room for or may be of the row; says how many they are, and goes on behind them.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2,popcnt")]
    fn bits(&mut self, out: &mut [u32]) -> (usize, usize) {
        use core::arch::x86_64::*;

        let (first, mut count) = (self.bit / 8, 0);
        let (pairs, mut mask) =
            (self.view.upper.get(first..).unwrap_or(&[]).as_chunks::<2>().0, u16::MAX << (self.bit % 8));
        // Bits from here on, less the kept weights before them, are of later rows.
        let last = (self.first.saturating_add(self.cols) >> self.view.sizes.low_bits).saturating_add(self.index);
        let mut places = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        for (at, pair) in pairs.iter().enumerate() {
            let room = out.get_mut(count..).and_then(|out| out.first_chunk_mut::<STEP>());
            let Some(room) = room.filter(|_| (first * 8 + at * STEP).saturating_sub(count) <= last) else { break };
            let set = u16::from_le_bytes(*pair) & mask;
            // SAFETY: there is room for sixteen numbers.
            unsafe { _mm512_storeu_si512(room.as_mut_ptr().cast(), _mm512_maskz_compress_epi32(set, places)) }
            places = _mm512_add_epi32(places, _mm512_set1_epi32(STEP as i32));
            (count, mask) = (count + set.count_ones() as usize, u16::MAX);
            self.bit = first * 8 + (at + 1) * STEP;
        }
        (first * 8, count)
    }

    /// Makes columns of places of bits counted from `first`, sixteen at a time, up to the end of the row or
    /// of the low codes: each lane takes its low code from two words of 16 bits.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2,popcnt")]
    fn columns(&mut self, first: usize, places: &mut [u32]) -> usize {
        use core::arch::x86_64::*;

        let (width, index) = (self.view.sizes.low_bits as usize, self.index);
        let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        // Sixteen codes are whole bytes: all sixteens begin with the same bit of a byte.
        let begins = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(width as i32));
        let begins = _mm512_add_epi32(begins, _mm512_set1_epi32((index.wrapping_mul(width) % 8) as i32));
        let word = _mm512_srli_epi32::<4>(begins);
        let words = _mm512_or_si512(word, _mm512_slli_epi32::<16>(_mm512_add_epi32(word, _mm512_set1_epi32(1))));
        let down = _mm512_and_si512(begins, _mm512_set1_epi32(15));
        let (mask, up) = (_mm512_set1_epi32(self.view.sizes.low_mask() as i32), _mm_cvtsi32_si128(width as i32));
        let cols = _mm512_set1_epi32(self.cols as i32);
        let low = self.view.lower.get(index.wrapping_mul(width) / 8..).unwrap_or(&[]);
        let mut count = 0;
        for (nth, places) in places.chunks_mut(STEP).enumerate() {
            let some = u16::MAX >> (STEP - places.len());
            let Some(low) = low.get(nth * 2 * width..).and_then(|low| low.first_chunk::<64>()) else {
                self.bit = first + places.first().map_or(0, |place| *place as usize);
                break;
            };
            // Where the first bit of all stands for the first weight of its stretch.
            let base = (first.wrapping_sub(index + count) << width).wrapping_sub(self.first);
            // SAFETY: there are 64 bytes, and the mask lets only places be read that there are.
            let (low, at) = unsafe {
                (_mm512_loadu_si512(low.as_ptr().cast()), _mm512_maskz_loadu_epi32(some, places.as_ptr().cast()))
            };
            let low = _mm512_and_si512(_mm512_srlv_epi32(_mm512_permutexvar_epi16(words, low), down), mask);
            let high = _mm512_sll_epi32(_mm512_sub_epi32(at, lanes), up);
            let column = _mm512_add_epi32(_mm512_add_epi32(high, low), _mm512_set1_epi32(base as i32));
            // SAFETY: the mask lets only places be written that there are.
            unsafe { _mm512_mask_storeu_epi32(places.as_mut_ptr().cast(), some, column) }
            let later = _mm512_mask_cmpge_epi32_mask(some, column, cols);
            if later != 0 {
                count += later.trailing_zeros() as usize;
                self.done = true;
                break;
            }
            count += places.len();
        }
        self.index += count;
        count
    }
}
