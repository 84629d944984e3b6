"""What ``omnibase registry add`` and ``update`` are given: files and flags, read strictly."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from omnibase.core.security.capabilities import Capability, CapabilitySet
from omnibase.errors import CapabilityError, ConfigurationError, RegistryError

if TYPE_CHECKING:
    from omnibase.core.registry import Component

__all__ = ["Edits", "new_component", "read_script"]

_TEXTS: Final = ("uuid", "name", "version", "owner", "description", "lifecycle", "trust")
_REQUIRED: Final = ("name", "version", "owner")
# What tells a Python source that is not UTF-8 (PEP 263).
_ENCODING: Final = re.compile(rb"(?:[^\n]*\n)?[ \t\f]*#[^\n]*coding[=:]")


def new_component(options: Any) -> tuple[Component, bytes | None]:
    """Reads what is to be added: the component, and its policy's document.

    Raises:
        OmniBaseError: A file or a flag is wrong.
    """
    from uuid import uuid4

    from omnibase.cli import stores
    from omnibase.core.security.capability_file import load_capabilities

    text, document = _read_component(options.file) if options.file is not None else ("", {})
    document.update(
        {name: getattr(options, name) for name in _TEXTS if getattr(options, name) is not None}
    )
    if options.idempotent:
        document["idempotent"] = True
    asked = document.get("capabilities_required", [])
    if options.capabilities is not None:
        asked = list(map(str, load_capabilities(options.capabilities)))
    if isinstance(asked, list) and (options.require or options.capabilities is not None):
        document["capabilities_required"] = asked + [
            str(one) for one in _parsed(options.require, "--require")
        ]
    absent = [name for name in _REQUIRED if name not in document]
    if absent:
        flags = ", ".join(f"`--{name}`" for name in absent)
        where = "give it" if len(absent) == 1 else "give them"
        raise ConfigurationError(
            f"{flags} {'is' if len(absent) == 1 else 'are'} missing",
            hint=f"{where}, or name a component file that says so",
        )
    policy: bytes | None = None
    if "uuid" not in document:
        document["uuid"] = str(uuid4())
        if options.policy is not None:
            named = stores.read_policy(options.policy)
            if not named.names_nobody:
                document["uuid"] = str(named.policy.principal)
    component = _read(document, options, text)
    if options.policy is not None:
        policy = stores.read_policy(options.policy, component.uuid).document
    return component, policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Edits:
    """What is to change of a component.

    Attributes:
        members: Of its record, JSON-ready.
        replaced: What it asks for from now on, or ``None``: the same.
        added: What it asks for in addition.
        removed: What it no longer asks for.
    """

    members: dict[str, Any]
    replaced: CapabilitySet | None
    added: tuple[Capability, ...]
    removed: tuple[Capability, ...]

    @classmethod
    def read(cls, options: Any) -> Edits:
        """Reads the flags of ``update``, and the file that they name.

        Raises:
            ConfigurationError, CapabilityError: One is wrong.
        """
        from omnibase.core.security.capability_file import load_capabilities

        if options.idempotent and options.not_idempotent:
            raise ConfigurationError(
                "`--idempotent` and `--not-idempotent` contradict each other", hint="choose one"
            )
        members = {name: getattr(options, name, None) for name in _TEXTS}
        members = {name: value for name, value in members.items() if value is not None}
        if options.idempotent or options.not_idempotent:
            members["idempotent"] = options.idempotent
        named = options.capabilities
        return cls(
            members=members,
            replaced=None if named is None else load_capabilities(named),
            added=_parsed(options.require, "--require"),
            removed=_parsed(options.unrequire, "--unrequire"),
        )

    def apply(self, current: Component) -> Component:
        """Returns the component with the changes made.

        Raises:
            ConfigurationError, RegistryError: One cannot be made.
        """
        from omnibase.core.registry.component_file import read_component

        asked = current.capabilities_required if self.replaced is None else self.replaced
        asked = asked.union(self.added)
        for capability in self.removed:
            if capability not in asked:
                raise ConfigurationError(
                    f"`{capability}` is not among what `{current.reference}` asks for",
                    hint=f"see `omnibase registry show {current.uuid}`",
                )
        kept = [str(one) for one in asked if one not in self.removed]
        return read_component({**current.to_dict(), **self.members, "capabilities_required": kept})


def read_script(path: str | None) -> tuple[str, bytes] | None:
    """Reads a script: its name in the registry, and its bytes.

    Raises:
        ConfigurationError: It cannot be read, or is no Python source.
    """
    if path is None:
        return None
    from omnibase.cli.stores import read_file
    from omnibase.core.registry.store import MAX_SCRIPT_BYTES

    what = f"a Python file of at most {MAX_SCRIPT_BYTES >> 20} MiB"
    content = read_file(path, MAX_SCRIPT_BYTES, what)
    fault = None
    if b"\0" in content:
        fault = f"byte {content.index(0)} is NUL"
    elif not _ENCODING.match(content):
        try:
            content.decode()
        except UnicodeDecodeError as error:
            fault = f"byte {error.start} is not UTF-8, and it names no other encoding"
    if fault is not None:
        raise ConfigurationError(f"`{path}` is no Python source: {fault}", hint=f"name {what}")
    return os.path.basename(path), content


def _read_component(path: str) -> tuple[str, dict[str, Any]]:
    from omnibase.cli.stores import read_file
    from omnibase.core.registry.checks import MAX_COMPONENT_BYTES
    from omnibase.core.security.strict_json import parse_json

    hint = 'write an object like `{"name": "…", "version": "1.0.0", "owner": "…"}`'
    data = read_file(path, MAX_COMPONENT_BYTES, "a component file")
    text, document = parse_json(data, path, limit=MAX_COMPONENT_BYTES, hint=hint)
    if not isinstance(document, dict):
        raise ConfigurationError(f"`{path}` holds no JSON object", hint=hint)
    given = [key for key in ("entrypoint", "policy", "revision") if document.get(key) is not None]
    if given:
        raise ConfigurationError(
            f"`{path}` has `{given[0]}`, which the registry writes",
            hint="leave it out; `--script` and `--policy` add what belongs to it",
        )
    return text, document


def _read(document: dict[str, Any], options: Any, text: str) -> Component:
    """Reads a record that a file and flags made; an error names the one or the other."""
    from omnibase.core.registry.component_file import read_component
    from omnibase.core.security.strict_json import located

    try:
        return read_component(document)
    except RegistryError as error:
        path = str(error.details.get("json_path", ""))
        name = path.removeprefix("$.").partition("[")[0]
        given = getattr(options, name, None) is not None
        if not text or given:
            raise
        error.hint = error.hint or "write it as `docs/schemas/component.schema.json` says"
        raise located(error, options.file, text) from None


def _parsed(texts: list[str], flag: str) -> tuple[Capability, ...]:
    found = []
    for text in texts:
        try:
            found.append(Capability.parse(text))
        except CapabilityError as error:
            raise CapabilityError(
                f"`{flag}`: {error.message}", details=error.details, hint=error.hint
            ) from None
    return tuple(found)
