"""Cedar itself, through cedarpy: validates documents and answers concrete questions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from omnibase.core.security.capabilities import CapabilityType
from omnibase.core.security.decision import PolicyContext
from omnibase.core.security.policy_schema import CEDAR_SCHEMA, ENTITY_OF
from omnibase.errors import PolicyError

__all__ = ["Answer", "Engine", "Question"]

Question = tuple[CapabilityType, dict[str, str | int]]
"""A concrete resource: its type and its attributes."""


class Answer(NamedTuple):
    """What Cedar says to a question.

    Attributes:
        allowed: Never true if there are errors.
        reasons: Ids of the policies that determined it: forbids if any holds, else permits.
        errors: What could not be evaluated; Cedar itself would skip those policies.
    """

    allowed: bool
    reasons: tuple[str, ...]
    errors: tuple[str, ...]


@cache
def _schema() -> Any:
    import cedarpy

    return cedarpy.Schema.from_str(CEDAR_SCHEMA)


class Engine:
    """A document in the hands of Cedar."""

    def __init__(self, document: dict[str, Any], source: str) -> None:
        """Hands a document over, and has it validated against the schema.

        Raises:
            PolicyError: Cedar refuses it.
        """
        import cedarpy  # some milliseconds, and only policies need it

        # Written anew from what was read, so that both parties see the same document.
        text = json.dumps(document)
        try:
            self._policies = cedarpy.PolicySet.from_json_str(text)
            found = cedarpy.validate_policies(cedarpy.policies_from_json_str(text), _schema())
            errors = [str(one.error) for one in found.errors]
        except ValueError as error:
            errors = [str(error)]
        if errors:
            raise PolicyError(
                f"`{source}`: cedar refuses the policy: {errors[0]}",
                details={"source": source, "errors": errors[:10]},
                hint="see the published Cedar schema, `omnibase.cedarschema`",
            )

    def ask(
        self, principal: UUID, questions: Sequence[Question], context: PolicyContext
    ) -> list[Answer]:
        """Answers concrete questions, all in one call."""
        import cedarpy

        if not questions:
            return []
        named = [
            ({"type": ENTITY_OF[kind], "id": str(i)}, attributes)
            for i, (kind, attributes) in enumerate(questions)
        ]
        requests = [
            {
                "principal": {"type": "Component", "id": str(principal)},
                "action": {"type": "Action", "id": "use"},
                "resource": entity,
                "context": context.to_dict(),
            }
            for entity, _ in named
        ]
        entities = [{"uid": entity, "attrs": attrs, "parents": []} for entity, attrs in named]
        results = cedarpy.is_authorized_batch(requests, self._policies, entities)
        return [_answer(result) for result in results]


def _answer(result: Any) -> Answer:
    diagnostics = result.diagnostics
    errors = tuple(str(error) for error in diagnostics.errors)
    # Cedar leaves out a policy that cannot be evaluated, and a forbid left out allows.
    return Answer(bool(result.allowed) and not errors, tuple(sorted(diagnostics.reasons)), errors)
