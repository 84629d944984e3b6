"""The examples do what they say, each as somebody would run it."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.cli import omnibase

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DATA = EXAMPLES / "data"


def example(
    name: str, *arguments: object, stdin: str = "", code: int = 0
) -> subprocess.CompletedProcess[str]:
    """Runs an example to its end."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        input=stdin, capture_output=True, text=True, timeout=200, check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_the_demonstration_holds() -> None:
    said = example("demo.py").stdout
    assert "Every line held." in said
    assert [line[0] for line in said.splitlines() if line[1:3] == ". "] == list("123456")
    assert max(map(len, said.splitlines()[1:])) <= 120
    assert "\033" not in said


def test_an_agent_asks_and_gets_a_humans_yes_and_a_policys_no() -> None:
    said = example("agent/loop.py", stdin="y\n").stdout
    for line in (
        f"sandbox  denied: FILE_READ:{DATA}/sales.csv",
        "allow it? [y/N]",
        f"answer   granted: FILE_READ:{DATA}/sales.csv",
        "sandbox  [('2026-11', 251)]",
        f"sandbox  denied: FILE_READ:{DATA}/salaries.csv",
        "answer   refused: policy `salaries` (salaries are for people only)",
        "agent    The best month was 2026-11",
    ):
        assert line in said
    # The human is not asked for what policy refuses.
    assert said.count("allow it?") == 1


def test_a_human_who_says_no_is_obeyed() -> None:
    said = example("agent/loop.py", "--answer", "no").stdout
    assert f"answer   refused: a human said no to FILE_READ:{DATA}/sales.csv" in said
    assert "agent    Without the sales of each month I cannot tell." in said
    assert "2026-11" not in said


def test_a_model_that_was_not_recorded_so_says_nothing() -> None:
    loop = runpy.run_path(str(EXAMPLES / "agent" / "loop.py"))
    model = loop["RecordedModel"](EXAMPLES / "agent" / "transcript.json", data="/d")
    heard = [{"role": "user", "content": "denied: FILE_READ:/d/sales.csv"}]
    assert model.reply(heard).startswith("REQUEST FILE_READ:/d/sales.csv because ")
    with pytest.raises(RuntimeError, match="nothing was recorded after"):
        model.reply(heard)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("FILE_READ:/**", "refused: "),
        ("FILE_READ:/d/../etc/shadow", "refused: "),
        ("NETWORK_CONNECT:example.com:443", "refused: "),
        ("FILE_READ:/d/salaries.csv", "refused: policy `salaries`"),
        ("nonsense", "refused: "),
        ("FILE_READ:/d/sales.csv", "granted: "),
    ],
)
def test_what_a_model_asks_for_is_decided_by_policy_first(text: str, told: str) -> None:
    loop = runpy.run_path(str(EXAMPLES / "agent" / "loop.py"))
    asked: list[str] = []

    def human(capability: str, reason: str) -> bool:
        asked.append(capability)
        return True

    authority = loop["Authority"](EXAMPLES / "agent" / "policy.cedar", human, DATA="/d")
    assert authority.request(text, "because").startswith(told)
    granted = told.startswith("granted")
    assert asked == ([text] if granted else [])
    assert [str(one) for one in authority.granted] == ([text] if granted else [])


def test_an_analysis_brings_back_a_table_and_a_plot(tmp_path: Path) -> None:
    said = example("analysis/run.py", tmp_path).stdout
    assert "2026-11  1395.9  1089.0  2484.9" in said
    assert (tmp_path / "revenue.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    # The same by hand, as `docs/howto/data.md` has it; the packages are there by now.
    requirements = EXAMPLES / "analysis" / "requirements.txt"
    store = {"OMNIBASE_ARTIFACTS": str(tmp_path / "store")}
    assert omnibase("artifacts", "put", "sales.csv", DATA / "sales.csv", **store).code == 0
    typed = omnibase(
        "sandbox", "run", EXAMPLES / "analysis" / "analysis.py", "--packages", requirements,
        "--allow", "ARTIFACT_READ:sales.csv", "--allow", "ARTIFACT_WRITE:revenue.png",
        "--allow", "ARTIFACT_WRITE:totals.csv", "--memory", "256MiB",
        "--artifacts-out", tmp_path / "results", "--", "Revenue", "by", "month", **store,
    )  # fmt: skip
    assert typed.code == 0 and "2026-11  1395.9  1089.0  2484.9" in typed.text, typed.err
    assert "stored  revenue.png  image, image/png, " in typed.err
    assert (tmp_path / "results" / "totals.csv").exists()
    small = omnibase("sandbox", "run", "-", "--packages", requirements, stdin=b"import pandas")
    assert small.code == 122 and "--memory 128MiB" in small.err
    assert (tmp_path / "totals.csv").read_text().splitlines()[-1] == "2026-11,1395.9,1089.0,2484.9"


@pytest.mark.parametrize("line", [
    "good.csv: accepted",
    "bad.csv: rejected",
    "good.csv: stopped trusting it, it tried NETWORK_CONNECT:203.0.113.7:443, "
    "FILE_READ:/etc/shadow, ARTIFACT_WRITE:approved/good.csv",
    "in the store: incoming/bad.csv, incoming/good.csv, reports/bad.csv.json, "
    "reports/good.csv.json",
])  # fmt: skip
def test_a_validator_has_what_its_policy_says(line: str, validated: list[str]) -> None:
    assert line in validated


@pytest.fixture(scope="module")
def validated(state_directory: Path) -> list[str]:
    return example("validator/run.py").stdout.splitlines()


def test_the_validators_policy_passes_its_table() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "omnibase", "policy", "test", EXAMPLES / "validator"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "6 cases, 0 failed" in done.stdout
