"""What one value of a component may be: bounds, forms, and the errors that name them."""

from __future__ import annotations

import re
from datetime import datetime
from uuid import UUID

from omnibase.core.security.patterns import quoted
from omnibase.errors import RegistryError

__all__ = [
    "MAX_COMPONENT_BYTES",
    "check_artifact_name",
    "check_form",
    "check_name",
    "check_number",
    "check_script_name",
    "check_sha256",
    "check_text",
    "check_time",
    "invalid",
    "is_uuid",
    "parse_uuid",
]

FORMAT = 1
MAX_COMPONENT_BYTES = 1 << 20
MAX_OWNER = 200
MAX_DESCRIPTION = 4096
MAX_COMMENT = 1000
MAX_ARTIFACTS = 64
MAX_POLICY_HISTORY = 100
"""Policy versions that a record lists; the store's history has them all."""
MAX_NUMBER = 999_999
"""Revisions of a component, and versions of its policy."""
MAX_SEQUENCE = 9_999_999_999

UUID_PATTERN = r"^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
# No name looks like a uuid: a reference is the one or the other.
NAME_PATTERN = rf"^(?!{UUID_PATTERN[1:]})[a-z0-9](?:[a-z0-9._\-]{{0,62}}[a-z0-9])?$"
ARTIFACT_PATTERN = r"^[a-z0-9][a-z0-9._\-]{0,63}$"
SCRIPT_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9._\-]{0,99}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
TIME_PATTERN = r"^20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"

_NAME, _ARTIFACT, _SCRIPT, _SHA256, _TIME, _UUID = (
    re.compile(pattern[1:-1])
    for pattern in (
        NAME_PATTERN, ARTIFACT_PATTERN, SCRIPT_PATTERN, SHA256_PATTERN, TIME_PATTERN, UUID_PATTERN,
    )
)  # fmt: skip


def invalid(message: str, path: str, hint: str | None = None) -> RegistryError:
    """Returns the error for a value; ``path`` is its JSON path."""
    return RegistryError(message, details={"reason": "invalid", "json_path": path}, hint=hint)


def check_text(value: object, path: str, *, most: int, least: int = 0, lines: bool = False) -> None:
    """Refuses what is not a printable text of a bounded length."""
    if not isinstance(value, str):
        raise invalid(f"`{path}` is not a text", path)
    if not least <= len(value) <= most:
        raise invalid(
            f"`{path}` has {len(value)} characters", path, f"use {least} to {most} characters"
        )
    plain = value.replace("\n", "").replace("\t", "") if lines else value
    if not plain.isprintable():
        raise invalid(
            f"`{path}` has a character that does not print: {quoted(value)}", path, "remove it"
        )


def check_form(value: object, path: str, form: re.Pattern[str], hint: str) -> None:
    """Refuses what is not a text of a form."""
    if not isinstance(value, str) or not form.fullmatch(value):
        shown = quoted(value) if isinstance(value, str) else "a value that is not a text"
        raise invalid(f"`{path}` is {shown}", path, hint)


def check_number(value: object, path: str, most: int, least: int = 1) -> None:
    """Refuses what is not a whole number within bounds."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise invalid(
            f"`{path}` is not a whole number from {least} to {most}", path, "correct the number"
        )


def check_sha256(value: object, path: str) -> None:
    """Refuses what is not a SHA-256 in lower-case hexadecimal digits."""
    check_form(value, path, _SHA256, "write a SHA-256 as 64 lower-case hexadecimal digits")


def check_time(value: object, path: str) -> None:
    """Refuses what is not a time such as ``2025-01-31T12:00:00Z``."""
    check_form(value, path, _TIME, "write a UTC time such as `2025-01-31T12:00:00Z`")
    try:
        datetime.fromisoformat(str(value))
    except ValueError:
        raise invalid(f"`{path}` is {quoted(str(value))}", path, "no such day or hour") from None


def check_script_name(name: str, path: str = "$.entrypoint") -> None:
    """Refuses what is not the name of a script: one segment, no leading dot."""
    hint = "use letters, digits, `_`, `.` and `-`, e.g. `main.py`"
    check_form(name, path, _SCRIPT, hint)


def parse_uuid(text: object, path: str = "$.uuid") -> UUID:
    """Reads a UUID in canonical form.

    Raises:
        RegistryError: It is not one.
    """
    check_form(text, path, _UUID, "write a UUID in lower case, with hyphens")
    return UUID(str(text))


def is_uuid(text: object) -> bool:
    """Says whether it is the text of a UUID in canonical form."""
    return isinstance(text, str) and _UUID.fullmatch(text) is not None


def check_name(name: object) -> None:
    """Refuses what cannot be a component's name."""
    check_form(
        name,
        "$.name",
        _NAME,
        "use at most 64 lower-case letters, digits, `.`, `_` and `-`, e.g. `report-builder`",
    )


def check_artifact_name(name: object) -> None:
    """Refuses what cannot be an artifact's name."""
    hint = "name it with lower-case letters, digits, `.`, `_` and `-`"
    check_form(name, "$.artifacts", _ARTIFACT, hint)
