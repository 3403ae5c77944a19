"""A telephone leg against far ends that play what they get: pacing, interruptions, whole frames."""

from __future__ import annotations

import heapq
import json
import math
import random
from base64 import b64decode
from itertools import count, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechwire.codec import ulaw_decode, ulaw_encode
from speechwire.errors import AudioError
from speechwire.events import Unknown
from speechwire.telephony import CallAudio, CallEnded, CallMark, PhoneLeg
from speechwire.telephony.rtp import Rtp
from test_telephony_framings import (
    ASTERISK_START,
    AUDIOSOCKET_START,
    PLIVO_START,
    TELNYX_START,
    TWILIO_START,
    VONAGE_CONNECTED,
    rtp_packet,
)

FRAME_S = 0.02
FRAME_MS = 20.0


def speech(seconds: float, sample_rate: int = 8000, seed: int = 1) -> bytes:
    """Return voiced sound whose pitch and loudness move, as speech does."""
    time_s = np.arange(round(seconds * sample_rate)) / sample_rate
    phase = 2 * np.pi * np.cumsum(140 + 40 * np.sin(2 * np.pi * 0.7 * time_s + seed)) / sample_rate
    sound = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 8))
    return np.rint(6000 * sound * (0.6 + 0.4 * np.sin(2 * np.pi * 1.3 * time_s))).astype("<i2").tobytes()


STARTS: dict[str, tuple[str | bytes, int]] = {
    "twilio": (TWILIO_START, 160),
    "telnyx": (TELNYX_START, 160),
    "plivo": (PLIVO_START, 160),
    "vonage": (VONAGE_CONNECTED, 320),
    "chan_websocket": (ASTERISK_START, 160),
    "audiosocket": (AUDIOSOCKET_START, 323),
    "rtp": (b"", 172),
}


def read(vendor: str, message: str | bytes) -> tuple[str, Any]:
    """Return what a message asks of the far end: to play codes, to return a mark, or to forget."""
    if isinstance(message, bytes):
        return "play", message
    if vendor == "chan_websocket":
        command, _, name = message.partition(" ")
        return ("mark", name) if command == "MARK_MEDIA" else ("clear", None)
    fields = json.loads(message)
    kind = fields.get("event") or fields["action"]
    if kind in ("media", "playAudio"):
        return "play", b64decode(fields["media"]["payload"])
    if kind in ("clear", "clearAudio"):
        return "clear", None
    assert kind in ("mark", "checkpoint", "notify")
    return "mark", fields.get("name") or (fields.get("mark") or fields.get("payload"))


MARK_BACK = {
    "twilio": lambda mark: json.dumps({"event": "mark", "streamSid": "MZ", "mark": mark}),
    "telnyx": lambda mark: json.dumps({"event": "mark", "stream_id": "32", "mark": mark}),
    "plivo": lambda mark: json.dumps({"event": "playedStream", "streamId": "8", "name": mark}),
    "vonage": lambda mark: json.dumps({"event": "websocket:notify", "payload": mark}),
    "chan_websocket": lambda mark: f"MEDIA_MARK_PROCESSED {mark}",
}
# Those that return the marks of what they forget.
RETURNS_ALL = ("twilio", "telnyx", "vonage")


class FarEnd:
    """It plays what has come, in order, 20 ms in 20 ms, and returns marks as it gets to them."""

    def __init__(self, vendor: str) -> None:
        self.vendor = vendor
        self.played: list[tuple[float, float, bytes]] = []  # begin, end, codes
        self.free_at = 0.0
        self.marks: list[tuple[float, Any]] = []

    def receive(self, message: str | bytes, now: float) -> None:
        asked, value = read(self.vendor, message)
        if asked == "play":
            assert len(value) == STARTS[self.vendor][1]
            begin = max(now, self.free_at)
            self.free_at = begin + FRAME_S
            self.played.append((begin, self.free_at, value))
        elif asked == "mark":
            self.marks.append((max(now, self.free_at), value))
        else:
            self.played = [(begin, min(end, now), codes) for begin, end, codes in self.played if begin < now]
            self.free_at = min(self.free_at, now)
            self.marks = [(now, mark) for _, mark in self.marks] if self.vendor in RETURNS_ALL else []

    def answers(self, now: float) -> list[str]:
        """Return the messages of marks that have been reached."""
        reached = [mark for time, mark in self.marks if time <= now]
        self.marks = [(time, mark) for time, mark in self.marks if time > now]
        return [MARK_BACK[self.vendor](mark) for mark in reached]

    def next_answer(self) -> float:
        return min((time for time, _ in self.marks), default=math.inf)

    def played_ms(self, now: float) -> float:
        return 1000 * sum(min(end, now) - begin for begin, end, _ in self.played if begin < now)


