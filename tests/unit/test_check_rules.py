"""The checker of the house rules finds each breach, at its line, and nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from scripts import check_rules

ROOT = Path(__file__).resolve().parents[2]

PROCESS_STARTS = [
    "import subprocess",
    "import subprocess as harmless",
    "from subprocess import run",
    "import multiprocessing.pool",
    "from concurrent.futures import ProcessPoolExecutor",
    "import concurrent.futures.process",
    "import pty",
    "import _posixsubprocess",
    "import os\nos.system('true')",
    "import os as o\no.popen('true')",
    "import os\nx = os\nx.fork()",
    "from os import execve",
    "from os import system as s",
    "from os import *",
    "import posix\nposix.posix_spawn('a', [], {})",
    "import asyncio\nasyncio.create_subprocess_exec('a')",
    "loop.subprocess_exec(None, 'a')",
    "import ctypes\nctypes.CDLL(None).vfork()",
    "getattr(os, 'fork')()",
    "__import__('subprocess')",
    "import importlib\nimportlib.import_module('multiprocessing.context')",
]

HARMLESS = [
    "import os\nos.kill(1, 9)",
    "import platform\nplatform.system()",
    "import os\nos.environ.pop('A', None)",
    "cursor.execute('fork')",
    "import concurrent.futures\nconcurrent.futures.ThreadPoolExecutor()",
    "from . import subprocess",
    "'import subprocess'",
    "# import subprocess",
]

SKIPS = [
    "import pytest\n@pytest.mark.skip\ndef test_a(): ...",
    "import pytest\n@pytest.mark.skipif(True, reason='a')\ndef test_a(): ...",
    "import pytest\npytestmark = pytest.mark.xfail",
    "import pytest\npytest.skip('a', allow_module_level=True)",
    "import pytest\npytest.importorskip('a')",
    "from pytest import mark\n@mark.xfail\ndef test_a(): ...",
    "from pytest import skip",
    "import unittest\n@unittest.skipUnless(False, 'a')\ndef test_a(): ...",
    "import unittest\nraise unittest.SkipTest('a')",
]


@pytest.mark.parametrize("source", PROCESS_STARTS)
def test_a_process_start_is_found_on_its_last_line(source: str) -> None:
    found = {line for line, _ in check_rules.process_starts(ast.parse(source))}
    assert max(found) == source.count("\n") + 1


@pytest.mark.parametrize("source", HARMLESS)
def test_what_starts_nothing_is_left_alone(source: str) -> None:
    assert list(check_rules.process_starts(ast.parse(source))) == []


@pytest.mark.parametrize("source", SKIPS)
def test_a_skipped_test_is_found(source: str) -> None:
    assert list(check_rules.skips(ast.parse(source)))


@pytest.mark.parametrize(
    "source", ["import pytest\npytest.mark.parametrize", "file.skip(3)", "reader.skip"]
)
def test_what_skips_no_test_is_left_alone(source: str) -> None:
    assert list(check_rules.skips(ast.parse(source))) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import os, json\nfrom collections import abc", []),
        ("import sibling", []),
        ("from . import sibling\nfrom .sibling import a", []),
        ("import omnibase.errors", ["omnibase.errors"]),
        ("from .. import elf", ["..", "..elf"]),
        ("import yaml", ["yaml"]),
    ],
)
def test_the_agent_imports_the_standard_library_alone(source: str, found: list[str]) -> None:
    siblings = frozenset({"sibling"})
    names = [name for _, name in check_rules.foreign_imports(ast.parse(source), siblings)]
    assert names == found


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_a_bad_tree_is_reported_place_by_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox = "src/omnibase/core/sandbox"
    write(tmp_path, f"{sandbox}/_runsc.py", "import subprocess\nimport pickle\n")
    write(tmp_path, f"{sandbox}/runner.py", "x = 1\nimport subprocess  # noqa: TID251\n")
    write(tmp_path, f"{sandbox}/agent/init.py", "import os\nos.fork()\nimport omnibase\n")
    write(tmp_path, f"{sandbox}/agent/broken.py", "x =\n")
    write(tmp_path, "src/omnibase/long.py", "x = 1\n" * check_rules.MAX_LINES)
    write(tmp_path, "tests/unit/test_a.py", "import subprocess\nimport pytest\npytest.skip('')\n")

    assert check_rules.main([str(tmp_path)]) == 1

    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        f"{sandbox}/_runsc.py:2",
        f"{sandbox}/agent/broken.py:1",
        f"{sandbox}/agent/init.py:3",
        f"{sandbox}/runner.py:2",
        "src/omnibase/long.py:400",
        "tests/unit/test_a.py:3",
        "check_rules",
    ]
    assert "warning" in lines[4]
    assert lines[-1] == "check_rules: 5 breaches, 1 warnings"


def test_a_long_module_alone_fails_nothing(tmp_path: Path) -> None:
    write(tmp_path, "src/omnibase/long.py", "x = 1\n" * check_rules.MAX_LINES)
    assert check_rules.main([str(tmp_path)]) == 0


def test_the_project_keeps_its_own_rules() -> None:
    assert [str(found) for found in check_rules.check_tree(ROOT) if found.fatal] == []
