"""Requirements, read strictly: what pip reads, without what lets a file steer it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from omnibase.errors import ConfigurationError

__all__ = ["MAX_BYTES", "MAX_REQUIREMENTS", "Wanted", "parse", "to_text"]

MAX_BYTES: Final = 1 << 20
MAX_REQUIREMENTS: Final = 2000
_MAX_HASHES: Final = 200

_HASH: Final = re.compile(r"--hash[= ]sha256:([0-9a-f]{64})")
_COMMENT: Final = re.compile(r"(^|\s)#.*$")
_OPTIONS: Final = {
    "-e": "install it into a virtual environment and grant that: `--venv DIR`",
    "--editable": "install it into a virtual environment and grant that: `--venv DIR`",
    "-r": "name one file; `cat a.txt b.txt > all.txt` joins several",
    "--requirement": "name one file; `cat a.txt b.txt > all.txt` joins several",
    "-c": "put constraints into pip's configuration: `pip config set global.constraint FILE`",
    "--constraint": "put constraints into pip's configuration: "
    "`pip config set global.constraint FILE`",
}
_CONFIGURE: Final = (
    "a file does not choose where packages come from; configure pip: `pip config set "
    "global.index-url URL`"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One requirement.

    Attributes:
        name: In canonical form.
        text: As PEP 508 writes it, in one spelling.
        version: The version that it is pinned to with ``==``; ``None`` if it is not.
        hashes: SHA-256 digests, in hexadecimal, that its file may have; sorted.
    """

    name: str
    text: str
    version: str | None
    hashes: tuple[str, ...] = ()


def parse(text: str, where: str = "the requirements") -> tuple[Wanted, ...]:
    """Reads a requirements file.

    Args:
        text: Its content.
        where: Its name, for messages.

    Returns:
        The requirements, sorted by name and text, each once.

    Raises:
        ConfigurationError: It holds what is no requirement by name, or what would
            change where packages come from.
    """
    if len(text) > MAX_BYTES:
        raise ConfigurationError(f"`{where}` is larger than {MAX_BYTES >> 20} MiB", hint="split it")
    found: dict[str, Wanted] = {}
    for number, line in _lines(text):
        wanted = _parse_line(line, f"line {number} of `{where}`")
        known = found.get(wanted.text)
        if known is not None and known.hashes != wanted.hashes:
            raise ConfigurationError(
                f"line {number} of `{where}`: `{wanted.text}` is there twice, with other hashes",
                hint="keep one of them",
            )
        found[wanted.text] = wanted
        if len(found) > MAX_REQUIREMENTS:
            raise ConfigurationError(
                f"`{where}` has more than {MAX_REQUIREMENTS} requirements", hint="split it"
            )
    hashed = [wanted for wanted in found.values() if wanted.hashes]
    if hashed and len(hashed) != len(found):
        bare = next(wanted for wanted in found.values() if not wanted.hashes)
        raise ConfigurationError(
            f"`{where}`: `{bare.text}` has no hash, and others do",
            hint="lock all of it: `omnibase packages lock REQUIREMENTS -o FILE`",
        )
    return tuple(sorted(found.values(), key=lambda wanted: (wanted.name, wanted.text)))


def to_text(wanted: Iterable[Wanted]) -> str:
    """Returns requirements as the text of a file, one way of writing each."""
    lines = []
    for one in wanted:
        lines.append(" \\\n    ".join([one.text, *(f"--hash=sha256:{h}" for h in one.hashes)]))
    return "".join(f"{line}\n" for line in lines)


def _lines(text: str) -> list[tuple[int, str]]:
    """Joins continuations and takes comments out, as pip does."""
    lines: list[tuple[int, str]] = []
    parts: list[str] = []
    start = 0
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        start = start or number
        if raw.endswith("\\") and not raw.lstrip().startswith("#"):
            parts.append(raw[:-1])
            continue
        parts.append(raw)
        line = _COMMENT.sub("", " ".join(parts)).strip()
        if line:
            lines.append((start, line))
        parts, start = [], 0
    if parts:
        raise ConfigurationError(
            f"line {start} goes on after the end of the requirements",
            hint="take the last `\\` out",
        )
    return lines


def _parse_line(line: str, where: str) -> Wanted:
    shown = line[:120]
    option = re.match(r"-{1,2}[A-Za-z-]+", line)
    if option is not None:
        raise ConfigurationError(
            f"{where}: `{shown}` is an option", hint=_OPTIONS.get(option[0], _CONFIGURE)
        )
    hashes = sorted(set(_HASH.findall(line)))
    bare = _HASH.sub("", line).strip()
    if re.search(r"(^|\s)--", bare):
        raise ConfigurationError(
            f"{where}: `{shown}` has an option that is not `--hash=sha256:…`",
            hint="write 64 hexadecimal digits after `--hash=sha256:`, and no other option",
        )
    if len(hashes) > _MAX_HASHES:
        raise ConfigurationError(f"{where} has more than {_MAX_HASHES} hashes", hint="split it")
    try:
        requirement = Requirement(bare)
    except InvalidRequirement:
        if "/" in bare:
            raise _place(where, shown) from None
        raise ConfigurationError(
            f"{where}: `{shown}` is not a requirement",
            hint="write a name and versions, e.g. `numpy>=2,<3`",
        ) from None
    if requirement.url is not None or requirement.name.endswith((".whl", ".tar.gz", ".zip")):
        raise _place(where, shown)
    pins = [s for s in requirement.specifier if s.operator == "==" and "*" not in s.version]
    version = pins[0].version if len(pins) == len(requirement.specifier) == 1 else None
    if hashes and version is None:
        raise ConfigurationError(
            f"{where}: `{shown}` has a hash and no version",
            hint=f"pin it: `{requirement.name}==VERSION`",
        )
    requirement.name = canonicalize_name(requirement.name)
    return Wanted(
        name=requirement.name, text=str(requirement), version=version, hashes=tuple(hashes)
    )


def _place(where: str, shown: str) -> ConfigurationError:
    return ConfigurationError(
        f"{where}: `{shown}` names a place, not a package of the index",
        hint="put wheels into a directory: `pip config set global.find-links DIR`; or grant a "
        "virtual environment: `--venv DIR`",
    )
