//! What is about to be played: received samples, the queue before the loudspeaker, and what is done to them.

use super::conceal::{Ahead, Concealer};
use super::level::{Level, energy};
use super::store::Store;
use super::stretch::Stretcher;

/// How much of what was played is kept for time-stretching, and looked at ahead of a gap, in milliseconds.
const HISTORY_MS: usize = 40;
/// How much may be in the queue at a time, in milliseconds, besides a few frames.
const QUEUE_MS: usize = 200;

/// The longest fade into silence, and out of it where speech was cut off, in milliseconds.
const FADE_MS: usize = 5;

/// How a frame came about, in samples.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Made {
    /// Stand for speech that is missing.
    pub concealed: usize,
    /// Were put in between speech.
    pub expanded: usize,
    /// Were taken out.
    pub accelerated: usize,
    /// Were made up, for whatever reason.
    pub invented: usize,
}

/// The samples between the network and the loudspeaker.
pub(super) struct Line {
    pub store: Store,
    pub level: Level,
    /// The place of the end of the queue.
    position: i64,
    queue: Vec<i16>,
    history: Box<[i16]>,
    ahead: Vec<i16>,
    output: Box<[i16]>,
    concealer: Concealer,
    stretcher: Stretcher,
    is_in_pause: bool,
    fade: usize,
    /// How many samples are still to be faded in.
    rising: usize,
}

impl Line {
    pub(super) fn new(sample_rate: u32, frame_size: usize, capacity: usize) -> Self {
        let samples = |ms: usize| (sample_rate as usize * ms).div_ceil(1000);
        Self {
            store: Store::new(capacity),
            level: Level::new(),
            position: 0,
            queue: Vec::with_capacity(samples(QUEUE_MS) + 4 * frame_size),
            history: vec![0; samples(HISTORY_MS)].into(),
            ahead: Vec::with_capacity(samples(HISTORY_MS)),
            output: vec![0; frame_size].into(),
            concealer: Concealer::new(sample_rate),
            stretcher: Stretcher::new(sample_rate),
            is_in_pause: false,
            fade: sample_rate as usize * FADE_MS / 1000,
            rising: 0,
        }
    }

    pub(super) fn frame_size(&self) -> usize {
        self.output.len()
    }

    /// The place of the sample that follows the queue.
    pub(super) fn position(&self) -> i64 {
        self.position
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Whether nobody spoke in the last frame.
    pub(super) fn is_in_pause(&self) -> bool {
        self.is_in_pause
    }

    /// Whether nobody speaks in what is queued.
    pub(super) fn is_queue_pause(&self) -> bool {
        self.level.is_pause(energy(&self.queue))
    }

    /// Forget what is held and queued, and go on at `position`.
    pub(super) fn restart(&mut self, position: i64) {
        self.store.restart(position);
        self.queue.clear();
        self.position = position;
        self.rising = 0;
    }

    /// Forget everything.
    pub(super) fn reset(&mut self) {
        self.restart(0);
        self.level = Level::new();
        self.history.fill(0);
        self.concealer.reset();
        self.is_in_pause = false;
    }

    /// Queue received samples until there are `wanted` or no more; return whether there are.
    pub(super) fn fetch(&mut self, wanted: usize) -> bool {
        while self.queue.len() < wanted {
            // Whole frames where there are: what is left in the queue is held in vain.
            let count = self.store.run(self.position, self.frame_size());
            if count == 0 {
                return false;
            }
            self.take(count);
        }
        true
    }

    /// Queue `count` received samples, which have to be there.
    pub(super) fn take(&mut self, count: usize) {
        let start = self.queue.len();
        self.queue.resize(start + count, 0);
        self.store.copy_to(self.position, &mut self.queue[start..]);
        let full = self.fade as f32;
        for sample in self.queue[start..].iter_mut().take(self.rising) {
            *sample = (f32::from(*sample) * (1.0 - self.rising as f32 / full)) as i16;
            self.rising -= 1;
        }
        self.concealer.play(&mut self.queue[start..]);
        self.skip_to(self.position + count as i64);
    }

    /// Go on at `position`.
    pub(super) fn skip_to(&mut self, position: i64) {
        self.store.advance(position);
        self.position = position;
    }

    /// Queue `count` made-up samples, which lead into the speech at `next` where that is known: (how far it is, where).
    pub(super) fn conceal(&mut self, count: usize, next: Option<(usize, i64)>) {
        let start = self.queue.len();
        self.queue.resize(start + count, 0);
        let ahead = next.map(|(gap, place)| {
            let len = self.store.run(place, self.history.len());
            self.ahead.resize(len, 0);
            self.store.copy_to(place, &mut self.ahead);
            Ahead { gap, speech: &self.ahead }
        });
        self.concealer.conceal(&mut self.queue[start..], ahead);
    }

    /// Queue `count` zeros.
    pub(super) fn pad(&mut self, count: usize) {
        let start = self.queue.len();
        self.queue.resize(start + count, 0);
        self.concealer.play(&mut self.queue[start..]);
    }

    /// Take about `want` samples out of the queue and return how many.
    pub(super) fn compress(&mut self, want: usize, is_pause: bool, is_urgent: bool) -> usize {
        self.stretcher.compress(&self.history, &mut self.queue, want, is_pause, is_urgent)
    }

    /// Put about `want` samples into the queue and return how many.
    pub(super) fn stretch(&mut self, want: usize, is_pause: bool) -> usize {
        self.stretcher.stretch(&self.history, &mut self.queue, want, is_pause)
    }

    /// Move a frame out of the queue, which has to hold one.
    pub(super) fn emit(&mut self) {
        let size = self.output.len();
        self.output.copy_from_slice(&self.queue[..size]);
        self.queue.drain(..size);
        let fresh = size.min(self.history.len());
        self.history.copy_within(fresh.., 0);
        let kept = self.history.len() - fresh;
        self.history[kept..].copy_from_slice(&self.output[size - fresh..]);
    }

    /// Learn from the frame that was moved out last whether somebody speaks.
    pub(super) fn listen(&mut self) {
        self.is_in_pause = self.level.is_pause(energy(&self.output));
    }

    /// Make a silent frame, which speech that `is_cut_off` or ran out fades into.
    pub(super) fn fall_silent(&mut self, is_cut_off: bool) {
        self.output.fill(0);
        let has_run_out = self.concealer.is_concealing();
        if is_cut_off || has_run_out {
            let head = &mut self.output[..self.fade];
            self.concealer.conceal(head, None);
            let len = head.len() as f32;
            for (index, sample) in head.iter_mut().enumerate() {
                let gain = 1.0 - (index + 1) as f32 / len;
                *sample = (f32::from(*sample) * gain) as i16;
            }
            self.concealer.reset();
            // What goes on in the midst of speech comes in as it went.
            self.rising = if is_cut_off { 0 } else { self.fade };
        }
    }

    pub(super) fn output(&self) -> &[i16] {
        &self.output
    }
}
