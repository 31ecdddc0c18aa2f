use super::*;
use crate::kernels::numbers;

#[test]
fn every_level_and_layout_gives_the_definition() {
    for (m, k, n) in [(1, 1, 1), (3, 5, 7), (8, 16, 48), (17, 64, 33), (1, 700, 50), (30, 1100, 97), (70, 3, 300)] {
        for (turn_left, turn_right) in [(false, false), (true, false), (false, true), (true, true)] {
            let (a, b, c) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * n, 3));
            let left = if turn_left { (1, m) } else { (k, 1) };
            let right = if turn_right { (1, k) } else { (n, 1) };
            let side = Side { from: b.as_ptr(), row: right.0, column: right.1 };
            for level in Level::all() {
                // SAFETY: the matrix is as large as the strides say.
                let packed = unsafe { Packed::at(level, [k, n], side) };
                for add in [false, true] {
                    let mut out = if add { c.clone() } else { vec![f32::NAN; m * n] };
                    let product = Product {
                        m,
                        k,
                        n,
                        left: Side { from: a.as_ptr(), row: left.0, column: left.1 },
                        right: Right::Lies(side),
                        out: out.as_mut_ptr(),
                        out_row: n,
                        add,
                        scale: 0.5,
                    };
                    // SAFETY: the matrices are as large as the strides say.
                    unsafe { product.at(level, m > 8) };
                    let mut again = if add { c.clone() } else { vec![f32::NAN; m * n] };
                    let panels = Right::Panels(packed.panels.as_ptr());
                    // SAFETY: likewise.
                    unsafe { Product { right: panels, out: again.as_mut_ptr(), ..product }.at(level, m > 8) };
                    assert!(out == again, "{m}x{k}x{n} {level:?} in panels");
                    for (at, found) in out.iter().enumerate() {
                        let (i, j) = (at / n, at % n);
                        let term =
                            |t: usize| f64::from(a[i * left.0 + t * left.1]) * f64::from(b[t * right.0 + j * right.1]);
                        let sum = (0..k).map(term).sum::<f64>() / 2.0 + if add { f64::from(c[at]) } else { 0.0 };
                        let off = (f64::from(*found) - sum).abs();
                        assert!(off < 1e-6 * k as f64 + 1e-6, "{m}x{k}x{n} {level:?} at {at}: {found}, {sum}");
                    }
                }
            }
        }
    }
}