class Call:
    """A leg and its far end on one held clock, with a way that takes its time in both directions.

    What is on the way stays in order; `jitter_s` is how much longer than usual it may take.
    """

    def __init__(
        self, leg: PhoneLeg, vendor: str = "twilio", *, there_s: float = 0.0, back_s: float = 0.0, jitter_s: float = 0.0
    ) -> None:
        self.leg = leg
        self.far = FarEnd(vendor)
        self._chance = random.Random(1)
        self._jitter_s = jitter_s
        self._last_arrival = {True: 0.0, False: 0.0}
        self.now = 0.0
        self.there_s = there_s
        self.back_s = back_s
        self.events: list[Any] = []
        self._numbers = count()
        self._on_the_way: list[tuple[float, int, bool, str | bytes]] = []
        leg.receive_message(STARTS[vendor][0], now=0.0)

    def _send(self, delay_s: float, to_far: bool, message: str | bytes) -> None:
        arrival = max(self._last_arrival[to_far], self.now + delay_s + self._chance.uniform(0, self._jitter_s))
        self._last_arrival[to_far] = arrival
        heapq.heappush(self._on_the_way, (arrival, next(self._numbers), to_far, message))

    def run(self, until: float, *, late_s: float = 0.0) -> None:
        """Let the time pass; the leg is asked `late_s` after its deadlines."""
        while True:
            deadline = self.leg.next_deadline()
            times = [
                math.inf if deadline is None else max(self.now, deadline + late_s),
                self._on_the_way[0][0] if self._on_the_way else math.inf,
                self.far.next_answer(),
            ]
            if min(times) > until:
                break
            self.now = max(self.now, min(times))
            # What the far end has played at this moment, it has told.
            for answer in self.far.answers(self.now):
                self._send(self.back_s, False, answer)
            while self._on_the_way and self._on_the_way[0][0] <= self.now:
                _, _, to_far, message = heapq.heappop(self._on_the_way)
                if to_far:
                    self.far.receive(message, self.now)
                else:
                    self.leg.receive_message(message, now=self.now)
            if deadline is not None and deadline + late_s <= self.now:
                for sent in self.leg.messages_to_send(now=self.now):
                    self._send(self.there_s, True, sent)
            self.events += self.leg.events_received()
        self.now = until


SEEDS = range(30)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("sample_rate", [8000, 24000])
def test_heard_is_what_the_far_end_played_to_one_frame(seed: int, sample_rate: int) -> None:
    at = random.Random(seed).uniform(0.0, 4.0)
    call = Call(PhoneLeg("twilio", sample_rate=sample_rate))
    call.leg.send_audio(speech(5.0, sample_rate), answer=1, now=0.0)
    call.leg.end_answer(1, now=0.0)
    call.run(at)
    heard = call.leg.interrupt(now=at)
    call.run(at)
    delay_ms = 0.0 if sample_rate == 8000 else 5.875
    played_ms = max(0.0, call.far.played_ms(at) - delay_ms)
    assert heard.answer == 1
    assert heard.heard_ms is not None
    assert 0.0 <= played_ms - heard.heard_ms < FRAME_MS + 0.001
    # One frame has nothing but a part of the resampler's delay in it, the clock does not see where it ends.
    assert heard.heard_ms_estimate == pytest.approx(played_ms, abs=0.001 + delay_ms)
    assert heard.heard_ms + heard.dropped_ms <= 5000
    call.run(at + 1.0)
    assert call.far.played_ms(at + 1.0) == pytest.approx(call.far.played_ms(at), abs=0.001)


@pytest.mark.parametrize("seed", SEEDS)
def test_heard_lags_by_the_way_back_and_never_says_more_than_was_played(seed: int) -> None:
    chance = random.Random(seed)
    at, there_s, back_s = chance.uniform(0.5, 4.0), chance.uniform(0.0, 0.15), chance.uniform(0.0, 0.15)
    call = Call(PhoneLeg("twilio", sample_rate=8000), there_s=there_s, back_s=back_s)
    call.leg.send_audio(speech(5.0), answer=1, now=0.0)
    call.leg.end_answer(1, now=0.0)
    call.run(at)
    heard = call.leg.interrupt(now=at)
    played_ms = call.far.played_ms(at)
    assert heard.heard_ms is not None
    assert -0.001 <= played_ms - heard.heard_ms <= FRAME_MS + 1000 * back_s + 0.001
    assert heard.heard_ms_estimate == pytest.approx(played_ms - 1000 * back_s, abs=0.001)
    # All marks come back, and those behind what was heard confirm nothing.
    marks = [event for event in call.events if isinstance(event, CallMark)]
    call.run(at + 1.0)
    assert [event for event in call.events if isinstance(event, CallMark)] == marks
    stats = call.leg.stats
    assert stats.num_marks_returned + stats.num_marks_flushed == stats.num_marks_sent
    assert stats.num_marks_flushed > 0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("vendor", sorted(MARK_BACK))
