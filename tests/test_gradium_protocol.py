"""Both state machines, driven by literal messages; no event loop."""

from __future__ import annotations

import json
from typing import Any

import pytest

from speechwire.errors import AuthError, ServerError, WireError
from speechwire.events import (
    Audio,
    EndOfStream,
    Failure,
    FailureKind,
    Flush,
    Flushed,
    Inactivity,
    Pause,
    Start,
    Text,
    Transcript,
    VadStep,
)
from speechwire.gradium import wire
from speechwire.gradium.protocol import MOST_ENDED_REQUESTS, ClientProtocol, ServerProtocol

READY = '{"type":"ready","request_id":"r1","model_name":"default","sample_rate":48000,"frame_size":3840}'


def sent(protocol: ServerProtocol) -> list[dict[str, Any]]:
    return [json.loads(message) for message in protocol.messages_to_send()]


# --- the client's side


def test_client_keeps_the_books() -> None:
    client = ClientProtocol(wire.S2S)
    client.setup({"input_format": "pcm", "output_format": "ulaw_8000"})
    client.audio(bytes(4800))
    assert client.sent_ms == 100.0
    assert client.receive_message(READY)["sample_rate"] == 48000
    assert client.request_id == "r1"
    client.receive_message('{"type":"audio","audio":"AAAAAAAAAAA="}')
    assert client.received_ms == 1.0
    assert not client.finished
    client.end_of_stream()
    client.receive_message('{"type":"end_of_stream"}')
    assert client.finished
    assert client.idle


def test_client_does_not_count_the_wav_header_as_audio() -> None:
    client = ClientProtocol(wire.S2S)
    client.setup({"output_format": "wav"})
    client.receive_message('{"type":"audio","audio":"' + "A" * 56 + 'AAA="}')
    assert client.received_ms == 0.0


def test_client_starts_its_books_again_with_a_request_on_an_idle_connection() -> None:
    client = ClientProtocol(wire.S2S)
    client.setup({"input_format": "pcm", "close_ws_on_eos": False})
    client.audio(bytes(4800))
    client.receive_message(READY)
    client.receive_message('{"type":"end_of_stream"}')
    client.setup({"input_format": "ulaw_8000"})
    assert (client.sent_ms, client.received_ms, client.ready) == (0.0, 0.0, None)


def test_client_keeps_the_books_of_each_request() -> None:
    client = ClientProtocol(wire.S2S)
    for name, input_format in (("a", "pcm"), ("b", "ulaw_8000")):
        client.setup({"input_format": input_format, "client_req_id": name, "close_ws_on_eos": False})
        client.receive_message(f'{{"type":"ready","request_id":"r-{name}","client_req_id":"{name}"}}')
        client.audio(bytes(4800), name)
    assert client.sent_ms == 100.0 + 600.0
    with pytest.raises(ServerError) as caught:
        client.receive_message('{"type":"error","message":"no","code":1008,"client_req_id":"a"}')
    assert (caught.value.request_id, caught.value.sent_ms) == ("r-a", 100.0)
    assert not client.idle
    client.receive_message('{"type":"end_of_stream","client_req_id":"b"}')
    assert client.idle


@pytest.mark.parametrize(
    "message",
    ['{"type":"text"}', '{"type":"text","text":"a","start_s":null}', '{"type":"text","text":"a","stop_s":"1"}'],
)
def test_client_refuses_text_that_is_none(message: str) -> None:
    with pytest.raises(WireError):
        ClientProtocol(wire.S2S).receive_message(message)


def test_client_is_not_finished_while_the_connection_is_kept() -> None:
    client = ClientProtocol(wire.S2S)
    client.setup({"close_ws_on_eos": False})
    client.receive_message('{"type":"end_of_stream"}')
    assert not client.finished
    assert client.idle


def test_client_gives_text_a_stop_time() -> None:
    message = ClientProtocol(wire.S2S).receive_message('{"type":"text","text":"a","start_s":1.5}')
    assert message["stop_s"] == 1.5


