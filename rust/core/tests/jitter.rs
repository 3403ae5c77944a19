//! What the jitter buffer promises whatever comes: no allocation, no trace after a reset, no sample lost or repeated.

use proptest::prelude::*;
use speechwire_core::jitter::{JitterBuffer, JitterOptions, Kind, Mode};

fn buffer(sample_rate: u32, frame_ms: f64, mode: Mode) -> JitterBuffer {
    let options = JitterOptions { sample_rate, frame_ms, mode, loss_price_ms: 100.0, drop_late: false, start_ms: 0.0 };
    JitterBuffer::new(&options).expect("valid options")
}

/// A vowel with a period of 8 ms, in words with pauses between them.
fn speech(sample_rate: u32, num_samples: usize) -> Vec<u8> {
    let period = sample_rate as usize / 125;
    let word = sample_rate as usize * 7 / 10;
    let sample = |index: usize| {
        let (phase, loudness) = (index % period * 16_000 / period, (index % word * 4 / word).min(2) as i32);
        ((8000 - phase as i32) * loudness / 2) as i16
    };
    (0..num_samples).flat_map(|index| sample(index).to_le_bytes()).collect()
}

/// The bytes of so many samples from a place on; the speech begins anew where it ends.
fn cut(speech: &[u8], place: u64, num_samples: usize) -> &[u8] {
    let from = 2 * (place as usize % (speech.len() / 2 - num_samples));
    &speech[from..from + 2 * num_samples]
}

/// Live through a minute of a bad network, or of hasty answers.
fn live(buffer: &mut JitterBuffer, speech: &[u8], mode: Mode) -> usize {
    let size = buffer.frame_size();
    let mut heard = 0;
    for tick in 0..3000_u64 {
        let now = tick as f64 * 0.02;
        let first = match tick % 500 {
            // A stall, then all of it at once; and a loss every now and then.
            200..=219 => continue,
            220 => tick - 20,
            _ => tick,
        };
        for index in first..=tick {
            let place = index * size as u64;
            if mode == Mode::Playout && index % 4 == 0 && tick % 500 < 400 {
                buffer.push(0, place as u32, cut(speech, place, 4 * size), now).expect("room");
            }
            if mode == Mode::Network && index % 17 != 0 {
                buffer.push(index as u16, place as u32, cut(speech, place, size), now).expect("a packet");
            }
        }
        match tick % 500 {
            420 => buffer.finish(),
            490 => buffer.clear(),
            _ => {}
        }
        heard += usize::from(buffer.pop(now).expect("a time").kind != Kind::Silence);
    }
    heard
}

