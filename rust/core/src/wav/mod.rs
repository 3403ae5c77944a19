//! RIFF/WAVE, read and written as a stream.
//!
//! The layout follows Microsoft's "Multimedia Programming Interface and Data Specifications 1.0" and the description
//! of `WAVE_FORMAT_EXTENSIBLE`. Nothing is allocated from a length that the stream only claims.

mod ima;
mod layout;
mod reader;
mod samples;
mod writer;

pub use reader::WavReader;
pub use writer::{WavEncoding, WavWriter};

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

/// Pass whole pieces of `piece_bytes` to `emit`, with the rest kept in `pending`.
fn cut(pending: &mut Vec<u8>, mut chunk: &[u8], piece_bytes: usize, mut emit: impl FnMut(&[u8])) {
    if !pending.is_empty() {
        let num_taken = (piece_bytes - pending.len()).min(chunk.len());
        pending.extend_from_slice(&chunk[..num_taken]);
        chunk = &chunk[num_taken..];
        if pending.len() < piece_bytes {
            return;
        }
        emit(pending);
        pending.clear();
    }
    let (whole, rest) = chunk.split_at(chunk.len() - chunk.len() % piece_bytes);
    emit(whole);
    pending.extend_from_slice(rest);
}
