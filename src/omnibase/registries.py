"""What the registry holds, read with all that a run of it needs; verified, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from omnibase.core.locations import holds_registry, sqlite_file
from omnibase.core.registry import Component, Lifecycle, RegistryStore, open_store
from omnibase.core.security.decision import PolicyContext
from omnibase.core.security.policy import Policy
from omnibase.errors import ConfigurationError, RegistryError
from omnibase.inputs import registry_location

if TYPE_CHECKING:
    from omnibase.core.registry import PolicyDocument

__all__ = ["Loaded", "load", "open_registry", "policy_of"]

_TRIES = 20
_NAME_ONE = "name one with `--registry` or `OMNIBASE_REGISTRY`; `omnibase registry add` makes one"
NO_POLICY = b'{"staticPolicies": {}, "templates": {}, "templateLinks": []}'
"""Stands for the policy of a component that has none: it permits nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A component with all that a run of it needs, verified.

    Attributes:
        component: Its record.
        script: Its entrypoint's bytes.
        policy: Its policy; one that permits nothing if it has none.
        policy_version: As the registry counts it, or ``None`` if it has none.
        directory: The registry's own, or ``None`` if it is on a server.
    """

    component: Component
    script: bytes
    policy: Policy
    policy_version: int | None
    directory: str | None

    @property
    def name(self) -> str:
        """The script's file name."""
        return (self.component.entrypoint or "").rpartition("/")[2]

    def context(self, environment: str) -> PolicyContext:
        """Returns the circumstances of a run, as conditions see them."""
        component = self.component
        return PolicyContext(
            trust=component.trust, lifecycle=component.lifecycle, environment=environment
        )


def open_registry(
    location: str | os.PathLike[str] | None = None, *, must_exist: bool = False
) -> RegistryStore:
    """Opens a registry that accepts and returns only policies that can be evaluated.

    Args:
        location: A directory or a database URL; by default ``$OMNIBASE_REGISTRY``,
            else ``registry``.
        must_exist: Refuse one that is not there: a misspelt location would else be an
            empty registry, in which nothing is wrong. Without, the first write makes it.

    Raises:
        ConfigurationError: The location is a file, the URL is not of a database that
            is supported, the `sql` extra is not installed, or there is no registry.
    """
    text = registry_location(location)
    _check_is_no_file(text)
    store = open_store(text, validate=_validate)
    if must_exist:
        try:
            _check_is_there(text, store)
        except BaseException:
            store.close()
            raise
    return store


def _check_is_there(location: str, store: RegistryStore) -> None:
    file = sqlite_file(location) if "://" in location else location
    if file is not None and not holds_registry(file):
        raise ConfigurationError(
            f"there is no registry at `{os.path.abspath(file)}`", hint=_NAME_ONE
        )
    if "://" in location and _is_empty(store):
        # The URL may hold a password: it is not repeated.
        raise ConfigurationError("there is no registry in the database", hint=_NAME_ONE)


def _is_empty(store: RegistryStore) -> bool:
    try:
        return not store.head().entries
    except RegistryError:  # there is one, and its log is broken
        return False


def _check_is_no_file(location: str) -> None:
    if "://" not in location and os.path.isfile(location):
        raise ConfigurationError(
            f"the registry `{location}` is a file",
            hint=f"name a directory; a database is named as `sqlite:///{os.path.abspath(location)}`",
        )


def _validate(uuid: UUID, data: bytes) -> None:
    Policy.parse(data, f"policies/{uuid}.cedar.json", uuid)


def policy_of(
    store: RegistryStore, component: Component, version: int | None = None
) -> tuple[Policy, PolicyDocument | None]:
    """Returns a component's policy, and the document that it is read from.

    Without a document the component has none, and the policy permits nothing.

    Raises:
        PolicyError: The document was tampered with or is not accepted.
        RegistryError: There is no such version, or the record was tampered with.
    """
    if component.policy is None and version is None:
        return Policy.parse(NO_POLICY, "no policy", component.uuid), None
    document = store.get_policy(component.uuid, version)
    source = f"policies/{component.uuid}.cedar.json"
    return Policy.parse(document.document, source, component.uuid), document


def load(
    store: RegistryStore,
    reference: str,
    found: Callable[[Component], None] = lambda component: None,
) -> Loaded:
    """Finds a component and reads its script and policy, all verified.

    Args:
        store: The registry.
        reference: A uuid, ``name``, ``name@version`` or ``name@constraint``.
        found: Called with the component before its script and policy are read.

    Raises:
        RegistryError: There is none, it has no script, it is retired, or something
            was tampered with.
        PolicyError: Its policy was tampered with.
    """
    for _ in range(_TRIES):
        component = store.find(reference)
        found(component)
        _check_runnable(component)
        try:
            script = store.load_entrypoint(component)
        except RegistryError as error:
            if error.details.get("reason") != "conflict":
                raise
            continue
        policy, document = policy_of(store, component)
        # What was read must be of one moment: trust, grants and code of one revision.
        if store.get(component.uuid) == component:
            return Loaded(
                component=component,
                script=script,
                policy=policy,
                policy_version=document.version if document else None,
                directory=store.directory,
            )
    raise RegistryError(
        f"`{reference}` changes faster than it can be read",
        details={"reason": "busy"},
        hint="run it again",
    )


def _check_runnable(component: Component) -> None:
    if component.lifecycle is Lifecycle.RETIRED:
        raise RegistryError(
            f"`{component.reference}` is retired: it does not run",
            details={"reason": "invalid", "uuid": str(component.uuid)},
            hint="name another version; see `omnibase registry list`",
        )
    if component.entrypoint is None:
        raise RegistryError(
            f"`{component.reference}` has no script",
            details={"reason": "missing", "uuid": str(component.uuid)},
            hint=f"add one: `omnibase registry update {component.uuid} --script main.py`",
        )
