//! Packets in real time from a network: play them as early as pays.

use super::delay::{Arrival, Delay, SHORT_MS, SPARE_MS};
use super::level::energy_of_pcm;
use super::line::{Line, Made};
use super::{JitterOptions, JitterStats, Packet};
use std::collections::VecDeque;

/// How many packets are remembered by their sequence number.
const NUM_HEADERS: usize = 256;
/// How many silences of the sender may wait.
const MAX_SILENCES: usize = 64;
/// How much earlier than any other a packet may be before its timestamp is not believed, in milliseconds.
const MAX_EARLY_MS: f64 = 1000.0;
/// How much longer than the newest packet one may take, in milliseconds, before nothing is learnt from it: no virtual
/// playout waits for longer than that, and it may be of a clock that began anew.
const MAX_DETOUR_MS: f64 = 360.0;
/// How many packets in a row may be behind what was played before the sender's clock is taken to have jumped.
const MAX_BEHIND: u32 = 5;

/// How long voiced speech is left alone after a change of its speed, in milliseconds, unless there is more to take out
/// than this.
const REST_MS: f64 = 80.0;
const URGENT_MS: f64 = 60.0;

/// How much later than the earliest of late a frame may be asked for, in milliseconds, before those between count as
/// never asked for, and how much of that is forgotten with every frame.
const MAX_HOLDUP_MS: f64 = 40.0;
const HOLDUP_MEMORY: f64 = 0.99;

/// A packet that came, by its place.
#[derive(Clone, Copy)]
struct Header {
    seq: i64,
    start: i64,
    end: i64,
}

const NO_HEADER: Header = Header { seq: i64::MIN, start: 0, end: 0 };

/// The sender's counters, unwrapped, and how places follow from its clock.
#[derive(Clone, Copy)]
struct Sender {
    first_seq: i64,
    newest_seq: i64,
    newest_timestamp: i64,
    /// Place less timestamp.
    shift: i64,
    /// Before this place the shift was another.
    shifted_at: i64,
    old_shift: i64,
    /// Lost before the first sequence number.
    num_lost: u64,
    num_received: u64,
    /// When something at this place would have come with the first packet's delay: what every delay is counted from.
    origin_s: f64,
    origin_place: i64,
}

/// When to play, and how fast.
pub(super) struct Network {
    ms_per_sample: f64,
    drop_late: bool,
    loss_price_ms: f32,
    delay: Delay,
    sender: Option<Sender>,
    headers: Box<[Header]>,
    /// Where the sender sent nothing, and lost nothing: (from, to).
    silences: VecDeque<(i64, i64)>,
    is_playing: bool,
    /// How many samples were made up since the last that was received.
    waited: usize,
    is_concealing: bool,
    /// How long voiced speech is to be left alone after a change of speed.
    rest_ms: f64,
    last_transit_ms: f64,
    /// The delay at which it was played last.
    played_ms: f64,
    num_behind: u32,
    last_seq: u16,
    /// When the last frame was due by the consumer's own pace.
    due_s: f64,
}

impl Network {
    pub(super) fn new(options: &JitterOptions) -> Self {
        let loss_price_ms = options.loss_price_ms as f32;
        Self {
            ms_per_sample: 1000.0 / f64::from(options.sample_rate),
            drop_late: options.drop_late,
            delay: Delay::new(loss_price_ms),
            loss_price_ms,
            sender: None,
            headers: vec![NO_HEADER; NUM_HEADERS].into(),
            silences: VecDeque::with_capacity(MAX_SILENCES),
            is_playing: false,
            waited: 0,
            is_concealing: false,
            rest_ms: 0.0,
            last_transit_ms: 0.0,
            played_ms: 0.0,
            num_behind: 0,
            last_seq: 0,
            due_s: f64::NEG_INFINITY,
        }
    }

    pub(super) fn reset(&mut self) {
        self.delay = Delay::new(self.loss_price_ms);
        self.sender = None;
        self.headers.fill(NO_HEADER);
        self.num_behind = 0;
        self.rest_ms = 0.0;
        self.played_ms = 0.0;
        self.due_s = f64::NEG_INFINITY;
        self.clear();
    }

