//! Pages.

use super::{CAPTURE_PATTERN, CHECKSUM_POSITION, FLAG_CONTINUED, FLAG_FIRST, FLAG_LAST, HEADER_BYTES, NO_POSITION};
use crate::{Error, Result};

/// The remainders of the checksum by the byte that leaves its register. One table will do: the pages of a second of
/// speech have some 8 kB.
const REMAINDERS: [u32; 256] = remainders();

const fn remainders() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut remainder = (byte as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            let overflow = remainder >> 31;
            // RFC 3533, section 6: the generator polynomial is 0x04c11db7.
            remainder = (remainder << 1) ^ (overflow * 0x04c1_1db7);
            bit += 1;
        }
        table[byte] = remainder;
        byte += 1;
    }
    table
}

/// Return the checksum of a whole page, whatever stands in its checksum field.
#[must_use]
pub fn checksum(page: &[u8]) -> u32 {
    let (head, tail) = page.split_at(page.len().min(CHECKSUM_POSITION));
    let field = tail.len().min(4);
    [head, &[0; 4][..field], &tail[field..]]
        .into_iter()
        .flatten()
        .fold(0, |remainder, byte| (remainder << 8) ^ REMAINDERS[usize::from((remainder >> 24) as u8 ^ byte)])
}

/// One page, with its checksum verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page<'a> {
    /// Where the page starts, from the first byte that was fed.
    pub position: u64,
    /// The number that tells the streams apart.
    pub serial: u32,
    /// The number of the page in its stream.
    pub sequence: u32,
    /// The time at the end of the last packet that ends on the page, in units of the codec; None if no packet does.
    pub granule_position: Option<u64>,
    /// The page starts inside a packet.
    pub is_continued: bool,
    /// The page is the first of its stream.
    pub begins_stream: bool,
    /// The page is the last of its stream.
    pub ends_stream: bool,
    /// The sizes of the segments.
    pub lacing: &'a [u8],
    /// The segments.
    pub body: &'a [u8],
}

/// Cuts an Ogg stream that comes in chunks into pages.
#[derive(Clone, Debug, Default)]
pub struct PageReader {
    /// A part of a page, at most 65307 bytes.
    pending: Vec<u8>,
    /// Where `pending` starts.
    position: u64,
    failure: Option<Error>,
}

impl PageReader {
    /// Create a reader.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Feed bytes of the stream and pass the pages they complete to `emit`.
    ///
    /// After an error, also one of `emit`, every further call returns the same error.
    pub fn feed(&mut self, chunk: &[u8], mut emit: impl FnMut(Page<'_>) -> Result<()>) -> Result<()> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        self.read(chunk, &mut emit).inspect_err(|error| self.failure = Some(error.clone()))
    }

    /// Check that the stream may end here, between two pages.
    pub fn close(&self) -> Result<()> {
        match &self.failure {
            Some(failure) => Err(failure.clone()),
            None if self.pending.is_empty() => Ok(()),
            None => Err(container(
                format!("a whole page at byte {}", self.position),
                format!("the end of the stream after {} bytes of it", self.pending.len()),
            )),
        }
    }

    fn read(&mut self, mut chunk: &[u8], emit: &mut impl FnMut(Page<'_>) -> Result<()>) -> Result<()> {
        while !chunk.is_empty() {
            if self.pending.is_empty()
                && let Some((page, rest)) = self.split_page(chunk)?
            {
                emit(page)?;
                self.position += (chunk.len() - rest.len()) as u64;
                chunk = rest;
                continue;
            }
            // How much is needed is known step by step: the header, the table of segments, the segments.
            let num_missing = page_bytes(&self.pending) - self.pending.len();
            let (taken, rest) = chunk.split_at(num_missing.min(chunk.len()));
            self.pending.extend_from_slice(taken);
            chunk = rest;
            let pending = std::mem::take(&mut self.pending);
            if let Some((page, _)) = self.split_page(&pending)? {
                emit(page)?;
                self.position += pending.len() as u64;
                self.pending = pending;
                self.pending.clear();
            } else {
                self.pending = pending;
            }
        }
        Ok(())
    }

    /// Split off the page that the bytes start with, if it is whole.
    fn split_page<'a>(&self, bytes: &'a [u8]) -> Result<Option<(Page<'a>, &'a [u8])>> {
        let Some((header, tail)) = bytes.split_at_checked(HEADER_BYTES) else { return Ok(None) };
        if header[..4] != CAPTURE_PATTERN {
            let got = format!("{:?}", String::from_utf8_lossy(&header[..4]));
            return Err(container(format!("\"OggS\" at byte {}", self.position), got));
        }
        if header[4] != 0 {
            return Err(container(format!("version 0 of the page at byte {}", self.position), header[4].to_string()));
        }
        let Some(whole) = bytes.get(..page_bytes(bytes)) else { return Ok(None) };
        let (expected, got) = (u32_at(header, CHECKSUM_POSITION), checksum(whole));
        if expected != got {
            return Err(container(
                format!("checksum {expected:#010x} of the page at byte {}", self.position),
                format!("{got:#010x}"),
            ));
        }
        let (lacing, tail) = tail.split_at(usize::from(header[26]));
        let (body, tail) = tail.split_at(whole.len() - HEADER_BYTES - lacing.len());
        let granule_position = u64::from(u32_at(header, 6)) | u64::from(u32_at(header, 10)) << 32;
        let page = Page {
            position: self.position,
            serial: u32_at(header, 14),
            sequence: u32_at(header, 18),
            granule_position: (granule_position != NO_POSITION).then_some(granule_position),
            is_continued: header[5] & FLAG_CONTINUED != 0,
            begins_stream: header[5] & FLAG_FIRST != 0,
            ends_stream: header[5] & FLAG_LAST != 0,
            lacing,
            body,
        };
        Ok(Some((page, tail)))
    }
}

/// Return the size of the page that the bytes start with, as far as they tell.
fn page_bytes(bytes: &[u8]) -> usize {
    let Some(num_segments) = bytes.get(HEADER_BYTES - 1) else { return HEADER_BYTES };
    let head_bytes = HEADER_BYTES + usize::from(*num_segments);
    match bytes.get(HEADER_BYTES..head_bytes) {
        Some(lacing) => head_bytes + lacing.iter().map(|size| usize::from(*size)).sum::<usize>(),
        None => head_bytes,
    }
}

fn u32_at(bytes: &[u8], position: usize) -> u32 {
    u32::from_le_bytes([bytes[position], bytes[position + 1], bytes[position + 2], bytes[position + 3]])
}

pub fn container(expected: impl Into<String>, got: impl Into<String>) -> Error {
    Error::Container { expected: expected.into(), got: got.into() }
}
