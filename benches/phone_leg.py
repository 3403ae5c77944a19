"""Both directions of a telephone call between a carrier's media stream and a speech service.

In: 20 ms of mu-law in the carrier's JSON become 24 kHz PCM in the service's messages of 80 ms.
Out: messages with 80 ms of 48 kHz PCM become 20 ms of mu-law in the carrier's JSON.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import material
from companding import audioop_law, numpy_law
from machine import load_peer
from speechwire.codec import Transcoder, decode_message, encode_audio_message, ulaw_decode, ulaw_encode
from timing import Row, Settings, Table, cells, over, time_interleaved, verdict

Leg = Callable[[str], list[str]]
BASELINE = "audioop, soxr VHQ, json, base64"
SECONDS = 2
STREAM = "MZ0123456789abcdef0123456789abcdef"
CARRIER_BYTES = 160
IN_BYTES, OUT_BYTES = 3840, 7680
TONE_HZ = 1000
TEXT = """\
*In*: a carrier's JSON with 20 ms of mu-law becomes messages with 80 ms of 24 kHz PCM. *Out*: messages with 80 ms of
48 kHz PCM become the carrier's JSON with 20 ms of mu-law. Microseconds of CPU for each second of the call, in brackets
how many times as fast as {baseline}. *Correct*: all frames have their size, and a tone comes through within 0.5 dB with
all else at -30 dB or lower, which is what mu-law leaves. *Held back*: what has not come out when all is fed."""


def carrier_message(payload: str) -> str:
    """Return a message as the carrier sends and takes it."""
    return f'{{"event":"media","streamSid":"{STREAM}","media":{{"payload":"{payload}"}}}}'


def speechwire_legs(loads: Any, b64decode: Any, b64encode: Any) -> tuple[Leg, Leg]:
    """Return both directions on transcoders; the carrier's JSON, whose field is nested, is parsed by others."""
    into = Transcoder("ulaw_8000", "pcm_24000", frame_ms=80)
    out_of = Transcoder("pcm_48000", "ulaw_8000", frame_ms=20)

    def feed_in(text: str) -> list[str]:
        codes = b64decode(loads(text)["media"]["payload"])
        return [encode_audio_message(frame) for frame in into.feed(codes)]

    def feed_out(text: str) -> list[str]:
        frames = out_of.feed(decode_message(text)["audio"])
        return [carrier_message(b64encode(frame).decode()) for frame in frames]

    return feed_in, feed_out


def plain_legs(audioop: Any, soxr: Any) -> tuple[Leg, Leg]:
    """Return what is written first: the standard library and soxr at its best quality."""
    into = soxr.ResampleStream(8000, 24000, 1, dtype="int16", quality="VHQ")
    out_of = soxr.ResampleStream(48000, 8000, 1, dtype="int16", quality="VHQ")
    waiting_in, waiting_out = bytearray(), bytearray()

    def feed_in(text: str) -> list[str]:
        pcm = audioop.ulaw2lin(base64.b64decode(json.loads(text)["media"]["payload"]), 2)
        waiting_in.extend(into.resample_chunk(np.frombuffer(pcm, np.int16)).tobytes())
        frames = take_frames(waiting_in, IN_BYTES)
        return [json.dumps({"type": "audio", "audio": base64.b64encode(frame).decode()}) for frame in frames]

    def feed_out(text: str) -> list[str]:
        pcm = base64.b64decode(json.loads(text)["audio"])
        resampled = out_of.resample_chunk(np.frombuffer(pcm, np.int16)).tobytes()
        waiting_out.extend(audioop.lin2ulaw(resampled, 2))
        media = ({"payload": base64.b64encode(frame).decode()} for frame in take_frames(waiting_out, CARRIER_BYTES))
        return [json.dumps({"event": "media", "streamSid": STREAM, "media": payload}) for payload in media]

    return feed_in, feed_out


def tuned_legs(orjson: Any, pybase64: Any, soxr: Any, decode: Any, quality: str) -> tuple[Leg, Leg]:
    """Return the fastest that could be put together of others: each part by whatever is quickest at that size."""
    into = soxr.ResampleStream(8000, 24000, 1, dtype="int16", quality=quality)
    out_of = soxr.ResampleStream(48000, 8000, 1, dtype="int16", quality=quality)
    encode = numpy_law("ulaw").encode
    waiting_in, waiting_out = bytearray(), bytearray()

    def feed_in(text: str) -> list[str]:
        pcm = decode(pybase64.b64decode(orjson.loads(text)["media"]["payload"]))
        waiting_in.extend(into.resample_chunk(np.frombuffer(pcm, np.int16)).data)
        frames = take_frames(waiting_in, IN_BYTES)
        return [f'{{"type":"audio","audio":"{pybase64.b64encode_as_string(frame)}"}}' for frame in frames]

    def feed_out(text: str) -> list[str]:
        pcm = pybase64.b64decode(orjson.loads(text)["audio"])
        waiting_out.extend(encode(out_of.resample_chunk(np.frombuffer(pcm, np.int16)).data))
        return [carrier_message(pybase64.b64encode_as_string(f)) for f in take_frames(waiting_out, CARRIER_BYTES)]

    return feed_in, feed_out


