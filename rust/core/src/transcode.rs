//! The whole chain of one direction: decode, resample, encode, slice.

use crate::format::TARGET_SAMPLE_RATE;
use crate::opus::{DEFAULT_BITRATE, DEFAULT_FRAME_MS, OPUS_SAMPLE_RATE};
use crate::{Error, Format, FrameSlicer, OggOpusReader, OggOpusWriter, Quality, Resampler, Result, SampleFormat};
use crate::{WavReader, WavWriter, g711, pcm};

/// The longest frame in milliseconds.
const MAX_FRAME_MS: f64 = 60_000.0;
/// The number of an Opus stream: one that stands alone has nothing to be told from.
const OPUS_SERIAL: u32 = 1;

/// Converts a stream from one wire format to another, optionally in frames of a fixed duration.
#[derive(Debug)]
pub struct Transcoder {
    source: Format,
    target: Format,
    target_sample_rate: u32,
    /// None unless the source is a container.
    reader: Option<Reader>,
    /// None until the rate of the source is known; never used between the two laws of G.711.
    resampler: Option<Resampler>,
    /// None without frames, and where the writer makes them.
    slicer: Option<FrameSlicer>,
    /// None unless the target is Opus.
    writer: Option<OggOpusWriter>,
    has_frames: bool,
    is_header_sent: bool,
    decoded: Vec<u8>,
    resampled: Vec<u8>,
    encoded: Vec<u8>,
}

impl Transcoder {
    /// Create a transcoder; `frame_ms` has to be a whole number of samples of the target.
    pub fn new(source: Format, target: Format, frame_ms: Option<f64>) -> Result<Self> {
        let target_sample_rate = target.sample_rate().unwrap_or(TARGET_SAMPLE_RATE);
        let sample_bytes = if matches!(target, Format::G711(_)) { 1 } else { 2 };
        let (mut slicer, mut writer) = (None, None);
        if target == Format::Opus {
            let frame_ms = frame_ms.unwrap_or(DEFAULT_FRAME_MS);
            writer = Some(OggOpusWriter::new(OPUS_SAMPLE_RATE, OPUS_SERIAL, DEFAULT_BITRATE, frame_ms)?);
        } else if let Some(frame_ms) = frame_ms {
            slicer = Some(FrameSlicer::new(frame_samples(frame_ms, target_sample_rate)? * sample_bytes)?);
        }
        let mut transcoder = Self {
            source,
            target,
            target_sample_rate,
            reader: Reader::new(source),
            resampler: None,
            slicer,
            writer,
            has_frames: frame_ms.is_some(),
            is_header_sent: false,
            decoded: Vec::new(),
            resampled: Vec::new(),
            encoded: Vec::new(),
        };
        transcoder.resampler = transcoder.build_resampler(source.sample_rate())?;
        Ok(transcoder)
    }

    /// Return the rate of the source in Hz, or None until the header of a WAV source has been read.
    #[must_use]
    pub fn source_sample_rate(&self) -> Option<u32> {
        self.source.sample_rate().or(self.reader.as_ref().and_then(Reader::sample_rate))
    }

    /// Return the rate of the target in Hz.
    #[must_use]
    pub fn target_sample_rate(&self) -> u32 {
        self.target_sample_rate
    }

    /// Return the delay of the chain in milliseconds; 0 until the header of a WAV source has been read.
    ///
    /// Samples that wait for their frame are not counted.
    #[must_use]
    pub fn delay_ms(&self) -> f64 {
        self.resampler.as_ref().map_or(0.0, Resampler::delay_ms)
    }

