"""Finding a command on the host, and refusing what cannot be confined as it stands.

The caller's ``PATH`` plays no part: a name stands for the same file in each run.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from omnibase.core.sandbox import _runsc, elf
from omnibase.core.sandbox.commands.layout import is_name
from omnibase.core.sandbox.commands.ways import exposed
from omnibase.core.sandbox.monitor.attempts import Violation
from omnibase.errors import ExternalCommandError

__all__ = [
    "HOST_LOADER",
    "MAX_ATTEMPTED",
    "SEARCH_PATH",
    "Found",
    "attempted",
    "check",
    "find",
    "libraries_of",
    "outlook",
    "read_program",
    "refused",
]

SEARCH_PATH: Final = (
    "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
)  # fmt: skip
HOST_LOADER: Final = "/lib64/ld-linux-x86-64.so.2"
_MAX_BYTES: Final = 512 << 20
_MAX_LIBRARIES: Final = 512
MAX_ATTEMPTED: Final = 64
"""Most commands that `attempted` looks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Where the host has a command.

    Attributes:
        name: The command.
        path: Its file, links followed.
        places: Paths in `SEARCH_PATH` that lead to that file.
    """

    name: str
    path: str
    places: tuple[str, ...]


def refused(name: str, why: str, hint: str) -> ExternalCommandError:
    """Returns the error for a command that cannot be brought in."""
    capability = f"EXTERNAL_COMMAND:{name}"
    return ExternalCommandError(
        f"`{capability}` cannot be granted: {why}",
        details={"capability": capability, "command": name},
        hint=hint,
    )


def find(name: str) -> Found:
    """Looks a command up as a system's shell would.

    Raises:
        ExternalCommandError: There is none.
    """
    places = [(f"{place}/{name}", _target(f"{place}/{name}")) for place in SEARCH_PATH]
    path = next((target for _, target in places if target is not None), None)
    if path is None:
        raise refused(
            name,
            f"this machine has no `{name}` in {', '.join(f'`{p}`' for p in SEARCH_PATH[:4])}",
            "install it, or correct its name",
        )
    return Found(name=name, path=path, places=tuple(p for p, target in places if target == path))


def check(name: str) -> Found:
    """Finds a command and looks at it as a run would; copies nothing.

    Raises:
        ExternalCommandError: It is missing, or cannot be confined.
    """
    found = find(name)
    if elf.interpreter(read_program(found)) is not None:
        libraries_of(found)
    return found


def outlook(name: str) -> str | None:
    """Returns the file that a grant of the name would bring in, if there is one."""
    try:
        return find(name).path if is_name(name) else None
    except ExternalCommandError:
        return None


def attempted(violations: Iterable[Violation]) -> dict[str, str | None]:
    """Returns what executions were tried of, each with the file that a grant would bring in.

    Args:
        violations: Of a run; what is in them is the script's choice.

    Returns:
        At most `MAX_ATTEMPTED`, by ``EXTERNAL_COMMAND:name``; ``None`` where this machine
        has no such command.
    """
    prefix = "EXTERNAL_COMMAND:"
    named = dict.fromkeys(
        v.capability for v in violations if v.capability and v.capability.startswith(prefix)
    )
    return {one: outlook(one[len(prefix) :]) for one in list(named)[:MAX_ATTEMPTED]}


def _target(place: str) -> str | None:
    """Returns the executable file at a place, links followed, if there is one."""
    try:
        path = os.path.realpath(place, strict=True)
        mode = os.stat(path).st_mode
    except OSError:
        return None
    return path if stat.S_ISREG(mode) and mode & 0o111 else None


def read_program(found: Found) -> bytes:
    """Reads a command's file.

    Raises:
        ExternalCommandError: It is not a program that can be confined as it stands.
    """
    name, path = found.name, found.path
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            _check_status(found, status)
            data = file.read(_MAX_BYTES + 1)
            rights = _has_rights(file.fileno())
    except OSError as error:
        raise refused(name, f"`{path}` cannot be read: {error.strerror}", "check it") from error
    if rights:
        raise _privileged(found, "has file capabilities")
    if data[:2] == b"#!":
        raise _script(found, data)
    if not elf.is_x86_64(data):
        raise refused(name, f"`{path}` is no program for x86-64", "grant another command")
    try:
        loader = elf.interpreter(data)
        library = elf.is_library(data)
    except ValueError as error:
        raise refused(name, f"`{path}` is {error}", "reinstall it") from error
    if library:  # the loader is one, and runs any file
        raise refused(
            name, f"`{path}` is a library or a loader, and no program", "grant the program itself"
        )
    if loader is not None and os.path.realpath(loader) != os.path.realpath(HOST_LOADER):
        raise refused(
            name,
            f"`{path}` is for the loader `{loader}`, which is not glibc's",
            "install one that is linked against glibc, or statically",
        )
    return data


def _check_status(found: Found, status: os.stat_result) -> None:
    if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
        raise _privileged(found, "is set-user-id or set-group-id")
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
        raise refused(
            found.name,
            f"`{found.path}` may be replaced by others than root",
            f"`chown root {found.path}; chmod go-w {found.path}`, if you trust what it is",
        )
    _check_way(found, found.places[0])
    if status.st_size > _MAX_BYTES:
        raise refused(
            found.name, f"`{found.path}` has more than {_MAX_BYTES >> 20} MiB", "grant another one"
        )


def _check_way(found: Found, path: str) -> None:
    loose = exposed(path)
    if loose is not None:
        raise refused(
            found.name,
            f"`{path}` leads through `{loose}`, which others than root may change",
            f"`chown root {loose}; chmod go-w {loose}`, if you trust what is there",
        )


def _has_rights(fd: int) -> bool:
    try:
        os.getxattr(fd, "security.capability")
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP):
            raise
        return False
    return True


def _privileged(found: Found, why: str) -> ExternalCommandError:
    return refused(
        found.name,
        f"`{found.path}` {why}, and has no such rights in a sandbox",
        "grant a command that works without them",
    )


def _script(found: Found, data: bytes) -> ExternalCommandError:
    words = data[2:256].split(b"\n", 1)[0].decode("ascii", "replace").split() or [""]
    if os.path.basename(words[0]) == "env":
        words = [word for word in words[1:] if not word.startswith("-")] or [""]
    interpreter = os.path.basename(words[0])
    if not is_name(interpreter):
        interpreter = "NAME"
    return refused(
        found.name,
        f"`{found.path}` is a script, and what is executed is its interpreter",
        f"grant `EXTERNAL_COMMAND:{interpreter}` and `FILE_READ:{found.path}`, and start "
        f"`{interpreter} {found.path}`",
    )


def libraries_of(found: Found) -> dict[str, str]:
    """Returns ``soname → path`` of all that a dynamically linked command loads.

    Raises:
        ExternalCommandError: A library is missing, or is not found by its name.
    """
    listing = _runsc.loader_listing(Path(found.path))
    if listing is None:
        raise refused(found.name, f"`{found.path}` does not load on this machine", "reinstall it")
    missing = sorted(name for name, path in listing.items() if path is None)
    if missing:
        raise refused(
            found.name, f"`{found.path}` needs `{missing[0]}`, which is not here", "install it"
        )
    odd = sorted(n for n in listing if "/" in n and os.path.realpath(n) != _loader())
    if odd:
        raise refused(
            found.name, f"`{found.path}` needs `{odd[0]}` at exactly that path", "grant another one"
        )
    if len(listing) > _MAX_LIBRARIES:
        raise refused(
            found.name,
            f"`{found.path}` needs more than {_MAX_LIBRARIES} libraries",
            "grant another one",
        )
    libraries = {n: path for n, path in listing.items() if "/" not in n and path is not None}
    for path in libraries.values():
        _check_way(found, path)
    return libraries


def _loader() -> str:
    return os.path.realpath(HOST_LOADER)
