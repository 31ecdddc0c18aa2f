//! One exception for everything: the line, who has to act, and where.

use niwaki_engine::Blame;
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

create_exception!(niwaki, Error, PyException, "What was wrong, in one line, and where.");

/// What the exception says.
pub(crate) struct Told {
    message: String,
    blame: Blame,
    path: Option<String>,
    tensor: Option<String>,
    hint: Option<String>,
}

impl Told {
    /// Arguments that do not fit.
    pub(crate) fn caller(message: impl Into<String>) -> Self {
        Self { message: message.into(), blame: Blame::Caller, path: None, tensor: None, hint: None }
    }

    /// The same, said of a tensor.
    pub(crate) fn of(mut self, tensor: &str) -> Self {
        self.tensor = Some(tensor.to_owned());
        self
    }
}

macro_rules! told {
    ($($error:ty),*) => {$(
        impl From<$error> for Told {
            fn from(error: $error) -> Self {
                Self {
                    message: error.to_string(),
                    blame: error.blame(),
                    path: error.path().map(|path| path.display().to_string()),
                    tensor: error.tensor().map(str::to_owned),
                    hint: error.hint().map(str::to_owned),
                }
            }
        }
    )*};
}

told!(niwaki_container::Error, niwaki_engine::Error);

impl From<Told> for PyErr {
    fn from(told: Told) -> Self {
        Python::attach(|py| {
            let error = Error::new_err(told.message);
            let value = error.value(py);
            let set = || {
                value.setattr("blame", told.blame.name())?;
                value.setattr("path", told.path)?;
                value.setattr("tensor", told.tensor)?;
                value.setattr("hint", told.hint)
            };
            match set() {
                Ok(()) => error,
                Err(other) => other,
            }
        })
    }
}
