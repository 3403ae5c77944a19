"""Gradium: recognition, synthesis and interpreting over its documented wire, with the documented Python surface.

The samples of Gradium's documentation run with `from speechwire import gradium` in place of `import gradium`.
"""

from speechwire.gradium import client, pronunciations, speech, stream, usages, voices
from speechwire.gradium.client import GradiumClient
from speechwire.gradium.multiplex import Multiplexer
from speechwire.gradium.results import S2SResult, STTResult, TextWithTimestamps, TTSResult
from speechwire.gradium.resume import ReconnectPolicy
from speechwire.gradium.stream import S2s, S2SStream, Stt, STTStream, Tts, TTSStream
from speechwire.gradium.tokens import TemporaryToken
from speechwire.gradium.wire import S2SOptions, S2SSetup, STTOptions, STTSetup, TTSOptions, TTSSetup
from speechwire.transport import Limits

__all__ = [
    "GradiumClient",
    "Limits",
    "Multiplexer",
    "ReconnectPolicy",
    "S2SOptions",
    "S2SResult",
    "S2SSetup",
    "S2SStream",
    "S2s",
    "STTOptions",
    "STTResult",
    "STTSetup",
    "STTStream",
    "Stt",
    "TTSOptions",
    "TTSResult",
    "TTSSetup",
    "TTSStream",
    "TextWithTimestamps",
    "Tts",
    "TemporaryToken",
    "client",
    "pronunciations",
    "speech",
    "stream",
    "usages",
    "voices",
]
