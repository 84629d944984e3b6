"""Which changes of a component are allowed."""

from __future__ import annotations

from dataclasses import replace

from omnibase.core.registry.checks import invalid
from omnibase.core.registry.model import TRANSITIONS, Action, Component, Lifecycle
from omnibase.core.registry.store import FindingCode, Tampered, conflict
from omnibase.core.registry.view import View
from omnibase.errors import RegistryError

__all__ = [
    "check_alive",
    "check_free",
    "check_new",
    "check_size",
    "check_step",
    "check_update",
]


def check_size(data: bytes, what: str, most: int) -> None:
    if not 0 < len(data) <= most:
        raise invalid(f"{what} has {len(data)} bytes", "$", f"use 1 to {most} bytes")


def check_alive(component: Component) -> None:
    if component.lifecycle is Lifecycle.RETIRED:
        conflict(
            f"component `{component.uuid}` is retired and no longer changes",
            "add a new component in its place",
        )


def check_new(component: Component) -> None:
    if component.revision or component.policy or component.entrypoint:
        raise invalid(
            "a new component has no revision, policy or entrypoint", "$",
            "add it without; then add its script and put its policy",
        )  # fmt: skip
    if component.lifecycle is Lifecycle.RETIRED:
        raise invalid("a new component is not retired", "$.lifecycle", "write `draft` or `active`")


def check_free(view: View, component: Component) -> None:
    """Refuses a version of a name that is, or ever was, another component's."""
    holder = view.holder(component.name, component.version.precedence)
    if holder not in (None, component.uuid):
        conflict(
            f"`{component.name}@{component.version.precedence}` is component `{holder}`",
            "choose another version or name",
            uuid=str(holder),
        )


def check_update(current: Component, wanted: Component) -> None:
    check_alive(current)
    if wanted.name != current.name:
        conflict(f"the name `{current.name}` does not change", "add a new component")
    if wanted.version < current.version:
        conflict(f"version `{wanted.version}` is lower than `{current.version}`", "raise it")
    given = (wanted.entrypoint, wanted.artifacts.get("entrypoint"), wanted.policy)
    if given != (current.entrypoint, current.artifacts.get("entrypoint"), current.policy):
        raise invalid(
            "an update changes neither the script nor the policy", "$",
            "add the script, or put the policy",
        )  # fmt: skip
    before, after = current.lifecycle, wanted.lifecycle
    if before is not after and after not in TRANSITIONS[before]:
        allowed = ", ".join(f"`{name}`" for name in sorted(TRANSITIONS[before]))
        conflict(f"`{before}` does not become `{after}`", f"it may become {allowed}")


def check_step(before: Component | None, after: Component, file: str) -> None:
    """Refuses a revision that no change of the one before could have made.

    Raises:
        Tampered: With ``file``, which holds the later one.
    """
    action = after.revision.action if after.revision else None
    try:
        if before is None:
            check_new(replace(after, revision=None))
            return
        check_alive(before)
        if action is Action.UPDATE:
            check_update(before, after)
            return
    except RegistryError as error:
        message = f"it is no change of the revision before: {error.message}"
        raise Tampered(file, FindingCode.CHANGED, message) from None
    may: Component | None = None
    if action is Action.RETIRE:
        may = replace(before, lifecycle=Lifecycle.RETIRED)
    elif action is Action.PUT_POLICY and after.policy_version == before.policy_version + 1:
        may = replace(before, policy=after.policy)
    elif action is Action.ADD_SCRIPT and after.entrypoint is not None:
        artifacts = {**before.artifacts, "entrypoint": after.artifacts["entrypoint"]}
        may = replace(before, entrypoint=after.entrypoint, artifacts=artifacts)
    if may is None or after != replace(may, revision=after.revision):
        message = f"`{action}` cannot have made it of the revision before"
        raise Tampered(file, FindingCode.CHANGED, message)
