#!/usr/bin/env python3
"""Checks the rules of the house that no stock linter knows, with `ast` alone.

    check_rules.py [ROOT]

Prints one `file:line: message` for each breach and exits 1 if there was one.
Nothing in a file can silence it: there is no `noqa` here.

Rules:
    * Only ``core/sandbox/_runsc.py`` and what runs in the guest start processes.
    * Nothing in ``src`` unpickles or unmarshals.
    * The agent imports the standard library and its own siblings, nothing else.
    * No test is skipped or expected to fail.
    * A module of 400 lines or more is named in a warning, which fails nothing.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_LINES = 400

SANDBOX = Path("src/omnibase/core/sandbox")
STARTS_PROCESSES = SANDBOX / "_runsc.py"
AGENT = SANDBOX / "agent"
PHASE_ONE = Path("src/omnibase/core/packages/guest")
PROBES = Path("src/omnibase/selftest/scripts")

PROCESS_MODULES = frozenset(
    {"subprocess", "_posixsubprocess", "multiprocessing", "pty", "concurrent.futures.process"}
)
UNSAFE_MODULES = frozenset({"pickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle"})
OS_MODULES = frozenset({"os", "posix"})

# Names that start a process whatever object they hang on: `os`, an event loop,
# a `ctypes` library.
PROCESS_NAMES = frozenset(
    {
        "ProcessPoolExecutor", "create_subprocess_exec", "create_subprocess_shell",
        "execl", "execle", "execlp", "execlpe", "execv", "execve", "execvp", "execvpe",
        "fexecve", "fork", "fork_exec", "forkpty", "posix_spawn", "posix_spawnp",
        "spawnl", "spawnle", "spawnlp", "spawnlpe", "spawnv", "spawnve", "spawnvp", "spawnvpe",
        "subprocess_exec", "subprocess_shell", "vfork",
    }
)  # fmt: skip
# Names that are harmless elsewhere (`platform.system`), and not in `os`.
OS_ONLY_NAMES = frozenset({"system", "popen"})

SKIP_NAMES = frozenset(
    {"skip", "skipif", "skipIf", "skipUnless", "xfail", "importorskip", "expectedFailure",
     "SkipTest", "skipTest"}
)  # fmt: skip
SKIP_ROOTS = frozenset({"pytest", "unittest", "mark", "self"})


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    """One breach: where it is, what it is, and whether it fails the check."""

    path: Path
    line: int
    message: str
    fatal: bool = True

    def __str__(self) -> str:
        kind = "" if self.fatal else "warning: "
        return f"{self.path}:{self.line}: {kind}{self.message}"


def _within(name: str, modules: frozenset[str]) -> bool:
    """Whether a dotted name is one of the modules, or inside one."""
    return any(name == module or name.startswith(module + ".") for module in modules)


def _imports(tree: ast.AST) -> Iterator[tuple[int, str, int]]:
    """Yields ``(line, dotted name, relative level)`` of whatever is imported.

    ``from a import b`` yields ``a`` and ``a.b``. Dynamic imports count if their
    argument is a literal.
    """
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield node.lineno, alias.name, 0
            case ast.ImportFrom(module=module, names=names, level=level):
                yield node.lineno, module or "", level
                for alias in names:
                    yield node.lineno, f"{module}.{alias.name}" if module else alias.name, level
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module")
                | ast.Attribute(attr="__import__" | "import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name, 0


def _aliases_of(tree: ast.AST, modules: frozenset[str]) -> frozenset[str]:
    """Returns the local names that stand for one of the modules."""
    return frozenset(
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name in modules
    )


def process_starts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yields ``(line, name)`` for each use of something that starts a process."""
    os_names = _aliases_of(tree, OS_MODULES)
    for line, name, level in _imports(tree):
        module, _, leaf = name.rpartition(".")
        if level:
            continue
        from_os = module in OS_MODULES and leaf in OS_ONLY_NAMES | {"*"}
        if from_os or _within(name, PROCESS_MODULES) or (module and leaf in PROCESS_NAMES):
            yield line, name
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=attr) if attr in PROCESS_NAMES:
                yield node.lineno, ast.unparse(node)
            case ast.Attribute(value=ast.Name(id=base), attr=attr) if (
                base in os_names and attr in OS_ONLY_NAMES
            ):
                yield node.lineno, f"{base}.{attr}"
            case ast.Call(
                func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str(attr)), *_]
            ) if attr in PROCESS_NAMES | OS_ONLY_NAMES:
                yield node.lineno, ast.unparse(node)


