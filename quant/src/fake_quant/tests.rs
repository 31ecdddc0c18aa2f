use niwaki_codes::simd::Level;

use super::*;

fn bits(n: u32) -> Bits {
    Bits::new(n).unwrap()
}

/// Values that look like weights, the same ones always.
fn values(len: usize) -> Vec<f32> {
    let draw = |at: usize| (((at * 2_654_435_761) >> 7) % 1000) as f32 / 1000.0 - 0.5;
    (0..len).map(|at| draw(at) + draw(at + 17) * 0.7 + draw(3 * at + 5) * 0.3).collect()
}

fn plain(grid: &Learned, x: f32) -> (f64, bool) {
    let v = (f64::from(x) - f64::from(grid.offset)) / f64::from(grid.step);
    let q = v.clamp(f64::from(grid.low), f64::from(grid.high)).round_ties_even();
    (q, f64::from(grid.low) <= v && v <= f64::from(grid.high))
}

#[test]
fn values_go_to_the_nearest_code_and_stay_there() {
    for level in Level::all() {
        for (b, signed, offset) in [(2, true, 0.0), (2, false, 0.0), (3, true, 0.11), (8, true, -0.3), (8, false, 0.0)]
        {
            let grid = Learned::new(bits(b), signed, 0.07, offset);
            let x = values(1000);
            let (mut once, mut twice) = (vec![0.0; 1000], vec![0.0; 1000]);
            fake_quantize(level, grid, &x, &mut once);
            fake_quantize(level, grid, &once, &mut twice);
            assert_eq!(once, twice, "{b} bits at {}", level.name());
            for (x, y) in x.iter().zip(&once) {
                let near = plain(&grid, *x).0 * f64::from(grid.step) + f64::from(grid.offset);
                assert!((f64::from(*y) - near).abs() < 1e-6, "{x}: {y}, {near}");
            }
            let mut codes: Vec<u32> = once.iter().map(|y| y.to_bits()).collect();
            codes.sort_unstable();
            codes.dedup();
            assert!(codes.len() <= 1 << b, "{} codes of {b} bits", codes.len());
        }
    }
    let mut out = [0.0; 2];
    fake_quantize(Level::best(), Learned::new(bits(4), true, 1.0, 0.0), &[f32::NAN, f32::INFINITY], &mut out);
    assert!(out[0].is_nan() && out[1] == 7.0);
}

#[test]
fn gradients_are_those_of_the_formulas_at_every_level() {
    let (x, g) = (values(3001), values(6002)[3001..].to_vec());
    for (b, signed, offset) in [(2, true, 0.05), (4, false, 0.0), (8, true, -0.2)] {
        let grid = Learned::new(bits(b), signed, 0.09, offset);
        let mut first: Option<(Slopes, Vec<f32>)> = None;
        for level in Level::all() {
            let mut own = g.clone();
            let slopes = fake_quantize_back(level, grid, &x, &mut own);
            let (mut step, mut shift) = (0.0, 0.0);
            for ((x, g), own) in x.iter().zip(&g).zip(&own) {
                let (q, inside) = plain(&grid, *x);
                let v = (f64::from(*x) - f64::from(grid.offset)) / f64::from(grid.step);
                step += f64::from(*g) * (q - if inside { v } else { 0.0 });
                shift += if inside { 0.0 } else { f64::from(*g) };
                assert_eq!(*own, if inside { *g } else { 0.0 });
            }
            assert!(
                (slopes.step - step).abs() < 1e-3 && (slopes.offset - shift).abs() < 1e-3,
                "{slopes:?} {step} {shift}"
            );
            let (slopes_then, own_then) = first.get_or_insert_with(|| (slopes, own.clone()));
            assert_eq!((slopes, &own), (*slopes_then, &*own_then), "the same bits at {}", level.name());
        }
    }
}

