//! Writing.

use super::container;
use super::layout::FORMAT_PCM;
use crate::Result;
use crate::resample::check_sample_rate;

/// A size of a stream whose length is not known when its header is written.
const UNKNOWN_SIZE: u32 = u32::MAX;
/// The size of the header that [`WavWriter`] writes.
pub const HEADER_BYTES: usize = 44;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WavReader;

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
}
