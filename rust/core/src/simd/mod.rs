//! The inner loops, one file per instruction set; the only room with `unsafe` code.
//!
//! [`portable`] is the reference: every other file gives the same results as it, bit for bit. What an instruction set
//! changes is only whether a multiplication and the addition after it are rounded once or twice (`FUSED`), so floats
//! may differ in their last bit between machines with and without fused multiplication, never between two chunkings.
//! What says that nothing is fused is the same everywhere.

#![allow(unsafe_code)]

#[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
mod avx2;
#[cfg(all(target_arch = "aarch64", not(feature = "portable")))]
mod neon;
mod portable;

use crate::g711::Law;

/// Independent sums of a dot product: rows of coefficients are a multiple of this long.
pub(crate) const LANES: usize = portable::LANES;

/// A row of coefficients, and the samples that its windows are taken from.
pub(crate) type Row<'a> = (&'a [f32], &'a [f32]);

/// The instruction set in use. A value of another than the portable one proves that the CPU has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    Portable,
    #[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
    Avx2,
    #[cfg(all(target_arch = "aarch64", not(feature = "portable")))]
    Neon,
}

/// Call the kernel of the instruction set.
macro_rules! dispatch {
    ($backend:expr, $kernel:ident($($argument:expr),*)) => {
        match $backend.0 {
            Set::Portable => portable::$kernel($($argument),*),
            #[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
            // SAFETY: only `Backend::detect` makes this value, after asking the CPU for AVX2 and FMA.
            Set::Avx2 => unsafe { avx2::$kernel($($argument),*) },
            #[cfg(all(target_arch = "aarch64", not(feature = "portable")))]
            // SAFETY: only `Backend::detect` makes this value, after asking the CPU for NEON.
            Set::Neon => unsafe { neon::$kernel($($argument),*) },
        }
    };
}