def test_heard_with_every_vendor_over_a_way_with_jitter(vendor: str, seed: int) -> None:
    chance = random.Random(seed)
    at, there_s, back_s, jitter_s = chance.uniform(0.5, 4.0), 0.04, 0.03, 0.05
    leg = PhoneLeg(vendor, sample_rate=8000)
    call = Call(leg, vendor, there_s=there_s, back_s=back_s, jitter_s=jitter_s)
    leg.send_audio(speech(5.0), answer=1, now=0.0)
    leg.end_answer(1, now=0.0)
    call.run(at)
    heard = leg.interrupt(now=at)
    played_ms = call.far.played_ms(at)
    assert heard.heard_ms is not None
    assert -0.001 <= played_ms - heard.heard_ms <= FRAME_MS + 1000 * (back_s + jitter_s) + 0.001
    assert heard.heard_ms_estimate <= played_ms + 0.001
    assert heard.heard_ms_estimate >= heard.heard_ms
    marks = [event for event in call.events if isinstance(event, CallMark)]
    leg.send_audio(speech(0.2), answer=2, now=at)
    leg.end_answer(2, now=at)
    call.run(at + 1.0)
    later = [event for event in call.events if isinstance(event, CallMark)][len(marks) :]
    assert [event.answer for event in later] == [2] * 10
    assert later[-1] == CallMark(2, 200.0, ended=True)


def test_late_audio_of_an_interrupted_answer_is_dropped_and_the_next_answer_is_heard() -> None:
    call = Call(PhoneLeg("twilio", sample_rate=8000))
    call.leg.send_audio(speech(1.0), answer=1, now=0.0)
    assert call.leg.unsent_ms == 1000
    call.run(0.5)
    assert call.leg.unsent_ms == pytest.approx(1000 - call.leg.stats.sent_ms)
    first = call.leg.interrupt(now=0.5)
    assert first.heard_ms == pytest.approx(500, abs=20)
    sent_ms = call.leg.stats.sent_ms
    assert call.leg.unsent_ms == 0.0
    assert first.dropped_ms == pytest.approx(1000 - sent_ms)
    call.leg.send_audio(speech(0.3), answer=1, now=0.5)
    call.leg.end_answer(1, now=0.5)
    call.run(1.0)
    assert call.leg.stats.dropped_ms == pytest.approx(first.dropped_ms + 300)
    assert call.leg.stats.sent_ms == sent_ms
    call.leg.send_audio(speech(0.2), answer=2, now=1.0)
    call.leg.send_audio(speech(0.1), answer=1, now=1.0)
    call.leg.end_answer(2, now=1.0)
    call.run(2.0)
    assert call.events[-1] == CallMark(2, 200.0, ended=True)
    heard = b"".join(codes for begin, _, codes in call.far.played if begin >= 1.0)
    assert heard == ulaw_encode(speech(0.2))
    assert call.leg.stats.dropped_ms == pytest.approx(first.dropped_ms + 400)
    assert call.leg.interrupt(now=2.0).heard_ms == 200.0


@pytest.mark.parametrize("framing", ["twilio", "audiosocket"])
def test_nothing_of_an_interrupted_answer_is_in_the_next(framing: str) -> None:
    leg, _ = start(framing, 24000)
    leg.send_audio(speech(1.0, 24000)[:-1], answer=1, now=0.0)
    leg.messages_to_send(now=0.0)
    leg.interrupt(now=0.01)
    leg.send_audio(bytes(4800), answer=2, now=0.01)
    leg.end_answer(2, now=0.01)
    sent = [message for number in range(1, 9) for message in leg.messages_to_send(now=0.02 * number)]
    codes = [audio for message in sent if (audio := payload(message)) is not None]
    # The first of a steady framing is the fade.
    silence = codes if framing == "twilio" else [message[3:] for message in codes[1:]]
    assert len(silence) > 5
    assert set(b"".join(silence)) == {0xFF if framing == "twilio" else 0}


