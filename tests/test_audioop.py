"""`speechwire.audioop` does what the removed module did: beside that module, call by call, and in literal values."""

from __future__ import annotations

import array
import inspect
import itertools
import os
import pickle
import struct
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechwire import audioop, codec
from speechwire.errors import AudioError, SpeechwireError

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    # The standard library's up to Python 3.12, the package audioop-lts from then on.
    import audioop as stdlib

FUNCTIONS = [name for name in audioop.__all__ if name not in ("error", "install")]
EXAMPLES = settings(max_examples=300)

widths = st.integers(1, 4)
any_width = st.one_of(widths, widths, widths, st.sampled_from([-1, 0, 5, 2**31 - 1, -(2**31), True]))
edges = st.sampled_from(
    [b"", b"\0", b"\xff", b"\x7f", b"\x80", b"\0\x80", b"\xff\x7f", b"\0\0\0\x80", b"\xff\xff\xff\x7f"]
)
fragments = st.one_of(st.binary(max_size=240), st.lists(edges, max_size=40).map(b"".join))
factors = st.one_of(st.floats(-4, 4), st.floats(), st.integers(-5, 5))
int32 = st.one_of(st.integers(-300, 300), st.integers(-(2**31), 2**31 - 1))


def outcome(function: Any, *arguments: object) -> tuple[Any, ...]:
    """Return what a call gives; of an exception its type and text, with our error as the stdlib's."""
    try:
        result = function(*arguments)
    except Exception as error:
        kind = stdlib.error if isinstance(error, audioop.error) else type(error)
        return ("raised", kind, str(error))
    return ("returned", repr(result))


def same(name: str, *arguments: object) -> None:
    assert outcome(getattr(audioop, name), *arguments) == outcome(getattr(stdlib, name), *arguments), name


def whole(data: bytes, width: int, num_channels: int = 1) -> bytes:
    return data[: len(data) - len(data) % (width * num_channels)]


def test_the_module_has_every_name_of_the_stdlib() -> None:
    assert {name for name in dir(stdlib) if not name.startswith("_")} <= set(audioop.__all__)
    assert len(FUNCTIONS) == 26


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_have_the_name_and_the_parameters_of_the_stdlib(name: str) -> None:
    ours, theirs = getattr(audioop, name), getattr(stdlib, name)
    assert ours.__name__ == name
    assert ours.__doc__
    assert str(inspect.signature(ours)) == str(inspect.signature(theirs))


@pytest.mark.parametrize(
    "name",
    [
        "alaw2lin", "avg", "avgpp", "byteswap", "cross", "lin2alaw", "lin2ulaw", "max", "maxpp", "minmax", "reverse",
        "rms", "ulaw2lin",
    ],
)  # fmt: skip
@EXAMPLES
@given(fragments, any_width)
def test_functions_of_one_fragment_agree(name: str, data: bytes, width: int) -> None:
    same(name, data, width)
    if 1 <= width <= 4:
        same(name, whole(data, width), width)


@EXAMPLES
@given(fragments, any_width, st.integers(-3, 300))
def test_getsample_agrees(data: bytes, width: int, index: int) -> None:
    same("getsample", data, width, index)
    if 1 <= width <= 4:
        same("getsample", whole(data, width), width, index)


@EXAMPLES
@given(fragments, any_width, factors, factors)
def test_loudness_and_channels_agree(data: bytes, width: int, left: float, right: float) -> None:
    for fragment in (data, whole(data, width, 2) if 1 <= width <= 4 else data):
        same("mul", fragment, width, left)
        same("tomono", fragment, width, left, right)
        same("tostereo", fragment, width, left, right)


@EXAMPLES
@given(fragments, fragments, any_width, int32)
def test_add_and_bias_agree(left: bytes, right: bytes, width: int, bias: int) -> None:
    same("add", left, right, width)
    same("bias", left, width, bias)
    if 1 <= width <= 4:
        length = min(len(whole(left, width)), len(whole(right, width)))
        same("add", left[:length], right[:length], width)
        same("bias", left[:length], width, bias)


