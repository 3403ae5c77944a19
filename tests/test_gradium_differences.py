"""Where ours differs from the official SDK: what it is known to get wrong, tried on ours.

The numbers stand in the table of docs/gradium-sdk.md, which names what is shown elsewhere: REST, the addresses and the
command line.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import pytest

from harness import READY, Peer, loopback_server, misbehaving_server, run
from speechwire import gradium
from speechwire.errors import AudioError, ServerError, SessionClosed, SessionError, SessionTimeout
from speechwire.gradium import GradiumClient, Limits

LIMITS = Limits(connect_s=1.0, ready_s=1.0, idle_s=1.0, send_s=1.0, close_s=0.3, keepalive_s=None)


class Recorder:
    """A service that remembers the messages it gets, answers with `answers` and ends well."""

    def __init__(self, *answers: str) -> None:
        self.messages: list[dict[str, Any]] = []
        self._answers = answers

    async def __call__(self, peer: Peer) -> None:
        await peer.accept()
        while True:
            message = json.loads(await peer.recv())
            self.messages.append(message)
            name = {key: value for key, value in message.items() if key == "client_req_id"}
            if message["type"] == "setup":
                await peer.send(json.dumps(json.loads(READY) | name))
            elif message["type"] == "end_of_stream":
                for answer in self._answers:
                    await peer.send(answer)
                await peer.send(json.dumps({"type": "end_of_stream"} | name))
                if self.messages[0].get("close_ws_on_eos") is not False:
                    return await peer.close(1000)

    def audio_sizes(self) -> list[int]:
        return [len(base64.b64decode(message["audio"])) for message in self.messages if message["type"] == "audio"]


def against(behaviour: Callable[[Peer], Awaitable[None]], use: Callable[[GradiumClient], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with misbehaving_server(behaviour) as base_url:
            async with asyncio.timeout(5):
                return await use(GradiumClient(base_url=base_url, api_key="k", limits=LIMITS))

    return run(main(), held_clock=True)


async def drop_after_ready(peer: Peer) -> None:
    await peer.accept()
    await peer.recv()
    await peer.send(READY)
    await peer.recv()
    peer.reset()


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield bytes(3840)
        await asyncio.sleep(0.01)


async def never() -> AsyncIterator[bytes]:
    yield bytes(3840)
    await asyncio.Event().wait()


# 1: the event loop goes on, and every receive has an outcome, whatever ended the connection.


def test_receiving_after_a_drop_or_an_end_neither_spins_nor_hangs() -> None:
    async def use(client: GradiumClient) -> None:
        async with client.stt_realtime(input_format="pcm", wait_for_ready_on_start=True) as stt:
            await stt.send_audio(bytes(3840))
            for _ in range(3):
                with pytest.raises(SessionClosed, match="lost without a close frame"):
                    await stt.recv()

    against(drop_after_ready, use)


def test_receiving_after_the_end_returns_none_again_and_again() -> None:
    async def use(client: GradiumClient) -> None:
        async with client.tts_realtime() as tts:
            await tts.send_eos()
            assert [message["type"] async for message in tts] == ["ready", "end_of_stream"]
            assert [await tts.recv(), await tts.recv()] == [None, None]

    against(Recorder(), use)


# 2: a call that is stuck in its input can be cancelled.


def test_a_call_with_a_stuck_source_is_cancelled_at_once() -> None:
    async def use(client: GradiumClient) -> None:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.stt({"input_format": "pcm"}, never()), 0.2)
        assert loop.time() - started_s <= 0.2 + LIMITS.close_s + 0.1

    against(Recorder(), use)


# 3: an answer that broke off is never returned as whole.


@pytest.mark.parametrize("code", [1011, 1000, None])
def test_a_truncated_answer_is_an_error(code: int | None) -> None:
    async def truncate(peer: Peer) -> None:
        await peer.accept()
        await peer.recv()
        await peer.send(READY)
        await peer.send('{"type":"text","text":"half","start_s":0,"stop_s":0.5}')
        if code is None:
            await peer.finish()
        else:
            await peer.close(code, "worker lost")

    for call in (
        lambda client: client.tts({"output_format": "pcm"}, "half a sentence"),
        lambda client: client.stt({"input_format": "pcm"}, bytes(3840)),
        lambda client: client.s2s({}, bytes(3840)),
    ):
        with pytest.raises(SessionClosed) as caught:
            against(truncate, call)
        assert caught.value.code == (1006 if code is None else code)


# 4: what goes wrong in the source is what the caller sees; every kind of source works.


class NoGenerator:
    """An asynchronous iterator that is no generator, and yields every kind of buffer."""

    def __init__(self) -> None:
        self._chunks = iter([bytearray(640), memoryview(bytes(640)), np.zeros(320, np.int16), bytes(640)])

    def __aiter__(self) -> NoGenerator:
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self._chunks)
        except StopIteration:
            raise StopAsyncIteration from None


def test_every_kind_of_chunk_arrives() -> None:
    recorder = Recorder()
    against(recorder, lambda client: client.stt({"input_format": "pcm"}, NoGenerator()))
    assert sum(recorder.audio_sizes()) == 4 * 640
    assert recorder.messages[-1]["type"] == "end_of_stream"


def bad_source() -> Iterator[Any]:
    yield bytes(640)
    yield np.zeros(10, np.float64)


def test_a_bad_chunk_in_a_source_is_the_error_of_the_call() -> None:
    with pytest.raises(AudioError, match="must be int16 or float32, got float64"):
        against(Recorder(), lambda client: client.stt({"input_format": "pcm"}, bad_source()))


def test_a_text_source_that_raises_is_the_error_of_the_call() -> None:
    async def text() -> AsyncIterator[str]:
        yield "One"
        raise ZeroDivisionError("in the source")

    with pytest.raises(ZeroDivisionError, match="in the source"):
        against(Recorder(), lambda client: client.tts({}, text()))
    with pytest.raises(TypeError, match="expected text to be str, got int"):
        against(Recorder(), lambda client: client.tts({}, [1]))  # type: ignore[list-item]


# 5: a request on a connection that stays open ends with its `end_of_stream`.


def test_buffered_calls_end_with_the_request_not_with_the_connection() -> None:
    text = '{"type":"text","text":"hola","start_s":0,"stop_s":0.5}'
    for call in (
        lambda client: client.tts({"close_ws_on_eos": False}, "hi"),
        lambda client: client.stt({"close_ws_on_eos": False, "input_format": "pcm"}, bytes(3840)),
        lambda client: client.s2s({"close_ws_on_eos": False}, bytes(3840)),
    ):
        result = against(Recorder(text), call)
        assert [segment.text for segment in result.text_with_timestamps] == ["hola"]


# 6: leaving an iteration closes the connection and the source, without sending the rest.


def test_breaking_out_of_an_iteration_ends_the_session_and_its_source() -> None:
    closed = False

    async def source() -> AsyncIterator[bytes]:
        nonlocal closed
        try:
            async for chunk in endless():
                yield chunk
        finally:
            closed = True

    async def answer_at_once(peer: Peer) -> None:
        await peer.accept()
        await peer.recv()
        await peer.send(READY)
        await peer.recv()
        await peer.send('{"type":"text","text":"a","start_s":0}')
        await peer.send('{"type":"end_text","stop_s":0.5}')
        await peer.drain()

    async def use(client: GradiumClient) -> None:
        stream = await client.stt_stream({"input_format": "pcm"}, source())
        texts = stream.iter_text()
        assert (await anext(texts)).stop_s == 0.5
        await texts.aclose()
        assert closed

    against(answer_at_once, use)


def test_closing_a_stream_lets_go_of_a_text_source_that_is_quiet() -> None:
    closed = []

    async def source() -> AsyncIterator[str]:
        try:
            yield "One"
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    async def answer_at_once(peer: Peer) -> None:
        await peer.accept()
        await peer.recv()
        await peer.send(READY)
        await peer.recv()
        await peer.send('{"type":"text","text":"One","start_s":0}')
        await peer.drain()

    async def use(client: GradiumClient) -> None:
        stream = await client.tts_stream({}, source())
        messages = stream.iter_events()
        assert (await anext(messages))["type"] == "text"
        await stream.aclose()
        assert closed == [True]
        assert {task.get_name() for task in asyncio.all_tasks()}.isdisjoint({"speechwire-pump"})
        await messages.aclose()

    against(answer_at_once, use)


# 7, 8: every wait is bounded, every failure typed: all of test_faults.py, and these two.


def test_a_silent_service_is_given_up_with_a_typed_error() -> None:
    async def silent(peer: Peer) -> None:
        await peer.accept()
        await peer.drain()

    with pytest.raises(SessionTimeout, match="nothing came from the server for 1 s") as caught:
        against(silent, lambda client: client.tts({}, "hi"))
    assert isinstance(caught.value, SessionError | RuntimeError)
    assert caught.value.retryable


def test_a_refusal_names_its_code_and_its_request() -> None:
    refusal = '{"type":"error","message":"Embeddings not found for nobody","code":1008}'
    with pytest.raises(ServerError, match="Embeddings not found for nobody") as caught:
        against(Recorder(refusal), lambda client: client.tts({"voice_id": "nobody"}, "hi"))
    assert (caught.value.code, caught.value.request_id, caught.value.retryable) == (1008, "req-1", False)


# 9: what is not read is not piled up, and whole files can be paced.


def test_messages_that_nobody_takes_stop_the_reading() -> None:
    sent = 0

    async def flood(peer: Peer) -> None:
        nonlocal sent
        await peer.accept()
        await peer.recv()
        await peer.send(READY)
        message = '{"type":"audio","audio":"' + "A" * 100_000 + '"}'
        while True:
            await peer.send(message)
            sent += 1

    async def main() -> None:
        async with misbehaving_server(flood) as base_url:
            client = GradiumClient(base_url=base_url, api_key="k", limits=Limits(receive_queue_frames=8))
            async with client.tts_realtime(output_format="pcm", wait_for_ready_on_start=True):
                before = -1
                while before != sent:  # until the sender is stopped
                    before = sent
                    await asyncio.sleep(0.2)
                assert sent < 200  # the queue and the kernel's buffers

    run(main())


# 10: a session that cannot begin leaves nothing, and one connection serves many calls (test_multiplex.py).


def test_a_session_that_cannot_begin_leaves_no_socket() -> None:
    async def refuse(peer: Peer) -> None:
        await peer.accept()
        await peer.recv()
        await peer.send('{"type":"error","message":"no","code":1008}')
        await peer.drain()

    async def use(client: GradiumClient) -> None:
        with pytest.raises(ServerError):
            async with client.tts_realtime(wait_for_ready_on_start=True):
                pass

    against(refuse, use)


# 11: full scale stays full scale, and what is no number is silence.


def test_floats_are_clamped() -> None:
    samples = np.array([1.0, -1.0, 2.0, -2.0, np.nan, np.inf, 0.5], np.float32)

    async def main() -> gradium.S2SResult:
        async with loopback_server() as base_url:
            client = GradiumClient(base_url=base_url, api_key="k")
            return await client.s2s({"input_format": "pcm_8000", "output_format": "pcm_8000"}, samples, 8000)

    assert run(main()).pcm16().tolist() == [32767, -32768, 32767, -32768, 0, 32767, 16384]


# 13, 18: the defaults are sent, so that client and service mean the same format.


def test_the_defaults_are_on_the_wire_and_in_the_results() -> None:
    recorder = Recorder()
    assert against(recorder, lambda client: client.tts({}, "hi")).output_format == "wav"
    assert recorder.messages[0] == {"type": "setup", "model_name": "default", "output_format": "wav"}
    recorder = Recorder()
    result = against(recorder, lambda client: client.s2s({}, bytes(3840)))
    assert (result.output_format, len(result.pcm())) == ("pcm", 0)
    assert recorder.messages[0]["input_format"] == recorder.messages[0]["output_format"] == "pcm"
    recorder = Recorder()
    against(recorder, lambda client: client.stt({}, np.zeros(2400, np.int16), 24000))
    assert recorder.messages[0] == {"type": "setup", "model_name": "default", "input_format": "pcm"}


def test_an_array_without_its_rate_is_told_what_is_missing() -> None:
    async def use(client: GradiumClient) -> None:
        async with client.stt_realtime() as stt:
            with pytest.raises(AudioError, match="can only be sent when the input is pcm, got 'wav'; give the array's"):
                await stt.send_audio(np.zeros(1920, np.int16))

    against(Recorder(), use)


# 14: the end of a recognised text is the one that the service found.


def test_recognised_texts_have_their_true_ends() -> None:
    recorder = Recorder(
        '{"type":"text","text":"two","start_s":0.24,"stream_id":0}',
        '{"type":"step","vad":[],"step_idx":0,"step_duration_s":0.08,"total_duration_s":0.08}',
        '{"type":"end_text","stop_s":0.56,"stream_id":0}',
        '{"type":"text","text":"other","start_s":0.3,"stream_id":1,"client_req_id":"a"}',
        '{"type":"text","text":"seats","start_s":0.64,"stream_id":0}',
        '{"type":"end_text","stop_s":0.96,"stream_id":1}',
        '{"type":"text","text":"please","start_s":1.04,"stream_id":0}',
    )
    result = against(recorder, lambda client: client.stt({"input_format": "pcm"}, bytes(3840)))
    assert result.text == "two other seats please"
    assert [(text.start_s, text.stop_s, text.stream_id) for text in result.text_with_timestamps] == [
        (0.24, 0.56, 0),
        (0.3, 0.96, 1),
        (0.64, 0.64, 0),  # its end never came
        (1.04, 1.04, 0),
    ]
    assert result.text_with_timestamps[1].client_req_id == "a"


# 15: recognition is multiplexed like everything else.


def test_every_message_of_a_named_recognition_carries_its_name() -> None:
    recorder = Recorder()

    async def use(client: GradiumClient) -> None:
        async with client.stt_realtime(input_format="pcm", client_req_id="leg-2") as stt:
            await stt.send_audio(bytes(3840))
            await stt.send_flush(7)
            await stt.send_eos()
            async for _ in stt:
                pass

    against(recorder, use)
    assert [message["type"] for message in recorder.messages] == ["setup", "audio", "flush", "end_of_stream"]
    assert {message["client_req_id"] for message in recorder.messages} == {"leg-2"}


# 16: what the caller hands over stays as it was.


@pytest.mark.parametrize("config", [None, "{}", {"language": "en"}])
def test_the_setup_of_the_caller_is_not_changed(config: Any) -> None:
    setup = {"input_format": "pcm", "json_config": config}
    before = json.dumps(setup)
    against(Recorder(), lambda client: client.stt(setup, bytes(3840)))
    assert json.dumps(setup) == before


# 17: arrays of any rate, into any raw format.


@pytest.mark.parametrize("input_format", ["pcm", "pcm_24000", "pcm_16000", "ulaw_8000"])
@pytest.mark.parametrize("sample_rate", [8000, 16000, 24000, 44100])
def test_arrays_of_every_rate_go_into_every_raw_format(sample_rate: int, input_format: str) -> None:
    recorder = Recorder()
    samples = np.zeros(sample_rate // 2, np.float32)
    against(recorder, lambda client: client.stt({"input_format": input_format}, samples, sample_rate))
    per_second = {"pcm": 48000, "pcm_24000": 48000, "pcm_16000": 32000, "ulaw_8000": 8000}[input_format]
    # The resampler's delay, 6 ms at most, stands at the start.
    assert 0 <= sum(recorder.audio_sizes()) - per_second / 2 <= 0.006 * per_second + 2


# 20: bytes are cut at frames of 80 ms; what it costs is measured in benches/session_cpu.py.


def test_bytes_are_sent_in_frames() -> None:
    recorder = Recorder()
    against(recorder, lambda client: client.stt({"input_format": "pcm"}, bytes(3840 * 3 + 100)))
    assert recorder.audio_sizes() == [3840, 3840, 3840, 100]


# 23: a message without a type is a typed error too.


def test_a_message_without_a_type_is_a_typed_error() -> None:
    with pytest.raises(SessionClosed, match="expected a string field 'type'"):
        against(Recorder('{"text":"a"}'), lambda client: client.stt({"input_format": "pcm"}, bytes(3840)))


def test_options_out_of_range_fail_before_there_is_a_connection() -> None:
    client = GradiumClient(api_key="k", base_url="http://127.0.0.1:1/")
    with pytest.raises(ValueError, match=r"expected padding_bonus from -4 to 4, got 9"):
        client.tts_realtime(json_config={"padding_bonus": 9})
    with pytest.raises(ValueError, match="expected delay_in_frames to be int, got str"):
        client.stt_realtime(json_config={"delay_in_frames": "10"})
    with pytest.raises(TypeError, match="not JSON serializable"):
        client.tts_realtime(json_config={"not_known_yet": object})
    client.tts_realtime(json_config={"not_known_yet": [1]})


@pytest.mark.parametrize("text", [None, 7, {"text": "a"}, b"bytes"])
def test_a_text_that_is_none_fails_before_there_is_a_connection(text: Any) -> None:
    client = GradiumClient(api_key="k", base_url="http://127.0.0.1:1/")
    with pytest.raises(TypeError, match="expected text to be str or an iterable of str, got"):
        asyncio.run(client.tts({}, text))


@pytest.mark.parametrize("audio", [None, 7, "speech.wav", {"audio": b""}])
def test_audio_that_is_none_fails_before_there_is_a_connection(audio: Any) -> None:
    client = GradiumClient(api_key="k", base_url="http://127.0.0.1:1/")
    for call in (client.stt({}, audio), client.s2s({}, audio)):
        with pytest.raises(AudioError, match="expected bytes, a numpy array or an iterable of them, got"):
            asyncio.run(call)
