"""Taking secret values out of a stream of bytes, as they are and in their usual encodings.

Pure: bytes in, bytes out. It guards against accidents (a token in a traceback, an
`Authorization` header in a debug log), not against a script that wants to tell: that
can reverse the value, or print it letter by letter. What keeps a secret in is that
there is no way out but a grant.

A byte is replaced if, and only if, it belongs to an occurrence of a form, so the
answer does not depend on how the input was cut into chunks. To know that, a chunk's
end is held back for as long as it may be the beginning of a form: never more than
the longest form less one byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from itertools import chain
from typing import Final
from urllib.parse import quote_from_bytes

from omnibase.core.secrets.store import MIN_SECRET_BYTES, Secret

__all__ = ["ScrubbedStream", "Scrubber", "forms"]

# What encoders leave as it is, besides letters, digits and `_.-~`: nothing, a path's
# slashes (Python's default), and what JavaScript's encodeURIComponent does.
_SAFE: Final = ("", "/", "!*'()")
_PROCESS_NAME_BYTES: Final = 15  # TASK_COMM_LEN, less its NUL: prctl(2)
_KEY_BYTES: Final = 64
_ESCAPE: Final = re.compile(rb"%[0-9A-F]{2}")


class Scrubber:
    """Knows the values of one run.

    Args:
        secrets: Of the run; with none, everything passes.
    """

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        found: dict[bytes, str] = {}
        hidden = [(s,) if s.hidden is None else s.hidden for s in secrets]
        for secret in chain.from_iterable(hidden):
            for form in forms(secret.value):
                found.setdefault(form, secret.name)
        self._forms = tuple((form, b"***%s***" % name.encode()) for form, name in found.items())

    def __bool__(self) -> bool:
        """Whether it knows any."""
        return bool(self._forms)

    def stream(self) -> ScrubbedStream:
        """Returns a stream that starts here."""
        return ScrubbedStream(self._forms)

    def data(self, data: bytes) -> bytes:
        """Scrubs all of it at once."""
        stream = self.stream()
        return stream.feed(data) + stream.finish()

    def text(self, text: str, /, *, cut: bool = False) -> str:
        """Scrubs text in which surrogates stand for bytes that are not UTF-8.

        Args:
            text: As long as a process's name can be, it may be one that was cut.
            cut: It may be one in any case: see `ScrubbedStream.finish`.
        """
        if not self._forms:
            return text
        data, stream = text.encode("utf-8", "surrogateescape"), self.stream()
        cut = cut or len(data) == _PROCESS_NAME_BYTES
        shown = stream.feed(data) + stream.finish(cut=cut)
        return shown.decode("utf-8", "surrogateescape")


class ScrubbedStream:
    """One stream on its way through, in chunks."""

    def __init__(self, forms: tuple[tuple[bytes, bytes], ...]) -> None:
        self._forms = forms
        self._held = b""
        self._covered = 0  # bytes at the start of what is held whose mark has been given

    def feed(self, chunk: bytes) -> bytes:
        """Takes a chunk and returns what is certain, of it and of what was held back."""
        if not self._forms:
            return chunk
        buffer = self._held + chunk
        return self._take(buffer, min(_begun(buffer, form) for form, _ in self._forms))

    def finish(self, *, cut: bool = False) -> bytes:
        """Returns what was held back; the stream can then start anew.

        Args:
            cut: The stream did not come to its own end, so what is held may be a
                secret cut short: from `MIN_SECRET_BYTES` on it is replaced.
        """
        buffer = self._held
        end = len(buffer)
        begun = [(_begun(buffer, form), mark) for form, mark in self._forms if cut]
        shown = self._take(
            buffer,
            end,
            [(at, at - end, mark) for at, mark in begun if end - at >= MIN_SECRET_BYTES],
        )
        self._held, self._covered = b"", 0
        return shown

    def _take(
        self, buffer: bytes, decided: int, more: Iterable[tuple[int, int, bytes]] = ()
    ) -> bytes:
        """Gives what starts before ``decided`` and holds the rest back."""
        found = (
            (start, -len(form), mark)
            for form, mark in self._forms
            for start in _occurrences(buffer, form)
            if start < decided
        )
        shown: list[bytes] = []
        until = self._covered
        for start, less, mark in sorted((*found, *more)):
            if start >= until:
                shown += (buffer[until:start], mark)
            until = max(until, start - less)
        shown.append(buffer[until:decided])
        self._held, self._covered = buffer[decided:], max(0, until - decided)
        return b"".join(shown)


def forms(value: bytes) -> tuple[bytes, ...]:
    """Returns what to look for: the value without the white space around it, and its encodings.

    Base64 is found inside of a longer text too, at each of its three alignments:
    the characters that the value alone decides.
    """
    core = value.strip()
    # Hosts are told in small letters, and paths without their empty parts.
    found = [
        core,
        core.lower(),
        b"/".join(part for part in core.split(b"/") if part not in (b"", b".")),
        core.hex().encode(),
        core.hex().upper().encode(),
        repr(core)[2:-1].encode(),
        _in_a_text_with_quotes(core)[2:].encode(),
        core.replace(b"\\", rb"\\").replace(b":", rb"\:"),  # libpq's password file
    ]
    try:
        text = core.decode()
    except UnicodeDecodeError:
        pass
    else:
        found += (
            repr(text)[1:-1].encode(),
            _in_a_text_with_quotes(text)[1:].encode(),
            json.dumps(text)[1:-1].encode(),
            json.dumps(text, ensure_ascii=False)[1:-1].encode(),
        )
    for percent in (
        *(quote_from_bytes(core, safe).encode() for safe in _SAFE),
        quote_from_bytes(core, " ").replace(" ", "+").encode(),
        b"".join(b"%%%02X" % byte for byte in core),
    ):
        found += (percent, _ESCAPE.sub(lambda escape: escape[0].lower(), percent))
    import base64

    for text64 in (*_base64(core), base64.b64encode(value), base64.b64encode(core)):
        for padded in (text64, text64.rstrip(b"=")):
            found += (padded, padded.translate(bytes.maketrans(b"+/", b"-_")))
    found += (base64.encodebytes(value).strip(), base64.encodebytes(core).strip())  # in lines
    return tuple(form for form in dict.fromkeys(found) if len(form) >= MIN_SECRET_BYTES)


def _in_a_text_with_quotes(value: str | bytes) -> str:
    """As `repr` writes it where both kinds of quotes are about: it escapes the single one."""
    quotes = "'\"" if isinstance(value, str) else b"'\""
    return repr(value + quotes)[: -len("\\'\"'")]  # type: ignore[operator]


def _base64(value: bytes) -> Iterable[bytes]:
    import base64

    for before in range(3):
        encoded = base64.b64encode(bytes(before) + value)
        first, last = -(-8 * before // 6), 8 * (before + len(value)) // 6
        yield encoded[first:last]


def _occurrences(buffer: bytes, form: bytes) -> Iterable[int]:
    start = buffer.find(form)
    while start >= 0:
        yield start
        start = buffer.find(form, start + 1)


def _begun(buffer: bytes, form: bytes) -> int:
    """Returns the first place from which on the buffer is a beginning of the form, else its end."""
    end = len(buffer)
    start = max(0, end - len(form) + 1)
    # A longer key first: many a value starts as its output goes on (`-----`).
    for size in (_KEY_BYTES, MIN_SECRET_BYTES):
        key = form[:size]
        while (found := buffer.find(key, start)) >= 0:
            if form.startswith(buffer[found:]):
                return found
            start = found + 1
        start = max(start, end - len(key) + 1)
    for found in range(start, end):
        if form.startswith(buffer[found:]):
            return found
    return end
