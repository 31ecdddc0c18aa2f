//! Weights of one tensor, ready to be multiplied: packed codes, patches and a mask inside the product.
//!
//! ```text
//! y = (M . W) x             W packed, as stored; M a mask, where there is one
//! add      y += alpha (M . S) x               patches of an overlay, the first of them first
//! blend    y = (1 - alpha) y + alpha (M . S) x
//! scale    y *= 1 + alpha (f - 1)             f of the row
//! ```
//!
//! Nothing is allocated in a product: inputs stand in scratch of the caller's, and weights are
//! decoded in registers or a block of 512 at a time on the stack. Threads are the caller's too:
//! ranges of rows give the same bits as all rows at once.

mod decode;

use std::ops::Range;

pub use decode::{Floats, RowScratch, RowSizes};
use niwaki_codes::patch::factor;
use niwaki_codes::product::{Form, INPUTS, Inputs, KeptSums, Kernel, dot, row_products};
use niwaki_codes::simd::Level;
use niwaki_codes::{Bits, MaskView, PatchKind, PositionsView};
use niwaki_tensors::{as_f32, decode_f32};

use crate::error::{Error, ErrorKind};
use crate::kept::{KeptView, elements};
use crate::overlay::{Layer, OverlaidDecoder, Overlay, Values};
use crate::tensor::{Decoder, Tensor, View};

/// Columns of which the kept weights are decoded at a time.
const KEPT: usize = 2048;

/// Kept weights whose positions are read at a time.
const PLACES: usize = 512;

/// Rows that are done at a time: their codes stay in the nearest caches for all inputs.
const ROWS: usize = 16;

/// The weights of one tensor, to be multiplied with inputs: rows are the first dimension, columns
/// the others (see [`Tensor::matrix`]).
///
/// ```
/// use niwaki_codes::product::{Inputs, Kernel};
/// use niwaki_container::{Artifact, Overlay};
/// use niwaki_tensors::Limits;
///
/// # let golden = |name| concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/").to_owned() + name;
/// let model = Artifact::open(golden("example.safetensors").as_ref(), &Limits::default())?;
/// let w = model.get("w").unwrap().prepare(Kernel::best(), None, &Overlay::default(), None)?;
/// assert_eq!((w.rows(), w.cols()), (2, 3)); // -3.5 3.5 0, 0 2 -2
/// let mut y = [0.0; 2];
/// w.gemv(0..2, &Inputs::plain(&[1.0, 2.0, 4.0]), &mut y)?;
/// assert_eq!(y, [3.5, -4.0]);
/// # Ok::<(), niwaki_container::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Operand<'a> {
    weights: OverlaidDecoder<'a>,
    mask: Option<MaskView<'a>>,
    kernel: Kernel,
}

impl<'a> Tensor<'a> {
    /// The tensor as an operand of products: an elastic one at `width`, the widest served for
    /// `None`, patches of `overlay` laid over it, and of all that only what `mask` keeps.
    ///
    /// # Errors
    ///
    /// Those of [`Overlay::at`]; [`ErrorKind::PartForm`] for a mask of another shape;
    /// [`ErrorKind::PatchForm`] for factors of the elements of a vector.
    pub fn prepare(
        self,
        kernel: Kernel,
        width: Option<Bits>,
        overlay: &Overlay<'a>,
        mask: Option<MaskView<'a>>,
    ) -> Result<Operand<'a>, Error> {
        if let Some(mask) = mask
            && (mask.rows(), mask.cols()) != self.matrix()
        {
            let shape = |(rows, cols)| format!("{rows}x{cols}");
            let (needs, has) = (shape(self.matrix()), shape((mask.rows(), mask.cols())));
            return Err(Error::from(ErrorKind::PartForm { part: "mask".into(), needs, has }).in_tensor(self.name()));
        }
        let weights = overlay.at(self, width)?;
        // Factors of a vector would be those of columns.
        if self.shape().dims().len() < 2 && weights.layers.iter().any(|layer| layer.kind == PatchKind::Scale) {
            let (needs, has) = ("two dimensions of".to_owned(), self.shape().to_string());
            return Err(Error::from(ErrorKind::PatchForm { kind: "scale", needs, has }).in_tensor(self.name()));
        }
        Ok(Operand { weights, mask, kernel })
    }
}