    pub(super) fn clear(&mut self) {
        self.silences.clear();
        self.is_playing = false;
        self.waited = 0;
        self.is_concealing = false;
    }

    fn ms(&self, samples: i64) -> f64 {
        samples as f64 * self.ms_per_sample
    }

    fn samples(&self, ms: f64) -> usize {
        (ms / self.ms_per_sample) as usize
    }

    /// How much later than the first packet something at `place` is, in milliseconds.
    fn delay_of(&self, place: i64, now: f64) -> f64 {
        self.sender.map_or(0.0, |sender| (now - sender.origin_s) * 1000.0 - self.ms(place - sender.origin_place))
    }

    pub(super) fn push(&mut self, packet: Packet<'_>, now: f64, line: &mut Line, stats: &mut JitterStats) {
        let num_samples = (packet.pcm.len() / 2) as i64;
        let follows_last = packet.seq == self.last_seq.wrapping_add(1);
        self.last_seq = packet.seq;
        let mut sender = *self.sender.get_or_insert_with(|| Sender {
            first_seq: i64::from(packet.seq),
            newest_seq: i64::from(packet.seq) - 1,
            newest_timestamp: i64::from(packet.timestamp) - 1,
            shift: 0,
            shifted_at: i64::MIN,
            old_shift: 0,
            num_lost: 0,
            num_received: 0,
            origin_s: now,
            origin_place: i64::from(packet.timestamp),
        });
        let seq = sender.newest_seq + i64::from(packet.seq.wrapping_sub(sender.newest_seq as u16) as i16);
        let timestamp =
            sender.newest_timestamp + i64::from(packet.timestamp.wrapping_sub(sender.newest_timestamp as u32) as i32);
        let start = timestamp + sender.shift;
        let slot = (seq & (NUM_HEADERS as i64 - 1)) as usize;
        if self.headers[slot].seq == seq && self.headers[slot].start == start {
            stats.num_duplicates += 1;
            return;
        }
        // A late packet is newer than those before it; one that is older than them again and again is not late.
        let is_behind =
            self.is_playing && timestamp < sender.newest_timestamp && start + num_samples <= line.position();
        self.num_behind = if is_behind && (follows_last || self.num_behind == 0) { self.num_behind + 1 } else { 0 };
        let has_jumped = sender.num_received > 0
            && (seq > sender.newest_seq && timestamp < sender.newest_timestamp
                || self.delay_of(start, now) < f64::from(self.delay.fastest_ms()) - MAX_EARLY_MS
                || self.num_behind > MAX_BEHIND);
        let (seq, start) = if has_jumped {
            // The sender's clock began anew: go on right behind what is held, at the delay as it was.
            let place = line.store.end().max(line.position());
            let delay_ms = f64::from(self.delay.newest_ms());
            let expected = sender.newest_seq - sender.first_seq + 1;
            sender.num_lost += (expected as u64).saturating_sub(sender.num_received);
            sender.num_received = 0;
            sender.first_seq = i64::from(packet.seq);
            sender.newest_seq = sender.first_seq;
            sender.newest_timestamp = i64::from(packet.timestamp);
            sender.old_shift = sender.shift;
            sender.shifted_at = place;
            sender.shift = place - sender.newest_timestamp;
            sender.origin_s = now - delay_ms / 1000.0;
            sender.origin_place = place;
            self.headers.fill(NO_HEADER);
            self.num_behind = 0;
            (sender.first_seq, place)
        } else {
            (seq, start)
        };
        let timestamp = start - sender.shift;
        let is_newest = has_jumped || timestamp > sender.newest_timestamp;
        sender.newest_timestamp = sender.newest_timestamp.max(timestamp);
        sender.newest_seq = sender.newest_seq.max(seq);
        sender.num_received += 1;
        self.sender = Some(sender);
        stats.num_received += 1;
        stats.num_reordered += u64::from(!is_newest);
        let expected = (sender.newest_seq - sender.first_seq + 1) as u64;
        stats.num_lost = sender.num_lost + expected.saturating_sub(sender.num_received);

        let transit_ms = self.delay_of(start, now);
        line.level.observe(energy_of_pcm(packet.pcm));
        if is_newest || transit_ms - f64::from(self.delay.newest_ms()) <= MAX_DETOUR_MS {
            if stats.num_received > 1 {
                stats.jitter_ms += ((transit_ms - self.last_transit_ms).abs() - stats.jitter_ms) / 16.0;
            }
            self.last_transit_ms = transit_ms;
            self.delay.observe(Arrival {
                delay_ms: transit_ms as f32,
                packet_ms: self.ms(num_samples) as f32,
                at_ms: now * 1000.0 - transit_ms,
                is_newest,
                playable_ms: self.played_ms as f32,
                frame_ms: self.ms(line.frame_size() as i64) as f32,
            });
        }
        let end = start + num_samples;
        self.headers[(seq & (NUM_HEADERS as i64 - 1)) as usize] = Header { seq, start, end };
        self.note_silence(seq, start, end);
        if !self.is_playing {
            self.is_playing = true;
            line.restart(start);
        }
        let position = line.position();
        if end <= position {
            stats.num_late += 1;
            return;
        }
        let capacity = line.store.capacity();
        if end > position + capacity {
            // Nobody took frames out for as long as that: the oldest has to go.
            stats.num_late += 1;
            line.skip_to(end - capacity);
        }
        let skipped = (line.position() - start).max(0);
        line.store.put(start + skipped, &packet.pcm[2 * skipped as usize..]);
    }

