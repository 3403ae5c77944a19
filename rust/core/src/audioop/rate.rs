//! Conversion of sample rates by linear interpolation, after a filter of one pole.

use super::sample::{from_high, high, samples, samples_mut};
use super::{Refusal, Width, by_width};
use crate::{Error, Result};

/// A million channels is more than any audio has; what one call allocates for them stays small.
const MAX_CHANNELS: i32 = 1 << 20;

/// Below this rate a double holds the products of samples and phases exactly, and a product divided again is the sample.
const EXACT_RATE: i32 = 1 << 21;

/// What a conversion remembers between two fragments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateState {
    /// How far the next output lies behind the last input, in units of the input's sample period divided by the
    /// reduced output rate; negative if another input has to come first.
    pub phase: i32,
    /// The last two inputs of each channel, filtered, as 32-bit samples.
    pub channels: Vec<(i32, i32)>,
}

/// Converts fragments of one format from one sample rate to another.
#[derive(Clone, Copy, Debug)]
pub struct RateConverter {
    width: Width,
    num_channels: usize,
    /// The rates without their common divisors.
    input_rate: i32,
    output_rate: i32,
    /// How much of the new input and of the last one the filter takes; without common divisors.
    weights: (i32, i32),
}

impl RateConverter {
    /// Check the arguments, in the order of audioop.
    pub fn new(
        num_bytes: usize,
        width: i32,
        num_channels: i32,
        (input_rate, output_rate): (i32, i32),
        weights: (i32, i32),
    ) -> Result<Self> {
        let width = Width::new(width)?;
        if num_channels < 1 {
            return Err(Refusal::NumChannels.into());
        }
        let frame_bytes = (width as i32).checked_mul(num_channels).ok_or(Refusal::FrameTooLong)?;
        if weights.0 < 1 || weights.1 < 0 {
            return Err(Refusal::Weights.into());
        }
        if !num_bytes.is_multiple_of(frame_bytes as usize) {
            return Err(Refusal::PartialFrame.into());
        }
        if input_rate <= 0 || output_rate <= 0 {
            return Err(Refusal::SampleRate.into());
        }
        if num_channels > MAX_CHANNELS {
            return Err(Refusal::OutputTooLong.into());
        }
        let (rate_divisor, weight_divisor) = (divisor(input_rate, output_rate), divisor(weights.0, weights.1));
        Ok(Self {
            width,
            num_channels: num_channels as usize,
            input_rate: input_rate / rate_divisor,
            output_rate: output_rate / rate_divisor,
            weights: (weights.0 / weight_divisor, weights.1 / weight_divisor),
        })
    }

    /// Return the number of channels.
    #[must_use]
    pub fn num_channels(&self) -> usize {
        self.num_channels
    }

    /// Return the state before the first fragment.
    #[must_use]
    pub fn start(&self) -> RateState {
        RateState { phase: -self.output_rate, channels: vec![(0, 0); self.num_channels] }
    }

    /// Return how many bytes a fragment of `num_bytes` gives.
    pub fn output_bytes(&self, num_bytes: usize, state: &RateState) -> Result<usize> {
        if state.channels.len() != self.num_channels {
            return Err(Refusal::RateState.into());
        }
        let frame_bytes = self.width as usize * self.num_channels;
        let num_frames = num_bytes / frame_bytes;
        let (input_rate, output_rate) = (self.input_rate as usize, self.output_rate as usize);
        // audioop reserves this much, so it is what can be had.
        let max_bytes =
            num_frames.div_ceil(input_rate).checked_mul(output_rate).and_then(|n| n.checked_mul(frame_bytes));
        let max_bytes = max_bytes.filter(|max_bytes| isize::try_from(*max_bytes).is_ok());
        let max_bytes = max_bytes.ok_or(Error::Audioop(Refusal::OutputTooLong))?;
        let end = i128::from(state.phase) + num_frames as i128 * i128::from(self.output_rate);
        let num_outputs = if end < 0 { 0 } else { end / i128::from(self.input_rate) + 1 };
        // A call returns a negative phase. Others come from elsewhere, and with them the output may have any length.
        if state.phase >= self.output_rate || num_outputs * frame_bytes as i128 > max_bytes as i128 {
            return Err(Refusal::RateState.into());
        }
        Ok(num_outputs as usize * frame_bytes)
    }

