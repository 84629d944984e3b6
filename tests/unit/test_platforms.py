"""A platform is one on which a sandbox was seen to start; anything else says why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from omnibase.core.sandbox import _runsc
from omnibase.core.sandbox._runsc import Runtime
from omnibase.core.sandbox.platforms import choose_platform, probe_platform
from omnibase.errors import ConfigurationError, SandboxUnavailable


class Fake:
    """A ``runsc`` that writes down each call and answers as told per platform."""

    def __init__(self, directory: Path, **answers: str) -> None:
        self.calls = directory / "calls"
        self.calls.touch()
        cases = "".join(f"*--platform={name}*) {answer};;\n" for name, answer in answers.items())
        path = directory / "runsc"
        path.write_text(f'#!/bin/sh\necho "$*" >>{self.calls}\ncase "$*" in\n{cases}esac\n')
        path.chmod(0o755)
        self.runtime = Runtime(path=str(path), version="release-20990101.0")

    def count(self) -> int:
        return len(self.calls.read_text().splitlines())


@pytest.fixture(autouse=True)
def no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMNIBASE_PLATFORM", raising=False)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir()
    return path


def test_the_first_that_works_is_chosen_and_remembered(tmp_path: Path, state: Path) -> None:
    fake = Fake(tmp_path)
    assert choose_platform(fake.runtime, state) == "systrap"
    assert choose_platform(fake.runtime, state) == "systrap"
    assert fake.count() == 1
    assert "--network=none" in fake.calls.read_text()
    assert [path.name for path in state.iterdir()] == ["platforms.json"]


def test_the_next_is_tried_when_the_first_fails(tmp_path: Path, state: Path) -> None:
    fake = Fake(tmp_path, systrap="echo no seccomp >&2; exit 1")
    assert choose_platform(fake.runtime, state) == "ptrace"
    assert choose_platform(fake.runtime, state) == "ptrace"
    assert fake.count() == 3  # a failure is tried again, a success is not


def test_when_none_works_each_reason_is_told(tmp_path: Path, state: Path) -> None:
    fake = Fake(tmp_path, systrap="echo no seccomp >&2; exit 1", ptrace="exit 3")
    with pytest.raises(SandboxUnavailable) as caught:
        choose_platform(fake.runtime, state)
    assert caught.value.details == {"platforms": {"systrap": "no seccomp", "ptrace": "exit 3"}}
    assert "systrap: no seccomp; ptrace: exit 3" in caught.value.message
    assert caught.value.hint


def test_the_one_asked_for_is_used_or_refused(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake(tmp_path, kvm="exit 1")
    monkeypatch.setenv("OMNIBASE_PLATFORM", "ptrace")
    assert choose_platform(fake.runtime, state) == "ptrace"
    monkeypatch.setenv("OMNIBASE_PLATFORM", "kvm")
    with pytest.raises(SandboxUnavailable, match="kvm: exit 1"):
        choose_platform(fake.runtime, state)
    monkeypatch.setenv("OMNIBASE_PLATFORM", "kvm2")
    with pytest.raises(ConfigurationError, match="is not a platform") as caught:
        choose_platform(fake.runtime, state)
    assert caught.value.hint


def test_a_fresh_probe_asks_again(tmp_path: Path, state: Path) -> None:
    fake = Fake(tmp_path)
    assert probe_platform(fake.runtime, "systrap", state) is None
    assert probe_platform(fake.runtime, "systrap", state, fresh=True) is None
    assert fake.count() == 2
    assert len(json.loads((state / "platforms.json").read_bytes())) == 1


def test_another_binary_is_probed_anew(tmp_path: Path, state: Path) -> None:
    fake = Fake(tmp_path)
    assert probe_platform(fake.runtime, "systrap", state) is None
    other = Fake(tmp_path, systrap="exit 9")
    assert probe_platform(other.runtime, "systrap", state) == "exit 9"


@pytest.mark.parametrize("memory", ["", "5", "null", "[[1]]", '{"a": 1}', "\xff"])
def test_a_damaged_memory_is_no_memory(tmp_path: Path, state: Path, memory: str) -> None:
    (state / "platforms.json").write_bytes(memory.encode("latin-1"))
    fake = Fake(tmp_path)
    assert probe_platform(fake.runtime, "systrap", state) is None
    assert probe_platform(fake.runtime, "systrap", state) is None
    assert fake.count() == 1


def test_what_hangs_is_ended(tmp_path: Path, state: Path) -> None:
    fake = Fake(tmp_path, kvm="sleep 600 & wait")
    problem = _runsc.try_platform(fake.runtime, "kvm", str(state), 0.5)
    assert problem == "no answer within 0.5 s"


def test_long_complaints_are_cut(tmp_path: Path, state: Path) -> None:
    fake = Fake(tmp_path, kvm="head -c 5000 /dev/zero | tr '\\0' x >&2; exit 1")
    problem = _runsc.try_platform(fake.runtime, "kvm", str(state), 30)
    assert problem == "x" * 300


def test_the_real_one(state: Path) -> None:
    runtime = _runsc.find_runtime()
    assert choose_platform(runtime, state) in ("systrap", "ptrace")
