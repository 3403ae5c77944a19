//! RIFF/WAVE, read and written as a stream.
//!
//! The layout follows Microsoft's "Multimedia Programming Interface and Data Specifications 1.0" and the description
//! of `WAVE_FORMAT_EXTENSIBLE`. Nothing is allocated from a length that the stream only claims.

mod layout;
mod reader;
mod samples;
mod writer;

pub use reader::WavReader;
pub use writer::{HEADER_BYTES, WavWriter};

use crate::Error;

fn container(expected: impl Into<String>, got: impl Into<String>) -> Error {
    Error::Container { expected: expected.into(), got: got.into() }
}

fn u16_at(bytes: &[u8], position: usize) -> u16 {
    u16::from_le_bytes([bytes[position], bytes[position + 1]])
}

fn u32_at(bytes: &[u8], position: usize) -> u32 {
    u32::from(u16_at(bytes, position)) | u32::from(u16_at(bytes, position + 2)) << 16
}
