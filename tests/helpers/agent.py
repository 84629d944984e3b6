"""The in-guest agent as a module, loaded from its file: it is no part of the package."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import omnibase


def load() -> ModuleType:
    """Loads it without running it."""
    path = Path(omnibase.__file__).parent / "core" / "sandbox" / "agent" / "init.py"
    spec = importlib.util.spec_from_file_location("omnibase_agent", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
