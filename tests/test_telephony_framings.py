"""Each framing of a telephone leg: literal messages in, events out; audio in, literal messages out."""

from __future__ import annotations

import array
import json
from base64 import b64decode, b64encode
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechwire.audioop import byteswap
from speechwire.codec import alaw_decode, alaw_encode, ulaw_decode, ulaw_encode
from speechwire.errors import AudioError, WireError
from speechwire.events import Unknown
from speechwire.telephony import CallAudio, CallEnded, CallMark, CallStarted, Dtmf, PhoneLeg
from speechwire.telephony.asterisk import ChanWebSocket
from speechwire.telephony.audiosocket import AudioSocket
from speechwire.telephony.plivo import Plivo
from speechwire.telephony.rtp import Rtp
from speechwire.telephony.telnyx import Telnyx
from speechwire.telephony.twilio import Twilio
from speechwire.telephony.vonage import Vonage

RAMP = b"".join((40 * sample - 3200).to_bytes(2, "little", signed=True) for sample in range(160))
ULAW = ulaw_encode(RAMP)
ULAW_64 = b64encode(ULAW).decode()

TWILIO_CONNECTED = '{"event":"connected","protocol":"Call","version":"1.0.0"}'
TWILIO_START = """{"event":"start","sequenceNumber":"1","start":{"accountSid":"AC0123456789abcdef0123456789abcdef",
"streamSid":"MZ18ad3ab5a668481ce02b83e7395059f0","callSid":"CA0123456789abcdef0123456789abcdef","tracks":["inbound"],
"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1},"customParameters":{"to":"es"}},
"streamSid":"MZ18ad3ab5a668481ce02b83e7395059f0"}"""
TWILIO_STREAM = "MZ18ad3ab5a668481ce02b83e7395059f0"
TELNYX_START = """{"event":"start","sequence_number":"1","stream_id":"32de0dea-53cb-4b21-89a4-9e1819c043bc",
"start":{"user_id":"3e6f995f-85f7-4705-9741-53b116d28237","call_control_id":"v2:T02llQxIyaRkhfRKxgAP8nY511EhFLizdvdUKJi",
"call_session_id":"ff55a038-6f5d-11ef-9692-02420aeffb1f","from":"+13122010094","to":"+13122123456",
"client_state":"aGF2ZSBhIG5pY2UgZGF5ID1d","custom_parameters":{"customer_id":"customer_123"},
"media_format":{"encoding":"PCMA","sample_rate":8000,"channels":1}}}"""
PLIVO_START = """{"event":"start","sequenceNumber":1,"start":{"callId":"12345678-1234-1234-1234-123456789abc",
"streamId":"87654321-4321-4321-4321-cba987654321","accountId":"MAXXXXXXXXXXXXXXXXXX","tracks":["inbound"],
"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000}},"extra_headers":"userId=12345;sessionId=abc-xyz"}"""
PLIVO_STREAM = "87654321-4321-4321-4321-cba987654321"
VONAGE_CONNECTED = '{"event":"websocket:connected","content-type":"audio/l16;rate=8000","language":"es"}'
ASTERISK_START = (
    "MEDIA_START connection_id:e226e283-c90a-4ea9-9e37-389000b9ef47 channel:WebSocket/media1/0x5140001a0040 "
    "channel_id:1761245643.1 format:ulaw optimal_frame_size:160 ptime:20"
)
ASTERISK_JSON_START = """{"event":"MEDIA_START","connection_id":"media1","channel":"WebSocket/media1/0x5140001a0040",
"channel_id":"1761245643.1","format":"slin16","optimal_frame_size":640,"ptime":20,
"channel_variables":{"DIALEDPEERNUMBER":"media1"}}"""
UUID = bytes.fromhex("40325ec25efd4bd3805f53576e581d13")
AUDIOSOCKET_START = b"\x01\x00\x10" + UUID


def leg_of(framing: Any, *messages: str | bytes, sample_rate: int = 8000, **options: Any) -> PhoneLeg:
    leg = PhoneLeg(framing, sample_rate=sample_rate, **options)
    for message in messages:
        leg.receive_message(message, now=0.0)
    return leg


def events(leg: PhoneLeg, *messages: str | bytes) -> list[Any]:
    for message in messages:
        leg.receive_message(message, now=0.0)
    return leg.events_received()


def say(leg: PhoneLeg, pcm: bytes = RAMP) -> list[str | bytes]:
    """Send one answer of a frame and return its messages."""
    leg.send_audio(pcm, answer=1, now=1.0)
    leg.end_answer(1, now=1.0)
    return leg.messages_to_send(now=1.0)


