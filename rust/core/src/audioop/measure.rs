//! Numbers that say something about a fragment.

use super::sample::{high, samples, value};
use super::{Fragment, Refusal, by_width};
use crate::Result;
use std::ops::{Add, AddAssign, Mul};

/// A double holds every integer up to 2^53.
const EXACT_BITS: usize = f64::MANTISSA_DIGITS as usize;

/// So many samples are counted in 32 bits, which go four into a register.
const CROSS_SAMPLES: usize = 1 << 20;

/// Return whether a double holds every sum of `num_terms` integers of up to 2^`term_bits`, whatever the order.
#[inline]
pub fn sum_is_exact(num_terms: usize, term_bits: usize) -> bool {
    term_bits < EXACT_BITS && num_terms <= 1 << (EXACT_BITS - term_bits)
}

/// What sums are made in: integers if a double would hold them exactly, else doubles from left to right.
pub trait Sum: Copy + Default + From<i32> + From<u32> + Add<Output = Self> + AddAssign + Mul<Output = Self> {
    /// Return the double with this value.
    fn to_double(self) -> f64;
}

impl Sum for i64 {
    #[inline]
    fn to_double(self) -> f64 {
        self as f64
    }
}

impl Sum for f64 {
    #[inline]
    fn to_double(self) -> f64 {
        self
    }
}

impl Fragment<'_> {
    /// Return the value of one sample.
    #[inline]
    pub fn sample(&self, index: isize) -> Result<i32> {
        let index = usize::try_from(index).map_err(|_| Refusal::Index)?;
        let found = by_width!(self.width, N => samples::<N>(self.bytes).get(index).map(|sample| value(*sample)));
        found.ok_or(Refusal::Index.into())
    }

    /// Return the largest absolute value, 0 if there are no samples.
    #[must_use]
    pub fn max(&self) -> u32 {
        let (low, high) = self.minmax();
        // Without samples the two have changed places.
        if low > high { 0 } else { low.unsigned_abs().max(high.unsigned_abs()) }
    }

    /// Return the smallest and the largest value; without samples, the largest and the smallest 32-bit integer.
    #[must_use]
    pub fn minmax(&self) -> (i32, i32) {
        by_width!(self.width, N => {
            samples::<N>(self.bytes).iter().fold((i32::MAX, i32::MIN), |(low, high), sample| {
                (low.min(value(*sample)), high.max(value(*sample)))
            })
        })
    }

    /// Return the mean, rounded down; 0 if there are no samples.
    #[must_use]
    pub fn avg(&self) -> i32 {
        if self.bytes.is_empty() {
            return 0;
        }
        let num_samples = self.num_samples();
        let sum = by_width!(self.width, N => {
            if sum_is_exact(num_samples, 8 * N - 1) { sum::<i64, N>(self.bytes) } else { sum::<f64, N>(self.bytes) }
        });
        (sum / num_samples as f64).floor() as i32
    }

    /// Return the root of the mean square, rounded down; 0 if there are no samples.
    #[must_use]
    pub fn rms(&self) -> u32 {
        if self.bytes.is_empty() {
            return 0;
        }
        let num_samples = self.num_samples();
        let sum = by_width!(self.width, N => {
            if sum_is_exact(num_samples, 16 * N - 2) {
                sum_squares::<i64, N>(self.bytes)
            } else {
                sum_squares::<f64, N>(self.bytes)
            }
        });
        (sum / num_samples as f64).sqrt() as u32
    }

    /// Return the largest difference between neighbouring extremes; the first and the last sample are none.
    #[must_use]
    pub fn maxpp(&self) -> u32 {
        by_width!(self.width, N => {
            let mut largest = 0;
            swings::<N>(self.bytes, |swing| largest = largest.max(swing));
            largest
        })
    }

    /// Return the mean difference between neighbouring extremes, rounded down; 0 if there are none.
    #[must_use]
    pub fn avgpp(&self) -> u32 {
        by_width!(self.width, N => {
            if sum_is_exact(self.num_samples(), 8 * N) {
                mean_swing::<i64, N>(self.bytes)
            } else {
                mean_swing::<f64, N>(self.bytes)
            }
        })
    }

    /// Return how often the sign changes, with 0 as a positive number; -1 if there are no samples.
    #[must_use]
    pub fn cross(&self) -> isize {
        by_width!(self.width, N => {
            // Three bytes are not put together for the sake of one bit.
            let signed = |sample: &[u8; N]| if N == 3 { i32::from(sample[N - 1] as i8) } else { high(*sample) };
            let samples = samples::<N>(self.bytes);
            let Some(first) = samples.first() else { return -1 };
            let (mut last, mut num_crossings) = (signed(first), 0);
            for block in samples.chunks(CROSS_SAMPLES) {
                let mut num_in_block = 0_u32;
                for sample in block {
                    num_in_block += ((signed(sample) ^ last) as u32) >> 31;
                    last = signed(sample);
                }
                num_crossings += num_in_block as isize;
            }
            num_crossings
        })
    }
}

