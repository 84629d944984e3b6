"""What a script may say of a component that it proposes: little, and nothing that grants."""

from __future__ import annotations

from typing import Final
from uuid import uuid4

from omnibase.core.registry.checks import invalid
from omnibase.core.registry.component_file import read_component
from omnibase.core.registry.model import Component
from omnibase.core.security.patterns import quoted
from omnibase.core.security.strict_json import parse_json
from omnibase.errors import ConfigurationError, RegistryError

__all__ = ["MAX_PROPOSAL_BYTES", "parse_proposal"]

MAX_PROPOSAL_BYTES: Final = 64 << 10
_MAY_SAY: Final = ("version", "description", "capabilities_required", "idempotent")
_HINT: Final = 'write an object like `{"version": "1.0.0", "description": "what it does"}`'


def parse_proposal(data: bytes, *, name: str, owner: str) -> Component:
    """Reads a proposed component: always a draft, never trusted, with a UUID of its own.

    Args:
        data: The document: hostile input.
        name: What the component is called.
        owner: Whose it is.

    Raises:
        RegistryError: It is no strict JSON, says what no proposal may, or says it badly.
    """
    try:
        _, document = parse_json(data, "component.json", limit=MAX_PROPOSAL_BYTES, hint=_HINT)
    except ConfigurationError as error:
        raise RegistryError(
            error.message, details={**error.details, "reason": "invalid"}, hint=error.hint
        ) from None
    if not isinstance(document, dict):
        raise invalid("the proposal is not an object", "$", _HINT)
    for key in document:
        if key not in _MAY_SAY:
            allowed = ", ".join(f"`{one}`" for one in _MAY_SAY)
            message = f"a proposal says nothing of {quoted(key)}"
            raise invalid(message, f"$.{quoted(key)[1:-1]}", f"it may say {allowed}")
    if "version" not in document:
        raise invalid("the proposal has no `version`", "$", _HINT)
    return read_component({**document, "uuid": str(uuid4()), "name": name, "owner": owner})