/// Of the clamped function that is not rounded, by differences: with x; and with step and offset where a value is beyond the
/// codes, or lies on one.
#[test]
fn gradients_are_those_of_differences() {
    let grid = |step: f64, offset: f64, x: f64, q: Option<f64>| {
        let v = (x - offset) / step;
        q.unwrap_or_else(|| v.clamp(-8.0, 7.0)) * step + offset
    };
    let (step, offset, e) = (0.11, 0.03, 1e-6);
    for x in [-2.0, -0.5, 0.04, 0.33, 0.79, 1.5] {
        let mut own = [1.0f32];
        let found = fake_quantize_back(Level::best(), Learned::new(bits(4), true, 0.11, 0.03), &[x as f32], &mut own);
        let with_x = (grid(step, offset, x + e, None) - grid(step, offset, x - e, None)) / (2.0 * e);
        assert!((f64::from(own[0]) - with_x).abs() < 1e-4, "{x}");
        // Straight through: the rounding counts as a constant that is added.
        let v = (x - offset) / step;
        let rounding = v.clamp(-8.0, 7.0).round_ties_even() - v.clamp(-8.0, 7.0);
        let through = |step: f64, offset: f64| (((x - offset) / step).clamp(-8.0, 7.0) + rounding) * step + offset;
        let with_step = (through(step + e, offset) - through(step - e, offset)) / (2.0 * e);
        let with_offset = (through(step, offset + e) - through(step, offset - e)) / (2.0 * e);
        assert!((found.step - with_step).abs() < 1e-4 && (found.offset - with_offset).abs() < 1e-4, "{x} {found:?}");
    }
}

#[test]
fn a_fit_loses_no_more_than_the_whole_range_and_less_with_more_bits() {
    let mut x = values(4000);
    x[7] = 3.0;
    let span = Span::of(&x);
    let mean = |grid: &Learned| {
        let mut out = vec![0.0; x.len()];
        fake_quantize(Level::best(), *grid, &x, &mut out);
        x.iter().zip(&out).map(|(x, y)| f64::from((x - y).abs()).powf(2.4)).sum::<f64>()
    };
    for affine in [false, true] {
        let mut before = f64::INFINITY;
        for b in 2..=8 {
            let grids: Vec<Learned> = Level::all().map(|level| fit(level, (bits(b), true, affine), span, &x)).collect();
            assert!(grids.iter().all(|grid| *grid == grids[0]), "the same grid at every level");
            let (low, high) = code_range(bits(b), true);
            let step = if affine { (span.high - span.low) / (high - low) } else { 2.0 * 3.0 / (high - low) };
            let offset = if affine { span.low - step * low } else { 0.0 };
            let (found, whole) = (mean(&grids[0]), mean(&Learned::new(bits(b), true, step, offset)));
            assert!(found <= whole * 1.001 && found < before, "{b} bits: {found}, {whole}, {before}");
            assert!(b > 3 || found < 0.7 * whole, "an outlier is cut off");
            before = found;
        }
    }
    let rectified: Vec<f32> = x.iter().map(|x| x.max(0.0)).collect();
    let grid = fit(Level::best(), (bits(4), false, true), Span::of(&rectified), &rectified);
    assert_eq!((grid.offset(), grid.codes()), (0.0, (0.0, 15.0)));
    assert_eq!(fit(Level::best(), (bits(4), true, true), Span::of(&[]), &[]).offset(), 0.0);
}

#[test]
fn powers_are_those_of_the_standard_library() {
    for at in 0..4000 {
        let x = (-30.0 + at as f32 * 0.012).exp2();
        let (found, needs) = (f64::from(power(-x)), f64::from(x).powf(2.4));
        assert!((found / needs - 1.0).abs() < 5e-5, "{x}: {found}, {needs}");
    }
}

#[test]
fn zero_lies_on_the_grid_of_integers() {
    let (grid, zero) = Learned::new(bits(4), true, 0.1, 0.33).with_zero();
    assert_eq!(zero, -3);
    let mut out = [1.0];
    fake_quantize(Level::best(), grid, &[0.0], &mut out);
    assert_eq!(out[0].abs(), 0.0);
    assert_eq!(Learned::new(bits(2), true, 0.1, 0.9).with_zero().1, -2);
    assert_eq!(Learned::new(bits(8), false, 0.1, 0.0).with_zero().1, 0);
    assert_eq!(Learned::new(bits(8), false, -0.1, 0.0).step(), 0.1);
}
