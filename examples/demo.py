"""The same agent-written script with and without permissions, on a real sandbox."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import omnibase
from omnibase.core.registry import Component
from omnibase.core.security.policy import Policy

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "agent"))

import loop  # noqa: E402 - beside this file

DATA = HERE / "data"


# What stands out on a terminal: titles, what worked, what was refused, what is on record.
COLOURS = (
    (r"^\d\. .*$", "1"),
    (r"^  (ok|answer   granted)\b", "32"),
    (r"^  (refused|sandbox  denied|answer   refused)\b", "31"),
    (r"^    reported:", "33"),
)

POLICY = """\
@id("data")
permit(principal == Component::"{uuid}", action == Action::"use", resource is FileRead)
when {{ resource.path like "{data}/*" }};

@id("keep-back")
@reason("the other file is for people only")
forbid(principal == Component::"{uuid}", action == Action::"use", resource is FileRead)
when {{ resource.path == "{data}/other.txt" }};
"""


def say(text: str) -> None:
    """Prints text with the directory's name for its path, in colour on a terminal."""
    text = text.replace(str(DATA), "DATA")
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        for pattern, colour in COLOURS:
            text = re.sub(pattern, rf"\033[{colour}m\g<0>\033[0m", text, flags=re.MULTILINE)
    print(text, flush=True)


def show(title: str, script: Path, *grants: str) -> list[str]:
    """Runs a script with some grants."""

    def run(bus: omnibase.EventBus) -> omnibase.RunResult:
        return omnibase.run(script, args=[str(DATA)], capabilities=grants, bus=bus)

    return watch(f"{title}\n  grants: {', '.join(grants) or 'none'}", run)


def show_component(title: str, script: Path) -> list[str]:
    """Runs the script as a component that requires all of the data, as its policy allows."""
    with tempfile.TemporaryDirectory() as registry:
        store = omnibase.open_registry(registry)
        new = Component.new(name="agent", version="1.0.0", owner="demo")
        required = omnibase.CapabilitySet.parse([f"FILE_READ:{DATA}/**"])
        uuid = store.add(replace(new, capabilities_required=required)).uuid
        store.add_script(uuid, "agent.py", script.read_bytes())
        text = POLICY.format(uuid=uuid, data=DATA)
        policy = Policy.from_cedar(text, "demo.cedar", uuid).to_json()
        store.put_policy(uuid, policy, expected_version=0)

        def run(bus: omnibase.EventBus) -> omnibase.RunResult:
            return omnibase.run_component("agent", registry=store, args=[str(DATA)], bus=bus)

        return watch(f"{title}\n  requires: FILE_READ:{DATA}/**", run)


def show_loop(title: str) -> str:
    """Lets a recorded model write code, and ask for what it is denied."""
    say(f"\n{title}\n  task     {loop.TASK}")
    authority = loop.Authority(loop.HERE / "policy.cedar", loop.always(True), DATA=str(DATA))
    model = loop.RecordedModel(loop.HERE / "transcript.json", data=str(DATA))
    return loop.converse(model, authority, loop.TASK, lambda line: say(f"  {loop.plain(line)}"))


def watch(title: str, run: Callable[[omnibase.EventBus], omnibase.RunResult]) -> list[str]:
    """Shows what a run printed and what was reported, and returns the latter."""
    say(f"\n{title}")
    events: list[str] = []
    bus = omnibase.EventBus()
    bus.subscribe(lambda event: events.append(event.name))
    reported: list[str] = []
    try:
        result = run(bus)
    except omnibase.SandboxViolationError as error:
        result = error.result
        for violation in error.violations:
            why = f" ({violation.reason})" if violation.reason else ""
            reported.append((violation.capability or violation.operation) + why)
        outcome = f"SandboxViolationError: {len(error.violations)} different attempts"
    except omnibase.ResourceLimitExceeded as error:
        result = error.result
        reported.append(error.kind)
        outcome = f"ResourceLimitExceeded: {error.message}"
    else:
        outcome = f"exit code {result.exit_code}"
    for line in result.stdout.decode().splitlines():
        say(loop.plain(line))
    say(f"  → {outcome}")
    for name in reported:
        say(f"    reported: {name}")
    say(f"    on the bus: {', '.join(dict.fromkeys(events))}")
    return reported


def main() -> int:
    """Runs the demonstration; fails if a line of it does not hold."""
    print(f"DATA is {DATA}")
    allowed = f"FILE_READ:{DATA}/allowed.txt"
    script, hog = HERE / "agent_script.py", HERE / "memory_hog.py"
    bare = show("1. The agent's script, without permissions", script)
    some = show("2. The same script, allowed to read one file", script, allowed)
    less = show("3. 60 MB of memory, without permissions (the limit is 50 MB)", hog)
    more = show("4. The same, with memory granted", hog, "MEMORY:128MiB")
    kept = show_component("5. The agent's script as a component: its policy decides", script)
    answer = show_loop("6. An agent's loop: a human says yes, the policy says no")
    other = f"FILE_READ:{DATA}/other.txt"

    held = (
        {allowed, other, "FILE_READ:/etc/passwd"} <= set(bare)
        and "NETWORK_CONNECT:93.184.215.14:80" in bare
        and "EXTERNAL_COMMAND:id" in bare
        and set(bare) - set(some) == {allowed}
        and less == ["memory"]
        and more == []
        and f"{other} (policy `keep-back`: the other file is for people only)" in kept
        and not any(name.startswith(allowed) for name in kept)
        and "2026-11" in answer
        and "salaries are for people only" in answer
    )
    say(f"\n{'Every line held.' if held else 'A line did not hold: see above.'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
