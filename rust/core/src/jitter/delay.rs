//! How long to hold speech back: the cheapest of many virtual playouts.

use super::lanes::{ceil, larger, smaller};
use crate::simd::Backend;

/// Margins of the virtual playouts above their reference, in milliseconds.
const MARGINS: [f32; 16] =
    [0.0, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 65.0, 80.0, 100.0, 130.0, 160.0, 200.0, 260.0, 360.0];
/// The references: the slowest packet of the last so many milliseconds, which follows a queue as it fills and drains...
const SLOWEST_MS: [f32; 4] = [100.0, 500.0, 2000.0, 6000.0];
/// ... or the fastest, which stays where it is while the jitter is what it was. The longest window is short enough to
/// follow a clock that drifts by 100 ppm: 1.6 ms.
const FASTEST_MS: [f32; 2] = [4000.0, 16_000.0];
const NUM_REFERENCES: usize = SLOWEST_MS.len() + FASTEST_MS.len();

/// How many packets the costs remember, and how many a new stream counts as having seen.
const MEMORY: f32 = 3000.0;
const FIRST_MEMORY: f32 = 50.0;
/// Beyond this delay above the fastest packet every further millisecond costs more: conversation suffers from about 175
/// ms from mouth to ear (ITU-T G.107), and the rest of the way takes its share.
const LONG_DELAY_MS: f32 = 70.0;
const LONG_DELAY_PRICE: f32 = 3.5;
/// What is taken off that price, as a share of it, for each millisecond by which packets that come together differ in
/// age. A server that sends speech in chunks has collected it before: a steady voice is worth more than haste there.
const CHUNK_DISCOUNT: f32 = 0.005;
/// What comes so little after a frame was asked for came before, but for the rounding of times.
const ROUNDING_MS: f32 = 0.05;
/// Packets that come within this time come together, and how many packets are remembered for that.
const TOGETHER_MS: f32 = 2.0;
const CHUNK_MEMORY: f32 = 500.0;
/// A gap longer than concealment can fill (60 ms in ITU-T G.711 Appendix I) costs more for every further millisecond.
const LONG_GAP_MS: f32 = 60.0;
const LONG_GAP_PRICE: f32 = 2.0;
/// What stretching or compressing costs, as a share of concealing as much.
const MOVEMENT_PRICE: f32 = 0.5;
/// How fast a playout moves, as a share of the time it has.
const SPEED: f32 = 0.45;
/// How much too early or too late a playout has to be, in milliseconds, before it is moved by a frame. Too early is a
/// little more than the step of the margins, because where packets come on the dot the target lies just that far off.
pub(super) const SHORT_MS: f32 = 5.5;
pub(super) const SPARE_MS: f32 = 2.0;
/// How much cheaper another member has to be to be followed, as a share and in milliseconds.
const STICK: f32 = 0.12;
const STICK_MS: f32 = 0.3;
/// How much longer than the longest detour of an overtaken packet the next one is waited for, and how that is forgotten
/// with every packet.
const DETOUR_MARGIN_MS: f32 = 5.0;
const DETOUR_MEMORY: f32 = 0.999;
/// Shorter detours than this are none.
const MIN_DETOUR_MS: f32 = 2.0;

/// The largest value of a sliding window, to a sixteenth of its span.
#[derive(Clone, Debug)]
struct Window {
    bucket_ms: f64,
    bucket: i64,
    maxima: [f32; 16],
    maximum: f32,
}

impl Window {
    fn new(span_ms: f32) -> Self {
        let maxima = [f32::NEG_INFINITY; 16];
        Self { bucket_ms: f64::from(span_ms) / 15.0, bucket: i64::MIN, maxima, maximum: f32::NEG_INFINITY }
    }

    fn add(&mut self, at_ms: f64, value: f32) {
        let bucket = (at_ms / self.bucket_ms) as i64;
        if bucket > self.bucket {
            for step in 0..bucket.saturating_sub(self.bucket).min(16) {
                self.maxima[((bucket - step) & 15) as usize] = f32::NEG_INFINITY;
            }
            self.bucket = bucket;
            self.maxima[(bucket & 15) as usize] = value;
            self.maximum = self.maxima.iter().fold(f32::NEG_INFINITY, |most, value| larger(most, *value));
        } else {
            let slot = &mut self.maxima[(bucket & 15) as usize];
            *slot = larger(*slot, value);
            self.maximum = larger(self.maximum, value);
        }
    }
}

