//! Packet loss concealment: what is lost is extrapolated from the speech before it and, where the packet after the gap
//! is already there, from that one as well.

use super::pitch::{Period, PitchSearch};

/// A signal whose score is above this is repeated with its period.
const VOICED: f32 = 0.5;
/// How long the extrapolation keeps its level, in ms.
const HOLD_MS: f32 = 15.0;
/// How much of its level it loses with each ms after that.
const DECAY_PER_MS: f32 = 0.015;
/// Part of a period in which the end of a cycle is faded into its beginning.
const SEAM: f32 = 0.25;
/// Cross-fade into speech after a one-sided concealment, in ms, and how much longer for each ms concealed.
const MERGE_MS: f32 = 4.0;
const MERGE_GROWTH: f32 = 0.2;
/// How long the step at either end of the concealment takes to fade, in ms.
const STEP_MS: f32 = 1.0;

/// What is known of the speech after a gap.
pub(super) struct Ahead<'a> {
    /// Samples from the start of what is to be concealed to the first sample of `speech`.
    pub(super) gap: usize,
    pub(super) speech: &'a [i16],
}

/// Fills gaps in speech, and keeps what was played.
pub(super) struct Concealer {
    rate: usize,
    search: PitchSearch,
    /// How many samples of history are kept at least.
    keep: usize,
    played: Vec<i16>,
    /// Samples concealed since the last speech.
    concealed: usize,
    /// The concealment has been led into the speech that comes next.
    landed: bool,
    /// What was played when the gap began, and what follows the gap.
    before: Vec<f32>,
    after: Vec<f32>,
    /// One to three periods from the end of `before`, and one from the start of `after`.
    forward: Vec<f32>,
    backward: Vec<f32>,
    period: Period,
    /// Position in `forward`.
    position: usize,
    /// From where the forward cycle comes from to where the history ends: the step at the start of the gap.
    step: f32,
    drawn: Vec<f32>,
}

impl Concealer {
    pub(super) fn new(sample_rate: u32) -> Self {
        let rate = (sample_rate as usize).clamp(8000, 48_000);
        let keep = rate * 64 / 1000;
        let mut played = Vec::with_capacity(4 * keep);
        played.resize(keep, 0);
        let room = || Vec::with_capacity(keep);
        Self {
            rate,
            search: PitchSearch::new(rate),
            keep,
            played,
            concealed: 0,
            landed: false,
            before: room(),
            after: room(),
            forward: room(),
            backward: room(),
            period: Period { lag: rate / 400, score: 0.0 },
            position: 0,
            step: 0.0,
            drawn: room(),
        }
    }

    /// Return what was played, at least 50 ms, the most recent last.
    #[cfg(test)]
    pub(super) fn history(&self) -> &[i16] {
        &self.played[self.played.len() - self.keep..]
    }

    /// Forget everything.
    pub(super) fn reset(&mut self) {
        self.played.clear();
        self.played.resize(self.keep, 0);
        self.concealed = 0;
        self.landed = false;
    }

    /// Take note of speech that goes out now; right after a concealment its head is merged with that, in place.
    pub(super) fn play(&mut self, speech: &mut [i16]) {
        if speech.is_empty() {
            return;
        }
        if self.concealed > 0 {
            if !self.landed {
                self.merge(speech);
            }
            self.concealed = 0;
            self.landed = false;
        }
        self.remember(speech);
    }

    /// Fill `out`, at most 60 ms: start or go on concealing.
    ///
    /// With `ahead` known the end of the gap leads into it; what is left of `out` after the gap becomes that speech.
    pub(super) fn conceal(&mut self, out: &mut [i16], ahead: Option<Ahead<'_>>) {
        if let Some(Ahead { gap, speech }) = ahead
            && gap < out.len()
        {
            let (hidden, known) = out.split_at_mut(gap);
            self.conceal(hidden, Some(Ahead { gap, speech }));
            let (known, unknown) = known.split_at_mut(speech.len().min(known.len()));
            known.copy_from_slice(&speech[..known.len()]);
            self.play(known);
            return self.conceal(unknown, None);
        }
        for part in out.chunks_mut(self.keep) {
            if self.concealed == 0 || self.landed {
                self.begin();
            }
            let mut drawn = std::mem::take(&mut self.drawn);
            drawn.clear();
            drawn.resize(part.len(), 0.0);
            match &ahead {
                Some(ahead) if ahead.speech.len() >= self.rate / 100 && ahead.gap == part.len() => {
                    self.between(&mut drawn, ahead.speech);
                    self.landed = true;
                }
                _ => self.extrapolate(&mut drawn),
            }
            for (sample, &value) in part.iter_mut().zip(&drawn) {
                *sample = value.round() as i16;
            }
            self.drawn = drawn;
            self.concealed += part.len();
            self.remember(part);
        }
    }

    fn remember(&mut self, samples: &[i16]) {
        for part in samples.chunks(self.keep) {
            if self.played.len() + part.len() > 4 * self.keep {
                let kept = self.played.len() - self.keep;
                self.played.copy_within(kept.., 0);
                self.played.truncate(self.keep);
            }
            self.played.extend_from_slice(part);
        }
    }

    fn begin(&mut self) {
        self.landed = false;
        self.before.clear();
        self.before.extend(self.played[self.played.len() - self.keep..].iter().map(|&sample| f32::from(sample)));
        self.period = self.search.at_end(&self.before, self.rate / 50);
        self.position = 0;
        self.draw_forward_cycle(1);
        let end = self.keep - 1;
        self.step = self.before[end] - self.before[end - self.period.lag];
    }

