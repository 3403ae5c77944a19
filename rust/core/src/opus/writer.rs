//! Writing.

use super::OPUS_SAMPLE_RATE;
use super::codec::Encoder;
use super::head::{Head, build_tags};
use crate::ogg::PageWriter;
use crate::{Error, FrameSlicer, Result};

/// The bits for a second of audio, unless the caller says otherwise. Speech comes out 28 dB above the noise; below this
/// rate libopus models speech instead of its waveform, which takes three times as long and gives 18 dB.
pub const DEFAULT_BITRATE: i64 = 64_000;
/// How much audio a page has, unless the caller says otherwise.
pub const DEFAULT_FRAME_MS: f64 = 20.0;

/// The rates in Hz that libopus encodes without resampling.
const SAMPLE_RATES: [u32; 5] = [8_000, 12_000, 16_000, 24_000, 48_000];
/// Those of RFC 6716, section 2.1.1.
const MIN_BITRATE: i64 = 6_000;
const MAX_BITRATE: i64 = 510_000;
/// The durations of packets in units of 2.5 ms, the preferred one first. Longer ones save bits only where there are few
/// (RFC 6716, section 2.1.4).
const PACKET_UNITS: [u32; 4] = [8, 4, 2, 1];
const UNIT_MS: f64 = 2.5;
const UNITS_PER_SECOND: u32 = 400;
/// RFC 7845, section 6, recommends at most a second of audio for a page.
const MAX_FRAME_MS: f64 = 1000.0;

/// Writes mono PCM as an Ogg Opus stream.
///
/// A page has one frame of audio and is returned with the sample that completes it. The same input gives the same
/// bytes: nothing depends on a clock or on chance.
#[derive(Debug)]
pub struct OggOpusWriter {
    header: Vec<u8>,
    /// The state of the pages behind the header.
    first_pages: PageWriter,
    is_header_sent: bool,
    slicer: FrameSlicer,
    /// How much PCM came.
    num_fed: u64,
    /// How many samples of the stream one of the input is.
    samples_per_input: u64,
    pre_skip: u64,
    stream: Stream,
}

impl OggOpusWriter {
    /// Create a writer of the stream with the number `serial`.
    ///
    /// The rate is 8, 12, 16, 24 or 48 kHz, `bitrate` in bits per second, and `frame_ms` a multiple of 2.5 up to 1000.
    pub fn new(sample_rate: u32, serial: u32, bitrate: i64, frame_ms: f64) -> Result<Self> {
        if !SAMPLE_RATES.contains(&sample_rate) {
            return Err(refusal("a sample rate of 8000, 12000, 16000, 24000 or 48000 Hz", sample_rate.to_string()));
        }
        if !(MIN_BITRATE..=MAX_BITRATE).contains(&bitrate) {
            let expected = format!("a bitrate of {MIN_BITRATE} to {MAX_BITRATE} bits per second");
            return Err(refusal(expected, bitrate.to_string()));
        }
        let frame_units = frame_units(frame_ms)?;
        let packet_units = PACKET_UNITS.into_iter().find(|units| frame_units.is_multiple_of(*units)).unwrap_or(1);
        let encoder = Encoder::new(sample_rate, bitrate as i32)?;
        let samples_per_input = OPUS_SAMPLE_RATE / sample_rate;
        let pre_skip = encoder.lookahead() * samples_per_input;
        let head = Head { num_channels: 1, pre_skip: pre_skip as u16, gain: 0 };
        let (mut pages, mut header) = (PageWriter::new(serial), Vec::new());
        for packet in [head.build(sample_rate), build_tags()] {
            // Each has its own page or pages, with position 0 (RFC 7845, section 3).
            pages.push_packet(&packet, 0, true, &mut header)?;
        }
        Ok(Self {
            header,
            first_pages: pages.clone(),
            is_header_sent: false,
            slicer: FrameSlicer::new((packet_units * (sample_rate / UNITS_PER_SECOND)) as usize * 2)?,
            num_fed: 0,
            samples_per_input: samples_per_input.into(),
            pre_skip: pre_skip.into(),
            stream: Stream {
                encoder,
                pages,
                page: Vec::new(),
                num_packets: 0,
                packets_per_page: (frame_units / packet_units).into(),
                packet_samples: (packet_units * (OPUS_SAMPLE_RATE / UNITS_PER_SECOND)).into(),
            },
        })
    }

