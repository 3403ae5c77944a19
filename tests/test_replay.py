"""The memory of a session that outlives its connections: literal messages, and one engine that hears coded audio."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from speechwire.codec import alaw_encode, ulaw_encode
from speechwire.errors import AudioError
from speechwire.gradium import wire
from speechwire.gradium.replay import Item, Replay, check_setup

SECOND = 16000  # bytes of pcm_8000
FRAME = 1280
SPOKEN = b"\x00\x20" * (FRAME // 2)
SILENT = bytes(FRAME)
STT_SETUP = {"input_format": "pcm_8000"}
S2S_SETUP = {"input_format": "pcm_8000", "output_format": "pcm_8000"}
READY = {"type": "ready", "request_id": "r", "delay_in_frames": 2}


# --- an engine that hears coded audio


def speech(num_words: int, seed: int) -> bytes:
    """Words of 3 to 6 frames between pauses of 4 to 8; all samples of a word say which one it is."""
    rng = random.Random(seed)
    frames = []
    for word in range(num_words):
        frames += [SILENT] * rng.randint(4, 8)
        frames += [(1000 + 8 * (word % 1000)).to_bytes(2, "little") * (FRAME // 2)] * rng.randint(3, 6)
    return b"".join(frames) + SILENT * 4


class WordEngine:
    """Hears the words of `speech`, frame by frame; as interpreter it says them, and gives the audio back as it was.

    Recognition gives a text two frames after it began and its end two frames after that came. Interpreting holds a word
    back until it has ended, and nothing else.
    """

    def __init__(self, product: wire.Product) -> None:
        self._product = product
        self._rest = b""
        self._num_frames = 0
        self._word: int | None = None
        self._word_start = 0
        self._held: list[bytes] = []
        self._owed: list[tuple[int, dict[str, Any]]] = []

    def feed(self, audio: bytes) -> list[dict[str, Any]]:
        self._rest += audio
        messages = []
        while len(self._rest) >= FRAME:
            frame, self._rest = self._rest[:FRAME], self._rest[FRAME:]
            messages += self._hear(frame)
        return messages

    def end(self) -> list[dict[str, Any]]:
        messages = self._end_word() if self._word is not None else []
        if self._rest and self._product.audio_out:
            messages.append(self._audio(self._rest, self._num_frames))
        messages += [message for _, message in self._owed]
        self._owed = []
        return [*messages, {"type": "end_of_stream"}]

    def flush(self, flush_id: object) -> list[dict[str, Any]]:
        return [{"type": "flushed", "flush_id": flush_id}]

    def _hear(self, frame: bytes) -> list[dict[str, Any]]:
        value = int.from_bytes(frame[:2], "little")
        word = None if value < 1000 else (value - 1000) // 8
        messages = []
        if word != self._word:
            if self._word is not None:
                messages += self._end_word()
            self._word, self._word_start = word, self._num_frames
            if word is not None and not self._product.audio_out:
                self._owe({"type": "text", "text": f"w{word}", "start_s": self._num_frames * 0.08, "stream_id": 0})
        if self._product.audio_out:
            if word is None:
                messages.append(self._audio(frame, self._num_frames))
            else:
                self._held.append(frame)
        self._num_frames += 1
        if not self._product.audio_out:
            messages += [message for due, message in self._owed if due <= self._num_frames]
            self._owed = [(due, message) for due, message in self._owed if due > self._num_frames]
            messages.append(
                {
                    "type": "step", "vad": [], "step_idx": self._num_frames - 1, "step_duration_s": 0.08,
                    "total_duration_s": self._num_frames * 0.08,
                }
            )  # fmt: skip
        return messages

    def _end_word(self) -> list[dict[str, Any]]:
        stop_s = self._num_frames * 0.08
        if not self._product.audio_out:
            self._owe({"type": "end_text", "stop_s": stop_s, "stream_id": 0})
            return []
        messages = [{"type": "text", "text": f"w{self._word}", "start_s": self._word_start * 0.08, "stop_s": stop_s}]
        for number, frame in enumerate(self._held, self._word_start):
            messages.append(self._audio(frame, number))
        self._held = []
        self._word = None
        return messages

    def _owe(self, message: dict[str, Any]) -> None:
        self._owed.append((self._num_frames + 2, message))

    def _audio(self, audio: bytes, number: int) -> dict[str, Any]:
        start_s = number * 0.08
        return {"type": "audio", "audio": audio, "start_s": start_s, "stop_s": start_s + len(audio) / SECOND}


def undisturbed(product: wire.Product, audio: bytes) -> list[dict[str, Any]]:
    engine = WordEngine(product)
    return [*engine.feed(audio), *engine.end()]


def rounded(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out what only a client adds, and the noise of adding times."""
    return [
        {key: round(value, 6) if isinstance(value, float) else value for key, value in message.items()}
        for message in messages
        if message["type"] not in {"ready", "reconnected"}
    ]


