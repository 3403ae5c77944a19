//! Time scaling of what is about to be played, by whole pitch periods.

use super::pitch::{PitchSearch, correlation};

/// Two stretches of speech this much alike may be faded into each other.
const ALIKE: f32 = 0.8;
/// The same where delay has to go at once.
const ALIKE_URGENT: f32 = 0.5;
/// Longest cross-fade, in ms.
const FADE_MS: usize = 10;

/// Takes pitch periods out of a queue of samples, or puts some in.
pub(super) struct Stretcher {
    search: PitchSearch,
    fade: usize,
    /// What was played last, then the queue.
    line: Vec<f32>,
}

/// A jump within the line, from `at` to `to`, with a cross-fade of `fade` samples from `at` and `to` on.
struct Jump {
    at: usize,
    to: usize,
    fade: usize,
    alike: f32,
}

impl Stretcher {
    pub(super) fn new(sample_rate: u32) -> Self {
        let rate = (sample_rate as usize).clamp(8000, 48000);
        Self { search: PitchSearch::new(rate), fade: rate * FADE_MS / 1000, line: Vec::with_capacity(rate / 5) }
    }

    /// Take out about `want` samples near the head of `queue`: whole pitch periods, or exactly `want` if `passive`.
    ///
    /// Returns how many samples are gone, 0 where that would be heard or the queue is too short.
    pub(super) fn compress(
        &mut self,
        history: &[i16],
        queue: &mut Vec<i16>,
        want: usize,
        passive: bool,
        urgent: bool,
    ) -> usize {
        let head = self.lay(history, queue);
        let Some(jump) =
            self.find(head, want, passive, urgent, |line, at, lag, fade| (at + lag + fade <= line).then_some(at + lag))
        else {
            return 0;
        };
        let taken = jump.to - jump.at;
        let at = jump.at - head;
        self.fade_into(&jump, &mut queue[at + taken..]);
        queue.copy_within(at + taken.., at);
        queue.truncate(queue.len() - taken);
        taken
    }

    /// Put in about `want` samples near the head of `queue`: whole pitch periods, or exactly `want` if `passive`.
    ///
    /// Returns how many samples were put in, 0 where that would be heard or the queue has no room for them.
    pub(super) fn stretch(
        &mut self,
        history: &[i16],
        queue: &mut Vec<i16>,
        want: usize,
        passive: bool,
        urgent: bool,
    ) -> usize {
        let room = queue.capacity() - queue.len();
        let head = self.lay(history, queue);
        let Some(jump) = self.find(head, want, passive, urgent, |line, at, lag, fade| {
            (lag <= at.min(room) && at + fade <= line).then(|| at - lag)
        }) else {
            return 0;
        };
        let put = jump.at - jump.to;
        let at = jump.at - head;
        let end = queue.len();
        queue.resize(end + put, 0);
        queue.copy_within(at..end, at + put);
        // What is repeated may begin before the queue, so it is written from the line.
        for (sample, &again) in queue[at..at + put].iter_mut().zip(&self.line[jump.to..]) {
            *sample = again as i16;
        }
        self.fade_into(&jump, &mut queue[at..]);
        put
    }

    /// Lay out history and queue in one line and return where the queue begins.
    fn lay(&mut self, history: &[i16], queue: &[i16]) -> usize {
        let reach = 2 * self.search.longest;
        let history = &history[history.len().saturating_sub(reach)..];
        let queue = &queue[..queue.len().min(self.line.capacity() - history.len())];
        self.line.clear();
        self.line.extend(history.iter().chain(queue).map(|&sample| f32::from(sample)));
        history.len()
    }

    /// Find the jump that is heard least. `target` says where a jump of `lag` at `at` leads, if it may be made.
    fn find(
        &mut self,
        head: usize,
        want: usize,
        passive: bool,
        urgent: bool,
        target: impl Fn(usize, usize, usize, usize) -> Option<usize>,
    ) -> Option<Jump> {
        let line = self.line.len();
        let queued = line - head;
        if want == 0 || queued == 0 {
            return None;
        }
        let shortest = self.search.shortest;
        if passive {
            let fade =
                (shortest / 2..=self.fade.min(queued)).rev().find(|&fade| target(line, head, want, fade).is_some())?;
            let to = target(line, head, want, fade)?;
            let alike = correlation(&self.line[head..head + fade], &self.line[to..to + fade]);
            return Some(Jump { at: head, to, fade, alike });
        }
        let window = self.fade.min(line / 2) * 2;
        let period = self.search.at_end(&self.line, window);
        let most = (want / period.lag).max(1);
        let threshold = if urgent { ALIKE_URGENT } else { ALIKE };
        let around = (shortest / 8).max(1);
        for periods in (1..=most).rev() {
            let mut best: Option<Jump> = None;
            let middle = period.lag * periods;
            let step = (shortest / 2).max(1);
            for at in (head..line).step_by(step) {
                for lag in middle.saturating_sub(around)..=middle + around {
                    let Some(fade) = [self.fade, self.fade / 2, shortest]
                        .into_iter()
                        .find(|&fade| target(line, at, lag, fade).is_some())
                    else {
                        continue;
                    };
                    let to = target(line, at, lag, fade)?;
                    let alike = correlation(&self.line[at..at + fade], &self.line[to..to + fade]);
                    if alike > best.as_ref().map_or(threshold, |best| best.alike) {
                        best = Some(Jump { at, to, fade, alike });
                    }
                }
            }
            if best.is_some() {
                return best;
            }
        }
        None
    }

