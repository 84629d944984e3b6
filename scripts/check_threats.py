#!/usr/bin/env python3
"""Holds the threat model and the security tests to each other, with `ast` alone.

    check_threats.py [ROOT]

Prints one `file:line: message` for each breach and exits 1 if there was one.

Rules:
    * A threat is a row of a table in ``docs/security/threat_model.md`` whose first
      cell is an id such as ``T-EXEC-03``. It names the STRIDE letters, who does it,
      at least one source file, at least one test, and what remains.
    * Each file and test that it names exists.
    * Each test in ``tests/security`` carries at least one threat of the table and
      one group: ``@pytest.mark.threat("T-EXEC-03")`` and e.g. ``@pytest.mark.egress``,
      on itself, on its class, or in the module's ``pytestmark``.
    * A threat that names a test in ``tests/security`` is among that test's threats.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MODEL = Path("docs/security/threat_model.md")
SOURCES = Path("src/omnibase")
TESTS = Path("tests")
SECURITY = TESTS / "security"

GROUPS = frozenset({"sandbox", "policy", "capabilities", "secrets", "egress", "registry", "audit"})
"""As registered in ``pyproject.toml``; ``make test-security GROUP=…`` takes one."""

_ID = re.compile(r"T-(?:EXEC|ORCH|REG|ART)-\d{2}")
_ROW = re.compile(r"^\|\s*`(T-[^`]*)`\s*\|(.*)\|\s*$")
_PATH = re.compile(r"`([\w./-]+\.(?:py|sh))`")
_TEST = re.compile(r"`((?:[\w-]+/)*test_\w+\.py(?:::\w+)*)`")
_WHO = frozenset({"function", "validator", "CI", "anyone"})
_COLUMNS = 6  # after the id: STRIDE, who, threat, mitigation, tests, what remains


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Breach:
    """Where something is wrong, and what."""

    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Threat:
    """One row: its id and line, the files and tests that it names."""

    id: str
    line: int
    sources: tuple[str, ...]
    tests: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """One test function: its id within its file, its line and its markers."""

    id: str
    line: int
    threats: frozenset[str]
    groups: frozenset[str]


def read_model(text: str) -> tuple[list[Threat], list[Breach]]:
    """Reads the rows of the threat model, and what is wrong with them alone."""
    threats: dict[str, Threat] = {}
    breaches: list[Breach] = []

    def wrong(line: int, message: str) -> None:
        breaches.append(Breach(path=MODEL, line=line, message=message))

    for number, line in enumerate(text.splitlines(), 1):
        if (row := _ROW.match(line)) is None:
            continue
        name, cells = row[1], [cell.strip() for cell in re.split(r"(?<!\\)\|", row[2])]
        if _ID.fullmatch(name) is None:
            wrong(number, f"`{name}` is no threat's id: write T-EXEC-, T-ORCH-, T-REG- or T-ART-01")
            continue
        if name in threats:
            wrong(number, f"{name} is in line {threats[name].line} already")
            continue
        if len(cells) != _COLUMNS:
            wrong(number, f"{name} has {len(cells) + 1} cells, not {_COLUMNS + 1}")
            continue
        stride, who, threat, mitigation, tests, remains = cells
        if not stride or not set(stride) <= set("STRIDE"):
            wrong(number, f"{name}: `{stride}` are not letters of STRIDE")
        if not who or not set(who.split(", ")) <= _WHO:
            wrong(number, f"{name}: `{who}` is none of {', '.join(sorted(_WHO))}")
        if not threat or not remains:
            wrong(number, f"{name} says not what the threat is, or what remains")
        threats[name] = Threat(
            id=name,
            line=number,
            sources=tuple(_PATH.findall(mitigation)),
            tests=tuple(_TEST.findall(tests)),
        )
        if not threats[name].sources:
            wrong(number, f"{name} names no source file that mitigates it")
        if not threats[name].tests:
            wrong(number, f"{name} names no test that attacks it")
    if not threats:
        wrong(1, "there is no threat in it")
    return list(threats.values()), breaches


def _marks(node: ast.expr) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yields ``(marker, its texts)`` of a decorator, or of a list of them."""
    if isinstance(node, ast.List | ast.Tuple):
        for element in node.elts:
            yield from _marks(element)
        return
    call = node if isinstance(node, ast.Call) else None
    target = call.func if call else node
    if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "pytest.mark":
        texts = call.args if call else []
        yield (
            target.attr,
            tuple(
                text.value
                for text in texts
                if isinstance(text, ast.Constant) and isinstance(text.value, str)
            ),
        )


