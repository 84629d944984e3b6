"""What the self-test says of itself: its table, its page, its JSON."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from omnibase.errors import ConfigurationError
from omnibase.selftest import GROUPS, PROBES, Finding, Report, selftest
from omnibase.selftest.model import Machine, Probe, Sides, described
from omnibase.selftest.page import page
from omnibase.selftest.stage import description
from scripts import check_threats

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = '</td><script src="http://x.example/a.js">alert(1)</script><img src=x onerror=alert(1)>'


def _probe(name: str) -> Probe:
    text = "Does it.\n\nThreat: T-EXEC-01\nExpected: `it` is refused.\nGranted: it works.\n"
    return Probe(
        name=name, group="sandbox", threat="T-EXEC-01", description=text, attempt=lambda _: Sides()
    )


def _report(*sides: Sides) -> Report:
    machine = Machine(
        omnibase="0", python="p", kernel=HOSTILE, runsc="r", platform="systrap", cgroup="version 2"
    )
    findings = tuple(
        Finding(probe=_probe(f"probe {number}"), sides=one, seconds=0.5)
        for number, one in enumerate(sides)
    )
    began = "2026-01-01T00:00:00+00:00"
    return Report(machine=machine, findings=findings, began=began, seconds=1.0)


class TestTheTable:
    def test_each_probe_is_described_and_attacks_by_a_threat_of_the_model(self) -> None:
        threats, _ = check_threats.read_model((ROOT / check_threats.MODEL).read_text())
        known = {threat.id for threat in threats}
        for probe in PROBES:
            said = described(probe.description)
            assert probe.threat in known, probe.name
            assert probe.threat in said["threat"].split(", "), probe.name
            assert all(said.values()), probe.name

    def test_names_are_unique_and_each_group_has_a_probe(self) -> None:
        assert len({probe.name for probe in PROBES}) == len(PROBES) >= 25
        assert {probe.group for probe in PROBES} == set(GROUPS) == check_threats.GROUPS

    def test_each_script_is_used_and_described(self) -> None:
        used = {probe.description for probe in PROBES}
        scripts = sorted((ROOT / "src/omnibase/selftest/scripts").glob("*.py"))
        assert len(scripts) >= 15
        for path in scripts:
            assert description(path.stem) in used, path

    @pytest.mark.parametrize("text", ["", "Only what.", "A.\n\nThreat: T-EXEC-01\nExpected: x."])
    def test_a_description_that_is_none(self, text: str) -> None:
        with pytest.raises(ValueError, match="no description"):
            described(text)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


class TestThePage:
    def test_it_holds_nothing_from_elsewhere_and_escapes_everything(self) -> None:
        hostile = Sides(refused=HOSTILE, reported=HOSTILE, granted=HOSTILE, seen=(HOSTILE,))
        text = page(_report(hostile))

        parsed = _Page()
        parsed.feed(text)
        assert not {"script", "img", "link", "iframe", "object"} & set(parsed.tags)
        assert not {name for name, _ in parsed.attributes} & {"src", "href", "onerror", "onload"}
        assert "url(" not in text
        assert text.count("&lt;script") == 5
        assert "default-src &#x27;none&#x27;" in text

    def test_what_holds_and_what_does_not(self) -> None:
        text = page(_report(Sides(), Sides(silent=True), Sides(reported="not on record: x")))

        assert "1 of 3 probes do not hold" in text
        assert text.count("✗ no") == 1
        assert text.count("✓ yes") == 7
        assert text.count(">–<") == 1
        assert "not on record: x" in text
        assert "<code>it</code> is refused" in text

    def test_all_hold(self) -> None:
        assert "all 1 probes hold on this machine" in page(_report(Sides()))


def test_json() -> None:
    document = json.loads(json.dumps(_report(Sides(), Sides(refused="it got through")).to_dict()))

    assert document["holds"] is False
    first, second = document["probes"]
    assert (first["holds"], first["refused"], first["reported"], first["granted_works"]) == (
        True, True, True, True,
    )  # fmt: skip
    assert (second["holds"], second["problems"]) == (False, ["it got through"])
    assert second["expected"] == "`it` is refused."
    assert _report(Sides(silent=True)).to_dict()["probes"][0]["reported"] is None


def test_nothing_that_was_found_out_holds_nothing() -> None:
    assert not _report().holds
    assert _report(Sides()).holds
    assert not replace(_report(Sides()), findings=()).holds


def test_an_unknown_group() -> None:
    with pytest.raises(ConfigurationError, match="`nets` is no group") as caught:
        selftest(["nets"])
    assert re.search(r"choose sandbox, .*audit", caught.value.hint or "")
