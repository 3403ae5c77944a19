"""The jitter buffers that are compared, behind one shape: push a packet, pop a frame of 20 ms.

What a Python program can have today: aiortc's, libspeexdsp's through `ctypes`, a fixed delay, or a queue. WebRTC's
NetEQ cannot be had from Python; a model of its decisions stands in for it.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from machine import load_peer
from speechwire.codec import JitterBuffer

SAMPLE_RATE = 8000
FRAME_MS = 20
FRAME_SIZE = SAMPLE_RATE * FRAME_MS // 1000
SAMPLES_PER_MS = SAMPLE_RATE // 1000


@dataclass(frozen=True, slots=True)
class Frame:
    """What came out of a pop.

    Args:
        end: Where on the sender's clock the frame ends, in samples from the first packet on; NaN if nowhere.
        concealed: How many of its samples stand for speech that was not there.
        removed: How many samples of the sender it leaves out by speaking faster, or, below zero, puts in.
        pcm: What sounds, or None if the peer only models when.
    """

    end: float
    concealed: float = 0.0
    removed: float = 0.0
    pcm: bytes | None = None


NOTHING = Frame(math.nan, FRAME_SIZE)


class Contestant(Protocol):
    """A jitter buffer; packet n holds the samples from n times 160 on."""

    def push(self, number: int, pcm: bytes, now_ms: float) -> None: ...

    def pop(self, now_ms: float) -> Frame: ...


class Player(Contestant, Protocol):
    """What plays a server's answers: it is told when one is complete, and when one is broken off."""

    def finish(self) -> None: ...

    def clear(self) -> None: ...


class Speechwire:
    """Ours."""

    def __init__(self, **settings: Any) -> None:
        self.buffer = JitterBuffer(SAMPLE_RATE, **settings)

    def push(self, number: int, pcm: bytes, now_ms: float) -> None:
        self.buffer.push(number & 0xFFFF, number * FRAME_SIZE & 0xFFFFFFFF, pcm, now=now_ms / 1000)

    def pop(self, now_ms: float) -> Frame:
        frame = self.buffer.pop(now=now_ms / 1000)
        # Only slower speech counts as expansion here: a pause drawn out is made up, as it is for everybody else.
        slower = frame.expanded if frame.kind == "stretched" else 0
        made_up = frame.concealed + frame.expanded - slower
        return Frame(frame.timestamp, made_up, frame.accelerated - slower, frame.pcm)

    def finish(self) -> None:
        self.buffer.finish()

    def clear(self) -> None:
        self.buffer.clear()


