//! Resampling of buffers and numpy arrays.

use crate::buffer::{Array, Input, Item, RESAMPLING_WORK, detached, new_array, new_bytes};
use crate::error::CoreError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use speechwire_core::{Error, Quality, SampleFormat};

fn item_of(sample_format: SampleFormat) -> Item {
    match sample_format {
        SampleFormat::S16 => Item::S16,
        SampleFormat::F32 => Item::F32,
    }
}

/// Narrow a rate; what does not fit is out of the supported range anyway.
pub fn narrow_rate(sample_rate: i64) -> Result<u32, CoreError> {
    u32::try_from(sample_rate).map_err(|_| Error::SampleRate { sample_rate }.into())
}

/// Resamples a stream of mono audio.
#[pyclass(module = "speechwire._core")]
pub struct Resampler {
    resampler: speechwire_core::Resampler,
    /// The dtype of the last chunk if that was an array: the tail is of the same kind.
    dtype: Option<Py<PyAny>>,
}

#[pymethods]
impl Resampler {
    #[new]
    #[pyo3(signature = (input_rate, output_rate, *, quality = "balanced", sample_format = "s16", variable = false))]
    fn new(
        input_rate: i64,
        output_rate: i64,
        quality: &str,
        sample_format: &str,
        variable: bool,
    ) -> Result<Self, CoreError> {
        let (quality, sample_format) = (Quality::parse(quality)?, SampleFormat::parse(sample_format)?);
        let (input_rate, output_rate) = (narrow_rate(input_rate)?, narrow_rate(output_rate)?);
        let build = if variable { speechwire_core::Resampler::new_variable } else { speechwire_core::Resampler::new };
        Ok(Self { resampler: build(input_rate, output_rate, quality, sample_format)?, dtype: None })
    }

    /// The rate of the input in Hz.
    #[getter]
    fn input_rate(&self) -> u32 {
        self.resampler.input_rate()
    }

    /// The rate of the output in Hz.
    #[getter]
    fn output_rate(&self) -> u32 {
        self.resampler.output_rate()
    }

    /// How many more outputs per input there are than the rates say, in parts per million.
    #[getter]
    fn ratio_ppm(&self) -> f64 {
        self.resampler.ratio_ppm()
    }

    /// Vary the ratio from the next output on.
    #[setter]
    fn set_ratio_ppm(&mut self, ratio_ppm: f64) -> Result<(), CoreError> {
        Ok(self.resampler.set_ratio_ppm(ratio_ppm)?)
    }

    /// The delay in output samples.
    #[getter]
    fn delay_samples(&self) -> usize {
        self.resampler.delay_samples()
    }

    /// The delay in milliseconds.
    #[getter]
    fn delay_ms(&self) -> f64 {
        self.resampler.delay_ms()
    }

    /// Feed samples and return the outputs they give.
    #[pyo3(signature = (chunk, /))]
    fn feed<'py>(&mut self, chunk: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let item = item_of(self.resampler.sample_format());
        if let Some(Array { dtype, samples }) = Array::new(chunk, item)? {
            let num_bytes = self.resampler.output_bytes(samples.len());
            self.dtype = Some(dtype.clone().unbind());
            return new_array(&dtype, num_bytes, samples.len() * RESAMPLING_WORK, |output| {
                self.resampler.feed_into(&samples, output);
            });
        }
        let input = Input::new(chunk, item)?;
        let samples = input.as_slice();
        let num_bytes = self.resampler.output_bytes(samples.len());
        self.dtype = None;
        let output = new_bytes(chunk.py(), num_bytes, samples.len() * RESAMPLING_WORK, |output| {
            self.resampler.feed_into(samples, output);
        })?;
        Ok(output.into_any())
    }

    /// Return the outputs that the delay still holds and start a new stream.
    fn flush<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let tail = self.resampler.flush().map_err(CoreError::from)?;
        match self.dtype.take() {
            Some(dtype) => new_array(dtype.bind(py), tail.len(), 0, |output| output.copy_from_slice(&tail)),
            None => Ok(PyBytes::new(py, &tail).into_any()),
        }
    }

    /// Forget the stream and start a new one.
    fn reset(&mut self) {
        self.resampler.reset();
        self.dtype = None;
    }
}

/// Resample a whole mono recording without delay.
#[pyfunction]
#[pyo3(signature = (pcm, input_rate, output_rate, *, quality = "balanced", sample_format = "s16"))]
pub fn resample<'py>(
    pcm: &Bound<'py, PyAny>,
    input_rate: i64,
    output_rate: i64,
    quality: &str,
    sample_format: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let quality = Quality::parse(quality).map_err(CoreError::from)?;
    let sample_format = SampleFormat::parse(sample_format).map_err(CoreError::from)?;
    let (input_rate, output_rate) = (narrow_rate(input_rate)?, narrow_rate(output_rate)?);
    let (dtype, input) = match Array::new(pcm, item_of(sample_format))? {
        Some(Array { dtype, samples }) => (Some(dtype), Input::Copied(samples)),
        None => (None, Input::new(pcm, item_of(sample_format))?),
    };
    let samples = input.as_slice();
    let output = detached(pcm.py(), samples.len() * RESAMPLING_WORK, || {
        speechwire_core::resample::resample(samples, input_rate, output_rate, quality, sample_format)
    });
    let output = output.map_err(CoreError::from)?;
    match dtype {
        Some(dtype) => new_array(&dtype, output.len(), 0, |array| array.copy_from_slice(&output)),
        None => Ok(PyBytes::new(pcm.py(), &output).into_any()),
    }
}
