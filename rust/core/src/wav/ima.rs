//! Blocks of IMA ADPCM.
//!
//! The layout is that of Microsoft's "Multimedia Data Standards Update" (1994): a block starts with the state of each
//! channel, 4 bytes that hold a sample as it is, the step index and a zero. Groups of 8 samples follow, 4 bytes for
//! each channel in turn, the first sample in the low half of its byte.

use super::{container, u16_at};
use crate::adpcm::{MAX_STEP_INDEX, State};
use crate::{Error, Result};

/// Bytes of one channel, in the head of a block and in each group of 8 samples.
const GROUP_BYTES: usize = 4;
const GROUP_SAMPLES: usize = 8;

/// The size of a block in bytes and in samples of each channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockLayout {
    pub num_channels: usize,
    pub block_bytes: usize,
    pub block_samples: usize,
}

impl BlockLayout {
    /// Take the numbers of a format chunk; fewer samples than a block can hold are allowed.
    pub fn new(num_channels: u16, block_bytes: u16, block_samples: u16) -> Result<Self> {
        let layout = Self {
            num_channels: usize::from(num_channels),
            block_bytes: usize::from(block_bytes),
            block_samples: usize::from(block_samples),
        };
        if layout.block_bytes < layout.head_bytes() {
            return Err(container(
                format!("blocks of at least {} bytes for {num_channels} channels", layout.head_bytes()),
                format!("{block_bytes} bytes"),
            ));
        }
        let max_samples = layout.held_samples(layout.block_bytes);
        if block_samples == 0 || layout.block_samples > max_samples {
            return Err(container(
                format!("1 to {max_samples} samples in a block of {block_bytes} bytes for {num_channels} channels"),
                block_samples.to_string(),
            ));
        }
        Ok(layout)
    }

    fn head_bytes(self) -> usize {
        GROUP_BYTES * self.num_channels
    }

    /// The smallest piece with whole samples of all channels: a byte, or the group where channels take turns.
    fn unit_bytes(self) -> usize {
        if self.num_channels == 1 { 1 } else { GROUP_BYTES * self.num_channels }
    }

    fn unit_samples(self) -> usize {
        if self.num_channels == 1 { 2 } else { GROUP_SAMPLES }
    }

    fn held_samples(self, num_bytes: usize) -> usize {
        let Some(payload_bytes) = num_bytes.checked_sub(self.head_bytes()) else { return 0 };
        1 + payload_bytes / self.unit_bytes() * self.unit_samples()
    }

    /// Return how many samples each channel has in so many bytes of data.
    pub fn samples_in(self, num_bytes: u64) -> u64 {
        let block_bytes = self.block_bytes as u64;
        let last = self.held_samples((num_bytes % block_bytes) as usize).min(self.block_samples);
        num_bytes / block_bytes * self.block_samples as u64 + last as u64
    }
}

/// Decodes blocks cut anywhere, each sample as soon as its byte or group is there.
#[derive(Clone, Debug)]
pub struct BlockDecoder {
    layout: BlockLayout,
    states: Vec<State>,
    /// Where the next byte stands in its block.
    position: usize,
    /// How many samples of each channel the rest of the block has.
    block_samples: usize,
    /// How many samples of each channel the rest of the stream has.
    stream_samples: u64,
    num_blocks: u64,
    /// A part of a block's head or of a group.
    pending: Vec<u8>,
}

impl BlockDecoder {
    /// Create a decoder that drops what follows after `num_samples` of each channel.
    pub fn new(layout: BlockLayout, num_samples: u64) -> Self {
        Self {
            layout,
            states: Vec::new(),
            position: 0,
            block_samples: 0,
            stream_samples: num_samples,
            num_blocks: 0,
            pending: Vec::new(),
        }
    }

    /// Return the size of the piece that the data ended in, if it did not end at a sample.
    pub fn partial_bytes(&self) -> Option<usize> {
        let is_head = self.position <= self.layout.head_bytes();
        let piece_bytes = if is_head { self.layout.head_bytes() } else { self.layout.unit_bytes() };
        (!self.pending.is_empty()).then_some(piece_bytes)
    }

