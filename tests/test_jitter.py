"""The jitter buffer, on a clock that the tests hold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechwire.codec import JitterBuffer, JitterFrame
from speechwire.errors import AudioError

RATE = 8000
SIZE = 160


def voice(num_samples: int, sample_rate: int = RATE) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Something like a vowel: a period of 8 ms, with words and pauses between them."""
    time = np.arange(num_samples) / sample_rate
    tone = sum(np.sin(2 * np.pi * 125 * harmonic * time) / harmonic for harmonic in range(1, 8))
    loudness = np.clip(np.sin(2 * np.pi * 0.9 * time) + 0.6, 0, None)
    return np.asarray(4000 * tone * loudness, dtype=np.int16)


def frames(pcm: np.ndarray[Any, np.dtype[np.int16]]) -> list[bytes]:
    return [pcm[start : start + SIZE].tobytes() for start in range(0, len(pcm) - SIZE + 1, SIZE)]


def play(
    arrivals: list[tuple[float, int, int, bytes]], seconds: float, buffer: JitterBuffer | None = None
) -> Iterator[tuple[float, JitterFrame]]:
    """Push each packet when it arrives (seconds, seq, timestamp, payload) and pop a frame every 20 ms."""
    buffer = buffer or JitterBuffer(RATE)
    waiting = sorted(arrivals, key=lambda arrival: arrival[0])
    for tick in range(round(seconds * 50)):
        now = 0.003 + tick * 0.02
        while waiting and waiting[0][0] <= now:
            came, seq, timestamp, payload = waiting.pop(0)
            buffer.push(seq & 0xFFFF, timestamp & 0xFFFF_FFFF, payload, now=came)
        yield now, buffer.pop(now=now)


def test_a_steady_stream_comes_out_as_it_went_in() -> None:
    pcm = voice(RATE * 4)
    sent = frames(pcm)
    got = [frame for _, frame in play([(i * 0.02, i, i * SIZE, data) for i, data in enumerate(sent)], 4)]
    assert {frame.kind for frame in got} == {"speech"}
    assert b"".join(frame.pcm for frame in got) == b"".join(sent)
    assert [frame.timestamp for frame in got] == [(i + 1) * SIZE for i in range(len(sent))]


def test_a_frame_may_be_taken_out_at_the_moment_its_packet_comes() -> None:
    sent = frames(voice(RATE * 4))
    buffer = JitterBuffer(RATE)
    got = []
    for i, data in enumerate(sent):
        buffer.push(i, i * SIZE, data, now=i * 0.02 + 0.003)
        got.append(buffer.pop(now=i * 0.02 + 0.003))
    assert b"".join(frame.pcm for frame in got) == b"".join(sent)


def test_sequence_numbers_and_timestamps_may_wrap() -> None:
    sent = frames(voice(RATE * 4))
    plain = [(i * 0.02, i, i * SIZE, data) for i, data in enumerate(sent)]
    wrapping = [(at, seq + 65500, timestamp + 2**32 - 3200, data) for at, seq, timestamp, data in plain]
    first = [frame.pcm for _, frame in play(plain, 4)]
    assert [frame.pcm for _, frame in play(wrapping, 4)] == first


