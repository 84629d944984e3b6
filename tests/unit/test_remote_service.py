"""The daemon's socket: who is let in, what a rogue client can do, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from omnibase.core.sandbox.remote import service as service_module
from omnibase.core.sandbox.remote import serving as serving_module
from omnibase.core.sandbox.remote.client import RemoteRunner, ask, socket_path
from omnibase.core.sandbox.remote.codec import pack
from omnibase.core.sandbox.remote.link import Link, Peer
from omnibase.core.sandbox.remote.service import Service
from omnibase.core.sandbox.result import RunResult
from omnibase.core.sandbox.runner import Cancel, Ended, Observer, RunRequest
from omnibase.errors import CapabilityError, SandboxError, SandboxStartError, SandboxUnavailable
from tests.helpers.remote import VERSION, serving
from tests.helpers.specs import compiled

SECONDS = 20


class Fake:
    """A runner that does as it is told, and notes how its runs were."""

    def __init__(self) -> None:
        self.work: Callable[[RunRequest, Observer, Cancel], Ended] = lambda *_: ended()
        self.requests: list[RunRequest] = []
        self.ends: list[BaseException | None] = []
        self.changed = threading.Condition()

    def run(self, request: RunRequest, observer: Observer, cancel: Cancel) -> Ended:
        self.requests.append(request)
        error: BaseException | None = None
        try:
            return self.work(request, observer, cancel)
        except BaseException as raised:
            error = raised
            raise
        finally:
            with self.changed:
                self.ends.append(error)
                self.changed.notify_all()

    def await_ends(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.ends) >= count, SECONDS)


class Noted:
    """An observer that notes what it is told, and raises where it is to."""

    def __init__(self, raising: str = "") -> None:
        self.told: list[tuple[Any, ...]] = []
        self._raising = raising

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)

        def tell(*arguments: Any, **more: Any) -> None:
            self.told.append((name, *arguments, *more.items()))
            if name == self._raising:
                raise KeyboardInterrupt

        return tell


def ended(cause: str = "exit") -> Ended:
    return Ended(result=RunResult(run_id="ab" * 16, exit_code=0), cause=cause)


def request(**more: Any) -> RunRequest:
    return RunRequest(spec=compiled(), script=b"pass", **more)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pool" / "socket"


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def refused() -> list[tuple[Peer, str]]:
    return []


@pytest.fixture
def service(path: Path, fake: Fake, refused: list[tuple[Peer, str]]) -> Iterator[Service]:
    with serving(path, fake, refused) as service:
        yield service


@pytest.fixture
def remote(path: Path, service: Service) -> RemoteRunner:
    return RemoteRunner(path=path, version=VERSION)


@pytest.fixture
def cancel() -> Iterator[Cancel]:
    with contextlib.closing(Cancel()) as cancel:
        yield cancel


def raw(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(str(path))
    connection.settimeout(SECONDS)
    return connection


def drip(connection: socket.socket) -> bytes:
    """Sends a byte now and then until somebody has had enough; returns what they say."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError):
            try:
                connection.sendall(b" ")
                return connection.recv(65536)
            except (BrokenPipeError, ConnectionResetError):
                return b""
    pytest.fail("nobody minds")


def settle(service: Service, clients: int = 0) -> None:
    deadline = time.monotonic() + SECONDS
    # The status below counts only those that are there.
    while len(service._clients) != clients and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(service._clients) == clients