def merged(messages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], bytes]:
    """Return everything but audio, and all audio in one."""
    audio = b"".join(message["audio"] for message in messages if message["type"] == "audio")
    return rounded([message for message in messages if message["type"] != "audio"]), audio


def assert_times_grow(messages: list[dict[str, Any]]) -> None:
    for kind, name in (("text", "start_s"), ("end_text", "stop_s"), ("step", "step_idx"), ("step", "total_duration_s")):
        times = [message[name] for message in messages if message["type"] == kind]
        assert all(earlier < later for earlier, later in itertools.pairwise(times)), kind
    audio = [message for message in messages if message["type"] == "audio"]
    assert all(first["stop_s"] == pytest.approx(then["start_s"]) for first, then in itertools.pairwise(audio))


# --- literal values


def begun(product: wire.Product, **options: Any) -> Replay:
    fields = S2S_SETUP if product.audio_out else STT_SETUP
    replay = Replay(product, fields, **{"replay_ms": 10000.0, "lag_ms": 0.0, "session_s": None, **options})
    replay.begin(0.0)
    assert replay.receive_message(dict(READY)) == [READY]
    return replay


def sent(replay: Replay, audio: bytes = b"") -> list[Item]:
    if audio:
        replay.add_audio(audio, connected=True)
    return list(iter(replay.next_item, None))


def text(word: str, start_s: float, stop_s: float | None = None) -> dict[str, Any]:
    message: dict[str, Any] = {"type": "text", "text": word, "start_s": start_s}
    return message if stop_s is None else {**message, "stop_s": stop_s}


def audio_message(audio: bytes, start_s: float) -> dict[str, Any]:
    return {"type": "audio", "audio": audio, "start_s": start_s, "stop_s": start_s + len(audio) / SECOND}


def test_audio_after_the_latest_end_of_a_text_is_sent_again() -> None:
    replay = begun(wire.STT)
    assert sent(replay, SPOKEN * 25) == [
        Item("audio", SPOKEN * 12 + SPOKEN[:640]),
        Item("audio", SPOKEN[640:] + SPOKEN * 12),
    ]
    replay.receive_message(text("one", 0.16))
    replay.receive_message({"type": "end_text", "stop_s": 0.5})
    # 0.5 s is within the seventh frame, which is sent again as a whole: 25 - 6 = 19 frames.
    assert replay.resume(5.0) == 19 * 80
    assert b"".join(item.value for item in sent(replay)) == SPOKEN * 19
    assert replay.sent_ms == 25 * 80


def test_a_text_whose_end_had_not_come_is_not_given_out_twice_but_its_end_is() -> None:
    replay = begun(wire.STT)
    sent(replay, SPOKEN * 25)
    replay.receive_message(text("one", 0.16))
    replay.receive_message({"type": "end_text", "stop_s": 0.48})
    assert replay.receive_message(text("Two", 0.64)) == [text("Two", 0.64)]
    replay.resume(5.0)
    sent(replay)
    assert replay.receive_message(dict(READY)) == []
    assert replay.receive_message(text("two,", 0.24)) == []  # 0.48 + 0.24, eighty milliseconds off
    assert replay.receive_message({"type": "end_text", "stop_s": 0.4}) == [{"type": "end_text", "stop_s": 0.88}]
    assert replay.receive_message(text("two", 0.4)) == [text("two", 0.88)]  # said twice


@pytest.mark.parametrize(("word", "start_s"), [("three", 0.16), ("two", 0.64)])
def test_other_words_and_other_times_are_no_duplicates(word: str, start_s: float) -> None:
    replay = begun(wire.STT)
    sent(replay, SPOKEN * 25)
    replay.receive_message(text("two", 0.16))
    replay.resume(5.0)
    assert replay.receive_message(text(word, start_s)) == [text(word, start_s)]


