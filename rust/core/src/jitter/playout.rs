//! Audio that a server sends in bursts: begin early, slow down while little is there, never lose or hurry any.

use super::line::{Line, Made};
use super::{JitterStats, Packet, refusal};
use crate::Result;
use std::collections::VecDeque;

/// Below this much waiting audio, speech is slowed down, in milliseconds.
const LOW_MS: f64 = 200.0;
/// How long one stretch of voiced speech is from the next, in milliseconds.
const REST_MS: f64 = 40.0;
/// How much to gather after an underrun, in milliseconds: three quarters of the usual 80 ms chunk.
const RESTART_MS: f64 = 60.0;
/// How much a pause may be drawn out, per frame.
const PAUSE_SHARE: f64 = 0.5;
/// How many jumps of the sender's clock may wait.
const MAX_JUMPS: usize = 256;

/// When to play, and how fast.
pub(super) struct Playout {
    ms_per_sample: f64,
    start_ms: f64,
    /// What has to be gathered before it plays again; None while it plays.
    gathering_ms: Option<f64>,
    /// When the first of what is gathered came.
    since: Option<f64>,
    /// From which place on the sender's clock reads what: (place, timestamp).
    clocks: VecDeque<(i64, i64)>,
    is_finished: bool,
    rest_ms: f64,
}

impl Playout {
    pub(super) fn new(sample_rate: u32, start_ms: f64) -> Self {
        Self {
            ms_per_sample: 1000.0 / f64::from(sample_rate),
            start_ms,
            gathering_ms: Some(start_ms),
            since: None,
            clocks: VecDeque::with_capacity(MAX_JUMPS),
            is_finished: false,
            rest_ms: 0.0,
        }
    }

    pub(super) fn clear(&mut self) {
        self.gathering_ms = Some(self.start_ms);
        self.since = None;
        self.clocks.clear();
        self.is_finished = false;
        self.rest_ms = 0.0;
    }

    pub(super) fn finish(&mut self) {
        self.is_finished = true;
    }

    fn ms(&self, samples: usize) -> f64 {
        samples as f64 * self.ms_per_sample
    }

    pub(super) fn push(
        &mut self,
        packet: Packet<'_>,
        now: f64,
        line: &mut Line,
        stats: &mut JitterStats,
    ) -> Result<()> {
        let num_samples = packet.pcm.len() / 2;
        let store = &mut line.store;
        let place = store.end();
        let waiting = (place - store.start()) as usize;
        if waiting + num_samples > store.capacity() as usize {
            let most = format!("at most {} ms of audio waiting", self.ms(store.capacity() as usize));
            return Err(refusal(most, self.ms(waiting + num_samples)));
        }
        let expected = self.clocks.back().map(|(from, timestamp)| timestamp + (place - from));
        // Timestamps wrap: unwrap them to near what is expected.
        let timestamp = expected.map_or(i64::from(packet.timestamp), |expected| {
            expected + i64::from(packet.timestamp.wrapping_sub(expected as u32) as i32)
        });
        if expected != Some(timestamp) {
            if self.clocks.len() == MAX_JUMPS {
                let most = format!("at most {MAX_JUMPS} jumps of the timestamp in the audio that waits");
                return Err(refusal(most, MAX_JUMPS + 1));
            }
            self.clocks.push_back((place, timestamp));
        }
        store.put(place, packet.pcm);
        stats.num_received += 1;
        self.since.get_or_insert(now);
        self.is_finished = false;
        Ok(())
    }

    /// Return how the next frame was made, None for silence.
    pub(super) fn pop(&mut self, now: f64, line: &mut Line, stats: &mut JitterStats) -> Option<(Made, i64)> {
        let size = line.frame_size();
        let waiting = line.queued() + (line.store.end() - line.position()) as usize;
        stats.delay_ms = self.ms(waiting);
        stats.target_delay_ms = self.gathering_ms.unwrap_or(0.0);
        let begins = self.gathering_ms.is_some();
        if let Some(gathering_ms) = self.gathering_ms {
            let since = self.since?;
            let is_ready = self.ms(waiting) >= gathering_ms && waiting >= size;
            if !is_ready && (now - since) * 1000.0 < gathering_ms.max(RESTART_MS) && !self.is_finished {
                return None;
            }
            self.gathering_ms = None;
        }
        let mut made = Made::default();
        self.rest_ms -= self.ms(size);
        // Not at the very beginning, which that would only put off.
        if self.ms(waiting) < LOW_MS && !begins && !self.is_finished && line.fetch(size) {
            let is_pause = line.is_queue_pause();
            if is_pause || self.rest_ms <= 0.0 {
                let want = if is_pause { (size as f64 * PAUSE_SHARE) as usize } else { size };
                made.expanded = line.stretch(want, is_pause);
                if made.expanded > 0 {
                    // A frame put in before every frame would be all that is ever heard.
                    self.rest_ms = REST_MS.max(2.0 * self.ms(size));
                }
            }
        }
        if !line.fetch(size) {
            let missing = size - line.queued();
            if self.is_finished {
                line.pad(missing);
                made.expanded += missing;
                self.gathering_ms = Some(self.start_ms);
            } else {
                line.conceal(missing, None);
                made.concealed += missing;
                stats.num_underruns += 1;
                self.gathering_ms = Some(RESTART_MS.max(self.start_ms));
            }
            made.invented += missing;
            self.since = None;
        }
        line.emit();
        let end = line.position() - line.queued() as i64;
        while self.clocks.len() > 1 && self.clocks[1].0 < end {
            self.clocks.pop_front();
        }
        let timestamp = self.clocks.front().map_or(end, |(from, timestamp)| timestamp + (end - from));
        Some((made, timestamp))
    }
}
