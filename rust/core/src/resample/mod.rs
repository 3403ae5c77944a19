//! Streaming rational resampling of mono audio with a polyphase FIR filter.
//!
//! Every output is one dot product of the newest inputs with the coefficients of its phase, summed in a fixed order.
//! There is no block transform and no queue, so any cutting of the input gives the same bits, and after n inputs
//! exactly ceil(n * `output_rate` / `input_rate`) outputs have come.

mod bank;
mod kernel;

use crate::simd::{Backend, LANES};
use crate::{Error, Result, pcm};
use bank::{Bank, aligned_index};

/// The lowest sample rate in Hz.
pub const MIN_SAMPLE_RATE: u32 = 1_000;
/// The highest sample rate in Hz.
pub const MAX_SAMPLE_RATE: u32 = 384_000;
/// The largest coefficient bank: 4 MiB, enough for every pair of common rates many times over.
pub const MAX_TAPS: u64 = 1 << 20;
/// The largest deviation of a variable ratio from that of the rates, in parts per million.
pub const MAX_RATIO_PPM: f64 = 1000.0;

/// Inputs and outputs worked on at once, so that they stay in the cache however long the chunk is.
const BLOCK_SAMPLES: usize = 2048;
/// Bits behind the point of a position.
const POSITION_BITS: u32 = 32;

/// How much delay is spent on the filter. The names are those of the Python API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quality {
    /// Flat to 0.90 of the lower Nyquist frequency, nothing folds back.
    #[default]
    Balanced,
    /// Half the delay; what lies within 10 % of the lower Nyquist frequency may fold back.
    LowLatency,
    /// Flat to 0.93 of the lower Nyquist frequency with the rejection of a studio resampler.
    High,
}

impl Quality {
    /// Parse `balanced`, `low_latency` or `high`.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "balanced" => Ok(Self::Balanced),
            "low_latency" => Ok(Self::LowLatency),
            "high" => Ok(Self::High),
            _ => Err(Error::UnknownName {
                kind: "quality",
                expected: "balanced, low_latency, high",
                name: name.to_owned(),
            }),
        }
    }
}

/// How one sample is stored, little-endian in both cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SampleFormat {
    /// Signed 16-bit.
    #[default]
    S16,
    /// 32-bit float, full scale 1.0.
    F32,
}

impl SampleFormat {
    /// Parse `s16` or `f32`.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "s16" => Ok(Self::S16),
            "f32" => Ok(Self::F32),
            _ => Err(Error::UnknownName { kind: "sample format", expected: "s16, f32", name: name.to_owned() }),
        }
    }

    /// Return the size of one sample.
    #[must_use]
    pub fn sample_bytes(self) -> usize {
        match self {
            Self::S16 => 2,
            Self::F32 => 4,
        }
    }
}

/// Check that a rate is in the supported range.
pub fn check_sample_rate(sample_rate: u32) -> Result<()> {
    if (MIN_SAMPLE_RATE..=MAX_SAMPLE_RATE).contains(&sample_rate) {
        Ok(())
    } else {
        Err(Error::SampleRate { sample_rate: i64::from(sample_rate) })
    }
}

/// A streaming mono resampler. It belongs to one stream.
#[derive(Clone, Debug)]
pub struct Resampler {
    input_rate: u32,
    output_rate: u32,
    sample_format: SampleFormat,
    is_variable: bool,
    ratio_ppm: f64,
    backend: Backend,
    bank: Bank,
    /// The last inputs, then room for a block of new ones. An input that is a multiple of `LANES` samples from the
    /// start of the stream stands at a multiple of the register width.
    inputs: Vec<f32>,
    /// Where the oldest input that may be needed stands.
    first_input: usize,
    /// Where the next input goes: less than `LANES` behind its lowest place.
    next_input: usize,
    block_inputs: usize,
    outputs: Vec<f32>,
    /// The time of the next output in ticks, counted from the first input not yet fed.
    position: u64,
    /// The ticks from one output to the next.
    step: u64,
    /// The row of the next output, unless the ratio is variable.
    next_row: usize,
    num_fed_bytes: u64,
    partial: [u8; 4],
    num_partial: usize,
}