    /// Pass what the chunk completes to `emit`: frames, or without a frame duration all there is.
    ///
    /// The header of a WAV or Opus target comes first, in a call of its own.
    pub fn feed(&mut self, chunk: &[u8], mut emit: impl FnMut(&[u8])) -> Result<()> {
        self.emit_header(&mut emit)?;
        if let (Format::G711(from), Format::G711(to)) = (self.source, self.target) {
            self.encoded.clear();
            if from == to {
                self.encoded.extend_from_slice(chunk);
            } else {
                self.encoded.resize(chunk.len(), 0);
                g711::transcode_into(from, chunk, &mut self.encoded);
            }
            self.emit_encoded(&mut emit);
            return Ok(());
        }
        self.decoded.clear();
        match self.source {
            Format::Pcm { .. } => self.decoded.extend_from_slice(chunk),
            Format::G711(law) => {
                self.decoded.resize(chunk.len() * 2, 0);
                g711::decode_into(law, chunk, &mut self.decoded);
            }
            Format::Wav | Format::Opus => self.read_container(chunk)?,
        }
        if let Some(resampler) = &mut self.resampler {
            self.resampled.resize(resampler.output_bytes(self.decoded.len()), 0);
            resampler.feed_into(&self.decoded, &mut self.resampled);
            self.encode(&mut emit)?;
            self.emit_encoded(&mut emit);
        }
        Ok(())
    }

    /// Pass the tail to `emit`, the last frame as short as it is, and start a new stream.
    ///
    /// On an error nothing is passed and the stream stays as it is.
    pub fn flush(&mut self, mut emit: impl FnMut(&[u8])) -> Result<()> {
        if let Some(reader) = &self.reader {
            reader.close()?;
        }
        let tail = self.resampler.as_mut().map_or_else(|| Ok(Vec::new()), Resampler::flush)?;
        self.emit_header(&mut emit)?;
        self.resampled = tail;
        self.encode(&mut emit)?;
        if let Some(writer) = &mut self.writer {
            writer.flush(collect(&mut self.encoded, self.has_frames, &mut emit))?;
        }
        self.emit_encoded(&mut emit);
        if let Some(slicer) = &mut self.slicer {
            let frame = slicer.flush(None);
            if !frame.is_empty() {
                emit(&frame);
            }
        }
        self.reset();
        Ok(())
    }

    /// Forget the stream and start a new one.
    pub fn reset(&mut self) {
        self.reader = Reader::new(self.source);
        if self.source.sample_rate().is_none() {
            self.resampler = None;
        }
        if let Some(writer) = &mut self.writer {
            writer.reset();
        }
        if let Some(resampler) = &mut self.resampler {
            resampler.reset();
        }
        if let Some(slicer) = &mut self.slicer {
            slicer.flush(None);
        }
        self.is_header_sent = false;
    }

    fn build_resampler(&self, source_sample_rate: Option<u32>) -> Result<Option<Resampler>> {
        match (source_sample_rate, self.source, self.target) {
            (None, ..) | (_, Format::G711(_), Format::G711(_)) => Ok(None),
            (Some(rate), ..) => {
                Resampler::new(rate, self.target_sample_rate, Quality::default(), SampleFormat::S16).map(Some)
            }
        }
    }

    fn read_container(&mut self, chunk: &[u8]) -> Result<()> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        reader.feed(chunk, &mut self.decoded)?;
        let (sample_rate, num_channels) = (reader.sample_rate(), reader.num_channels().map_or(1, usize::from));
        if self.resampler.is_none() {
            self.resampler = self.build_resampler(sample_rate)?;
        }
        if num_channels > 1 {
            mix_to_mono(&mut self.decoded, num_channels);
        }
        Ok(())
    }

    fn encode(&mut self, emit: &mut impl FnMut(&[u8])) -> Result<()> {
        match (self.target, &mut self.writer) {
            (Format::G711(law), _) => {
                self.encoded.resize(self.resampled.len() / 2, 0);
                g711::encode_into(law, &self.resampled, &mut self.encoded);
            }
            (_, Some(writer)) => {
                self.encoded.clear();
                writer.feed(&self.resampled, collect(&mut self.encoded, self.has_frames, emit))?;
            }
            (_, None) => std::mem::swap(&mut self.resampled, &mut self.encoded),
        }
        Ok(())
    }

    fn emit_header(&mut self, emit: &mut impl FnMut(&[u8])) -> Result<()> {
        if let Some(writer) = &mut self.writer {
            return writer.feed(&[], emit);
        }
        if self.target == Format::Wav && !self.is_header_sent {
            emit(&WavWriter::new(self.target_sample_rate, 1, None)?.header());
            self.is_header_sent = true;
        }
        Ok(())
    }

    fn emit_encoded(&mut self, emit: &mut impl FnMut(&[u8])) {
        match &mut self.slicer {
            Some(slicer) => slicer.feed(&self.encoded, emit),
            None if self.encoded.is_empty() => {}
            None => emit(&self.encoded),
        }
    }
}