def test_twilio_from_the_first_message_to_the_last() -> None:
    leg = leg_of("twilio")
    assert events(leg, TWILIO_CONNECTED) == []
    assert events(leg, TWILIO_START) == [
        CallStarted("CA0123456789abcdef0123456789abcdef", TWILIO_STREAM, "ulaw_8000", 8000, {"to": "es"})
    ]
    media = {"track": "inbound", "chunk": "1", "timestamp": "5", "payload": ULAW_64}
    message = {"event": "media", "sequenceNumber": "2", "media": media, "streamSid": TWILIO_STREAM}
    assert events(leg, json.dumps(message)) == [CallAudio(ulaw_decode(ULAW))]
    dtmf = '{"event":"dtmf","streamSid":"MZ","sequenceNumber":"5","dtmf":{"track":"inbound_track","digit":"1"}}'
    assert events(leg, dtmf) == [Dtmf("1")]
    assert say(leg) == [
        f'{{"event":"media","streamSid":"{TWILIO_STREAM}","media":{{"payload":"{ULAW_64}"}}}}',
        f'{{"event":"mark","streamSid":"{TWILIO_STREAM}","mark":{{"name":"1-0"}}}}',
    ]
    mark = '{"event":"mark","sequenceNumber":"4","streamSid":"MZ","mark":{"name":"1-0"}}'
    assert events(leg, mark) == [CallMark(1, 20.0, ended=True)]
    assert leg.interrupt(now=2.0).heard_ms == 20.0
    assert leg.messages_to_send(now=2.0) == [f'{{"event":"clear","streamSid":"{TWILIO_STREAM}"}}']
    stop = '{"event":"stop","sequenceNumber":"5","stop":{"accountSid":"AC","callSid":"CA"},"streamSid":"MZ"}'
    assert events(leg, stop) == [CallEnded("the far end sent stop")]
    assert leg.next_deadline() is None


def test_telnyx_hears_one_encoding_and_speaks_another() -> None:
    leg = leg_of("telnyx", '{"event":"connected","version":"1.0.0"}')
    assert events(leg, TELNYX_START) == [
        CallStarted(
            "v2:T02llQxIyaRkhfRKxgAP8nY511EhFLizdvdUKJi",
            "32de0dea-53cb-4b21-89a4-9e1819c043bc",
            "alaw_8000",
            8000,
            {"customer_id": "customer_123"},
        )
    ]
    assert events(leg, telnyx_media(1, alaw_encode(RAMP))) == [CallAudio(alaw_decode(alaw_encode(RAMP)))]
    dtmf = '{"event":"dtmf","stream_id":"3","occurred_at":"2026-01-01T00:00:00Z","dtmf":{"digit":"#"}}'
    assert events(leg, dtmf)[-1] == Dtmf("#")
    assert say(leg) == [
        f'{{"event":"media","media":{{"payload":"{ULAW_64}"}}}}',
        '{"event":"mark","mark":{"name":"1-0"}}',
    ]
    mark = '{"event":"mark","sequence_number":"5","stream_id":"32","mark":{"name":"1-0"}}'
    assert events(leg, mark) == [CallMark(1, 20.0, ended=True)]
    leg.interrupt(now=2.0)
    assert leg.messages_to_send(now=2.0) == ['{"event":"clear"}']
    error = '{"event":"error","payload":{"code":100003,"title":"malformed_frame"},"stream_id":"32"}'
    assert events(leg, error) == [Unknown(json.loads(error))]
    assert events(leg, '{"event":"stop","stop":{"user_id":"3"}}') == [CallEnded("the far end sent stop")]


def telnyx_media(chunk: int, payload: bytes) -> str:
    media = {"track": "inbound", "chunk": str(chunk), "timestamp": "5", "payload": b64encode(payload).decode()}
    return json.dumps({"event": "media", "sequence_number": "4", "media": media, "stream_id": "32"})


def telnyx_l16_start(sample_rate: int = 16000) -> str:
    message = json.loads(TELNYX_START)
    message["start"]["media_format"] = {"encoding": "L16", "sample_rate": sample_rate, "channels": 1}
    return json.dumps(message)


