//! How long the jitter buffer takes for one packet and one frame: the usual case, and the slowest per cent of the others.
//!
//! A mean would hide what a frame that is concealed costs, so this measures each call by itself, and repeats all of it to
//! leave out what the machine did meanwhile: of every call, the fastest of the repeats counts.

// A bench has a main, and prints.
#![allow(missing_docs, clippy::print_stdout)]

use speechwire_core::jitter::{JitterBuffer, JitterOptions, Kind, Mode};
use std::hint::black_box;
use std::time::Instant;

const NUM_PACKETS: usize = 20_000;
const NUM_REPEATS: usize = 9;
const SIZE: usize = 160;

/// Numbers from 0 to 1 that are the same each time.
struct Dice(u32);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(self.0 >> 8) / f64::from(1 << 24)
    }
}

/// Something like a voice that goes up and down, as little-endian samples.
fn voice() -> Vec<u8> {
    let mut phase = 0.0_f64;
    let samples = (0..NUM_PACKETS * SIZE).flat_map(|index| {
        let time = index as f64 / 8000.0;
        phase += (120.0 + 30.0 * (time * 1.3).sin()) / 8000.0;
        let loudness = ((time * 5.0).sin() + 0.7).max(0.0);
        let wave: f64 = (1..8).map(|order| (std::f64::consts::TAU * phase * f64::from(order)).sin()).sum();
        ((wave * loudness * 1500.0) as i16).to_le_bytes()
    });
    samples.collect()
}

/// Play packets that come at these times; return the nanoseconds of every push and pop, and what came out.
fn play(sound: &[u8], arrivals: &[Option<f64>]) -> (Vec<u64>, Vec<Kind>) {
    let options = JitterOptions {
        sample_rate: 8000,
        frame_ms: 20.0,
        mode: Mode::Network,
        loss_price_ms: 100.0,
        drop_late: false,
        start_ms: 0.0,
    };
    let mut buffer = JitterBuffer::new(&options).expect("valid");
    let mut order: Vec<usize> = (0..arrivals.len()).filter(|index| arrivals[*index].is_some()).collect();
    order.sort_by(|left, right| arrivals[*left].partial_cmp(&arrivals[*right]).expect("numbers"));
    let mut next = order.into_iter().peekable();
    (0..arrivals.len())
        .map(|tick| {
            let now = tick as f64 * 0.02 + 0.003;
            let started = Instant::now();
            while let Some(index) = next.next_if(|index| arrivals[*index] <= Some(now)) {
                let pcm = &sound[index * SIZE * 2..(index + 1) * SIZE * 2];
                buffer.push(index as u16, (index * SIZE) as u32, black_box(pcm), now).expect("whole samples");
            }
            let kind = black_box(buffer.pop(now).expect("a time")).kind;
            (started.elapsed().as_nanos() as u64, kind)
        })
        .unzip()
}

fn report(name: &str, mut times: Vec<u64>) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("{name:<34} {:>6} {:>8} {:>8} {:>8}", times.len(), at(0.5), at(0.99), at(1.0));
}

fn main() {
    let sound = voice();
    let mut dice = Dice(1);
    let steady: Vec<Option<f64>> = (0..NUM_PACKETS).map(|index| Some(index as f64 * 0.02)).collect();
    let mut stalled_until = 0.0;
    let shaken: Vec<Option<f64>> = (0..NUM_PACKETS)
        .map(|index| {
            let sent = index as f64 * 0.02;
            if dice.roll() < 0.01 {
                stalled_until = sent + 0.3 * dice.roll();
            }
            let came = (sent + 0.02 * dice.roll()).max(stalled_until);
            (dice.roll() > 0.05).then_some(came)
        })
        .collect();
    println!("{:<34} {:>6} {:>8} {:>8} {:>8}", "one packet and one frame, ns", "calls", "median", "p99", "most");
    for (name, arrivals) in [("steady", &steady), ("5 % lost, 20 ms jitter, stalls", &shaken)] {
        let mut fastest = vec![u64::MAX; NUM_PACKETS];
        let mut kinds = Vec::new();
        for _ in 0..NUM_REPEATS {
            let (times, played) = play(&sound, arrivals);
            fastest.iter_mut().zip(times).for_each(|(fastest, time)| *fastest = time.min(*fastest));
            kinds = played;
        }
        let of = |wanted: fn(Kind) -> bool| -> Vec<u64> {
            fastest.iter().zip(&kinds).filter(|(_, kind)| wanted(**kind)).map(|(time, _)| *time).collect()
        };
        report(name, of(|_| true));
        let changed = of(|kind| matches!(kind, Kind::Stretched | Kind::Compressed | Kind::Concealment));
        if !changed.is_empty() {
            report("  of these stretched or concealed", changed);
        }
    }
}
