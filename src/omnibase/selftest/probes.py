"""The probes: which script is run how, and what has to come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from omnibase.core import events
from omnibase.errors import ResourceLimitExceeded, SandboxTimeout, SandboxViolationError
from omnibase.selftest import attempts, governed
from omnibase.selftest.model import Probe, Sides
from omnibase.selftest.stage import Outcome, Stage, description

__all__ = ["PROBES"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """How a script is run; texts may hold a stage's names, e.g. ``{file}``."""

    grants: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    quotas: Mapping[str, Any] = field(default_factory=dict)


def _scripted(
    name: str,
    hostile: _Way,
    granted: _Way,
    *,
    reported: tuple[str, ...] = (),
    limit: str | None = None,
    arrives: int | None = None,
) -> Callable[[Stage], Sides]:
    """Makes an attempt of a script that prints what it got and what it was refused.

    Args:
        name: Of the script.
        hostile: The attack.
        granted: The same, with a grant.
        reported: Capabilities or operations that have to be on record.
        limit: The quota that has to end the attack instead.
        arrives: The listener at which something has to arrive, once granted.
    """

    def attempt(stage: Stage) -> Sides:
        attack = _run(stage, name, hostile)
        refused, told = _refused(attack, limit), _told(attack, stage.fill(reported), limit)
        refused = refused or stage.disturbed()
        seen = (limit,) if limit and not told else tuple(sorted(attack.told))[:8]
        works = _works(_run(stage, name, granted))
        if arrives is not None and not works and stage.arrived().get(arrives, [b""])[0] != b"hello":
            works = "what was sent did not arrive"
        return Sides(refused=refused, reported=told, granted=works, seen=seen)

    return attempt


def _run(stage: Stage, name: str, way: _Way) -> Outcome:
    return stage.run(name, way.grants, args=way.args, **way.quotas)


def _refused(outcome: Outcome, limit: str | None) -> str | None:
    if limit is not None:
        ended = outcome.error
        kind = "time" if isinstance(ended, SandboxTimeout) else getattr(ended, "kind", None)
        if isinstance(ended, SandboxTimeout | ResourceLimitExceeded) and kind == limit:
            return None
        return f"the quota did not end it: {outcome.how()}"
    if "got" not in outcome.report:
        return f"the attack did not run to its end: {outcome.how()}"
    got = ", ".join(outcome.report["got"])
    return f"it got through: {got}" if got else None


def _told(outcome: Outcome, wanted: tuple[str, ...], limit: str | None) -> str | None:
    if limit is not None:
        kinds = [e.data.kind for e in outcome.events
                 if isinstance(e.data, events.ResourceLimitExceeded)]  # fmt: skip
        return None if limit in kinds else f"no event says that the quota for {limit} was reached"
    missing = [text for text in wanted if text not in outcome.told]
    if missing:
        return f"not on record: {', '.join(missing)}"
    if not isinstance(outcome.error, SandboxViolationError):
        return f"the caller was not told: {outcome.how()}"
    return None


def _works(outcome: Outcome) -> str | None:
    clean = outcome.error is None and outcome.result is not None and outcome.result.ok
    if not clean or not outcome.report.get("got") or outcome.report.get("refused"):
        refused_ways = ", ".join(outcome.report.get("refused", {}))
        return f"granted, it does not work: {outcome.how()} {refused_ways}".strip()
    return None


def _of_script(
    title: str, group: str, threat: str, name: str, hostile: _Way, granted: _Way, **expected: Any
) -> Probe:
    return Probe(
        name=title,
        group=group,
        threat=threat,
        description=description(name),
        attempt=_scripted(name, hostile, granted, **expected),
    )


def _of_function(
    title: str, group: str, threat: str, attempt: Callable[[Stage], Sides]
) -> Probe:  # fmt: skip
    return Probe(
        name=title, group=group, threat=threat, description=attempt.__doc__ or "", attempt=attempt
    )


_NATIVE: Final = (
    "mount", "umount2", "pivot_root", "ptrace", "unshare", "setns", "init_module", "kexec_load",
    "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "open_by_handle_at", "reboot",
    "sethostname", "clock_settime", "chroot", "setuid",
)  # fmt: skip
_ROOMY: Final = {"memory_bytes": 256 << 20, "default_memory_bytes": 200 << 20}


