"""One run's cgroup, on v1 or v2: limits in, accounts out, removed at the end.

The cgroup is ours, not runsc's (``--ignore-cgroups``): the limits are in force
before the first instruction of runsc, and hold its Sentry and gofer as well.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from dataclasses import dataclass
from typing import Final

from omnibase.errors import SandboxStartError, SandboxUnavailable

__all__ = ["Cgroup", "CgroupStats", "Hierarchy"]

_CPU_PERIOD_MICROSECONDS: Final = 100_000
_V1_CONTROLLERS: Final = ("memory", "pids", "cpu", "cpuacct")
_V2_CONTROLLERS: Final = ("memory", "pids", "cpu")
PREFIX: Final = "omnibase-"


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupStats:
    """Accounts of a finished (or running) cgroup."""

    cpu_seconds: float
    peak_memory_bytes: int
    oom_kills: int
    pids_refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """Where cgroups are made.

    Attributes:
        version: 1 or 2.
        parents: Directory by controller; v2 has one, under ``""``.
    """

    version: int
    parents: dict[str, str]

    @classmethod
    def detect(cls, root: str = "/sys/fs/cgroup", proc: str = "/proc/self") -> Hierarchy:
        """Finds the controllers, on v2 below ``$OMNIBASE_CGROUP_PARENT`` if that is set.

        Raises:
            SandboxUnavailable: A controller is missing or nothing can be made there.
        """
        if os.path.exists(f"{root}/cgroup.controllers"):
            parent = os.environ.get("OMNIBASE_CGROUP_PARENT") or root
            try:
                have = _read(f"{parent}/cgroup.controllers").split()
            except OSError as error:
                raise SandboxUnavailable(
                    f"`OMNIBASE_CGROUP_PARENT={parent}` is not a cgroup: {error.strerror}",
                    hint="name a directory below /sys/fs/cgroup, or leave it unset",
                ) from error
            parents = {"": parent}
            missing = [name for name in _V2_CONTROLLERS if name not in have]
            version = 2
        else:
            parents = _v1_parents(proc)
            missing = [name for name in _V1_CONTROLLERS if name not in parents]
            version = 1
        if missing:
            raise SandboxUnavailable(
                f"no cgroup controller for {', '.join(missing)}",
                hint="mount cgroup v2 (or v1 with memory, pids, cpu and cpuacct) at /sys/fs/cgroup",
            )
        for directory in parents.values():
            if not os.access(directory, os.W_OK):
                raise SandboxUnavailable(
                    f"`{directory}` is not writable", hint="run as root: limits need a cgroup"
                )
        return cls(version=version, parents=parents)


def _v1_parents(proc: str) -> dict[str, str]:
    """Maps v1 controllers to our own place in their hierarchies, so that outer limits hold."""
    own: dict[str, str] = {}
    for line in _read(f"{proc}/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        own.update(dict.fromkeys(names.split(","), path))
    parents: dict[str, str] = {}
    for line in _read(f"{proc}/mountinfo").splitlines():
        fields, _, tail = line.partition(" - ")
        kind, _source, options = tail.split(" ", 2)
        if kind != "cgroup":
            continue
        mount_root, mount_point = fields.split(" ")[3:5]
        for name in options.split(","):
            if name in _V1_CONTROLLERS and name in own:
                inside = own[name]
                if mount_root != "/" and inside.startswith(mount_root):
                    inside = inside[len(mount_root) :]
                place = mount_point + inside.rstrip("/")
                parents[name] = place if os.path.isdir(place) else mount_point
    return parents


class Cgroup:
    """A run's own cgroup."""

    def __init__(self, hierarchy: Hierarchy, name: str) -> None:
        self._hierarchy = hierarchy
        self._paths = {c: f"{parent}/{PREFIX}{name}" for c, parent in hierarchy.parents.items()}

    @property
    def paths(self) -> tuple[str, ...]:
        """Its directories, for whoever has to clean up after a crash."""
        return tuple(dict.fromkeys(self._paths.values()))

    @property
    def join_files(self) -> tuple[str, ...]:
        """Files into which a process of one thread writes ``0`` to enter."""
        # On v1 a thread that moves itself takes no global lock, which saves some
        # milliseconds for each controller.
        name = "cgroup.procs" if self._hierarchy.version == 2 else "tasks"
        return tuple(f"{path}/{name}" for path in self.paths)

    def create(self, *, memory_bytes: int, cpus: float, host_pids: int) -> None:
        """Makes it and sets its limits.

        Raises:
            SandboxStartError: The kernel refused a limit; nothing is left behind.
        """
        try:
            if self._hierarchy.version == 2:
                parent = self._hierarchy.parents[""]
                enabled = _read(f"{parent}/cgroup.subtree_control").split()
                for name in _V2_CONTROLLERS:
                    if name not in enabled:
                        _write(f"{parent}/cgroup.subtree_control", f"+{name}")
                os.mkdir(self._paths[""])
                self._set("", "memory.swap.max", 0, optional=not _swap_is_on())
                self._set("", "memory.oom.group", 1, optional=True)
            else:
                for path in self.paths:
                    os.mkdir(path)
                self._set("cpu", "cpu.cfs_period_us", _CPU_PERIOD_MICROSECONDS)
            self._limit(memory_bytes, cpus, host_pids)
        except OSError as error:
            self.remove()
            raise SandboxStartError(
                f"the cgroup could not be set up: {error}",
                hint="a cgroup that holds processes cannot have limited children: set "
                "`OMNIBASE_CGROUP_PARENT` to one that holds none"
                if error.errno == errno.EBUSY
                else "see `omnibase doctor`",
            ) from error

    def limit(self, *, memory_bytes: int, cpus: float, host_pids: int) -> None:
        """Sets other limits.

        Raises:
            SandboxStartError: The kernel refused one.
        """
        try:
            self._limit(memory_bytes, cpus, host_pids)
        except OSError as error:
            raise SandboxStartError(
                f"the limits of the cgroup could not be set: {error}", hint="see `omnibase doctor`"
            ) from error

    def _limit(self, memory_bytes: int, cpus: float, host_pids: int) -> None:
        quota = max(1000, round(cpus * _CPU_PERIOD_MICROSECONDS))
        if self._hierarchy.version == 2:
            self._set("", "memory.max", memory_bytes)
            self._set("", "pids.max", host_pids)
            self._set("", "cpu.max", f"{quota} {_CPU_PERIOD_MICROSECONDS}")
            return
        # With swap a script could go on there, past its limit. The kernel wants memory
        # and swap together to be no less than memory, whichever way both go.
        names = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
        if memory_bytes > _number(self._get("memory", names[0])):
            names.reverse()
        for name in names:
            optional = "memsw" in name and not _swap_is_on()
            self._set("memory", name, memory_bytes, optional=optional)
        self._set("pids", "pids.max", host_pids)
        self._set("cpu", "cpu.cfs_quota_us", quota)

    def weigh(self, share: float) -> None:
        """Sets what it gets of a busy CPU, as a share of what each other one gets."""
        with contextlib.suppress(OSError):  # it is a courtesy
            if self._hierarchy.version == 2:
                self._set("", "cpu.weight", max(1, round(100 * share)))
            else:
                self._set("cpu", "cpu.shares", max(2, round(1024 * share)))

    def forget_peak(self) -> None:
        """Counts the highest use of memory from now on, where the kernel can (v1)."""
        with contextlib.suppress(OSError):
            if self._hierarchy.version == 1:
                self._set("memory", "memory.max_usage_in_bytes", 0)

    def stats(self) -> CgroupStats:
        """Reads its accounts; what cannot be read is 0."""
        if self._hierarchy.version == 2:
            cpu = _table(self._get("", "cpu.stat")).get("usage_usec", 0) / 1e6
            peak = _number(self._get("", "memory.peak"))
            kills = _table(self._get("", "memory.events")).get("oom_kill", 0)
            refused = _table(self._get("", "pids.events")).get("max", 0)
        else:
            cpu = _number(self._get("cpuacct", "cpuacct.usage")) / 1e9
            peak = _number(self._get("memory", "memory.max_usage_in_bytes"))
            kills = _table(self._get("memory", "memory.oom_control")).get("oom_kill", 0)
            refused = _table(self._get("pids", "pids.events")).get("max", 0)
        return CgroupStats(
            cpu_seconds=cpu, peak_memory_bytes=peak, oom_kills=kills, pids_refused=refused
        )

    def cpu_seconds(self) -> float:
        """CPU time used so far."""
        if self._hierarchy.version == 2:
            return _table(self._get("", "cpu.stat")).get("usage_usec", 0) / 1e6
        return _number(self._get("cpuacct", "cpuacct.usage")) / 1e9

    def processes(self) -> tuple[int, ...]:
        """Returns the processes in it, by their numbers here; none if it cannot be read."""
        name = "" if self._hierarchy.version == 2 else "memory"
        return tuple(map(int, self._get(name, "cgroup.procs").split()))

    def remove(self, timeout_seconds: float = 2.0) -> bool:
        """Ends whatever is left in it and removes it; returns whether it is gone."""
        return remove_paths(self.paths, timeout_seconds)

    def _set(self, controller: str, name: str, value: object, *, optional: bool = False) -> None:
        path = f"{self._paths[controller]}/{name}"
        try:
            _write(path, str(value))
        except OSError:
            # A kernel without the file (it cannot be made); any other refusal counts.
            if not optional or os.path.exists(path):
                raise

    def _get(self, controller: str, name: str) -> str:
        try:
            return _read(f"{self._paths[controller]}/{name}")
        except OSError:
            return ""


