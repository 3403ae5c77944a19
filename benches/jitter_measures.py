"""A talk through a jitter buffer, and what is read off the frames that come out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jitter_peers import FRAME_MS, FRAME_SIZE, SAMPLE_RATE, SAMPLES_PER_MS, Contestant, Frame, Player
from jitter_traces import Trace, Turn
from speechwire.codec import resample
from spoken_sentences import HELD_OUT, speak
from spoken_sentences import SAMPLE_RATE as SPOKEN_RATE
from timing import verdict

# The first pop, so that no packet arrives just when a frame is asked for; and what is played after the last packet.
FIRST_POP_MS, REST_MS = 3.0, 600.0
# What all the rest of a call adds to what the buffer holds: network, codec, packets and devices.
OTHER_DELAY_MS = 100.0
# A packet is played if more than half of it is, and a verdict allows for that many packets of a talk.
FEW_PERCENT = 0.05
# How many frames a cross-fade may reach into.
NUM_FADED = 3
# No answer is still heard that long after its last packet.
LONGEST_MS = 20000.0
# From the end of an answer to the next request.
PAUSE_MS = 1000.0


@dataclass(frozen=True)
class Outcome:
    """What a buffer made of a talk.

    Args:
        delay_ms: The mean time from a packet's arrival to its playing (3GPP TS 26.114, clause 8.2.3).
        concealed_percent: How much of what was played stood for missing speech, beyond what the network lost.
        rating: R of ITU-T G.107, from the mean delay and the concealment.
        faults: What is not right in it.
    """

    delay_ms: float
    concealed_percent: float
    rating: float
    faults: Sequence[str]


@dataclass(frozen=True)
class Answers:
    """What became of a server's answers.

    Args:
        start_ms: From the arrival of an answer's first packet to the first frame, on average.
        gap_percent: How much silence stood inside the answers.
        slowed_percent: How much longer they became by slower speech.
        faults: What is not right in it.
    """

    start_ms: float
    gap_percent: float
    slowed_percent: float
    faults: Sequence[str]


def talk(seconds: float) -> NDArray[np.int16]:
    """Return sentences in turn from all voices at 8 kHz, with pauses of 0.3 to 0.7 s and a little noise."""
    rng = np.random.default_rng(0)
    sentences = speak(HELD_OUT)
    parts: list[NDArray[np.float64]] = []
    for n in rng.permutation(len(sentences)):
        pcm = resample(sentences[n].pcm, SPOKEN_RATE, SAMPLE_RATE)
        parts += [np.frombuffer(pcm, "<i2").astype(np.float64), np.zeros(int(rng.uniform(0.3, 0.7) * SAMPLE_RATE))]
    samples = np.resize(np.concatenate(parts), int(seconds * SAMPLE_RATE))
    samples *= 16000 / np.abs(samples).max()
    return np.rint(samples + rng.normal(0, 6, len(samples))).astype(np.int16)


def talkspurts(samples: NDArray[np.int16]) -> list[slice]:
    """Return the packets of each talkspurt with the pause behind it; a pause lasts 200 ms at least."""
    frames = samples[: len(samples) // FRAME_SIZE * FRAME_SIZE].reshape(-1, FRAME_SIZE).astype(np.float64)
    is_loud = (frames**2).mean(axis=1) > 2000
    starts = [0]
    quiet = 0
    for number, loud in enumerate(is_loud):
        if loud and quiet >= 10:
            starts.append(number)
        quiet = 0 if loud else quiet + 1
    return [slice(*edges) for edges in zip(starts, [*starts[1:], len(frames)], strict=True)]


def packets(samples: NDArray[np.int16]) -> list[bytes]:
    return [
        samples[n : n + FRAME_SIZE].astype("<i2").tobytes() for n in range(0, len(samples) - FRAME_SIZE + 1, FRAME_SIZE)
    ]


def play(trace: Trace, contestant: Contestant, payloads: Sequence[bytes]) -> list[tuple[float, Frame]]:
    """Return every frame and when it was asked for."""
    arrivals = trace.in_order_of_arrival()
    frames: list[tuple[float, Frame]] = []
    now_ms, n = FIRST_POP_MS, 0
    while now_ms < len(trace.arrivals_ms) * FRAME_MS + REST_MS:
        while n < len(arrivals) and arrivals[n][0] <= now_ms:
            arrival_ms, number = arrivals[n]
            contestant.push(number, payloads[number], arrival_ms)
            n += 1
        frames.append((now_ms, contestant.pop(now_ms)))
        now_ms += FRAME_MS
    return frames


def measure(trace: Trace, contestant: Contestant, payloads: Sequence[bytes]) -> Outcome:
    """Play a talk and measure it."""
    frames = play(trace, contestant, payloads)
    has_place = [n for n, (_, frame) in enumerate(frames) if not math.isnan(frame.end)]
    frames = frames[has_place[0] : has_place[-1] + 1]
    waits_ms: list[float] = []
    delays_ms: list[float] = []
    for now_ms, frame in frames:
        number = int(frame.end - 1) // FRAME_SIZE if not math.isnan(frame.end) else -1
        if 0 <= number < len(payloads) and not trace.lost[number]:
            # Between the sending of a sample and its playing.
            delay_ms = now_ms + FRAME_MS - frame.end / SAMPLES_PER_MS
            delays_ms.append(delay_ms)
            waits_ms.append(delay_ms - float(trace.transit_ms[number]))
    concealed_percent = 100 * sum(frame.concealed for _, frame in frames) / (len(frames) * FRAME_SIZE)
    delay_ms = float(np.mean(delays_ms) - np.nanmin(trace.transit_ms))
    played = samples_played([frame for _, frame in frames], len(payloads))
    last = int(frames[-1][1].end) // FRAME_SIZE
    arrived = ~trace.lost & (np.arange(len(payloads)) < last)
    missing = arrived & (played < FRAME_SIZE / 2)
    return Outcome(
        float(np.mean(waits_ms)),
        concealed_percent - 100 * float(trace.lost.mean()),
        rating(OTHER_DELAY_MS + delay_ms, max(concealed_percent, 100 * float((missing | trace.lost).mean()))),
        faults(missing, played > 1.5 * FRAME_SIZE, arrived) + misplaced(frames, b"".join(payloads)),
    )


def samples_played(frames: Sequence[Frame], num_packets: int) -> NDArray[np.float64]:
    """Return how many samples of each packet were played, by what the frames say of themselves."""
    played = np.zeros(num_packets + 1)
    for frame in frames:
        if math.isnan(frame.end):
            continue
        start = max(0.0, frame.end - (FRAME_SIZE - frame.concealed + frame.removed))
        number = int(start) // FRAME_SIZE
        while number * FRAME_SIZE < frame.end and number < num_packets:
            edge = (number + 1) * FRAME_SIZE
            played[number] += min(frame.end, edge) - max(start, edge - FRAME_SIZE)
            number += 1
    return played[:num_packets]


def faults(missing: NDArray[np.bool_], repeated: NDArray[np.bool_], arrived: NDArray[np.bool_]) -> list[str]:
    shares = {"did not play": missing, "played twice": repeated & arrived}
    percent = {what: 100 * float(flags.sum()) / float(arrived.sum()) for what, flags in shares.items()}
    return [f"{what} {share:.1f} % of what arrived" for what, share in percent.items() if share > FEW_PERCENT]


def misplaced(frames: Sequence[tuple[float, Frame]], pcm: bytes) -> list[str]:
    """Compare frames that claim to be the sender's own samples with those samples.

    A cross-fade may reach some frames beyond what was made up, sped up or slowed down, so those do not count.
    """
    num_claims = num_wrong = num_since = 0
    for _, frame in frames:
        is_own = frame.pcm is not None and not (math.isnan(frame.end) or frame.concealed or frame.removed)
        num_since = num_since + 1 if is_own else 0
        if frame.pcm is None or num_since <= NUM_FADED:
            continue
        num_claims += 1
        end = 2 * int(frame.end)
        num_wrong += frame.pcm != pcm[end - 2 * FRAME_SIZE : end]
    share = 100 * num_wrong / max(1, num_claims)
    return [f"{share:.1f} % of the frames are not what they say"] if share > FEW_PERCENT else []


def rating(delay_ms: float, loss_percent: float) -> float:
    """Return R of ITU-T G.107 for G.711 with concealment: Ie 0 and Bpl 25.1 (G.113, Appendix I), 93.2 without either.

    The impairment by delay is the usual line with a kink at 177.3 ms (Cole and Rosenbluth, 2001).
    """
    by_delay = 0.024 * delay_ms + 0.11 * max(0.0, delay_ms - 177.3)
    return 93.2 - by_delay - 95 * loss_percent / (loss_percent + 25.1)


def answer(turns: Sequence[Turn], player: Player, payloads: Sequence[bytes]) -> Answers:
    """Play a server's answers, one after the other."""
    starts_ms: list[float] = []
    found: list[str] = []
    silent_ms = played_ms = removed = 0.0
    now_ms, first = FIRST_POP_MS, 0
    for turn in turns:
        request_ms, end = now_ms + PAUSE_MS, first + len(turn.arrivals_ms)
        heard, now_ms = play_turn(turn, player, payloads, first, now_ms)
        found += ["played what was broken off"] * any(frame.end <= first * FRAME_SIZE for _, frame in heard)
        found += ["did not come to the end"] * (turn.cut_ms is None and heard[-1][1].end < end * FRAME_SIZE)
        played = samples_played([frame for _, frame in heard], end)[first : int(heard[-1][1].end) // FRAME_SIZE]
        found += faults(played < FRAME_SIZE / 2, played > 1.5 * FRAME_SIZE, np.ones(len(played), bool))
        starts_ms.append(heard[0][0] - request_ms - float(turn.arrivals_ms[0]))
        silent_ms += heard[-1][0] - heard[0][0] + FRAME_MS - FRAME_MS * len(heard)
        silent_ms += sum(frame.concealed for _, frame in heard) / SAMPLES_PER_MS
        played_ms += FRAME_MS * len(heard)
        removed += sum(frame.removed for _, frame in heard)
        first = end
    slowed_percent = -100 * removed / SAMPLES_PER_MS / played_ms
    return Answers(float(np.mean(starts_ms)), 100 * silent_ms / played_ms, slowed_percent, sorted(set(found)))


def play_turn(
    turn: Turn, player: Player, payloads: Sequence[bytes], first: int, now_ms: float
) -> tuple[list[tuple[float, Frame]], float]:
    """Return what is heard of one answer, its packets numbered from `first` on, and the time of the next pop."""
    arrivals_ms = now_ms + PAUSE_MS + turn.arrivals_ms
    cut_ms = math.inf if turn.cut_ms is None else now_ms + PAUSE_MS + turn.cut_ms
    heard: list[tuple[float, Frame]] = []
    n = 0
    while now_ms < cut_ms and now_ms < arrivals_ms[-1] + LONGEST_MS:
        while n < len(arrivals_ms) and arrivals_ms[n] <= now_ms:
            player.push(first + n, payloads[(first + n) % len(payloads)], float(arrivals_ms[n]))
            n += 1
            if n == len(arrivals_ms):
                player.finish()
        frame = player.pop(now_ms)
        now_ms += FRAME_MS
        if not math.isnan(frame.end):
            heard.append((now_ms - FRAME_MS, frame))
            if frame.end >= (first + len(arrivals_ms)) * FRAME_SIZE:
                break
    if turn.cut_ms is not None:
        player.clear()
    return heard, now_ms


def correct(outcomes: Sequence[Outcome | Answers]) -> str:
    """Return the verdict over several talks: each fault once, at its worst."""
    worst: dict[str, str] = {}
    for outcome in outcomes:
        for fault in outcome.faults:
            kind = "".join(letter for letter in fault if not letter.isdigit())
            worst[kind] = max(worst.get(kind, ""), fault, key=lambda text: (len(text), text))
    return verdict(list(worst.values()))