/// What a packet tells about the network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    /// How much later than the first packet it came, for its place on the sender's clock, in milliseconds.
    pub delay_ms: f32,
    /// Its place on the sender's clock, in milliseconds from anywhere.
    pub at_ms: f64,
    /// How much audio it holds.
    pub packet_ms: f32,
    /// Whether it is newer than every packet before it.
    pub is_newest: bool,
    /// A delay at which the consumer's times let it be played; the others are whole frames away.
    pub playable_ms: f32,
    /// How long a frame is.
    pub frame_ms: f32,
}

impl Arrival {
    /// Return the next longer delay at which the consumer's times let a packet be played.
    #[inline(always)]
    fn next_playable_ms(&self, delay_ms: f32) -> f32 {
        self.playable_ms + self.frame_ms * ceil((delay_ms - self.playable_ms - ROUNDING_MS) * (1.0 / self.frame_ms))
    }
}

/// A bank of virtual playouts beside the real one, which follows the cheapest.
///
/// Each aims at a margin above its reference, as near as the times at which frames are asked for allow, moves towards that
/// at the speed of time-stretching, waits for a packet that comes late, and is charged in one unit, milliseconds of delay,
/// for what it holds back, what it conceals and how it moves. What is cheapest tells what the network is like: a margin
/// above the fastest packet where the jitter is steady, a level that follows the slowest where a queue fills and drains.
pub(super) struct Delay {
    /// The milliseconds of delay that one per cent of concealment costs.
    loss_price_ms: f32,
    windows: [Window; NUM_REFERENCES],
    held: [[f32; MARGINS.len()]; NUM_REFERENCES],
    costs: [[f32; MARGINS.len()]; NUM_REFERENCES],
    /// Which is followed: its reference and its margin.
    best: (usize, usize),
    num_packets: f32,
    newest_ms: f32,
    detour_ms: f32,
    /// How much came together with the newest packet before it, and by how much such packets differ in age.
    chunk_ms: f32,
    spread_ms: f32,
}

impl Delay {
    pub(super) fn new(loss_price_ms: f32) -> Self {
        let mut windows = SLOWEST_MS.iter().chain(&FASTEST_MS).map(|span_ms| Window::new(*span_ms));
        // Nothing is known yet: a steady playout without a margin, until there is reason for one.
        let costs = std::array::from_fn(|reference| {
            let doubt = if reference < SLOWEST_MS.len() { 25.0 } else { 20.0 };
            MARGINS.map(|margin| doubt + margin)
        });
        let mut bank = Self {
            loss_price_ms,
            windows: std::array::from_fn(|_| windows.next().unwrap_or_else(|| Window::new(FASTEST_MS[0]))),
            held: [[0.0; MARGINS.len()]; NUM_REFERENCES],
            costs,
            best: (0, 0),
            num_packets: 0.0,
            newest_ms: 0.0,
            detour_ms: 0.0,
            chunk_ms: 0.0,
            spread_ms: 0.0,
        };
        bank.best = bank.cheapest();
        bank
    }

    /// Learn from a packet, which must not be a duplicate.
    pub(super) fn observe(&mut self, arrival: Arrival) {
        let delay = arrival.delay_ms;
        if arrival.is_newest {
            self.detour_ms *= DETOUR_MEMORY;
            self.measure_chunk(arrival);
            self.newest_ms = delay;
            if self.num_packets == 0.0 {
                self.held = [MARGINS.map(|margin| delay + margin); NUM_REFERENCES];
                self.slide(arrival);
            }
            self.num_packets += 1.0;
            Backend::detect().widen(
                #[inline(always)]
                || {
                    self.charge(arrival);
                    self.follow();
                },
            );
        } else {
            self.detour_ms = self.detour_ms.max(delay - self.newest_ms + DETOUR_MARGIN_MS);
        }
        self.slide(arrival);
    }

