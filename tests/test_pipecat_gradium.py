"""pipecat's own services for Gradium, unmodified and inside a pipeline, against our server."""

from __future__ import annotations

import asyncio
import importlib
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from harness import loopback_server, run
from speechwire.codec import WavReader, resample
from speechwire.gradium import GradiumClient
from speechwire.server import ServerLimits, serve
from speechwire.server.engines.local import LocalEngine
from speechwire.server.engines.loopback import LoopbackEngine
from test_server import speech_like

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # pipecat uses audioop
    pytest.importorskip("pipecat", reason="make .venv/.dev installs it")
    frames = importlib.import_module("pipecat.frames.frames")
    pipelines = importlib.import_module("pipecat.pipeline.pipeline")
    workers = importlib.import_module("pipecat.pipeline.worker")
    frame_processor = importlib.import_module("pipecat.processors.frame_processor")
    stt = importlib.import_module("pipecat.services.gradium.stt")
    tts = importlib.import_module("pipecat.services.gradium.tts")
    probes = importlib.import_module("pipecat.tests.utils")
    runners = importlib.import_module("pipecat.workers.runner")

SPEECH = Path(__file__).parent.parent / "examples" / "train_station.wav"
PIPELINE_RATE = 16000
VOICE = "_6Aslh2DxfmnRLmP"  # the one that the service asks for by default


class Line:
    """A pipeline around one service: frames are put in at the front, and taken at the back or, if they go up, there."""

    def __init__(self, worker: Any, down: asyncio.Queue[Any], up: asyncio.Queue[Any]) -> None:
        self._worker = worker
        self._queues = {"down": down, "up": up}

    async def put(self, *items: Any) -> None:
        for item in items:
            await self._worker.queue_frame(item)

    async def put_speech(self, pcm: bytes) -> None:
        """Put in 20 ms frames, as a transport does."""
        size = PIPELINE_RATE // 50 * 2
        for start in range(0, len(pcm), size):
            chunk = pcm[start : start + size].ljust(size, b"\0")
            await self.put(frames.InputAudioRawFrame(audio=chunk, sample_rate=PIPELINE_RATE, num_channels=1))

    async def take(self, kind: str, way: str = "down") -> Any:
        """Wait for the next frame of a class, and drop what comes before."""
        return (await self.take_all_until(kind, way))[-1]

    async def take_all_until(self, kind: str, way: str = "down") -> list[Any]:
        taken: list[Any] = []
        while not taken or not isinstance(taken[-1], getattr(frames, kind)):
            taken.append(await self._queues[way].get())
            assert not isinstance(taken[-1], frames.ErrorFrame) or kind == "ErrorFrame", taken[-1]
        return taken


@asynccontextmanager
async def line(service: Any) -> AsyncIterator[Line]:
    down: asyncio.Queue[Any] = asyncio.Queue()
    up: asyncio.Queue[Any] = asyncio.Queue()
    front = probes.QueuedFrameProcessor(queue=up, queue_direction=frame_processor.FrameDirection.UPSTREAM)
    back = probes.QueuedFrameProcessor(queue=down, queue_direction=frame_processor.FrameDirection.DOWNSTREAM)
    worker = workers.PipelineWorker(
        pipelines.Pipeline([front, service, back]),
        cancel_on_idle_timeout=False,
        enable_rtvi=False,
        params=workers.PipelineParams(audio_in_sample_rate=PIPELINE_RATE),
    )
    started = asyncio.Event()

    @worker.event_handler("on_pipeline_started")  # type: ignore[untyped-decorator]
    async def _on_started(*_: Any) -> None:
        started.set()

    runner = runners.WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(runner.run())
        await started.wait()
        yield Line(worker, down, up)
        await worker.queue_frame(frames.EndFrame())


def websocket_url(base_url: str, route: str) -> str:
    return base_url.replace("http", "ws", 1) + route


def speech_to_text(base_url: str, **options: Any) -> Any:
    return stt.GradiumSTTService(
        api_key="secret", api_endpoint_base_url=websocket_url(base_url, "speech/asr"), **options
    )


def text_to_speech(base_url: str) -> Any:
    return tts.GradiumTTSService(api_key="secret", url=websocket_url(base_url, "speech/tts"))


@asynccontextmanager
async def local_server() -> AsyncIterator[str]:
    async with serve(LocalEngine(), api_keys=["secret"]) as address:
        yield f"{address}/api/"