class TestRuns:
    def test_the_end_and_all_that_was_told(
        self, remote: RemoteRunner, fake: Fake, cancel: Cancel
    ) -> None:
        def work(asked: RunRequest, observer: Observer, _: Cancel) -> Ended:
            observer.on_retry(1, "why", 0.5)
            observer.on_staging(Path("/x"))
            observer.on_started("cd", 0.25, warm=True)
            observer.on_output("stdout", b"\xff")
            assert asked.covers("ARTIFACT_WRITE", "mine")
            assert not asked.covers("ARTIFACT_WRITE", "other")
            return ended("time")

        fake.work = work
        observer = Noted()
        asked = request(covers=lambda _kind, name: name == "mine", argv=("a",))
        assert remote.run(asked, observer, cancel) == ended("time")  # type: ignore[arg-type]
        assert observer.told == [
            ("on_retry", 1, "why", 0.5),
            ("on_staging", Path("/x")),
            ("on_started", "cd", 0.25, ("warm", True)),
            ("on_output", "stdout", b"\xff"),
        ]
        assert fake.requests[0].argv == ("a",)

    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (CapabilityError("no"), CapabilityError),
            (SandboxStartError("no"), SandboxStartError),
            (ZeroDivisionError("by zero"), SandboxError),
        ],
    )
    def test_what_it_raises(
        self, remote: RemoteRunner, fake: Fake, cancel: Cancel,
        error: Exception, kind: type[Exception],
    ) -> None:  # fmt: skip
        def work(*_: Any) -> Ended:
            raise error

        fake.work = work
        with pytest.raises(kind, match=r"no|the pool failed: ZeroDivisionError"):
            remote.run(request(), Noted(), cancel)  # type: ignore[arg-type]

    def test_it_is_cancelled(self, remote: RemoteRunner, fake: Fake, cancel: Cancel) -> None:
        fake.work = _until_cancelled
        threading.Timer(0.2, cancel.set).start()
        assert remote.run(request(), Noted(), cancel).cause == "cancelled"  # type: ignore[arg-type]

    @pytest.mark.parametrize("told", ["on_started", "on_output"])
    def test_an_observer_that_raises_ends_it_first(
        self, remote: RemoteRunner, fake: Fake, cancel: Cancel, told: str
    ) -> None:
        def work(asked: RunRequest, observer: Observer, cancel: Cancel) -> Ended:
            observer.on_started("ab")
            observer.on_output("stdout", b"x")
            _until_cancelled(asked, observer, cancel)
            time.sleep(0.2)
            return ended("cancelled")

        fake.work = work
        with pytest.raises(KeyboardInterrupt):
            remote.run(request(), Noted(told), cancel)  # type: ignore[arg-type]
        assert len(fake.ends) == 1  # before the caller has its exception

    def test_a_client_that_is_gone_ends_it(self, path: Path, fake: Fake, service: Service) -> None:
        fake.work = _until_cancelled
        connection = raw(path)
        _ask(connection)
        while not fake.requests:
            time.sleep(0.01)
        connection.close()
        fake.await_ends(1)
        settle(service)

    def test_an_answer_that_is_none_ends_it(self, path: Path, fake: Fake, service: Service) -> None:
        def work(asked: RunRequest, observer: Observer, cancel: Cancel) -> Ended:
            observer.on_started("ab")
            return ended()

        fake.work = work
        connection = raw(path)
        _ask(connection)
        connection.sendall(_frame({"luck": 1}))
        fake.await_ends(1)
        assert fake.ends[0] is not None
        connection.close()
        settle(service)


