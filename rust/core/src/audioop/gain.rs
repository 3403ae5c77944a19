//! Fragments out of fragments: loudness, mixing, order.

use super::sample::{from_double, from_high, from_value, high, map, samples, samples_mut, value};
use super::{Fragment, Refusal, Width, by_width};
use crate::Result;

impl Fragment<'_> {
    /// Multiply every sample; `output` must be as long as the fragment.
    pub fn mul_into(&self, factor: f64, output: &mut [u8]) {
        by_width!(self.width, N => {
            map::<N, N>(self.bytes, output, |sample| from_double(f64::from(value(sample)) * factor));
        });
    }

    /// Mix pairs of samples to one; `output` must be half as long as the fragment.
    pub fn to_mono_into(&self, left_factor: f64, right_factor: f64, output: &mut [u8]) {
        by_width!(self.width, N => {
            let pairs = samples::<N>(self.bytes).as_chunks::<2>().0;
            for (output, [left, right]) in samples_mut::<N>(output).iter_mut().zip(pairs) {
                let (left, right) = (f64::from(value(*left)), f64::from(value(*right)));
                *output = from_double(left * left_factor + right * right_factor);
            }
        });
    }

    /// Make a pair of every sample; `output` must be twice as long as the fragment.
    pub fn to_stereo_into(&self, left_factor: f64, right_factor: f64, output: &mut [u8]) {
        by_width!(self.width, N => {
            let pairs = samples_mut::<N>(output).as_chunks_mut::<2>().0;
            for (pair, sample) in pairs.iter_mut().zip(samples(self.bytes)) {
                let sample = f64::from(value::<N>(*sample));
                *pair = [from_double(sample * left_factor), from_double(sample * right_factor)];
            }
        });
    }

    /// Check that another fragment can be added.
    pub fn check_addend(&self, addend: &[u8]) -> Result<()> {
        if self.bytes.len() == addend.len() { Ok(()) } else { Err(Refusal::LengthsDiffer.into()) }
    }

    /// Add another fragment, saturating; `addend` and `output` must be as long as the fragment.
    pub fn add_into(&self, addend: &[u8], output: &mut [u8]) {
        by_width!(self.width, N => {
            let pairs = samples::<N>(self.bytes).iter().zip(samples(addend));
            for (output, (left, right)) in samples_mut(output).iter_mut().zip(pairs) {
                *output = add::<N>(*left, *right);
            }
        });
    }

    /// Add a number to every sample, wrapping around; `output` must be as long as the fragment.
    pub fn bias_into(&self, bias: i32, output: &mut [u8]) {
        by_width!(self.width, N => {
            map::<N, N>(self.bytes, output, |sample| from_value(value(sample).wrapping_add(bias)));
        });
    }

    /// Put the samples into the opposite order; `output` must be as long as the fragment.
    pub fn reverse_into(&self, output: &mut [u8]) {
        by_width!(self.width, N => {
            for (output, sample) in samples_mut::<N>(output).iter_mut().zip(samples(self.bytes).iter().rev()) {
                *output = *sample;
            }
        });
    }

    /// Put the bytes of every sample into the opposite order; `output` must be as long as the fragment.
    pub fn swap_bytes_into(&self, output: &mut [u8]) {
        by_width!(self.width, N => {
            map::<N, N>(self.bytes, output, |sample| std::array::from_fn(|byte| sample[N - 1 - byte]));
        });
    }

    /// Change the width, keeping the loudness; `output` must have as many samples of the new width.
    pub fn widen_into(&self, width: Width, output: &mut [u8]) {
        by_width!(self.width, N => by_width!(width, M => {
            map::<N, M>(self.bytes, output, |sample| from_high(high(sample)));
        }));
    }
}

#[inline]
fn add<const N: usize>(left: [u8; N], right: [u8; N]) -> [u8; N] {
    let (left, right) = (value(left), value(right));
    if N == 4 {
        from_value(left.saturating_add(right))
    } else {
        from_value((left + right).clamp(i32::MIN >> (32 - 8 * N), i32::MAX >> (32 - 8 * N)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Return what a method writes for bytes of a width.
    fn output(bytes: &[u8], width: i32, num_bytes: usize, write: impl Fn(&Fragment<'_>, &mut [u8])) -> Vec<u8> {
        let mut output = vec![0xEE; num_bytes];
        write(&Fragment::new(bytes, width).expect("whole"), &mut output);
        output
    }

    #[test]
    fn loudness_saturates_and_bias_wraps() {
        let bytes = [100, 0x9C, 3, 0xFD];
        assert_eq!(output(&bytes, 1, 4, |pcm, output| pcm.mul_into(1.5, output)), [127, 0x80, 4, 0xFB]);
        assert_eq!(output(&bytes, 1, 4, |pcm, output| pcm.add_into(&bytes, output)), [127, 0x80, 6, 0xFA]);
        assert_eq!(output(&bytes, 1, 4, |pcm, output| pcm.bias_into(0x11C, output)), [128, 0xB8, 31, 25]);
        let loud = [0xFF, 0xFF, 0xFF, 0x7F];
        assert_eq!(output(&loud, 4, 4, |pcm, output| pcm.add_into(&loud, output)), loud);
        assert_eq!(output(&loud, 4, 4, |pcm, output| pcm.bias_into(1, output)), [0, 0, 0, 0x80]);
    }

    #[test]
    fn channels_are_mixed_and_split() {
        let bytes = [1, 0, 2, 0, 3, 0, 4, 0];
        assert_eq!(output(&bytes, 2, 4, |pcm, output| pcm.to_mono_into(1.0, 10.0, output)), [21, 0, 43, 0]);
        assert_eq!(
            output(&bytes[..4], 2, 8, |pcm, output| pcm.to_stereo_into(-1.0, 0.5, output)),
            [0xFF, 0xFF, 0, 0, 0xFE, 0xFF, 1, 0]
        );
    }

    #[test]
    fn order_and_width_change() {
        let bytes = [1, 2, 3, 4, 5, 6];
        let mut changed = [0; 6];
        Fragment::new(&bytes, 3).expect("whole").reverse_into(&mut changed);
        assert_eq!(changed, [4, 5, 6, 1, 2, 3]);
        Fragment::new(&bytes, 2).expect("whole").swap_bytes_into(&mut changed);
        assert_eq!(changed, [2, 1, 4, 3, 6, 5]);
        assert_eq!(output(&bytes, 3, 4, |pcm, output| pcm.widen_into(Width::Two, output)), [2, 3, 5, 6]);
        assert_eq!(output(&bytes, 3, 8, |pcm, output| pcm.widen_into(Width::Four, output)), [0, 1, 2, 3, 0, 4, 5, 6]);
    }

    #[test]
    fn addends_have_the_same_length() {
        let fragment = Fragment::new(&[0, 0], 2).expect("whole");
        assert_eq!(fragment.check_addend(&[0, 0]), Ok(()));
        assert_eq!(fragment.check_addend(&[0]), Err(Refusal::LengthsDiffer.into()));
    }
}
