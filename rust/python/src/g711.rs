//! G.711 over buffers.

use crate::buffer::{Input, Item, new_bytes};
use crate::error::CoreError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use speechwire_core::g711::{Law, decode_into, encode_into, transcode_into};
use speechwire_core::pcm::num_samples;

fn encode<'py>(law: Law, pcm: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let pcm_input = Input::new(pcm, Item::S16)?;
    let num_codes = num_samples(pcm_input.len(), 2).map_err(CoreError::from)?;
    let audio = pcm_input.as_slice();
    new_bytes(pcm.py(), num_codes, audio.len(), |codes| encode_into(law, audio, codes))
}

fn decode<'py>(law: Law, codes: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let input = Input::new(codes, Item::Byte)?;
    let audio = input.as_slice();
    new_bytes(codes.py(), audio.len() * 2, audio.len(), |pcm| decode_into(law, audio, pcm))
}

fn transcode<'py>(from: Law, codes: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let input = Input::new(codes, Item::Byte)?;
    let audio = input.as_slice();
    new_bytes(codes.py(), audio.len(), audio.len(), |output| transcode_into(from, audio, output))
}

/// Encode PCM in G.711 mu-law.
#[pyfunction]
#[pyo3(signature = (pcm, /))]
pub fn ulaw_encode<'py>(pcm: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    encode(Law::Ulaw, pcm)
}

/// Decode G.711 mu-law to PCM.
#[pyfunction]
#[pyo3(signature = (codes, /))]
pub fn ulaw_decode<'py>(codes: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    decode(Law::Ulaw, codes)
}

/// Encode PCM in G.711 A-law.
#[pyfunction]
#[pyo3(signature = (pcm, /))]
pub fn alaw_encode<'py>(pcm: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    encode(Law::Alaw, pcm)
}

/// Decode G.711 A-law to PCM.
#[pyfunction]
#[pyo3(signature = (codes, /))]
pub fn alaw_decode<'py>(codes: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    decode(Law::Alaw, codes)
}

/// Convert mu-law codes to A-law.
#[pyfunction]
#[pyo3(signature = (codes, /))]
pub fn ulaw_to_alaw<'py>(codes: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    transcode(Law::Ulaw, codes)
}

/// Convert A-law codes to mu-law.
#[pyfunction]
#[pyo3(signature = (codes, /))]
pub fn alaw_to_ulaw<'py>(codes: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    transcode(Law::Alaw, codes)
}
