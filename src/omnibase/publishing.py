"""Publishing to NATS, where the environment asks for it: for every bus that a run uses."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary, finalize

from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from omnibase.core.events import EventBus
    from omnibase.core.events.jetstream import JetStreamSink
    from omnibase.core.events.nats_settings import NatsSettings

__all__ = ["PATIENCE_SECONDS", "attach", "outbox_directory", "sink_of", "wanted"]

PATIENCE_SECONDS: Final = 2.0
"""How long a process that ends waits for the server, at most."""

_attached: WeakKeyDictionary[EventBus, JetStreamSink] = WeakKeyDictionary()
_lock = threading.Lock()
# A child forked while another thread holds the lock would wait for it for ever.
os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]


def wanted() -> bool:
    """Whether ``OMNIBASE_NATS`` names a server."""
    return os.environ.get("OMNIBASE_NATS", "") not in ("", "off")


def attach(bus: EventBus) -> JetStreamSink | None:
    """Makes a bus publish, once, if ``OMNIBASE_NATS`` is set; it closes the sink when it closes.

    Raises:
        ConfigurationError: A variable is malformed, the library is missing, or the
            outbox cannot be used.
    """
    if not wanted():
        return None
    from omnibase.core.events.nats_settings import NatsSettings

    with _lock:
        if bus not in _attached:
            settings = NatsSettings.from_environment(os.environ)
            assert settings is not None  # noqa: S101 - it is wanted
            sink = sink_of(settings, outbox_directory(), patience_seconds=PATIENCE_SECONDS)
            bus.subscribe(sink)
            # A bus that is dropped without being closed leaves no thread behind. At the
            # end of the process there is nothing to do: what is left is in the outbox.
            finalize(bus, _close, sink).atexit = False
            _attached[bus] = sink
        return _attached[bus]


def _close(sink: JetStreamSink) -> None:
    """Closes it elsewhere: whoever collects garbage, perhaps its own thread, is not to wait."""
    threading.Thread(target=sink.close, name="omnibase-close", daemon=True).start()


def sink_of(settings: NatsSettings, directory: Path, *, patience_seconds: float) -> JetStreamSink:
    """Makes the sink that the environment describes.

    Raises:
        ConfigurationError: The library is missing, or the outbox cannot be used.
    """
    from omnibase.core.events.jetstream import JetStreamSink

    try:
        return JetStreamSink(
            settings, directory, max_bytes=_outbox_bytes(), patience_seconds=patience_seconds
        )
    except OSError as error:
        raise ConfigurationError(
            f"the outbox `{directory}` cannot be used: {error.strerror or error}",
            hint="name a directory of your own with `OMNIBASE_NATS_OUTBOX`, closed to others",
        ) from None


def outbox_directory() -> Path:
    """Returns the outbox's directory: ``OMNIBASE_NATS_OUTBOX``, or the state directory's."""
    named = os.environ.get("OMNIBASE_NATS_OUTBOX")
    if named:
        return Path(os.path.abspath(named))
    from omnibase.core.sandbox.state import state_dir

    return state_dir() / "outbox"


def _outbox_bytes() -> int:
    from omnibase.core.events.jetstream import OUTBOX_BYTES

    text = os.environ.get("OMNIBASE_NATS_OUTBOX_BYTES", "")
    if not text:
        return OUTBOX_BYTES
    if not (text.isascii() and text.isdigit() and int(text[:18]) > 0 and len(text) <= 18):
        raise ConfigurationError(
            f"OMNIBASE_NATS_OUTBOX_BYTES: `{ascii(text)[1:-1][:80]}` is no number of bytes",
            hint=f"name a whole number, e.g. {OUTBOX_BYTES}",
        )
    return int(text)
