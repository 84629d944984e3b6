"""What `omnibase doctor` says of NATS, if events are to go there."""

from __future__ import annotations

import os
from typing import Final

from omnibase.cli.doctor import Check
from omnibase.errors import ConfigurationError

__all__ = ["checks"]

_NAME: Final = "nats"


def checks() -> list[Check]:
    """Tries each server: one that answers is enough. Runs go on without any.

    Raises:
        ConfigurationError: A variable is malformed.
    """
    import importlib.util

    from omnibase.core.events.nats_settings import NatsSettings

    settings = NatsSettings.from_environment(os.environ)
    if settings is None:
        return []
    if importlib.util.find_spec("nats") is None:
        raise ConfigurationError(
            "`OMNIBASE_NATS` is set, and `nats-py` is not installed: no run starts",
            hint="install it: `pip install 'omnibase[nats]'`",
        )
    from omnibase.core.events.nats_broker import Unreachable
    from omnibase.core.events.nats_loop import probe

    found = []
    for server in settings.servers:
        try:
            stream, missing = probe(settings, server)
        except Unreachable as error:
            found.append(_warning(str(error), "events wait in the outbox until it answers"))
            continue
        subject = f"{settings.subject}.*"
        if missing:
            text = f"{server} answers, and no stream takes `{subject}`"
            found.append(_warning(text, f"make a stream with the subject `{subject}`"))
            continue
        into = f"stream `{stream}`" if stream else "a stream that we may not ask about"
        found.append(Check(name=_NAME, status="ok", detail=f"{server}, {into}"))
    return found


def _warning(detail: str, fix: str) -> Check:
    return Check(name=_NAME, status="warning", detail=detail, fix=fix)
