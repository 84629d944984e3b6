"""Counting: the first of each kind is told, the rest are numbers, and both are bounded."""

from __future__ import annotations

from dataclasses import replace

from omnibase.core.sandbox.monitor.attempts import Attempt, Violation
from omnibase.core.sandbox.monitor.ledger import MAX_DISTINCT, Ledger

PASSWD = Attempt(
    capability="FILE_READ:/etc/passwd", operation="open", resource="/etc/passwd", errno=13, pid=2,
    process_name="python3",
)  # fmt: skip


def test_the_first_of_a_kind_is_told() -> None:
    ledger = Ledger()
    violation = ledger.add(replace(PASSWD, reason="why"), 5.0)
    assert violation == Violation(
        capability="FILE_READ:/etc/passwd", operation="open", resource="/etc/passwd", errno=13,
        pid=2, process_name="python3", first_seen=5.0, last_seen=5.0, count=1, reason="why",
    )  # fmt: skip
    assert ledger.violations() == (violation,)
    assert len(ledger) == 1
    assert PASSWD.key in ledger
    assert replace(PASSWD, errno=2).key not in ledger


def test_the_rest_are_counted() -> None:
    ledger = Ledger()
    ledger.add(PASSWD, 5.0)
    assert ledger.add(replace(PASSWD, pid=9, process_name="other"), 6.0) is None
    ledger.repeat(PASSWD.key, 7.5)
    (violation,) = ledger.violations()
    assert (violation.count, violation.first_seen, violation.last_seen) == (3, 5.0, 7.5)
    assert (violation.pid, violation.process_name) == (2, "python3")


def test_what_differs_in_kind_is_another() -> None:
    ledger = Ledger()
    kinds = [
        PASSWD,
        replace(PASSWD, capability=None),
        replace(PASSWD, operation="chdir"),
        replace(PASSWD, resource="/etc/shadow"),
        replace(PASSWD, errno=2),
    ]
    assert all(ledger.add(kind, 1.0) for kind in kinds)
    assert [v.count for v in ledger.violations()] == [1] * 5


def test_evidence_is_kept() -> None:
    violation = Ledger().add(PASSWD, 1.0, "broker")
    assert violation is not None
    assert violation.evidence == "broker"


def test_what_the_script_chose_is_scrubbed_and_counted_as_one() -> None:
    ledger = Ledger(lambda text: text.replace("hunter22", "***T***"))
    chosen = Attempt(
        capability="FILE_READ:/x/hunter22", operation="open", resource="/x/hunter22", errno=2,
        process_name="hunter22", reason="hunter22 is the policy's own word",
    )  # fmt: skip
    violation = ledger.add(chosen, 1.0)
    assert violation is not None
    assert (violation.capability, violation.resource, violation.process_name) == (
        "FILE_READ:/x/***T***", "/x/***T***", "***T***",
    )  # fmt: skip
    assert violation.reason == chosen.reason
    assert ledger.add(chosen, 2.0) is None
    assert chosen.key not in ledger
    assert [v.count for v in ledger.violations()] == [2]
    unnamed = ledger.add(replace(chosen, capability=None), 3.0)
    assert unnamed is not None
    assert unnamed.capability is None


def test_a_name_out_of_a_path_may_be_a_part_of_a_value() -> None:
    ledger = Ledger(lambda text: text.replace("hunt/er22", "***T***"))
    found = ledger.add(
        Attempt(
            capability="EXTERNAL_COMMAND:er22", operation="execve", resource="/bin/hunt/er22",
            errno=2,
        ),
        1.0,
    )  # fmt: skip
    assert found is not None
    assert (found.capability, found.resource) == ("EXTERNAL_COMMAND:***T***", "/bin/***T***")


def test_beyond_the_bound_there_is_a_number() -> None:
    ledger = Ledger()
    for number in range(MAX_DISTINCT + 10):
        told = ledger.add(replace(PASSWD, resource=f"/{number}"), 1.0)
        assert (told is not None) is (number < MAX_DISTINCT)
    assert ledger.overflow == 10
    assert len(ledger) == len(ledger.violations()) == MAX_DISTINCT
    assert ledger.add(replace(PASSWD, resource="/0"), 2.0) is None
    assert ledger.violations()[0].count == 2
    assert ledger.overflow == 10
