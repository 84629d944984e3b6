"""What a run leaves behind, for people: told on standard error, written out if asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from omnibase.cli import console
from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from omnibase.core.artifacts.store import Artifact, Artifacts
    from omnibase.core.sandbox.result import Proposed

__all__ = ["Target", "add_store_option", "add_target_option", "describe", "tell", "tell_proposed"]

_SHOWN: Final = 20


class Target:
    """The directory of ``--artifacts-out``: new, or empty, so that nothing is written over.

    Args:
        path: It; ``None`` if it was not asked for.

    Raises:
        ConfigurationError: It cannot be used; to be found out before anything runs.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        if path is None:
            return
        try:
            if os.listdir(path):
                raise ConfigurationError(
                    f"`--artifacts-out {path}` is not empty",
                    hint="name a new directory: nothing is written over",
                )
        except FileNotFoundError:
            if os.path.isdir(os.path.dirname(os.path.abspath(path))):
                return
            raise self._refused("its parent is not there") from None
        except (OSError, ValueError) as error:
            raise self._refused(getattr(error, "strerror", str(error))) from None

    def write(self, artifacts: Artifacts) -> None:
        """Writes each artifact to a file of its name.

        Raises:
            ArtifactError: Its bytes are gone, or others.
            ConfigurationError: The directory cannot be written.
        """
        if self._path is None:
            return
        try:
            for name, artifact in artifacts.items():
                path = Path(self._path) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                artifact.save(path)
        except OSError as error:
            raise self._refused(error.strerror or str(error)) from None

    def _refused(self, why: str) -> ConfigurationError:
        return ConfigurationError(
            f"`--artifacts-out {self._path}` cannot be used: {why}", hint="name a new directory"
        )


def tell(artifacts: Artifacts) -> None:
    """Lists what was stored, and what was not and why."""
    rows = list(artifacts.values())
    for artifact in rows[:_SHOWN]:
        console.note(f"  {console.colour('green', 'stored')}  {describe(artifact)}")
    if len(rows) > _SHOWN:
        console.note(f"  … and {len(rows) - _SHOWN} more; `--json` lists all")
    for left in artifacts.left_out[:_SHOWN]:
        name = console.printable(left.name, 200) or "(the rest)"
        reason = console.printable(left.reason, 400)
        console.note(f"  {console.colour('yellow', 'left out')}  {name}: {reason}")
    if len(artifacts.left_out) > _SHOWN:
        console.note(f"  … and {len(artifacts.left_out) - _SHOWN} more; `--json` lists all")


def tell_proposed(proposed: Iterable[Proposed]) -> None:
    """Lists what is a draft of the registry now, and what is not and why."""
    for one in proposed:
        if one.reason is None:
            shown = f"{console.printable(str(one.reference))}  a draft of the registry now"
            console.note(f"  {console.colour('green', 'added')}  {shown}, {one.uuid}")
        else:
            name, reason = console.printable(one.name, 200), console.printable(one.reason, 400)
            console.note(f"  {console.colour('yellow', 'not added')}  {name}: {reason}")


def describe(artifact: Artifact) -> str:
    """Returns one line about an artifact."""
    name = console.printable(artifact.name, 600)
    media_type = console.printable(artifact.media_type, 80)
    return (
        f"{name}  {artifact.kind}, {media_type}, {console.size(artifact.size)}, "
        f"version {artifact.version}, {artifact.digest}"
    )


def add_target_option(group: Any) -> None:
    """Adds ``--artifacts-out``."""
    from omnibase.cli.commands import Once

    group.add_argument(
        "--artifacts-out", action=Once, metavar="DIR",
        help="also write the artifacts that it leaves below this directory, which is new or empty",
    )  # fmt: skip


def add_store_option(group: Any) -> None:
    """Adds ``--artifacts``."""
    from omnibase.cli.commands import Once

    group.add_argument(
        "--artifacts", action=Once, metavar="DIR|URL",
        help="the store of artifacts: a directory, or a URL such as s3://bucket/prefix "
        "(default: $OMNIBASE_ARTIFACTS, else in the state directory)",
    )  # fmt: skip
