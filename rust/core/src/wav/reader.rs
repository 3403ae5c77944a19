//! Reading.

use super::ima::{BlockDecoder, BlockLayout};
use super::layout::{Layout, Storage, parse_layout};
use super::samples::decode;
use super::{container, cut, u32_at};
use crate::{Error, Result};

/// From here on a declared size is taken for a placeholder: programs that write to a pipe put there what is left of 2
/// or 4 GiB behind some header.
const PLACEHOLDER_SIZE: u32 = 0x7fff_0000;
/// Longest "fmt " RIFF chunk that is read; the extensible one has 40 bytes.
const MAX_FORMAT_BYTES: u32 = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Riff,
    ChunkHeader,
    FormatChunk {
        size: u32,
    },
    /// The chunk with the number of samples.
    FactChunk {
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
    fact_samples: Option<u32>,
    num_samples: Option<u64>,
    /// None unless the data comes in blocks.
    decoder: Option<BlockDecoder>,
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
            fact_samples: None,
            num_samples: None,
            decoder: None,
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
        self.read_layout().map(|layout| layout.storage.bits_per_sample())
    }

    /// Return how many samples each channel has, or None if that is unknown or the header has not been read.
    #[must_use]
    pub fn num_samples(&self) -> Option<u64> {
        self.read_layout().and(self.num_samples)
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
            State::Data { declared: None } | State::End => {
                let expected = match (self.layout, &self.decoder) {
                    (_, Some(decoder)) => decoder.partial_bytes().map(|bytes| format!("whole groups of {bytes} bytes")),
                    (Some(Layout { storage: Storage::Samples { sample_frame_bytes, .. }, .. }), None)
                        if !self.pending.is_empty() =>
                    {
                        Some(format!("whole sample frames of {sample_frame_bytes} bytes"))
                    }
                    _ => None,
                };
                expected.map_or(Ok(()), |expected| {
                    Err(container(expected, format!("{} bytes of data", self.num_data_bytes)))
                })
            }
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
                State::FactChunk { size } => {
                    if !self.collect(&mut chunk, 4) {
                        return Ok(());
                    }
                    self.fact_samples = Some(u32_at(&self.pending, 0));
                    self.enter(State::OtherChunk { remaining: u64::from(size).next_multiple_of(2) - 4 });
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
                    return self.read_data(chunk, declared, output);
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
            b"fact" if size >= 4 => Ok(State::FactChunk { size }),
            b"data" => {
                let Some(layout) = self.layout else {
                    return Err(container("a format chunk before the data", "none"));
                };
                let declared = if size == 0 || size >= PLACEHOLDER_SIZE { None } else { Some(u64::from(size)) };
                self.num_samples = declared.map(|bytes| layout.storage.samples_in(bytes));
                if let Storage::Blocks(blocks) = layout.storage {
                    let limit = self.num_samples.and_then(|held| self.fact_limit(held, layout.num_channels, blocks));
                    self.num_samples = limit.or(self.num_samples);
                    self.decoder = Some(BlockDecoder::new(blocks, limit.unwrap_or(u64::MAX)));
                }
                Ok(State::Data { declared })
            }
            _ => Ok(State::OtherChunk { remaining: u64::from(size).next_multiple_of(2) }),
        }
    }

    /// Return how many of the samples in the blocks are audio, if the fact chunk leaves out a part of the last block.
    fn fact_limit(&self, num_held: u64, num_channels: u16, blocks: BlockLayout) -> Option<u64> {
        let fact = u64::from(self.fact_samples?);
        // libsndfile up to 1.2 takes one or two channels, counts whole blocks and divides by the channels once more. To
        // lose half of its clips would be worse than to keep the filling of another's clip of half a block.
        let is_divided = num_channels == 2 && fact == num_held / 2;
        // Any other number, 0 from a writer to a pipe among them, is not about these blocks.
        let is_in_last = fact > 0 && fact < num_held && fact + blocks.block_samples as u64 > num_held;
        (is_in_last && !is_divided).then_some(fact)
    }

    fn read_data(&mut self, chunk: &[u8], declared: Option<u64>, output: &mut Vec<u8>) -> Result<()> {
        let remaining = declared.map_or(u64::MAX, |declared| declared - self.num_data_bytes);
        let data = &chunk[..remaining.min(chunk.len() as u64) as usize];
        self.num_data_bytes += data.len() as u64;
        if declared == Some(self.num_data_bytes) {
            self.state = State::End;
        }
        match (&mut self.decoder, self.layout) {
            (Some(decoder), _) => decoder.decode(data, output)?,
            (None, Some(Layout { storage: Storage::Samples { encoding, sample_frame_bytes }, .. })) => {
                cut(&mut self.pending, data, sample_frame_bytes, |whole| decode(encoding, whole, output));
            }
            _ => {}
        }
        Ok(())
    }
}