    /// Return the pages with the headers of the stream.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Pass the pages that a chunk of PCM completes to `emit`, with the header before the first, in a call of its own.
    ///
    /// What does not fill a page is kept for the next call; call [`flush`](Self::flush) at the end.
    pub fn feed(&mut self, chunk: &[u8], mut emit: impl FnMut(&[u8])) -> Result<()> {
        self.emit_header(&mut emit);
        self.num_fed += chunk.len() as u64;
        let (stream, mut result) = (&mut self.stream, Ok(()));
        self.slicer.feed(chunk, |pcm| {
            if result.is_ok() {
                result = stream.push(pcm, None, &mut emit);
            }
        });
        result
    }

    /// Pass the rest of the stream to `emit` and start a new one, with the same number.
    ///
    /// What comes out of a decoder is as long as what was fed. On a partial sample nothing is passed and the stream
    /// stays as it is.
    pub fn flush(&mut self, mut emit: impl FnMut(&[u8])) -> Result<()> {
        if !self.num_fed.is_multiple_of(2) {
            return Err(Error::PartialSample { sample_bytes: 2, num_bytes: self.num_fed });
        }
        self.emit_header(&mut emit);
        let end = self.pre_skip + self.num_fed / 2 * self.samples_per_input;
        let mut pcm = self.slicer.flush(None);
        // The delay of the encoder takes up to two packets more, and always one.
        while self.stream.position() < end {
            pcm.resize(self.slicer.frame_bytes(), 0);
            self.stream.push(&pcm, Some(end), &mut emit)?;
            pcm.clear();
        }
        self.stream.finish(&mut emit);
        self.reset();
        Ok(())
    }

    /// Forget the stream and start a new one, with the same number.
    pub fn reset(&mut self) {
        self.slicer.flush(None);
        self.stream.encoder.reset();
        self.stream.pages = self.first_pages.clone();
        self.stream.page.clear();
        self.stream.num_packets = 0;
        self.num_fed = 0;
        self.is_header_sent = false;
    }

    fn emit_header(&mut self, emit: &mut impl FnMut(&[u8])) {
        if !std::mem::replace(&mut self.is_header_sent, true) {
            emit(&self.header);
        }
    }
}

/// The packets of one stream, on their way to pages.
#[derive(Debug)]
struct Stream {
    encoder: Encoder,
    pages: PageWriter,
    /// What is complete of the frame: something only where one fills more than a page.
    page: Vec<u8>,
    num_packets: u64,
    packets_per_page: u64,
    packet_samples: u64,
}

impl Stream {
    /// Return the granule position, at 48 kHz.
    fn position(&self) -> u64 {
        self.num_packets * self.packet_samples
    }

    /// Encode the PCM of a packet; the one that reaches the end of the stream stays for the last page.
    fn push(&mut self, pcm: &[u8], end: Option<u64>, emit: &mut impl FnMut(&[u8])) -> Result<()> {
        self.num_packets += 1;
        let (position, end) = (self.position(), end.unwrap_or(u64::MAX));
        let ends_page = self.num_packets.is_multiple_of(self.packets_per_page) && position < end;
        let packet = self.encoder.encode(pcm)?;
        self.pages.push_packet(packet, position.min(end), ends_page, &mut self.page)?;
        if ends_page {
            emit(&self.page);
            self.page.clear();
        }
        Ok(())
    }

    /// Write the last page.
    fn finish(&mut self, emit: &mut impl FnMut(&[u8])) {
        self.pages.clone().finish(&mut self.page);
        emit(&self.page);
    }
}

/// Return a duration in units of 2.5 ms.
fn frame_units(frame_ms: f64) -> Result<u32> {
    let units = frame_ms / UNIT_MS;
    if (UNIT_MS..=MAX_FRAME_MS).contains(&frame_ms) && (units - units.round()).abs() < 1e-6 {
        Ok(units.round() as u32)
    } else {
        Err(refusal("a frame of a multiple of 2.5 ms up to 1000 ms", format!("{frame_ms} ms")))
    }
}

fn refusal(expected: impl Into<String>, got: String) -> Error {
    Error::Opus { expected: expected.into(), got }
}