def test_reordered_and_doubled_packets_are_put_right() -> None:
    sent = frames(voice(RATE * 4))
    # Each pair comes the wrong way round, within the time of one frame, and twice.
    arrivals = [((i // 2) * 0.04 + 0.021 - (i % 2) * 0.001, i, i * SIZE, data) for i, data in enumerate(sent)]
    got = [frame for _, frame in play(arrivals + arrivals, 4)]
    spoken = b"".join(frame.pcm for frame in got if frame.kind == "speech")
    assert sum(frame.concealed for frame in got) <= 2 * SIZE
    assert b"".join(sent[10:190]) in spoken


def test_a_lost_packet_is_concealed_and_counted() -> None:
    # The word that is loudest at 0.28 s; the packet at 0.3 s does not come.
    sent = frames(voice(RATE))
    buffer = JitterBuffer(RATE)
    got = []
    for i, data in enumerate(sent):
        if i != 15:
            buffer.push(i, i * SIZE, data, now=i * 0.02)
        got.append(buffer.pop(now=i * 0.02 + 0.003))
    assert [i for i, frame in enumerate(got) if frame.concealed] == [15]
    assert got[15].kind == "concealment"
    assert math.isnan(got[15].timestamp)
    assert np.std(np.frombuffer(got[15].pcm, np.int16)) > 0.5 * np.std(np.frombuffer(sent[14], np.int16))
    assert got[16].timestamp == 17 * SIZE
    assert buffer.stats.num_lost == 1
    assert buffer.stats.concealed_samples == SIZE
    assert buffer.stats.num_late == 0


def test_what_comes_late_is_waited_for() -> None:
    sent = frames(voice(RATE * 4))
    # Nothing for 300 ms, then all of it.
    arrivals = [(max(i * 0.02, 2.3 if i >= 100 else 0), i, i * SIZE, data) for i, data in enumerate(sent)]
    got = [frame for _, frame in play(arrivals, 5)]
    assert sum(frame.concealed for frame in got) > 0
    media = [frame.timestamp for frame in got if not math.isnan(frame.timestamp)]
    assert media == sorted(media)
    # All that was sent was played: the media clock never moves by more than was played and taken out.
    place = 0.0
    for frame in got:
        if not math.isnan(frame.timestamp):
            played = SIZE - frame.concealed - frame.expanded + frame.accelerated
            assert frame.timestamp - place == played
            place = frame.timestamp
    assert place == len(sent) * SIZE


def test_what_comes_late_is_dropped_where_that_is_asked_for() -> None:
    sent = frames(voice(RATE * 4))
    arrivals = [(max(i * 0.02, 2.3 if i >= 100 else 0), i, i * SIZE, data) for i, data in enumerate(sent)]
    buffer = JitterBuffer(RATE, drop_late=True)
    *_, (now, frame) = play(arrivals, 2.4, buffer)
    assert buffer.stats.num_late >= 10
    # The clock of the sender ran on through the stall.
    assert now * RATE - frame.timestamp < 3 * SIZE


def test_a_silence_of_the_sender_is_no_loss() -> None:
    sent = frames(voice(RATE * 6))
    talkspurts = [i for i in range(len(sent)) if i % 100 < 50]
    arrivals = [(i * 0.02, seq, i * SIZE, sent[i]) for seq, i in enumerate(talkspurts)]
    buffer = JitterBuffer(RATE)
    played = 0.0
    for now, frame in play(arrivals, 6, buffer):
        if not math.isnan(frame.timestamp):
            played = frame.timestamp
            # The clock of the sender runs on in its silence.
            assert now * RATE - played < SIZE
    assert buffer.stats.num_lost == 0
    assert buffer.stats.num_late == 0
    assert played == (talkspurts[-1] + 1) * SIZE


def test_a_sender_that_begins_anew_is_heard_at_once() -> None:
    sent = frames(voice(RATE * 4))
    buffer = JitterBuffer(RATE)
    heard = []
    for i, data in enumerate(sent):
        # The clock of the sender jumps back and its sequence numbers jump with it.
        seq, timestamp = (i, 900_000 + i * SIZE) if i < 100 else (30_000 + i, i * SIZE)
        buffer.push(seq, timestamp, data, now=i * 0.02)
        heard.append(buffer.pop(now=i * 0.02 + 0.003))
    assert b"".join(frame.pcm for frame in heard) == b"".join(sent)
    assert buffer.stats.num_late == 0
    assert buffer.stats.num_lost == 0


@pytest.mark.parametrize("back", [7_200, 900_000, 8 * 3600 * RATE, 1_000_000_000])
def test_a_sender_that_begins_anew_with_both_counters_behind_is_soon_heard(back: int) -> None:
    sent = frames(voice(RATE * 4))
    buffer = JitterBuffer(RATE)
    for i in range(1000):
        # Old packets could look like this, so a few are needed to tell.
        seq, timestamp = (i, i * SIZE) if i < 300 else (i - 20_000, i * SIZE - back)
        buffer.push(seq & 0xFFFF, timestamp & 0xFFFF_FFFF, sent[i % 200], now=i * 0.02)
        frame = buffer.pop(now=i * 0.02 + 0.003)
        assert buffer.stats.target_delay_ms < 20
        if i > 306:
            assert frame.kind == "speech"
            assert (frame.timestamp - timestamp - SIZE) % 2**32 == 0
    assert buffer.stats.num_late <= 5
    assert buffer.stats.jitter_ms < 1


@pytest.mark.parametrize("packets", [20, 100, 3000])
def test_one_packet_that_is_hopelessly_late_teaches_nothing(packets: int) -> None:
    sent = frames(voice(RATE * 4))
    buffer = JitterBuffer(RATE)
    for i in range(packets + 200):
        if i != 100:
            buffer.push(i & 0xFFFF, i * SIZE, sent[i % 200], now=i * 0.02)
        if i == 100 + packets:
            buffer.push(100, 100 * SIZE, sent[100], now=i * 0.02)
        frame = buffer.pop(now=i * 0.02 + 0.003)
    assert frame.timestamp == (packets + 200) * SIZE
    assert buffer.stats.target_delay_ms < 20
    assert buffer.stats.num_late == 1
    assert buffer.stats.num_reordered == 1


@pytest.mark.parametrize("level", [0, 10])
def test_pauses_are_shortened_after_a_stall_however_long_it_was(level: int) -> None:
    quiet = np.random.default_rng(2).integers(-level, level + 1, RATE * 4, dtype=np.int16)
    sent = frames(quiet)
    # Nothing for 2 s, then all of it.
    arrivals = [(max(i * 0.02, 22.0 if i >= 1000 else 0), i, i * SIZE, sent[i % 200]) for i in range(1300)]
    got = [frame for _, frame in play(arrivals, 26)]
    assert got[-1].timestamp == 1300 * SIZE
    assert got[1199].timestamp == 1200 * SIZE
    assert sum(frame.accelerated for frame in got[1100:1200]) == RATE * 2


@pytest.mark.parametrize("pitch_hz", [85, 110, 140])
def test_speech_comes_to_rest_after_a_stall(pitch_hz: int) -> None:
    # Somebody who never pauses, and whose pitch periods are no divisor of a frame.
    time = np.arange(20 * RATE) / RATE
    vowel = sum(np.sin(2 * np.pi * pitch_hz * harmonic * time) / harmonic for harmonic in range(1, 8))
    sent = frames(np.asarray(3000 * vowel, dtype=np.int16))
    # A packet a second is 30 ms late, and once nothing comes for 150 ms.
    late = [i * 0.02 + 0.03 * (i % 50 == 0) for i in range(len(sent))]
    came = np.maximum.accumulate([max(at, 10.15 if i >= 500 else 0) for i, at in enumerate(late)])
    got = [frame for _, frame in play([(came[i], i, i * SIZE, data) for i, data in enumerate(sent)], 20)]
    assert any(frame.kind == "compressed" for frame in got[500:])
    # It was faster for a moment, and is neither sped up nor slowed down in turn ever after.
    assert sum(frame.kind in ("compressed", "stretched") for frame in got[500:]) < 10


def test_clear_silences_the_next_frame_with_a_short_fade() -> None:
    loud = np.full(SIZE * 8, 8000, dtype=np.int16).tobytes()
    for mode in ("network", "playout"):
        buffer = JitterBuffer(RATE, mode=mode)
        buffer.push(0, 0, loud, now=0.0)
        assert buffer.pop(now=0.0).kind == "speech"
        buffer.clear()
        after = buffer.pop(now=0.02)
        assert after.kind == "silence"
        samples = np.frombuffer(after.pcm, np.int16)
        assert np.all(samples[RATE * 5 // 1000 :] == 0)
        assert np.all(np.abs(np.diff(samples.astype(int), prepend=8000)) < 2000)
        assert not any(np.frombuffer(buffer.pop(now=0.04).pcm, np.int16))


@pytest.mark.parametrize("pace", ["uneven", "pairs"])
def test_a_consumer_that_comes_unevenly_hears_what_came(pace: str) -> None:
    sent = frames(voice(RATE * 4))
    buffer = JitterBuffer(RATE)
    uneven_ms = np.random.default_rng(3).uniform(-2, 8, 2000)
    came = 0
    for tick in range(2000):
        now = (tick * 20 + uneven_ms[tick]) / 1000 if pace == "uneven" else tick // 2 * 0.04 + 0.003
        while came * 0.02 <= now:
            buffer.push(came, came * SIZE, sent[came % 200], now=came * 0.02)
            came += 1
        buffer.pop(now=now)
    # It is early once, and from then on there is a frame for when it is early again.
    assert buffer.stats.concealed_samples <= SIZE
    assert buffer.stats.accelerated_samples == 0
    assert buffer.stats.expanded_samples == 0


@pytest.mark.parametrize("mode", ["network", "playout"])
def test_what_comes_after_clear_waits_for_the_fade(mode: Any) -> None:
    buffer = JitterBuffer(RATE, mode=mode)
    buffer.push(0, 0, np.full(SIZE * 4, 8000, dtype=np.int16).tobytes(), now=0.0)
    buffer.pop(now=0.0)
    buffer.clear()
    answer = np.full(SIZE, -8000, dtype=np.int16).tobytes()
    buffer.push(4, SIZE * 4, answer, now=0.01)
    fading = np.frombuffer(buffer.pop(now=0.02).pcm, np.int16)
    assert np.all(np.abs(np.diff(fading.astype(int), prepend=8000)) < 2000)
    assert not any(fading[RATE * 5 // 1000 :])
    assert buffer.pop(now=0.04).pcm == answer


def test_clear_in_silence_stays_silent() -> None:
    buffer = JitterBuffer(RATE, mode="playout")
    buffer.push(0, 0, voice(RATE)[1200:1877].tobytes(), now=0.0)
    kinds = [buffer.pop(now=tick * 0.02).kind for tick in range(20)]
    assert kinds[-1] == "silence"
    buffer.clear()
    assert not any(buffer.pop(now=0.4).pcm)
    # Nothing is fading, so the next answer begins at once.
    buffer.clear()
    buffer.push(0, 0, bytes(range(160)) * 2, now=0.41)
    assert buffer.pop(now=0.42).pcm == bytes(range(160)) * 2


@pytest.mark.parametrize("sample_rate", [8000, 16000, 24000, 48000])
def test_playout_runs_out_and_goes_on_without_a_click(sample_rate: int) -> None:
    pcm = voice(sample_rate, sample_rate)
    start, size = sample_rate * 15 // 100, sample_rate // 50
    loudest = np.max(np.abs(np.diff(pcm.astype(int))))
    for gone in range(3, 40, 3):
        buffer = JitterBuffer(sample_rate, mode="playout")
        # An answer in two chunks, the first of which ends anywhere in a frame and in a period.
        end = start + 4 * size + gone * sample_rate // 2000
        chunks = [pcm[start:end], pcm[end : end + 4 * size]]
        heard = []
        for tick in range(30):
            if tick in (0, 12):
                part = chunks[tick // 12]
                buffer.push(0, 0, part.tobytes(), now=tick * 0.02)
            heard.append(np.frombuffer(buffer.pop(now=tick * 0.02).pcm, np.int16))
        assert not any(heard[11])
        assert any(heard[12])
        assert np.max(np.abs(np.diff(np.concatenate(heard[1:]).astype(int)))) < 1.3 * loudest


def test_playout_begins_at_once_and_keeps_every_sample() -> None:
    pcm = voice(RATE * 3)
    buffer = JitterBuffer(RATE, mode="playout")
    got = []
    chunks = [pcm[start : start + 640].tobytes() for start in range(0, len(pcm), 640)]
    for tick in range(400):
        # 80 ms of audio every 32 ms, and a stall in the middle.
        now = tick * 0.02
        while chunks and (38 - len(chunks)) * 0.032 + (0.6 if len(chunks) < 20 else 0.0) <= now:
            buffer.push(0, (38 - len(chunks)) * 640, chunks.pop(0), now=now)
            if not chunks:
                buffer.finish()
        got.append(buffer.pop(now=now))
    assert got[0].kind == "speech"
    assert sum(frame.accelerated for frame in got) == 0
    last = [frame.timestamp for frame in got if not math.isnan(frame.timestamp)][-1]
    assert last == len(pcm)
    place = 0.0
    for frame in got:
        if not math.isnan(frame.timestamp):
            assert frame.timestamp - place == SIZE - frame.concealed - frame.expanded
            place = frame.timestamp


@pytest.mark.parametrize("frame_ms", [5, 10, 20, 30, 40, 60])
def test_playout_slowed_down_gets_to_the_end(frame_ms: float) -> None:
    # A steady vowel could be stretched for ever.
    pcm = np.asarray(4000 * np.sin(2 * np.pi * 125 * np.arange(RATE // 5) / RATE), dtype=np.int16)
    buffer = JitterBuffer(RATE, frame_ms=frame_ms, mode="playout")
    buffer.push(0, 0, pcm.tobytes(), now=0.0)
    got = [buffer.pop(now=tick * frame_ms / 1000) for tick in range(round(600 / frame_ms))]
    assert any(frame.expanded for frame in got)
    assert max(frame.timestamp for frame in got if not math.isnan(frame.timestamp)) == len(pcm)
    assert got[-1].kind == "silence"


def test_playout_says_when_it_is_full_and_keeps_what_it_has() -> None:
    buffer = JitterBuffer(RATE, mode="playout")
    minute = bytes(2 * RATE * 60)
    buffer.push(0, 0, minute, now=0.0)
    buffer.push(0, RATE * 60, minute, now=0.0)
    with pytest.raises(AudioError, match=r"expected at most 120000 ms of audio waiting, got 120020"):
        buffer.push(0, RATE * 120, bytes(2 * SIZE), now=0.0)
    assert buffer.pop(now=0.0).kind == "speech"
    buffer.push(0, RATE * 120, bytes(2 * SIZE), now=0.0)
    assert buffer.stats.num_received == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample_rate": 4000}, "expected a sample rate of 8000 to 48000 Hz, got 4000"),
        ({"frame_ms": 2}, "expected a frame of 5 to 60 ms, got 2"),
        ({"frame_ms": math.nan}, "expected a frame of 5 to 60 ms, got NaN"),
        ({"sample_rate": 11025}, "expected a frame of 1 or more whole samples"),
        ({"mode": "radio"}, 'expected a mode of network, playout, got "radio"'),
        ({"loss_price_ms": -1}, "expected a price of one per cent of loss of 0 to 10000 ms, got -1"),
        ({"start_ms": math.inf}, "expected a start of 0 to 60000 ms, got inf"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(AudioError, match=message):
        JitterBuffer(options.pop("sample_rate", RATE), **options)


def test_bad_packets_and_times_are_refused() -> None:
    buffer = JitterBuffer(RATE)
    with pytest.raises(AudioError, match="expected whole samples of 2 bytes, got 319 bytes"):
        buffer.push(0, 0, bytes(319), now=0.0)
    with pytest.raises(AudioError, match=r"expected a time of .* s, got NaN"):
        buffer.push(0, 0, bytes(320), now=math.nan)
    with pytest.raises(AudioError, match=r"expected a time of .* s, got inf"):
        buffer.pop(now=math.inf)
    with pytest.raises(AudioError, match=r"expected a packet of at most 80000 samples, got 80001"):
        buffer.push(0, 0, bytes(160_002), now=0.0)
    with pytest.raises(AudioError, match=r"expected a time of -1e10 to 1e10 s, got 1e300"):
        buffer.pop(now=1e300)
    with pytest.raises(AudioError, match=r"^expected a sequence number of 0 to 65535, got 65536$"):
        buffer.push(65536, 0, bytes(320), now=0.0)
    with pytest.raises(AudioError, match=r"^expected a timestamp of 0 to 4294967295, got -1$"):
        buffer.push(0, -1, bytes(320), now=0.0)
    assert buffer.stats.num_received == 0


def test_frames_and_counters_can_be_read_in_a_log() -> None:
    buffer = JitterBuffer(RATE)
    assert repr(buffer.pop(now=0.0)) == (
        "JitterFrame(kind='silence', timestamp=nan, concealed=0, accelerated=0, expanded=0, pcm=<320 bytes>)"
    )
    buffer.push(7, 800, bytes(320), now=0.02)
    assert "kind='speech', timestamp=960, " in repr(buffer.pop(now=0.02))
    fields = [name for name in dir(buffer.stats) if not name.startswith("_")]
    shown = repr(buffer.stats).removeprefix("JitterStats(").removesuffix(")").split(", ")
    assert sorted(pair.partition("=")[0] for pair in shown) == fields
    assert "num_received=1" in shown


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["push", "push", "push", "pop", "pop", "clear", "finish", "reset"]),
            st.integers(0, 0xFFFF) | st.integers(0, 20),
            st.integers(0, 0xFFFF_FFFF) | st.integers(0, 20).map(lambda i: i * SIZE),
            st.integers(0, 700),
            st.floats(-0.1, 0.2) | st.floats(-1e9, 1e9),
        ),
        max_size=60,
    ),
    st.sampled_from(["network", "playout"]),
    st.sampled_from([(8000, 20), (8000, 10), (16000, 30), (48000, 20), (24000, 60)]),
)
def test_whatever_is_done_frames_are_whole_and_the_same_twice(
    steps: list[tuple[str, int, int, int, float]], mode: Any, shape: tuple[int, float]
) -> None:
    sample_rate, frame_ms = shape
    buffers = [JitterBuffer(sample_rate, frame_ms=frame_ms, mode=mode) for _ in range(2)]
    clock = 0.0
    noise = np.random.default_rng(1).integers(-9000, 9000, 700, dtype=np.int16).tobytes()
    for step, seq, timestamp, length, moved in steps:
        clock += moved
        got = []
        for buffer in buffers:
            if step == "push":
                buffer.push(seq, timestamp, noise[: 2 * length], now=clock)
            elif step == "pop":
                frame = buffer.pop(now=clock)
                assert len(frame.pcm) == 2 * buffer.frame_size
                assert 0 <= frame.concealed <= buffer.frame_size
                got.append((frame.pcm, frame.kind, frame.concealed, frame.accelerated, frame.expanded))
            else:
                getattr(buffer, step)()
        assert len(set(got)) <= 1
