//! PCM and floats over buffers.

use crate::buffer::{Input, Item, new_bytes};
use crate::error::CoreError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use speechwire_core::pcm::{num_samples, pcm_from_float_into, pcm_to_float_into};

/// Convert 32-bit floats to PCM.
#[pyfunction]
#[pyo3(signature = (samples, /))]
pub fn pcm_from_float<'py>(samples: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let input = Input::new(samples, Item::F32)?;
    let num_samples = num_samples(input.len(), 4).map_err(CoreError::from)?;
    let floats = input.as_slice();
    new_bytes(samples.py(), num_samples * 2, floats.len(), |pcm| pcm_from_float_into(floats, pcm))
}

/// Convert PCM to 32-bit floats.
#[pyfunction]
#[pyo3(signature = (pcm, /))]
pub fn pcm_to_float<'py>(pcm: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let input = Input::new(pcm, Item::S16)?;
    let num_samples = num_samples(input.len(), 2).map_err(CoreError::from)?;
    let audio = input.as_slice();
    new_bytes(pcm.py(), num_samples * 4, audio.len(), |floats| pcm_to_float_into(audio, floats))
}
