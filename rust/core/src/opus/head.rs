//! The two header packets (RFC 7845, section 5).

use crate::Result;
use crate::ogg::container;

const HEAD_MAGIC: &[u8] = b"OpusHead";
const TAGS_MAGIC: &[u8] = b"OpusTags";
/// The size of the identification header in channel mapping family 0.
const HEAD_BYTES: usize = 19;
/// Who wrote the stream, for its comment header.
const VENDOR: &str = concat!("speechwire ", env!("CARGO_PKG_VERSION"));

/// The identification header, but for the rate of what was encoded, which decodes to 48 kHz all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) num_channels: u8,
    /// How many samples to throw away at the start, at 48 kHz.
    pub(super) pre_skip: u16,
    /// In dB / 256.
    pub(super) gain: i16,
}

impl Head {
    pub(super) fn parse(packet: &[u8]) -> Result<Self> {
        let got = || format!("{:?}", String::from_utf8_lossy(&packet[..packet.len().min(HEAD_MAGIC.len())]));
        if !packet.starts_with(HEAD_MAGIC) {
            return Err(container("the header \"OpusHead\"", got()));
        }
        let Some(fields) = packet.first_chunk::<HEAD_BYTES>() else {
            return Err(container(
                format!("an \"OpusHead\" of at least {HEAD_BYTES} bytes"),
                format!("{} bytes", packet.len()),
            ));
        };
        // Section 5.1: a change of the lower half keeps to what is read here.
        if fields[8] >= 16 {
            return Err(container("version 0 to 15 of \"OpusHead\"", fields[8].to_string()));
        }
        let (num_channels, family) = (fields[9], fields[18]);
        if family != 0 {
            return Err(container("channel mapping family 0", format!("family {family} with {num_channels} channels")));
        }
        if !(1..=2).contains(&num_channels) {
            return Err(container("1 or 2 channels in channel mapping family 0", num_channels.to_string()));
        }
        Ok(Self {
            num_channels,
            pre_skip: u16::from_le_bytes([fields[10], fields[11]]),
            gain: i16::from_le_bytes([fields[16], fields[17]]),
        })
    }

    /// Return the header of a stream whose input had the rate.
    pub(super) fn build(self, input_sample_rate: u32) -> Vec<u8> {
        let mut packet = HEAD_MAGIC.to_vec();
        packet.extend([1, self.num_channels]);
        packet.extend(self.pre_skip.to_le_bytes());
        packet.extend(input_sample_rate.to_le_bytes());
        packet.extend(self.gain.to_le_bytes());
        packet.push(0);
        packet
    }
}

/// Check that the packet is a comment header; what it says is skipped.
pub(super) fn check_tags(packet: &[u8]) -> Result<()> {
    if packet.starts_with(TAGS_MAGIC) {
        return Ok(());
    }
    let start = String::from_utf8_lossy(&packet[..packet.len().min(TAGS_MAGIC.len())]);
    Err(container("the header \"OpusTags\"", format!("{start:?}")))
}

/// Return a comment header without comments.
pub(super) fn build_tags() -> Vec<u8> {
    let mut packet = TAGS_MAGIC.to_vec();
    packet.extend((VENDOR.len() as u32).to_le_bytes());
    packet.extend(VENDOR.as_bytes());
    packet.extend(0_u32.to_le_bytes());
    packet
}
