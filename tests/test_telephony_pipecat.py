"""The framings against pipecat's serializers for the same vendors, as peers in both directions."""

from __future__ import annotations

import asyncio
import importlib
import json
import warnings
from base64 import b64encode
from typing import Any

import numpy as np
import pytest

from speechwire.codec import alaw_decode, alaw_encode, ulaw_decode, ulaw_encode
from speechwire.telephony import CallAudio, Dtmf, PhoneLeg
from test_telephony_framings import PLIVO_START, PLIVO_STREAM, TELNYX_START, TWILIO_START, TWILIO_STREAM
from test_telephony_leg import speech

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # pipecat uses audioop
    pytest.importorskip("pipecat", reason="make .venv/.dev installs it")
    frames = importlib.import_module("pipecat.frames.frames")
    frame_processor = importlib.import_module("pipecat.processors.frame_processor")
    plivo = importlib.import_module("pipecat.serializers.plivo")
    telnyx = importlib.import_module("pipecat.serializers.telnyx")
    twilio = importlib.import_module("pipecat.serializers.twilio")
    vonage = importlib.import_module("pipecat.serializers.vonage")

RATE = 8000
PCM = speech(0.4)
FRAMES = [PCM[begin : begin + 320] for begin in range(0, len(PCM), 320)]


def serializer(vendor: str) -> Any:
    """Make pipecat's serializer for a stream whose start our leg has read."""
    if vendor == "twilio":
        kind = twilio.TwilioFrameSerializer
        made = kind(TWILIO_STREAM, params=kind.InputParams(auto_hang_up=False))
    elif vendor == "telnyx":
        # Its names are those of the call: inbound is what goes into it.
        kind = telnyx.TelnyxFrameSerializer
        made = kind(
            "32", outbound_encoding="PCMA", inbound_encoding="PCMU", params=kind.InputParams(auto_hang_up=False)
        )
    elif vendor == "plivo":
        kind = plivo.PlivoFrameSerializer
        made = kind(PLIVO_STREAM, params=kind.InputParams(auto_hang_up=False))
    else:
        kind = vonage.VonageFrameSerializer
        made = kind(kind.InputParams(vonage_sample_rate=RATE))
    setup = frame_processor.FrameProcessorSetup(
        clock=None, task_manager=None, pipeline_worker=None, audio_in_sample_rate=RATE
    )
    asyncio.run(made.setup(setup))
    return made


STARTS = {
    "twilio": TWILIO_START,
    "telnyx": TELNYX_START,
    "plivo": PLIVO_START,
    "vonage": '{"event":"websocket:connected","content-type":"audio/l16;rate=8000"}',
}
CODES_OUT = {"twilio": ulaw_encode, "telnyx": ulaw_encode, "plivo": ulaw_encode, "vonage": bytes}
CODES_IN = {
    "twilio": (ulaw_encode, ulaw_decode),
    "telnyx": (alaw_encode, alaw_decode),
    "plivo": (ulaw_encode, ulaw_decode),
    "vonage": (bytes, bytes),
}


def leg_of(vendor: str) -> PhoneLeg:
    leg = PhoneLeg(vendor, sample_rate=RATE, mark_ms=None)
    leg.receive_message(STARTS[vendor], now=0.0)
    leg.events_received()
    return leg


def messages_of(leg: PhoneLeg) -> list[str | bytes]:
    leg.send_audio(PCM, answer=1, now=0.0)
    leg.end_answer(1, now=0.0)
    messages = []
    while (deadline := leg.next_deadline()) is not None:
        messages += leg.messages_to_send(now=deadline)
    return messages


def media_in(vendor: str, codes: bytes, chunk: int) -> str | bytes:
    """Return what the vendor would send for audio of the caller."""
    if vendor == "vonage":
        return codes
    media = {
        "track": "inbound",
        "chunk": str(chunk),
        "timestamp": str(20 * chunk),
        "payload": b64encode(codes).decode(),
    }
    return json.dumps({"event": "media", "media": media, "streamSid": "s", "stream_id": "s", "streamId": "s"})


