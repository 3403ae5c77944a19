//! AVX2 and FMA, which every x86-64 CPU of level v3 has.

use super::portable::holds_windows;
use super::{Row, portable};
use crate::g711::Law;
use std::arch::x86_64::{
    __m256, __m256i, _CMP_ORD_Q, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_hadd_ps, _mm_loadu_si128, _mm_movehdup_ps,
    _mm256_add_epi16, _mm256_add_epi32, _mm256_add_ps, _mm256_and_ps, _mm256_and_si256, _mm256_blendv_epi8,
    _mm256_castps_si256, _mm256_castps256_ps128, _mm256_cmp_ps, _mm256_cmpgt_epi16, _mm256_cmpgt_epi32,
    _mm256_cvtepi16_epi32, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi16, _mm256_cvtps_epi32, _mm256_extractf128_ps,
    _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_min_epi32, _mm256_min_ps, _mm256_mul_ps, _mm256_mullo_epi16,
    _mm256_or_si256, _mm256_packs_epi32, _mm256_packus_epi16, _mm256_permute2f128_ps, _mm256_permute4x64_epi64,
    _mm256_permutevar8x32_epi32, _mm256_set_epi64x, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setr_epi32, _mm256_setzero_ps, _mm256_shuffle_epi8, _mm256_shuffle_ps, _mm256_slli_epi16, _mm256_srai_epi32,
    _mm256_srli_epi16, _mm256_srli_epi32, _mm256_storeu_ps, _mm256_storeu_si256, _mm256_sub_epi16, _mm256_sub_epi32,
    _mm256_unpackhi_ps, _mm256_unpacklo_ps, _mm256_xor_si256,
};

const LANES: usize = portable::LANES;
/// Windows that share the loads of the row, one register each.
const WINDOWS: usize = 8;
/// Windows that two rows share.
const SHARED_WINDOWS: usize = WINDOWS / 2;
/// Copies of the functions for rows with few and with many windows. The compiler puts a function with one caller into
/// it, and a call takes as long as a short row.
const FEW: u8 = 0;
const MANY: u8 = 1;
/// A bit above a code, and where it lies above the segment number after the shift.
const MARK: i16 = i16::MIN;
const MARKED_0: i16 = 0x0800;
/// Floats converted together.
const BLOCK_UNITS: usize = 16;
/// Samples encoded together.
const BLOCK_SAMPLES: usize = 32;
/// Codes decoded together.
const BLOCK_CODES: usize = 16;

#[target_feature(enable = "avx2,fma")]
pub fn convolve<'a>(rows: impl ExactSizeIterator<Item = Row<'a>>, window_step: usize, output: &mut [f32]) {
    let num_rows = rows.len();
    let (fewest_windows, num_longer) = (output.len() / num_rows, output.len() % num_rows);
    if fewest_windows >= WINDOWS && window_step < num_rows {
        convolve_sharing(rows, window_step, output);
        return;
    }
    for (first, (row, samples)) in rows.enumerate().take(output.len()) {
        let num_windows = fewest_windows + usize::from(first < num_longer);
        convolve_row::<FEW>(row, samples, window_step, &mut output[first..], num_rows, num_windows);
    }
}

