//! Streaming rational resampling of mono audio with a polyphase FIR filter.
//!
//! Every output is one dot product of the newest inputs with the coefficients of its phase, summed in a fixed order.
//! There is no block transform and no queue, so any cutting of the input gives the same bits, and after n inputs
//! exactly ceil(n * `output_rate` / `input_rate`) outputs have come.

use crate::kernel::Kernel;
use crate::{Error, Result, pcm};

/// The lowest sample rate in Hz.
pub const MIN_SAMPLE_RATE: u32 = 1_000;
/// The highest sample rate in Hz.
pub const MAX_SAMPLE_RATE: u32 = 384_000;
/// The largest coefficient bank: 4 MiB, enough for every pair of common rates many times over.
pub const MAX_TAPS: u64 = 1 << 20;

/// Independent sums of a dot product: two SSE registers or one AVX register.
const LANES: usize = 8;
/// Inputs taken in at once, so that the working buffer stays in the cache however long the chunk is.
const BLOCK_SAMPLES: usize = 1024;
/// Outputs computed before they are summed up and converted together.
const BATCH_SAMPLES: usize = 64;

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

/// The ratio of a pair of rates in lowest terms, with the coefficients for it.
#[derive(Clone, Debug)]
struct Bank {
    /// Phases, which is the reduced output rate.
    up: usize,
    /// The reduced input rate.
    down: usize,
    /// Coefficients of one phase, a multiple of `LANES`; the newest input meets the last one.
    row: usize,
    taps: Vec<f32>,
    delay_samples: usize,
}

impl Bank {
    fn new(input_rate: u32, output_rate: u32, quality: Quality) -> Result<Self> {
        let divisor = greatest_common_divisor(input_rate, output_rate);
        let (up, down) = ((output_rate / divisor) as usize, (input_rate / divisor) as usize);
        if up == down {
            return Ok(Self { up, down, row: 0, taps: Vec::new(), delay_samples: 0 });
        }
        let kernel = Kernel::of(quality);
        // Times are counted in ticks of 1 / (up * input_rate) = 1 / (down * output_rate); the lower rate has `tick`.
        let tick = up.max(down);
        let half = kernel.num_taps / 2.0 * tick as f64;
        let delay_samples = (half / down as f64).ceil() as usize;
        let center = (delay_samples * down) as f64;
        let row = (((center + half) / up as f64).ceil() as usize).next_multiple_of(LANES);
        let num_taps = up as u64 * row as u64;
        if num_taps > MAX_TAPS {
            return Err(Error::RatePair { input_rate, output_rate, num_taps, max_taps: MAX_TAPS });
        }
        let mut taps = vec![0.0; up * row];
        let mut phase_taps = vec![0.0; row];
        for (phase, stored) in taps.chunks_exact_mut(row).enumerate() {
            for (j, tap) in phase_taps.iter_mut().rev().enumerate() {
                *tap = kernel.value(((phase + j * up) as f64 - center) / tick as f64);
            }
            // Each phase on its own has the gain 1 at zero frequency, so a constant stays a constant.
            let gain: f64 = phase_taps.iter().sum();
            for (stored, tap) in stored.iter_mut().zip(&phase_taps) {
                *stored = (tap / gain) as f32;
            }
        }
        Ok(Self { up, down, row, taps, delay_samples })
    }

    fn is_identity(&self) -> bool {
        self.up == self.down
    }
}

/// A streaming mono resampler. It belongs to one stream.
#[derive(Clone, Debug)]
pub struct Resampler {
    input_rate: u32,
    output_rate: u32,
    sample_format: SampleFormat,
    bank: Bank,
    /// The last `row - 1` inputs, then room for a block of new ones.
    buffer: Vec<f32>,
    /// The phase of the next output.
    phase: usize,
    /// The newest input of the next output, counted from the first input not yet fed.
    ahead: usize,
    num_fed_bytes: u64,
    partial: [u8; 4],
    num_partial: usize,
}