@pytest.mark.parametrize("vendor", STARTS)
def test_both_send_the_same_messages(vendor: str) -> None:
    *ours, mark = messages_of(leg_of(vendor))
    peer = serializer(vendor)
    theirs = [
        asyncio.run(peer.serialize(frames.OutputAudioRawFrame(audio=pcm, sample_rate=RATE, num_channels=1)))
        for pcm in FRAMES
    ]
    if vendor == "vonage":
        assert ours == theirs
    else:
        our_fields, their_fields = ([json.loads(message) for message in messages] for messages in (ours, theirs))
        # Their mu-law is that of audioop, which is one code off here and there; all else is equal.
        payloads = [
            (a["media"].pop("payload"), b["media"].pop("payload"))
            for a, b in zip(our_fields, their_fields, strict=True)
        ]
        assert our_fields == their_fields
        assert all(len(a) == len(b) for a, b in payloads)
    assert "1-0" in str(mark)


@pytest.mark.parametrize("vendor", STARTS)
def test_both_clear_with_the_same_message(vendor: str) -> None:
    leg = leg_of(vendor)
    leg.send_audio(PCM, answer=1, now=0.0)
    leg.messages_to_send(now=0.0)
    leg.interrupt(now=0.0)
    (ours,) = leg.messages_to_send(now=0.0)
    theirs = asyncio.run(serializer(vendor).serialize(frames.InterruptionFrame()))
    assert json.loads(ours) == json.loads(theirs)


@pytest.mark.parametrize("vendor", STARTS)
def test_both_hear_the_same_audio(vendor: str) -> None:
    encode, decode = CODES_IN[vendor]
    messages = [media_in(vendor, encode(pcm), chunk) for chunk, pcm in enumerate(FRAMES, 1)]
    leg, peer = leg_of(vendor), serializer(vendor)
    theirs = b"".join(asyncio.run(peer.deserialize(message)).audio for message in messages)
    for message in messages:
        leg.receive_message(message, now=0.0)
    ours = b"".join(event.pcm for event in leg.events_received() if isinstance(event, CallAudio))
    assert ours == decode(encode(PCM))
    assert np.max(np.abs(samples(ours) - samples(theirs))) <= 8


def samples(pcm: bytes) -> Any:
    return np.frombuffer(pcm, "<i2").astype(int)


@pytest.mark.parametrize("vendor", STARTS)
def test_they_hear_what_we_say(vendor: str) -> None:
    *messages, _ = messages_of(leg_of(vendor))
    peer = serializer(vendor)
    if vendor == "telnyx":
        peer._params.outbound_encoding = "PCMU"  # the far end hears what goes out
    heard = []
    for message in messages:
        if vendor == "plivo":
            message = json.dumps(json.loads(message) | {"event": "media"})
        heard.append(asyncio.run(peer.deserialize(message)).audio)
    decode = bytes if vendor == "vonage" else ulaw_decode
    assert b"".join(heard) == decode(CODES_OUT[vendor](PCM))


@pytest.mark.parametrize("vendor", ["twilio", "telnyx", "plivo"])
def test_we_hear_what_they_say(vendor: str) -> None:
    peer, leg = serializer(vendor), leg_of(vendor)
    if vendor == "telnyx":
        peer._params.inbound_encoding = "PCMA"  # the far end says what comes in
    for pcm in FRAMES:
        frame = frames.OutputAudioRawFrame(audio=pcm, sample_rate=RATE, num_channels=1)
        message = json.loads(asyncio.run(peer.serialize(frame)))
        leg.receive_message(json.dumps(message | {"event": "media"}), now=0.0)
    ours = b"".join(event.pcm for event in leg.events_received() if isinstance(event, CallAudio))
    error = samples(ours) - samples(PCM)
    # Of the sound there is as much as G.711 leaves of it.
    assert 10 * np.log10(np.mean(samples(PCM) ** 2) / np.mean(error**2)) > 33


KEYS = {
    "twilio": '{"event":"dtmf","dtmf":{"track":"inbound_track","digit":"5"}}',
    "telnyx": '{"event":"dtmf","stream_id":"s","dtmf":{"digit":"5"}}',
    "plivo": '{"event":"dtmf","streamId":"s","dtmf":{"track":"inbound","digit":"5"}}',
    "vonage": '{"event":"websocket:dtmf","digit":"5","duration":260}',
}


@pytest.mark.parametrize("vendor", STARTS)
def test_both_read_keys(vendor: str) -> None:
    leg = leg_of(vendor)
    leg.receive_message(KEYS[vendor], now=0.0)
    assert leg.events_received() == [Dtmf("5")]
    assert asyncio.run(serializer(vendor).deserialize(KEYS[vendor])).button.value == "5"
