//! Packet loss concealment: what is lost is extrapolated from the speech before it and, where the packet after the gap
//! is already there, from that one as well.

use super::lanes::{LANES, WHOLE, floor};
use super::pitch::{Period, PitchSearch, dot};
use crate::pcm::sample_from_units;

/// How much signal has to repeat for a period to count, in ms. What fits best right at the edge of the gap sounds
/// better than what repeats for longer.
const MATCH_MS: f32 = 5.0;
/// Signals of at least this score have a pitch.
const VOICED: f32 = 0.6;
/// Part of a period in which the end of a cycle is faded into its beginning.
const SEAM: f32 = 0.25;
/// How long the step at either edge of the gap takes to fade, in ms.
const STEP_MS: f32 = 1.0;
/// How long the extrapolation keeps its level, in ms, and what it loses with each ms after that.
const HOLD_MS: f32 = 20.0;
const DECAY_PER_MS: f32 = 0.008;
/// How much of a level that falls from period to period goes on falling: for so many ms, down to that level.
const FALL: f32 = 0.6;
const FALL_MS: f32 = 20.0;
const FALL_TO: f32 = 0.3;
/// Two pitches further apart than this factor belong to different voices, or one of them is an octave off.
const GLIDE: f32 = 1.35;
/// The pitch from before the gap is taken for that after it if it scores this much of the best there.
const SAME: f32 = 0.8;
/// How far the two phases may be off what the pitches foretell, in periods, what a deviation costs, and how much alike
/// both sides of the gap have to be for the pitch to be bent.
const DEVIATION: f32 = 0.2;
const DEVIATION_COST: f32 = 4.0;
const BEND: f32 = 0.6;
/// Cross-fade into speech after a one-sided concealment, in ms, and how much longer for each ms concealed.
const MERGE_MS: f32 = 4.0;
const MERGE_GROWTH: f32 = 0.2;
/// The background noise is the quietest speech of late; it rises by this with each call, up to this power.
const FLOOR_RISE: f32 = 1.005;
const FLOOR_MOST: f32 = 10_000.0;

/// What is known of the speech after a gap.
pub(super) struct Ahead<'a> {
    /// Samples from the start of what is to be concealed to the first sample of `speech`.
    pub(super) gap: usize,
    pub(super) speech: &'a [i16],
}

/// Fills gaps in speech, and keeps what was played.
pub(super) struct Concealer {
    rate: usize,
    sample_ms: f32,
    search: PitchSearch,
    /// How many samples of history are kept at least.
    keep: usize,
    played: Vec<i16>,
    /// Power of the background noise.
    floor: f32,
    seed: u32,
    /// Samples drawn since the last speech.
    concealed: usize,
    /// What was played when the gap began, and what follows the gap.
    before: Vec<f32>,
    after: Vec<f32>,
    period: Period,
    forward: Cycle,
    backward: Cycle,
    /// Position in the forward cycle.
    position: usize,
    /// The step at the start of the gap, from where the cycle comes from to where the history ends.
    step: f32,
    /// What the extrapolation loses with each ms from the start.
    fall_per_ms: f32,
    /// What was drawn for the gap, and how much of it went out. Whether a gap is led into the speech behind it is settled
    /// at once for all of it; a glide through it is drawn as it goes out, so that a long gap costs no frame more.
    drawn: Vec<f32>,
    sent: usize,
    led: bool,
    glide: Option<Glide>,
    /// How much of the glide is drawn.
    ready: usize,
    scratch: Vec<f32>,
}

/// What leads from a random number to each of the next: multiplied by the first, plus the second.
const LEAPS: [(u32, u32); LANES] = {
    let (factor, offset) = (1_664_525, 1_013_904_223);
    let mut leaps = [(factor, offset); LANES];
    let mut lane = 1;
    while lane < LANES {
        let (factors, offsets): (u32, u32) = leaps[lane - 1];
        leaps[lane] = (factors.wrapping_mul(factor), offsets.wrapping_mul(factor).wrapping_add(offset));
        lane += 1;
    }
    leaps
};

/// A piece of signal that repeats.
struct Cycle {
    length: usize,
    /// One over the length.
    turn: f32,
    /// The piece, with a sample of the neighbouring cycle before it and two after.
    samples: Vec<f32>,
}

