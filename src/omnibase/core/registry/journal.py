"""The journal: a change written down whole before any of its files is touched.

A process that dies in the middle leaves it, and whoever locks the registry next
finishes it. It is as little trusted as everything else: a journal is a change that
the registry could have made now, or it is refused.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from omnibase.core.registry.chain import LINE_BYTES, LogLine
from omnibase.core.registry.checks import MAX_COMPONENT_BYTES, check_script_name
from omnibase.core.registry.store import MAX_POLICY_BYTES, MAX_SCRIPT_BYTES, FindingCode, Tampered
from omnibase.core.registry.view import Change, parse_stored
from omnibase.core.security.strict_json import parse_json
from omnibase.errors import OmniBaseError

__all__ = ["JOURNAL", "MAX_JOURNAL_BYTES", "decode", "encode"]

JOURNAL = ".journal"
# Base64 takes four bytes for three; escapes in the record's text up to six for one.
MAX_JOURNAL_BYTES = 6 * MAX_COMPONENT_BYTES + 2 * (MAX_POLICY_BYTES + MAX_SCRIPT_BYTES)

_KEYS = {"record", "line", "policy", "script", "replaced"}


def encode(change: Change) -> bytes:
    """Returns the journal of a change."""
    document = {
        "record": change.record.decode(),
        "line": change.line.encode().decode(),
        "policy": _packed(change.policy),
        "script": _packed(change.script),
        "replaced": change.replaced,
    }
    return json.dumps(document, sort_keys=True, indent=2).encode() + b"\n"


def decode(data: bytes) -> Change:
    """Reads a journal; whether its change fits the registry is checked elsewhere."""
    try:
        _, document = parse_json(data, JOURNAL, limit=MAX_JOURNAL_BYTES, hint="remove it")
        return _read(document)
    except (Tampered, OmniBaseError, ValueError, TypeError, binascii.Error):
        message = "it is not one that the registry wrote"
        raise Tampered(JOURNAL, FindingCode.INTERRUPTED, message) from None


def _read(document: Any) -> Change:
    if not isinstance(document, dict) or set(document) != _KEYS:
        raise ValueError
    record = document["record"].encode() if isinstance(document["record"], str) else b""
    component = parse_stored(record, JOURNAL)
    raw = document["line"].encode() if isinstance(document["line"], str) else b""
    line = LogLine.decode(raw) if len(raw) == LINE_BYTES else None
    if line is None:
        raise ValueError
    replaced = document["replaced"]
    if replaced is not None:
        folder, _, name = str(replaced).rpartition("/")
        check_script_name(name)
        if folder != f"scripts/{component.uuid}":
            raise ValueError
    return Change(
        component=component, record=record, line=line, replaced=replaced,
        policy=_unpacked(document["policy"]), script=_unpacked(document["script"]),
    )  # fmt: skip


def _packed(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _unpacked(text: object) -> bytes | None:
    if text is None:
        return None
    if not isinstance(text, str):
        raise ValueError
    return base64.b64decode(text, validate=True)
