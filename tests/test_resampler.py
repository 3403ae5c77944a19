from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import soxr
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from speechwire.codec import Resampler, resample
from speechwire.errors import AudioError

RATES = (8000, 16000, 22050, 24000, 44100, 48000)
PAIRS = list(itertools.permutations(RATES, 2))
QUALITIES = ("balanced", "low_latency", "high")
FORMATS: dict[str, Any] = {"s16": np.int16, "f32": np.float32}
STOPBANDS_DB = {"balanced": (1.0, 100), "low_latency": (1.1, 98), "high": (1.0, 128)}


Array = NDArray[Any]


def noise(num_samples: int, sample_format: str = "s16", seed: int = 1) -> Array:
    values = np.random.default_rng(seed).uniform(-0.9, 0.9, num_samples)
    return (values * (32767 if sample_format == "s16" else 1)).astype(FORMATS[sample_format])


def whole(resampler: Resampler, chunk: Array) -> Array:
    return np.concatenate([resampler.feed(chunk), resampler.flush()])


def gain(y: Array, frequency: float, sample_rate: int, margin: int) -> float:
    """Amplitude of a tone by least squares, away from both ends."""
    t = np.arange(len(y))[margin : len(y) - margin] / sample_rate
    basis = np.stack([np.cos(2 * np.pi * frequency * t), np.sin(2 * np.pi * frequency * t)], axis=1)
    fit, *_ = np.linalg.lstsq(basis, y[margin : len(y) - margin], rcond=None)
    return float(np.hypot(*fit))


