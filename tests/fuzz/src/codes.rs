//! Views of packed codes, planes and masks.
//!
//! A view that opens decodes without a panic, checked or not, and every SIMD level
//! gives the same bits.

use std::ops::Range;

use niwaki_codes::simd::Level;
use niwaki_codes::{
    Bits, BlockView, Elastic, ElasticParts, ElasticView, Error, FloatView, Grouping, Mask, MaskView, PositionsView,
    Scheme, SparseView, Support, Uniform, UniformView, mask, positions,
};

use crate::script::Script;

/// The most weights that a target decodes: enough for rows of several blocks.
const MOST: usize = 1 << 12;

/// Decodes some rows at every level and compares. A NaN, which only unchecked parts hold,
/// may be any NaN.
fn decode(
    rows: usize,
    cols: usize,
    script: &mut Script<'_>,
    run: impl Fn(Level, Range<usize>, &mut [f32]) -> Result<(), Error>,
) {
    let start = script.size();
    let end = start.saturating_add(script.size());
    for range in [0..rows, start..end] {
        let needs = range.len().saturating_mul(cols);
        if needs > MOST {
            continue;
        }
        let there = range.end <= rows && range.start <= range.end;
        let mut scalar = vec![f32::NAN; needs];
        let done = run(Level::Scalar, range.clone(), &mut scalar);
        assert_eq!(done.is_ok(), there, "rows {range:?} of {rows}: {done:?}");
        for level in Level::all().filter(|_| there) {
            let mut out = vec![f32::NAN; needs];
            run(level, range.clone(), &mut out).expect("rows that the scalar level decodes");
            let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
            assert!(out.iter().zip(&scalar).all(same), "{} differs from scalar: {out:?}, not {scalar:?}", level.name());
        }
        let too_long = run(Level::best(), range, &mut vec![0.0; needs + 1]);
        assert!(too_long.is_err(), "a buffer that is too long is taken");
    }
}

struct UniformBytes {
    codes: Vec<u8>,
    scales: Vec<u8>,
    zeros: Option<Vec<u8>>,
}

impl UniformBytes {
    /// Parts for `groups` groups and so many bytes of codes.
    fn new(scheme: &Uniform, codes: usize, groups: usize, script: &mut Script<'_>) -> Self {
        let scales = groups.saturating_mul(scheme.scale_type().bytes());
        Self {
            codes: script.part(codes).unwrap_or_default(),
            scales: script.part(scales).unwrap_or_default(),
            zeros: script.part(groups),
        }
    }
}

/// Packed codes with scales and zero points.
pub fn uniform_view(bytes: &[u8]) -> bool {
    let mut script = Script::new(bytes);
    let (rows, cols, scheme) = (script.size(), script.size(), script.uniform());
    let codes = rows.saturating_mul(scheme.row_bytes(cols));
    let parts = UniformBytes::new(&scheme, codes, scheme.groups(rows, cols), &mut script);
    let view = UniformView::new(scheme, rows, cols, &parts.codes, &parts.scales, parts.zeros.as_deref());
    let Ok(view) = view else { return false };
    let checked = view.check().is_ok();
    let (row, at) = (script.size(), script.size());
    let _ = (view.row_codes(row), view.grid(row, at), view.grid(at, row));
    decode(rows, cols, &mut script, |level, rows, out| view.dequantize_rows(level, rows, out));
    checked
}

/// Blocks of ggml's types.
pub fn block_view(bytes: &[u8]) -> bool {
    let mut script = Script::new(bytes);
    let kind = script.block();
    // Most rows are whole blocks.
    let step = if script.byte() == 0 { 1 } else { kind.elements() };
    let (rows, cols) = (script.size(), script.size().saturating_mul(step));
    let needs = kind.row_bytes(cols).map_or(0, |bytes| rows.saturating_mul(bytes));
    let codes = script.part(needs).unwrap_or_default();
    let Ok(view) = BlockView::new(kind, rows, cols, &codes) else { return false };
    let checked = view.check().is_ok();
    assert!(view.row_codes(script.size()).len() <= codes.len());
    decode(rows, cols, &mut script, |level, rows, out| view.dequantize_rows(level, rows, out));
    checked
}

/// Small floats with scales, and a factor above them.
pub fn float_view(bytes: &[u8]) -> bool {
    let mut script = Script::new(bytes);
    let (rows, cols, float) = (script.size(), script.size(), script.float());
    let Ok(sizes) = float.sizes(rows, cols) else { return false };
    let (codes, scales) = (script.part(sizes.codes), script.part(sizes.scales));
    let (codes, scales, factor) = (codes.unwrap_or_default(), scales.unwrap_or_default(), script.part(sizes.factor));
    let Ok(view) = FloatView::new(float, rows, cols, &codes, &scales, factor.as_deref()) else { return false };
    let checked = view.check().is_ok();
    let (row, at) = (script.size(), script.size());
    assert!(view.row_codes(row).len() <= codes.len());
    let _ = (view.scale(row, at), view.scale(at, row), view.run());
    decode(rows, cols, &mut script, |level, rows, out| view.dequantize_rows(level, rows, out));
    checked
}

