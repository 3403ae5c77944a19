//! IMA ADPCM: 4 bits for each 16-bit sample.
//!
//! The algorithm is that of the IMA Digital Audio Focus and Technical Working Groups, "Recommended Practices for
//! Enhancing Digital Audio Compatibility in Multimedia Systems", revision 3.00 (1992), section 6. How codes are packed
//! into bytes is the business of the container.

/// The change of the step index for the three lower bits of a code.
const INDEX_STEPS: [i8; 8] = [-1, -1, -1, -1, 2, 4, 6, 8];

/// The quantiser steps.
const STEPS: [i16; 89] = [
    7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 19, 21, 23, 25, 28, 31, 34, 37, 41, 45, 50, 55, 60, 66, 73, 80, 88, 97, 107,
    118, 130, 143, 157, 173, 190, 209, 230, 253, 279, 307, 337, 371, 408, 449, 494, 544, 598, 658, 724, 796, 876, 963,
    1060, 1166, 1282, 1411, 1552, 1707, 1878, 2066, 2272, 2499, 2749, 3024, 3327, 3660, 4026, 4428, 4871, 5358, 5894,
    6484, 7132, 7845, 8630, 9493, 10442, 11487, 12635, 13899, 15289, 16818, 18500, 20350, 22385, 24623, 27086, 29794,
    32767,
];

/// The largest step index.
pub const MAX_STEP_INDEX: u8 = STEPS.len() as u8 - 1;

/// Where the index goes from each index, for the three lower bits of a code.
const NEXT_INDEX: [[u8; 8]; STEPS.len()] = {
    let mut table = [[0; 8]; STEPS.len()];
    let mut entry = 0;
    while entry < 8 * STEPS.len() {
        let next = (entry / 8) as i32 + INDEX_STEPS[entry % 8] as i32;
        let next = if next < 0 { 0 } else { next };
        table[entry / 8][entry % 8] = if next > MAX_STEP_INDEX as i32 { MAX_STEP_INDEX } else { next as u8 };
        entry += 1;
    }
    table
};

/// What a code adds to the predictor, for each index.
const DIFFERENCES: [[i32; 16]; STEPS.len()] = {
    let mut table = [[0; 16]; STEPS.len()];
    let mut entry = 0;
    while entry < 16 * STEPS.len() {
        let (step, code) = (STEPS[entry / 16] as i32, entry % 16);
        // Every part is rounded down by itself.
        let mut difference = step >> 3;
        difference += if code & 4 == 0 { 0 } else { step };
        difference += if code & 2 == 0 { 0 } else { step >> 1 };
        difference += if code & 1 == 0 { 0 } else { step >> 2 };
        table[entry / 16][code] = if code & 8 == 0 { difference } else { -difference };
        entry += 1;
    }
    table
};

/// What coder and decoder remember between two samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The last decoded sample.
    predictor: i16,
    /// The place of the current step in the table, 0 to [`MAX_STEP_INDEX`].
    step_index: u8,
}

impl State {
    /// Create a state, or None if the index is not in the table.
    #[must_use]
    pub fn new(predictor: i16, step_index: u8) -> Option<Self> {
        (step_index <= MAX_STEP_INDEX).then_some(Self { predictor, step_index })
    }

    /// Return the last decoded sample.
    #[must_use]
    pub fn predictor(self) -> i16 {
        self.predictor
    }

    /// Return the place of the current step in the table.
    #[must_use]
    pub fn step_index(self) -> u8 {
        self.step_index
    }

    /// Decode the lower 4 bits of a code.
    #[inline]
    pub fn decode(&mut self, code: u8) -> i16 {
        let difference = DIFFERENCES[usize::from(self.step_index)][usize::from(code & 15)];
        self.advance(i32::from(self.predictor) + difference, code);
        self.predictor
    }

    /// Encode a sample in the lower 4 bits of a code.
    #[inline]
    pub fn encode(&mut self, sample: i16) -> u8 {
        let step = u32::from(STEPS[usize::from(self.step_index)].unsigned_abs());
        let difference = i32::from(sample) - i32::from(self.predictor);
        let (mut rest, mut code) = (difference.unsigned_abs(), 0);
        for (bit, shift) in [(4, 0), (2, 1), (1, 2)] {
            let part = step >> shift;
            code |= if rest >= part { bit } else { 0 };
            // A difference below zero is a large number here: no branch is needed, whose outcome nobody could foretell.
            rest = rest.min(rest.wrapping_sub(part));
        }
        // The decoder misses the rest, and adds half of the smallest part.
        let error = (step >> 3) as i32 - rest as i32;
        let (error, code) = if difference < 0 { (-error, code | 8) } else { (error, code) };
        self.advance(i32::from(sample) + error, code);
        code
    }

    #[inline]
    fn advance(&mut self, predictor: i32, code: u8) {
        self.predictor = predictor.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16;
        self.step_index = NEXT_INDEX[usize::from(self.step_index)][usize::from(code & 7)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_out_of_the_table_is_refused() {
        assert_eq!(State::new(-3, 88).map(|state| (state.predictor(), state.step_index())), Some((-3, 88)));
        assert_eq!(State::new(0, 89), None);
    }

    #[test]
    fn a_jump_is_followed_in_growing_steps() {
        let (mut sent, mut received) = (State::default(), State::default());
        let codes: Vec<u8> = [30_000; 40].into_iter().map(|sample| sent.encode(sample)).collect();
        let decoded: Vec<i16> = codes.iter().map(|code| received.decode(*code)).collect();
        assert_eq!(codes[..4], [7; 4]);
        assert_eq!(sent, received);
        assert!((i32::from(decoded[39]) - 30_000).abs() < 200, "{decoded:?}");
    }

    #[test]
    fn coder_and_decoder_stay_together_from_every_state() {
        for step_index in 0..=MAX_STEP_INDEX {
            for predictor in [i16::MIN, -1000, -1, 0, 7, 20_000, i16::MAX] {
                for sample in (i16::MIN..=i16::MAX).step_by(97) {
                    let start = State::new(predictor, step_index).expect("valid");
                    let (mut sent, mut received) = (start, start);
                    let code = sent.encode(sample);
                    received.decode(code);
                    assert_eq!(sent, received, "{start:?} {sample}");
                }
            }
        }
    }

    #[test]
    fn predictor_saturates() {
        let mut state = State::new(i16::MAX - 1, 88).expect("valid");
        assert_eq!(state.decode(7), i16::MAX);
        let mut state = State::new(i16::MIN + 1, 88).expect("valid");
        assert_eq!((state.decode(15), state.step_index()), (i16::MIN, 88));
    }
}