# Those of Telnyx's `stream_bidirectional_sampling_rate`.
@pytest.mark.parametrize("rate", [8000, 16000, 22050, 24000, 48000])
def test_telnyx_l16_has_the_high_byte_first(rate: int) -> None:
    leg = leg_of("telnyx", telnyx_l16_start(rate), sample_rate=rate, encoding=f"pcm_{rate}")
    leg.events_received()
    pcm = array.array("h", range(rate // 50)).tobytes()
    assert events(leg, telnyx_media(1, byteswap(pcm, 2))) == [CallAudio(pcm)]
    message = say(leg, pcm)[0]
    assert b64decode(json.loads(message)["media"]["payload"]) == byteswap(pcm, 2)


@given(st.permutations(range(1, 5)))
def test_telnyx_puts_messages_in_order(order: list[int]) -> None:
    leg = leg_of("telnyx", telnyx_l16_start(), telnyx_media(0, b"\0\0"), sample_rate=16000)
    heard = events(leg, *(telnyx_media(chunk, bytes((0, chunk))) for chunk in order))
    audio = b"".join(event.pcm for event in heard if isinstance(event, CallAudio))
    assert audio == bytes((0, 0, 1, 0, 2, 0, 3, 0, 4, 0))
    assert leg.stats.num_lost == 0


def test_telnyx_waits_for_a_lost_message_only_so_long_and_counts_it() -> None:
    leg = leg_of(
        "telnyx", telnyx_l16_start(), *(telnyx_media(chunk, b"\0\1") for chunk in (1, 3, 4, 5)), sample_rate=16000
    )
    assert sum(isinstance(event, CallAudio) for event in leg.events_received()) == 1
    assert sum(isinstance(event, CallAudio) for event in events(leg, telnyx_media(6, b"\0\1"))) == 4
    assert events(leg, telnyx_media(2, b"\0\1"), telnyx_media(6, b"\0\1")) == []
    assert leg.stats.num_lost == 1


def test_telnyx_may_count_anew() -> None:
    messages = [telnyx_media(chunk, bytes((0, number))) for number, chunk in enumerate((500, 501, 503, 1, 2, 3))]
    leg = leg_of("telnyx", telnyx_l16_start(), *messages, sample_rate=16000)
    audio = b"".join(event.pcm for event in leg.events_received() if isinstance(event, CallAudio))
    assert audio[::2] == bytes(range(6))


def test_plivo_from_the_first_message_to_the_last() -> None:
    leg = leg_of("plivo")
    assert events(leg, PLIVO_START) == [
        CallStarted(
            "12345678-1234-1234-1234-123456789abc",
            PLIVO_STREAM,
            "ulaw_8000",
            8000,
            {"userId": "12345", "sessionId": "abc-xyz"},
        )
    ]
    media = {"track": "inbound", "timestamp": "1676375387541", "chunk": 1, "payload": ULAW_64}
    message = {"sequenceNumber": 2, "streamId": PLIVO_STREAM, "event": "media", "media": media}
    assert events(leg, json.dumps(message)) == [CallAudio(ulaw_decode(ULAW))]
    dtmf = '{"event":"dtmf","streamId":"8","sequenceNumber":3,"dtmf":{"track":"inbound","digit":"2","timestamp":"1"}}'
    assert events(leg, dtmf) == [Dtmf("2")]
    assert say(leg) == [
        '{"event":"playAudio","media":{"contentType":"audio/x-mulaw","sampleRate":8000,"payload":"'
        f'{ULAW_64}"}},"streamId":"{PLIVO_STREAM}"}}',
        f'{{"event":"checkpoint","streamId":"{PLIVO_STREAM}","name":"1-0"}}',
    ]
    assert events(leg, '{"event":"playedStream","streamId":"8","name":"1-0"}') == [CallMark(1, 20.0, ended=True)]
    leg.interrupt(now=2.0)
    assert leg.messages_to_send(now=2.0) == [f'{{"event":"clearAudio","streamId":"{PLIVO_STREAM}"}}']
    assert events(leg, '{"event":"clearedAudio","streamId":"8"}') == []


def test_plivo_speaks_linear_where_asked_to() -> None:
    leg = leg_of("plivo", PLIVO_START, sample_rate=16000, encoding="pcm_16000")
    message = json.loads(say(leg, RAMP + RAMP)[0])
    assert message["media"]["contentType"] == "audio/x-l16"
    assert message["media"]["sampleRate"] == 16000
    assert b64decode(message["media"]["payload"]) == RAMP + RAMP


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("", {}),
        ("a=1;b=x=y", {"a": "1", "b": "x=y"}),
        ("{}", {}),
        ('{"a":"1","b":2}', {"a": "1", "b": "2"}),
        ({"a": "1"}, {"a": "1"}),
        ("{a", {"extra_headers": "{a"}),
        ("words", {"extra_headers": "words"}),
    ],
)
def test_plivo_headers(text: str | dict[str, str], parameters: dict[str, str]) -> None:
    message = json.loads(PLIVO_START) | {"extra_headers": text}
    assert events(leg_of("plivo"), json.dumps(message))[0].parameters == parameters


