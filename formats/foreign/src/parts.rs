//! The stored tensors of one quantized tensor, and what their shapes say.

use niwaki_tensors::Dtype;

use crate::error::{Error, ErrorKind};
use crate::inventory::{Inventory, Stored, dims};
use crate::table::{Factor, Number, Order, Table, word};
use crate::weights::Groups;

/// The tensors whose names begin alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Siblings<'i, 'a> {
    inventory: &'i Inventory<'a>,
    head: &'a str,
}

impl<'i, 'a> Siblings<'i, 'a> {
    /// Those whose names begin with `head`.
    pub(crate) fn new(inventory: &'i Inventory<'a>, head: &'a str) -> Self {
        Self { inventory, head }
    }

    /// The tensor whose name goes on with `tail`.
    pub(crate) fn get(&self, tail: &str) -> Option<Stored<'a>> {
        self.inventory.get(&format!("{}{tail}", self.head))
    }

    /// The same, where it has to be there.
    pub(crate) fn need(&self, tail: &str) -> Result<Stored<'a>, Error> {
        self.get(tail).ok_or_else(|| ErrorKind::NoPart(format!("{}{tail}", self.head)).into())
    }
}

/// The error that a part has another form than `needs`.
pub(crate) fn part_form(part: &Stored<'_>, needs: impl Into<String>) -> Error {
    ErrorKind::Part { part: part.name().to_owned(), needs: needs.into(), has: part.form() }.into()
}

/// Refuses another type or shape.
pub(crate) fn exactly(part: &Stored<'_>, dtype: Dtype, shape: &[usize]) -> Result<(), Error> {
    let same = part.dtype() == dtype && part.shape() == shape;
    if same { Ok(()) } else { Err(part_form(part, format!("{dtype} {}", dims(shape)))) }
}

/// Rows and columns of a matrix, and how many lie in a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Matrix {
    pub(crate) planes: usize,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
}

impl Matrix {
    /// The last two dimensions, and the product of those before.
    pub(crate) fn new(shape: &[usize]) -> Option<Self> {
        let (&cols, lead) = shape.split_last()?;
        let (&rows, lead) = lead.split_last()?;
        let planes = lead.iter().try_fold(1usize, |n, dim| n.checked_mul(*dim))?;
        planes.checked_mul(rows)?.checked_mul(cols)?;
        Some(Self { planes, rows, cols })
    }

    /// The same of a stored tensor.
    pub(crate) fn of(part: &Stored<'_>) -> Result<Self, Error> {
        Self::new(part.shape()).ok_or_else(|| part_form(part, "two or more dimensions"))
    }

    /// Rows of all planes.
    pub(crate) fn all_rows(&self) -> usize {
        self.planes.saturating_mul(self.rows)
    }
}

/// A float table of the given order.
pub(crate) fn floats<'a>(part: &Stored<'a>, order: Order) -> Result<Table<'a>, Error> {
    let number = Number::float(part.dtype()).ok_or_else(|| part_form(part, "F32, F16 or BF16"))?;
    Ok(Table { bytes: part.bytes(), number, order, factor: Factor::One })
}

/// How the scales of a weight are shared, by their shape: one for all, one a row, one a
/// square of the given sides, or groups of a row.
pub(crate) fn sharing(
    weight: Matrix,
    scale: &Stored<'_>,
    square: Option<[usize; 2]>,
    group: Option<usize>,
) -> Result<(Order, usize), Error> {
    let Matrix { planes, rows, cols } = weight;
    let shape = scale.shape();
    let elements = shape.iter().product::<usize>();
    if elements == 1 {
        return Ok((Order::ONE, cols));
    }
    if planes > 1 && elements == planes && shape.first() == Some(&planes) {
        return Ok((Order { plane: rows, rows, row_stride: 1, group_stride: 0 }, cols));
    }
    if elements == weight.all_rows() && matches!(shape, [.., r] if *r == rows) && shape.len() < 3 {
        return Ok((Order::ROWS, cols));
    }
    let table = Matrix::of(scale).ok().filter(|table| table.planes == planes);
    let Some(Matrix { rows: lines, cols: groups, .. }) = table else { return Err(wrong_scales(weight, scale)) };
    if lines == rows && groups == 1 {
        return Ok((Order::ROWS, cols));
    }
    let fits = |[high, wide]: &[usize; 2]| rows.div_ceil(*high) == lines && cols.div_ceil(*wide) == groups;
    if let Some([high, wide]) = square.filter(fits) {
        return Ok((Order { plane: rows, rows: high, row_stride: groups, group_stride: 1 }, wide));
    }
    if lines == rows && group.is_some_and(|group| cols.div_ceil(group) == groups) {
        return Ok((Order::groups(groups), group.unwrap_or(cols)));
    }
    if lines == rows && groups > 0 && cols % groups == 0 {
        return Ok((Order::groups(groups), cols / groups));
    }
    Err(wrong_scales(weight, scale))
}

fn wrong_scales(weight: Matrix, scale: &Stored<'_>) -> Error {
    part_form(scale, format!("one number, {0}, {0}x1 or {0}xN", weight.rows))
}

/// Which columns share a scale: runs, or what a tensor of indexes says.
pub(crate) fn grouped<'a>(
    index: Option<Stored<'a>>,
    (cols, groups, run): (usize, usize, usize),
) -> Result<Groups<'a>, Error> {
    let Some(index) = index else { return Ok(Groups::Runs(run)) };
    exactly(&index, Dtype::I32, &[cols])?;
    let at = |input: usize| word(index.bytes(), input) as i32;
    let mut runs = true;
    for input in 0..cols {
        let group = at(input);
        if usize::try_from(group).map_or(true, |group| group >= groups) {
            return Err(ErrorKind::GroupIndex { input, group, groups }.into());
        }
        runs &= group as usize == input / run.max(1);
    }
    Ok(if runs { Groups::Runs(run) } else { Groups::Index { bytes: index.bytes(), groups } })
}