/// Do the same where the rate rises: neighbouring outputs depend on the same inputs, which are loaded once for two rows.
#[target_feature(enable = "avx2,fma")]
#[inline(never)]
fn convolve_sharing<'a>(rows: impl ExactSizeIterator<Item = Row<'a>>, window_step: usize, output: &mut [f32]) {
    let num_rows = rows.len();
    let (fewest_windows, num_longer) = (output.len() / num_rows, output.len() % num_rows);
    let num_windows = |first| fewest_windows + usize::from(first < num_longer);
    let mut waiting: Option<(usize, Row<'a>)> = None;
    for (first, (row, samples)) in rows.enumerate().take(output.len()) {
        match waiting.take() {
            Some((before, (row_before, same))) if std::ptr::eq(same, samples) => {
                let output = &mut output[before..];
                convolve_pair([row_before, row], samples, window_step, output, num_rows, num_windows(first));
                if num_windows(first) < num_windows(before) {
                    let start = num_windows(first);
                    let (samples, output) = (&samples[start * window_step..], &mut output[start * num_rows..]);
                    dot_products::<1, MANY>(row_before, samples, window_step, output, num_rows);
                }
            }
            single => {
                waiting = Some((first, (row, samples)));
                if let Some((first, (row, samples))) = single {
                    let (output, num_windows) = (&mut output[first..], num_windows(first));
                    convolve_row::<MANY>(row, samples, window_step, output, num_rows, num_windows);
                }
            }
        }
    }
    if let Some((first, (row, samples))) = waiting {
        let (output, num_windows) = (&mut output[first..], num_windows(first));
        convolve_row::<MANY>(row, samples, window_step, output, num_rows, num_windows);
    }
}

/// Write the dot products of two rows with the same windows.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn convolve_pair(
    rows: [&[f32]; 2],
    samples: &[f32],
    window_step: usize,
    output: &mut [f32],
    output_step: usize,
    num_windows: usize,
) {
    for start in (0..num_windows).step_by(SHARED_WINDOWS) {
        let (samples, output) = (&samples[start * window_step..], &mut output[start * output_step..]);
        match num_windows - start {
            1 => dot_product_pairs::<1>(rows, samples, window_step, output, output_step),
            2 => dot_product_pairs::<2>(rows, samples, window_step, output, output_step),
            3 => dot_product_pairs::<3>(rows, samples, window_step, output, output_step),
            _ => dot_product_pairs::<SHARED_WINDOWS>(rows, samples, window_step, output, output_step),
        }
    }
}

#[target_feature(enable = "avx2,fma")]
pub fn dot_products_of_pair(rows: [&[f32]; 2], window: &[f32]) -> [f32; 2] {
    let mut output = [0.0; 2];
    dot_product_pairs::<1>(rows, window, 0, &mut output, 2);
    output
}

/// Write the dot products of all windows of a row.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn convolve_row<const COPY: u8>(
    row: &[f32],
    samples: &[f32],
    window_step: usize,
    output: &mut [f32],
    output_step: usize,
    num_windows: usize,
) {
    let (mut samples, mut output, mut num_windows) = (samples, output, num_windows);
    while num_windows > WINDOWS {
        dot_products::<WINDOWS, COPY>(row, samples, window_step, output, output_step);
        num_windows -= WINDOWS;
        samples = &samples[WINDOWS * window_step..];
        output = &mut output[WINDOWS * output_step..];
    }
    match num_windows {
        1 => dot_products::<1, COPY>(row, samples, window_step, output, output_step),
        2 => dot_products::<2, COPY>(row, samples, window_step, output, output_step),
        3 => dot_products::<3, COPY>(row, samples, window_step, output, output_step),
        4 => dot_products::<4, COPY>(row, samples, window_step, output, output_step),
        5 => dot_products::<5, COPY>(row, samples, window_step, output, output_step),
        6 => dot_products::<6, COPY>(row, samples, window_step, output, output_step),
        7 => dot_products::<7, COPY>(row, samples, window_step, output, output_step),
        _ => dot_products::<WINDOWS, COPY>(row, samples, window_step, output, output_step),
    }
}

/// Write the dot products of the first `N` windows, `output_step` places apart.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn dot_products<const N: usize, const COPY: u8>(
    row: &[f32],
    samples: &[f32],
    window_step: usize,
    output: &mut [f32],
    output_step: usize,
) {
    assert!(row.len().is_multiple_of(LANES) && holds_windows(samples, N, window_step, row.len()));
    let mut sums = [_mm256_setzero_ps(); WINDOWS];
    for start in (0..row.len()).step_by(LANES) {
        // SAFETY: `start` + LANES is at most the length of the row, which is a multiple of LANES.
        let taps = unsafe { _mm256_loadu_ps(row.as_ptr().add(start)) };
        for (window, sum) in sums.iter_mut().enumerate().take(N) {
            // SAFETY: the last window, (N - 1) * `window_step` samples on, holds as many samples as the row has taps.
            let window = unsafe { _mm256_loadu_ps(samples.as_ptr().add(window * window_step + start)) };
            *sum = _mm256_fmadd_ps(taps, window, *sum);
        }
    }
    let mut products = [0.0; WINDOWS];
    // SAFETY: there is room for WINDOWS = 8 floats.
    unsafe { _mm256_storeu_ps(products.as_mut_ptr(), sums_of_lanes(sums)) };
    for (window, product) in products.into_iter().enumerate().take(N) {
        output[window * output_step] = product;
    }
}

