"""Opening what file grants name: each path is walked without following a link.

A path is walked component by component with ``O_PATH | O_NOFOLLOW``, and what is
mounted later is the descriptor reached, never the path. So a link swapped in
between check and mount cannot win: either the walk meets it and refuses it by
name, or the descriptor already holds the file checked.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from omnibase.core.sandbox.spec import FileGrant, SandboxSpec
from omnibase.errors import CapabilityError

__all__ = ["MAX_GLOB_MATCHES", "StagedMount", "resolve_grants", "walk"]

MAX_GLOB_MATCHES: Final = 256
_MAX_GLOB_ENTRIES: Final = 100_000
_MAX_TREE_ENTRIES: Final = 100_000
_SET_ID: Final = stat.S_ISUID | stat.S_ISGID
_KERNEL_FILESYSTEMS: Final = frozenset(
    {
        "bdev", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts",
        "devtmpfs", "efivarfs", "fusectl", "mqueue", "nsfs", "proc", "pstore", "rpc_pipefs",
        "autofs", "binder", "fuse.lxcfs", "functionfs", "hugetlbfs", "nfsd", "resctrl",
        "securityfs", "selinuxfs", "smackfs", "sysfs", "tracefs", "xenfs",
    }
)  # fmt: skip
_WALK: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedMount:
    """A host file or directory, opened and checked.

    Attributes:
        fd: ``O_PATH`` descriptor; whoever holds this closes it.
        path: Where it appears in the guest: the same path as on the host, but for what
            is attached.
        is_directory: A tree rather than one file.
        writable: Mounted read-write.
        capability: The grant it stems from.
    """

    fd: int
    path: str
    is_directory: bool
    writable: bool
    capability: str


@contextlib.contextmanager
def resolve_grants(spec: SandboxSpec) -> Iterator[tuple[StagedMount, ...]]:
    """Opens everything that the spec's file grants name, shallow paths first.

    Raises:
        CapabilityError: A path does not exist, is a symbolic link or of the
            wrong type, or a glob matches nothing or too much.
    """
    with contextlib.ExitStack() as stack:
        mounts: dict[str, StagedMount] = {}
        for grant in spec.files:
            areas = spec.refused_areas + (spec.read_only_areas if grant.writable else ())
            for path, fd in _open_grant(grant, areas, stack):
                known = mounts.get(path)
                if known is not None and (known.writable or not grant.writable):
                    continue
                mounts[path] = mount = StagedMount(
                    fd=fd,
                    path=path,
                    is_directory=grant.kind == "tree",
                    writable=grant.writable,
                    capability=grant.capability,
                )
                if mount.writable and mount.is_directory:
                    _check_tree(mount, grant)
        for attached in spec.attached:
            own = FileGrant(
                path=attached.source, kind="tree", writable=attached.writable,
                capability=attached.target,
            )  # fmt: skip
            mounts[attached.target] = StagedMount(
                fd=_open_checked(attached.source, own, stack),
                path=attached.target,
                is_directory=True,
                writable=attached.writable,
                capability=attached.target,
            )
        _check_filesystems(mounts.values())
        # A tree that grants as much already shows what lies in it; a second mount
        # there would take the right to write away.
        needed = [
            mount
            for mount in mounts.values()
            if not any(_shows(tree, mount) for tree in mounts.values())
        ]
        yield tuple(sorted(needed, key=lambda mount: (mount.path.count("/"), mount.path)))


def _shows(tree: StagedMount, mount: StagedMount) -> bool:
    if not (tree.is_directory and mount.path.startswith(f"{tree.path}/")):
        return False
    outer, inner = os.stat(tree.fd), os.stat(mount.fd)
    # Only the owner of a tree's top is shown as the script's user.
    same_owner = (outer.st_uid, outer.st_gid) == (inner.st_uid, inner.st_gid)
    return same_owner and (tree.writable or not mount.writable)


def _open_grant(
    grant: FileGrant, refused: tuple[str, ...], stack: contextlib.ExitStack
) -> Iterator[tuple[str, int]]:
    if grant.kind == "glob":
        matches = 0
        for path in _expand(grant):
            # The compiler judged the pattern's fixed part; a wildcard may lead elsewhere.
            if any(path.startswith(f"{area}/") for area in refused):
                continue
            matches += 1
            if matches > MAX_GLOB_MATCHES:
                raise CapabilityError(
                    f"`{grant.path}` matches more than {MAX_GLOB_MATCHES} files",
                    details={"capability": grant.capability},
                    hint="grant the directory with `/**`, or narrow the pattern",
                )
            yield path, _open_checked(path, grant, stack)
        if matches == 0:
            raise CapabilityError(
                f"`{grant.path}` matches no file",
                details={"capability": grant.capability},
                hint="check the pattern; it is expanded once, at the start",
            )
    else:
        yield grant.path, _open_checked(grant.path, grant, stack)


def _open_checked(path: str, grant: FileGrant, stack: contextlib.ExitStack) -> int:
    fd = walk(path, grant)
    stack.callback(os.close, fd)
    mode = os.stat(fd).st_mode
    if grant.kind == "tree":
        if not stat.S_ISDIR(mode):
            raise CapabilityError(
                f"`{path}` is not a directory",
                details={"capability": grant.capability},
                hint=f"grant the file itself: `{path}`",
            )
    elif stat.S_ISDIR(mode):
        raise CapabilityError(
            f"`{path}` is a directory",
            details={"capability": grant.capability},
            hint=f"grant what is below it: `{path}/**`",
        )
    elif grant.writable and mode & _SET_ID:
        raise _set_id_error(path, grant)
    elif not stat.S_ISREG(mode):
        raise CapabilityError(
            f"`{path}` is neither a regular file nor a directory",
            details={"capability": grant.capability},
            hint="sockets, pipes and devices cannot be granted",
        )
    return fd


def _real_path(path: str) -> str:
    try:
        return os.path.realpath(path)
    except OSError:  # it is being swapped
        return path


def _set_id_error(path: str, grant: FileGrant) -> CapabilityError:
    return CapabilityError(
        f"`{path}` is set-user-id or set-group-id, and would be writable",
        details={"capability": grant.capability, "file": path},
        hint=f"`chmod ug-s {path}`, or grant a directory without it",
    )


def _check_tree(mount: StagedMount, grant: FileGrant) -> None:
    """Refuses a writable tree that holds a set-id file: a shared mapping keeps the bit."""
    left = _MAX_TREE_ENTRIES
    for directory, _subdirectories, names in os.walk(mount.path):
        left -= len(names) + 1
        if left < 0:
            raise CapabilityError(
                f"`{mount.path}` holds more than {_MAX_TREE_ENTRIES} files, too many to check",
                details={"capability": grant.capability},
                hint="grant a smaller directory for writing",
            )
        for name in names:
            path = os.path.join(directory, name)
            with contextlib.suppress(OSError):
                mode = os.lstat(path).st_mode
                if stat.S_ISREG(mode) and mode & _SET_ID:
                    raise _set_id_error(path, grant)


def _check_filesystems(mounts: Iterable[StagedMount]) -> None:
    """Refuses what lies on, or has mounted below it, one of the kernel's own file systems."""
    table: dict[str, tuple[str, str]] = {}
    with open("/proc/thread-self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            fields = before.split(" ")
            point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[4])
            table[fields[0]] = (point, after.split(" ", 1)[0])
    for mount in mounts:
        with open(f"/proc/thread-self/fdinfo/{mount.fd}") as file:
            facts = dict(line.split(":", 1) for line in file)
        beneath = table.get(facts["mnt_id"].strip(), (mount.path, "unknown"))
        rows = table.values() if mount.is_directory else ()
        inside = [row for row in rows if row[0].startswith(f"{mount.path}/")]
        for point, kind in (beneath, *inside):
            if kind in _KERNEL_FILESYSTEMS:
                raise CapabilityError(
                    f"`{mount.capability}` reaches `{point}`, a `{kind}` file system of the kernel",
                    details={"capability": mount.capability, "area": point},
                    hint="grant directories without it",
                )


