//! Frames of a fixed size.

use crate::buffer::{Input, Item, new_frames};
use crate::error::{CoreError, audio_error};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

/// Cuts a stream of bytes into frames.
#[pyclass(module = "speechwire._core")]
pub struct FrameSlicer {
    slicer: speechwire_core::FrameSlicer,
}

#[pymethods]
impl FrameSlicer {
    #[new]
    fn new(frame_bytes: usize) -> Result<Self, CoreError> {
        Ok(Self { slicer: speechwire_core::FrameSlicer::new(frame_bytes)? })
    }

    /// The size of a frame.
    #[getter]
    fn frame_bytes(&self) -> usize {
        self.slicer.frame_bytes()
    }

    /// How many bytes wait for the rest of their frame.
    #[getter]
    fn pending_bytes(&self) -> usize {
        self.slicer.pending_bytes()
    }

    /// Feed bytes and return the frames they complete.
    #[pyo3(signature = (chunk, /))]
    fn feed<'py>(&mut self, chunk: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        let input = Input::new(chunk, Item::S16)?;
        let bytes = input.as_slice();
        new_frames(chunk.py(), bytes.len(), |emit| {
            self.slicer.feed(bytes, emit);
            Ok::<(), CoreError>(())
        })
    }

    /// Return the remainder, padded to a frame where a byte is given.
    #[pyo3(signature = (pad = None))]
    fn flush<'py>(&mut self, py: Python<'py>, pad: Option<&[u8]>) -> PyResult<Bound<'py, PyBytes>> {
        let pad = match pad {
            None => None,
            Some([pad]) => Some(*pad),
            Some(pad) => return Err(audio_error(py, format!("expected a pad of 1 byte, got {} bytes", pad.len()))),
        };
        Ok(PyBytes::new(py, &self.slicer.flush(pad)))
    }
}
