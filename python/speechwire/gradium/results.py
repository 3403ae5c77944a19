"""What calls return: text with times, and finished audio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from speechwire.gradium import wire

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["S2SResult", "STTResult", "TTSResult", "TextJoiner", "TextWithTimestamps"]


@dataclass(slots=True)
class TextWithTimestamps:
    """A piece of text and its span in seconds: of the output audio that speaks it, or of the input it was heard in."""

    text: str
    start_s: float
    stop_s: float
    client_req_id: str | None = None
    stream_id: int | None = None

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> TextWithTimestamps:
        """Take the fields of a `text` message."""
        start_s = float(message.get("start_s", 0.0))
        return cls(
            text=str(message.get("text", "")),
            start_s=start_s,
            stop_s=float(message.get("stop_s", start_s)),
            client_req_id=message.get("client_req_id"),
            stream_id=message.get("stream_id"),
        )


class TextJoiner:
    """Collects texts with their times: where the end of a text comes in a message of its own, joins the two."""

    def __init__(self) -> None:
        self._waiting: dict[int | None, TextWithTimestamps] = {}

    def feed(self, message: dict[str, Any]) -> list[TextWithTimestamps]:
        """Take any message and return the texts that it completes, in order.

        A text whose end never comes is returned with its start in place of the end.
        """
        kind = message["type"]
        if kind == wire.END_TEXT:
            text = self._waiting.pop(message.get("stream_id"), None)
            if text is None:
                return []
            text.stop_s = float(message["stop_s"])
            return [text]
        if kind == wire.END_OF_STREAM:
            unfinished = list(self._waiting.values())
            self._waiting.clear()
            return unfinished
        if kind != wire.TEXT:
            return []
        text = TextWithTimestamps.from_message(message)
        if "stop_s" in message:
            return [text]
        previous = self._waiting.pop(text.stream_id, None)
        self._waiting[text.stream_id] = text
        return [] if previous is None else [previous]


class _Spoken:
    """Audio in a format that is known, as arrays."""

    raw_data: bytes
    output_format: str

    def pcm16(self) -> NDArray[np.int16]:
        """Return the samples as an int16 array; ValueError unless `output_format` is a pcm format."""
        import numpy as np

        if not self.output_format.startswith("pcm"):
            raise ValueError(f"output_format is not 'pcm', got {self.output_format!r}")
        return np.frombuffer(self.raw_data, dtype="<i2").astype(np.int16, copy=False)

    def pcm(self) -> NDArray[np.float32]:
        """Return the samples as a float32 array in -1.0 to 1.0; ValueError unless `output_format` is a pcm format."""
        import numpy as np

        return self.pcm16().astype(np.float32) / np.float32(32768)


@dataclass
class TTSResult(_Spoken):
    """The whole output of a text-to-speech request.

    Args:
        raw_data: Audio bytes in `output_format`.
        sample_rate: Rate of the audio in Hz.
        output_format: Wire format name that the request asked for.
        request_id: The server's id of the request.
        text_with_timestamps: The words and when they are spoken.
    """

    raw_data: bytes
    sample_rate: int | None
    output_format: str
    request_id: str | None
    text_with_timestamps: list[TextWithTimestamps]


@dataclass
class STTResult:
    """The whole output of a speech-to-text request.

    Args:
        text: All words, joined with spaces.
        text_with_timestamps: The words and when they were spoken.
        request_id: The server's id of the request.
    """

    text: str
    text_with_timestamps: list[TextWithTimestamps]
    request_id: str | None


@dataclass
class S2SResult(_Spoken):
    """The whole output of a speech-to-speech request.

    Args:
        raw_data: Audio bytes in `output_format`.
        sample_rate: Rate of the audio in Hz.
        output_format: Wire format name that the request asked for.
        request_id: The server's id of the request.
        text: All text segments, joined with spaces.
        text_with_timestamps: The segments themselves.
    """

    raw_data: bytes
    sample_rate: int | None
    output_format: str
    request_id: str | None
    text: str
    text_with_timestamps: list[TextWithTimestamps]