def remove_paths(paths: tuple[str, ...], timeout_seconds: float) -> bool:
    """Kills everything in the given cgroup directories and removes them."""
    deadline = time.monotonic() + timeout_seconds
    left = [path for path in paths if os.path.basename(path).startswith(PREFIX)]
    while left:
        for path in list(left):
            if _remove_tree(path):
                left.remove(path)
        if left:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.002)
    return True


def _remove_tree(path: str) -> bool:
    """Removes a cgroup and whatever a process of it made below; kills what is in the way."""
    try:
        os.rmdir(path)
        return True
    except FileNotFoundError:
        return True
    except OSError:
        pass
    for directory, _, _ in os.walk(path, topdown=False):
        try:
            os.rmdir(directory)
        except OSError:
            _kill_all(directory)
    return not os.path.exists(path)


def _kill_all(path: str) -> None:
    with contextlib.suppress(OSError):
        _write(f"{path}/cgroup.kill", "1")  # v2, Linux 5.14
        return
    with contextlib.suppress(OSError):
        for text in _read(f"{path}/cgroup.procs").split():
            with contextlib.suppress(OSError):
                os.kill(int(text), signal.SIGKILL)


def _swap_is_on() -> bool:
    try:
        return len(_read("/proc/swaps").splitlines()) > 1
    except OSError:
        return False


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _number(text: str) -> int:
    text = text.strip()
    return int(text) if text.isdigit() else 0


def _table(text: str) -> dict[str, int]:
    rows = (line.split() for line in text.splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}