impl Cycle {
    fn new(room: usize) -> Self {
        Self { length: 1, turn: 1.0, samples: Vec::with_capacity(room) }
    }

    fn draw(&mut self, samples: &[f32]) {
        let length = samples.len();
        self.length = length;
        self.turn = 1.0 / length as f32;
        self.samples.clear();
        self.samples.push(samples[length - 1]);
        self.samples.extend_from_slice(samples);
        self.samples.extend([samples[0], samples[1 % length]]);
    }

    /// The samples of the cycle.
    fn get(&mut self) -> &mut [f32] {
        &mut self.samples[1..=self.length]
    }

    /// Read between the samples, with a cubic through four of them.
    #[inline(always)]
    fn at(&self, positions: &[f32; LANES]) -> [f32; LANES] {
        let (length, last) = (self.length as f32, self.length as f32 - 1.0);
        let (mut indexes, mut parts) = ([0.0; LANES], [0.0; LANES]);
        for lane in 0..LANES {
            // Into the cycle.
            let cycles = positions[lane] * self.turn;
            let position = positions[lane] - floor(cycles.abs()).copysign(cycles) * length;
            let position = if position < 0.0 { position + length } else { position };
            indexes[lane] = floor(position).max(0.0).min(last);
            parts[lane] = position - indexes[lane];
        }
        let mut around = [[0.0; LANES]; 4];
        for lane in 0..LANES {
            let index = ((indexes[lane] + WHOLE).to_bits() - WHOLE.to_bits()) as usize;
            for (around, sample) in around.iter_mut().zip(&self.samples[index..index + 4]) {
                around[lane] = *sample;
            }
        }
        let mut values = [0.0; LANES];
        for lane in 0..LANES {
            let [y0, y1, y2, y3] = [around[0][lane], around[1][lane], around[2][lane], around[3][lane]];
            let slope = 0.5 * (y2 - y0);
            let square = y0 - 2.5 * y1 + 2.0 * y2 - 0.5 * y3;
            let cube = 0.5 * (y3 - y0) + 1.5 * (y1 - y2);
            values[lane] = ((cube * parts[lane] + square) * parts[lane] + slope) * parts[lane] + y1;
        }
        values
    }
}

/// The course of a pitch over the gap, in periods from its start.
#[derive(Clone, Copy)]
struct Course {
    /// Slopes at the start and at the end, and the periods in between.
    start: f32,
    end: f32,
    periods: f32,
}

impl Course {
    /// Periods passed at a part of the gap, on the cubic that keeps to both slopes.
    fn at(&self, part: f32) -> f32 {
        let rest = 1.0 - part;
        part * rest * (rest * self.start - part * self.end) + part * part * (3.0 - 2.0 * part) * self.periods
    }
}

/// A gap in which the pitch glides from that before it to that after it.
#[derive(Clone, Copy)]
struct Glide {
    course: Course,
    /// The period after the gap, and the step at its end.
    goal: f32,
    step: f32,
    /// Samples drawn between the last speech and the start of the glide.
    start: f32,
}

impl Concealer {
    pub(super) fn new(sample_rate: u32) -> Self {
        let rate = (sample_rate as usize).clamp(8000, 48_000);
        let keep = rate * 64 / 1000;
        let mut concealer = Self {
            rate,
            sample_ms: 1000.0 / rate as f32,
            search: PitchSearch::new(rate),
            keep,
            played: Vec::with_capacity(4 * keep),
            floor: 0.0,
            seed: 0,
            concealed: 0,
            before: Vec::with_capacity(keep),
            after: Vec::with_capacity(keep),
            period: Period { lag: 1, score: 0.0 },
            forward: Cycle::new(keep + 3),
            backward: Cycle::new(keep + 3),
            position: 0,
            step: 0.0,
            fall_per_ms: 0.0,
            drawn: Vec::with_capacity(keep),
            sent: 0,
            led: false,
            glide: None,
            ready: 0,
            scratch: Vec::with_capacity(keep),
        };
        concealer.reset();
        concealer
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
        self.floor = FLOOR_MOST;
        self.seed = 1;
        self.concealed = 0;
        self.led = false;
    }

