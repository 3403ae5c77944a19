//! The names of audio formats on the wire.

use crate::g711::Law;
use crate::opus::OPUS_SAMPLE_RATE;
use crate::resample::check_sample_rate;
use crate::{Error, Result};

/// The names in error texts; PCM takes every other supported rate as well.
const NAMES: &str = "pcm, pcm_8000, pcm_16000, pcm_22050, pcm_24000, pcm_44100, pcm_48000, wav, opus, \
                     ulaw_8000, mulaw_8000, alaw_8000";
/// The rate of G.711 in Hz.
pub const G711_SAMPLE_RATE: u32 = 8_000;
/// What a service hears when PCM is sent to it without a rate, in Hz.
pub const SOURCE_SAMPLE_RATE: u32 = 24_000;
/// What a service says when it is asked for PCM or WAV without a rate, in Hz.
pub const TARGET_SAMPLE_RATE: u32 = 48_000;

/// An audio format that travels on the wire, always mono unless the header of a container says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Signed 16-bit little-endian PCM.
    Pcm {
        /// The rate in Hz.
        sample_rate: u32,
    },
    /// A RIFF/WAVE stream, whose header tells the rest.
    Wav,
    /// An Ogg Opus stream, which is decoded at 48 kHz whatever was encoded.
    Opus,
    /// G.711 at 8000 Hz.
    G711(Law),
}

impl Format {
    /// Parse the name of a format that is sent to a service: `pcm` is 24 kHz.
    pub fn parse_source(name: &str) -> Result<Self> {
        Self::parse(name, SOURCE_SAMPLE_RATE)
    }

    /// Parse the name of a format that comes from a service: `pcm` is 48 kHz.
    pub fn parse_target(name: &str) -> Result<Self> {
        Self::parse(name, TARGET_SAMPLE_RATE)
    }

    fn parse(name: &str, bare_sample_rate: u32) -> Result<Self> {
        match name {
            "pcm" => {
                return Ok(Self::Pcm { sample_rate: bare_sample_rate });
            }
            "wav" => return Ok(Self::Wav),
            "opus" => return Ok(Self::Opus),
            "ulaw_8000" | "mulaw_8000" => return Ok(Self::G711(Law::Ulaw)),
            "alaw_8000" => return Ok(Self::G711(Law::Alaw)),
            _ => {}
        }
        let digits = name.strip_prefix("pcm_").unwrap_or_default();
        let is_number = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
        match digits.parse() {
            Ok(sample_rate) if is_number => {
                check_sample_rate(sample_rate)?;
                Ok(Self::Pcm { sample_rate })
            }
            _ => Err(Error::UnknownName { kind: "format", expected: NAMES, name: name.to_owned() }),
        }
    }

    /// Return the rate in Hz, or None where a WAV header tells it.
    #[must_use]
    pub fn sample_rate(self) -> Option<u32> {
        match self {
            Self::Pcm { sample_rate } => Some(sample_rate),
            Self::Wav => None,
            Self::Opus => Some(OPUS_SAMPLE_RATE),
            Self::G711(_) => Some(G711_SAMPLE_RATE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed() {
        let cases = [
            ("pcm_8000", Format::Pcm { sample_rate: 8_000 }),
            ("pcm_11025", Format::Pcm { sample_rate: 11_025 }),
            ("wav", Format::Wav),
            ("opus", Format::Opus),
            ("ulaw_8000", Format::G711(Law::Ulaw)),
            ("mulaw_8000", Format::G711(Law::Ulaw)),
            ("alaw_8000", Format::G711(Law::Alaw)),
        ];
        for (name, format) in cases {
            assert_eq!(Format::parse_source(name), Ok(format));
            assert_eq!(Format::parse_target(name), Ok(format));
        }
    }

    #[test]
    fn bare_pcm_depends_on_the_direction() {
        assert_eq!(Format::parse_source("pcm"), Ok(Format::Pcm { sample_rate: 24_000 }));
        assert_eq!(Format::parse_target("pcm"), Ok(Format::Pcm { sample_rate: 48_000 }));
    }

    #[test]
    fn unknown_names_list_the_known_ones() {
        for name in ["", "PCM", "pcm_", "pcm_+8000", "pcm_08000", "pcm_8k", "ulaw", "ulaw_16000", "pcm_99999999999"] {
            let text = Format::parse_source(name).expect_err(name).to_string();
            assert_eq!(text, format!("expected a format of {NAMES}, got {name:?}"));
        }
    }

    #[test]
    fn rates_out_of_range_are_named() {
        let text = Format::parse_target("pcm_999").expect_err("low").to_string();
        assert_eq!(text, "expected a sample rate of 1000 to 384000 Hz, got 999");
    }
}
