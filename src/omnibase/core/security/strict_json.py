"""Strict JSON from untrusted files: bounded, no duplicate keys, each fault with its place."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from omnibase.core.security.globs import quoted, quoted_path
from omnibase.errors import ConfigurationError, OmniBaseError

__all__ = ["JsonPath", "json_path", "located", "parse_json", "read_file"]

MAX_DEPTH = 32
"""Objects and lists within each other."""

JsonPath = tuple[str | int, ...]


def read_file(source: str, *, limit: int) -> bytes:
    """Reads a regular file of at most ``limit`` bytes, and never waits for one.

    Raises:
        ConfigurationError: It cannot be read, is no regular file, or is larger.
    """
    try:
        # A FIFO without a writer, or a device, must not make this wait.
        fd = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                what = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
                _fail(source, f"it is {what}", "name a JSON file")
            _check_size(source, status.st_size, limit)
            data = b""
            # One byte past the limit shows that the file has grown since.
            while chunk := os.read(fd, limit + 1 - len(data)):
                data += chunk
        finally:
            os.close(fd)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        _fail(source, f"cannot read it: {reason}", "name a JSON file that can be read")
    _check_size(source, len(data), limit)
    return data


def parse_json(data: bytes, source: str, *, limit: int, hint: str) -> tuple[str, object]:
    """Decodes one JSON document.

    Args:
        data: The document, UTF-8 without a byte order mark.
        source: Where it came from, for errors.
        limit: The most bytes to accept.
        hint: What a good document looks like, for an empty or broken one.

    Returns:
        The text, for `located`, and the value.

    Raises:
        ConfigurationError: It is not strict JSON; ``details`` has ``source``,
            ``line`` and ``column``, both from 1, the column in characters.
    """
    _check_size(source, len(data), limit)
    text = _decode(data, source)
    if not text.strip():
        _fail(source, "it is empty", hint, "", 0)
    _check_depth(text, source)
    try:
        return text, json.loads(
            text,
            object_pairs_hook=_unique_object,
            parse_constant=_no_constant,
            parse_int=_small_int,
        )
    except json.JSONDecodeError as error:
        reason = error.msg[:1].lower() + error.msg[1:].removesuffix(" at")
        _fail(source, f"broken JSON: {reason}", hint, text, error.pos)
    except _Rejected as error:
        _fail(source, error.message, error.hint, text, error.find(text))


def located(error: OmniBaseError, source: str, text: str) -> OmniBaseError:
    """Returns the same error with the place that its ``details["json_path"]`` names."""
    wanted = error.details["json_path"]
    offsets = (offset for path, offset, _ in _walk(text) if json_path(path) == wanted)
    return _placed(error, source, text, next(offsets, None))


def json_path(path: JsonPath) -> str:
    """Writes a path as RFC 9535 does, e.g. ``$.capabilities[3].reason``."""
    parts = (
        f"[{key}]"
        if isinstance(key, int)
        else f".{key}"
        if key.isascii() and key.isidentifier()
        else f"[{quoted(key)[1:-1]!r}]"
        for key in path
    )
    return "$" + "".join(parts)


def _check_size(source: str, size: int, limit: int) -> None:
    if size > limit:
        _fail(source, f"it is larger than {limit} bytes", "make it shorter")


def _decode(data: bytes, source: str) -> str:
    if data.startswith(b"\xef\xbb\xbf"):
        _fail(source, "it begins with a byte order mark", "save it as UTF-8 without one", "", 0)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        _fail(source, "it is UTF-16", "save it as UTF-8", "", 0)
    fault = None
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        fault = error.start
        text = data[:fault].decode()
    if fault is not None:
        _fail(
            source, f"byte `0x{data[fault]:02x}` is not UTF-8", "save it as UTF-8", text, len(text)
        )
    if "\0" in text:
        _fail(source, "it contains a NUL character", "remove it", text, text.index("\0"))
    return text


def _fail(
    source: str, message: str, hint: str, text: str | None = None, offset: int | None = None
) -> NoReturn:
    error = ConfigurationError(message, hint=hint)
    raise _placed(error, source, text, offset) from None


def _placed(
    error: OmniBaseError, source: str, text: str | None, offset: int | None
) -> OmniBaseError:
    """Returns the same error with the place in its message and details."""
    details: dict[str, Any] = {"source": quoted_path(source)[1:-1], **error.details}
    place = quoted_path(source)
    if text is not None and offset is not None:
        details["line"] = text.count("\n", 0, offset) + 1
        details["column"] = offset - (text.rfind("\n", 0, offset) + 1) + 1
        place += f", line {details['line']}, column {details['column']}"
    return type(error)(f"{place}: {error.message}", details=details, hint=error.hint)


class _Rejected(Exception):
    """JSON that the standard parser takes and this one does not.

    Attributes:
        find: Returns the offset in the text of the first key or value at fault.
    """

    def __init__(self, message: str, hint: str, find: Callable[[str], int | None]) -> None:
        super().__init__(message)
        self.message, self.hint, self.find = message, hint, find


def _reject_atom(atom: str, message: str, hint: str) -> NoReturn:
    def find(text: str) -> int | None:
        starts = (offset for _, offset, _ in _walk(text) if text.startswith(atom, offset))
        return next(starts, None)

    raise _Rejected(message, hint, find)


def _reject_duplicate(key: str) -> NoReturn:
    def find(text: str) -> int | None:
        met: set[int] = set()

        def again(owner: int) -> bool:
            known = owner in met
            met.add(owner)
            return known

        places = (
            offset
            for path, offset, owner in _walk(text)
            if owner is not None and path[-1] == key and again(owner)
        )
        return next(places, None)

    raise _Rejected(f"duplicate key {quoted(key)}", "keep one of the two", find)


def _unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            _reject_duplicate(key)
        found[key] = value
    return found


def _no_constant(name: str) -> NoReturn:
    _reject_atom(name, f"`{name}` is not JSON", "remove it; no number is needed there")


def _small_int(digits: str) -> int:
    if len(digits) > 20:
        _reject_atom(digits, f"the number {quoted(digits)} is huge", "remove it")
    return int(digits)


_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[{}\[\]:,]|[^\s{}\[\]:,"]+', re.DOTALL)
_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[{}\[\]]', re.DOTALL)


def _check_depth(text: str, source: str) -> None:
    """Refuses deep nesting before the parser can recurse into it.

    A string that never ends hides the rest of the text here, but the parser stops
    at it as well.
    """
    depth = 0
    for token in _BRACKET.finditer(text):
        if token[0] in "{[":
            depth += 1
            if depth > MAX_DEPTH:
                hint = f"at most {MAX_DEPTH} levels are accepted"
                _fail(source, "it is nested too deeply", hint, text, token.start())
        elif token[0] in "}]":
            depth -= 1


def _walk(text: str) -> Iterator[tuple[JsonPath, int, int | None]]:
    """Yields the path and offset of each key and value, outermost first.

    For a key the third item is the number of its object, for a value ``None``.
    The text has been taken by the parser, at least up to the place that is looked for.
    """
    path: list[str | int] = []
    # Per open bracket: its object's number, or -1 for a list; the last path item is
    # the list's index, or the object's current key ("" until there is one).
    owners: list[int] = []
    expect_key = False
    count = 0
    for token in _TOKEN.finditer(text):
        kind, offset = token[0], token.start()
        if kind in "}]":
            owners.pop()
            path.pop()
        elif kind == ",":
            if owners[-1] < 0:
                path[-1] = int(path[-1]) + 1
            else:
                expect_key = True
        elif expect_key and kind[0] == '"':
            path[-1] = json.loads(kind)
            expect_key = False
            yield tuple(path), offset, owners[-1]
        elif kind != ":":
            yield tuple(path), offset, None
            if kind in "{[":
                count += 1
                expect_key = kind == "{"
                owners.append(count if expect_key else -1)
                path.append("" if expect_key else 0)