def test_client_raises_the_servers_error_with_what_it_knows() -> None:
    client = ClientProtocol(wire.S2S)
    client.setup({"input_format": "pcm"})
    client.audio(bytes(4800))
    client.receive_message(READY)
    with pytest.raises(ServerError) as caught:
        client.receive_message('{"type":"error","message":"worker lost","code":1011}')
    error = caught.value
    assert (error.code, error.reason, error.request_id, error.sent_ms) == (1011, "worker lost", "r1", 100.0)
    assert error.retryable


@pytest.mark.parametrize("reason", ["API key is revoked or expired", "No authentication provided"])
def test_client_knows_an_error_about_the_key(reason: str) -> None:
    with pytest.raises(AuthError, match=reason):
        ClientProtocol(wire.S2S).receive_message(json.dumps({"type": "error", "message": reason, "code": 1008}))


def test_client_refuses_audio_without_audio() -> None:
    with pytest.raises(WireError, match="'audio'"):
        ClientProtocol(wire.S2S).receive_message('{"type":"audio","start_s":0}')


def test_client_leaves_the_end_of_a_recognised_text_to_end_text() -> None:
    client = ClientProtocol(wire.STT)
    assert "stop_s" not in client.receive_message('{"type":"text","text":"a","start_s":1.5}')
    assert client.receive_message('{"type":"end_text","stop_s":1.75}')["stop_s"] == 1.75


@pytest.mark.parametrize(
    "data",
    [
        '{"type":"end_text"}',
        '{"type":"end_text","stop_s":true}',
        '{"type":"step"}',
        '{"type":"step","vad":[{"horizon_s":1}],"step_idx":0,"step_duration_s":0.08,"total_duration_s":0.08}',
        '{"type":"step","vad":[],"step_idx":null,"step_duration_s":0.08,"total_duration_s":0.08}',
        '{"type":"step","vad":[],"step_idx":0,"step_duration_s":0,"total_duration_s":0.08}',
        '{"type":"end_text","stop_s":1e308}',
        '{"type":"text","text":"a","start_s":-1e10}',
        '{"type":"audio","audio":"AAAA","start_s":1e99}',
    ],
)
def test_client_refuses_a_recognition_message_without_its_fields(data: str) -> None:
    with pytest.raises(WireError, match="expected"):
        ClientProtocol(wire.STT).receive_message(data)


# --- the server's side


def started(**setup: object) -> ServerProtocol:
    server = ServerProtocol(wire.S2S)
    events = server.receive_message(
        json.dumps({"type": "setup", "input_format": "pcm", "output_format": "pcm", **setup})
    )
    name = setup.get("client_req_id")
    assert events == [(name, Start("pcm_24000", "pcm_48000"))]
    server.start_output(name if isinstance(name, str) else None, "r1", 48000)
    assert sent(server)[0]["type"] == "ready"
    return server


def test_server_runs_a_request() -> None:
    server = ServerProtocol(wire.S2S)
    setup = (
        '{"type":"setup","input_format":"ulaw_8000","output_format":"wav","voice_id":"v",'
        '"json_config":"{\\"target_language\\":\\"es\\",\\"language\\":\\"en\\"}"}'
    )
    assert server.receive_message(setup) == [(None, Start("ulaw_8000", "wav", "en", "es", "v"))]
    server.start_output(None, "r1", 48000)
    server.send_event(None, Audio(bytes(44)))
    assert server.receive_message('{"type":"audio","audio":"AAAA"}') == [(None, Audio(b"\0\0\0"))]
    server.send_event(None, Transcript("hola", 0.0, 0.08))
    server.send_event(None, Audio(bytes(7680), 0.0, 0.08))
    assert server.receive_message('{"type":"end_of_stream"}') == [(None, EndOfStream())]
    server.send_event(None, EndOfStream())
    messages = sent(server)
    assert [message["type"] for message in messages] == ["ready", "audio", "text", "audio", "end_of_stream"]
    assert messages[0]["sample_rate"] == 48000
    assert messages[0]["frame_size"] == 3840
    assert (messages[1]["start_s"], messages[1]["stop_s"]) == (0.0, 0.0)
    assert (messages[3]["start_s"], messages[3]["stop_s"]) == (0.0, 0.08)
    assert server.close_code == 1000


