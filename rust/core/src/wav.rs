//! RIFF/WAVE, read and written as a stream.
//!
//! The layout follows Microsoft's "Multimedia Programming Interface and Data Specifications 1.0" and the description
//! of `WAVE_FORMAT_EXTENSIBLE`. Nothing is allocated from a length that the stream only claims.

use crate::resample::check_sample_rate;
use crate::{Error, Result, g711, pcm};

/// A size of a stream whose length is not known when its header is written.
const UNKNOWN_SIZE: u32 = u32::MAX;
/// From here on a declared size is taken for a placeholder: programs that write to a pipe put there what is left of 2
/// or 4 GiB behind some header.
const PLACEHOLDER_SIZE: u32 = 0x7fff_0000;
/// The size of the header that [`WavWriter`] writes.
pub const HEADER_BYTES: usize = 44;
/// Longest "fmt " RIFF chunk that is read; the extensible one has 40 bytes.
const MAX_FORMAT_BYTES: u32 = 1024;
/// What follows the format tag in the identifier of a `WAVE_FORMAT_EXTENSIBLE` sub-format.
const SUB_FORMAT_TAIL: [u8; 14] = [0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x80, 0x00, 0x00, 0xAA, 0x00, 0x38, 0x9B, 0x71];

const FORMAT_PCM: u16 = 1;
const FORMAT_FLOAT: u16 = 3;
const FORMAT_ALAW: u16 = 6;
const FORMAT_ULAW: u16 = 7;
const FORMAT_EXTENSIBLE: u16 = 0xFFFE;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
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
    fn of(format_tag: u16, bits_per_sample: u16) -> Result<Self> {
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
                "PCM of 8, 16, 24 or 32 bits, float of 32 or 64 bits, mu-law or A-law of 8 bits",
                format!("format {format_tag:#06x} of {bits_per_sample} bits"),
            )),
        }
    }

    fn sample_bytes(self) -> usize {
        match self {
            Self::U8 | Self::Ulaw | Self::Alaw => 1,
            Self::S16 => 2,
            Self::S24 => 3,
            Self::S32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Layout {
    encoding: Encoding,
    sample_rate: u32,
    num_channels: u16,
    sample_frame_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Riff,
    ChunkHeader,
    FormatChunk {
        size: u32,
    },
    OtherChunk {
        remaining: u64,
    },
    Data {
        /// None if the data goes on until the end of the stream.
        declared: Option<u64>,
    },
    End,
}

/// Reads a WAV stream cut anywhere and returns its audio as interleaved PCM.
#[derive(Clone, Debug)]
pub struct WavReader {
    state: State,
    layout: Option<Layout>,
    /// A part of the header, or a part of a sample frame.
    pending: Vec<u8>,
    num_header_bytes: u64,
    num_data_bytes: u64,
    declared_bytes: Option<u64>,
    failure: Option<Error>,
}

impl Default for WavReader {
    fn default() -> Self {
        Self::new()
    }
}

impl WavReader {
    /// Create a reader for one stream.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::Riff,
            layout: None,
            pending: Vec::new(),
            num_header_bytes: 0,
            num_data_bytes: 0,
            declared_bytes: None,
            failure: None,
        }
    }

    /// Return the rate in Hz, or None until the header has been read.
    #[must_use]
    pub fn sample_rate(&self) -> Option<u32> {
        self.read_layout().map(|layout| layout.sample_rate)
    }

    /// Return how many channels there are, or None until the header has been read.
    #[must_use]
    pub fn num_channels(&self) -> Option<u16> {
        self.read_layout().map(|layout| layout.num_channels)
    }

    /// Return the size of a sample in the stream, or None until the header has been read.
    #[must_use]
    pub fn bits_per_sample(&self) -> Option<u16> {
        self.read_layout().map(|layout| layout.encoding.sample_bytes() as u16 * 8)
    }

    /// Return how many samples each channel has, or None if that is unknown or the header has not been read.
    #[must_use]
    pub fn num_samples(&self) -> Option<u64> {
        let layout = self.read_layout()?;
        self.declared_bytes.map(|bytes| bytes / layout.sample_frame_bytes as u64)
    }

    fn read_layout(&self) -> Option<Layout> {
        self.layout.filter(|_| matches!(self.state, State::Data { .. } | State::End))
    }

    /// Feed bytes of the stream and append the PCM of the sample frames they complete to `output`.
    ///
    /// After an error every further call returns the same error.
    pub fn feed(&mut self, chunk: &[u8], output: &mut Vec<u8>) -> Result<()> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        self.read(chunk, output).inspect_err(|error| self.failure = Some(error.clone()))
    }

    /// Check that the stream may end here: its header is complete and its data is as long as declared.
    pub fn close(&self) -> Result<()> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        match self.state {
            State::Data { declared: Some(declared) } => {
                Err(container(format!("{declared} bytes of data"), format!("{} bytes", self.num_data_bytes)))
            }
            State::Data { declared: None } | State::End => match self.layout {
                Some(layout) if !self.pending.is_empty() => Err(container(
                    format!("whole sample frames of {} bytes", layout.sample_frame_bytes),
                    format!("{} bytes of data", self.num_data_bytes),
                )),
                _ => Ok(()),
            },
            _ => Err(container(
                "a WAV header that ends in a data chunk",
                format!("the end of the stream after {} bytes", self.num_header_bytes),
            )),
        }
    }

    fn read(&mut self, mut chunk: &[u8], output: &mut Vec<u8>) -> Result<()> {
        loop {
            match self.state {
                State::Riff => {
                    if !self.collect(&mut chunk, 12) {
                        return Ok(());
                    }
                    check_riff(&self.pending)?;
                    self.enter(State::ChunkHeader);
                }
                State::ChunkHeader => {
                    if !self.collect(&mut chunk, 8) {
                        return Ok(());
                    }
                    let next = self.next_chunk()?;
                    self.enter(next);
                }
                State::FormatChunk { size } => {
                    // RIFF chunks start at even positions.
                    if !self.collect(&mut chunk, size.next_multiple_of(2) as usize) {
                        return Ok(());
                    }
                    self.layout = Some(parse_layout(&self.pending[..size as usize])?);
                    self.enter(State::ChunkHeader);
                }
                State::OtherChunk { remaining } => {
                    let num_skipped = remaining.min(chunk.len() as u64);
                    self.num_header_bytes += num_skipped;
                    chunk = &chunk[num_skipped as usize..];
                    if num_skipped < remaining {
                        self.state = State::OtherChunk { remaining: remaining - num_skipped };
                        return Ok(());
                    }
                    self.enter(State::ChunkHeader);
                }
                State::Data { declared } => {
                    self.read_data(chunk, declared, output);
                    return Ok(());
                }
                State::End => return Ok(()),
            }
        }
    }

    /// Move bytes to `pending` until it has `num_bytes`; return whether it has.
    fn collect(&mut self, chunk: &mut &[u8], num_bytes: usize) -> bool {
        let num_taken = (num_bytes - self.pending.len()).min(chunk.len());
        let (taken, rest) = chunk.split_at(num_taken);
        self.pending.extend_from_slice(taken);
        self.num_header_bytes += num_taken as u64;
        *chunk = rest;
        self.pending.len() == num_bytes
    }

    fn enter(&mut self, state: State) {
        self.pending.clear();
        self.state = state;
    }

    fn next_chunk(&mut self) -> Result<State> {
        let size = u32_at(&self.pending, 4);
        match &self.pending[..4] {
            b"fmt " if self.layout.is_some() => Err(container("one format chunk", "two")),
            b"fmt " if !(16..=MAX_FORMAT_BYTES).contains(&size) => {
                Err(container(format!("a format chunk of 16 to {MAX_FORMAT_BYTES} bytes"), format!("{size} bytes")))
            }
            b"fmt " => Ok(State::FormatChunk { size }),
            b"data" if self.layout.is_none() => Err(container("a format chunk before the data", "none")),
            b"data" => {
                let declared = if size == 0 || size >= PLACEHOLDER_SIZE { None } else { Some(u64::from(size)) };
                self.declared_bytes = declared;
                Ok(State::Data { declared })
            }
            _ => Ok(State::OtherChunk { remaining: u64::from(size).next_multiple_of(2) }),
        }
    }

    fn read_data(&mut self, chunk: &[u8], declared: Option<u64>, output: &mut Vec<u8>) {
        let Some(layout) = self.layout else { return };
        let remaining = declared.map_or(u64::MAX, |declared| declared - self.num_data_bytes);
        let mut data = &chunk[..remaining.min(chunk.len() as u64) as usize];
        self.num_data_bytes += data.len() as u64;
        if declared == Some(self.num_data_bytes) {
            self.state = State::End;
        }
        if !self.pending.is_empty() {
            let num_taken = (layout.sample_frame_bytes - self.pending.len()).min(data.len());
            self.pending.extend_from_slice(&data[..num_taken]);
            data = &data[num_taken..];
            if self.pending.len() < layout.sample_frame_bytes {
                return;
            }
            decode(layout.encoding, &self.pending, output);
            self.pending.clear();
        }
        let (whole, rest) = data.split_at(data.len() - data.len() % layout.sample_frame_bytes);
        decode(layout.encoding, whole, output);
        self.pending.extend_from_slice(rest);
    }
}