def test_vonage_from_the_first_message_to_the_last() -> None:
    leg = leg_of("vonage")
    assert events(leg, VONAGE_CONNECTED) == [CallStarted("", "", "pcm_8000", 8000, {"language": "es"})]
    assert events(leg, RAMP[:101], RAMP[101:]) == [CallAudio(RAMP[:100]), CallAudio(RAMP[100:])]
    assert events(leg, '{"event":"websocket:dtmf","digit":"5","duration":260}') == [Dtmf("5")]
    assert say(leg) == [RAMP, '{"action":"notify","payload":{"mark":"1-0"}}']
    notified = '{"event":"websocket:notify","payload":{"mark":"1-0"}}'
    assert events(leg, notified) == [CallMark(1, 20.0, ended=True)]
    leg.interrupt(now=2.0)
    assert leg.messages_to_send(now=2.0) == ['{"action":"clear"}']
    assert events(leg, '{"event":"websocket:cleared"}') == []
    other = '{"event":"websocket:notify","payload":{"customKey":"customValue"}}'
    assert events(leg, other) == [Unknown(json.loads(other))]


def test_chan_websocket_in_plain_text() -> None:
    leg = leg_of("chan_websocket")
    assert events(leg, ASTERISK_START) == [
        CallStarted("1761245643.1", "e226e283-c90a-4ea9-9e37-389000b9ef47", "ulaw_8000", 8000)
    ]
    assert events(leg, ULAW) == [CallAudio(ulaw_decode(ULAW))]
    assert events(leg, "DTMF_END digit:7 channel_id:1761245643.1") == [Dtmf("7")]
    assert say(leg) == [ULAW, "MARK_MEDIA 1-0"]
    assert events(leg, "MEDIA_MARK_PROCESSED 1-0") == [CallMark(1, 20.0, ended=True)]
    leg.interrupt(now=2.0)
    assert leg.messages_to_send(now=2.0) == ["FLUSH_MEDIA"]
    assert events(leg, "MEDIA_XOFF") == [Unknown({"event": "MEDIA_XOFF"})]


def test_chan_websocket_in_json() -> None:
    leg = leg_of("chan_websocket", sample_rate=16000)
    assert events(leg, ASTERISK_JSON_START) == [
        CallStarted("1761245643.1", "media1", "pcm_16000", 16000, {"DIALEDPEERNUMBER": "media1"})
    ]
    assert events(leg, '{"event":"DTMF_END","channel_id":"1","digit":"*"}') == [Dtmf("*")]
    pcm = RAMP + RAMP
    assert say(leg, pcm) == [pcm, '{"command":"MARK_MEDIA","correlation_id":"1-0"}']
    processed = '{"event":"MEDIA_MARK_PROCESSED","channel_id":"1761245643.1","correlation_id":"1-0"}'
    assert events(leg, processed) == [CallMark(1, 20.0, ended=True)]
    leg.interrupt(now=2.0)
    assert leg.messages_to_send(now=2.0) == ['{"command":"FLUSH_MEDIA"}']


def test_chan_websocket_needs_frames_that_asterisk_does_not_cut() -> None:
    start = ASTERISK_START.replace("optimal_frame_size:160", "optimal_frame_size:240")
    with pytest.raises(WireError, match=r"^expected frames of a multiple of 240 bytes, got 160$"):
        leg_of("chan_websocket", start)
    assert len(say(leg_of("chan_websocket", start, frame_ms=30))[0]) == 240


def audiosocket_message(kind: int, payload: bytes) -> bytes:
    return bytes((kind,)) + len(payload).to_bytes(2, "big") + payload


def test_audiosocket_from_the_first_message_to_the_last() -> None:
    leg = leg_of("audiosocket")
    assert events(leg, AUDIOSOCKET_START) == [CallStarted("40325ec2-5efd-4bd3-805f-53576e581d13", "", "pcm_8000", 8000)]
    assert events(leg, audiosocket_message(0x10, RAMP)) == [CallAudio(RAMP)]
    assert events(leg, b"\x03\x00\x019") == [Dtmf("9")]
    leg.send_audio(RAMP, answer=1, now=0.0)
    leg.end_answer(1, now=0.0)
    assert leg.messages_to_send(now=0.0) == [b"\x10\x01\x40" + RAMP]
    assert leg.messages_to_send(now=0.02) == [b"\x10\x01\x40" + bytes(320)]
    assert events(leg, b"\0\0\0") == [CallEnded("the far end hung up")]
    assert leg.messages_to_send(now=0.1) == []


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"\x01", "01: the calling party hung up"),
        (b"\x06", "06: a frame was not forwarded, no memory"),
        (b"", "without a code: unknown"),
    ],
)
def test_audiosocket_errors_end_the_call(payload: bytes, said: str) -> None:
    leg = leg_of("audiosocket", AUDIOSOCKET_START)
    assert events(leg, audiosocket_message(0xFF, payload))[-1] == CallEnded(f"the far end sent error {said}")


