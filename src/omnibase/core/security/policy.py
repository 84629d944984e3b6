"""Decides requests by a component's policy.

Cedar decides every concrete resource. Patterns, which Cedar knows nothing of, are
decided by `containment`: all of the request must be permitted and none of it
forbidden. What is denied within a granted tree may become a mask. Each such answer
is tried on Cedar with a concrete resource, and a disagreement denies.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from typing import Any
from uuid import UUID

from omnibase.core.security.capabilities import CapabilitySet
from omnibase.core.security.conditions import Condition, Test, simplify
from omnibase.core.security.deciding import Case
from omnibase.core.security.decision import Decision, Outcome, PolicyContext, Verdict
from omnibase.core.security.engine import Engine
from omnibase.core.security.policy_document import Rule, read_policies
from omnibase.core.security.policy_text import json_of, text_of, written
from omnibase.errors import PolicyError

__all__ = ["Policy"]

MAX_CACHED_POLICIES = 64
MAX_CACHED_DECISIONS = 1024


class _Recent:
    """The most recently used values; safe for threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Any, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any) -> Any:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        return None

    def put(self, key: Any, value: Any) -> None:
        with self._lock:
            self._values[key] = value
            if len(self._values) > self._size:
                self._values.popitem(last=False)


_policies = _Recent(MAX_CACHED_POLICIES)
_decisions = _Recent(MAX_CACHED_DECISIONS)


class Policy:
    """The policies of one component; immutable.

    Attributes:
        principal: The component that they are for.
        rules: The policies, in the document's order.
        sha256: Digest of the document's bytes.
    """

    __slots__ = ("_engine", "_text", "principal", "rules", "sha256")

    def __init__(
        self,
        principal: UUID,
        rules: tuple[Rule, ...],
        sha256: str,
        document: dict[str, Any],
        source: str,
    ) -> None:
        """Is for `parse` and `from_cedar`."""
        self.principal = principal
        self.rules = rules
        self.sha256 = sha256
        self._text = json.dumps(document)
        self._engine = Engine(document, source)

    @classmethod
    def parse(cls, data: bytes, source: str, principal: UUID) -> Policy:
        """Reads a document in Cedar's JSON form.

        Args:
            data: The document, UTF-8.
            source: Where it came from, for errors.
            principal: The component that every policy must be for.

        Raises:
            PolicyError: The document is not accepted; the message names the
                policy, the place, and what is allowed there.
        """
        key = (hashlib.sha256(data).hexdigest(), principal)
        policy: Policy | None = _policies.get(key)
        if policy is None:
            rules, document = read_policies(data, source, principal)
            policy = cls(principal, rules, key[0], document, source)
            _policies.put(key, policy)
        return policy

    @classmethod
    def from_cedar(cls, text: str, source: str, principal: UUID) -> Policy:
        """Reads Cedar's own syntax; the annotation ``@id`` becomes a policy's id.

        Raises:
            PolicyError: Cedar cannot read it, or the document is not accepted.
        """
        document = json_of(text, source)
        try:
            return cls.parse(document, source, principal)
        except PolicyError as error:
            # Line and column are those of the JSON, which nobody has seen.
            details = dict(error.details)
            place = f", line {details.pop('line', 0)}, column {details.pop('column', 0)}"
            message = error.message.replace(place, "", 1)
            raise PolicyError(message, details=details, hint=error.hint) from None

    @property
    def document(self) -> dict[str, Any]:
        """The document in Cedar's JSON form; a copy."""
        found: dict[str, Any] = json.loads(self._text)
        return found

    def to_json(self) -> bytes:
        """Returns the document as it is kept in a file, UTF-8."""
        return written(self.document)

    def to_cedar(self) -> str:
        """Returns the document in Cedar's own syntax; each id as the annotation ``@id``."""
        return text_of(self.document)

    def decide(self, principal: UUID, request: CapabilitySet, context: PolicyContext) -> Decision:
        """Decides each requested capability.

        Deny is the default and overrides. It never raises for what a policy says:
        what cannot be evaluated or decided is denied, and the verdict says why.
        Repeated questions are answered from memory.
        """
        key = (self.sha256, self.principal, principal, context, request)
        decision: Decision | None = _decisions.get(key)
        if decision is None:
            decision = self._decide(principal, request, context)
            _decisions.put(key, decision)
        return decision

    def conditions(self, context: PolicyContext) -> tuple[tuple[Rule, Condition], ...]:
        """Returns the policies that can hold in a context, with what they ask of a resource."""
        actual = context.to_dict()

        def judge(test: Test) -> bool | None:
            return test.holds(actual[test.attribute]) if test.owner == "context" else None

        found = ((rule, simplify(rule.condition, judge)) for rule in self.rules)
        return tuple((rule, condition) for rule, condition in found if condition is not False)

    def _decide(self, principal: UUID, request: CapabilitySet, context: PolicyContext) -> Decision:
        if principal != self.principal:
            message = f"the policy is for component `{self.principal}`, not for `{principal}`"
            return self._refuse_all(request, context, message, ())
        case = Case(self.conditions(context))
        drafts = [case.draft(capability) for capability in request]
        probes = [probe for draft in drafts for probe in draft.probes]
        answers = self._engine.ask(principal, [probe.question for probe in probes], context)
        errors = tuple(sorted({error for answer in answers for error in answer.errors}))
        if errors:
            message = f"the policy cannot be evaluated: {errors[0]}"
            return self._refuse_all(request, context, message, errors)
        left = iter(answers)
        verdicts = [draft.settle([next(left) for _ in draft.probes]) for draft in drafts]
        return Decision(
            verdicts=case.reconcile(verdicts), context=context, policy_sha256=self.sha256
        )

    def _refuse_all(
        self, request: CapabilitySet, context: PolicyContext, message: str, errors: tuple[str, ...]
    ) -> Decision:
        return Decision(
            verdicts=tuple(
                Verdict(capability=capability, outcome=Outcome.DENIED, message=message)
                for capability in request
            ),
            context=context,
            policy_sha256=self.sha256,
            errors=errors,
        )
