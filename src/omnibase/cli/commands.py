"""Which commands there are, and how their arguments are read.

One small parser is made for the command that was named, and no other.
"""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from omnibase.cli import console, exits
from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Invocation", "Once", "Parser", "dispatch"]

_COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "run": ("run", "run a component of the registry, as its policy allows"),
    "sandbox run": ("sandbox", "run a script in a sandbox"),
    "sandbox explain": ("explain", "show what a run would be allowed, and run nothing"),
    "sandbox learn": ("learn", "run a script denied, and write the capabilities that it tried"),
    "capabilities check": ("capabilities", "check a capability file"),
    "capabilities schema": ("capabilities", "print the JSON Schema of capability files"),
    "registry add": ("registry", "add a component, with its script and policy"),
    "registry list": ("registry", "list components"),
    "registry show": ("registry", "show a component"),
    "registry update": ("registry", "change a component, or its script"),
    "registry retire": ("registry", "end a component's life"),
    "registry history": ("registry", "show what was done to a component"),
    "registry verify": ("registry", "check every file of the registry against its log"),
    "policy validate": ("policy", "check whether a policy file is accepted"),
    "policy lint": ("policy", "find what is unsafe or useless in a policy"),
    "policy check": ("policy", "decide requests by a policy"),
    "policy explain": (
        "policy",
        "say why a capability is granted or denied, and what would flip it",
    ),
    "policy diff": ("policy", "compare two policies: what becomes granted, and what denied"),
    "policy test": ("policy", "run the tables of cases beside policies"),
    "policy import": ("policy", "make a file a component's policy"),
    "policy show": ("policy", "print a policy"),
    "policy history": ("policy", "list the versions of a component's policy"),
    "audit tail": ("audit", "print the latest events, and those to come"),
    "audit query": ("audit", "find events"),
    "audit show": ("audit", "show one run as a timeline"),
    "audit stats": ("audit", "count what the log holds"),
    "audit export": ("audit", "write events as OCSF, CSV or plain lines"),
    "audit index": ("audit", "build the index anew from the log"),
    "audit verify": ("audit", "check that nothing in the log was changed, dropped or moved"),
    "audit key": ("audit", "print the public key, make one, or follow it with a new one"),
    "audit checkpoint": ("audit", "sign all that is recorded, now"),
    "audit outbox": ("audit", "show what waits to be published to NATS, and publish it"),
    "artifacts put": ("artifacts", "add a file to the store of artifacts"),
    "artifacts list": ("artifacts", "list artifacts, or the versions of one"),
    "artifacts get": ("artifacts", "write the bytes of an artifact"),
    "artifacts verify": ("artifacts", "check every byte of the store"),
    "artifacts remove": ("artifacts", "forget an artifact"),
    "packages lock": ("packages", "resolve requirements, and write exactly what was found"),
    "packages install": ("packages", "fetch packages that runs may import"),
    "packages list": ("packages", "list packages that were installed"),
    "pool start": ("pool", "start the daemon that keeps sandboxes ready for `--pool`"),
    "pool status": ("pool", "show how the daemon is doing"),
    "pool drain": ("pool", "have the daemon end, once its runs have"),
    "pool stop": ("pool", "end the daemon and its runs, now"),
    "doctor": ("doctor", "check whether this machine can run sandboxes, and clean up"),
    "selftest": ("selftest", "attack this machine's sandboxes, and tell what holds"),
}
_EXAMPLES: Final = """\
examples:
  omnibase doctor
  omnibase selftest --report selftest.html
  omnibase sandbox run script.py
  omnibase sandbox run script.py --allow FILE_READ:/data/input.csv -- --verbose
  omnibase sandbox learn script.py -o caps.json
  omnibase sandbox explain script.py --capabilities caps.json
  omnibase packages lock requirements.txt -o requirements.lock
  omnibase registry add --name report --version 1.0.0 --owner data --script report.py
  omnibase artifacts put input.csv data/input.csv
  omnibase policy explain report FILE_READ:/data/input.csv
  omnibase run report@^1.0 -- --verbose
"""
# argparse's own messages, in our words.
_WORDING: Final = (
    (r"^argument (?:-\w/)?(\S+): expected one argument$", r"`\1` needs a value"),
    (r"^argument (?:-\w/)?(\S+): ignored explicit argument .*$", r"`\1` takes no value"),
    (r"^the following arguments are required: (?:-\w/)?(.*)$", r"`\1` is missing"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """One command as typed.

    Attributes:
        name: E.g. ``sandbox run``.
        options: What the parser read.
        rest: What came after ``--``.
    """

    name: str
    options: Any
    rest: tuple[str, ...]


class _Command(Protocol):
    def add_arguments(self, parser: Parser, name: str) -> None: ...

    def execute(self, invocation: Invocation) -> int: ...


class Parser(argparse.ArgumentParser):
    """An argparse parser that neither guesses nor exits on an error."""

    def error(self, message: str) -> NoReturn:
        """Raises what is wrong with the command line."""
        for pattern, text in _WORDING:
            message = re.sub(pattern, text, message)
        raise ConfigurationError(message, hint=f"see `{self.prog} --help`")

    def _print_message(self, message: str, file: object = None) -> None:
        console.out(message)


class Once(argparse.Action):
    """A value that may be given once: of two, neither is the obvious one."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        seen: set[str] = namespace.__dict__.setdefault("_seen", set())
        if self.dest in seen:
            parser.error(f"`{option_string}` is given twice")
        seen.add(self.dest)
        setattr(namespace, self.dest, values)


def dispatch(arguments: list[str]) -> int:
    """Finds the command, reads its arguments and runs it.

    Raises:
        OmniBaseError: Whatever the command ends with.
    """
    words = arguments[: arguments.index("--")] if "--" in arguments else arguments
    rest = tuple(arguments[len(words) + 1 :])
    if not words:
        console.note(_overview("").rstrip())
        return exits.USAGE
    group = words[0]
    if group in ("-h", "--help"):
        console.out(_overview(""))
        return exits.OK
    members = [name.partition(" ")[2] for name in _COMMANDS if name.startswith(f"{group} ")]
    name, tail = group, words[1:]
    if members:
        if tail and tail[0] in ("-h", "--help"):
            console.out(_overview(group))
            return exits.OK
        if not tail:
            raise ConfigurationError(
                f"`omnibase {group}` needs a command", hint="choose " + _listed(members)
            )
        if tail[0] not in members:
            _unknown(f"omnibase {group} {tail[0]}", tail[0], members)
        name, tail = f"{group} {tail[0]}", tail[1:]
    elif group not in _COMMANDS:
        if group.startswith("-"):
            raise ConfigurationError(
                f"`{group}` is not an option here", hint="see `omnibase --help`"
            )
        _unknown(f"omnibase {group}", group, list(dict.fromkeys(n.split()[0] for n in _COMMANDS)))
    return _run(name, tail, rest)


def _run(name: str, words: list[str], rest: tuple[str, ...]) -> int:
    module_name, summary = _COMMANDS[name]
    module: ModuleType | _Command = importlib.import_module(f"omnibase.cli.{module_name}")
    parser = Parser(
        prog=f"omnibase {name}",
        description=summary[0].upper() + summary[1:] + ".",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser, name)
    parser.epilog = f"{parser.epilog or ''}\n\n{exits.epilog()}".lstrip()
    try:
        options, extra = parser.parse_known_intermixed_args(words)
    except SystemExit:  # `--help`
        return exits.OK
    if extra:
        _unexpected(parser, name, extra[0])
    if rest and not _takes_script_arguments(name):
        _unexpected(parser, name, rest[0])
    code = module.execute(Invocation(name=name, options=options, rest=rest))
    return int(code)


def _takes_script_arguments(name: str) -> bool:
    return name == "run" or name.startswith("sandbox ")


def _overview(group: str) -> str:
    shown = {
        name: summary
        for name, (_, summary) in _COMMANDS.items()
        if not group or name.startswith(f"{group} ")
    }
    width = max(map(len, shown))
    rows = "\n".join(f"  {name:<{width}}  {summary}" for name, summary in shown.items())
    usage = f"omnibase {group} COMMAND ..." if group else "omnibase [--version] COMMAND ..."
    examples = _EXAMPLES
    if group:
        lines = _EXAMPLES.splitlines(keepends=True)
        kept = [line for line in lines[1:] if f" {group} " in line]
        examples = lines[0] + "".join(kept or [f"  omnibase {next(iter(shown))} --help\n"])
    return (
        f"usage: {usage}\n\n"
        "Runs untrusted Python in a gVisor sandbox, under typed capabilities.\n\n"
        f"commands:\n{rows}\n\n{examples}\n{exits.epilog()}\n\n"
        "Each command has its own `--help`.\n"
    )


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _unknown(typed: str, word: str, known: list[str]) -> NoReturn:
    import difflib

    near = difflib.get_close_matches(word, known, n=1)
    hint = f"did you mean `{near[0]}`?" if near else "choose " + _listed(known)
    raise ConfigurationError(f"`{typed}` is not a command", hint=hint)


def _unexpected(parser: Parser, name: str, word: str) -> NoReturn:
    if word.startswith("-") and word != "-":
        import difflib

        flag = word.partition("=")[0]
        known = [text for action in parser._actions for text in action.option_strings]
        near = difflib.get_close_matches(flag, known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"see `{parser.prog} --help`"
        raise ConfigurationError(f"`{flag}` is not an option of `{parser.prog}`", hint=hint)
    hint = f"see `{parser.prog} --help`"
    if _takes_script_arguments(name):
        what = "COMPONENT" if name == "run" else "SCRIPT"
        hint = f"what is meant for the script goes after `--`: `{parser.prog} {what} -- {word}`"
    raise ConfigurationError(f"`{word}` is one argument too many", hint=hint)