impl Resampler {
    /// Create a resampler for one stream of mono audio.
    pub fn new(input_rate: u32, output_rate: u32, quality: Quality, sample_format: SampleFormat) -> Result<Self> {
        Self::build(input_rate, output_rate, quality, sample_format, false)
    }

    /// Create a resampler whose ratio can be varied by [`Resampler::set_ratio_ppm`], starting at that of the rates.
    pub fn new_variable(
        input_rate: u32,
        output_rate: u32,
        quality: Quality,
        sample_format: SampleFormat,
    ) -> Result<Self> {
        Self::build(input_rate, output_rate, quality, sample_format, true)
    }

    fn build(
        input_rate: u32,
        output_rate: u32,
        quality: Quality,
        sample_format: SampleFormat,
        is_variable: bool,
    ) -> Result<Self> {
        check_sample_rate(input_rate)?;
        check_sample_rate(output_rate)?;
        let bank = Bank::new(input_rate, output_rate, quality, is_variable)?;
        let block_inputs = (BLOCK_SAMPLES * bank.down / bank.up).clamp(1, BLOCK_SAMPLES);
        // A variable ratio gives up to a thousandth more, and rounding up one more.
        let block_outputs = (block_inputs * bank.up).div_ceil(bank.down) * 1002 / 1000 + 1;
        let num_kept = 2 * LANES + bank.history() + block_inputs + bank.row_taps;
        let inputs = vec![0.0; if bank.is_identity() { 0 } else { num_kept }];
        let first_input = aligned_index(&inputs);
        Ok(Self {
            input_rate,
            output_rate,
            sample_format,
            is_variable,
            ratio_ppm: 0.0,
            backend: Backend::detect(),
            inputs,
            first_input,
            next_input: first_input + bank.history(),
            block_inputs,
            outputs: vec![0.0; if bank.is_identity() { 0 } else { block_outputs }],
            position: 0,
            step: (bank.down as u64) << POSITION_BITS,
            next_row: 0,
            bank,
            num_fed_bytes: 0,
            partial: [0; 4],
            num_partial: 0,
        })
    }

    /// Return the rate of the input in Hz.
    #[must_use]
    pub fn input_rate(&self) -> u32 {
        self.input_rate
    }

    /// Return the rate of the output in Hz.
    #[must_use]
    pub fn output_rate(&self) -> u32 {
        self.output_rate
    }

    /// Return how samples are stored on both sides.
    #[must_use]
    pub fn sample_format(&self) -> SampleFormat {
        self.sample_format
    }

    /// Return how many more outputs per input there are than the rates say, in parts per million.
    #[must_use]
    pub fn ratio_ppm(&self) -> f64 {
        self.ratio_ppm
    }

    /// Vary the ratio from the next output on; the waveform stays continuous.
    ///
    /// The resampler must have been made with [`Resampler::new_variable`], and the deviation be within
    /// [`MAX_RATIO_PPM`].
    pub fn set_ratio_ppm(&mut self, ratio_ppm: f64) -> Result<()> {
        if !self.is_variable {
            return Err(Error::FixedRatio { ratio_ppm });
        }
        if ratio_ppm.is_nan() || ratio_ppm.abs() > MAX_RATIO_PPM {
            return Err(Error::RatioPpm { ratio_ppm });
        }
        let nominal_step = (self.bank.down as u64) << POSITION_BITS;
        self.step = (nominal_step as f64 / (1.0 + ratio_ppm * 1e-6)).round() as u64;
        self.ratio_ppm = ratio_ppm;
        Ok(())
    }

    /// Return the delay of the filter in output samples.
    #[must_use]
    pub fn delay_samples(&self) -> usize {
        self.bank.delay_samples
    }

    /// Return the delay of the filter in milliseconds.
    #[must_use]
    pub fn delay_ms(&self) -> f64 {
        self.bank.delay_samples as f64 * 1000.0 / f64::from(self.output_rate)
    }

    /// Return how many bytes [`Resampler::feed_into`] writes for a chunk of that many bytes.
    #[must_use]
    pub fn output_bytes(&self, chunk_bytes: usize) -> usize {
        let sample_bytes = self.sample_format.sample_bytes();
        let num_inputs = (self.num_partial + chunk_bytes) / sample_bytes;
        if self.bank.is_identity() {
            return num_inputs * sample_bytes;
        }
        self.num_due(num_inputs) * sample_bytes
    }

