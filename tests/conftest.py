"""What every suite shares: each test carries the marker of its directory."""

from __future__ import annotations

from pathlib import Path

import pytest

_HERE = Path(__file__).resolve().parent
_SUITES = frozenset({"unit", "property", "contract", "security", "integration"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks `tests/SUITE/**` with `SUITE`, and refuses a test outside the suites."""
    for item in items:
        suite = item.path.relative_to(_HERE).parts[0]
        if suite not in _SUITES:
            raise pytest.UsageError(f"{item.path}: put it into one of {sorted(_SUITES)}")
        item.add_marker(suite)