@pytest.mark.parametrize(
    ("data", "says", "code"),
    [
        ('{"type":"audio","audio":"AAAA"}', "Session not found. Send setup first.", 1002),
        ('{"type":"end_of_stream"}', "Session not found. Send setup first.", 1002),
        ("nonsense", "Message validation error", 1002),
        ('{"type":"setup","input_format":"mp3"}', "unsupported input format 'mp3'", 1008),
        ('{"type":"setup","json_config":"{"}', "json_config is not valid JSON", 1011),
        (b"\x00\x01", "expected a text frame, got a binary frame", 1002),
        ('{"type":"setup","client_req_id":7}', "expected client_req_id to be str, got int", 1002),
        (
            json.dumps({"type": "setup", "client_req_id": "x" * 257}),
            "expected a client_req_id of at most 256 characters, got 257",
            1002,
        ),
        ('"' + "x" * (40 << 20) + '"', "expected at most 41943040 characters, got 41943042", 1002),
    ],
    ids=["audio first", "end first", "not JSON", "format", "config", "binary", "id", "long id", "oversized"],
)
def test_server_refuses_what_cannot_begin(data: str | bytes, says: str, code: int) -> None:
    server = ServerProtocol(wire.S2S)
    assert server.receive_message(data) == []
    (error,) = sent(server)
    assert error["type"] == "error"
    assert says in error["message"]
    assert error["code"] == server.close_code == code
    assert says in server.close_reason
    assert server.receive_message('{"type":"setup"}') == []
    assert sent(server) == []


@pytest.mark.parametrize(
    ("data", "says", "code"),
    [
        ('{"type":"setup"}', "Session already active", 1002),
        ('{"type":"audio","audio":"A"}', "Message validation error", 1002),
        ('{"type":"audio","audio":"AAA*"}', "Message validation error", 1002),
        ('{"type":"audio"}', "expected a field 'audio'", 1002),
        ('{"type":"audio","audio":null}', "Message validation error", 1002),
        ('{"audio":"AAAA"}', "expected a string field 'type'", 1002),
    ],
)
def test_server_refuses_what_cannot_go_on(data: str, says: str, code: int) -> None:
    server = started()
    assert server.receive_message(data) == []
    (error,) = sent(server)
    assert says in error["message"]
    assert server.close_code == code


def test_server_ignores_types_it_does_not_know() -> None:
    server = started()
    assert server.receive_message('{"type":"applause"}') == []
    assert sent(server) == []
    assert server.close_code is None


@pytest.mark.parametrize("flush_id", ["7", 8, None, [1]])
def test_server_echoes_a_flush_id_with_its_type_when_the_flush_is_done(flush_id: object) -> None:
    server = started()
    assert server.receive_message(json.dumps({"type": "flush", "flush_id": flush_id})) == [(None, Flush(flush_id))]
    assert sent(server) == []
    server.send_event(None, Flushed(flush_id))
    assert sent(server) == [{"type": "flushed", "flush_id": flush_id}]


