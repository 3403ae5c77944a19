//! How long to hold speech back: the cheapest of many virtual playouts.

/// Margins of the virtual playouts above their reference, in milliseconds.
const MARGINS: [f32; 16] =
    [0.0, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 65.0, 80.0, 100.0, 130.0, 160.0, 200.0, 260.0, 360.0];
/// The references: the slowest packet of the last so many milliseconds, which follows a queue as it fills and drains...
const SLOWEST_MS: [f32; 4] = [100.0, 500.0, 2000.0, 6000.0];
/// ... or the fastest, which stays where it is while the jitter is what it was.
const FASTEST_MS: [f32; 2] = [4000.0, 16000.0];
const NUM_REFERENCES: usize = SLOWEST_MS.len() + FASTEST_MS.len();
const NUM_MEMBERS: usize = NUM_REFERENCES * MARGINS.len();

/// The settings of the bank and of how its target is followed.
#[derive(Clone, Debug)]
pub(super) struct Tuning {
    pub price: f32,
    pub memory: f32,
    pub hysteresis: f32,
    pub movement: f32,
    pub stick: f32,
    pub slew: f32,
    pub pause_late: f32,
    pub pause_move: f32,
    pub pause_slew: f32,
    pub knee: f32,
    pub knee_slope: f32,
    pub reorder_extra: f32,
    pub reorder_decay: f32,
    pub shrink_margin: f32,
    pub grow_margin: f32,
    pub cool_ms: f32,
    pub urgent_ms: f32,
    pub hy_real: f32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            price: 60.0,
            memory: 3000.0,
            hysteresis: 20.0,
            movement: 0.2,
            stick: 0.1,
            slew: 0.15,
            pause_late: 1.0,
            pause_move: 1.0,
            pause_slew: 0.15,
            knee: 1e9,
            knee_slope: 0.0,
            reorder_extra: 5.0,
            reorder_decay: 0.999,
            shrink_margin: 0.0,
            grow_margin: 5.0,
            cool_ms: 60.0,
            urgent_ms: 80.0,
            hy_real: 0.0,
        }
    }
}

/// The largest value of a sliding window, to a sixteenth of its span.
#[derive(Clone, Debug)]
struct Window {
    bucket_ms: f32,
    bucket: i64,
    maxima: [f32; 16],
    maximum: f32,
}

impl Window {
    fn new(span_ms: f32) -> Self {
        Self {
            bucket_ms: span_ms / 15.0,
            bucket: i64::MIN,
            maxima: [f32::NEG_INFINITY; 16],
            maximum: f32::NEG_INFINITY,
        }
    }

    fn add(&mut self, at_ms: f64, value: f32) {
        let bucket = (at_ms / f64::from(self.bucket_ms)).floor() as i64;
        if bucket > self.bucket {
            let passed = bucket.saturating_sub(self.bucket).min(16);
            for step in 0..passed {
                self.maxima[((bucket - step) & 15) as usize] = f32::NEG_INFINITY;
            }
            self.bucket = bucket;
            self.maxima[(bucket & 15) as usize] = value;
            self.maximum = self.maxima.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        } else {
            let slot = &mut self.maxima[(bucket & 15) as usize];
            *slot = slot.max(value);
            self.maximum = self.maximum.max(value);
        }
    }
}

/// What a packet tells about the network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    /// When it came after its place on the sender's clock, in milliseconds from the first packet's.
    pub delay_ms: f32,
    /// Its place on the sender's clock in milliseconds.
    pub at_ms: f64,
    pub packet_ms: f32,
    /// Whether it is newer than every packet before it.
    pub is_newest: bool,
    /// Whether nobody speaks in it.
    pub is_pause: bool,
}

/// A bank of virtual playouts beside the real one, which follows the cheapest.
///
/// Each aims at a margin above its reference, moves towards it at the speed of time-stretching, waits for a packet that
/// comes late, and is charged in one unit, milliseconds of delay, for what it holds, what it conceals and how it moves.
pub(super) struct Delay {
    t: Tuning,
    windows: [Window; NUM_REFERENCES],
    held: [f32; NUM_MEMBERS],
    costs: [f32; NUM_MEMBERS],
    best: usize,
    num_packets: u32,
    newest_delay_ms: f32,
    reorder_ms: f32,
    reference_ms: f32,
}

