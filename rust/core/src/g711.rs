//! G.711 mu-law and A-law, equal to the ITU-T G.191 Software Tool Library on every input.
//!
//! G.191 takes the one's complement of a negative sample and truncates, so -1 is the negative zero. The encoders do
//! the segment search with the exponent of a float, which needs neither a table nor a branch: their time does not
//! depend on the audio.

use crate::simd::Backend;

/// The mu-law code of a zero sample.
pub const ULAW_SILENCE: u8 = 0xFF;
/// The A-law code of a zero sample.
pub const ALAW_SILENCE: u8 = 0xD5;

/// Samples encoded together: as many as the compiler needs to do every step in vector registers.
const BLOCK_SAMPLES: usize = 32;

static ULAW_DECODE: [i16; 256] = build_decode_table(Law::Ulaw);
static ALAW_DECODE: [i16; 256] = build_decode_table(Law::Alaw);
static ULAW_TO_ALAW: [u8; 256] = transcode_table(Law::Ulaw, Law::Alaw);
static ALAW_TO_ULAW: [u8; 256] = transcode_table(Law::Alaw, Law::Ulaw);

/// One of the two companding laws of G.711.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// mu-law, RTP payload type 0 (PCMU).
    Ulaw,
    /// A-law, RTP payload type 8 (PCMA).
    Alaw,
}

/// Return the top 11 value bits of a positive integer as a float: exponent and 4 bits of mantissa.
///
/// For a number in 2^e..2^(e+1) this is (e << 4 | next 4 bits), which is the segment search of both laws.
#[inline(always)]
const fn segment(magnitude: i32, first_exponent: i32) -> i32 {
    ((magnitude as f32).to_bits() >> 19) as i32 - ((127 + first_exponent) << 4)
}

/// Return the mu-law code of a 16-bit sample.
#[inline(always)]
pub(crate) const fn ulaw_code(sample: i32) -> i32 {
    let sign = sample >> 31;
    // G.711, table 2a: 14-bit magnitudes, biased by 33 so that every segment starts at a power of two.
    let biased = ((sample ^ sign) >> 2) + 33;
    let biased = if biased > 8191 { 8191 } else { biased };
    // The code travels inverted, and its top bit is set for positive samples.
    segment(biased, 5) ^ 0xFF ^ (sign & 0x80)
}

/// Return the code that Python's `audioop` gave a 16-bit sample.
///
/// It divides by 4 before it takes the magnitude, so a negative sample is rounded away from zero. Of the 32768 negative
/// samples 508 lie at the edge of a step and get the next larger code.
#[inline]
pub(crate) const fn audioop_ulaw_code(sample: i32) -> i32 {
    let sign = sample >> 31;
    let biased = (sample >> 2).abs() + 33;
    let biased = if biased > 8191 { 8191 } else { biased };
    segment(biased, 5) ^ 0xFF ^ (sign & 0x80)
}

/// Return the A-law code of a 16-bit sample.
#[inline(always)]
pub(crate) const fn alaw_code(sample: i32) -> i32 {
    let sign = sample >> 31;
    // G.711, table 1a: 12-bit magnitudes, the first two segments are linear.
    let magnitude = (sample ^ sign) >> 4;
    let code = if magnitude < 16 { magnitude } else { segment(magnitude, 3) };
    // Even bits travel inverted.
    code ^ 0xD5 ^ (sign & 0x80)
}

const fn ulaw_decode_code(code: u8) -> i16 {
    let inverted = !code;
    let (segment, step) = ((inverted >> 4) & 7, (inverted & 15) as i16);
    let magnitude = ((0x84 + (step << 3)) << segment) - 0x84;
    if code & 0x80 == 0 { -magnitude } else { magnitude }
}

const fn alaw_decode_code(code: u8) -> i16 {
    let inverted = code ^ 0x55;
    let (segment, step) = ((inverted >> 4) & 7, (inverted & 15) as i16);
    let magnitude = if segment == 0 { (step << 4) + 8 } else { ((step << 4) + 0x108) << (segment - 1) };
    if inverted & 0x80 == 0 { -magnitude } else { magnitude }
}

const fn build_decode_table(law: Law) -> [i16; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = match law {
            Law::Ulaw => ulaw_decode_code(code as u8),
            Law::Alaw => alaw_decode_code(code as u8),
        };
        code += 1;
    }
    table
}

/// Return the sample of every code.
pub(crate) fn decode_table(law: Law) -> &'static [i16; 256] {
    match law {
        Law::Ulaw => &ULAW_DECODE,
        Law::Alaw => &ALAW_DECODE,
    }
}