def test_interruption_before_anything_was_said() -> None:
    leg = PhoneLeg("twilio", sample_rate=8000)
    assert leg.interrupt(now=0.0).answer is None
    leg.receive_message(TWILIO_START, now=0.0)
    nothing = leg.interrupt(now=0.0)
    assert (nothing.answer, nothing.heard_ms, nothing.heard_ms_estimate, nothing.dropped_ms) == (None, 0.0, 0.0, 0.0)
    assert leg.messages_to_send(now=0.0) == []
    leg.send_audio(bytes(1600), answer=7, now=0.0)
    unheard = leg.interrupt(now=0.0)
    assert (unheard.answer, unheard.heard_ms, unheard.dropped_ms) == (7, 0.0, 100.0)
    assert leg.messages_to_send(now=5.0) == []


def test_interruption_names_the_answer_that_is_being_heard() -> None:
    call = Call(PhoneLeg("twilio", sample_rate=8000))
    for answer in (1, 2, 3):
        call.leg.send_audio(speech(0.4), answer=answer, now=0.0)
    call.run(0.5)
    heard = call.leg.interrupt(now=0.5)
    assert heard.answer == 2
    assert heard.heard_ms == pytest.approx(100, abs=20)
    assert heard.dropped_ms == pytest.approx(1200 - call.leg.stats.sent_ms)
    assert CallMark(1, 400.0, ended=True) in call.events
    for answer in (1, 2, 3):
        call.leg.send_audio(speech(0.1), answer=answer, now=0.6)
    call.run(2.0)
    assert call.leg.stats.dropped_ms == pytest.approx(heard.dropped_ms + 300)


def test_marks_at_the_end_only() -> None:
    call = Call(PhoneLeg("twilio", sample_rate=8000, mark_ms=None))
    call.leg.send_audio(speech(0.5), answer=1, now=0.0)
    call.run(0.3)
    assert call.leg.stats.num_marks_sent == 0
    call.leg.end_answer(1, now=0.3)
    call.run(1.0)
    assert call.events[1:] == [CallMark(1, 500.0, ended=True)]


def test_rarer_marks() -> None:
    call = Call(PhoneLeg("twilio", sample_rate=8000, mark_ms=100))
    call.leg.send_audio(speech(0.5), answer=1, now=0.0)
    call.leg.end_answer(1, now=0.0)
    call.run(1.0)
    assert [event.heard_ms for event in call.events[1:]] == [100, 200, 300, 400, 500]


def test_end_of_an_answer_that_was_all_sent_is_marked_at_once() -> None:
    call = Call(PhoneLeg("twilio", sample_rate=8000, mark_ms=None))
    call.leg.send_audio(speech(0.06), answer=1, now=0.0)
    call.run(0.01)
    assert call.leg.stats.num_frames == 3
    call.leg.end_answer(1, now=0.01)
    call.leg.end_answer(1, now=0.01)
    call.leg.send_audio(b"", answer=2, now=0.01)
    call.leg.end_answer(2, now=0.01)
    call.run(1.0)
    assert call.events[1:] == [CallMark(1, 60.0, ended=True), CallMark(2, 0.0, ended=True)]


def test_foreign_marks_are_left_to_the_application() -> None:
    leg = PhoneLeg("twilio")
    leg.receive_message(TWILIO_START, now=0.0)
    leg.events_received()
    for name in ("mine", "1-", "-1", "1-0", "1-²", "1-" + "9" * 5000):
        message = {"event": "mark", "mark": {"name": name}}
        leg.receive_message(json.dumps(message), now=0.0)
        (event,) = leg.events_received()
        assert event == Unknown(message)


def start(framing: str, sample_rate: int) -> tuple[PhoneLeg, int]:
    message, size = STARTS[framing]
    leg = PhoneLeg(Rtp(ssrc=1) if framing == "rtp" else framing, sample_rate=sample_rate, mark_ms=None)
    if message:
        leg.receive_message(message, now=0.0)
    return leg, size


def payload(message: str | bytes) -> bytes | None:
    """Return the bytes of audio in any framing's message, None for a command."""
    if isinstance(message, bytes):
        return message
    media = json.loads(message).get("media") if message.startswith("{") else None
    return None if media is None else b64decode(media["payload"])


