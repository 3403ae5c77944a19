"""The audio core of Speechwire, written in Rust; `speechwire.codec` re-exports it.

PCM is signed 16-bit little-endian and mono unless a name says otherwise. Where an argument is a `Buffer`, any object
with a C-contiguous buffer of bytes will do, and for PCM one of int16 items as well. `bytes` are borrowed, everything
else is copied first. Long buffers are worked on with other threads running.
"""

from typing import Any, Literal, TypeAlias, TypedDict, final, overload, type_check_only

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

__all__ = [
    "FrameSlicer",
    "JitterBuffer",
    "JitterFrame",
    "JitterStats",
    "OggOpusReader",
    "OggOpusWriter",
    "Resampler",
    "Transcoder",
    "WavReader",
    "WavWriter",
    "alaw_decode",
    "alaw_encode",
    "alaw_to_ulaw",
    "audioop_add",
    "audioop_adpcm2lin",
    "audioop_alaw2lin",
    "audioop_avg",
    "audioop_avgpp",
    "audioop_bias",
    "audioop_byteswap",
    "audioop_cross",
    "audioop_findfactor",
    "audioop_findfit",
    "audioop_findmax",
    "audioop_getsample",
    "audioop_lin2adpcm",
    "audioop_lin2alaw",
    "audioop_lin2lin",
    "audioop_lin2ulaw",
    "audioop_max",
    "audioop_maxpp",
    "audioop_minmax",
    "audioop_mul",
    "audioop_ratecv",
    "audioop_reverse",
    "audioop_rms",
    "audioop_tomono",
    "audioop_tostereo",
    "audioop_ulaw2lin",
    "build_info",
    "decode_message",
    "encode_audio_message",
    "pcm_from_float",
    "pcm_to_float",
    "resample",
    "ulaw_decode",
    "ulaw_encode",
    "ulaw_to_alaw",
]

# numpy declares the buffer protocol to type checkers only from Python 3.12 on.
_Buffer: TypeAlias = Buffer | NDArray[Any]

@type_check_only
class _BuildInfo(TypedDict):
    version: str
    profile: Literal["release", "debug"]
    target: str
    cpu_features: list[str]
    simd: str

def build_info() -> _BuildInfo:
    """Tell what was built.

    Returns:
        The version, the profile, the target as architecture and system, the CPU features that the code may use, and
        the instruction set that the kernels of the resampler and of G.711 were chosen for.
    """

def ulaw_encode(pcm: _Buffer, /) -> bytes:
    """Encode PCM in G.711 mu-law, one code per sample, equal to ITU-T G.191 on every input.

    Raises:
        AudioError: The PCM ends inside a sample.
    """

def ulaw_decode(codes: _Buffer, /) -> bytes:
    """Decode G.711 mu-law to PCM, two bytes per code; the codes 0x7f and 0xff are both 0."""

def alaw_encode(pcm: _Buffer, /) -> bytes:
    """Encode PCM in G.711 A-law, one code per sample, equal to ITU-T G.191 on every input.

    Raises:
        AudioError: The PCM ends inside a sample.
    """

def alaw_decode(codes: _Buffer, /) -> bytes:
    """Decode G.711 A-law to PCM, two bytes per code; there is no zero, silence is 8 or -8."""

def ulaw_to_alaw(codes: _Buffer, /) -> bytes:
    """Convert mu-law codes to A-law: the same as to decode and encode again."""

def alaw_to_ulaw(codes: _Buffer, /) -> bytes:
    """Convert A-law codes to mu-law: the same as to decode and encode again."""

def pcm_from_float(samples: _Buffer, /) -> bytes:
    """Convert 32-bit little-endian floats to PCM.

    Full scale is 1.0, which stands for 32768. Values are rounded half to even and saturate; NaN becomes 0.

    Args:
        samples: Bytes or float32 items.

    Raises:
        AudioError: The buffer ends inside a sample or has other items.
    """

def pcm_to_float(pcm: _Buffer, /) -> bytes:
    """Convert PCM to 32-bit little-endian floats in -1.0 to 1.0 - 2**-15.

    Raises:
        AudioError: The PCM ends inside a sample.
    """

