"""Says why a constant of a policy can be no resource's, so that it must be a mistake."""

from __future__ import annotations

from omnibase.core.security.command_patterns import CommandPattern, argument_fault
from omnibase.core.security.conditions import Glob
from omnibase.core.security.path_patterns import NamePattern, PathPattern
from omnibase.core.security.patterns import DatabasePattern, SecretPattern, parse_host, quoted
from omnibase.errors import CapabilityError

__all__ = ["glob_fault", "literal_fault"]


def literal_fault(entity: str, attribute: str, text: str) -> tuple[str, str] | None:
    """Says why no resource can have this value, so that the policy must be a mistake."""
    fault: tuple[str, str] | None = None
    if attribute == "path":
        fault = PathPattern.fault(text)
        if fault is not None and text.endswith("/"):  # `/**` is no pattern of Cedar's
            fault = fault[0], f"drop the last `/`; all below it is {_below(text)}"
    elif attribute == "host":
        if text == "" and entity == "SecretAccess":
            return None  # the script itself gets the secret
        try:
            if "*" in text or parse_host(text) != text:
                fault = "is not the canonical form", 'a plain lower-case host; `like "*.name"`'
        except CapabilityError as error:
            fault = error.message.partition("` ")[2], error.hint or ""
    elif entity == "SecretAccess":
        try:
            if "@" in text:
                fault = "has a host", "the name alone; compare `resource.host` with the host"
            SecretPattern.parse(text)
        except CapabilityError as error:
            fault = error.message.partition("` ")[2], error.hint or ""
    elif entity in ("DatabaseRead", "DatabaseWrite"):
        try:
            if DatabasePattern.parse(text).text != text:
                fault = "is not the canonical form", "the address as a capability has it"
        except CapabilityError as error:
            fault = error.message.partition("` ")[2] or "holds a password", error.hint or ""
    else:
        fault = (CommandPattern if entity == "ExternalCommand" else NamePattern).fault(text)
    return fault and (f"{quoted(text)} {fault[0]}, so nothing is equal to it", fault[1])


def _below(text: str) -> str:
    return quoted(f'like "{text}*"')


def glob_fault(entity: str, attribute: str, glob: Glob) -> tuple[str, str] | None:
    """Says why a ``like`` pattern is refused: a host's is limited, a path's must be canonical."""
    shown = quoted("".join("*" if part is None else part.replace("*", "\\*") for part in glob))
    if attribute == "host":
        if glob == (None,):
            return None
        hosts = '`"*"`, `"*.example.com"`, or a host without a wildcard'
        if None in glob and (glob[0] is not None or len(glob) != 2):
            return f"the pattern {shown} of hosts has a wildcard elsewhere than in front", hosts
        text = "*" * (None in glob) + (glob[-1] or "" if glob else "")
        try:
            canonical = parse_host(text) == text and "*" not in text[1:]
        except CapabilityError:
            canonical = False
        return None if canonical else (f"the pattern {shown} is for no canonical host", hosts)
    if attribute == "path":
        text = "".join("\0" if part is None else part for part in glob)
        if text[:1] not in ("/", "\0") or "//" in text or text[1:].endswith("/"):
            return f"the pattern {shown} matches no canonical path", "e.g. `/data/*`"
        if any(segment in (".", "..") for segment in text.split("/")):
            return f"the pattern {shown} matches no canonical path", "no segment `.` or `..`"
        return None
    if entity == "ExternalCommand":
        fault = argument_fault("".join("*" if part is None else part for part in glob))
        if fault is not None:
            return f"the pattern {shown} {fault[0]}", fault[1]
    return None if glob else ("the pattern is empty", "a pattern such as `models/*`")