def test_steps_go_on_counting_and_come_once() -> None:
    def step(number: int) -> dict[str, Any]:
        total_s = round((number + 1) * 0.08, 6)
        return {"type": "step", "vad": [], "step_idx": number, "step_duration_s": 0.08, "total_duration_s": total_s}

    replay = begun(wire.STT)
    sent(replay, SPOKEN * 10)
    replay.receive_message(text("one", 0.0))
    replay.receive_message({"type": "end_text", "stop_s": 0.32})
    assert [replay.receive_message(step(number)) for number in range(6)] == [[step(number)] for number in range(6)]
    replay.resume(5.0)
    assert [replay.receive_message(step(number)) for number in range(4)] == [[], [], [step(6)], [step(7)]]


def test_interpreting_goes_on_at_the_start_of_a_text_whose_audio_is_incomplete() -> None:
    replay = begun(wire.S2S)
    sent(replay, SPOKEN * 25)
    spoken = [audio_message(bytes([number]) * FRAME, number * 0.08) for number in range(8)]
    assert replay.receive_message(spoken[0]) == [spoken[0]]
    assert replay.receive_message(text("uno", 0.08, 0.4)) == [text("uno", 0.08, 0.4)]
    replay.receive_message(spoken[1])
    replay.receive_message(spoken[2])
    assert replay.resume(5.0) == 24 * 80
    sent(replay)
    assert replay.receive_message(text("uno", 0.0, 0.32)) == []
    assert replay.receive_message(audio_message(spoken[1]["audio"], 0.0)) == []
    # The next one holds the rest of what is known and half of what is not.
    both = spoken[2]["audio"] + spoken[3]["audio"][:640]
    assert replay.receive_message(audio_message(both, 0.08)) == [
        {"type": "audio", "audio": spoken[3]["audio"][:640], "start_s": 0.24, "stop_s": 0.28}
    ]
    assert replay.received_ms == 280


def test_interpreting_says_nothing_twice_in_other_words() -> None:
    replay = begun(wire.S2S)
    sent(replay, SPOKEN * 25)
    replay.receive_message(text("uno", 0.08, 0.4))
    replay.receive_message(audio_message(SPOKEN * 4, 0.0))
    replay.resume(5.0)  # from 0.08 s, of 0.32 s that were given out
    assert replay.receive_message(text("dos", 0.0, 0.24)) == []
    assert replay.receive_message(text("tres", 0.0, 0.32)) == [text("tres", 0.08, 0.4)]


def test_output_that_is_longer_than_its_input_never_goes_backwards() -> None:
    replay = begun(wire.S2S, session_s=1.0)
    sent(replay, SPOKEN * 5)
    replay.roll_over(0.9)
    replay.receive_message(audio_message(SPOKEN * 7, 0.0))
    assert replay.receive_message({"type": "end_of_stream"}) == [
        {"type": "reconnected", "gap_ms": 0.0, "replayed_ms": 0.0}
    ]
    sent(replay, SPOKEN * 3)
    assert replay.receive_message(audio_message(SPOKEN, 0.0))[0]["start_s"] == 0.56
    # Its first frame of input is acknowledged by its first frame of output, wherever that stands.
    assert replay.resume(2.0) == 2 * 80
    sent(replay)
    assert replay.receive_message(audio_message(SPOKEN * 4, 0.0))[0]["start_s"] == 0.64
    assert replay.resume(3.0) == 0.0
    assert replay.receive_message(audio_message(SPOKEN, 0.0))[0]["start_s"] == 0.96


def test_a_flush_is_asked_again_after_the_audio_before_it_until_it_is_answered() -> None:
    replay = begun(wire.STT)
    sent(replay, SPOKEN)
    replay.add(Item("flush", 1))
    replay.add_audio(SPOKEN, connected=True)
    replay.add(Item("flush", 2))
    replay.add(Item("end_of_stream"))
    expected = [Item("flush", 1), Item("audio", SPOKEN), Item("flush", 2), Item("end_of_stream")]
    assert sent(replay) == expected
    replay.resume(1.0)
    assert sent(replay) == [Item("audio", SPOKEN), *expected]
    replay.receive_message({"type": "flushed", "flush_id": 1})
    replay.resume(2.0)
    assert sent(replay) == [Item("audio", SPOKEN * 2), *expected[2:]]


def test_a_flush_that_the_end_of_a_leg_answered_is_answered() -> None:
    replay = begun(wire.STT, session_s=10.0)
    sent(replay, SPOKEN)
    replay.add(Item("flush", "a"))
    sent(replay)
    replay.roll_over(9.0)
    assert [message["type"] for message in replay.receive_message({"type": "end_of_stream"})] == [
        "flushed", "reconnected",
    ]  # fmt: skip
    replay.resume(10.0)
    assert sent(replay) == []


