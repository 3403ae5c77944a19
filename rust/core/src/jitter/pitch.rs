//! The pitch period of a stretch of speech.

use crate::simd::Backend;

/// A pitch period and how well the signal repeats with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Period {
    /// In samples.
    pub(super) lag: usize,
    /// Normalised correlation, -1 to 1; near 1 for voiced speech.
    pub(super) score: f32,
}

/// Multiply and add: the result is the same on every machine.
pub(super) fn dot(left: &[f32], right: &[f32]) -> f32 {
    Backend::detect().dot_product(left, right)
}

/// Lags that a row is correlated at together: the registers of the baseline hold as many sums, and twice as many lags
/// of a 4 kHz signal are all periods of a voice.
const LAGS: usize = 28;

/// Add to every sum the dot product of the row with the samples from there on.
fn correlate(row: &[f32], samples: &[f32], mut sums: [f32; LAGS]) -> [f32; LAGS] {
    Backend::detect().widen(
        #[inline(always)]
        move || {
            for (value, window) in row.iter().zip(samples.windows(LAGS)) {
                for lag in 0..LAGS {
                    sums[lag] += value * window[lag];
                }
            }
            sums
        },
    )
}

/// Correlate two stretches of one length, normalised to -1 to 1; silence correlates with nothing.
pub(super) fn correlation(left: &[f32], right: &[f32]) -> f32 {
    dot(left, right) / (dot(left, left) * dot(right, right) + 1.0).sqrt()
}

/// Looks for pitch periods of 2.5 to 16 ms (62 to 400 Hz): first at 4 kHz, then sample by sample around the best.
pub(super) struct PitchSearch {
    decimation: usize,
    pub(super) shortest: usize,
    pub(super) longest: usize,
    coarse: Vec<f32>,
    energy: Vec<f64>,
    /// For each lag: the product of the signal with itself and the energies, in the window and in the wider one.
    near: Vec<f32>,
    wide: Vec<f32>,
    near_energy: Vec<f32>,
    wide_energy: Vec<f32>,
    scores: Vec<f32>,
}

/// What matters at the edge of a gap is its last few ms, which do not hold a period of a low voice: so a window that is
/// wider by this factor has a say as well, of this weight.
const WIDER: usize = 3;
const CONTEXT: f32 = 0.6;
/// A period that is a whole fraction of the best is preferred if it scores this much of the best.
const FRACTION_SCORE: f32 = 0.85;

impl PitchSearch {
    pub(super) fn new(sample_rate: usize) -> Self {
        let decimation = (sample_rate / 4000).max(1);
        let room = sample_rate / 5 / decimation + 2;
        Self {
            decimation,
            shortest: sample_rate / 400,
            longest: sample_rate * 16 / 1000,
            coarse: Vec::with_capacity(room),
            energy: Vec::with_capacity(room),
            near: Vec::with_capacity(room),
            wide: Vec::with_capacity(room),
            near_energy: Vec::with_capacity(room),
            wide_energy: Vec::with_capacity(room),
            scores: Vec::with_capacity(room),
        }
    }

    /// Find the period at the end of a signal of whole numbers by comparing the last `window` samples, fewer where the
    /// signal is too short, with those before.
    pub(super) fn at_end(&mut self, signal: &[f32], window: usize) -> Period {
        let nothing = Period { lag: self.shortest, score: 0.0 };
        let step = self.decimation;
        let (first, last) = ((self.shortest / step).max(2), self.longest / step);
        let (near, wide) = (window / step, WIDER * window / step);
        let fewest = first.max(near / 4);
        let reach = last + wide.max(fewest);
        // The newest first.
        self.coarse.clear();
        if step == 2 {
            // The rate of telephones.
            self.coarse.extend(signal.as_rchunks::<2>().1.iter().rev().take(reach).map(|[one, other]| one + other));
        } else {
            self.coarse.extend(signal.rchunks_exact(step).take(reach).map(|samples| samples.iter().sum::<f32>()));
        }
        let len = self.coarse.len();
        if len < first + fewest {
            return nothing;
        }
        // Before a short signal there is nothing, which adds nothing to any sum.
        self.coarse.resize(reach + LAGS, 0.0);
        self.energy.clear();
        self.energy.push(0.0);
        let mut sum = 0.0;
        for samples in self.coarse.as_chunks::<4>().0 {
            // Whole numbers may be added in any order, and one after the other takes its time.
            let [one, two, three, four] = samples.map(|sample| f64::from(sample) * f64::from(sample));
            let (half, all) = (one + two, (one + two) + (three + four));
            self.energy.extend([sum + one, sum + half, sum + (half + three), sum + all]);
            sum += all;
        }
        self.near.clear();
        self.wide.clear();
        let last = last.min(len - fewest);
        for lag in (first..=last).step_by(LAGS) {
            let products = correlate(&self.coarse[..near], &self.coarse[lag..], [0.0; LAGS]);
            self.near.extend(products);
            self.wide.extend(correlate(&self.coarse[near..wide], &self.coarse[lag + near..], products));
        }
        for (window, energies) in [(near, &mut self.near_energy), (wide, &mut self.wide_energy)] {
            let (starts, ends) = (&self.energy[first..], &self.energy[first + window..]);
            energies.clear();
            energies.extend(
                (first..=last)
                    .zip(starts.iter().zip(ends))
                    .map(|(lag, (start, end))| self.energy[window.min(len - lag)] as f32 * (end - start) as f32),
            );
        }
        self.scores.clear();
        let (near, wide) = (self.near.iter().zip(&self.near_energy), self.wide.iter().zip(&self.wide_energy));
        self.scores.extend(near.zip(wide).map(|((near, near_energy), (wide, wide_energy))| {
            near / (near_energy + 1.0).sqrt() + CONTEXT * wide / (wide_energy + 1.0).sqrt()
        }));
        let Some(mut pick) = highest(&self.scores) else { return nothing };
        let best = self.scores[pick];
        for fraction in [6, 5, 4, 3, 2] {
            let near = (first + pick + fraction / 2) / fraction;
            if near <= first {
                continue;
            }
            let from = near - 1 - first;
            if let Some(index) = highest(&self.scores[from..(from + 3).min(self.scores.len())])
                && self.scores[from + index] > FRACTION_SCORE * best
            {
                pick = from + index;
                break;
            }
        }
        let middle = (first + pick) * step;
        self.refine(signal, window, middle.saturating_sub(step), middle + step)
    }

