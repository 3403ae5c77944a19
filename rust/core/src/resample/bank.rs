//! The coefficients for a pair of rates.

use super::kernel::Kernel;
use super::{MAX_TAPS, Quality};
use crate::simd::LANES;
use crate::{Error, Result};

/// Rows for each sample of the lower rate that a bank for a variable ratio has at least: between two of them is
/// interpolated.
///
/// The measured error of that is 120 dB below a tone at 0.85 of the lower Nyquist frequency, and falls by 12 dB for
/// each octave below.
const INTERPOLATED_ROWS: usize = 512;

/// The ratio of a pair of rates in lowest terms, with the coefficients for it.
#[derive(Clone, Debug)]
pub struct Bank {
    /// The reduced output rate: ticks from one input to the next.
    pub up: usize,
    /// The reduced input rate: ticks from one output to the next.
    pub down: usize,
    /// `down` / `up` in whole inputs.
    pub whole_step: usize,
    /// The ticks that are left of `down`.
    pub phase_step: usize,
    /// How many inputs an output depends on.
    pub num_taps: usize,
    /// Coefficients of one row, a multiple of `LANES`: those of the inputs, with zeros around them.
    pub row_taps: usize,
    /// Rows of one place, each shifted by one input against the one before: 1, or `LANES` so that the inputs of a row
    /// can always be taken from an address that is a multiple of the register width. That pays where the only row is
    /// long, which is where the rate falls by a whole factor.
    pub num_shifts: usize,
    /// Places of rows for each tick, 1 unless the ratio is variable.
    pub rows_per_tick: usize,
    pub delay_samples: usize,
    /// The rows, from `first_tap` on, which stands at a multiple of the register width.
    taps: Vec<f32>,
    first_tap: usize,
}

impl Bank {
    /// Compute the coefficients for a fixed ratio, or for one that is varied around it.
    pub fn new(input_rate: u32, output_rate: u32, quality: Quality, is_variable: bool) -> Result<Self> {
        let divisor = greatest_common_divisor(input_rate, output_rate);
        let (up, down) = ((output_rate / divisor) as usize, (input_rate / divisor) as usize);
        if up == down && !is_variable {
            return Ok(Self {
                up,
                down,
                whole_step: 1,
                phase_step: 0,
                num_taps: 1,
                row_taps: 0,
                num_shifts: 1,
                rows_per_tick: 1,
                delay_samples: 0,
                taps: Vec::new(),
                first_tap: 0,
            });
        }
        let kernel = Kernel::of(quality, input_rate.min(output_rate));
        // Times are counted in ticks of 1 / (up * input_rate) = 1 / (down * output_rate); the lower rate has `tick`.
        let tick = up.max(down);
        let half = kernel.num_taps / 2.0 * tick as f64;
        let delay_samples = (half / down as f64).ceil() as usize;
        let center = (delay_samples * down) as f64;
        // The kernel may end with a jump, so the input at its very end counts.
        let row_inputs = ((center + half) / up as f64).floor() as usize + 1;
        let num_shifts = if up == 1 && !is_variable { LANES } else { 1 };
        let row_taps = (row_inputs + num_shifts - 1).next_multiple_of(LANES);
        // One place more than there are between two inputs, because interpolation needs both neighbours.
        let (rows_per_tick, num_places) = if is_variable {
            let rows_per_tick = INTERPOLATED_ROWS.div_ceil(tick);
            (rows_per_tick, up * rows_per_tick + 1)
        } else {
            (1, up)
        };
        let num_taps = (num_places * num_shifts) as u64 * row_taps as u64;
        if num_taps > MAX_TAPS {
            return Err(Error::RatePair { input_rate, output_rate, num_taps, max_taps: MAX_TAPS });
        }
        let mut taps = vec![0.0; LANES + num_places * num_shifts * row_taps];
        let first_tap = aligned_index(&taps);
        let mut row = vec![0.0; row_inputs];
        for (place, rows) in taps[first_tap..].chunks_exact_mut(num_shifts * row_taps).enumerate() {
            let phase = if is_variable { place as f64 / rows_per_tick as f64 } else { (place * down % up) as f64 };
            for (age, tap) in row.iter_mut().rev().enumerate() {
                *tap = kernel.value((phase + (age * up) as f64 - center) / tick as f64);
            }
            // Each row on its own has the gain 1 at zero frequency, so a constant stays a constant.
            let gain: f64 = row.iter().sum();
            for (shift, stored) in rows.chunks_exact_mut(row_taps).enumerate() {
                for (stored, tap) in stored[shift..].iter_mut().zip(&row) {
                    *stored = (tap / gain) as f32;
                }
            }
        }
        let (whole_step, phase_step) = (down / up, down % up);
        Ok(Self {
            up,
            down,
            whole_step,
            phase_step,
            num_taps: row_inputs,
            row_taps,
            num_shifts,
            rows_per_tick,
            delay_samples,
            taps,
            first_tap,
        })
    }

    /// Return whether the audio passes through as it is.
    pub fn is_identity(&self) -> bool {
        self.taps.is_empty()
    }

    /// Return how far before the next input the inputs that are kept start, a multiple of `LANES`.
    pub fn history(&self) -> usize {
        (self.num_taps - 1).next_multiple_of(LANES)
    }

    /// Return the coefficients of a place for windows that start `shift` samples before the oldest input.
    ///
    /// The place is the number of outputs since one that met an input, so that a stream reads one row after the other;
    /// with a variable ratio it is the number of parts of a tick since an input.
    pub fn row(&self, place: usize, shift: usize) -> &[f32] {
        &self.taps[self.first_tap + (place * self.num_shifts + shift) * self.row_taps..][..self.row_taps]
    }

    /// Return after how many outputs place and shift are the same again, and after how many inputs.
    pub fn period(&self) -> (usize, usize) {
        let num_periods = self.num_shifts / greatest_common_divisor(self.down as u32, self.num_shifts as u32) as usize;
        (self.up * num_periods, self.down * num_periods)
    }
}

/// Return the first place of at most `LANES` whose address is a multiple of the register width.
///
/// Only the speed depends on it, so a copy of the vector that lies elsewhere is as good.
pub fn aligned_index(samples: &[f32]) -> usize {
    samples.as_ptr().align_offset(LANES * size_of::<f32>()).min(LANES)
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