/// Writes a WAV stream of 16-bit PCM: the header with the first chunk, then the chunks as they are.
#[derive(Clone, Debug)]
pub struct WavWriter {
    sample_rate: u32,
    num_channels: u16,
    data_bytes: Option<u32>,
    num_written: u64,
    is_header_sent: bool,
}

impl WavWriter {
    /// Create a writer; without `data_bytes` the header says that the length is not known.
    pub fn new(sample_rate: u32, num_channels: u16, data_bytes: Option<u32>) -> Result<Self> {
        check_sample_rate(sample_rate)?;
        if num_channels == 0 || num_channels > u16::MAX / 2 {
            return Err(container("1 to 32767 channels", num_channels.to_string()));
        }
        let sample_frame_bytes = u32::from(num_channels) * 2;
        if sample_rate.checked_mul(sample_frame_bytes).is_none() {
            return Err(container(
                "a byte rate below 4294967296",
                format!("{num_channels} channels at {sample_rate} Hz"),
            ));
        }
        match data_bytes {
            Some(bytes) if !bytes.is_multiple_of(sample_frame_bytes) => Err(container(
                format!("whole sample frames of {sample_frame_bytes} bytes"),
                format!("{bytes} bytes of data"),
            )),
            Some(bytes) if bytes > UNKNOWN_SIZE - HEADER_BYTES as u32 => {
                Err(container("at most 4294967251 bytes of data", format!("{bytes} bytes")))
            }
            _ => Ok(Self { sample_rate, num_channels, data_bytes, num_written: 0, is_header_sent: false }),
        }
    }

