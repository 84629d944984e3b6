"""What every `ArtifactStore` must do, run against each that there is."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import obstore
import pytest
from moto.server import ThreadedMotoServer
from obstore.store import MemoryStore

from omnibase.core.artifacts.content import ContentStore
from omnibase.core.artifacts.places import place_of
from omnibase.core.artifacts.remote import RemoteObjects
from omnibase.core.artifacts.store import Artifact, ArtifactStore
from omnibase.errors import ArtifactError

Change = Callable[[str, bytes | None], None]
"""Puts bytes in place of an object's, or removes it, behind the store's back."""


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The URL of a bucket on a server of this process."""
    with pytest.MonkeyPatch.context() as patch:
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        for name, value in (
            ("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "key"),
            ("AWS_REGION", "us-east-1"), ("AWS_ENDPOINT_URL", url), ("AWS_ALLOW_HTTP", "true"),
        ):  # fmt: skip
            patch.setenv(name, value)
        client = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
        client.create_bucket(Bucket="artifacts")
        client.close()
        yield "s3://artifacts"
        server.stop()


@pytest.fixture(params=["directory", "memory", "s3"])
def places(
    request: pytest.FixtureRequest, tmp_path: Path
) -> tuple[Callable[[], ArtifactStore], Change]:
    """Opens the same store again and again, and changes it behind its back."""
    if request.param == "directory":
        root = tmp_path / "store"

        def change(key: str, data: bytes | None) -> None:
            (root / key).unlink()
            if data is not None:
                (root / key).write_bytes(data)

        return (lambda: place_of(root).open()), change
    if request.param == "memory":
        memory = MemoryStore()

        def open_it() -> ArtifactStore:
            return ContentStore(RemoteObjects("memory://", memory))

        objects = memory
    else:
        url = f"{request.getfixturevalue('s3')}/{tmp_path.name}"

        def open_it() -> ArtifactStore:
            return place_of(url).open()

        objects = obstore.store.from_url(url)

    def change_object(key: str, data: bytes | None) -> None:
        if data is None:
            obstore.delete(objects, key)
        else:
            obstore.put(objects, key, data)

    return open_it, change_object


@pytest.fixture
def store(places: tuple[Callable[[], ArtifactStore], Change]) -> ArtifactStore:
    return places[0]()


@pytest.fixture
def change(places: tuple[Callable[[], ArtifactStore], Change]) -> Change:
    return places[1]


def put(store: ArtifactStore, name: str, data: bytes) -> Artifact:
    return store.put(name, io.BytesIO(data))


def blob(artifact: Artifact) -> str:
    digest = artifact.digest.removeprefix("sha256:")
    return f"blobs/{digest[:2]}/{digest}"


def record(name: str, version: int) -> str:
    return f"names/{hashlib.sha256(name.encode()).hexdigest()}/{version:08}.json"


def test_a_new_store_is_empty(store: ArtifactStore) -> None:
    assert store.names() == ()
    assert store.find("a") is None
    assert store.versions("a") == ()
    assert list(store.verify()) == []


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 40_000])
def test_bytes_come_back(store: ArtifactStore, tmp_path: Path, data: bytes) -> None:
    artifact = put(store, "a/b c.bin", data)

    assert artifact.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert (artifact.name, artifact.version, artifact.size) == ("a/b c.bin", 1, len(data))
    assert artifact.read_bytes() == data
    artifact.save(tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data
    assert [name for name in os.listdir(tmp_path) if "out" in name] == ["out"]


def test_whoever_opens_it_next_finds_the_same(
    places: tuple[Callable[[], ArtifactStore], Change],
) -> None:
    artifact = put(places[0](), "ä/b", b"x")
    again = places[0]()
    assert again.find("ä/b") == artifact
    assert again.names() == ("ä/b",)
    assert again.read(artifact) == b"x"


def test_a_name_has_versions_and_none_of_them_changes(store: ArtifactStore) -> None:
    first, second = put(store, "a", b"1"), put(store, "a", b"2")
    third = put(store, "a", b"1")

    assert [a.version for a in (first, second, third)] == [1, 2, 3]
    assert store.versions("a") == (first, second, third)
    assert store.find("a") == third
    assert store.find("a", 2) == second
    assert store.find("a", 4) is None
    assert [a.read_bytes() for a in store.versions("a")] == [b"1", b"2", b"1"]
    assert store.names() == ("a",)


@pytest.mark.parametrize(
    "name",
    ["", "/a", "a/", "a//b", "..", "../a", "a/../b", ".a", "a/.b", "out", "out/a", "a\0b", "a\nb",
     "a*", "a?", "a\\b", " a", "a ", "a/ b", "e\u0301", "\u202ea", "\udcff", "a/" * 8 + "b",
     "x" * 201, "/".join(["x" * 150] * 4)],
)  # fmt: skip
def test_what_is_no_name_is_refused(store: ArtifactStore, name: str) -> None:
    for call in (lambda: put(store, name, b"x"), lambda: store.find(name)):
        with pytest.raises(ArtifactError, match="`") as error:
            call()
        assert error.value.details == {"reason": "invalid"}
        assert error.value.message.isprintable()
    assert store.names() == ()


def test_other_bytes_are_never_served(store: ArtifactStore, change: Change, tmp_path: Path) -> None:
    artifact = put(store, "a", b"right")
    for data in (b"wrong", b"righ", b"right!", b"", None):
        change(blob(artifact), data)
        for call in (artifact.read_bytes, lambda: artifact.save(tmp_path / "out")):
            with pytest.raises(ArtifactError) as error:
                call()
            assert error.value.details == {"artifact": "a", "reason": "tampered"}
        assert [f.name for f in tmp_path.iterdir() if "out" in f.name] == []
        names = {finding.name for finding in store.verify()}
        assert names == {"a", *store.names()}
        put(store, "b", b"right")  # the same bytes, anew
    assert artifact.read_bytes() == b"right"
    assert list(store.verify()) == []


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b'{"format":1}', b"[" * 100_000, b" " * 20_000,
     b'{"format":1,"name":"b","digest":"sha256:%s","size":1,"kind":"text","media_type":"",'
     b'"created_at":""}' % (b"0" * 64),
     b'{"format":1,"name":"a","digest":"sha256:%s/../..","size":1,"kind":"text","media_type":"",'
     b'"created_at":""}' % (b"0" * 64),
     b'{"format":1,"name":"a","digest":"sha256:%s","size":true,"kind":"text","media_type":"",'
     b'"created_at":""}' % (b"0" * 64)],
)  # fmt: skip
def test_a_record_that_is_none_is_an_error(
    store: ArtifactStore, change: Change, data: bytes
) -> None:
    put(store, "a", b"x")
    change(record("a", 1), data)
    for call in (lambda: store.find("a"), lambda: store.versions("a"), store.names):
        with pytest.raises(ArtifactError) as error:
            call()
        assert error.value.details["reason"] == "tampered"
    assert len(list(store.verify())) == 1


