"""``omnibase audit``: finds the module of each of its commands."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from omnibase.cli.commands import Invocation, Parser

__all__ = ["add_arguments", "add_log_option", "execute", "log_directory"]

_MODULES: Final = {
    "tail": "audit_view",
    "query": "audit_view",
    "show": "audit_view",
    "stats": "audit_view",
    "index": "audit_check",
    "export": "audit_export",
    "verify": "audit_check",
    "key": "audit_check",
    "checkpoint": "audit_check",
    "outbox": "audit_outbox",
}


def add_arguments(parser: Parser, name: str) -> None:
    """Declares the flags of one command."""
    _module(name).add_arguments(parser, name)


def execute(invocation: Invocation) -> int:
    """Runs one command and returns its exit code.

    Raises:
        OmniBaseError: What the command ends with.
    """
    from omnibase.cli.report import errors_as_json

    with errors_as_json(getattr(invocation.options, "json", False)):
        return int(_module(invocation.name).execute(invocation))


def add_log_option(parser: Parser) -> None:
    """Adds ``--audit``; `log_directory` reads it."""
    from omnibase.cli.commands import Once

    parser.add_argument(
        "--audit", action=Once, metavar="DIR",
        help="the log's directory (default: $OMNIBASE_AUDIT, else `audit` in the state directory)",
    )  # fmt: skip


def log_directory(options: Any) -> Path:
    """Returns the directory of the log.

    Raises:
        ConfigurationError: It is ``off``, or empty.
    """
    from omnibase.cli.engine import audit_directory

    directory = audit_directory(options.audit) if options.audit != "" else None
    if directory is None:
        raise ConfigurationError("no audit log is named", hint="name one: `--audit DIR`")
    return directory


def _module(name: str) -> Any:
    return importlib.import_module(f"omnibase.cli.{_MODULES[name.split(' ')[1]]}")
