//! The Python module `speechwire._core`: extract, one call into the core, wrap.

mod audioop;
mod buffer;
mod error;
mod g711;
mod jitter;
mod message;
mod opus;
mod pcm;
mod resample;
mod slicer;
mod transcode;
mod wav;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use speechwire_core::Backend;

/// Tell what was built: version, profile, target, the CPU features and the kernels in use.
#[pyfunction]
fn build_info(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let info = PyDict::new(py);
    info.set_item("version", env!("CARGO_PKG_VERSION"))?;
    info.set_item("profile", if cfg!(debug_assertions) { "debug" } else { "release" })?;
    info.set_item("target", format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS))?;
    info.set_item("cpu_features", cpu_features())?;
    info.set_item("simd", Backend::detect().name())?;
    Ok(info)
}

/// Name the features that the code was compiled for or that are chosen when it runs.
#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<&'static str> {
    let detected = [
        ("sse2", std::arch::is_x86_feature_detected!("sse2")),
        ("ssse3", std::arch::is_x86_feature_detected!("ssse3")),
        ("sse4.1", std::arch::is_x86_feature_detected!("sse4.1")),
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
    ];
    detected.iter().filter(|(_, is_present)| *is_present).map(|(name, _)| *name).collect()
}

/// Name the features that the code was compiled for or that are chosen when it runs.
#[cfg(not(target_arch = "x86_64"))]
fn cpu_features() -> Vec<&'static str> {
    if cfg!(target_feature = "neon") { vec!["neon"] } else { Vec::new() }
}

/// The audio core of Speechwire.
#[pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::build_info;
    #[pymodule_export]
    use super::g711::{alaw_decode, alaw_encode, alaw_to_ulaw, ulaw_decode, ulaw_encode, ulaw_to_alaw};
    #[pymodule_export]
    use super::jitter::{JitterBuffer, JitterFrame, JitterStats};
    #[pymodule_export]
    use super::message::{decode_message, encode_audio_message};
    #[pymodule_export]
    use super::opus::{OggOpusReader, OggOpusWriter};
    #[pymodule_export]
    use super::pcm::{pcm_from_float, pcm_to_float};
    #[pymodule_export]
    use super::resample::{Resampler, resample};
    #[pymodule_export]
    use super::slicer::FrameSlicer;
    #[pymodule_export]
    use super::transcode::Transcoder;
    #[pymodule_export]
    use super::wav::{WavReader, WavWriter};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::audioop::add_functions(module)
    }
}
