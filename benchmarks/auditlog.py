"""A generated audit log: real events, written by the log's own writer.

The writer is used without its lock, and nothing is synchronised: nobody else is there.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

from omnibase.core.audit.log import CHECKPOINT_EVERY, SEGMENT_BYTES
from omnibase.core.audit.writing import Writer
from omnibase.core.events import (
    CapabilityDenied,
    CapabilityGranted,
    Event,
    Payload,
    SandboxExit,
    SandboxStart,
    SandboxViolation,
    utc,
)

COMPONENTS = [f"{n:08x}-0a4f-4c3e-9f6b-1e8a5d7c2b90" for n in range(200)]
FILES = 5000
EVENTS_OF_A_RUN = 5
SECONDS_OF_A_RUN = 0.5
_RUN, _ID, _TIME, _COMPONENT = "r" * 32, "i" * 32, "2000-01-01T00:00:00.000000Z", "component"
_FILE = "FILE_READ:/data/0/file.csv"


def _payloads() -> tuple[Payload, ...]:
    return (
        SandboxStart(
            script="job.py", script_sha256="0" * 64, image_digest="0" * 64, platform="systrap",
            runtime_version="0.0~20240729.0", grants=(_FILE,),
            quotas={"cpus": 1.0, "memory_bytes": 50_000_000, "pids": 64, "wall_seconds": 30.0},
        ),
        CapabilityGranted(capability=_FILE, enforcement="read-only bind mount"),
        SandboxViolation(
            capability=_FILE, operation="openat", resource="/data/x", evidence="kernel"
        ),
        CapabilityDenied(capability=_FILE, reason="no policy permits it"),
        SandboxExit(outcome="violation", exit_code=1, wall_seconds=0.25, violations=1),
    )  # fmt: skip


def _templates() -> list[str]:
    """The events of one run, as text with marks where runs differ."""
    found = []
    for number, data in enumerate(_payloads(), 1):
        event = Event(
            data=data, source=f"urn:omnibase:run:{_RUN}", runid=_RUN, sequence=number, id=_ID,
            time=_TIME, subject="job.py", componentid=_COMPONENT,
        )  # fmt: skip
        text = event.to_json().replace("{", "{{").replace("}", "}}")
        for mark, name in (
            (_RUN, "run"), (_ID, "id"), (_TIME, "time"), (_COMPONENT, "component"), (_FILE, "file"),
        ):  # fmt: skip
            text = text.replace(f'"{mark}"', f'"{{{name}}}"')
        found.append(text.replace(_RUN, "{run}"))
    return found


def bodies(count: int) -> Iterator[str]:
    """Yields events as JSON: of runs of five, one run each half second, until now."""
    dice, templates = random.Random(1), _templates()
    began = time.time() - count / EVENTS_OF_A_RUN * SECONDS_OF_A_RUN
    run = component = file = ""
    for index in range(count):
        step = index % EVENTS_OF_A_RUN
        if step == 0:
            run, component = f"{dice.getrandbits(128):032x}", dice.choice(COMPONENTS)
            file = f"FILE_READ:/data/{dice.randrange(FILES)}/file.csv"
        moment = began + index / EVENTS_OF_A_RUN * SECONDS_OF_A_RUN
        yield templates[step].format(
            run=run, id=f"{index:032x}", time=utc(moment), component=component, file=file
        )


def generate(directory: Path, count: int) -> None:
    """Makes a log of ``count`` events; its directory must not be there yet."""
    directory.mkdir(mode=0o700)
    writer = Writer(
        directory, durable=False, segment_bytes=SEGMENT_BYTES, checkpoint_every=CHECKPOINT_EVERY
    )
    for body in bodies(count):
        writer.append(body)
    writer.close()