    /// Take note of speech that goes out now; right after a concealment its head is merged with that, in place.
    pub(super) fn play(&mut self, speech: &mut [i16]) {
        if speech.is_empty() {
            return;
        }
        if self.concealed > 0 {
            // A gap that was led into this very speech needs no merge.
            if !self.led || self.sent < self.drawn.len() {
                self.merge(speech);
            }
            self.concealed = 0;
            self.led = false;
        }
        let energy: u64 = speech.iter().map(|&sample| u64::from((i32::from(sample) * i32::from(sample)) as u32)).sum();
        self.floor = (self.floor * FLOOR_RISE).min(energy as f32 / speech.len() as f32).min(FLOOR_MOST);
        self.remember(speech);
    }

    /// Whether what went out last was made up.
    pub(super) fn is_concealing(&self) -> bool {
        self.concealed > 0
    }

    /// Fill `out`: start or go on concealing.
    ///
    /// With `ahead` known the end of the gap leads into it, over several calls if need be; where the gap is smaller
    /// than `out`, the rest of `out` becomes that speech, as if it had been played.
    pub(super) fn conceal(&mut self, out: &mut [i16], ahead: Option<Ahead<'_>>) {
        if let Some(Ahead { gap, speech }) = ahead
            && gap < out.len()
        {
            let (hidden, rest) = out.split_at_mut(gap);
            self.conceal(hidden, Some(Ahead { gap, speech }));
            let (known, unknown) = rest.split_at_mut(speech.len().min(rest.len()));
            known.copy_from_slice(&speech[..known.len()]);
            self.play(known);
            return self.conceal(unknown, None);
        }
        let mut gap = ahead.as_ref().map(|ahead| ahead.gap);
        for part in out.chunks_mut(self.keep) {
            let left = self.drawn.len() - self.sent;
            let led = self.concealed > 0 && self.led && part.len() <= left && gap.is_none_or(|gap| gap == left);
            if !led {
                // What is drawn already leads elsewhere.
                if self.concealed == 0 || self.led {
                    self.begin();
                }
                match (&ahead, gap) {
                    (Some(ahead), Some(gap)) if gap <= self.keep && self.enough(ahead.speech) => {
                        self.lead(gap, ahead.speech);
                    }
                    _ => self.extrapolate(part.len()),
                }
            }
            self.draw_glide(self.sent + part.len());
            for (sample, &value) in part.iter_mut().zip(&self.drawn[self.sent..]) {
                *sample = sample_from_units(value);
            }
            self.sent += part.len();
            gap = gap.map(|gap| gap - part.len());
            self.remember(part);
        }
    }

    /// Less than this does not show a pitch.
    fn enough(&self, speech: &[i16]) -> bool {
        speech.len() >= self.rate / 100
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
        self.led = false;
        self.concealed = 0;
        self.position = 0;
        self.before.clear();
        self.before.extend(self.played[self.played.len() - self.keep..].iter().map(|&sample| f32::from(sample)));
        self.period = self.search.at_end(&self.before, self.samples(MATCH_MS));
        let (lag, end) = (self.period.lag, self.before.len());
        self.draw_forward(1);
        self.step = self.before[end - 1] - self.before[end - 1 - lag];
        let power = |from: usize| dot(&self.before[from..from + lag], &self.before[from..from + lag]) + 1000.0;
        let falling = (power(end - lag) / power(end - 2 * lag)).sqrt().clamp(0.5, 1.0);
        self.fall_per_ms = FALL * (1.0 - falling) / self.ms(lag);
    }

    /// Make the last `periods` periods one cycle without a seam.
    fn draw_forward(&mut self, periods: usize) {
        let (lag, end) = (self.period.lag, self.before.len());
        let (length, seam) = (lag * periods, seam(lag));
        self.forward.draw(&self.before[end - length..]);
        let earlier = &self.before[end - length - seam..end - length];
        for (index, (sample, earlier)) in self.forward.get()[length - seam..].iter_mut().zip(earlier).enumerate() {
            *sample += (earlier - *sample) * (index as f32 + 0.5) / seam as f32;
        }
        // The neighbour before the first sample has changed with the seam.
        self.forward.samples[0] = self.forward.samples[length];
    }