    /// Return how many outputs that many new inputs allow.
    fn num_due(&self, num_inputs: usize) -> usize {
        let end = (num_inputs as u128 * self.bank.up as u128) << POSITION_BITS;
        end.saturating_sub(u128::from(self.position)).div_ceil(u128::from(self.step)) as usize
    }

    /// Return how many bytes [`Resampler::flush_into`] writes.
    #[must_use]
    pub fn flush_bytes(&self) -> usize {
        if self.num_fed_bytes > 0 { self.bank.delay_samples * self.sample_format.sample_bytes() } else { 0 }
    }

    /// Feed samples and return the outputs they give.
    ///
    /// A sample that the chunk cuts is kept for the next call; call [`Resampler::flush`] at the end.
    #[must_use]
    pub fn feed(&mut self, chunk: &[u8]) -> Vec<u8> {
        let mut output = vec![0; self.output_bytes(chunk.len())];
        self.feed_into(chunk, &mut output);
        output
    }

    /// Feed samples and write the outputs they give; `output` has [`Resampler::output_bytes`] bytes.
    pub fn feed_into(&mut self, mut chunk: &[u8], output: &mut [u8]) {
        let mut num_written = 0;
        let sample_bytes = self.sample_format.sample_bytes();
        self.num_fed_bytes += chunk.len() as u64;
        if self.num_partial > 0 {
            let num_missing = (sample_bytes - self.num_partial).min(chunk.len());
            self.partial[self.num_partial..self.num_partial + num_missing].copy_from_slice(&chunk[..num_missing]);
            self.num_partial += num_missing;
            chunk = &chunk[num_missing..];
            if self.num_partial < sample_bytes {
                return;
            }
            self.num_partial = 0;
            let sample = self.partial;
            num_written += self.feed_block(&sample[..sample_bytes], output);
        }
        let (whole, rest) = chunk.split_at(chunk.len() - chunk.len() % sample_bytes);
        for block in whole.chunks(self.block_inputs * sample_bytes) {
            num_written += self.feed_block(block, &mut output[num_written..]);
        }
        self.partial[..rest.len()].copy_from_slice(rest);
        self.num_partial = rest.len();
    }

    /// Return the outputs that the delay still holds and start a new stream.
    ///
    /// The result is `delay_samples` long, or empty if nothing was fed. A partial sample is an error, and the stream
    /// stays as it is so that its missing bytes can be fed.
    pub fn flush(&mut self) -> Result<Vec<u8>> {
        let mut output = vec![0; self.flush_bytes()];
        self.flush_into(&mut output)?;
        Ok(output)
    }

    /// Write what [`Resampler::flush`] returns; `output` has [`Resampler::flush_bytes`] bytes.
    pub fn flush_into(&mut self, output: &mut [u8]) -> Result<()> {
        if self.num_partial > 0 {
            let sample_bytes = self.sample_format.sample_bytes();
            return Err(Error::PartialSample { sample_bytes, num_bytes: self.num_fed_bytes });
        }
        let mut num_written = 0;
        while num_written < output.len() {
            self.inputs[self.next_input..].fill(0.0);
            num_written += self.advance(self.block_inputs, &mut output[num_written..]);
        }
        self.reset();
        Ok(())
    }

    /// Forget the stream and start a new one; a varied ratio stays as it is.
    pub fn reset(&mut self) {
        self.inputs.fill(0.0);
        self.next_input = self.first_input + self.bank.history();
        self.position = 0;
        self.next_row = 0;
        self.num_fed_bytes = 0;
        self.num_partial = 0;
    }

    /// Feed whole samples, at most a block; return how many bytes were written.
    fn feed_block(&mut self, block: &[u8], output: &mut [u8]) -> usize {
        if self.bank.is_identity() {
            output[..block.len()].copy_from_slice(block);
            if self.sample_format == SampleFormat::F32 {
                for sample in output[..block.len()].as_chunks_mut::<4>().0 {
                    *sample = finite(*sample).to_le_bytes();
                }
            }
            return block.len();
        }
        let num_inputs = block.len() / self.sample_format.sample_bytes();
        let inputs = &mut self.inputs[self.next_input..][..num_inputs];
        match self.sample_format {
            // The samples keep their scale, which saves two multiplications and loses nothing.
            SampleFormat::S16 => self.backend.units_from_pcm(block, inputs),
            SampleFormat::F32 => {
                for (input, sample) in inputs.iter_mut().zip(block.as_chunks::<4>().0) {
                    *input = finite(*sample);
                }
            }
        }
        self.advance(num_inputs, output)
    }