    /// Remember where the sender was silent: between packets that follow each other.
    fn note_silence(&mut self, seq: i64, start: i64, end: i64) {
        let at = |seq: i64| self.headers[(seq & (NUM_HEADERS as i64 - 1)) as usize];
        let (before, after) = (at(seq - 1), at(seq + 1));
        let gap_before = (before.seq == seq - 1 && before.end < start).then_some((before.end, start));
        let gap_after = (after.seq == seq + 1 && end < after.start).then_some((end, after.start));
        for gap in [gap_before, gap_after].into_iter().flatten() {
            if self.silences.len() == MAX_SILENCES {
                self.silences.pop_front();
            }
            self.silences.push_back(gap);
        }
    }

    /// Return when this frame was due, by the earliest of late: a consumer that comes too late now will be early again.
    ///
    /// Judged by the time at which it came, the delay would be shortened whenever it is late, and be too short when not.
    fn due(&mut self, now: f64, frame_ms: f64) -> f64 {
        let held_up_ms = (now - self.due_s) * 1000.0 - frame_ms;
        self.due_s =
            if (0.0..MAX_HOLDUP_MS).contains(&held_up_ms) { now - held_up_ms * HOLDUP_MEMORY / 1000.0 } else { now };
        self.due_s
    }

    /// Return how the next frame was made and where it ends, None for silence.
    pub(super) fn pop(&mut self, now: f64, line: &mut Line, stats: &mut JitterStats) -> Option<(Made, i64)> {
        let size = line.frame_size();
        let now = self.due(now, self.ms(size as i64));
        if !self.is_playing {
            return None;
        }
        let target_ms = f64::from(self.delay.target_ms());
        let mut made = Made::default();
        self.rest_ms -= self.ms(size as i64);
        if !self.is_concealing {
            self.adjust(now, target_ms, line, &mut made);
        }
        while line.queued() < size {
            self.fill(now, target_ms, line, stats, &mut made);
        }
        line.emit();
        let end = line.position() - line.queued() as i64;
        let fastest_ms = f64::from(self.delay.fastest_ms());
        stats.target_delay_ms = target_ms - fastest_ms;
        stats.delay_ms = self.delay_of(end - size as i64, now) - fastest_ms;
        let sender = self.sender?;
        let shift = if end > sender.shifted_at { sender.shift } else { sender.old_shift };
        Some((made, end - shift))
    }

