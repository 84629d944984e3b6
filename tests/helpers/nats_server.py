"""A NATS server of the tests' own: JetStream on disk, on a port of the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import nats
import pytest
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StorageType, StreamConfig

from omnibase.core.events import Event

STREAM = "OMNIBASE"
_T = TypeVar("_T")


def program() -> str:
    """Returns the server's program; without it the tests fail."""
    found = os.environ.get("OMNIBASE_NATS_SERVER") or shutil.which(
        "nats-server", path=os.environ.get("PATH", "") + ":/usr/sbin"
    )
    if found is None:
        pytest.fail(
            "NATS's server is not installed: run `scripts/setup-nats.sh`, "
            "or set OMNIBASE_NATS_SERVER to the program"
        )
    return found


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Server:
    """One server, which may be killed, stopped and started again with what it stored."""

    def __init__(self, folder: Path, configuration: str, user: tuple[str, str] | None) -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._options: dict[str, Any] = {}
        if user is not None:
            self._options = {"user": user[0], "password": user[1]}
        self.trust: str | None = None
        self._folder = folder
        self._configuration = configuration
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        text = (
            f"listen: 127.0.0.1:{self.port}\n"
            f'jetstream {{ store_dir: "{self._folder}" }}\n{self._configuration}\n'
        )
        path = self._folder / "nats.conf"
        path.write_text(text)
        log = self._folder / "nats.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [program(), "-c", path], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        deadline = time.monotonic() + 30
        while True:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), 1) as connection,
            ):
                if connection.recv(4) == b"INFO":
                    return
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                pytest.fail(f"NATS did not start: {log.read_text()}")
            time.sleep(0.02)

    def kill(self) -> None:
        """Kills it, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def ask(self, question: Callable[[Any], Awaitable[_T]]) -> _T:
        """Connects, asks JetStream something, and leaves."""
        options = dict(self._options)

        async def asked() -> _T:
            if self.trust is not None:
                options["tls"] = ssl.create_default_context(cafile=self.trust)
                options["tls_hostname"] = "localhost"
            client = await nats.connect(
                self.url,
                connect_timeout=5,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                **options,
            )
            try:
                return await question(client.jetstream(timeout=10))
            finally:
                await client.close()

        return asyncio.run(asked())

    def make_stream(self, subject: str = "omnibase.events.>", **options: Any) -> None:
        """Makes the stream that takes the events."""
        config = StreamConfig(name=STREAM, subjects=[subject], storage=StorageType.FILE, **options)
        self.ask(lambda stream: stream.add_stream(config))

    def remove_stream(self) -> None:
        self.ask(lambda stream: stream.delete_stream(STREAM))

    def purge(self) -> None:
        self.ask(lambda stream: stream.purge_stream(STREAM))

    def messages(self) -> list[Any]:
        """Everything that the stream holds, in order."""

        async def read(stream: Any) -> list[Any]:
            config = ConsumerConfig(ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL)
            reader = await stream.pull_subscribe(">", stream=STREAM, config=config)
            found: list[Any] = []
            left = (await reader.consumer_info()).num_pending
            while left:
                batch = await reader.fetch(min(left, 500), 10)
                found += batch
                left = batch[-1].metadata.num_pending
            await reader.unsubscribe()
            return found

        return self.ask(read)

    def events(self) -> list[Event]:
        """The events that the stream holds, in order."""
        return [Event.from_json(message.data) for message in self.messages()]


@contextlib.contextmanager
def running(
    configuration: str = "", *, stream: bool = True, user: tuple[str, str] | None = None
) -> Iterator[Server]:
    """Starts a server, with a stream for events, and ends it."""
    folder = Path(tempfile.mkdtemp(prefix="ob-nats-", dir="/tmp"))
    server = Server(folder, configuration, user)
    try:
        server.start()
        if stream:
            server.make_stream()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)
