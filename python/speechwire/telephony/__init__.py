"""Telephone calls: the media streams of carriers and of Asterisk, without I/O and without a framework.

`PhoneLeg` is one call. Its messages come and go over whatever the application has: a WebSocket of any web framework, a
TCP connection, UDP packets.
"""

from speechwire.telephony.events import CallAudio, CallEnded, CallEvent, CallMark, CallStarted, Dtmf, Interruption
from speechwire.telephony.leg import LegStats, PhoneLeg

__all__ = [
    "CallAudio",
    "CallEnded",
    "CallEvent",
    "CallMark",
    "CallStarted",
    "Dtmf",
    "Interruption",
    "LegStats",
    "PhoneLeg",
]