@EXAMPLES
@given(fragments, any_width, any_width)
def test_lin2lin_agrees(data: bytes, width: int, new_width: int) -> None:
    same("lin2lin", data, width, new_width)
    if 1 <= width <= 4:
        same("lin2lin", whole(data, width), width, new_width)


@EXAMPLES
@given(fragments, fragments, st.integers(-2, 130))
def test_searching_agrees(left: bytes, right: bytes, length: int) -> None:
    for fragment, reference in (
        (left, right),
        (whole(left, 2), whole(right, 2)),
        (whole(left, 2), whole(left, 2)[4:20]),
    ):
        same("findfit", fragment, reference)
        same("findfit", reference, fragment)
        same("findfactor", fragment, reference)
        same("findfactor", fragment, fragment[::-1])
        same("findmax", fragment, length)


adpcm_states = st.one_of(
    st.none(),
    st.tuples(st.integers(-32768, 32767), st.integers(0, 88)),
    st.tuples(int32, st.integers(-2, 300)),
    st.sampled_from([(), (1,), (1, 2, 3), 5, "ab", [0, 0], (1.0, 2), (None, 0), (2**31, 0), (0, -(2**40)), (2**70, 0)]),
)


@EXAMPLES
@given(fragments, any_width, adpcm_states)
def test_adpcm_agrees(data: bytes, width: int, state: object) -> None:
    for name in ("lin2adpcm", "adpcm2lin"):
        same(name, data, width, state)
        if 1 <= width <= 4:
            same(name, whole(data, width), width, state)


@EXAMPLES
@given(fragments, widths, st.lists(st.integers(0, 240), max_size=6))
def test_adpcm_states_are_those_of_the_stdlib(data: bytes, width: int, cuts: list[int]) -> None:
    data = whole(data, 2 * width)
    ends = sorted({min(cut - cut % (2 * width), len(data)) for cut in cuts} | {0, len(data)})
    chunks = [data[start:end] for start, end in itertools.pairwise(ends)] or [b""]
    coders = itertools.cycle([audioop, stdlib])
    state, codes = None, b""
    for chunk, coder in zip(chunks, coders, strict=False):
        code, state = coder.lin2adpcm(chunk, width, state)
        codes += code
    assert (codes, state) == stdlib.lin2adpcm(data, width, None)
    assert audioop.adpcm2lin(codes, width, None) == stdlib.adpcm2lin(codes, width, None)


rates = st.one_of(st.sampled_from([1, 2, 3, 8000, 11025, 16000, 24000, 44100, 48000]), st.integers(1, 50))
weights = st.one_of(st.integers(0, 5), st.integers(0, 2**31 - 1))


