//! Whatever is pushed, popped, cleared and reset, with whatever numbers and clocks, frames are whole and twice the same.

#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use speechwire_core::jitter::{JitterBuffer, JitterOptions, Mode};

#[derive(Arbitrary, Debug)]
enum Moved {
    /// Less than a frame.
    Little(u8),
    /// Up to a minute, forward or back.
    Much(i16),
    /// Anything at all.
    Whatever(f64),
}

#[derive(Arbitrary, Debug)]
enum Step {
    /// The packet that follows the last one, so many packets later.
    Next(i8, Moved),
    Push { seq: u16, timestamp: u32, num_samples: u16, moved: Moved },
    Pop(Moved),
    PopMany(u8),
    Clear,
    Finish,
    Reset,
}

#[derive(Arbitrary, Debug)]
struct Session<'a> {
    rate: u8,
    frame: u8,
    is_playout: bool,
    drop_late: bool,
    sound: &'a [u8],
    steps: Vec<Step>,
}

/// The buffer, and the clocks of both ends.
struct Run {
    buffer: JitterBuffer,
    sample_rate: u32,
    packet: Vec<u8>,
    now: f64,
    next: (u16, u32),
}

impl Run {
    fn move_on(&mut self, moved: &Moved) {
        self.now += match moved {
            Moved::Little(parts) => f64::from(*parts) / 255.0 * 0.02,
            Moved::Much(ms) => f64::from(*ms) / 500.0,
            Moved::Whatever(seconds) => *seconds,
        };
    }

    fn push(&mut self, seq: u16, timestamp: u32, num_samples: usize) {
        let pcm = self.packet.get(..2 * num_samples).unwrap_or(&self.packet);
        let is_taken = self.buffer.push(seq, timestamp, pcm, self.now).is_ok();
        assert!(is_taken || self.now.is_nan() || self.now.abs() > 1e10 || self.buffer.stats().num_received > 0);
    }

    fn pop(&mut self) -> Option<(Vec<i16>, [usize; 3])> {
        let frame_size = self.buffer.frame_size();
        let frame = self.buffer.pop(self.now).ok()?;
        assert_eq!(frame.pcm.len(), frame_size);
        // What is missing, and what is put in: about a frame, or a period of a low voice where that is longer.
        assert!(frame.concealed + frame.expanded <= 2 * frame_size + self.sample_rate as usize / 40);
        assert!(frame.concealed <= frame_size);
        Some((frame.pcm.to_vec(), [frame.concealed, frame.accelerated, frame.expanded]))
    }

    fn take(&mut self, step: &Step) -> Vec<Option<(Vec<i16>, [usize; 3])>> {
        match step {
            Step::Next(ahead, moved) => {
                self.move_on(moved);
                let packet = self.buffer.frame_size();
                let seq = self.next.0.wrapping_add_signed(i16::from(*ahead));
                let timestamp = self.next.1.wrapping_add_signed(i32::from(*ahead) * packet as i32);
                self.push(seq, timestamp, packet);
                self.next = (seq.wrapping_add(1), timestamp.wrapping_add(packet as u32));
            }
            Step::Push { seq, timestamp, num_samples, moved } => {
                self.move_on(moved);
                self.push(*seq, *timestamp, usize::from(*num_samples));
            }
            Step::Pop(moved) => {
                self.move_on(moved);
                return vec![self.pop()];
            }
            Step::PopMany(count) => {
                let mut popped = Vec::new();
                for _ in 0..*count {
                    self.now += 0.02;
                    popped.push(self.pop());
                }
                return popped;
            }
            Step::Clear => self.buffer.clear(),
            Step::Finish => self.buffer.finish(),
            Step::Reset => self.buffer.reset(),
        }
        Vec::new()
    }
}

fuzz_target!(|session: Session<'_>| {
    let sample_rate = [8000, 16_000, 24_000, 48_000][usize::from(session.rate % 4)];
    let frame_ms = [5.0, 10.0, 20.0, 30.0, 60.0][usize::from(session.frame % 5)];
    let mode = if session.is_playout { Mode::Playout } else { Mode::Network };
    let options =
        JitterOptions { sample_rate, frame_ms, mode, loss_price_ms: 100.0, drop_late: session.drop_late, start_ms: 20.0 };
    let mut packet: Vec<u8> = session.sound.iter().copied().cycle().take(2 * 4096).collect();
    packet.truncate(packet.len() / 2 * 2);
    let run = || Run {
        buffer: JitterBuffer::new(&options).expect("valid"),
        sample_rate,
        packet: packet.clone(),
        now: 0.0,
        next: (0, 0),
    };
    let (mut run, mut again) = (run(), run());
    for step in &session.steps {
        assert_eq!(run.take(step), again.take(step));
    }
});
