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
        let step = i32::from(STEPS[usize::from(self.step_index)]);
        let mut difference = step >> 3;
        for (bit, shift) in [(4, 0), (2, 1), (1, 2)] {
            if code & bit != 0 {
                difference += step >> shift;
            }
        }
        let difference = if code & 8 == 0 { difference } else { -difference };
        let predictor = i32::from(self.predictor) + difference;
        self.predictor = predictor.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16;
        let step_index = self.step_index as i8 + INDEX_STEPS[usize::from(code & 7)];
        self.step_index = step_index.clamp(0, MAX_STEP_INDEX as i8) as u8;
        self.predictor
    }

    /// Encode a sample in the lower 4 bits of a code.
    #[inline]
    pub fn encode(&mut self, sample: i16) -> u8 {
        let step = i32::from(STEPS[usize::from(self.step_index)]);
        let difference = i32::from(sample) - i32::from(self.predictor);
        let mut rest = difference.abs();
        let mut code = if difference < 0 { 8 } else { 0 };
        for (bit, shift) in [(4, 0), (2, 1), (1, 2)] {
            if rest >= step >> shift {
                code |= bit;
                rest -= step >> shift;
            }
        }
        self.decode(code);
        code
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
    fn predictor_saturates() {
        let mut state = State::new(i16::MAX - 1, 88).expect("valid");
        assert_eq!(state.decode(7), i16::MAX);
        let mut state = State::new(i16::MIN + 1, 88).expect("valid");
        assert_eq!((state.decode(15), state.step_index()), (i16::MIN, 88));
    }
}
