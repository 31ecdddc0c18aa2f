//! Shapes of tensors.

use core::fmt;

use crate::{Error, ErrorKind};

/// The most dimensions that a [`Shape`] has.
pub(crate) const MAX_DIMS: usize = 8;

/// The dimensions of a tensor, outermost first, with a checked element count.
///
/// # Invariants
///
/// - at most eight dimensions
/// - the product of the dimensions fits into `usize`
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; MAX_DIMS],
    depth: u8,
    elements: usize,
}

impl Shape {
    /// A shape of the given dimensions; none make a scalar of one element.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Depth`] beyond eight dimensions, [`ErrorKind::Overflow`] where
    /// the element count does not fit into `usize`.
    pub fn new(dims: &[usize]) -> Result<Self, Error> {
        let mut all = [0; MAX_DIMS];
        let Some(slots) = all.get_mut(..dims.len()) else {
            return Err(ErrorKind::Depth(dims.len()).into());
        };
        slots.copy_from_slice(dims);
        let elements = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        let elements = elements.ok_or(ErrorKind::Overflow)?;
        Ok(Self { dims: all, depth: dims.len() as u8, elements })
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        self.dims.get(..self.depth as usize).unwrap_or(&[])
    }

    /// How many elements there are.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// Rows: the first dimension, one output channel each; 1 for a scalar.
    pub fn rows(&self) -> usize {
        self.dims().first().copied().unwrap_or(1)
    }

    /// Elements of one row: all dimensions but the first, flattened.
    pub fn cols(&self) -> usize {
        self.elements.checked_div(self.rows()).unwrap_or(0)
    }
}

impl fmt::Display for Shape {
    /// `256x64`; `scalar` for no dimensions.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.depth == 0 {
            return f.write_str("scalar");
        }
        for (i, d) in self.dims().iter().enumerate() {
            if i > 0 {
                f.write_str("x")?;
            }
            d.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_the_first_dimension() {
        let s = Shape::new(&[4, 3, 2]).unwrap();
        assert_eq!((s.rows(), s.cols(), s.elements()), (4, 6, 24));
        let scalar = Shape::new(&[]).unwrap();
        assert_eq!((scalar.rows(), scalar.cols(), scalar.elements()), (1, 1, 1));
        let empty = Shape::new(&[0, 5]).unwrap();
        assert_eq!((empty.rows(), empty.cols(), empty.elements()), (0, 0, 0));
    }

    #[test]
    fn an_overflowing_shape_is_refused() {
        assert_eq!(Shape::new(&[usize::MAX, 2]).unwrap_err().kind(), ErrorKind::Overflow);
        assert_eq!(Shape::new(&[1; 9]).unwrap_err().kind(), ErrorKind::Depth(9));
    }
}