    /// Compute the outputs that the new inputs allow, as long as there is room for them.
    ///
    /// Return how many bytes were written.
    fn advance(&mut self, num_inputs: usize, output: &mut [u8]) -> usize {
        let sample_bytes = self.sample_format.sample_bytes();
        let num_outputs = self.num_due(num_inputs).min(output.len() / sample_bytes);
        if self.is_variable {
            self.compute_interpolated(num_outputs);
        } else {
            self.compute(num_outputs);
        }
        let (outputs, output) = (&self.outputs[..num_outputs], &mut output[..num_outputs * sample_bytes]);
        match self.sample_format {
            SampleFormat::S16 => self.backend.pcm_from_units(outputs, output),
            SampleFormat::F32 => {
                for (stored, sample) in output.as_chunks_mut::<4>().0.iter_mut().zip(outputs) {
                    // A sum of nothing but the smallest numbers may be -0.0 or 0.0, by what stands beside the window.
                    *stored = (sample + 0.0).to_le_bytes();
                }
            }
        }
        self.position += num_outputs as u64 * self.step;
        // A full output leaves the position behind only while flushing, and the stream is reset after that.
        self.position = self.position.saturating_sub((num_inputs as u64 * self.bank.up as u64) << POSITION_BITS);
        let lowest_place = self.first_input + self.bank.history();
        let num_forgotten = (self.next_input + num_inputs - lowest_place) / LANES * LANES;
        self.inputs.copy_within(self.first_input + num_forgotten..self.next_input + num_inputs, self.first_input);
        self.next_input = self.next_input + num_inputs - num_forgotten;
        num_outputs * sample_bytes
    }

    /// Compute outputs at the places of the bank's rows, all those of one row together.
    fn compute(&mut self, num_outputs: usize) {
        let (output_step, window_step) = self.bank.period();
        let mut place = Place::new(self.next_input, self.position, &self.bank);
        let mut next_row = self.next_row;
        let rows = (0..output_step).map(|_| {
            let shift = (place.oldest - self.first_input) & (self.bank.num_shifts - 1);
            let row = self.bank.row(next_row, shift);
            next_row = if next_row + 1 == self.bank.up { 0 } else { next_row + 1 };
            let samples = &self.inputs[place.oldest - shift..];
            place.advance(&self.bank);
            (row, samples)
        });
        self.backend.convolve(rows, window_step, &mut self.outputs[..num_outputs]);
        self.next_row = (self.next_row + num_outputs) % self.bank.up;
    }

    /// Compute outputs anywhere, by interpolation between the neighbouring rows.
    fn compute_interpolated(&mut self, num_outputs: usize) {
        for (index, output) in self.outputs[..num_outputs].iter_mut().enumerate() {
            let position = self.position + index as u64 * self.step;
            let place = Place::new(self.next_input, position, &self.bank);
            let ticks = ((place.phase as u64) << POSITION_BITS) + position % (1 << POSITION_BITS);
            let rows = ticks * self.bank.rows_per_tick as u64;
            let row = (rows >> POSITION_BITS) as usize;
            let weight = (rows % (1 << POSITION_BITS)) as f32 / (1_u64 << POSITION_BITS) as f32;
            let window = &self.inputs[place.oldest..];
            let around = self.backend.dot_products_of_pair([self.bank.row(row, 0), self.bank.row(row + 1, 0)], window);
            *output = around[0] + (around[1] - around[0]) * weight;
        }
    }
}

/// Return a float, or silence for one that is not finite: it would spread, as the zeros around a row do not silence it.
fn finite(sample: [u8; 4]) -> f32 {
    let sample = f32::from_le_bytes(sample);
    if sample.is_finite() { sample } else { 0.0 }
}

