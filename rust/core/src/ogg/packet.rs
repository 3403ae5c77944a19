//! Packets.

use super::page::container;
use super::{FULL_SEGMENT, MAX_PACKET_BYTES, Page, PageReader};
use crate::Result;

/// One packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The bytes of the packet.
    pub data: &'a [u8],
    /// The number of its stream.
    pub serial: u32,
    /// The time at its end, in units of the codec; None unless it is the last packet that ends on its page.
    pub granule_position: Option<u64>,
    /// It is the first packet of its stream.
    pub begins_stream: bool,
    /// It is the last packet of its stream, unless the last page was empty: [`Event::End`] always comes.
    pub ends_stream: bool,
    /// It started on an earlier page.
    pub is_continued: bool,
}

/// What a [`PacketReader`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A packet.
    Packet(Packet<'a>),
    /// The end of a stream, after its last packet; another stream may follow.
    End {
        /// The number of the stream.
        serial: u32,
        /// The granule position of the last page, which may have no packet.
        granule_position: Option<u64>,
    },
}

#[derive(Clone, Debug)]
struct Stream {
    serial: u32,
    next_sequence: u32,
    has_packet: bool,
    is_packet_open: bool,
}

/// Puts the packets of an Ogg stream together that comes in chunks.
#[derive(Clone, Debug, Default)]
pub struct PacketReader {
    pages: PageReader,
    packets: Packets,
}

impl PacketReader {
    /// Create a reader.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Feed bytes of the stream and pass the packets they complete to `emit`.
    ///
    /// After an error, also one of `emit`, every further call returns the same error.
    pub fn feed(&mut self, chunk: &[u8], mut emit: impl FnMut(Event<'_>) -> Result<()>) -> Result<()> {
        self.pages.feed(chunk, |page| self.packets.read(page, &mut emit))
    }

    /// Check that the stream may end here: after its last page, and not before its first.
    pub fn close(&self) -> Result<()> {
        self.pages.close()?;
        match &self.packets.stream {
            Some(stream) => Err(container(
                format!("the last page of stream {:#010x}", stream.serial),
                format!("the end after page {}", stream.next_sequence.wrapping_sub(1)),
            )),
            None if self.packets.num_streams == 0 => Err(container("an Ogg stream", "no page")),
            None => Ok(()),
        }
    }
}

/// What is known between two pages.
#[derive(Clone, Debug, Default)]
struct Packets {
    /// None before the first page and after a last one.
    stream: Option<Stream>,
    num_streams: u64,
    /// The start of the packet that goes on on the next page.
    pending: Vec<u8>,
}

impl Packets {
    fn read(&mut self, page: Page<'_>, emit: &mut impl FnMut(Event<'_>) -> Result<()>) -> Result<()> {
        let mut stream = self.enter(&page)?;
        let last_end = page.lacing.iter().rposition(|size| *size < FULL_SEGMENT);
        if last_end.is_some() && page.granule_position.is_none() {
            return Err(container(
                format!("a granule position on the page at byte {}, where a packet ends", page.position),
                "none",
            ));
        }
        let mut rest = page.body;
        let mut packet_bytes = 0;
        let mut is_continued = page.is_continued;
        for (index, size) in page.lacing.iter().enumerate() {
            packet_bytes += usize::from(*size);
            if *size == FULL_SEGMENT {
                continue;
            }
            let (data, tail) = rest.split_at(packet_bytes);
            (rest, packet_bytes) = (tail, 0);
            let data = if is_continued {
                self.append(data, &page)?;
                &self.pending
            } else {
                data
            };
            let ends_page = Some(index) == last_end;
            emit(Event::Packet(Packet {
                data,
                serial: page.serial,
                granule_position: page.granule_position.filter(|_| ends_page),
                begins_stream: !std::mem::replace(&mut stream.has_packet, true),
                ends_stream: ends_page && page.ends_stream,
                is_continued,
            }))?;
            self.pending.clear();
            is_continued = false;
        }
        // A page without segments leaves an open packet open.
        if let Some(last) = page.lacing.last() {
            stream.is_packet_open = *last == FULL_SEGMENT;
        }
        if stream.is_packet_open {
            self.append(rest, &page)?;
        }
        if !page.ends_stream {
            self.stream = Some(stream);
            return Ok(());
        }
        if stream.is_packet_open {
            return Err(container(
                format!("the end of a packet on the last page, at byte {}", page.position),
                format!("{} bytes that go on", self.pending.len()),
            ));
        }
        emit(Event::End { serial: page.serial, granule_position: page.granule_position })
    }

    /// Check that the page is the next one; return its stream, with the next sequence number.
    fn enter(&mut self, page: &Page<'_>) -> Result<Stream> {
        let place = || format!("page {} of stream {:#010x} at byte {}", page.sequence, page.serial, page.position);
        let mut stream = match self.stream.take() {
            None if !page.begins_stream => return Err(container("the first page of a stream", place())),
            None => {
                self.num_streams += 1;
                let next_sequence = page.sequence;
                Stream { serial: page.serial, next_sequence, has_packet: false, is_packet_open: false }
            }
            Some(stream) if page.serial != stream.serial => {
                return Err(container(format!("stream {:#010x} until its last page", stream.serial), place()));
            }
            Some(_) if page.begins_stream => {
                return Err(container("one first page of a stream", format!("another as {}", place())));
            }
            Some(stream) if page.sequence != stream.next_sequence => {
                let expected = format!("page {} of stream {:#010x}", stream.next_sequence, stream.serial);
                return Err(container(expected, place()));
            }
            Some(stream) => stream,
        };
        if page.is_continued != stream.is_packet_open {
            let (expected, got) = if page.is_continued { ("starts", "continues") } else { ("continues", "starts") };
            return Err(container(
                format!("a page that {expected} a packet"),
                format!("one that {got} one, {}", place()),
            ));
        }
        stream.next_sequence = stream.next_sequence.wrapping_add(1);
        Ok(stream)
    }

    fn append(&mut self, data: &[u8], page: &Page<'_>) -> Result<()> {
        let num_bytes = self.pending.len() + data.len();
        if num_bytes > MAX_PACKET_BYTES {
            return Err(container(
                format!("packets of at most {MAX_PACKET_BYTES} bytes"),
                format!("{num_bytes} bytes on the page at byte {}", page.position),
            ));
        }
        self.pending.extend_from_slice(data);
        Ok(())
    }
}
