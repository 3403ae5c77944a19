from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from speechwire.server.engines.models.utterances import Speech, UtteranceCutter

FRAME_BYTES = 640  # 20 ms
SPEECH = b"\x01\x01" * (FRAME_BYTES // 2)
SILENCE = bytes(FRAME_BYTES)


def speaks(frame: bytes) -> bool:
    assert len(frame) == FRAME_BYTES
    return frame[0] != 0


def stream(pattern: str) -> bytes:
    return b"".join(SPEECH if frame == "x" else SILENCE for frame in pattern)


def utterances(found: list[Speech | float]) -> list[Speech]:
    return [item for item in found if isinstance(item, Speech)]


def cut(pattern: str) -> list[Speech]:
    cutter = UtteranceCutter(speaks)
    return [*utterances([*cutter.feed(stream(pattern))]), *cutter.flush()]


def test_an_utterance_has_a_lead_and_the_pause_that_ends_it() -> None:
    (speech,) = cut("." * 50 + "x" * 40 + "." * 50)
    # Five frames of speech are enough. What was kept then are 16 frames, and the pause is one of 18.
    assert speech == Speech(stream("." * 11 + "x" * 40 + "." * 18), 39 * 0.02)


def test_a_short_pause_does_not_end_an_utterance() -> None:
    (speech,) = cut("x" * 20 + "." * 17 + "x" * 20 + "." * 30)
    assert speech.start_s == 0.0
    assert speech.pcm.startswith(stream("x" * 20 + "." * 17 + "x" * 20))


def test_the_detector_may_be_wrong_in_a_pause() -> None:
    assert len(cut("x" * 20 + "........x.......x...." + "x" * 20)) == 2


def test_a_click_is_no_utterance() -> None:
    assert cut("." * 30 + "xxxx" + "." * 30) == []


def test_the_shortest_yes_is_one() -> None:
    assert len(cut("." * 30 + "x" * 6 + "." * 30)) == 1


def test_speech_without_a_pause_is_cut() -> None:
    parts = cut("x" * 2500)
    assert b"".join(part.pcm for part in parts) == stream("x" * 2500)
    assert [part.start_s for part in parts] == [0.0, 20.0, 40.0]


def test_silence_is_told_each_80_ms() -> None:
    found = [*UtteranceCutter(speaks).feed(stream("....xxx..xx....."))]
    assert [round(item, 6) for item in found if isinstance(item, float)] == [0.08, 0.02, 0.02, 0.1]


def test_after_a_flush_the_next_utterance_begins_afresh() -> None:
    cutter = UtteranceCutter(speaks)
    assert utterances([*cutter.feed(stream("x" * 20))]) == []
    assert [*cutter.flush()] == [Speech(stream("x" * 20), 0.0)]
    assert [*cutter.flush()] == []
    assert utterances([*cutter.feed(stream("x" * 20))]) == []
    assert [*cutter.flush()] == [Speech(stream("x" * 20), 0.4)]


def test_what_was_flushed_does_not_make_speech_of_a_click() -> None:
    cutter = UtteranceCutter(speaks)
    assert utterances([*cutter.feed(stream("x" * 20))]) == []
    assert len([*cutter.flush()]) == 1
    assert utterances([*cutter.feed(stream("x" + "." * 40))]) == []
    assert [*cutter.flush()] == []


@given(
    runs=st.lists(st.tuples(st.sampled_from("x."), st.integers(1, 40)), max_size=12),
    cuts=st.lists(st.integers(1, 3000), max_size=60),
)
def test_any_cut_of_the_stream_gives_the_same(runs: list[tuple[str, int]], cuts: list[int]) -> None:
    pcm = stream("".join(frame * number for frame, number in runs))
    whole = UtteranceCutter(speaks)
    expected = [*whole.feed(pcm), *whole.flush()]
    pieces = UtteranceCutter(speaks)
    found: list[Speech | float] = []
    position = 0
    for size in (*cuts, len(pcm)):
        found += pieces.feed(pcm[position : position + size])
        position += size
    assert [*found, *pieces.flush()] == expected