    /// Queue some more: what was received, or what stands for it.
    fn fill(&mut self, now: f64, target_ms: f64, line: &mut Line, stats: &mut JitterStats, made: &mut Made) {
        let position = line.position();
        let missing = line.frame_size() - line.queued();
        let run = line.store.run(position, line.frame_size());
        if run > 0 {
            stats.num_underruns += u64::from(self.waited > 0);
            self.is_concealing = false;
            self.waited = 0;
            line.take(run);
            return;
        }
        while self.silences.front().is_some_and(|silence| silence.1 <= position) {
            self.silences.pop_front();
        }
        if let Some(&(_, resume)) = self.silences.iter().find(|silence| (silence.0..silence.1).contains(&position)) {
            if self.delay_of(resume, now) >= target_ms {
                self.waited = 0;
                line.skip_to(resume);
                return;
            }
            // The sender is silent, and so are we, until what follows is due.
            line.conceal(missing, None);
            made.invented += missing;
            made.expanded += missing;
            self.is_concealing = true;
            return;
        }
        let mut count = missing;
        let mut next = None;
        if let Some(place) = line.store.first_from(position) {
            let gap = (place - position) as usize;
            if self.waited >= gap {
                // Made up for all of it: go on, unless what is missing may still come as others were overtaken before.
                let patience = self.ms(gap as i64) + f64::from(self.delay.detour_ms());
                if self.delay_of(position, now) >= target_ms || self.ms(self.waited as i64) >= patience {
                    self.waited = 0;
                    line.skip_to(place);
                    return;
                }
            } else {
                let left = gap - self.waited;
                count = count.min(left);
                next = Some((left, place));
            }
        }
        line.conceal(count, next);
        made.invented += count;
        if next.is_none() && line.is_in_pause() && self.waited >= line.frame_size() {
            // More than one packet is missing, so they are held back rather than lost, and nobody speaks: a pause grows.
            made.expanded += count;
        } else {
            made.concealed += count;
        }
        self.is_concealing = true;
        if self.drop_late {
            line.skip_to(position + count as i64);
        } else {
            self.waited += count;
        }
    }

    /// Move what is played towards the target: take samples out or put some in.
    fn adjust(&mut self, now: f64, target_ms: f64, line: &mut Line, made: &mut Made) {
        let size = line.frame_size();
        if line.queued() + line.store.run(line.position(), size) < size {
            return;
        }
        let frame_ms = self.ms(size as i64);
        // A frame needs whole packets, so a part of one in the queue is held in vain: it is no tolerance.
        let rest = line.queued() % size;
        let tolerance_ms = self.delay_of(line.position() - line.queued() as i64, now) - self.ms(rest as i64);
        self.played_ms = tolerance_ms;
        let short_ms = target_ms - f64::from(SHORT_MS) - tolerance_ms;
        if short_ms > 0.0 {
            if !line.fetch(size) {
                return;
            }
            let is_pause = line.is_queue_pause();
            if !is_pause && self.rest_ms > 0.0 {
                return;
            }
            let frames = (short_ms / frame_ms).ceil().min(2.0) as usize;
            let want = (frames * size).saturating_sub(rest).min(self.samples(20.0));
            made.expanded = line.stretch(want, is_pause);
        } else {
            let spare = ((tolerance_ms - target_ms - f64::from(SPARE_MS)) / frame_ms).max(0.0) as usize;
            let want = rest + spare.min(100) * size;
            if want == 0 {
                return;
            }
            line.fetch(self.samples(40.0) + want.min(self.samples(30.0)));
            if line.queued() < size + self.samples(5.0) {
                return;
            }
            let is_pause = line.is_queue_pause();
            let is_urgent = self.ms(want as i64) > URGENT_MS;
            if !is_pause && !is_urgent && self.rest_ms > 0.0 {
                return;
            }
            // Speech loses a whole pitch period, which may be longer than the part of a packet that is held in vain. Where
            // it would then be too short, and stretched again, that part waits for a pause, which loses just as much.
            let may_overshoot = tolerance_ms - frame_ms >= target_ms - f64::from(SHORT_MS);
            if !is_pause && spare == 0 && !may_overshoot {
                return;
            }
            // A pause loses exactly what is wanted or nothing, so no more is wanted than may go.
            let want = if is_pause { want.min(line.queued() - size) } else { want };
            made.accelerated = line.compress(want, is_pause, is_urgent);
        }
        if made.accelerated + made.expanded > 0 {
            self.rest_ms = REST_MS;
        }
    }
}
