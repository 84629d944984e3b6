"""How components and their changes are shown."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from omnibase.cli import console
from omnibase.errors import RegistryError

if TYPE_CHECKING:
    from omnibase.core.registry import Component

__all__ = [
    "Change",
    "changes",
    "describe",
    "header",
    "in_words",
    "in_words_of_the_command",
    "row",
    "show_changes",
    "stamp",
]

_FLAGS: Final = {
    "capabilities_required": "--capabilities",
    "entrypoint": "--script",
    **{
        name: f"--{name}"
        for name in ("uuid", "name", "version", "owner", "description", "lifecycle", "trust",
                     "author", "comment")
    },
}  # fmt: skip
_COLUMNS: Final = (36, 10, 12, 6, 30)
_SHOWN: Final = 200


class Change(NamedTuple):
    """One member of a record that differs between two revisions.

    Attributes:
        field: Its name; ``script`` and ``policy`` stand for what they name.
        old: JSON-ready; ``None`` if there was none.
        new: Likewise.
    """

    field: str
    old: Any
    new: Any


def in_words(error: RegistryError) -> RegistryError:
    """Returns an error of the store as whoever typed the command knows things.

    A value that was typed has its flag in place of its JSON path, and a conflict
    with another's change says to run the command again.
    """
    details, message, hint = error.details, error.message, error.hint
    if details.get("reason") == "conflict" and "revision" in details:
        hint = "run the command again: it looks at the component anew"
    path = str(details.get("json_path", ""))
    member = re.sub(r"^\$\.(?:revision\.)?", "", path)
    typed = _FLAGS.get(member)
    if typed is not None and "source" not in details:
        message = message.replace(f"`{path}`", f"`{typed}`")
        if f"`{typed}`" not in message:
            message = f"`{typed}`: {message}"
    return RegistryError(message, details=details, hint=hint)


@contextlib.contextmanager
def in_words_of_the_command() -> Iterator[None]:
    """Tells the store's errors as `in_words` does."""
    try:
        yield
    except RegistryError as error:
        raise in_words(error) from None


def script_of(component: Component) -> dict[str, str] | None:
    """Returns the name and the digest of a component's script."""
    if component.entrypoint is None:
        return None
    name = component.entrypoint.rpartition("/")[2]
    return {"name": name, "sha256": component.artifacts["entrypoint"]}


def _members(component: Component) -> dict[str, Any]:
    """Returns what can change, JSON-ready."""
    policy = component.policy
    return {
        "version": str(component.version),
        "owner": component.owner,
        "description": component.description,
        "lifecycle": component.lifecycle.value,
        "trust": component.trust.value,
        "capabilities_required": [str(c) for c in component.capabilities_required],
        "idempotent": component.idempotent,
        "policy": policy and {"version": policy.version, "sha256": policy.sha256},
        "script": script_of(component),
        "artifacts": {k: v for k, v in component.artifacts.items() if k != "entrypoint"},
    }


def changes(before: Component, after: Component) -> tuple[Change, ...]:
    """Returns what differs between two revisions."""
    old, new = _members(before), _members(after)
    return tuple(Change(name, old[name], new[name]) for name in old if old[name] != new[name])


def show_changes(found: tuple[Change, ...], indent: str = "  ") -> None:
    """Prints what changed, a line for each value."""
    lines: list[tuple[str, str]] = []
    for field, old, new in found:
        if field == "capabilities_required":
            lines += [("requires", f"+ {text}") for text in new if text not in old]
            lines += [("requires", f"- {text}") for text in old if text not in new]
        elif field == "artifacts":
            names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
            lines += [(name, f"{old.get(name)} → {new.get(name)}") for name in names]
        else:
            lines.append((field, f"{_text(old)} → {_text(new)}"))
    for name, text in lines[:_SHOWN]:
        console.out(f"{indent}{console.printable(name):<13} {console.printable(text, 10_000)}\n")
    if len(lines) > _SHOWN:
        console.out(f"{indent}… and {len(lines) - _SHOWN} more; `--json` has all\n")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        name = f"version {value['version']}" if "version" in value else value["name"]
        return f"{name}, sha256:{value['sha256']}"
    return "none" if value in (None, "") else str(value)


def describe(component: Component, size: int | None = None) -> tuple[tuple[str, str], ...]:
    """Returns a component's record as names and values.

    Args:
        component: The component.
        size: Of its script, in bytes; ``None`` if it is not known.
    """
    found = _members(component)
    script = _text(found["script"])
    if size is not None:
        script = script.replace(", sha256:", f", {console.size(size)}, sha256:")
    requires = found["capabilities_required"] or ["nothing"]
    return (
        ("uuid", str(component.uuid)),
        ("owner", component.owner),
        ("description", _text(component.description)),
        ("lifecycle", found["lifecycle"]),
        ("trust", found["trust"]),
        ("idempotent", _text(component.idempotent)),
        ("script", script),
        ("policy", _text(found["policy"])),
        *((name, f"sha256:{digest}") for name, digest in found["artifacts"].items()),
        *(("requires" if not i else "", text) for i, text in enumerate(requires)),
        ("last change", stamp(component)),
    )


def stamp(component: Component) -> str:
    """Returns when, how, by whom and why a revision came to be."""
    revision = component.revision
    if revision is None:
        return "none"
    text = f"{revision.number}  {revision.time}  {revision.action:<10}  {revision.author}"
    return f"{text}: {revision.comment}" if revision.comment else text


def header() -> str:
    """Returns the first line of a table of components."""
    names = ("UUID", "LIFECYCLE", "TRUST", "POLICY", "COMPONENT")
    cells = (f"{name:<{width}}" for name, width in zip(names, _COLUMNS, strict=True))
    return "  ".join((*cells, "OWNER"))


def row(component: Component) -> str:
    """Returns one line of it: the widths are fixed, so that no row waits for another."""
    policy = f"v{component.policy_version}" if component.policy else "none"
    values = (
        str(component.uuid), component.lifecycle.value, component.trust.value, policy,
        component.reference,
    )  # fmt: skip
    cells = (f"{text:<{width}}" for text, width in zip(values, _COLUMNS, strict=True))
    return console.printable("  ".join((*cells, component.owner)), 1000)
