//! Right matrices of any float type.

use half::{bf16, f16};

use crate::fault::Fault;
use crate::kernels::mm::{Matrix, Target, Way, mm};
use crate::real::Real;
use crate::tensor::{Data, Dtype, Tensor};

/// A right-hand matrix of any float type.
pub(crate) struct Right<'a> {
    pub(crate) tensor: &'a Tensor,
    pub(crate) k: usize,
    pub(crate) n: usize,
    /// It stands as `n` rows of `k`.
    pub(crate) transposed: bool,
}

/// Elements of halves that are widened at a time: they stay in cache until they are multiplied.
const PANEL: usize = 1 << 18;

impl Right<'_> {
    /// `out = scale * left * this`; halves are widened one panel after the other.
    ///
    /// # Errors
    ///
    /// Sizes that do not fit, and elements that are no floats.
    pub(crate) fn times<T: Real>(&self, left: Matrix<'_, T>, out: &mut [T], scale: T) -> Result<(), Fault> {
        match self.tensor.data() {
            Data::F16(all) if T::DTYPE == Dtype::F32 => {
                self.panels(left, out, scale, all.as_slice(), |from: &[f16], to| widen(from, to, |x| x.to_f32()))
            }
            Data::Bf16(all) if T::DTYPE == Dtype::F32 => {
                self.panels(left, out, scale, all.as_slice(), |from: &[bf16], to| widen(from, to, |x| x.to_f32()))
            }
            data => {
                let all = T::widened(data).ok_or_else(|| Fault::dtype(1, self.tensor, "a float type"))?;
                let right = match self.transposed {
                    true => Matrix::rows(&all, self.n, self.k)?.transposed(),
                    false => Matrix::rows(&all, self.k, self.n)?,
                };
                let m = out.len() / self.n.max(1);
                mm(Target::rows(out, m, self.n)?, left, right, Way { scale, ..Way::replace() })
            }
        }
    }

    fn panels<T: Real, H: Sync>(
        &self,
        left: Matrix<'_, T>,
        out: &mut [T],
        scale: T,
        all: &[H],
        widen: impl Fn(&[H], &mut [T]),
    ) -> Result<(), Fault> {
        let (k, n) = (self.k, self.n);
        let m = out.len() / n.max(1);
        if k == 0 || n == 0 {
            out.iter_mut().for_each(|x| *x = T::ZERO);
            return Ok(());
        }
        let long = if self.transposed { k } else { n };
        let high = (PANEL / long).max(1);
        let mut wide = vec![T::ZERO; high * long.min(all.len())];
        for (at, panel) in all.chunks(high * long).enumerate() {
            let (wide, rows) = (&mut wide[..panel.len()], panel.len() / long);
            widen(panel, wide);
            let first = at * high;
            if self.transposed {
                let right = Matrix::rows(wide, rows, k)?.transposed();
                mm(Target::strided(&mut out[first..], (m, rows), n)?, left, right, Way { scale, ..Way::replace() })?;
            } else {
                let right = Matrix::rows(wide, rows, n)?;
                let way = Way { add: at > 0, scale, parallel: true };
                mm(Target::rows(out, m, n)?, left.columns(first, rows)?, right, way)?;
            }
        }
        Ok(())
    }
}

/// Widens halves.
fn widen<H: Copy, T: Real>(from: &[H], to: &mut [T], one: impl Fn(H) -> f32) {
    from.iter().zip(to).for_each(|(from, to)| *to = T::near(f64::from(one(*from))));
}