def test_server_runs_a_recognition() -> None:
    server = ServerProtocol(wire.STT)
    setup = '{"type":"setup","input_format":"pcm","json_config":{"language":"fr","delay_in_frames":12}}'
    assert server.receive_message(setup) == [(None, Start("pcm_24000", None, "fr", delay_s=0.96))]
    server.start_output(None, "r1", 8000)
    server.send_event(None, VadStep((Inactivity(0.5, 0.25),), 0, 0.08, 0.08))
    server.send_event(None, Transcript("bonjour", 0.16, 0.4))
    server.send_event(None, EndOfStream())
    ready, step, text, end_text, end = sent(server)
    assert (ready["sample_rate"], ready["frame_size"]) == (24000, 1920)
    assert ready["delay_in_frames"] == ready["delay_in_tokens"] == 12
    assert "audio_stream_names" not in ready
    assert step == {
        "type": "step",
        "vad": [{"horizon_s": 0.5, "inactivity_prob": 0.25}],
        "step_idx": 0,
        "step_duration_s": 0.08,
        "total_duration_s": 0.08,
    }
    assert text == {"type": "text", "text": "bonjour", "start_s": 0.16, "stream_id": 0}
    assert end_text == {"type": "end_text", "stop_s": 0.4, "stream_id": 0}
    assert end == {"type": "end_of_stream"}


def test_server_runs_a_synthesis() -> None:
    server = ServerProtocol(wire.TTS)
    setup = '{"type":"setup","voice":"default","output_format":"alaw_8000","json_config":"{\\"padding_bonus\\":-4}"}'
    assert server.receive_message(setup) == [(None, Start(None, "alaw_8000", speed=2.0))]
    spoken = 'One. <flush> Two <break time="1.5s" /> three.'
    assert server.receive_message(json.dumps({"type": "text", "text": spoken})) == [
        (None, Text("One. ")),
        (None, Flush(answered=False)),
        (None, Text(" Two ")),
        (None, Pause(1.5)),
        (None, Text(" three.")),
    ]
    assert server.receive_message('{"type":"audio","audio":"AAAA"}') == []
    server.receive_message('{"type":"end_of_stream"}')
    server.receive_message('{"type":"text","text":"more"}')
    assert "text after end_of_stream" in sent(server)[0]["message"]


@pytest.mark.parametrize("time", ["0.05s", "2.1s", "soon", "nan", ""])
def test_server_refuses_a_pause_out_of_range(time: str) -> None:
    server = ServerProtocol(wire.TTS)
    server.receive_message('{"type":"setup"}')
    assert server.receive_message(json.dumps({"type": "text", "text": f'a <break time="{time}" /> b'})) == []
    assert f"expected a break of 0.1s to 2s, got {time!r}" in sent(server)[0]["message"]


def test_server_stops_a_request_that_is_too_long_or_one_too_many() -> None:
    for kind, text in (
        (FailureKind.DURATION, "session duration limit exceeded"),
        (FailureKind.BUSY, "Concurrency limit exceeded"),
    ):
        server = started()
        server.send_event(None, Failure("", kind))
        assert sent(server) == [{"type": "error", "message": text, "code": 1008}]


def test_server_refuses_audio_after_the_end() -> None:
    server = started()
    server.receive_message('{"type":"end_of_stream"}')
    server.receive_message('{"type":"audio","audio":"AAAA"}')
    assert "audio after end_of_stream" in sent(server)[0]["message"]


@pytest.mark.parametrize(("kind", "code"), [(FailureKind.INPUT, 1008), (FailureKind.INTERNAL, 1011)])
def test_server_reports_the_failure_of_an_engine(kind: FailureKind, code: int) -> None:
    server = started()
    server.send_event(None, Failure("cannot", kind))
    assert sent(server) == [{"type": "error", "message": "cannot", "code": code}]
    assert server.close_code == code
    server.send_event(None, Audio(b"late"))
    assert sent(server) == []


