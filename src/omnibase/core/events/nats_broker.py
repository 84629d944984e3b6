"""One connection to a NATS server, and what JetStream says to what is published.

Sources: https://docs.nats.io/nats-concepts/jetstream/headers for the headers, and
https://docs.nats.io/reference/reference-protocols/nats_api_reference for the answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from omnibase.core.events.nats_settings import NatsSettings, place
from omnibase.core.events.spool import Record

if TYPE_CHECKING:
    from nats.aio.client import Client

__all__ = ["Answer", "Broker", "Unreachable"]

CONNECT_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 1.0
_CLOSE_SECONDS: Final = 1.0
_HEADERS_BYTES: Final = 1024
_WINDOW_SECONDS: Final = 120.0  # JetStream's default `duplicate_window`
# JSStreamMessageExceedsMaximumErr: the stream's `max_msg_size`.
_TOO_LARGE: Final = 10054


class Unreachable(Exception):
    """There is no connection, or no longer; the text says why, without secrets."""


class Answer(NamedTuple):
    """What became of one event.

    Attributes:
        refused: Why it was not stored; empty if it was.
        doubt: It may have been stored all the same.
        never: It will not be stored as it is, however often it is sent.
    """

    refused: str = ""
    doubt: bool = False
    never: bool = False


class Broker:
    """A connection to one server. Nothing of it outlives `close`.

    Attributes:
        server: The server, ``host:port``.
        stream: The stream that takes the events; empty if there is none, or we may not ask.
        missing: There is none.
        window_seconds: For how long the stream knows an event's id again.
        last_sequence: The stream's latest place, as far as we know.
    """

    def __init__(self, settings: NatsSettings, server: str, ack_seconds: float) -> None:
        self.server = place(server)
        self.stream = ""
        self.missing = False
        self.window_seconds = _WINDOW_SECONDS
        self.last_sequence = 0
        self._settings = settings
        self._url = server
        self._ack_seconds = ack_seconds
        self._client = _client(secured=server.startswith("tls://"))
        self._complaint = ""

    @classmethod
    async def connect(cls, settings: NatsSettings, server: str, ack_seconds: float) -> Broker:
        """Connects, within a few seconds.

        Raises:
            Unreachable: There is no connection.
            ConfigurationError: The certificates cannot be used.
        """
        broker = cls(settings, server, ack_seconds)
        tls = settings.tls()
        try:
            async with asyncio.timeout(2 * CONNECT_SECONDS):
                await broker._client.connect(
                    server,
                    name="omnibase",
                    user=settings.user,
                    password=settings.password,
                    token=settings.token,
                    tls=tls,
                    # One attempt: what comes next, and when, is not the client's to say.
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=CONNECT_SECONDS,  # type: ignore[arg-type]
                    error_cb=broker._complain,
                )
                await broker._look_at_stream()
        except Exception as error:
            await broker.close()
            raise Unreachable(broker._why(error)) from None
        except BaseException:
            await broker.close()
            raise
        return broker

    @property
    def alive(self) -> bool:
        """Whether the connection stands, as far as is known."""
        return bool(self._client.is_connected)

    async def send(self, records: Sequence[Record]) -> list[Answer]:
        """Publishes events at once and waits for what is said to each."""
        return list(await asyncio.gather(*(self._send(record) for record in records)))

    async def stored(self, ids: Collection[str], sequence: int) -> set[str]:
        """Returns those of the ids that the stream has after a place of its own.

        It reads the headers of what was stored since. Where we may not, none is known.

        Raises:
            Unreachable: The server does not answer.
        """
        if not self.stream:
            return set()
        try:
            return await self._search(ids, sequence)
        except Exception as error:
            if "permissions violation" in self._complaint.lower():
                return set()
            raise Unreachable(self._why(error)) from None

    async def close(self) -> None:
        """Ends the connection, whatever the server does."""
        try:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._client.close()
        finally:
            transport = getattr(self._client, "_transport", None)
            writer = getattr(transport, "_bare_io_writer", None)
            if writer is not None:
                # A server that reads nothing would keep what is not sent yet, and us.
                writer.transport.abort()

    async def _send(self, record: Record) -> Answer:
        from nats.errors import MaxPayloadError, NoRespondersError
        from nats.js.errors import APIError, NoStreamResponseError

        if len(record.data) + _HEADERS_BYTES > self._client.max_payload:
            return self._too_large(record, self._client.max_payload)
        subject = f"{self._settings.subject}.{record.name}"
        headers = {"Nats-Msg-Id": record.id, "Content-Type": "application/cloudevents+json"}
        self._complaint = ""
        try:
            answer = await self._client.jetstream().publish(
                subject, record.data, timeout=self._ack_seconds, headers=headers
            )
        except (NoStreamResponseError, NoRespondersError):
            return Answer(f"no stream takes `{subject}`")
        except MaxPayloadError:
            return self._too_large(record, self._client.max_payload)
        except APIError as error:
            if error.err_code == _TOO_LARGE:
                return self._too_large(record, None)
            return Answer(self._clean(f"JetStream refuses: {error.description} ({error.err_code})"))
        except Exception as error:
            return Answer(self._why(error), doubt=True)
        self.last_sequence = max(self.last_sequence, answer.seq)
        return Answer()

    async def _search(self, ids: Collection[str], sequence: int) -> set[str]:
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

        # A stream that was made anew counts from 1 again.
        start = sequence + 1 if sequence <= self.last_sequence else 1
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=start,
            ack_policy=AckPolicy.NONE, headers_only=True, inactive_threshold=30.0,
            mem_storage=True,
        )  # fmt: skip
        context = self._client.jetstream(timeout=self._ack_seconds)
        reader = await context.pull_subscribe(
            f"{self._settings.subject}.*", stream=self.stream, config=config
        )
        found: set[str] = set()
        try:
            left = (await reader.consumer_info()).num_pending or 0
            while left and len(found) < len(ids):
                for message in await reader.fetch(min(left, 256), self._ack_seconds):
                    left = message.metadata.num_pending
                    known = (message.headers or {}).get("Nats-Msg-Id", "")
                    if known in ids:
                        found.add(known)
        finally:
            await reader.unsubscribe()
        return found

    async def _look_at_stream(self) -> None:
        """Asks which stream takes the events; to publish, nobody needs to be allowed that."""
        from nats.js.errors import Error, NotFoundError

        context = self._client.jetstream(timeout=_LOOK_SECONDS)
        try:
            stream = await context.find_stream_name_by_subject(f"{self._settings.subject}.*")
            info = await context.stream_info(stream)
        except NotFoundError:
            self.missing = True
        except (Error, TimeoutError):
            pass
        else:
            self.stream = stream
            self.last_sequence = info.state.last_seq
            self.window_seconds = float(info.config.duplicate_window or _WINDOW_SECONDS)

    def _too_large(self, record: Record, most: int | None) -> Answer:
        bound = f", and {self.server} takes {most}" if most else ", more than the stream takes"
        text = f"event {record.id} ({record.name}) has {len(record.data)} bytes{bound}"
        return Answer(text, never=True)

    async def _complain(self, error: Exception) -> None:
        self._complaint = _text(error)

    def _why(self, error: Exception) -> str:
        text = _text(error)
        if self._complaint and (isinstance(error, TimeoutError) or "no servers" in text):
            text = self._complaint
        return self._clean(f"{self.server}: {text}")

    def _clean(self, text: str) -> str:
        return self._settings.redact(text)


def _client(*, secured: bool) -> Client:
    from nats.aio.client import Client
    from nats.errors import SecureConnWantedError

    class Wary(Client):
        """Sends no password over a connection that was to be secured, and is not."""

        async def _process_info(self, info: dict[str, Any], *args: Any, **options: Any) -> None:
            # The server's greeting: whoever is in between may have changed it.
            if secured and not info.get("tls_required"):
                raise SecureConnWantedError
            await super()._process_info(info, *args, **options)

    return Wary()


def _text(error: Exception) -> str:
    """Returns an error in words, without the client's own."""
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "verify_message", "") or error.reason or error
        return f"its certificate is refused: {reason}"
    if isinstance(error, OSError) and error.errno:
        # Those of names that are looked up are negative, and have a text of their own.
        return (os.strerror(error.errno) if error.errno > 0 else str(error.strerror)).lower()
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (str(error) or type(error).__name__).removeprefix("nats: ")