/// Write the dot products of two rows with the first `N` windows: next to each other, and `output_step` places apart.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn dot_product_pairs<const N: usize>(
    rows: [&[f32]; 2],
    samples: &[f32],
    window_step: usize,
    output: &mut [f32],
    output_step: usize,
) {
    let num_taps = rows[0].len();
    assert!(num_taps.is_multiple_of(LANES) && rows[1].len() == num_taps);
    assert!(holds_windows(samples, N, window_step, num_taps));
    let mut sums = [_mm256_setzero_ps(); WINDOWS];
    for start in (0..num_taps).step_by(LANES) {
        // SAFETY: `start` + LANES is at most the length of both rows, which is a multiple of LANES.
        let taps = rows.map(|row| unsafe { _mm256_loadu_ps(row.as_ptr().add(start)) });
        for window in 0..N {
            // SAFETY: the last window, (N - 1) * `window_step` samples on, holds as many samples as a row has taps.
            let samples = unsafe { _mm256_loadu_ps(samples.as_ptr().add(window * window_step + start)) };
            sums[window] = _mm256_fmadd_ps(taps[0], samples, sums[window]);
            sums[SHARED_WINDOWS + window] = _mm256_fmadd_ps(taps[1], samples, sums[SHARED_WINDOWS + window]);
        }
    }
    let mut products = [0.0; WINDOWS];
    // SAFETY: there is room for WINDOWS = 8 floats.
    unsafe { _mm256_storeu_ps(products.as_mut_ptr(), sums_of_lanes(sums)) };
    for window in 0..N {
        output[window * output_step] = products[window];
        output[window * output_step + 1] = products[SHARED_WINDOWS + window];
    }
}

/// Add the lanes of every register in pairs: lane k of the result is the sum over register k.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn sums_of_lanes(s: [__m256; WINDOWS]) -> __m256 {
    // Lanes i and i + 4 of two registers, one register in each half of the result.
    let fold = |low: __m256, high: __m256| {
        let firsts = _mm256_permute2f128_ps::<0x20>(low, high);
        _mm256_add_ps(firsts, _mm256_permute2f128_ps::<0x31>(low, high))
    };
    // Then lanes i and i + 2 within each half, of two registers in turn.
    let interleave = |a: __m256, b: __m256| _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    let even = interleave(fold(s[0], s[4]), fold(s[1], s[5]));
    let odd = interleave(fold(s[2], s[6]), fold(s[3], s[7]));
    _mm256_add_ps(_mm256_shuffle_ps::<0b01_00_01_00>(even, odd), _mm256_shuffle_ps::<0b11_10_11_10>(even, odd))
}

#[target_feature(enable = "avx2,fma")]
pub fn dot_product(left: &[f32], right: &[f32]) -> f32 {
    let (lefts, left_rest) = left.as_chunks::<LANES>();
    let (rights, right_rest) = right.as_chunks::<LANES>();
    let mut sums = _mm256_setzero_ps();
    for (left, right) in lefts.iter().zip(rights) {
        // SAFETY: both are LANES = 8 floats long.
        let (left, right) = unsafe { (_mm256_loadu_ps(left.as_ptr()), _mm256_loadu_ps(right.as_ptr())) };
        sums = _mm256_add_ps(sums, _mm256_mul_ps(left, right));
    }
    let pairs = _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps::<1>(sums));
    let quads = _mm_hadd_ps(pairs, pairs);
    let sum = _mm_cvtss_f32(_mm_add_ss(quads, _mm_movehdup_ps(quads)));
    portable::add_products(sum, left_rest, right_rest)
}

#[target_feature(enable = "avx2,fma")]
pub fn widen<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[target_feature(enable = "avx2,fma")]
pub fn units_from_pcm(pcm: &[u8], units: &mut [f32]) {
    portable::units_from_pcm(pcm, units);
}

