"""What every registry store does: in files, in SQLite and in a real PostgreSQL."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from omnibase.core.registry import (
    Action,
    Component,
    Head,
    Lifecycle,
    RegistryStore,
    Trust,
    Version,
    open_store,
)
from omnibase.core.registry.store import MAX_POLICY_BYTES, MAX_SCRIPT_BYTES
from omnibase.core.security.capabilities import CapabilitySet
from omnibase.errors import PolicyError, RegistryError
from tests.helpers.registry_postgres import PrivatePostgres, running

ROOT = Path(__file__).parents[2]
CLOCK = datetime(2025, 1, 31, 12, 0, 0, tzinfo=UTC)
KINDS = ("file", "sqlite", "postgres")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PrivatePostgres]:
    with running() as server:
        yield server


@pytest.fixture(params=KINDS)
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    match request.param:
        case "file":
            return str(tmp_path / "registry")
        case "sqlite":
            return f"sqlite:///{tmp_path}/registry.db"
        case _:
            return request.getfixturevalue("postgres").database()


@pytest.fixture
def store(location: str) -> Iterator[RegistryStore]:
    opened = open_store(location, clock=lambda: CLOCK)
    assert isinstance(opened, RegistryStore)
    yield opened
    assert opened.verify() == []
    opened.close()


def component(name: str = "report", version: str = "1.0.0", **rest: Any) -> Component:
    return Component.new(name=name, version=version, owner="data team", **rest)


def refused(reason: str, kind: type[RegistryError] = RegistryError) -> Any:
    class Matches:
        def __enter__(self) -> None:
            self.inner = pytest.raises(kind)
            self.info = self.inner.__enter__()

        def __exit__(self, *error: Any) -> bool:
            done = self.inner.__exit__(*error)
            assert self.info.value.details["reason"] == reason, self.info.value
            assert not self.info.value.message.endswith(".")
            return bool(done)

    return Matches()


def test_a_new_registry_is_empty(store: RegistryStore) -> None:
    assert list(store.list()) == [] == list(store.uuids())
    assert store.head() == Head(0, "0" * 64)
    with refused("missing"):
        store.get(uuid4())


def test_what_is_added_is_found(store: RegistryStore) -> None:
    new = component(
        description="Builds the report.\nDaily.", trust=Trust.SEMI_TRUSTED, idempotent=True,
        capabilities_required=CapabilitySet.parse(["FILE_READ:/data/**", "MEMORY:128MiB"]),
        artifacts={"model": "a" * 64}, lifecycle=Lifecycle.ACTIVE,
    )  # fmt: skip
    added = store.add(new, author="ann", comment="first")
    assert replace(added, revision=None) == new
    assert added.revision is not None
    assert (added.revision.number, added.revision.action) == (1, Action.ADD)
    assert (added.revision.author, added.revision.comment) == ("ann", "first")
    assert added.revision.time == "2025-01-31T12:00:00Z"
    assert added.revision.previous is None
    for reference in (str(new.uuid), "report", "report@1.0.0", "report@^1", "report@*"):
        assert store.find(reference) == added
    assert store.get(new.uuid) == added
    assert list(store.list()) == [added]
    assert store.history(new.uuid) == (added,)


def test_a_uuid_and_a_version_are_taken_once(store: RegistryStore) -> None:
    first = store.add(component())
    with refused("conflict"):
        store.add(component("other", uuid=first.uuid))
    with refused("conflict"):
        store.add(component())
    with refused("conflict"):
        store.add(component(version="1.0.0+build.2"))
    assert list(store.list()) == [first]


def test_a_new_component_has_nothing_that_the_store_writes(store: RegistryStore) -> None:
    added = store.add(component())
    scripted = store.add_script(added.uuid, "main.py", b"1")
    for wrong in (replace(added, uuid=uuid4()), replace(scripted, revision=None)):
        with refused("invalid"):
            store.add(wrong)
    with refused("invalid"):
        store.add(component("other", lifecycle=Lifecycle.RETIRED))


def test_finding_prefers_what_is_in_use(store: RegistryStore) -> None:
    def put(version: str, lifecycle: Lifecycle) -> Component:
        return store.add(component(version=version, lifecycle=lifecycle))

    draft = put("3.0.0", Lifecycle.DRAFT)
    assert store.find("report") == draft
    deprecated = put("1.0.0", Lifecycle.DEPRECATED)
    assert store.find("report") == deprecated
    assert store.find("report@>=2.0.0") == draft
    active = put("1.10.0", Lifecycle.ACTIVE)
    put("1.9.0", Lifecycle.ACTIVE)
    put("1.11.0-rc.1", Lifecycle.ACTIVE)
    assert store.find("report") == active
    assert store.find("report@1.11.0-rc.1").version.prerelease == "rc.1"
    assert store.find("report@>=1.11.0-rc.0,<1.11.0").version.prerelease == "rc.1"
    assert store.find("report@~1.9").version == Version.parse("1.9.0")
    retired = store.retire(active.uuid)
    assert store.find("report").version == Version.parse("1.9.0")
    assert store.find("report@1.10.0") == retired
    for reference in ("report@9.0.0", "report@^9", "other", str(uuid4())):
        with refused("missing"):
            store.find(reference)
    for reference in (
        "",
        "Report",
        "report@",
        "report@one",
        "../x",
        "report@1.0",
        "a\0b",
        "@1.0.0",
    ):
        with refused("invalid"):
            store.find(reference)


def test_a_version_that_was_left_is_never_another_components(store: RegistryStore) -> None:
    first = store.add(component())
    now = store.update(replace(first, version=Version.parse("1.1.0")))
    assert store.find("report@1.1.0") == now
    with refused("missing"):
        store.find("report@1.0.0")
    with refused("conflict"):
        store.add(component())
    second = store.add(component(version="1.2.0"))
    with refused("conflict"):
        store.update(replace(now, version=Version.parse("1.2.0")))
    assert {c.uuid for c in store.list(name="report")} == {first.uuid, second.uuid}


def test_build_metadata_is_matched_if_given(store: RegistryStore) -> None:
    added = store.add(component(version="1.0.0+linux"))
    assert store.find("report@1.0.0") == added == store.find("report@1.0.0+linux")
    with refused("missing"):
        store.find("report@1.0.0+mac")


def test_listing_filters(store: RegistryStore) -> None:
    one = store.add(component("one", lifecycle=Lifecycle.ACTIVE))
    two = store.add(replace(component("two"), owner="ops"))
    assert list(store.list(name="one")) == [one]
    assert list(store.list(owner="ops")) == [two]
    assert list(store.list(lifecycle=Lifecycle.ACTIVE)) == [one]
    assert list(store.list(name="none")) == []
    assert list(store.uuids()) == sorted((one.uuid, two.uuid), key=str)
    with refused("invalid"):
        list(store.list(name="../components"))


def test_an_update_needs_the_current_revision(store: RegistryStore) -> None:
    first = store.add(component())
    second = store.update(replace(first, description="new"), author="bob")
    assert second.revision is not None and first.revision is not None
    assert (second.revision.number, second.revision.action) == (2, Action.UPDATE)
    assert second.revision.previous == hashlib.sha256(first.to_json()).hexdigest()
    with refused("conflict"):
        store.update(replace(first, description="other"))
    with refused("conflict"):
        store.update(replace(first, revision=None))
    with refused("missing"):
        store.update(component("other"))
    assert store.update(second) == second
    assert store.history(first.uuid) == (first, second)
    assert store.get(first.uuid) == second


@pytest.mark.parametrize("before", Lifecycle)
@pytest.mark.parametrize("after", Lifecycle)
def test_the_lifecycle_follows_its_table(
    before: Lifecycle, after: Lifecycle, tmp_path: Path
) -> None:
    allowed = {
        "draft": {"draft", "active", "retired"},
        "active": {"active", "deprecated", "retired"},
        "deprecated": {"deprecated", "active", "retired"},
        "retired": {"retired"},
    }
    store = open_store(tmp_path / "registry")
    start = Lifecycle.DRAFT if before is Lifecycle.RETIRED else before
    current = store.add(component(lifecycle=start))
    if before is Lifecycle.RETIRED:
        current = store.retire(current.uuid)
    wanted = replace(current, lifecycle=after)
    if after in allowed[before]:
        assert store.update(wanted).lifecycle is after
    else:
        with refused("conflict"):
            store.update(wanted)


def test_an_update_leaves_what_is_not_its_own(store: RegistryStore) -> None:
    first = store.add(component())
    scripted = store.add_script(first.uuid, "main.py", b"1")
    with refused("conflict"):
        store.update(replace(scripted, name="other"))
    with refused("conflict"):
        store.update(replace(scripted, version=Version.parse("0.9.0")))
    with refused("invalid"):
        store.update(replace(scripted, entrypoint=None, artifacts={}))
    with refused("invalid"):
        store.update(replace(scripted, artifacts={"entrypoint": "b" * 64}))
    governed = store.put_policy(first.uuid, b"{}", expected_version=0)
    with refused("invalid"):
        store.update(replace(governed, policy=None))


def test_a_retired_component_stays_and_no_longer_changes(store: RegistryStore) -> None:
    added = store.add(component(lifecycle=Lifecycle.ACTIVE))
    store.put_policy(added.uuid, b"{}", expected_version=0)
    retired = store.retire(added.uuid, author="ann", comment="old")
    assert retired.revision is not None and retired.revision.action is Action.RETIRE
    assert store.retire(added.uuid) == retired == store.get(added.uuid)
    assert store.get_policy(added.uuid).document == b"{}"
    with refused("conflict"):
        store.update(replace(retired, description="new"))
    with refused("conflict"):
        store.put_policy(added.uuid, b"[]", expected_version=1)
    with refused("conflict"):
        store.add_script(added.uuid, "main.py", b"1")
    with refused("missing"):
        store.retire(uuid4())


def test_policies_have_versions(store: RegistryStore) -> None:
    added = store.add(component())
    with refused("missing"):
        store.get_policy(added.uuid)
    documents = [b'{"a": 1}\n', b"\xff\x00 opaque", b'{"a": 1}\n']
    for number, document in enumerate(documents):
        made = store.put_policy(
            added.uuid, document, expected_version=number, author="ann", comment=f"no. {number}"
        )
        assert made.policy_version == number + 1
        assert made.policy_sha256 == hashlib.sha256(document).hexdigest()
        assert store.get_policy(added.uuid) == (document, number + 1, made.policy_sha256)
    for number, document in enumerate(documents):
        assert store.get_policy(added.uuid, number + 1).document == document
    assert made.policy is not None
    entries = [(e.version, e.revision, e.author, e.comment) for e in made.policy.history]
    assert entries == [(n + 1, n + 2, "ann", f"no. {n}") for n in range(3)]
    for wrong in (0, 4, -1):
        with refused("missing"):
            store.get_policy(added.uuid, wrong)
    for stale in (0, 2, 4):
        with refused("conflict"):
            store.put_policy(added.uuid, b"{}", expected_version=stale)
    for size in (0, MAX_POLICY_BYTES + 1):
        with refused("invalid"):
            store.put_policy(added.uuid, b" " * size, expected_version=3)
    with refused("missing"):
        store.put_policy(uuid4(), b"{}", expected_version=0)
    assert store.get(added.uuid) == made


def test_a_record_keeps_the_newest_versions_and_the_store_all(store: RegistryStore) -> None:
    uuid = store.add(component()).uuid
    for number in range(103):
        made = store.put_policy(uuid, b"%d" % number, expected_version=number)
    assert made.policy is not None and len(made.policy.history) == 100
    assert store.get_policy(uuid, 1).document == b"0"
    assert store.get_policy(uuid, 50).document == b"49"


def test_the_validator_has_the_last_word(location: str) -> None:
    asked: list[tuple[UUID, bytes]] = []
    verdict: list[PolicyError] = []

    def validate(uuid: UUID, document: bytes) -> None:
        asked.append((uuid, document))
        if verdict:
            raise verdict[0]

    store = open_store(location, validate=validate)
    added = store.add(component())
    store.put_policy(added.uuid, b"{}", expected_version=0)
    assert store.get_policy(added.uuid).document == b"{}"
    assert asked == [(added.uuid, b"{}")] * 2
    verdict.append(PolicyError("no good"))
    before = store.get(added.uuid)
    with pytest.raises(PolicyError, match="no good"):
        store.put_policy(added.uuid, b"[]", expected_version=1)
    with pytest.raises(PolicyError, match="no good"):
        store.get_policy(added.uuid)
    assert store.get(added.uuid) == before
    (finding,) = store.verify()
    assert (finding.code, finding.message) == ("policy", "no good")
    assert finding.file == f"policies/{added.uuid}.cedar.json"
    store.close()


def test_scripts_are_kept_and_verified(store: RegistryStore) -> None:
    added = store.add(component())
    with refused("missing"):
        store.load_entrypoint(added)
    first = store.add_script(added.uuid, "main.py", b"print(1)\n", author="ann")
    assert first.entrypoint == f"scripts/{added.uuid}/main.py"
    assert first.artifacts == {"entrypoint": hashlib.sha256(b"print(1)\n").hexdigest()}
    assert store.load_entrypoint(first) == b"print(1)\n"
    assert store.add_script(added.uuid, "main.py", b"print(1)\n") == first
    second = store.add_script(added.uuid, "main.py", b"print(2)\n")
    assert store.load_entrypoint(second) == b"print(2)\n"
    with refused("conflict"):
        store.load_entrypoint(first)
    third = store.add_script(added.uuid, "run.py", b"print(2)\n")
    assert third.entrypoint == f"scripts/{added.uuid}/run.py"
    assert store.load_entrypoint(third) == b"print(2)\n"
    for name in ("", ".hidden", "a/b.py", "..", "a b", "/etc/passwd", "a\n", "x" * 101, "ä.py"):
        with refused("invalid"):
            store.add_script(added.uuid, name, b"1")
    for size in (0, MAX_SCRIPT_BYTES + 1):
        with refused("invalid"):
            store.add_script(added.uuid, "main.py", b" " * size)
    with refused("missing"):
        store.add_script(uuid4(), "main.py", b"1")


def test_the_largest_script_and_policy_are_kept(store: RegistryStore) -> None:
    uuid = store.add(component()).uuid
    made = store.add_script(uuid, "main.py", b"\xff" * MAX_SCRIPT_BYTES)
    store.put_policy(uuid, b"\0" * MAX_POLICY_BYTES, expected_version=0)
    assert len(store.load_entrypoint(made)) == MAX_SCRIPT_BYTES
    assert len(store.get_policy(uuid).document) == MAX_POLICY_BYTES


@pytest.mark.parametrize("text", ["a\nb", "\u202e", "x" * 201, "\ud800", "\0"])
def test_an_author_is_a_printable_line(store: RegistryStore, text: str) -> None:
    with refused("invalid"):
        store.add(component(), author=text)
    assert store.head().entries == 0


def test_the_head_shows_every_change(store: RegistryStore) -> None:
    heads = [store.head()]
    added = store.add(component())
    heads.append(store.head())
    store.put_policy(added.uuid, b"{}", expected_version=0)
    heads.append(store.head())
    assert [head.entries for head in heads] == [0, 1, 2]
    assert len({head.sha256 for head in heads}) == 3
    for head in heads:
        assert store.verify(since=head) == []
    (finding,) = store.verify(since=Head(3, "a" * 64))
    assert (finding.file, finding.code) == ("log", "log")
    (finding,) = store.verify(since=Head(1, "a" * 64))
    assert (finding.file, finding.code) == ("log", "log")


def test_two_stores_see_each_others_writes(location: str, store: RegistryStore) -> None:
    other = open_store(location)
    added = other.add(component())
    assert store.get(added.uuid) == added
    changed = store.update(replace(added, description="new"))
    assert other.find("report") == changed
    other.close()


def test_threads_share_a_store(store: RegistryStore) -> None:
    shared = store.add(component("shared", description="0"))

    def bump(times: int) -> None:
        while times:
            current = store.get(shared.uuid)
            try:
                store.update(replace(current, description=str(int(current.description) + 1)))
            except RegistryError as error:
                if error.details["reason"] != "conflict":
                    raise
            else:
                times -= 1

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(bump, 5) for _ in range(4)]:
            future.result(timeout=120)
    assert store.get(shared.uuid).description == "20"
    assert len(store.history(shared.uuid)) == 21


def worker(location: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.helpers.registry_worker", location]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options,
    )  # fmt: skip


def test_eight_processes_lose_nothing(location: str, store: RegistryStore) -> None:
    shared = store.add(component("shared", description="0"))
    store.put_policy(shared.uuid, b"{}", expected_version=0)
    writers = [worker(location, "bump", shared.uuid, 12) for _ in range(4)]
    writers += [worker(location, "add", f"w{number}", 12) for number in range(2)]
    readers = [worker(location, "read", shared.uuid) for _ in range(2)]
    acknowledged = [
        line
        for process in writers
        for line in process.communicate(timeout=240)[0].split("\n")
        if line
    ]
    assert [process.returncode for process in writers] == [0] * 6
    for process in readers:
        output, _ = process.communicate("stop\n", timeout=60)
        assert process.returncode == 0
        assert output.startswith("rounds ")
    assert store.get(shared.uuid).description == "48"
    assert len(list(store.list())) == 25
    assert len(acknowledged) == 4 * 12 + 2 * 12
    check_acknowledged(store, acknowledged)


def check_acknowledged(store: RegistryStore, lines: list[str]) -> None:
    """Every write that returned is in the history, as it was returned."""
    for line in lines:
        uuid, number, digest = line.split()
        revision = store.history(UUID(uuid))[int(number) - 1]
        assert hashlib.sha256(revision.to_json()).hexdigest() == digest


def test_killing_writers_loses_nothing_that_was_acknowledged(
    location: str, store: RegistryStore
) -> None:
    chance = random.Random(7)
    rounds = 4 if "://" in location else 12
    total = 0
    for number in range(rounds):
        processes = [worker(location, "churn", f"{number}-{which}") for which in range(2)]
        lines = []
        for process in processes:
            assert process.stdout is not None
            lines.append(process.stdout.readline().strip())
        time.sleep(chance.uniform(0.0, 0.2))
        for process in processes:
            process.kill()
        for process in processes:
            assert process.stdout is not None
            # Through the same buffer as `readline`: `communicate` would pass over it.
            with process:
                output = process.stdout.read()
            assert process.returncode == -9
            # What follows the last line feed is not a whole line.
            lines += output.split("\n")[:-1]
        assert store.verify() == []
        check_acknowledged(store, lines)
        total += len(lines)
    assert total >= 2 * rounds