/// The reader of a source that is a container.
#[derive(Debug)]
enum Reader {
    Wav(WavReader),
    Opus(OggOpusReader),
}

impl Reader {
    fn new(source: Format) -> Option<Self> {
        match source {
            Format::Wav => Some(Self::Wav(WavReader::new())),
            Format::Opus => Some(Self::Opus(OggOpusReader::new())),
            Format::Pcm { .. } | Format::G711(_) => None,
        }
    }

    fn sample_rate(&self) -> Option<u32> {
        match self {
            Self::Wav(reader) => reader.sample_rate(),
            Self::Opus(reader) => reader.sample_rate(),
        }
    }

    fn num_channels(&self) -> Option<u16> {
        match self {
            Self::Wav(reader) => reader.num_channels(),
            Self::Opus(reader) => reader.num_channels(),
        }
    }

    fn feed(&mut self, chunk: &[u8], output: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Wav(reader) => reader.feed(chunk, output),
            Self::Opus(reader) => reader.feed(chunk, output),
        }
    }

    fn close(&self) -> Result<()> {
        match self {
            Self::Wav(reader) => reader.close(),
            Self::Opus(reader) => reader.close(),
        }
    }
}

/// Pass the pages of a writer on one by one where they are the frames, or else put them together.
fn collect(together: &mut Vec<u8>, has_frames: bool, emit: &mut impl FnMut(&[u8])) -> impl FnMut(&[u8]) {
    move |page| if has_frames { emit(page) } else { together.extend_from_slice(page) }
}

fn frame_samples(frame_ms: f64, sample_rate: u32) -> Result<usize> {
    let samples = frame_ms * f64::from(sample_rate) / 1000.0;
    let is_whole = (samples - samples.round()).abs() < 1e-6;
    if is_whole && samples.round() >= 1.0 && frame_ms <= MAX_FRAME_MS {
        Ok(samples.round() as usize)
    } else {
        Err(Error::FrameMs { frame_ms, sample_rate })
    }
}

