"""The pool's daemon: warm sandboxes that every process of one user's shares.

Whoever asks decides what a run may do and keeps its record; the daemon is given the
frozen request and runs it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from omnibase.core import events
from omnibase.core.context import ExecutionContext
from omnibase.core.sandbox import _runsc, state
from omnibase.core.sandbox.remote.client import OFFER, ask, socket_path
from omnibase.core.sandbox.remote.link import Peer
from omnibase.errors import ConfigurationError, SandboxError, SandboxUnavailable

if TYPE_CHECKING:
    from omnibase.core.packages.lock import Layer

__all__ = ["Settings", "end", "serve", "start", "status"]

_START_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.02
_PATIENCE_SECONDS: Final = 0.5
_LOG_BYTES: Final = 2000
# What a run needs of its caller's environment is the caller's; secrets stay with it, too.
_KEPT: Final = ("HOME", "LANG", "PATH", "RUNSC", "TMPDIR", "TZ", "VIRTUAL_ENV")
_KEPT_PREFIXES: Final = ("OMNIBASE_", "PYTHON", "XDG_", "LC_")
_DROPPED_PREFIX: Final = "OMNIBASE_SECRET_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the daemon was asked to be.

    Attributes:
        size: Sandboxes that are to be ready.
        preload: Modules that each imports before there is a script.
        layer: Digest of the packages that each has; ``None`` for none.
        idle_seconds: See `omnibase.Pool`; ``None`` keeps them.
        memory_bytes: Most memory of all its sandboxes together; ``None`` for
            ``OMNIBASE_MAX_MEMORY``, else 80 % of the machine's.
        scratch_bytes: Size of ``/tmp`` in them; ``None`` for what runs have by default.
        idle_memory_bytes: Most memory of one that waits; likewise.
    """

    size: int = 2
    preload: tuple[str, ...] = ()
    layer: str | None = None
    idle_seconds: float | None = None
    memory_bytes: int | None = None
    scratch_bytes: int | None = None
    idle_memory_bytes: int | None = None


def serve(settings: Settings, bus: events.EventBus, ready: Callable[[], None]) -> None:
    """Is the daemon until it has drained.

    SIGTERM and SIGHUP drain it; a second one, or SIGINT, ends its runs.

    Args:
        settings: How it is to be.
        bus: Told of clients that were refused.
        ready: Called once it listens.

    Raises:
        PackageError: Its packages are not there any more.
        SandboxUnavailable: There is one already, or this machine cannot run sandboxes.
    """
    from omnibase import __version__
    from omnibase.core.sandbox.remote.service import Service
    from omnibase.pools import Pool

    directory = state.state_dir()
    path = socket_path(directory)
    emitter = events.Emitter(bus, subject="pool")

    def refused(peer: Peer, reason: str) -> None:
        emitter.emit(
            events.PoolClientRefused(pid=peer.pid, uid=peer.uid, gid=peer.gid, reason=reason)
        )

    with _alone(path.parent, _PATIENCE_SECONDS):
        state.recover(directory)  # what a daemon that was killed has left
        if settings.memory_bytes is not None:
            os.environ["OMNIBASE_MAX_MEMORY"] = str(settings.memory_bytes)
        with (
            _layer(settings.layer) as layer,
            Pool(
                settings.size, preload=settings.preload, packages=layer,
                idle_seconds=settings.idle_seconds, context=_context(settings), bus=bus,
            ) as pool,
        ):  # fmt: skip
            _offer(path.parent / OFFER, settings.layer)
            service = Service(
                path,
                pool.runner,
                version=__version__,
                status=lambda: {
                    "settings": _plain(settings),
                    "pool": asdict(pool.stats()),
                    "packages": [] if layer is None else layer.to_dict()["packages"],
                },
                on_refused=refused,
            )
            with _signals(service.drain, service.stop):
                ready()
                _tell_systemd("READY=1")
                service.serve()


def _context(settings: Settings) -> ExecutionContext:
    context = ExecutionContext()
    if settings.scratch_bytes is not None:
        context = replace(context, scratch_bytes=settings.scratch_bytes)
    if (size := settings.idle_memory_bytes) is not None:
        most = max(size, context.memory_bytes)
        context = replace(context, default_memory_bytes=size, memory_bytes=most)
    return context


def _layer(digest: str | None) -> contextlib.AbstractContextManager[Layer | None]:
    if digest is None:
        return contextlib.nullcontext()
    from omnibase.packages import held

    return held(digest)


def _offer(file: Path, digest: str | None) -> None:
    """Lets clients know what runs come with; it is there before a socket is."""
    if digest is None:
        file.unlink(missing_ok=True)
        return
    draft = file.with_suffix(".new")
    draft.write_text(digest)
    draft.replace(file)


