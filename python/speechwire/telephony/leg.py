"""One telephone call: messages of the far end in, events out; audio of answers in, messages in time out."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from speechwire.codec import Resampler
from speechwire.errors import AudioError
from speechwire.events import Unknown
from speechwire.telephony.asterisk import ChanWebSocket
from speechwire.telephony.audiosocket import AudioSocket
from speechwire.telephony.events import CallAudio, CallEnded, CallEvent, CallMark, CallStarted, Interruption
from speechwire.telephony.framing import Framing, Mark, Media, Message, Packet, WireEvent
from speechwire.telephony.inbound import Inbound
from speechwire.telephony.ledger import Ledger
from speechwire.telephony.outbound import Outbound
from speechwire.telephony.plivo import Plivo
from speechwire.telephony.telnyx import Telnyx
from speechwire.telephony.twilio import Twilio
from speechwire.telephony.vonage import Vonage

__all__ = ["FRAMINGS", "LegStats", "PhoneLeg"]

# What a jitter buffer can do.
MIN_FRAME_MS: Final = 5
MAX_FRAME_MS: Final = 60

# RTP is not among them: its numbers have to be chosen for each call.
FRAMINGS: Final[Mapping[str, Callable[[str | None], Framing]]] = MappingProxyType(
    {
        "twilio": Twilio,
        "telnyx": Telnyx,
        "plivo": Plivo,
        "vonage": Vonage,
        "audiosocket": AudioSocket,
        "chan_websocket": ChanWebSocket,
    }
)


@dataclass(frozen=True, slots=True)
class LegStats:
    """The counters of a leg, from its start on.

    Args:
        num_frames: Frames sent, those of silence included.
        num_late: Of them, those that left more than a frame after their deadline.
        num_early: Of them, those that went ahead at the start of an answer.
        max_late_ms: How long after its deadline a frame has left at most.
        num_underruns: How often the far end ran dry inside an answer, because no audio was there or nobody asked.
        underrun_ms: For how long in all.
        sent_ms: Audio of answers that was sent.
        dropped_ms: Audio of answers that was not sent, because they were interrupted.
        num_marks_sent: Marks sent.
        num_marks_returned: Of them, those that came back and said that audio was heard.
        num_marks_flushed: Those that came back and did not, because their audio had been cleared.
        received_ms: Audio of the caller.
        num_lost: Frames of the caller that the far end counted and that did not come.
        gap_ms: Time of the caller's audio that is missing by the far end's timestamps.
    """

    num_frames: int
    num_late: int
    num_early: int
    max_late_ms: float
    num_underruns: int
    underrun_ms: float
    sent_ms: float
    dropped_ms: float
    num_marks_sent: int
    num_marks_returned: int
    num_marks_flushed: int
    received_ms: float
    num_lost: int
    gap_ms: float


class PhoneLeg:
    """The state of one call, without I/O and without a clock.

    Feed it what the far end sends, take its events; give it the audio of answers, and send what it says when it says
    it. All times are seconds of one clock that never goes back, such as `time.monotonic`. An answer is what the caller
    hears as one utterance; the application numbers them, each number higher than the last.

    A leg belongs to one task.

    Args:
        framing: "twilio", "telnyx", "plivo", "vonage", "audiosocket" or "chan_websocket", or a framing that was made
            with options of its own, such as `telephony.rtp.Rtp`.
        sample_rate: Rate in Hz of the PCM that the application gives and gets.
        encoding: Wire format name of what is sent, where the framing has a choice; None for its first one.
        frame_ms: Duration of a frame sent.
        mark_ms: A mark is sent after every so much audio of an answer; None for one at its end only.

    Raises:
        AudioError: There is no such framing, or it has no such encoding, or a rate or a duration is not possible.
    """

    def __init__(
        self,
        framing: str | Framing,
        *,
        sample_rate: int = 16000,
        encoding: str | None = None,
        frame_ms: int = 20,
        mark_ms: float | None = 20,
    ) -> None:
        if isinstance(framing, str):
            if framing not in FRAMINGS:
                raise AudioError(f"expected a framing of {', '.join(FRAMINGS)} or an Rtp object, got {framing}")
            framing = FRAMINGS[framing](encoding)
        elif encoding is not None:
            raise AudioError(f"expected the encoding in the framing, got {encoding} beside it")
        if not MIN_FRAME_MS <= frame_ms <= MAX_FRAME_MS:
            raise AudioError(f"expected a frame of {MIN_FRAME_MS} to {MAX_FRAME_MS} ms, got {frame_ms}")
        if mark_ms is not None and not 0 < mark_ms < math.inf:
            raise AudioError(f"expected marks more than 0 ms apart, got {mark_ms}")
        Resampler(sample_rate, 8000)  # refuses a rate that is not possible
        self._framing = framing
        self._sample_rate = sample_rate
        self._frame_ms = frame_ms
        self._mark_ms = mark_ms
        self._events: deque[CallEvent] = deque()
        self._commands: deque[Message] = deque()  # to be sent before any frame
        self._commands_since = 0.0
        self._is_ended = False
        self._inbound = Inbound(sample_rate, frame_ms)
        self._outbound: Outbound | None = None
        self._ledger = Ledger(has_marks=framing.has_marks)

    def receive_message(self, data: Message, *, now: float) -> None:
        """Take one message of the far end, or any piece of its stream of bytes.

        Raises:
            WireError: It breaks the rules of the framing. The leg stays as it was and can go on.
        """
        for event in self._framing.receive_message(data):
            self._receive_event(event, now)

    def events_received(self) -> list[CallEvent]:
        """Return what has happened since the last call, in order."""
        events = list(self._events)
        self._events.clear()
        return events

    def _receive_event(self, event: WireEvent, now: float) -> None:
        if self._is_ended:
            return
        if isinstance(event, Media):
            self._events.extend(map(CallAudio, self._inbound.feed(event)))
        elif isinstance(event, Packet):
            self._inbound.push(event, now)
        elif isinstance(event, Mark):
            self._receive_mark(event, now)
        elif isinstance(event, CallStarted):
            self._start(now)
            self._events.append(event)
        elif isinstance(event, CallEnded):
            self._is_ended = True
            self._commands.clear()
            if self._outbound is not None:
                self._outbound.drop(now)
            self._events.append(event)
        else:
            self._events.append(event)

    def _receive_mark(self, mark: Mark, now: float) -> None:
        if not self._ledger.is_ours(mark.name):
            self._events.append(Unknown(mark.message))
            return
        sent = self._ledger.return_mark(mark.name, now)
        if sent is not None:
            self._events.append(CallMark(sent.answer, sent.place_ms, sent.ended))

    def _start(self, now: float) -> Outbound | None:
        """Return the way out, which is there as soon as the framing knows its format."""
        if self._outbound is None and self._framing.output_format is not None:
            self._outbound = Outbound(
                self._framing,
                self._ledger,
                sample_rate=self._sample_rate,
                frame_ms=self._frame_ms,
                mark_ms=self._mark_ms,
                now=now,
            )
        return self._outbound

    def send_audio(self, pcm: bytes, *, answer: int, now: float) -> None:
        """Take audio of an answer: PCM at the leg's rate, cut anywhere.

        A new number ends the answer before it. Audio of an answer that has ended or was interrupted is dropped and
        counted, and so is all after the end of the call.

        Raises:
            AudioError: The call has not started yet, or two minutes of audio wait already.
        """
        outbound = self._start(now)
        if outbound is None:
            raise AudioError(f"expected a call that has started, got {len(pcm)} bytes before its start")
        if self._is_ended:
            outbound.refuse(pcm)
        else:
            self._command(outbound.feed(pcm, answer, now), now)

    def end_answer(self, answer: int, *, now: float) -> None:
        """Say that nothing more of an answer comes: its last frame is filled up and sent."""
        if self._outbound is not None and not self._is_ended:
            self._command(self._outbound.end(answer, now), now)

    def interrupt(self, *, now: float) -> Interruption:
        """Cut off what is being said, at the far end too, and say how far it came.

        Nothing of any answer that has begun is sent any more, nor what still comes for it. Marks that come back from
        now on confirm nothing: they may stand in audio that was not played.
        """
        outbound = self._start(now)
        if outbound is None or self._is_ended:
            return Interruption(None, 0.0 if self._framing.has_marks else None, 0.0, 0.0)
        interruption, messages = outbound.interrupt(now)
        self._command(messages, now)
        return interruption

    def _command(self, messages: list[Message], now: float) -> None:
        if messages:
            self._commands.extend(messages)
            self._commands_since = now

    def messages_to_send(self, *, now: float) -> list[Message]:
        """Return all that is due: commands first, then frames with their marks, in order.

        Where packets come in, the caller's audio is among the events after this.
        """
        outbound = self._start(now)
        if self._is_ended:
            return []
        self._events.extend(map(CallAudio, self._inbound.pop(now)))
        messages = list(self._commands)
        self._commands.clear()
        return messages if outbound is None else messages + outbound.send(now)

    def next_deadline(self) -> float | None:
        """Return when `messages_to_send` is to be called again.

        Returns:
            A time that may have passed, or None if nothing is to be done before another method was called.
        """
        if self._is_ended:
            return None
        if self._commands:
            return self._commands_since
        if self._outbound is None and self._framing.output_format is not None:
            return -math.inf  # nobody has to say first that the call has started
        inbound = self._inbound.deadline
        outbound = None if self._outbound is None else self._outbound.deadline
        if inbound is None or outbound is None:
            return outbound if inbound is None else inbound
        return min(inbound, outbound)

    @property
    def unsent_ms(self) -> float:
        """Audio of answers that was taken and has not left yet; an application that is far ahead waits for less."""
        return 0.0 if self._outbound is None else self._outbound.unsent_ms

    @property
    def stats(self) -> LegStats:
        """The counters as they stand."""
        inbound, outbound, ledger = self._inbound, self._outbound, self._ledger
        return LegStats(
            num_frames=outbound.num_frames if outbound else 0,
            num_late=outbound.pacer.num_late if outbound else 0,
            num_early=outbound.pacer.num_early if outbound else 0,
            max_late_ms=outbound.pacer.max_late_ms if outbound else 0.0,
            num_underruns=outbound.num_underruns if outbound else 0,
            underrun_ms=outbound.underrun_ms if outbound else 0.0,
            sent_ms=outbound.sent_ms if outbound else 0.0,
            dropped_ms=outbound.dropped_ms if outbound else 0.0,
            num_marks_sent=ledger.num_marks_sent,
            num_marks_returned=ledger.num_marks_returned,
            num_marks_flushed=ledger.num_marks_flushed,
            received_ms=inbound.received_ms,
            num_lost=inbound.num_lost,
            gap_ms=inbound.gap_ms,
        )