fn sum<T: Sum, const N: usize>(bytes: &[u8]) -> f64 {
    let mut sum = T::default();
    for sample in samples::<N>(bytes) {
        sum += T::from(value(*sample));
    }
    sum.to_double()
}

fn sum_squares<T: Sum, const N: usize>(bytes: &[u8]) -> f64 {
    let mut sum = T::default();
    for sample in samples::<N>(bytes) {
        let value = T::from(value(*sample));
        sum += value * value;
    }
    sum.to_double()
}

fn mean_swing<T: Sum, const N: usize>(bytes: &[u8]) -> u32 {
    let mut sum = T::default();
    let num_turns = swings::<N>(bytes, |swing| sum += T::from(swing));
    // The first turn has nothing to be compared with.
    let num_swings = num_turns.saturating_sub(1);
    if num_swings == 0 { 0 } else { (sum.to_double() / num_swings as f64) as u32 }
}

/// Visit the difference of each turn of the curve from the turn before and return the number of turns.
///
/// Where a curve turns cannot be foretold, so 64 steps at a time become the bits of an integer.
#[inline]
fn swings<const N: usize>(bytes: &[u8], mut visit: impl FnMut(u32)) -> usize {
    let samples = samples::<N>(bytes);
    // There is no direction before the first step.
    let Some(first) = samples.windows(2).position(|pair| pair[0] != pair[1]) else { return 0 };
    let mut direction = u64::from(value(samples[first + 1]) < value(samples[first]));
    let (mut num_turns, mut extreme) = (0, 0);
    let mut rest = &samples[first..];
    while rest.len() > 1 {
        let (falling, level) = steps(rest);
        let directions = fill_level(falling, level, direction);
        let mut turns = directions ^ (directions << 1 | direction);
        while turns != 0 {
            let turned = value(rest[turns.trailing_zeros() as usize]);
            if num_turns > 0 {
                visit(turned.abs_diff(extreme));
            }
            (num_turns, extreme) = (num_turns + 1, turned);
            turns &= turns - 1;
        }
        direction = directions >> 63;
        rest = rest.get(STEPS..).unwrap_or_default();
    }
    num_turns
}

/// As many steps as an integer has bits.
const STEPS: usize = u64::BITS as usize;

/// Return which of the first steps go down, and which stay level; steps that do not exist stay level.
#[inline]
fn steps<const N: usize>(samples: &[[u8; N]]) -> (u64, u64) {
    let (mut falling, mut level) = ([0; STEPS], [1; STEPS]);
    let flags = falling.iter_mut().zip(&mut level);
    for ((falling, level), (left, right)) in flags.zip(samples.iter().zip(&samples[1..])) {
        *falling = u8::from(value(*right) < value(*left));
        *level = u8::from(value(*right) == value(*left));
    }
    (bits(&falling), bits(&level))
}