def test_audiosocket_at_a_higher_rate() -> None:
    leg = leg_of("audiosocket", AUDIOSOCKET_START, sample_rate=16000, encoding="pcm_16000")
    leg.events_received()
    assert events(leg, audiosocket_message(0x12, RAMP)) == [CallAudio(RAMP)]
    leg.send_audio(RAMP + RAMP, answer=1, now=0.0)
    assert leg.messages_to_send(now=0.0) == [b"\x12\x02\x80" + RAMP + RAMP]


AUDIOSOCKET_CALL = (
    AUDIOSOCKET_START
    + audiosocket_message(0x10, RAMP)
    + b"\x03\x00\x01#"
    + audiosocket_message(0x77, b"what")
    + audiosocket_message(0x10, b"odd")
    + audiosocket_message(0x10, RAMP[:2])
    + b"\0\0\0"
)


@given(st.lists(st.integers(0, len(AUDIOSOCKET_CALL)), max_size=20))
def test_audiosocket_cut_anywhere_says_the_same(cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(AUDIOSOCKET_CALL)]
    pieces = [AUDIOSOCKET_CALL[begin:end] for begin, end in pairwise(bounds)]
    assert events(leg_of("audiosocket"), *pieces) == [
        CallStarted("40325ec2-5efd-4bd3-805f-53576e581d13", "", "pcm_8000", 8000),
        CallAudio(RAMP),
        Dtmf("#"),
        Unknown({"kind": 0x77, "payload": b"what"}),
        Unknown({"kind": 0x10, "payload": b"odd"}),
        CallAudio(RAMP[:2]),
        CallEnded("the far end hung up"),
    ]


def rtp_packet(payload: bytes, sequence: int = 7, timestamp: int = 1000, payload_type: int = 0, ssrc: int = 5) -> bytes:
    numbers = sequence.to_bytes(2, "big") + timestamp.to_bytes(4, "big") + ssrc.to_bytes(4, "big")
    return bytes((0x80, payload_type)) + numbers + payload


def test_rtp_headers_count_and_wrap() -> None:
    leg = leg_of(Rtp(ssrc=0xDEADBEEF, sequence=0xFFFF, timestamp=0xFFFFFFFF))
    leg.send_audio(RAMP + RAMP, answer=1, now=0.0)
    first, second = leg.messages_to_send(now=0.0) + leg.messages_to_send(now=0.02)
    assert first == bytes.fromhex("8080ffffffffffffdeadbeef") + ULAW
    assert second == bytes.fromhex("800000000000009fdeadbeef") + ULAW


def test_rtp_marks_the_packet_behind_intervals_left_out() -> None:
    leg = leg_of(Rtp(ssrc=1, encoding="alaw_8000"))
    sent = [*leg.messages_to_send(now=0.0), *leg.messages_to_send(now=0.05), *leg.messages_to_send(now=0.3)]
    packets = [message for message in sent if isinstance(message, bytes)]
    heads = [
        (message[1], int.from_bytes(message[2:4], "big"), int.from_bytes(message[4:8], "big")) for message in packets
    ]
    assert heads == [(0x88, 0, 0), (8, 1, 160), (8, 2, 320), (0x88, 3, 15 * 160)]
    assert {message[12:] for message in packets} == {b"\xd5" * 160}


def test_rtp_linear_has_the_high_byte_first_and_its_payload_type() -> None:
    leg = leg_of(Rtp(ssrc=1, encoding="pcm_16000", payload_type=118), sample_rate=16000)
    leg.send_audio(RAMP + RAMP, answer=1, now=0.0)
    (packet,) = leg.messages_to_send(now=0.0)
    assert packet[:2] == b"\x80\xf6"
    assert packet[12:] == byteswap(RAMP + RAMP, 2)