@given(
    st.sampled_from(sorted(STARTS)),
    st.sampled_from([8000, 16000, 22050, 24000, 48000]),
    st.lists(st.tuples(st.binary(max_size=3000), st.floats(0, 0.3), st.booleans()), max_size=8),
)
def test_only_whole_frames_leave(framing: str, sample_rate: int, chunks: list[tuple[bytes, float, bool]]) -> None:
    leg, size = start(framing, sample_rate)
    now, answer, messages = 0.0, 1, list[str | bytes]()
    for pcm, passes, is_end in [*chunks, (b"", 5.0, True)]:
        leg.send_audio(pcm, answer=answer, now=now)
        if is_end:
            leg.end_answer(answer, now=now)
            answer += 1
        end = now + passes
        while (deadline := leg.next_deadline()) is not None and deadline <= end:
            now = max(now, deadline)
            messages += leg.messages_to_send(now=now)
        now = end
    assert {len(audio) for message in messages if (audio := payload(message)) is not None} <= {size}
    stats = leg.stats
    assert stats.sent_ms == pytest.approx(sum_ms(chunks, sample_rate))
    assert stats.dropped_ms == 0.0
    assert stats.num_late == 0


def sum_ms(chunks: list[tuple[bytes, float, bool]], sample_rate: int) -> float:
    """Return how much audio there is; what cuts a sample at the end of an answer is filled up and not counted."""
    total, waiting = 0, 0
    for pcm, _, is_end in [*chunks, (b"", 0.0, True)]:
        waiting += len(pcm)
        if is_end:
            total, waiting = total + waiting // 2, 0
    return 1000 * total / sample_rate


@given(st.lists(st.integers(1, 700), min_size=1, max_size=20))
def test_any_cutting_of_an_answer_sounds_the_same(sizes: list[int]) -> None:
    pcm = speech(0.4)
    call = Call(PhoneLeg("twilio", sample_rate=8000))
    begin = 0
    for size in [*sizes, len(pcm)]:
        call.leg.send_audio(pcm[begin : begin + size], answer=1, now=0.0)
        begin += size
    call.leg.end_answer(1, now=0.0)
    call.run(1.0)
    assert b"".join(codes for _, _, codes in call.far.played) == ulaw_encode(pcm)


def test_frames_leave_on_the_grid_whenever_the_leg_is_asked() -> None:
    leg, _ = start("twilio", 8000)
    leg.send_audio(speech(2.0), answer=1, now=10.0)
    leg.end_answer(1, now=10.0)
    sent, chance, now = [], random.Random(5), 10.0
    while (deadline := leg.next_deadline()) is not None:
        now = max(now, deadline + chance.uniform(0, 0.015))
        sent.append((now, len(leg.messages_to_send(now=now))))
    # 60 ms ahead, then one in every interval: the lateness of one moves none of the others.
    assert sent[0][1] == 4
    assert all(num == 1 for _, num in sent[1:-1])
    begin = sent[0][0]
    assert all(0 <= time - begin - 0.02 * number <= 0.015 for number, (time, _) in enumerate(sent))
    stats = leg.stats
    assert (stats.num_frames, stats.num_early, stats.num_late, stats.num_underruns) == (100, 3, 0, 0)
    assert 0 < stats.max_late_ms <= 15


def test_a_late_loop_sends_what_the_far_end_needs_and_counts_it() -> None:
    leg, _ = start("twilio", 8000)
    leg.send_audio(speech(3.0), answer=1, now=0.0)
    leg.end_answer(1, now=0.0)
    assert len([m for m in leg.messages_to_send(now=0.0) if payload(m)]) == 4
    # Within the lead: all that is overdue, and the far end has not noticed.
    assert len([m for m in leg.messages_to_send(now=0.055) if payload(m)]) == 2
    assert (leg.stats.num_late, leg.stats.num_underruns) == (1, 0)
    # Long after it: the far end is filled up to the largest lead, not flooded with half a second.
    assert len([m for m in leg.messages_to_send(now=0.6) if payload(m)]) == 11
    stats = leg.stats
    assert (stats.num_late, stats.num_underruns) == (2, 1)
    assert stats.underrun_ms == pytest.approx(600 - 120)
    assert stats.max_late_ms == pytest.approx(540)
    assert leg.next_deadline() == pytest.approx(0.62)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_service_that_speaks_in_real_time_with_jitter_is_heard_without_a_hole(seed: int) -> None:
    call, chance = Call(PhoneLeg("twilio", sample_rate=8000)), random.Random(seed)
    pcm = speech(2.0, seed=seed)
    for number in range(100):
        call.run(max(call.now, 0.02 * number + chance.uniform(0, 0.035)))
        call.leg.send_audio(pcm[320 * number : 320 * (number + 1)], answer=1, now=call.now)
    assert (call.leg.stats.num_underruns, call.leg.stats.num_late) == (0, 0)
    begin = call.far.played[0][0]
    assert begin <= 0.1
    assert all(abs(at - begin - FRAME_S * number) < 1e-6 for number, (at, _, _) in enumerate(call.far.played))


