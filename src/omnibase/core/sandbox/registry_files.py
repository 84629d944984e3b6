"""What a run is shown of a registry: files below ``/registry``, made for it alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from omnibase.core.sandbox.monitor.attempts import Granted
from omnibase.core.sandbox.monitor.registry import REGISTRY
from omnibase.core.sandbox.resolving import StagedMount
from omnibase.core.sandbox.spec import Outlet

__all__ = ["RegistryFile", "registry_granted", "staged_registry"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryFile:
    """A file that the script can read.

    Attributes:
        path: Below ``/registry``: ``<name>/<version>/<file>``.
        content: Its bytes.
    """

    path: str
    content: bytes = field(repr=False)


@contextlib.contextmanager
def staged_registry(
    files: tuple[RegistryFile, ...], outlets: tuple[Outlet, ...], directory: str
) -> Iterator[tuple[StagedMount, ...]]:
    """Yields the mount of what the script is shown; nothing, if that is nothing.

    Args:
        files: What it is shown.
        outlets: Of the run; for one below a place is made.
        directory: A directory of the run's own, to be made.

    Raises:
        OSError: The directory cannot be written.
    """
    if not files:
        yield ()
        return
    os.mkdir(directory, 0o700)
    for file in files:
        path = f"{directory}/{file.path}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as out:
            out.write(file.content)
        os.chmod(path, 0o444)  # whatever the umask is
    for outlet in outlets:  # where the agent mounts it
        if outlet.path.startswith(f"{REGISTRY}/"):
            os.mkdir(f"{directory}/{outlet.path[len(REGISTRY) + 1 :]}")
    for folder, _, _ in os.walk(directory):
        os.chmod(folder, 0o755)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield (
            StagedMount(
                fd=fd, path=REGISTRY, is_directory=True, writable=False, capability="REGISTRY_READ"
            ),
        )
    finally:
        os.close(fd)


def registry_granted(files: Iterable[RegistryFile]) -> list[Granted]:
    """Returns what of the registry is in the guest: beyond that, each access is an attempt."""
    names = sorted({file.path.partition("/")[0] for file in files})
    return [Granted(path=f"{REGISTRY}/{name}", tree=True, writable=False) for name in names]
