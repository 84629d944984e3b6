"""An event loop for a thread of its own that a process may end without waiting for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from typing import Any, Final

from omnibase.core.events.nats_broker import Broker
from omnibase.core.events.nats_settings import NatsSettings

__all__ = ["Loop", "load", "probe"]

_PROBE_SECONDS: Final = 2.0

# A child that is forked while a thread imports would wait for that thread for ever.
_importing = threading.Lock()
os.register_at_fork(
    before=_importing.acquire,
    after_in_parent=_importing.release,
    after_in_child=_importing.release,
)


def load() -> None:
    """Imports the client's library, which takes a thread some 50 ms of CPU time."""
    with _importing:
        import nats.js.api
        import nats.js.errors  # noqa: F401


class Loop(asyncio.SelectorEventLoop):
    """Looks names up in threads that nobody waits for when the process ends."""

    def finish(self) -> None:
        """Ends what still runs in it, and closes it."""
        left = asyncio.all_tasks(self)
        for task in left:
            task.cancel()
        if left:
            self.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self.run_until_complete(self.shutdown_asyncgens())
        self.run_until_complete(asyncio.sleep(0))  # what was aborted is closed in the next round
        self.close()

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        found: asyncio.Future[Any] = self.create_future()

        def set_result(result: Any, error: BaseException | None) -> None:
            if not found.done():
                if error is None:
                    found.set_result(result)
                else:
                    found.set_exception(error)

        def look_up() -> None:
            result, failure = None, None
            try:
                result = socket.getaddrinfo(host, port, **options)
            except OSError as error:
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self.call_soon_threadsafe(set_result, result, failure)

        threading.Thread(target=look_up, name="omnibase-names", daemon=True).start()
        return await found


def probe(settings: NatsSettings, server: str) -> tuple[str, bool]:
    """Tries one server, within a few seconds.

    Returns:
        The stream that takes the events, empty if we may not ask; whether there is none.

    Raises:
        Unreachable, ConfigurationError: There is no connection; why.
    """
    load()

    async def look() -> tuple[str, bool]:
        broker = await Broker.connect(settings, server, _PROBE_SECONDS)
        await broker.close()
        return broker.stream, broker.missing

    loop = Loop()
    try:
        return loop.run_until_complete(look())
    finally:
        loop.finish()
