//! G.711 and IMA ADPCM for samples of any width.
//!
//! Encoders read the top 16 bits of a sample, decoders write them.

use super::sample::{from_word, high, samples, samples_mut};
use super::{Fragment, Width, by_width};
use crate::adpcm::State;
use crate::g711::{self, Law};

/// So many samples of any width fill whole 32-bit words, which are stored faster than bytes.
const BLOCK_CODES: usize = 4;

impl Fragment<'_> {
    /// Encode the samples in a law; `codes` must have one byte for each.
    ///
    /// The mu-law code is audioop's and not always that of ITU-T G.191: see [`g711::audioop_ulaw_code`].
    pub fn encode_into(&self, law: Law, codes: &mut [u8]) {
        by_width!(self.width, N => match law {
            Law::Ulaw => g711::encode_samples::<N>(self.bytes, codes, |pcm| g711::audioop_ulaw_code(high(pcm) >> 16)),
            Law::Alaw => g711::encode_samples::<N>(self.bytes, codes, |pcm| g711::alaw_code(high(pcm) >> 16)),
        });
    }

    /// Encode the samples in IMA ADPCM, the first of two in the upper half of a byte.
    ///
    /// `codes` must have one byte for two samples; of a single last sample only the state tells.
    pub fn encode_adpcm_into(&self, mut state: State, codes: &mut [u8]) -> State {
        by_width!(self.width, N => {
            let mut encode = |sample: [u8; N]| state.encode((high(sample) >> 16) as i16);
            let (pairs, last) = samples::<N>(self.bytes).as_chunks::<2>();
            for (code, [first, second]) in codes.iter_mut().zip(pairs) {
                *code = encode(*first) << 4;
                *code |= encode(*second);
            }
            if let [last] = last {
                encode(*last);
            }
            state
        })
    }
}

/// Decode codes of a law; `pcm` must have one sample of `width` for each.
pub fn decode_into(law: Law, codes: &[u8], width: Width, pcm: &mut [u8]) {
    let table = g711::decode_table(law);
    by_width!(width, N => {
        let (blocks, samples) = samples_mut::<N>(pcm).as_chunks_mut::<BLOCK_CODES>();
        let (code_blocks, codes) = codes.as_chunks::<BLOCK_CODES>();
        for (block, codes) in blocks.iter_mut().zip(code_blocks) {
            *block = codes.map(|code| from_word(table[usize::from(code)]));
        }
        for (sample, code) in samples.iter_mut().zip(codes) {
            *sample = from_word(table[usize::from(*code)]);
        }
    });
}

/// Decode IMA ADPCM; `pcm` must have two samples of `width` for each byte.
pub fn decode_adpcm_into(codes: &[u8], width: Width, mut state: State, pcm: &mut [u8]) -> State {
    by_width!(width, N => {
        for ([first, second], code) in samples_mut::<N>(pcm).as_chunks_mut::<2>().0.iter_mut().zip(codes) {
            *first = from_word(state.decode(code >> 4));
            *second = from_word(state.decode(*code));
        }
        state
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTHS: [Width; 4] = [Width::One, Width::Two, Width::Three, Width::Four];

    #[test]
    fn blocks_and_the_rest_are_decoded_alike() {
        let codes: Vec<u8> = (0..=255).collect();
        for (law, width) in [Law::Ulaw, Law::Alaw].into_iter().flat_map(|law| WIDTHS.map(|width| (law, width))) {
            let num_bytes = width as usize;
            let mut pcm = vec![0xEE; 256 * num_bytes];
            decode_into(law, &codes, width, &mut pcm);
            for (code, sample) in codes.iter().zip(pcm.chunks(num_bytes)) {
                let mut alone = vec![0xEE; num_bytes];
                decode_into(law, &[*code], width, &mut alone);
                assert_eq!(alone, sample, "{law:?} {width:?} {code}");
            }
        }
    }

    #[test]
    fn encoders_read_the_top_of_a_sample() {
        let samples = [-32768, -4, -3, -1, 0, 3, 4, 1000, 32767];
        // The ITU's code of -4 is 0x7F: the old module rounds away from zero.
        let expected = [0x00, 0x7E, 0x7E, 0x7E, 0xFF, 0xFF, 0xFE, 0xCE, 0x80];
        for num_low_bytes in 0..=2 {
            let pcm: Vec<u8> = samples
                .iter()
                .flat_map(|sample: &i16| [vec![0xFF; num_low_bytes], sample.to_le_bytes().to_vec()].concat())
                .collect();
            let mut codes = [0; 9];
            let fragment = Fragment::new(&pcm, num_low_bytes as i32 + 2).expect("whole");
            fragment.encode_into(Law::Ulaw, &mut codes);
            assert_eq!(codes, expected);
        }
    }

    #[test]
    fn adpcm_has_the_first_sample_in_the_upper_half() {
        let mut codes = [0; 2];
        let pcm = [0, 0, 0, 0x10, 0, 0xF0, 0xFF, 0x7F, 0, 0x80];
        let state = Fragment::new(&pcm, 2).expect("whole").encode_adpcm_into(State::default(), &mut codes);
        assert_eq!((codes, state.predictor(), state.step_index()), ([0x07, 0xF7], -92, 32));
        for width in WIDTHS {
            let mut decoded = vec![0; 4 * width as usize];
            let state = decode_adpcm_into(&codes, width, State::default(), &mut decoded);
            assert_eq!((state.predictor(), state.step_index()), (44, 24));
        }
    }
}