const fn transcode_table(from: Law, to: Law) -> [u8; 256] {
    let decoded = build_decode_table(from);
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = match to {
            Law::Ulaw => ulaw_code(decoded[code] as i32) as u8,
            Law::Alaw => alaw_code(decoded[code] as i32) as u8,
        };
        code += 1;
    }
    table
}

/// Encode PCM; `codes` must be half as long as `pcm`.
pub fn encode_into(law: Law, pcm: &[u8], codes: &mut [u8]) {
    Backend::detect().g711_encode(law, pcm, codes);
}

/// Encode samples of `N` bytes, in blocks as long as they last.
#[inline(always)]
pub(crate) fn encode_samples<const N: usize>(pcm: &[u8], codes: &mut [u8], code_of: impl Fn([u8; N]) -> i32) {
    let (sample_blocks, samples) = pcm.as_chunks::<N>().0.as_chunks::<BLOCK_SAMPLES>();
    let (code_blocks, last_codes) = codes.as_chunks_mut::<BLOCK_SAMPLES>();
    for (codes, samples) in code_blocks.iter_mut().zip(sample_blocks) {
        let block = samples.map(&code_of);
        *codes = block.map(|code| code as u8);
    }
    for (code, sample) in last_codes.iter_mut().zip(samples) {
        *code = code_of(*sample) as u8;
    }
}

/// Decode to PCM; `pcm` must be twice as long as `codes`.
pub fn decode_into(law: Law, codes: &[u8], pcm: &mut [u8]) {
    Backend::detect().g711_decode(law, codes, pcm);
}

/// Convert codes of one law to the other by value; `output` must be as long as `codes`.
pub fn transcode_into(from: Law, codes: &[u8], output: &mut [u8]) {
    let table = match from {
        Law::Ulaw => &ULAW_TO_ALAW,
        Law::Alaw => &ALAW_TO_ULAW,
    };
    for (output, code) in output.iter_mut().zip(codes) {
        *output = table[usize::from(*code)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulaw_has_the_values_of_g191() {
        let cases = [
            (0, 0xFF),
            (3, 0xFF),
            (4, 0xFE),
            (-1, 0x7F),
            (-4, 0x7F),
            (-5, 0x7E),
            (1000, 0xCE),
            (31612, 0x80),
            (32767, 0x80),
            (-32768, 0x00),
        ];
        for (sample, code) in cases {
            assert_eq!(ulaw_code(sample), code, "{sample}");
        }
        assert_eq!((ULAW_DECODE[0xFF], ULAW_DECODE[0x7F], ULAW_DECODE[0x80], ULAW_DECODE[0]), (0, 0, 32124, -32124));
    }

    #[test]
    fn alaw_has_the_values_of_g191() {
        let cases = [(0, 0xD5), (-1, 0x55), (15, 0xD5), (16, 0xD4), (32767, 0xAA), (-32768, 0x2A), (256, 0xC5)];
        for (sample, code) in cases {
            assert_eq!(alaw_code(sample), code, "{sample}");
        }
        assert_eq!(
            (ALAW_DECODE[0xD5], ALAW_DECODE[0x55], ALAW_DECODE[0xAA], ALAW_DECODE[0x2A]),
            (8, -8, 32256, -32256)
        );
    }

    #[test]
    fn every_code_but_the_negative_zero_of_ulaw_survives() {
        for code in 0..=255_u8 {
            assert_eq!(alaw_code(i32::from(ALAW_DECODE[usize::from(code)])), i32::from(code));
            let expected = if code == 0x7F { ULAW_SILENCE } else { code };
            assert_eq!(ulaw_code(i32::from(ULAW_DECODE[usize::from(code)])), i32::from(expected));
        }
    }

    #[test]
    fn silence_constants_are_the_codes_of_zero() {
        assert_eq!(ulaw_code(0), i32::from(ULAW_SILENCE));
        assert_eq!(alaw_code(0), i32::from(ALAW_SILENCE));
    }

    #[test]
    fn direct_conversion_equals_decode_and_encode() {
        let codes: Vec<u8> = (0..=255).collect();
        for (from, to) in [(Law::Ulaw, Law::Alaw), (Law::Alaw, Law::Ulaw)] {
            let (mut pcm, mut expected, mut direct) = (vec![0; 512], vec![0; 256], vec![0; 256]);
            decode_into(from, &codes, &mut pcm);
            encode_into(to, &pcm, &mut expected);
            transcode_into(from, &codes, &mut direct);
            assert_eq!(direct, expected);
        }
    }
}