impl Backend {
    /// Choose the widest instruction set that the CPU has. The answer is kept by the standard library.
    #[must_use]
    #[inline]
    pub fn detect() -> Self {
        #[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Self(Set::Avx2);
        }
        #[cfg(all(target_arch = "aarch64", not(feature = "portable")))]
        if std::arch::is_aarch64_feature_detected!("neon") {
            return Self(Set::Neon);
        }
        Self(Set::Portable)
    }

    /// Return the name of the instruction set.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Portable => "portable",
            #[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
            Set::Avx2 => "avx2+fma",
            #[cfg(all(target_arch = "aarch64", not(feature = "portable")))]
            Set::Neon => "neon",
        }
    }

    /// Write dot products of rows of coefficients with windows of samples.
    ///
    /// Every item of `rows` is a row and the samples that its first window starts with; its next window starts
    /// `window_step` samples on. The products of the first row go to the first place of `output` and to every
    /// `rows.len()`-th one after it, those of the second row to the second place and so on. A row is a multiple of
    /// [`LANES`] long, there is at least one, and the windows must end inside their samples.
    #[inline]
    pub(crate) fn convolve<'a>(
        self,
        rows: impl ExactSizeIterator<Item = Row<'a>>,
        window_step: usize,
        output: &mut [f32],
    ) {
        dispatch!(self, convolve(rows, window_step, output));
    }

    /// Return the dot products of two equally long rows with the same window, as [`Backend::convolve`] gives them.
    #[inline]
    pub(crate) fn dot_products_of_pair(self, rows: [&[f32]; 2], window: &[f32]) -> [f32; 2] {
        dispatch!(self, dot_products_of_pair(rows, window))
    }

    /// Return the dot product of two equally long rows. Nothing is fused: it is the same on every machine.
    #[inline]
    pub(crate) fn dot_product(self, left: &[f32], right: &[f32]) -> f32 {
        assert_eq!(left.len(), right.len());
        dispatch!(self, dot_product(left, right))
    }

    /// Do this work compiled for all that the CPU can. Nothing is fused: it is the same on every machine.
    #[inline]
    pub(crate) fn widen<R>(self, work: impl FnOnce() -> R) -> R {
        dispatch!(self, widen(work))
    }

    /// Convert PCM to floats in units of the last bit; both have the same number of samples.
    #[inline]
    pub(crate) fn units_from_pcm(self, pcm: &[u8], units: &mut [f32]) {
        assert_eq!(pcm.len(), units.len() * 2);
        dispatch!(self, units_from_pcm(pcm, units));
    }

    /// Round floats in units of the last bit to PCM: half to even, saturating, NaN to 0.
    #[inline]
    pub(crate) fn pcm_from_units(self, units: &[f32], pcm: &mut [u8]) {
        assert_eq!(pcm.len(), units.len() * 2);
        dispatch!(self, pcm_from_units(units, pcm));
    }

    /// Encode PCM in G.711; `codes` is half as long as `pcm`.
    #[inline]
    pub(crate) fn g711_encode(self, law: Law, pcm: &[u8], codes: &mut [u8]) {
        assert_eq!(pcm.len(), codes.len() * 2);
        dispatch!(self, g711_encode(law, pcm, codes));
    }

    /// Decode G.711; `pcm` is twice as long as `codes`.
    #[inline]
    pub(crate) fn g711_decode(self, law: Law, codes: &[u8], pcm: &mut [u8]) {
        assert_eq!(pcm.len(), codes.len() * 2);
        dispatch!(self, g711_decode(law, codes, pcm));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::g711;

    const PORTABLE: Backend = Backend(Set::Portable);
    /// More than three blocks of the widest kernel, so that every remainder comes up.
    const MOST: usize = 3 * 32 + 1;
    /// An interpreter of the code takes one of so many cases.
    const STRIDE: usize = if cfg!(miri) { 13 } else { 1 };

    /// The reference with the rounding of the instruction set in use.
    fn convolve_like(rows: &[Row<'_>], window_step: usize, output: &mut [f32]) {
        if Backend::detect() == PORTABLE {
            portable::convolve(rows.iter().copied(), window_step, output);
        } else {
            portable::convolve_lanes::<true>(rows.iter().copied(), window_step, output);
        }
    }

    fn pcm_from(samples: impl Iterator<Item = i16>) -> Vec<u8> {
        samples.flat_map(i16::to_le_bytes).collect()
    }

    #[test]
    fn the_widest_set_is_used_unless_it_is_forced_off() {
        let backend = Backend::detect();
        if cfg!(feature = "portable") {
            assert_eq!(backend, PORTABLE);
        }
        #[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
        assert_eq!(backend.name() == "avx2+fma", is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"));
        #[cfg(all(target_arch = "aarch64", not(feature = "portable")))]
        assert_eq!(backend.name(), "neon");
        // An interpreter that is not told of a CPU would look at the reference alone.
        #[cfg(all(miri, target_arch = "x86_64", not(feature = "portable")))]
        assert_eq!(backend.name(), "avx2+fma");
    }

    #[test]
    fn convolution_equals_the_reference() {
        let noise: Vec<f32> = (0..2_000).map(|index| (index as f32 * 1.7).sin() * (index as f32 * 0.3).cos()).collect();
        for (num_taps, num_rows) in [(0, 1), (LANES, 1), (LANES, 5), (5 * LANES, 2), (12 * LANES, 3)] {
            for offset in 0..4 {
                for num_outputs in (0..20_usize * num_rows).step_by(STRIDE) {
                    for (window_step, samples_step) in [(0, 1), (1, 1), (2, 1), (7, 1), (1, 0), (3, 0)] {
                        let rows: Vec<Row<'_>> = (0..num_rows)
                            .map(|index| {
                                let num_windows = (num_outputs + num_rows - 1 - index) / num_rows;
                                let end = num_windows.saturating_sub(1) * window_step + num_taps;
                                // Not a sample more than is needed, so that a read beyond the end is a panic.
                                let start = 300 + offset + index * samples_step;
                                (&noise[offset + 31 * index..][..num_taps], &noise[start..][..end])
                            })
                            .collect();
                        let (mut actual, mut expected) = (vec![f32::NAN; num_outputs], vec![f32::NAN; num_outputs]);
                        Backend::detect().convolve(rows.iter().copied(), window_step, &mut actual);
                        convolve_like(&rows, window_step, &mut expected);
                        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
                        assert_eq!(bits(actual), bits(expected), "{num_taps} {num_rows} {num_outputs} {window_step}");
                    }
                }
            }
        }
    }

    #[test]
    fn pair_equals_the_reference() {
        let noise: Vec<f32> = (0..300).map(|index| (index as f32 * 1.7).sin() * (index as f32 * 0.3).cos()).collect();
        for num_taps in [0, LANES, 7 * LANES] {
            for offset in 0..4 {
                let (rows, window) = ([&noise[offset..][..num_taps], &noise[70..][..num_taps]], &noise[200 + offset..]);
                let mut expected = [f32::NAN; 2];
                convolve_like(&rows.map(|row| (row, window)), 0, &mut expected);
                let actual = Backend::detect().dot_products_of_pair(rows, &window[..num_taps]);
                assert_eq!(actual.map(f32::to_bits), expected.map(f32::to_bits), "{num_taps}");
            }
        }
    }

    #[test]
    fn unfused_products_equal_the_reference_for_any_length_and_offset() {
        let noise: Vec<f32> = (0..400).map(|index| (index as f32 * 1.7).sin() * (index as f32 * 0.3).cos()).collect();
        for offset in 0..4 {
            for length in (0..MOST).step_by(STRIDE) {
                let (row, samples) = (&noise[offset..][..length], &noise[200 + offset..][..length]);
                let actual = Backend::detect().dot_product(row, samples);
                let expected = portable::dot_product(row, samples);
                assert_eq!(actual.to_bits(), expected.to_bits(), "{length}");
                // The same work, compiled for another CPU.
                let sums = || row.iter().scan(0.5, |sum, value| Some((*sum += value * value, *sum).1)).collect();
                let (actual, expected): (Vec<f32>, Vec<f32>) = (Backend::detect().widen(sums), sums());
                assert_eq!(actual, expected, "{length}");
            }
        }
    }

    #[test]
    fn fused_and_separate_rounding_differ_in_the_last_bits_only() {
        let row: Vec<f32> = (0..96).map(|index| (index as f32 * 0.37).sin()).collect();
        let (mut fused, mut separate) = ([0.0], [0.0]);
        portable::convolve_lanes::<true>([(&row[..], &row[..])].into_iter(), 1, &mut fused);
        portable::convolve_lanes::<false>([(&row[..], &row[..])].into_iter(), 1, &mut separate);
        assert!((fused[0] - separate[0]).abs() < 1e-5, "{fused:?} {separate:?}");
    }

    #[test]
    fn window_beyond_the_samples_is_refused() {
        let samples = [1.0; LANES];
        // The last one makes the end of the window wrap around.
        for window_step in [1, usize::MAX, usize::MAX - 6] {
            let convolve =
                || Backend::detect().convolve([(&samples[..], &samples[..])].into_iter(), window_step, &mut [0.0; 2]);
            assert!(std::panic::catch_unwind(convolve).is_err(), "{window_step}");
        }
    }

    #[test]
    fn conversions_equal_the_reference() {
        let halves = (-70_000..70_000).step_by(37).map(|value| value as f32 * 0.5);
        let special = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1e-40, 32767.5, -32768.5];
        let units: Vec<f32> = special.into_iter().chain(halves).collect();
        for start in (0..MOST).step_by(STRIDE) {
            let units = &units[start..start + MOST];
            let (mut actual, mut expected) = (vec![0; MOST * 2], vec![0; MOST * 2]);
            Backend::detect().pcm_from_units(units, &mut actual);
            portable::pcm_from_units(units, &mut expected);
            assert_eq!(actual, expected);
            let (mut actual_units, mut expected_units) = (vec![0.0; MOST], vec![0.0; MOST]);
            Backend::detect().units_from_pcm(&actual, &mut actual_units);
            portable::units_from_pcm(&expected, &mut expected_units);
            assert_eq!(actual_units, expected_units);
        }
    }

    #[test]
    fn g711_equals_the_reference_on_every_sample_and_code() {
        let samples = || (i16::MIN..=i16::MAX).step_by(STRIDE);
        let pcm = pcm_from(samples());
        for (law, code_of) in [(Law::Ulaw, g711::ulaw_code as fn(i32) -> i32), (Law::Alaw, g711::alaw_code)] {
            let mut codes = vec![0; pcm.len() / 2];
            Backend::detect().g711_encode(law, &pcm, &mut codes);
            assert!(samples().map(|sample| code_of(i32::from(sample)) as u8).eq(codes), "{law:?}");
            let codes: Vec<u8> = (0..=255).collect();
            let mut decoded = vec![0; 512];
            Backend::detect().g711_decode(law, &codes, &mut decoded);
            assert_eq!(decoded, pcm_from(g711::decode_table(law).iter().copied()), "{law:?}");
        }
    }

    #[test]
    fn g711_equals_the_reference_for_any_length_and_offset() {
        let pcm = pcm_from((0..200).map(|index: i32| (index * index * 7) as i16));
        let codes: Vec<u8> = (0..200).map(|index: i32| (index * 31) as u8).collect();
        for law in [Law::Ulaw, Law::Alaw] {
            for start in 0..5 {
                for length in (0..=MOST).step_by(STRIDE) {
                    let (pcm, codes) = (&pcm[start * 2..][..length * 2], &codes[start..][..length]);
                    let (mut actual, mut expected) = (vec![0; length], vec![0; length]);
                    Backend::detect().g711_encode(law, pcm, &mut actual);
                    portable::g711_encode(law, pcm, &mut expected);
                    assert_eq!(actual, expected);
                    let (mut actual, mut expected) = (vec![0; length * 2], vec![0; length * 2]);
                    Backend::detect().g711_decode(law, codes, &mut actual);
                    portable::g711_decode(law, codes, &mut expected);
                    assert_eq!(actual, expected);
                }
            }
        }
    }
}
