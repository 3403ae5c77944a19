//! The format chunk.

use super::ima::BlockLayout;
use super::{container, u16_at, u32_at};
use crate::Result;

/// What follows the format tag in the identifier of a `WAVE_FORMAT_EXTENSIBLE` sub-format.
pub const SUB_FORMAT_TAIL: [u8; 14] =
    [0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x80, 0x00, 0x00, 0xAA, 0x00, 0x38, 0x9B, 0x71];

pub const FORMAT_PCM: u16 = 1;
pub const FORMAT_FLOAT: u16 = 3;
pub const FORMAT_ALAW: u16 = 6;
pub const FORMAT_ULAW: u16 = 7;
pub const FORMAT_IMA_ADPCM: u16 = 0x11;
pub const FORMAT_EXTENSIBLE: u16 = 0xFFFE;

/// The size of a sample of IMA ADPCM; the one of 3 bits has died out.
const IMA_BITS: u16 = 4;

/// How samples are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    U8,
    S16,
    S24,
    S32,
    F32,
    F64,
    Ulaw,
    Alaw,
}

impl Encoding {
    pub fn of(format_tag: u16, bits_per_sample: u16) -> Result<Self> {
        match (format_tag, bits_per_sample) {
            (FORMAT_PCM, 8) => Ok(Self::U8),
            (FORMAT_PCM, 16) => Ok(Self::S16),
            (FORMAT_PCM, 24) => Ok(Self::S24),
            (FORMAT_PCM, 32) => Ok(Self::S32),
            (FORMAT_FLOAT, 32) => Ok(Self::F32),
            (FORMAT_FLOAT, 64) => Ok(Self::F64),
            (FORMAT_ULAW, 8) => Ok(Self::Ulaw),
            (FORMAT_ALAW, 8) => Ok(Self::Alaw),
            _ => Err(container(
                "PCM of 8, 16, 24 or 32 bits, float of 32 or 64 bits, mu-law or A-law of 8 bits, IMA ADPCM of 4 bits",
                format!("format {format_tag:#06x} of {bits_per_sample} bits"),
            )),
        }
    }

    pub fn sample_bytes(self) -> usize {
        match self {
            Self::U8 | Self::Ulaw | Self::Alaw => 1,
            Self::S16 => 2,
            Self::S24 => 3,
            Self::S32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

/// How audio is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    Samples { encoding: Encoding, sample_frame_bytes: usize },
    Blocks(BlockLayout),
}

impl Storage {
    pub fn bits_per_sample(self) -> u16 {
        match self {
            Self::Samples { encoding, .. } => encoding.sample_bytes() as u16 * 8,
            Self::Blocks(_) => IMA_BITS,
        }
    }

    /// Return how many samples each channel has in so many bytes of data.
    pub fn samples_in(self, num_bytes: u64) -> u64 {
        match self {
            Self::Samples { sample_frame_bytes, .. } => num_bytes / sample_frame_bytes as u64,
            Self::Blocks(layout) => layout.samples_in(num_bytes),
        }
    }
}

/// What a format chunk says.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub storage: Storage,
    pub sample_rate: u32,
    pub num_channels: u16,
}

/// Parse the body of a format chunk, which has 16 bytes or more.
pub fn parse_layout(chunk: &[u8]) -> Result<Layout> {
    let (num_channels, sample_rate) = (u16_at(chunk, 2), u32_at(chunk, 4));
    let (block_bytes, bits_per_sample) = (u16_at(chunk, 12), u16_at(chunk, 14));
    let mut format_tag = u16_at(chunk, 0);
    if format_tag == FORMAT_EXTENSIBLE {
        if chunk.len() < 40 || chunk[26..40] != SUB_FORMAT_TAIL {
            return Err(container("an extensible format with a known sub-format", format!("{} bytes", chunk.len())));
        }
        format_tag = u16_at(chunk, 24);
    }
    let is_ima = (format_tag, bits_per_sample) == (FORMAT_IMA_ADPCM, IMA_BITS);
    let encoding = if is_ima { None } else { Some(Encoding::of(format_tag, bits_per_sample)?) };
    if num_channels == 0 || sample_rate == 0 {
        return Err(container("at least 1 channel and 1 Hz", format!("{num_channels} channels and {sample_rate} Hz")));
    }
    let storage = match encoding {
        Some(encoding) => {
            let sample_frame_bytes = usize::from(num_channels) * encoding.sample_bytes();
            if usize::from(block_bytes) != sample_frame_bytes {
                return Err(container(
                    format!("sample frames of {sample_frame_bytes} bytes for {num_channels} channels"),
                    format!("{block_bytes} bytes"),
                ));
            }
            Storage::Samples { encoding, sample_frame_bytes }
        }
        None if chunk.len() < 20 => {
            let expected = "a format chunk of 20 bytes or more for IMA ADPCM";
            return Err(container(expected, format!("{} bytes", chunk.len())));
        }
        // The extensible format has the samples of a block at the same place.
        None => Storage::Blocks(BlockLayout::new(num_channels, block_bytes, u16_at(chunk, 18))?),
    };
    Ok(Layout { storage, sample_rate, num_channels })
}