    /// Make the first `lag` samples after the gap one cycle without a seam.
    fn draw_backward(&mut self, lag: usize) {
        let seam = seam(lag).min(self.after.len() - lag);
        self.backward.draw(&self.after[..lag]);
        for (index, (sample, later)) in self.backward.get().iter_mut().zip(&self.after[lag..lag + seam]).enumerate() {
            *sample = later + (*sample - later) * (index as f32 + 0.5) / seam as f32;
        }
        let first = [self.backward.samples[1], self.backward.samples[1 + 1 % lag]];
        self.backward.samples[lag + 1..].copy_from_slice(&first);
    }

    fn samples(&self, ms: f32) -> usize {
        (ms * self.rate as f32 / 1000.0) as usize
    }

    fn ms(&self, samples: usize) -> f32 {
        samples as f32 * self.sample_ms
    }

    /// Level of the extrapolation `samples` after the last speech.
    fn level(&self, samples: f32) -> f32 {
        let ms = samples * self.sample_ms;
        let fallen = (1.0 - self.fall_per_ms * ms.min(FALL_MS)).max(FALL_TO);
        fallen * (1.0 - DECAY_PER_MS * (ms - HOLD_MS).max(0.0)).max(0.0)
    }

    /// What is left of a step after so many samples.
    fn fading(&self, samples: f32) -> f32 {
        (1.0 - samples * self.sample_ms / STEP_MS).max(0.0)
    }

    /// Draw the next `length` samples from what was before the gap.
    fn extrapolate(&mut self, length: usize) {
        self.drawn.clear();
        self.sent = 0;
        self.glide = None;
        let power = dot(&self.before[..self.period.lag], &self.before[..self.period.lag]) / self.period.lag as f32;
        // Uniform numbers of -1 to 1 have a third of the power of their peak.
        let noise = (3.0 * self.floor.min(power)).sqrt();
        let start = self.concealed as f32;
        while self.drawn.len() < length {
            let lengthening = self.rate / 100;
            if self.concealed == lengthening {
                // A longer cycle sounds less like a buzz. It goes on with the same samples.
                self.draw_forward(2);
                self.position += self.period.lag;
            }
            if self.position >= self.forward.length {
                self.position = 0;
            }
            let mut run = (length - self.drawn.len()).min(self.forward.length - self.position);
            if self.concealed < lengthening {
                run = run.min(lengthening - self.concealed);
            }
            self.drawn.extend_from_slice(&self.forward.samples[1 + self.position..][..run]);
            self.position += run;
            self.concealed += run;
        }
        let mut drawn = std::mem::take(&mut self.drawn);
        for (block, drawn) in drawn.chunks_mut(LANES).enumerate() {
            let first = (block * LANES) as f32;
            let mut values = [0.0; LANES];
            values[..drawn.len()].copy_from_slice(drawn);
            let mut seeds = [0; LANES];
            for lane in 0..LANES {
                let at = start + (first + lane as f32);
                let level = self.level(at);
                seeds[lane] = self.seed.wrapping_mul(LEAPS[lane].0).wrapping_add(LEAPS[lane].1);
                let random = (seeds[lane] as i32 >> 8) as f32 / (1 << 23) as f32;
                let voice = values[lane] * level + self.step * self.fading(at);
                values[lane] = voice + random * noise * (1.0 - level);
            }
            self.seed = seeds[drawn.len() - 1];
            drawn.copy_from_slice(&values[..drawn.len()]);
        }
        self.drawn = drawn;
    }