struct ElasticBytes {
    base: Vec<u8>,
    fixes: [Option<Vec<u8>>; 9],
    planes: [Option<Vec<u8>>; 8],
}

impl ElasticBytes {
    fn new(scheme: &Elastic, rows: usize, cols: usize, script: &mut Script<'_>) -> Option<Self> {
        let sizes = scheme.parts(rows, cols).ok()?;
        let base = script.part(sizes.base).unwrap_or_default();
        let mut fix = |width: usize| {
            let used = Bits::new(width as u32).is_ok_and(|bits| scheme.has_fix(bits));
            if used { script.part(sizes.fix) } else { None }
        };
        let fixes = std::array::from_fn(&mut fix);
        let mut plane = |number: usize| if scheme.has_plane(number) { script.part(sizes.plane) } else { None };
        let mut planes = std::array::from_fn(&mut plane);
        // Now and then a part that nobody asked for.
        if script.byte() > 250 {
            planes[0] = script.part(sizes.plane);
        }
        Some(Self { base, fixes, planes })
    }

    fn view(&self, scheme: Elastic, rows: usize, cols: usize) -> Result<ElasticView<'_>, Error> {
        let parts = ElasticParts {
            base: &self.base,
            fixes: self.fixes.each_ref().map(Option::as_deref),
            planes: self.planes.each_ref().map(Option::as_deref),
        };
        ElasticView::new(scheme, rows, cols, parts)
    }
}

/// Bit-planes with bases and fixes.
pub fn elastic_view(bytes: &[u8]) -> bool {
    let mut script = Script::new(bytes);
    let (rows, cols, scheme) = (script.size(), script.size(), script.elastic());
    let Some(parts) = ElasticBytes::new(&scheme, rows, cols, &mut script) else { return false };
    let Ok(view) = parts.view(scheme, rows, cols) else { return false };
    let checked = view.check().is_ok();
    let (row, at) = (script.size(), script.size());
    for bits in Bits::all() {
        let _ = view.levels(bits, row, at);
        let mut codes = vec![0; cols.min(MOST)];
        let _ = view.codes_row(Level::best(), bits, row, &mut codes);
        assert!(codes.iter().all(|code| u32::from(*code) < bits.levels()), "a code beyond its width");
        let mut some = vec![0.0; at.min(MOST)];
        let _ = view.dequantize_cols(Level::best(), bits, 0, row, &mut some);
    }
    for bits in scheme.widths.iter() {
        decode(rows, cols, &mut script, |level, rows, out| view.dequantize_rows(level, bits, rows, out));
    }
    checked
}

/// Masks: counting, and moving values both ways.
pub fn mask_view(bytes: &[u8]) -> bool {
    let mut script = Script::new(bytes);
    let (rows, cols) = (script.size(), script.size());
    let Ok(needs) = MaskView::part_len(rows, cols) else { return false };
    let bytes = script.part(needs).unwrap_or_default();
    let Ok(view) = MaskView::new(rows, cols, &bytes) else { return false };
    let checked = view.check().is_ok();
    assert_eq!(checked, Mask::new(rows, cols, bytes.clone()).is_ok());
    let kept = view.kept();
    assert!(kept <= rows * cols, "{kept} of {rows}x{cols} are kept");
    let row = script.size();
    let _ = (view.row(row), view.rows_in(row..script.size()), view.keeps(row, script.size()));
    if rows.saturating_mul(cols) > MOST || rows > MOST {
        return checked;
    }
    let one_by_one = (0..rows * cols).filter(|i| view.keeps(i / cols, i % cols) == Some(true)).count();
    assert_eq!(kept, one_by_one, "kept weights of {rows}x{cols}");
    for row in 0..rows {
        move_row(view.row(row).expect("a row"), cols);
    }
    checked
}

/// What is gathered comes back in its place, at every level.
fn move_row(bits: &[u8], cols: usize) {
    let values: Vec<u16> = (1..).take(cols).collect();
    let wide: Vec<f32> = values.iter().map(|v| f32::from(*v)).collect();
    for level in Level::all() {
        let (mut kept, mut back) = (vec![0; cols], vec![9; cols]);
        let n = mask::gather(level, bits, &values, &mut kept).expect("room for all");
        assert_eq!(mask::scatter(level, bits, &kept[..n], &mut back), Ok(n));
        assert!(back.iter().zip(&values).all(|(b, v)| *b == 0 || b == v), "{bits:?} moves {back:?}");
        assert_eq!(back.iter().filter(|b| **b != 0).count(), n);
        let mut floats = vec![f32::NAN; cols];
        assert_eq!(mask::gather(level, bits, &wide, &mut floats), Ok(n));
        assert!(floats[..n].iter().zip(&kept).all(|(f, k)| *f == f32::from(*k)));
        assert_eq!(mask::scatter(level, bits, &floats, &mut vec![f32::NAN; cols]), Ok(n));
    }
}