@final
class Resampler:
    """Resamples a stream of mono audio with a linear-phase polyphase filter.

    After n samples in all, exactly ceil(n * output_rate / input_rate) have come out, so a 20 ms chunk is answered with
    20 ms from the first call on; the delay of the filter stands at the start as near-silence. Any cutting of the input
    gives the same bits, bytes inside a sample included. Digital silence stays silence: there is no dither.

    A resampler belongs to one stream and one thread at a time: a call from another thread while a long chunk is worked
    on is a `RuntimeError`.

    The figures, measured on the coefficients as they are used, with Nq the Nyquist frequency of the lower rate. The
    delay is at a lower rate of 8 kHz, shrinks in proportion to it, and is rounded up to a whole output sample.

    ===========  ================================  ==========  ===================  ========
    quality      ripple                            -0.1 dB at  rejection            delay
    ===========  ================================  ==========  ===================  ========
    balanced     0.003 dB to .60, 0.020 dB to .90  .905 Nq     101 dB from 1.00 Nq  5.875 ms
    low_latency  0.006 dB to .60, 0.020 dB to .90  .907 Nq     98 dB from 1.10 Nq   2.875 ms
    high         0.006 dB to .60, 0.012 dB to .93  .933 Nq     131 dB from 1.00 Nq  9.875 ms
    ===========  ================================  ==========  ===================  ========

    With `low_latency` the band from 0.9 to 1.1 Nq is not free of images: 12 dB at Nq. Where the lower rate is around
    22.05 kHz, shorter kernels hold the delay to 2.0 ms (balanced, 100 dB) and 1.0 ms (low_latency, 95 dB).

    The last bit of a float, and seldom that of a 16-bit sample, may differ between machines with and without fused
    multiplication; on one machine the same input always gives the same bits.

    Args:
        input_rate: In Hz, 1000 to 384000.
        output_rate: In Hz, 1000 to 384000. Equal rates pass the audio through without delay.
        quality: How much delay is spent on the filter.
        sample_format: How samples are stored on both sides: 16-bit PCM, or little-endian floats with full scale 1.0.
            A float that is not finite counts as silence.
        variable: Let `ratio_ppm` vary the ratio, to follow the clock of a sender. Equal rates are filtered then too,
            and the number of outputs is right on average: it may be one off that of the rates.

    Raises:
        AudioError: A rate is out of range, a name is unknown, or the rates have so large a common multiple that
            their coefficients would take more than 4 MiB.
    """

    def __new__(
        cls,
        input_rate: int,
        output_rate: int,
        *,
        quality: Literal["balanced", "low_latency", "high"] = "balanced",
        sample_format: Literal["s16", "f32"] = "s16",
        variable: bool = False,
    ) -> Resampler: ...
    @property
    def input_rate(self) -> int:
        """The rate of the input in Hz."""

    @property
    def output_rate(self) -> int:
        """The rate of the output in Hz."""

    @property
    def ratio_ppm(self) -> float:
        """How many more outputs per input there are than the rates say, in parts per million, -1000 to 1000.

        It can be set where the resampler is `variable`, between any two chunks: it counts from the next output on, and
        the waveform stays continuous. With a sender whose clock is 50 ppm fast, -50 keeps the output at our own.
        A positive value plays slower and lower: 1000 ppm are less than 2 hundredths of a semitone.

        Raises:
            AudioError: The ratio is fixed, or the value is out of range.
        """

    @ratio_ppm.setter
    def ratio_ppm(self, ratio_ppm: float, /) -> None: ...
    @property
    def delay_samples(self) -> int:
        """The delay of the filter in output samples, always a whole number."""

    @property
    def delay_ms(self) -> float:
        """The delay of the filter in milliseconds."""

    @overload
    def feed(self, chunk: NDArray[np.int16], /) -> NDArray[np.int16]: ...
    @overload
    def feed(self, chunk: NDArray[np.float32], /) -> NDArray[np.float32]: ...
    @overload
    def feed(self, chunk: Buffer, /) -> bytes:
        """Feed samples and return the outputs they give.

        A sample that the chunk cuts is kept for the next call; call `flush` at the end.

        Args:
            chunk: Samples in the sample format. A numpy array has to have one dimension and the matching dtype,
                int16 or float32.

        Returns:
            `bytes`, or an array of the same dtype for an array.

        Raises:
            AudioError: The array has another shape or dtype, or the buffer is not C-contiguous.
        """

    def flush(self) -> Any:
        """Return the outputs that the delay still holds and start a new stream.

        Returns:
            `delay_samples` samples, or none if nothing was fed; an array if the last chunk was one, else `bytes`.

        Raises:
            AudioError: The stream ends inside a sample; it stays as it is, so the missing bytes can be fed.
        """

    def reset(self) -> None:
        """Forget the stream and start a new one."""