#[test]
fn nothing_is_allocated_after_construction() {
    for mode in [Mode::Network, Mode::Playout] {
        for (sample_rate, frame_ms) in [(8000, 20.0), (16_000, 10.0), (48_000, 60.0)] {
            let speech = speech(sample_rate, 4 * sample_rate as usize);
            let mut buffer = buffer(sample_rate, frame_ms, mode);
            let mut heard = 0;
            let count = allocation_counter::measure(|| heard = live(&mut buffer, &speech, mode)).count_total;
            assert_eq!(count, 0, "{mode:?} at {sample_rate} Hz");
            assert!(heard > 1000);
            assert!(buffer.stats().concealed_samples > 0 || mode == Mode::Playout);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push { ahead: i8, num_samples: usize },
    Jump { seq: u16, timestamp: u32 },
    Pop(u8),
    Wait(f64),
    Clear,
    Finish,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (-3_i8..6, 0_usize..4000).prop_map(|(ahead, num_samples)| Step::Push { ahead, num_samples }),
        1 => any::<(u16, u32)>().prop_map(|(seq, timestamp)| Step::Jump { seq, timestamp }),
        8 => (1_u8..6).prop_map(Step::Pop),
        2 => prop_oneof![-0.1..0.3, -1e6..1e9].prop_map(Step::Wait),
        1 => Just(Step::Clear),
        1 => Just(Step::Finish),
    ]
}

/// A frame and what is said of it.
type Popped = (Vec<i16>, Kind, Option<i64>, [usize; 3]);

/// Take the steps and return what came out.
fn take(buffer: &mut JitterBuffer, steps: &[Step], speech: &[u8]) -> Vec<Popped> {
    let (mut seq, mut timestamp, mut now) = (0_u16, 0_u32, 0.0);
    let size = buffer.frame_size();
    let mut frames = Vec::new();
    for step in steps {
        match *step {
            Step::Push { ahead, num_samples } => {
                let seq_then = seq.wrapping_add_signed(i16::from(ahead));
                let then = timestamp.wrapping_add_signed(i32::from(ahead) * size as i32);
                // A full buffer refuses, which is as it should be.
                let _ = buffer.push(seq_then, then, cut(speech, u64::from(then), num_samples), now);
                (seq, timestamp) = (seq_then.wrapping_add(1), then.wrapping_add(num_samples as u32));
            }
            Step::Jump { seq: to_seq, timestamp: to } => (seq, timestamp) = (to_seq, to),
            Step::Pop(count) => {
                for _ in 0..count {
                    now += 0.02;
                    let frame = buffer.pop(now).expect("a time");
                    assert_eq!(frame.pcm.len(), size);
                    assert!(frame.concealed <= size);
                    let counts = [frame.concealed, frame.accelerated, frame.expanded];
                    frames.push((frame.pcm.to_vec(), frame.kind, frame.timestamp, counts));
                }
            }
            Step::Wait(seconds) => now = (now + seconds).clamp(-1e10, 1e10 - 10.0),
            Step::Clear => buffer.clear(),
            Step::Finish => buffer.finish(),
        }
    }
    frames
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn after_a_reset_it_is_as_new(
        before in prop::collection::vec(step(), 1..40),
        after in prop::collection::vec(step(), 1..60),
        sample_rate in (80_u32..=480).prop_map(|rate| rate * 100),
        frame_ms in prop::sample::select(vec![10.0, 20.0, 30.0, 60.0]),
        mode in prop::sample::select(vec![Mode::Network, Mode::Playout]),
    ) {
        let speech = speech(sample_rate, sample_rate as usize);
        let mut used = buffer(sample_rate, frame_ms, mode);
        take(&mut used, &before, &speech);
        used.reset();
        let mut new = buffer(sample_rate, frame_ms, mode);
        prop_assert_eq!(take(&mut used, &after, &speech), take(&mut new, &after, &speech));
        prop_assert_eq!(used.stats(), new.stats());
    }

    #[test]
    fn every_sample_that_came_is_played_once(
        packets in prop::collection::vec((1_usize..9, 0.0..60.0, prop::bool::weighted(0.03)), 50..300),
        sample_rate in prop::sample::select(vec![8000_u32, 16_000, 24_000, 48_000]),
        frame_ms in prop::sample::select(vec![10.0, 20.0, 30.0, 60.0]),
        drift in -500e-6..500e-6,
        pops in prop::collection::vec(-5.0..5.0, 16),
        mode in prop::sample::select(vec![Mode::Network, Mode::Playout]),
    ) {
        let speech = speech(sample_rate, 5 * sample_rate as usize);
        let mut buffer = buffer(sample_rate, frame_ms, mode);
        let size = buffer.frame_size() as i64;
        // Packets of 10 to 80 ms in their order, each late by up to 60 ms and some by a second.
        let (mut arrivals, mut place, mut latest) = (Vec::new(), 0, 0.0_f64);
        for (index, (tens, late_ms, is_stalled)) in packets.iter().enumerate() {
            let num_samples = tens * sample_rate as usize / 100;
            let late_s = if *is_stalled { 1.0 } else { late_ms / 1000.0 };
            latest = latest.max(place as f64 / f64::from(sample_rate) * (1.0 + drift) + late_s);
            arrivals.push((latest, index as u16, place, num_samples));
            place += num_samples as u64;
        }
        let mut waiting = arrivals.into_iter().peekable();
        let mut played = 0;
        for tick in 0.. {
            let now = (f64::from(tick) * frame_ms + pops[tick as usize % pops.len()]) / 1000.0;
            while let Some((at, seq, place, num_samples)) = waiting.next_if(|packet| packet.0 <= now) {
                // Both counters wrap on the way.
                let timestamp = (u64::from(u32::MAX) - 4000 + place) as u32;
                buffer.push(seq.wrapping_sub(20), timestamp, cut(&speech, place, num_samples), at).expect("room");
            }
            let frame = buffer.pop(now).expect("a time");
            let made = (frame.concealed + frame.expanded) as i64 - frame.accelerated as i64;
            if let Some(timestamp) = frame.timestamp {
                let end = timestamp - i64::from(u32::MAX) + 4000;
                prop_assert_eq!(end - played, size - made, "in the frame at {} s", now);
                played = end;
            }
            if now > latest + 5.0 {
                break;
            }
        }
        prop_assert_eq!(played, place as i64);
        prop_assert_eq!(buffer.stats().num_late, 0);
        prop_assert_eq!(buffer.stats().num_lost, 0);
    }
}