/// Replace interleaved sample frames by the average of their channels.
fn mix_to_mono(audio: &mut Vec<u8>, num_channels: usize) {
    let num_sample_frames = audio.len() / (2 * num_channels);
    for index in 0..num_sample_frames {
        let sample_frame = &audio[index * 2 * num_channels..][..2 * num_channels];
        let sum: i32 =
            sample_frame.as_chunks::<2>().0.iter().map(|sample| i32::from(i16::from_le_bytes(*sample))).sum();
        let average = pcm::sample_from_units(sum as f32 / num_channels as f32);
        audio[index * 2..index * 2 + 2].copy_from_slice(&average.to_le_bytes());
    }
    audio.truncate(num_sample_frames * 2);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcode(source: &str, target: &str, frame_ms: Option<f64>, chunks: &[&[u8]]) -> Result<Vec<Vec<u8>>> {
        let mut transcoder = Transcoder::new(Format::parse_source(source)?, Format::parse_target(target)?, frame_ms)?;
        let mut frames = Vec::new();
        for chunk in chunks {
            transcoder.feed(chunk, |frame| frames.push(frame.to_vec()))?;
        }
        transcoder.flush(|frame| frames.push(frame.to_vec()))?;
        Ok(frames)
    }

    #[test]
    fn identity_is_exact_in_frames() {
        let frames = transcode("pcm_8000", "pcm_8000", Some(0.25), &[b"abc", b"defg", b"h"]);
        assert_eq!(frames, Ok(vec![b"abcd".to_vec(), b"efgh".to_vec()]));
    }

    #[test]
    fn laws_convert_without_delay() {
        let frames = transcode("ulaw_8000", "alaw_8000", None, &[&[g711::ULAW_SILENCE; 3], b"", &[0x00]]);
        assert_eq!(frames, Ok(vec![vec![g711::ALAW_SILENCE; 3], vec![0x2A]]));
    }

    #[test]
    fn flush_gives_the_delay_and_the_short_frame() {
        let frames = transcode("ulaw_8000", "pcm_24000", Some(80.0), &[&[g711::ULAW_SILENCE; 640]]).expect("valid");
        let num_delayed = Resampler::new(8_000, 24_000, Quality::default(), SampleFormat::S16).expect("valid");
        assert_eq!(frames[0].len(), 3840);
        assert_eq!(frames[1].len(), num_delayed.delay_samples() * 2);
    }

    #[test]
    fn wav_target_starts_with_its_header() {
        let frames = transcode("pcm_48000", "wav", Some(1.0), &[&[1; 100]]).expect("valid");
        assert_eq!(frames.iter().map(Vec::len).collect::<Vec<_>>(), [44, 96, 4]);
        assert_eq!(transcode("pcm_48000", "wav", None, &[]).expect("valid").concat().len(), 44);
    }

    #[test]
    fn wav_source_is_mixed_to_mono() {
        let mut writer = WavWriter::new(48_000, 2, None).expect("valid");
        let wav = writer.feed(&[2, 0, 4, 0, 1, 0, 2, 0]).expect("valid");
        assert_eq!(transcode("wav", "pcm", None, &[&wav]), Ok(vec![vec![3, 0, 2, 0]]));
    }

    #[test]
    fn opus_target_has_one_page_for_each_frame() {
        let frames = transcode("pcm_48000", "opus", Some(80.0), &[&[0; 9600], &[0; 9600]]).expect("valid");
        let is_page = |frame: &[u8]| frame.starts_with(b"OggS") && frame[27..].iter().take(4).all(|size| *size < 255);
        // The header, two frames of four packets, and the rest: 40 ms and what the encoder delays.
        assert_eq!(frames.len(), 4);
        assert!(frames[1..].iter().all(|frame| is_page(frame)));
        assert_eq!([frames[1][26], frames[2][26], frames[3][26]], [4, 4, 3]);
        let together = transcode("pcm_48000", "opus", None, &[&[0; 9600], &[0; 9600]]).expect("valid");
        assert_eq!(together.len(), 4);
        assert_eq!(together[0], frames[0]);
        assert_eq!(transcode("pcm_48000", "opus", None, &[]).expect("valid").len(), 2);
    }

    #[test]
    fn opus_source_is_at_48_khz() {
        let stream = transcode("pcm_48000", "opus", None, &[&[0; 9600]]).expect("valid").concat();
        assert_eq!(transcode("opus", "pcm", None, &[&stream]).expect("valid").concat(), [0; 9600]);
        let eighth = transcode("opus", "ulaw_8000", None, &[&stream]).expect("valid").concat();
        let resampler = Resampler::new(48_000, 8_000, Quality::default(), SampleFormat::S16).expect("valid");
        assert_eq!(eighth.len(), 800 + resampler.delay_samples());
    }

    #[test]
    fn opus_source_without_its_last_page_is_refused() {
        let frames = transcode("pcm_48000", "opus", Some(20.0), &[&[0; 9600]]).expect("valid");
        let error = transcode("opus", "pcm", None, &[&frames[..frames.len() - 1].concat()]).expect_err("cut");
        assert_eq!(error.to_string(), "expected the last page of stream 0x00000001, got the end after page 6");
    }

    #[test]
    fn odd_end_is_refused() {
        let error = transcode("pcm_8000", "ulaw_8000", None, &[&[0; 5]]).expect_err("odd");
        assert_eq!(error.to_string(), "expected whole samples of 2 bytes, got 5 bytes");
    }

    #[test]
    fn frame_of_a_fraction_is_refused() {
        let error = transcode("pcm", "pcm_22050", Some(15.0), &[]).expect_err("fraction");
        assert_eq!(
            error.to_string(),
            "expected a frame of 1 or more whole samples up to 60 s, got 330.75 (15 ms at 22050 Hz)"
        );
        for frame_ms in [0.0, -20.0, f64::NAN, f64::INFINITY] {
            assert!(transcode("pcm", "pcm", Some(frame_ms), &[]).is_err(), "{frame_ms}");
            assert!(transcode("pcm", "opus", Some(frame_ms), &[]).is_err(), "{frame_ms}");
        }
    }
}
