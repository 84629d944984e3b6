"""``omnibase doctor``: what works here, what does not, and how to fix it."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from omnibase.cli import console, exits
from omnibase.errors import ConfigurationError, OmniBaseError

if TYPE_CHECKING:
    from omnibase.cli.commands import Invocation, Parser

__all__ = ["Check", "add_arguments", "execute"]

_PROBE_SECONDS: Final = 10.0
_LEAST_STATE_BYTES: Final = 200_000_000  # an image and a scratch
_KERNEL: Final = (5, 12)  # mount_setattr(2)
_EPILOG: Final = """\
The exit code is 0 if a sandbox runs here, else 1. Each platform of gVisor gets up
to 10 seconds. --clean removes what killed runs left behind (processes, control
groups, files) and puts their ends on the audit log, which the next run would do,
too; control groups of runs whose directory was deleted; and what runs keep for the
next one, once it is out of date: images, and copies of commands.

examples:
  omnibase doctor
  omnibase doctor --clean
  omnibase doctor --json\
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One finding.

    Attributes:
        name: What was looked at.
        status: ``ok``, ``warning`` (a sandbox runs without it) or ``failed``.
        detail: What was found.
        fix: What to do about it.
    """

    name: str
    status: Literal["ok", "warning", "failed"]
    detail: str
    fix: str | None = None


def add_arguments(parser: Parser, _name: str) -> None:
    """Declares the flags."""
    parser.add_argument("--clean", action="store_true", help="remove what killed runs left behind")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.epilog = _EPILOG


def execute(invocation: Invocation) -> int:
    """Runs the checks in order; each is shown as soon as it is known."""
    options = invocation.options
    removed: list[str] = []
    recovered: list[str] = []
    if options.clean:
        removed, recovered = _clean(quiet=options.json)
    checks: list[Check] = []
    for look in (
        _python, _kernel, _root, _runsc, _cgroup, _namespaces, _idmapped_mounts, _platforms,
        _state, _image, _nats,
    ):  # fmt: skip
        for check in _guarded(look):
            checks.append(check)
            if not options.json:
                _show(check)
    from omnibase.cli import trials

    failed = [check.name for check in checks if check.status == "failed"]
    smoke = _guarded(trials.smoke_run) if not failed else [_untried(failed)]
    if all(check.status == "ok" for check in smoke):
        smoke += _guarded(trials.grants_run)
    checks += smoke
    fit = all(check.status != "failed" for check in checks)
    if options.json:
        from omnibase.cli.report import print_json

        found = [asdict(check) for check in checks]
        print_json({"ok": fit, "removed": removed, "recovered": recovered, "checks": found})
        return exits.OK if fit else exits.UNFIT
    for check in smoke:
        _show(check)
    console.out("\na sandbox runs here\n" if fit else "\nno sandbox can run here yet\n")
    return exits.OK if fit else exits.UNFIT


def _clean(*, quiet: bool) -> tuple[list[str], list[str]]:
    """Returns what was removed, and the runs whose end was put on record."""
    from omnibase.core.packages.layer import prune
    from omnibase.core.sandbox import image, orphans, state
    from omnibase.core.sandbox.cgroup import Hierarchy
    from omnibase.core.sandbox.commands import layer
    from omnibase.errors import SandboxUnavailable

    directory = state.state_dir()
    removed = [str(path) for path in state.sweep(directory)]
    with contextlib.suppress(SandboxUnavailable):  # the checks will say why
        removed += orphans.remove_orphans(directory, Hierarchy.detect())
    recovered = state.recover(directory)
    removed += [str(path) for path in image.prune_images(directory)]
    removed += [str(path) for path in prune(directory)]
    removed += [str(path) for path in layer.prune_layers(directory)]
    if not quiet:
        for path in removed:
            console.out(f"removed {console.printable(path)}\n")
        what = "leftovers of killed runs, old images, copies of old commands and packages"
        console.out(f"{len(removed)} {what} removed\n")
        if recovered is not None:
            console.out(
                f"ends of killed runs put on the audit log: {len(recovered.ended)}; "
                f"waiting for theirs: {len(recovered.waiting)}\n"
            )
        console.out("\n")
    return removed, [] if recovered is None else list(recovered.ended)


def _guarded(look: Callable[[], list[Check]]) -> list[Check]:
    """Runs a check; one that breaks is a finding too."""
    name = look.__name__.strip("_").replace("_", " ")
    try:
        return look()
    except OmniBaseError as error:
        return [Check(name=name, status="failed", detail=error.message, fix=error.hint)]
    except Exception as error:
        detail = f"the check itself failed: {type(error).__name__}: {error}"
        return [Check(name=name, status="failed", detail=detail)]


def _show(check: Check) -> None:
    shade, mark = {
        "ok": ("green", "ok  "), "warning": ("yellow", "warn"), "failed": ("red", "FAIL"),
    }[check.status]  # fmt: skip
    detail = console.printable(check.detail)
    console.out(f"{console.colour(shade, mark, 1)}  {check.name:<18}  {detail}\n")
    if check.fix:
        console.out(f"      {'':<18}  {console.colour('bold', 'fix:', 1)} "
                    f"{console.printable(check.fix)}\n")  # fmt: skip


def _python() -> list[Check]:
    detail = f"{platform.python_implementation()} {platform.python_version()}, {sys.executable}"
    if sys.implementation.name != "cpython" or platform.libc_ver()[0] != "glibc":
        return [
            Check(
                name="python", status="failed", detail=detail,
                fix="use a CPython that is dynamically linked against glibc",
            )
        ]  # fmt: skip
    return [Check(name="python", status="ok", detail=detail)]


def _kernel() -> list[Check]:
    release, machine = platform.release(), platform.machine()
    detail = f"{platform.system()} {release}, {machine}"
    numbers = tuple(int(n) for n in release.split("-")[0].split(".")[:2] if n.isdigit())
    if platform.system() != "Linux" or numbers < _KERNEL:
        fix = "use Linux 5.12 or newer"
        return [Check(name="kernel", status="failed", detail=detail, fix=fix)]
    if machine != "x86_64":
        fix = "use x86-64: the tables of system calls are for it"
        return [Check(name="kernel", status="failed", detail=detail, fix=fix)]
    return [Check(name="kernel", status="ok", detail=detail)]


def _root() -> list[Check]:
    if os.geteuid() == 0:
        return [Check(name="root", status="ok", detail="running as root")]
    detail = f"running as user {os.geteuid()}: no control groups, no mounts"
    return [Check(name="root", status="failed", detail=detail, fix="run as root, e.g. with `sudo`")]


def _runsc() -> list[Check]:
    from omnibase.core.sandbox._runsc import find_runtime

    runtime = find_runtime()
    return [Check(name="runsc", status="ok", detail=f"{runtime.version}, {runtime.path}")]


def _cgroup() -> list[Check]:
    from omnibase.core.sandbox.cgroup import Hierarchy
    from omnibase.core.sandbox.orphans import orphans
    from omnibase.core.sandbox.state import state_dir

    hierarchy = Hierarchy.detect()
    if hierarchy.version == 2:
        where = f"{hierarchy.parents['']}, with memory, pids and cpu"
    else:
        where = ", ".join(f"{name} at {path}" for name, path in sorted(hierarchy.parents.items()))
    detail = f"version {hierarchy.version}: {where}"
    left: list[str] = []
    with contextlib.suppress(ConfigurationError):  # a check of its own says why
        left = orphans(state_dir(), hierarchy)
    if left:
        detail += f"; {len(left)} of runs whose directory is gone"
        fix = "`omnibase doctor --clean` removes them"
        return [Check(name="cgroup", status="warning", detail=detail, fix=fix)]
    return [Check(name="cgroup", status="ok", detail=detail)]


def _namespaces() -> list[Check]:
    from omnibase.core.sandbox import _runsc

    def attempt() -> None:
        _runsc.enter_mount_namespace()
        _runsc.enter_pid_namespace()

    try:
        _runsc.in_new_thread(attempt)
    except OSError as error:
        return [
            Check(
                name="namespaces", status="failed", detail=str(error),
                fix="CAP_SYS_ADMIN is needed: run as root, in a container with `--privileged`",
            )
        ]  # fmt: skip
    return [Check(name="namespaces", status="ok", detail="mount and PID namespaces can be made")]


def _idmapped_mounts() -> list[Check]:
    from omnibase.core.sandbox import _runsc, _sys, state

    name, directory = "idmapped mounts", state.state_dir()

    def attempt() -> None:
        _runsc.enter_mount_namespace()
        fd = os.open(directory, os.O_PATH | os.O_CLOEXEC)
        try:
            tree = _sys.open_tree_clone(fd)
            try:
                namespace = _runsc.hold_user_namespace("0 65534 1", "0 65534 1")
                try:
                    _sys.mount_setattr(tree, _sys.MOUNT_ATTR_IDMAP, namespace)
                finally:
                    os.close(namespace)
            finally:
                os.close(tree)
        finally:
            os.close(fd)

    try:
        _runsc.in_new_thread(attempt)
    except OSError as error:
        return [
            Check(
                name=name, status="warning", detail=f"not where {directory} is: {error}",
                fix="granted files must be readable by others (`chmod o+r`)",
            )
        ]  # fmt: skip
    return [Check(name=name, status="ok", detail="granted files keep their owner and mode")]


def _platforms() -> list[Check]:
    from omnibase.core.sandbox import _runsc, state
    from omnibase.core.sandbox.platforms import PLATFORMS

    runtime, directory = _runsc.find_runtime(), state.state_dir()
    problems: dict[str, str | None] = {}

    def probe(name: str) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="probe-", dir=directory) as root:
                problems[name] = _runsc.try_platform(runtime, name, root, _PROBE_SECONDS)
        except OSError as error:
            problems[name] = str(error)

    names = [name for name in PLATFORMS if name != "kvm" or os.path.exists("/dev/kvm")]
    threads = [threading.Thread(target=probe, args=(name,), daemon=True) for name in names]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:  # Ctrl-C: a platform that hangs would go on for ever
        _end_children()
        for thread in threads:
            thread.join(_PROBE_SECONDS)
        raise
    problems.setdefault("kvm", "no /dev/kvm")
    wanted = os.environ.get("OMNIBASE_PLATFORM")
    usable = [name for name, problem in problems.items() if problem is None]
    needed = [wanted] if wanted else ["systrap", "ptrace"]
    fit = any(name in usable for name in needed)
    rows = []
    for name in PLATFORMS:
        problem = problems[name]
        if problem is None:
            rows.append(Check(name=f"platform {name}", status="ok", detail="a sandbox starts"))
            continue
        if not fit and name in needed:
            fix = "see gVisor's page on platforms; or name one that works in `OMNIBASE_PLATFORM`"
            rows.append(Check(name=f"platform {name}", status="failed", detail=problem, fix=fix))
        else:
            rows.append(Check(name=f"platform {name}", status="warning", detail=problem,
                              fix="not needed: another one works"))  # fmt: skip
    if wanted and wanted not in PLATFORMS:
        rows.append(Check(name="platform", status="failed", detail=f"`{wanted}` is none",
                          fix="set `OMNIBASE_PLATFORM` to systrap, ptrace or kvm"))  # fmt: skip
    return rows


def _end_children() -> None:
    """Ends the probes: nothing else that this process started is alive by then."""
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            for pid in (task / "children").read_text().split():
                os.kill(int(pid), signal.SIGKILL)


def _state() -> list[Check]:
    from omnibase.core.audit import recovery
    from omnibase.core.sandbox import state

    directory = state.state_dir()
    with tempfile.NamedTemporaryFile(dir=directory):
        pass
    free = os.statvfs(directory)
    left = state.leftovers(directory)
    ends = recovery.waiting(directory / state.OPEN_RUNS)
    detail = f"{directory}, {console.size(free.f_bavail * free.f_frsize)} free"
    if left or ends:
        detail += f", {len(left)} left behind by killed runs, {ends} ends to be told"
        fix = "the next run removes that, and so does `omnibase doctor --clean`"
        return [Check(name="state", status="warning", detail=detail, fix=fix)]
    if free.f_bavail * free.f_frsize < _LEAST_STATE_BYTES:
        fix = "free disk space, or set `OMNIBASE_STATE_DIR`: an image takes about 100 MB"
        return [Check(name="state", status="failed", detail=detail, fix=fix)]
    return [Check(name="state", status="ok", detail=f"{detail}, nothing left behind")]


def _image() -> list[Check]:
    from omnibase.cli.engine import await_image
    from omnibase.core.sandbox import image, state

    directory = state.state_dir()
    before = set(_indexes(directory))
    await_image()
    built = image.ensure_image(directory)
    word = "built now" if set(_indexes(directory)) - before else "built"
    return [Check(name="image", status="ok", detail=f"{word}, sha256:{built.digest}")]


def _nats() -> list[Check]:
    from omnibase.publishing import wanted

    if not wanted():
        return []
    from omnibase.cli.nats_check import checks

    return checks()


def _indexes(directory: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return list((directory / "images").glob("*.json"))
    return []


def _untried(failed: list[str]) -> Check:
    detail = "not tried: " + ", ".join(failed) + " failed"
    return Check(name="smoke run", status="failed", detail=detail, fix="see above")
