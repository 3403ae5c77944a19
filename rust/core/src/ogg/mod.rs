//! The pages of an Ogg stream (RFC 3533), read and written as bytes come and go.
//!
//! [`PageReader`] finds pages and checks them, [`PacketReader`] puts packets together, [`PageWriter`] does both the
//! other way round. What is broken is refused, with the position and both values, and never skipped: a wrong checksum,
//! bytes between pages, a page that is missing. Streams may follow one another (chained), but not run side by side
//! (grouped).
//!
//! The `ogg` crate is not used outside the tests. Its reader needs `Read` and `Seek`. Its parts without I/O (as of
//! 0.9.2) leave it to the caller to cut pages from bytes, do not look at the sequence numbers, put no limit on the
//! size of a packet or on the number of streams they remember, and their errors do not say where. With all that
//! around them, only the lacing and the checksum would remain of them.

mod packet;
mod page;
#[cfg(test)]
mod tests;
mod writer;

pub use packet::{Event, Packet, PacketReader};
pub(crate) use page::container;
pub use page::{Page, PageReader, checksum};
pub use writer::PageWriter;

/// The largest packet, read or written.
///
/// An Opus packet of 120 ms has at most 7.5 KiB for each stream in it; the rest is for the comment header, where a
/// cover picture may hide. RFC 7845 lets a reader refuse comments it finds too large.
pub const MAX_PACKET_BYTES: usize = 1 << 20;

const CAPTURE_PATTERN: [u8; 4] = *b"OggS";
/// The size of a page's header without the table of its segments.
const HEADER_BYTES: usize = 27;
/// Where the checksum stands in the header.
const CHECKSUM_POSITION: usize = 22;
/// A segment of this size goes on in the next one.
const FULL_SEGMENT: u8 = 255;
const MAX_SEGMENTS: usize = 255;
const FLAG_CONTINUED: u8 = 1;
const FLAG_FIRST: u8 = 2;
const FLAG_LAST: u8 = 4;
/// The granule position of a page on which no packet ends.
const NO_POSITION: u64 = u64::MAX;
