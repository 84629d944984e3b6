"""The in-guest agent's modules, loaded from their files: they are no part of the package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

import omnibase

_DIRECTORY = Path(omnibase.__file__).parent / "core" / "sandbox" / "agent"


def load(name: str = "init") -> ModuleType:
    """Loads one without running it; it finds its siblings, as in the guest."""
    spec = importlib.util.spec_from_file_location(
        f"omnibase_agent_{name}", _DIRECTORY / f"{name}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    siblings = {path.stem for path in _DIRECTORY.glob("*.py")}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(_DIRECTORY))
        spec.loader.exec_module(module)
    for sibling in siblings & sys.modules.keys():
        if getattr(sys.modules[sibling], "__file__", "").startswith(str(_DIRECTORY)):
            del sys.modules[sibling]
    return module
