//! The core's errors as exceptions of `speechwire.errors`.

use pyo3::exceptions::{PyMemoryError, PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use speechwire_core::error::{Error, ErrorKind};

static AUDIO_ERROR: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static AUDIOOP_ERROR: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static CONTAINER_ERROR: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static WIRE_ERROR: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// An error on its way to Python.
pub struct CoreError(Error);

impl From<Error> for CoreError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<CoreError> for PyErr {
    fn from(CoreError(error): CoreError) -> Self {
        Python::attach(|py| exception(py, error.kind(), error.to_string()))
    }
}

/// Build an `AudioError` for what only the binding can see, such as the type of an array.
pub fn audio_error(py: Python<'_>, text: String) -> PyErr {
    exception(py, ErrorKind::Audio, text)
}

/// Build a `WireError` for what only the binding can see, such as a number that Python refuses.
pub fn wire_error(py: Python<'_>, text: String) -> PyErr {
    exception(py, ErrorKind::Wire, text)
}

fn exception(py: Python<'_>, kind: ErrorKind, text: String) -> PyErr {
    let (class, name) = match kind {
        ErrorKind::Audio => (&AUDIO_ERROR, "AudioError"),
        ErrorKind::Audioop => (&AUDIOOP_ERROR, "AudioopError"),
        ErrorKind::Value => return PyValueError::new_err(text),
        ErrorKind::Overflow => return PyOverflowError::new_err(text),
        ErrorKind::Memory => return PyMemoryError::new_err(text),
        ErrorKind::Container => (&CONTAINER_ERROR, "ContainerError"),
        ErrorKind::Wire => (&WIRE_ERROR, "WireError"),
    };
    // The classes are looked up when the first error is raised, so that the import stays small.
    match class.import(py, "speechwire.errors", name) {
        Ok(class) => PyErr::from_type(class.clone(), text),
        Err(error) => error,
    }
}
