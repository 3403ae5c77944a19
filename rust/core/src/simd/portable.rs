//! The reference, in the instructions that every CPU of the architecture has.
//!
//! The bodies are generic over `FUSED` and inlined into the files of the wider sets where the compiler vectorises them
//! as well as a hand could.

use super::Row;
use crate::g711::{Law, alaw_code, decode_table, encode_samples, ulaw_code};
use crate::pcm;

pub const LANES: usize = 8;

/// Windows worked on together: more of them do not fit in the registers of the baseline.
const WINDOWS: usize = 2;

pub fn convolve<'a>(rows: impl ExactSizeIterator<Item = Row<'a>>, window_step: usize, output: &mut [f32]) {
    convolve_lanes::<false>(rows, window_step, output);
}

/// The order of the additions, which every other file keeps: one sum per lane over the row, then the lanes in pairs.
#[inline(always)]
pub fn convolve_lanes<'a, const FUSED: bool>(
    rows: impl ExactSizeIterator<Item = Row<'a>>,
    window_step: usize,
    output: &mut [f32],
) {
    let num_rows = rows.len();
    for (first, (row, samples)) in rows.enumerate().take(output.len()) {
        let num_windows = (output.len() - first).div_ceil(num_rows);
        let mut outputs = output[first..].iter_mut().step_by(num_rows);
        for window in (0..num_windows).step_by(WINDOWS) {
            // The last window stands in for one that is not there.
            let windows: [_; WINDOWS] = std::array::from_fn(|index| {
                let start = (window + index).min(num_windows - 1) * window_step;
                samples[start..start + row.len()].as_chunks::<LANES>().0
            });
            let sums = lane_sums::<FUSED>(row.as_chunks::<LANES>().0, windows);
            for (output, sums) in outputs.by_ref().take(WINDOWS).zip(&sums) {
                *output = sum_of_lanes(sums);
            }
        }
    }
}

pub fn dot_products_of_pair(rows: [&[f32]; 2], window: &[f32]) -> [f32; 2] {
    let mut output = [0.0; 2];
    convolve(rows.map(|row| (row, window)).into_iter(), 0, &mut output);
    output
}

#[inline(always)]
fn lane_sums<const FUSED: bool>(row: &[[f32; LANES]], windows: [&[[f32; LANES]]; WINDOWS]) -> [[f32; LANES]; WINDOWS] {
    let mut sums = [[0.0; LANES]; WINDOWS];
    for (index, taps) in row.iter().enumerate() {
        for (sums, samples) in sums.iter_mut().zip(windows) {
            for lane in 0..LANES {
                let sum = &mut sums[lane];
                let (tap, sample) = (taps[lane], samples[index][lane]);
                *sum = if FUSED { tap.mul_add(sample, *sum) } else { tap * sample + *sum };
            }
        }
    }
    sums
}

/// Return whether so many windows as long as a row of `num_taps` lie inside the samples.
// The reference indexes and so needs no such promise.
#[cfg_attr(feature = "portable", expect(dead_code))]
#[inline(always)]
pub fn holds_windows(samples: &[f32], num_windows: usize, window_step: usize, num_taps: usize) -> bool {
    let last = window_step.checked_mul(num_windows - 1);
    last.and_then(|last| last.checked_add(num_taps)).is_some_and(|end| end <= samples.len())
}

/// Add the lanes in pairs.
#[inline(always)]
fn sum_of_lanes(sums: &[f32; LANES]) -> f32 {
    let mut sums = *sums;
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
}

/// One sum per lane, then the lanes in pairs, then the rest.
#[inline(always)]
pub fn dot_product(left: &[f32], right: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (lefts, left_rest) = left.as_chunks::<LANES>();
    let (rights, right_rest) = right.as_chunks::<LANES>();
    for (left, right) in lefts.iter().zip(rights) {
        for lane in 0..LANES {
            lanes[lane] += left[lane] * right[lane];
        }
    }
    let sum = ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
    add_products(sum, left_rest, right_rest)
}

#[inline(always)]
pub fn add_products(sum: f32, left: &[f32], right: &[f32]) -> f32 {
    left.iter().zip(right).fold(sum, |sum, (left, right)| sum + left * right)
}

#[inline(always)]
pub fn widen<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[inline(always)]
pub fn units_from_pcm(pcm: &[u8], units: &mut [f32]) {
    for (unit, sample) in units.iter_mut().zip(pcm.as_chunks::<2>().0) {
        *unit = f32::from(i16::from_le_bytes(*sample));
    }
}

#[inline(always)]
pub fn pcm_from_units(units: &[f32], pcm: &mut [u8]) {
    for (sample, unit) in pcm.as_chunks_mut::<2>().0.iter_mut().zip(units) {
        *sample = pcm::sample_from_units(*unit).to_le_bytes();
    }
}

#[inline(always)]
pub fn g711_encode(law: Law, pcm: &[u8], codes: &mut [u8]) {
    match law {
        Law::Ulaw => encode_samples(pcm, codes, |sample| ulaw_code(i32::from(i16::from_le_bytes(sample)))),
        Law::Alaw => encode_samples(pcm, codes, |sample| alaw_code(i32::from(i16::from_le_bytes(sample)))),
    }
}

pub fn g711_decode(law: Law, codes: &[u8], pcm: &mut [u8]) {
    let table = decode_table(law);
    for (sample, code) in pcm.as_chunks_mut::<2>().0.iter_mut().zip(codes) {
        *sample = table[usize::from(*code)].to_le_bytes();
    }
}