class FixedDelay:
    """Plays everything that many milliseconds after the first packet's time, and nothing later."""

    def __init__(self, delay_ms: float) -> None:
        self.delay_ms = delay_ms
        self.start_ms: float | None = None
        self.packets: dict[int, bytes] = {}

    def push(self, number: int, pcm: bytes, now_ms: float) -> None:
        if self.start_ms is None:
            self.start_ms = now_ms + self.delay_ms - number * FRAME_MS
        self.packets[number] = pcm

    def pop(self, now_ms: float) -> Frame:
        if self.start_ms is None or now_ms < self.start_ms:
            return NOTHING
        number = int((now_ms - self.start_ms) // FRAME_MS)
        pcm = self.packets.get(number)
        return NOTHING if pcm is None else Frame((number + 1) * FRAME_SIZE, pcm=pcm)


class Queue:
    """What programs do with a server's audio: a queue that gathers packets at first, and again when it ran empty."""

    def __init__(self, gather_ms: float) -> None:
        self.num_wanted = max(1, math.ceil(gather_ms / FRAME_MS))
        self.waiting: deque[tuple[int, bytes]] = deque()
        self.is_playing = False

    def push(self, number: int, pcm: bytes, now_ms: float) -> None:
        self.waiting.append((number, pcm))
        self.is_playing = self.is_playing or len(self.waiting) >= self.num_wanted

    def pop(self, now_ms: float) -> Frame:
        if not self.is_playing:
            return NOTHING
        number, pcm = self.waiting.popleft()
        self.is_playing = bool(self.waiting)
        return Frame((number + 1) * FRAME_SIZE, pcm=pcm)

    def finish(self) -> None:
        self.is_playing = bool(self.waiting)

    def clear(self) -> None:
        self.waiting.clear()
        self.is_playing = False


class Aiortc:
    """aiortc's buffer with the capacity and the prefetch of its own audio receiver, and a queue behind it."""

    def __init__(self, jitterbuffer: Any, rtp: Any) -> None:
        self.buffer = jitterbuffer.JitterBuffer(capacity=16, prefetch=4)
        self.make_packet = rtp.RtpPacket
        self.waiting: deque[Any] = deque()

    def push(self, number: int, pcm: bytes, now_ms: float) -> None:
        packet = self.make_packet(sequence_number=number & 0xFFFF, timestamp=number * FRAME_SIZE & 0xFFFFFFFF)
        # Its receiver, too, puts what it has decoded into this attribute.
        packet._data = pcm
        _, frame = self.buffer.add(packet)
        if frame is not None:
            self.waiting.append(frame)

    def pop(self, now_ms: float) -> Frame:
        if not self.waiting:
            return NOTHING
        frame = self.waiting.popleft()
        return Frame(frame.timestamp + FRAME_SIZE, pcm=frame.data)


class SpeexPacket(ctypes.Structure):
    """JitterBufferPacket of speex_jitter.h."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("len", ctypes.c_uint32),
        ("timestamp", ctypes.c_uint32),
        ("span", ctypes.c_uint32),
        ("sequence", ctypes.c_uint16),
        ("user_data", ctypes.c_uint32),
    )


class Speex:
    """libspeexdsp's buffer; concealment is left to the application."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.state = ctypes.c_void_p(library.jitter_buffer_init(FRAME_SIZE))
        self.room = ctypes.create_string_buffer(4 * FRAME_SIZE)

    def __del__(self) -> None:
        self.library.jitter_buffer_destroy(self.state)

    def push(self, number: int, pcm: bytes, now_ms: float) -> None:
        data = ctypes.cast(ctypes.c_char_p(pcm), ctypes.c_void_p)
        timestamp = number * FRAME_SIZE & 0xFFFFFFFF
        packet = SpeexPacket(data, len(pcm), timestamp, FRAME_SIZE, number & 0xFFFF, 0)
        self.library.jitter_buffer_put(self.state, ctypes.byref(packet))

    def pop(self, now_ms: float) -> Frame:
        packet = SpeexPacket(ctypes.cast(self.room, ctypes.c_void_p), len(self.room), 0, 0, 0, 0)
        offset = ctypes.c_int32()
        status = self.library.jitter_buffer_get(self.state, ctypes.byref(packet), FRAME_SIZE, ctypes.byref(offset))
        self.library.jitter_buffer_tick(self.state)
        if status or packet.len != 2 * FRAME_SIZE:
            return NOTHING
        return Frame(packet.timestamp + FRAME_SIZE, pcm=self.room.raw[: packet.len])


@dataclass(frozen=True)
class Pitch:
    """What of the speech a change of tempo could take out, at every 10 ms.

    Args:
        periods: The pitch period in samples.
        likeness: How much one period is like the next, -1 to 1.
        is_quiet: Whether this is a pause.
    """

    periods: NDArray[np.int64]
    likeness: NDArray[np.float64]
    is_quiet: NDArray[np.bool_]

    STEP = 10 * SAMPLES_PER_MS

    def removable(self, sample: int) -> int:
        """Return how many samples a change of tempo would move there; 0 if it would be heard."""
        n = min(sample // self.STEP, len(self.periods) - 1)
        if self.is_quiet[n]:
            return 15 * SAMPLES_PER_MS
        return int(self.periods[n]) if self.likeness[n] > 0.9 else 0


def find_pitch(samples: NDArray[np.float64]) -> Pitch:
    """Return the pitch of speech, searched from 2.5 to 15 ms."""
    window, periods = 100, np.arange(20, 121)
    starts = np.arange(0, len(samples) - window - int(periods[-1]), Pitch.STEP)

    def window_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.concatenate([[0.0], np.cumsum(values)])
        return np.asarray(sums[starts + window] - sums[starts])

    energy = window_sums(samples**2)
    likeness = np.stack(
        [
            window_sums(samples[:-period] * samples[period:])
            / np.sqrt(energy * window_sums(np.roll(samples, -period) ** 2) + 1.0)
            for period in periods
        ]
    )
    best = likeness.argmax(axis=0)
    quiet = energy / window < 2000
    return Pitch(periods[best], likeness.max(axis=0), quiet)


class HistogramModel:
    """The decisions of WebRTC's NetEQ as it ships, modelled; what sounds is left out.

    The largest delay of each half second, against the fastest packet of 2 s, enters a histogram of 20 ms steps that
    forgets 1.7 % each time; the target is where a quantile of it lies. Speech is sped up, by a pitch period each 60 ms
    at most, where the delay is above target, spread and 20 ms together, and slowed down below the target. For a packet
    that is missing while others are there it waits as long as the packet is.
    """

    def __init__(self, pitch: Pitch, quantile: float = 0.95) -> None:
        self.pitch = pitch
        self.quantile = quantile
        self.weights = 0.5 ** np.arange(1.0, 101.0)
        self.num_added = 0
        self.target_ms = 80.0
        self.recent: deque[tuple[int, float]] = deque()
        self.interval_end_ms = math.inf
        self.largest_ms = 0.0
        self.has_arrived: set[int] = set()
        self.newest = -1
        self.at: int | None = None
        self.num_waited = 0
        self.rest_ms = 0.0

    def push(self, number: int, pcm: bytes, now_ms: float) -> None:
        self.at = number * FRAME_SIZE if self.at is None else self.at
        self.has_arrived.add(number)
        self.newest = max(self.newest, number)
        transit_ms = now_ms - number * FRAME_MS
        self.recent.append((number, transit_ms))
        while self.recent[0][0] <= number - 100:
            self.recent.popleft()
        if now_ms > self.interval_end_ms:
            self.num_added += 1
            keep = min(0.983, 1 - 2 / (self.num_added + 1))
            self.weights *= keep
            self.weights[min(99, int(self.largest_ms // 20))] += 1 - keep
            shares = np.cumsum(self.weights) / self.weights.sum()
            self.target_ms = 20.0 * (1 + int(np.searchsorted(shares, self.quantile)))
        if now_ms > self.interval_end_ms or self.interval_end_ms == math.inf:
            self.interval_end_ms, self.largest_ms = now_ms + 500, 0.0
        self.largest_ms = max(self.largest_ms, transit_ms - self.fastest_ms())

    def fastest_ms(self) -> float:
        return min(transit_ms for _, transit_ms in self.recent)

    def pop(self, now_ms: float) -> Frame:
        if self.at is None:
            return NOTHING
        removed = self.change_of_tempo(now_ms)
        missing, concealed = FRAME_SIZE + removed, 0
        while missing > 0:
            there = self.contiguous(missing)
            if there:
                self.at += there
                missing -= there
                self.num_waited = 0
                continue
            gap = self.gap()
            if gap is not None and self.num_waited >= gap:
                self.at += gap
                self.num_waited = 0
                continue
            part = missing if gap is None else min(missing, gap - self.num_waited)
            self.num_waited += part
            concealed += part
            missing -= part
        if concealed >= FRAME_SIZE:
            return NOTHING
        return Frame(self.at, concealed, removed)

    def change_of_tempo(self, now_ms: float) -> int:
        """Return by how many samples the next frame takes more than it gives, as NetEQ would decide."""
        assert self.at is not None
        self.rest_ms = max(0.0, self.rest_ms - FRAME_MS)
        if self.num_waited or self.rest_ms or self.contiguous(30 * SAMPLES_PER_MS) < 30 * SAMPLES_PER_MS:
            return 0
        delay_ms = now_ms - self.at / SAMPLES_PER_MS - self.fastest_ms()
        spread_ms = max(transit_ms for _, transit_ms in self.recent) - self.fastest_ms()
        direction = (delay_ms >= self.target_ms + spread_ms + 20) - (delay_ms < self.target_ms)
        removed = direction * self.pitch.removable(self.at)
        if removed > 0 and self.contiguous(FRAME_SIZE + removed) < FRAME_SIZE + removed:
            return 0
        self.rest_ms = 60.0 if removed else 0.0
        return removed

    def contiguous(self, wanted: int) -> int:
        """Return how many samples of those wanted are there without a gap."""
        assert self.at is not None
        number, end = self.at // FRAME_SIZE, self.at + wanted
        while number in self.has_arrived and number * FRAME_SIZE < end:
            number += 1
        return max(0, min(end, number * FRAME_SIZE) - self.at)

    def gap(self) -> int | None:
        """Return how many samples are missing before the next packet that is there; None if there is none."""
        assert self.at is not None
        for number in range(self.at // FRAME_SIZE, self.newest + 1):
            if number in self.has_arrived:
                return number * FRAME_SIZE - self.at
        return None


Maker = Callable[[], Contestant]
PlayerMaker = Callable[[], Player]


def aiortc_maker() -> Maker | None:
    jitterbuffer, rtp = load_peer("aiortc.jitterbuffer"), load_peer("aiortc.rtp")
    return None if jitterbuffer is None else lambda: Aiortc(jitterbuffer, rtp)


def speex_maker() -> Maker | None:
    name = ctypes.util.find_library("speexdsp")
    if name is None:
        return None
    library = ctypes.CDLL(name)
    library.jitter_buffer_init.restype = ctypes.c_void_p
    return lambda: Speex(library)


def other_peers() -> Mapping[str, Maker | None]:
    """Return the buffers of other libraries; None where the library is not installed."""
    return {"aiortc": aiortc_maker(), "speexdsp": speex_maker()}
