"""``omnibase policy``: finds the module of each of its commands."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from omnibase.cli.commands import Invocation, Parser

__all__ = ["add_arguments", "execute"]

_MODULES: Final = {
    "validate": "policy_files",
    "lint": "policy_files",
    "check": "policy_ask",
    "explain": "policy_ask",
    "diff": "policy_diff",
    "test": "policy_tables",
    "import": "policy_import",
    "show": "policy_show",
    "history": "policy_show",
}


def add_arguments(parser: Parser, name: str) -> None:
    """Declares the flags of one command."""
    _module(name).add_arguments(parser, name)


def execute(invocation: Invocation) -> int:
    """Runs one command and returns its exit code.

    Raises:
        OmniBaseError: What the command ends with; with ``--json`` it has been printed,
            unless it is the command line's.
    """
    from omnibase.cli.report import errors_as_json

    with errors_as_json(invocation.options.json):
        return int(_module(invocation.name).execute(invocation))


def _module(name: str) -> Any:
    return importlib.import_module(f"omnibase.cli.{_MODULES[name.partition(' ')[2]]}")
