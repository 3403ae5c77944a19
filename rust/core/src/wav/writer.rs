//! Writing.

use super::ima::{BlockEncoder, BlockLayout};
use super::layout::{FORMAT_ALAW, FORMAT_IMA_ADPCM, FORMAT_PCM, FORMAT_ULAW};
use super::{container, cut};
use crate::g711::{self, Law};
use crate::resample::check_sample_rate;
use crate::{Error, Result};

/// A size of a stream whose length is not known when its header is written.
const UNKNOWN_SIZE: u32 = u32::MAX;
/// The size of the header before PCM.
const PCM_HEADER_BYTES: u32 = 44;
/// A block of IMA ADPCM has 256 bytes for each channel, and as many again for each further 11025 Hz.
const BLOCK_SAMPLE_RATE: u32 = 11_025;
const CHANNEL_BLOCK_BYTES: u32 = 256;

/// How a [`WavWriter`] stores audio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WavEncoding {
    /// 16-bit PCM as it comes.
    #[default]
    Pcm,
    /// G.711, 8 bits a sample.
    G711(Law),
    /// IMA ADPCM, 4 bits a sample, in blocks.
    ImaAdpcm,
}

impl WavEncoding {
    /// Parse a name.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "pcm" => Ok(Self::Pcm),
            "ulaw" => Ok(Self::G711(Law::Ulaw)),
            "alaw" => Ok(Self::G711(Law::Alaw)),
            "ima_adpcm" => Ok(Self::ImaAdpcm),
            _ => {
                let expected = "pcm, ulaw, alaw, ima_adpcm";
                Err(Error::UnknownName { kind: "WAV encoding", expected, name: name.to_owned() })
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Encoder {
    Pcm,
    G711(Law),
    Ima(BlockEncoder),
}

/// Writes a WAV stream from 16-bit PCM: the header with the first chunk, then the chunks encoded.
#[derive(Clone, Debug)]
pub struct WavWriter {
    sample_rate: u32,
    num_channels: u16,
    data_bytes: Option<u32>,
    encoder: Encoder,
    /// How much PCM came.
    num_fed: u64,
    /// PCM that waits for the rest of its sample frame or block.
    pending: Vec<u8>,
    is_header_sent: bool,
}

impl WavWriter {
    /// Create a writer of PCM; without `data_bytes` the header says that the length is not known.
    pub fn new(sample_rate: u32, num_channels: u16, data_bytes: Option<u32>) -> Result<Self> {
        Self::with_encoding(sample_rate, num_channels, data_bytes, WavEncoding::Pcm)
    }

    /// Create a writer; `data_bytes` is the size of the PCM to come, whatever the encoding.
    pub fn with_encoding(
        sample_rate: u32,
        num_channels: u16,
        data_bytes: Option<u32>,
        encoding: WavEncoding,
    ) -> Result<Self> {
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
        let encoder = match encoding {
            WavEncoding::Pcm => Encoder::Pcm,
            WavEncoding::G711(law) => Encoder::G711(law),
            WavEncoding::ImaAdpcm => Encoder::Ima(BlockEncoder::new(block_layout(sample_rate, num_channels)?)),
        };
        match data_bytes {
            Some(bytes) if !bytes.is_multiple_of(sample_frame_bytes) => Err(container(
                format!("whole sample frames of {sample_frame_bytes} bytes"),
                format!("{bytes} bytes of data"),
            )),
            // The encodings are smaller than the PCM they are made of, so their sizes fit if this one does.
            Some(bytes) if bytes > UNKNOWN_SIZE - PCM_HEADER_BYTES => {
                Err(container("at most 4294967251 bytes of data", format!("{bytes} bytes")))
            }
            _ => Ok(Self {
                sample_rate,
                num_channels,
                data_bytes,
                encoder,
                num_fed: 0,
                pending: Vec::new(),
                is_header_sent: false,
            }),
        }
    }

    fn sample_frame_bytes(&self) -> usize {
        usize::from(self.num_channels) * 2
    }

    /// Return the header of the stream: 44 bytes for PCM, 58 for G.711 and 60 for IMA ADPCM.
    #[must_use]
    pub fn header(&self) -> Vec<u8> {
        // Both standards ask for the size of the extension and for the fact chunk in all encodings but PCM.
        let (format_tag, block_bytes, bits_per_sample, extension) = match &self.encoder {
            Encoder::Pcm => (FORMAT_PCM, self.num_channels * 2, 16_u16, Vec::new()),
            Encoder::G711(Law::Ulaw) => (FORMAT_ULAW, self.num_channels, 8, vec![0, 0]),
            Encoder::G711(Law::Alaw) => (FORMAT_ALAW, self.num_channels, 8, vec![0, 0]),
            Encoder::Ima(encoder) => {
                let [low, high] = (encoder.layout().block_samples as u16).to_le_bytes();
                (FORMAT_IMA_ADPCM, encoder.layout().block_bytes as u16, 4, vec![2, 0, low, high])
            }
        };
        let byte_rate = match &self.encoder {
            Encoder::Ima(encoder) => {
                let bytes = u64::from(self.sample_rate) * u64::from(block_bytes);
                (bytes / encoder.layout().block_samples as u64) as u32
            }
            _ => self.sample_rate * u32::from(block_bytes),
        };
        let mut header = b"RIFF\0\0\0\0WAVE".to_vec();
        let mut append_chunk = |name: &[u8], size: u32, body: &[&[u8]]| {
            header.extend_from_slice(name);
            header.extend_from_slice(&size.to_le_bytes());
            header.extend_from_slice(&body.concat());
        };
        append_chunk(
            b"fmt ",
            16 + extension.len() as u32,
            &[
                &format_tag.to_le_bytes(),
                &self.num_channels.to_le_bytes(),
                &self.sample_rate.to_le_bytes(),
                &byte_rate.to_le_bytes(),
                &block_bytes.to_le_bytes(),
                &bits_per_sample.to_le_bytes(),
                &extension,
            ],
        );
        if !matches!(self.encoder, Encoder::Pcm) {
            let num_samples = self.data_bytes.map(|bytes| bytes / self.sample_frame_bytes() as u32);
            append_chunk(b"fact", 4, &[&num_samples.unwrap_or(UNKNOWN_SIZE).to_le_bytes()]);
        }
        append_chunk(b"data", self.encoded_bytes().unwrap_or(UNKNOWN_SIZE), &[]);
        let riff_bytes = self.encoded_bytes().map(|bytes| bytes.next_multiple_of(2) + header.len() as u32 - 8);
        header[4..8].copy_from_slice(&riff_bytes.unwrap_or(UNKNOWN_SIZE).to_le_bytes());
        header
    }

    fn encoded_bytes(&self) -> Option<u32> {
        let data_bytes = self.data_bytes?;
        Some(match &self.encoder {
            Encoder::Pcm => data_bytes,
            Encoder::G711(_) => data_bytes / 2,
            Encoder::Ima(encoder) => {
                data_bytes.div_ceil(encoder.pcm_bytes() as u32) * encoder.layout().block_bytes as u32
            }
        })
    }

    /// Return the bytes of the stream that a chunk of PCM completes, with the header before the first.
    ///
    /// What the chunk cuts, a sample frame or a block of IMA ADPCM, is kept for the next call; PCM is passed on as it
    /// comes. Call [`flush`](Self::flush) at the end.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<Vec<u8>> {
        let num_fed = self.num_fed + chunk.len() as u64;
        if let Some(data_bytes) = self.data_bytes
            && num_fed > u64::from(data_bytes)
        {
            return Err(container(format!("{data_bytes} bytes of data"), format!("{num_fed} bytes")));
        }
        self.num_fed = num_fed;
        let mut stream = self.take_header(chunk.len());
        match &mut self.encoder {
            Encoder::Pcm => stream.extend_from_slice(chunk),
            Encoder::G711(law) => {
                let law = *law;
                cut(&mut self.pending, chunk, 2, |samples| {
                    let start = stream.len();
                    stream.resize(start + samples.len() / 2, 0);
                    g711::encode_into(law, samples, &mut stream[start..]);
                });
            }
            Encoder::Ima(encoder) => {
                let block_bytes = encoder.pcm_bytes();
                cut(&mut self.pending, chunk, block_bytes, |blocks| {
                    for block in blocks.chunks_exact(block_bytes) {
                        encoder.encode(block, &mut stream);
                    }
                });
            }
        }
        Ok(stream)
    }

    /// Return the rest of the stream and start a new one: the header if nothing was fed, the last block of IMA ADPCM,
    /// filled up with the last sample, and the byte that makes a declared size of RIFF chunks even.
    ///
    /// On an error the stream stays as it is.
    pub fn flush(&mut self) -> Result<Vec<u8>> {
        let sample_frame_bytes = self.sample_frame_bytes() as u64;
        if !self.num_fed.is_multiple_of(sample_frame_bytes) {
            return Err(container(
                format!("whole sample frames of {sample_frame_bytes} bytes"),
                format!("{} bytes of data", self.num_fed),
            ));
        }
        if let Some(data_bytes) = self.data_bytes
            && self.num_fed < u64::from(data_bytes)
        {
            return Err(container(format!("{data_bytes} bytes of data"), format!("{} bytes", self.num_fed)));
        }
        let mut stream = self.take_header(0);
        if let Encoder::Ima(encoder) = &mut self.encoder {
            encoder.encode(&self.pending, &mut stream);
            encoder.reset();
        }
        if self.encoded_bytes().is_some_and(|bytes| bytes % 2 == 1) {
            stream.push(0);
        }
        self.pending.clear();
        self.num_fed = 0;
        self.is_header_sent = false;
        Ok(stream)
    }

    fn take_header(&mut self, num_bytes: usize) -> Vec<u8> {
        let mut stream = if std::mem::replace(&mut self.is_header_sent, true) { Vec::new() } else { self.header() };
        stream.reserve(num_bytes);
        stream
    }
}

fn block_layout(sample_rate: u32, num_channels: u16) -> Result<BlockLayout> {
    let channel_bytes = CHANNEL_BLOCK_BYTES * (sample_rate / BLOCK_SAMPLE_RATE).max(1);
    let max_channels = u32::from(u16::MAX) / channel_bytes;
    if u32::from(num_channels) > max_channels {
        return Err(container(
            format!("1 to {max_channels} channels for IMA ADPCM at {sample_rate} Hz"),
            num_channels.to_string(),
        ));
    }
    let block_samples = 1 + (channel_bytes - 4) * 2;
    BlockLayout::new(num_channels, channel_bytes as u16 * num_channels, block_samples as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WavReader;
    use proptest::prelude::*;

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

    const ENCODINGS: [WavEncoding; 4] =
        [WavEncoding::Pcm, WavEncoding::G711(Law::Ulaw), WavEncoding::G711(Law::Alaw), WavEncoding::ImaAdpcm];

    fn write(writer: &mut WavWriter, chunks: &[&[u8]]) -> Vec<u8> {
        let mut stream: Vec<u8> = chunks.iter().flat_map(|chunk| writer.feed(chunk).expect("fits")).collect();
        stream.extend(writer.flush().expect("whole"));
        stream
    }

    #[test]
    fn names_are_parsed() {
        let names = ["pcm", "ulaw", "alaw", "ima_adpcm"];
        assert_eq!(names.map(WavEncoding::parse), ENCODINGS.map(Ok));
        let text = WavEncoding::parse("mp3").expect_err("unknown").to_string();
        assert_eq!(text, "expected a WAV encoding of pcm, ulaw, alaw, ima_adpcm, got \"mp3\"");
    }

    #[test]
    fn sizes_in_the_header_are_those_of_the_encoding() {
        for (encoding, num_header_bytes, num_data_bytes) in
            [(ENCODINGS[0], 44, 2022), (ENCODINGS[1], 58, 1011), (ENCODINGS[2], 58, 1011), (ENCODINGS[3], 60, 768)]
        {
            let mut writer = WavWriter::with_encoding(8_000, 1, Some(2022), encoding).expect("valid");
            let stream = write(&mut writer, &[&[1; 2022]]);
            assert_eq!(stream.len(), usize::next_multiple_of(num_header_bytes + num_data_bytes, 2));
            assert_eq!(stream[4..8], (stream.len() as u32 - 8).to_le_bytes());
            assert_eq!(stream[..num_header_bytes], writer.header());
            assert_eq!(stream[num_header_bytes - 4..num_header_bytes], (num_data_bytes as u32).to_le_bytes());
            let mut reader = WavReader::new();
            let mut output = Vec::new();
            reader.feed(&stream, &mut output).expect("valid");
            assert_eq!((reader.num_samples(), output.len(), reader.close()), (Some(1011), 2022, Ok(())));
        }
    }

    #[test]
    fn flush_starts_a_new_stream() {
        for encoding in ENCODINGS {
            let mut writer = WavWriter::with_encoding(8_000, 2, None, encoding).expect("valid");
            let first = write(&mut writer, &[&[7; 3], &[9; 5]]);
            assert_eq!(write(&mut writer, &[&[7; 3], &[9; 5]]), first);
            assert_eq!(write(&mut writer, &[]), writer.header());
        }
    }

    #[test]
    fn flush_refuses_what_is_not_whole_and_goes_on() {
        let mut writer = WavWriter::with_encoding(8_000, 2, Some(8), WavEncoding::ImaAdpcm).expect("valid");
        writer.feed(&[0; 3]).expect("fits");
        let text = writer.flush().expect_err("cut").to_string();
        assert_eq!(text, "expected whole sample frames of 4 bytes, got 3 bytes of data");
        writer.feed(&[0]).expect("fits");
        assert_eq!(writer.flush().expect_err("short").to_string(), "expected 8 bytes of data, got 4 bytes");
        writer.feed(&[0; 4]).expect("fits");
        assert_eq!(writer.flush().map(|stream| stream.len()), Ok(512));
    }

    #[test]
    fn block_has_to_fit_its_field() {
        assert!(WavWriter::with_encoding(8_000, 255, None, WavEncoding::ImaAdpcm).is_ok());
        let text = WavWriter::with_encoding(48_000, 64, None, WavEncoding::ImaAdpcm).expect_err("wide").to_string();
        assert_eq!(text, "expected 1 to 63 channels for IMA ADPCM at 48000 Hz, got 64");
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_stream(
            samples in prop::collection::vec(any::<[u8; 2]>(), 0..1200),
            num_channels in 1..4_usize,
            encoding in prop::sample::select(ENCODINGS.to_vec()),
            is_size_known: bool,
            cuts in prop::collection::vec(0_usize..2400, 0..8),
        ) {
            let mut pcm = samples.concat();
            pcm.truncate(pcm.len() / (2 * num_channels) * 2 * num_channels);
            let data_bytes = is_size_known.then_some(pcm.len() as u32);
            let mut writer =
                WavWriter::with_encoding(8_000, num_channels as u16, data_bytes, encoding).expect("valid");
            let whole = write(&mut writer, &[&pcm]);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| *cut.min(&pcm.len())).collect();
            cuts.extend([0, pcm.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &pcm[pair[0]..pair[1]]).collect();
            prop_assert_eq!(&write(&mut writer, &chunks), &whole);

            let (mut reader, mut output) = (WavReader::new(), Vec::new());
            reader.feed(&whole, &mut output).expect("valid");
            prop_assert_eq!(reader.close(), Ok(()));
            // The reader takes half a block in two channels for a mistake of libsndfile.
            let is_half_block = num_channels == 2 && pcm.len() == 505 / 2 * 4;
            if encoding != WavEncoding::ImaAdpcm || is_size_known && !is_half_block {
                prop_assert_eq!(output.len(), pcm.len());
            }
            if encoding == WavEncoding::Pcm {
                prop_assert_eq!(output, pcm);
            }
        }
    }
}