/// Collect flags of 0 or 1 as bits, the first one lowest.
#[inline]
fn bits(flags: &[u8; STEPS]) -> u64 {
    let bytes = flags.as_chunks().0.iter().enumerate();
    bytes.fold(0, |bits, (index, flags)| {
        // The product has flag i, which was bit 8 i, at bit 56 + i, and no two terms at one place.
        let byte = u64::from_le_bytes(*flags).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        bits | byte << (8 * index)
    })
}

/// Give level steps the direction of the step before them, and the first ones that of the block before.
#[inline]
fn fill_level(falling: u64, level: u64, direction: u64) -> u64 {
    let first_level = level & !level.wrapping_add(1);
    let (mut directions, mut level) = (falling | (first_level * direction), level);
    for shift in [1, 2, 4, 8, 16, 32] {
        directions |= level & directions << shift;
        level &= level << shift;
    }
    directions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pcm(values: &[i16]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn an_empty_fragment_has_the_values_of_audioop() {
        let empty = Fragment::new(&[], 3).expect("whole");
        assert_eq!((empty.max(), empty.minmax(), empty.cross()), (0, (i32::MAX, i32::MIN), -1));
        assert_eq!((empty.avg(), empty.rms(), empty.maxpp(), empty.avgpp()), (0, 0, 0, 0));
        assert!(empty.sample(0).is_err());
    }

    #[test]
    fn values_of_a_short_fragment() {
        let bytes = pcm(&[0, 10, -20, -20, 30, i16::MIN]);
        let fragment = Fragment::new(&bytes, 2).expect("whole");
        assert_eq!((fragment.max(), fragment.minmax()), (32768, (-32768, 30)));
        assert_eq!((fragment.avg(), fragment.rms(), fragment.cross()), (-5462, 13377, 3));
        // The extremes are 10, -20 and 30.
        assert_eq!((fragment.maxpp(), fragment.avgpp()), (50, 40));
        assert_eq!((fragment.sample(5), fragment.sample(1)), (Ok(-32768), Ok(10)));
        assert!(fragment.sample(6).is_err() && fragment.sample(-1).is_err());
    }

    #[test]
    fn turns_are_found_wherever_they_lie() {
        // Plateaus of every length, so that turns and level steps fall on every edge of a block.
        let mut values = vec![5_i16; 3];
        for length in 1..=140 {
            values.extend(vec![if length % 2 == 0 { length } else { -length }; length as usize]);
            values.extend([0, 0, 1000]);
        }
        for num_skipped in 0..200 {
            let values = &values[num_skipped..];
            let (mut expected, mut extreme, mut previous, mut direction) = (Vec::new(), None, values[0], 0);
            for value in values {
                let step = (value - previous).signum();
                if step * direction < 0 {
                    expected.extend(extreme.map(|extreme: i16| u32::from(extreme.abs_diff(previous))));
                    extreme = Some(previous);
                }
                (previous, direction) = (*value, if step == 0 { direction } else { step });
            }
            let mut found = Vec::new();
            let num_turns = swings::<2>(&pcm(values), |swing| found.push(swing));
            assert_eq!((&found, num_turns), (&expected, expected.len() + 1), "{num_skipped}");
        }
        assert_eq!(swings::<2>(&pcm(&[3; 200]), |_| unreachable!()), 0);
    }

    #[test]
    fn integers_and_doubles_sum_alike() {
        let bytes: Vec<u8> = (0..60_000_u32).map(|byte| ((byte * byte) >> 7) as u8).collect();
        assert!(sum_is_exact(15_000, 31) && !sum_is_exact(15_000, 46));
        assert_eq!(sum::<i64, 4>(&bytes).to_bits(), sum::<f64, 4>(&bytes).to_bits());
        assert_eq!(sum_squares::<i64, 2>(&bytes).to_bits(), sum_squares::<f64, 2>(&bytes).to_bits());
        assert_eq!(mean_swing::<i64, 3>(&bytes), mean_swing::<f64, 3>(&bytes));
    }
}