def unsafe_imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yields ``(line, module)`` for each import that can run or crash on its input."""
    for line, name, level in _imports(tree):
        if not level and name in UNSAFE_MODULES:
            yield line, name


def foreign_imports(tree: ast.AST, siblings: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Yields ``(line, name)`` for each import from outside the standard library."""
    for line, name, level in _imports(tree):
        top = name.partition(".")[0]
        if level > 1:
            yield line, "." * level + name
        elif level == 0 and top not in sys.stdlib_module_names and top not in siblings:
            yield line, name


def skips(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yields ``(line, name)`` for each way of not running a test."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=base, attr=attr) if attr in SKIP_NAMES:
                root = base.attr if isinstance(base, ast.Attribute) else ast.unparse(base)
                if root in SKIP_ROOTS:
                    yield node.lineno, ast.unparse(node)
            case ast.ImportFrom(module="pytest" | "unittest", names=names):
                for alias in names:
                    if alias.name in SKIP_NAMES:
                        yield node.lineno, alias.name


def check_file(path: Path, root: Path) -> Iterator[Finding]:
    """Yields every breach in one file; ``path`` is relative to ``root``."""
    text = (root / path).read_text(encoding="utf-8")
    try:
        tree = ast.parse(text, filename=str(path))
    except SyntaxError as error:
        yield Finding(path=path, line=error.lineno or 1, message=f"does not parse: {error.msg}")
        return
    in_agent = path.is_relative_to(AGENT)
    in_guest = in_agent or any(path.is_relative_to(folder) for folder in (PHASE_ONE, PROBES))

    def finding(line: int, message: str) -> Finding:
        return Finding(path=path, line=line, message=message)

    if path.is_relative_to("src"):
        for line, name in unsafe_imports(tree):
            yield finding(line, f"`{name}` is not for data that others wrote; use JSON")
        if not in_guest and path != STARTS_PROCESSES:
            for line, name in process_starts(tree):
                yield finding(line, f"`{name}`: only {STARTS_PROCESSES} starts processes")
    if in_agent:
        siblings = frozenset(entry.stem for entry in (root / AGENT).glob("*.py"))
        for line, name in foreign_imports(tree, siblings):
            yield finding(line, f"`{name}`: the agent imports the standard library alone")
    if path.is_relative_to("tests"):
        for line, name in skips(tree):
            yield finding(line, f"`{name}`: a test runs and passes, or it is not there")
    lines = text.count("\n")
    if path.is_relative_to("src") and lines >= MAX_LINES:
        yield Finding(
            path=path, line=lines, message=f"{lines} lines: does it hold two things?", fatal=False
        )


def check_tree(root: Path) -> list[Finding]:
    """Returns every breach below ``root``, each once, in order of place."""
    return sorted(
        {
            found
            for folder in ("src", "tests")
            for path in (root / folder).rglob("*.py")
            for found in check_file(path.relative_to(root), root)
        }
    )


def main(arguments: list[str]) -> int:
    """Prints the findings; returns 1 if one of them is fatal."""
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    findings = check_tree(root)
    for found in findings:
        print(found)
    fatal = sum(found.fatal for found in findings)
    print(f"check_rules: {fatal} breaches, {len(findings) - fatal} warnings")
    return 1 if fatal else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