    /// Make the last `periods` periods one cycle without a seam.
    fn draw_forward_cycle(&mut self, periods: usize) {
        let end = self.before.len();
        let seam = seam(self.period.lag);
        let length = (self.period.lag * periods).min(end - seam);
        self.forward.clear();
        self.forward.extend_from_slice(&self.before[end - length..]);
        let earlier = &self.before[end - length - seam..end - length];
        for (index, (sample, earlier)) in self.forward[length - seam..].iter_mut().zip(earlier).enumerate() {
            let weight = (index as f32 + 0.5) / seam as f32;
            *sample += (earlier - *sample) * weight;
        }
    }

    /// Make the first `lag` samples after the gap one cycle without a seam.
    fn draw_backward_cycle(&mut self, lag: usize) {
        let seam = seam(lag).min(self.after.len() - lag);
        self.backward.clear();
        self.backward.extend_from_slice(&self.after[..lag]);
        for (index, (sample, later)) in self.backward.iter_mut().zip(&self.after[lag..lag + seam]).enumerate() {
            let weight = (index as f32 + 0.5) / seam as f32;
            *sample = later + (*sample - later) * weight;
        }
    }

    /// Level of the extrapolation `samples` after the last speech.
    fn level(&self, samples: usize) -> f32 {
        let ms = samples as f32 * 1000.0 / self.rate as f32;
        (1.0 - DECAY_PER_MS * (ms - HOLD_MS).max(0.0)).max(0.0)
    }

    /// What is left of a step after so many samples.
    fn fading(&self, samples: usize) -> f32 {
        (1.0 - samples as f32 * 1000.0 / (STEP_MS * self.rate as f32)).max(0.0)
    }

    fn extrapolate(&mut self, drawn: &mut [f32]) {
        let ten_ms = self.rate / 100;
        for (index, sample) in drawn.iter_mut().enumerate() {
            let at = self.concealed + index;
            if at == ten_ms {
                self.draw_forward_cycle(2);
            }
            self.position = if self.position < self.forward.len() { self.position } else { 0 };
            *sample = self.forward[self.position] * self.level(at) + self.step * self.fading(at);
            self.position += 1;
        }
    }

    fn between(&mut self, drawn: &mut [f32], speech: &[i16]) {
        let length = drawn.len();
        self.after.clear();
        self.after.extend(speech.iter().take(self.keep / 2).rev().map(|&sample| f32::from(sample)));
        let mut period = self.search.at_end(&self.after, self.rate / 100);
        self.after.reverse();
        if self.period.score > VOICED && period.score < VOICED && self.period.lag + 2 < self.after.len() {
            period.lag = self.period.lag;
        }
        let lag = period.lag.min(self.after.len() - 1);
        self.draw_backward_cycle(lag);
        let step = self.after[0] - self.after[lag];
        let mut backwards = (self.backward.len() - length % self.backward.len()) % self.backward.len();
        self.extrapolate(drawn);
        for (index, sample) in drawn.iter_mut().enumerate() {
            let weight = index as f32 / length as f32;
            let rest = 1.0 - weight;
            let power = (rest * rest + weight * weight).sqrt();
            *sample = (*sample * rest + self.backward[backwards] * weight) / power + step * self.fading(length - index);
            backwards = if backwards + 1 < self.backward.len() { backwards + 1 } else { 0 };
        }
    }

    /// Fade from the extrapolation into the speech.
    fn merge(&mut self, speech: &mut [i16]) {
        let ms = self.concealed as f32 * 1000.0 / self.rate as f32;
        let length = ((MERGE_MS + MERGE_GROWTH * ms.min(30.0)) * self.rate as f32 / 1000.0) as usize;
        let length = length.min(speech.len());
        let mut drawn = std::mem::take(&mut self.drawn);
        drawn.clear();
        drawn.resize(length, 0.0);
        self.extrapolate(&mut drawn);
        for (index, (sample, &value)) in speech.iter_mut().zip(&drawn).enumerate() {
            let weight = (index as f32 + 0.5) / length as f32;
            *sample = (f32::from(*sample) * weight + value * (1.0 - weight)).round() as i16;
        }
        self.drawn = drawn;
    }
}

/// Length of the seam of a cycle.
fn seam(lag: usize) -> usize {
    ((lag as f32 * SEAM) as usize).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_sequence_of_calls_is_survived_twice_alike(
            rate in 8000u32..=48_000,
            calls in proptest::collection::vec((0..3, 0usize..2880, 0usize..1000, any::<u32>()), 1..20),
        ) {
            let mut concealers = [Concealer::new(rate), Concealer::new(rate)];
            for (kind, length, gap, seed) in calls {
                let noise: Vec<i16> = (0..length as u32).map(|at| (at.wrapping_mul(seed) >> 11) as i16).collect();
                let played = concealers.each_mut().map(|concealer| {
                    let mut out = noise.clone();
                    match kind {
                        0 => concealer.play(&mut out),
                        1 => concealer.conceal(&mut out, None),
                        _ => concealer.conceal(&mut out, Some(Ahead { gap, speech: &noise })),
                    }
                    prop_assert!(concealer.history().len() >= rate as usize / 20);
                    let common = out.len().min(concealer.history().len());
                    prop_assert!(concealer.history().ends_with(&out[out.len() - common..]));
                    Ok(out)
                });
                let [first, second] = played;
                prop_assert_eq!(first?, second?);
            }
        }
    }
}
