//! From stored samples to PCM.

use super::layout::Encoding;
use crate::{g711, pcm};

/// Append the PCM of whole samples to `output`.
pub fn decode(encoding: Encoding, data: &[u8], output: &mut Vec<u8>) {
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
