"""Write the tables of docs/gradium.md from what the code says; `make docs` runs it, and a test compares.

Everything between a line `<!-- NAME -->` and the line `<!-- end -->` is replaced.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from speechwire import events
from speechwire.formats import FRAME_MS, bytes_per_second
from speechwire.gradium import wire

PAGE = Path(__file__).parent / "gradium.md"
SETUPS = {"tts": wire.TTSSetup, "stt": wire.STTSetup, "s2s": wire.S2SSetup}


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), ["---"] * len(list(head)), *map(list, rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def code(text: object) -> str:
    return f"`{text}`"


def mark(present: bool) -> str:
    return "yes" if present else ""


def products() -> str:
    head = ("product", "WebSocket route", "takes", "gives", "realtime", "pull", "buffered")
    rows = [
        (
            product.name,
            code(product.route),
            "audio" if product.audio_in else "text",
            "audio, text" if product.audio_out else "text",
            *(code(f"{product.name}{suffix}") for suffix in ("_realtime", "_stream", "")),
        )
        for product in wire.PRODUCTS
    ]
    return table(head, rows)


def setup_fields() -> str:
    names = list(dict.fromkeys(name for setup in SETUPS.values() for name in setup.__annotations__))
    rows = [(code(name), *(mark(name in SETUPS[p.name].__annotations__) for p in wire.PRODUCTS)) for name in names]
    return table(("field", *(product.name for product in wire.PRODUCTS)), rows)


def options() -> str:
    rows = []
    for name in dict.fromkeys(name for product in wire.PRODUCTS for name in product.options):
        for text, users in grouped(name).items():
            rows.append((code(name), ", ".join(users), *text))
    return table(("key", "product", "type", "range", "default"), rows)


def grouped(name: str) -> dict[tuple[str, str, str], list[str]]:
    """Return what the products say of an option, and which of them say the same."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for product in wire.PRODUCTS:
        option = product.options.get(name)
        if option is not None:
            allowed = " ".join(option.values)
            if option.low is not None and option.high is not None:
                allowed = f"{option.low:g} to {option.high:g}"
            default = "" if option.default is None else f"{option.default}"
            found.setdefault((option.type.__name__, allowed, default), []).append(product.name)
    return found


def formats() -> str:
    rows = []
    for name in wire.FORMATS:
        sizes = []
        for codec_format in (wire.input_codec_format(name), wire.output_codec_format(name)):
            per_second = bytes_per_second(codec_format)
            sizes.append("" if per_second is None else str(per_second * FRAME_MS // 1000))
        rows.append((code(name), *sizes))
    return table(("format", "bytes in 80 ms, in", "out"), rows)


def codes() -> str:
    rows = [
        (str(wire.CLOSE_PROTOCOL), "a message that breaks the rules", f"{wire.NO_SESSION!r}, {wire.INVALID_MESSAGE!r}"),
        (
            str(wire.CLOSE_POLICY),
            "key, format, limits",
            f"{wire.NO_CREDENTIALS!r}, {wire.BAD_CREDENTIALS!r}, {wire.TOO_MANY_SESSIONS!r}, {wire.SESSION_TOO_LONG!r}",
        ),
        (str(wire.CLOSE_INTERNAL), "an option out of range, a failure of the service", ""),
    ]
    return table(("code", "meaning", "texts that are known"), rows)


def typed_events() -> str:
    rows = []
    for event in events.ServiceEvent.__args__:
        summary = (event.__doc__ or "").partition("\n")[0]
        rows.append((code(event.__name__), ", ".join(map(code, event.__annotations__)), summary))
    return table(("event", "fields", "meaning"), rows)


SECTIONS: dict[str, Callable[[], str]] = {
    "products": products,
    "setup": setup_fields,
    "options": options,
    "formats": formats,
    "codes": codes,
    "events": typed_events,
}


def fill(page: str, sections: Mapping[str, Callable[[], str]] = SECTIONS) -> str:
    """Return the page with its tables made anew."""
    for name, section in sections.items():
        head, marker, rest = page.partition(f"<!-- {name} -->\n")
        _, end, tail = rest.partition("<!-- end -->")
        if not marker or not end:
            raise ValueError(f"expected a section {name!r} with an end, got none")
        page = f"{head}{marker}\n{section()}\n\n{end}{tail}"
    return page


if __name__ == "__main__":
    page = PAGE.read_text()
    PAGE.write_text(fill(page))
    sys.stdout.write(f"{PAGE}\n")