def test_what_holds_up_the_loop_twice_is_heard_once() -> None:
    call = Call(PhoneLeg("twilio", sample_rate=8000))
    pcm = speech(4.0)
    for number in range(200):
        # Nothing is read or sent for 100 ms, twice.
        held_up = 100 <= number < 105 or 150 <= number < 155
        if not held_up:
            call.run(0.02 * number)
        now = 0.02 * number if not held_up else 0.02 * (105 if number < 105 else 155)
        call.leg.send_audio(pcm[320 * number : 320 * (number + 1)], answer=1, now=now)
    holes_s = [round(after[0] - before[1], 6) for before, after in pairwise(call.far.played)]
    assert [hole_s > 0 for hole_s in holes_s].count(True) == 1
    assert max(holes_s) <= 0.04
    assert call.leg.stats.num_underruns == 1


def test_audio_that_comes_late_is_an_underrun_and_no_late_frame() -> None:
    call = Call(PhoneLeg("twilio", sample_rate=8000))
    call.leg.send_audio(speech(0.2), answer=1, now=0.0)
    call.run(1.0)
    call.leg.send_audio(speech(0.2), answer=1, now=1.0)
    call.leg.end_answer(1, now=1.0)
    call.run(2.0)
    stats = call.leg.stats
    assert (stats.num_underruns, stats.num_late) == (1, 0)
    # 0.2 s of speech, slowed down on the way, then nothing.
    assert 600 < stats.underrun_ms < 800
    assert call.events[-1] == CallMark(1, 400.0, ended=True)


def test_an_answer_begins_with_a_whole_frame() -> None:
    call = Call(PhoneLeg("twilio", sample_rate=8000))
    for answer in (1, 2):
        begin = call.now
        call.leg.send_audio(speech(0.2)[:160], answer=answer, now=begin)
        call.run(begin + 0.5)
        assert call.leg.stats.num_frames == 10 * (answer - 1)
        call.leg.send_audio(speech(0.2)[160:], answer=answer, now=call.now)
        call.leg.end_answer(answer, now=call.now)
        call.run(call.now + 1.0)
    assert b"".join(codes for _, _, codes in call.far.played) == 2 * ulaw_encode(speech(0.2))
    assert (call.leg.stats.num_underruns, call.leg.stats.num_late) == (0, 0)


def test_what_is_gathered_after_an_underrun_is_not_late() -> None:
    call = Call(PhoneLeg("twilio", sample_rate=8000))
    for begin in range(0, 3200 * 2, 480):
        call.leg.send_audio(speech(0.4)[begin : begin + 480], answer=1, now=call.now)
        call.run(call.now + (0.3 if begin == 1440 else 0.03))
    call.leg.end_answer(1, now=call.now)
    call.run(call.now + 1.0)
    assert call.leg.stats.num_late == 0
    assert call.leg.stats.num_underruns >= 1
    assert call.events[-1] == CallMark(1, 400.0, ended=True)


def test_a_pause_between_answers_is_no_underrun() -> None:
    call = Call(PhoneLeg("twilio", sample_rate=8000))
    for answer in range(1, 4):
        call.leg.send_audio(speech(0.2), answer=answer, now=call.now)
        call.leg.end_answer(answer, now=call.now)
        call.run(call.now + 1.0)
    assert call.leg.stats.num_underruns == 0
    assert call.leg.stats.num_frames == 30
    assert [event.answer for event in call.events if isinstance(event, CallMark) and event.ended] == [1, 2, 3]


def test_stretched_speech_keeps_the_places_of_the_answer() -> None:
    # Chunks come just in time, so the buffer slows down; the answer is as long as it was.
    call = Call(PhoneLeg("twilio", sample_rate=8000))
    pcm = speech(2.0)
    for number in range(25):
        call.leg.send_audio(pcm[1280 * number :][:1280], answer=1, now=call.now)
        call.run(call.now + 0.08)
    call.leg.end_answer(1, now=call.now)
    call.run(call.now + 1.0)
    marks = [event for event in call.events if isinstance(event, CallMark)]
    assert marks[-1] == CallMark(1, 2000.0, ended=True)
    assert call.far.played_ms(call.now) > 2050
    places = [mark.heard_ms for mark in marks]
    assert places == sorted(places)
    assert call.leg.stats.sent_ms == pytest.approx(2000)


