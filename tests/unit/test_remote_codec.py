"""What goes over the daemon's socket: it comes back as it was, or not at all."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnibase.core.sandbox.collect.reports import Collected, Left
from omnibase.core.sandbox.commands.layout import Command, CommandLayer
from omnibase.core.sandbox.egress.reports import Closed
from omnibase.core.sandbox.monitor.attempts import Violation
from omnibase.core.sandbox.registry_files import RegistryFile
from omnibase.core.sandbox.remote.codec import WireError, pack, parse, unpack
from omnibase.core.sandbox.remote.told import (
    TOLD,
    arguments_of,
    pack_ended,
    pack_error,
    unpack_ended,
    unpack_error,
)
from omnibase.core.sandbox.result import NetworkLimit, RunResult, Unreached, Usage
from omnibase.core.sandbox.runner import Ended, RunRequest
from omnibase.core.sandbox.script_error import ScriptError
from omnibase.core.secrets import Secret
from omnibase.errors import (
    CapabilityError,
    PackageError,
    ResourceLimitExceeded,
    SandboxError,
    SandboxStartError,
)
from tests.helpers.specs import compiled


def there_and_back(kind: Any, value: Any) -> Any:
    blob = bytearray()
    text = json.dumps(pack(value, blob)).encode("ascii")
    return unpack(kind, parse(b'{"x":' + text + b"}")["x"], bytes(blob))


@dataclass(frozen=True, slots=True, kw_only=True)
class Everything:
    number: int = 0
    share: float = 0.0
    flag: bool = False
    text: str = ""
    data: bytes = b""
    path: Path = Path("/")
    maybe: str | None = None
    kind: Literal["a", "b"] = "a"
    pair: tuple[str, int] = ("", 0)
    many: tuple[bytes, ...] = ()
    names: frozenset[str] = frozenset()
    table: dict[str, int] | None = None


@given(
    st.builds(
        Everything,
        number=st.integers(-(1 << 63), (1 << 63) - 1),
        share=st.floats(allow_nan=False, allow_infinity=False),
        flag=st.booleans(),
        text=st.text(),
        data=st.binary(max_size=64),
        path=st.just(Path("/a/b")),
        maybe=st.none() | st.text(max_size=4),
        kind=st.sampled_from(["a", "b"]),
        pair=st.tuples(st.text(max_size=4), st.integers(0, 9)),
        many=st.lists(st.binary(max_size=8), max_size=4).map(tuple),
        names=st.frozensets(st.text(max_size=4), max_size=4),
        table=st.none() | st.dictionaries(st.text(max_size=3), st.integers(0, 9), max_size=3),
    )
)
def test_a_value_comes_back(value: Everything) -> None:
    assert there_and_back(Everything, value) == value


def test_text_that_is_no_unicode_comes_back() -> None:
    assert there_and_back(str, "a\udcff\0") == "a\udcff\0"


PACKED: dict[str, Any] = pack(Everything(), bytearray())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("number", True), ("number", 1 << 63), ("number", 1.0), ("number", "1"),
        ("share", "1"), ("share", float("inf")), ("share", True), ("flag", 1),
        ("text", 1), ("text", None), ("data", "x"), ("data", [0, 1]), ("data", [-1, 0]),
        ("data", [0]), ("data", [0, -1]), ("data", [0, True]), ("path", 1), ("path", "a\0"),
        ("maybe", 1), ("kind", "c"), ("kind", ["a"]), ("pair", ["a"]), ("pair", ["a", 1, 2]),
        ("pair", "a1"), ("many", {}), ("many", [1]), ("names", "abc"), ("names", [1]),
        ("table", []), ("table", {"a": "b"}),
    ],
)  # fmt: skip
def test_a_field_that_is_something_else(field: str, value: Any) -> None:
    with pytest.raises(WireError):
        unpack(Everything, {**PACKED, field: value})


def test_fields_that_are_missing_or_too_many() -> None:
    assert unpack(Everything, PACKED) == Everything()
    for data in ({**PACKED, "more": 1}, {k: PACKED[k] for k in list(PACKED)[1:]}, [], None, "x"):
        with pytest.raises(WireError):
            unpack(Everything, data)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"1", b"[]", b"null", b"{", b'{"a":1,"a":2}', b'{"a":NaN}', b'{"a":Infinity}',
        b'{"a":"\xff"}', b'{"a":' + b"[" * 100_000, b'{"a":' + b'{"a":' * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_object(text: bytes) -> None:
    with pytest.raises(WireError):
        parse(text)


def test_nothing_nests_without_end() -> None:
    data: Any = {"name": "x", "value": [0, 0], "hidden": None}
    for _ in range(5000):
        data = {"name": "x", "value": [0, 0], "hidden": [data]}
    with pytest.raises(WireError, match="too deeply"):
        unpack(Secret, data)


def test_what_stays_in_its_process() -> None:
    for value in (object(), {1, 2}, lambda: 1):
        with pytest.raises(TypeError):
            pack(value, bytearray())
    for kind in (object, int | str | None, set[int]):
        with pytest.raises(TypeError):
            unpack(kind, 1)


KEY = Secret(name="KEY", value=b"value", hidden=(Secret(name="part", value=b"val"),))


def request() -> RunRequest:
    spec = compiled(
        "FILE_READ:/data/**", "NETWORK_CONNECT:*.example.com:443", "SECRET_ACCESS:KEY",
        "ARTIFACT_WRITE:out/*", "DATABASE_READ:sqlite:/data/x.db",
    )  # fmt: skip
    command = Command(name="git", path="/usr/bin/git", sha256="0" * 64, places=("/usr/bin/git",))
    return RunRequest(
        spec=spec,
        script=b"print('\xff')",
        argv=("", "\udcff"),
        stdin=b"in",
        run_id="ab" * 16,
        secrets=(KEY,),
        commands=CommandLayer(path="/x", digest="1" * 64, commands=(command,)),
        registry=(RegistryFile(path="a/1/x", content=b"c"),),
        artifacts=("in.csv",),
        idempotent=True,
        covers=lambda _kind, _name: True,
    )


def test_a_request_comes_back_but_for_its_function() -> None:
    asked = request()
    found = there_and_back(RunRequest, asked)
    assert replace(found, covers=asked.covers) == asked
    assert not found.covers("ARTIFACT_WRITE", "out/x")


RESULT = RunResult(
    run_id="ab" * 16,
    exit_code=1,
    signal=9,
    stdout=b"\xff",
    violations=(Violation(capability=None, operation="open", resource="x\udcff", errno=13),),
    unreached=(Unreached(target="a:1", reason="no", count=2),),
    network_limits=(NetworkLimit(capability="NETWORK_CONNECT:a:1", limit="egress_bytes"),),
    usage=Usage(cpu_seconds=1.5, peak_memory_bytes=7),
    limits=("memory", "disk"),
    truncated=True,
    error=ScriptError(type="ValueError", message="x", traceback="y"),
    warm=True,
)


def test_every_field_of_a_result_is_carried_or_is_the_callers() -> None:
    """A field that is added is either carried or added to a result where it was asked for."""
    assert there_and_back(RunResult, RESULT) == RESULT
    callers = {"artifacts", "component", "proposed"}
    carried = set(pack(RESULT, bytearray()))
    assert carried | callers == {field.name for field in fields(RunResult)}


@pytest.mark.parametrize(
    "ended",
    [
        Ended(result=RESULT, cause="exit", finished=12.5),
        Ended(result=RESULT, cause="time"),
        Ended(result=RESULT, cause="exit", fault=SandboxStartError("no", hint="x", result=RESULT)),
    ],
)
def test_an_end_comes_back(ended: Ended) -> None:
    blob = bytearray()
    found = unpack_ended(pack_ended(ended, blob), bytes(blob))
    assert (found.result, found.cause, found.finished) == (
        ended.result, ended.cause, ended.finished,
    )  # fmt: skip
    if ended.fault is None:
        assert found.fault is None
    else:
        assert type(found.fault) is SandboxStartError
        assert found.fault.to_dict() == ended.fault.to_dict()
        assert found.fault.result is found.result


@pytest.mark.parametrize(
    "error",
    [
        CapabilityError("`x` is no", details={"capability": "FILE_READ:/x"}, hint="y"),
        ResourceLimitExceeded("too much", kind="memory"),
        PackageError("gone", reason="not_found"),
        SandboxError("no"),
        SandboxError("no", result=RESULT),
    ],
)
def test_an_error_comes_back(error: Any) -> None:
    blob = bytearray()
    found = unpack_error(json.loads(json.dumps(pack_error(error, blob))), bytes(blob))
    assert (type(found), found.to_dict()) == (type(error), error.to_dict())
    assert getattr(found, "result", None) == getattr(error, "result", None)


def test_ends_and_errors_that_are_none() -> None:
    blob = bytearray()
    good = pack_ended(Ended(result=RESULT, cause="exit"), blob)
    wrong = pack_error(CapabilityError("x"), blob)
    assert unpack_ended({**good, "began": True}, bytes(blob)).fault is None
    for data in ([], {}, {**good, "cause": "luck"}, {**good, "fault": wrong}, {**good, "more": 1}):
        with pytest.raises(WireError):
            unpack_ended(data, bytes(blob))
    for data in ([], {}, {**wrong, "details": []}, {**wrong, "message": 1}):
        with pytest.raises(WireError):
            unpack_error(data, b"")
    assert type(unpack_error({**wrong, "class": "Exception"}, b"")) is SandboxError


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("on_staging", (Path("/x"),)),
        ("on_started", ("ab", None, True)),
        ("on_output", ("stdout", b"\xff")),
        ("on_violation", RESULT.violations),
        ("on_egress/Closed", (Closed(connection=1, target="a:1", address="b", capability="c",
                                     sent=1, received=2, seconds=0.5, reason="end"),)),
        ("on_collected", ((Collected(capability="A", name="n", path=Path("/p"), size=1,
                                     sha256="0"),), (Left(capability="A", name="m", reason="r"),))),
        ("covers", ("ARTIFACT_WRITE", "x")),
    ],
)  # fmt: skip
def test_what_an_observer_is_told_comes_back(name: str, values: tuple[Any, ...]) -> None:
    blob = bytearray()
    data = json.loads(json.dumps([pack(value, blob) for value in values]))
    assert arguments_of(name, data, bytes(blob)) == list(values)


def test_what_no_observer_is_told() -> None:
    for name, data in (("on_luck", []), (1, []), ("on_output", ["stdout"]), ("on_output", {})):
        with pytest.raises(WireError):
            arguments_of(name, data, b"")
    with pytest.raises(WireError):
        arguments_of("covers", ["a", 1], b"")
    assert all(name.startswith(("on_", "covers")) for name in TOLD)
