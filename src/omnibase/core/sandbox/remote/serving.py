"""One client of the daemon's: what it asks for, and its run, while it stays connected."""

from __future__ import annotations

import contextlib
import logging
import queue
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from omnibase.core.sandbox.collect.reports import Collected, Left
from omnibase.core.sandbox.databases.copying import DatabaseCopied
from omnibase.core.sandbox.egress.reports import Closed, Failed, Opened
from omnibase.core.sandbox.monitor.attempts import Violation
from omnibase.core.sandbox.monitor.executions import CommandStart
from omnibase.core.sandbox.monitor.reads import SecretReading
from omnibase.core.sandbox.remote.codec import WireError, pack, unpack
from omnibase.core.sandbox.remote.link import Frame, Link
from omnibase.core.sandbox.remote.told import ANSWERED, pack_ended, pack_error
from omnibase.core.sandbox.runner import Cancel, RunRequest
from omnibase.errors import OmniBaseError, SandboxError, SandboxUnavailable

if TYPE_CHECKING:
    from omnibase.core.sandbox.remote.service import Service

__all__ = ["Client"]

_ASK_SECONDS: Final = 10.0
_MESSAGE_SECONDS: Final = 60.0
_ANSWER_SECONDS: Final = 60.0
_ANSWER_BYTES: Final = 4096
_MOST_ANSWERS: Final = 4  # to one question at a time
_RUN_ID: Final = re.compile(r"[0-9a-f]{32}|")

_log = logging.getLogger("omnibase.pool")


class _Gone(Exception):
    """The client has hung up, or says what nobody can understand."""