@overload
def resample(
    pcm: NDArray[np.int16],
    input_rate: int,
    output_rate: int,
    *,
    quality: Literal["balanced", "low_latency", "high"] = "balanced",
    sample_format: Literal["s16"] = "s16",
) -> NDArray[np.int16]: ...
@overload
def resample(
    pcm: NDArray[np.float32],
    input_rate: int,
    output_rate: int,
    *,
    quality: Literal["balanced", "low_latency", "high"] = "balanced",
    sample_format: Literal["f32"],
) -> NDArray[np.float32]: ...
@overload
def resample(
    pcm: Buffer,
    input_rate: int,
    output_rate: int,
    *,
    quality: Literal["balanced", "low_latency", "high"] = "balanced",
    sample_format: Literal["s16", "f32"] = "s16",
) -> bytes:
    """Resample a whole mono recording, with the delay trimmed.

    Args:
        pcm: Samples in the sample format; see `Resampler.feed`.
        input_rate: In Hz, 1000 to 384000.
        output_rate: In Hz, 1000 to 384000.
        quality: See `Resampler`; there is no delay here, only its cost.
        sample_format: See `Resampler`.

    Returns:
        round(n * output_rate / input_rate) samples, as `bytes` or as an array of the same dtype for an array.

    Raises:
        AudioError: As for `Resampler`, or the samples end inside one.
    """

@final
class FrameSlicer:
    """Cuts a stream of bytes into frames of a fixed size.

    Args:
        frame_bytes: The size of a frame, at least 1.

    Raises:
        AudioError: The size is 0.
    """

    def __new__(cls, frame_bytes: int) -> FrameSlicer: ...
    @property
    def frame_bytes(self) -> int:
        """The size of a frame."""

    @property
    def pending_bytes(self) -> int:
        """How many bytes wait for the rest of their frame."""

    def feed(self, chunk: _Buffer, /) -> list[bytes]:
        """Feed bytes and return the frames they complete.

        Left-over bytes are kept for the next call; call `flush` at the end.
        """

    def flush(self, pad: bytes | None = None) -> bytes:
        """Return the left-over bytes and start a new stream.

        Args:
            pad: One byte that fills the frame up, or None to get the bytes as they are.

        Returns:
            At most one frame; empty if nothing was left over, with or without a pad.

        Raises:
            AudioError: The pad is not one byte.
        """

@final
class JitterFrame:
    """One frame to be played, out of a `JitterBuffer`."""

    @property
    def pcm(self) -> bytes:
        """The samples; always a whole frame."""

    @property
    def kind(self) -> Literal["speech", "concealment", "stretched", "compressed", "silence"]:
        """What the frame is made of.

        "concealment" stands for the most part for speech that is missing; "stretched" and "compressed" are speech a
        little slower or faster; "silence" is nothing to say: before the first packet, between talkspurts, or a pause
        drawn out while the next packet is late.
        """

    @property
    def timestamp(self) -> float:
        """The sender's clock just after the frame, in samples, unwrapped; NaN where all of the frame was made up."""

    @property
    def concealed(self) -> int:
        """How many samples stand for speech that is missing."""

    @property
    def accelerated(self) -> int:
        """How many samples were taken out on the way."""

    @property
    def expanded(self) -> int:
        """How many samples were put in that stand for nothing."""

@final
class JitterStats:
    """What happened in a `JitterBuffer` so far, and its delay as it is."""

    @property
    def target_delay_ms(self) -> float:
        """The delay aimed at, in ms above the fastest packet of late; in playout mode what it gathers first."""

    @property
    def delay_ms(self) -> float:
        """The delay of the last frame, counted likewise; in playout mode how much waits to be played."""

    @property
    def jitter_ms(self) -> float:
        """The interarrival jitter in ms (RFC 3550, section 6.4.1)."""

    @property
    def num_received(self) -> int:
        """Packets that came, without duplicates."""

    @property
    def num_lost(self) -> int:
        """Packets that were sent, as the sequence numbers say, and that have not come."""

    @property
    def num_late(self) -> int:
        """Packets that came too late to be played, or found no room after 10 s without a `pop`."""

    @property
    def num_duplicates(self) -> int:
        """Packets that came once more."""

    @property
    def num_reordered(self) -> int:
        """Packets that others had overtaken."""

    @property
    def num_underruns(self) -> int:
        """How often there was nothing to play although more came later."""

    @property
    def concealed_samples(self) -> int:
        """Samples that stood for missing speech."""

    @property
    def accelerated_samples(self) -> int:
        """Samples that were taken out."""

    @property
    def expanded_samples(self) -> int:
        """Samples that were put in."""