@pytest.mark.parametrize("seed", range(10))
def test_heard_of_stretched_speech_is_the_place_that_was_heard(seed: int) -> None:
    # The loudness of the sound tells the place.
    time_s = np.arange(24000) / 8000
    loudness = 1000 + 5000 * time_s
    pcm = np.rint(loudness * np.sin(2 * np.pi * 200 * time_s)).astype("<i2").tobytes()
    at = random.Random(seed).uniform(1.5, 2.5)
    call = Call(PhoneLeg("twilio", sample_rate=8000))
    while call.now < at:
        call.leg.send_audio(
            pcm[: 1280 * round(call.now / 0.08 + 1)][1280 * round(call.now / 0.08) :], answer=1, now=call.now
        )
        call.run(min(at, call.now + 0.08))
    heard = call.leg.interrupt(now=at)
    last = ulaw_decode([codes for begin, end, codes in call.far.played if end <= at][-1])
    level = np.sqrt(2 * np.mean(np.frombuffer(last, "<i2").astype(float) ** 2))
    place_ms = (level - 1000) / 5 + 10
    assert heard.heard_ms == pytest.approx(place_ms, abs=25)
    assert heard.heard_ms_estimate == pytest.approx(place_ms, abs=40)
    # The far end has played for longer than this is in the answer.
    assert call.far.played_ms(at) > place_ms + 60


@pytest.mark.parametrize("framing", ["audiosocket", "rtp"])
def test_steady_framings_send_a_frame_in_every_interval_and_fade_out(framing: str) -> None:
    leg, size = start(framing, 8000)
    leg.messages_to_send(now=0.0)
    leg.send_audio(speech(1.0), answer=1, now=0.01)
    messages, now = [], 0.0
    while now < 0.395:
        now = leg.next_deadline() or math.inf
        messages += leg.messages_to_send(now=now)
    assert [len(message) for message in messages] == [size] * 20
    heard = leg.interrupt(now=0.41)
    assert heard.heard_ms is None
    assert heard.heard_ms_estimate == pytest.approx(390, abs=0.001)
    leg.send_audio(speech(0.5), answer=2, now=0.41)
    leg.end_answer(2, now=0.41)
    fade, first = leg.messages_to_send(now=0.42) + leg.messages_to_send(now=0.44)
    assert len(fade) == size
    samples = samples_of(framing, fade)
    assert np.any(samples[:8])
    assert not np.any(samples[40:])
    assert np.array_equal(samples_of(framing, first), np.frombuffer(decoded(framing, speech(0.02)), "<i2"))
    for number in range(23, 60):
        assert len(leg.messages_to_send(now=0.02 * number)) == 1


def samples_of(framing: str, message: str | bytes) -> Any:
    assert isinstance(message, bytes)
    pcm = message[3:] if framing == "audiosocket" else ulaw_decode(message[12:])
    return np.frombuffer(pcm, "<i2")


def decoded(framing: str, pcm: bytes) -> bytes:
    return pcm if framing == "audiosocket" else ulaw_decode(ulaw_encode(pcm))


def test_estimate_stops_where_sending_stopped() -> None:
    leg, _ = start("audiosocket", 8000)
    leg.send_audio(speech(0.1), answer=1, now=0.0)
    leg.end_answer(1, now=0.0)
    for number in range(10):
        leg.messages_to_send(now=0.02 * number)
    heard = leg.interrupt(now=50.0)
    assert (heard.answer, heard.heard_ms, heard.heard_ms_estimate, heard.dropped_ms) == (1, None, 100.0, 0.0)


def test_nothing_leaves_after_the_end_of_the_call() -> None:
    leg, _ = start("twilio", 8000)
    leg.send_audio(speech(1.0), answer=1, now=0.0)
    leg.messages_to_send(now=0.0)
    leg.receive_message('{"event":"stop"}', now=0.1)
    leg.send_audio(speech(1.0), answer=1, now=0.1)
    leg.send_audio(speech(1.0), answer=2, now=0.1)
    assert leg.messages_to_send(now=9.0) == []
    assert leg.next_deadline() is None
    assert leg.interrupt(now=9.0).answer is None
    assert leg.stats.dropped_ms == pytest.approx(3000 - 80)


def test_the_end_of_the_call_is_its_last_event() -> None:
    leg = PhoneLeg("twilio")
    leg.receive_message('{"event":"stop"}', now=0.0)
    for message in ('{"event":"stop"}', TWILIO_START, '{"event":"media","media":{"payload":"/w=="}}'):
        leg.receive_message(message, now=0.0)
    assert leg.events_received() == [CallEnded("the far end sent stop")]
    assert leg.stats.received_ms == 0
    leg = PhoneLeg("audiosocket")
    leg.receive_message(b"\x00\x00\x00" + b"\x10\x01\x40" + bytes(320), now=0.0)
    assert leg.events_received() == [CallEnded("the far end hung up")]