    /// Learn what comes together. In a chunk of equal packets half of its spread came before each of them on average.
    fn measure_chunk(&mut self, arrival: Arrival) {
        let since_newest_ms = arrival.delay_ms - self.newest_ms + arrival.packet_ms;
        let is_together = self.num_packets > 0.0 && since_newest_ms.abs() < TOGETHER_MS;
        self.chunk_ms = if is_together { self.chunk_ms + arrival.packet_ms } else { 0.0 };
        self.spread_ms += (2.0 * self.chunk_ms - self.spread_ms) / (self.num_packets + 1.0).min(CHUNK_MEMORY);
    }

    fn slide(&mut self, arrival: Arrival) {
        let (slowest, fastest) = self.windows.split_at_mut(SLOWEST_MS.len());
        for window in slowest {
            window.add(arrival.at_ms, arrival.delay_ms);
        }
        for window in fastest {
            window.add(arrival.at_ms, -arrival.delay_ms);
        }
    }

    fn reference_ms(&self, index: usize) -> f32 {
        let extreme = self.windows[index].maximum;
        if index < SLOWEST_MS.len() { extreme } else { -extreme }
    }

    /// Let every virtual playout live through a packet.
    #[inline(always)]
    fn charge(&mut self, arrival: Arrival) {
        let delay = arrival.delay_ms;
        let keep = 1.0 - 1.0 / (self.num_packets + FIRST_MEMORY).min(MEMORY);
        // A packet that is concealed is a hundred times one per cent.
        let late_price = self.loss_price_ms * 100.0 / arrival.packet_ms;
        let move_price = late_price * MOVEMENT_PRICE;
        let step = SPEED * arrival.packet_ms;
        let long_price = LONG_DELAY_PRICE * (1.0 - CHUNK_DISCOUNT * self.spread_ms).max(0.0);
        let longest = self.fastest_ms() + LONG_DELAY_MS;
        let playable = arrival.next_playable_ms(delay);
        let references: [f32; NUM_REFERENCES] = std::array::from_fn(|index| self.reference_ms(index));
        for (reference, (held, costs)) in references.iter().zip(self.held.iter_mut().zip(&mut self.costs)) {
            for member in 0..MARGINS.len() {
                let old = held[member];
                let target = reference + MARGINS[member];
                let least = arrival.next_playable_ms(target - SHORT_MS);
                let most = if least < target + SPARE_MS { least + arrival.frame_ms } else { least };
                let goal = smaller(larger(old, least), most);
                let moved = smaller(larger(goal, old - step), old + step);
                let waited = larger(moved, playable);
                let late = waited - moved;
                let gap = late + LONG_GAP_PRICE * larger(late - LONG_GAP_MS, 0.0);
                let long = long_price * larger(moved - longest, 0.0);
                let cost = moved - delay + long + late_price * gap + move_price * (moved - old).abs();
                costs[member] = keep * costs[member] + (1.0 - keep) * cost;
                held[member] = waited;
            }
        }
    }

    /// Follow another member if it is cheap enough.
    #[inline(always)]
    fn follow(&mut self) {
        let (reference, margin) = self.cheapest();
        let followed = self.costs[self.best.0][self.best.1];
        if self.costs[reference][margin] < followed * (1.0 - STICK) - STICK_MS {
            self.best = (reference, margin);
        }
    }

    /// Find the cheapest member: its reference and its margin.
    #[inline(always)]
    fn cheapest(&self) -> (usize, usize) {
        let mut least = [f32::INFINITY; MARGINS.len()];
        for costs in &self.costs {
            for (least, cost) in least.iter_mut().zip(costs) {
                *least = smaller(*least, *cost);
            }
        }
        let least = least.iter().fold(f32::INFINITY, |least, cost| smaller(least, *cost));
        let found = self.costs.as_flattened().iter().position(|cost| *cost <= least).unwrap_or(0);
        (found / MARGINS.len(), found % MARGINS.len())
    }

    /// The delay to play at, in milliseconds from the first packet's; so the others.
    pub(super) fn target_ms(&self) -> f32 {
        self.reference_ms(self.best.0) + MARGINS[self.best.1].max(self.detour_ms())
    }

    /// How much longer than the others a packet may take that they overtake.
    pub(super) fn detour_ms(&self) -> f32 {
        if self.detour_ms > MIN_DETOUR_MS { self.detour_ms } else { 0.0 }
    }

    /// The delay of the fastest packet of late.
    pub(super) fn fastest_ms(&self) -> f32 {
        self.reference_ms(NUM_REFERENCES - 1)
    }