@final
class JitterBuffer:
    """Evens out when packets come: takes them as they are, and gives a whole frame whenever it is asked for one.

    The clock is the caller's: the same calls give the same frames, bit for bit. A time before the last one counts as
    the last one. Nothing is allocated after construction but the frames that are returned.

    Mode "network" is for speech sent in real time over a network that delays, loses and reorders packets. The delay
    adapts: it is that of the cheapest of many virtual playouts, which are charged in one unit for what they hold back,
    conceal and stretch. What comes late is waited for and played, missing packets are concealed (at least as well as
    ITU-T G.711 Appendix I), and the delay is brought to its target by taking pitch periods out or putting some in.

    Mode "playout" is for audio that a server sends in bursts, faster than it is spoken, over a connection that loses
    nothing: it is played in the order it came, begins early, is slowed down while little of it waits, and is never sped
    up. An empty buffer falls silent and gathers 60 ms before it goes on. Call `finish` when an answer is complete.

    Args:
        sample_rate: In Hz, 8000 to 48000.
        frame_ms: How much a frame lasts, 5 to 60 ms and a whole number of samples.
        mode: What the audio is.
        loss_price_ms: Network mode: the delay, in ms, that one per cent less of concealment is worth, 0 to 10000.
        drop_late: Network mode: conceal what comes late and go on, for conversation only, rather than wait for it.
        start_ms: Playout mode: how much to gather before an answer begins, 0 to 60000 ms.

    Raises:
        AudioError: An argument is out of its range, or a frame not a whole number of samples.
    """

    def __new__(
        cls,
        sample_rate: int,
        *,
        frame_ms: float = 20.0,
        mode: Literal["network", "playout"] = "network",
        loss_price_ms: float = 100.0,
        drop_late: bool = False,
        start_ms: float = 0.0,
    ) -> JitterBuffer: ...
    @property
    def frame_size(self) -> int:
        """How many samples a frame has."""

    @property
    def stats(self) -> JitterStats:
        """What happened so far, and the delay as it is."""

    def push(self, seq: int, timestamp: int, payload: _Buffer, *, now: float) -> None:
        """Put in a packet.

        Args:
            seq: Its sequence number, 16 bits that may wrap. Playout mode does not look at it.
            timestamp: Its first sample on the sender's clock, 32 bits that may wrap.
            payload: PCM of any length; usually 10 to 80 ms.
            now: When it came, in seconds, on any clock that only goes forward.

        Raises:
            AudioError: The payload ends inside a sample, is too long for the buffer (10 s, or 120 s waiting in playout
                mode), or the time is not a finite one; in playout mode also where what waits has more than 256 places
                at which the timestamp does not follow on. What waits stays as it is.
        """

    def pop(self, *, now: float) -> JitterFrame:
        """Take out the frame to be played at `now`, in seconds; call it once for each frame.

        Raises:
            AudioError: The time is not a finite one.
        """

    def clear(self) -> None:
        """Drop all that waits: if anything is being played, the next frame is silent after a fade of at most 5 ms.

        What was learnt of the network stays.
        """

    def finish(self) -> None:
        """Say that this answer is complete: what waits is played as it is, and the last frame filled up with silence.

        Playout mode only; the next packet begins a new answer.
        """

    def reset(self) -> None:
        """Forget everything, the counters too."""

def encode_audio_message(audio: _Buffer, client_req_id: str | None = None) -> str:
    """Build the JSON message for a chunk of audio: `{"type":"audio","audio":"..."}`.

    Args:
        audio: The bytes as they are, whatever their format.
        client_req_id: The id of the request on a connection that carries several; left out if None.

    Returns:
        One line of ASCII.

    Raises:
        WireError: The id has a lone surrogate.
    """

