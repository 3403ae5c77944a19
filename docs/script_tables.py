"""Write the tables of docs/script.md and the schema beside it from what the code says; `make docs` runs it.

A test compares both. The sections of the page are marked as those of gradium.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from gradium_tables import code, fill, table
from speechwire.server.engines.scenario import SCENARIO
from speechwire.server.engines.schema import Choice, Items, Keys, Kind, Number, Span, Text

PAGE = Path(__file__).parent / "script.md"
SCHEMA = Path(__file__).parent / "script.schema.json"


def schema(kind: Kind) -> dict[str, Any]:
    """Return a part of the format as JSON Schema."""
    told: dict[str, Any] = {"description": kind.about}
    if kind.default is not None:
        told["default"] = kind.default
    match kind:
        case Number(low=low, high=high, whole=whole):
            return told | {"type": "integer" if whole else "number", "minimum": low, "maximum": high}
        case Text(words=(word,)):
            return told | {"const": word}
        case Text(words=()):
            return told | {"type": "string", "minLength": 1}
        case Text(words=words):
            return told | {"enum": list(words)}
        case Span(low=low, high=high):
            edge = {"type": "number", "minimum": low, "maximum": high}
            return told | {"type": "array", "items": edge, "minItems": 2, "maxItems": 2}
        case Items(item=item):
            return told | {"type": "array", "items": schema(item)}
        case Choice(of=of):
            return told | {"oneOf": [schema(keys) for keys in of.values()]}
        case Keys(keys=keys, required=required, alone=alone):
            told |= {"type": "object", "properties": {key: schema(inner) for key, inner in keys.items()}}
            told |= {"required": list(required), "additionalProperties": False}
            return told if alone is None else told | {"dependentSchemas": {alone: {"maxProperties": 1}}}


def schema_file() -> str:
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Speechwire scenario"}
    return json.dumps(head | schema(SCENARIO), indent=2, ensure_ascii=False) + "\n"


def sessions() -> dict[str, Keys]:
    """Return the sessions by product."""
    items = SCENARIO.keys["sessions"]
    assert isinstance(items, Items)
    assert isinstance(items.item, Choice)
    return dict(items.item.of)


def turns() -> dict[str, Keys]:
    """Return the turns by product."""
    found = {}
    for product, session in sessions().items():
        items = session.keys["turns"]
        assert isinstance(items, Items)
        assert isinstance(items.item, Keys)
        found[product] = items.item
    return found


def parts(name: str) -> dict[str, Keys]:
    """Return an object that some turns may have, by product."""
    found = {product: turn.keys.get(name) for product, turn in turns().items()}
    return {product: part for product, part in found.items() if isinstance(part, Keys)}


def reference(places: dict[str, Keys]) -> str:
    """Return the table of the keys that objects of the same name have for the products."""
    rows = []
    for key in dict.fromkeys(key for part in places.values() for key in part.keys):
        users = [product for product, part in places.items() if key in part.keys]
        kinds = [places[product].keys[key] for product in users]
        rows.append((code(key), " ".join(users), expected(kinds), kinds[0].about, default(places[users[0]], key)))
    return table(("key", "in", "what", "meaning", "default"), rows)


def expected(kinds: list[Kind]) -> str:
    if all(isinstance(kind, Text) and kind.words for kind in kinds):
        words = dict.fromkeys(word for kind in kinds if isinstance(kind, Text) for word in kind.words)
        return " ".join(map(code, words))
    return "an object, see below" if isinstance(kinds[0], Keys) else kinds[0].expected


def default(part: Keys, key: str) -> str:
    if key in part.required:
        return "required"
    value = part.keys[key].default
    return "" if value is None else code(value)


SECTIONS = {
    "session": lambda: reference(sessions()),
    "turn": lambda: reference(turns()),
    "audio": lambda: reference(parts("audio")),
    "error": lambda: reference(parts("error")),
}


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text(), SECTIONS))
    SCHEMA.write_text(schema_file())
    sys.stdout.write(f"{PAGE}\n{SCHEMA}\n")