impl Delay {
    pub(super) fn new(t: Tuning) -> Self {
        let windows = std::array::from_fn(|index| {
            Window::new(*SLOWEST_MS.iter().chain(&FASTEST_MS).nth(index).expect("one span for each"))
        });
        let mut delay = Self {
            t,
            windows,
            held: [0.0; NUM_MEMBERS],
            costs: [0.0; NUM_MEMBERS],
            best: 0,
            num_packets: 0,
            newest_delay_ms: 0.0,
            reorder_ms: 0.0,
            reference_ms: 0.0,
        };
        for (member, cost) in delay.costs.iter_mut().enumerate() {
            let margin = MARGINS[member % MARGINS.len()];
            // Nothing is known yet: a steady playout with hardly a margin, until there is reason for more.
            let is_steady = member / MARGINS.len() >= SLOWEST_MS.len();
            *cost = 20.0 + (margin - MARGINS[1]).abs() + if is_steady { 0.0 } else { 5.0 };
        }
        delay.best = delay.cheapest();
        delay
    }

    fn cheapest(&self) -> usize {
        let mut best = 0;
        for member in 1..NUM_MEMBERS {
            if self.costs[member] < self.costs[best] {
                best = member;
            }
        }
        best
    }

    pub(super) fn observe(&mut self, arrival: Arrival) {
        let delay = arrival.delay_ms;
        if arrival.is_newest {
            self.reorder_ms *= self.t.reorder_decay;
            self.newest_delay_ms = delay;
            if self.num_packets == 0 {
                for (member, held) in self.held.iter_mut().enumerate() {
                    *held = delay + MARGINS[member % MARGINS.len()];
                }
                for window in &mut self.windows[..SLOWEST_MS.len()] {
                    window.add(arrival.at_ms, delay);
                }
                for window in &mut self.windows[SLOWEST_MS.len()..] {
                    window.add(arrival.at_ms, -delay);
                }
            }
            self.num_packets = self.num_packets.saturating_add(1);
            self.charge(arrival);
            let best = self.cheapest();
            if self.costs[best] < self.costs[self.best] * (1.0 - self.t.stick) - 0.3 {
                self.best = best;
            }
        } else {
            self.reorder_ms = self.reorder_ms.max(delay - self.newest_delay_ms + self.t.reorder_extra);
        }
        for (index, window) in self.windows.iter_mut().enumerate() {
            window.add(arrival.at_ms, if index < SLOWEST_MS.len() { delay } else { -delay });
        }
        self.reference_ms = self.reference(self.best / MARGINS.len());
    }

    fn reference(&self, index: usize) -> f32 {
        let extreme = self.windows[index].maximum;
        if index < SLOWEST_MS.len() { extreme } else { -extreme }
    }

    /// Let every virtual playout live through a packet.
    fn charge(&mut self, arrival: Arrival) {
        let t = &self.t;
        let delay = arrival.delay_ms;
        let count = self.num_packets as f32;
        let keep = (1.0 - 1.0 / t.memory).min(1.0 - 1.0 / (count + 50.0));
        // One per cent of concealment costs `price`, so a packet's worth of it a hundred times that.
        let price = t.price * 100.0 / arrival.packet_ms;
        let (late_price, move_price, slew) = if arrival.is_pause {
            (price * t.pause_late, price * t.movement * t.pause_move, t.pause_slew * arrival.packet_ms)
        } else {
            (price, price * t.movement, t.slew * arrival.packet_ms)
        };
        let base = self.reference(NUM_REFERENCES - 1);
        for index in 0..NUM_REFERENCES {
            let reference = self.reference(index);
            let range = index * MARGINS.len()..(index + 1) * MARGINS.len();
            let members = self.held[range.clone()].iter_mut().zip(&mut self.costs[range]).zip(&MARGINS);
            for ((held, cost), margin) in members {
                let old = *held;
                let want = reference + margin;
                let is_near = want < old && want > old - t.hysteresis;
                let moved = if is_near { old } else { want.clamp(old - slew, old + slew) };
                // Inside the dead zone the real playout may be anywhere above its target: judge near the bottom.
                let floor = if moved > want + t.hysteresis { moved } else { moved.min(want + 5.0) };
                let late = (delay - floor).max(0.0);
                let above = (moved - base - t.knee).max(0.0) * t.knee_slope;
                let charged = moved - delay + above + late_price * late + move_price * (moved - old).abs();
                *cost = keep * *cost + (1.0 - keep) * charged;
                *held = moved.max(delay);
            }
        }
    }

    /// The delay of the fastest packet of late.
    pub(super) fn fastest_ms(&self) -> f32 {
        self.reference(NUM_REFERENCES - 1)
    }

    /// The delay of the newest packet.
    pub(super) fn newest_ms(&self) -> f32 {
        self.newest_delay_ms
    }

    /// The delay to play at, in milliseconds from the first packet's.
    pub(super) fn target_ms(&self) -> f32 {
        let margin = MARGINS[self.best % MARGINS.len()];
        self.reference_ms + margin.max(if self.reorder_ms > 2.0 { self.reorder_ms } else { 0.0 })
    }

    /// How long to wait for a packet that others have overtaken, in milliseconds.
    pub(super) fn reorder_ms(&self) -> f32 {
        self.reorder_ms
    }
}
