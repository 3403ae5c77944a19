//! The jitter buffer: packets in as they come, a whole frame out whenever the caller asks.
//!
//! Time is the caller's: the same calls give the same frames, bit for bit. Nothing is allocated after construction.

mod conceal;
mod delay;
mod lanes;
mod level;
mod line;
mod network;
mod pitch;
mod playout;
mod store;
mod stretch;

use crate::{Error, Result};
use line::Line;
use network::Network;
use playout::Playout;
use std::ops::RangeInclusive;

/// The rates that pitch is looked for at, in Hz.
pub const SAMPLE_RATES: RangeInclusive<u32> = 8000..=48_000;
/// The shortest and the longest frame, in milliseconds.
pub const FRAME_MS: RangeInclusive<f64> = 5.0..=60.0;
/// How much audio may wait, in milliseconds: what a network can hold back, and a long answer of a server.
const CAPACITY_MS: usize = 10_000;
const PLAYOUT_CAPACITY_MS: usize = 120_000;
/// Times beyond this many seconds are refused: a double could not tell samples apart any more.
const MAX_TIME_S: f64 = 1e10;

/// What audio a buffer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Packets that were sent in real time over a network that delays, loses and reorders them.
    Network,
    /// Audio that a server sends in bursts, as fast as it can make it, over a connection that loses nothing.
    Playout,
}

impl Mode {
    /// Find a mode by its name.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "network" => Ok(Self::Network),
            "playout" => Ok(Self::Playout),
            _ => Err(Error::UnknownName { kind: "mode", expected: "network, playout", name: name.to_owned() }),
        }
    }
}

/// What a frame is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What the sender sent.
    Speech,
    /// For the most part made up for what is missing.
    Concealment,
    /// Speech slowed down.
    Stretched,
    /// Speech sped up.
    Compressed,
    /// Nothing to say: before the first packet, between talkspurts, or a pause drawn out.
    Silence,
}

impl Kind {
    /// Return the name of the kind.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Speech => "speech",
            Self::Concealment => "concealment",
            Self::Stretched => "stretched",
            Self::Compressed => "compressed",
            Self::Silence => "silence",
        }
    }
}

/// One frame to be played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame<'a> {
    /// The samples: always as many as the frame has.
    pub pcm: &'a [i16],
    /// What it is made of.
    pub kind: Kind,
    /// The place on the sender's clock just after the frame, in samples; None where all of it was made up.
    pub timestamp: Option<i64>,
    /// How many samples stand for speech that is missing.
    pub concealed: usize,
    /// How many samples were taken out on the way.
    pub accelerated: usize,
    /// How many samples were put in that stand for nothing.
    pub expanded: usize,
}

/// What happened so far, and the delay as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct JitterStats {
    /// The delay aimed at, in milliseconds above the fastest packet of late.
    pub target_delay_ms: f64,
    /// The delay of what was played last, counted likewise; in playout mode what is waiting to be played.
    pub delay_ms: f64,
    /// The interarrival jitter, in milliseconds (RFC 3550, section 6.4.1).
    pub jitter_ms: f64,
    /// Packets that came, without duplicates.
    pub num_received: u64,
    /// Packets that the sequence numbers say were sent, and that have not come.
    pub num_lost: u64,
    /// Packets that came after their place was played, or that others had to make room for.
    pub num_late: u64,
    /// Packets that came once more.
    pub num_duplicates: u64,
    /// Packets that others had overtaken.
    pub num_reordered: u64,
    /// How often there was nothing to play although more was to come.
    pub num_underruns: u64,
    /// Samples that stood for missing speech.
    pub concealed_samples: u64,
    /// Samples that were taken out.
    pub accelerated_samples: u64,
    /// Samples that were put in.
    pub expanded_samples: u64,
}

/// What a buffer is told once.
#[derive(Clone, Debug)]
pub struct JitterOptions {
    /// In Hz.
    pub sample_rate: u32,
    /// How much a frame lasts, in milliseconds.
    pub frame_ms: f64,
    /// What the audio is.
    pub mode: Mode,
    /// Network mode: the delay in milliseconds that one per cent less of concealment is worth.
    pub loss_price_ms: f64,
    /// Network mode: conceal what comes late and go on, rather than wait for it.
    pub drop_late: bool,
    /// Playout mode: how much to gather before an answer begins, in milliseconds.
    pub start_ms: f64,
}

/// A packet as it came.
#[derive(Clone, Copy, Debug)]
struct Packet<'a> {
    seq: u16,
    timestamp: u32,
    /// Little-endian samples.
    pcm: &'a [u8],
}

enum Policy {
    Network(Box<Network>),
    Playout(Playout),
}

/// Evens out when packets come, and fills in what does not.
pub struct JitterBuffer {
    line: Line,
    policy: Policy,
    stats: JitterStats,
    now: f64,
    /// Whether the last frame was more than silence between talkspurts or answers.
    has_played: bool,
    is_fading: bool,
}

