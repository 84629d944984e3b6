"""Which secrets the script has opened: once each, and rather too early than never.

That one was opened is known from the guest's kernel, by way of PID 1, whatever path
led there. The trace of the open itself is the courtesy: it knows the process, but has
the path that lay in the script's memory when it looked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from omnibase.core.sandbox.monitor.registry import REGISTRY, registry_capability
from omnibase.core.sandbox.monitor.wire import Message

__all__ = ["ARTIFACTS", "OUTLET", "SECRETS", "SecretReading", "SecretReads", "capability_of"]

SECRETS: Final = "/run/secrets"
ARTIFACTS: Final = "/artifacts"
OUTLET: Final = "/artifacts/out"
# The same as of `SECRET_ACCESS`: what this does not match, no capability names.
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,254}")
_SIGN: Final = "/.secret-read/"  # as in the agent's `vault`


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretReading:
    """The script opened a secret, or may have.

    Attributes:
        secret: Its name.
        operation: ``open`` if the trace showed it; ``hidden`` if the guest's kernel
            knows of it alone; ``withheld`` if the run ended before it could tell.
        pid: Process in the guest; 0 but for ``open``.
        process_name: As the guest named it: untrusted text.
    """

    secret: str
    operation: str
    pid: int = 0
    process_name: str = ""


class SecretReads:
    """Looks for the first reading of each secret.

    Args:
        names: The secrets that the script was granted.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.waiting = set(names)
        self.found: list[SecretReading] = []
        self._told_all = False

    def opened(self, message: Message, path: str) -> None:
        """Takes an open that succeeded.

        Args:
            message: The open.
            path: Its path, as far as it is known.
        """
        name = path[len(SECRETS) + 1 :]
        if path.startswith(f"{SECRETS}/") and name in self.waiting:
            self._note(message, "open", name)

    def told(self, path: str) -> None:
        """Takes an open of PID 1's, which may be a sign: a secret's name, or the last word."""
        name = path[len(_SIGN) :]
        if path == _SIGN:
            self._told_all = True
        elif path.startswith(_SIGN) and name in self.waiting:
            self._note(Message(type=0), "hidden", name)

    def finish(self, lost: bool) -> None:
        """The trace has ended.

        Args:
            lost: Messages of it were lost.
        """
        if lost or not self._told_all:
            self._note(Message(type=0), "withheld", *self.waiting)

    def take(self) -> list[SecretReading]:
        """Returns what is new."""
        found, self.found = self.found, []
        return found

    def _note(self, message: Message, operation: str, *names: str) -> None:
        for name in sorted(names):
            self.waiting.discard(name)
            self.found.append(
                SecretReading(
                    secret=name,
                    operation=operation,
                    pid=message.group_id,
                    process_name=message.process_name[:64],
                )
            )


def capability_of(kind: str, path: str) -> str | None:
    """Returns what a denied access to a path would have needed, if that could be granted."""
    if f"{path}/".startswith(f"{REGISTRY}/"):
        return registry_capability(kind, path)
    if f"{path}/".startswith(f"{ARTIFACTS}/"):
        return _artifact(kind, path)
    name = path.removeprefix(f"{SECRETS}/")
    if name == path:
        return f"{kind}:{path}"
    return f"SECRET_ACCESS:{name}" if kind == "FILE_READ" and _NAME.fullmatch(name) else None


def _artifact(kind: str, path: str) -> str | None:
    """The same for an artifact: none is written but below the outlet."""
    if f"{path}/".startswith(f"{OUTLET}/"):
        return f"ARTIFACT_WRITE:{path[len(OUTLET) + 1 :] or '*'}"
    return f"ARTIFACT_READ:{path[len(ARTIFACTS) + 1 :] or '*'}" if kind == "FILE_READ" else None
