"""``omnibase pool``: the daemon whose warm sandboxes ``--pool`` runs have."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from omnibase.cli import console, exits
from omnibase.errors import ConfigurationError

if TYPE_CHECKING:
    from omnibase.cli.commands import Invocation, Parser
    from omnibase.core.events import EventBus
    from omnibase.daemon import Settings

__all__ = ["add_arguments", "execute"]

_MOST: Final = 1024
_STOP_SECONDS: Final = 30.0
_EPILOGS: Final = {
    "start": """\
The daemon keeps sandboxes ready, each for one run. It is yours alone: its socket is in
the state directory. If one is running already, nothing is done.

examples:
  omnibase pool start
  omnibase pool start --size 8 --preload json,re --idle-seconds 600
  omnibase pool start --packages requirements.txt --preload numpy --idle-memory 80MB
  omnibase pool start --size 4 --memory 2GiB --foreground
  omnibase sandbox run script.py --pool\
""",
    "status": "examples:\n  omnibase pool status\n  omnibase pool status --json",
    "drain": "examples:\n  omnibase pool drain\n  omnibase pool drain --timeout 600",
    "stop": "examples:\n  omnibase pool stop",
}


def add_arguments(parser: Parser, name: str) -> None:
    """Declares the flags."""
    from omnibase.cli.commands import Once

    word = name.partition(" ")[2]
    parser.epilog = _EPILOGS[word]
    if word == "start":
        for flag, metavar, text in (
            ("--size", "N", "sandboxes that are to be ready (default: 2)"),
            ("--preload", "NAME,NAME", "modules that each imports before there is a script; what "
             "they use counts against the memory of runs (default: none)"),
            ("--packages", "FILE", "packages by a requirements file or a lock, fetched and "
             "unpacked first: runs come with them that name no others, and --preload can name "
             "their modules"),
            ("--idle-seconds", "SECONDS", "after so long without a run keep none ready, until the "
             "next run (default: keep them)"),
            ("--memory", "SIZE", "most memory of all its sandboxes together "
             "(default: $OMNIBASE_MAX_MEMORY, else 80 %% of the machine's)"),
            ("--idle-memory", "SIZE", "most memory of one that waits, with what it has imported "
             "(default: 50MB)"),
            ("--scratch", "SIZE", "size of /tmp in them; runs that want another get a sandbox of "
             "their own (default: 64MiB)"),
            ("--audit", "DIR|off", "the audit log for clients that are refused; runs are on "
             "record where they were asked for (default: $OMNIBASE_AUDIT, else `audit` in the "
             "state directory)"),
        ):  # fmt: skip
            parser.add_argument(flag, action=Once, metavar=metavar, help=text)
        parser.add_argument("--layer", help=argparse.SUPPRESS)  # of who starts the daemon
        parser.add_argument(
            "--foreground", action="store_true", help="stay, e.g. for systemd; SIGTERM drains"
        )
    elif word == "drain":
        parser.add_argument(
            "--timeout", action=Once, metavar="SECONDS",
            help="how long to wait for its runs (default: as long as they take)",
        )  # fmt: skip
    if word in ("start", "status"):
        parser.add_argument("--json", action="store_true", help="print the status as JSON")


def execute(invocation: Invocation) -> int:
    """Starts, asks or ends the daemon."""
    from omnibase import daemon

    options, word = invocation.options, invocation.name.partition(" ")[2]
    if word == "start":
        return _start(options)
    if word == "status":
        _show(daemon.status(), json=options.json)
        return exits.OK
    timeout = _STOP_SECONDS
    if word == "drain":
        timeout = float("inf") if options.timeout is None else _seconds("--timeout", options)
    if daemon.end(word, timeout):
        return exits.OK
    console.error(f"the pool has not ended within {timeout:g} s", "end it: `omnibase pool stop`")
    return exits.TIMEOUT


def _start(options: Any) -> int:
    from omnibase import daemon
    from omnibase.backend import require_root
    from omnibase.cli.engine import await_image, events_to

    require_root()
    settings, options.events = _settings(options), None
    if options.foreground:
        with events_to(options) as bus:
            settings = _with_packages(settings, options.packages, bus)
            daemon.serve(settings, bus, lambda: console.note("omnibase: the pool is there"))
        return exits.OK
    await_image()
    if options.packages is not None:
        with events_to(options) as bus:
            settings = _with_packages(settings, options.packages, bus)
    words = ["-m", "omnibase", "pool", "start", "--foreground", *_flags(options)]
    if settings.layer is not None:  # the daemon has neither our directory nor pip's settings
        words.append(f"--layer={settings.layer}")
    found, new = daemon.start(settings, words)
    if options.json:
        _show(found, json=True)
    else:
        state = "is ready" if found["pool"]["ready"] else "has no sandbox ready"
        what = "the pool" if new else "a pool was running already, and"
        console.out(f"{what} {state}: process {found['pid']}, {_members(found)}\n")
    if found["pool"]["problem"]:
        hint = found["pool"].get("hint") or "run `omnibase doctor`"
        console.error(console.printable(str(found["pool"]["problem"]), 400), str(hint))
        return exits.FAILED
    return exits.OK


def _with_packages(settings: Settings, packages: str | None, bus: EventBus) -> Settings:
    """Fetches and unpacks the packages, unless that was done before."""
    if packages is None:
        return settings
    from omnibase.cli.engine import install

    return replace(settings, layer=install(packages, bus=bus).digest)


def _flags(options: Any) -> list[str]:
    return [
        word
        for name in ("size", "preload", "idle_seconds", "memory", "idle_memory", "scratch", "audit")
        if getattr(options, name) is not None
        for word in (f"--{name.replace('_', '-')}={getattr(options, name)}",)
    ]


def _settings(options: Any) -> Settings:
    from omnibase.daemon import Settings
    from omnibase.pools import modules

    size = 2
    if options.size is not None:
        if not options.size.isdecimal() or not 1 <= int(options.size) <= _MOST:
            raise ConfigurationError(
                f"`--size {options.size[:40]}` is no number of sandboxes",
                hint=f"write a whole number from 1 to {_MOST}",
            )
        size = int(options.size)
    preload = options.preload.split(",") if options.preload else ()
    return Settings(
        size=size,
        preload=modules(preload),
        layer=options.layer,
        idle_seconds=None if options.idle_seconds is None else _seconds("--idle-seconds", options),
        memory_bytes=_size("--memory", options.memory),
        scratch_bytes=_quota("--scratch", options.scratch, "scratch_bytes"),
        idle_memory_bytes=_quota("--idle-memory", options.idle_memory, "default_memory_bytes"),
    )


def _quota(flag: str, text: str | None, name: str) -> int | None:
    from omnibase.core.context import ExecutionContext

    size = _size(flag, text)
    if size is not None:
        try:
            ExecutionContext(**{name: size})  # type: ignore[arg-type]
        except ConfigurationError as error:
            raise ConfigurationError(f"`{flag} {text}` is out of range", hint=error.hint) from None
    return size


def _size(flag: str, text: str | None) -> int | None:
    from omnibase.core.context import parse_size

    if text is None:
        return None
    try:
        return parse_size(text)
    except ConfigurationError as error:
        raise ConfigurationError(f"`{flag} {text[:80]}` is not a size", hint=error.hint) from None


def _seconds(flag: str, options: Any) -> float:
    text = getattr(options, flag[2:].replace("-", "_"))
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e9:
        raise ConfigurationError(
            f"`{flag} {text[:80]}` is no time", hint="write seconds, e.g. `2.5`"
        )
    return seconds


def _members(found: dict[str, Any]) -> str:
    pool = found["pool"]
    return (
        f"{pool['ready']} of {pool['size']} ready, {pool['booting']} starting, "
        f"{pool['running']} with a run"
    )


def _show(found: dict[str, Any], *, json: bool) -> None:
    if json:
        from omnibase.cli.report import print_json

        print_json(found)
        return
    pool = found["pool"]
    settings = found["settings"]
    rows = [
        ("process", f"{found['pid']}, for {_duration(found['uptime_seconds'])}"
         + (", draining" if found["draining"] else "")),
        ("sandboxes", _members(found) + f", {pool['ending']} ending"),
        ("memory", f"{console.size(pool['idle_memory_bytes'])} of those that are ready"),
        ("preload", ", ".join(settings["preload"]) or "none"),
        ("packages", _packages(found)),
        ("runs", f"{pool['warm_runs']} warm, {pool['cold_runs']} cold"),
        *(("", f"{count} cold: {console.printable(reason, 200)}")
          for reason, count in sorted(pool["cold_reasons"].items())),
        ("clients", f"{found['clients']} connected, {found['clients_running']} with a run, "
         f"{found['clients_refused']} refused"),
    ]  # fmt: skip
    if pool["failed_boots"] or pool["lost"]:
        rows.append(("failures", f"{pool['failed_boots']} did not start, {pool['lost']} died"))
    if pool["problem"]:
        rows.append(("problem", console.printable(str(pool["problem"]), 400)))
        if pool.get("hint"):
            rows.append(("", f"hint: {console.printable(str(pool['hint']), 400)}"))
    console.out("".join(f"{name:<10} {text}\n" for name, text in rows))


def _packages(found: dict[str, Any]) -> str:
    names = console.printable(", ".join(found.get("packages", ())), 400)
    return f"{names} (layer {str(found['settings']['layer'])[:12]})" if names else "none"


def _duration(seconds: float) -> str:
    whole = int(seconds)
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    shown = [f"{count} {unit}" for count, unit in parts if count]
    return " ".join(shown[:2]) or "0 s"