def decode_message(text: str | _Buffer, /) -> dict[str, Any]:
    """Parse a JSON message, with the base64 of its `audio` field decoded.

    The text has to be one object of RFC 8259 in UTF-8, nested at most 128 deep, without NaN and lone surrogates. The
    base64 has to be of the standard alphabet with canonical padding (RFC 4648, section 4). Of fields with the same
    name the last one counts. Integers are exact at any size Python converts.

    Returns:
        The fields; `audio` is `bytes` where it is present.

    Raises:
        WireError: The text breaks one of these rules; the message tells what was expected, what came and where.
    """

@final
class Transcoder:
    """Converts a stream from one wire format to another: decode, resample, encode and cut into frames in one call.

    Formats are `pcm_<rate>` with a rate of 1000 to 384000 Hz, `ulaw_8000` (also `mulaw_8000`), `alaw_8000`, `pcm`,
    `wav` and `opus`. `pcm` is named from the side of a service: as a source it is 24 kHz and as a target 48 kHz. `wav`
    as a source is anything `WavReader` reads, averaged to mono, and as a target 48 kHz 16-bit mono with a header whose
    sizes are unknown. `opus` as a source is anything `OggOpusReader` reads, averaged to mono, and as a target what
    `OggOpusWriter` writes at 48 kHz. Equal rates convert without delay, equal raw formats without a change.

    A transcoder belongs to one stream and one thread at a time.

    Args:
        source_format: The format that is fed.
        target_format: The format that comes out.
        frame_ms: The duration of a frame, a whole number of samples of the target; None for no frames. For `opus` it is
            that of a page, a multiple of 2.5 up to 1000, and None makes pages of 20 ms.

    Raises:
        AudioError: A format is unknown, the pair of rates is not possible, or a frame is not a whole number of samples
            (of `opus`, of 2.5 ms).
    """

    def __new__(cls, source_format: str, target_format: str, frame_ms: float | None = None) -> Transcoder: ...
    @property
    def delay_ms(self) -> float:
        """The delay of the resampler in milliseconds, without samples that wait for their frame.

        It is 0.0 until the header of a `wav` source has been read.
        """

    @property
    def source_sample_rate(self) -> int | None:
        """The rate of the source in Hz, None until the header of a `wav` source has been read."""

    @property
    def target_sample_rate(self) -> int:
        """The rate of the target in Hz."""

    def feed(self, chunk: _Buffer, /) -> list[bytes]:
        """Feed bytes of the source and return the frames they complete.

        The chunk may end anywhere, also inside a sample or a header; call `flush` at the end.

        Returns:
            The frames, or without `frame_ms` one element with all there is, if there is any. The header of a `wav` or
            `opus` target is an element of its own, before all others.

        Raises:
            AudioError: The pair of rates of a `wav` source is not possible.
            ContainerError: The `wav` or `opus` source breaks the rules of its container.
        """

    def flush(self) -> list[bytes]:
        """Return the tail of the stream, the last frame as short as it is, and start a new stream.

        For n samples of the source, ceil(n * target rate / source rate) samples and the delay have come out in all.
        The last element of an `opus` target has its last page.

        Raises:
            AudioError: The stream ends inside a sample.
            ContainerError: The `wav` source ends inside its header, or has less data than declared; the `opus` source
                ends before its last page. After an error the stream stays as it is.
        """

    def reset(self) -> None:
        """Forget the stream and start a new one."""

@final
class WavReader:
    """Reads a RIFF/WAVE stream cut anywhere and returns its audio as interleaved 16-bit PCM.

    It reads PCM of 8, 16, 24 and 32 bits, floats of 32 and 64 bits, mu-law, A-law and IMA ADPCM, also as
    WAVE_FORMAT_EXTENSIBLE. Wider samples are rounded half to even and saturate. RIFF chunks it does not know are
    skipped, and what follows the data is ignored. A data size of 0, or of 0x7fff0000 and above, means that the data
    goes on until the end.

    Blocks of IMA ADPCM may have any size and number of channels, and the last one may be short. Where their data has
    a size, a `fact` chunk may leave out the filling of the last block; a count that lies elsewhere is not believed,
    nor one of half a block in two channels, which is how libsndfile miscounts a whole one.
    """

    def __new__(cls) -> WavReader: ...
    @property
    def sample_rate(self) -> int | None:
        """The rate in Hz, None until the header has been read."""

    @property
    def num_channels(self) -> int | None:
        """How many channels there are, None until the header has been read."""

    @property
    def bits_per_sample(self) -> int | None:
        """The size of a sample in the stream, None until the header has been read."""

    @property
    def num_samples(self) -> int | None:
        """How many samples each channel has as declared, None if that is unknown or not read yet."""

    def feed(self, chunk: _Buffer, /) -> bytes:
        """Feed bytes of the stream and return the PCM of the sample frames they complete.

        Left-over bytes are kept for the next call; call `close` at the end.

        Raises:
            ContainerError: The stream is not a WAV stream or has an encoding that is not read. Every further call
                raises it again.
        """

    def close(self) -> None:
        """Check that the stream may end here.

        Raises:
            ContainerError: The stream ends inside its header, a sample frame or a group of IMA ADPCM, or has less
                data than declared.
        """