def _collect(
    body: list[ast.stmt], prefix: str, inherited: list[tuple[str, tuple[str, ...]]]
) -> Iterator[Test]:
    for node in body:
        if isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == [
            "pytestmark"
        ]:
            inherited = [*inherited, *_marks(node.value)]
    for node in body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        marks = [*inherited, *(mark for one in node.decorator_list for mark in _marks(one))]
        name = f"{prefix}{node.name}"
        if isinstance(node, ast.ClassDef):
            if node.name.startswith("Test"):
                yield from _collect(node.body, f"{name}::", marks)
        elif node.name.startswith("test_"):
            yield Test(
                id=name,
                line=node.lineno,
                threats=frozenset(text for mark, texts in marks if mark == "threat"
                                  for text in texts),
                groups=frozenset(mark for mark, _ in marks) & GROUPS,
            )  # fmt: skip


def read_tests(text: str) -> list[Test]:
    """Returns the tests of one file, in order."""
    return list(_collect(ast.parse(text).body, "", []))


def check_tree(root: Path) -> list[Breach]:
    """Returns every breach below ``root``, in order of place."""
    threats, breaches = read_model((root / MODEL).read_text(encoding="utf-8"))
    known = {threat.id for threat in threats}
    files = {
        path.relative_to(root): read_tests(path.read_text(encoding="utf-8"))
        for path in sorted((root / TESTS).rglob("test_*.py"))
    }
    for threat in threats:
        breaches += _named(threat, root, files)
    for path, tests in files.items():
        if not path.is_relative_to(SECURITY):
            continue
        for test in tests:
            breaches += [
                Breach(path=path, line=test.line, message=message)
                for message in _marked(test, known)
            ]
    return sorted(breaches)


def _named(threat: Threat, root: Path, files: dict[Path, list[Test]]) -> Iterator[Breach]:
    def wrong(message: str) -> Breach:
        return Breach(path=MODEL, line=threat.line, message=f"{threat.id}: {message}")

    for source in threat.sources:
        if not (root / SOURCES / source).is_file() and not (root / source).is_file():
            yield wrong(f"there is no file `{source}`, in {SOURCES} or from the top")
    for name in threat.tests:
        file, _, inner = name.partition("::")
        path = (TESTS if "/" in file else SECURITY) / file
        if path not in files:
            yield wrong(f"there is no file `{path}`")
            continue
        found = [
            test
            for test in files[path]
            if not inner or test.id == inner or test.id.startswith(f"{inner}::")
        ]
        if not found:
            yield wrong(f"there is no test `{inner}` in {path}")
        elif path.is_relative_to(SECURITY) and not any(threat.id in t.threats for t in found):
            yield wrong(f"`{name}` does not name it: `@pytest.mark.threat({threat.id!r})`")


def _marked(test: Test, known: set[str]) -> Iterator[str]:
    if not test.threats:
        yield (
            f"`{test.id}` names no threat of {MODEL}: "
            'mark it, its class or `pytestmark` with `pytest.mark.threat("T-…")`'
        )
    for name in sorted(test.threats - known):
        yield f"`{test.id}` names {name}, which is not in {MODEL}"
    if not test.groups:
        yield f"`{test.id}` is in no group: mark it with one of {', '.join(sorted(GROUPS))}"


def main(arguments: list[str]) -> int:
    """Prints the breaches; returns 1 if there is one."""
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    breaches = check_tree(root)
    for breach in breaches:
        print(breach)
    print(f"check_threats: {len(breaches)} breaches")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
