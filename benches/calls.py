"""Many telephone calls at once through the server: are all frames there, are they in time, and what does a call cost.

    python benches/calls.py --calls 100 --seconds 60

The server is `speechwire serve --engine loopback` in a process of its own. Each call is a media stream as Twilio opens
it, full duplex: 20 ms of mu-law every 20 ms, and marks returned as they come. What the caller says comes back through
the whole of a call, so each sample that was sent has to come back once and in order.

The client reads and writes bytes, and takes them apart when the calls are over, so that it is never what is measured.

A frame is late by how long the far end, which plays a frame every 20 ms as soon as it has one, had nothing left when it
came. That is what a listener hears, and where the grid of 20 ms begins anew. Beside it stands how much a frame came
after its place on one grid for the whole call, which lies on its earliest frame: a call that was held up once, by the
server, the machine or this client, may be behind it from then on. The first second is left out, in which the far end's
buffer fills, and so is the last frame of all: no more audio comes to make it whole, so it leaves when the far end has
played what it has, which is 60 ms after its place and no later than it is needed. How long the client left a frame
waiting is told too: where that is long, the machine was busy with something else.

Of what comes back every frame is looked for. It is lost if it is neither there as it was sent nor in a place where the
server has played slower to fill its buffer, which leaves more audio there than was sent and never less. Beside the CPU
of the server stands that of a leg alone, without any network, and of one that is put together from audioop, soxr, json
and base64, both with the engine at 16 kHz.
"""

from __future__ import annotations

import argparse
import base64
import json
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np

import material
import phone_leg
from local_server import cpu_seconds, loopback_server
from machine import describe_machine, load_peer
from speechwire.codec import ulaw_decode, ulaw_encode
from speechwire.telephony import CallAudio, PhoneLeg

FRAME_S = 0.02
FRAME_BYTES = 160
PATH = "telephony/twilio"
STREAM_SID = "MZ{:032x}"
# Frames at the start of a call that come ahead of their time, to fill the far end's buffer.
SETTLING_FRAMES = 50
QUIET_S = 0.5
LATE_MS = 20.0
ENGINE_RATE = 16000
TICK_S = 0.001
MARK = b'"mark"'


