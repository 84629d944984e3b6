"""The same agent-written script with and without permissions, on a real sandbox."""

from __future__ import annotations

import sys
from pathlib import Path

import omnibase

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"


def show(title: str, script: Path, *grants: str) -> list[str]:
    """Runs a script, shows what it printed and what was reported, and returns the latter."""
    print(f"\n{title}")
    print(f"  grants: {', '.join(grants) or 'none'}")
    events: list[str] = []
    bus = omnibase.EventBus()
    bus.subscribe(lambda event: events.append(event.name))
    reported: list[str] = []
    try:
        result = omnibase.run(script, args=[str(DATA)], capabilities=grants, bus=bus)
    except omnibase.SandboxViolationError as error:
        result = error.result
        for violation in error.violations:
            reported.append(violation.capability or violation.operation)
        outcome = f"SandboxViolationError, {len(error.violations)} kinds of attempt"
    except omnibase.ResourceLimitExceeded as error:
        result = error.result
        reported.append(error.kind)
        outcome = f"ResourceLimitExceeded: {error.message}"
    else:
        outcome = f"exit code {result.exit_code}"
    print(result.stdout.decode(), end="")
    print(f"  → {outcome}")
    for name in reported:
        print(f"    reported: {name}")
    print(f"    on the bus: {', '.join(dict.fromkeys(events))}")
    return reported


def main() -> int:
    """Runs the demonstration; fails if a line of it does not hold."""
    allowed = f"FILE_READ:{DATA}/allowed.txt"
    script, hog = HERE / "agent_script.py", HERE / "memory_hog.py"
    bare = show("1. The agent's script, without permissions", script)
    some = show("2. The same script, allowed to read one file", script, allowed)
    less = show("3. 60 MB of memory, without permissions (the limit is 50 MB)", hog)
    more = show("4. The same, with memory granted", hog, "MEMORY:128MiB")

    held = (
        {allowed, f"FILE_READ:{DATA}/other.txt", "FILE_READ:/etc/passwd"} <= set(bare)
        and "NETWORK_CONNECT:93.184.215.14:80" in bare
        and "EXTERNAL_COMMAND:id" in bare
        and set(bare) - set(some) == {allowed}
        and less == ["memory"]
        and more == []
    )
    print(f"\n{'Every line held.' if held else 'A line did not hold: see above.'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
