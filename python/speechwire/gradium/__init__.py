"""Gradium: speech-to-speech over its documented wire, with the documented Python surface.

The samples of Gradium's documentation run with `from speechwire import gradium` in place of `import gradium`.
"""

from speechwire.gradium import client
from speechwire.gradium.client import GradiumClient
from speechwire.gradium.results import S2SResult, TextWithTimestamps
from speechwire.gradium.stream import S2s, S2SStream
from speechwire.gradium.wire import S2SSetup
from speechwire.transport import Limits

__all__ = ["GradiumClient", "Limits", "S2SResult", "S2SSetup", "S2SStream", "S2s", "TextWithTimestamps", "client"]