def test_a_cut_is_made_in_a_pause_or_when_there_is_no_more_time() -> None:
    replay = begun(wire.STT, session_s=100.0)
    sent(replay, SPOKEN * 5 + SILENT * 3)
    assert not replay.is_cut(84.0)
    assert replay.is_cut(86.0)
    assert replay.pieces(SPOKEN * 2, 84.0) == [SPOKEN * 2]
    assert replay.pieces(SPOKEN * 2, 86.0) == [SPOKEN] * 2
    sent(replay, SPOKEN)
    assert not replay.is_cut(94.0)
    assert replay.is_cut(96.0)
    sent(replay, SPOKEN[:20])
    assert not replay.is_cut(96.0)  # not within a frame
    assert replay.pieces(SPOKEN, 96.0) == [SPOKEN[20:], SPOKEN[:20]]
    replay.add(Item("end_of_stream"))
    sent(replay, SPOKEN[20:])
    assert not replay.is_cut(96.0)  # nothing is left to be sent on another one


@pytest.mark.parametrize(
    ("input_format", "silence", "noise"),
    [
        ("pcm", bytes(3840), b"\x00\x10" * 1920),
        ("pcm_22050", b"\x20\x00" * 1764, b"\x00\xf0" * 1764),
        ("ulaw_8000", b"\xff" * 640, ulaw_encode(SPOKEN)),
        ("alaw_8000", b"\xd5" * 640, alaw_encode(SPOKEN)),
    ],
)
def test_a_pause_is_heard_in_every_raw_format(input_format: str, silence: bytes, noise: bytes) -> None:
    for audio, is_pause in ((silence, True), (noise, False)):
        replay = Replay(wire.STT, {"input_format": input_format}, replay_ms=1e4, lag_ms=0.0, session_s=100.0)
        replay.begin(0.0)
        sent(replay, audio * 3)
        assert replay.is_cut(90.0) is is_pause


def test_more_speech_than_can_be_kept_is_no_quiet_loss() -> None:
    replay = begun(wire.STT, replay_ms=800.0)
    sent(replay, SPOKEN * 10)
    assert replay.unsendable() == ""
    sent(replay, SPOKEN * 5)
    assert replay.unsendable() == "expected at most 800 ms of unacknowledged audio to be sent again, got 1200 ms"
    replay.receive_message({"type": "end_text", "stop_s": 0.4})
    assert replay.unsendable() == ""
    assert replay.resume(1.0) == 10 * 80


def test_silence_makes_room_for_speech() -> None:
    replay = begun(wire.STT, replay_ms=800.0)
    sent(replay, SILENT * 30)
    sent(replay, SPOKEN * 10)
    assert replay.unsendable() == ""
    assert replay.resume(1.0) == 10 * 80
    assert replay.receive_message(text("one", 0.0)) == [text("one", 2.4)]


def test_noise_that_recognition_has_passed_over_makes_room() -> None:
    replay = begun(wire.STT, replay_ms=800.0)
    sent(replay, SPOKEN * 10)
    # Looked at 2.0 s and the look-ahead of two frames further than the first five frames.
    step = {"type": "step", "vad": [], "step_idx": 31, "step_duration_s": 0.08, "total_duration_s": 2.56}
    replay.receive_message(step)
    sent(replay, SPOKEN * 5)
    assert replay.unsendable() == ""
    sent(replay, SPOKEN)
    assert "got 1280 ms" in replay.unsendable()


def test_without_a_connection_speech_is_kept_and_nothing_is_lost() -> None:
    replay = begun(wire.STT, replay_ms=800.0)
    sent(replay, SILENT * 4 + SPOKEN * 4)
    for _ in range(6):
        assert not replay.is_full
        replay.add_audio(SPOKEN, connected=False)
    assert replay.is_full
    assert replay.resume(9.0) == 4 * 80  # the other six have never been sent
    assert b"".join(item.value for item in sent(replay)) == SPOKEN * 10


def test_the_header_of_a_container_comes_once() -> None:
    fields = {"input_format": "pcm_8000", "output_format": "wav"}
    replay = Replay(wire.S2S, fields, replay_ms=1e4, lag_ms=0.0, session_s=None)
    replay.begin(0.0)
    sent(replay, SPOKEN * 5)
    header: dict[str, Any] = {"type": "audio", "audio": b"R" * 44, "start_s": 0.0, "stop_s": 0.0}
    frame: dict[str, Any] = {"type": "audio", "audio": bytes(7680), "start_s": 0.0, "stop_s": 0.08}
    assert replay.receive_message(header) == [header]
    assert replay.receive_message(frame) == [frame]
    assert replay.resume(1.0) == 4 * 80
    assert replay.receive_message(header) == []
    assert replay.receive_message(frame) == [{**frame, "start_s": 0.08, "stop_s": 0.16}]
    replay.resume(2.0)
    together = {**frame, "audio": header["audio"] + frame["audio"]}
    assert replay.receive_message(together) == [{**frame, "start_s": 0.16, "stop_s": 0.24}]


