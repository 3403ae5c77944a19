//! Time scaling of what is about to be played, by whole pitch periods.

use super::pitch::{PitchSearch, correlation, dot};
use crate::pcm::sample_from_units;

/// Two stretches of speech this much alike may be faded into each other.
const ALIKE: f32 = 0.85;
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
    /// Energy of the line up to each sample.
    energy: Vec<i64>,
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
        let room = rate / 5;
        Self {
            search: PitchSearch::new(rate),
            fade: rate * FADE_MS / 1000,
            line: Vec::with_capacity(room),
            energy: Vec::with_capacity(room + 1),
        }
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
        let head = self.lay(history, queue, want);
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
    pub(super) fn stretch(&mut self, history: &[i16], queue: &mut Vec<i16>, want: usize, passive: bool) -> usize {
        let room = queue.capacity() - queue.len();
        let head = self.lay(history, queue, want);
        let Some(jump) = self.find(head, want, passive, false, |line, at, lag, fade| {
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

    /// Lay out history and the head of the queue in one line and return where the queue begins.
    fn lay(&mut self, history: &[i16], queue: &[i16], want: usize) -> usize {
        let longest = self.search.longest;
        let history = &history[history.len().saturating_sub(2 * longest)..];
        let queue = &queue[..queue.len().min(2 * longest + want).min(self.line.capacity() - history.len())];
        self.line.clear();
        self.line.extend(history.iter().chain(queue).map(|&sample| f32::from(sample)));
        let mut sum = 0;
        self.energy.clear();
        self.energy.push(sum);
        self.energy.extend(history.iter().chain(queue).map(|&sample| {
            sum += i64::from(i32::from(sample) * i32::from(sample));
            sum
        }));
        history.len()
    }

    /// Say how much alike two pieces of the line are.
    fn alike(&self, one: usize, other: usize, length: usize) -> f32 {
        let energy = |at: usize| (self.energy[at + length] - self.energy[at]) as f32;
        dot(&self.line[one..one + length], &self.line[other..other + length])
            / (energy(one) * energy(other) + 1.0).sqrt()
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
        let threshold = if urgent { ALIKE_URGENT } else { ALIKE };
        let period = self.search.at_end(&self.line, self.fade);
        let around = (shortest / 8).max(1);
        let jump = |at: usize, lag: usize| {
            let fades = [self.fade, self.fade / 2, shortest];
            let (fade, to) = fades.into_iter().find_map(|fade| target(line, at, lag, fade).map(|to| (fade, to)))?;
            Some(Jump { at, to, fade, alike: self.alike(at, to, fade) })
        };
        // Several periods are worth a look only where one is sure.
        let most = if period.score < threshold { 1 } else { (want / period.lag).max(1) };
        for periods in (1..=most).rev() {
            let middle = period.lag * periods;
            let rough = (head..line)
                .step_by((shortest / 2).max(1))
                .flat_map(|at| [middle - around, middle, middle + around].map(|lag| (at, lag)))
                .filter_map(|(at, lag)| Some((jump(at, lag)?, lag)))
                .max_by(|left, right| left.0.alike.total_cmp(&right.0.alike));
            let Some((rough, lag)) = rough else { continue };
            let best = (lag + 1 - around..lag + around)
                .filter_map(|lag| jump(rough.at, lag))
                .max_by(|left, right| left.alike.total_cmp(&right.alike))
                .unwrap_or(rough);
            if best.alike > threshold {
                return Some(best);
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
            *sample = sample_from_units((from * rest + to * weight) / power);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pitch::voice;
    use super::*;
    use proptest::prelude::*;

    fn room(samples: &[i16]) -> Vec<i16> {
        let mut queue = Vec::with_capacity(samples.len() + 960);
        queue.extend_from_slice(samples);
        queue
    }

    #[test]
    fn takes_out_whole_periods_of_a_voice() {
        let voice = voice(1600, |_| 57.0);
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
        let voice = voice(1600, |_| 57.0);
        let mut queue = room(&voice[800..960]);
        assert_eq!(Stretcher::new(8000).stretch(&voice[..800], &mut queue, 60, false), 57);
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
            assert_eq!(Stretcher::new(8000).stretch(&history, &mut queue, want, true), want);
            assert_eq!(queue, vec![0; 160]);
        }
    }

    #[test]
    fn jumps_make_no_clicks() {
        let voice = voice(4000, |at| 50.0 + at as f32 / 400.0);
        let step = |samples: &[i16]| samples.windows(2).map(|pair| pair[0].abs_diff(pair[1])).max();
        for at in (1000..3000).step_by(37) {
            let mut stretcher = Stretcher::new(8000);
            let (mut shorter, mut longer) = (room(&voice[at..at + 320]), room(&voice[at..at + 320]));
            assert!(stretcher.compress(&voice[..at], &mut shorter, 60, false, false) > 0);
            assert!(stretcher.stretch(&voice[..at], &mut longer, 60, false) > 0);
            for queue in [shorter, longer] {
                let line = [&voice[at - 10..at], &queue, &voice[at + 320..at + 330]].concat();
                assert!(step(&line) <= step(&voice).map(|step| step + step / 10));
            }
        }
    }

    #[test]
    fn noise_keeps_its_power_and_speech_its_sounds() {
        let mut seed = 1u32;
        let noise: Vec<i16> = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed as i32 >> 20) as i16
        })
        .take(4000)
        .collect();
        let power = |samples: &[i16]| samples.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>();
        let (mut before, mut after) = (0.0, 0.0);
        for at in (512..3500).step_by(80) {
            let mut queue = room(&noise[at..at + 160]);
            assert_eq!(Stretcher::new(8000).compress(&noise[..at], &mut queue, 80, true, false), 80);
            before += power(&noise[at..at + 80]);
            after += power(&queue);
            // Nothing repeats in noise, so nothing is taken out of it as if it were a voice.
            let mut queue = room(&noise[at..at + 320]);
            assert_eq!(Stretcher::new(8000).compress(&noise[..at], &mut queue, 40, false, false), 0);
        }
        assert!((after / before - 1.0).abs() < 0.1, "{after} of {before}");
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
                stretcher.stretch(&history, &mut result, want, passive)
            };
            prop_assert!(!passive || changed == 0 || changed == want);
            prop_assert_eq!(result.len(), if compress { queue.len() - changed } else { queue.len() + changed });
            prop_assert_eq!(result.capacity(), capacity);
        }
    }
}