@final
class WavWriter:
    """Writes a RIFF/WAVE stream from 16-bit PCM.

    G.711 takes a half of the size of PCM and IMA ADPCM a quarter. IMA ADPCM comes in blocks of 256 bytes for each
    channel, and as many again for each further 11025 Hz; at 8 kHz a block has 505 samples of each channel.

    Args:
        sample_rate: In Hz, 1000 to 384000.
        num_channels: How many channels are interleaved, at least 1.
        data_bytes: The size of all PCM to come, whatever the encoding, or None for a header whose sizes are unknown
            (0xffffffff).
        encoding: How the samples are stored.

    Raises:
        AudioError: The rate is out of range, or the encoding unknown.
        ContainerError: The header cannot express the numbers.
    """

    def __new__(
        cls,
        sample_rate: int,
        num_channels: int = 1,
        data_bytes: int | None = None,
        *,
        encoding: Literal["pcm", "ulaw", "alaw", "ima_adpcm"] = "pcm",
    ) -> WavWriter: ...
    @property
    def header(self) -> bytes:
        """The header: 44 bytes for PCM, 58 for G.711 and 60 for IMA ADPCM."""

    def feed(self, chunk: _Buffer, /) -> bytes:
        """Return the bytes of the stream that a chunk of PCM completes, with the header before the first.

        PCM is passed on as it comes. In the other encodings a sample that the chunk cuts is kept for the next call,
        and with IMA ADPCM a whole block; call `flush` at the end.

        Raises:
            ContainerError: More PCM came than declared.
        """

    def flush(self) -> bytes:
        """Return the rest of the stream and start a new one.

        Returns:
            The last block of IMA ADPCM, filled up with the last sample, and the byte that makes an odd data size
            even if it was declared; for PCM nothing. The header if nothing was fed.

        Raises:
            ContainerError: The PCM ends inside a sample frame, or less came than declared. After an error the stream
                stays as it is.
        """

@final
class OggOpusReader:
    """Reads an Ogg Opus stream (RFC 7845) cut anywhere and returns its audio as interleaved 16-bit PCM at 48 kHz.

    One or two channels are read, in channel mapping family 0. The audio starts after the pre-skip, ends where the last
    page says, and has the gain of the header; peaks above full scale are softened, not cut off. Streams may follow one
    another (chained) if they have the same number of channels. A stream that starts late, its head cut off, is read
    from where it starts.

    Nothing broken is passed over: a wrong checksum, a missing page, a packet that is none. The positions that pages in
    the middle claim are not compared with the audio on them.

    A reader belongs to one stream and one thread at a time: a call from another thread while a chunk is worked on is a
    `RuntimeError`.
    """

    def __new__(cls) -> OggOpusReader: ...
    @property
    def sample_rate(self) -> int | None:
        """The rate in Hz, always 48000, None until the header has been read."""

    @property
    def num_channels(self) -> int | None:
        """How many channels there are, None until the header has been read."""

    def feed(self, chunk: _Buffer, /) -> bytes:
        """Feed bytes of the stream and return the PCM of the pages they complete.

        Left-over bytes are kept for the next call; call `close` at the end.

        Raises:
            ContainerError: The stream is not an Ogg Opus stream, has more channels, or is broken. Every further call
                raises it again.
        """

    def close(self) -> None:
        """Check that the stream may end here.

        Raises:
            ContainerError: The stream ends before its last page, or before its first.
        """