@pytest.mark.parametrize(
    ("head", "around"),
    [
        (b"\x80\x00", (b"", b"")),
        (b"\x82\x00", (b"aaaabbbb", b"")),
        (b"\x90\x00", (b"\xbe\xde\x00\x01abcd", b"")),
        (b"\xa0\x00", (b"", b"\0\0\3")),
        (b"\xb1\x80", (b"cccc\xbe\xde\x00\x00", b"\1")),
    ],
)
def test_rtp_finds_the_payload_in_any_header(head: bytes, around: tuple[bytes, bytes]) -> None:
    packet = head + rtp_packet(b"")[2:] + around[0] + ULAW + around[1]
    framing = Rtp(ssrc=1)
    started, parsed = framing.receive_message(packet)
    assert started == CallStarted("", "00000005", "ulaw_8000", 8000)
    assert getattr(parsed, "payload", None) == ULAW


def test_rtp_keys_are_told_once() -> None:
    leg = leg_of(Rtp(ssrc=1))
    keys = [rtp_packet(bytes((11, ended, 0, 160)), 7 + n, 1000, 101) for n, ended in enumerate((10, 10, 0x8A, 0x8A))]
    assert events(leg, *keys, rtp_packet(b"\x0f\x0a\x00\xa0", 12, 5000, 101)) == [Dtmf("#"), Dtmf("D")]
    assert events(leg, rtp_packet(b"\x0b\x8a\x00\xa0", 11, 1000, 101)) == []  # the end of the first comes late
    assert events(leg, rtp_packet(b"\x01\x0a\x00\xa0", 13, (5000 - 8000) % (1 << 32), 101)) == [
        Dtmf("1")
    ]  # time begins anew
    assert events(leg, rtp_packet(b"\x10\x0a\x00\xa0", 13, 6000, 101)) == [
        Unknown({"payload_type": 101, "payload": b"\x10\x0a\x00\xa0"})
    ]


def test_rtp_changes_to_another_sender_when_that_goes_on() -> None:
    framing = Rtp(ssrc=1)
    assert len(framing.receive_message(rtp_packet(ULAW))) == 2
    assert framing.receive_message(rtp_packet(ULAW, 60, 9, ssrc=6)) == []
    assert len(framing.receive_message(rtp_packet(ULAW, 8))) == 1
    assert framing.receive_message(rtp_packet(ULAW, 70, 9, ssrc=6)) == []
    (changed,) = framing.receive_message(rtp_packet(ULAW, 71, 9, ssrc=6))
    assert getattr(changed, "is_new_source", False)
    (next_one,) = framing.receive_message(rtp_packet(ULAW, 72, 9, ssrc=6))
    assert not getattr(next_one, "is_new_source", True)


def test_rtp_passes_over_what_it_needs_not() -> None:
    leg = leg_of(Rtp(ssrc=1))
    assert events(leg, b"\x80\xc8" + bytes(26), rtp_packet(b"\x10", payload_type=13), rtp_packet(b"")) == []
    assert events(leg, rtp_packet(b"g722", payload_type=9)) == [Unknown({"payload_type": 9, "payload": b"g722"})]


START_OF = {
    "twilio": TWILIO_START,
    "telnyx": TELNYX_START,
    "plivo": PLIVO_START,
    "vonage": VONAGE_CONNECTED,
    "chan_websocket": ASTERISK_JSON_START,
}


def media_at(timestamp: str) -> str:
    return f'{{"event":"media","media":{{"payload":"/w==","chunk":1,"timestamp":{timestamp}}}}}'


@pytest.mark.parametrize(
    ("framing", "message", "error"),
    [
        ("twilio", "{", "expected"),
        ("twilio", "[]", "expected"),
        ("twilio", '{"event":"media"}', r"expected a field media.payload, got \['event'\]"),
        ("twilio", '{"event":"media","media":5}', "expected an object in media, got int"),
        ("twilio", '{"event":"media","media":{"payload":5}}', "expected base64 in media.payload, got int"),
        ("twilio", '{"event":"media","media":{"payload":"*"}}', r"expected base64 in media.payload, got '\*'"),
        ("twilio", '{"event":"media","media":{"payload":"AAA"}}', "expected base64 in media.payload, got 'AAA'"),
        ("twilio", '{"event":"media","media":{"payload":"","chunk":"x"}}', "a whole number in media.chunk, got 'x'"),
        ("twilio", '{"event":"media","media":{"payload":"","chunk":true}}', "a whole number in media.chunk, got True"),
        ("twilio", media_at("1" + "0" * 400), "a whole number in media.timestamp, got 10000"),
        ("telnyx", media_at("1" + "0" * 400), "a whole number in media.timestamp, got 10000"),
        ("twilio", '{"event":"mark"}', "expected a field mark.name"),
        ("twilio", '{"event":"dtmf","dtmf":{}}', "expected a field dtmf.digit"),
        ("twilio", TWILIO_START, "expected one start of the call, got a second one in ulaw_8000"),
        ("chan_websocket", "MEDIA_MARK_PROCESSED", "expected a field correlation_id"),
    ],
)
def test_hostile_messages_are_refused_and_change_nothing(framing: str, message: str, error: str) -> None:
    leg = leg_of(framing, START_OF[framing])
    leg.events_received()
    with pytest.raises(WireError, match=error):
        leg.receive_message(message, now=0.0)
    assert leg.events_received() == []
    assert len(say(leg, RAMP * 2)) > 1


