"""Patterns of commands: names, and never arguments."""

from __future__ import annotations

from omnibase.core.security.path_patterns import NamePattern, literal_name
from omnibase.core.security.segments import Fault, common_fault, refusal

__all__ = ["CommandPattern", "argument_fault"]


def argument_fault(text: str) -> Fault | None:
    """Says what is wrong with a text that names more than a command."""
    command, *arguments = text.split() or [""]
    if not arguments or text != text.strip():
        return None  # a space at an end is somebody's slip, and told as that
    return (
        "has arguments, which nothing outside of the process sees before it runs: a grant is for "
        "a command, whatever its arguments",
        f"name the command alone, e.g. `EXTERNAL_COMMAND:{command}`; what it may reach is the "
        "other grants' to say",
    )


class CommandPattern(NamePattern):
    """A set of commands by name, such as ``git``; a text with arguments is none."""

    __slots__ = ()

    @staticmethod
    def fault(text: str) -> Fault | None:
        """Says what is wrong with a concrete name of a command."""
        return common_fault(text) or argument_fault(text)

    @staticmethod
    def literal(concrete: str) -> str:
        """Returns the narrowest pattern text that matches a concrete name.

        Raises:
            CapabilityError: The name is malformed, or has arguments.
        """
        fault = argument_fault(concrete)
        if fault is not None:
            raise refusal(concrete, fault)
        return literal_name(concrete)