def _probes() -> tuple[Probe, ...]:
    one = _of_script
    way = _Way
    return (
        one("read a file of the host", "sandbox", "T-EXEC-01", "read_files",
            way(args=("{file}",)), way(grants=("FILE_READ:{file}",), args=("{file}",)),
            reported=("FILE_READ:{file}",)),
        one("read /etc/passwd", "sandbox", "T-EXEC-01", "read_files",
            way(args=("/etc/passwd",)),
            way(grants=("FILE_READ:/etc/passwd",), args=("/etc/passwd",)),
            reported=("FILE_READ:/etc/passwd",)),
        one("change a file of the host", "sandbox", "T-EXEC-02", "write_files",
            way(grants=("FILE_READ:{tree}/**",), args=("{tree}",)),
            way(grants=("FILE_WRITE:{tree}/**",), args=("{tree}",)),
            reported=("FILE_WRITE:{tree}/new.txt", "FILE_WRITE:{tree}/file.txt", "rename",
                      "unlink")),
        one("system calls that the kernel refuses", "sandbox", "T-EXEC-03", "system_calls",
            way(args=("refused",)), way(args=("everyday",)), reported=_NATIVE),
        one("system calls that the filter ends", "sandbox", "T-EXEC-03", "system_calls",
            way(args=("filtered",)), way(args=("everyday",)), reported=("seccomp",)),
        one("start a program", "sandbox", "T-EXEC-04", "execute",
            way(), way(grants=("EXTERNAL_COMMAND:true",), args=("granted",)),
            reported=("EXTERNAL_COMMAND:sh", "EXTERNAL_COMMAND:true", "EXTERNAL_COMMAND:program")),
        one("memory", "sandbox", "T-EXEC-11", "take_memory",
            way(), way(grants=("MEMORY:128MiB",)), limit="memory"),
        one("processes", "sandbox", "T-EXEC-12", "take_turns",
            way(args=("processes", "20"), quotas={**_ROOMY, "pids": 8}),
            way(args=("processes", "20"), quotas=_ROOMY), limit="pids"),
        one("CPU time", "sandbox", "T-EXEC-12", "take_turns",
            way(args=("CPU", "60"), quotas={"cpu_seconds": 1.0}),
            way(args=("CPU", "0.1"), quotas={"cpu_seconds": 20.0}), limit="cpu"),
        one("time", "sandbox", "T-EXEC-12", "take_turns",
            way(args=("time", "60"), quotas={"wall_seconds": 3.0}), way(args=("time", "0")),
            limit="time"),
        one("output", "sandbox", "T-EXEC-13", "fill_up",
            way(args=("output", "4"), quotas={"output_bytes": 1 << 20}), way(args=("output", "4")),
            limit="output"),
        one("disk", "sandbox", "T-EXEC-13", "fill_up",
            way(args=("disk", "8"), quotas={"scratch_bytes": 4 << 20}), way(args=("disk", "8")),
            limit="disk"),
        _of_function("who and where", "sandbox", "T-EXEC-14", attempts.look_around),
        _of_function("another sandbox", "sandbox", "T-EXEC-16", attempts.meet),
        _of_function("a warm sandbox", "sandbox", "T-EXEC-26", attempts.warm),
        one("its keeper", "sandbox", "T-EXEC-18", "disturb",
            way(), way(args=("granted",)), reported=("kill",)),
        _of_function("live on", "sandbox", "T-EXEC-21", attempts.outlive),
        _of_function("a component beyond its policy", "policy", "T-ORCH-01", governed.beyond),
        _of_function("what a policy forbids", "policy", "T-ORCH-02", governed.forbidden),
        one("the file beside the granted one", "capabilities", "T-ORCH-13", "read_files",
            way(grants=("FILE_READ:{file}",), args=("{sibling}",)),
            way(grants=("FILE_READ:{area}/*.txt",), args=("{sibling}", "{file}")),
            reported=("FILE_READ:{sibling}",)),
        _of_function("a grant that cannot be enforced", "capabilities", "T-ORCH-05",
                     attempts.unenforceable),
        _of_function("what comes out", "capabilities", "T-ART-02", attempts.leave),
        _of_function("read a secret", "secrets", "T-EXEC-09", attempts.read_secret),
        _of_function("tell a secret", "secrets", "T-EXEC-10", attempts.tell_secret),
        one("reach out", "egress", "T-EXEC-06", "connect",
            way(args=("127.0.0.1", "{port}", "tcp", "raw", "udp", "public", "metadata", "name",
                      "packets")),
            way(grants=("NETWORK_CONNECT:127.0.0.1:{port}",), args=("127.0.0.1", "{port}", "tcp",
                                                                    "raw")),
            reported=("NETWORK_CONNECT:127.0.0.1:{port}", "NETWORK_CONNECT:203.0.113.7:443",
                      "NETWORK_CONNECT:169.254.169.254:80", "NETWORK_CONNECT:selftest.example:443",
                      "sendto"), arrives=0),
        one("another port than the granted one", "egress", "T-EXEC-07", "connect",
            way(grants=("NETWORK_CONNECT:127.0.0.1:{port}",),
                args=("127.0.0.1", "{other}", "tcp", "raw", "public", "metadata")),
            way(grants=("NETWORK_CONNECT:127.0.0.1:{other}",), args=("127.0.0.1", "{other}",
                                                                     "tcp")),
            reported=("NETWORK_CONNECT:127.0.0.1:{other}", "NETWORK_CONNECT:203.0.113.7:443",
                      "NETWORK_CONNECT:169.254.169.254:80"), arrives=1),
        _of_function("a changed script", "registry", "T-REG-01", governed.tampered),
        _of_function("a flood", "audit", "T-EXEC-17", attempts.flood),
        _of_function("forged records", "audit", "T-ORCH-09", attempts.hostile_names),
        _of_function("a changed audit log", "audit", "T-ORCH-08", attempts.changed_log),
    )  # fmt: skip


PROBES: Final = _probes()