    /// Draw the next `gap` samples so that they lead from what was before the gap to `speech`.
    fn lead(&mut self, gap: usize, speech: &[i16]) {
        self.after.clear();
        self.after.extend(speech.iter().take(self.keep / 2).rev().map(|&sample| f32::from(sample)));
        let mut after = self.search.at_end(&self.after, self.samples(MATCH_MS));
        if self.period.score >= VOICED && 5 * self.period.lag > 2 * self.after.len() {
            // Two periods of a low voice hardly fit into one packet: that from before the gap is the better guess.
            let near = self.period.lag / 8;
            let (first, last) = (self.period.lag - near, self.period.lag + near);
            let same = self.search.refine(&self.after, self.rate / 100, first, last);
            if same.score > SAME * after.score {
                after = same;
            }
        }
        self.after.reverse();
        after.lag = after.lag.min(self.after.len() - 1);
        self.draw_backward(after.lag);
        let step = self.after[0] - self.after[after.lag];
        if let Some(course) = self.course(gap, after) {
            self.glide = Some(Glide { course, goal: after.lag as f32, step, start: self.concealed as f32 });
            self.ready = 0;
            self.drawn.clear();
            self.drawn.resize(gap, 0.0);
            self.sent = 0;
            self.concealed += gap;
        } else {
            self.extrapolate(gap);
            let lag = after.lag;
            let each = 1.0 / gap as f32;
            let mut at = (lag - gap % lag) % lag;
            for (index, forth) in self.drawn.iter_mut().enumerate() {
                *forth += (self.backward.samples[1 + at] - *forth) * (index as f32 * each);
                at = if at + 1 < lag { at + 1 } else { 0 };
            }
            for back in 1..=gap.min(self.samples(STEP_MS)) {
                self.drawn[gap - back] += step * self.fading(back as f32);
            }
        }
        self.led = true;
    }

    /// Draw the glide, if there is one, up to sample `end` of the gap.
    fn draw_glide(&mut self, end: usize) {
        let Some(Glide { course, goal, step, start }) = self.glide else { return };
        let (from, lag, gap) = (self.position as f32, self.period.lag as f32, self.drawn.len() as f32);
        let each = 1.0 / gap;
        while self.ready < end {
            let first = self.ready as f32;
            let (mut parts, mut forths, mut backs) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
            for lane in 0..LANES {
                parts[lane] = (first + lane as f32) * each;
                let periods = course.at(parts[lane]);
                forths[lane] = from + lag * periods;
                backs[lane] = goal * (periods - course.periods);
            }
            let (forths, backs) = (self.forward.at(&forths), self.backward.at(&backs));
            let mut values = [0.0; LANES];
            for lane in 0..LANES {
                let at = first + lane as f32;
                let forth = forths[lane] * self.level(start + at) + self.step * self.fading(start + at);
                values[lane] = forth + (backs[lane] - forth) * parts[lane] + step * self.fading(gap - at);
            }
            for (drawn, value) in self.drawn[self.ready..].iter_mut().zip(values) {
                *drawn = value;
            }
            self.ready += LANES;
        }
    }

    /// Find the course of the pitch that makes the extrapolation arrive in phase, if both sides are of one voice.
    fn course(&mut self, gap: usize, after: Period) -> Option<Course> {
        let (lag, gap, goal) = (self.period.lag as f32, gap as f32, after.lag as f32);
        if self.period.score < VOICED || after.score < VOICED || lag > goal * GLIDE || goal > lag * GLIDE {
            return None;
        }
        let length = self.after.len().min(self.period.lag.max(after.lag));
        let foretold = gap * 0.5 * (1.0 / lag + 1.0 / goal);
        let around = (lag * DEVIATION) as usize;
        let arrival = self.position + (lag * foretold).round() as usize;
        // From `around` before the arrival on, which may be before the start of a very short gap.
        let length_of_cycle = self.forward.length;
        let mut at = (arrival + length_of_cycle - around) % length_of_cycle;
        self.scratch.clear();
        for _ in 0..length + 2 * around {
            self.scratch.push(self.forward.samples[1 + at]);
            at = if at + 1 < length_of_cycle { at + 1 } else { 0 };
        }
        let goal_energy = dot(&self.after[..length], &self.after[..length]);
        let mut energy = dot(&self.scratch[..length], &self.scratch[..length]);
        let mut best = (around, f32::MIN, 0.0);
        for shift in 0..=2 * around {
            let product = dot(&self.scratch[shift..shift + length], &self.after[..length]);
            let alike = product / (energy.max(0.0) * goal_energy + 1.0).sqrt();
            let off = (shift as f32 - around as f32) / lag;
            let worth = alike - DEVIATION_COST * off * off;
            if worth > best.1 {
                best = (shift, worth, alike);
            }
            if shift < 2 * around {
                let (out, new) = (self.scratch[shift], self.scratch[shift + length]);
                energy += new * new - out * out;
            }
        }
        let reached = (arrival - self.position) as f32 + best.0 as f32 - around as f32;
        (best.2 >= BEND).then(|| Course { start: gap / lag, end: gap / goal, periods: reached / lag })
    }

