//! WAV streams.

use crate::buffer::{Input, Item, detached};
use crate::error::CoreError;
use crate::resample::narrow_rate;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use speechwire_core::WavEncoding;

/// Reads a WAV stream.
#[pyclass(module = "speechwire._core")]
pub struct WavReader {
    reader: speechwire_core::WavReader,
}

#[pymethods]
impl WavReader {
    #[new]
    fn new() -> Self {
        Self { reader: speechwire_core::WavReader::new() }
    }

    /// The rate in Hz, None until the header has been read.
    #[getter]
    fn sample_rate(&self) -> Option<u32> {
        self.reader.sample_rate()
    }

    /// How many channels there are, None until the header has been read.
    #[getter]
    fn num_channels(&self) -> Option<u16> {
        self.reader.num_channels()
    }

    /// The size of a sample in the stream, None until the header has been read.
    #[getter]
    fn bits_per_sample(&self) -> Option<u16> {
        self.reader.bits_per_sample()
    }

    /// How many samples each channel has, None if unknown.
    #[getter]
    fn num_samples(&self) -> Option<u64> {
        self.reader.num_samples()
    }

    /// Feed bytes of the stream and return the PCM they complete.
    #[pyo3(signature = (chunk, /))]
    fn feed<'py>(&mut self, chunk: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let input = Input::new(chunk, Item::Byte)?;
        let bytes = input.as_slice();
        let mut pcm = Vec::new();
        let result = detached(chunk.py(), bytes.len(), || self.reader.feed(bytes, &mut pcm));
        result.map_err(CoreError::from)?;
        Ok(PyBytes::new(chunk.py(), &pcm))
    }

    /// Check that the stream may end here.
    fn close(&self) -> Result<(), CoreError> {
        Ok(self.reader.close()?)
    }
}

/// Writes a WAV stream.
#[pyclass(module = "speechwire._core")]
pub struct WavWriter {
    writer: speechwire_core::WavWriter,
}

#[pymethods]
impl WavWriter {
    #[new]
    #[pyo3(signature = (sample_rate, num_channels = 1, data_bytes = None, *, encoding = "pcm"))]
    fn new(sample_rate: i64, num_channels: u16, data_bytes: Option<u32>, encoding: &str) -> Result<Self, CoreError> {
        let (rate, encoding) = (narrow_rate(sample_rate)?, WavEncoding::parse(encoding)?);
        let writer = speechwire_core::WavWriter::with_encoding(rate, num_channels, data_bytes, encoding)?;
        Ok(Self { writer })
    }

    /// The header of the stream.
    #[getter]
    fn header<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.writer.header())
    }

    /// Return the bytes of the stream that a chunk of PCM completes.
    #[pyo3(signature = (chunk, /))]
    fn feed<'py>(&mut self, chunk: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let input = Input::new(chunk, Item::S16)?;
        let pcm = input.as_slice();
        let stream = detached(chunk.py(), pcm.len(), || self.writer.feed(pcm)).map_err(CoreError::from)?;
        Ok(PyBytes::new(chunk.py(), &stream))
    }

    /// Return the rest of the stream and start a new one.
    fn flush<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.writer.flush().map_err(CoreError::from)?))
    }
}
