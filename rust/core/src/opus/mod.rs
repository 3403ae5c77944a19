//! Ogg Opus (RFC 7845), read and written as a stream.
//!
//! The pages are those of [`crate::ogg`], the codec is libopus (RFC 6716). Pre-skip and granule positions count samples
//! at 48 kHz, whatever the rate of the input. One or two channels are read, in channel mapping family 0, and one is
//! written.

mod codec;
mod head;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use reader::OggOpusReader;
pub use writer::{DEFAULT_BITRATE, DEFAULT_FRAME_MS, OggOpusWriter};

/// The rate in Hz of everything that is decoded, and of every position in a stream.
pub const OPUS_SAMPLE_RATE: u32 = 48_000;
