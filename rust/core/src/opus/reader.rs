//! Reading.

use super::OPUS_SAMPLE_RATE;
use super::codec::Decoder;
use super::head::{Head, check_tags};
use crate::Result;
use crate::ogg::{Event, Packet, PacketReader, container};

/// Reads an Ogg Opus stream cut anywhere and returns its audio as interleaved PCM at 48 kHz.
#[derive(Debug)]
pub struct OggOpusReader {
    packets: PacketReader,
    audio: Audio,
}

impl Default for OggOpusReader {
    fn default() -> Self {
        Self::new()
    }
}

impl OggOpusReader {
    /// Create a reader.
    #[must_use]
    pub fn new() -> Self {
        let audio = Audio {
            num_channels: None,
            decoder: None,
            num_packets: 0,
            pre_skip: 0,
            num_to_skip: 0,
            start_position: 0,
            last_position: None,
            page: PageAudio::default(),
        };
        Self { packets: PacketReader::new(), audio }
    }

    /// Return the rate in Hz, always 48000, or None until the header has been read.
    #[must_use]
    pub fn sample_rate(&self) -> Option<u32> {
        self.audio.num_channels.map(|_| OPUS_SAMPLE_RATE)
    }

    /// Return how many channels there are, or None until the header has been read.
    #[must_use]
    pub fn num_channels(&self) -> Option<u16> {
        self.audio.num_channels.map(u16::from)
    }

    /// Feed bytes of the stream and append the PCM of the pages they complete to `output`.
    ///
    /// After an error every further call returns the same error.
    pub fn feed(&mut self, chunk: &[u8], output: &mut Vec<u8>) -> Result<()> {
        self.audio.page = PageAudio { start: output.len(), ..PageAudio::default() };
        self.packets.feed(chunk, |event| match event {
            Event::Packet(packet) => self.audio.read(packet, output),
            Event::End { granule_position, .. } => self.audio.end(granule_position, output),
        })
    }

    /// Check that the stream may end here: after its last page, and not before its first.
    pub fn close(&self) -> Result<()> {
        self.packets.close()
    }
}

/// The audio of the page that is being read. A page is read in one go, so none is open between two chunks.
#[derive(Debug, Default)]
struct PageAudio {
    /// Where it starts in the output.
    start: usize,
    /// How many samples its packets have, before anything is trimmed.
    num_samples: u64,
    /// How many of them were thrown away at the start of the stream.
    num_skipped: u64,
}

/// What is known of one stream of a chain. A sample is one of each channel here.
#[derive(Debug)]
struct Audio {
    /// Those of the first stream; the others must have as many.
    num_channels: Option<u8>,
    /// None until the header has been read.
    decoder: Option<Decoder>,
    num_packets: u64,
    pre_skip: u64,
    num_to_skip: u64,
    /// The granule position before the first sample: not 0 where the head of a stream was cut off.
    start_position: u64,
    /// The granule position of the last page with audio.
    last_position: Option<u64>,
    page: PageAudio,
}

impl Audio {
    fn read(&mut self, packet: Packet<'_>, output: &mut Vec<u8>) -> Result<()> {
        if packet.begins_stream {
            self.num_packets = 0;
        }
        self.num_packets += 1;
        match self.num_packets {
            1 => self.start(Head::parse(packet.data)?),
            2 => check_tags(packet.data),
            _ => {
                self.decode(packet.data, output)?;
                match packet.granule_position {
                    Some(position) if !packet.ends_stream => self.end_page(position, output),
                    _ => Ok(()),
                }
            }
        }
    }

    fn start(&mut self, head: Head) -> Result<()> {
        let num_channels = *self.num_channels.get_or_insert(head.num_channels);
        if head.num_channels != num_channels {
            let plural = |number| if number == 1 { "1 channel".to_owned() } else { format!("{number} channels") };
            return Err(container(
                format!("{} in all streams of the chain", plural(num_channels)),
                plural(head.num_channels),
            ));
        }
        self.decoder = Some(Decoder::new(num_channels, head.gain)?);
        self.pre_skip = u64::from(head.pre_skip);
        self.num_to_skip = self.pre_skip;
        self.start_position = 0;
        self.last_position = None;
        Ok(())
    }

    fn decode(&mut self, packet: &[u8], output: &mut Vec<u8>) -> Result<()> {
        let Some(decoder) = &mut self.decoder else { return Err(container("the header \"OpusHead\"", "audio")) };
        let samples = decoder.decode(packet).map_err(|reason| {
            let place = format!("{} bytes in packet {} of the stream", packet.len(), self.num_packets - 1);
            container("an Opus packet", format!("{place} ({reason})"))
        })?;
        let num_channels = usize::from(self.num_channels.unwrap_or(1));
        let num_samples = (samples.len() / num_channels) as u64;
        let num_skipped = self.num_to_skip.min(num_samples);
        self.num_to_skip -= num_skipped;
        self.page.num_samples += num_samples;
        self.page.num_skipped += num_skipped;
        let samples = &samples[num_skipped as usize * num_channels..];
        output.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
        Ok(())
    }

    /// Check the position of a page with audio that is not the last one.
    fn end_page(&mut self, position: u64, output: &[u8]) -> Result<()> {
        // Less on the first page would leave audio out, which is for the last page to say (RFC 7845, section 4.5).
        let least_position = self.last_position.unwrap_or(self.page.num_samples);
        if position < least_position {
            let place = format!("after packet {} of the stream", self.num_packets - 1);
            return Err(container(
                format!("a granule position of at least {least_position} {place}"),
                position.to_string(),
            ));
        }
        if self.last_position.is_none() {
            self.start_position = position - self.page.num_samples;
        }
        self.last_position = Some(position);
        self.page = PageAudio { start: output.len(), ..PageAudio::default() };
        Ok(())
    }

    /// Cut off what the last page says is not audio (RFC 7845, section 4.4).
    fn end(&mut self, position: Option<u64>, output: &mut Vec<u8>) -> Result<()> {
        if self.num_packets < 2 {
            return Err(container("the header \"OpusTags\"", "the end of the stream"));
        }
        let page = std::mem::take(&mut self.page);
        self.page.start = output.len();
        let has_audio = self.last_position.is_some() || page.num_samples > 0;
        let Some(position) = position.filter(|_| has_audio) else { return Ok(()) };
        if self.last_position.is_none() {
            // Fewer samples than the position says: the head of the stream was cut off.
            self.start_position = position.saturating_sub(page.num_samples);
        }
        let page_position = self.last_position.unwrap_or(self.start_position);
        let num_kept = position.checked_sub(page_position).ok_or_else(|| {
            container(format!("a granule position of at least {page_position} on the last page"), position.to_string())
        })?;
        if position - self.start_position < self.pre_skip {
            let expected = format!("at least {} samples of pre-skip before the end of the stream", self.pre_skip);
            return Err(container(expected, (position - self.start_position).to_string()));
        }
        let num_kept = num_kept.min(page.num_samples).saturating_sub(page.num_skipped) as usize;
        output.truncate(page.start + num_kept * 2 * usize::from(self.num_channels.unwrap_or(1)));
        self.page.start = output.len();
        Ok(())
    }
}
