//! What Python's `audioop` did until 3.12, to the bit: fragments of samples that are 1 to 4 bytes wide.
//!
//! The module measured in doubles and converted with C's rules, and both show in its results. Here sums are integers
//! as long as a double would have held them exactly, and sequential doubles beyond that. Where C leaves a conversion
//! undefined (NaN to an integer), the result is that of x86-64. Samples are little-endian.
//!
//! The texts of [`Refusal`] and the order of the checks are those of the module, not those of this crate.

mod codes;
mod gain;
mod measure;
mod rate;
mod sample;
mod search;

pub use codes::{decode_adpcm_into, decode_into};
pub use rate::{RateConverter, RateState};
pub use search::{best_factor, best_fit, loudest};

use crate::{Error, Result, error::ErrorKind};
use std::fmt;

/// Run an expression with the constant that stands for a width.
macro_rules! by_width {
    ($width:expr, $constant:ident => $expression:expr) => {
        match $width {
            $crate::audioop::Width::One => {
                const $constant: usize = 1;
                $expression
            }
            $crate::audioop::Width::Two => {
                const $constant: usize = 2;
                $expression
            }
            $crate::audioop::Width::Three => {
                const $constant: usize = 3;
                $expression
            }
            $crate::audioop::Width::Four => {
                const $constant: usize = 4;
                $expression
            }
        }
    };
}
use by_width;

/// Why audioop refuses its arguments, in its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The width is not 1, 2, 3 or 4.
    Width,
    /// The fragment ends inside a sample or a sample frame.
    PartialFrame,
    /// There is no sample with this index.
    Index,
    /// A fragment of 16-bit samples has an odd number of bytes.
    OddBytes,
    /// The reference is longer than the fragment it is searched in.
    ReferenceTooLong,
    /// Two fragments that are compared differ in length.
    SizesDiffer,
    /// Two fragments that are added differ in length.
    LengthsDiffer,
    /// The fragment is shorter than the slice it is searched for, or that has a negative length.
    SliceTooLong,
    /// There are fewer than one channel.
    NumChannels,
    /// A sample frame has more bytes than a C int can count.
    FrameTooLong,
    /// A weight of the filter is out of range.
    Weights,
    /// A sample rate is not positive.
    SampleRate,
    /// The state of a rate conversion is for other channels, or is one that no conversion returns.
    RateState,
    /// The state of the ADPCM coder is out of range.
    AdpcmState,
    /// The output cannot be held in memory.
    OutputTooLong,
}

impl Refusal {
    /// Return what the binding has to raise.
    #[must_use]
    pub fn kind(self) -> ErrorKind {
        match self {
            Self::FrameTooLong => ErrorKind::Overflow,
            Self::AdpcmState => ErrorKind::Value,
            Self::OutputTooLong => ErrorKind::Memory,
            _ => ErrorKind::Audioop,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Width => "Size should be 1, 2, 3 or 4",
            Self::PartialFrame => "not a whole number of frames",
            Self::Index => "Index out of range",
            Self::OddBytes => "Strings should be even-sized",
            Self::ReferenceTooLong => "First sample should be longer",
            Self::SizesDiffer => "Samples should be same size",
            Self::LengthsDiffer => "Lengths should be the same",
            Self::SliceTooLong => "Input sample should be longer",
            Self::NumChannels => "# of channels should be >= 1",
            Self::FrameTooLong => "width * nchannels too big for a C int",
            Self::Weights => "weightA should be >= 1, weightB should be >= 0",
            Self::SampleRate => "sampling rate not > 0",
            Self::RateState => "illegal state argument",
            Self::AdpcmState => "bad state",
            Self::OutputTooLong => "not enough memory for output buffer",
        })
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Audioop(refusal)
    }
}

/// How many bytes a sample has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// Signed 8-bit samples.
    One = 1,
    /// Signed 16-bit samples.
    Two = 2,
    /// Signed 24-bit samples, packed.
    Three = 3,
    /// Signed 32-bit samples.
    Four = 4,
}

impl Width {
    /// Check a width.
    #[inline]
    pub fn new(width: i32) -> Result<Self> {
        match width {
            1 => Ok(Self::One),
            2 => Ok(Self::Two),
            3 => Ok(Self::Three),
            4 => Ok(Self::Four),
            _ => Err(Refusal::Width.into()),
        }
    }

    /// Return the number of bytes of `num_samples` samples.
    pub fn num_bytes(self, num_samples: usize) -> Result<usize> {
        let num_bytes = num_samples.checked_mul(self as usize).filter(|num_bytes| isize::try_from(*num_bytes).is_ok());
        num_bytes.ok_or(Error::Audioop(Refusal::OutputTooLong))
    }
}

/// Whole samples of one width.
#[derive(Clone, Copy, Debug)]
pub struct Fragment<'a> {
    bytes: &'a [u8],
    width: Width,
}

impl<'a> Fragment<'a> {
    /// Check that bytes are whole samples of a width.
    #[inline]
    pub fn new(bytes: &'a [u8], width: i32) -> Result<Self> {
        let width = Width::new(width)?;
        if by_width!(width, N => bytes.len().is_multiple_of(N)) {
            Ok(Self { bytes, width })
        } else {
            Err(Refusal::PartialFrame.into())
        }
    }

    /// Check in addition that the samples come in pairs.
    pub fn new_stereo(bytes: &'a [u8], width: i32) -> Result<Self> {
        let fragment = Self::new(bytes, width)?;
        if fragment.num_samples().is_multiple_of(2) { Ok(fragment) } else { Err(Refusal::PartialFrame.into()) }
    }

    /// Return the number of bytes.
    #[must_use]
    pub fn num_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Return the number of samples.
    #[inline]
    #[must_use]
    pub fn num_samples(&self) -> usize {
        by_width!(self.width, N => self.bytes.len() / N)
    }

    /// Return the bytes per sample.
    #[must_use]
    pub fn width(&self) -> Width {
        self.width
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn width_is_checked_before_the_length() {
        assert_eq!(Fragment::new(&[0], 5).map(|_| ()), Err(Refusal::Width.into()));
        assert_eq!(Fragment::new(&[0], 2).map(|_| ()), Err(Refusal::PartialFrame.into()));
        assert_eq!(Fragment::new_stereo(&[0, 0], 2).map(|_| ()), Err(Refusal::PartialFrame.into()));
    }

    #[test]
    fn output_has_to_fit_into_memory() {
        assert_eq!(Width::Two.num_bytes(3), Ok(6));
        assert_eq!(Width::Two.num_bytes(usize::MAX / 2), Err(Refusal::OutputTooLong.into()));
        assert_eq!(Width::Four.num_bytes(usize::MAX / 2), Err(Refusal::OutputTooLong.into()));
    }

    #[test]
    fn refusals_know_their_exception() {
        assert_eq!(Error::from(Refusal::AdpcmState).kind(), ErrorKind::Value);
        assert_eq!(Error::from(Refusal::FrameTooLong).kind(), ErrorKind::Overflow);
        assert_eq!(Error::from(Refusal::OutputTooLong).kind(), ErrorKind::Memory);
        assert_eq!(Error::from(Refusal::Index).kind(), ErrorKind::Audioop);
        assert_eq!(Error::from(Refusal::Index).to_string(), "Index out of range");
    }
}
