"""What callers hand to the API, checked: scripts, arguments, capabilities."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from omnibase.core.artifacts.places import Place, place_of
from omnibase.core.locations import check_location
from omnibase.core.sandbox import state
from omnibase.core.secrets import EnvironmentSecrets, MappingSecrets, SecretStore, secret_store
from omnibase.core.security.capabilities import Capability, CapabilitySet
from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from omnibase.core.artifacts.store import ArtifactStore
    from omnibase.core.packages.lock import Layer

__all__ = [
    "ArtifactsAt",
    "Capabilities",
    "Packages",
    "Script",
    "Secrets",
    "Venv",
    "artifacts_at",
    "capability_set",
    "default_artifacts",
    "is_argument",
    "load_script",
    "registry_location",
    "store_of",
]

_MAX_SCRIPT_BYTES: Final = 64 << 20

Script = str | bytes | os.PathLike[str]
Capabilities = CapabilitySet | Iterable[Capability | str] | None
Packages: TypeAlias = "Layer | str | os.PathLike[str] | Iterable[str] | None"
Venv = str | os.PathLike[str] | None
ArtifactsAt: TypeAlias = "ArtifactStore | str | os.PathLike[str] | None"
Secrets = SecretStore | Mapping[str, str | bytes] | str | None


def load_script(script: Script) -> tuple[str, bytes]:
    """Returns the script's name and source bytes."""
    if isinstance(script, bytes):
        return "script.py", _bounded(script)
    if isinstance(script, str) and ("\n" in script or not script.endswith(".py")):
        try:
            return "script.py", _bounded(script.encode("utf-8", "surrogateescape"))
        except UnicodeEncodeError as error:
            raise ConfigurationError(
                "the script's text is not valid Unicode", hint="pass bytes"
            ) from error
    path = Path(script)
    try:
        # Opening a FIFO must not wait for its writer.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigurationError(
            f"the script `{path}` cannot be read: {reason}", hint="check the path"
        ) from error
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
        raise ConfigurationError(
            f"the script `{path}` is {kind}",
            hint="name a Python file, or `-` for standard input",
        )
    with open(fd, "rb") as file:
        return path.name, _bounded(file.read(_MAX_SCRIPT_BYTES + 1))


def is_argument(text: object) -> bool:
    if not isinstance(text, str) or "\0" in text:
        return False
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def _bounded(source: bytes) -> bytes:
    if len(source) > _MAX_SCRIPT_BYTES:
        raise ConfigurationError(
            f"the script is larger than {_MAX_SCRIPT_BYTES >> 20} MiB",
            hint="pass data on standard input or through a granted file",
        )
    return source


def capability_set(capabilities: Capabilities) -> CapabilitySet:
    if capabilities is None:
        return CapabilitySet()
    if isinstance(capabilities, CapabilitySet):
        return capabilities
    if isinstance(capabilities, str):
        raise ConfigurationError(
            "`capabilities` is a string", hint=f"pass a list: `[{capabilities[:80]!r}]`"
        )
    try:
        items = tuple(capabilities)
    except TypeError:
        raise ConfigurationError(
            f"`capabilities` is a `{type(capabilities).__name__}`",
            hint="pass a list of `TYPE:resource`",
        ) from None
    for item in items:
        if not isinstance(item, Capability | str):
            raise ConfigurationError(
                f"`{item!r:.80}` is not a capability", hint="write `TYPE:resource`"
            )
    return CapabilitySet(
        item if isinstance(item, Capability) else Capability.parse(item) for item in items
    )


def store_of(secrets: Secrets) -> SecretStore:
    """Returns where secrets are kept; by default, in the environment.

    Raises:
        ConfigurationError: It is neither a store nor stands for one.
    """
    if secrets is None:
        return EnvironmentSecrets()
    if isinstance(secrets, str):
        return secret_store(secrets)
    if isinstance(secrets, Mapping):
        return MappingSecrets(secrets)
    if not all(hasattr(secrets, name) for name in ("areas", "get", "hint")):
        raise ConfigurationError(
            f"`secrets` is a {type(secrets).__name__}, not a store of secrets",
            hint="pass `env`, `dir:/path`, `keyring`, a mapping, or a SecretStore",
        )
    return secrets


def artifacts_at(artifacts: ArtifactsAt) -> Place | None:
    """Returns where artifacts are: as said, else ``$OMNIBASE_ARTIFACTS``, else ``None``.

    `default_artifacts` is the place then; nothing is made before it is needed.

    Raises:
        ConfigurationError: What is said is no place of a store.
    """
    if artifacts is None:
        artifacts = os.environ.get("OMNIBASE_ARTIFACTS") or None
    return None if artifacts is None else place_of(artifacts)


def default_artifacts() -> Place:
    """Returns the place of artifacts in the state directory, which no grant reaches.

    Raises:
        ConfigurationError: There can be no state directory.
    """
    return place_of(state.state_dir() / "artifacts")


def registry_location(location: str | os.PathLike[str] | None = None) -> str:
    """Returns where the registry is: as said, else ``$OMNIBASE_REGISTRY``, else ``registry``.

    Raises:
        ConfigurationError: What is said is no path and no URL; an unset variable in
            its place makes it empty.
    """
    if location is None:
        location = os.environ.get("OMNIBASE_REGISTRY") or "registry"
    return check_location(location)
