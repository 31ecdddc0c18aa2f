//! Products of matrices of single floats.
//!
//! The columns of the right matrix are copied into panels as wide as two or three registers, a block of its
//! rows at a time, so that they stand one after the other in a second-level cache; the left matrix is
//! taken as it lies. A tile of `R` rows by one panel stays in registers while a block goes by. Each
//! element is summed in the order of k, block after block: it does not hang on tiles, nor on threads.

use niwaki_codes::simd::Level;
use rayon::prelude::*;

use super::vector::{LANES, Lanes};

/// Registers of a panel, where there are sixteen of them: twelve sums, two of the panel, one of the left matrix.
const NARROW: usize = 2;

/// Where there are more.
const WIDE: usize = 3;

/// Rows of the right matrix that are copied at a time.
const BLOCK: usize = 512;

/// Products below which threads are not worth their start.
const SMALL: usize = 1 << 16;

/// A matrix where it stands: rows, and columns, are so many elements apart.
#[derive(Clone, Copy)]
pub(crate) struct Side {
    pub(crate) from: *const f32,
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl Side {
    /// Copies a block of a matrix's rows, and a panel of its columns, filled with zeros.
    #[inline(always)]
    unsafe fn copy(
        &self,
        panel: &mut [f32],
        width: usize,
        (start, deep): (usize, usize),
        (first, count): (usize, usize),
    ) {
        let Self { from, row, column } = *self;
        // SAFETY: the caller's promise: rows and columns that the matrix has.
        unsafe {
            let from = from.add(start * row + first * column);
            if column == 1 {
                for (t, panel) in panel.chunks_exact_mut(width).take(deep).enumerate() {
                    let row = std::slice::from_raw_parts(from.add(t * row), count);
                    if count == width {
                        let (whole, _) = row.as_chunks::<LANES>();
                        let (to, _) = panel.as_chunks_mut::<LANES>();
                        for (to, from) in to.iter_mut().zip(whole) {
                            *to = *from;
                        }
                    } else {
                        panel[..count].copy_from_slice(row);
                        panel[count..].fill(0.0);
                    }
                }
                return;
            }
            if count < width {
                panel[..deep * width].fill(0.0);
            }
            // Squares of eight by eight, where the rows of the matrix stand side by side.
            let squares = if row == 1 { [deep / LANES * LANES, count / LANES * LANES] } else { [0, 0] };
            for t in (0..squares[0]).step_by(LANES) {
                for j in (0..squares[1]).step_by(LANES) {
                    let mut square = [[0.0f32; LANES]; LANES];
                    for (k, line) in square.iter_mut().enumerate() {
                        *line = from.add((j + k) * column + t).cast::<[f32; LANES]>().read_unaligned();
                    }
                    for k in 0..LANES {
                        let mut line = [0.0f32; LANES];
                        for (x, other) in line.iter_mut().zip(&square) {
                            *x = other[k];
                        }
                        let to = panel.as_mut_ptr().add((t + k) * width + j);
                        to.cast::<[f32; LANES]>().write_unaligned(line);
                    }
                }
            }
            for j in 0..count {
                let first = if j < squares[1] { squares[0] } else { 0 };
                for t in first..deep {
                    *panel.get_unchecked_mut(t * width + j) = *from.add(j * column + t * row);
                }
            }
        }
    }
}

/// The right matrix.
#[derive(Clone, Copy)]
pub(crate) enum Right {
    Lies(Side),
    /// In the panels of a [`Packed`].
    Panels(*const f32),
}

/// A right matrix of `k` by `n` in panels: all rows of one after the other, filled with zeros.
#[derive(Debug)]
pub(crate) struct Packed {
    k: usize,
    n: usize,
    level: Level,
    panels: Vec<f32>,
}

impl Packed {
    /// # Safety
    ///
    /// All elements stand where the strides say.
    pub(crate) unsafe fn new([k, n]: [usize; 2], right: Side) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::at(Level::best(), [k, n], right) }
    }

    unsafe fn at(level: Level, [k, n]: [usize; 2], right: Side) -> Self {
        let width = width(level);
        let mut panels = vec![0.0; k * n.next_multiple_of(width)];
        for (nth, panel) in panels.chunks_exact_mut((k * width).max(1)).enumerate() {
            let first = nth * width;
            // SAFETY: the caller's promise: rows and columns that the matrix has.
            unsafe { right.copy(panel, width, (0, k), (first, width.min(n - first))) };
        }
        Self { k, n, level, panels }
    }

    /// Rows and columns.
    pub(crate) fn size(&self) -> [usize; 2] {
        [self.k, self.n]
    }

    /// As a product takes it.
    pub(crate) fn right(&self) -> Right {
        assert!(self.level == Level::best(), "panels of another processor");
        Right::Panels(self.panels.as_ptr())
    }
}

