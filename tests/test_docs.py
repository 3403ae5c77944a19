"""What the pages under docs claim is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import gradium_tables

DOCS = Path(__file__).parent.parent / "docs"


def test_tables_are_those_of_the_code() -> None:
    page = (DOCS / "gradium.md").read_text()
    assert gradium_tables.fill(page) == page, "run make docs"


def test_links_lead_somewhere() -> None:
    for page in DOCS.glob("*.md"):
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (DOCS / link).exists(), f"{page.name}: {link}"
