"""Faults on a real sandbox: `tests/helpers/faults.py` says how often."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from omnibase import backend
from tests.helpers import faults


@pytest.fixture(scope="session", autouse=True)
def image_is_there(state_dir: Path) -> None:
    """What is costly to make is made before anything is broken."""
    backend.backend()


@pytest.fixture(autouse=True)
def warm() -> None:
    """Faults are of sandboxes that a run starts, and of those of pools that tests make."""


@pytest.fixture
def state() -> Iterator[Path]:
    """A state directory of its own."""
    with faults.own_state() as path:
        yield path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """An audit log of its own."""
    return tmp_path / "log"
