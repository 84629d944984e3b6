"""Runs the benchmarks, prints the tables, and writes ``docs/benchmarks.md``.

python -m benchmarks [--quick] [--only SECTION,SECTION] [--output docs/benchmarks.md]
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
from pathlib import Path

import omnibase
from benchmarks.measure import Scale
from benchmarks.sections import SECTIONS
from omnibase.backend import backend

_MARK = re.compile(r"^<!-- section: (\w+) -->$\n", re.MULTILINE)
_INTRODUCTION = """\
# Benchmarks

Each section is one run of `make bench` on one machine, which it names; what is compared was \
sampled in turns.

"""


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="fewer samples; about three minutes in all"
    )
    parser.add_argument("--only", help="some of: " + ", ".join(SECTIONS))
    parser.add_argument(
        "--output", type=Path,
        help="write the tables to this file as Markdown; sections that were not run stay",
    )  # fmt: skip
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(SECTIONS)
    if unknown := [name for name in names if name not in SECTIONS]:
        parser.error(f"no section `{unknown[0]}`; there are {', '.join(SECTIONS)}")
    scale: Scale = "quick" if options.quick else "full"
    for name in names:
        began = datetime.datetime.now()
        text = SECTIONS[name](scale) + "\n" + _machine()
        print(text, flush=True)
        print(f"({name}: {datetime.datetime.now() - began})\n", flush=True)
        if options.output:
            options.output.write_text(merged(options.output, name, text))
    return 0


def merged(page: Path, name: str, text: str) -> str:
    """Returns a page with one section replaced, or put in its place."""
    parts: dict[str, str] = {}
    if page.exists():
        _, *found = _MARK.split(page.read_text())
        parts = dict(zip(found[::2], found[1::2], strict=True))
    parts[name] = text + "\n"
    kept = [f"<!-- section: {each} -->\n{parts[each]}" for each in SECTIONS if each in parts]
    return _INTRODUCTION + "".join(kept).rstrip() + "\n"


def _machine() -> str:
    runner = backend().gvisor
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = next((x.split(":")[1].strip() for x in cpuinfo.splitlines() if "model name" in x), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    return (
        f"*{datetime.date.today().isoformat()}: {os.cpu_count()} × {model}, {memory} GiB, Linux "
        f"{platform.release()}; runsc {runner.runtime.version}, {runner.platform}, cgroup "
        f"v{runner.hierarchy.version}; CPython {platform.python_version()}, OmniBase "
        f"{omnibase.__version__}; load average of the last minutes {os.getloadavg()[1]:.1f}.*\n"
    )


if __name__ == "__main__":
    raise SystemExit(main())