    /// Convert a fragment; `output` must have as many bytes as [`RateConverter::output_bytes`] says.
    pub fn convert_into(&self, fragment: &[u8], state: &mut RateState, output: &mut [u8]) {
        by_width!(self.width, N => match (self.num_channels, self.weights.1) {
            // A filter that takes nothing of the last input changes nothing.
            (1, 0) => self.convert_channels::<N, 1>(fragment, state, output, |current, _| current),
            (2, 0) => self.convert_channels::<N, 2>(fragment, state, output, |current, _| current),
            (1, _) => self.convert_channels::<N, 1>(fragment, state, output, self.filter()),
            (2, _) => self.convert_channels::<N, 2>(fragment, state, output, self.filter()),
            _ => self.convert_frames::<N>(fragment, state, output),
        });
    }

    #[inline]
    fn filter(&self) -> impl Fn(i32, i32) -> i32 {
        let (current_weight, last_weight) = (f64::from(self.weights.0), f64::from(self.weights.1));
        move |current, last| {
            let sum = current_weight * f64::from(current) + last_weight * f64::from(last);
            (sum / (current_weight + last_weight)) as i32
        }
    }

    #[inline]
    fn interpolate(&self, phase: i32, (last, current): (i32, i32)) -> i32 {
        if phase == 0 && self.output_rate < EXACT_RATE {
            return current;
        }
        let sum = f64::from(last) * f64::from(phase) + f64::from(current) * f64::from(self.output_rate - phase);
        (sum / f64::from(self.output_rate)) as i32
    }

    /// Convert frames of a known number of channels, whose state fits into registers.
    #[inline]
    fn convert_channels<const N: usize, const C: usize>(
        &self,
        fragment: &[u8],
        state: &mut RateState,
        output: &mut [u8],
        filter: impl Fn(i32, i32) -> i32,
    ) {
        let mut outputs = samples_mut::<N>(output).as_chunks_mut::<C>().0.iter_mut();
        let mut channels: [(i32, i32); C] = std::array::from_fn(|channel| state.channels[channel]);
        let mut phase = state.phase;
        let mut inputs = samples::<N>(fragment).as_chunks::<C>().0.iter();
        loop {
            while phase >= 0 {
                let Some(output) = outputs.next() else { break };
                *output = channels.map(|channel| from_high(self.interpolate(phase, channel)));
                phase -= self.input_rate;
            }
            let Some(input) = inputs.next() else { break };
            for (channel, sample) in channels.iter_mut().zip(input) {
                *channel = (channel.1, filter(high(*sample), channel.1));
            }
            phase += self.output_rate;
        }
        state.phase = phase;
        state.channels.copy_from_slice(&channels);
    }

    /// Convert frames of any number of channels.
    fn convert_frames<const N: usize>(&self, fragment: &[u8], state: &mut RateState, output: &mut [u8]) {
        let filter = self.filter();
        let mut outputs = samples_mut::<N>(output).chunks_exact_mut(self.num_channels);
        let mut inputs = samples::<N>(fragment).chunks_exact(self.num_channels);
        loop {
            while state.phase >= 0 {
                let Some(output) = outputs.next() else { break };
                for (sample, channel) in output.iter_mut().zip(&state.channels) {
                    *sample = from_high(self.interpolate(state.phase, *channel));
                }
                state.phase -= self.input_rate;
            }
            let Some(input) = inputs.next() else { break };
            for (channel, sample) in state.channels.iter_mut().zip(input) {
                *channel = (channel.1, filter(high(*sample), channel.1));
            }
            state.phase += self.output_rate;
        }
    }
}

