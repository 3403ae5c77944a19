//! The one error type of the crate.

use crate::audioop::Refusal;
use std::fmt;

/// The result of every fallible function here.
pub type Result<T> = std::result::Result<T, Error>;

/// What can be wrong with audio, a container or a message.
///
/// The text is lower case without a full stop and names what was expected and what came.
#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// The input ends inside a sample or a sample frame.
    PartialSample {
        /// The size of one sample, or of one sample frame.
        sample_bytes: usize,
        /// How many bytes came in all.
        num_bytes: u64,
    },
    /// A sample rate outside the supported range.
    SampleRate {
        /// The rate in Hz.
        sample_rate: i64,
    },
    /// A pair of rates whose coefficient bank would be too large.
    RatePair {
        /// The rate of the input in Hz.
        input_rate: u32,
        /// The rate of the output in Hz.
        output_rate: u32,
        /// How many coefficients the pair needs.
        num_taps: u64,
        /// How many are allowed.
        max_taps: u64,
    },
    /// A ratio was to be varied that is fixed.
    FixedRatio {
        /// The deviation in parts per million.
        ratio_ppm: f64,
    },
    /// A ratio was to be varied too far.
    RatioPpm {
        /// The deviation in parts per million.
        ratio_ppm: f64,
    },
    /// A frame of no bytes.
    FrameBytes,
    /// A frame duration that is not a whole number of samples.
    FrameMs {
        /// The duration in milliseconds.
        frame_ms: f64,
        /// The rate in Hz.
        sample_rate: u32,
    },
    /// A name that is not in the list of its kind.
    UnknownName {
        /// What is named: a format, a quality.
        kind: &'static str,
        /// The names there are.
        expected: &'static str,
        /// The name that came.
        name: String,
    },
    /// A stream that breaks the rules of its container.
    Container {
        /// What the rules ask for.
        expected: String,
        /// What came.
        got: String,
    },
    /// What the Opus codec does not take: a rate, a bitrate, a frame.
    Opus {
        /// What there is.
        expected: String,
        /// What came.
        got: String,
    },
    /// What a jitter buffer does not take: an option, a time, a packet.
    Jitter {
        /// What it takes.
        expected: String,
        /// What came.
        got: String,
    },
    /// Arguments that Python's `audioop` refused, too.
    Audioop(Refusal),
    /// A text that is not the JSON it should be.
    Json {
        /// What the rules ask for.
        expected: &'static str,
        /// What came.
        got: String,
        /// Where, in bytes from the start of the text.
        position: usize,
    },
    /// A field that is not standard base64 with padding.
    Base64 {
        /// What is wrong.
        expected: &'static str,
        /// What came.
        got: String,
        /// Where, in bytes from the start of the text.
        position: usize,
    },
}

/// The part of the product an error belongs to, which decides the exception a binding raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Audio bytes, formats or options.
    Audio,
    /// A container such as WAV.
    Container,
    /// A message.
    Wire,
    /// What `audioop.error` stands for.
    Audioop,
    /// An argument of the right type with a wrong value, where `audioop` raised Python's own exception; so below.
    Value,
    /// An integer that is too large.
    Overflow,
    /// An output that is too large.
    Memory,
}

impl Error {
    /// Return the part of the product the error belongs to.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::PartialSample { .. }
            | Self::SampleRate { .. }
            | Self::RatePair { .. }
            | Self::FixedRatio { .. }
            | Self::RatioPpm { .. }
            | Self::FrameBytes
            | Self::FrameMs { .. }
            | Self::Jitter { .. }
            | Self::Opus { .. }
            | Self::UnknownName { .. } => ErrorKind::Audio,
            Self::Container { .. } => ErrorKind::Container,
            Self::Audioop(refusal) => refusal.kind(),
            Self::Json { .. } | Self::Base64 { .. } => ErrorKind::Wire,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PartialSample { sample_bytes, num_bytes } => {
                write!(f, "expected whole samples of {sample_bytes} bytes, got {num_bytes} bytes")
            }
            Self::SampleRate { sample_rate } => {
                let (low, high) = (crate::resample::MIN_SAMPLE_RATE, crate::resample::MAX_SAMPLE_RATE);
                write!(f, "expected a sample rate of {low} to {high} Hz, got {sample_rate}")
            }
            Self::RatePair { input_rate, output_rate, num_taps, max_taps } => write!(
                f,
                "expected rates that need at most {max_taps} coefficients, got {num_taps} for {input_rate} to \
                 {output_rate} Hz"
            ),
            Self::FixedRatio { ratio_ppm } => {
                write!(f, "expected a resampler of variable ratio, got one of fixed ratio to vary by {ratio_ppm} ppm")
            }
            Self::RatioPpm { ratio_ppm } => {
                let most = crate::resample::MAX_RATIO_PPM;
                write!(f, "expected a deviation of -{most} to {most} ppm, got {ratio_ppm}")
            }
            Self::FrameBytes => write!(f, "expected a frame of at least 1 byte, got 0"),
            Self::FrameMs { frame_ms, sample_rate } => {
                let samples = frame_ms * f64::from(*sample_rate) / 1000.0;
                write!(
                    f,
                    "expected a frame of 1 or more whole samples up to 60 s, got {samples} ({frame_ms} ms at \
                     {sample_rate} Hz)"
                )
            }
            Self::UnknownName { kind, expected, name } => write!(f, "expected a {kind} of {expected}, got {name:?}"),
            Self::Audioop(refusal) => refusal.fmt(f),
            Self::Container { expected, got } | Self::Opus { expected, got } | Self::Jitter { expected, got } => {
                write!(f, "expected {expected}, got {got}")
            }
            Self::Json { expected, got, position } | Self::Base64 { expected, got, position } => {
                write!(f, "expected {expected}, got {got} at byte {position}")
            }
        }
    }
}

impl std::error::Error for Error {}
