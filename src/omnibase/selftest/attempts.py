"""Probes that need more than a script that is run twice. Each docstring is its description."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Final

from omnibase.core import events
from omnibase.core.audit.checker import Keys
from omnibase.core.audit.log import AuditLog
from omnibase.core.audit.verification import verify
from omnibase.errors import CapabilityError, SandboxViolationError
from omnibase.pools import Pool
from omnibase.selftest.model import Sides
from omnibase.selftest.stage import Outcome, Stage, clean, description, observed, script

__all__ = [
    "changed_log",
    "flood",
    "hostile_names",
    "leave",
    "look_around",
    "meet",
    "outlive",
    "read_secret",
    "tell_secret",
    "unenforceable",
    "warm",
]

Attempt = Callable[[Stage], Sides]
_SETTLE_SECONDS: Final = 0.3
_READY_SECONDS: Final = 30.0
_ENVIRONMENT: Final = frozenset({"HOME", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER", "LANG",
                                 "LOCPATH"})  # fmt: skip


def _as_the_script(name: str) -> Callable[[Attempt], Attempt]:
    """Gives an attempt the description of the script that it runs."""

    def with_description(attempt: Attempt) -> Attempt:
        attempt.__doc__ = description(name)
        return attempt

    return with_description


@_as_the_script("look_around")
def look_around(stage: Stage) -> Sides:
    outcome = stage.run("look_around")
    said, given = outcome.report.get("said"), stage.run("look_around", env={"GIVEN": "a value"})
    if not isinstance(said, dict):
        return Sides(refused=f"the attack did not run to its end: {outcome.how()}", silent=True)
    problems = [f"it has {what}" for what, text in _names_of_the_host().items()
                if text in outcome.stdout]  # fmt: skip
    called = {said["hostname"], said["uname"][1], *str(said["/etc/hosts"]).split()}
    if os.uname().nodename in called - {"sandbox", "localhost"}:
        problems.append("it has the name of the host")
    if extra := said["environment"].keys() - _ENVIRONMENT:
        problems.append(f"variables of the caller: {', '.join(sorted(extra))}")
    if said["processes"] != [1, 2]:
        problems.append(f"processes: {said['processes']}")
    if said["interfaces"] != ["lo"]:
        problems.append(f"interfaces: {said['interfaces']}")
    if set(said["ids"]) != {65534}:
        problems.append(f"user and groups: {said['ids']}")
    has = given.report.get("said", {}).get("environment", {}).get("GIVEN") == "a value"
    return Sides(
        refused="; ".join(problems) or None,
        granted=clean(given) or (None if has else "the given variable is not there"),
        silent=True,
    )


def _names_of_the_host() -> dict[str, str]:
    """What tells this host from others, and stands in no guest by chance."""
    names = {
        "the host's kernel release": os.uname().release,
        "the host's control group": _first_of("/proc/self/cgroup").rpartition(":")[2],
        "the host's boot id": _first_of("/proc/sys/kernel/random/boot_id"),
        "the host's machine id": _first_of("/etc/machine-id"),
    }
    return {what: text for what, text in names.items() if len(text) > 4}


def _first_of(path: str) -> str:
    with contextlib.suppress(OSError, IndexError):
        return Path(path).read_text(errors="replace").splitlines()[0]
    return ""


@_as_the_script("meet")
def meet(stage: Stage) -> Sides:
    def both(seconds: int, grants: tuple[str, ...] = (), *shared: str) -> list[Outcome]:
        with ThreadPoolExecutor(2, "omnibase-selftest-pair") as executor:
            return list(
                executor.map(
                    # Looking for the other's port is an attempt of its own.
                    lambda pair: stage.run(
                        "meet", grants, args=(str(seconds), *pair, *shared), on_violation="record"
                    ),
                    (("1", "2"), ("2", "1")),
                )
            )

    apart = both(2)
    if _together(apart) < 1:  # on a busy machine one may have ended before the other began
        apart = both(15)
    got = sorted({label for outcome in apart for label in outcome.report.get("got", ["no answer"])})
    refused = f"they met: {', '.join(got)}" if got else stage.disturbed()
    if _together(apart) < 1:
        refused = refused or "they did not run at one time"
    tree = stage.names["tree"]
    together = both(20, (f"FILE_WRITE:{tree}/**",), tree)
    met = any(outcome.report.get("got") == [tree] for outcome in together)
    how = "; ".join(outcome.how() for outcome in together)
    return Sides(
        refused=refused,
        granted=None if met else f"they did not meet where they may: {how}",
        silent=True,
    )


def _together(outcomes: list[Outcome]) -> float:
    """For how many seconds all of them ran at once."""
    times = {
        name: [
            datetime.fromisoformat(event.time)
            for one in outcomes
            for event in one.events
            if event.name == name
        ]
        for name in ("SandboxStart", "SandboxExit")
    }
    if any(len(found) != len(outcomes) for found in times.values()):
        return 0.0
    return (min(times["SandboxExit"]) - max(times["SandboxStart"])).total_seconds()


@_as_the_script("read_files")
def warm(stage: Stage) -> Sides:
    file = stage.names["file"]
    with Pool(size=2, wait_seconds=20) as pool:

        def run(*grants: str) -> Outcome:
            return observed(
                lambda bus: pool.run(
                    script("read_files"), args=[file], capabilities=stage.fill(grants), bus=bus
                )
            )

        pool.wait_ready(2, _READY_SECONDS)
        attack, granted = run(), run("FILE_READ:{file}")
    cold = [outcome.result.cold_reason for outcome in (attack, granted) if outcome.result]
    got = attack.report.get("got", ["no answer"])
    return Sides(
        refused=f"it got through: {', '.join(got)}" if got else None,
        reported=None if f"FILE_READ:{file}" in attack.told
        and isinstance(attack.error, SandboxViolationError)
        else f"not on record: {attack.how()}",
        granted=clean(granted)
        or (None if cold == [None, None] else f"it was not warm: {cold}"),
        seen=tuple(sorted(attack.told)),
    )  # fmt: skip


@_as_the_script("outlive")
def outlive(stage: Stage) -> Sides:
    outcome = stage.run("outlive", ("FILE_WRITE:{tree}/**",), args=("{mark}",))
    mark = Path(stage.names["mark"])
    size = mark.stat().st_size if mark.exists() else 0
    time.sleep(_SETTLE_SECONDS)
    later = mark.stat().st_size if mark.exists() else 0
    return Sides(
        refused=None if size == later else "its daemon went on writing after its end",
        granted=clean(outcome) or (None if size else "its daemon never wrote"),
        silent=True,
    )


@_as_the_script("leave")
def leave(stage: Stage) -> Sides:
    def run(*grants: str) -> Outcome:
        return stage.run("leave", grants)

    outcome = run("ARTIFACT_WRITE:plain.txt", "ARTIFACT_WRITE:*.txt")
    result = outcome.result
    if result is None:
        return Sides(refused=f"the attack did not run to its end: {outcome.how()}")
    out = sorted(result.artifacts)
    wrong = [name for name in out if name not in ("plain.txt", "not granted.txt")]
    left = {one.name for one in result.artifacts.left_out}
    missing = {"link.txt", "root", "pipe.txt", "sparse.txt"} - left
    told = {e.data.artifact for e in outcome.events if isinstance(e.data, events.ArtifactRefused)}
    only = run("ARTIFACT_WRITE:plain.txt")
    stored = {} if only.result is None else only.result.artifacts
    whole = list(stored) == ["plain.txt"] and stored["plain.txt"].read_bytes() == b"plain"
    unnamed = "ARTIFACT_WRITE:not granted.txt" not in only.told
    return Sides(
        refused=f"it came out: {', '.join(wrong)}" if wrong else None,
        reported=f"not named: {', '.join(sorted(missing))}" if missing or not missing <= told
        else "a name beyond the grant is not on record" if unnamed else None,
        granted=None if whole else f"`plain.txt` is not what was stored: {only.how()}",
        seen=tuple(sorted(only.told)),
    )  # fmt: skip


@_as_the_script("read_secret")
def read_secret(stage: Stage) -> Sides:
    attack = stage.run("read_secret")
    granted = stage.run("read_secret", ("SECRET_ACCESS:SELFTEST",))
    digest = hashlib.sha256(stage.secret.encode()).hexdigest()
    whole = granted.report.get("got") == [digest]
    return Sides(
        refused=None if attack.report.get("got") == [] else f"it was read: {attack.how()}",
        reported=None if "SECRET_ACCESS:SELFTEST" in attack.told
        and isinstance(attack.error, SandboxViolationError)
        else f"not on record: {attack.how()}",
        granted=clean(granted) or (None if whole else "it read another value"),
        seen=tuple(sorted(attack.told)),
    )  # fmt: skip


@_as_the_script("tell_secret")
def tell_secret(stage: Stage) -> Sides:
    outcome = stage.run("tell_secret", ("SECRET_ACCESS:SELFTEST",))
    kept = repr(outcome.result) + repr(outcome.error)
    kept += "".join(event.to_json() for event in outcome.events)
    digest = hashlib.sha256(stage.secret.encode()).hexdigest()
    read = any(isinstance(event.data, events.SecretRead) for event in outcome.events)
    return Sides(
        refused="its value is in what the run gave back, or in an event"
        if stage.secret in kept or stage.secret.encode().hex() in kept
        else None,
        reported=None if read else "that it was read is not on record",
        granted=None if digest in outcome.stdout else f"it had no value: {outcome.how()}",
        seen=("SecretRead",) if read else (),
    )  # fmt: skip


def unenforceable(stage: Stage) -> Sides:
    """Is granted what no sandbox can hold to: kernel file systems, OmniBase's own files, patterns.

    Threat: T-ORCH-05
    Expected: nothing starts, and the refusal is on record.
    Granted: what can be held to is granted.
    """
    refused, told = None, None
    for grant in ("FILE_READ:/proc/**", "FILE_WRITE:/**", "NETWORK_CONNECT:localhost:80",
                  "EXTERNAL_COMMAND:gi*", "MEMORY:512MiB"):  # fmt: skip
        outcome = stage.run("read_secret", (grant,))
        names = [event.name for event in outcome.events]
        if not isinstance(outcome.error, CapabilityError) or "SandboxStart" in names:
            refused = refused or f"`{grant}` was accepted: {outcome.how()}"
        elif "CapabilityDenied" not in names:
            told = told or f"that `{grant}` was refused is not on record"
    granted = stage.run("read_files", ("FILE_READ:{file}",), args=("{file}",))
    return Sides(refused=refused, reported=told, granted=clean(granted), seen=("CapabilityDenied",))


@_as_the_script("flood")
def flood(stage: Stage) -> Sides:
    loud, quiet = stage.names["file"], stage.names["sibling"]
    outcome = stage.run("flood", args=("{file}", "{sibling}"))
    result, told = outcome.result, None
    if result is None or outcome.report.get("got") != []:
        return Sides(refused=f"it got through: {outcome.how()}")
    counted = sum(v.count for v in result.violations if v.capability == f"FILE_READ:{loud}")
    if f"FILE_READ:{loud}" not in outcome.told or counted + result.trace_dropped < 20_000:
        told = f"{counted} of 20,000 are on record, and {result.trace_dropped} are said to be lost"
    elif f"FILE_READ:{quiet}" not in outcome.told and not result.trace_dropped:
        told = "the attempt among them is neither on record nor said to be lost"
    granted = stage.run("flood", ("FILE_READ:{area}/*.txt",), args=("{file}", "{sibling}"))
    return Sides(reported=told, granted=clean(granted), seen=tuple(sorted(outcome.told)))


@_as_the_script("hostile_names")
def hostile_names(stage: Stage) -> Sides:
    outcome = stage.run("hostile_names")
    lines = [event.to_json() for event in outcome.events]
    acting = [line for line in lines if not line.isascii() or not line.isprintable()]
    message = f"{getattr(outcome.error, 'message', '')}{getattr(outcome.error, 'hint', '')}"
    names = [event.name for event in outcome.events]
    forged = names.count("SandboxExit") != 1
    attempts = len(outcome.result.violations) if outcome.result else 0
    return Sides(
        refused="an event, or the error, holds what acts on a terminal"
        if acting or not message.isprintable()
        else "a record was forged" if forged else None,
        reported=None if attempts == 5 else f"{attempts} of 5 attempts are on record",
        granted=None if "FILE_READ:/srv/plain" in outcome.told else "a plain name is changed",
        seen=(f"{attempts} attempts",),
    )  # fmt: skip


def changed_log(stage: Stage) -> Sides:
    """Changes one letter in the audit log of a run, or leaves out the violation.

    Threat: T-ORCH-08
    Expected: the log is no longer accepted, and it is said where.
    Granted: as it was written it is accepted, and holds the violation.
    """
    directory = stage.area / "audit"
    outcome = stage.run("read_secret")
    with contextlib.closing(AuditLog(directory, checkpoint_every=0)) as log:
        for event in outcome.events:
            log.emit(event)
    (segment,) = directory.glob("*.jsonl")
    written = segment.read_bytes()
    keys = Keys(set(), None)
    untouched = verify(directory, keys)
    problem = "; ".join(finding.message for finding in untouched.findings)
    if b"SECRET_ACCESS:SELFTEST" not in written:
        problem = "the violation is not in the log"
    lines = written.splitlines(keepends=True)
    kept = [line for line in lines if b"SECRET_ACCESS:SELFTEST" not in line]
    accepted = None
    for changed in (written.replace(b"SELFTEST", b"SELFTESS", 1), b"".join(kept)):
        segment.write_bytes(changed)
        if not verify(directory, keys).findings:
            accepted = "a changed log is accepted"
    return Sides(refused=accepted, granted=problem or None, seen=("audit verify",))