def test_a_synthesis_is_repeated_until_its_audio_begins() -> None:
    replay = Replay(wire.TTS, {"output_format": "pcm"}, replay_ms=1e4, lag_ms=0.0, session_s=300.0)
    replay.begin(0.0)
    replay.add(Item("text", "Gate"))
    replay.add(Item("text", "twelve"))
    assert sent(replay) == [Item("text", "Gate"), Item("text", "twelve")]
    assert replay.receive_message(text("Gate", 0.0, 0.3)) == [text("Gate", 0.0, 0.3)]
    assert replay.unsendable() == ""
    assert replay.resume(1.0) == 0.0
    assert sent(replay) == [Item("text", "Gate"), Item("text", "twelve")]
    assert replay.receive_message(text("Gate", 0.0, 0.3)) == []
    frame = {"type": "audio", "audio": bytes(7680), "start_s": 0.0, "stop_s": 0.08}
    assert replay.receive_message(frame) == [frame]
    assert "cannot be taken up" in replay.unsendable()
    assert not replay.opens_ahead(299.0)


def test_texts_are_not_kept_beyond_their_use() -> None:
    replay = Replay(wire.TTS, {"output_format": "pcm"}, replay_ms=1e4, lag_ms=0.0, session_s=300.0)
    replay.begin(0.0)
    replay.add(Item("text", "Gate"))
    assert sent(replay) == [Item("text", "Gate")]
    replay.add(Item("text", "twelve"))
    replay.receive_message({"type": "audio", "audio": bytes(7680), "start_s": 0.0, "stop_s": 0.08})
    assert sent(replay) == [Item("text", "twelve")]  # that has not been sent before
    replay.receive_message({"type": "audio", "audio": bytes(7680), "start_s": 0.08, "stop_s": 0.16})
    replay.resume(1.0)
    assert sent(replay) == []


def test_what_a_leg_before_may_have_said_is_no_matter_after_its_end() -> None:
    replay = begun(wire.STT, session_s=10.0)
    sent(replay, SPOKEN * 5)
    replay.receive_message(text("two", 0.32))
    replay.resume(1.0)
    sent(replay)
    replay.roll_over(9.0)
    sent(replay, SPOKEN * 5)
    replay.receive_message({"type": "end_of_stream"})
    assert replay.receive_message(text("two", 0.0)) == [text("two", 0.4)]


@pytest.mark.parametrize(("lag_ms", "replayed"), [(0.0, "tuvwxyz"), (240.0, "qrstuvwxyz")])
def test_output_that_lags_behind_its_input_needs_more_of_it_again(lag_ms: float, replayed: str) -> None:
    """An interpreter that is three frames behind: what it has not said yet has to be heard by the next one."""

    def leg_output(heard: bytes) -> list[dict[str, Any]]:
        late = bytes(3 * FRAME) + heard
        return [audio_message(late[start : start + FRAME], start / SECOND) for start in range(0, len(heard), FRAME)]

    replay = begun(wire.S2S, lag_ms=lag_ms)
    audio = b"".join(letter.encode() * FRAME for letter in "abcdefghijklmnopqrstuvwxyz")
    sent(replay, audio)
    given = [message for output in leg_output(audio)[:19] for message in replay.receive_message(output)]
    assert replay.resume(1.0) == len(replayed) * 80
    heard = b"".join(item.value for item in sent(replay))
    assert heard[::FRAME].decode() == replayed
    given += [message for output in leg_output(heard) for message in replay.receive_message(output)]
    words = b"".join(message["audio"] for message in given)[::FRAME].decode().replace("\0", "")
    # Without enough of it, what the first one owed is missing.
    assert words == ("abcdefghijklmnopqrstuvw" if lag_ms else "abcdefghijklmnoptuvw")


