"""The local engine with fakes for its logic, and with its real programs: they must be installed, nothing is skipped."""

from __future__ import annotations

import os
import sys
import threading
import time
import wave
from array import array
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from speechwire.codec import Resampler
from speechwire.events import Audio, Start, Transcript, VadStep
from speechwire.server.engines import Engine, EngineError, ListeningSession
from speechwire.server.engines.local import LocalEngine
from speechwire.server.engines.program import stream_program
from speechwire.server.engines.recognize import PocketSphinxRecognizer, build_sentence
from speechwire.server.engines.synthesize import EspeakSynthesizer
from speechwire.server.engines.translate import ApertiumTranslator
from speechwire.server.voices import FEMALE, MALE, Voice

SAMPLE = Path(__file__).parents[1] / "examples" / "train_station.wav"
MARK = "SPEECHWIRE_TEST_PROCESS"


def start(source: str | None = "en", target: str | None = "es") -> Start:
    return Start("pcm_24000", "pcm_24000", source, target)


class FakeRecognition:
    """Hears one letter per byte, words between spaces, and an utterance wherever the byte is a full stop.

    Every word begins after 1 s and ends after 2.
    """

    silence_s = 0.0

    def __init__(self, log: list[str]) -> None:
        self._log = log
        self._words = ""

    def feed(self, pcm: bytes) -> Iterator[list[Transcript]]:
        *sentences, self._words = (self._words + pcm.decode()).split(".")
        return ([Transcript(word, 1.0, 2.0) for word in sentence.split()] for sentence in sentences)

    def flush(self) -> Iterator[list[Transcript]]:
        words, self._words = self._words, ""
        return iter([[Transcript(word, 1.0, 2.0) for word in words.split()]] if words else [])

    def close(self) -> None:
        self._log.append("recognition closed")


class FakeRecognizer:
    sample_rate = 16000

    def __init__(self, log: list[str]) -> None:
        self._log = log

    def check(self) -> None:
        self._log.append("recognizer checked")

    def check_language(self, language: str) -> None:
        self._log.append(f"hear {language}?")
        if language == "xx":
            raise EngineError("cannot hear xx")

    def open(self, language: str) -> FakeRecognition:
        self._log.append(f"hear {language}")
        return FakeRecognition(self._log)


class FakeTranslator:
    def __init__(self, log: list[str]) -> None:
        self._log = log

    def check(self) -> None:
        self._log.append("translator checked")

    def check_pair(self, source: str, target: str) -> None:
        self._log.append(f"translate {source}-{target}?")

    def translate(self, text: str, source: str, target: str) -> str:
        self._log.append(f"translate {text}")
        return text.upper()


class FakeSynthesizer:
    """Speaks each letter for one sample; says nothing for a question mark."""

    sample_rate = 1000

    def __init__(self, log: list[str]) -> None:
        self._log = log

    def check(self) -> None:
        self._log.append("synthesizer checked")

    def check_language(self, language: str) -> None:
        self._log.append(f"speak {language}?")

    def synthesize(
        self, text: str, language: str, voice: Voice | None = None, *, speed: float = 1.0
    ) -> Iterator[bytes]:
        how = "".join(["" if voice is None else f" as {voice.timbre}", f" at {speed:g}" * (speed != 1.0)])
        self._log.append(f"speak {text}{how}")
        for letter in text.replace("?", ""):
            yield letter.encode() * 2


def fake_engine() -> tuple[LocalEngine, list[str]]:
    log: list[str] = []
    return LocalEngine(FakeRecognizer(log), FakeTranslator(log), FakeSynthesizer(log)), log


def test_engine_is_blocking_and_checks_all_parts() -> None:
    engine, log = fake_engine()
    as_engine: Engine = engine
    as_engine.check()
    assert as_engine.blocking is True
    assert log == ["recognizer checked", "translator checked", "synthesizer checked"]


