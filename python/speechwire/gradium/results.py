"""What calls return: text with times, and finished audio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["S2SResult", "TextWithTimestamps"]


@dataclass(slots=True)
class TextWithTimestamps:
    """A piece of text and the span of output audio, in seconds, that speaks it."""

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


@dataclass(slots=True)
class S2SResult:
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
