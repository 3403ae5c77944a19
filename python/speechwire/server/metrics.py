"""What the server does and has done, in numbers for a monitor to fetch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Final

from speechwire.events import Start
from speechwire.server.request import Request
from speechwire.telephony import LegStats

__all__ = ["CONTENT_TYPE", "Metrics", "Outcome"]

# Prometheus, "Exposition formats": the text format, version 0.0.4.
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_USED: Final = (
    ("audio_heard_seconds_total", "Audio that engines were given."),
    ("audio_spoken_seconds_total", "Audio that engines gave."),
    ("busy_seconds_total", "Work of the engines' sessions, with the wait for their turns."),
)
# Of telephone legs, by their names there.
_FRAMES: Final = {
    "num_frames": "Frames sent in telephone calls.",
    "num_late": "Those of them that left more than a frame after their time.",
    "num_underruns": "Times that a far end ran dry inside of an answer.",
}


class Outcome(Enum):
    """How a request ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    REFUSED = "refused"  # there was no place for it
    DROPPED = "dropped"  # the client went away, or the server stopped


class Metrics:
    """Requests that run, with how much of the time that their audio lasts they took, and totals of all."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[str, Request]] = {}
        self._num_waiting = 0
        self._ended: Counter[tuple[str, str]] = Counter()
        self._used: dict[str, list[float]] = {}  # by kind, in the order of _USED
        self._calls: Counter[tuple[str, str]] = Counter()
        self._frames: Counter[str] = Counter()

    @property
    def num_running(self) -> int:
        """Requests that an engine's session works for."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Requests that wait for a place."""
        return self._num_waiting

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A request waits for a place while the block lasts."""
        self._num_waiting += 1
        try:
            yield
        finally:
            self._num_waiting -= 1

    @contextmanager
    def running(self, request_id: str, start: Start, request: Request) -> Iterator[None]:
        """A request runs while the block lasts."""
        kind = _kind(start)
        self._running[request_id] = kind, request
        try:
            yield
        finally:
            del self._running[request_id]
            _add(self._used.setdefault(kind, [0.0] * len(_USED)), request)

    def count_end(self, start: Start, outcome: Outcome) -> None:
        """A request has ended, whether or not it ever ran."""
        self._ended[_kind(start), outcome.value] += 1

    def count_call(self, framing: str, reason: str, stats: LegStats) -> None:
        """A telephone call has ended, whether or not it ever began."""
        self._calls[framing, reason] += 1
        for name in _FRAMES:
            self._frames[name] += getattr(stats, name)

    def text(self) -> str:
        """Return everything in Prometheus's text format.

        The real-time factor is seconds of work for a second of audio, heard or spoken, whichever is more: above 1.0 a
        session falls behind.
        """
        kinds = Counter(kind for kind, _ in self._running.values())
        used = {kind: [*seconds] for kind, seconds in self._used.items()}
        for kind, request in self._running.values():
            _add(used.setdefault(kind, [0.0] * len(_USED)), request)
        lines = [
            *_family("requests_running", "gauge", "Requests that run.", [(f'kind="{k}"', n) for k, n in kinds.items()]),
            *_family("requests_waiting", "gauge", "Requests that wait for a place.", [("", self._num_waiting)]),
            *_family(
                "requests_ended_total",
                "counter",
                "Requests that have ended.",
                [(f'kind="{kind}",outcome="{outcome}"', number) for (kind, outcome), number in self._ended.items()],
            ),
        ]
        for number, (name, text) in enumerate(_USED):
            samples = [(f'kind="{kind}"', seconds[number]) for kind, seconds in used.items()]
            lines += _family(name, "counter", text, samples)
        lines += _family(
            "calls_ended_total",
            "counter",
            "Telephone calls that have ended.",
            [(f'framing="{framing}",reason="{reason}"', number) for (framing, reason), number in self._calls.items()],
        )
        for name, number in self._frames.items():
            lines += _family(f"call_{name.removeprefix('num_')}_total", "counter", _FRAMES[name], [("", number)])
        factors = [
            (f'kind="{kind}",request_id="{request_id}"', _real_time_factor(request))
            for request_id, (kind, request) in self._running.items()
        ]
        lines += _family("request_real_time_factor", "gauge", "Real-time factor of each request that runs.", factors)
        return "".join(f"{line}\n" for line in lines)


def _kind(start: Start) -> str:
    if start.source_format is None:
        return "synthesis"
    return "recognition" if start.target_format is None else "interpreting"


def _add(used: list[float], request: Request) -> None:
    for number, seconds in enumerate((request.heard_s, request.spoken_s, request.session.busy_s)):
        used[number] += seconds


def _real_time_factor(request: Request) -> float:
    audio_s = max(request.heard_s, request.spoken_s)
    return request.session.busy_s / audio_s if audio_s else 0.0


def _family(name: str, kind: str, text: str, samples: list[tuple[str, float]]) -> Iterator[str]:
    yield f"# HELP speechwire_{name} {text}"
    yield f"# TYPE speechwire_{name} {kind}"
    for labels, value in samples:
        yield f"speechwire_{name}{f'{{{labels}}}' if labels else ''} {round(value, 6)!r}"