/// Where an output lies.
struct Place {
    /// The place of the oldest input it depends on.
    oldest: usize,
    /// The ticks since its newest input.
    phase: usize,
}

impl Place {
    /// Find the place of a position in ticks since the input that stands at `next_input`.
    #[inline]
    fn new(next_input: usize, position: u64, bank: &Bank) -> Self {
        let ticks = (position >> POSITION_BITS) as usize;
        Self { oldest: next_input + ticks / bank.up + 1 - bank.num_taps, phase: ticks % bank.up }
    }

    /// Move on by one output.
    #[inline]
    fn advance(&mut self, bank: &Bank) {
        self.oldest += bank.whole_step;
        self.phase += bank.phase_step;
        // Without a branch, which for most ratios could not be foretold.
        let wraps = usize::from(self.phase >= bank.up);
        self.phase -= bank.up * wraps;
        self.oldest += wraps;
    }
}

/// Resample a whole mono recording: the delay is trimmed and the result has round(n * out / in) samples.
///
/// The rounding is half to even.
pub fn resample(
    audio: &[u8],
    input_rate: u32,
    output_rate: u32,
    quality: Quality,
    sample_format: SampleFormat,
) -> Result<Vec<u8>> {
    let sample_bytes = sample_format.sample_bytes();
    let num_inputs = pcm::num_samples(audio.len(), sample_bytes)?;
    let mut resampler = Resampler::new(input_rate, output_rate, quality, sample_format)?;
    let num_outputs = round_ratio(num_inputs as u128 * u128::from(output_rate), u128::from(input_rate));
    let num_fed_bytes = resampler.output_bytes(audio.len());
    let delay_bytes = if num_inputs == 0 { 0 } else { resampler.delay_samples() * sample_bytes };
    let mut output = vec![0; num_fed_bytes + delay_bytes];
    let (fed, tail) = output.split_at_mut(num_fed_bytes);
    resampler.feed_into(audio, fed);
    resampler.flush_into(tail)?;
    output.drain(..delay_bytes);
    output.truncate(num_outputs * sample_bytes);
    Ok(output)
}