    /// Decode data and append the PCM it completes to `output`.
    pub fn decode(&mut self, mut data: &[u8], output: &mut Vec<u8>) -> Result<()> {
        while !data.is_empty() && self.stream_samples > 0 {
            if self.position < self.layout.head_bytes() {
                if let Some(head) = self.collect(&mut data, self.layout.head_bytes()) {
                    self.start_block(&head, output)?;
                    self.keep(head);
                }
            } else if self.block_samples == 0 {
                // What a block has room for but does not use.
                let num_skipped = (self.layout.block_bytes - self.position).min(data.len());
                data = &data[num_skipped..];
                self.position += num_skipped;
            } else if self.pending.is_empty() && data.len() >= self.layout.unit_bytes() {
                let needed_bytes = self.block_samples.div_ceil(self.layout.unit_samples()) * self.layout.unit_bytes();
                let num_taken = needed_bytes.min(data.len() - data.len() % self.layout.unit_bytes());
                let (units, rest) = data.split_at(num_taken);
                data = rest;
                self.position += num_taken;
                self.decode_units(units, output);
            } else if let Some(unit) = self.collect(&mut data, self.layout.unit_bytes()) {
                self.decode_units(&unit, output);
                self.keep(unit);
            }
            if self.position == self.layout.block_bytes {
                self.position = 0;
            }
        }
        if self.stream_samples == 0 {
            self.pending.clear();
        }
        Ok(())
    }

    /// Move bytes to `pending` until it has `num_bytes`, then take them all.
    fn collect(&mut self, data: &mut &[u8], num_bytes: usize) -> Option<Vec<u8>> {
        let num_taken = (num_bytes - self.pending.len()).min(data.len());
        self.pending.extend_from_slice(&data[..num_taken]);
        *data = &data[num_taken..];
        self.position += num_taken;
        (self.pending.len() == num_bytes).then(|| std::mem::take(&mut self.pending))
    }

    /// Take an allocation back for the next piece.
    fn keep(&mut self, mut piece: Vec<u8>) {
        piece.clear();
        self.pending = piece;
    }

    fn start_block(&mut self, head: &[u8], output: &mut Vec<u8>) -> Result<()> {
        self.states.clear();
        for (channel, head) in head.as_chunks::<GROUP_BYTES>().0.iter().enumerate() {
            let state =
                State::new(u16_at(head, 0) as i16, head[2]).ok_or_else(|| self.step_index_error(channel, head[2]))?;
            self.states.push(state);
        }
        output.extend(self.states.iter().flat_map(|state| state.predictor().to_le_bytes()));
        self.num_blocks += 1;
        self.block_samples = self.layout.block_samples - 1;
        self.stream_samples -= 1;
        Ok(())
    }

    #[cold]
    fn step_index_error(&self, channel: usize, step_index: u8) -> Error {
        container(
            format!("a step index of 0 to {MAX_STEP_INDEX}"),
            format!("{step_index} for channel {channel} of block {}", self.num_blocks),
        )
    }

    /// Decode whole units of the block, the last of them perhaps in part.
    fn decode_units(&mut self, units: &[u8], output: &mut Vec<u8>) {
        let num_channels = self.layout.num_channels;
        let num_held = units.len() / self.layout.unit_bytes() * self.layout.unit_samples();
        let num_used = (num_held.min(self.block_samples) as u64).min(self.stream_samples) as usize;
        let start = output.len();
        output.resize(start + num_held * num_channels * 2, 0);
        let samples = output[start..].as_chunks_mut::<2>().0;
        if let [state] = self.states[..] {
            let mut state = state;
            for (pair, byte) in samples.as_chunks_mut::<2>().0.iter_mut().zip(units) {
                *pair = [state.decode(*byte & 15).to_le_bytes(), state.decode(*byte >> 4).to_le_bytes()];
            }
            self.states[0] = state;
        } else {
            let groups = units.chunks_exact(self.layout.unit_bytes());
            for (samples, group) in samples.chunks_exact_mut(GROUP_SAMPLES * num_channels).zip(groups) {
                let channels = self.states.iter_mut().zip(group.as_chunks::<GROUP_BYTES>().0).enumerate();
                for (channel, (state, codes)) in channels {
                    for (index, byte) in codes.iter().enumerate() {
                        let place = 2 * index * num_channels + channel;
                        samples[place] = state.decode(byte & 15).to_le_bytes();
                        samples[place + num_channels] = state.decode(byte >> 4).to_le_bytes();
                    }
                }
            }
        }
        output.truncate(start + num_used * num_channels * 2);
        self.block_samples -= num_used;
        self.stream_samples -= num_used as u64;
    }
}

/// Encodes blocks; the step indices go on from one to the next.
#[derive(Clone, Debug)]
pub struct BlockEncoder {
    layout: BlockLayout,
    step_indices: Vec<u8>,
}