impl JitterBuffer {
    /// Create a buffer.
    pub fn new(options: &JitterOptions) -> Result<Self> {
        let &JitterOptions { sample_rate, frame_ms, mode, start_ms, .. } = options;
        if !SAMPLE_RATES.contains(&sample_rate) {
            return Err(refusal(
                format!("a sample rate of {} to {} Hz", SAMPLE_RATES.start(), SAMPLE_RATES.end()),
                sample_rate,
            ));
        }
        if !FRAME_MS.contains(&frame_ms) {
            return Err(refusal(format!("a frame of {} to {} ms", FRAME_MS.start(), FRAME_MS.end()), frame_ms));
        }
        let frame_size = f64::from(sample_rate) * frame_ms / 1000.0;
        if frame_size.fract() != 0.0 {
            return Err(Error::FrameMs { frame_ms, sample_rate });
        }
        for (value, most, name) in [
            (options.loss_price_ms, 10_000.0, "a price of one per cent of loss"),
            (start_ms, PLAYOUT_CAPACITY_MS as f64 / 2.0, "a start"),
        ] {
            if !(0.0..=most).contains(&value) {
                return Err(refusal(format!("{name} of 0 to {most} ms"), value));
            }
        }
        let capacity_ms = match mode {
            Mode::Network => CAPACITY_MS,
            Mode::Playout => PLAYOUT_CAPACITY_MS,
        };
        let line = Line::new(sample_rate, frame_size as usize, sample_rate as usize * capacity_ms / 1000);
        let policy = match mode {
            Mode::Network => Policy::Network(Box::new(Network::new(options))),
            Mode::Playout => Policy::Playout(Playout::new(sample_rate, start_ms)),
        };
        Ok(Self {
            line,
            policy,
            stats: JitterStats::default(),
            now: f64::NEG_INFINITY,
            has_played: false,
            is_fading: false,
        })
    }

    /// Return how many samples a frame has.
    #[must_use]
    pub fn frame_size(&self) -> usize {
        self.line.frame_size()
    }

    /// Put in a packet of little-endian `pcm` that came at `now`, in seconds.
    ///
    /// A time before the last one counts as the last one. In playout mode, audio is played in the order it came.
    pub fn push(&mut self, seq: u16, timestamp: u32, pcm: &[u8], now: f64) -> Result<()> {
        let num_samples = crate::pcm::num_samples(pcm.len(), 2)?;
        self.advance_clock(now)?;
        let capacity = self.line.store.capacity() as usize;
        if num_samples > capacity {
            return Err(refusal(format!("a packet of at most {capacity} samples"), num_samples));
        }
        if num_samples == 0 {
            return Ok(());
        }
        let packet = Packet { seq, timestamp, pcm };
        match &mut self.policy {
            Policy::Network(network) => {
                network.push(packet, self.now, &mut self.line, &mut self.stats);
                Ok(())
            }
            Policy::Playout(playout) => playout.push(packet, self.now, &mut self.line, &mut self.stats),
        }
    }

    /// Take out the next frame, to be played at `now`, in seconds.
    pub fn pop(&mut self, now: f64) -> Result<Frame<'_>> {
        self.advance_clock(now)?;
        let frame_size = self.line.frame_size();
        let played = match &mut self.policy {
            // What was played before a clear fades first, whatever came since.
            _ if self.is_fading => None,
            Policy::Network(network) => network.pop(self.now, &mut self.line, &mut self.stats),
            Policy::Playout(playout) => playout.pop(self.now, &mut self.line, &mut self.stats),
        };
        let Some((made, timestamp)) = played else {
            self.line.fall_silent(self.is_fading);
            self.is_fading = false;
            self.has_played = false;
            return Ok(Frame {
                pcm: self.line.output(),
                kind: Kind::Silence,
                timestamp: None,
                concealed: 0,
                accelerated: 0,
                expanded: 0,
            });
        };
        self.has_played = true;
        if made.invented == 0 {
            self.line.listen();
        }
        self.stats.concealed_samples += made.concealed as u64;
        self.stats.accelerated_samples += made.accelerated as u64;
        self.stats.expanded_samples += made.expanded as u64;
        let is_invented = made.invented >= frame_size;
        let kind = if 2 * made.concealed > frame_size {
            Kind::Concealment
        } else if is_invented {
            Kind::Silence
        } else if made.accelerated > 0 {
            Kind::Compressed
        } else if made.expanded > 0 {
            Kind::Stretched
        } else {
            Kind::Speech
        };
        Ok(Frame {
            pcm: self.line.output(),
            kind,
            timestamp: if is_invented { None } else { Some(timestamp) },
            concealed: made.concealed,
            accelerated: made.accelerated,
            expanded: made.expanded,
        })
    }

    /// Drop all that waits: if anything is being played, the very next frame is silent, after a fade of at most 5 ms.
    ///
    /// What was learnt of the network stays.
    pub fn clear(&mut self) {
        match &mut self.policy {
            Policy::Network(network) => network.clear(),
            Policy::Playout(playout) => playout.clear(),
        }
        self.line.restart(0);
        self.is_fading |= self.has_played;
        self.has_played = false;
    }

    /// Say that nothing more of this answer comes: its last frame is filled up with silence.
    ///
    /// Only playout mode has to be told; the next packet begins a new answer.
    pub fn finish(&mut self) {
        if let Policy::Playout(playout) = &mut self.policy {
            playout.finish();
        }
    }

    /// Forget everything, the counters too.
    pub fn reset(&mut self) {
        match &mut self.policy {
            Policy::Network(network) => network.reset(),
            Policy::Playout(playout) => playout.clear(),
        }
        self.line.reset();
        self.stats = JitterStats::default();
        self.now = f64::NEG_INFINITY;
        self.has_played = false;
        self.is_fading = false;
    }

    /// Return what happened so far.
    #[must_use]
    pub fn stats(&self) -> JitterStats {
        self.stats
    }

    fn advance_clock(&mut self, now: f64) -> Result<()> {
        if now.is_nan() || now.abs() > MAX_TIME_S {
            return Err(refusal(format!("a time of -{MAX_TIME_S:e} to {MAX_TIME_S:e} s"), format!("{now:?}")));
        }
        self.now = self.now.max(now);
        Ok(())
    }
}

fn refusal(expected: String, got: impl ToString) -> Error {
    Error::Jitter { expected, got: got.to_string() }
}
