"""Why phase one failed, in words that say what to type. Pure: pip's words are hostile text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from omnibase.core.packages.index import SOURCES
from omnibase.errors import PackageError

__all__ = ["explain"]

_NAME: Final = r"([A-Za-z0-9][\w.\[\],-]{0,99})"
_MISSING: Final = re.compile(
    rf"(?:No matching distribution found for|satisfies the requirement) {_NAME}([^\n(]{{0,120}})"
)
_VERSIONS: Final = re.compile(r"\(from versions: ([^)\n]{1,4000})\)")
_WHEELS: Final = re.compile(
    r"Skipping link: (?:No sources permitted|none of the wheel's tags|unsupported archive format)"
)
_PYTHON: Final = re.compile(r"Requires-Python|requires a different Python")
_UNREACHED: Final = re.compile(
    r"Could not fetch URL|connection broken by|Max retries exceeded|Failed to establish|"
    r"NewConnectionError|Read timed out|There was a problem confirming the ssl certificate"
)
_POOL: Final = re.compile(
    r"ConnectionPool\(host='([A-Za-z0-9.\[\]:-]{1,253})', port=([0-9]{1,5})\): Max retries exceeded"
)
_HASHES: Final = ("DO NOT MATCH THE HASHES", "Hashes are required in --require-hashes mode")
_CLASH: Final = re.compile(r"ResolutionImpossible|conflicting dependencies|Cannot install ([^\n]+)")


def explain(log: str, denied: Iterable[str] = (), endpoints: Iterable[str] = ()) -> PackageError:
    """Returns the error that a failed phase one ends with.

    Args:
        log: What pip said.
        denied: Capabilities that it tried beyond its own.
        endpoints: What it may reach.
    """
    # A port of the guest's own loopback is refused without being a violation there.
    pools = (f"{host}:{port}" for host, port in _POOL.findall(log))
    elsewhere = [f"NETWORK_CONNECT:{pool}" for pool in pools if pool not in set(endpoints)]
    for capability in (*denied, *elsewhere):
        kind, _, resource = capability.partition(":")
        if kind == "NETWORK_CONNECT" and not resource.endswith(":*"):
            return PackageError(
                f"the index leads to `{resource}`, which is not configured as a source",
                reason="source",
                details={"source": resource},
                hint=f"if packages may come from there: `{SOURCES}={resource}`",
            )
        if kind == "FILE_READ" and resource.endswith((".whl", ".metadata", ".html")):
            directory = resource.rpartition("/")[0]
            return PackageError(
                f"the index leads to `{resource}`, which is not configured as a source",
                reason="source",
                details={"source": directory},
                hint=f"if packages may come from there: `{SOURCES}={directory}`",
            )
    if _HASHES[0] in log:
        return PackageError(
            "a file of the index does not have the hash that it is locked to",
            reason="hash",
            hint="do not use it before you know why; `omnibase packages lock` locks anew",
        )
    if _HASHES[1] in log:
        return PackageError(
            "the requirements have hashes, but not of everything that they need",
            reason="hash",
            hint="lock all of it: `omnibase packages lock REQUIREMENTS -o FILE`",
        )
    missing = _MISSING.search(log)
    if missing is not None:
        wanted = (missing[1] + missing[2]).strip()
        if _UNREACHED.search(log):
            return _unreached()
        versions = _VERSIONS.search(log)
        if versions is not None and versions[1].strip() != "none":
            shown = ", ".join(versions[1].split(", ")[-6:])
            return PackageError(
                f"no version of the index fits `{wanted}`",
                reason="not_found",
                details={"requirement": wanted},
                hint=f"there are {shown}",
            )
        if _WHEELS.search(log) or _PYTHON.search(log):
            return PackageError(
                f"there is no wheel of `{wanted}` for this Python, and nothing is built here",
                reason="no_wheel",
                details={"requirement": wanted},
                hint="build one yourself (`pip wheel`), put it into a directory, and set "
                "`pip config set global.find-links DIR`",
            )
        return PackageError(
            f"the index has no package `{wanted}`",
            reason="not_found",
            details={"requirement": wanted},
            hint="check its name, and where packages come from: `pip config list`",
        )
    clash = _CLASH.search(log)
    if clash is not None:
        what = f": {clash[1][:200]}" if clash[1] else ""
        return PackageError(
            f"the requirements contradict each other{what}",
            reason="conflict",
            hint="loosen one of them; `pip install --dry-run -r FILE` tells more",
        )
    if _UNREACHED.search(log):
        return _unreached()
    errors = [line for line in log.splitlines() if line.startswith("ERROR: ")]
    last = errors[-1][7:300] if errors else (log.strip().splitlines() or ["it said nothing"])[-1]
    return PackageError(
        f"pip failed: {last[:300]}",
        reason="failed",
        hint="`pip install --dry-run --only-binary=:all: -r FILE` may tell more",
    )


def _unreached() -> PackageError:
    return PackageError(
        "the package index cannot be reached",
        reason="unreachable",
        hint="check the network, and where packages come from: `pip config list`; a layer that "
        "is there needs no index: `omnibase packages list`",
    )
