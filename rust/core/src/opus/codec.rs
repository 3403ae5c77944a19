//! What is used of libopus; nothing else calls it.

use super::OPUS_SAMPLE_RATE;
use crate::{Error, Result};
use opus::{Application, Bitrate, Channels};
use std::sync::{Mutex, PoisonError};

/// The longest packet: 120 ms (RFC 6716, section 3.2.5).
const MAX_PACKET_SAMPLES: usize = OPUS_SAMPLE_RATE as usize / 1000 * 120;
/// The longest packet of one frame (RFC 6716, section 3.2.1), and the byte in front that says what it is.
const MAX_ENCODED_BYTES: usize = 1275 + 1;

/// A decoder to 48 kHz.
#[derive(Debug)]
pub(super) struct Decoder {
    // A state of libopus may move between threads but has one user at a time. The lock says so to the compiler; it is
    // never taken, as every call has the decoder to itself.
    state: Mutex<opus::Decoder>,
    samples: Vec<i16>,
    num_channels: usize,
}

impl Decoder {
    /// Create a decoder of one or two channels with a gain in dB / 256.
    pub(super) fn new(num_channels: u8, gain: i16) -> Result<Self> {
        let channels = if num_channels == 1 { Channels::Mono } else { Channels::Stereo };
        let mut state = opus::Decoder::new(OPUS_SAMPLE_RATE, channels).map_err(|error| failure("a decoder", error))?;
        state.set_gain(i32::from(gain)).map_err(|error| failure("a gain", error))?;
        let samples = vec![0; MAX_PACKET_SAMPLES * usize::from(num_channels)];
        Ok(Self { state: Mutex::new(state), samples, num_channels: usize::from(num_channels) })
    }

    /// Decode a packet to interleaved samples, or say what is wrong with it.
    ///
    /// What is louder than full scale is bent before it is rounded, not cut off.
    pub(super) fn decode(&mut self, packet: &[u8]) -> std::result::Result<&[i16], &'static str> {
        // No bytes would mean a lost packet to libopus.
        if packet.is_empty() {
            return Err("an empty packet");
        }
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        match state.decode(packet, &mut self.samples, false) {
            Ok(num_sample_frames) => Ok(&self.samples[..num_sample_frames * self.num_channels]),
            Err(error) => Err(error.description()),
        }
    }
}

/// An encoder of one channel.
#[derive(Debug)]
pub(super) struct Encoder {
    /// See [`Decoder`].
    state: Mutex<opus::Encoder>,
    lookahead: u32,
    samples: Vec<i16>,
    packet: Vec<u8>,
}

impl Encoder {
    /// Create an encoder; the rate is one of those that libopus has.
    pub(super) fn new(sample_rate: u32, bitrate: i32) -> Result<Self> {
        // The application for speech alone filters the lowest band, which costs 20 dB and suits telephones.
        let mut state = opus::Encoder::new(sample_rate, Channels::Mono, Application::Audio)
            .map_err(|error| failure("an encoder", error))?;
        state.set_bitrate(Bitrate::Bits(bitrate)).map_err(|error| failure("a bitrate", error))?;
        let lookahead = state.get_lookahead().map_err(|error| failure("the lookahead", error))? as u32;
        Ok(Self { state: Mutex::new(state), lookahead, samples: Vec::new(), packet: vec![0; MAX_ENCODED_BYTES] })
    }

    /// Return the delay in samples of the encoder's rate.
    pub(super) fn lookahead(&self) -> u32 {
        self.lookahead
    }

    /// Encode 2.5, 5, 10 or 20 ms of PCM to a packet.
    pub(super) fn encode(&mut self, pcm: &[u8]) -> Result<&[u8]> {
        self.samples.clear();
        self.samples.extend(pcm.as_chunks::<2>().0.iter().map(|sample| i16::from_le_bytes(*sample)));
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let num_bytes = state.encode(&self.samples, &mut self.packet).map_err(|error| failure("a packet", error))?;
        Ok(&self.packet[..num_bytes])
    }

    /// Forget the stream and start a new one.
    pub(super) fn reset(&mut self) {
        let result = self.state.get_mut().unwrap_or_else(PoisonError::into_inner).reset_state();
        debug_assert!(result.is_ok(), "libopus clears its memory and has nothing to refuse");
    }
}

/// What libopus refuses though its rules are kept: in practice that the memory is used up.
fn failure(expected: &str, error: opus::Error) -> Error {
    Error::Opus { expected: format!("{expected} from libopus"), got: error.description().to_owned() }
}
