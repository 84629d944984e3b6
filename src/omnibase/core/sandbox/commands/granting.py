"""Which command a grant names. Pure."""

from __future__ import annotations

from typing import Final

from omnibase.core.sandbox.commands.layout import is_name
from omnibase.core.security.capabilities import Capability
from omnibase.errors import CapabilityError

__all__ = ["COMMAND_PROBES", "MAX_COMMANDS", "command_name", "commands_of"]

MAX_COMMANDS: Final = 64
"""Most commands of one run."""

COMMAND_PROBES: Final = frozenset(
    {
        # git's settings for the whole machine, and what it starts a repository with
        "/etc/gitconfig",
        "/etc/gitattributes",
        "/usr/share/git-core/templates",
        "/usr/share/git-core/templates/",
        # libldap and libsasl, which come with libcurl
        "/etc/ldap/ldap.conf",
        "/usr/lib/sasl2",
        "/usr/lib/x86_64-linux-gnu/sasl2",
        # less, and file
        "/etc/sysless",
        "/etc/syslesskey",
        "/usr/bin/.sysless",
        "/etc/magic",
        "/etc/magic.mgc",
    }
)
"""Files that common commands look for and do without: that they are not there tells nothing."""

# No command: the way past the sandbox, for components alone (ADR 0011).
_HOST_PYTHON: Final = "host-python"


def command_name(grant: Capability) -> str:
    """Returns the command that a grant names.

    Raises:
        CapabilityError: It names none, or several.
    """
    name = grant.resource
    if name == _HOST_PYTHON:
        why = "stands for a run without a sandbox, and for no command in one"
        hint = "`omnibase run COMPONENT --unsandboxed`"
    elif not grant.pattern.is_literal:
        why = "is a pattern, and commands are brought in one by one"
        hint = "name each command, e.g. `EXTERNAL_COMMAND:git`"
    elif "/" in name:
        why = "is a path, and a command is granted by its name"
        hint = f"grant `EXTERNAL_COMMAND:{name.rpartition('/')[2] or 'NAME'}`"
    elif not is_name(name):
        why = "is no command's name"
        hint = "use letters, digits, `_`, `.`, `+` and `-`, at most 64, e.g. `EXTERNAL_COMMAND:git`"
    else:
        return name
    raise CapabilityError(f"`{grant}` {why}", details={"capability": str(grant)}, hint=hint)


def commands_of(names: set[str]) -> tuple[str, ...]:
    """Returns the commands of a run, sorted.

    Raises:
        CapabilityError: There are too many.
    """
    if len(names) > MAX_COMMANDS:
        raise CapabilityError(
            f"there are grants for more than {MAX_COMMANDS} commands",
            hint="grant what the script starts, and no more",
        )
    return tuple(sorted(names))