def walk(path: str, grant: FileGrant) -> int:
    """Opens a path with ``O_PATH``, refusing a symbolic link in any component."""
    fd = os.open("/", _WALK | os.O_DIRECTORY)
    walked = ""
    try:
        for name in path.split("/")[1:]:
            walked += "/" + name
            try:
                inner = os.open(name, _WALK, dir_fd=fd)
            except OSError as error:
                missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
                raise CapabilityError(
                    f"`{path}` does not exist"
                    if missing
                    else f"`{walked}` cannot be opened: {error.strerror}",
                    details={"capability": grant.capability},
                    hint="create it first, or grant its directory with `/**`" if missing else None,
                ) from error
            os.close(fd)
            fd = inner
            if stat.S_ISLNK(os.stat(fd).st_mode):
                target = os.readlink("", dir_fd=fd)
                raise CapabilityError(
                    f"`{walked}` is a symbolic link to `{target}`, which a grant does not follow",
                    details={"capability": grant.capability, "link": walked, "target": target},
                    hint=f"grant the real path: `{_real_path(path)}`",
                )
    except BaseException:
        os.close(fd)
        raise
    return fd


def _expand(grant: FileGrant) -> Iterator[str]:
    """Yields the regular files that a glob matches; links and directories never."""
    segments = grant.path.split("/")[1:]
    budget = [_MAX_GLOB_ENTRIES]

    def descend(base: str, rest: list[str]) -> Iterator[str]:
        name, below = rest[0], rest[1:]
        if "*" not in name and "?" not in name:
            names = [name]
        else:
            accepts = re.compile(
                "".join({"*": ".*", "?": "."}.get(c) or re.escape(c) for c in name), re.DOTALL
            ).fullmatch
            try:
                entries = sorted(os.listdir(base or "/"))
            except OSError:
                return
            budget[0] -= len(entries)
            if budget[0] < 0:
                raise CapabilityError(
                    f"`{grant.path}` has more than {_MAX_GLOB_ENTRIES} candidates",
                    details={"capability": grant.capability},
                    hint="narrow the pattern, or grant a directory with `/**`",
                )
            names = [entry for entry in entries if accepts(entry)]
        for found in names:
            path = f"{base}/{found}"
            try:
                mode = os.lstat(path).st_mode
            except OSError:
                continue
            if below and stat.S_ISDIR(mode):
                yield from descend(path, below)
            elif not below and stat.S_ISREG(mode):
                yield path

    yield from descend("", segments)