@pytest.mark.parametrize("pair", PAIRS)
def test_each_20_ms_are_answered_with_20_ms(pair: tuple[int, int]) -> None:
    input_rate, output_rate = pair
    resampler = Resampler(*pair)
    num_inputs = num_outputs = 0
    for _ in range(7):
        chunk = bytes(2 * (input_rate // 50))
        num_inputs += input_rate // 50
        num_outputs += len(resampler.feed(chunk)) // 2
        assert num_outputs == math.ceil(num_inputs * output_rate / input_rate)
        if input_rate % 50 == 0 and output_rate % 50 == 0:
            assert num_outputs * 50 == num_inputs * 50 // input_rate * output_rate
    assert len(resampler.flush()) == 2 * resampler.delay_samples


@settings(max_examples=60)
@given(
    pair=st.sampled_from(PAIRS),
    quality=st.sampled_from(QUALITIES),
    sample_format=st.sampled_from(["s16", "f32"]),
    num_samples=st.integers(1, 2500),
    cuts=st.lists(st.floats(0, 1), max_size=12),
)
def test_any_cut_gives_the_same_bits(
    pair: tuple[int, int], quality: Any, sample_format: Any, num_samples: int, cuts: list[float]
) -> None:
    audio = noise(num_samples, sample_format).tobytes()
    resampler = Resampler(*pair, quality=quality, sample_format=sample_format)
    expected = resampler.feed(audio) + resampler.flush()
    positions = [0, *sorted(int(cut * len(audio)) for cut in cuts), len(audio)]
    chunks = [audio[start:stop] for start, stop in itertools.pairwise(positions)]
    output = b"".join(resampler.feed(chunk) for chunk in chunks) + resampler.flush()
    assert output == expected


MAX_COEFFICIENTS = 1 << 20


@settings(max_examples=60)
@example(1000, 83376, 300)
@example(44101, 47999, 300)
@given(
    input_rate=st.integers(1000, 384_000),
    output_rate=st.integers(1000, 384_000),
    num_samples=st.integers(0, 300),
)
def test_any_pair_of_rates_keeps_the_contract_or_is_refused(
    input_rate: int, output_rate: int, num_samples: int
) -> None:
    divisor = math.gcd(input_rate, output_rate)
    up, down = output_rate // divisor, input_rate // divisor
    # The kernel is 94 samples of the lower rate long, 88 around 22.05 kHz; the delay and the rows are rounded up.
    fewest = (88 if 22000 <= min(input_rate, output_rate) < 23500 else 94) * max(up, down)
    most = fewest + down + 8 * up
    if fewest > MAX_COEFFICIENTS:
        with pytest.raises(AudioError, match=f"for {input_rate} to {output_rate} Hz$"):
            Resampler(input_rate, output_rate)
        return
    try:
        resampler = Resampler(input_rate, output_rate)
    except AudioError:
        assert most > MAX_COEFFICIENTS
        return
    fed = resampler.feed(noise(num_samples))
    assert len(fed) == -(-num_samples * output_rate // input_rate)
    assert len(resampler.flush()) == (resampler.delay_samples if num_samples else 0)


@pytest.mark.parametrize("num_samples", [0, 1, 2, 3, 159, 441, 1000, 4801])
def test_one_shot_has_the_rounded_length(num_samples: int) -> None:
    for input_rate, output_rate in PAIRS:
        output = resample(bytes(2 * num_samples), input_rate, output_rate)
        exact = num_samples * output_rate / input_rate
        assert len(output) == 2 * round(exact)


@pytest.mark.parametrize("sample_format", ["s16", "f32"])
def test_one_shot_is_the_stream_without_its_delay(sample_format: Any) -> None:
    for pair in PAIRS:
        audio = noise(1000, sample_format)
        resampler = Resampler(*pair, sample_format=sample_format)
        stream = whole(resampler, audio)
        output = resample(audio, *pair, sample_format=sample_format)
        np.testing.assert_array_equal(output, stream[resampler.delay_samples :][: len(output)])


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("pair", PAIRS)
def test_impulse_peaks_at_the_delay_and_is_symmetric(pair: tuple[int, int], quality: Any) -> None:
    input_rate, output_rate = pair
    step = input_rate // math.gcd(*pair)
    impulse = np.zeros(4 * step + 1, np.float32)
    impulse[step] = 1
    resampler = Resampler(*pair, quality=quality, sample_format="f32")
    output = whole(resampler, impulse)
    center = step * output_rate // input_rate + resampler.delay_samples
    assert int(np.argmax(output)) == center
    reach = min(resampler.delay_samples, len(output) - 1 - center, center)
    around = output[center - reach : center + reach + 1]
    np.testing.assert_allclose(around, around[::-1], atol=2e-6)
    assert resampler.delay_ms == resampler.delay_samples * 1000 / output_rate


def test_delays_are_short() -> None:
    bounds: dict[Any, dict[int, float]] = {
        "low_latency": {8000: 3.0, 16000: 1.5, 22000: 1.0},
        "balanced": {8000: 6.0, 16000: 3.0, 22000: 2.0},
        "high": {8000: 10.0, 16000: 5.0, 22000: 3.65},
    }
    rates = {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000}
    for quality, bounds_ms in bounds.items():
        for pair in itertools.permutations(sorted(rates), 2):
            bound_ms = bounds_ms[max(rate for rate in bounds_ms if rate <= min(pair))]
            assert 0 < Resampler(*pair, quality=quality).delay_ms <= bound_ms, (quality, pair)


@pytest.mark.parametrize("sample_format", ["s16", "f32"])
@pytest.mark.parametrize("quality", QUALITIES)
def test_silence_stays_silence(quality: Any, sample_format: Any) -> None:
    for pair in PAIRS:
        resampler = Resampler(*pair, quality=quality, sample_format=sample_format)
        output = whole(resampler, np.zeros(3000, FORMATS[sample_format]))
        assert not output.tobytes().strip(b"\0")


@pytest.mark.parametrize("quality", QUALITIES)
def test_constant_stays_a_constant(quality: Any) -> None:
    for pair in PAIRS:
        resampler = Resampler(*pair, quality=quality, sample_format="f32")
        output = resampler.feed(np.ones(4000, np.float32))[2 * resampler.delay_samples :]
        np.testing.assert_allclose(output, 1, atol=1e-5)


@pytest.mark.parametrize("quality", QUALITIES)
def test_passband_is_flat(quality: Any) -> None:
    for pair in PAIRS:
        for fraction in (0.05, 0.3, 0.6, 0.8, 0.9):
            frequency = fraction * min(pair) / 2
            tone = np.sin(2 * np.pi * frequency * np.arange(pair[0] // 4) / pair[0]).astype(np.float32)
            output = resample(tone, *pair, quality=quality, sample_format="f32")
            assert abs(20 * math.log10(gain(output, frequency, pair[1], len(output) // 4))) < 0.021


def rejection(quality: str, pair: tuple[int, int]) -> float:
    """What the stopband keeps out; around 22.05 kHz a shorter kernel holds the delay of low_latency to 1 ms."""
    return 95 if quality == "low_latency" and min(pair) == 22050 else STOPBANDS_DB[quality][1]


@pytest.mark.parametrize("quality", QUALITIES)
def test_stopband_is_silent_when_the_rate_falls(quality: Any) -> None:
    edge, _ = STOPBANDS_DB[quality]
    for pair in [pair for pair in PAIRS if pair[0] > edge * pair[1]]:
        rejection_db = rejection(quality, pair)
        for fraction in np.linspace(edge, pair[0] / pair[1], 7)[:-1]:
            frequency = (fraction + 0.001) * pair[1] / 2
            tone = np.sin(2 * np.pi * frequency * np.arange(pair[0] // 4) / pair[0]).astype(np.float32)
            output = resample(tone, *pair, quality=quality, sample_format="f32")
            middle = output[len(output) // 4 : -len(output) // 4].astype(np.float64)
            assert 20 * math.log10(math.sqrt(2 * float(np.mean(middle**2))) + 1e-12) < -rejection_db


@pytest.mark.parametrize("quality", QUALITIES)
def test_images_are_silent_when_the_rate_rises(quality: Any) -> None:
    edge, _ = STOPBANDS_DB[quality]
    for pair in [pair for pair in PAIRS if pair[0] < pair[1]]:
        rejection_db = rejection(quality, pair)
        for fraction in (0.1, 0.5, 2 - edge - 0.1):
            frequency = fraction * pair[0] / 2
            t = np.arange(pair[0] // 4)
            tone = np.sin(2 * np.pi * frequency * t / pair[0]).astype(np.float32)
            output = resample(tone, *pair, quality=quality, sample_format="f32").astype(np.float64)
            window = np.blackman(len(output) // 2) ** 2
            middle = output[len(output) // 4 :][: len(window)]
            spectrum = np.abs(np.fft.rfft(middle * window)) / (window.sum() / 2)
            frequencies = np.fft.rfftfreq(len(window), 1 / pair[1])
            images = spectrum[frequencies > edge * pair[0] / 2 + 100]
            assert len(images) == 0 or 20 * math.log10(images.max() + 1e-12) < -min(rejection_db, 125)


@pytest.mark.parametrize("quality", QUALITIES)
def test_speech_band_equals_soxr(quality: Any) -> None:
    # The ripple of the passband is nearly all of the difference.
    for pair in PAIRS:
        n = pair[0] // 2
        spectrum = np.fft.rfft(np.random.default_rng(3).normal(size=n))
        frequencies = np.fft.rfftfreq(n, 1 / pair[0])
        spectrum[frequencies > 0.85 * min(pair) / 2] = 0
        signal = np.fft.irfft(spectrum, n)
        signal = (signal / np.abs(signal).max() * 0.9).astype(np.float32)
        ours = resample(signal, *pair, quality=quality, sample_format="f32").astype(np.float64)
        theirs = soxr.resample(signal, *pair, quality="VHQ").astype(np.float64)
        length = min(len(ours), len(theirs))
        middle = slice(length // 8, -length // 8)
        error = ours[:length][middle] - theirs[:length][middle]
        assert 10 * math.log10(np.mean(theirs[:length][middle] ** 2) / np.mean(error**2)) > 60


def test_s16_is_the_rounded_float() -> None:
    audio = noise(4000)
    for pair in PAIRS:
        floats = resample((audio / 32768).astype(np.float32), *pair, sample_format="f32").astype(np.float64)
        expected = np.clip(np.rint(floats * 32768), -32768, 32767)
        assert np.array_equal(resample(audio, *pair), expected)


def test_full_scale_saturates() -> None:
    square = np.where(np.arange(8000) // 40 % 2, 32767, -32768).astype(np.int16)
    for pair in PAIRS:
        output = resample(square, *pair)
        assert (int(output.min()), int(output.max())) == (-32768, 32767)
        assert int(np.sum(np.diff(np.signbit(output).astype(int)) != 0)) == 199


@pytest.mark.parametrize("sample", [math.nan, math.inf, -math.inf])
def test_float_that_is_not_finite_counts_as_silence(sample: float) -> None:
    for pair in [*PAIRS, (8000, 8000)]:
        audio = noise(1000, "f32")
        audio[500] = sample
        expected = audio.copy()
        expected[500] = 0
        output = whole(Resampler(*pair, sample_format="f32"), audio)
        np.testing.assert_array_equal(output, whole(Resampler(*pair, sample_format="f32"), expected))


def test_smallest_numbers_give_the_same_bits_for_any_cut() -> None:
    audio = (np.random.default_rng(45).integers(-3, 1, 400) * 1.4e-45).astype(np.float32)
    for quality, pair in itertools.product(QUALITIES, PAIRS):
        resampler = Resampler(*pair, quality=quality, sample_format="f32")  # type: ignore[arg-type]
        expected = whole(resampler, audio).tobytes()
        cut = b"".join(resampler.feed(audio[index : index + 1]).tobytes() for index in range(len(audio)))
        assert cut + resampler.flush().tobytes() == expected


@pytest.mark.parametrize("sample_format", ["s16", "f32"])
def test_equal_rates_pass_the_audio_through(sample_format: Any) -> None:
    resampler = Resampler(16000, 16000, sample_format=sample_format)
    audio = noise(999, sample_format).tobytes()
    assert resampler.delay_ms == 0
    assert resampler.feed(audio[:7]) + resampler.feed(audio[7:]) == audio
    assert resampler.flush() == b""
    assert resample(audio, 16000, 16000, sample_format=sample_format) == audio


def test_reset_forgets_the_stream() -> None:
    resampler = Resampler(8000, 24000)
    audio = noise(500).tobytes()
    first = resampler.feed(audio)
    resampler.feed(b"\1")
    resampler.reset()
    assert resampler.flush() == b""
    assert resampler.feed(audio) == first


def test_flush_starts_a_new_stream() -> None:
    resampler = Resampler(48000, 22050)
    audio = noise(5000)
    first = whole(resampler, audio)
    np.testing.assert_array_equal(whole(resampler, audio), first)


def test_flush_of_nothing_is_nothing() -> None:
    resampler = Resampler(8000, 24000)
    assert resampler.feed(b"") == b""
    assert resampler.flush() == b""


def test_half_a_sample_at_the_end_is_refused_and_can_be_completed() -> None:
    resampler = Resampler(8000, 24000)
    head = resampler.feed(b"\1\2\3")
    with pytest.raises(AudioError, match=r"^expected whole samples of 2 bytes, got 3 bytes$"):
        resampler.flush()
    tail = resampler.feed(b"\4") + resampler.flush()
    other = Resampler(8000, 24000)
    assert head + tail == other.feed(b"\1\2\3\4") + other.flush()


@pytest.mark.parametrize("sample_format", ["s16", "f32"])
def test_arrays_are_answered_with_arrays(sample_format: Any) -> None:
    resampler = Resampler(16000, 24000, sample_format=sample_format)
    audio = noise(160, sample_format)
    output = resampler.feed(audio)
    assert isinstance(output, np.ndarray)
    assert output.dtype == audio.dtype
    assert output.flags.writeable
    assert isinstance(resampler.flush(), np.ndarray)
    assert resampler.feed(audio.tobytes()) == output.tobytes()
    assert isinstance(resampler.flush(), bytes)
    assert isinstance(resample(audio, 16000, 24000, sample_format=sample_format), np.ndarray)


@pytest.mark.parametrize(
    ("array", "error"),
    [
        (np.zeros(4, np.float32), "expected a 1-d array of int16, got a 1-d array of float32"),
        (np.zeros((4, 1), np.int16), "expected a 1-d array of int16, got a 2-d array of int16"),
        (np.zeros(4, ">i2"), "expected a 1-d array of int16, got a 1-d array of >i2"),
        (np.zeros(8, np.int16)[::2], "expected a C-contiguous buffer, got one with strides"),
    ],
)
def test_other_arrays_are_refused(array: Array, error: str) -> None:
    for call in (Resampler(8000, 16000).feed, lambda pcm: resample(pcm, 8000, 16000)):
        with pytest.raises(AudioError) as caught:
            call(array)
        assert str(caught.value) == error


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        ((999, 8000), {}, "expected a sample rate of 1000 to 384000 Hz, got 999"),
        ((8000, 384_001), {}, "expected a sample rate of 1000 to 384000 Hz, got 384001"),
        ((-8000, 8000), {}, "expected a sample rate of 1000 to 384000 Hz, got -8000"),
        ((8000, 2**40), {}, f"expected a sample rate of 1000 to 384000 Hz, got {2**40}"),
        (
            (44101, 47999),
            {},
            "expected rates that need at most 1048576 coefficients, got 4607904 for 44101 to 47999 Hz",
        ),
        ((8000, 16000), {"quality": "best"}, 'expected a quality of balanced, low_latency, high, got "best"'),
        ((8000, 16000), {"sample_format": "s24"}, 'expected a sample format of s16, f32, got "s24"'),
    ],
)
def test_bad_options_are_refused(arguments: tuple[int, int], options: dict[str, Any], error: str) -> None:
    with pytest.raises(AudioError) as caught:
        Resampler(*arguments, **options)
    assert str(caught.value) == error
    with pytest.raises(AudioError):
        resample(b"", *arguments, **options)


def test_half_a_sample_in_one_shot_is_refused() -> None:
    with pytest.raises(AudioError, match=r"^expected whole samples of 4 bytes, got 6 bytes$"):
        resample(bytes(6), 8000, 16000, sample_format="f32")


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("pair", [*PAIRS, (8000, 8000), (48000, 48000)])
def test_variable_ratio_at_zero_is_the_fixed_ratio(pair: tuple[int, int], quality: Any) -> None:
    audio = noise(3000, "f32")
    variable = Resampler(*pair, quality=quality, sample_format="f32", variable=True)
    output = whole(variable, audio)
    if pair[0] == pair[1]:
        expected = np.concatenate([np.zeros(variable.delay_samples, np.float32), audio])
        # A filter at the full rate still takes the last tenth of the band.
        smooth = np.convolve(np.random.default_rng(5).normal(size=3000), np.hanning(9), "same").astype(np.float32)
        output = whole(variable, smooth)[variable.delay_samples :]
        np.testing.assert_allclose(output[200:-200], smooth[200:-200], atol=2e-3 * float(np.abs(smooth).max()))
        assert len(expected) == len(output) + variable.delay_samples
        return
    expected = whole(Resampler(*pair, quality=quality, sample_format="f32"), audio)
    assert variable.delay_samples == len(expected) - -(-len(audio) * pair[1] // pair[0])
    np.testing.assert_allclose(output, expected, atol=1e-6)


@settings(max_examples=40)
@given(
    pair=st.sampled_from([*PAIRS, (8000, 8000)]),
    ratio_ppm=st.floats(-1000, 1000),
    num_samples=st.integers(1, 4000),
    cuts=st.lists(st.floats(0, 1), max_size=8),
)
def test_variable_ratio_gives_the_same_bits_for_any_cut(
    pair: tuple[int, int], ratio_ppm: float, num_samples: int, cuts: list[float]
) -> None:
    audio = noise(num_samples).tobytes()
    resampler = Resampler(*pair, variable=True)
    resampler.ratio_ppm = ratio_ppm
    expected = resampler.feed(audio) + resampler.flush()
    positions = [0, *sorted(int(cut * len(audio)) for cut in cuts), len(audio)]
    chunks = [audio[start:stop] for start, stop in itertools.pairwise(positions)]
    assert b"".join(resampler.feed(chunk) for chunk in chunks) + resampler.flush() == expected
    num_exact = num_samples * pair[1] / pair[0] * (1 + ratio_ppm * 1e-6)
    assert abs(len(expected) // 2 - resampler.delay_samples - num_exact) <= 1


@pytest.mark.parametrize("pair", [(8000, 24000), (24000, 8000), (16000, 16000), (44100, 48000)])
@pytest.mark.parametrize("ratio_ppm", [-1000.0, -50.0, 700.0, 1000.0])
def test_variable_ratio_follows_a_clock_that_drifts(pair: tuple[int, int], ratio_ppm: float) -> None:
    resampler = Resampler(*pair, sample_format="f32", variable=True)
    resampler.ratio_ppm = ratio_ppm
    assert resampler.ratio_ppm == ratio_ppm
    # A sender whose clock is fast sends more samples for the same tone; fewer outputs per input make up for it.
    sender_rate = pair[0] / (1 + ratio_ppm * 1e-6)
    tone = np.sin(2 * np.pi * 997 * np.arange(pair[0]) / sender_rate).astype(np.float32)
    output = resampler.feed(tone)[500:-500].astype(np.float64)
    t = np.arange(len(output)) / pair[1]
    basis = np.stack([np.cos(2 * np.pi * 997 * t), np.sin(2 * np.pi * 997 * t)], axis=1)
    fit, *_ = np.linalg.lstsq(basis, output, rcond=None)
    residual = output - basis @ fit
    assert 20 * math.log10(float(np.std(residual)) * math.sqrt(2)) < -105


def test_variable_ratio_changes_without_a_click() -> None:
    resampler = Resampler(16000, 16000, sample_format="f32", variable=True)
    tone = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000).astype(np.float32)
    pieces = []
    for index, start in enumerate(range(0, 16000, 320)):
        resampler.ratio_ppm = 1000.0 if index % 2 else -1000.0
        pieces.append(resampler.feed(tone[start : start + 320]))
    output = np.concatenate(pieces)[500:].astype(np.float64)
    # The second difference of a tone is its curvature. What is left is the change of the slope by 2000 ppm; a jump of
    # one in two thousand would stand out.
    slope = 2 * math.pi * 440 / 16000
    curvature = np.diff(output, 2) + slope**2 * output[1:-1]
    assert np.abs(curvature).max() < slope * 2000e-6 * 1.2


def test_variable_ratio_keeps_silence_and_constants() -> None:
    resampler = Resampler(24000, 16000, sample_format="f32", variable=True)
    resampler.ratio_ppm = 333.0
    assert not whole(resampler, np.zeros(5000, np.float32)).any()
    output = resampler.feed(np.ones(5000, np.float32))[2 * resampler.delay_samples :]
    np.testing.assert_allclose(output, 1, atol=1e-5)
    resampler.reset()
    assert resampler.ratio_ppm == 333.0


@pytest.mark.parametrize("pair", [(192_000, 8000), (8000, 192_000), (384_000, 8000), (44100, 48000), (1000, 384_000)])
@pytest.mark.parametrize("quality", QUALITIES)
def test_variable_ratio_takes_common_pairs(pair: tuple[int, int], quality: Any) -> None:
    resampler = Resampler(*pair, quality=quality, variable=True)
    assert len(resampler.feed(noise(1000))) == -(-1000 * pair[1] // pair[0])


@pytest.mark.parametrize("ratio_ppm", [1000.1, -2000.0, math.inf, math.nan])
def test_ratio_out_of_range_is_refused(ratio_ppm: float) -> None:
    resampler = Resampler(8000, 16000, variable=True)
    with pytest.raises(AudioError, match=r"^expected a deviation of -1000 to 1000 ppm, got"):
        resampler.ratio_ppm = ratio_ppm
    assert resampler.ratio_ppm == 0


def test_fixed_ratio_cannot_be_varied() -> None:
    with pytest.raises(AudioError, match=r"^expected a resampler of variable ratio, got one of fixed ratio to vary"):
        Resampler(8000, 16000).ratio_ppm = 5.0