@dataclass
class Caller:
    """One call: its socket, what it says, and what it hears, as it came."""

    number: int
    socket: socket.socket
    payloads: list[bytes]
    sid: str
    num_sent: int = 0
    heard: list[tuple[float, bytes]] = field(default_factory=list)
    rest: bytes = b""  # of a message that has not come whole
    is_open: bool = True
    unsent: bytearray = field(default_factory=bytearray)
    first_sent_s: float = 0.0

    def send_frame(self) -> None:
        """Send the next 20 ms."""
        number = self.num_sent
        self.num_sent += 1
        self.send(
            b'{"event":"media","sequenceNumber":"%d","media":{"track":"inbound","chunk":"%d","timestamp":"%d",'
            b'"payload":"%b"},"streamSid":"%b"}'
            % (number + 2, number + 1, number * 20, self.payloads[number], self.sid.encode())
        )

    def send(self, message: bytes) -> None:
        """Send a text message, or the rest of it later."""
        self.unsent += frame_header(len(message)) + message
        self.flush()

    def flush(self) -> None:
        """Write what can be written."""
        try:
            while self.unsent and self.is_open:
                del self.unsent[: self.socket.send(self.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self.is_open = False

    def recv(self) -> None:
        """Keep what is there and when it came, and return marks."""
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.is_open = False
            return
        self.heard.append((time.monotonic(), data))
        if not self.rest and MARK not in data and is_whole(data):
            return
        self.rest += data
        messages, self.rest = split_messages(self.rest)
        for _, message in messages:
            if MARK in message:
                name = json.loads(message)["mark"]["name"]
                self.send(json.dumps({"event": "mark", "streamSid": self.sid, "mark": {"name": name}}).encode())


def frame_header(length: int) -> bytes:
    """Return the head of a client's text message; the mask is of zeros, so that the payload stays as it is."""
    if length < 126:
        return struct.pack("!BB4x", 0x81, 0x80 | length)
    return struct.pack("!BBH4x", 0x81, 0x80 | 126, length)


def is_whole(data: bytes) -> bool:
    """Tell whether this is one short message or more, with nothing left."""
    position = 0
    while position + 4 <= len(data):
        length = data[position + 1]
        position += 2 + length if length < 126 else 4 + int.from_bytes(data[position + 2 : position + 4])
    return position == len(data)


def split_messages(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Return opcode and payload of the server's whole messages, and the rest."""
    found = []
    position = 0
    while position + 2 <= len(data):
        length, start = data[position + 1], position + 2
        if length == 126:
            length, start = int.from_bytes(data[start : start + 2]), start + 2
        elif length == 127:
            length, start = int.from_bytes(data[start : start + 8]), start + 8
        if start + length > len(data) or start > len(data):
            break
        found.append((data[position] & 0x0F, data[start : start + length]))
        position = start + length
    return found, data[position:]


@dataclass(frozen=True, slots=True)
class Heard:
    """What one call heard, taken apart.

    Args:
        audio: Mu-law.
        arrivals_s: When each frame came.
        num_misshapen: Frames that are not of 20 ms, and messages that are of no use.
    """

    audio: bytes
    arrivals_s: list[float]
    num_misshapen: int


def take_apart(heard: list[tuple[float, bytes]]) -> Heard:
    """Return the frames in what was read from a socket."""
    audio = bytearray()
    arrivals_s: list[float] = []
    num_misshapen = 0
    rest = b""
    for arrival_s, data in heard:
        messages, rest = split_messages(rest + data)
        for opcode, payload in messages:
            if opcode != 1:
                continue  # pings
            message = json.loads(payload)
            if message["event"] == "media":
                frame = base64.b64decode(message["media"]["payload"], validate=True)
                num_misshapen += len(frame) != FRAME_BYTES
                audio += frame
                arrivals_s.append(arrival_s)
            else:
                num_misshapen += message["event"] != "mark"
    return Heard(bytes(audio), arrivals_s, num_misshapen)


def count_frames(sent: list[bytes], heard: bytes) -> tuple[int, int]:
    """Return how many frames are lost, and how many are there but played slower.

    Frames are looked for in their order. Those that were slowed down stand between two that came as they were, in at
    least as much audio as was sent; what is missing there is lost.
    """
    num_lost = num_slower = 0
    position = waiting = 0
    for frame in sent:
        # At most a second is ever inserted at once.
        found = heard.find(frame, position, position + (waiting + 1) * FRAME_BYTES + 8000)
        if found < 0:
            waiting += 1
            continue
        room = (found - position) // FRAME_BYTES
        num_lost += max(0, waiting - room)
        num_slower += min(waiting, room)
        position, waiting = found + FRAME_BYTES, 0
    room = (len(heard) - position) // FRAME_BYTES
    return num_lost + max(0, waiting - room), num_slower + min(waiting, room)


def lateness_ms(arrivals_s: list[float]) -> list[float]:
    """Return how late each frame but the last came against a grid of 20 ms on the earliest one."""
    offsets = np.array(arrivals_s) - FRAME_S * np.arange(len(arrivals_s))
    settled = offsets[SETTLING_FRAMES:-1]
    return [] if not len(settled) else list(1000 * (settled - settled.min()))


def dry_ms(arrivals_s: list[float]) -> list[float]:
    """Return for each frame how long a far end that plays as soon as it can had nothing to play before it came."""
    found = []
    played_until_s = arrivals_s[0]
    for arrival_s in arrivals_s:
        found.append(1000 * max(0.0, arrival_s - played_until_s))
        played_until_s = max(played_until_s, arrival_s) + FRAME_S
    return found


def shares(values: list[float]) -> str:
    """Return what half, nearly all and all of the sorted values do not exceed."""
    return "   ".join(
        f"{100 * share:g} % {values[int(share * (len(values) - 1))]:.1f}" for share in (0.5, 0.99, 0.999, 1)
    )


def dial(address: str, number: int, frames: list[bytes]) -> Caller:
    """Open the media stream of one call."""
    url = urlsplit(address)
    connection = socket.create_connection((url.hostname, url.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(
        f"GET {url.path}{PATH} HTTP/1.1\r\nHost: {url.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    if not head.startswith(b"HTTP/1.1 101 "):
        raise SystemExit(f"expected the server to take the call, got {head!r}")
    connection.setblocking(False)
    caller = Caller(number, connection, [base64.b64encode(frame) for frame in frames], STREAM_SID.format(number))
    caller.send(b'{"event":"connected","protocol":"Call","version":"1.0.0"}')
    start = {
        "streamSid": caller.sid,
        "callSid": f"CA{number:032x}",
        "accountSid": "AC" + "0" * 32,
        "tracks": ["inbound"],
        "customParameters": {"target_language": "es"},
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
    }
    caller.send(json.dumps({"event": "start", "sequenceNumber": "1", "start": start, "streamSid": caller.sid}).encode())
    return caller


def speak(callers: list[Caller], num_frames: int) -> float:
    """Let all callers speak, their frames spread over the 20 ms, and hear the rest.

    Returns how late a frame of theirs left at most, in seconds.
    """
    poll = select.epoll()
    by_descriptor = {caller.socket.fileno(): caller for caller in callers}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.EPOLLIN)
    begin_s = time.monotonic() + 0.2
    total = num_frames * len(callers)
    step_s = FRAME_S / len(callers)
    sent, worst_s = 0, 0.0
    quiet_since_s = begin_s + total * step_s
    while (now := time.monotonic()) < quiet_since_s + QUIET_S:
        while sent < total and (due_s := begin_s + sent * step_s) <= now:
            caller = callers[sent % len(callers)]
            if not caller.num_sent:
                caller.first_sent_s = now
            caller.send_frame()
            sent += 1
            worst_s = max(worst_s, now - due_s)
            now = time.monotonic()
        for descriptor, _ in poll.poll(TICK_S):
            caller = by_descriptor[descriptor]
            caller.recv()
            caller.flush()
            quiet_since_s = max(quiet_since_s, now)
            if not caller.is_open:
                poll.unregister(descriptor)
                del by_descriptor[descriptor]
    return worst_s


def hang_up(callers: list[Caller]) -> None:
    """End all calls."""
    for caller in callers:
        caller.send(json.dumps({"event": "stop", "streamSid": caller.sid}).encode())
        caller.socket.close()


def frames_of(number: int, num_frames: int) -> list[bytes]:
    """Return what one caller says, as mu-law: the recording from a place of his own, with a hiss of his own.

    The hiss makes every frame one of its kind, so that it can be told from all others.
    """
    samples = np.frombuffer(material.speech(8000, 8000 * 60), "<i2")
    start = number * 7919 % len(samples)
    speech = np.resize(np.roll(samples, -start), num_frames * FRAME_BYTES)
    hiss = np.random.default_rng(number).integers(-60, 61, len(speech))
    pcm = np.clip(speech // 2 + hiss, -32768, 32767).astype("<i2").tobytes()
    # Mu-law has two codes for nothing, and nobody has to return the same one.
    return material.cut(ulaw_encode(ulaw_decode(ulaw_encode(pcm))), FRAME_BYTES)


Leg = Callable[[str, float], list[str]]


def our_leg() -> Leg:
    """Return a leg of ours with an engine behind that gives back what it hears."""
    leg = PhoneLeg("twilio", sample_rate=ENGINE_RATE, mark_ms=None)
    leg.receive_message(json.dumps({"event": "start", "start": {"streamSid": STREAM_SID.format(0)}}), now=0.0)
    leg.events_received()

    def feed(message: str, now: float) -> list[str]:
        leg.receive_message(message, now=now)
        for event in leg.events_received():
            if isinstance(event, CallAudio):
                leg.send_audio(event.pcm, answer=1, now=now)
        return [str(text) for text in leg.messages_to_send(now=now)]

    return feed


def plain_leg(audioop: Any, soxr: Any) -> Leg:
    """Return the same of what is written first: no pacing, no books, no marks."""
    into = soxr.ResampleStream(8000, ENGINE_RATE, 1, dtype="int16", quality="VHQ")
    out_of = soxr.ResampleStream(ENGINE_RATE, 8000, 1, dtype="int16", quality="VHQ")
    waiting = bytearray()

    def feed(message: str, now: float) -> list[str]:
        pcm = audioop.ulaw2lin(base64.b64decode(json.loads(message)["media"]["payload"]), 2)
        heard = into.resample_chunk(np.frombuffer(pcm, np.int16))
        waiting.extend(audioop.lin2ulaw(out_of.resample_chunk(heard).tobytes(), 2))
        media = ({"payload": base64.b64encode(f).decode()} for f in phone_leg.take_frames(waiting, FRAME_BYTES))
        return [json.dumps({"event": "media", "streamSid": STREAM_SID.format(0), "media": part}) for part in media]

    return feed


def leg_costs(seconds: int = 20, rounds: int = 5) -> dict[str, float]:
    """Return the CPU that a second of a call costs in each leg, in milliseconds; the best of some rounds."""
    audioop, soxr = load_peer("audioop"), load_peer("soxr")
    makers: dict[str, Callable[[], Leg]] = {"speechwire's PhoneLeg": our_leg}
    if audioop is not None and soxr is not None:
        makers["audioop, soxr VHQ, json, base64"] = lambda: plain_leg(audioop, soxr)
    frames = frames_of(0, 50 * seconds)
    messages = [
        json.dumps(
            {
                "event": "media",
                "sequenceNumber": str(number + 2),
                "media": {
                    "track": "inbound",
                    "chunk": str(number + 1),
                    "timestamp": str(20 * number),
                    "payload": base64.b64encode(frame).decode(),
                },
                "streamSid": STREAM_SID.format(0),
            }
        )
        for number, frame in enumerate(frames)
    ]
    costs = dict.fromkeys(makers, float("inf"))
    for _ in range(rounds):
        for name, make in makers.items():
            leg = make()
            begin_s = time.process_time()
            num_frames = sum(len(leg(message, number * FRAME_S)) for number, message in enumerate(messages))
            costs[name] = min(costs[name], 1000 * (time.process_time() - begin_s) / seconds)
            if num_frames < 0.9 * len(messages):
                raise SystemExit(f"expected {name} to return {len(messages)} frames, got {num_frames}")
    return costs


def main() -> None:
    """Run the load once and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    print(describe_machine())
    num_frames = round(arguments.seconds / FRAME_S)
    frames = [frames_of(number, num_frames) for number in range(arguments.calls)]
    with loopback_server() as (address, pid):
        callers = [dial(address, number, frames[number]) for number in range(arguments.calls)]
        server_cpu_s, client_cpu_s, start_s = cpu_seconds(pid), time.process_time(), time.monotonic()
        worst_s = speak(callers, num_frames)
        wall_s = time.monotonic() - start_s
        server_cpu_s, client_cpu_s = cpu_seconds(pid) - server_cpu_s, time.process_time() - client_cpu_s
        is_open = [caller.is_open for caller in callers]
        hang_up(callers)
    heard = [take_apart(caller.heard) for caller in callers]
    counts = [count_frames(sent, call.audio) for sent, call in zip(frames, heard, strict=True)]
    num_lost, num_slower = (sum(column) for column in zip(*counts, strict=True))
    late_ms = sorted(value for call in heard for value in lateness_ms(call.arrivals_s))
    print(f"{arguments.calls} calls of {arguments.seconds:g} s, full duplex (wall {wall_s:.1f} s)")
    print(f"calls cut: {is_open.count(False)}")
    print(
        f"frames sent: {num_frames * arguments.calls}   heard: {sum(len(call.arrivals_s) for call in heard)}   "
        f"lost: {num_lost}   played slower: {num_slower}   misshapen: {sum(call.num_misshapen for call in heard)}"
    )
    dry = sorted(value for call in heard if call.arrivals_s for value in dry_ms(call.arrivals_s))
    p999_ms = max(values[int(0.999 * (len(values) - 1))] if values else float("inf") for values in (dry, late_ms))
    for name, values in (("lateness of a frame", dry), ("behind one grid for the whole call", late_ms)):
        if values:
            print(f"{name}, ms:  {shares(values)}   above {LATE_MS:g}: {sum(value > LATE_MS for value in values)}")
    if dry:
        starts_ms = sorted(
            1000 * (call.arrivals_s[0] - caller.first_sent_s)
            for call, caller in zip(heard, callers, strict=True)
            if call.arrivals_s
        )
        print(f"first frame after, ms:  50 % {starts_ms[len(starts_ms) // 2]:.1f}   worst {starts_ms[-1]:.1f}")
    print(f"the client left a frame waiting for at most {1000 * worst_s:.1f} ms")
    print(
        f"CPU: client {100 * client_cpu_s / wall_s:.0f} %, server {100 * server_cpu_s / wall_s:.0f} % of one core; "
        f"{1000 * server_cpu_s / wall_s / arguments.calls:.2f} ms for a second of a call"
    )
    for name, cost_ms in leg_costs().items():
        print(f"  the leg alone, {name}: {cost_ms:.2f} ms for a second")
    failed = num_lost or p999_ms > LATE_MS or not all(is_open) or any(call.num_misshapen for call in heard)
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