    /// Fade from the extrapolation into the speech.
    fn merge(&mut self, speech: &mut [i16]) {
        let length = self.samples(MERGE_MS + MERGE_GROWTH * self.ms(self.concealed).min(30.0)).min(speech.len());
        if !self.led {
            self.extrapolate(length);
        }
        let length = length.min(self.drawn.len() - self.sent);
        self.draw_glide(self.sent + length);
        let drawn = &self.drawn[self.sent..][..length];
        for (index, (sample, &value)) in speech.iter_mut().zip(drawn).enumerate() {
            let weight = (index as f32 + 0.5) / length as f32;
            *sample = sample_from_units(f32::from(*sample) * weight + value * (1.0 - weight));
        }
    }
}

/// Length of the seam of a cycle.
fn seam(lag: usize) -> usize {
    ((lag as f32 * SEAM) as usize).max(1)
}

#[cfg(test)]
mod tests {
    use super::super::pitch::voice;
    use super::*;
    use proptest::prelude::*;

    fn energy(samples: &[i16]) -> f64 {
        samples.iter().map(|&sample| f64::from(sample).powi(2)).sum()
    }

    /// Power of the signal over that of what is wrong.
    fn fidelity(signal: &[i16], result: &[i16]) -> f64 {
        let wrong: Vec<i16> = signal.iter().zip(result).map(|(left, right)| left.wrapping_sub(*right)).collect();
        energy(signal) / energy(&wrong).max(1.0)
    }

    fn after(speech: &[i16]) -> Concealer {
        let mut concealer = Concealer::new(8000);
        concealer.play(&mut speech.to_vec());
        concealer
    }

    #[test]
    fn a_steady_voice_goes_on() {
        for period in 30..110 {
            let voice = voice(1600, |_| period as f32);
            let mut out = [0; 160];
            after(&voice[..800]).conceal(&mut out, None);
            assert!(fidelity(&voice[800..960], &out) > 100.0, "period {period}");
            after(&voice[..800]).conceal(&mut out, Some(Ahead { gap: 160, speech: &voice[960..1120] }));
            assert!(fidelity(&voice[800..960], &out) > 30.0, "period {period}");
        }
    }

    #[test]
    fn a_gliding_voice_arrives_in_phase() {
        let (mut led_wrong, mut blind_wrong) = (0.0, 0.0);
        for start in 40..70 {
            let voice = voice(1600, |at| start as f32 * (1.0 + at as f32 / 8000.0));
            let (mut led, mut blind) = ([0; 160], [0; 160]);
            after(&voice[..800]).conceal(&mut led, Some(Ahead { gap: 160, speech: &voice[960..1120] }));
            after(&voice[..800]).conceal(&mut blind, None);
            led_wrong += 1.0 / fidelity(&voice[880..960], &led[80..]);
            blind_wrong += 1.0 / fidelity(&voice[880..960], &blind[80..]);
        }
        assert!(led_wrong < blind_wrong / 2.0, "{led_wrong} of {blind_wrong}");
    }

    #[test]
    fn concealment_makes_no_clicks() {
        let voice = voice(8000, |at| 50.0 + (at % 2000) as f32 / 200.0);
        let step = |samples: &[i16]| samples.windows(2).map(|pair| pair[0].abs_diff(pair[1])).max();
        for known in [false, true] {
            let (mut concealer, mut played) = (Concealer::new(8000), Vec::new());
            for (index, frame) in voice.chunks(160).enumerate() {
                let mut out = frame.to_vec();
                if index % 5 == 3 {
                    let speech = &voice[index * 160 + 160..index * 160 + 320];
                    concealer.conceal(&mut out, known.then_some(Ahead { gap: 160, speech }));
                } else {
                    concealer.play(&mut out);
                }
                played.extend(out);
            }
            assert!(step(&played) <= step(&voice).map(|step| step + step / 2));
        }
    }