/// Columns of a panel.
fn width(level: Level) -> usize {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(_) => 2 * WIDE * LANES,
        _ => NARROW * LANES,
    }
}

/// Rows of the left matrix that are taken at once.
fn height(level: Level) -> usize {
    match level {
        Level::Scalar => 4,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(_) => 6,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(_) => 8,
    }
}

/// What is multiplied: `m` rows by `k`, `k` by `n`; and where it goes, each row in one piece.
#[derive(Clone, Copy)]
pub(crate) struct Product {
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
    pub(crate) left: Side,
    pub(crate) right: Right,
    pub(crate) out: *mut f32,
    pub(crate) out_row: usize,
    /// Whether the product is added to what is there.
    pub(crate) add: bool,
    /// What it is multiplied with.
    pub(crate) scale: f32,
}

// SAFETY: threads write panels of columns and blocks of rows that do not overlap; the sides are only read.
unsafe impl Sync for Product {}

impl Product {
    /// Computes it; on all threads where that is asked and worth it.
    ///
    /// # Safety
    ///
    /// All elements stand where the strides say; nobody else looks at the target or changes the sides.
    pub(crate) unsafe fn run(&self, parallel: bool) {
        // SAFETY: the caller's promise.
        unsafe { self.at(Level::best(), parallel) }
    }

    unsafe fn at(&self, level: Level, parallel: bool) {
        let width = width(level);
        let panels = self.n.div_ceil(width);
        let threads = rayon::current_num_threads();
        if !parallel || threads == 1 || self.m.saturating_mul(self.n).saturating_mul(self.k) < SMALL {
            // SAFETY: the caller's promise.
            return (0..panels).for_each(|panel| unsafe { self.panel(level, panel * width, 0, self.m) });
        }
        // Few panels are shared by several threads, which copy them each.
        let shares = (2 * threads).div_ceil(panels).min(self.m.div_ceil(64)).max(1);
        let rows = self.m.div_ceil(shares).next_multiple_of(height(level));
        (0..panels * shares).into_par_iter().for_each(|at| {
            let (panel, share) = (at / shares, at % shares);
            let first = (share * rows).min(self.m);
            // SAFETY: the caller's promise; panels and rows are other ones for every task.
            unsafe { self.panel(level, panel * width, first, (first + rows).min(self.m)) };
        });
    }

