#!/usr/bin/env python3
"""Coverage-guided fuzzing of what a hostile guest speaks to, by atheris: `make fuzz`.

python scripts/fuzz.py frames|conversation|queries [libFuzzer options]

The targets, and what they assert, are those of `tests/helpers/fuzzing.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src" / "omnibase" / "core" / "sandbox" / "agent")]

with atheris.instrument_imports(include=["omnibase.core.sandbox.egress", "dns"]):
    import dns

    from tests.helpers import fuzzing

TARGETS = {
    "frames": fuzzing.frames,
    "conversation": fuzzing.conversation,
    "queries": fuzzing.queries(dns),
}


def main() -> None:
    """Fuzzes one target until libFuzzer's options end it; a fault ends the process."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"fuzz: name one of {', '.join(TARGETS)}")
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