class Client:
    """Serves one connection, in a thread of its own; a second one listens during a run.

    Whatever it sends is bounded and parsed strictly. What it asks for is not judged
    again: it is of the user whose daemon this is, and could do it by itself.
    """

    def __init__(self, service: Service, link: Link) -> None:
        self._service = service
        self._link = link
        self._came = time.monotonic()
        self._cancel: Cancel | None = None
        self._lock = threading.Lock()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def start(self, forget: Callable[[Client], None]) -> None:
        """Begins.

        Raises:
            RuntimeError: The process has no thread left.
        """

        def body() -> None:
            try:
                self._serve()
            except (_Gone, OSError):
                pass
            except Exception:
                _log.exception("a client could not be served")
            finally:
                forget(self)
                self._link.close()

        threading.Thread(target=body, name="omnibase-client", daemon=True).start()

    def cancel(self) -> None:
        """Ends its run, if it has one."""
        with self._lock:
            if self._cancel is not None:
                self._cancel.set()

    def hang_up(self) -> None:
        """Ends the connection."""
        self._link.interrupt()

    def _serve(self) -> None:
        self._link.limit_receiving(_ASK_SECONDS)
        by = self._came + _MESSAGE_SECONDS  # one that sends a byte now and then is let go, too
        try:
            frame = self._link.receive(admit=lambda size: self._service.hold(self, size), by=by)
            if frame is None:
                return
            self._answer(frame)
        except WireError as error:
            self._refuse(SandboxError(f"the pool cannot read what it was asked: {error}"))
        except OmniBaseError as error:
            self._refuse(error)

    def _refuse(self, error: OmniBaseError) -> None:
        blob = bytearray()
        self._link.send({"error": pack_error(error, blob)}, blob)

    def _answer(self, frame: Frame) -> None:
        head, service = frame.head, self._service
        word, version = head.get("ask"), head.get("version")
        if word in ("status", "drain", "stop") and head.keys() == {"ask", "version"}:
            self._link.send(service.status())
            if word == "drain":
                service.drain()
            elif word == "stop":
                service.stop()
            return
        if word != "run" or head.keys() != {"ask", "version", "request"}:
            raise WireError("an unknown question")
        if version != service.version:
            raise SandboxUnavailable(
                f"the pool is of version {service.version}, and this is {ascii(version)[:40]}",
                hint="restart it: `omnibase pool drain`, `omnibase pool start`",
            )
        request: RunRequest = unpack(RunRequest, head["request"], frame.blob)
        if not _RUN_ID.fullmatch(request.run_id) or "/" in request.name or not request.name:
            raise WireError("no request that a run can have")
        with contextlib.closing(Cancel()) as cancel:
            self._run(request, cancel)

    def _run(self, request: RunRequest, cancel: Cancel) -> None:
        self._cancel = cancel
        if not self._service.begin(self):
            self._cancel = None
            raise SandboxUnavailable("the pool is draining: it takes no more runs")
        self._link.limit_receiving(None)
        listener = threading.Thread(target=self._listen, name="omnibase-client-in", daemon=True)
        try:
            listener.start()
            self._tell_end(replace(request, covers=self._covers), cancel)
        finally:
            self._link.interrupt()
            if listener.is_alive():
                listener.join()
            with self._lock:
                self._cancel = None
            self._service.finished(self)

    def _tell_end(self, request: RunRequest, cancel: Cancel) -> None:
        blob = bytearray()
        try:
            ended = self._service.runner.run(request, self, cancel)
            self._link.send({"ended": pack_ended(ended, blob)}, blob)
        except OmniBaseError as error:
            self._refuse(error)
        except (_Gone, OSError):
            raise
        except Exception as error:
            _log.exception("a run failed")
            self._refuse(SandboxError(f"the pool failed: {type(error).__name__}: {error}"))

    def _listen(self) -> None:
        """Takes answers, and ends the run when the client wants it or is no more."""
        try:
            while frame := self._link.receive(
                max_head=_ANSWER_BYTES, max_blob=0, within=_MESSAGE_SECONDS
            ):
                if frame.head.keys() == {"answer"} and self._answers.qsize() < _MOST_ANSWERS:
                    self._answers.put(frame.head["answer"])
                elif frame.head == {"cancel": True}:
                    self.cancel()
                else:
                    break
        except (WireError, OSError):
            pass
        self.cancel()
        self._answers.put(_GONE)

    # As the observer of its run

    def on_retry(self, attempt: int, reason: str, delay_seconds: float) -> None:
        self._tell("on_retry", attempt, reason, delay_seconds)

    def on_staging(self, directory: Path) -> None:
        self._tell("on_staging", directory)

    def on_started(
        self, run_id: str, boot_seconds: float | None = None, *, warm: bool = False
    ) -> None:
        self._tell("on_started", run_id, boot_seconds, warm)

    def on_staged(self, told: DatabaseCopied) -> None:
        self._tell("on_staged", told)

    def on_output(self, stream: str, chunk: bytes) -> None:
        self._tell("on_output", stream, chunk)

    def on_violation(self, violation: Violation) -> None:
        self._tell("on_violation", violation)

    def on_secret_read(self, reading: SecretReading) -> None:
        self._tell("on_secret_read", reading)

    def on_command(self, start: CommandStart) -> None:
        self._tell("on_command", start)

    def on_egress(self, report: Opened | Closed | Failed) -> None:
        self._tell(f"on_egress/{type(report).__name__}", report)

    def on_collected(self, collected: tuple[Collected, ...], left: tuple[Left, ...]) -> None:
        self._tell("on_collected", collected, left)

    def _covers(self, kind: str, name: str) -> bool:
        return self._tell("covers", kind, name) is True

    def _tell(self, name: str, *arguments: Any) -> Any:
        blob = bytearray()
        packed = [pack(one, blob) for one in arguments]
        try:
            self._link.send({"tell": name, "arguments": packed}, blob)
            answer = self._answers.get(timeout=_ANSWER_SECONDS) if name in ANSWERED else None
        except (OSError, queue.Empty):
            answer = _GONE
        if answer is _GONE:
            self.cancel()
            raise _Gone
        return answer


_GONE: Final = object()