impl BlockEncoder {
    /// Create an encoder; the block has to hold as many samples as it has room for.
    pub fn new(layout: BlockLayout) -> Self {
        Self { layout, step_indices: vec![0; layout.num_channels] }
    }

    /// Return the size of a block in bytes and samples.
    pub fn layout(&self) -> BlockLayout {
        self.layout
    }

    /// Return the size of the PCM that fills a block.
    pub fn pcm_bytes(&self) -> usize {
        self.layout.block_samples * self.layout.num_channels * 2
    }

    /// Forget the stream and start a new one.
    pub fn reset(&mut self) {
        self.step_indices.fill(0);
    }

    /// Append the block of 1 or more whole sample frames; the last one fills up what is missing.
    pub fn encode(&mut self, pcm: &[u8], output: &mut Vec<u8>) {
        let num_channels = self.layout.num_channels;
        let samples = pcm.as_chunks::<2>().0;
        let Some(last) = (samples.len() / num_channels).checked_sub(1) else { return };
        let sample =
            |index: usize, channel: usize| i16::from_le_bytes(samples[index.min(last) * num_channels + channel]);
        let mut states = Vec::with_capacity(num_channels);
        for (channel, step_index) in self.step_indices.iter().enumerate() {
            let [low, high] = sample(0, channel).to_le_bytes();
            output.extend_from_slice(&[low, high, *step_index, 0]);
            states.push(State::new(sample(0, channel), *step_index).unwrap_or_default());
        }
        for group in 0..(self.layout.block_samples - 1) / GROUP_SAMPLES {
            for (channel, state) in states.iter_mut().enumerate() {
                for byte in 0..GROUP_BYTES {
                    let index = 1 + group * GROUP_SAMPLES + byte * 2;
                    let low = state.encode(sample(index, channel));
                    output.push(low | state.encode(sample(index + 1, channel)) << 4);
                }
            }
        }
        for (step_index, state) in self.step_indices.iter_mut().zip(states) {
            *step_index = state.step_index();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(layout: BlockLayout, data: &[u8]) -> Vec<i16> {
        let mut output = Vec::new();
        BlockDecoder::new(layout, u64::MAX).decode(data, &mut output).expect("valid");
        output.as_chunks::<2>().0.iter().map(|sample| i16::from_le_bytes(*sample)).collect()
    }

    #[test]
    fn low_half_comes_first() {
        let layout = BlockLayout::new(1, 5, 3).expect("valid");
        // The step is 7: code 4 adds 7 + 7/8, code 12 takes the same off with the step grown to 9.
        assert_eq!(decode(layout, &[0, 1, 0, 0, 0xC4]), [256, 263, 253]);
    }

    #[test]
    fn channels_take_turns_by_four_bytes() {
        let layout = BlockLayout::new(2, 16, 9).expect("valid");
        let samples = decode(layout, &[0, 0, 0, 0, 100, 0, 0, 0, 4, 0, 0, 0, 12, 0, 0, 0]);
        assert_eq!(samples[..4], [0, 100, 7, 93]);
        assert_eq!(samples.len(), 18);
    }

    #[test]
    fn unused_room_is_skipped() {
        let layout = BlockLayout::new(1, 8, 2).expect("valid");
        assert_eq!(decode(layout, &[5, 0, 0, 0, 0, 1, 2, 3, 6, 0, 0, 0, 0]), [5, 5, 6, 6]);
        assert_eq!((layout.samples_in(13), layout.samples_in(12), layout.samples_in(11)), (4, 3, 2));
    }

    #[test]
    fn samples_are_limited() {
        let layout = BlockLayout::new(1, 8, 9).expect("valid");
        let (mut decoder, mut output) = (BlockDecoder::new(layout, 4), Vec::new());
        decoder.decode(&[0; 16], &mut output).expect("valid");
        assert_eq!((output.len(), decoder.partial_bytes()), (8, None));
    }

    #[test]
    fn encoded_block_decodes_to_what_the_encoder_heard() {
        let layout = BlockLayout::new(2, 24, 17).expect("valid");
        let pcm: Vec<u8> = (0..20_i16).flat_map(|index| (index * 50).to_le_bytes()).collect();
        let mut block = Vec::new();
        BlockEncoder::new(layout).encode(&pcm, &mut block);
        let samples = decode(layout, &block);
        assert_eq!((block.len(), samples.len()), (24, 34));
        assert_eq!(samples[..2], [0, 50]);
        // The last sample frame is held: the steps shrink around it.
        assert!((samples[32] - 900).abs() < 100 && (samples[33] - 950).abs() < 100, "{samples:?}");
    }
}
