"""The one module that starts processes: ``runsc``, and the few tools that set-up needs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import select
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from omnibase.core.sandbox import _sys
from omnibase.errors import SandboxUnavailable

__all__ = [
    "MINIMUM_VERSION",
    "Process",
    "Runtime",
    "build_loader_cache",
    "enter_mount_namespace",
    "enter_pid_namespace",
    "find_runtime",
    "hold_user_namespace",
    "in_new_thread",
    "loader_listing",
    "run_helper",
    "shared_libraries",
    "start_daemon",
    "start_isolated",
    "try_platform",
]

MINIMUM_VERSION: Final = 20240729
INSTALL_PAGE: Final = "https://gvisor.dev/docs/user_guide/install/"
_VERSION = re.compile(r"^runsc version (\S*?(\d{8})\S*)", re.MULTILINE)
_KNOWN: Final = "runtimes.json"
_MAX_KNOWN: Final = 8
_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
_LEAST_OPEN_FILES: Final = 256
_T = TypeVar("_T")
Process = subprocess.Popen[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """A ``runsc`` that was found to be new enough.

    Attributes:
        path: The binary.
        version: As ``runsc --version`` prints it.
    """

    path: str
    version: str


def find_runtime(state: Path | None = None) -> Runtime:
    """Finds ``runsc``: ``$RUNSC``, then the user's data directory, then ``PATH``.

    Args:
        state: The state directory, where the versions of binaries that have not changed
            are remembered: asking costs tens of milliseconds. Without it they are asked.

    Raises:
        SandboxUnavailable: There is none, or it is too old or does not run.
    """
    machine = os.uname().machine
    if machine != "x86_64":
        raise SandboxUnavailable(
            f"`{machine}` is not supported",
            hint="the system call tables are those of x86-64",
        )
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and files < _LEAST_OPEN_FILES:
        raise SandboxUnavailable(
            f"the hard limit of open files is {files}",
            hint="gVisor needs more: `ulimit -Hn 1024` or higher",
        )
    named = os.environ.get("RUNSC")
    data = os.environ.get("OMNIBASE_DATA_DIR") or os.path.join(
        os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share"), "omnibase"
    )
    known = [os.path.join(data, "bin", "runsc"), shutil.which("runsc")]
    candidates = [shutil.which(named) or named] if named else known
    problem = "no `runsc` found"
    for path in candidates:
        if not path or not os.access(path, os.X_OK):
            if named:
                problem = f"`RUNSC={named}` is not an executable file"
            continue
        path = os.path.abspath(path)  # it is started from another directory
        version, date = _version(path, state)
        if date is None:
            problem = f"`{path}` does not print a runsc version"
        elif date < MINIMUM_VERSION:
            problem = f"`{path}` is runsc {version}, older than {MINIMUM_VERSION}"
        else:
            return Runtime(path=path, version=version)
    raise SandboxUnavailable(
        problem,
        details={"minimum_version": MINIMUM_VERSION},
        hint=f"run `scripts/setup-runsc.sh`, or install gVisor from {INSTALL_PAGE} and set `RUNSC`",
    )


_versions: dict[str, tuple[str, int | None]] = {}


def _version(path: str, state: Path | None) -> tuple[str, int | None]:
    status = os.stat(path)
    stamp = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    key = ":".join([path, *map(str, stamp)])
    if key not in _versions:
        known = _known_versions(state)
        text = known.get(key)
        if not isinstance(text, str) or _VERSION.search(text) is None:
            text = _told_version(path)
            if state is not None and _VERSION.search(text) is not None:
                _remember_versions(state, known | {key: text[:200]})
        match = _VERSION.search(text)
        _versions[key] = (match[1], int(match[2])) if match else ("unknown", None)
    return _versions[key]


def _told_version(path: str) -> str:
    try:
        return subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=False,
            stdin=subprocess.DEVNULL,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""


def _known_versions(state: Path | None) -> dict[str, object]:
    known = None
    if state is not None:
        with contextlib.suppress(OSError, ValueError, RecursionError):
            known = json.loads((state / _KNOWN).read_bytes())
    return known if isinstance(known, dict) else {}


def _remember_versions(state: Path, known: dict[str, object]) -> None:
    latest = dict(list(known.items())[-_MAX_KNOWN:])
    draft = state / f"{_KNOWN}.{os.getpid()}.{threading.get_ident()}.tmp"
    try:
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(latest))
        draft.replace(state / _KNOWN)
    except OSError:  # it is asked again next time
        draft.unlink(missing_ok=True)


def in_new_thread(work: Callable[[], _T]) -> _T:
    """Runs a function in a thread of its own, whose namespaces end with it."""
    outcome: list[_T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=body, name="omnibase-run", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


# The namespaces of the calling thread pass to the process that it starts: that
# process is PID 1 of its PID namespace, so its death ends and reaps everything
# below it, whoever init is. It needs a /proc of its own, as runsc goes by PIDs.
_START = (
    # Sentry and gofer need more descriptors than a shell's soft limit may allow.
    'ulimit -n "$(ulimit -Hn)"; for f in $1; do echo 0 >"$f" || exit 121; done; shift; '
    "mount -t proc proc /proc && "
    # A limit of one byte keeps the kernel from dumping core into a pipe, too (core(5)):
    # the Sentry's memory is the guest's.
    'exec prlimit --core=1:1 "$@"'
)
# It ends with the thread that started it, should this process be killed. Said before
# anything else: a process that is killed before that leaves a sandbox that has to boot
# to see that nobody is there.
_WITH_US: Final = ("setpriv", "--pdeathsig", "KILL")
_START_FAILED: Final = "could not enter the cgroup"


def start_isolated(
    arguments: Sequence[str],
    *,
    cgroup_files: Sequence[str] = (),
    pass_fds: Sequence[int] = (),
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
    cwd: str = "/",
    environment: Mapping[str, str] | None = None,
) -> Process:
    """Starts a process as PID 1 of a new PID namespace, inside the given cgroups.

    To be called once from a thread made for it (`in_new_thread`), after both
    `enter_mount_namespace` and `enter_pid_namespace`. The process gets no
    environment but ``PATH``, ``TMPDIR`` (which is ``cwd``) and what is given, its
    own session, and no descriptor but those named.
    """
    return subprocess.Popen(
        [*_WITH_US, "/bin/sh", "-c", _START, "omnibase", " ".join(cgroup_files), *arguments],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=tuple(pass_fds),
        cwd=cwd,
        env={**_ENVIRONMENT, "TMPDIR": cwd, **(environment or {})},
        start_new_session=True,
    )


def enter_mount_namespace() -> None:
    """Gives the calling thread a mount namespace: mounts made in it never reach the host."""
    _new_namespace(_sys.CLONE_NEWNS)
    _sys.mount(None, "/", None, _sys.MS_REC | _sys.MS_SLAVE)


def enter_pid_namespace() -> None:
    """Makes the calling thread's next child PID 1 of a new namespace; only one child is useful."""
    _new_namespace(_sys.CLONE_NEWPID)