def take_frames(waiting: bytearray, size: int) -> Iterator[bytes]:
    """Yield the frames that are complete and leave the rest."""
    while len(waiting) >= size:
        yield bytes(waiting[:size])
        del waiting[:size]


def contestants() -> dict[str, Callable[[], tuple[Leg, Leg]] | None]:
    """Return names and constructors; None stands for a library that is not installed."""
    audioop, soxr = load_peer("audioop"), load_peer("soxr")
    orjson, pybase64 = load_peer("orjson"), load_peer("pybase64")
    fast = orjson is not None and pybase64 is not None
    decode = audioop_law(audioop, "ulaw").decode if audioop else numpy_law("ulaw").decode
    return {
        "speechwire, json, base64": lambda: speechwire_legs(json.loads, base64.b64decode, base64.b64encode),
        "speechwire, orjson, pybase64": (
            (lambda: speechwire_legs(orjson.loads, pybase64.b64decode, pybase64.b64encode)) if fast else None
        ),
        BASELINE: (lambda: plain_legs(audioop, soxr)) if audioop and soxr else None,
        "orjson, pybase64, numpy, soxr HQ": (
            (lambda: tuned_legs(orjson, pybase64, soxr, decode, "HQ")) if fast and soxr else None
        ),
    }


def messages_in(pcm: bytes) -> list[str]:
    """Return the carrier's messages for PCM of 8 kHz."""
    frames = material.cut(ulaw_encode(pcm), CARRIER_BYTES)
    return [carrier_message(base64.b64encode(frame).decode()) for frame in frames]


def messages_out(pcm: bytes) -> list[str]:
    """Return the service's messages for PCM of 48 kHz."""
    return [encode_audio_message(frame) for frame in material.cut(pcm, OUT_BYTES)]


def judge(legs: tuple[Leg, Leg]) -> tuple[str, list[str]]:
    """Send a tone both ways; return the verdict and what was held back."""
    sent = (messages_in(material.tone(8000, TONE_HZ, SECONDS)), messages_out(material.tone(48000, TONE_HZ, SECONDS)))
    received = [
        [json.loads(text) for message in messages for text in leg(message)]
        for leg, messages in zip(legs, sent, strict=True)
    ]
    audio_in = [base64.b64decode(message["audio"]) for message in received[0]]
    audio_out = [base64.b64decode(message["media"]["payload"]) for message in received[1]]
    sizes = {len(audio) for audio in audio_in} == {IN_BYTES} and {len(audio) for audio in audio_out} == {CARRIER_BYTES}
    faults = [] if sizes else ["frames of another size"]
    held_back = []
    for name, pcm, sample_rate in (
        ("in", b"".join(audio_in), 24000),
        ("out", ulaw_decode(b"".join(audio_out)), 8000),
    ):
        samples = material.from_pcm(pcm)
        gain_db, spurs_db = material.gain_and_spurs_db(material.middle(samples), sample_rate, TONE_HZ)
        if abs(gain_db) > 0.5 or spurs_db > -30:
            faults.append(f"{name}: {gain_db:+.1f} dB, spurs at {spurs_db:.0f} dB")
        held_back.append(f"{1000 * (SECONDS - len(samples) / sample_rate):.0f} ms")
    return verdict(faults), held_back


def measure(settings: Settings) -> list[Table]:
    """Compare each direction and both."""
    settings.report("telephone leg")
    makers = contestants()
    present = {name: make for name, make in makers.items() if make is not None}
    inbound = messages_in(material.speech(8000, 8000 * SECONDS))
    outbound = messages_out(material.speech(48000, 48000 * SECONDS))
    legs = {name: make() for name, make in present.items()}
    seconds_in = time_interleaved({name: over(leg, inbound) for name, (leg, _) in legs.items()}, settings)
    seconds_out = time_interleaved({name: over(leg, outbound) for name, (_, leg) in legs.items()}, settings)
    both = {name: [a + b for a, b in zip(seconds_in[name], seconds_out[name], strict=True)] for name in legs}
    directions = [cells(seconds, BASELINE, SECONDS) for seconds in (seconds_in, seconds_out, both)]
    rows = []
    for name, make in present.items():
        correct, held_back = judge(make())
        rows.append(Row(name, [direction[name] for direction in directions], correct, held_back))
    return [
        Table(
            title="A telephone leg",
            text=TEXT.format(baseline=BASELINE),
            baseline=BASELINE,
            columns=["in", "out", "both"],
            rows=rows,
            absent=[name for name in makers if name not in present],
            fact_columns=["held back, in", "held back, out"],
        )
    ]
