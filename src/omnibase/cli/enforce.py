"""What this backend would make of a capability, asked without starting anything."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from omnibase.backend import compile_grants
from omnibase.core.context import ExecutionContext
from omnibase.core.sandbox import compile, resolving
from omnibase.core.sandbox.commands import finding
from omnibase.core.sandbox.databases import copying
from omnibase.core.sandbox.image import Image
from omnibase.core.sandbox.monitor.attempts import UNTOLD_PATH
from omnibase.core.secrets import fetch
from omnibase.core.security.capabilities import Capability, CapabilitySet
from omnibase.errors import CapabilityDenied, CapabilityError, OmniBaseError
from omnibase.exchange import granted_artifacts, open_artifacts
from omnibase.inputs import artifacts_at

if TYPE_CHECKING:
    from omnibase.core.sandbox.monitor.violations import Violation
    from omnibase.core.sandbox.spec import SandboxSpec
    from omnibase.core.secrets import SecretStore

__all__ = ["Enforcement", "enforcement_of", "needed", "port_unknown", "unresolved"]

_NO_IMAGE = Image(path="/", digest="", python="", probes=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforcement:
    """How a capability would be enforced, or why not.

    Attributes:
        known: The backend can enforce capabilities of this type.
        how: How it does.
        refusal: Why this one is refused all the same.
        problem: What keeps it from being used now (a path that is not there).
        hint: What to do about the refusal or the problem.
    """

    known: bool
    how: str | None = None
    refusal: str | None = None
    problem: str | None = None
    hint: str | None = None

    @property
    def usable(self) -> bool:
        """Whether a run with this grant would start."""
        return self.known and self.refusal is None and self.problem is None


def enforcement_of(
    capability: Capability,
    context: ExecutionContext | None = None,
    *,
    resolve: bool = True,
    secrets: SecretStore | None = None,
    artifacts: str | None = None,
) -> Enforcement:
    """Says what a run would do with this grant, alone, on this machine.

    Args:
        capability: The grant.
        context: Quotas, for the memory ceiling.
        resolve: Look at the file system too, as the run would.
        secrets: Look for secrets there, as the run would.
        artifacts: The store of artifacts, if it is not the default one.
    """
    try:
        # As `run` compiles it, with the same areas out of reach.
        spec = compile_grants(
            CapabilitySet([capability]), context or ExecutionContext(), _NO_IMAGE, None,
            hidden=(() if secrets is None else secrets.areas) + _areas(artifacts),
        )  # fmt: skip
    except CapabilityError as error:
        known = capability.type in compile.ENFORCEMENT
        return Enforcement(known=known, refusal=error.message, hint=error.hint)
    how = compile.ENFORCEMENT[capability.type]
    if resolve:
        for _, found in unresolved(spec):
            return Enforcement(known=True, how=how, problem=found.message, hint=found.hint)
        try:
            for name in spec.commands:
                finding.check(name)
            if spec.artifacts:
                granted_artifacts(open_artifacts(artifacts), spec.artifacts)
        except OmniBaseError as missing:
            return Enforcement(known=True, how=how, problem=missing.message, hint=missing.hint)
    if secrets is not None:
        try:
            fetch(secrets, spec.secrets)
        except OmniBaseError as missing:
            return Enforcement(known=True, how=how, problem=missing.message, hint=missing.hint)
    return Enforcement(known=True, how=how)


def _areas(artifacts: str | None) -> tuple[str, ...]:
    place = artifacts_at(artifacts)
    return () if place is None else place.areas


def unresolved(spec: SandboxSpec) -> list[tuple[str, CapabilityError]]:
    """Returns the grants whose files cannot be used as things stand, each with why."""
    problems = []
    for grant in spec.files:
        try:
            with resolving.resolve_grants(replace(spec, files=(grant,))):
                pass
        except CapabilityError as error:
            problems.append((grant.capability, error))
    for database in spec.databases:
        try:
            copying.check(database)
        except CapabilityError as error:
            problems.append((database.capability, error))
    return problems


def needed(violation: Violation) -> Capability | None:
    """Returns the smallest capability that would have allowed an attempt, if one could.

    It allows that and nothing else: the name is the script's choice, so one that
    holds a ``*`` or a ``?``, which no pattern can name, has no such capability.
    """
    if violation.capability is None:
        return None
    kind, _, resource = violation.capability.partition(":")
    # A name look-up knows no port, so any port of exactly that host is the least.
    host, _, port = resource.rpartition(":")
    any_port = kind == "NETWORK_CONNECT" and port == "*"
    try:
        CapabilitySet().check(kind, f"{host}:1" if any_port else resource)  # type: ignore[arg-type]
    except CapabilityDenied as denied:
        smallest = Capability.parse(str(denied.details["smallest_grant"]))
        if not smallest.pattern.is_literal:
            return None
        return Capability.parse(f"{str(smallest)[:-1]}*") if any_port else smallest
    except CapabilityError:
        return None
    return None


def port_unknown(capability: Capability) -> str | None:
    """Returns what to grant, for example, if a capability is for a host and no port is known.

    A name look-up tells none, and a grant of every port would be refused.
    """
    host, _, port = capability.resource.rpartition(":")
    if capability.type.value != "NETWORK_CONNECT" or port != "*" or "*" in host:
        return None
    return f"NETWORK_CONNECT:{host}:443"


def database_copy(capability: Capability) -> str | None:
    """Returns what grants a copy of a file instead, if its name is one of an SQLite database."""
    if capability.type.value not in ("FILE_READ", "FILE_WRITE"):
        return None
    if not capability.resource.endswith((".db", ".db3", ".sqlite", ".sqlite3")):
        return None
    return f"DATABASE_READ:sqlite:{capability.resource}"


def ungrantable(violation: Violation) -> str:
    """Says why `needed` has no answer."""
    if violation.operation == "lookup":
        return "a grant names a host and a port, and it told no name"
    if violation.resource == UNTOLD_PATH:
        return "its path is not seen; a grant to write there may allow it"
    if violation.capability is None:
        return "no capability allows this"
    return "no capability names exactly this"