#[target_feature(enable = "avx2,fma")]
pub fn pcm_from_units(units: &[f32], pcm: &mut [u8]) {
    let (unit_blocks, units) = units.as_chunks::<BLOCK_UNITS>();
    let (pcm_blocks, pcm) = pcm.as_chunks_mut::<{ BLOCK_UNITS * 2 }>();
    for (pcm, units) in pcm_blocks.iter_mut().zip(unit_blocks) {
        let halves = [0, LANES].map(|start| {
            // SAFETY: the block holds 16 floats, the second half starts at 8.
            let units = unsafe { _mm256_loadu_ps(units.as_ptr().add(start)) };
            let numbers = _mm256_and_ps(units, _mm256_cmp_ps::<_CMP_ORD_Q>(units, units));
            // The conversion rounds half to even; below its range it gives the lowest integer, above it as well.
            _mm256_cvtps_epi32(_mm256_min_ps(numbers, _mm256_set1_ps(32767.0)))
        });
        // Packing saturates, within each half of the registers, so the middle quarters change places.
        let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(halves[0], halves[1]));
        // SAFETY: the block holds 32 bytes.
        unsafe { _mm256_storeu_si256(pcm.as_mut_ptr().cast(), packed) };
    }
    portable::pcm_from_units(units, pcm);
}

