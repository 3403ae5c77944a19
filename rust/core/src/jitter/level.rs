//! Where nobody speaks: the noise floor of the stream, and pauses.

/// The energy per sample below which speech cannot be heard on a telephone, about -66 dB below full scale.
const INAUDIBLE: f32 = 250.0;
/// Noise louder than this, about -44 dB below full scale, is never taken for a pause.
const LOUDEST_NOISE: f32 = 40_000.0;
/// How far above its floor noise may be, as a factor of its energy.
const NOISE_SPREAD: f32 = 6.0;
/// How fast the floor rises, per 20 ms: 4 dB a second.
const RISE: f32 = 1.02;

/// The mean square of samples.
pub(super) fn energy(samples: &[i16]) -> f32 {
    mean_square(samples, |sample| f32::from(*sample))
}

/// The mean square of little-endian samples.
pub(super) fn energy_of_pcm(pcm: &[u8]) -> f32 {
    mean_square(pcm.as_chunks().0, |bytes| f32::from(i16::from_le_bytes(*bytes)))
}

#[inline(always)]
fn mean_square<T>(samples: &[T], value: impl Fn(&T) -> f32) -> f32 {
    // Eight sums at a time, which a compiler may not make of one.
    let mut sums = [0.0_f32; 8];
    let (chunks, rest) = samples.as_chunks::<8>();
    for chunk in chunks {
        for (sum, sample) in sums.iter_mut().zip(chunk) {
            *sum += value(sample) * value(sample);
        }
    }
    let rest: f32 = rest.iter().map(|sample| value(sample) * value(sample)).sum();
    (sums.iter().sum::<f32>() + rest) / samples.len().max(1) as f32
}

/// Follows the noise floor.
#[derive(Clone, Debug)]
pub(super) struct Level {
    floor: f32,
}

impl Level {
    pub(super) fn new() -> Self {
        Self { floor: INAUDIBLE }
    }

    /// Learn from about 20 ms of what the sender sent.
    pub(super) fn observe(&mut self, energy: f32) {
        self.floor = (self.floor * RISE).min(energy + 1.0);
    }

    /// Whether sound of this energy is a pause.
    pub(super) fn is_pause(&self, energy: f32) -> bool {
        energy < INAUDIBLE.max(NOISE_SPREAD * self.floor).min(LOUDEST_NOISE)
    }
}
