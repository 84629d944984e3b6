"""Data analysis with pandas: a table goes in as an artifact, a plot comes out as one.

    python examples/analysis/run.py [DIRECTORY]

The packages are fetched and unpacked first, in sandboxes of their own (some 20 s, once).
The script gets one table to read and two names to write; no file, and no network.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import omnibase

HERE = Path(__file__).resolve().parent
GRANTS = (
    "ARTIFACT_READ:sales.csv",
    "ARTIFACT_WRITE:revenue.png",
    "ARTIFACT_WRITE:totals.csv",
    "MEMORY:256MiB",
)


def analyse(store: omnibase.ArtifactStore) -> omnibase.RunResult:
    """Puts the table into the store, and runs the script on it."""
    with (HERE.parent / "data" / "sales.csv").open("rb") as table:
        store.put("sales.csv", table)
    return omnibase.run(
        HERE / "analysis.py",
        args=["Revenue by month"],
        packages=HERE / "requirements.txt",
        capabilities=GRANTS,
        artifacts=store,
    )


def main(arguments: list[str]) -> int:
    """Runs it, and leaves the plot in the directory."""
    target = Path(arguments[0] if arguments else ".")
    with tempfile.TemporaryDirectory() as directory:
        result = analyse(omnibase.open_artifacts(directory))
        print(result.stdout.decode(), end="")
        print(result.stderr.decode(), end="", file=sys.stderr)
        for name, artifact in result.artifacts.items():
            artifact.save(target / name)
            print(f"{target / name}: {artifact.kind}, {artifact.size} bytes, {artifact.digest}")
    return result.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
