"""What every suite shares: each test carries the marker of its directory."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# An example takes as long as the machine is busy: that says nothing of what is tested.
settings.register_profile("omnibase", deadline=None)
settings.load_profile("omnibase")

_HERE = Path(__file__).resolve().parent
_SUITES = frozenset({"unit", "property", "contract", "security", "integration"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks `tests/SUITE/**` with `SUITE`, and refuses a test outside the suites."""
    for item in items:
        suite = item.path.relative_to(_HERE).parts[0]
        if suite not in _SUITES:
            raise pytest.UsageError(f"{item.path}: put it into one of {sorted(_SUITES)}")
        item.add_marker(suite)


@pytest.fixture(scope="session", autouse=True)
def state_directory() -> Iterator[Path]:
    """Gives the session a state directory of its own: short, since a socket's path has a limit."""
    with (
        tempfile.TemporaryDirectory(prefix="ob-", dir="/tmp") as path,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("OMNIBASE_STATE_DIR", path)
        yield Path(path)


@pytest.fixture(autouse=True)
def closed_circuit() -> Iterator[None]:
    """A runtime that one test breaks is no reason to refuse the next."""
    yield
    backend = sys.modules.get("omnibase.backend")
    if backend is not None:
        for made in backend._cache.values():
            made.runner.guard._breaker = None
