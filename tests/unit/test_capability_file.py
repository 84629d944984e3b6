"""Capability files: what is accepted, and one typed error with its place for the rest."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from omnibase.core.security import strict_json
from omnibase.core.security.capabilities import CapabilitySet
from omnibase.core.security.capability_file import (
    MAX_FILE_BYTES,
    capability_file_schema,
    load_capabilities,
    parse_capabilities,
    read_document,
)
from omnibase.errors import CapabilityError, ConfigurationError, OmniBaseError

SCHEMA = Path(__file__).parents[2] / "docs/schemas/capabilities.schema.json"


def refusal(data: bytes) -> OmniBaseError:
    with pytest.raises((ConfigurationError, CapabilityError)) as caught:
        parse_capabilities(data, "caps.json")
    error = caught.value
    assert isinstance(error, OmniBaseError)
    assert error.hint
    assert error.message.isprintable()
    assert error.message.startswith("`caps.json`")
    assert not error.message.endswith(".")
    assert error.details["source"] == "caps.json"
    json.dumps(error.to_dict()).encode()
    return error


GOOD: list[Any] = [
    [],
    ["FILE_READ:/data/**"],
    {"version": 1, "capabilities": []},
    {
        "version": 1,
        "capabilities": ["FILE_READ:/", {"capability": "FILE_WRITE:/x", "reason": "why"}],
    },
    [{"capability": "MEMORY:128MiB"}, "MEMORY:4096", "MEMORY:50mb"],
    ["NETWORK_CONNECT:*.example.com:443", "NETWORK_CONNECT:[::1]:8000-8010"],
    ["NETWORK_CONNECT:*:*", "NETWORK_CONNECT:10.0.0.1:5432"],
    ["SECRET_ACCESS:API_TOKEN", "SECRET_ACCESS:API_TOKEN@*.example.com"],
    ["EXTERNAL_COMMAND:/usr/bin/git", "ARTIFACT_READ:models/*", "ARTIFACT_WRITE:a b"],
    ["REGISTRY_READ:*", "REGISTRY_WRITE:x", "DATABASE_READ:postgres://r@db:5432/sales"],
    ["DATABASE_WRITE:sqlite:/var/db.sqlite", "FILE_READ:/a/.hidden/..x/*?"],
    ["FILE_READ:/x", "FILE_READ:/x"],
    [f"FILE_READ:/data/{i}" for i in range(1000)],
]

BAD: list[tuple[Any, str]] = [
    (None, "found `null`"),
    (True, "found `true`"),
    (1, "found `1`"),
    (1.5, "found `1.5`"),
    ("FILE_READ:/x", "found the text `FILE_READ:/x`"),
    ({}, "the key `version` is missing"),
    ({"version": 1}, "the key `capabilities` is missing"),
    ({"version": 2, "capabilities": []}, "the version is `2`"),
    ({"version": True, "capabilities": []}, "the version is `true`"),
    ({"version": "1", "capabilities": []}, "the version is the text `1`"),
    ({"version": 1, "capabilities": {}}, "found an object"),
    ({"version": 1, "capabilities": None}, "found `null`"),
    ({"version": 1, "capabilities": [], "extra": 1}, "unknown key `extra`"),
    ({"version": 1, "Capabilities": []}, "unknown key `Capabilities`"),
    ([["FILE_READ:/x"]], "found a list"),
    ([None], "found `null`"),
    ([False], "found `false`"),
    ([{}], "the key `capability` is missing"),
    ([{"capability": "FILE_READ:/x", "reason": 1}], "the reason is `1`, not a text"),
    ([{"capability": "FILE_READ:/x", "why": ""}], "unknown key `why`"),
    ([{"capability": ["FILE_READ:/x"]}], "found a list"),
    ([f"FILE_READ:/data/{i}" for i in range(1001)], "there are 1001 capabilities"),
    (["FILE_READ"], "is not a capability"),
    (["file_read:/x"], "is not a type"),
    (["FILE_READ:x"], "not an absolute path"),
    (["FILE_READ:/a/../b"], "segment `..`"),
    (["FILE_READ:/a/."], "segment `.`"),
    (["FILE_READ:/a//b"], "empty segment"),
    (["FILE_READ:/a/"], "ends with `/`"),
    (["FILE_READ:/a\n"], "character `\\n`"),
    (["FILE_READ:/a\x00"], "NUL"),
    (["FILE_READ:/**/b"], "has `**` elsewhere"),
    (["FILE_READ:/a**"], "has `**` elsewhere"),
    (["NETWORK_CONNECT:example.com"], "has no port"),
    (["NETWORK_CONNECT:https://example.com:443"], "not a bare host"),
    (["NETWORK_CONNECT:a:0"], "port `0`"),
    (["NETWORK_CONNECT:u@a:1"], "user in front"),
    (["SECRET_ACCESS:1A"], "not the name of a secret"),
    (["MEMORY:lots"], "not a size"),
    (["MEMORY:1.5GB"], "not a size"),
    (["EXTERNAL_COMMAND:"], "is empty"),
    (["EXTERNAL_COMMAND: git"], "begins or ends with a space"),
    (["ARTIFACT_READ:a/**"], "contains `**`"),
    (["DATABASE_READ:sales"], "is no database"),
    (["DATABASE_READ:sqlite:app.db"], "not an absolute path"),
    (["DATABASE_READ:sqlite:/data/*.db"], "has a wildcard"),
    (["DATABASE_WRITE:postgres://db:5432/x"], "names no role"),
    (["DATABASE_WRITE:postgres://r@db/x"], "has no port"),
]


@pytest.mark.parametrize("document", GOOD)
def test_accepted_by_the_parser_and_the_schema(document: Any) -> None:
    items = document["capabilities"] if isinstance(document, dict) else document
    texts = [item if isinstance(item, str) else item["capability"] for item in items]
    expected = CapabilitySet.parse(texts)
    for indent in (None, 2):
        data = json.dumps(document, indent=indent).encode()
        assert parse_capabilities(data, "caps.json") == expected
    jsonschema.validate(document, capability_file_schema())


@pytest.mark.parametrize(("document", "message"), BAD)
def test_refused_by_the_parser_and_the_schema(document: Any, message: str) -> None:
    error = refusal(json.dumps(document, indent=1).encode())
    assert message in error.message
    assert error.details["json_path"].startswith("$")
    assert error.details["line"] >= 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, capability_file_schema())


def test_a_set_writes_what_the_schema_accepts() -> None:
    document = CapabilitySet.parse(["FILE_READ:/x", "MEMORY:1GiB"]).to_json()
    jsonschema.validate(document, capability_file_schema())


def test_the_published_schema_is_this_one() -> None:
    assert json.loads(SCHEMA.read_text()) == capability_file_schema()
    jsonschema.Draft202012Validator.check_schema(capability_file_schema())


@pytest.mark.parametrize(
    ("data", "message", "line", "column"),
    [
        (b"", "it is empty", 1, 1),
        (b" \n\t ", "it is empty", 1, 1),
        (b"[", "broken JSON: expecting value", 1, 2),
        (b'["FILE_READ:/x"', "broken JSON: expecting ',' delimiter", 1, 16),
        (b'["FILE_READ:/x"\n "FILE_READ:/y"]', "broken JSON: expecting ',' delimiter", 2, 2),
        (b'{"version": 1,\n capabilities: []}', "broken JSON", 2, 2),
        (b'{"version" 1}', "broken JSON: expecting ':' delimiter", 1, 12),
        (b"['FILE_READ:/x']", "broken JSON: expecting value", 1, 2),
        (b'["FILE_READ:/x', "broken JSON: unterminated string", 1, 2),
        (b'["a\nb"]', "broken JSON: invalid control character", 1, 4),
        (b'["\\x"]', "broken JSON: invalid \\escape", 1, 3),
        (b"[] []", "broken JSON: extra data", 1, 4),
        (b"[]\n}", "broken JSON: extra data", 2, 1),
        (b"[01]", "broken JSON", 1, 3),
        (b"[+1]", "broken JSON", 1, 2),
        (b"[tru]", "broken JSON", 1, 2),
        (b"// comment\n[]", "broken JSON: expecting value", 1, 1),
        (b"]", "broken JSON: expecting value", 1, 1),
        (b'["FILE_READ:/x",\n NaN]', "`NaN` is not JSON", 2, 2),
        (b"[Infinity]", "`Infinity` is not JSON", 1, 2),
        (b'["Infinity",\n-Infinity]', "`-Infinity` is not JSON", 2, 1),
        (b'{"version": 1,\n "version": 1}', "duplicate key `version`", 2, 2),
        (b'{"version": 1,\n "v\\u0065rsion": 1}', "duplicate key `version`", 2, 2),
        (b'[{"a": {}, "b": 1},\n{"b": 1,\n"b": 2}]', "duplicate key `b`", 3, 1),
        (b'{"b": {"a": 1,\n"a": 2},\n"b": 3}', "duplicate key `a`", 2, 1),
        (b"[\n" + b"[" * 40 + b"]" * 41, "nested too deeply", 2, 32),
        (b'{"a":' * 100_000, "nested too deeply", 1, 161),
        (b"[" * 1_000_000, "nested too deeply", 1, 33),
        (b'["' + b"[" * 100 + b'"]', "is not a capability", 1, 2),
        (b'["a",\n "\xff"]', "byte `0xff` is not UTF-8", 2, 3),
        ('["ü\n'.encode() + b"\xed\xa0\x80", "byte `0xed` is not UTF-8", 2, 1),
        (b'["\xc3', "byte `0xc3` is not UTF-8", 1, 3),
        (b"\xef\xbb\xbf[]", "byte order mark", 1, 1),
        ("[]".encode("utf-16"), "it is UTF-16", 1, 1),
        (b"[\x00]", "contains a NUL", 1, 2),
        (b"[]\n\x00", "contains a NUL", 2, 1),
        (b"[\n" + b"9" * 100_000 + b"]", "is huge", 2, 1),
        (b"[-123456789012345678901]", "is huge", 1, 2),
        (b"[12345678901234567890]", "found `12345678901234567890`", 1, 2),
        (b"[1e999]", "found `inf`", 1, 2),
        (b'[\n"\\ud800:/x"]', "`\\ud800` is not a type", 2, 1),
        (b'{"version": 1, "capabilities": [\n"FILE_READ:/a",\n  "FILE_READ:b"]}', "`b`", 3, 3),
        (b'[{"capability":\n"FILE_READ:b"}]', "`b` is not an absolute path", 1, 3),
        (b'[\n{"capability": "FILE_READ:/b",\n"x": 1}]', "unknown key `x`", 3, 1),
        (b'[\n"a\\"[,{", "FILE_READ:/b"]', "is not a capability", 2, 1),
    ],
)
def test_the_place_of_a_fault(data: bytes, message: str, line: int, column: int) -> None:
    start = time.monotonic()
    error = refusal(data)
    assert message in error.message
    assert (error.details["line"], error.details["column"]) == (line, column)
    assert f"line {line}, column {column}" in error.message
    assert len(error.message) < 300
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("data", [b'["\\u12"]', b'["FILE_READ:/x",\n]', b'{"version": 1,}'])
def test_the_place_of_a_fault_that_interpreters_see_differently(data: bytes) -> None:
    error = refusal(data)
    assert "broken JSON" in error.message
    assert error.details["line"] in (1, 2)


def test_the_path_of_a_fault() -> None:
    error = refusal(b'{"version": 1, "capabilities": ["MEMORY:1GB", {"capability": "x"}]}')
    assert isinstance(error, CapabilityError)
    assert error.details["json_path"] == "$.capabilities[1].capability"
    assert error.details["capability"] == "x"
    assert (
        refusal(b'[{"capability": "MEMORY:1GB", "a b": 1}]').details["json_path"] == "$[0]['a b']"
    )
    assert refusal(b"1").details["json_path"] == "$"


def test_too_many_bytes_given_directly() -> None:
    assert "larger than 1048576 bytes" in refusal(b" " * (MAX_FILE_BYTES + 1)).message


def test_a_decoded_document_may_hold_anything() -> None:
    for odd in (object(), 10**5000, [object()], {1: 2}, {"version": 10**5000, "capabilities": []}):
        with pytest.raises(ConfigurationError) as caught:
            read_document(odd)
        assert caught.value.message.isprintable()
    assert CapabilitySet.from_json([]) == CapabilitySet()


def load_refusal(path: Path | str) -> ConfigurationError:
    start = time.monotonic()
    with pytest.raises(ConfigurationError) as caught:
        load_capabilities(path)
    assert time.monotonic() - start < 20  # and not for ever
    assert caught.value.hint
    assert caught.value.message.isprintable()
    return caught.value


def test_load(tmp_path: Path) -> None:
    file = tmp_path / "caps.json"
    file.write_text('["FILE_READ:/data/**"]')
    expected = CapabilitySet.parse(["FILE_READ:/data/**"])
    assert load_capabilities(file) == load_capabilities(str(file)) == expected
    link = tmp_path / "link.json"
    link.symlink_to(file)
    assert load_capabilities(link) == expected


def test_a_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    file = tmp_path / "caps.json"
    file.write_bytes(b"[]".ljust(MAX_FILE_BYTES))
    assert load_capabilities(file) == CapabilitySet()


def test_a_larger_file_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "caps.json"
    with file.open("wb") as stream:
        stream.truncate(100 << 20)
    assert "larger than 1048576 bytes" in load_refusal(file).message


def test_a_file_that_grows_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "caps.json"
    file.write_bytes(b" " * (MAX_FILE_BYTES + 10))
    read, fstat = os.read, os.fstat
    small = tmp_path / "small"
    small.write_bytes(b"")
    taken = 0

    def counted(fd: int, size: int) -> bytes:
        nonlocal taken
        chunk = read(fd, min(size, 1000))
        taken += len(chunk)
        return chunk

    with monkeypatch.context() as patch:
        patch.setattr(strict_json.os, "fstat", lambda _: os.stat(small))
        patch.setattr(strict_json.os, "read", counted)
        error = load_refusal(file)
    assert "larger than" in error.message
    assert taken == MAX_FILE_BYTES + 1
    assert os.fstat is fstat


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    assert "it is a directory" in load_refusal(tmp_path).message
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert "not a regular file" in load_refusal(fifo).message
    assert "not a regular file" in load_refusal("/dev/zero").message
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        assert "cannot read it" in load_refusal(tmp_path / "socket").message


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    assert "no such file or directory" in load_refusal(tmp_path / "absent").message
    assert "cannot read it" in load_refusal("a\0b").message
    assert "cannot read it" in load_refusal("").message
    assert "cannot read it" in load_refusal("x" * 5000).message
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert "cannot read it" in load_refusal(loop).message


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "caps.json"
    file.write_text("[]")
    file.chmod(0)
    if os.geteuid() == 0:  # root may read it all the same

        def refuse(*_: object) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(strict_json.os, "open", refuse)
    monkeypatch.chdir(tmp_path)
    error = load_refusal("caps.json")
    monkeypatch.undo()
    assert "permission denied" in error.message
    assert error.details["source"] == "caps.json"


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for path in (tmp_path, "/dev/null", tmp_path / "absent"):
        load_refusal(path)
    assert len(os.listdir("/proc/self/fd")) == before
