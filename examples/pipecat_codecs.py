"""Speechwire's codec under a pipecat pipeline: behind its resampler interface, and in its serializer for Twilio.

serializer = TwilioSerializer(stream_sid, call_sid, account_sid, auth_token)
transport = FastAPIWebsocketTransport(websocket, FastAPIWebsocketParams(serializer=serializer))

Only public methods of pipecat are overridden. Every frame is answered with its own duration, the delay is a number that
does not change, mu-law is that of ITU-T G.191, and a pause in the stream throws nothing away.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from pipecat.audio.resamplers.base_audio_resampler import BaseAudioResampler
from pipecat.frames.frames import AudioRawFrame, EndFrame, Frame, InputAudioRawFrame, InterruptionFrame
from pipecat.processors.frame_processor import FrameProcessorSetup
from pipecat.serializers.twilio import TwilioFrameSerializer

from speechwire import codec


class StreamResampler(BaseAudioResampler):
    """A stream of mono 16-bit PCM between two rates, which stay what the first call says.

    Args:
        quality: See `speechwire.codec.Resampler`.
    """

    def __init__(self, quality: str = "balanced") -> None:
        self._quality = quality
        self._resampler: codec.Resampler | None = None

    @property
    def delay_ms(self) -> float:
        """How much later the audio comes out than it went in; 0.0 before the first call."""
        return self._resampler.delay_ms if self._resampler else 0.0

    async def resample(self, audio: bytes, in_rate: int, out_rate: int) -> bytes:
        """Feed audio and return as much of it, in duration, as went in."""
        if in_rate == out_rate:
            return audio
        if self._resampler is None:
            self._resampler = codec.Resampler(in_rate, out_rate, quality=self._quality)
        expected = (self._resampler.input_rate, self._resampler.output_rate)
        if expected != (in_rate, out_rate):
            raise ValueError(f"expected {expected[0]} to {expected[1]} Hz, got {in_rate} to {out_rate} Hz")
        return self._resampler.feed(audio)

    async def flush(self) -> bytes:
        """Return the tail, as long as the delay, and start a new stream."""
        return self._resampler.flush() if self._resampler else b""

    async def reset(self) -> None:
        """Forget the stream and start a new one."""
        if self._resampler:
            self._resampler.reset()


class TwilioSerializer(TwilioFrameSerializer):
    """Pipecat's serializer with our codec on its audio; takes the same arguments.

    With `auto_hang_up` off, an EndFrame is answered with the tail. With it on, pipecat ends the call then.
    """

    def __init__(self, stream_sid: str, *args: Any, params: Any = None, **kwargs: Any) -> None:
        self.params = params or self.InputParams()
        super().__init__(stream_sid, *args, params=self.params, **kwargs)
        self.stream_sid = stream_sid
        self.input_resampler, self.output_resampler = StreamResampler(), StreamResampler()
        self.pipeline_rate = 0

    async def setup(self, setup: FrameProcessorSetup) -> None:
        """Learn the rate of the pipeline."""
        await super().setup(setup)
        self.pipeline_rate = self.params.sample_rate or setup.audio_in_sample_rate

    async def serialize(self, frame: Frame) -> str | bytes | None:
        """Return Twilio's message for a frame, or None if there is none."""
        if isinstance(frame, AudioRawFrame):
            rates = frame.sample_rate, self.params.twilio_sample_rate
            return self._media(await self.output_resampler.resample(frame.audio, *rates))
        if isinstance(frame, EndFrame) and not self.params.auto_hang_up:
            return self._media(await self.output_resampler.flush())
        if isinstance(frame, InterruptionFrame):
            await self.output_resampler.reset()
        return await super().serialize(frame)

    async def deserialize(self, data: str | bytes) -> Frame | None:
        """Return the frame for a message of Twilio, or None if there is none."""
        try:
            message = json.loads(data)
        except ValueError:
            return await super().deserialize(data)
        payload = message.get("media", {}).get("payload")
        if message.get("event") != "media" or not payload:
            return await super().deserialize(data)
        pcm = codec.ulaw_decode(base64.b64decode(payload))
        audio = await self.input_resampler.resample(pcm, self.params.twilio_sample_rate, self.pipeline_rate)
        return InputAudioRawFrame(audio=audio, num_channels=1, sample_rate=self.pipeline_rate)

    def _media(self, pcm: bytes) -> str | None:
        if not pcm:
            return None
        payload = base64.b64encode(codec.ulaw_encode(pcm)).decode()
        return json.dumps({"event": "media", "streamSid": self.stream_sid, "media": {"payload": payload}})