@final
class OggOpusWriter:
    """Writes an Ogg Opus stream (RFC 7845) from mono 16-bit PCM.

    A page comes with the sample that completes its frame. A decoder gives back exactly as many samples as were fed, in
    time with them: the stream tells it what the encoder's 6.5 ms of delay have put in front. The same input gives the
    same bytes.

    A writer belongs to one stream and one thread at a time: a call from another thread while a chunk is worked on is a
    `RuntimeError`.

    Args:
        sample_rate: In Hz: 8000, 12000, 16000, 24000 or 48000. Use a `Resampler` for others.
        serial: The number of the stream, 0 to 2**32 - 1. Streams that follow one another need different ones.
        bitrate: Bits per second on average, 6000 to 510000, without the 28 bytes or more that each page adds. From
            64000 on, 48 kHz speech keeps its waveform (28 dB above the noise); below, it is modelled.
        frame_ms: How much audio a page has, a multiple of 2.5 up to 1000. It is cut into packets of 20, 10, 5 or 2.5
            ms, the longest that divide it.

    Raises:
        AudioError: An argument is not one of these.
    """

    def __new__(
        cls, sample_rate: int, *, serial: int = 1, bitrate: int = 64000, frame_ms: float = 20.0
    ) -> OggOpusWriter: ...
    @property
    def header(self) -> bytes:
        """The pages with the two headers."""

    def feed(self, chunk: _Buffer, /) -> bytes:
        """Return the pages that a chunk of PCM completes, with the header before the first.

        What does not fill a page is kept for the next call; call `flush` at the end.
        """

    def flush(self) -> bytes:
        """Return the rest of the stream and start a new one, with the same number.

        Returns:
            What is left, to the page that ends the stream; after the header if nothing was fed.

        Raises:
            AudioError: The PCM ends inside a sample. The stream stays as it is.
        """

# The functions of `speechwire.audioop`. Each takes a fragment: any C-contiguous buffer, whatever its items, read as
# signed little-endian samples of `width` bytes, 1 to 4. All raise
#
#   AudioopError   the width is not 1 to 4, the fragment ends inside a sample (or sample frame), or as stated
#   TypeError      an object without a buffer, or an argument of the wrong type
#   BufferError    a buffer with strides
#   OverflowError  an integer that does not fit into a C int

_AdpcmState: TypeAlias = tuple[int, int]
_RateState: TypeAlias = tuple[int, tuple[tuple[int, int], ...]]

def audioop_add(fragment1: _Buffer, fragment2: _Buffer, width: int, /) -> bytes:
    """Add two fragments of the same length; sums saturate.

    Raises:
        AudioopError: The lengths differ.
    """

def audioop_adpcm2lin(fragment: _Buffer, width: int, state: _AdpcmState | None, /) -> tuple[bytes, _AdpcmState]:
    """Decode IMA ADPCM to samples, two for each byte, the upper half first.

    Args:
        fragment: Codes of 4 bits.
        width: The bytes per sample of the result.
        state: What the call before returned, None for the first one.

    Returns:
        The samples and the state for the next call: the last sample as a 16-bit number, and the index of the step.

    Raises:
        ValueError: The state is not in -32768 to 32767 and 0 to 88.
    """

def audioop_alaw2lin(fragment: _Buffer, width: int, /) -> bytes:
    """Decode G.711 A-law to samples of `width` bytes."""

def audioop_avg(fragment: _Buffer, width: int, /) -> int:
    """Return the mean of the samples, rounded down; 0 if there are none."""

def audioop_avgpp(fragment: _Buffer, width: int, /) -> int:
    """Return the mean difference between neighbouring extremes, rounded down; 0 if there are fewer than two."""

def audioop_bias(fragment: _Buffer, width: int, bias: int, /) -> bytes:
    """Add a number to every sample; sums wrap around."""

def audioop_byteswap(fragment: _Buffer, width: int, /) -> bytes:
    """Put the bytes of every sample into the opposite order."""

def audioop_cross(fragment: _Buffer, width: int, /) -> int:
    """Return how often the sign changes, with 0 as a positive number; -1 if there are no samples."""

def audioop_findfactor(fragment: _Buffer, reference: _Buffer, /) -> float:
    """Return the factor with which the reference comes nearest to the fragment; both are 16-bit samples.

    Returns:
        The factor that leaves the least energy when the product is subtracted; not finite if the reference is silent.

    Raises:
        AudioopError: The lengths differ, or are odd.
    """

def audioop_findfit(fragment: _Buffer, reference: _Buffer, /) -> tuple[int, float]:
    """Find where the reference fits best into the fragment; both are 16-bit samples.

    The time grows with the product of the lengths.

    Returns:
        The index of the first sample, and the factor that `findfactor` has there.

    Raises:
        AudioopError: The reference is longer than the fragment, or a length is odd.
    """