fn round_ratio(numerator: u128, denominator: u128) -> usize {
    let (quotient, remainder) = (numerator / denominator, numerator % denominator);
    let rounds_up = match (remainder * 2).cmp(&denominator) {
        std::cmp::Ordering::Less => 0,
        std::cmp::Ordering::Equal => quotient & 1,
        std::cmp::Ordering::Greater => 1,
    };
    (quotient + rounds_up) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATES: [u32; 6] = [8_000, 16_000, 22_050, 24_000, 44_100, 48_000];
    const QUALITIES: [Quality; 3] = [Quality::Balanced, Quality::LowLatency, Quality::High];

    fn every_pair() -> impl Iterator<Item = (u32, u32)> {
        let pairs = RATES.into_iter().flat_map(|input| RATES.into_iter().map(move |output| (input, output)));
        pairs.filter(|(input, output)| input != output)
    }

    fn resampler(input_rate: u32, output_rate: u32, quality: Quality, sample_format: SampleFormat) -> Resampler {
        Resampler::new(input_rate, output_rate, quality, sample_format).expect("a common pair")
    }

    fn floats(bytes: &[u8]) -> Vec<f32> {
        bytes.as_chunks::<4>().0.iter().map(|sample| f32::from_le_bytes(*sample)).collect()
    }

    fn bytes(floats: &[f32]) -> Vec<u8> {
        floats.iter().flat_map(|sample| sample.to_le_bytes()).collect()
    }

    #[test]
    fn every_call_gives_what_is_due() {
        for (input_rate, output_rate) in every_pair() {
            let mut resampler = resampler(input_rate, output_rate, Quality::Balanced, SampleFormat::S16);
            let mut num_outputs = 0;
            for num_inputs in 1..400_u64 {
                num_outputs += resampler.feed(&[0, 0]).len() as u64 / 2;
                assert_eq!(num_outputs, (num_inputs * u64::from(output_rate)).div_ceil(u64::from(input_rate)));
            }
            assert_eq!(resampler.flush().expect("whole").len(), resampler.delay_samples() * 2);
        }
    }

    #[test]
    fn delay_is_exact_and_short() {
        for quality in QUALITIES {
            for (input_rate, output_rate) in every_pair() {
                let mut resampler = resampler(input_rate, output_rate, quality, SampleFormat::F32);
                let mut output = resampler.feed(&1.0_f32.to_le_bytes());
                output.extend(resampler.flush().expect("whole"));
                let response = floats(&output);
                let peak = (0..response.len()).max_by(|a, b| response[*a].total_cmp(&response[*b])).expect("not empty");
                assert_eq!(peak, resampler.delay_samples());
                let bound_ms = match quality {
                    Quality::LowLatency => 2.875,
                    Quality::Balanced => 5.875,
                    Quality::High => 10.0,
                } * 8000.0
                    / f64::from(input_rate.min(output_rate));
                assert!(resampler.delay_ms() < bound_ms + 1000.0 / f64::from(output_rate));
            }
        }
    }

    #[test]
    fn constant_stays_a_constant_in_every_phase() {
        for quality in QUALITIES {
            for (input_rate, output_rate) in every_pair() {
                let mut resampler = resampler(input_rate, output_rate, quality, SampleFormat::F32);
                let output = floats(&resampler.feed(&bytes(&[1.0; 4000])));
                assert!(output[2 * resampler.delay_samples()..].iter().all(|sample| (sample - 1.0).abs() < 1e-5));
            }
        }
    }

    #[test]
    fn silence_stays_silence() {
        for (input_rate, output_rate) in every_pair() {
            let mut resampler = resampler(input_rate, output_rate, Quality::High, SampleFormat::F32);
            assert!(resampler.feed(&[0; 8000]).iter().all(|byte| *byte == 0));
            assert!(resampler.flush().expect("whole").iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn one_shot_has_the_rounded_length() {
        let cases = [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 2), (7, 4)];
        for (num_inputs, num_outputs) in cases {
            let output = resample(&vec![0; num_inputs * 2], 16_000, 8_000, Quality::default(), SampleFormat::S16);
            assert_eq!(output.expect("valid").len(), num_outputs * 2, "{num_inputs}");
        }
    }

    #[test]
    fn what_is_not_finite_counts_as_silence() {
        for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let stream = |sample| {
                let mut resampler = resampler(16_000, 8_000, Quality::Balanced, SampleFormat::F32);
                let mut output = resampler.feed(&bytes(&[&[1.0; 500], &[sample][..], &[1.0; 500]].concat()));
                output.extend(resampler.flush().expect("whole"));
                output
            };
            assert_eq!(stream(special), stream(0.0));
        }
    }

    #[test]
    fn bad_rates_are_named() {
        let text = |input_rate, output_rate| {
            Resampler::new(input_rate, output_rate, Quality::Balanced, SampleFormat::S16)
                .expect_err("refused")
                .to_string()
        };
        assert_eq!(text(999, 8_000), "expected a sample rate of 1000 to 384000 Hz, got 999");
        assert_eq!(text(8_000, 384_001), "expected a sample rate of 1000 to 384000 Hz, got 384001");
        assert_eq!(
            text(44_101, 47_999),
            "expected rates that need at most 1048576 coefficients, got 4607904 for 44101 to 47999 Hz"
        );
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_bits(
            audio in prop::collection::vec(any::<u8>(), 0..3000),
            cuts in prop::collection::vec(0_usize..3000, 0..8),
            input in prop::sample::select(RATES.to_vec()),
            output in prop::sample::select(RATES.to_vec()),
            is_float in any::<bool>(),
        ) {
            let sample_format = if is_float { SampleFormat::F32 } else { SampleFormat::S16 };
            let audio = &audio[..audio.len() / 4 * 4];
            let mut resampler = resampler(input, output, Quality::Balanced, sample_format);
            let mut expected = resampler.feed(audio);
            expected.extend(resampler.flush().expect("whole"));
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| *cut.min(&audio.len())).collect();
            cuts.extend([0, audio.len()]);
            cuts.sort_unstable();
            let mut actual = Vec::new();
            for pair in cuts.windows(2) {
                actual.extend(resampler.feed(&audio[pair[0]..pair[1]]));
            }
            actual.extend(resampler.flush().expect("whole"));
            prop_assert_eq!(actual, expected);
        }
    }
}
