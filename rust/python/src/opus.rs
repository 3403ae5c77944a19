//! Ogg Opus streams.

use crate::buffer::{Input, Item, OPUS_WORK, detached};
use crate::error::CoreError;
use crate::resample::narrow_rate;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use speechwire_core::Error;

/// Reads an Ogg Opus stream.
#[pyclass(module = "speechwire._core")]
pub struct OggOpusReader {
    reader: speechwire_core::OggOpusReader,
}

#[pymethods]
impl OggOpusReader {
    #[new]
    fn new() -> Self {
        Self { reader: speechwire_core::OggOpusReader::new() }
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

    /// Feed bytes of the stream and return the PCM of the pages they complete.
    #[pyo3(signature = (chunk, /))]
    fn feed<'py>(&mut self, chunk: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let input = Input::new(chunk, Item::Byte)?;
        let bytes = input.as_slice();
        let mut pcm = Vec::new();
        let result = detached(chunk.py(), bytes.len() * OPUS_WORK, || self.reader.feed(bytes, &mut pcm));
        result.map_err(CoreError::from)?;
        Ok(PyBytes::new(chunk.py(), &pcm))
    }

    /// Check that the stream may end here.
    fn close(&self) -> Result<(), CoreError> {
        Ok(self.reader.close()?)
    }
}

fn narrow_serial(serial: i64) -> Result<u32, CoreError> {
    u32::try_from(serial)
        .map_err(|_| Error::Opus { expected: format!("a serial of 0 to {}", u32::MAX), got: serial.to_string() }.into())
}

/// Writes an Ogg Opus stream.
#[pyclass(module = "speechwire._core")]
pub struct OggOpusWriter {
    writer: speechwire_core::OggOpusWriter,
}

#[pymethods]
impl OggOpusWriter {
    #[new]
    #[pyo3(signature = (sample_rate, *, serial = 1, bitrate = 64_000, frame_ms = 20.0))]
    fn new(sample_rate: i64, serial: i64, bitrate: i64, frame_ms: f64) -> Result<Self, CoreError> {
        let (rate, serial) = (narrow_rate(sample_rate)?, narrow_serial(serial)?);
        let writer = speechwire_core::OggOpusWriter::new(rate, serial, bitrate, frame_ms)?;
        Ok(Self { writer })
    }

    /// The pages with the headers of the stream.
    #[getter]
    fn header<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.writer.header())
    }

    /// Return the pages that a chunk of PCM completes.
    #[pyo3(signature = (chunk, /))]
    fn feed<'py>(&mut self, chunk: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let input = Input::new(chunk, Item::S16)?;
        let pcm = input.as_slice();
        let mut stream = Vec::new();
        let work_bytes = pcm.len() * OPUS_WORK;
        let result =
            detached(chunk.py(), work_bytes, || self.writer.feed(pcm, |pages| stream.extend_from_slice(pages)));
        result.map_err(CoreError::from)?;
        Ok(PyBytes::new(chunk.py(), &stream))
    }

    /// Return the rest of the stream and start a new one.
    fn flush<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let mut stream = Vec::new();
        // At least one packet is encoded.
        let result = py.detach(|| self.writer.flush(|pages| stream.extend_from_slice(pages)));
        result.map_err(CoreError::from)?;
        Ok(PyBytes::new(py, &stream))
    }
}