def test_saving_replaces_nothing(store: ArtifactStore, tmp_path: Path) -> None:
    artifact = put(store, "a", b"x")
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("file", "link"):
        with pytest.raises(FileExistsError):
            artifact.save(tmp_path / name)
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert sorted(f.name for f in tmp_path.iterdir() if f.name != "store") == ["file", "link"]


def test_removing_forgets_a_name_and_what_nobody_else_has(
    store: ArtifactStore, change: Change
) -> None:
    mine, shared = put(store, "a", b"1"), put(store, "a", b"2")
    other = put(store, "b", b"2")

    assert store.remove("a") == 2
    assert store.remove("a") == 0
    assert store.names() == ("b",)
    assert store.find("a") is None
    assert other.read_bytes() == shared.read_bytes() == b"2"
    with pytest.raises(ArtifactError):
        mine.read_bytes()
    assert put(store, "a", b"3").version == 1


def test_many_at_once_come_to_versions_of_their_own(
    places: tuple[Callable[[], ArtifactStore], Change],
) -> None:
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(4):
                put(places[0](), "a", b"%d %d" % (number, turn))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    found = places[0]().versions("a")
    assert [artifact.version for artifact in found] == list(range(1, 17))
    assert {artifact.read_bytes() for artifact in found} == {
        b"%d %d" % (number, turn) for number in range(4) for turn in range(4)
    }


def test_a_source_that_changes_meanwhile_is_not_stored(store: ArtifactStore) -> None:
    class Changing(io.BytesIO):
        def seek(self, offset: int, whence: int = 0) -> int:
            self.getbuffer()[0:1] = b"!"
            return super().seek(offset, whence)

    with pytest.raises(ArtifactError, match="changed while it was stored"):
        store.put("a", Changing(b"before"))
    assert store.names() == ()
    assert list(store.verify()) == []


def test_what_is_no_part_of_it_is_found(store: ArtifactStore, change: Change) -> None:
    put(store, "a", b"x")
    if store.areas:
        for key in ("names/junk", "blobs/junk"):
            (Path(store.areas[0]) / key).write_bytes(b"")
    else:
        for key in ("names/junk", "blobs/junk"):
            change(key, b"")
    assert store.names() == ("a",)
    assert [finding.problem for finding in store.verify()] == [
        "`names/junk` is no record of a name",
        "`blobs/junk` is no blob",
    ]


def test_a_server_that_is_not_there_is_said_to_be_so(s3: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        store = place_of("s3://artifacts/x").open()
        for call in (store.names, lambda: list(store.verify()), lambda: put(store, "a", b"x")):
            with pytest.raises(ArtifactError) as error:
                call()
            assert error.value.details["reason"] == "unavailable"


def test_a_malformed_record_can_be_removed_and_costs_nobody_their_bytes(
    store: ArtifactStore, change: Change
) -> None:
    put(store, "a", b"1")
    other = put(store, "b", b"1")
    change(record("b", 1), b"junk")
    assert store.remove("a") == 1
    assert other.read_bytes() == b"1"  # its record cannot be read, so it may need them
    assert store.remove("b") == 1
    assert list(store.verify()) == []
    assert store.names() == ()
