"""The host's end of the trace stream: a socket, a bounded reader, and the judge."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from omnibase.core.sandbox.monitor import wire
from omnibase.core.sandbox.monitor.attempts import Attempt, Evidence, Violation
from omnibase.core.sandbox.monitor.executions import CommandStart
from omnibase.core.sandbox.monitor.ledger import Ledger
from omnibase.core.sandbox.monitor.reads import SecretReading
from omnibase.core.sandbox.monitor.violations import Judge
from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from omnibase.core.sandbox.egress.reports import Assigned, Denied

__all__ = ["TraceServer", "Turn"]

_Key = tuple[str | None, str, str, int]
_LOST: Final = Attempt(
    capability=None, operation="trace", resource="(messages of the trace were lost)", errno=0
)
_BATCH: Final = 512  # datagrams per turn, so that output and deadlines get theirs
_BATCH_SECONDS: Final = 0.05
_REMEMBERED, _REMEMBERED_BYTES = 4096, 512
# Names that the agent opens in vain, as signs to us.
_DISK_FULL: Final = "/.disk-full"
_FAILED: Final = "/.agent-failed"
_WARM: Final = frozenset({"/.ready", "/.alive"})
_REPORT: Final = "/run/raised"  # where a script tells its exception
_STARTS: Final = frozenset({56, 57, 58})  # clone, fork and vfork; clone3 is refused
_CLONE_THREAD: Final = 0x10000  # sched.h
_BEGINNING: Final = "/run/script/"  # PID 1 makes the script's file once all else is done
_AGENT, _SCRIPT = 1, 2  # thread groups: PID 1 forks the script before anything else
_MAX_SOCKET_PATH: Final = 107  # sun_path of unix(7), less its NUL


class Turn(NamedTuple):
    """What was seen between two turns.

    Attributes:
        ledger: Attempts.
        dropped: Messages that the Sentry could not deliver.
        pids_refused: A fork failed for want of processes.
    """

    ledger: Ledger
    dropped: int
    pids_refused: bool


class TraceServer:
    """Accepts the one connection of a run's Sentry and turns messages into violations.

    Attributes:
        started: The ``container/start`` message has come: the trace is alive.
        dropped: Messages that the Sentry could not deliver.
        error: Why the stream cannot be trusted, once it cannot.
        closed: The Sentry has hung up.
        script_status: Wait status of the script's first process, once it ended.
        disk_full: The agent saw no room left in ``/tmp`` when the script ended.
        agent_failed: The agent came to an end that was not meant.
        agent_status: Wait status of the guest's PID 1, once it came to its own end.
        sign: The last that the agent of a warm sandbox has told: ``/.ready`` (it waits for
            a job) or ``/.alive`` (it still does); empty before.
        begun: The agent was about to start the script, or has.
        threaded: A thread was started, not by the agent.
        alone: No process or thread was started, and no exception told, since `bind`; nor had
            one been started before.
    """

    def __init__(
        self,
        path: str,
        judge: Judge,
        on_violation: Callable[[Violation], None],
        *,
        on_secret_read: Callable[[SecretReading], None] = lambda _reading: None,
        on_command: Callable[[CommandStart], None] = lambda _start: None,
        scrub: Callable[[str], str] = str,
    ) -> None:
        if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
            raise ConfigurationError(
                f"the path of the trace socket is too long: `{path}`",
                hint="set `OMNIBASE_STATE_DIR` to a shorter path",
            )
        self._judge = judge
        self._on_violation = on_violation
        self._on_secret_read = on_secret_read
        self._on_command = on_command
        self._scrub = scrub
        self._remembered: dict[tuple[int, bytes], tuple[wire.Message, _Key | None]] = {}
        self._buffer = bytearray(wire.MAX_DATAGRAM)
        self._connection: socket.socket | None = None
        self._greeted = False
        self.ledger = Ledger(scrub)
        self.started = False
        self.dropped = 0
        self.error: str | None = None
        self.closed = False
        self.script_status: int | None = None
        self.agent_status: int | None = None
        self.disk_full = False
        self.agent_failed = False
        self._awaited, self._turned_at = "", 0
        self._then: Callable[[], None] = lambda: None
        self.sign = ""
        self.begun = False
        self.threaded = False
        self._unexplained = 0
        self.alone = False
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            self._listener.bind(path)
            os.chmod(path, 0o600)
            self._listener.listen(1)
        except BaseException:
            self._listener.close()
            raise

    def fileno(self) -> int:
        """The descriptor to wait on: the listener, then the connection."""
        return (self._connection or self._listener).fileno()

    def on_readable(self) -> bool:
        """Accepts or reads; returns whether `fileno` has changed."""
        if self._connection is None:
            try:
                self._connection, _ = self._listener.accept()
            except BlockingIOError:
                return False
            self._connection.setblocking(False)
            self._listener.close()
            return True
        self._read(self._connection)
        return False

    def drain(self) -> None:
        """Reads whatever is still in flight, up to the stream's end."""
        while self._connection is not None and not self.closed and self.error is None:
            if not self._read(self._connection):
                break

    def await_sign(self, path: str, then: Callable[[], None]) -> None:
        """Waits for the script's process to open a path that nobody can know before.

        Args:
            path: It; the attempt is none then.
            then: Called with all seen that came before it in the trace, and nothing after.
        """
        self._awaited, self._then = path, then

    def turn(self) -> Turn:
        """Returns what was seen since the last turn, and begins anew."""
        dropped, self._turned_at = self.dropped - self._turned_at, self.dropped
        if dropped:
            # What was lost may have been an attempt: such a call is not a clean one.
            self._report(self.ledger.add(_LOST, time.time()))
        turn = Turn(self.ledger, dropped, self._judge.pids_refused)
        self.ledger = Ledger(self._scrub)
        self._remembered.clear()
        self._judge.pids_refused = False
        return turn

    def bind(
        self,
        judge: Judge,
        on_violation: Callable[[Violation], None],
        *,
        on_secret_read: Callable[[SecretReading], None],
        on_command: Callable[[CommandStart], None],
        scrub: Callable[[str], str],
    ) -> None:
        """Watches for a run from now on: the books go on, what is judged by is new."""
        judge.take_over(self._judge)
        self._judge = judge
        self._on_violation = on_violation
        self._on_secret_read = on_secret_read
        self._on_command = on_command
        self._scrub = scrub
        self._remembered.clear()
        self.alone = not (self.threaded or self.forked)
        self.ledger = Ledger(scrub)

    def denied(self, denied: Denied) -> None:
        """Records what the broker has refused, once the trace up to it is read."""
        attempt = self._judge.network.denied(
            denied.operation, denied.host, denied.port, denied.errno, denied.reason
        )
        self._report(self.ledger.add(attempt, time.time(), "broker"))

    def attempted(self, attempt: Attempt, evidence: Evidence) -> None:
        """Records what was seen elsewhere than on the trace."""
        self._report(self.ledger.add(attempt, time.time(), evidence))

    def assign(self, assigned: Assigned) -> None:
        """Tells the judge which name an address in the guest stands for."""
        self._judge.network.assign(assigned.offset, assigned.name)

    def finish(self) -> None:
        """Judges what only the end decides, and closes."""
        now = time.time()
        for attempt in self._judge.pending():
            self._report(self.ledger.add(attempt, now))
        if self.dropped > self._turned_at:
            # What was lost may have been an attempt: such a run is not a clean one.
            self._report(self.ledger.add(_LOST, now))
        if self.started:
            self._judge.reads.finish(self.dropped > 0)
        self._report_reads()
        self._judge.executions.finish()
        self._report_commands()
        self.close()

    @property
    def forked(self) -> bool:
        """Whether a process was started, not by the agent."""
        return self._unexplained > 0

    @property
    def pids_refused(self) -> bool:
        """Whether a fork failed for want of processes."""
        return self._judge.pids_refused

    def close(self) -> None:
        """Closes both sockets."""
        self._listener.close()
        if self._connection is not None:
            self._connection.close()
        self.closed = True

    def _read(self, connection: socket.socket) -> bool:
        """Reads one batch; returns whether there may be more."""
        now, until = time.time(), time.monotonic() + _BATCH_SECONDS
        try:
            for _ in range(_BATCH):
                if time.monotonic() > until:
                    break
                size = connection.recv_into(self._buffer)
                if not size:
                    self.closed = True
                    return False
                datagram = bytes(memoryview(self._buffer)[:size])
                if self._greeted:
                    self._take(datagram, now)
                else:
                    wire.check_handshake(datagram)
                    connection.send(wire.HANDSHAKE)
                    self._greeted = True
        except BlockingIOError:
            return False
        except ConnectionError:
            self.closed = True
            return False
        except wire.WireError as error:
            self.error = str(error)
            return False
        return True

    def _take(self, datagram: bytes, now: float) -> None:
        kind, dropped, body = wire.split(datagram)
        self.dropped = max(self.dropped, dropped)
        key = (kind, body)
        known = self._remembered.get(key)
        if known is not None:
            # A loop repeats itself to the byte: no decoding, only counters.
            self._judge.recount(known[0])
            if known[1] is not None:
                self.ledger.repeat(known[1], now)
            return
        message = wire.decode(kind, body)
        if message is None:
            return
        if kind == wire.MessageType.CONTAINER_START:
            self.started = True
            return
        if kind == wire.MessageType.TASK_EXIT:
            if message.group_id == _SCRIPT:
                self.script_status = message.result
            elif message.group_id == _AGENT and message.thread_id in (0, _AGENT):
                self.agent_status = message.result
        if (message.sysno in _STARTS and message.errno == 0) or message.path == _REPORT:
            self.alone = False
            self._count_start(message)
        if message.group_id == _AGENT:
            self.disk_full |= message.path == _DISK_FULL
            self.agent_failed |= message.path == _FAILED
            self.begun |= message.path.startswith(_BEGINNING)
            if message.path in _WARM:
                self.sign = message.path
        if self._awaited and message.path == self._awaited and message.group_id == _SCRIPT:
            self._judge.recount(message)
            self._awaited = ""
            self._then()
            return
        attempt = self._judge.judge(message)
        if self._judge.reads.found:
            self._report_reads()
        if self._judge.executions.found:
            self._report_commands()
        if attempt is not None:
            self._report(self.ledger.add(attempt, now))
        if (
            len(body) <= _REMEMBERED_BYTES
            and message.path not in _WARM
            and self._judge.stateless(message)
            and (attempt is None or attempt.key in self.ledger)
        ):
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = (message, None if attempt is None else attempt.key)

    def _count_start(self, message: wire.Message) -> None:
        """Each start is told without its circumstances, too, which a name can hide."""
        if message.type == wire.MessageType.SYSCALL_RAW:
            self._unexplained += 1
        elif message.type == wire.MessageType.CLONE:
            thread = bool(message.flags & _CLONE_THREAD)
            self.threaded |= thread and message.group_id != _AGENT
            self._unexplained -= thread or message.group_id == _AGENT

    def _report_reads(self) -> None:
        for reading in self._judge.reads.take():
            self._on_secret_read(replace(reading, process_name=self._scrub(reading.process_name)))

    def _report_commands(self) -> None:
        for start in self._judge.executions.take():
            self._on_command(start)

    def _report(self, violation: Violation | None) -> None:
        if violation is not None:
            self._on_violation(violation)
