"""Nothing in the guest can be executed, and each try is told."""

from __future__ import annotations

import errno
import shutil
import sysconfig
from pathlib import Path

import pytest

from tests.security.harness import SandboxFixture

pytestmark = [pytest.mark.sandbox, pytest.mark.threat("T-EXEC-04")]


def test_no_way_to_start_a_program(sandbox: SandboxFixture) -> None:
    outcome = sandbox("execute", ["MEMORY:128MiB"], on_violation="record")

    report = outcome.report
    # system(3) and pty.spawn() tell failure by a status only.
    assert report.pop("os.system") == "not found"
    report.pop("pty")
    assert set(report.values()) <= {"EACCES", "ENOENT"}, report
    for command in ("sh", "ls", "exe", "ld-linux-x86-64.so.2", "run", "program", "script.py"):
        outcome.assert_violation(f"EXTERNAL_COMMAND:{command}", operation="execve")
    for command in ("tool", "many", "long"):
        outcome.assert_violation(f"EXTERNAL_COMMAND:{command}", operation="execve")


def test_a_traceback_names_the_command(sandbox: SandboxFixture) -> None:
    outcome = sandbox.source(b"import subprocess\nsubprocess.run(['ls', '-l'])\n")

    outcome.assert_raised()
    outcome.assert_violation("EXTERNAL_COMMAND:ls")
    assert b"EXTERNAL_COMMAND:ls is not granted" in outcome.finished.stderr


class TestNativeModules:
    """Their code is mapped from a grant; their file cannot be started."""

    @pytest.mark.parametrize("kind", ["FILE_READ", "FILE_WRITE"])
    def test_one_in_a_granted_tree_is_loaded(
        self, sandbox: SandboxFixture, tmp_path: Path, kind: str
    ) -> None:
        library = Path(sysconfig.get_config_var("DESTSHARED"))
        module = next(library.glob("_bisect.*.so"))
        copy = tmp_path / module.name
        shutil.copyfile(module, copy)
        copy.chmod(0o755)
        source = (
            "import importlib.util, os, subprocess\n"
            f"spec = importlib.util.spec_from_file_location('_bisect', {str(copy)!r})\n"
            "module = importlib.util.module_from_spec(spec)\n"
            "spec.loader.exec_module(module)\n"
            "print(module.__file__, module.bisect_right([1, 2, 3], 2))\n"
            "try:\n"
            f"    os.execv({str(copy)!r}, ['x'])\n"
            "except OSError as error:\n"
            "    print(error.errno)\n"
        )
        outcome = sandbox.source(source.encode(), [f"{kind}:{tmp_path}/**"], on_violation="record")

        assert outcome.stdout.split() == [str(copy), "2", str(errno.EACCES)]
        outcome.assert_violation(f"EXTERNAL_COMMAND:{copy.name}", operation="execve")