impl Resampler {
    /// Create a resampler for one stream of mono audio.
    pub fn new(input_rate: u32, output_rate: u32, quality: Quality, sample_format: SampleFormat) -> Result<Self> {
        check_sample_rate(input_rate)?;
        check_sample_rate(output_rate)?;
        let bank = Bank::new(input_rate, output_rate, quality)?;
        let buffer = if bank.is_identity() { Vec::new() } else { vec![0.0; bank.row - 1 + BLOCK_SAMPLES] };
        Ok(Self {
            input_rate,
            output_rate,
            sample_format,
            bank,
            buffer,
            phase: 0,
            ahead: 0,
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
        let position = self.ahead * self.bank.up + self.phase;
        (num_inputs * self.bank.up).saturating_sub(position).div_ceil(self.bank.down) * sample_bytes
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
        for block in whole.chunks(BLOCK_SAMPLES * sample_bytes) {
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
        let history = self.bank.row.saturating_sub(1);
        let mut num_written = 0;
        while num_written < output.len() {
            self.buffer[history..].fill(0.0);
            num_written += self.advance(BLOCK_SAMPLES, &mut output[num_written..]);
        }
        self.reset();
        Ok(())
    }

    /// Forget the stream and start a new one.
    pub fn reset(&mut self) {
        self.buffer.fill(0.0);
        self.phase = 0;
        self.ahead = 0;
        self.num_fed_bytes = 0;
        self.num_partial = 0;
    }

    /// Feed whole samples, at most a block; return how many bytes were written.
    fn feed_block(&mut self, block: &[u8], output: &mut [u8]) -> usize {
        if self.bank.is_identity() {
            output[..block.len()].copy_from_slice(block);
            return block.len();
        }
        let inputs = &mut self.buffer[self.bank.row - 1..];
        match self.sample_format {
            // The samples keep their scale, which saves two multiplications and loses nothing.
            SampleFormat::S16 => {
                for (input, sample) in inputs.iter_mut().zip(block.as_chunks::<2>().0) {
                    *input = f32::from(i16::from_le_bytes(*sample));
                }
            }
            SampleFormat::F32 => {
                for (input, sample) in inputs.iter_mut().zip(block.as_chunks::<4>().0) {
                    *input = f32::from_le_bytes(*sample);
                }
            }
        }
        self.advance(block.len() / self.sample_format.sample_bytes(), output)
    }

    /// Compute the outputs that the new inputs in the buffer allow, as long as there is room for them.
    ///
    /// Return how many bytes were written.
    fn advance(&mut self, num_inputs: usize, output: &mut [u8]) -> usize {
        let Bank { up, down, row, taps, .. } = &self.bank;
        let (step, phase_step) = (down / up, down % up);
        let sample_bytes = self.sample_format.sample_bytes();
        let mut batch = [[0.0; LANES]; BATCH_SAMPLES];
        let mut num_written = 0;
        while self.ahead < num_inputs && num_written < output.len() {
            let room = BATCH_SAMPLES.min((output.len() - num_written) / sample_bytes);
            let mut num_outputs = 0;
            while num_outputs < room && self.ahead < num_inputs {
                let window = &self.buffer[self.ahead..self.ahead + row];
                batch[num_outputs] = lane_sums(&taps[self.phase * row..(self.phase + 1) * row], window);
                num_outputs += 1;
                self.ahead += step;
                self.phase += phase_step;
                if self.phase >= *up {
                    self.phase -= up;
                    self.ahead += 1;
                }
            }
            let num_bytes = num_outputs * sample_bytes;
            store(self.sample_format, &batch[..num_outputs], &mut output[num_written..num_written + num_bytes]);
            num_written += num_bytes;
        }
        // A full output leaves `ahead` behind only while flushing, and the stream is reset after that.
        self.ahead = self.ahead.saturating_sub(num_inputs);
        self.buffer.copy_within(num_inputs..num_inputs + row - 1, 0);
        num_written
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

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

fn store(sample_format: SampleFormat, batch: &[[f32; LANES]], output: &mut [u8]) {
    let samples = batch.iter().map(sum_of_lanes);
    match sample_format {
        SampleFormat::S16 => {
            for (stored, sample) in output.as_chunks_mut::<2>().0.iter_mut().zip(samples) {
                *stored = pcm::sample_from_units(sample).to_le_bytes();
            }
        }
        SampleFormat::F32 => {
            for (stored, sample) in output.as_chunks_mut::<4>().0.iter_mut().zip(samples) {
                *stored = sample.to_le_bytes();
            }
        }
    }
}

/// Multiply and add with one sum per lane, in the same order on every machine.
#[inline]
fn lane_sums(taps: &[f32], window: &[f32]) -> [f32; LANES] {
    let mut sums = [0.0; LANES];
    for (taps, window) in taps.as_chunks::<LANES>().0.iter().zip(window.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            sums[lane] += taps[lane] * window[lane];
        }
    }
    sums
}

/// Add the lanes in pairs.
///
/// This is kept out of the loop of `lane_sums`: where the compiler sees both, it works with vectors of two lanes, the
/// width of the last addition, and takes twice as long.
#[inline]
fn sum_of_lanes(sums: &[f32; LANES]) -> f32 {
    let mut sums = *sums;
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
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
    fn after_not_a_number_the_stream_recovers() {
        let mut resampler = resampler(16_000, 8_000, Quality::Balanced, SampleFormat::F32);
        let output = floats(&resampler.feed(&bytes(&[&[f32::NAN][..], &[1.0; 1000]].concat())));
        assert!(output[0].is_nan());
        assert!((output[499] - 1.0).abs() < 1e-5);
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