@pytest.mark.parametrize(
    ("framing", "message", "error"),
    [
        ("twilio", TWILIO_START.replace("x-mulaw", "opus"), "expected an encoding of audio/x-mulaw, got 'audio/opus'"),
        ("twilio", TWILIO_START.replace('{"to":"es"}', "[]"), "expected an object in start.customParameters, got list"),
        ("telnyx", TELNYX_START.replace("PCMA", "OPUS"), "expected an encoding of PCMU, PCMA, L16, got 'OPUS' at 8000"),
        ("plivo", PLIVO_START.replace("8000", "11025"), "expected an encoding of .*, got 'audio/x-mulaw' at 11025 Hz"),
        ("vonage", VONAGE_CONNECTED.replace("8000", "9000"), "expected audio of .*, got 'audio/l16;rate=9000'"),
        ("chan_websocket", ASTERISK_START.replace("ulaw", "opus"), "expected media of .*, got 'opus'"),
        ("chan_websocket", "MEDIA_START", "expected a field format"),
    ],
)
def test_a_start_that_cannot_be_served_is_refused(framing: str, message: str, error: str) -> None:
    leg = leg_of(framing)
    with pytest.raises(WireError, match=error):
        leg.receive_message(message, now=0.0)
    assert events(leg, START_OF[framing])


@pytest.mark.parametrize(
    ("framing", "message", "error"),
    [
        ("telnyx", '{"event":"media","media":{"payload":""}}', "expected start before media"),
        ("plivo", '{"event":"media","media":{"payload":""}}', "expected start before media"),
        ("vonage", b"ab", "expected websocket:connected first, got 2 bytes of audio"),
        ("chan_websocket", b"ab", "expected MEDIA_START first, got 2 bytes of media"),
        ("audiosocket", "text", "expected bytes, got a text of 4 characters"),
    ],
)
def test_nothing_comes_before_the_start(framing: str, message: str | bytes, error: str) -> None:
    with pytest.raises(WireError, match=error):
        leg_of(framing, message)
    with pytest.raises(AudioError, match=r"^expected a call that has started, got 320 bytes before its start$"):
        leg_of(framing).send_audio(RAMP, answer=1, now=0.0)


@pytest.mark.parametrize(
    ("packet", "error"),
    [
        ("text", "expected bytes, got a text of 4 characters"),
        (b"", "expected at least 12 bytes, got 0"),
        (b"\x40" + bytes(11), "expected RTP version 2, got 1"),
        (b"\x83" + bytes(15), "expected a header of 24 bytes, got 16 bytes"),
        (b"\x90" + bytes(12), "expected an extension of the header at byte 12, got 13 bytes"),
        (b"\x90" + bytes(13) + b"\xff\xff", "expected a header of 262156 bytes, got 16 bytes"),
        (b"\xa0" + bytes(11) + b"\x02", "expected padding of 1 to 1 bytes, got 2"),
        (b"\xa0" + bytes(12), "expected padding of 1 to 1 bytes, got 0"),
    ],
)
def test_broken_packets_are_refused(packet: str | bytes, error: str) -> None:
    with pytest.raises(WireError, match=error):
        Rtp(ssrc=1).receive_message(packet)


FRAMINGS = (Twilio, Telnyx, Plivo, Vonage, ChanWebSocket, AudioSocket, lambda: Rtp(ssrc=1))


def test_an_error_quotes_no_more_than_a_line_of_a_message() -> None:
    with pytest.raises(WireError, match=r"^expected a field mark.name, got \['AAAA") as raised:
        Twilio().receive_message(json.dumps({"event": "mark", "A" * 1_000_000: 1}))
    assert len(str(raised.value)) < 300


