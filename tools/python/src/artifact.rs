//! Open checkpoints and stacks of signatures.

use std::path::PathBuf;
use std::sync::Arc;

use niwaki_codes::{Bits, Widths};
use niwaki_container::{Kind, verify};
use niwaki_tensors::{Limits, Overwrite};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyTuple};

use crate::error::Told;
use crate::tensor::Tensor;

/// An open checkpoint: a niwaki container, or anybody's safetensors file. Headers are read, weights are mapped.
#[pyclass(frozen, module = "niwaki")]
pub(crate) struct Artifact {
    pub(crate) opened: Arc<niwaki_container::Artifact>,
}

/// Signatures that are laid over weights as they are decoded, nearest to them first.
#[pyclass(frozen, module = "niwaki")]
pub(crate) struct Overlay {
    layers: Vec<(Arc<niwaki_container::Artifact>, f64)>,
}

/// Opens a `.safetensors` file, an index, or a folder that holds either.
#[pyfunction]
pub(crate) fn open(py: Python<'_>, path: PathBuf) -> PyResult<Artifact> {
    let opened = py.detach(|| niwaki_container::Artifact::open(&path, &Limits::default())).map_err(Told::from)?;
    Ok(Artifact { opened: Arc::new(opened) })
}

/// A width that the caller asked for.
pub(crate) fn width(bits: u32) -> Result<Bits, Told> {
    Bits::new(bits).map_err(|why| Told::caller(why.to_string()))
}

pub(crate) fn widths<'py>(py: Python<'py>, widths: Option<Widths>) -> PyResult<Bound<'py, PyTuple>> {
    let all: Vec<u32> = widths.map(|widths| widths.iter().map(Bits::get).collect()).unwrap_or_default();
    PyTuple::new(py, all)
}

#[pymethods]
impl Artifact {
    #[getter]
    fn path(&self) -> String {
        self.opened.checkpoint().path().display().to_string()
    }

    #[getter]
    fn kind(&self) -> &'static str {
        match self.opened.kind() {
            Kind::Plain => "plain",
            Kind::Container => "container",
        }
    }

    /// The digest over all tensors as the metadata has it; `None` for a plain checkpoint.
    #[getter]
    fn digest(&self) -> Option<String> {
        self.opened.digest().map(|digest| digest.to_string())
    }

    /// The recipe that it was compressed by.
    #[getter]
    fn recipe(&self) -> Option<String> {
        self.opened.metas().first().and_then(|meta| meta.recipe.clone())
    }

    /// The widths that every elastic tensor serves.
    #[getter]
    fn widths<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        widths(py, self.opened.widths())
    }

    fn tensors(&self) -> Vec<Tensor> {
        self.opened.tensors().map(|tensor| Tensor::new(&self.opened, tensor.name())).collect()
    }

    fn __len__(&self) -> usize {
        self.opened.tensors().len()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        let names: Vec<&str> = self.opened.tensors().map(|tensor| tensor.name()).collect();
        PyTuple::new(py, names)?.try_iter()
    }

    fn __contains__(&self, name: &Bound<'_, PyAny>) -> bool {
        name.extract::<String>().is_ok_and(|name| self.opened.get(&name).is_some())
    }

    fn __getitem__(&self, name: &str) -> PyResult<Tensor> {
        match self.opened.get(name) {
            Some(_) => Ok(Tensor::new(&self.opened, name)),
            None => Err(PyKeyError::new_err(name.to_owned())),
        }
    }

    fn __repr__(&self) -> String {
        format!("<niwaki.Artifact {}: {}, {} tensors>", self.path(), self.kind(), self.__len__())
    }

    /// Checks every hash, digest and part; one line for each thing that is wrong.
    #[pyo3(signature = (threads = 1))]
    fn verify(&self, py: Python<'_>, threads: usize) -> Vec<String> {
        let found = py.detach(|| verify(&self.opened, threads));
        found.faults.iter().map(ToString::to_string).collect()
    }

    /// Writes the container that keeps of every elastic tensor the widths up to `bits`.
    #[pyo3(signature = (bits, out, *, force = false))]
    fn slice<'py>(&self, py: Python<'py>, bits: u32, out: PathBuf, force: bool) -> PyResult<Bound<'py, PyDict>> {
        let (bits, overwrite) = (width(bits)?, if force { Overwrite::Replace } else { Overwrite::Refuse });
        let sliced = py.detach(|| niwaki_container::slice(&self.opened, bits, &out, overwrite)).map_err(Told::from)?;
        let said = PyDict::new(py);
        said.set_item("digest", sliced.digest.to_string())?;
        said.set_item("input_bytes", sliced.input_bytes)?;
        said.set_item("output_bytes", sliced.output_bytes)?;
        Ok(said)
    }
}

#[pymethods]
impl Overlay {
    #[new]
    fn new(signatures: Vec<(PyRef<'_, Artifact>, f64)>) -> PyResult<Self> {
        let layers: Vec<_> =
            signatures.iter().map(|(signature, alpha)| (Arc::clone(&signature.opened), *alpha)).collect();
        let overlay = Self { layers };
        overlay.stack()?;
        Ok(overlay)
    }

    fn __len__(&self) -> usize {
        self.layers.len()
    }
}

impl Overlay {
    /// The signatures as a reader takes them.
    pub(crate) fn stack(&self) -> Result<niwaki_container::Overlay<'_>, Told> {
        let mut stack = niwaki_container::Overlay::default();
        for (signature, alpha) in &self.layers {
            stack.push(signature, *alpha)?;
        }
        Ok(stack)
    }
}
