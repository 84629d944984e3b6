"""Which secrets the script has opened: once each, and rather too early than never.

The trace tells the path that was passed, not the file that was reached. So where a
path does not tell (a link of the script's own, a directory reached through another
descriptor or another process, a name that is not UTF-8), what was not seen to be
read counts as read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from omnibase.core.sandbox.monitor.wire import Message

__all__ = ["ARTIFACTS", "OUTLET", "SECRETS", "SecretReading", "SecretReads", "capability_of"]

SECRETS: Final = "/run/secrets"
ARTIFACTS: Final = "/artifacts"
OUTLET: Final = "/artifacts/out"
# The same as of `SECRET_ACCESS`: what this does not match, no capability names.
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,254}")
# Links of the kernel's own, with more behind them.
_MAGIC: Final = re.compile(r"/(?:(?:fd|map_files)/+[^/]+|cwd|root)/")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretReading:
    """The script opened a secret, or may have.

    Attributes:
        secret: Its name.
        operation: ``open`` if it was seen, else what kept it from being seen:
            ``symlink``, ``descriptor`` or ``withheld``.
        pid: Process in the guest; 0 if the trace does not tell.
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

    def opened(self, message: Message, path: str) -> None:
        """Takes an open that succeeded.

        Args:
            message: The open.
            path: Its path, as far as it is known.
        """
        name = path[len(SECRETS) + 1 :]
        if path.startswith(f"{SECRETS}/") and name in self.waiting:
            self._note(message, "open", name)
        elif _leads_anywhere(f"{message.cwd}/{message.fd_path}/{message.path}"):
            self._note(message, "descriptor", *self.waiting)

    def linked(self) -> None:
        """The script has made a symbolic link: from now on any path may lead to a secret."""
        self._note(Message(type=0), "symlink", *self.waiting)

    def finish(self, withheld: bool) -> None:
        """The trace has ended.

        Args:
            withheld: Something was opened of which the name is not known.
        """
        if withheld:
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


def _leads_anywhere(path: str) -> bool:
    return ("/proc/" in path or "/dev/" in path) and _MAGIC.search(path) is not None


def capability_of(kind: str, path: str) -> str | None:
    """Returns what a denied access to a path would have needed, if that could be granted."""
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
