//! One tensor, and its weights as an array.

use std::ops::Range;
use std::sync::Arc;

use niwaki_codes::product::Kernel;
use niwaki_container::{Artifact, Floats, Operand, RowScratch};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyTuple};

use crate::artifact::{Overlay, width, widths};
use crate::error::Told;

/// One tensor of an artifact, which it keeps open.
#[pyclass(frozen, module = "niwaki")]
pub(crate) struct Tensor {
    artifact: Arc<Artifact>,
    name: String,
}

/// Types of arrays.
#[derive(Clone, Copy)]
enum Element {
    F32,
    F16,
    Bf16,
}

impl Element {
    fn named(text: &str) -> Result<Self, Told> {
        match text {
            "float32" => Ok(Self::F32),
            "float16" => Ok(Self::F16),
            "bfloat16" => Ok(Self::Bf16),
            _ => Err(Told::caller(format!("dtype `{text}` is not known; known: float32, float16, bfloat16"))),
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// What NumPy calls it: of bfloat16 its bits.
    fn numpy(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "uint16",
        }
    }

    /// Decodes rows into bytes.
    fn decode(self, operand: &Operand<'_>, rows: Range<usize>, bytes: &mut [u8]) -> Result<(), Told> {
        let sizes = operand.row_sizes();
        let (mut wide, mut values, mut row) = (vec![0.0; sizes.wide], vec![0.0; sizes.values], vec![0.0; sizes.row]);
        let scratch = RowScratch { wide: &mut wide, values: &mut values, row: &mut row };
        let wrong = |why| Told::caller(format!("memory of the array: {why}"));
        let out = match self {
            Self::F32 => Floats::F32(bytemuck::try_cast_slice_mut(bytes).map_err(wrong)?),
            Self::F16 => Floats::F16(bytemuck::try_cast_slice_mut(bytes).map_err(wrong)?),
            Self::Bf16 => Floats::Bf16(bytemuck::try_cast_slice_mut(bytes).map_err(wrong)?),
        };
        Ok(operand.dequantize_rows(rows, out, scratch)?)
    }
}

impl Tensor {
    pub(crate) fn new(artifact: &Arc<Artifact>, name: &str) -> Self {
        Self { artifact: Arc::clone(artifact), name: name.to_owned() }
    }

    fn tensor(&self) -> Result<niwaki_container::Tensor<'_>, Told> {
        self.artifact.get(&self.name).ok_or_else(|| Told::caller(format!("tensor `{}` is not there", self.name)))
    }
}

#[pymethods]
impl Tensor {
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.tensor()?.shape().dims())
    }

    /// The type that it was made from, such as `F32` or `BF16`.
    #[getter]
    fn dtype(&self) -> PyResult<String> {
        Ok(self.tensor()?.dtype().to_string())
    }

    /// How it is stored, such as `int4/g64/sym`; `dense` for the weights themselves.
    #[getter]
    fn scheme(&self) -> PyResult<String> {
        Ok(self.tensor()?.layout().scheme_text())
    }

    /// The widths that it can be decoded at, where it is elastic.
    #[getter]
    fn widths<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        widths(py, self.tensor()?.widths())
    }

    /// Whether only those weights are stored that a mask or a list of positions names.
    #[getter]
    fn masked(&self) -> PyResult<bool> {
        Ok(self.tensor()?.masked())
    }

    /// Bytes of everything that is stored of it.
    #[getter]
    fn bytes(&self) -> PyResult<u64> {
        Ok(self.tensor()?.bytes())
    }

    #[getter]
    fn rows(&self) -> PyResult<usize> {
        Ok(self.tensor()?.matrix().0)
    }

    #[getter]
    fn cols(&self) -> PyResult<usize> {
        Ok(self.tensor()?.matrix().1)
    }

    fn __repr__(&self) -> PyResult<String> {
        let tensor = self.tensor()?;
        let (dtype, shape, scheme) = (tensor.dtype(), tensor.shape(), tensor.layout().scheme_text());
        Ok(format!("<niwaki.Tensor {}: {dtype} {shape}, {scheme}>", self.name))
    }

    /// The stored bytes of a part: `codes`, `scales`, `mask`, ..; of a tensor stored as it is without a name.
    #[pyo3(signature = (name = ""))]
    fn part<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyBytes>> {
        let tensor = self.tensor()?;
        let has = || tensor.parts().map(|(part, _)| format!("`{}`", part.suffix())).collect::<Vec<_>>().join(", ");
        let missing = || {
            let message = format!("tensor `{}` has no part `{name}`; it has {}", self.name, has());
            Told::caller(message).of(&self.name)
        };
        let found = tensor.parts().find(|(part, _)| part.suffix() == name).ok_or_else(missing)?;
        Ok(PyBytes::new(py, found.1))
    }

    /// The weights, an elastic tensor at `width` or its widest, patches of `overlay` laid over them.
    ///
    /// All of them have the tensor's shape; some `rows` of its matrix are two-dimensional. NumPy has no bfloat16: the
    /// array holds its bits as uint16.
    #[pyo3(signature = (*, width = None, rows = None, dtype = "float32", overlay = None))]
    fn dequantize<'py>(
        &self,
        py: Python<'py>,
        width: Option<u32>,
        rows: Option<(usize, usize)>,
        dtype: &str,
        overlay: Option<&Overlay>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (tensor, element) = (self.tensor()?, Element::named(dtype)?);
        let bits = width.map(self::width).transpose()?;
        let stack = overlay.map(Overlay::stack).transpose()?.unwrap_or_default();
        let operand = py.detach(|| tensor.prepare(Kernel::best(), bits, &stack, None)).map_err(Told::from)?;
        let (has, cols) = tensor.matrix();
        let (start, end) = rows.unwrap_or((0, has));
        if start > end || end > has {
            let message = format!("tensor `{}`: rows {start}..{end} are not all there; there are {has}", self.name);
            return Err(Told::caller(message).of(&self.name).into());
        }
        let bytes = (end - start).saturating_mul(cols).saturating_mul(element.bytes());
        let memory =
            PyByteArray::new_with(py, bytes, |bytes| Ok(py.detach(|| element.decode(&operand, start..end, bytes))?))?;
        let shape = match rows {
            Some(_) => PyTuple::new(py, [end - start, cols])?,
            None => self.shape(py)?,
        };
        let array = py.import("numpy")?.call_method1("frombuffer", (memory, element.numpy()))?;
        array.call_method1("reshape", (shape,))
    }
}
