//! The chain from one wire format to another.

use crate::buffer::{Input, Item, OPUS_WORK, RESAMPLING_WORK, new_frames};
use crate::error::CoreError;
use pyo3::prelude::*;
use pyo3::types::PyList;
use speechwire_core::Format;

/// Converts a stream from one wire format to another.
#[pyclass(module = "speechwire._core")]
pub struct Transcoder {
    transcoder: speechwire_core::Transcoder,
    /// What a byte of the source is worth in bytes of a simple kernel.
    work: usize,
}

#[pymethods]
impl Transcoder {
    #[new]
    #[pyo3(signature = (source_format, target_format, frame_ms = None))]
    fn new(source_format: &str, target_format: &str, frame_ms: Option<f64>) -> Result<Self, CoreError> {
        let (source, target) = (Format::parse_source(source_format)?, Format::parse_target(target_format)?);
        let work = if [source, target].contains(&Format::Opus) { OPUS_WORK } else { RESAMPLING_WORK };
        Ok(Self { transcoder: speechwire_core::Transcoder::new(source, target, frame_ms)?, work })
    }

    /// The delay in milliseconds.
    #[getter]
    fn delay_ms(&self) -> f64 {
        self.transcoder.delay_ms()
    }

    /// The rate of the source in Hz, None until it is known.
    #[getter]
    fn source_sample_rate(&self) -> Option<u32> {
        self.transcoder.source_sample_rate()
    }

    /// The rate of the target in Hz.
    #[getter]
    fn target_sample_rate(&self) -> u32 {
        self.transcoder.target_sample_rate()
    }

    /// Feed bytes of the source and return the frames they complete.
    #[pyo3(signature = (chunk, /))]
    fn feed<'py>(&mut self, chunk: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        let input = Input::new(chunk, Item::S16)?;
        let bytes = input.as_slice();
        new_frames(chunk.py(), bytes.len() * self.work, |emit| {
            self.transcoder.feed(bytes, emit).map_err(CoreError::from)
        })
    }

    /// Return the tail and start a new stream.
    fn flush<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        new_frames(py, 0, |emit| self.transcoder.flush(emit).map_err(CoreError::from))
    }

    /// Forget the stream and start a new one.
    fn reset(&mut self) {
        self.transcoder.reset();
    }
}