class TestHostileClients:
    def test_answers_without_a_question_end_its_run(
        self, path: Path, fake: Fake, service: Service
    ) -> None:
        fake.work = _until_cancelled
        connection = raw(path)
        _ask(connection)
        for _ in range(100):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(_frame({"answer": None}))
        fake.await_ends(1)
        connection.close()
        settle(service)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"GET / HTTP/1.1\r\n\r\n",
            b"\0" * 4096,
            b"OBP1" + struct.pack("<II", 0xFFFFFFFF, 0),
            b"OBP1" + struct.pack("<II", 2, 0xFFFFFFFF) + b"{}",
            b"OBP1" + struct.pack("<II", 100, 0) + b"{}",
            b"OBP1" + struct.pack("<II", 2, 0) + b"[]",
            b"OBP1" + struct.pack("<II", 100_000, 0) + b"[" * 100_000,
            b"OBP1",
        ],
    )
    def test_what_is_no_frame(self, path: Path, service: Service, data: bytes) -> None:
        connection = raw(path)
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(65536):
                pass
        connection.close()
        settle(service)
        assert ask(path, "status", VERSION)["clients"] == 1  # who asks

    @pytest.mark.parametrize(
        "head",
        [
            {}, {"ask": "luck", "version": VERSION}, {"ask": ["run"], "version": VERSION},
            {"ask": "status"}, {"ask": "run", "version": VERSION, "request": {}},
            {"ask": "run", "version": VERSION, "request": None},
            {"ask": "stop", "version": VERSION, "more": 1},
        ],
    )  # fmt: skip
    def test_what_nobody_can_answer(
        self, path: Path, service: Service, fake: Fake, head: dict[str, Any]
    ) -> None:
        connection = raw(path)
        link = Link(connection, SECONDS)
        link.send(head)
        answer = link.receive()
        link.close()
        assert answer is not None
        assert "error" in answer.head
        assert fake.requests == []
        assert not service.status()["draining"]

    @pytest.mark.parametrize(
        "more",
        [{"run_id": "../../etc"}, {"run_id": "A" * 32}, {"name": "a/b"}, {"name": ""}],
    )
    def test_requests_that_no_run_can_have(
        self, remote: RemoteRunner, fake: Fake, cancel: Cancel, more: dict[str, Any]
    ) -> None:
        with pytest.raises(SandboxError, match="no request that a run can have"):
            remote.run(request(**more), Noted(), cancel)  # type: ignore[arg-type]
        assert fake.requests == []

    def test_more_input_than_is_held(
        self, path: Path, service: Service, monkeypatch: pytest.MonkeyPatch, cancel: Cancel
    ) -> None:
        monkeypatch.setattr(service_module, "_MOST_HELD_BYTES", 10_000)
        remote = RemoteRunner(path=path, version=VERSION)
        with pytest.raises(SandboxUnavailable, match="too much input"):
            remote.run(request(stdin=b"x" * 20_000), Noted(), cancel)  # type: ignore[arg-type]

    def test_too_many_clients(
        self, path: Path, service: Service, refused: list[tuple[Peer, str]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.setattr(service_module, "MOST_CLIENTS", 3)
        held = [raw(path) for _ in range(3)]
        settle(service, 3)
        with raw(path) as one:
            assert one.recv(1) == b""
        assert [why for _, why in refused] == ["3 clients are connected"]
        for connection in held:
            connection.close()
        settle(service)
        assert ask(path, "status", VERSION)["clients_refused"] == 1

    def test_one_that_says_nothing_is_let_go(
        self, path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("omnibase.core.sandbox.remote.serving._ASK_SECONDS", 1.0)
        with raw(path) as connection:
            while connection.recv(65536):
                pass
        settle(service)

    @pytest.mark.parametrize(
        "begun",
        [
            b"OB",
            b"OBP1" + struct.pack("<II", 9999, 0),
            b"OBP1" + struct.pack("<II", 2, 9999) + b"{}",
        ],
    )
    def test_one_that_drips_its_question_is_let_go(
        self, path: Path, service: Service, monkeypatch: pytest.MonkeyPatch, begun: bytes
    ) -> None:
        monkeypatch.setattr(serving_module, "_MESSAGE_SECONDS", 0.5)
        with raw(path) as connection:
            connection.sendall(begun)
            connection.settimeout(0.1)
            answer = drip(connection)
            connection.settimeout(SECONDS)
            with contextlib.suppress(ConnectionResetError):
                while part := connection.recv(65536):
                    answer += part
        settle(service)
        assert b"the pool cannot read what it was asked: it took too long to come" in answer
        assert ask(path, "status", VERSION)["clients"] == 1  # who asks

    def test_one_that_drips_an_answer_loses_its_run(
        self, path: Path, fake: Fake, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(serving_module, "_MESSAGE_SECONDS", 0.5)
        fake.work = _until_cancelled
        with raw(path) as connection:
            _ask(connection)
            while not fake.requests:
                time.sleep(0.01)
            time.sleep(0.6)  # it may be silent for as long as its run takes
            assert fake.ends == []
            connection.sendall(b"OBP1" + struct.pack("<II", 100, 0))
            connection.settimeout(0.1)
            drip(connection)
            fake.await_ends(1)
        settle(service)

    def test_one_that_drips_what_it_takes_loses_its_run(
        self, path: Path, fake: Fake, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service_module, "_SEND_SECONDS", 0.5)

        def work(_asked: RunRequest, observer: Observer, _cancel: Cancel) -> Ended:
            observer.on_output("stdout", b"x" * (8 << 20))
            return ended()

        fake.work = work
        with raw(path) as connection:
            _ask(connection)
            deadline = time.monotonic() + SECONDS
            while not fake.ends and time.monotonic() < deadline:
                connection.recv(1)
                time.sleep(0.01)
            fake.await_ends(1)
            assert fake.ends[0] is not None
        settle(service)

    def test_another_user(
        self, path: Path, service: Service, refused: list[tuple[Peer, str]]
    ) -> None:
        for opened in (*path.parents, path):
            if opened.stat().st_uid == os.geteuid() and opened != Path("/"):
                opened.chmod(opened.stat().st_mode | (0o666 if opened == path else 0o011))
        pid = os.fork()
        if pid == 0:  # the tests' own child: nothing of pytest may run in it
            code = 1
            try:
                os.setgid(65534)
                os.setuid(65534)
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                    connection.connect(str(path))
                    code = 0 if connection.recv(1) == b"" else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert refused == [(Peer(pid, 65534, 65534), "it is of another user")]
        assert ask(path, "status", VERSION)["clients_refused"] == 1  # and ours is let in


class TestService:
    def test_the_socket_is_its_owners(self, path: Path, service: Service) -> None:
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700

    def test_another_version(self, path: Path, service: Service, cancel: Cancel) -> None:
        with pytest.raises(SandboxUnavailable, match=r"of version 1\.2\.3") as caught:
            RemoteRunner(path=path, version="9").run(request(), Noted(), cancel)  # type: ignore[arg-type]
        assert "omnibase pool drain" in str(caught.value.hint)

    def test_nobody_is_there(self, path: Path, cancel: Cancel) -> None:
        for _ in range(2):
            with pytest.raises(SandboxUnavailable, match="no pool is running") as caught:
                RemoteRunner(path=path, version=VERSION).run(request(), Noted(), cancel)  # type: ignore[arg-type]
            assert caught.value.hint == "start it: `omnibase pool start`"
            path.parent.mkdir(exist_ok=True)
            stale = socket.socket(socket.AF_UNIX)
            if not path.exists():
                stale.bind(str(path))  # as one that was killed leaves it
            stale.close()

    def test_a_stale_socket_is_replaced(self, path: Path, fake: Fake) -> None:
        path.parent.mkdir()
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
        with serving(path, fake):
            assert ask(path, "status", VERSION)["version"] == VERSION
        assert not path.exists()

    def test_draining_waits_for_runs(self, path: Path, fake: Fake, cancel: Cancel) -> None:
        release = threading.Event()

        def work(*_: Any) -> Ended:
            release.wait(SECONDS)
            return ended()

        fake.work = work
        results: list[Ended] = []
        remote = RemoteRunner(path=path, version=VERSION)
        with serving(path, fake) as service:
            thread = threading.Thread(
                target=lambda: results.append(remote.run(request(), Noted(), cancel))  # type: ignore[arg-type]
            )
            thread.start()
            while not fake.requests:
                time.sleep(0.01)
            ask(path, "drain", VERSION)
            while not ask(path, "status", VERSION)["draining"]:
                time.sleep(0.01)
            with pytest.raises(SandboxUnavailable, match="draining"):
                remote.run(request(), Noted(), cancel)  # type: ignore[arg-type]
            assert service.status()["clients_running"] == 1
            release.set()
            thread.join(SECONDS)
        assert results == [ended()]

    def test_stopping_ends_runs(self, path: Path, fake: Fake, cancel: Cancel) -> None:
        fake.work = _until_cancelled
        results: list[Ended] = []
        remote = RemoteRunner(path=path, version=VERSION)
        with serving(path, fake):
            thread = threading.Thread(
                target=lambda: results.append(remote.run(request(), Noted(), cancel))  # type: ignore[arg-type]
            )
            thread.start()
            while not fake.requests:
                time.sleep(0.01)
            ask(path, "stop", VERSION)
            thread.join(SECONDS)
        assert [one.cause for one in results] == ["cancelled"]

    def test_a_service_that_goes_away(self, path: Path, cancel: Cancel) -> None:
        path.parent.mkdir()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()

            def answer() -> None:
                for data in (b"", b"garbage that is no frame at all"):
                    connection, _ = listener.accept()
                    connection.recv(1 << 20)
                    connection.sendall(data)
                    connection.close()

            thread = threading.Thread(target=answer)
            thread.start()
            for words in ("went away", "does not answer as it should"):
                with pytest.raises(SandboxError, match=words):
                    RemoteRunner(path=path, version=VERSION).run(request(), Noted(), cancel)  # type: ignore[arg-type]
            thread.join(SECONDS)

    def test_a_request_that_is_too_large(
        self, remote: RemoteRunner, cancel: Cancel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("omnibase.core.sandbox.remote.link.MAX_BLOB_BYTES", 10)
        with pytest.raises(SandboxError, match="too large for the pool's socket"):
            remote.run(request(stdin=b"x" * 20), Noted(), cancel)  # type: ignore[arg-type]

    def test_questions_that_nobody_answers(self, path: Path, service: Service) -> None:
        with pytest.raises(SandboxError, match="an unknown question"):
            ask(path, "luck", VERSION)

    def test_a_daemon_that_stands_still(
        self, path: Path, cancel: Cancel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("omnibase.core.sandbox.remote.client._PATIENCE_SECONDS", 1.0)
        monkeypatch.setattr("omnibase.core.sandbox.remote.link._DRAIN_SECONDS", 1.0)
        path.parent.mkdir()
        asked = request()
        asked = replace(asked, spec=replace(asked.spec, wall_seconds=0.1))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            with pytest.raises(SandboxError, match="says nothing any more"):
                RemoteRunner(path=path, version=VERSION).run(asked, Noted(), cancel)  # type: ignore[arg-type]
            cancel.set()
            with pytest.raises(SandboxError, match="says nothing any more"):
                RemoteRunner(path=path, version=VERSION).run(asked, Noted(), cancel)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "head", [{"tell": "on_luck", "arguments": []}, {"luck": 1}, {"ended": {}}]
    )
    def test_answers_that_are_none(self, path: Path, cancel: Cancel, head: Any) -> None:
        path.parent.mkdir()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()

            def answer() -> None:
                connection, _ = listener.accept()
                connection.recv(1 << 20)
                connection.sendall(_frame(head))
                with connection:
                    while connection.recv(1 << 20):
                        pass

            thread = threading.Thread(target=answer)
            thread.start()
            with pytest.raises(SandboxError, match="does not answer as it should"):
                RemoteRunner(path=path, version=VERSION).run(request(), Noted(), cancel)  # type: ignore[arg-type]
            thread.join(SECONDS)

    def test_a_path_that_is_too_long(self, tmp_path: Path, fake: Fake) -> None:
        with pytest.raises(SandboxUnavailable, match="too long"):
            socket_path(tmp_path / ("x" * 100))

    def test_where_it_cannot_listen(self, tmp_path: Path, fake: Fake) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(SandboxUnavailable, match="cannot listen"):
            Service(tmp_path / "file" / "socket", fake, version=VERSION)


def _until_cancelled(_request: RunRequest, _observer: Observer, cancel: Cancel) -> Ended:
    deadline = time.monotonic() + SECONDS
    while not cancel.is_set():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return ended("cancelled")


def _frame(head: dict[str, Any], blob: bytes = b"") -> bytes:
    text = json.dumps(head).encode()
    return b"OBP1" + struct.pack("<II", len(text), len(blob)) + text + blob


def _ask(connection: socket.socket) -> None:
    blob = bytearray()
    packed = pack(request(), blob)
    head = {"ask": "run", "version": VERSION, "request": packed}
    connection.sendall(_frame(head, bytes(blob)))
