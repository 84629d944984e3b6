"""Each section of the benchmarks works, at the smallest size, and its table has figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.__main__ import merged
from benchmarks.sections import SECTIONS


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_has_rows(name: str) -> None:
    text = SECTIONS[name]("smoke")
    assert text.startswith("## ")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    figures = [row for row in rows if any(cell.strip()[:1].isdigit() for cell in row.split("|"))]
    assert len(rows) >= 3, text
    assert figures, text


def test_a_section_that_was_not_run_stays_on_the_page(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    for name in ("policy", "start"):
        page.write_text(merged(page, name, f"## {name}\n\nold\n"))
    page.write_text(merged(page, "start", "## start\n\nnew\n"))
    text = page.read_text()
    assert text.startswith("# Benchmarks\n")
    assert text.index("## start\n\nnew") < text.index("## policy\n\nold")
    assert text.count("## start") == 1