@given(st.sampled_from(FRAMINGS), st.lists(st.one_of(st.binary(max_size=64), st.text(max_size=64)), max_size=5))
def test_any_message_is_read_or_refused(framing: Any, messages: list[str | bytes]) -> None:
    leg = PhoneLeg(framing(), sample_rate=8000)
    for message in messages:
        with suppress(WireError):
            leg.receive_message(message, now=0.0)
    leg.messages_to_send(now=0.0)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.just("media"), st.just("start")),
    lambda inner: st.dictionaries(
        st.sampled_from(
            ["event", "media", "start", "payload", "mark", "name", "dtmf", "digit", "chunk", "mediaFormat"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=8,
)


@given(st.sampled_from(FRAMINGS), st.sampled_from(["media", "start", "mark", "dtmf", "stop", "websocket:notify"]), JSON)
def test_any_json_is_read_or_refused(framing: Any, event: str, fields: Any) -> None:
    message = {"event": event} | (fields if isinstance(fields, dict) else {event: fields})
    with suppress(WireError):
        PhoneLeg(framing(), sample_rate=8000).receive_message(json.dumps(message), now=0.0)


@pytest.mark.parametrize(
    ("framing", "start", "audio"),
    [
        ("telnyx", telnyx_l16_start(), lambda size: telnyx_media(1, bytes(size))),
        (
            "plivo",
            PLIVO_START.replace("x-mulaw", "x-l16"),
            lambda size: f'{{"event":"media","media":{{"payload":"{b64encode(bytes(size)).decode()}"}}}}',
        ),
    ],
)
def test_half_a_sample_is_refused_and_does_not_shift_what_follows(framing: str, start: str, audio: Any) -> None:
    leg = leg_of(framing, start)
    with pytest.raises(WireError, match="expected whole samples of 2 bytes, got 319 bytes of audio"):
        leg.receive_message(audio(319), now=0.0)
    assert leg.stats.received_ms == 0
    leg.receive_message(audio(320), now=0.0)
    assert leg.stats.received_ms > 0


@pytest.mark.parametrize("digit", ["12", "", "x", "\\u0000", "0123456789*#ABCD"])
def test_what_is_no_key_is_unknown(digit: str) -> None:
    message = f'{{"event":"dtmf","dtmf":{{"digit":"{digit}"}}}}'
    assert events(leg_of("twilio", TWILIO_START), message)[1:] == [Unknown(json.loads(message))]
    for payload in (b"x", b"\0", b"", b"12", b"\xff"):
        assert events(leg_of("audiosocket"), audiosocket_message(3, payload)) == [
            Unknown({"kind": 3, "payload": payload})
        ]


def test_wrong_options_are_refused() -> None:
    with pytest.raises(AudioError, match=r"^expected a framing of twilio, .* or an Rtp object, got rtp$"):
        PhoneLeg("rtp")
    with pytest.raises(AudioError, match=r"^expected an encoding of ulaw_8000, got alaw_8000$"):
        PhoneLeg("twilio", encoding="alaw_8000")
    with pytest.raises(AudioError, match=r"^expected the encoding in the framing, got ulaw_8000 beside it$"):
        PhoneLeg(Rtp(ssrc=1), encoding="ulaw_8000")
    with pytest.raises(AudioError, match=r"^expected a frame of 5 to 60 ms, got 0$"):
        PhoneLeg("twilio", frame_ms=0)
    with pytest.raises(AudioError, match=r"^expected a sample rate of 1000 to 384000 Hz, got 100$"):
        PhoneLeg("twilio", sample_rate=100)
    with pytest.raises(AudioError, match=r"^expected a sample rate of 1000 to 384000 Hz, got 0$"):
        PhoneLeg("twilio", sample_rate=0)
    with pytest.raises(AudioError, match=r"^expected 32 bits of ssrc, got 4294967296$"):
        Rtp(ssrc=1 << 32)
    with pytest.raises(AudioError, match=r"^expected an encoding of ulaw_8000, alaw_8000 or pcm, got opus$"):
        Rtp(ssrc=1, encoding="opus")
    with pytest.raises(AudioError, match=r"^expected a payload_type of 96 to 127, got 300$"):
        Rtp(ssrc=1, payload_type=300)
    with pytest.raises(AudioError, match=r"^expected a dtmf_payload_type of 96 to 127, got 0$"):
        Rtp(ssrc=1, dtmf_payload_type=0)
    with pytest.raises(AudioError, match=r"^expected a payload type for each of PCM and keys, got 101 for both$"):
        Rtp(ssrc=1, payload_type=101)
    with pytest.raises(AudioError, match=r"^expected a sample rate of 8000 to 48000 Hz, got 96000$"):
        Rtp(ssrc=1, encoding="pcm_96000")
    with pytest.raises(AudioError, match=r"^expected an encoding of pcm_8000, .*, pcm_48000, got pcm_96000$"):
        PhoneLeg("audiosocket", encoding="pcm_96000")