@contextlib.contextmanager
def _alone(directory: Path, patience_seconds: float = 0.0) -> Iterator[None]:
    """Has the lock that a daemon has as long as it lives; who only looks has it for a moment."""
    directory.mkdir(mode=0o700, exist_ok=True)
    fd = os.open(directory / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + patience_seconds
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise SandboxUnavailable(
                        "a pool is running already", hint="see `omnibase pool status`"
                    ) from None
                time.sleep(_LOOK_SECONDS)
        yield
    finally:
        os.close(fd)


def _running(directory: Path) -> bool:
    """Whether somebody has the lock."""
    try:
        with _alone(directory):
            return False
    except SandboxUnavailable:
        return True


@contextlib.contextmanager
def _signals(drain: Callable[[], None], stop: Callable[[], None]) -> Iterator[None]:
    asked: list[int] = []

    def handle(number: int, _frame: object) -> None:
        asked.append(number)
        (stop if number == signal.SIGINT or len(asked) > 1 else drain)()

    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell_systemd(word: str) -> None:
    """Says how far it is, as of sd_notify(3), if somebody wants to know."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link,
    ):
        link.connect(f"\0{address[1:]}" if address[0] == "@" else address)
        link.send(word.encode())


def _plain(settings: Settings) -> dict[str, Any]:
    return {**asdict(settings), "preload": list(settings.preload)}


def start(settings: Settings, arguments: list[str]) -> tuple[dict[str, Any], bool]:
    """Starts a daemon in the background, unless there is one, and waits until one is ready.

    Args:
        settings: How it is to be.
        arguments: What starts it: of this Python.

    Returns:
        Its status, and whether it was started now.

    Raises:
        ConfigurationError: There is one that is set otherwise.
        SandboxError: It did not start.
    """
    path = socket_path(state.state_dir())
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if _running(path.parent):
        found = _await(path, lambda: None)
        if found.get("settings") != _plain(settings):
            raise ConfigurationError(
                f"a pool is running already, and is set otherwise: {_differences(found, settings)}",
                hint="`omnibase pool drain` ends it",
            )
        return found, False
    log = path.parent / "log"
    process = _runsc.start_daemon([sys.executable, *arguments], log, environment=_environment())

    def check() -> None:
        code = process.poll()
        if code is not None and not _running(path.parent):
            raise SandboxError(
                f"the pool's daemon did not start: {_last_words(log, code)}",
                hint="run `omnibase doctor`",
            )

    return _await(path, check), True


def _await(path: Path, check: Callable[[], None]) -> dict[str, Any]:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            found = status(path)
            pool = found["pool"]
            if pool["ready"] or pool["problem"] or not pool["size"]:
                return found
        except SandboxUnavailable:
            pass
        check()
        if time.monotonic() >= deadline:
            raise SandboxError(
                f"the pool's daemon was not ready within {_START_SECONDS:g} s",
                hint=f"see `{path.parent / 'log'}`",
            )
        time.sleep(_LOOK_SECONDS)


def _environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT
        or (name.startswith(_KEPT_PREFIXES) and not name.startswith(_DROPPED_PREFIX))
    }


def _differences(found: dict[str, Any], settings: Settings) -> str:
    theirs, ours = found.get("settings"), _plain(settings)
    if not isinstance(theirs, dict):
        return "it is of another version"
    names = [field.name for field in fields(Settings)]
    return ", ".join(
        f"`{name}` is {theirs.get(name)!r:.80}" for name in names if theirs.get(name) != ours[name]
    )


def _last_words(log: Path, code: int) -> str:
    with contextlib.suppress(OSError):
        text = log.read_bytes()[-_LOG_BYTES:].decode("utf-8", "replace").strip()
        for line in text.splitlines():
            if "error:" in line:
                return line.partition("error:")[2].strip()
        if text:
            return text.splitlines()[-1]
    return f"exit code {code}"


def status(path: Path | None = None) -> dict[str, Any]:
    """Asks the daemon how it is doing.

    Raises:
        SandboxUnavailable: There is none.
    """
    from omnibase import __version__

    return ask(path or socket_path(state.state_dir()), "status", __version__)


def end(word: str, timeout_seconds: float) -> bool:
    """Has the daemon end, and waits for that.

    Args:
        word: ``drain`` lets its runs end, ``stop`` ends them.
        timeout_seconds: Longest wait.

    Returns:
        Whether it has ended.

    Raises:
        SandboxUnavailable: There is none.
    """
    from omnibase import __version__

    path = socket_path(state.state_dir())
    ask(path, word, __version__)
    deadline = time.monotonic() + timeout_seconds
    while _running(path.parent):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True