    /// Return the header of the stream.
    #[must_use]
    pub fn header(&self) -> [u8; HEADER_BYTES] {
        let sample_frame_bytes = self.num_channels * 2;
        let riff_bytes = self.data_bytes.map_or(UNKNOWN_SIZE, |bytes| bytes + HEADER_BYTES as u32 - 8);
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(b"RIFF");
        header[4..8].copy_from_slice(&riff_bytes.to_le_bytes());
        header[8..16].copy_from_slice(b"WAVEfmt ");
        header[16..20].copy_from_slice(&16_u32.to_le_bytes());
        header[20..22].copy_from_slice(&FORMAT_PCM.to_le_bytes());
        header[22..24].copy_from_slice(&self.num_channels.to_le_bytes());
        header[24..28].copy_from_slice(&self.sample_rate.to_le_bytes());
        header[28..32].copy_from_slice(&(self.sample_rate * u32::from(sample_frame_bytes)).to_le_bytes());
        header[32..34].copy_from_slice(&sample_frame_bytes.to_le_bytes());
        header[34..36].copy_from_slice(&16_u16.to_le_bytes());
        header[36..40].copy_from_slice(b"data");
        header[40..].copy_from_slice(&self.data_bytes.unwrap_or(UNKNOWN_SIZE).to_le_bytes());
        header
    }

    /// Return the bytes of the stream for a chunk of PCM, with the header before the first.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<Vec<u8>> {
        let num_written = self.num_written + chunk.len() as u64;
        if let Some(data_bytes) = self.data_bytes
            && num_written > u64::from(data_bytes)
        {
            return Err(container(format!("{data_bytes} bytes of data"), format!("{num_written} bytes")));
        }
        self.num_written = num_written;
        let mut stream = Vec::with_capacity(chunk.len() + HEADER_BYTES);
        if !std::mem::replace(&mut self.is_header_sent, true) {
            stream.extend_from_slice(&self.header());
        }
        stream.extend_from_slice(chunk);
        Ok(stream)
    }
}

fn container(expected: impl Into<String>, got: impl Into<String>) -> Error {
    Error::Container { expected: expected.into(), got: got.into() }
}

