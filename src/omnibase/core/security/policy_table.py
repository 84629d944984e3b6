"""Table tests of a policy: requests, and what is expected of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from omnibase.core.security.capabilities import Capability, CapabilitySet
from omnibase.core.security.decision import Outcome, PolicyContext, Verdict
from omnibase.core.security.patterns import quoted
from omnibase.core.security.policy import Policy
from omnibase.core.security.strict_json import JsonPath, json_path, located, parse_json
from omnibase.errors import CapabilityError, ConfigurationError

__all__ = ["CaseResult", "run_table"]

MAX_TABLE_BYTES = 1 << 20
MAX_CASES = 2000
EXAMPLE = '{"version": 1, "cases": [{"request": "FILE_READ:/data/**", "expect": "allow"}]}'

_EXPECTED = {"allow": Outcome.GRANTED, "deny": Outcome.DENIED, "mask": Outcome.MASKED}
_OPTIONAL = ("name", "context", "masks", "policies")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """One case of a table.

    Attributes:
        name: What the case is called; by default the request.
        passed: Whether the decision is as expected.
        message: What was decided, and what was expected if that is something else.
        verdict: The decision.
    """

    name: str
    passed: bool
    message: str
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        """Returns the result as JSON-ready data."""
        return {
            "name": self.name,
            "passed": self.passed,
            "message": self.message,
            "verdict": self.verdict.to_dict(),
        }


def run_table(policy: Policy, data: bytes, source: str) -> tuple[CaseResult, ...]:
    """Decides each case of a table as the policy's component.

    A table is ``{"version": 1, "context": {...}, "cases": [...]}``; a case is
    ``{"request": "TYPE:resource", "expect": "allow" | "deny" | "mask"}`` and may
    have a ``name``, a ``context`` (in which it differs from the table's),
    ``masks`` (exactly these) and ``policies`` (ids that decide, among others).

    Raises:
        ConfigurationError: The table is not valid; ``details`` has the place.
        CapabilityError: A request is malformed; likewise.
    """
    text, document = parse_json(
        data, source, limit=MAX_TABLE_BYTES, hint=f"write a table like `{EXAMPLE}`"
    )
    try:
        return tuple(_run(policy, case) for case in _read_table(document))
    except (ConfigurationError, CapabilityError) as error:
        raise located(error, source, text) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    name: str
    request: Capability
    expect: str
    context: PolicyContext
    masks: tuple[str, ...] | None
    policies: tuple[str, ...]


def _run(policy: Policy, case: _Case) -> CaseResult:
    decision = policy.decide(policy.principal, CapabilitySet((case.request,)), case.context)
    (verdict,) = decision.verdicts
    masks = tuple(sorted(mask.pattern for mask in verdict.masks))
    ids = {ref.id for ref in (*verdict.permits, *verdict.forbids)}
    faults = []
    if verdict.outcome is not _EXPECTED[case.expect]:
        faults.append(f"expected `{case.expect}`")
    if case.masks is not None and masks != tuple(sorted(case.masks)):
        faults.append(f"expected the masks {', '.join(map(quoted, case.masks))}")
    for missing in sorted(set(case.policies) - ids):
        faults.append(f"expected the policy `{missing}` to decide")
    told = f"`{case.request}` is {verdict.outcome.value}: {verdict.message}"
    return CaseResult(
        name=case.name,
        passed=not faults,
        message="; ".join([told, *faults]),
        verdict=verdict,
    )


def _refuse(path: JsonPath, message: str, allowed: str) -> NoReturn:
    raise ConfigurationError(
        f"`{json_path(path)}`: {message}",
        details={"json_path": json_path(path)},
        hint=f"allowed here: {allowed}",
    )


def _keys(
    value: object, path: JsonPath, required: tuple[str, ...], optional: tuple[str, ...]
) -> Mapping[str, object]:
    names = ", ".join(f"`{name}`" for name in required + optional)
    if not isinstance(value, dict):
        _refuse(path, "expected an object", f"an object with {names}")
    for key in value:
        if key not in required and key not in optional:
            _refuse((*path, key), f"unknown key {quoted(key)}", names)
    for key in required:
        if key not in value:
            _refuse(path, f"the key `{key}` is missing", names)
    return value


def _texts(value: object, path: JsonPath) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        _refuse(path, "expected a list of texts", 'e.g. `["/data/secret/**"]`')
    return tuple(value)


def _context(value: object, path: JsonPath, base: PolicyContext) -> PolicyContext:
    found = _keys(value, path, (), ("trust", "lifecycle", "environment"))
    fields = base.to_dict()
    for key, one in found.items():
        if not isinstance(one, str):
            _refuse((*path, key), "expected a text", "a text")
        fields[key] = one
    try:
        return PolicyContext(**fields)
    except ConfigurationError as error:
        _refuse(path, error.message, error.hint or "")


def _read_table(document: object) -> list[_Case]:
    table = _keys(document, (), ("version", "cases"), ("context",))
    if type(table["version"]) is not int or table["version"] != 1:
        _refuse(("version",), "unknown version", "`1`")
    base = _context(table.get("context", {}), ("context",), PolicyContext())
    cases = table["cases"]
    if not isinstance(cases, list) or len(cases) > MAX_CASES:
        _refuse(("cases",), "expected a list of cases", f"a list of at most {MAX_CASES}")
    return [_read_case(case, ("cases", i), base) for i, case in enumerate(cases)]


def _read_case(value: object, path: JsonPath, base: PolicyContext) -> _Case:
    found = _keys(value, path, ("request", "expect"), _OPTIONAL)
    request = found["request"]
    if not isinstance(request, str):
        _refuse((*path, "request"), "expected a text", "`TYPE:resource`")
    try:
        capability = Capability.parse(request)
    except CapabilityError as error:
        error.details["json_path"] = json_path((*path, "request"))
        raise
    expect = found["expect"]
    if not isinstance(expect, str) or expect not in _EXPECTED:
        _refuse((*path, "expect"), "unknown expectation", "`allow`, `deny`, `mask`")
    name = found.get("name", request)
    if not isinstance(name, str):
        _refuse((*path, "name"), "expected a text", "what the case is called")
    return _Case(
        name=name,
        request=capability,
        expect=expect,
        context=_context(found.get("context", {}), (*path, "context"), base),
        masks=_texts(found["masks"], (*path, "masks")) if "masks" in found else None,
        policies=_texts(found.get("policies", []), (*path, "policies")),
    )