#[target_feature(enable = "avx2,fma")]
pub fn g711_encode(law: Law, pcm: &[u8], codes: &mut [u8]) {
    match law {
        Law::Ulaw => encode_blocks(law, pcm, codes, |samples| ulaw_codes(samples)),
        Law::Alaw => encode_blocks(law, pcm, codes, |samples| alaw_codes(samples)),
    }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn encode_blocks(law: Law, pcm: &[u8], codes: &mut [u8], codes_of: impl Fn(__m256i) -> __m256i) {
    let (pcm_blocks, pcm) = pcm.as_chunks::<{ BLOCK_SAMPLES * 2 }>();
    let (code_blocks, codes) = codes.as_chunks_mut::<BLOCK_SAMPLES>();
    for (codes, pcm) in code_blocks.iter_mut().zip(pcm_blocks) {
        let quarters = [0, 16, 32, 48].map(|start| {
            // SAFETY: the block holds 64 bytes, the last quarter starts at 48.
            codes_of(_mm256_cvtepi16_epi32(unsafe { _mm_loadu_si128(pcm.as_ptr().add(start).cast()) }))
        });
        // Both steps of packing work within each half, so the groups of four have to be put in order afterwards.
        let packed = _mm256_packus_epi16(
            _mm256_packs_epi32(quarters[0], quarters[1]),
            _mm256_packs_epi32(quarters[2], quarters[3]),
        );
        let packed = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        // SAFETY: the block holds 32 bytes.
        unsafe { _mm256_storeu_si256(codes.as_mut_ptr().cast(), packed) };
    }
    portable::g711_encode(law, pcm, codes);
}

/// Do the segment search of [`crate::g711`] with the exponent of a float.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn segments_from(magnitudes: __m256i, first_exponent: i32) -> __m256i {
    let floats = _mm256_castps_si256(_mm256_cvtepi32_ps(magnitudes));
    _mm256_sub_epi32(_mm256_srli_epi32::<19>(floats), _mm256_set1_epi32((127 + first_exponent) << 4))
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn ulaw_codes(samples: __m256i) -> __m256i {
    let sign = _mm256_srai_epi32::<31>(samples);
    let magnitudes = _mm256_srli_epi32::<2>(_mm256_xor_si256(samples, sign));
    let biased = _mm256_min_epi32(_mm256_add_epi32(magnitudes, _mm256_set1_epi32(33)), _mm256_set1_epi32(8191));
    let inversion = _mm256_xor_si256(_mm256_and_si256(sign, _mm256_set1_epi32(0x80)), _mm256_set1_epi32(0xFF));
    _mm256_xor_si256(segments_from(biased, 5), inversion)
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn alaw_codes(samples: __m256i) -> __m256i {
    let sign = _mm256_srai_epi32::<31>(samples);
    let magnitudes = _mm256_srli_epi32::<4>(_mm256_xor_si256(samples, sign));
    let is_linear = _mm256_cmpgt_epi32(_mm256_set1_epi32(16), magnitudes);
    let codes = _mm256_blendv_epi8(segments_from(magnitudes, 3), magnitudes, is_linear);
    let inversion = _mm256_xor_si256(_mm256_and_si256(sign, _mm256_set1_epi32(0x80)), _mm256_set1_epi32(0xD5));
    _mm256_xor_si256(codes, inversion)
}

#[target_feature(enable = "avx2,fma")]
pub fn g711_decode(law: Law, codes: &[u8], pcm: &mut [u8]) {
    match law {
        Law::Ulaw => decode_blocks(law, codes, pcm, |codes| ulaw_samples(codes)),
        Law::Alaw => decode_blocks(law, codes, pcm, |codes| alaw_samples(codes)),
    }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn decode_blocks(law: Law, codes: &[u8], pcm: &mut [u8], samples_of: impl Fn(__m256i) -> __m256i) {
    let (code_blocks, codes) = codes.as_chunks::<BLOCK_CODES>();
    let (pcm_blocks, pcm) = pcm.as_chunks_mut::<{ BLOCK_CODES * 2 }>();
    for (pcm, codes) in pcm_blocks.iter_mut().zip(code_blocks) {
        // SAFETY: the block holds 16 bytes.
        let codes = _mm256_cvtepu8_epi16(unsafe { _mm_loadu_si128(codes.as_ptr().cast()) });
        // SAFETY: the block holds 32 bytes.
        unsafe { _mm256_storeu_si256(pcm.as_mut_ptr().cast(), samples_of(codes)) };
    }
    portable::g711_decode(law, codes, pcm);
}

/// Cut the segment out of codes that were inverted with `MARK` set.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn marked_segments(inverted: __m256i) -> __m256i {
    _mm256_and_si256(_mm256_srli_epi16::<4>(inverted), _mm256_set1_epi16(MARKED_0 | 7))
}

/// Look up the byte of a marked segment.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn by_segment(values: [u8; 8], segments: __m256i) -> __m256i {
    let values = i64::from_le_bytes(values);
    // The mark is index 8 for the upper byte of each lane, where the table is 0.
    _mm256_shuffle_epi8(_mm256_set_epi64x(0, values, 0, values), segments)
}

/// Negate the magnitudes whose code has no sign bit, as both laws ask for.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn with_sign(magnitudes: __m256i, codes: __m256i) -> __m256i {
    let is_negative = _mm256_cmpgt_epi16(_mm256_set1_epi16(0x80), codes);
    _mm256_sub_epi16(_mm256_xor_si256(magnitudes, is_negative), is_negative)
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn ulaw_samples(codes: __m256i) -> __m256i {
    let bias = _mm256_set1_epi16(0x84);
    let inverted = _mm256_xor_si256(codes, _mm256_set1_epi16(MARK | 0xFF));
    let segments = marked_segments(inverted);
    let steps = _mm256_and_si256(inverted, _mm256_set1_epi16(15));
    let scales = by_segment([1, 2, 4, 8, 16, 32, 64, 128], segments);
    let magnitudes = _mm256_mullo_epi16(_mm256_add_epi16(_mm256_slli_epi16::<3>(steps), bias), scales);
    with_sign(_mm256_sub_epi16(magnitudes, bias), codes)
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn alaw_samples(codes: __m256i) -> __m256i {
    let inverted = _mm256_xor_si256(codes, _mm256_set1_epi16(MARK | 0x55));
    let segments = marked_segments(inverted);
    let steps = _mm256_and_si256(inverted, _mm256_set1_epi16(15));
    // The first two segments have the same step; from the second on the leading one is added.
    let scales = by_segment([1, 1, 2, 4, 8, 16, 32, 64], segments);
    let is_upper = _mm256_cmpgt_epi16(segments, _mm256_set1_epi16(MARKED_0));
    let leading = _mm256_or_si256(_mm256_and_si256(is_upper, _mm256_set1_epi16(0x100)), _mm256_set1_epi16(8));
    let magnitudes = _mm256_mullo_epi16(_mm256_add_epi16(_mm256_slli_epi16::<4>(steps), leading), scales);
    with_sign(magnitudes, codes)
}