@EXAMPLES
@given(st.data(), fragments, widths, st.integers(1, 3), rates, rates, weights.map(lambda n: n or 1), weights)
def test_ratecv_agrees_over_any_cuts(
    draw: st.DataObject, data: bytes, width: int, channels: int, inrate: int, outrate: int, weight_a: int, weight_b: int
) -> None:
    frame_bytes = width * channels
    data = whole(data, width, channels)
    cuts = draw.draw(st.lists(st.integers(0, len(data) // frame_bytes), max_size=6))
    ends = sorted([cut * frame_bytes for cut in cuts] + [0, len(data)])
    options = (width, channels, inrate, outrate)
    our_state = their_state = None
    output = b""
    for number, (start, end) in enumerate(itertools.pairwise(ends)):
        chunk = data[start:end]
        ours = audioop.ratecv(chunk, *options, our_state, weight_a, weight_b)
        theirs = stdlib.ratecv(chunk, *options, their_state, weight_a, weight_b)
        assert ours == theirs
        output += ours[0]
        # A state of the one is taken by the other.
        our_state, their_state = (theirs[1], ours[1]) if number % 2 else (ours[1], theirs[1])
    assert (output, our_state) == stdlib.ratecv(data, *options, None, weight_a, weight_b)


pairs = st.tuples(int32, int32)
rate_states = st.one_of(
    st.none(),
    st.tuples(st.integers(-(2**31), -1), st.lists(pairs, min_size=1, max_size=3).map(tuple)),
    st.sampled_from([
        42, "x", (), (1,), (-1, 5), (-1, [(0, 0)]), (-1, (0,)), (-1, ((0,),)), (-1, ((0, 0, 0),)), (-1, ((0, 0.5),)),
        (None, ((0, 0),)), (-1, ((0, "x"),)), (2**31, ((0, 0),)), (-1, ((2**31, 0),)), (-1, ((0, -(2**31) - 1),)),
        (2**70, ((0, 0),)), (-1, ()), (-1, ([0, 0],)), (-1, ((0, 0),), 3),
    ]),
)  # fmt: skip


@EXAMPLES
@given(
    fragments, any_width, st.one_of(st.integers(-1, 3), st.just(2**31 - 1)), st.integers(-1, 9), st.integers(-1, 9),
    rate_states, st.lists(st.integers(-1, 4), max_size=3),
)  # fmt: skip
def test_ratecv_takes_and_refuses_the_same(
    data: bytes, width: int, channels: int, inrate: int, outrate: int, state: Any, weights: list[int]
) -> None:
    if channels == 2**31 - 1 and width == 1:
        channels = 3  # the stdlib would reserve 16 GiB
    for fragment in (data, whole(data, width, channels) if 1 <= width <= 4 and 1 <= channels <= 3 else data):
        arguments = (fragment, width, channels, inrate, outrate, state, *weights)
        if len(weights) <= 2:
            same("ratecv", *arguments)
        else:
            assert outcome(audioop.ratecv, *arguments)[:2] == ("raised", TypeError)


# Valid arguments but for the fragment, which stands at the places of the Nones.
CALLS: dict[str, list[tuple[Any, ...]]] = {
    **{name: [(None, 2)] for name in FUNCTIONS},
    "add": [(None, b"\1\0\2\0", 2), (b"\1\0\2\0", None, 2)],
    "adpcm2lin": [(None, 2, None)],
    "bias": [(None, 2, 3)],
    "findfactor": [(None, b"\1\0\2\0"), (b"\1\0\2\0", None)],
    "findfit": [(None, b"\1\0"), (b"\1\0\2\0", None)],
    "findmax": [(None, 1)],
    "getsample": [(None, 2, 1)],
    "lin2adpcm": [(None, 2, None)],
    "lin2lin": [(None, 2, 3)],
    "mul": [(None, 2, 0.5)],
    "ratecv": [(None, 2, 1, 2, 3, None)],
    "tomono": [(None, 2, 0.5, 0.5)],
    "tostereo": [(None, 2, 0.5, 0.5)],
}
BUFFERS = [
    bytearray(b"\1\0\2\0"),
    memoryview(b"\1\0\2\0"),
    memoryview(bytearray(b"xx\1\0\2\0"))[2:],
    array.array("h", [1, 2]),
    array.array("i", [0x20001]),
    array.array("f", [1.5]),
    np.array([1, 2], np.int16),
    np.array([1, 2], ">i2"),
    np.array([[1, 2]], np.int16).T.T,
    np.array([1.5], np.float32),
    np.array([1, 2], np.int16).data,
    memoryview(b"\1\0\2\0").cast("H"),
    type("Subclass", (bytes,), {})(b"\1\0\2\0"),
    type("Subclass", (bytearray,), {})(b"\1\0\2\0"),
    b"",
]
NOT_BUFFERS = [
    "text",
    None,
    5,
    [1, 2],
    memoryview(b"\1\0\2\0\3\0\4\0")[::2],
    np.arange(8, dtype=np.int16)[::2],
    np.arange(4, dtype=np.int16).reshape(2, 2).T,
]
NOT_INTEGERS = ["2", 2.0, None, 2**31, -(2**31) - 1, 2**63, 2**200, b"2"]
INTEGERS = [True, np.int16(2), type("Two", (), {"__index__": lambda self: 2})()]


def with_fragment(call: tuple[Any, ...], fragment: object) -> list[object]:
    place = call.index(None)
    return [fragment if index == place else argument for index, argument in enumerate(call)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_buffers_of_any_items_are_taken_and_others_refused_alike(name: str) -> None:
    for call in CALLS[name]:
        for fragment in BUFFERS + NOT_BUFFERS:
            same(name, *with_fragment(call, fragment))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_other_arguments_are_converted_and_refused_alike(name: str) -> None:
    for call in CALLS[name]:
        arguments = with_fragment(call, b"\1\0\2\0")
        for place in range(1, len(arguments)):
            for value in NOT_INTEGERS + INTEGERS:
                same(name, *arguments[:place], value, *arguments[place + 1 :])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_numbers_of_arguments_and_keywords_are_refused_with_a_type_error(name: str) -> None:
    arguments = with_fragment(CALLS[name][0], b"\1\0\2\0")
    names = list(inspect.signature(getattr(stdlib, name)).parameters)
    for function in (getattr(audioop, name), getattr(stdlib, name)):
        for wrong in ([], arguments[:-1], [*arguments, *[1] * 4]):
            with pytest.raises(TypeError):
                function(*wrong)
        with pytest.raises(TypeError):
            function(*arguments[:-1], **{names[len(arguments) - 1]: arguments[-1]})


def test_the_stdlib_refuses_weights_of_none_and_so_do_we() -> None:
    for weights in ((None,), (None, None), (1, None)):
        same("ratecv", b"", 2, 1, 1, 1, None, *weights)


def test_both_laws_agree_on_every_16_bit_sample_and_every_code() -> None:
    pcm = np.arange(-32768, 32768).astype("<i2").tobytes()
    codes = bytes(range(256))
    for law in ("ulaw", "alaw"):
        same(f"lin2{law}", pcm, 2)
        for width in (1, 2, 3, 4):
            same(f"{law}2lin", codes, width)
            same(f"lin2{law}", stdlib.lin2lin(pcm, 2, width), width)
            # The bytes below the top 16 bits do not count.
            if width > 2:
                low = bytes(width - 2).join(pcm[i : i + 2] for i in range(0, len(pcm), 2))
                same(f"lin2{law}", whole(b"\xff" * (width - 2) + low, width), width)


def test_ulaw_differs_from_the_itu_on_508_negative_samples_by_one_code() -> None:
    samples = np.arange(-32768, 32768).astype("<i2")
    ours = np.frombuffer(audioop.lin2ulaw(samples.tobytes(), 2), np.uint8).astype(int)
    itu = np.frombuffer(codec.ulaw_encode(samples.tobytes()), np.uint8).astype(int)
    differs = ours != itu
    assert int(differs.sum()) == 508
    assert bool((samples[differs] < 0).all())
    assert set((itu - ours)[differs].tolist()) == {1}


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_long_fragments_agree(width: int) -> None:
    noise = np.random.default_rng(width).integers(0, 256, 12 * 20_000, np.uint8).tobytes()
    wave = b"".join(struct.pack("<i", round(2e9 * np.sin(i / 7)))[4 - width :] for i in range(30_000))
    flat = b"".join(bytes([0] * (width - 1) + [i // 9 % 3]) for i in range(30_000))
    for data in (noise, wave, flat, noise[:3000] + flat[: 3000 // width * width]):
        for name in ("avg", "avgpp", "cross", "max", "maxpp", "minmax", "rms", "lin2ulaw", "lin2alaw", "reverse"):
            same(name, whole(data, width), width)
        same("mul", whole(data, width), width, 1.1)
        same("lin2adpcm", whole(data, width), width, None)
        same("ratecv", whole(data, width), width, 1, 44100, 48000, None, 5, 3)
    same("findfit", noise[:4000], noise[1000:1400])
    same("findmax", noise, 1000)


def test_sums_beyond_2_to_the_53_are_rounded_as_doubles_are() -> None:
    # Neither the mean nor the mean swing is exact in doubles: they lose bits in the order of the samples.
    pcm = np.random.default_rng(1).integers(-(2**31), 2**31, 5_000_000).astype("<i4").tobytes()
    for name in ("avg", "avgpp", "rms"):
        same(name, pcm, 4)


def test_literal_values() -> None:
    pcm = struct.pack("<5h", 0, 1000, -1000, 32767, -32768)
    assert audioop.max(pcm, 2) == 32768
    assert audioop.minmax(pcm, 2) == (-32768, 32767)
    assert audioop.avg(pcm, 2) == -1
    assert audioop.rms(pcm, 2) == 20733
    assert audioop.cross(pcm, 2) == 3
    assert audioop.add(pcm, pcm, 2) == struct.pack("<5h", 0, 2000, -2000, 32767, -32768)
    assert audioop.mul(pcm, 2, -1.5) == struct.pack("<5h", 0, -1500, 1500, -32768, 32767)
    assert audioop.bias(pcm, 2, 1) == struct.pack("<5h", 1, 1001, -999, -32768, -32767)
    assert audioop.lin2ulaw(pcm, 2) == b"\xff\xce\x4e\x80\x00"
    assert audioop.ulaw2lin(b"\xff\xce\x4e\x80\x00", 2) == struct.pack("<5h", 0, 988, -988, 32124, -32124)
    assert audioop.lin2adpcm(pcm, 2, None) == (b"\x07\xf7", (-92, 32))
    assert audioop.ratecv(struct.pack("<2h", 100, 200), 2, 1, 1, 2, None) == (
        struct.pack("<3h", 100, 150, 200),
        (-1, ((100 << 16, 200 << 16),)),
    )


def test_nothing_unbounded_can_be_asked_for() -> None:
    with pytest.raises(MemoryError, match=r"^not enough memory for output buffer$"):
        audioop.ratecv(b"", 1, 2**31 - 1, 1, 1, None)
    with pytest.raises(MemoryError, match=r"^not enough memory for output buffer$"):
        audioop.ratecv(bytes(2**25), 4, 2**20, 1, 2**31 - 1, None)
    same("ratecv", bytes(10**6), 1, 1, 1, 2**31 - 1, None)
    # The stdlib writes such outputs behind its buffer.
    for state in ((5, ((0, 0),)), (2**31 - 1, ((0, 0),))):
        with pytest.raises(audioop.error, match=r"^illegal state argument$"):
            audioop.ratecv(b"", 1, 1, 1, 1, state)


def test_error_is_in_our_tree_and_survives_pickling() -> None:
    assert issubclass(audioop.error, AudioError)
    assert issubclass(audioop.error, SpeechwireError)
    try:
        audioop.max(b"\0", 2)
    except audioop.error as error:
        copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (audioop.error, "not a whole number of frames")


def run(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=cwd)


def test_install_puts_the_module_in_place_of_any_other() -> None:
    code = (
        "import sys, types; sys.modules['audioop'] = types.ModuleType('audioop')\n"
        "import speechwire.audioop as ours; assert sys.modules['audioop'] is not ours\n"
        "ours.install(); ours.install(); import audioop; assert audioop is ours\n"
        "from audioop import error, ratecv; assert ratecv is ours.ratecv"
    )
    assert run("-c", code).stderr == ""


USES = """\
import audioop
import audioop as a, os
from audioop import lin2ulaw, \\
    error as e
import importlib

def convert(x):
    try:
        return audioop.ratecv(a.mul(x, 2, 1.0), 2, 1, 8000, 16000, None)
    except audioop.error:
        b = importlib.import_module("audioop")
        return b.max(x, 2) + __import__("audioop").min + os.audioop
"""


def scan(*paths: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return run("-m", "speechwire.audioop", *paths, cwd=cwd)


def test_scanner_lists_every_use(tmp_path: Path) -> None:
    (tmp_path / "b.py").write_text(USES)
    (tmp_path / "a.py").write_text("import audio\nimport my.audioop\nfrom .audioop import add\nx.audioop.add\n")
    (tmp_path / "text.txt").write_text("import audioop")
    answer = scan(tmp_path)
    expected = [
        "1: import audioop", "2: import audioop", "3: audioop.lin2ulaw", "4: audioop.error", "9: audioop.mul",
        "9: audioop.ratecv", "10: audioop.error", "11: import audioop", "12: audioop.max", "12: audioop.min",
        "12: import audioop",
    ]  # fmt: skip
    lines = [f"{tmp_path / 'b.py'}:{line}" for line in expected]
    assert answer.stdout.splitlines() == [*lines, "11 uses in 1 of 2 files"]
    assert (answer.stderr, answer.returncode) == ("", 0)


def test_scanner_skips_what_is_not_the_projects_own(tmp_path: Path) -> None:
    for folder in (".hidden", "node_modules/x", "env/lib/site-packages", "__pycache__", "own/part"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "m.py").write_text("import audioop")
    (tmp_path / "env" / "pyvenv.cfg").touch()
    (tmp_path / "env" / "m.py").write_text("import audioop")
    (tmp_path / "own" / "circle").symlink_to(tmp_path)
    answer = scan(tmp_path)
    assert answer.stdout == f"{tmp_path / 'own/part/m.py'}:1: import audioop\n1 uses in 1 of 1 files\n"


def test_scanner_names_what_it_cannot_read_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import audioop\nif")
    (tmp_path / "binary.py").write_bytes(b"\xff\0")
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere")
    (tmp_path / "good.py").write_text("import audioop\n'\\d'")
    answer = scan(tmp_path / "missing", tmp_path)
    assert answer.returncode == 2
    assert answer.stdout.splitlines() == [f"{tmp_path / 'good.py'}:1: import audioop", "1 uses in 1 of 1 files"]
    names = [line.split(": ")[1] for line in answer.stderr.splitlines()]
    assert names == [str(tmp_path / name) for name in ("missing", "bad.py", "binary.py", "gone.py")]
    assert answer.stderr.splitlines()[0].endswith("No such file or directory")


def test_scanner_names_files_as_the_paths_were_given(tmp_path: Path) -> None:
    (tmp_path / "bot").mkdir()
    (tmp_path / "bot" / "m.py").write_text("import audioop")
    for path, shown in (("bot", "bot/m.py"), (".", "bot/m.py"), ("bot/m.py", "bot/m.py"), ("../", "../bot/m.py")):
        cwd = tmp_path / "bot" if path == "../" else tmp_path
        assert scan(path, cwd=cwd).stdout.splitlines()[0] == f"{shown}:1: import audioop"


def test_scanner_takes_a_file_and_wants_a_path(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("from audioop import *")
    assert scan(script).stdout == f"{script}:1: audioop.*\n1 uses in 1 of 1 files\n"
    assert scan().returncode == 2


def test_scanner_leaves_pipes_and_devices_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "good.py").write_text("import audioop\n")
    below = scan(tmp_path)
    assert (below.returncode, below.stdout.splitlines()[-1]) == (0, "1 uses in 1 of 1 files")
    for path in (tmp_path / "pipe.py", Path("/dev/zero")):
        named = scan(path)
        assert named.returncode == 2
        assert named.stderr == (
            f"speechwire.audioop: {path}: expected a file or a folder, got a pipe, a device or a socket\n"
        )


def test_scanner_survives_an_output_that_ends(tmp_path: Path) -> None:
    (tmp_path / "many.py").write_text("import audioop\n" + "audioop.max\n" * 30_000)
    command = [sys.executable, "-m", "speechwire.audioop", str(tmp_path)]
    for shell in ("head -1", "true"):
        result = subprocess.run(
            ["sh", "-c", f'"$@" | {shell}', "sh", *command], capture_output=True, text=True, timeout=100
        )
        assert (result.returncode, result.stderr) == (0, "")
    full = subprocess.run(["sh", "-c", '"$@" > /dev/full', "sh", *command], capture_output=True, text=True, timeout=100)
    assert (full.returncode, full.stderr) == (2, "speechwire.audioop: standard output: No space left on device\n")


def test_scanner_shows_names_that_are_not_text(tmp_path: Path) -> None:
    Path(os.fsdecode(bytes(tmp_path) + b"/b\xff.py")).write_text("import audioop\n")
    result = subprocess.run(
        [sys.executable, "-m", "speechwire.audioop", str(tmp_path)],
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 0
    assert "b\\udcff.py:1: import audioop" in result.stdout


@pytest.mark.parametrize(
    "source",
    [
        'a: object = __import__("audioop"); a.rms(b"", 2)',
        '(a := __import__("audioop")).rms(b"", 2)',
    ],
)
def test_scanner_follows_names_that_are_given(tmp_path: Path, source: str) -> None:
    (tmp_path / "x.py").write_text(source)
    assert "x.py:1: audioop.rms" in scan(tmp_path).stdout
