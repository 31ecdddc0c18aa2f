//! Products of a packed 4096 x 14336 matrix with one row of inputs, beside reading its bytes once.
//!
//! Each kernel is first checked: with rounded inputs against the definition to the bit, with
//! floats against the decoded weights. Lines that begin with `ratio` say the best of both in
//! turns: time, bytes a second, and the floor's share, which adds up all bytes once with the widest
//! loads.
//!
//! ```text
//! cargo bench -p niwaki-benches --bench products            # everything
//! cargo bench -p niwaki-benches --bench products -- int4    # what has `int4` in its name
//! ```
#![allow(clippy::print_stdout, reason = "a bench reports to the terminal")]
#![allow(clippy::unwrap_used, reason = "a bench that fails must stop")]

use std::hint::black_box;

use niwaki_benches::{in_turns, normal, read};
use niwaki_codes::product::{Form, Inputs, Kernel, Scratch};
use niwaki_codes::simd::Level;
use niwaki_codes::{Scheme, Uniform, UniformView};
use niwaki_quant::{Fit, UniformOut, Values, encode_rows};

const ROWS: usize = 4096;
const COLS: usize = 14336;
const TURNS: usize = 15;

struct Coded {
    scheme: Uniform,
    codes: Vec<u8>,
    scales: Vec<u8>,
}

impl Coded {
    fn new(text: &str, weights: &[u8]) -> Self {
        let Ok(Scheme::Uniform(scheme)) = text.parse() else { panic!("{text} is not uniform") };
        let mut codes = vec![0; ROWS * scheme.row_bytes(COLS)];
        let mut scales = vec![0; scheme.groups(ROWS, COLS) * scheme.scale_type().bytes()];
        let out = UniformOut { codes: &mut codes, scales: &mut scales, zeros: &mut [] };
        encode_rows(Level::best(), &scheme, Fit::MinMax, Values::F32(weights), COLS, out).unwrap();
        Self { scheme, codes, scales }
    }

    fn view(&self) -> UniformView<'_> {
        UniformView::new(self.scheme, ROWS, COLS, &self.codes, &self.scales, None).unwrap()
    }
}

fn main() {
    let named = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let weights: Vec<u8> = normal(ROWS * COLS).iter().flat_map(|w| w.to_le_bytes()).collect();
    let x = normal(COLS);
    for scheme in ["int4/g64/sym", "int8/row/sym", "int2/g64/sym", "int3/g64/sym", "int6/g64/sym"] {
        let kernels: Vec<Kernel> =
            Kernel::all().filter(|of| format!("{scheme} {}", of.name()).contains(&named)).collect();
        if kernels.is_empty() {
            continue;
        }
        let coded = Coded::new(scheme, &weights);
        for kernel in kernels {
            for rounded in [false, true] {
                let form = coded.view().form(kernel, rounded);
                measure(&coded, scheme, kernel, form, &x);
            }
        }
    }
}

fn measure(coded: &Coded, scheme: &str, kernel: Kernel, form: Form, x: &[f32]) {
    let view = coded.view();
    let sizes = form.sizes(COLS);
    let (mut floats, mut sums, mut codes) = (vec![0.0; sizes.floats], vec![0; sizes.sums], vec![0; sizes.codes]);
    let mut y = vec![0.0; ROWS];
    let mut all = || {
        let scratch = Scratch { floats: &mut floats, sums: &mut sums, codes: &mut codes };
        let x = Inputs::new(kernel.level(), form, x, scratch).unwrap();
        view.products(kernel, 0..ROWS, &x, &mut y).unwrap();
    };
    let bytes = coded.codes.len() + coded.scales.len();
    let floor = || {
        black_box(read(Level::best(), &coded.codes).wrapping_add(read(Level::best(), &coded.scales)));
    };
    let (best, floor) = in_turns(TURNS, &mut all, floor);
    check(&view, kernel, form, x, &y);
    let rate = |time: std::time::Duration| bytes as f64 / time.as_secs_f64() / 1e9;
    println!(
        "ratio {scheme} {form:?} {}: {:.2} ms, {:.1} GB/s; floor {:.2} ms, {:.1} GB/s: {:.0} %",
        kernel.name(),
        best.as_secs_f64() * 1e3,
        rate(best),
        floor.as_secs_f64() * 1e3,
        rate(floor),
        100.0 * floor.as_secs_f64() / best.as_secs_f64()
    );
}

/// Against the definition in doubles, of some rows.
fn check(view: &UniformView<'_>, kernel: Kernel, form: Form, x: &[f32], y: &[f32]) {
    let mut row = vec![0.0; COLS];
    for at in (0..ROWS).step_by(97) {
        view.dequantize_rows(Level::Scalar, at..at + 1, &mut row).unwrap();
        let products = row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
        let (sum, size) = products.fold((0.0, 0.0), |(sum, size): (f64, f64), p| (sum + p, size + p.abs()));
        // Rounded inputs are within half a step of 127 of the largest of 32.
        let bound = if matches!(form, Form::Plain | Form::Turned) { 1e-5 } else { 2e-2 };
        assert!((f64::from(y[at]) - sum).abs() <= bound * size, "{kernel:?} {form:?} row {at}");
    }
}