def _new_namespace(flag: int) -> None:
    try:
        _sys.unshare(flag)
    except OSError as error:
        raise SandboxUnavailable(
            f"namespaces cannot be made: {error.strerror}",
            hint="CAP_SYS_ADMIN is needed: run as root, in a container with `--privileged`",
        ) from error


def try_platform(runtime: Runtime, name: str, root: str, timeout: float) -> str | None:
    """Runs ``true`` on a platform; returns ``None`` if it works, else why not."""

    def attempt() -> str | None:
        enter_mount_namespace()
        enter_pid_namespace()
        process = start_isolated(
            [runtime.path, f"--root={root}", "--network=none", "--ignore-cgroups",
             f"--platform={name}", "do", "/bin/true"],
            stderr=subprocess.PIPE, cwd=root,
        )  # fmt: skip
        try:
            _, errors = process.communicate(timeout=timeout)
        except BaseException as error:
            process.kill()
            process.communicate()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return f"no answer within {timeout:g} s"
        if process.returncode != 0:
            return errors.decode("utf-8", "replace").strip()[-300:] or f"exit {process.returncode}"
        return None

    return in_new_thread(attempt)


def shared_libraries(files: Sequence[Path]) -> Mapping[str, str]:
    """Returns ``soname → path`` for everything that the files load, as ``ldd`` tells."""
    ldd = shutil.which("ldd") or "/usr/bin/ldd"
    found: dict[str, str] = {}
    try:
        for file in files:
            listing = subprocess.run(
                [ldd, str(file)], capture_output=True, text=True, timeout=30, check=False,
                stdin=subprocess.DEVNULL,
            ).stdout  # fmt: skip
            for line in listing.splitlines():
                name, arrow, rest = line.partition("=>")
                path = rest.split(" (")[0].strip()
                if arrow and path.startswith("/"):
                    found.setdefault(name.strip(), path)
    except (OSError, subprocess.SubprocessError) as error:
        raise SandboxUnavailable(
            "the interpreter's libraries cannot be listed", hint="install `ldd` (libc-bin)"
        ) from error
    return found


