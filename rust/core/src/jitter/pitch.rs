//! The pitch period of a stretch of speech.

/// A pitch period and how well the signal repeats with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Period {
    /// In samples.
    pub(super) lag: usize,
    /// Normalised correlation, -1 to 1; near 1 for voiced speech.
    pub(super) score: f32,
}

/// Multiply and add, in eight lanes: the order of the additions, and so the result, is the same on every machine.
pub(super) fn dot(left: &[f32], right: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    let (lefts, left_rest) = left.as_chunks::<8>();
    let (rights, right_rest) = right.as_chunks::<8>();
    for (left, right) in lefts.iter().zip(rights) {
        for lane in 0..8 {
            lanes[lane] += left[lane] * right[lane];
        }
    }
    let mut sum = ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
    for (left, right) in left_rest.iter().zip(right_rest) {
        sum += left * right;
    }
    sum
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
    scores: Vec<f32>,
}

/// A period that is a whole fraction of the best is preferred if it scores this much of the best.
const FRACTION_SCORE: f32 = 0.85;

impl PitchSearch {
    pub(super) fn new(sample_rate: usize) -> Self {
        let decimation = (sample_rate / 4000).max(1);
        let room = sample_rate / 10 / decimation + 2;
        Self {
            decimation,
            shortest: sample_rate / 400,
            longest: sample_rate * 16 / 1000,
            coarse: Vec::with_capacity(room),
            energy: Vec::with_capacity(room),
            scores: Vec::with_capacity(room),
        }
    }

    /// Find the period at the end of at most 100 ms of signal by comparing the last `window` samples, fewer where the
    /// signal is too short, with those before.
    pub(super) fn at_end(&mut self, signal: &[f32], window: usize) -> Period {
        let nothing = Period { lag: self.shortest, score: 0.0 };
        let step = self.decimation;
        self.coarse.clear();
        self.coarse.extend(signal.rchunks_exact(step).rev().map(|samples| samples.iter().sum::<f32>()));
        self.energy.clear();
        let mut sum = 0.0;
        self.energy.push(sum);
        self.energy.extend(self.coarse.iter().map(|&sample| {
            sum += f64::from(sample) * f64::from(sample);
            sum
        }));
        let end = self.coarse.len();
        let (first, last) = ((self.shortest / step).max(2), self.longest / step);
        let fewest = first.max(window / step / 4);
        self.scores.clear();
        for lag in first..=last {
            if lag + fewest > end {
                break;
            }
            let length = (window / step).min(end - lag);
            let (late, early) = (end - length, end - length - lag);
            let product = f64::from(dot(&self.coarse[late..], &self.coarse[early..early + length]));
            let energies = (sum - self.energy[late]) * (self.energy[early + length] - self.energy[early]);
            self.scores.push((product / (energies + 1.0).sqrt()) as f32);
        }
        let Some(mut pick) = highest(&self.scores) else { return nothing };
        let best = self.scores[pick];
        for fraction in [4, 3, 2] {
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
