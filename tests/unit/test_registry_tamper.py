"""Whatever is done to a registry's files, `verify` names it and nothing of it is used."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from omnibase.core.registry import Component, FileStore, FindingCode, Head, Version
from omnibase.core.registry.chain import LINE_BYTES
from omnibase.errors import OmniBaseError, PolicyError, RegistryError

C = FindingCode


@dataclass
class Registry:
    """Two components with two revisions of everything, and what they were before."""

    root: Path
    store: FileStore
    one: Component
    two: Component
    old: dict[str, bytes]
    head: Head

    def file(self, form: str) -> Path:
        return self.root / form.format(one=self.one.uuid, two=self.two.uuid)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    root = tmp_path / "registry"
    store = FileStore(root, durable=False)

    def make(name: str) -> Component:
        added = store.add(Component.new(name=name, version="1.0.0", owner="ann"))
        store.add_script(added.uuid, "main.py", b"print('old')\n")
        policy = b'{"old of %s": 1}' % name.encode()
        return store.put_policy(added.uuid, policy, expected_version=0)

    one, two = make("one"), make("two")
    old = {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }
    head = store.head()
    store.put_policy(one.uuid, b'{"new": 1}', expected_version=1)
    store.add_script(one.uuid, "main.py", b"print('new')\n")
    one = store.update(replace(store.get(one.uuid), version=Version.parse("1.1.0")))
    assert store.verify() == []
    return Registry(root, store, one, two, old, head)


def edit(form: str) -> Callable[[Registry], None]:
    def tamper(registry: Registry) -> None:
        path = registry.file(form)
        path.write_bytes(path.read_bytes().replace(b"1", b"7", 1))

    return tamper


def append(form: str, data: bytes) -> Callable[[Registry], None]:
    def tamper(registry: Registry) -> None:
        with registry.file(form).open("ab") as file:
            file.write(data)

    return tamper


def truncate(form: str, size: int = -1) -> Callable[[Registry], None]:
    def tamper(registry: Registry) -> None:
        path = registry.file(form)
        os.truncate(path, size if size >= 0 else path.stat().st_size // 2)

    return tamper


def copy(source: str, target: str) -> Callable[[Registry], None]:
    return lambda registry: registry.file(target).write_bytes(registry.file(source).read_bytes())


def roll_back(*forms: str) -> Callable[[Registry], None]:
    def tamper(registry: Registry) -> None:
        for form in forms:
            path = registry.file(form)
            path.write_bytes(registry.old[str(path.relative_to(registry.root))])

    return tamper


def link(form: str) -> Callable[[Registry], None]:
    def tamper(registry: Registry) -> None:
        path, moved = registry.file(form), registry.root.parent / "moved"
        path.rename(moved)
        path.symlink_to(moved)

    return tamper


def second_name(form: str) -> Callable[[Registry], None]:
    return lambda registry: os.link(registry.file(form), registry.root.parent / "second")


def huge(form: str) -> Callable[[Registry], None]:
    return lambda registry: os.truncate(registry.file(form), 1 << 40)


def mode(form: str, bits: int) -> Callable[[Registry], None]:
    return lambda registry: registry.file(form).chmod(bits)


def owner(form: str) -> Callable[[Registry], None]:
    return lambda registry: os.chown(registry.file(form), 65534, 65534)


def remove(form: str) -> Callable[[Registry], None]:
    def tamper(registry: Registry) -> None:
        path = registry.file(form)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return tamper


def fifo(form: str) -> Callable[[Registry], None]:
    def tamper(registry: Registry) -> None:
        path = registry.file(form)
        path.unlink()
        os.mkfifo(path)

    return tamper


def folder(form: str) -> Callable[[Registry], None]:
    def tamper(registry: Registry) -> None:
        path = registry.file(form)
        path.unlink()
        path.mkdir()

    return tamper


def create(form: str, data: bytes = b"") -> Callable[[Registry], None]:
    def tamper(registry: Registry) -> None:
        path = registry.file(form)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)

    return tamper


def repeat(number: int) -> Callable[[Registry], None]:
    """Copies a line of the log to its end."""

    def tamper(registry: Registry) -> None:
        line = registry.file("log").read_bytes()[(number - 1) * LINE_BYTES : number * LINE_BYTES]
        append("log", line)(registry)

    return tamper


COMPONENT, POLICY = "components/{one}.json", "policies/{one}.cedar.json"
SCRIPT, NAME = "scripts/{one}/main.py", "names/one/1.1.0"


# What is read for a run: the read itself fails, by name.
READ = [
    *((edit(form), form, C.CHANGED) for form in (COMPONENT, POLICY)),
    (append(SCRIPT, b"import evil\n"), SCRIPT, C.CHANGED),
    (append(COMPONENT, b" "), COMPONENT, C.CHANGED),
    (append(POLICY, b" "), POLICY, C.CHANGED),
    *((truncate(form), form, C.CHANGED) for form in (COMPONENT, POLICY, SCRIPT, NAME)),
    *((truncate(form, 0), form, C.CHANGED) for form in (COMPONENT, POLICY, SCRIPT, NAME)),
    (copy("components/{two}.json", COMPONENT), COMPONENT, C.SWAPPED),
    (copy("policies/{two}.cedar.json", POLICY), POLICY, C.CHANGED),
    (roll_back(COMPONENT), COMPONENT, C.ROLLBACK),
    (roll_back(POLICY), POLICY, C.ROLLBACK),
    (roll_back(COMPONENT, POLICY, SCRIPT), COMPONENT, C.ROLLBACK),
    (roll_back(SCRIPT), SCRIPT, C.CHANGED),
    *(
        (tamper(form), form, code)
        for form in (COMPONENT, POLICY, SCRIPT, NAME)
        for tamper, code in (
            (link, C.LINK), (second_name, C.LINK), (huge, C.TOO_LARGE), (owner, C.PERMISSIONS),
            (remove, C.MISSING), (fifo, C.NOT_REGULAR), (folder, C.NOT_REGULAR),
        )
    ),
    *((mode(form, 0o666), form, C.PERMISSIONS) for form in (COMPONENT, POLICY, SCRIPT, NAME)),
    (mode(COMPONENT, 0o664), COMPONENT, C.PERMISSIONS),
    (mode("components", 0o777), "components", C.PERMISSIONS),
    (mode("scripts/{one}", 0o775), "scripts/{one}", C.PERMISSIONS),
    (owner("policies"), "policies", C.PERMISSIONS),
    (link("components"), "components", C.LINK),
    (link("scripts/{one}"), "scripts/{one}", C.LINK),
    (lambda r: r.file(COMPONENT).write_bytes(replace(r.one, revision=None).to_json()),
     COMPONENT, C.CHANGED),
    (link("names/one"), "names/one", C.LINK),
    (edit("log"), "log", C.LOG),
    (remove("log"), "log", C.LOG),
    (link("log"), "log", C.LINK),
]  # fmt: skip


def use(registry: Registry) -> None:
    """Does what a run does before it starts anything."""
    component = registry.store.find("one@1.1.0")
    registry.store.get_policy(component.uuid)
    registry.store.load_entrypoint(component)


@pytest.mark.parametrize(("tamper", "form", "code"), READ)
def test_nothing_of_a_tampered_file_is_used(
    tamper: Callable[[Registry], None], form: str, code: FindingCode, registry: Registry
) -> None:
    use(registry)
    tamper(registry)
    name = str(registry.file(form).relative_to(registry.root))
    if (name, code) == ("log", C.LOG):
        # A read looks at its own line, at the 6th: `edit` spoils the first.
        codes = {C.LOG, C.MISSING}
    else:
        codes = {code}
        if name != NAME or code is not C.MISSING:
            with pytest.raises((RegistryError, PolicyError)) as caught:
                use(registry)
            assert caught.value.details["reason"] == "tampered"
            assert caught.value.details["file"] == name
            assert caught.value.details["code"] == code
            assert f"`{name}`" in caught.value.message
            assert isinstance(caught.value, PolicyError) == name.startswith("policies/")
    findings = registry.store.verify()
    assert any(found.file == name and found.code in codes for found in findings), findings


@pytest.mark.parametrize(
    ("tamper", "file", "code"),
    [
        (create("names/one/weird", b"x"), "names/one/weird", C.EXTRA),
        (copy("names/two/1.0.0", "names/one/1.1.0"), "names/one/1.1.0", C.CHANGED),
        (copy("names/one/1.1.0", "names/one/9.0.0"), "names/one/9.0.0", C.CHANGED),
        (create("names/one/9.0.0", b"00000000-0000-4000-8000-000000000000\n"),
         "components/00000000-0000-4000-8000-000000000000.json", C.MISSING),
        (link("names/one/1.1.0"), "names/one/1.1.0", C.LINK),
    ],
)  # fmt: skip
def test_no_component_is_found_by_a_tampered_name(
    tamper: Callable[[Registry], None], file: str, code: FindingCode, registry: Registry
) -> None:
    assert registry.store.find("one") == registry.one
    tamper(registry)
    for ask in (registry.store.find, lambda name: list(registry.store.list(name=name))):
        if ask is not registry.store.find and code in (C.CHANGED, C.MISSING):
            continue
        with pytest.raises(RegistryError) as caught:
            ask("one")
        assert (caught.value.details["file"], caught.value.details["code"]) == (file, code)
    assert registry.store.verify()


# What a single read does not look at.
BEHIND = [
    (edit("history/{one}/000001-component.json"), "history/{one}/000001-component.json", C.CHANGED),
    (edit("history/{one}/000003-policy.cedar.json"), "history/{one}/000003-policy.cedar.json",
     C.CHANGED),
    (truncate("history/{one}/000002-script"), "history/{one}/000002-script", C.CHANGED),
    (remove("history/{one}/000001-component.json"), "history/{one}/000001-component.json",
     C.MISSING),
    (remove("history/{one}/000002-script"), "history/{one}/000002-script", C.MISSING),
    (remove("history/{one}"), "history/{one}/000001-component.json", C.MISSING),
    (copy("history/{two}/000001-component.json", "history/{one}/000001-component.json"),
     "history/{one}/000001-component.json", C.CHANGED),
    (link("history/{one}/000001-component.json"), "history/{one}/000001-component.json", C.LINK),
    (link("history/{one}"), "history/{one}", C.LINK),
    (mode("history/{one}", 0o777), "history/{one}", C.PERMISSIONS),
    (huge("history/{one}/000001-component.json"), "history/{one}/000001-component.json",
     C.TOO_LARGE),
    (create("history/{one}/000009-component.json"), "history/{one}/000009-component.json", C.EXTRA),
    (create("scripts/{one}/helper.py"), "scripts/{one}/helper.py", C.EXTRA),
    (create("components/note.txt"), "components/note.txt", C.EXTRA),
    (create("components/00000000-0000-4000-8000-000000000000.json", b"{}"),
     "components/00000000-0000-4000-8000-000000000000.json", C.EXTRA),
    (create("policies/00000000-0000-4000-8000-000000000000.cedar.json", b"{}"),
     "policies/00000000-0000-4000-8000-000000000000.cedar.json", C.EXTRA),
    (create("names/other/1.0.0", b"x"), "names/other", C.EXTRA),
    (create("names/one/9.0.0", b"x"), "names/one/9.0.0", C.EXTRA),
    (create("surprise"), "surprise", C.EXTRA),
    (append(".lock", b"x"), ".lock", C.CHANGED),
    (append("log", b"x"), "log", C.LOG),
    (truncate("log", LINE_BYTES * 5), "log", C.LOG),
    (copy("names/two/1.0.0", NAME), NAME, C.SWAPPED),
    (remove("names/one/1.0.0"), "names/one/1.0.0", C.MISSING),
    (copy("names/two/1.0.0", "names/one/1.0.0"), "names/one/1.0.0", C.SWAPPED),
]  # fmt: skip


@pytest.mark.parametrize(("tamper", "form", "code"), BEHIND)
def test_verify_finds_what_no_read_looks_at(
    tamper: Callable[[Registry], None], form: str, code: FindingCode, registry: Registry
) -> None:
    tamper(registry)
    name = str(registry.file(form).relative_to(registry.root))
    findings = registry.store.verify(since=registry.head)
    matching = [found for found in findings if found.file == name]
    assert any(found.code is code for found in matching), findings or "nothing found"
    assert findings == sorted(findings)
    assert all(found.to_dict()["code"] == found.code.value for found in findings)


def test_a_whole_component_set_back_is_found_by_the_log(registry: Registry) -> None:
    for path in registry.root.rglob("*"):
        name = str(path.relative_to(registry.root))
        if path.is_file() and str(registry.one.uuid) in name:
            if name in registry.old:
                path.write_bytes(registry.old[name])
            else:
                path.unlink()
    registry.file(NAME).unlink()
    codes = {(found.file, found.code) for found in registry.store.verify()}
    assert (f"components/{registry.one.uuid}.json", C.ROLLBACK) in codes
    assert (f"policies/{registry.one.uuid}.cedar.json", C.MISSING) not in codes
    assert (f"history/{registry.one.uuid}/000006-component.json", C.MISSING) in codes


def test_a_component_removed_whole_is_found_by_the_log(registry: Registry) -> None:
    for path in sorted(registry.root.rglob("*"), reverse=True):
        if str(registry.one.uuid) in str(path.relative_to(registry.root)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(registry.root / "names/one")
    codes = {(found.file, found.code) for found in registry.store.verify()}
    assert (f"components/{registry.one.uuid}.json", C.MISSING) in codes


def test_a_whole_registry_set_back_is_found_by_a_head_noted_elsewhere(registry: Registry) -> None:
    head = registry.store.head()
    for path in registry.root.rglob("*"):
        name = str(path.relative_to(registry.root))
        if path.is_file():
            path.write_bytes(registry.old[name]) if name in registry.old else path.unlink()
    assert registry.store.verify() == []
    assert registry.store.verify(since=registry.head) == []
    (found,) = registry.store.verify(since=head)
    assert (found.file, found.code) == ("log", C.LOG)
    assert "rolled back" in found.message


def test_hand_edits_of_record_and_copy_together_are_found_by_the_read(registry: Registry) -> None:
    forged = replace(registry.one, description="forged").to_json()
    registry.file(COMPONENT).write_bytes(forged)
    registry.file("history/{one}/000006-component.json").write_bytes(forged)
    with pytest.raises(RegistryError, match="differs from what the log says"):
        registry.store.get(registry.one.uuid)


def test_one_bad_component_does_not_hide_the_others(registry: Registry) -> None:
    edit(COMPONENT)(registry)
    assert registry.store.get(registry.two.uuid) == registry.two
    assert set(registry.store.uuids()) == {registry.one.uuid, registry.two.uuid}
    with pytest.raises(RegistryError):
        list(registry.store.list())
    with pytest.raises(RegistryError):
        registry.store.history(registry.one.uuid)


@pytest.mark.parametrize(
    "form",
    [
        "history/{one}/000003-policy.cedar.json", "history/{one}/000004-component.json",
        "history/{one}/000006-component.json",
    ],
)  # fmt: skip
def test_history_is_verified_when_read(form: str, registry: Registry) -> None:
    edit(form)(registry)
    uuid = registry.one.uuid
    with pytest.raises(OmniBaseError) as caught:
        registry.store.history(uuid)
        registry.store.get_policy(uuid, 1)
    assert caught.value.details["file"] == str(registry.file(form).relative_to(registry.root))
    registry.file(form).unlink()
    with pytest.raises(OmniBaseError) as caught:
        registry.store.history(uuid)
        registry.store.get_policy(uuid, 1)
    assert caught.value.details["code"] == C.MISSING


@pytest.mark.parametrize(
    "tamper",
    [
        truncate("log", LINE_BYTES * 9 - 1), truncate("log", LINE_BYTES * 8), remove("log"),
        repeat(1), repeat(5), repeat(9), edit(COMPONENT), roll_back(COMPONENT), owner("."),
        create("log", b"x" * LINE_BYTES),
    ],
)  # fmt: skip
def test_nothing_is_written_on_top_of_tampering(
    tamper: Callable[[Registry], None], registry: Registry
) -> None:
    tamper(registry)
    before = {path: path.read_bytes() for path in registry.root.rglob("*") if path.is_file()}
    with pytest.raises(OmniBaseError) as caught:
        registry.store.put_policy(registry.one.uuid, b"{}", expected_version=2)
    assert {
        path: path.read_bytes() for path in registry.root.rglob("*") if path.is_file()
    } == before
    assert caught.value.details["reason"] == "tampered"


def test_a_planted_draft_is_not_written_through(registry: Registry) -> None:
    victim = registry.root.parent / "victim"
    victim.write_text("precious")
    for name in (f".{registry.one.uuid}.cedar.json.tmp",):
        os.link(victim, registry.root / "policies" / name)
    (registry.root / "..journal.tmp").symlink_to(victim)
    registry.store.put_policy(registry.one.uuid, b"{}", expected_version=2)
    assert victim.read_text() == "precious"
    assert registry.store.verify() == []


def test_a_lock_that_is_a_link_is_refused(registry: Registry) -> None:
    victim = registry.root.parent / "victim"
    victim.write_text("precious")
    (registry.root / ".lock").unlink()
    (registry.root / ".lock").symlink_to(victim)
    with pytest.raises(RegistryError) as caught:
        registry.store.put_policy(registry.one.uuid, b"{}", expected_version=2)
    assert caught.value.details["file"] == ".lock"
    assert victim.read_text() == "precious"


def test_a_root_that_is_replaced_by_a_link_is_refused(registry: Registry) -> None:
    moved = registry.root.parent / "moved"
    registry.root.rename(moved)
    registry.root.symlink_to(moved)
    with pytest.raises(RegistryError) as caught:
        registry.store.get(registry.one.uuid)
    assert (caught.value.details["file"], caught.value.details["code"]) == (".", C.LINK)


def test_a_removed_lock_is_made_anew(registry: Registry) -> None:
    (registry.root / ".lock").unlink()
    assert registry.store.put_policy(registry.one.uuid, b"{}", expected_version=2)
    assert registry.store.verify() == []


def test_whoever_waited_for_a_lock_that_is_gone_takes_the_new_one(registry: Registry) -> None:
    made: list[Component] = []

    def wait() -> None:
        made.append(registry.store.put_policy(registry.one.uuid, b"{}", expected_version=2))

    waiting = threading.Thread(target=wait)
    with registry.store._writing():
        waiting.start()
        time.sleep(0.1)
        (registry.root / ".lock").unlink()
        assert made == []
    waiting.join(30)
    assert [component.policy_version for component in made] == [3]
    assert (registry.root / ".lock").exists()
    assert registry.store.verify() == []


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.EMFILE, "unavailable"), (errno.EACCES, "unavailable"), (errno.EIO, "tampered")],
)
def test_a_file_that_cannot_be_opened_is_told(
    number: int, reason: str, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def failing(path: str, *args: int, **kwargs: int) -> int:
        if path == f"{registry.one.uuid}.json":
            raise OSError(number, os.strerror(number))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", failing)
    with pytest.raises(RegistryError) as caught:
        registry.store.get(registry.one.uuid)
    assert caught.value.details["reason"] == reason
    assert registry.store.get(registry.two.uuid) == registry.two


def test_a_registry_that_may_only_be_read_is_read(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    (registry.root / ".lock").unlink()
    real = os.open

    def read_only(path: str, flags: int, *args: int, **kwargs: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", read_only)
    assert registry.store.get(registry.one.uuid) == registry.one
    assert registry.store.verify() == []
    with pytest.raises(RegistryError):
        registry.store.put_policy(registry.one.uuid, b"{}", expected_version=2)


def test_a_file_that_grows_under_its_reader_is_too_large(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fstat

    def before_it_grew(fd: int) -> os.stat_result:
        status = real(fd)
        values = list(status)
        values[6] = min(values[6], 10)
        return os.stat_result(values)

    append(POLICY, b" " * (1 << 20))(registry)
    monkeypatch.setattr(os, "fstat", before_it_grew)
    with pytest.raises(PolicyError) as caught:
        registry.store.get_policy(registry.one.uuid)
    assert caught.value.details["code"] == C.TOO_LARGE


@pytest.mark.parametrize("path", ["../policies/x", "..", "/etc/passwd", "x\0"])
def test_a_text_is_no_uuid(path: str, registry: Registry) -> None:
    store = registry.store
    for ask in (store.get, store.history, store.get_policy, store.retire):
        with pytest.raises(RegistryError, match="uuid"):
            ask(path)  # type: ignore[arg-type]
    with pytest.raises(RegistryError, match="uuid"):
        store.add_script(path, "main.py", b"1")  # type: ignore[arg-type]
    with pytest.raises(RegistryError, match="uuid"):
        replace(registry.one, uuid=path)  # type: ignore[arg-type]