def words(frame: Any) -> set[str]:
    return {word.strip(".,?!").lower() for word in frame.text.split()}


def test_speech_is_recognised_when_the_speaker_stops() -> None:
    pcm = resample(WavReader().feed(SPEECH.read_bytes()), 24000, PIPELINE_RATE)

    async def main() -> set[str]:
        async with local_server() as base_url, line(speech_to_text(base_url)) as pipeline:
            await pipeline.put(frames.VADUserStartedSpeakingFrame())
            await pipeline.put_speech(pcm)
            await pipeline.put(frames.VADUserStoppedSpeakingFrame())
            return words(await pipeline.take("TranscriptionFrame"))

    assert run(main()) >= {"good", "morning", "train", "station", "ticket", "tomorrow", "weather", "today"}


def test_every_stop_ends_a_transcript_of_its_own() -> None:
    pcm = speech_like(PIPELINE_RATE).tobytes()

    async def main() -> list[str]:
        transcripts = []
        async with loopback_server(api_keys=["secret"]) as base_url, line(speech_to_text(base_url)) as pipeline:
            for _ in range(2):
                await pipeline.put(frames.VADUserStartedSpeakingFrame())
                # Not the silence that would end the segment: the flush has to.
                await pipeline.put_speech(pcm)
                await pipeline.put(frames.VADUserStoppedSpeakingFrame())
                transcripts.append((await pipeline.take("TranscriptionFrame")).text)
        return transcripts

    first, second = run(main())
    assert first.startswith("segment 1")
    assert "segment 1" not in second
    assert second.startswith("segment")


def test_turns_are_found_by_the_servers_steps() -> None:
    silence, speech = bytes(PIPELINE_RATE * 2 * 4), speech_like(PIPELINE_RATE, 0.5).tobytes()

    async def main() -> list[str]:
        async with loopback_server(api_keys=["secret"]) as base_url:
            async with line(speech_to_text(base_url, enable_turn_detection=True)) as pipeline:
                await pipeline.put_speech(silence + speech + silence)
                await pipeline.take("ProposedUserStartedSpeakingFrame")
                taken = await pipeline.take_all_until("TranscriptionFrame")
        assert any(isinstance(frame, frames.ProposedUserStoppedSpeakingFrame) for frame in taken)
        return [frame.text for frame in taken if isinstance(frame, frames.TranscriptionFrame)]

    assert run(main()) == ["segment 1"]


def test_language_may_be_left_to_the_service() -> None:
    async def main() -> None:
        settings = stt.GradiumSTTService.Settings(language="any")
        async with loopback_server(api_keys=["secret"]) as base_url:
            async with line(speech_to_text(base_url, settings=settings)) as pipeline:
                await pipeline.put(frames.VADUserStartedSpeakingFrame())
                await pipeline.put_speech(speech_like(PIPELINE_RATE).tobytes())
                await pipeline.put(frames.VADUserStoppedSpeakingFrame())
                await pipeline.take("TranscriptionFrame")

    run(main())


def test_wrong_key_is_an_error_of_the_service() -> None:
    async def main() -> str:
        async with loopback_server(api_keys=["another"]) as base_url:
            async with line(speech_to_text(base_url)) as pipeline:
                return str((await pipeline.take("ErrorFrame", "up")).error)

    assert "API key is revoked or expired" in run(main())


def audio_of(taken: list[Any], context_id: str | None = None) -> bytes:
    return b"".join(
        frame.audio
        for frame in taken
        if isinstance(frame, frames.TTSAudioRawFrame) and context_id in {None, frame.context_id}
    )


async def spoken(base_url: str, text: str) -> bytes:
    """Return what our own client gets for a text."""
    client = GradiumClient(base_url=base_url, api_key="secret")
    return (await client.tts({"voice_id": VOICE, "output_format": "pcm"}, text)).raw_data


def test_text_is_spoken_with_the_times_of_its_words() -> None:
    async def main() -> tuple[list[Any], bytes]:
        async with loopback_server(api_keys=["secret"]) as base_url:
            expected = await spoken(base_url, "Gate twelve is open.")
            async with line(text_to_speech(base_url)) as pipeline:
                await pipeline.put(frames.TTSSpeakFrame("Gate twelve is open."))
                return await pipeline.take_all_until("TTSStoppedFrame"), expected

    taken, expected = run(main())
    assert audio_of(taken) == expected
    assert {(frame.sample_rate, frame.num_channels) for frame in taken if audio_of([frame])} == {(48000, 1)}
    timed = [frame for frame in taken if isinstance(frame, frames.TTSTextFrame)]
    assert [frame.text for frame in timed] == ["Gate", "twelve", "is", "open."]
    assert [frame.pts for frame in timed] == sorted({frame.pts for frame in timed})