fn check_riff(header: &[u8]) -> Result<()> {
    if &header[..4] == b"RIFF" && &header[8..12] == b"WAVE" {
        Ok(())
    } else {
        Err(container("a RIFF/WAVE header", format!("{:?}", String::from_utf8_lossy(&header[..12]))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wav::layout::*;
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
                "expected PCM of 8, 16, 24 or 32 bits, float of 32 or 64 bits, mu-law or A-law of 8 bits, IMA ADPCM of \
                 4 bits, got format 0x0001 of 20 bits",
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

    fn ima_format_chunk(num_channels: u16, block_bytes: u16, block_samples: u16) -> Vec<u8> {
        let mut format = format_chunk(FORMAT_IMA_ADPCM, num_channels, 8_000, 4);
        format[12..14].copy_from_slice(&block_bytes.to_le_bytes());
        format.extend_from_slice(&2_u16.to_le_bytes());
        format.extend_from_slice(&block_samples.to_le_bytes());
        format
    }

    #[test]
    fn hostile_blocks_are_refused() {
        let broken = [[0, 0, 0, 0, 1, 2, 3, 4], [0, 0, 89, 0, 1, 2, 3, 4]].concat();
        let swapped = [[0, 0, 0, 0, 0, 0, 89, 0], [0; 8]].concat();
        let cases: [(Vec<u8>, &[u8], &str); 10] = [
            (
                ima_format_chunk(1, 8, 9)[..18].to_vec(),
                &[],
                "a format chunk of 20 bytes or more for IMA ADPCM, got 18 bytes",
            ),
            (ima_format_chunk(1, 3, 1), &[], "blocks of at least 4 bytes for 1 channels, got 3 bytes"),
            (
                ima_format_chunk(65_535, 65_535, 1),
                &[],
                "blocks of at least 262140 bytes for 65535 channels, got 65535 bytes",
            ),
            (ima_format_chunk(1, 8, 0), &[], "1 to 9 samples in a block of 8 bytes for 1 channels, got 0"),
            (ima_format_chunk(1, 8, 10), &[], "1 to 9 samples in a block of 8 bytes for 1 channels, got 10"),
            (ima_format_chunk(2, 23, 17), &[], "1 to 9 samples in a block of 23 bytes for 2 channels, got 17"),
            (ima_format_chunk(1, 8, 9), &broken, "a step index of 0 to 88, got 89 for channel 0 of block 1"),
            (ima_format_chunk(2, 16, 9), &swapped, "a step index of 0 to 88, got 89 for channel 1 of block 0"),
            (ima_format_chunk(1, 7, 7), &[0; 16], "whole groups of 4 bytes, got 16 bytes of data"),
            (ima_format_chunk(2, 32, 25), &[0; 20], "whole groups of 8 bytes, got 20 bytes of data"),
        ];
        for (format, data, text) in cases {
            assert_eq!(message_of(&riff(&[(b"fmt ", &format), (b"data", data)])), format!("expected {text}"));
        }
    }

    fn samples_of(num_channels: u16, fact: u32, data: &[u8]) -> (Option<u64>, usize) {
        let block_samples = 9;
        let format = ima_format_chunk(num_channels, num_channels * 8, block_samples);
        let stream = riff(&[(b"fmt ", &format), (b"fact", &fact.to_le_bytes()), (b"data", data)]);
        let (mut reader, mut output) = (WavReader::new(), Vec::new());
        reader.feed(&stream, &mut output).expect("valid");
        assert_eq!(reader.close(), Ok(()));
        assert_eq!(reader.bits_per_sample(), Some(4));
        (reader.num_samples(), output.len() / 2 / usize::from(num_channels))
    }

    #[test]
    fn extensible_format_has_the_samples_of_a_block() {
        let mut format = ima_format_chunk(1, 8, 9);
        format[..2].copy_from_slice(&FORMAT_EXTENSIBLE.to_le_bytes());
        format[16..18].copy_from_slice(&22_u16.to_le_bytes());
        format.extend_from_slice(&[0, 0, 0, 0, 0x11, 0]);
        format.extend_from_slice(&SUB_FORMAT_TAIL);
        let stream = riff(&[(b"fmt ", &format), (b"data", &[1, 0, 0, 0, 0, 0, 0, 0])]);
        assert_eq!(read(&stream), Ok([[1, 0]; 9].concat()));
    }

    #[test]
    fn fact_chunk_leaves_out_a_part_of_the_last_block() {
        for (fact, num_samples) in [(18, 18), (17, 17), (10, 10), (9, 18), (0, 18), (19, 18), (u32::MAX, 18)] {
            assert_eq!(samples_of(1, fact, &[0; 16]), (Some(num_samples), num_samples as usize), "{fact}");
        }
        // A short last block, whose last byte is half used or not used at all.
        for (fact, num_samples) in [(0, 14), (13, 13), (12, 12)] {
            assert_eq!(samples_of(1, fact, &[0; 14]), (Some(num_samples), num_samples as usize), "{fact}");
        }
        // What libsndfile writes for two channels: half of the samples in the blocks.
        for (fact, num_samples) in [(4, 9), (5, 5), (8, 8)] {
            assert_eq!(samples_of(2, fact, &[0; 16]), (Some(num_samples), num_samples as usize), "{fact}");
        }
    }

    #[test]
    fn blocks_of_unknown_size_go_on_until_the_end() {
        let mut stream = riff(&[(b"fmt ", &ima_format_chunk(1, 8, 9)), (b"fact", &[2, 0, 0, 0]), (b"data", &[])]);
        stream.extend([0; 13]);
        let (mut reader, mut output) = (WavReader::new(), Vec::new());
        reader.feed(&stream, &mut output).expect("valid");
        assert_eq!((reader.num_samples(), output.len(), reader.close()), (None, (9 + 3) * 2, Ok(())));
    }

    #[test]
    fn failure_is_permanent() {
        let mut reader = WavReader::new();
        let error = reader.feed(b"OggS\0\0\0\0\0\0\0\0", &mut Vec::new()).expect_err("Ogg");
        assert_eq!(reader.feed(&[], &mut Vec::new()), Err(error.clone()));
        assert_eq!(reader.close(), Err(error));
    }

    fn read_in_pieces(stream: &[u8], cuts: &[usize]) -> (Vec<u8>, Result<()>) {
        let (mut reader, mut output) = (WavReader::new(), Vec::new());
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| *cut.min(&stream.len())).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        for pair in cuts.windows(2) {
            reader.feed(&stream[pair[0]..pair[1]], &mut output).expect("valid");
        }
        (output, reader.close())
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_audio_from_blocks(
            data in prop::collection::vec(0..89_u8, 1..200),
            num_channels in 1..4_u16,
            block_bytes in 12..60_u16,
            block_samples in 1..9_u16,
            fact in prop::option::of(0..100_u32),
            cuts in prop::collection::vec(0_usize..300, 0..8),
        ) {
            let block_samples = if block_bytes < 8 * num_channels { 1 } else { block_samples };
            let fact = fact.map_or(Vec::new(), |fact| fact.to_le_bytes().to_vec());
            let stream = riff(&[
                (b"fmt ", &ima_format_chunk(num_channels, block_bytes, block_samples)),
                (b"fact", &fact),
                (b"data", &data),
                (b"tail", &[1; 3]),
            ]);
            prop_assert_eq!(read_in_pieces(&stream, &cuts), read_in_pieces(&stream, &[]));
            let (mut reader, mut output) = (WavReader::new(), Vec::new());
            reader.feed(&stream, &mut output).expect("valid");
            let num_samples = output.len() as u64 / 2 / u64::from(num_channels);
            prop_assert_eq!(reader.num_samples(), Some(num_samples));
        }

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
            prop_assert_eq!(read_in_pieces(&stream, &cuts), read_in_pieces(&stream, &[]));
        }
    }
}
