//! NEON, which every 64-bit Arm CPU of the supported systems has; its multiplication is fused.
//!
//! The compiler vectorises the portable bodies for it; only the dot products need their registers named.

use super::portable::holds_windows;
use super::{Row, portable};
use crate::g711::Law;
use std::arch::aarch64::{float32x4_t, vaddq_f32, vdupq_n_f32, vfmaq_f32, vgetq_lane_f32, vld1q_f32};

const LANES: usize = portable::LANES;
/// Windows that share the loads of the row, two registers each.
const WINDOWS: usize = 4;

#[target_feature(enable = "neon")]
pub fn convolve<'a>(rows: impl ExactSizeIterator<Item = Row<'a>>, window_step: usize, output: &mut [f32]) {
    let num_rows = rows.len();
    for (first, (row, samples)) in rows.enumerate().take(output.len()) {
        convolve_row(row, samples, window_step, &mut output[first..], num_rows);
    }
}

#[target_feature(enable = "neon")]
#[inline]
fn convolve_row(row: &[f32], samples: &[f32], window_step: usize, output: &mut [f32], output_step: usize) {
    let mut num_windows = output.len().div_ceil(output_step);
    let mut outputs = output.iter_mut().step_by(output_step);
    let mut samples = samples;
    while num_windows > 0 {
        let sums = match num_windows {
            1 => dot_products::<1>(row, samples, window_step),
            2 => dot_products::<2>(row, samples, window_step),
            3 => dot_products::<3>(row, samples, window_step),
            _ => dot_products::<WINDOWS>(row, samples, window_step),
        };
        for (output, sum) in outputs.by_ref().take(WINDOWS).zip(sums) {
            *output = sum;
        }
        if num_windows <= WINDOWS {
            return;
        }
        num_windows -= WINDOWS;
        samples = &samples[WINDOWS * window_step..];
    }
}

#[target_feature(enable = "neon")]
pub fn dot_products_of_pair(rows: [&[f32]; 2], window: &[f32]) -> [f32; 2] {
    rows.map(|row| dot_products::<1>(row, window, 0)[0])
}

/// Return the dot products of the first `N` windows; the places behind them are 0.
#[target_feature(enable = "neon")]
#[inline]
fn dot_products<const N: usize>(row: &[f32], samples: &[f32], window_step: usize) -> [f32; WINDOWS] {
    assert!(row.len().is_multiple_of(LANES) && holds_windows(samples, N, window_step, row.len()));
    let mut sums = [[vdupq_n_f32(0.0); 2]; WINDOWS];
    for start in (0..row.len()).step_by(LANES) {
        for (half, offset) in [(0, start), (1, start + LANES / 2)] {
            // SAFETY: `start` + LANES is at most the length of the row, which is a multiple of LANES.
            let taps = unsafe { vld1q_f32(row.as_ptr().add(offset)) };
            for (window, sum) in sums.iter_mut().enumerate().take(N) {
                // SAFETY: the last window, (N - 1) * `window_step` samples on, holds as many samples as the row has
                // taps.
                let window = unsafe { vld1q_f32(samples.as_ptr().add(window * window_step + offset)) };
                sum[half] = vfmaq_f32(sum[half], taps, window);
            }
        }
    }
    sums.map(|[low, high]| sum_of_lanes(low, high))
}

/// Add the lanes in pairs.
#[target_feature(enable = "neon")]
#[inline]
fn sum_of_lanes(low: float32x4_t, high: float32x4_t) -> f32 {
    let sums = vaddq_f32(low, high);
    let even = vgetq_lane_f32::<0>(sums) + vgetq_lane_f32::<2>(sums);
    even + (vgetq_lane_f32::<1>(sums) + vgetq_lane_f32::<3>(sums))
}

#[target_feature(enable = "neon")]
pub fn dot_product(left: &[f32], right: &[f32]) -> f32 {
    portable::dot_product(left, right)
}

#[target_feature(enable = "neon")]
pub fn widen<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[target_feature(enable = "neon")]
pub fn units_from_pcm(pcm: &[u8], units: &mut [f32]) {
    portable::units_from_pcm(pcm, units);
}

#[target_feature(enable = "neon")]
pub fn pcm_from_units(units: &[f32], pcm: &mut [u8]) {
    portable::pcm_from_units(units, pcm);
}

#[target_feature(enable = "neon")]
pub fn g711_encode(law: Law, pcm: &[u8], codes: &mut [u8]) {
    portable::g711_encode(law, pcm, codes);
}

#[target_feature(enable = "neon")]
pub fn g711_decode(law: Law, codes: &[u8], pcm: &mut [u8]) {
    portable::g711_decode(law, codes, pcm);
}