def test_server_keeps_a_connection_for_the_next_request() -> None:
    server = started(close_ws_on_eos=False)
    server.receive_message('{"type":"end_of_stream"}')
    server.send_event(None, EndOfStream())
    assert server.close_code is None
    assert len(server.receive_message('{"type":"setup"}')) == 1
    server.receive_message('{"type":"end_of_stream"}')
    server.send_event(None, EndOfStream())
    assert server.close_code == 1000


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ('{"type":"setup","client_req_id":"a"}', "Session already active (a)"),
        ('{"type":"setup","client_req_id":"c","input_format":"mp3"}', "unsupported input format 'mp3'"),
        ('{"type":"audio","client_req_id":"c","audio":"AAAA"}', "Session not found. Send setup first."),
        ('{"type":"audio","client_req_id":"a"}', "expected a field 'audio'"),
    ],
)
def test_an_error_of_one_request_leaves_the_others_running(message: str, says: str) -> None:
    server = started(client_req_id="a", close_ws_on_eos=False)
    server.receive_message('{"type":"setup","client_req_id":"b","close_ws_on_eos":false}')
    assert server.receive_message(message) == []
    (error,) = sent(server)
    assert says in error["message"]
    assert error["client_req_id"] == json.loads(message)["client_req_id"]
    assert server.close_code is None
    assert set(server.active) == {"a", "b"} - {error["client_req_id"]}
    server.receive_message('{"type":"end_of_stream","client_req_id":"b"}')
    server.send_event("b", EndOfStream())
    if "a" in server.active:
        server.send_event("a", EndOfStream())
    assert server.close_code == 1000


def test_server_remembers_the_latest_requests_that_failed() -> None:
    server = started(client_req_id="a" * 256, close_ws_on_eos=False)
    for number in range(1000):
        server.receive_message(json.dumps({"type": "setup", "client_req_id": f"{number}", "output_format": "mp3"}))
    assert len(sent(server)) == 1000
    # The input of a request is ignored until its client may know that it failed, which was long ago for the first.
    for number in range(1000 - MOST_ENDED_REQUESTS, 1000):
        server.receive_message(json.dumps({"type": "audio", "audio": "AAAA", "client_req_id": f"{number}"}))
    assert sent(server) == []
    server.receive_message('{"type":"audio","audio":"AAAA","client_req_id":"0"}')
    (error,) = sent(server)
    assert (error["message"], error["client_req_id"]) == ("Session not found. Send setup first.", "0")
    assert server.close_code is None


def test_server_stamps_and_ends_each_request_by_itself() -> None:
    server = started(client_req_id="a", close_ws_on_eos=False)
    server.receive_message('{"type":"setup","client_req_id":"b","close_ws_on_eos":false,"output_format":"pcm"}')
    server.start_output("b", "r2", 48000)
    assert server.receive_message('{"type":"audio","audio":"AAAA","client_req_id":"b"}') == [("b", Audio(b"\0\0\0"))]
    server.send_event("b", Audio(bytes(7680)))
    server.send_event("a", Failure("cannot"))
    assert server.receive_message('{"type":"audio","audio":"AAAA","client_req_id":"a"}') == []
    server.receive_message('{"type":"end_of_stream"}')
    assert server.close_code is None
    server.send_event("b", EndOfStream())
    assert [(message["type"], message["client_req_id"]) for message in sent(server)] == [
        ("ready", "b"),
        ("audio", "b"),
        ("error", "a"),
        ("end_of_stream", "b"),
    ]
    assert server.close_code == 1000


def test_unscoped_end_closes_an_idle_reusable_connection() -> None:
    server = started(client_req_id="a", close_ws_on_eos=False)
    server.send_event("a", EndOfStream())
    server.receive_message('{"type":"end_of_stream"}')
    assert server.close_code == 1000


def test_server_refuses_a_client_without_a_key_at_its_first_message() -> None:
    server = ServerProtocol(wire.S2S, refusal="No authentication provided")
    assert server.receive_message('{"type":"setup"}') == []
    assert sent(server) == [{"type": "error", "message": "No authentication provided", "code": 1008}]
    assert server.close_code == 1008


def test_server_refuses_a_silent_client_without_a_key() -> None:
    server = ServerProtocol(wire.S2S, refusal="API key is revoked or expired")
    server.receive_nothing()
    assert sent(server)[0]["code"] == 1008
    patient = ServerProtocol(wire.S2S)
    patient.receive_nothing()
    assert sent(patient) == []