    /// The delay of the newest packet.
    pub(super) fn newest_ms(&self) -> f32 {
        self.newest_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet of 20 ms, and frames of 20 ms that are asked for 3 ms after the first packet came.
    fn packet(index: u32, delay_ms: f32) -> Arrival {
        let at_ms = f64::from(index) * 20.0;
        Arrival { delay_ms, at_ms, packet_ms: 20.0, is_newest: true, playable_ms: 3.0, frame_ms: 20.0 }
    }

    /// Let 20 ms packets come with these delays and return the target.
    fn target_after(delays: impl Iterator<Item = f32>) -> f32 {
        let mut bank = Delay::new(100.0);
        for (index, delay_ms) in (0..).zip(delays) {
            bank.observe(packet(index, delay_ms));
        }
        bank.target_ms()
    }

    #[test]
    fn a_steady_network_needs_no_margin() {
        assert!(target_after((0..1000).map(|index| (index % 3) as f32 * 0.3)) < 6.0);
    }

    #[test]
    fn frequent_jitter_is_covered_and_a_rare_stall_is_not() {
        let jitter = |index: u32| (index.wrapping_mul(2_654_435_761) >> 24) as f32 / 255.0 * 40.0;
        let target = target_after((0..3000).map(jitter));
        assert!((35.0..70.0).contains(&target), "{target}");
        // A stall of 300 ms every minute is worth less than 300 ms of delay.
        let target = target_after((0..9000).map(|index| {
            let since = index % 3000;
            if since < 15 { 300.0 - since as f32 * 20.0 } else { 0.0 }
        }));
        assert!(target < 100.0, "{target}");
    }

    #[test]
    fn a_queue_that_fills_and_drains_is_followed() {
        let queue = |index: u32| if index % 3000 < 1500 { 0.0 } else { 250.0 };
        assert!(target_after((0..6000).map(queue)) > 240.0);
        let drained = target_after((0..7000).map(queue));
        assert!(drained < 60.0, "{drained}");
    }

    #[test]
    fn a_dearer_loss_is_paid_for_with_delay() {
        let jitter = |index: u32| {
            let part = (index.wrapping_mul(2_654_435_761) >> 24) as f32 / 255.0;
            part * part * part * part * 200.0
        };
        let mut targets = [2.0, 50.0, 1000.0].map(|price| {
            let mut bank = Delay::new(price);
            for index in 0..4000 {
                bank.observe(packet(index, jitter(index)));
            }
            bank.target_ms()
        });
        assert!(targets.is_sorted(), "{targets:?}");
        targets.reverse();
        assert!(targets[0] > targets[2] + 50.0, "{targets:?}");
    }

    #[test]
    fn an_overtaken_packet_is_waited_for_next_time() {
        let mut bank = Delay::new(100.0);
        for index in 0..100 {
            bank.observe(packet(index, 0.0));
        }
        assert!(bank.detour_ms().abs() < f32::EPSILON);
        bank.observe(Arrival { is_newest: false, ..packet(95, 30.0) });
        assert!(bank.target_ms() >= 30.0);
        assert!(bank.detour_ms() >= 30.0);
    }

    #[test]
    fn chunks_are_held_longer_for_a_steady_voice() {
        // One chunk in twenty comes up to 100 ms later.
        let part = |chunk: u32| (chunk.wrapping_mul(2_654_435_761) >> 20) as f32 / 4096.0;
        let delay = |index: u32, place: u32| (part(index / 4) * 2000.0 - 1900.0).max(0.0) + place as f32 * 20.0;
        // The same delays, once so that its four packets come together, once so that they come apart.
        let together = target_after((0..6000).map(|index| delay(index, 3 - index % 4)));
        let apart = target_after((0..6000).map(|index| delay(index, index % 4)));
        assert!(together > apart + 20.0, "{together} {apart}");
    }

    #[test]
    fn a_delay_is_playable_where_a_frame_is_asked_for() {
        let next = [-60.0, -17.0, 2.0, 3.0, 3.5, 163.0].map(|delay_ms| packet(0, 0.0).next_playable_ms(delay_ms));
        assert_eq!(next.map(f32::to_bits), [-57.0_f32, -17.0, 3.0, 3.0, 23.0, 163.0].map(f32::to_bits));
    }
}