def test_session_has_the_rates_of_its_parts() -> None:
    session: ListeningSession = fake_engine()[0].listen(start(), 48000)
    assert (session.input_sample_rate, session.output_sample_rate) == (16000, 1000)


def test_open_asks_every_part_before_it_begins() -> None:
    engine, log = fake_engine()
    engine.listen(start(), 24000)
    assert log == ["hear en?", "translate en-es?", "speak es?", "hear en"]


def test_open_begins_nothing_that_cannot_be_served() -> None:
    engine, log = fake_engine()
    with pytest.raises(EngineError, match="cannot hear xx"):
        engine.listen(start("xx"), 24000)
    assert log == ["hear xx?"]


SILENT_PIECE = Audio(bytes(160))  # 80 ms at 1000 Hz


def piece(audio: bytes) -> Audio:
    return Audio(audio.ljust(160, b"\0"))


def test_each_utterance_gives_its_transcript_and_then_its_audio() -> None:
    engine, _ = fake_engine()
    session = engine.listen(start(), 24000)
    assert list(session.feed(b"ab")) == []
    assert list(session.feed(b"c.de.f")) == [
        Transcript("ABC", 0.0, 0.003),
        piece(b"AABBCC"),
        SILENT_PIECE,
        Transcript("DE", 0.16, 0.162),
        piece(b"DDEE"),
        SILENT_PIECE,
    ]
    assert list(session.flush()) == [Transcript("F", 0.32, 0.321), piece(b"FF"), SILENT_PIECE]


def test_audio_comes_in_whole_pieces_of_80_ms_and_one_of_silence() -> None:
    session = fake_engine()[0].listen(start(), 24000)
    pieces = [item for item in session.feed(b"a" * 200 + b".") if isinstance(item, Audio)]
    assert pieces == [Audio(b"A" * 160), Audio(b"A" * 160), piece(b"A" * 80), SILENT_PIECE]


def test_each_utterance_is_worked_on_only_when_pulled() -> None:
    engine, log = fake_engine()
    session = engine.listen(start(), 24000)
    log.clear()
    items = session.feed(b"a.b.")
    assert log == []
    next(items)
    assert log == ["translate a", "speak A"]


@pytest.mark.parametrize("target", [None, "en"])
def test_same_language_is_spoken_again_without_translation(target: str | None) -> None:
    engine, log = fake_engine()
    session = engine.listen(start(None, target), 24000)
    assert list(session.feed(b"ab.")) == [Transcript("ab", 0.0, 0.002), piece(b"aabb"), SILENT_PIECE]
    assert not any(line.startswith("translate") for line in log)


def test_utterance_without_words_or_sound_yields_nothing() -> None:
    session = fake_engine()[0].listen(start(), 24000)
    assert list(session.feed(b".?.")) == []
    assert list(session.flush()) == []


def test_close_closes_the_recognition() -> None:
    engine, log = fake_engine()
    session = engine.listen(start(), 24000)
    next(session.feed(b"ab."))
    session.close()
    assert log[-1] == "recognition closed"


def test_recognition_gives_words_and_steps_in_the_order_of_the_stream() -> None:
    engine, _ = fake_engine()
    session = engine.listen(Start("pcm_16000", None, "en"), 24000)
    first = list(session.feed(b"ab cd." + b"e" * 2553))
    assert first == [Transcript("ab", 1.0, 2.0), Transcript("cd", 1.0, 2.0)]
    (step, word) = session.feed(b"e" * 3 + b".")
    assert isinstance(step, VadStep)
    assert (step.step_idx, step.total_duration_s) == (0, 0.08)
    assert isinstance(word, Transcript)
    assert len(word.text) == 2556
    assert list(session.feed(b"f g")) == []
    assert [item.text for item in session.flush() if isinstance(item, Transcript)] == ["f", "g"]
    assert list(session.flush()) == []


