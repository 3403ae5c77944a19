//! IMA ADPCM stays within its ranges from every state, and audioop's functions agree with the coder, at every width.

#![no_main]

use libfuzzer_sys::fuzz_target;
use speechwire_core::adpcm::{MAX_STEP_INDEX, State};
use speechwire_core::audioop::{Fragment, Width, decode_adpcm_into};

const WIDTHS: [Width; 4] = [Width::One, Width::Two, Width::Three, Width::Four];

/// Decode with the coder itself, the upper half of each byte first.
fn decode(codes: &[u8], mut state: State) -> (Vec<i16>, State) {
    let pcm = codes.iter().flat_map(|code| [state.decode(code >> 4), state.decode(*code)]).collect();
    (pcm, state)
}

fuzz_target!(|data: &[u8]| {
    let [low, high, step_index, data @ ..] = data else { return };
    let start = State::new(i16::from_le_bytes([*low, *high]), *step_index);
    assert_eq!(start.is_some(), *step_index <= MAX_STEP_INDEX);
    let Some(start) = start else { return };

    let (pcm, end) = decode(data, start);
    assert!(end.step_index() <= MAX_STEP_INDEX);
    assert_eq!(end.predictor(), pcm.last().copied().unwrap_or(start.predictor()));
    for width in WIDTHS {
        let num_bytes = width as usize;
        let mut output = vec![0xEE; 2 * num_bytes * data.len()];
        assert_eq!(decode_adpcm_into(data, width, start, &mut output), end);
        for (sample, expected) in output.chunks_exact(num_bytes).zip(&pcm) {
            let top = expected.to_le_bytes();
            assert!(sample.ends_with(if width == Width::One { &top[1..] } else { &top }));
        }

        // The decoder hears what the coder believes it to hear.
        let samples = &data[..data.len() / (2 * num_bytes) * 2 * num_bytes];
        let fragment = Fragment::new(samples, width as i32).expect("whole samples");
        let mut codes = vec![0; fragment.num_samples() / 2];
        let sent = fragment.encode_adpcm_into(start, &mut codes);
        assert_eq!(decode(&codes, start).1, sent);
        // A last sample without a second one is in the state only.
        let odd = &data[..data.len() / num_bytes * num_bytes];
        let odd = Fragment::new(odd, width as i32).expect("whole samples");
        let mut odd_codes = vec![0; odd.num_samples() / 2];
        odd.encode_adpcm_into(start, &mut odd_codes);
        assert_eq!(odd_codes[..codes.len()], codes);
    }
});
