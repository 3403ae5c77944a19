"""When packets arrive: seeded models of networks, and the least delay that could have been known afterwards.

A trace has one packet for every 20 ms. The models are synthetic; their figures come from these sources:

- wifi: inter-arrival times that spread by 5 to 6 ms at a third of the channel's capacity (Cisco 7920 survey guide),
  with bursts of interference and pauses for scanning and roaming.
- lte: scheduling requests every 10 ms, retransmissions after 8 ms for a tenth of the blocks, handovers of 50 to 90 ms,
  and now and then gaps of up to 400 ms. Delays on LTE have a long right tail (Di Mauro and Liotta on VoIP over LTE-A).
- lte_regime: the same gaps, but in spells of bad coverage instead of at any time.
- congested: a queue of at most 400 ms in front of a link that bulk traffic fills by turns.
- ws_tcp: audio over a WebSocket. A lost segment holds up all that is behind it, for about a round trip, or for the
  200 ms that common TCP stacks take at least before they send again.
- server_rt: a speech server that sends 80 ms at once, and stalls now and then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FRAME_MS = 20.0
Millis = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Trace:
    """What a network did to a talk.

    Args:
        arrivals_ms: When each packet arrived; NaN if it never did. Packet n was sent at n times 20 ms.
    """

    name: str
    arrivals_ms: Millis

    @property
    def lost(self) -> Flags:
        return np.isnan(self.arrivals_ms)

    @property
    def transit_ms(self) -> Millis:
        """How long each packet took."""
        return self.arrivals_ms - sending_times(len(self.arrivals_ms))

    def in_order_of_arrival(self) -> list[tuple[float, int]]:
        """Return time and number of every packet that arrived."""
        order = np.argsort(self.arrivals_ms, kind="stable")
        return [(float(self.arrivals_ms[n]), int(n)) for n in order if not self.lost[n]]


@dataclass(frozen=True)
class Turn:
    """An answer of a server: when its packets arrive, and when somebody interrupts it, if at all."""

    arrivals_ms: Millis
    cut_ms: float | None


def make_trace(name: str, seconds: float, seed: int) -> Trace:
    """Return a trace; the same arguments give the same one."""
    rng = np.random.default_rng([list(MODELS).index(name), seed])
    num_packets = round(seconds * 1000 / FRAME_MS)
    arrivals_ms, lost = MODELS[name](rng, num_packets)
    return Trace(name, np.where(lost, np.nan, arrivals_ms))


def sending_times(num_packets: int) -> Millis:
    return np.arange(num_packets, dtype=np.float64) * FRAME_MS


def wifi(rng: np.random.Generator, num_packets: int) -> tuple[Millis, Flags]:
    contention = 3 + rng.gamma(0.6, 4 / 0.6, num_packets)
    bursts = spells(rng, num_packets, 3.0, (80, 300))
    interference = bursts * rng.uniform(10, 70, num_packets)
    held = stalls(rng, num_packets, 40.0, (80, 220))
    return in_order(contention + interference + held), bursty_loss(rng, num_packets, 0.005, 2.0)


def lte(rng: np.random.Generator, num_packets: int) -> tuple[Millis, Flags]:
    held = np.maximum(stalls(rng, num_packets, 25.0, (50, 90)), stalls(rng, num_packets, 12.0, (100, 400)))
    return in_order(radio(rng, num_packets) + held), bursty_loss(rng, num_packets, 0.002, 1.5)


def lte_regime(rng: np.random.Generator, num_packets: int) -> tuple[Millis, Flags]:
    handovers = stalls(rng, num_packets, 25.0, (50, 90))
    bad = spells(rng, num_packets, 25.0, (4000, 16000))
    gaps = stalls(rng, num_packets, 2.5, (100, 400), bad)
    return in_order(radio(rng, num_packets) + np.maximum(handovers, gaps) + 4 * bad), bursty_loss(
        rng, num_packets, 0.002, 1.5
    )


def congested(rng: np.random.Generator, num_packets: int) -> tuple[Millis, Flags]:
    limit_ms = 400.0
    busy = spells(rng, num_packets, 5.0, (500, 5500))
    change = np.where(busy, rng.normal(2, 9, num_packets), rng.normal(-4, 5, num_packets))
    back_off = rng.uniform(0, 120, num_packets)
    queue, lost = np.zeros(num_packets), np.zeros(num_packets, bool)
    level = 0.0
    for n in range(num_packets):
        level = max(0.0, level + float(change[n]))
        if level > limit_ms:
            # The queue is full: what comes is dropped, and the bulk traffic takes back its pace.
            lost[n] = rng.random() < 0.6
            level = limit_ms - float(back_off[n])
        queue[n] = level
    return in_order(15 + queue + rng.exponential(1.5, num_packets)), lost


def ws_tcp(rng: np.random.Generator, num_packets: int) -> tuple[Millis, Flags]:
    resent = rng.random(num_packets) < 0.003
    quick = rng.random(num_packets) < 0.7
    held = np.where(quick, rng.uniform(60, 120, num_packets), rng.uniform(200, 320, num_packets))
    return in_order(25 + rng.exponential(3, num_packets) + resent * held), np.zeros(num_packets, bool)


def server_rt(rng: np.random.Generator, num_packets: int) -> tuple[Millis, Flags]:
    num_chunks = -(-num_packets // 4)
    made_ms = np.arange(num_chunks) * 4 * FRAME_MS
    stalled = (rng.random(num_chunks) < 0.012) * rng.uniform(80, 350, num_chunks)
    arrivals_ms = np.maximum.accumulate(made_ms + 40 + rng.gamma(0.7, 8 / 0.7, num_chunks) + stalled)
    return np.repeat(arrivals_ms, 4)[:num_packets], np.zeros(num_packets, bool)


MODELS: Mapping[str, Callable[[np.random.Generator, int], tuple[Millis, Flags]]] = {
    "wifi": wifi,
    "lte": lte,
    "lte_regime": lte_regime,
    "congested": congested,
    "ws_tcp": ws_tcp,
    "server_rt": server_rt,
}


def make_turns(seconds: float, seed: int) -> list[Turn]:
    """Return answers of a server that speaks 2.5 times as fast as it is heard, 80 ms at once, and stalls now and then.

    A third of them is interrupted. The times of a turn count from its request.
    """
    rng = np.random.default_rng([len(MODELS), seed])
    turns: list[Turn] = []
    while sum(len(turn.arrivals_ms) for turn in turns) * FRAME_MS < seconds * 1000:
        num_chunks = int(rng.integers(25, 88))
        steps = 32 * rng.lognormal(0, 0.35, num_chunks)
        steps += (rng.random(num_chunks) < 0.05) * rng.uniform(80, 450, num_chunks)
        steps[0] = rng.uniform(180, 420)
        arrivals_ms = np.cumsum(steps)
        cut_ms = None
        if rng.random() < 0.35:
            cut_ms = float(arrivals_ms[0] + rng.uniform(0.25, 0.8) * num_chunks * 80)
        turns.append(Turn(np.repeat(arrivals_ms, 4), cut_ms))
    return turns


def radio(rng: np.random.Generator, num_packets: int) -> Millis:
    """Return the transit of an LTE uplink that is not disturbed."""
    retransmissions = rng.geometric(0.9, num_packets) - 1
    return 22 + rng.uniform(0, 10, num_packets) + 8 * retransmissions + rng.gamma(0.5, 4, num_packets)


def in_order(transit_ms: Millis) -> Millis:
    """Return arrivals on a path where nothing overtakes."""
    return np.maximum.accumulate(sending_times(len(transit_ms)) + transit_ms)


def spells(rng: np.random.Generator, num_packets: int, pause_s: float, span_ms: tuple[float, float]) -> Flags:
    """Return which packets are sent during spells of that length, with exponential pauses between them."""
    flags = np.zeros(num_packets, bool)
    at_ms = rng.exponential(pause_s * 1000)
    while at_ms < num_packets * FRAME_MS:
        end_ms = at_ms + rng.uniform(*span_ms)
        flags[int(at_ms / FRAME_MS) : int(end_ms / FRAME_MS) + 1] = True
        at_ms = end_ms + rng.exponential(pause_s * 1000)
    return flags


def stalls(
    rng: np.random.Generator, num_packets: int, pause_s: float, span_ms: tuple[float, float], where: Flags | None = None
) -> Millis:
    """Return how long each packet waits for the end of a stall, during which nothing is delivered.

    Args:
        rng: Where chance comes from.
        num_packets: How many packets were sent.
        pause_s: The mean time from the end of a stall to the next.
        span_ms: The shortest and the longest stall.
        where: The packets at which a stall may begin; None for all.
    """
    sent_ms = sending_times(num_packets)
    waits = np.zeros(num_packets)
    at_ms = rng.exponential(pause_s * 1000)
    while at_ms < num_packets * FRAME_MS:
        end_ms = at_ms + rng.uniform(*span_ms)
        if where is None or where[int(at_ms / FRAME_MS)]:
            waits = np.maximum(waits, np.where(sent_ms >= at_ms, end_ms - sent_ms, 0))
        at_ms = end_ms + rng.exponential(pause_s * 1000)
    return waits


def bursty_loss(rng: np.random.Generator, num_packets: int, share: float, mean_burst: float) -> Flags:
    """Return which packets are lost by a Gilbert model: runs of geometric length, lost and not lost by turns."""
    num_runs = num_packets // 2 + 1
    runs = np.empty(2 * num_runs, int)
    runs[0::2] = rng.geometric(share / (mean_burst * (1 - share)), num_runs)
    runs[1::2] = rng.geometric(1 / mean_burst, num_runs)
    return np.repeat(np.tile([False, True], num_runs), runs)[:num_packets]


def best_by_talkspurt(trace: Trace, talkspurts: Sequence[slice], price_ms: float) -> tuple[float, float]:
    """Return mean buffering delay and late packets in per cent of the best choice of one delay for each talkspurt.

    Nothing that moves its delay only in the pauses does better; it is known afterwards only. A late packet counts as
    much as `price_ms` of delay for one packet, so that one price after the other gives the whole curve (after Moon,
    Kurose and Towsley, 1998).
    """
    waits: list[Millis] = []
    num_late = num_packets = 0
    for talkspurt in talkspurts:
        transit_ms = np.sort(trace.transit_ms[talkspurt][~trace.lost[talkspurt]])
        if not len(transit_ms):
            continue
        late_after = np.arange(len(transit_ms))[::-1]
        choice = int(np.argmin(transit_ms * len(transit_ms) + price_ms * late_after))
        waits.append(transit_ms[choice] - transit_ms[: choice + 1])
        num_late += int(late_after[choice])
        num_packets += len(transit_ms)
    return float(np.concatenate(waits).mean()), 100 * num_late / num_packets