/// Lists of positions: counting, handing out, and the codes of the weights at them.
pub fn positions_view(bytes: &[u8]) -> bool {
    let mut script = Script::new(bytes);
    let (rows, cols, kept) = (script.size(), script.size(), script.size());
    let Some(elements) = rows.checked_mul(cols) else { return false };
    let Ok(needs) = PositionsView::part_len(elements, kept) else { return false };
    let bytes = script.part(needs).unwrap_or_default();
    let Ok(view) = PositionsView::new(elements, kept, &bytes) else { return false };
    let checked = view.check().is_ok();
    let places: Vec<usize> = view.iter().map(|(place, _)| place).collect();
    assert!(places.len() <= kept && places.iter().all(|place| *place < elements), "{places:?} of {elements}");
    if checked {
        assert!(places.len() == kept && places.is_sorted_by(|a, b| a < b), "{places:?} is no ascending list of {kept}");
        let mut again = vec![0xff; needs];
        assert_eq!(positions::encode(elements, kept, places.iter().copied(), &mut again), Ok(()));
        assert_eq!(again, bytes, "positions change when they are copied");
    }
    let (start, end, before) = (script.size(), script.size(), script.size());
    let some: Vec<_> = view.iter_in(start..end, before).collect();
    assert!(some.iter().all(|(place, index)| (start..end).contains(place) && (before..kept).contains(index)));
    assert!(view.kept_in(start..end, before) <= kept.saturating_sub(before));
    let below = view.kept_in(0..start, 0);
    if checked {
        let listed = view.iter_in(start..end, below).map(|(place, _)| place);
        assert!(listed.eq(places.into_iter().filter(|place| (start..end).contains(place))), "{start}..{end}");
    }
    let support = Support::by_positions(rows, cols, view).expect("positions among so many weights");
    let scheme = script.uniform();
    let groups = if scheme.grouping == Grouping::Row { rows } else { scheme.groups(1, kept) };
    let parts = UniformBytes::new(&scheme, scheme.row_bytes(kept), groups, &mut script);
    let view = SparseView::uniform(support, scheme, &parts.codes, &parts.scales, parts.zeros.as_deref());
    sparse(view, &mut script)
}

/// A mask with the codes of the weights that it keeps.
pub fn sparse_view(bytes: &[u8]) -> bool {
    let mut script = Script::new(bytes);
    let (rows, cols) = (script.size(), script.size());
    let Ok(needs) = MaskView::part_len(rows, cols) else { return false };
    let bits = script.part(needs).unwrap_or_default();
    let Ok(mask) = MaskView::new(rows, cols, &bits) else { return false };
    let kept = mask.kept();
    match script.scheme() {
        Scheme::Uniform(scheme) => {
            let groups = match scheme.grouping {
                Grouping::Row => rows,
                _ => scheme.groups(1, kept),
            };
            let parts = UniformBytes::new(&scheme, scheme.row_bytes(kept), groups, &mut script);
            let view = SparseView::uniform(mask, scheme, &parts.codes, &parts.scales, parts.zeros.as_deref());
            sparse(view, &mut script)
        }
        Scheme::Elastic(scheme) => {
            let Some(parts) = ElasticBytes::new(&scheme, 1, kept, &mut script) else { return false };
            let Ok(view) = parts.view(scheme, 1, kept) else { return false };
            let mut each =
                scheme.widths.iter().map(|width| sparse(SparseView::elastic(mask, view, width), &mut script));
            each.all(|checked| checked)
        }
        _ => false,
    }
}

fn sparse(view: Result<SparseView<'_>, Error>, script: &mut Script<'_>) -> bool {
    let Ok(view) = view else { return false };
    let checked = view.check().is_ok();
    let (support, before) = (view.support(), script.size());
    let _ = view.dequantize_rows(Level::best(), 0..1, before, &mut vec![0.0; support.cols().min(MOST)]);
    decode(support.rows(), support.cols(), script, |level, rows, out| {
        let before = support.kept_in_rows(0..rows.start, 0).unwrap_or_default();
        let kept = support.kept_in_rows(rows.clone(), before);
        let done = view.dequantize_rows(level, rows, before, out);
        // Positions that do not ascend are decoded somehow.
        let same = done.as_ref().ok() == kept.as_ref() || !checked && support.mask().is_none();
        assert!(done.is_err() || same, "{done:?} weights, not {kept:?}");
        done.map(|_| ())
    });
    checked
}