    /// Some rows of the panel of columns from `first` on.
    unsafe fn panel(&self, level: Level, first: usize, from: usize, to: usize) {
        if from >= to {
            return;
        }
        // SAFETY: the caller's promise, and the level proves the features.
        unsafe {
            match level {
                Level::Scalar => self.blocks::<[f32; LANES], 4, NARROW>(first, from, to),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2(_) => self.avx2(first, from, to),
                #[cfg(target_arch = "x86_64")]
                Level::Avx512(_) => self.avx512(first, from, to),
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2(&self, first: usize, from: usize, to: usize) {
        // SAFETY: the caller keeps the contract of `run`.
        unsafe { self.blocks::<std::arch::x86_64::__m256, 6, NARROW>(first, from, to) }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,avx512f,avx512dq,avx512vl")]
    unsafe fn avx512(&self, first: usize, from: usize, to: usize) {
        // SAFETY: the caller keeps the contract of `run`.
        unsafe { self.blocks::<std::arch::x86_64::__m512, 8, WIDE>(first, from, to) }
    }

    /// # Safety
    ///
    /// As [`run`](Self::run), and this CPU has what `S` needs.
    #[inline(always)]
    unsafe fn blocks<S: Lanes, const R: usize, const W: usize>(&self, first: usize, from: usize, to: usize) {
        let width = W * LANES * S::PARTS;
        let count = width.min(self.n - first);
        // Not in a closure: it would be compiled without the instructions of `S`.
        let mut panel = PANEL.take();
        if let Right::Lies(_) = self.right {
            panel.resize(BLOCK.min(self.k) * width, 0.0);
        }
        let mut start = 0;
        while start < self.k {
            let deep = BLOCK.min(self.k - start);
            // SAFETY: the caller's promise.
            unsafe {
                let (place, next) = match self.right {
                    Right::Panels(panels) => (panels.add(first * self.k + start * width), width),
                    // For a few rows of a whole panel a copy would cost more than it saves.
                    Right::Lies(right) if to - from < R && right.column == 1 && count == width => {
                        (right.from.add(start * right.row + first), right.row)
                    }
                    Right::Lies(right) => {
                        right.copy(&mut panel, width, (start, deep), (first, count));
                        (panel.as_ptr(), width)
                    }
                };
                let (add, mut row) = (self.add || start > 0, from);
                while row < to {
                    let tile = Tile { product: self, panel: place, next, start, deep, first, count, add };
                    row += match to - row {
                        left if left >= R => tile.run::<S, R, W>(row),
                        4.. => tile.run::<S, 4, W>(row),
                        2.. => tile.run::<S, 2, W>(row),
                        _ => tile.run::<S, 1, W>(row),
                    };
                }
            }
            start += deep;
        }
        PANEL.set(panel);
    }
}

thread_local! {
    /// Where a thread copies panels to.
    static PANEL: std::cell::RefCell<Vec<f32>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Rows of the target under one panel.
#[derive(Clone, Copy)]
struct Tile<'t> {
    product: &'t Product,
    panel: *const f32,
    /// How far the panel's rows are apart.
    next: usize,
    /// The block of the left matrix's columns.
    start: usize,
    deep: usize,
    /// The panel's columns.
    first: usize,
    count: usize,
    /// Whether sums are added to what is there.
    add: bool,
}

impl Tile<'_> {
    /// `R` rows, from that one on; their number.
    ///
    /// # Safety
    ///
    /// As [`Product::run`]; the rows are there.
    #[inline(always)]
    unsafe fn run<S: Lanes, const R: usize, const W: usize>(self, row: usize) -> usize {
        let Product { left, out, out_row, scale, .. } = *self.product;
        let step = LANES * S::PARTS;
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[S::splat(0.0); W]; R];
            let mut x = left.from.add(row * left.row + self.start * left.column);
            let mut panel = self.panel;
            for _ in 0..self.deep {
                let mut w = [S::splat(0.0); W];
                for (nth, w) in w.iter_mut().enumerate() {
                    *w = S::load(panel.add(nth * step));
                }
                for (at, sums) in sums.iter_mut().enumerate() {
                    let x = S::splat(*x.add(at * left.row));
                    for (sum, w) in sums.iter_mut().zip(w) {
                        *sum = sum.add_product(x, w);
                    }
                }
                x = x.wrapping_add(left.column);
                panel = panel.wrapping_add(self.next);
            }
            let factor = S::splat(scale);
            for (at, sums) in sums.iter().enumerate() {
                let to = out.add((row + at) * out_row + self.first);
                if self.count == W * step {
                    for (nth, sum) in sums.iter().enumerate() {
                        let to = to.add(nth * step);
                        let before = if self.add { S::load(to) } else { S::splat(0.0) };
                        before.add_product(*sum, factor).store(to);
                    }
                } else {
                    let mut all = [0.0f32; WIDE * 2 * LANES];
                    for (nth, sum) in sums.iter().enumerate() {
                        let place = all.as_mut_ptr().add(nth * step);
                        let mut before = [0.0f32; 2 * LANES];
                        if self.add {
                            let has = self.count.saturating_sub(nth * step).min(step);
                            std::ptr::copy_nonoverlapping(to.add(nth * step), before.as_mut_ptr(), has);
                        }
                        S::load(before.as_ptr()).add_product(*sum, factor).store(place);
                    }
                    std::ptr::copy_nonoverlapping(all.as_ptr(), to, self.count);
                }
            }
        }
        R
    }
}

#[cfg(test)]
mod tests;