fn check_riff(header: &[u8]) -> Result<()> {
    if &header[..4] == b"RIFF" && &header[8..12] == b"WAVE" {
        Ok(())
    } else {
        Err(container("a RIFF/WAVE header", format!("{:?}", String::from_utf8_lossy(&header[..12]))))
    }
}

fn parse_layout(chunk: &[u8]) -> Result<Layout> {
    let (num_channels, sample_rate) = (u16_at(chunk, 2), u32_at(chunk, 4));
    let (sample_frame_bytes, bits_per_sample) = (usize::from(u16_at(chunk, 12)), u16_at(chunk, 14));
    let mut format_tag = u16_at(chunk, 0);
    if format_tag == FORMAT_EXTENSIBLE {
        if chunk.len() < 40 || chunk[26..40] != SUB_FORMAT_TAIL {
            return Err(container("an extensible format with a known sub-format", format!("{} bytes", chunk.len())));
        }
        format_tag = u16_at(chunk, 24);
    }
    let encoding = Encoding::of(format_tag, bits_per_sample)?;
    if num_channels == 0 || sample_rate == 0 {
        return Err(container("at least 1 channel and 1 Hz", format!("{num_channels} channels and {sample_rate} Hz")));
    }
    let expected_bytes = usize::from(num_channels) * encoding.sample_bytes();
    if sample_frame_bytes != expected_bytes {
        return Err(container(
            format!("sample frames of {expected_bytes} bytes for {num_channels} channels"),
            format!("{sample_frame_bytes} bytes"),
        ));
    }
    Ok(Layout { encoding, sample_rate, num_channels, sample_frame_bytes })
}

fn u16_at(bytes: &[u8], position: usize) -> u16 {
    u16::from_le_bytes([bytes[position], bytes[position + 1]])
}

fn u32_at(bytes: &[u8], position: usize) -> u32 {
    u32::from(u16_at(bytes, position)) | u32::from(u16_at(bytes, position + 2)) << 16
}

fn decode(encoding: Encoding, data: &[u8], output: &mut Vec<u8>) {
    let start = output.len();
    output.resize(start + data.len() / encoding.sample_bytes() * 2, 0);
    let decoded = &mut output[start..];
    match encoding {
        Encoding::S16 => decoded.copy_from_slice(data),
        Encoding::Ulaw => g711::decode_into(g711::Law::Ulaw, data, decoded),
        Encoding::Alaw => g711::decode_into(g711::Law::Alaw, data, decoded),
        Encoding::F32 => pcm::pcm_from_float_into(data, decoded),
        Encoding::U8 => convert(data, decoded, |[byte]| (i16::from(byte) - 128) << 8),
        Encoding::S24 => convert(data, decoded, |[a, b, c]| round_to_s16(i32::from_le_bytes([0, a, b, c]))),
        Encoding::S32 => convert(data, decoded, |bytes| round_to_s16(i32::from_le_bytes(bytes))),
        // Rounding twice, to f32 and to 16 bits, moves a sample by less than a thousandth of the last bit.
        Encoding::F64 => convert(data, decoded, |bytes| pcm::sample_from_float(f64::from_le_bytes(bytes) as f32)),
    }
}

fn convert<const N: usize>(data: &[u8], decoded: &mut [u8], sample_of: impl Fn([u8; N]) -> i16) {
    for (sample, bytes) in decoded.as_chunks_mut::<2>().0.iter_mut().zip(data.as_chunks::<N>().0) {
        *sample = sample_of(*bytes).to_le_bytes();
    }
}