def test_more_than_two_minutes_cannot_wait() -> None:
    leg, _ = start("twilio", 8000)
    leg.send_audio(bytes(16000 * 119), answer=1, now=0.0)
    with pytest.raises(AudioError, match=r"^expected at most .* ms of audio waiting, got 149000"):
        leg.send_audio(bytes(16000 * 30), answer=1, now=0.0)


@pytest.mark.parametrize("framing", ["twilio", "vonage"])
def test_what_is_refused_leaves_no_trace(framing: str) -> None:
    pcm = speech(1.0, 16000)
    other, _ = start(framing, 16000)
    leg, _ = start(framing, 16000)
    leg.send_audio(pcm, answer=1, now=0.0)
    with pytest.raises(AudioError, match=r"^expected at most 120000 ms of audio waiting, got 121000$"):
        leg.send_audio(bytes(32000 * 120), answer=1, now=0.0)
    assert leg.unsent_ms == 1000
    with pytest.raises(AudioError, match="got 121000"):
        leg.send_audio(bytes(32000 * 120), answer=2, now=0.0)
    leg.send_audio(pcm, answer=1, now=0.0)
    other.send_audio(pcm * 2, answer=1, now=0.0)
    leg.end_answer(1, now=0.0)
    other.end_answer(1, now=0.0)
    for step in range(120):
        assert leg.messages_to_send(now=step / 50) == other.messages_to_send(now=step / 50)
    assert leg.stats == other.stats


def test_two_minutes_at_once_are_taken_at_any_rate() -> None:
    leg = PhoneLeg("chan_websocket", sample_rate=24000)
    leg.receive_message(ASTERISK_START.replace("ulaw", "slin48").replace(":160", ":1920"), now=0.0)
    leg.send_audio(bytes(48000 * 120), answer=1, now=0.0)
    assert leg.unsent_ms == 120_000


def test_gaps_of_the_caller_are_counted() -> None:
    leg, _ = start("twilio", 8000)
    for chunk, timestamp in ((1, 5), (2, 25), (3, 45), (6, 105), (7, 126), (8, 300)):
        media = {"chunk": str(chunk), "timestamp": str(timestamp), "payload": "/" * 212 + "/w=="}
        leg.receive_message(json.dumps({"event": "media", "media": media}), now=0.0)
    stats = leg.stats
    assert stats.received_ms == pytest.approx(6 * 19.999, abs=0.1)
    assert (stats.num_lost, round(stats.gap_ms)) == (2, 40 + 154)


def test_packets_of_the_caller_come_out_steadily() -> None:
    leg = PhoneLeg(Rtp(ssrc=1), sample_rate=16000)
    pcm, chance = speech(3.0), random.Random(3)
    codes = ulaw_encode(pcm)
    arrivals = sorted((0.02 * number + chance.uniform(0, 0.03), number) for number in range(150) if number % 20 != 7)
    heard: list[tuple[float, int]] = []
    for number in range(160):
        now = 0.02 * number + 0.001
        while arrivals and arrivals[0][0] <= now:
            at, packet = arrivals.pop(0)
            sequence, timestamp = (packet + 65500) & 0xFFFF, (160 * packet + 0xFFFFFF00) & 0xFFFFFFFF
            leg.receive_message(rtp_packet(codes[160 * packet :][:160], sequence, timestamp), now=at)
        leg.messages_to_send(now=now)
        heard += [(now, len(event.pcm)) for event in leg.events_received() if isinstance(event, CallAudio)]
    assert {size for _, size in heard} == {640}
    times = [now for now, _ in heard]
    assert len(heard) == pytest.approx(159, abs=2)
    assert max(after - before for before, after in pairwise(times)) < 0.03
    assert leg.stats.num_lost == 8


def test_who_asks_late_is_given_what_is_due_now() -> None:
    leg = PhoneLeg(Rtp(ssrc=1), sample_rate=8000)
    leg.receive_message(rtp_packet(bytes(160)), now=0.0)
    leg.messages_to_send(now=3600.0)
    assert len(leg.events_received()) < 60


def test_rtp_speaks_first_when_nobody_else_does() -> None:
    leg = PhoneLeg(Rtp(ssrc=1))
    deadline = leg.next_deadline()
    assert deadline is not None
    assert deadline <= 0.0
    assert len(leg.messages_to_send(now=7.0)) == 1
    assert leg.next_deadline() == 7.02


@pytest.mark.parametrize("mark_ms", [0, -20, math.nan, math.inf])
def test_marks_that_cannot_be_so_far_apart_are_refused(mark_ms: float) -> None:
    with pytest.raises(AudioError, match=f"^expected marks more than 0 ms apart, got {mark_ms}$"):
        PhoneLeg("twilio", mark_ms=mark_ms)