/// Return the greatest common divisor of a positive number and one that is not negative.
fn divisor(mut left: i32, mut right: i32) -> i32 {
    while right > 0 {
        (left, right) = (right, left % right);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converter(width: i32, num_channels: i32, rates: (i32, i32), weights: (i32, i32)) -> RateConverter {
        RateConverter::new(0, width, num_channels, rates, weights).expect("valid")
    }

    fn convert(converter: &RateConverter, chunks: &[&[u8]]) -> (Vec<u8>, RateState) {
        let (mut state, mut whole) = (converter.start(), Vec::new());
        for chunk in chunks {
            let mut output = vec![0; converter.output_bytes(chunk.len(), &state).expect("short")];
            converter.convert_into(chunk, &mut state, &mut output);
            whole.extend(output);
        }
        (whole, state)
    }

    #[test]
    fn inputs_are_joined_by_lines() {
        let (output, state) = convert(&converter(1, 1, (8000, 16000), (1, 0)), &[&[10, 20]]);
        assert_eq!(output, [10, 15, 20]);
        assert_eq!(state, RateState { phase: -1, channels: vec![(10 << 24, 20 << 24)] });
    }

    #[test]
    fn any_cut_gives_the_same_output_and_state() {
        let bytes: Vec<u8> = (0..240_u32).map(|byte| ((byte * byte) >> 3) as u8).collect();
        for width in 1..=4 {
            for num_channels in 1..=5_usize {
                for rates in [(3, 2), (8000, 44100), (7, 1), (1, 7), (5, 5)] {
                    for weights in [(1, 0), (3, 2), (i32::MAX, i32::MAX - 1)] {
                        let converter = converter(width as i32, num_channels as i32, rates, weights);
                        let frame_bytes = width * num_channels;
                        let bytes = &bytes[..240 / frame_bytes * frame_bytes];
                        let (head, tail) = bytes.split_at(bytes.len() / frame_bytes / 3 * frame_bytes);
                        let whole = convert(&converter, &[bytes]);
                        assert_eq!(whole, convert(&converter, &[&[], head, &[], tail]));
                        assert!(whole.1.phase < 0);
                    }
                }
            }
        }
    }

    #[test]
    fn known_and_any_number_of_channels_agree() {
        let bytes: Vec<u8> = (0..1200_u32).map(|byte| ((byte * byte) >> 3) as u8).collect();
        for weights in [(1, 0), (5, 3)] {
            for num_channels in 1..=2 {
                let converter = converter(2, num_channels, (8000, 11025), weights);
                let (expected, end) = convert(&converter, &[&bytes]);
                let (mut state, mut output) = (converter.start(), vec![0; expected.len()]);
                converter.convert_frames::<2>(&bytes, &mut state, &mut output);
                assert_eq!((output, state), (expected, end));
            }
        }
    }

    #[test]
    fn arguments_are_checked_in_order() {
        let refusal = |num_bytes, width, channels, rates, weights| {
            RateConverter::new(num_bytes, width, channels, rates, weights).map(|_| ())
        };
        assert_eq!(refusal(1, 5, 0, (0, 0), (0, 0)), Err(Refusal::Width.into()));
        assert_eq!(refusal(1, 2, 0, (0, 0), (0, 0)), Err(Refusal::NumChannels.into()));
        assert_eq!(refusal(1, 2, i32::MAX, (0, 0), (0, 0)), Err(Refusal::FrameTooLong.into()));
        assert_eq!(refusal(1, 2, 1, (0, 0), (1, -1)), Err(Refusal::Weights.into()));
        assert_eq!(refusal(1, 2, 1, (0, 0), (1, 0)), Err(Refusal::PartialFrame.into()));
        assert_eq!(refusal(2, 2, 1, (1, 0), (1, 0)), Err(Refusal::SampleRate.into()));
        assert_eq!(refusal(0, 1, i32::MAX, (1, 1), (1, 0)), Err(Refusal::OutputTooLong.into()));
    }

    #[test]
    fn output_is_bounded_whatever_the_state() {
        let converter = converter(2, 1, (1, i32::MAX), (1, 0));
        assert_eq!(converter.output_bytes(1 << 40, &converter.start()), Err(Refusal::OutputTooLong.into()));
        assert_eq!(
            converter.output_bytes(2, &RateState { phase: i32::MAX, channels: vec![(0, 0)] }),
            Err(Refusal::RateState.into())
        );
        assert_eq!(
            converter.output_bytes(0, &RateState { phase: 0, channels: vec![(0, 0)] }),
            Err(Refusal::RateState.into())
        );
        assert_eq!(
            converter.output_bytes(2, &RateState { phase: -1, channels: Vec::new() }),
            Err(Refusal::RateState.into())
        );
    }
}
