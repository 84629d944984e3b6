"""The threat model and the security tests are held to each other: each breach is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import check_threats

ROOT = Path(__file__).resolve().parents[2]

ROW = (
    "| `T-EXEC-01` | IE | function, CI | reads a file | an image: `core/image.py` "
    "| `test_files.py::test_read`, `unit/test_image.py` | a hole |"
)
TESTS = """\
import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.threat("T-EXEC-01")]


def test_read():
    pass
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The smallest tree without a breach."""
    for name, text in {
        "docs/security/threat_model.md": f"# Threats\n\n| id | …\n| --- |\n{ROW}\n",
        "src/omnibase/core/image.py": "",
        "tests/security/test_files.py": TESTS,
        "tests/unit/test_image.py": "def test_image():\n    pass\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def _said(root: Path) -> list[str]:
    return [str(breach) for breach in check_threats.check_tree(root)]


def test_this_repository_has_no_breach(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_threats.main([str(ROOT)]) == 0
    assert capsys.readouterr().out == "check_threats: 0 breaches\n"


def test_the_groups_are_registered() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for group in check_threats.GROUPS:
        assert f'"{group}: group of security tests' in text


def test_a_sound_tree(tree: Path) -> None:
    assert _said(tree) == []


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("core/image.py", "core/gone.py", "there is no file `core/gone.py`"),
        ("test_files.py::test_read", "test_gone.py", "there is no file `tests/security/test_gone."),
        ("unit/test_image.py", "unit/test_x.py", "there is no file `tests/unit/test_x.py`"),
        ("::test_read", "::test_gone", "there is no test `test_gone` in tests/security/test_files"),
        ("::test_read", "::test_rea", "there is no test `test_rea` in tests/security/test_files"),
        ("`core/image.py`", "none", "names no source file"),
        ("`test_files.py::test_read`, `unit/test_image.py`", "", "names no test"),
        ("| IE |", "| X |", "`X` are not letters of STRIDE"),
        ("| IE |", "|  |", "`` are not letters of STRIDE"),
        ("function, CI", "somebody", "`somebody` is none of"),
        ("| a hole |", "|  |", "says not what the threat is, or what remains"),
        ("| a hole |", "|", "has 6 cells, not 7"),
        ("`T-EXEC-01`", "`T-EXEC-1`", "`T-EXEC-1` is no threat's id"),
        (ROW, f"{ROW}\n{ROW}", "T-EXEC-01 is in line 5 already"),
        (ROW, "", "there is no threat in it"),
    ],
)
def test_a_breach_in_the_model(tree: Path, before: str, after: str, said: str) -> None:
    model = tree / check_threats.MODEL
    assert before in model.read_text()
    model.write_text(model.read_text().replace(before, after))

    assert any(said in line for line in _said(tree)), _said(tree)
    assert check_threats.main([str(tree)]) == 1


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"T-EXEC-01"', '"T-EXEC-02"', "names T-EXEC-02, which is not in docs/security"),
        ('"T-EXEC-01"', '"T-EXEC-02"', "`test_files.py::test_read` does not name it"),
        (', pytest.mark.threat("T-EXEC-01")', "", "names no threat of docs/security"),
        ("pytest.mark.sandbox, ", "", "is in no group"),
        ("pytest.mark.sandbox", "pytest.mark.unit", "is in no group"),
        ("pytestmark", "marks", "names no threat of docs/security"),
    ],
)
def test_a_breach_in_a_test(tree: Path, before: str, after: str, said: str) -> None:
    path = tree / "tests/security/test_files.py"
    path.write_text(path.read_text().replace(before, after))

    assert any(said in line for line in _said(tree)), _said(tree)


def test_markers_of_functions_classes_and_modules_add_up() -> None:
    tests = check_threats.read_tests(
        "pytestmark = pytest.mark.egress\n"
        "@pytest.mark.threat('T-EXEC-01', 'T-EXEC-02')\n"
        "def test_a(): ...\n"
        "@pytest.mark.threat('T-EXEC-03')\n"
        "class TestB:\n"
        "    pytestmark = [pytest.mark.audit]\n"
        "    @pytest.mark.parametrize('x', ['T-EXEC-09'])\n"
        "    @pytest.mark.threat('T-EXEC-04')\n"
        "    async def test_c(self, x): ...\n"
        "    def helper(self): ...\n"
        "class Helper:\n"
        "    def test_not_collected(self): ...\n"
        "def helper(): ...\n"
    )

    assert [(test.id, sorted(test.threats), sorted(test.groups)) for test in tests] == [
        ("test_a", ["T-EXEC-01", "T-EXEC-02"], ["egress"]),
        ("TestB::test_c", ["T-EXEC-03", "T-EXEC-04"], ["audit", "egress"]),
    ]


def test_a_whole_class_may_be_named(tree: Path) -> None:
    (tree / "tests/security/test_files.py").write_text(
        TESTS.replace("def test_read():\n    pass", "class TestRead:\n    def test_it(self): ...")
    )
    model = tree / check_threats.MODEL
    model.write_text(model.read_text().replace("::test_read", "::TestRead"))

    assert _said(tree) == []
