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
    let mut sum = 0.0_f32;
    for chunk in samples.chunks(16) {
        let squares: i64 = chunk.iter().map(|&sample| i64::from(i32::from(sample) * i32::from(sample))).sum();
        sum += squares as f32;
    }
    sum / samples.len().max(1) as f32
}

/// The mean square of little-endian samples.
pub(super) fn energy_of_pcm(pcm: &[u8]) -> f32 {
    let samples = pcm.as_chunks::<2>().0;
    let mut sum = 0.0_f32;
    for chunk in samples.chunks(16) {
        let squares: i64 = chunk
            .iter()
            .map(|bytes| {
                let sample = i32::from(i16::from_le_bytes(*bytes));
                i64::from(sample * sample)
            })
            .sum();
        sum += squares as f32;
    }
    sum / samples.len().max(1) as f32
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

    /// Learn from about 20 ms of what the sender sent, and say whether it is a pause.
    pub(super) fn observe(&mut self, energy: f32) -> bool {
        self.floor = (self.floor * RISE).min(energy + 1.0);
        self.is_pause(energy)
    }

    /// Whether sound of this energy is a pause.
    pub(super) fn is_pause(&self, energy: f32) -> bool {
        energy < INAUDIBLE.max(NOISE_SPREAD * self.floor).min(LOUDEST_NOISE)
    }
}
