"""Artifacts that a script may read: a tree of exactly those, mounted as one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from omnibase.core.sandbox.monitor.reads import ARTIFACTS
from omnibase.core.sandbox.resolving import StagedMount
from omnibase.core.sandbox.spec import SandboxSpec

__all__ = ["staged_artifacts"]


@contextlib.contextmanager
def staged_artifacts(
    spec: SandboxSpec, directory: Path, fill: Callable[[Path], None]
) -> Iterator[tuple[StagedMount, ...]]:
    """Yields the mount of what the script may read; nothing, if that is nothing.

    Args:
        spec: The run.
        directory: Where it is put together; made, and not there before.
        fill: Puts it there.
    """
    if not spec.artifacts:
        yield ()
        return
    directory.mkdir(mode=0o700)
    fill(directory)
    for outlet in spec.outlets:  # where the agent mounts it
        if outlet.path.startswith(f"{ARTIFACTS}/"):
            (directory / outlet.path[len(ARTIFACTS) + 1 :]).mkdir()
    for folder, _, _ in os.walk(directory):
        os.chmod(folder, 0o755)  # whatever the umask is
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield (
            StagedMount(
                fd=fd, path=ARTIFACTS, is_directory=True, writable=False,
                capability="ARTIFACT_READ",
            ),
        )  # fmt: skip
    finally:
        os.close(fd)