    /// Find the best period from `first` to `last`.
    pub(super) fn refine(&self, signal: &[f32], window: usize, first: usize, last: usize) -> Period {
        let mut best = Period { lag: self.shortest, score: 0.0 };
        let end = signal.len();
        for lag in first.max(self.shortest)..=last.min(self.longest) {
            if lag + window / 4 > end {
                break;
            }
            let length = window.min(end - lag);
            let score = correlation(&signal[end - length..], &signal[end - length - lag..end - lag]);
            if score > best.score {
                best = Period { lag, score };
            }
        }
        best
    }
}

fn highest(scores: &[f32]) -> Option<usize> {
    (0..scores.len()).max_by(|&left, &right| scores[left].total_cmp(&scores[right]))
}

/// A voice for tests: pulses through a resonance, with the period at each sample.
#[cfg(test)]
pub(super) fn voice(samples: usize, period: impl Fn(usize) -> f32) -> Vec<i16> {
    let (mut one, mut two, mut phase) = (0.0f32, 0.0f32, 1.0f32);
    (0..samples)
        .map(|at| {
            let pulse = if phase >= 1.0 { 4000.0 } else { 0.0 };
            phase = phase.fract() + 1.0 / period(at);
            let next = pulse + 1.6 * one - 0.81 * two;
            (one, two) = (next, one);
            next as i16
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finds_a_voice_at_any_rate() {
        for rate in [8000, 16_000, 44_100, 48_000] {
            for period in (rate / 350..rate / 70).step_by(rate / 1000) {
                let voice: Vec<f32> = voice(rate / 10, |_| period as f32).into_iter().map(f32::from).collect();
                let found = PitchSearch::new(rate).at_end(&voice, rate / 50);
                assert_eq!(found.lag % period, 0, "{} at {rate} Hz", found.lag);
                assert!(found.score > 0.99);
            }
        }
    }

    #[test]
    fn finds_a_voice_in_a_short_signal() {
        for period in 20..60 {
            let voice: Vec<f32> = voice(800, |_| period as f32).into_iter().map(f32::from).collect();
            for length in 2 * period + 20..400 {
                let found = PitchSearch::new(8000).at_end(&voice[400..400 + length], 40);
                assert!(found.lag.is_multiple_of(period) && found.score > 0.9, "{found:?} for {period} in {length}");
            }
        }
    }

    #[test]
    fn silence_has_no_pitch() {
        assert!(PitchSearch::new(8000).at_end(&[0.0; 512], 160).score < 0.01);
        assert!(PitchSearch::new(8000).at_end(&[], 160).score < 0.01);
    }

    proptest! {
        #[test]
        fn any_signal_has_some_period_whatever_was_before(
            rate in 8000usize..=48_000,
            before in proptest::collection::vec(any::<i16>(), 0..9600),
            signal in proptest::collection::vec(any::<i16>(), 0..9600),
            window_ms in 5..=20,
        ) {
            let [before, signal] = [before, signal].map(|samples| samples.into_iter().map(f32::from).collect::<Vec<_>>());
            let window = rate * window_ms as usize / 1000;
            let mut search = PitchSearch::new(rate);
            search.at_end(&before, window);
            let found = search.at_end(&signal, window);
            prop_assert_eq!(found, PitchSearch::new(rate).at_end(&signal, window));
            prop_assert!((search.shortest..=search.longest).contains(&found.lag));
            prop_assert!((0.0..1.001).contains(&found.score));
        }
    }
}