def test_recognition_with_a_target_language_translates() -> None:
    engine, log = fake_engine()
    session = engine.listen(Start("pcm_16000", None, "en", "es"), 24000)
    assert list(session.feed(b"ab cd.")) == [Transcript("AB", 1.0, 1.5), Transcript("CD", 1.5, 2.0)]
    assert "translate en-es?" in log
    assert "speak es?" not in log


def test_a_voice_speaks_its_language_unless_another_is_asked_for() -> None:
    engine, log = fake_engine()
    voice = Voice("fr-fr", "female1")
    list(engine.speak(Start(None, "pcm_24000"), 24000, voice).speak("ab."))
    list(engine.speak(Start(None, "pcm_24000", target_language="de"), 24000, voice).speak("cd."))
    list(engine.speak(Start(None, "pcm_24000"), 24000).speak("ef."))
    list(engine.listen(start(None, None), 24000, voice).feed(b"gh."))
    assert [line for line in log if line.startswith("speak")] == [
        "speak fr?", "speak ab. as female1", "speak de?", "speak cd. as female1", "speak en?", "speak ef.",
        "speak en?", "speak gh as female1",
    ]  # fmt: skip


def test_synthesis_speaks_each_sentence_with_its_words_before_their_audio() -> None:
    engine, log = fake_engine()
    session = engine.speak(Start(None, "pcm_24000", target_language="es", speed=1.5), 24000)
    assert session.output_sample_rate == 1000
    assert list(session.speak("aa")) == []
    letters = "a" * 100 + " " + "b" * 100
    items = list(session.speak(letters + ". c"))
    assert log == ["speak es?", f"speak aa {letters}. at 1.5"]
    # 205 samples from the first to the last, shared out to 2, 100 and 100 letters.
    assert [type(item) for item in items] == [Transcript, Transcript, Audio, Transcript, Audio, Audio, Audio]
    words = [item for item in items if isinstance(item, Transcript)]
    assert [word.text for word in words] == ["aa", "a" * 100, "b" * 100 + "."]
    assert [word.start_s for word in words] == pytest.approx([0.0, 0.002, 0.103], abs=0.001)
    pause = list(session.pause(0.1))
    assert pause[0] == Transcript("c", 0.32, 0.321)
    assert [len(item.audio) for item in pause[1:] if isinstance(item, Audio)] == [160, 160, 160, 40]
    # The pause ended within a piece; what follows ends with one.
    last = list(session.speak("d."))
    assert last[0] == Transcript("d.", 0.58, 0.582)
    assert sum(len(item.audio) for item in last[1:] if isinstance(item, Audio)) // 2 == 640 + 80 - 580
    assert list(session.flush()) == []