def loader_listing(file: Path) -> Mapping[str, str | None] | None:
    """Returns ``soname → path`` of all that the file loads; ``None`` for what is missing.

    Of a library without a name of its own, both are its path. The loader itself
    tells, as for ldd(1), and runs nothing of the file. The whole is ``None`` if it does
    not load.
    """
    try:
        done = subprocess.run(
            ["/lib64/ld-linux-x86-64.so.2", str(file)],
            capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL,
            env={**_ENVIRONMENT, "LD_TRACE_LOADED_OBJECTS": "1"},
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    found: dict[str, str | None] = {}
    for line in done.stdout.splitlines():
        name, arrow, rest = line.strip().partition(" => ")
        path = (rest if arrow else name).rpartition(" (")[0] or None
        name = name if arrow else name.rpartition(" (")[0]
        if arrow or name.startswith("/"):
            found[name] = path if path is None or path.startswith("/") else None
    return found if done.returncode == 0 or None in found.values() else None


def build_loader_cache(
    root: Path, *, configuration: str = "/etc/ld.so.conf", cache: str = "/etc/ld.so.cache"
) -> None:
    """Writes a library cache for a tree; both paths are as seen from its top."""
    ldconfig = shutil.which("ldconfig", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if ldconfig is None:
        raise SandboxUnavailable("no `ldconfig` found", hint="install libc-bin")
    command = [ldconfig, "-r", str(root), "-X", "-f", configuration, "-C", cache]
    try:
        subprocess.run(
            command, check=True, capture_output=True, timeout=60, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise SandboxUnavailable(
            f"the library cache cannot be built: {error}", hint="see `omnibase doctor`"
        ) from error


def run_helper(arguments: Sequence[str], *, seconds: float, cancel: int) -> str | None:
    """Runs a helper of ours to its end; returns the one short line that it prints.

    It gets no environment and no descriptor, and is believed no further than that.

    Args:
        arguments: What to run.
        seconds: How long to wait for it.
        cancel: A descriptor that is readable once nobody wants the answer any more.

    Returns:
        The line, ``exit <code>`` if there is none, or ``None`` if it was ended.
    """
    with subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        cwd="/", env=_ENVIRONMENT,
    ) as process:  # fmt: skip
        output = process.stdout
        if output is None:  # never: it is a pipe
            raise OSError("no pipe")
        ready, _, _ = select.select([output.fileno(), cancel], [], [], seconds)
        if output.fileno() not in ready:
            process.kill()
            return None
        line = output.read(80).decode("ascii", "replace").strip()
        process.kill()  # what it had to say is said
    return line if line.replace("_", "").isalnum() else f"exit {process.returncode}"


def start_daemon(arguments: Sequence[str], log: Path, *, environment: Mapping[str, str]) -> Process:
    """Starts a process of ours that outlives this one, in a session of its own.

    Args:
        arguments: What to run.
        log: Gets what it prints; written anew.
        environment: All that it gets of one.
    """
    fd = os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        return subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=fd, stderr=fd, cwd="/", env=environment,
            start_new_session=True,
        )  # fmt: skip
    finally:
        os.close(fd)


def hold_user_namespace(uid_map: str, gid_map: str) -> int:
    """Returns a descriptor of a new user namespace with the given maps.

    The process that holds it while the maps are written is gone on return; the
    descriptor keeps the namespace alive.
    """
    with subprocess.Popen(
        ["unshare", "--user", "/bin/sh", "-c", "echo; read line"],
        env=_ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as holder:
        ready, release = holder.stdout, holder.stdin
        if ready is None or release is None:  # never: both are pipes
            raise OSError("no pipes")
        try:
            if ready.read(1) != b"\n":
                raise OSError("no user namespace")
            base = f"/proc/{holder.pid}"
            for name, text in (("uid_map", uid_map), ("gid_map", gid_map)):
                with open(f"{base}/{name}", "w") as file:
                    file.write(text)
            return os.open(f"{base}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            release.close()
