//! Writing.

use super::page::{checksum, container};
use super::{
    CAPTURE_PATTERN, CHECKSUM_POSITION, FLAG_CONTINUED, FLAG_FIRST, FLAG_LAST, FULL_SEGMENT, HEADER_BYTES,
    MAX_PACKET_BYTES, MAX_SEGMENTS, NO_POSITION,
};
use crate::Result;

/// Writes the packets of one stream as Ogg pages.
///
/// A page ends where the caller says so, and where it is full.
#[derive(Clone, Debug)]
pub struct PageWriter {
    serial: u32,
    sequence: u32,
    lacing: Vec<u8>,
    body: Vec<u8>,
    /// That of the last packet that ends on the page, or [`NO_POSITION`].
    granule_position: u64,
    /// That of the last packet of all.
    last_granule_position: u64,
    /// Those of the page, but for [`FLAG_LAST`].
    flags: u8,
}

impl PageWriter {
    /// Create a writer of the stream with this number; streams that follow one another need different ones.
    #[must_use]
    pub fn new(serial: u32) -> Self {
        Self {
            serial,
            sequence: 0,
            lacing: Vec::with_capacity(MAX_SEGMENTS),
            body: Vec::new(),
            granule_position: NO_POSITION,
            last_granule_position: 0,
            flags: FLAG_FIRST,
        }
    }

    /// Add a packet and append the pages it completes to `output`.
    ///
    /// `granule_position` is the time at the end of the packet, in units of the codec. Do not end the page after the
    /// last packet of the stream: [`finish`](Self::finish) does that.
    pub fn push_packet(
        &mut self,
        packet: &[u8],
        granule_position: u64,
        ends_page: bool,
        output: &mut Vec<u8>,
    ) -> Result<()> {
        if packet.len() > MAX_PACKET_BYTES {
            let expected = format!("packets of at most {MAX_PACKET_BYTES} bytes");
            return Err(container(expected, format!("{} bytes", packet.len())));
        }
        if granule_position == NO_POSITION {
            return Err(container(format!("a granule position below {NO_POSITION}"), granule_position.to_string()));
        }
        let mut rest = packet;
        loop {
            if self.lacing.len() == MAX_SEGMENTS {
                self.write_page(0, output);
                if rest.len() < packet.len() {
                    self.flags = FLAG_CONTINUED;
                }
            }
            let (segment, tail) = rest.split_at(rest.len().min(usize::from(FULL_SEGMENT)));
            self.lacing.push(segment.len() as u8);
            self.body.extend_from_slice(segment);
            rest = tail;
            // A packet ends with a segment that is not full, be it an empty one.
            if segment.len() < usize::from(FULL_SEGMENT) {
                break;
            }
        }
        self.granule_position = granule_position;
        self.last_granule_position = granule_position;
        if ends_page {
            self.write_page(0, output);
        }
        Ok(())
    }

    /// Append the last page of the stream to `output`; it is empty if there is no packet for it.
    pub fn finish(mut self, output: &mut Vec<u8>) {
        self.granule_position = self.last_granule_position;
        self.write_page(FLAG_LAST, output);
    }

    fn write_page(&mut self, last: u8, output: &mut Vec<u8>) {
        let start = output.len();
        output.reserve(HEADER_BYTES + self.lacing.len() + self.body.len());
        output.extend_from_slice(&CAPTURE_PATTERN);
        output.extend_from_slice(&[0, self.flags | last]);
        output.extend_from_slice(&self.granule_position.to_le_bytes());
        output.extend_from_slice(&self.serial.to_le_bytes());
        output.extend_from_slice(&self.sequence.to_le_bytes());
        output.extend_from_slice(&[0; 4]);
        output.push(self.lacing.len() as u8);
        output.append(&mut self.lacing);
        output.append(&mut self.body);
        let checksum = checksum(&output[start..]);
        output[start + CHECKSUM_POSITION..][..4].copy_from_slice(&checksum.to_le_bytes());
        self.sequence = self.sequence.wrapping_add(1);
        self.granule_position = NO_POSITION;
        self.flags = 0;
    }
}