/// Round 32 bits to the upper 16: half to even, saturating.
fn round_to_s16(value: i32) -> i16 {
    let is_odd = i64::from(value >> 16 & 1);
    ((i64::from(value) + 0x7FFF + is_odd) >> 16).min(i64::from(i16::MAX)) as i16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn riff(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
        let mut stream = b"RIFF\xff\xff\xff\xffWAVE".to_vec();
        for (name, body) in chunks {
            stream.extend_from_slice(*name);
            stream.extend_from_slice(&(body.len() as u32).to_le_bytes());
            stream.extend_from_slice(body);
            stream.resize(stream.len().next_multiple_of(2), 0);
        }
        stream
    }

    fn format_chunk(format_tag: u16, num_channels: u16, sample_rate: u32, bits: u16) -> Vec<u8> {
        let sample_frame_bytes = num_channels * bits.div_ceil(8);
        [
            &format_tag.to_le_bytes()[..],
            &num_channels.to_le_bytes(),
            &sample_rate.to_le_bytes(),
            &(sample_rate * u32::from(sample_frame_bytes)).to_le_bytes(),
            &sample_frame_bytes.to_le_bytes(),
            &bits.to_le_bytes(),
        ]
        .concat()
    }

    fn read(stream: &[u8]) -> Result<Vec<u8>> {
        let (mut reader, mut output) = (WavReader::new(), Vec::new());
        reader.feed(stream, &mut output)?;
        reader.close()?;
        Ok(output)
    }

    fn message_of(stream: &[u8]) -> String {
        read(stream).expect_err("refused").to_string()
    }

    #[test]
    fn every_encoding_is_converted() {
        let cases: [(u16, u16, Vec<u8>, i16); 11] = [
            (FORMAT_PCM, 8, vec![0], -32768),
            (FORMAT_PCM, 16, vec![0x34, 0x12], 0x1234),
            (FORMAT_PCM, 24, vec![0x80, 0x34, 0x12], 0x1234),
            (FORMAT_PCM, 24, vec![0x80, 0x35, 0x12], 0x1236),
            (FORMAT_PCM, 24, vec![0xFF, 0xFF, 0x7F], 32767),
            (FORMAT_PCM, 32, vec![0, 0, 0, 0x80], -32768),
            (FORMAT_FLOAT, 32, (-0.5_f32).to_le_bytes().to_vec(), -16384),
            (FORMAT_FLOAT, 64, 2.0_f64.to_le_bytes().to_vec(), 32767),
            (FORMAT_FLOAT, 64, f64::NAN.to_le_bytes().to_vec(), 0),
            (FORMAT_ULAW, 8, vec![0x80], 32124),
            (FORMAT_ALAW, 8, vec![0xD5], 8),
        ];
        for (format_tag, bits, data, sample) in cases {
            let stream = riff(&[(b"fmt ", &format_chunk(format_tag, 1, 8_000, bits)), (b"data", &data)]);
            assert_eq!(read(&stream), Ok(sample.to_le_bytes().to_vec()), "format {format_tag} of {bits} bits");
        }
    }

    #[test]
    fn extensible_format_is_read() {
        let mut format = format_chunk(FORMAT_EXTENSIBLE, 1, 8_000, 16);
        format.extend_from_slice(&[22, 0, 16, 0, 4, 0, 0, 0, 1, 0]);
        format.extend_from_slice(&SUB_FORMAT_TAIL);
        assert_eq!(read(&riff(&[(b"fmt ", &format), (b"data", &[1, 2])])), Ok(vec![1, 2]));
        format[30] ^= 1;
        assert_eq!(
            message_of(&riff(&[(b"fmt ", &format), (b"data", &[1, 2])])),
            "expected an extensible format with a known sub-format, got 40 bytes"
        );
    }

    #[test]
    fn other_chunks_are_skipped() {
        let format = format_chunk(FORMAT_PCM, 1, 8_000, 16);
        let stream =
            riff(&[(b"LIST", b"odd"), (b"fmt ", &format), (b"fact", &[]), (b"data", &[1, 2]), (b"id3 ", b"xyz")]);
        assert_eq!(read(&stream), Ok(vec![1, 2]));
    }

    #[test]
    fn hostile_headers_are_refused() {
        let format = format_chunk(FORMAT_PCM, 1, 8_000, 16);
        let cases = [
            (b"RF64\0\0\0\0WAVE".to_vec(), "expected a RIFF/WAVE header, got \"RF64\\0\\0\\0\\0WAVE\""),
            (riff(&[(b"data", &[1, 2])]), "expected a format chunk before the data, got none"),
            (riff(&[(b"fmt ", &format), (b"fmt ", &format)]), "expected one format chunk, got two"),
            (riff(&[(b"fmt ", &[0; 14])]), "expected a format chunk of 16 to 1024 bytes, got 14 bytes"),
            (
                riff(&[(b"fmt ", &format_chunk(FORMAT_PCM, 0, 8_000, 16))]),
                "expected at least 1 channel and 1 Hz, got 0 channels and 8000 Hz",
            ),
            (
                riff(&[(b"fmt ", &format_chunk(FORMAT_PCM, 1, 0, 16))]),
                "expected at least 1 channel and 1 Hz, got 1 channels and 0 Hz",
            ),
            (
                riff(&[(b"fmt ", &format_chunk(FORMAT_PCM, 1, 8_000, 20))]),
                "expected PCM of 8, 16, 24 or 32 bits, float of 32 or 64 bits, mu-law or A-law of 8 bits, got format \
                 0x0001 of 20 bits",
            ),
            (
                riff(&[(b"fmt ", &format)])[..30].to_vec(),
                "expected a WAV header that ends in a data chunk, got the end of the stream after 30 bytes",
            ),
            (Vec::new(), "expected a WAV header that ends in a data chunk, got the end of the stream after 0 bytes"),
        ];
        for (stream, text) in cases {
            assert_eq!(message_of(&stream), text);
        }
        let mut stream = riff(&[(b"fmt ", &format), (b"data", &[1, 2, 3, 4])]);
        stream.truncate(stream.len() - 1);
        assert_eq!(message_of(&stream), "expected 4 bytes of data, got 3 bytes");
        let stream = riff(&[(b"fmt ", &format), (b"data", &[1, 2, 3])]);
        assert_eq!(message_of(&stream), "expected whole sample frames of 2 bytes, got 3 bytes of data");
    }

    #[test]
    fn failure_is_permanent() {
        let mut reader = WavReader::new();
        let error = reader.feed(b"OggS\0\0\0\0\0\0\0\0", &mut Vec::new()).expect_err("Ogg");
        assert_eq!(reader.feed(&[], &mut Vec::new()), Err(error.clone()));
        assert_eq!(reader.close(), Err(error));
    }

    #[test]
    fn writer_and_reader_agree() {
        for (data_bytes, num_samples) in [(None, None), (Some(8), Some(2))] {
            let mut writer = WavWriter::new(22_050, 2, data_bytes).expect("valid");
            let mut stream = writer.feed(&[1, 2, 3]).expect("fits");
            stream.extend(writer.feed(&[4, 5, 6, 7, 8]).expect("fits"));
            let (mut reader, mut output) = (WavReader::new(), Vec::new());
            reader.feed(&stream, &mut output).expect("valid");
            assert_eq!(output, [1, 2, 3, 4, 5, 6, 7, 8]);
            assert_eq!((reader.sample_rate(), reader.num_channels()), (Some(22_050), Some(2)));
            assert_eq!((reader.bits_per_sample(), reader.num_samples()), (Some(16), num_samples));
            assert_eq!(reader.close(), Ok(()));
        }
    }

    #[test]
    fn writer_refuses_what_no_header_can_say() {
        let cases = [
            (WavWriter::new(999, 1, None), "expected a sample rate of 1000 to 384000 Hz, got 999"),
            (WavWriter::new(8_000, 0, None), "expected 1 to 32767 channels, got 0"),
            (
                WavWriter::new(384_000, 32_767, None),
                "expected a byte rate below 4294967296, got 32767 channels at 384000 Hz",
            ),
            (WavWriter::new(8_000, 2, Some(6)), "expected whole sample frames of 4 bytes, got 6 bytes of data"),
            (
                WavWriter::new(8_000, 1, Some(u32::MAX - 1)),
                "expected at most 4294967251 bytes of data, got 4294967294 bytes",
            ),
        ];
        for (result, text) in cases {
            assert_eq!(result.expect_err(text).to_string(), text);
        }
        let mut writer = WavWriter::new(8_000, 1, Some(2)).expect("valid");
        assert_eq!(writer.feed(&[0; 4]).expect_err("long").to_string(), "expected 2 bytes of data, got 4 bytes");
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_audio(
            data in prop::collection::vec(any::<u8>(), 1..60),
            bits in prop::sample::select(vec![8_u16, 16, 24, 32]),
            cuts in prop::collection::vec(0_usize..120, 0..8),
        ) {
            let stream = riff(&[
                (b"junk", &[1; 5]),
                (b"fmt ", &format_chunk(FORMAT_PCM, 2, 8_000, bits)),
                (b"data", &data),
                (b"tail", &[1; 3]),
            ]);
            let (mut reader, mut output) = (WavReader::new(), Vec::new());
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| *cut.min(&stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            for pair in cuts.windows(2) {
                reader.feed(&stream[pair[0]..pair[1]], &mut output).expect("valid");
            }
            let mut expected = Vec::new();
            let mut whole = WavReader::new();
            whole.feed(&stream, &mut expected).expect("valid");
            prop_assert_eq!(output, expected);
            prop_assert_eq!(reader.close(), whole.close());
        }
    }
}
