"""What a run is given from the store of artifacts, and what of its own goes there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from omnibase.core import events
from omnibase.core.security.capabilities import Capability, CapabilitySet, CapabilityType
from omnibase.errors import ArtifactError, CapabilityError, OmniBaseError
from omnibase.inputs import artifacts_at, default_artifacts

if TYPE_CHECKING:
    from omnibase.core.artifacts.places import Place
    from omnibase.core.artifacts.store import Artifact, Artifacts, ArtifactStore
    from omnibase.core.sandbox.collect.reports import Collected, Left
    from omnibase.core.sandbox.spec import SandboxSpec

__all__ = [
    "ArtifactExchange",
    "covers",
    "exchange_for",
    "given",
    "granted_artifacts",
    "open_artifacts",
    "planned",
]

_WRITE: Final = CapabilityType.ARTIFACT_WRITE.value
_MAX_INPUTS: Final = 1024


def open_artifacts(artifacts: str | os.PathLike[str] | None = None) -> ArtifactStore:
    """Returns the store of artifacts that runs use.

    Args:
        artifacts: A directory or a URL such as ``s3://bucket/prefix``; by default
            ``$OMNIBASE_ARTIFACTS``, else ``artifacts`` in the state directory.

    Raises:
        ConfigurationError: It is neither, or the library for URLs is not there.
    """
    return (artifacts_at(artifacts) or default_artifacts()).open()


def granted_artifacts(store: ArtifactStore, patterns: Iterable[str]) -> tuple[Artifact, ...]:
    """Returns the latest version of each artifact that grants name, sorted by name.

    Args:
        store: Where they are.
        patterns: Resources of ``ARTIFACT_READ`` grants.

    Raises:
        ArtifactError: One is missing, or the store cannot be read.
        CapabilityError: A pattern matches nothing, or all of them too much.
    """
    found: dict[str, Artifact] = {}
    for text in patterns:
        grant = Capability(CapabilityType.ARTIFACT_READ, text)
        literal = grant.pattern.is_literal
        names = (text,) if literal else tuple(filter(grant.matches, store.names()))
        for name in names:
            artifact = store.find(name)
            if artifact is None and literal:
                raise ArtifactError(
                    f"the artifact `{name}` is not in the store `{store.location}`",
                    details={"artifact": name, "reason": "missing", "capability": str(grant)},
                    hint=f"`omnibase artifacts put {name} FILE`, or name its store: `--artifacts`",
                )
            if artifact is not None:
                found[name] = artifact
        if not names:
            raise CapabilityError(
                f"`{grant}` matches no artifact in the store `{store.location}`",
                details={"capability": str(grant)},
                hint="see `omnibase artifacts list`; a pattern is expanded once, at the start",
            )
        if len(found) > _MAX_INPUTS:
            raise CapabilityError(
                f"the artifacts that are granted are more than {_MAX_INPUTS}",
                details={"capability": str(grant)},
                hint="narrow the pattern",
            )
    _check_tree(found)
    return tuple(found[name] for name in sorted(found))


def _check_tree(names: Iterable[str]) -> None:
    """Refuses a name that is also a directory above another: no tree of files holds both."""
    known = set(names)
    for name in known:
        above = name
        while "/" in above:
            above = above.rpartition("/")[0]
            if above in known:
                raise CapabilityError(
                    f"the artifacts `{above}` and `{name}` cannot both be files of one run",
                    details={"capability": f"{CapabilityType.ARTIFACT_READ}:{name}"},
                    hint="grant one of them",
                )


class ArtifactExchange:
    """Carries artifacts between the store and one run, in the caller's thread.

    Args:
        store: The store.
        inputs: What the script is given.
        emitter: Of the run.

    Attributes:
        inputs: What the script is given.
        artifacts: What of the script's own is in the store now.
        error: What kept the rest from it.
    """

    def __init__(
        self, store: ArtifactStore, inputs: tuple[Artifact, ...], emitter: events.Emitter
    ) -> None:
        from omnibase.core.artifacts.store import Artifacts

        self._store = store
        self.inputs = inputs
        self._emitter = emitter
        self.artifacts: Artifacts = Artifacts()
        self.error: ArtifactError | None = None

    def stage(self, directory: Path) -> None:
        """Writes what the script is given below a directory; see `record.Exchange`.

        Raises:
            ArtifactError: Its bytes are gone, or others.
        """
        for artifact in self.inputs:
            path = directory / artifact.name
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._store.save(artifact, path)
            path.chmod(0o444)

    def take(self, collected: Iterable[Collected], left: Iterable[Left]) -> None:
        """Puts into the store what the script left; see `record.Exchange`."""
        from omnibase.core.artifacts.store import Artifacts, LeftOut, name_fault

        stored: list[Artifact] = []
        out = [
            LeftOut(name=one.name, reason=one.reason)
            for one in left
            if one.capability == _WRITE and not one.denied
        ]
        for file in sorted(collected, key=lambda file: file.name):
            if file.capability != _WRITE:
                continue
            fault = name_fault(file.name)
            if fault is not None:
                out.append(LeftOut(name=file.name, reason=fault))
                continue
            try:
                with open(file.path, "rb") as source:
                    artifact = self._store.put(file.name, source)
            except ArtifactError as error:
                self.error = error
                out.append(LeftOut(name=file.name, reason=f"was not stored: {error.message}"))
                continue
            stored.append(artifact)
            self._emitter.emit(
                events.ArtifactStored(
                    artifact=artifact.name,
                    version=artifact.version,
                    digest=artifact.digest,
                    size_bytes=artifact.size,
                    kind=artifact.kind,
                    media_type=artifact.media_type,
                )
            )
        for one in out:
            self._emitter.emit(events.ArtifactRefused(artifact=one.name, reason=one.reason))
        self.artifacts = Artifacts(tuple(stored), tuple(out))


def given(inputs: Iterable[Artifact]) -> tuple[events.Payload, ...]:
    """Returns the events that tell what a run was given."""
    return tuple(
        events.ArtifactRead(
            artifact=artifact.name,
            version=artifact.version,
            digest=artifact.digest,
            size_bytes=artifact.size,
        )
        for artifact in inputs
    )


def exchange_for(
    place: Place | None, spec: SandboxSpec, emitter: events.Emitter
) -> ArtifactExchange | None:
    """Opens the store for a run; ``None`` if the run has nothing to do with it.

    Args:
        place: Where it is; ``None`` for the default.
        spec: The run.
        emitter: Of the run.

    Raises:
        ArtifactError, CapabilityError: As `granted_artifacts`.
        ConfigurationError: The library for URLs is not there, or refuses this one.
    """
    if not spec.artifacts and all(outlet.capability != _WRITE for outlet in spec.outlets):
        return None
    store = (place or default_artifacts()).open()
    return ArtifactExchange(store, granted_artifacts(store, spec.artifacts), emitter)


def planned(
    place: Place | None, patterns: Iterable[str]
) -> tuple[tuple[str, ...], dict[str, OmniBaseError]]:
    """Returns what a run would be given, by name, and why not, by capability.

    Args:
        place: Where the store is; ``None`` for the default.
        patterns: Resources of ``ARTIFACT_READ`` grants.
    """
    names: set[str] = set()
    problems: dict[str, OmniBaseError] = {}
    for text in patterns:
        try:
            found = granted_artifacts((place or default_artifacts()).open(), (text,))
        except OmniBaseError as error:
            problems[f"{CapabilityType.ARTIFACT_READ}:{text}"] = error
        else:
            names.update(artifact.name for artifact in found)
    try:
        _check_tree(names)
    except CapabilityError as error:
        problems[str(error.details["capability"])] = error
    return tuple(sorted(names)), problems


def covers(grants: CapabilitySet, kind: str, name: str) -> bool:
    """Says whether a grant covers a name that a script gave to a file it left."""
    from omnibase.core.sandbox.collect.reports import resource_of

    return grants.covering(CapabilityType(kind), resource_of(kind, name)) is not None