    /// Write the cross-fade of a jump.
    fn fade_into(&self, jump: &Jump, out: &mut [i16]) {
        let alike = jump.alike.clamp(0.0, 1.0);
        let pairs = self.line[jump.at..].iter().zip(&self.line[jump.to..]);
        for (index, (sample, (&from, &to))) in out.iter_mut().zip(pairs).take(jump.fade).enumerate() {
            let weight = (index as f32 + 0.5) / jump.fade as f32;
            let rest = 1.0 - weight;
            // Unlike signals would lose power in the middle of a plain cross-fade.
            let power = (rest * rest + weight * weight + 2.0 * alike * rest * weight).sqrt();
            *sample = ((from * rest + to * weight) / power).round() as i16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A voice of one pitch: `samples` samples of pulses through a resonance, at 8 kHz.
    fn voice(period: usize, samples: usize) -> Vec<i16> {
        let (mut one, mut two) = (0.0f32, 0.0f32);
        let mut voice = Vec::with_capacity(samples);
        for index in 0..samples {
            let pulse = if index % period == 0 { 4000.0 } else { 0.0 };
            let next = pulse + 1.6 * one - 0.81 * two;
            (one, two) = (next, one);
            voice.push(next as i16);
        }
        voice
    }

    fn room(samples: &[i16]) -> Vec<i16> {
        let mut queue = Vec::with_capacity(samples.len() + 960);
        queue.extend_from_slice(samples);
        queue
    }

    #[test]
    fn takes_out_whole_periods_of_a_voice() {
        let voice = voice(57, 1600);
        for (want, taken) in [(57, 57), (80, 57), (130, 114)] {
            let mut queue = room(&voice[800..1200]);
            assert_eq!(Stretcher::new(8000).compress(&voice[..800], &mut queue, want, false, false), taken);
            let expected = [&voice[800..800], &voice[800 + taken..1200]].concat();
            assert!(queue.iter().zip(&expected).all(|(left, right)| left.abs_diff(*right) < 40));
            assert_eq!(queue.len(), 400 - taken);
        }
    }

    #[test]
    fn puts_a_period_into_a_single_frame() {
        let voice = voice(57, 1600);
        let mut queue = room(&voice[800..960]);
        assert_eq!(Stretcher::new(8000).stretch(&voice[..800], &mut queue, 60, false, false), 57);
        let expected = &voice[800 - 57..960];
        assert!(queue.iter().zip(expected).all(|(left, right)| left.abs_diff(*right) < 40));
        assert_eq!(queue.len(), 217);
    }

    #[test]
    fn silence_changes_by_exactly_what_is_wanted() {
        let history = [0; 512];
        for want in 1..150 {
            let mut queue = room(&[0; 160]);
            assert_eq!(Stretcher::new(8000).compress(&history, &mut queue, want, true, false), want);
            assert_eq!(queue, vec![0; 160 - want]);
            assert_eq!(Stretcher::new(8000).stretch(&history, &mut queue, want, true, false), want);
            assert_eq!(queue, vec![0; 160]);
        }
    }

    proptest! {
        #[test]
        fn any_call_keeps_the_count(
            rate in 8000u32..=48_000,
            history in proptest::collection::vec(any::<i16>(), 0..3200),
            queue in proptest::collection::vec(any::<i16>(), 0..6000),
            want in 0usize..3000,
            flags in 0..8,
        ) {
            let (passive, urgent, compress) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
            let mut stretcher = Stretcher::new(rate);
            let mut result = room(&queue);
            let capacity = result.capacity();
            let changed = if compress {
                stretcher.compress(&history, &mut result, want, passive, urgent)
            } else {
                stretcher.stretch(&history, &mut result, want, passive, urgent)
            };
            prop_assert!(!passive || changed == 0 || changed == want);
            prop_assert_eq!(result.len(), if compress { queue.len() - changed } else { queue.len() + changed });
            prop_assert_eq!(result.capacity(), capacity);
        }
    }
}