impl Operand<'_> {
    /// How many rows there are: products of one row of inputs.
    pub fn rows(&self) -> usize {
        self.weights.base.tensor().matrix().0
    }

    /// Inputs of one product.
    pub fn cols(&self) -> usize {
        self.weights.base.tensor().matrix().1
    }

    /// What multiplies.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// The form of inputs that these weights are fastest with, of floats or of floats that are
    /// rounded to 8 bits. Products with any other are right too, and slower.
    pub fn form(&self, rounded: bool) -> Form {
        match &self.weights.base.view {
            View::Uniform(view) if self.mask.is_none() => view.form(self.kernel, rounded),
            View::Blocks(view) if self.mask.is_none() => view.form(rounded),
            _ if rounded => Form::Fours,
            _ => Form::Plain,
        }
    }

    /// The products of some rows with one row of inputs: `y[i]` is that of row `rows.start + i`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codes`] for rows that are not there, inputs of another length than a row, or
    /// a `y` of another length than there are rows.
    pub fn gemv(&self, rows: Range<usize>, x: &Inputs<'_>, y: &mut [f32]) -> Result<(), Error> {
        self.gemm(rows, std::slice::from_ref(x), y)
    }

    /// The products of some rows with several rows of inputs: `y` is `[inputs, rows]`. The same
    /// bits as [`gemv`](Self::gemv) with each.
    ///
    /// # Errors
    ///
    /// Those of [`gemv`](Self::gemv).
    pub fn gemm(&self, rows: Range<usize>, x: &[Inputs<'_>], y: &mut [f32]) -> Result<(), Error> {
        let n = rows.len();
        let named = |error: Error| error.in_tensor(self.weights.base.tensor().name());
        if rows.start > rows.end || rows.end > self.rows() {
            return Err(named(range(rows.end, self.rows())));
        }
        if let Some(x) = x.iter().find(|x| x.len() != self.cols()) {
            return Err(named(range(self.cols(), x.len())));
        }
        if x.len().saturating_mul(n) != y.len() {
            return Err(named(range(x.len().saturating_mul(n), y.len())));
        }
        if n == 0 {
            return Ok(());
        }
        for (x, y) in x.chunks(INPUTS).zip(y.chunks_mut(INPUTS * n)) {
            self.some(rows.clone(), x, y).map_err(named)?;
        }
        Ok(())
    }

    /// The products with at most [`INPUTS`] rows of inputs.
    fn some(&self, rows: Range<usize>, x: &[Inputs<'_>], y: &mut [f32]) -> Result<(), Error> {
        let n = rows.len();
        self.products(&self.weights.base, rows.clone(), x, &mut Results { y, stride: n })?;
        for layer in &self.weights.layers {
            for first in (0..n).step_by(ROWS) {
                let count = ROWS.min(n - first);
                let some = rows.start + first..rows.start + first + count;
                self.lay(layer, some, x, &mut Results { y: y.get_mut(first..).unwrap_or_default(), stride: n })?;
            }
        }
        Ok(())
    }

    /// Lays one patch over the products of at most [`ROWS`] rows.
    fn lay(&self, layer: &Layer<'_>, rows: Range<usize>, x: &[Inputs<'_>], to: &mut Results<'_>) -> Result<(), Error> {
        let (alpha, count) = (layer.alpha, rows.len());
        let mut values = [0.0; ROWS * INPUTS];
        match &layer.values {
            Values::Rows(factors) => {
                for (row, f) in factors.iter().enumerate().skip(rows.start).take(count) {
                    for y in to.row(row - rows.start) {
                        *y = (f64::from(*y) * factor(alpha, *f)) as f32;
                    }
                }
            }
            Values::Weights(weights) => {
                let mut of = Results { y: &mut values, stride: ROWS };
                self.products(weights, rows, x, &mut of)?;
                for row in 0..count {
                    for (y, value) in to.row(row).zip(of.row(row)) {
                        let kept = if layer.kind == PatchKind::Blend { 1.0 - alpha } else { 1.0 };
                        *y = (kept * f64::from(*y) + alpha * f64::from(*value)) as f32;
                    }
                }
            }
        }
        Ok(())
    }

    /// The products of rows of a tensor of this matrix.
    fn products(
        &self,
        weights: &Decoder<'_>,
        rows: Range<usize>,
        x: &[Inputs<'_>],
        to: &mut Results<'_>,
    ) -> Result<(), Error> {
        if self.mask.is_none() && matches!(weights.view, View::Uniform(_) | View::Elastic(..) | View::Blocks(_)) {
            let step = if x.len() > 1 { ROWS } else { rows.len().max(1) };
            for first in (0..rows.len()).step_by(step) {
                let some = rows.start + first..rows.end.min(rows.start + first + step);
                for (at, x) in x.iter().enumerate() {
                    let (kernel, y) = (self.kernel, to.run(at, first, some.len()));
                    match &weights.view {
                        View::Uniform(view) => view.products(kernel, some.clone(), x, y)?,
                        View::Elastic(view, width) => view.products(kernel, *width, some.clone(), x, y)?,
                        View::Blocks(view) => view.products(kernel, some.clone(), x, y)?,
                        View::Plain(_) | View::Kept(_) | View::Floats(_) => {}
                    }
                }
            }
            return Ok(());
        }
        if let View::Kept(view) = &weights.view {
            if let Some(bits) = view.support().mask() {
                return self.kept_by_mask(view, bits, rows, x, to);
            }
            if let Some(positions) = view.support().positions() {
                return self.kept_by_positions(view, positions, rows, x, to);
            }
        }
        if let Some(weights) = self.floats(weights) {
            for (at, row) in rows.enumerate() {
                let weights = weights.get(row * self.cols()..(row + 1) * self.cols()).unwrap_or_default();
                to.row(at).zip(x).for_each(|(y, x)| *y = dot(self.kernel.level(), weights, x));
            }
            return Ok(());
        }
        for (at, row) in rows.enumerate() {
            let products = row_products(self.kernel.level(), self.cols(), x, |first, out| {
                self.columns(weights, (row, first), out)
            })?;
            to.row(at).zip(products).for_each(|(y, product)| *y = product);
        }
        Ok(())
    }

    /// The weights of a tensor, where they can be multiplied as they stand.
    fn floats<'w>(&self, weights: &'w Decoder<'_>) -> Option<&'w [f32]> {
        match &weights.view {
            View::Plain(bytes) if self.mask.is_none() => as_f32(weights.tensor().dtype(), bytes),
            _ => None,
        }
    }

    /// The products of rows of which a mask tells the weights that are stored.
    fn kept_by_mask(
        &self,
        view: &KeptView<'_>,
        bits: MaskView<'_>,
        rows: Range<usize>,
        x: &[Inputs<'_>],
        to: &mut Results<'_>,
    ) -> Result<(), Error> {
        let (level, mut before) = (self.kernel.level(), view.counted.before(rows.start));
        let plain = self.mask.is_none() && x.iter().all(|x| x.as_plain().is_some());
        let mut room = [0.0; KEPT + 16];
        for (at, row) in rows.enumerate() {
            let products = if plain {
                let mut sums = [KeptSums::default(); INPUTS];
                for (nth, bits) in bits.row(row).unwrap_or_default().chunks(KEPT / 8).enumerate() {
                    let first = nth * KEPT;
                    let count = MaskView::new(1, KEPT.min(self.cols() - first), bits)?.kept();
                    let values = view.values(level, row, (before, count), &mut room)?;
                    for (sums, x) in sums.iter_mut().zip(x) {
                        sums.add(level, bits, values, x.as_plain().and_then(|x| x.get(first..)).unwrap_or_default());
                    }
                    before += count;
                }
                sums.map(KeptSums::total)
            } else {
                row_products(level, self.cols(), x, |first, out| {
                    before += view.dequantize_cols(level, (row, first), before, out)?;
                    self.drop(row, first, out);
                    Ok::<(), Error>(())
                })?
            };
            to.row(at).zip(products).for_each(|(y, product)| *y = product);
        }
        Ok(())
    }

    /// The products of rows of which positions tell the weights that are stored.
    fn kept_by_positions(
        &self,
        view: &KeptView<'_>,
        positions: PositionsView<'_>,
        rows: Range<usize>,
        x: &[Inputs<'_>],
        to: &mut Results<'_>,
    ) -> Result<(), Error> {
        let level = self.kernel.level();
        let mut columns = positions.columns(self.cols(), rows.start, view.counted.before(rows.start));
        let (mut places, mut room) = ([0; PLACES], [0.0; PLACES + 16]);
        for (at, row) in rows.enumerate() {
            let mut sums = [KeptSums::default(); INPUTS];
            loop {
                let next = columns.before();
                let count = columns.read(level, &mut places);
                let places = places.get_mut(..count).unwrap_or_default();
                if places.is_empty() {
                    break;
                }
                let values = view.values(level, row, (next, count), &mut room)?;
                self.drop_places(row, places);
                sums.iter_mut().zip(x).for_each(|(sums, x)| add_places(level, sums, (places, values), x));
            }
            columns.next_row();
            to.row(at).zip(sums).for_each(|(y, sums)| *y = sums.total());
        }
        Ok(())
    }

    /// Makes columns that there are not of those that the mask drops.
    fn drop_places(&self, row: usize, columns: &mut [u32]) {
        let Some(mask) = self.mask else { return };
        for column in columns {
            if mask.keeps(row, *column as usize) != Some(true) {
                *column = u32::MAX;
            }
        }
    }

    /// The weights of a row from column `first` on, those that the mask drops zero.
    fn columns(&self, weights: &Decoder<'_>, (row, first): (usize, usize), out: &mut [f32]) -> Result<(), Error> {
        let level = self.kernel.level();
        match &weights.view {
            View::Plain(bytes) => {
                let dtype = weights.tensor().dtype();
                decode_f32(dtype, elements(bytes, dtype, row * self.cols() + first, out.len()), out)?;
            }
            View::Kept(_) => {}
            View::Uniform(view) => view.dequantize_cols(level, row, first, out)?,
            View::Blocks(view) => view.dequantize_cols(level, row, first, out)?,
            View::Floats(view) => view.dequantize_cols(level, row, first, out)?,
            View::Elastic(view, width) => view.dequantize_cols(level, *width, row, first, out)?,
        }
        self.drop(row, first, out);
        Ok(())
    }

    /// Makes zeros of what the mask drops.
    fn drop(&self, row: usize, first: usize, out: &mut [f32]) {
        let Some(bits) = self.mask.and_then(|mask| mask.row(row)) else { return };
        let bits = bits.get(first / 8..).unwrap_or_default();
        for (out, byte) in out.chunks_mut(8).zip(bits) {
            for (bit, x) in out.iter_mut().enumerate() {
                *x = if byte >> bit & 1 == 1 { *x } else { 0.0 };
            }
        }
    }
}

/// Adds the products of kept weights with the inputs of their columns.
fn add_places(level: Level, sums: &mut KeptSums, (columns, values): (&[u32], &[f32]), x: &Inputs<'_>) {
    if let Some(x) = x.as_plain() {
        return sums.add_at(level, columns, values, x);
    }
    // The inputs of the columns stand side by side.
    let (mut places, mut floats) = ([u32::MAX; PLACES], [0.0; PLACES]);
    for ((nth, column), (place, float)) in (0..).zip(columns).zip(places.iter_mut().zip(&mut floats)) {
        if let Some(x) = x.get(*column as usize) {
            (*place, *float) = (nth, x);
        }
    }
    sums.add_at(level, places.get(..columns.len()).unwrap_or_default(), values, &floats);
}

fn range(needs: usize, has: usize) -> Error {
    ErrorKind::Codes(niwaki_codes::ErrorKind::Range { needs, has }.into()).into()
}

/// Where products go: those of one row of inputs side by side, `stride` apart from the next.
struct Results<'y> {
    y: &'y mut [f32],
    stride: usize,
}

impl Results<'_> {
    /// The products of a row of weights with each row of inputs.
    fn row(&mut self, row: usize) -> impl Iterator<Item = &mut f32> {
        self.y.iter_mut().skip(row).step_by(self.stride.max(1))
    }

    /// Those of a row of inputs with some rows of weights.
    fn run(&mut self, input: usize, first: usize, count: usize) -> &mut [f32] {
        let start = input * self.stride + first;
        self.y.get_mut(start..start + count).unwrap_or_default()
    }
}