class Processes:
    """The processes started since: found by a mark in their environment, whoever their parent is by now."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._children_before = self._find_children()

    def find(self) -> list[str]:
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                is_marked = f"\0{self._mark}\0".encode() in b"\0" + (path / "environ").read_bytes()
                if is_marked and int(path.name) != os.getpid():
                    found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found

    def assert_none_left(self) -> None:
        assert self._find_children() - self._children_before == set()
        # Grandchildren were killed with their group; the kernel may need a moment to be done with them.
        deadline = time.monotonic() + 5
        while (left := self.find()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert left == []

    @staticmethod
    def _find_children() -> set[str]:
        """Includes zombies, whose environment can no longer be read."""
        found = set()
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == os.getpid():
                found.add(path.parent.name)
        return found


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Processes:
    value = f"{os.getpid()}-{time.monotonic_ns()}"
    monkeypatch.setenv(MARK, value)
    return Processes(f"{MARK}={value}")


def run(script: str, text: str = "", timeout_s: float = 10.0) -> bytes:
    return b"".join(stream_program(["sh", "-c", script], text, timeout_s=timeout_s))


def test_program_gets_the_text_as_its_input(processes: Processes) -> None:
    assert run("cat", "mañana $(id) 'x' -v\n").decode() == "mañana $(id) 'x' -v\n"
    processes.assert_none_left()


def test_program_may_be_given_more_than_a_pipe_holds() -> None:
    text = "0123456789" * 100_000
    assert run("cat", text).decode() == text


def test_program_may_ignore_its_input() -> None:
    assert run("exec 0<&-; echo done", "x" * 1_000_000) == b"done\n"


def test_program_output_is_yielded_as_it_comes() -> None:
    pieces = stream_program(["sh", "-c", "echo a; read line; echo b; exec sleep 60"], "x\n", timeout_s=10)
    assert next(pieces).startswith(b"a\n")
    pieces.close()  # type: ignore[attr-defined]


def test_program_failure_carries_status_and_error_text(processes: Processes) -> None:
    with pytest.raises(EngineError, match=r"^program sh ended with status 3: no such voice$"):
        run("echo no such voice >&2; exit 3")
    with pytest.raises(EngineError, match=r"^program sh ended with status 4: no error text$"):
        run("exit 4")
    processes.assert_none_left()


def test_missing_program_is_named() -> None:
    with pytest.raises(EngineError, match=r"^program no-such-program cannot be started: No such file or directory$"):
        list(stream_program(["no-such-program"], "", timeout_s=1))


@pytest.mark.parametrize(
    "script",
    [
        "sleep 60",
        "trap '' INT TERM; sleep 60; sleep 60",
        "trap '' INT; sleep 60; sleep 60",
        "sleep 60 | sleep 60; exit",
    ],
)
def test_program_that_takes_too_long_is_killed_with_its_pipeline(script: str, processes: Processes) -> None:
    with pytest.raises(EngineError, match=r"^program sh took more than 0\.2 s$"):
        run(script, timeout_s=0.2)
    processes.assert_none_left()


def test_program_that_closes_its_output_and_stays_is_killed(processes: Processes) -> None:
    with pytest.raises(EngineError, match=r"^program sh took more than 0\.2 s$"):
        run("exec >&- 2>&- <&-; sleep 60", timeout_s=0.2)
    processes.assert_none_left()


def test_time_of_a_slow_caller_is_not_the_program_s() -> None:
    pieces = stream_program(["sh", "-c", "echo a; read line; echo b"], "x\n", timeout_s=1)
    read = next(pieces)
    time.sleep(1.2)
    assert read + b"".join(pieces) == b"a\nb\n"


def test_closed_iterator_kills_the_program(processes: Processes) -> None:
    pieces = stream_program(["sh", "-c", "echo a; sleep 60 | sleep 60"], "", timeout_s=60)
    next(pieces)
    assert processes.find()
    pieces.close()  # type: ignore[attr-defined]
    processes.assert_none_left()


def test_stopped_script_deletes_its_temporary_file(tmp_path: Path) -> None:
    script = f"file=$(mktemp {tmp_path}/XXXXXX); trap 'rm -f $file' EXIT; echo a; sleep 60"
    pieces = stream_program(["bash", "-c", script], "", timeout_s=60)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def speech() -> bytes:
    with wave.open(str(SAMPLE)) as wav:
        resampler = Resampler(wav.getframerate(), 16000)
        pcm: bytes = resampler.feed(wav.readframes(wav.getnframes())) + resampler.flush()
        return pcm


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    engine = LocalEngine()
    engine.check()
    return engine


def translate(engine: LocalEngine, pcm: bytes, target: str | None, chunk_bytes: int = 2560) -> tuple[str, bytes]:
    session = engine.listen(start("en", target), 24000)
    try:
        items = [
            item
            for offset in range(0, len(pcm), chunk_bytes)
            for item in session.feed(pcm[offset : offset + chunk_bytes])
        ]
        items += session.flush()
    finally:
        session.close()
    num_samples = 0
    stop_s = 0.0
    for item in items:
        if isinstance(item, Transcript):
            assert num_samples == round(item.start_s * session.output_sample_rate)
            assert item.stop_s is not None
            stop_s = item.stop_s
        else:
            assert isinstance(item, Audio)
            num_samples += len(item.audio) // 2
    if items:
        # Behind the last word stands the rest of its piece, and one of silence.
        assert 1764 <= num_samples - round(stop_s * session.output_sample_rate) < 2 * 1764
    text = " ".join(item.text for item in items if isinstance(item, Transcript))
    return text, b"".join(item.audio for item in items if isinstance(item, Audio))


def recognize(recognizer: PocketSphinxRecognizer, pcm: bytes, chunk_bytes: int) -> list[str]:
    recognition = recognizer.open("en")
    utterances: list[list[Transcript]] = []
    for offset in range(0, len(pcm), chunk_bytes):
        utterances += recognition.feed(pcm[offset : offset + chunk_bytes])
    utterances += recognition.flush()
    recognition.close()
    return [" ".join(word.text for word in words) for words in utterances]


SENTENCES = [
    "Good morning.",
    "Where is the train station?",
    "I want to buy a ticket for tomorrow.",
    "The weather is very nice today.",
]


@pytest.fixture(scope="module")
def recognised(speech: bytes) -> list[str]:
    return recognize(PocketSphinxRecognizer(), speech, len(speech))


def test_sample_is_recognised(recognised: list[str]) -> None:
    # Another build of the recogniser may round differently, so one wrong word in a sentence is not a failure.
    assert len(recognised) == len(SENTENCES)
    for sentence, expected in zip(recognised, SENTENCES, strict=True):
        wrong = set(expected[:-1].lower().split()) - set(sentence[:-1].lower().split())
        assert len(wrong) <= 1, sentence
        assert sentence[-1] == expected[-1]
    text = " ".join(recognised)
    for words in ("morning", "train station", "want to buy a ticket", "tomorrow", "weather is very nice"):
        assert words in text


@pytest.mark.parametrize("chunk_bytes", [638, 2560, 2561, 100_000])
def test_any_cut_of_the_speech_gives_the_same_sentences(speech: bytes, recognised: list[str], chunk_bytes: int) -> None:
    assert recognize(PocketSphinxRecognizer(), speech, chunk_bytes) == recognised


def test_pooled_decoder_remembers_nothing_of_the_last_stream(speech: bytes, recognised: list[str]) -> None:
    recognizer = PocketSphinxRecognizer()
    first = recognizer.open("en")
    first.feed(array("h", (sample // 8 for sample in array("h", speech[:64000]))).tobytes())
    list(first.feed(b""))
    first.close()
    assert recognize(recognizer, speech, 2560) == recognised
    assert recognize(recognizer, speech, 2560) == recognised


def hear(engine: LocalEngine, chunks: list[bytes]) -> list[Transcript | VadStep]:
    session = engine.listen(Start("pcm_16000", None, "en"), 24000)
    items = [item for chunk in chunks for item in session.feed(chunk)]
    items += session.flush()
    session.close()
    return [item for item in items if not isinstance(item, Audio)]


def test_words_have_their_times_in_the_stream(engine: LocalEngine, speech: bytes, recognised: list[str]) -> None:
    items = hear(engine, [speech])
    words = [item for item in items if isinstance(item, Transcript)]
    assert " ".join(word.text for word in words) == " ".join(recognised)
    spans = [(word.start_s, word.stop_s or 0.0) for word in words]
    assert all(start < stop for start, stop in spans)
    assert all(stop <= start for (_, stop), (start, _) in pairwise(spans))
    # Where the sample has sound: four sentences with silence of more than half a second between them.
    starts = [words[0].start_s] + [b.start_s for a, b in pairwise(words) if b.start_s - (a.stop_s or 0.0) > 0.3]
    assert starts == pytest.approx([0.22, 1.93, 4.42, 7.5], abs=0.15)
    stops = [a.stop_s for a, b in pairwise(words) if b.start_s - (a.stop_s or 0.0) > 0.3] + [words[-1].stop_s]
    assert stops == pytest.approx([1.0, 3.5, 6.3, 9.4], abs=0.2)


def test_steps_tell_speech_from_silence(engine: LocalEngine, speech: bytes) -> None:
    items = hear(engine, [speech + bytes(3 * 32000)])
    steps = [item for item in items if isinstance(item, VadStep)]
    assert [step.step_idx for step in steps] == list(range((len(speech) + 96000) // 2560))
    likelihoods = [step.vad[2].probability for step in steps]
    assert max(likelihoods[int(5.0 / 0.08) : int(6.0 / 0.08)]) < 0.5  # in the middle of the third sentence
    assert likelihoods[int(4.2 / 0.08)] > 0.5  # before it
    assert likelihoods[-1] > 0.99


@pytest.mark.parametrize("chunk_bytes", [638, 25600])
def test_any_cut_of_the_speech_gives_the_same_words_and_steps(
    engine: LocalEngine, speech: bytes, chunk_bytes: int
) -> None:
    chunks = [speech[offset : offset + chunk_bytes] for offset in range(0, len(speech), chunk_bytes)]
    assert hear(engine, chunks) == hear(engine, [speech])


def test_a_flush_in_mid_stream_brings_the_words_and_keeps_the_times(engine: LocalEngine, speech: bytes) -> None:
    session = engine.listen(Start("pcm_16000", None, "en"), 24000)
    whole = [item for item in hear(engine, [speech]) if isinstance(item, Transcript)]
    # Right behind the first sentence, 7 ms into a frame of the detector.
    cut = 2 * int(1.107 * 16000)
    first = [item for item in session.feed(speech[:cut]) if isinstance(item, Transcript)]
    assert first == []
    first = [item for item in session.flush() if isinstance(item, Transcript)]
    assert [word.text for word in first] == ["Good", "morning."]
    rest = [item for item in session.feed(speech[cut:]) if isinstance(item, Transcript)]
    rest += [item for item in session.flush() if isinstance(item, Transcript)]
    session.close()
    assert [word.text for word in rest] == [word.text for word in whole[2:]]
    assert [word.start_s for word in rest] == pytest.approx([word.start_s for word in whole[2:]], abs=0.05)


def test_two_streams_at_once_do_not_mix(speech: bytes, recognised: list[str]) -> None:
    recognizer = PocketSphinxRecognizer()
    answers: list[list[str]] = []
    threads = [threading.Thread(target=lambda: answers.append(recognize(recognizer, speech, 2560))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [recognised, recognised]


def test_last_word_survives_an_abrupt_end(speech: bytes, recognised: list[str]) -> None:
    # The third sentence ends about 6.6 s into the sample.
    assert recognize(PocketSphinxRecognizer(), speech[: int(6.6 * 32000)], 2560)[-1] == recognised[2]


def test_speech_without_a_pause_is_cut_in_the_end(speech: bytes) -> None:
    sentence = speech[int(4.5 * 32000) : int(6.4 * 32000)]
    recognition = PocketSphinxRecognizer().open("en")
    assert len(list(recognition.feed(sentence * 10))) >= 1
    recognition.close()


def test_recognition_lets_other_threads_run(speech: bytes) -> None:
    recognizer = PocketSphinxRecognizer()
    recognizer.check()
    is_over = threading.Event()
    waits: list[float] = []

    def tick() -> None:
        last = time.perf_counter()
        while not is_over.wait(0.001):
            now = time.perf_counter()
            waits.append(now - last)
            last = now

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        recognize(recognizer, speech, 1_000_000)
    finally:
        is_over.set()
        thread.join()
    # Decoding the sample takes about 0.4 s; a thread that was shut out would have got a few turns.
    assert len(waits) > 50
    assert sorted(waits)[len(waits) // 2] < 0.02


def test_sentence_gets_capitals_and_its_last_mark() -> None:
    assert build_sentence("i think i'm late") == "I think I'm late."
    assert build_sentence("is this it") == "Is this it?"
    assert build_sentence("do not run") == "Do not run."
    assert build_sentence("") == ""


def test_sample_is_translated_into_spanish_speech(engine: LocalEngine, speech: bytes, processes: Processes) -> None:
    text, pcm = translate(engine, speech, "es")
    assert "quiero comprar" in text.lower()
    assert "mañana" in text
    assert not set(text) & set("*@#")
    samples = array("h", pcm)
    assert len(samples) > 2 * 22050
    assert max(samples) > 3000
    assert sum(abs(sample) > 300 for sample in samples) > len(samples) // 4
    processes.assert_none_left()


def test_cut_of_the_input_does_not_change_the_answer(engine: LocalEngine, speech: bytes) -> None:
    assert translate(engine, speech, "es", 998) == translate(engine, speech, "es", 1_000_000)


@pytest.mark.parametrize(("target", "word"), [("fr", "acheter"), ("pt", "comprar")])
def test_other_languages_go_through_spanish(engine: LocalEngine, speech: bytes, target: str, word: str) -> None:
    text, pcm = translate(engine, speech, target)
    assert word in text
    assert len(pcm) > 2 * 2 * 22050


def test_sample_is_spoken_again_in_english(engine: LocalEngine, speech: bytes, recognised: list[str]) -> None:
    text, pcm = translate(engine, speech, None)
    assert text == " ".join(recognised)
    assert len(pcm) > 2 * 2 * 22050


@pytest.mark.parametrize("silence", [b"", bytes(2), bytes(5 * 32000)])
def test_silence_yields_nothing(engine: LocalEngine, silence: bytes) -> None:
    assert translate(engine, silence, "es") == ("", b"")


def test_cancel_in_mid_utterance_leaves_no_process(engine: LocalEngine, speech: bytes, processes: Processes) -> None:
    session = engine.listen(start(), 24000)
    items = session.feed(speech)
    assert isinstance(next(items), Transcript)
    assert isinstance(next(items), Audio)
    items.close()  # type: ignore[attr-defined]
    session.close()
    processes.assert_none_left()


def test_cancelled_synthesis_leaves_no_process(processes: Processes) -> None:
    pieces = EspeakSynthesizer().synthesize("Quiero comprar una entrada. " * 500, "es")
    assert next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    processes.assert_none_left()


def test_translation_that_takes_too_long_leaves_no_process(processes: Processes) -> None:
    with pytest.raises(EngineError, match=r"^program apertium took more than 0\.03 s$"):
        ApertiumTranslator(timeout_s=0.03).translate("I want to buy a ticket. " * 2000, "en", "es")
    processes.assert_none_left()


def test_words_are_spoken_where_they_are_said_to_be(engine: LocalEngine) -> None:
    session = engine.speak(Start(None, "pcm_24000", target_language="en"), 24000)
    items = [*session.speak("Where is the train station? I do"), *session.speak("not know"), *session.flush()]
    session.close()
    words = [item for item in items if isinstance(item, Transcript)]
    assert [word.text for word in words] == ["Where", "is", "the", "train", "station?", "I", "do", "not", "know"]
    num_samples = 0
    for item in items:
        if isinstance(item, Transcript):
            assert num_samples / 22050 <= item.start_s + 1e-6
        elif isinstance(item, Audio):
            num_samples += len(item.audio) // 2
    samples = array("h", b"".join(item.audio for item in items if isinstance(item, Audio)))
    for a, b in pairwise(words):
        if a.text == "station?":
            assert a.stop_s is not None
            between = samples[int(a.stop_s * 22050) : int(b.start_s * 22050)]
            assert between
            assert max(map(abs, between)) <= 300
    assert words[-1].stop_s is not None
    assert words[-1].stop_s * 22050 <= num_samples


@pytest.mark.parametrize("locale", ["en-us", "en-gb", "fr-fr", "de-de", "es-es", "es-mx", "pt-br"])
def test_every_timbre_of_every_accent_sounds_different(locale: str) -> None:
    language = locale[:2]
    voices = [None, *(Voice(locale, timbre) for timbre in FEMALE + MALE)]
    speech = {b"".join(EspeakSynthesizer().synthesize("Radio 1.", language, voice)) for voice in voices}
    assert len(speech) == 1 + len(FEMALE + MALE)


def test_speed_changes_how_long_it_takes() -> None:
    lengths = [
        len(b"".join(EspeakSynthesizer().synthesize("I want to buy a ticket for tomorrow.", "en", speed=speed)))
        for speed in (0.5, 1.0, 2.0)
    ]
    assert lengths[0] > 1.5 * lengths[1] > 2.0 * lengths[2]


@pytest.mark.parametrize("language", ["en", "es", "fr", "de", "pt"])
def test_every_voice_speaks(language: str) -> None:
    pcm = b"".join(EspeakSynthesizer().synthesize("Radio 1 2 3.", language))
    assert len(pcm) > 22050
    assert max(array("h", pcm)) > 3000


def test_text_cannot_become_an_option() -> None:
    assert len(b"".join(EspeakSynthesizer().synthesize("--version", "en"))) > 22050
    assert ApertiumTranslator().translate("-l", "en", "es") == "-l"


@pytest.mark.parametrize(("source", "target", "error"), [
    ("en", "de", r"^no offline translation for en-de; expected one of en-es, en-fr, en-pt$"),
    ("en", "sv", r"^no offline translation for en-sv; expected one of en-es, en-fr, en-pt$"),
    ("es", "en", r"^expected source language en, got es: the recogniser's model is English$"),
])  # fmt: skip
def test_unknown_languages_are_refused(engine: LocalEngine, source: str, target: str, error: str) -> None:
    with pytest.raises(EngineError, match=error):
        engine.listen(start(source, target), 24000)


def test_unknown_voice_is_refused() -> None:
    with pytest.raises(EngineError, match=r"^no voice for language sv; expected one of en, es, fr, de, pt$"):
        EspeakSynthesizer().check_language("sv")


def test_missing_parts_are_named_with_what_installs_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match=r"^program apertium is not installed; run apt-get install apertium aper"):
        ApertiumTranslator().check()
    with pytest.raises(EngineError, match=r"^program espeak-ng is not installed; run apt-get install espeak-ng$"):
        EspeakSynthesizer().check()
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(
        EngineError, match=r"^python package pocketsphinx is not installed; run pip install 'speechwire"
    ):
        LocalEngine().check()


def test_missing_pair_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "apertium"
    fake.write_text("#!/bin/sh\necho '  eng-spa'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    translator = ApertiumTranslator()
    translator.check()
    translator.check_pair("en", "es")
    with pytest.raises(EngineError, match=r"^apertium has no es-fr; run apt-get install apertium-fr-es$"):
        translator.check_pair("en", "fr")


def test_pipeline_that_yields_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "apertium"
    fake.write_text("#!/bin/sh\ncat >/dev/null\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(EngineError, match=r"^expected a translation from apertium eng-spa, got none for 5 characters"):
        ApertiumTranslator().translate("Hello", "en", "es")


def test_number_of_decoders_is_checked() -> None:
    with pytest.raises(ValueError, match=r"^expected num_decoders from 0 to 2, got 3$"):
        PocketSphinxRecognizer(3, 2)


def test_number_of_streams_that_speak_is_bounded(speech: bytes) -> None:
    recognizer = PocketSphinxRecognizer(max_decoders=1)
    first, second = recognizer.open("en"), recognizer.open("en")
    assert next(first.feed(speech))
    with pytest.raises(EngineError, match=r"^all 1 decoders are in use; try again later$"):
        next(second.feed(speech))
    first.close()
    assert next(second.feed(b""))
    second.close()
