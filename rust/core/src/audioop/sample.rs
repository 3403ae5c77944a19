//! Samples of any width as 32-bit integers, and doubles as samples.

/// Adding and subtracting 1.5 * 2^52 rounds a double of up to 32 bits to an integer without a library call; the
/// integer stands in the lower half of the sum.
const ROUNDING: f64 = 6_755_399_441_055_744.0;

/// Return a sample in its own range.
#[inline]
pub fn value<const N: usize>(sample: [u8; N]) -> i32 {
    high(sample) >> (32 - 8 * N)
}

/// Return a sample with its top bit at the top of 32 bits.
#[inline]
pub fn high<const N: usize>(sample: [u8; N]) -> i32 {
    let mut word = [0; 4];
    word[4 - N..].copy_from_slice(&sample);
    i32::from_le_bytes(word)
}

/// Return the sample for a value; what is above its range is cut off.
#[inline]
pub fn from_value<const N: usize>(value: i32) -> [u8; N] {
    from_high(value << (32 - 8 * N))
}

/// Return the top bytes of a 32-bit sample.
#[inline]
pub fn from_high<const N: usize>(high: i32) -> [u8; N] {
    let word = high.to_le_bytes();
    std::array::from_fn(|byte| word[4 - N + byte])
}

/// Return the sample whose top bytes are those of a 16-bit sample.
#[inline]
pub fn from_word<const N: usize>(word: i16) -> [u8; N] {
    if N == 1 {
        return [word.to_le_bytes()[1]; N];
    }
    let mut sample = [0; N];
    sample[N - 2..].copy_from_slice(&word.to_le_bytes());
    sample
}

/// Round a double down to a sample, saturating.
#[inline]
pub fn from_double<const N: usize>(double: f64) -> [u8; N] {
    let (low, high) = (f64::from(i32::MIN >> (32 - 8 * N)), f64::from(i32::MAX >> (32 - 8 * N)));
    // Both comparisons are false for NaN.
    let clamped = if double > high { high } else { double };
    let clamped = if clamped < low { low } else { clamped };
    let nearest = clamped + ROUNDING;
    let floor = (nearest.to_bits() as i32).wrapping_sub(i32::from(nearest - ROUNDING > clamped));
    from_value(if clamped.is_nan() { i32::MIN } else { floor })
}

/// Return all samples.
#[inline]
pub fn samples<const N: usize>(bytes: &[u8]) -> &[[u8; N]] {
    bytes.as_chunks().0
}

/// Return the place of all samples.
#[inline]
pub fn samples_mut<const N: usize>(bytes: &mut [u8]) -> &mut [[u8; N]] {
    bytes.as_chunks_mut().0
}

/// Write one sample for each one that is read.
#[inline]
pub fn map<const N: usize, const M: usize>(input: &[u8], output: &mut [u8], convert: impl Fn([u8; N]) -> [u8; M]) {
    for (output, input) in samples_mut(output).iter_mut().zip(samples(input)) {
        *output = convert(*input);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_every_width_keep_their_sign() {
        assert_eq!((value([0x80]), value([1, 0x80]), value([1, 0, 0x80])), (-128, -32767, -8_388_607));
        assert_eq!((value([1, 0, 0, 0x80]), value([0xFF, 0x7F]), high([0xFE_u8])), (-0x7FFF_FFFF, 0x7FFF, -2 << 24));
        assert_eq!((from_value::<3>(-2), from_high::<2>(0x1234_5678)), ([0xFE, 0xFF, 0xFF], [0x34, 0x12]));
    }

    #[test]
    fn words_are_the_top_of_samples_of_every_width() {
        for word in [0x1234, -2, i16::MIN] {
            let high = i32::from(word) << 16;
            assert_eq!((from_word::<1>(word), from_word::<2>(word)), (from_high(high), from_high(high)));
            assert_eq!((from_word::<3>(word), from_word::<4>(word)), (from_high(high), from_high(high)));
        }
    }

    #[test]
    fn doubles_are_rounded_down_and_saturate() {
        let cases = [
            (0.999, 0),
            (-0.001, -1),
            (1.0, 1),
            (-1.0, -1),
            (2.5, 2),
            (3.5, 3),
            (-2.5, -3),
            (126.999, 126),
            (127.001, 127),
            (-127.001, -128),
            (1e300, 127),
            (f64::INFINITY, 127),
            (f64::NEG_INFINITY, -128),
            (f64::NAN, 0),
        ];
        for (double, expected) in cases {
            assert_eq!(value(from_double::<1>(double)), expected, "{double}");
        }
        let cases = [
            (2_147_483_646.5, 2_147_483_646),
            (2_147_483_647.5, i32::MAX),
            (-2_147_483_647.5, i32::MIN),
            (-2_147_483_646.5, -2_147_483_647),
            (f64::NAN, i32::MIN),
            (-f64::NAN, i32::MIN),
            (f64::from_bits(0x7FF0_0000_0000_0123), i32::MIN),
        ];
        for (double, expected) in cases {
            assert_eq!(value(from_double::<4>(double)), expected, "{double}");
        }
    }
}
