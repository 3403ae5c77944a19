//! Signed 16-bit PCM and 32-bit float samples.

use crate::{Error, Result};

/// Full scale of signed 16-bit PCM: the float 1.0 stands for this number, one more than can be stored.
pub const FULL_SCALE: f32 = 32768.0;

/// Adding and subtracting 1.5 * 2^23 rounds a small f32 to an integer, half to even, without a library call.
const ROUNDING: f32 = 12_582_912.0;

/// Round a value in units of the last bit to a sample: half to even, saturating, NaN to 0.
#[inline]
#[must_use]
pub fn sample_from_units(value: f32) -> i16 {
    let value = if value.is_nan() { 0.0 } else { value };
    let value = value.clamp(-32768.0, 32767.0);
    ((value + ROUNDING).to_bits().wrapping_sub(ROUNDING.to_bits())) as i16
}

/// Convert a float sample (full scale 1.0) to PCM: half to even, saturating, NaN to 0.
#[inline]
#[must_use]
pub fn sample_from_float(value: f32) -> i16 {
    sample_from_units(value * FULL_SCALE)
}

/// Convert little-endian floats to PCM of half the length.
///
/// `pcm` must be half as long as `floats`; what is longer on either side stays untouched.
pub fn pcm_from_float_into(floats: &[u8], pcm: &mut [u8]) {
    let floats = floats.as_chunks::<4>().0;
    let pcm = pcm.as_chunks_mut::<2>().0;
    for (sample, float) in pcm.iter_mut().zip(floats) {
        *sample = sample_from_float(f32::from_le_bytes(*float)).to_le_bytes();
    }
}

/// Convert PCM to little-endian floats of twice the length, full scale 1.0.
///
/// `floats` must be twice as long as `pcm`; what is longer on either side stays untouched.
pub fn pcm_to_float_into(pcm: &[u8], floats: &mut [u8]) {
    let pcm = pcm.as_chunks::<2>().0;
    let floats = floats.as_chunks_mut::<4>().0;
    for (float, sample) in floats.iter_mut().zip(pcm) {
        *float = (f32::from(i16::from_le_bytes(*sample)) / FULL_SCALE).to_le_bytes();
    }
}

/// Check that a buffer holds whole samples and return how many.
pub fn num_samples(num_bytes: usize, sample_bytes: usize) -> Result<usize> {
    if num_bytes.is_multiple_of(sample_bytes) {
        Ok(num_bytes / sample_bytes)
    } else {
        Err(Error::PartialSample { sample_bytes, num_bytes: num_bytes as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn float_rounds_half_to_even() {
        let cases = [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (-2.5, -2), (2.500_001, 3), (0.499, 0)];
        for (units, expected) in cases {
            assert_eq!(sample_from_units(units), expected, "{units}");
        }
    }

    #[test]
    fn float_saturates() {
        let cases = [
            (1.0, 32767),
            (-1.0, -32768),
            (2.0, 32767),
            (-2.0, -32768),
            (f32::INFINITY, 32767),
            (f32::NEG_INFINITY, -32768),
            (f32::NAN, 0),
            (-f32::NAN, 0),
            (f32::MIN_POSITIVE, 0),
            (32767.0 / 32768.0, 32767),
        ];
        for (float, expected) in cases {
            assert_eq!(sample_from_float(float), expected, "{float}");
        }
    }

    #[test]
    fn every_sample_survives_the_way_through_float() {
        let pcm: Vec<u8> = (i16::MIN..=i16::MAX).flat_map(i16::to_le_bytes).collect();
        let mut floats = vec![0; pcm.len() * 2];
        let mut back = vec![0; pcm.len()];
        pcm_to_float_into(&pcm, &mut floats);
        pcm_from_float_into(&floats, &mut back);
        assert_eq!(back, pcm);
    }

    #[test]
    fn partial_sample_is_named() {
        assert_eq!(num_samples(6, 2), Ok(3));
        let error = num_samples(5, 2).expect_err("odd");
        assert_eq!(error.to_string(), "expected whole samples of 2 bytes, got 5 bytes");
    }
}
