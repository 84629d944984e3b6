"""The agent's part in secrets: their files, and word of who opens one."""

from __future__ import annotations

import ctypes
import os
import stat
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.helpers.agent import load


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load("vault")
    monkeypatch.setattr(module, "DIRECTORY", str(tmp_path))
    return module


def call(name: str, *args: Any) -> int:
    returned = int(getattr(ctypes.CDLL(None), name)(*args))
    assert returned >= 0
    return returned


def test_a_file_of_each_value(vault: ModuleType, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"one" + b"\0two")
    for name, size in (("A", 3), ("B", 4)):
        vault.place(name, size, reader, os.getuid())
    assert [(tmp_path / name).read_bytes() for name in "AB"] == [b"one", b"\0two"]
    assert stat.S_IMODE((tmp_path / "A").stat().st_mode) == 0o400
    os.close(writer)
    os.close(reader)


def test_a_host_that_goes_away_ends_it(vault: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", leave)
    reader, writer = os.pipe()
    os.write(writer, b"one")
    os.close(writer)
    with pytest.raises(SystemExit) as ended:
        vault.place("A", 4, reader, os.getuid())
    assert ended.value.code == 125
    os.close(reader)


def test_each_is_told_once_and_then_that_it_is_all(
    vault: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(vault, "_sign", told.append)
    for name in "ABC":
        (tmp_path / name).write_text("value")
    watch = vault.Watch(["A", "B", "C"], call)
    watch.start()
    for _ in range(2):
        (tmp_path / "A").read_text()
    (tmp_path / "B").stat()
    os.link(tmp_path / "C", tmp_path / "D")
    deadline = time.monotonic() + 20
    while not told and time.monotonic() < deadline:
        time.sleep(0.01)
    assert told == ["A"]
    (tmp_path / "D").read_text()  # by another path
    watch.finish()
    assert told[:1] + sorted(told[1:]) == ["A", "", "C"]
    assert told[-1] == ""
    (tmp_path / "B").read_text()  # that was all: its thread waits on
    watch.finish()
    assert told[-2:] == ["B", ""]


def test_a_sign_is_an_open_in_vain(vault: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def refuse(path: str, flags: int) -> int:
        tried.append(path)
        raise FileNotFoundError

    monkeypatch.setattr(os, "open", refuse)
    vault._sign("TOKEN")
    vault._sign("")
    assert tried == ["/.secret-read/TOKEN", "/.secret-read/"]