def test_recognition_that_is_heard_again_is_not_given_out_again() -> None:
    replay = begun(wire.STT, lag_ms=800.0)
    sent(replay, SPOKEN * 25)
    for word, start_s, stop_s in (("one", 0.16, 0.48), ("two", 0.56, 0.96)):
        replay.receive_message(text(word, start_s))
        replay.receive_message({"type": "end_text", "stop_s": stop_s})
    assert replay.resume(5.0) == (25 - 2) * 80
    assert replay.receive_message(text("un", 0.0)) == []  # the rest of "one"
    assert replay.receive_message({"type": "end_text", "stop_s": 0.32}) == []
    assert replay.receive_message(text("too", 0.4)) == []
    assert replay.receive_message({"type": "end_text", "stop_s": 0.8}) == []
    assert replay.receive_message(text("three", 0.8)) == [text("three", 0.96)]
    assert replay.receive_message({"type": "end_text", "stop_s": 1.2}) == [{"type": "end_text", "stop_s": 1.36}]


def test_messages_of_unknown_types_pass() -> None:
    assert begun(wire.STT).receive_message({"type": "weather", "sky": 1}) == [{"type": "weather", "sky": 1}]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "raw input_format, got 'wav'; name the container in source_format"),
        ({"input_format": "wav"}, "got 'wav'"),
        ({"input_format": "pcm", "client_req_id": "a"}, "got client_req_id 'a'"),
        ({"input_format": "pcm", "close_ws_on_eos": False}, "got close_ws_on_eos False"),
    ],
)
def test_what_cannot_be_taken_up_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(AudioError, match=says):
        check_setup(fields, wire.STT)


# --- any fate of the connections


class Service:
    """Answers the legs of a replay, each by an engine of its own; what it owes arrives one by one, or never."""

    def __init__(self, product: wire.Product) -> None:
        self._product = product
        self.reset()

    def reset(self) -> None:
        self._engines = [WordEngine(self._product)]
        self.owed: list[list[dict[str, Any]]] = [[]]

    def take_all(self, replay: Replay) -> None:
        for item in iter(replay.next_item, None):
            engine, owed = self._engines[-1], self.owed[-1]
            if item.kind == wire.AUDIO:
                owed += engine.feed(item.value)
            else:
                owed += engine.end()

    def roll_over(self) -> None:
        self.owed[-1] += self._engines[-1].end()
        self._engines.append(WordEngine(self._product))
        self.owed.append([])

    def give(self, replay: Replay, most: int) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        while most > 0 and self.owed[0]:
            most -= 1
            num_legs = len(replay.legs)
            messages += replay.receive_message(self.owed[0].pop(0))
            if len(replay.legs) < num_legs:
                self.owed.pop(0)
                self._engines.pop(0)
        return messages


@settings(max_examples=100)
@given(
    product=st.sampled_from([wire.STT, wire.S2S]),
    seed=st.integers(0, 2**32),
    most_samples=st.integers(100, 3000),
    most_messages=st.integers(1, 40),
    break_odds=st.sampled_from([0.0, 0.1, 0.4]),
    lag_ms=st.sampled_from([0.0, 500.0, 3000.0]),
)
# The end of its third word is 2.8000000000000003 s, and so just behind the sample that it is.
@example(wire.S2S, 101, 101, 1, 0.1, 3000.0)
def test_whatever_happens_to_connections_the_merged_output_is_that_of_one(
    product: wire.Product, seed: int, most_samples: int, most_messages: int, break_odds: float, lag_ms: float
) -> None:
    rng = random.Random(seed)
    audio = speech(12, seed)
    now_s = 0.0
    replay = begun(product, replay_ms=60000.0, lag_ms=lag_ms, session_s=4.0)
    service = Service(product)
    messages: list[dict[str, Any]] = []
    position = 0
    while position < len(audio):
        chunk = audio[position : position + 2 * rng.randint(1, most_samples)]
        for piece in replay.pieces(chunk, now_s):
            replay.add_audio(piece, connected=True)
            service.take_all(replay)
            if replay.is_cut(now_s) and now_s < replay.legs[-1].since_s + 3.8:  # in a pause, and so between words
                replay.roll_over(now_s)
                service.roll_over()
        position += len(chunk)
        now_s = position / SECOND
        messages += service.give(replay, rng.randint(0, most_messages))
        if rng.random() < break_odds:
            service.reset()
            replay.resume(now_s)
            service.take_all(replay)
    replay.add(Item(wire.END_OF_STREAM))
    service.take_all(replay)
    messages += service.give(replay, 10**9)
    assert merged(messages) == merged(undisturbed(product, audio))
    assert_times_grow(messages)
    assert replay.sent_ms == len(audio) * 1000 / SECOND
