"""The audio codec: G.711, resampling, framing, WAV, Ogg Opus and audio messages.

Functions take any object with the buffer protocol and return `bytes`; only the resampler answers a numpy array with
an array. Streaming objects belong to one stream: feed it cut anywhere, flush it at the end. Importing this module
loads nothing but the extension.
"""

from __future__ import annotations

from speechwire._core import (
    FrameSlicer,
    JitterBuffer,
    JitterFrame,
    JitterStats,
    OggOpusReader,
    OggOpusWriter,
    Resampler,
    Transcoder,
    WavReader,
    WavWriter,
    alaw_decode,
    alaw_encode,
    alaw_to_ulaw,
    build_info,
    decode_message,
    encode_audio_message,
    pcm_from_float,
    pcm_to_float,
    resample,
    ulaw_decode,
    ulaw_encode,
    ulaw_to_alaw,
)

__all__ = [
    "ulaw_encode",
    "ulaw_decode",
    "alaw_encode",
    "alaw_decode",
    "ulaw_to_alaw",
    "alaw_to_ulaw",
    "pcm_from_float",
    "pcm_to_float",
    "Resampler",
    "resample",
    "FrameSlicer",
    "JitterBuffer",
    "JitterFrame",
    "JitterStats",
    "encode_audio_message",
    "decode_message",
    "Transcoder",
    "WavReader",
    "WavWriter",
    "OggOpusReader",
    "OggOpusWriter",
    "build_info",
]