def audioop_findmax(fragment: _Buffer, length: int, /) -> int:
    """Return the index where the `length` 16-bit samples with the most energy start.

    Raises:
        AudioopError: The fragment has fewer samples, or an odd length.
    """

def audioop_getsample(fragment: _Buffer, width: int, index: int, /) -> int:
    """Return the value of one sample.

    Raises:
        AudioopError: There is no sample with this index; negative ones do not count from the end.
    """

def audioop_lin2adpcm(fragment: _Buffer, width: int, state: _AdpcmState | None, /) -> tuple[bytes, _AdpcmState]:
    """Encode samples in IMA ADPCM, two in each byte, the first in the upper half.

    Of an odd number of samples the last one is in the state only.

    Args:
        fragment: Samples, of which the top 16 bits count.
        width: The bytes per sample.
        state: What the call before returned, None for the first one.

    Returns:
        The codes and the state for the next call; see `adpcm2lin`.

    Raises:
        ValueError: The state is not in -32768 to 32767 and 0 to 88.
    """

def audioop_lin2alaw(fragment: _Buffer, width: int, /) -> bytes:
    """Encode samples in G.711 A-law, equal to ITU-T G.191; the top 16 bits of a sample count."""

def audioop_lin2lin(fragment: _Buffer, width: int, newwidth: int, /) -> bytes:
    """Change the width of the samples, keeping their top bytes."""

def audioop_lin2ulaw(fragment: _Buffer, width: int, /) -> bytes:
    """Encode samples in G.711 mu-law; the top 16 bits of a sample count.

    This is the encoder of the old module: 508 of the 32768 negative 16-bit samples get the code next to that of ITU-T
    G.191, which `ulaw_encode` follows.
    """

def audioop_max(fragment: _Buffer, width: int, /) -> int:
    """Return the largest absolute value of the samples; 0 if there are none."""

def audioop_maxpp(fragment: _Buffer, width: int, /) -> int:
    """Return the largest difference between neighbouring extremes; 0 if there are fewer than two."""

def audioop_minmax(fragment: _Buffer, width: int, /) -> tuple[int, int]:
    """Return the smallest and the largest sample; (0x7fffffff, -0x80000000) if there are none."""

def audioop_mul(fragment: _Buffer, width: int, factor: float, /) -> bytes:
    """Multiply every sample; products saturate and are rounded down."""

def audioop_ratecv(
    fragment: _Buffer,
    width: int,
    nchannels: int,
    inrate: int,
    outrate: int,
    state: _RateState | None,
    weightA: int = 1,
    weightB: int = 0,
    /,
) -> tuple[bytes, _RateState]:
    """Convert the sample rate by linear interpolation, without a filter against aliases.

    It is what the old module did; `Resampler` is the one to choose.

    Args:
        fragment: Whole sample frames.
        width: The bytes per sample.
        nchannels: The samples per sample frame, 1 or more.
        inrate: The rate of the fragment, positive, in any unit.
        outrate: The rate of the result in the same unit.
        state: What the call before returned, None for the first one.
        weightA: How much of a sample is taken, 1 or more.
        weightB: How much of the filtered sample before it is added, 0 or more.

    Returns:
        The samples, and the state for the next call: the phase, and for each channel the last two filtered samples.

    Raises:
        AudioopError: A number is out of range, or the state is one that no call returns.
        OverflowError: A sample frame has more bytes than a C int can count.
        MemoryError: The result would be too long, or there are more than 1048576 channels.
    """

def audioop_reverse(fragment: _Buffer, width: int, /) -> bytes:
    """Put the samples into the opposite order."""

def audioop_rms(fragment: _Buffer, width: int, /) -> int:
    """Return the root of the mean square of the samples, rounded down; 0 if there are none."""

def audioop_tomono(fragment: _Buffer, width: int, lfactor: float, rfactor: float, /) -> bytes:
    """Mix the two channels of a stereo fragment; sums saturate and are rounded down.

    Raises:
        AudioopError: The number of samples is odd.
    """

def audioop_tostereo(fragment: _Buffer, width: int, lfactor: float, rfactor: float, /) -> bytes:
    """Make two channels of one; products saturate and are rounded down."""

def audioop_ulaw2lin(fragment: _Buffer, width: int, /) -> bytes:
    """Decode G.711 mu-law to samples of `width` bytes."""
