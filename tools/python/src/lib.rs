//! niwaki for Python: compressed checkpoints as NumPy arrays.
//!
//! ```text
//! open -> Artifact -> Tensor -> dequantize -> numpy.ndarray
//! compress, apply, remove: file to file, by the engine
//! ```
//!
//! NumPy is asked for by name when an array is made: nothing else of Python is needed, and no C headers. Work is done
//! without the interpreter's lock. `python/niwaki/_niwaki.pyi` has the types, and a test compares them.

mod artifact;
mod engine;
mod error;
mod tensor;

use pyo3::prelude::*;

/// The functions and classes of the package.
#[pymodule]
fn _niwaki(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("Error", module.py().get_type::<error::Error>())?;
    module.add_class::<artifact::Artifact>()?;
    module.add_class::<artifact::Overlay>()?;
    module.add_class::<tensor::Tensor>()?;
    module.add_function(wrap_pyfunction!(artifact::open, module)?)?;
    module.add_function(wrap_pyfunction!(engine::compress, module)?)?;
    module.add_function(wrap_pyfunction!(engine::apply, module)?)?;
    module.add_function(wrap_pyfunction!(engine::remove, module)?)?;
    module.add_function(wrap_pyfunction!(engine::patches, module)?)
}
