//! The audio core of Speechwire.
//!
//! Bytes and slices in, bytes and slices out: no Python, no I/O, no clock and no vendor. Audio is signed 16-bit
//! little-endian PCM unless a name says otherwise. Every streaming type gives the same output for any cutting of its
//! input.

pub mod adpcm;
pub mod audioop;
pub mod error;
pub mod format;
pub mod g711;
pub mod jitter;
pub mod message;
pub mod ogg;
pub mod opus;
pub mod pcm;
pub mod resample;
mod simd;
pub mod slicer;
pub mod transcode;
pub mod wav;

pub use error::{Error, Result};
pub use format::Format;
pub use jitter::{JitterBuffer, JitterOptions, JitterStats};
pub use opus::{OggOpusReader, OggOpusWriter};
pub use resample::{Quality, Resampler, SampleFormat};
pub use simd::Backend;
pub use slicer::FrameSlicer;
pub use transcode::Transcoder;
pub use wav::{WavEncoding, WavReader, WavWriter};
