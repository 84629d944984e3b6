"""What a release ships: licences, hashes, advisories."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import omnibase
from scripts import release

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "licence",
    ["MIT", "MIT License", "Apache Software License", "Apache-2.0 OR BSD-3-Clause",
     "BSD License; Apache Software License", "GPL-3.0-only OR MIT",
     "Mozilla Public License 2.0 (MPL 2.0)", "Apache-2.0 AND MIT"],
)  # fmt: skip
def test_a_suitable_licence(licence: str) -> None:
    assert not release.unsuitable(licence)


@pytest.mark.parametrize(
    "licence",
    ["", "UNKNOWN", "GPL-3.0-only", "GNU General Public License v3 (GPLv3)", "AGPL-3.0-only",
     "MIT AND GPL-3.0-only", "MIT; GPL-2.0-only", "Proprietary", "Other/Proprietary License",
     "SSPL-1.0"],
)  # fmt: skip
def test_an_unsuitable_licence(licence: str) -> None:
    assert release.unsuitable(licence)


def test_everything_that_ships_may(capsys: pytest.CaptureFixture[str]) -> None:
    assert release.licences() == 0
    said = capsys.readouterr().out
    assert "ok   cedarpy " in said and "ok   psycopg " in said
    assert "pytest" not in said and "mkdocs" not in said


def test_the_bill_of_materials_is_valid_and_complete() -> None:
    document = json.loads(release.sbom())
    main = document["metadata"]["component"]
    assert (main["name"], main["version"]) == ("omnibase", omnibase.__version__)
    components = {one["name"]: one for one in document["components"]}
    assert {"cedarpy", "tenacity", "packaging", "circuitbreaker", "pyarrow"} <= components.keys()
    assert not {"pytest", "mkdocs", "ruff", "omnibase"} & components.keys()
    for one in components.values():
        assert one["licenses"], one["name"]
        assert one["externalReferences"][0]["hashes"], one["name"]
    needs = {one["ref"]: one["dependsOn"] for one in document["dependencies"]}
    assert components["cedarpy"]["bom-ref"] in needs[main["bom-ref"]]
    assert needs.keys() == {main["bom-ref"], *(one["bom-ref"] for one in components.values())}


def test_what_is_not_locked_does_not_ship() -> None:
    with pytest.raises(release.ReleaseError, match="no-such-package"):
        release.locked(frozenset({"cedarpy", "no-such-package"}))


def test_a_directory_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(release.ReleaseError, match=r"thesis\.txt"):
        release.dist(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def _tool(tmp_path: Path, answer: str, *, stderr: str = "", code: int = 0) -> tuple[str, ...]:
    program = tmp_path / "tool.py"
    program.write_text(
        "import pathlib, sys\n"
        f"answer, stderr, code = {answer!r}, {stderr!r}, {code}\n"
        "if answer: pathlib.Path(sys.argv[sys.argv.index('--output') + 1]).write_text(answer)\n"
        "print(stderr, file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    return sys.executable, str(program)


def test_no_known_vulnerability(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = json.dumps({"dependencies": [{"name": "a", "version": "1", "vulns": []}]})
    assert release.advisories(_tool(tmp_path, answer)) == 0
    assert "SKIPPED" not in capsys.readouterr().out


def test_a_known_vulnerability_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = {"id": "PYSEC-1", "fix_versions": ["2"]}
    answer = json.dumps({"dependencies": [{"name": "a", "version": "1", "vulns": [known]}]})
    assert release.advisories(_tool(tmp_path, answer, code=1)) == 1
    assert "a 1: PYSEC-1, fixed in 2" in capsys.readouterr().out


def test_without_a_network_it_is_said_loudly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trouble = "requests.exceptions.ConnectionError: Max retries exceeded"
    assert release.advisories(_tool(tmp_path, "", stderr=trouble, code=1)) == 0
    assert "!! SKIPPED" in capsys.readouterr().out


def test_a_tool_that_fails_otherwise_is_no_skip(tmp_path: Path) -> None:
    with pytest.raises(release.ReleaseError, match="KeyError"):
        release.advisories(_tool(tmp_path, "", stderr="KeyError: 'x'", code=1))


def test_the_changelog_is_about_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings[0] == "## [Unreleased]"
    assert headings[1].startswith(f"## [{omnibase.__version__}] - 20")
    assert (
        f"| {omnibase.__version__.rpartition('.')[0]}.x | yes |"
        in (ROOT / "SECURITY.md").read_text()
    )