    #[test]
    fn a_cycle_is_read_at_any_position() {
        let wave = |position: f32| 1000.0 * (std::f32::consts::TAU * position / 57.0).sin();
        let samples: Vec<f32> = (0..57).map(|at| wave(at as f32)).collect();
        let mut cycle = Cycle::new(60);
        cycle.draw(&samples);
        for eighth in -8 * 200..8 * 200 {
            let positions = [0, 1, 2, 3, 4, 5, 6, 7].map(|lane| (eighth + lane) as f32 / 8.0);
            for (position, value) in positions.iter().zip(cycle.at(&positions)) {
                assert!((value - wave(*position)).abs() < 1.0, "{value} at {position}");
                if position.fract() == 0.0 {
                    assert_eq!(value.to_bits(), samples[(*position as i32).rem_euclid(57) as usize].to_bits());
                }
            }
        }
    }

    #[test]
    fn a_long_gap_decays_to_the_noise_before_it() {
        let mut seed = 1u32;
        let mut noise = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed as i32 >> 27) as i16
        };
        let quiet: Vec<i16> = (0..1600).map(|_| noise()).collect();
        let loud: Vec<i16> = voice(1600, |_| 57.0).into_iter().map(|sample| sample + noise()).collect();
        let mut concealer = after(&quiet);
        concealer.play(&mut loud.clone());
        let mut out = vec![0; 4000];
        concealer.conceal(&mut out, None);
        let powers: Vec<f64> = out.chunks(228).map(energy).collect();
        let floor = energy(&quiet) * 228.0 / 1600.0;
        assert!(powers[0] <= 1.05 * energy(&loud[1600 - 228..]));
        assert!(powers.windows(2).all(|pair| pair[1] <= 1.05 * pair[0].max(1.5 * floor)), "{powers:?}");
        assert!((0.5..2.0).contains(&(powers[16] / floor)), "{} for {floor}", powers[16]);
    }

    #[test]
    fn silence_stays_silence() {
        let mut concealer = after(&[0; 800]);
        let mut out = [1; 480];
        concealer.conceal(&mut out, None);
        assert_eq!(out, [0; 480]);
        concealer.conceal(&mut out, Some(Ahead { gap: 480, speech: &[0; 160] }));
        assert_eq!(out, [0; 480]);
    }

    #[test]
    fn a_gap_may_end_within_the_call() {
        let voice = voice(1600, |_| 57.0);
        let mut out = [0; 160];
        let mut concealer = after(&voice[..800]);
        concealer.conceal(&mut out, Some(Ahead { gap: 40, speech: &voice[840..1000] }));
        assert_eq!(out[40..], voice[840..960]);
        let mut next = voice[960..1120].to_vec();
        concealer.play(&mut next);
        assert_eq!(next, voice[960..1120]);
    }

    #[test]
    fn reset_forgets() {
        let voice = voice(1600, |_| 57.0);
        let mut concealer = after(&voice);
        concealer.conceal(&mut [0; 160], None);
        concealer.reset();
        let (mut first, mut second) = ([0; 160], [0; 160]);
        concealer.play(&mut voice[..320].to_vec());
        concealer.conceal(&mut first, None);
        after(&voice[..320]).conceal(&mut second, None);
        assert_eq!(first, second);
    }

    proptest! {
        #[test]
        fn any_cut_of_the_gap_gives_the_same(
            known in any::<bool>(),
            mut cuts in proptest::collection::vec(0usize..480, 0..6),
        ) {
            let voice = voice(1600, |at| 50.0 + at as f32 / 200.0);
            cuts.extend([0, 480]);
            cuts.sort_unstable();
            let ahead = |from: usize| known.then(|| Ahead { gap: 480 - from, speech: &voice[1280..1440] });
            let (mut whole, mut pieces) = ([0; 480], [0; 480]);
            after(&voice[..800]).conceal(&mut whole, ahead(0));
            let mut concealer = after(&voice[..800]);
            for cut in cuts.windows(2) {
                concealer.conceal(&mut pieces[cut[0]..cut[1]], ahead(cut[0]));
            }
            prop_assert_eq!(whole, pieces);
        }

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