def test_first_sentence_is_spoken_before_the_turn_ends() -> None:
    async def main() -> tuple[list[Any], bytes]:
        async with loopback_server(api_keys=["secret"]) as base_url:
            expected = await spoken(base_url, "One is ready. Two is not.")
            async with line(text_to_speech(base_url)) as pipeline:
                await pipeline.put(frames.LLMFullResponseStartFrame(), frames.LLMTextFrame("One is ready. Two"))
                taken = await pipeline.take_all_until("TTSAudioRawFrame")
                await pipeline.put(frames.LLMTextFrame(" is not."), frames.LLMFullResponseEndFrame())
                return taken + await pipeline.take_all_until("TTSStoppedFrame"), expected

    taken, expected = run(main())
    assert audio_of(taken) == expected


def test_contexts_on_one_connection_do_not_mix() -> None:
    texts = {f"context-{number}": "Number " * number + "word." for number in range(1, 5)}

    async def main() -> tuple[dict[str, bytes], dict[str, bytes]]:
        received = dict.fromkeys(texts, b"")
        async with loopback_server(api_keys=["secret"]) as base_url:
            expected = {name: await spoken(base_url, text) for name, text in texts.items()}
            service = text_to_speech(base_url)
            async with line(service) as pipeline:
                for name in texts:
                    await service.create_audio_context(name)
                for name, text in texts.items():
                    assert [item async for item in service.run_tts(text, name)] == [None]
                for name in reversed(texts):
                    await service.flush_audio(name)
                for _ in texts:
                    taken = await pipeline.take_all_until("TTSStoppedFrame")
                    received[taken[-1].context_id] = audio_of(taken)
                    assert audio_of(taken) == audio_of(taken, taken[-1].context_id)
        return received, expected

    received, expected = run(main())
    assert received == expected
    assert len(set(expected.values())) == len(texts)


def test_interruption_ends_what_is_spoken_and_the_next_text_is_whole() -> None:
    long = "This sentence is far too long to be heard to its end. " * 40

    async def main() -> tuple[bytes, bytes]:
        async with loopback_server(api_keys=["secret"]) as base_url:
            expected = await spoken(base_url, "Yes?")
            async with line(text_to_speech(base_url)) as pipeline:
                # A turn that never ends: its request stays open on the connection.
                await pipeline.put(frames.LLMFullResponseStartFrame(), frames.LLMTextFrame(long))
                interrupted = (await pipeline.take("TTSAudioRawFrame")).context_id
                await pipeline.put(frames.InterruptionFrame())
                await pipeline.take("InterruptionFrame")
                await pipeline.put(frames.TTSSpeakFrame("Yes?"))
                taken = await pipeline.take_all_until("TTSStoppedFrame")
        assert taken[-1].context_id != interrupted
        return audio_of(taken), expected

    heard, expected = run(main())
    assert heard == expected


def test_context_that_is_never_ended_costs_an_error_and_a_connection_but_no_speech() -> None:
    async def main() -> tuple[str, bytes, bytes]:
        async with serve(LoopbackEngine(), limits=ServerLimits(max_session_s=1.0)) as address:
            base_url = f"{address}/api/"
            expected = await spoken(base_url, "Yes?")
            async with line(text_to_speech(base_url)) as pipeline:
                await pipeline.put(frames.LLMFullResponseStartFrame(), frames.LLMTextFrame("One is ready. Two"))
                await pipeline.take("TTSAudioRawFrame")
                await pipeline.put(frames.InterruptionFrame())
                await pipeline.take("InterruptionFrame")
                error = (await pipeline.take("ErrorFrame", "up")).error
                await pipeline.put(frames.TTSSpeakFrame("Yes?"))
                await pipeline.take("TTSStartedFrame")
                return error, audio_of(await pipeline.take_all_until("TTSStoppedFrame")), expected

    error, heard, expected = run(main())
    assert "session duration limit exceeded" in error
    assert heard == expected
