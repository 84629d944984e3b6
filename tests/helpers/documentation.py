"""Runs the code blocks of a page of the documentation, in order, as a reader would."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from omnibase import __version__
from omnibase.core.events import Event
from omnibase.core.registry.component_file import parse_component
from omnibase.core.sandbox.remote.client import ask, socket_path
from omnibase.core.sandbox.state import state_dir
from omnibase.core.security.capability_file import parse_capabilities
from omnibase.core.security.policy import Policy
from omnibase.core.security.policy_table import run_table
from omnibase.errors import SandboxError
from scripts.check_blocks import Block
from tests.helpers.policies import COMPONENT

# Directories of the reader's machine: the tests keep them below the page's own.
_READERS = re.compile(r"(?<![\w/.…-])/(data|srv|var/log/omnibase|warehouse)(?=[/\s\"'`*)]|$)")
_PORT = "8765"  # the pages' servers listen on it; here, on one that is free
_EXIT = re.compile(r"\bexit code (\d+)")
_KEPT = """
__code=$?
pwd >"$__kept/cwd"; export -p >"$__kept/environment"
exit $__code
"""
_EMPTY = b'{"staticPolicies": {}, "templates": {}, "templateLinks": []}'


@dataclass(kw_only=True)
class Reader:
    """Someone who reads a page in a directory of their own.

    Attributes:
        directory: Where they are; ``/data``, ``/srv`` and such are in ``root`` below it.
        policy: The last policy that the page has shown.
        code: Exit code of the last command.
    """

    directory: Path
    policy: Policy | None = None
    code: int = 0
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})

    def __post_init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = str(server.getsockname()[1])
        self._kept = self.directory / ".kept"
        self._kept.mkdir()
        (self._kept / "cwd").write_text(f"{self.directory}\n")
        (self._kept / "environment").write_text("")
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path, "__kept": str(self._kept)}

    def meet(self, block: Block, page: str) -> None:
        """Does with a block what `check_blocks.py` says becomes of it."""
        if block.not_run:
            return
        text = self._here(block.text)
        if block.language in ("json", "cedar"):
            self.read(block.language, text.encode(), f"{page}:{block.line}")
        if block.file:
            file = Path((self._kept / "cwd").read_text().strip()) / self._here(block.file)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            if block.language == "yaml":
                assert isinstance(yaml.safe_load(text), dict), f"{page}:{block.line}"
            if block.file.endswith(".service"):
                self.verify_unit(file)
        elif block.language == "python":
            self.execute(text, f"{page}:{block.line}", block.line)
        elif block.language == "console":
            for command, expected in commands(block.text):
                self.type(command, expected, f"{page}:{block.line}")

    def type(self, command: str, expected: str, place: str) -> None:
        """Runs one command, and compares what it says if the page shows something."""
        before = f'cd "$(cat "$__kept/cwd")"; . "$__kept/environment"; (exit {self.code})\n'
        done = subprocess.run(
            ["bash", "-c", before + self._here(command) + _KEPT],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=self._environment, text=True, errors="replace", timeout=120, check=False,
        )  # fmt: skip
        said = done.stdout.replace(f"{self.directory}/root/", "/")
        said = said.replace(str(self.directory), "/home/you").replace(self.port, _PORT)
        self.code = done.returncode
        told = f"{place}\n$ {command}\n{said}[exit code {self.code}]"
        named = _EXIT.search(command)
        if named:
            assert self.code == int(named[1]), told
        elif "omnibase: error:" not in expected:
            assert self.code == 0, told
        else:
            assert self.code != 0, told
        if expected:
            assert matches(expected, said), f"{told}\n-- the page shows:\n{expected}"

    def execute(self, text: str, place: str, line: int) -> None:
        """Runs Python in the page's namespace; `await` may stand outside of a function."""
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile("\n" * line + text, place, "exec", flags=flags, dont_inherit=True)
        done = eval(code, self.names)
        if inspect.iscoroutine(done):
            asyncio.run(done)

    def read(self, language: str, data: bytes, place: str) -> None:
        """Reads a document with the project's own parser for what it is."""
        if language == "cedar":
            text = data.decode().replace('"…"', f'"{COMPONENT}"')
            found = re.search(r'Component::"([0-9a-f-]{36})"', text)
            assert found, f"{place}: whose policy is this?"
            self.policy = Policy.from_cedar(text, place, type(COMPONENT)(found[1]))
            return
        document = json.loads(data)
        if "specversion" in document:
            Event.from_json(json.dumps(document))
        elif "staticPolicies" in document:
            self.policy = Policy.parse(data, place, COMPONENT)
        elif "capabilities" in document:
            parse_capabilities(data, place)
        elif "cases" in document:
            policy = self.policy or Policy.parse(_EMPTY, place, COMPONENT)
            results = run_table(policy, data, place)
            assert [result.message for result in results if not result.passed] == [], place
        elif "lifecycle" in document:
            parse_component(data, place)
        else:
            raise AssertionError(f"{place}: no parser of this project reads this document")

    def verify_unit(self, file: Path) -> None:
        """Has systemd read a unit file."""
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(file)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), done.stderr

    def _here(self, text: str) -> str:
        return _READERS.sub(rf"{self.directory}/root/\1", text).replace(_PORT, self.port)

    def leave(self) -> None:
        """Ends what the page has left running, and waits for it."""
        self._end_pool()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    here = (entry / "cwd").readlink().is_relative_to(self.directory)
                    if here and int(entry.name) != os.getpid():
                        os.kill(int(entry.name), signal.SIGKILL)

    def _end_pool(self) -> None:
        """Ends its daemon, which is in no directory of the page's, whatever block failed."""
        path = socket_path(state_dir())
        if not path.exists():
            return
        with contextlib.suppress(SandboxError):
            pid = ask(path, "stop", __version__)["pid"]
            deadline = time.monotonic() + 30
            while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Yields each command of a console block, with the output that follows it."""
    command, output = "", ""
    for line in text.splitlines():
        if command.endswith("\\") and not output:
            command += f"\n{line}"
        elif line.startswith("$ "):
            if command:
                yield command, output
            command, output = line[2:], ""
        else:
            output += f"{line}\n"
    assert command, f"a console block without a command:\n{text}"
    yield command, output


def matches(expected: str, said: str) -> bool:
    """Whether a text is the expected one, `…` standing for anything.

    In a line it stands for some of the line; as a line, for any number of lines. How
    much space is between two words does not count, since columns are as wide as they
    have to be.
    """
    pattern = ""
    for line in expected.splitlines():
        words = " ".join(line.split())
        pattern += r"(?:.*\n)*?" if words == "…" else re.escape(words).replace("…", ".*") + r"\n"
    lines = (" ".join(line.split()) for line in said.splitlines())
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in lines)) is not None
