"""The confinement suite for whoever runs OmniBase: hostile probes on real sandboxes, here.

Each probe is a script in ``scripts/``, or a function in `attempts`, that tries what the
[threat model](docs/security/threat_model.md) names; it has to be refused, to be reported,
and to work once it is granted.
"""

from __future__ import annotations

import datetime
import os
import platform
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from omnibase import __version__
from omnibase.backend import backend
from omnibase.errors import ConfigurationError
from omnibase.selftest.model import GROUPS, Finding, Machine, Probe, Report, Sides
from omnibase.selftest.probes import PROBES
from omnibase.selftest.stage import stage

__all__ = ["GROUPS", "PROBES", "Finding", "Probe", "Report", "selftest"]

_AT_ONCE: Final = 4


def selftest(
    groups: Iterable[str] = (),
    *,
    probes: tuple[Probe, ...] = PROBES,
    on_finding: Callable[[Finding], None] = lambda _finding: None,
) -> Report:
    """Runs the probes, a few at a time.

    Args:
        groups: Which of `GROUPS`; all by default.
        probes: The table.
        on_finding: Told each finding as it comes, in the caller's thread.

    Raises:
        ConfigurationError: There is no such group.
        SandboxUnavailable: This machine cannot run sandboxes; the hint helps.
    """
    wanted = list(groups)
    for group in wanted:
        if group not in GROUPS:
            raise ConfigurationError(
                f"`{group[:80]}` is no group of probes", hint=f"choose {', '.join(GROUPS)}"
            )
    chosen = [probe for probe in probes if not wanted or probe.group in wanted]
    began, start = datetime.datetime.now(datetime.UTC), time.monotonic()
    gvisor = backend().gvisor
    at_once = max(2, min(_AT_ONCE, os.cpu_count() or 1))
    findings: list[Finding] = []
    with ThreadPoolExecutor(at_once, "omnibase-selftest") as executor:
        try:
            for finding in executor.map(_probe, chosen):
                findings.append(finding)
                on_finding(finding)
        except BaseException:
            executor.shutdown(wait=True, cancel_futures=True)
            raise
    return Report(
        machine=Machine(
            omnibase=__version__,
            python=f"{platform.python_implementation()} {platform.python_version()}",
            kernel=f"{platform.system()} {platform.release()}, {platform.machine()}",
            runsc=f"{gvisor.runtime.version}, {gvisor.runtime.path}",
            platform=gvisor.platform,
            cgroup=f"version {gvisor.hierarchy.version}",
        ),
        findings=tuple(findings),
        began=began.isoformat(timespec="seconds"),
        seconds=time.monotonic() - start,
    )


def _probe(probe: Probe) -> Finding:
    """Makes one attempt; one that breaks is a finding too: it shows nothing."""
    start = time.monotonic()
    try:
        with stage() as made:
            sides = probe.attempt(made)
    except Exception as error:
        sides = Sides(refused=f"the probe itself failed: {type(error).__name__}: {error}")
    return Finding(probe=probe, sides=sides, seconds=time.monotonic() - start)
