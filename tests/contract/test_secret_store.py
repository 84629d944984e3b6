"""What every `SecretStore` must do, run against each that there is."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

from omnibase.core.secrets import (
    DirectorySecrets,
    EnvironmentSecrets,
    KeyringSecrets,
    MappingSecrets,
    SecretStore,
    fetch,
    secret_store,
)
from omnibase.errors import ConfigurationError, OmniBaseError, SecretAccessError

VALUE = "s3cr3t-välue\n"
NAMES = ("TOKEN", "token", "api-token", "db.password", "_", "a" * 200)

Keep = Callable[[str, str], None]


class MemoryKeyring(KeyringBackend):
    """A keyring of this process, as `keyring` takes it."""

    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise KeyringLocked(f"the password is {VALUE}")
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


@pytest.fixture
def ring() -> Iterator[MemoryKeyring]:
    before = keyring.get_keyring()
    memory = MemoryKeyring()
    keyring.set_keyring(memory)
    yield memory
    keyring.set_keyring(before)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "secrets"
    path.mkdir(mode=0o700)
    return path


def write(directory: Path, name: str, value: str, mode: int = 0o600) -> Path:
    path = directory / name
    path.write_text(value)
    path.chmod(mode)
    return path


@pytest.fixture(params=["env", "dir", "keyring", "mapping"])
def kept(
    request: pytest.FixtureRequest,
    directory: Path,
    ring: MemoryKeyring,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[SecretStore, Keep]:
    """A store that is empty, and a way to put something into it."""
    if request.param == "env":
        return secret_store("env"), lambda name, value: monkeypatch.setenv(
            f"OMNIBASE_SECRET_{name}", value
        )
    if request.param == "dir":
        return secret_store(
            f"dir:{directory}"
        ), lambda name, value: write(directory, name, value) and None
    if request.param == "keyring":
        return secret_store("keyring"), lambda name, value: ring.set_password(
            "omnibase", name, value
        )
    values: dict[str, str | bytes] = {}
    return MappingSecrets(values), values.__setitem__


class TestEveryStore:
    def test_what_is_not_there_is_none_and_the_hint_names_it(
        self, kept: tuple[SecretStore, Keep]
    ) -> None:
        store, _ = kept
        for name in NAMES:
            assert store.get(name) is None
            assert name in store.hint(name)
            with pytest.raises(SecretAccessError, match=f"`{name}` is not there") as caught:
                fetch(store, [name])
            assert caught.value.hint == store.hint(name)
            assert caught.value.details == {
                "secret": name,
                "capability": f"SECRET_ACCESS:{name}",
            }

    def test_a_value_comes_back_to_the_byte(self, kept: tuple[SecretStore, Keep]) -> None:
        store, keep = kept
        for name in NAMES:
            keep(name, VALUE)
            assert store.get(name) == VALUE.encode()
        (secret,) = fetch(store, ["TOKEN"])
        assert (secret.name, secret.value) == ("TOKEN", VALUE.encode())

    def test_a_name_is_exact(self, kept: tuple[SecretStore, Keep]) -> None:
        store, keep = kept
        keep("api_token", VALUE)
        for other in ("api-token", "api.token", "API_TOKEN", "api_toke", "api_token2"):
            assert store.get(other) is None

    def test_it_is_asked_each_time(self, kept: tuple[SecretStore, Keep]) -> None:
        store, keep = kept
        keep("TOKEN", "first value")
        assert store.get("TOKEN") == b"first value"
        keep("TOKEN", "second value")
        assert store.get("TOKEN") == b"second value"

    def test_nothing_of_it_shows_a_value(self, kept: tuple[SecretStore, Keep]) -> None:
        store, keep = kept
        keep("TOKEN", VALUE)
        assert store.get("TOKEN")
        assert "s3cr3t" not in repr(store) + str(store) + store.hint("TOKEN")

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            ("", "shorter than 4 bytes"),
            ("abc", "shorter than 4 bytes"),
            ("  abc\n\n", "shorter than 4 bytes"),
            ("x" * (64 * 1024 + 1), "larger than 64 KiB"),
        ],
    )
    def test_too_short_and_too_long_are_refused(
        self, kept: tuple[SecretStore, Keep], value: str, reason: str
    ) -> None:
        store, keep = kept
        keep("TOKEN", value)
        with pytest.raises(SecretAccessError, match=reason) as caught:
            fetch(store, ["TOKEN"])
        assert "abc" not in repr(caught.value.to_dict())

    def test_areas_are_absolute(self, kept: tuple[SecretStore, Keep]) -> None:
        store, _ = kept
        assert all(os.path.isabs(area) for area in store.areas)


def test_together_they_are_bounded() -> None:
    store = MappingSecrets({f"S{n}": b"x" * 60_000 for n in range(5)})
    assert len(fetch(store, ["S0", "S1", "S2", "S3"])) == 4
    with pytest.raises(SecretAccessError, match="`S4` and those before it are larger than 256 KiB"):
        fetch(store, ["S0", "S1", "S2", "S3", "S4"])


def test_a_store_that_gives_no_bytes_is_refused() -> None:
    store = MappingSecrets({"TOKEN": 12345678})  # type: ignore[dict-item]
    with pytest.raises(SecretAccessError, match="is not bytes") as caught:
        fetch(store, ["TOKEN"])
    assert "12345678" not in repr(caught.value.to_dict())


class OwnStore:
    """A store as somebody else might write it."""

    areas = ()

    def get(self, name: str) -> bytes | None:
        raise RuntimeError(f"the value of {name} is {VALUE}")

    def hint(self, name: str) -> str:
        return f"put `{name}` into the vault"


def test_what_a_store_raises_is_told_without_its_words() -> None:
    with pytest.raises(SecretAccessError, match=r"from its store \(RuntimeError\)") as caught:
        fetch(OwnStore(), ["TOKEN"])
    assert caught.value.__suppress_context__
    assert caught.value.hint == "put `TOKEN` into the vault"
    assert caught.value.details["capability"] == "SECRET_ACCESS:TOKEN"
    assert "s3cr3t" not in repr(caught.value.to_dict())


def test_what_a_store_is_interrupted_by_goes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_self: OwnStore, _name: str) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(OwnStore, "get", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(OwnStore(), ["TOKEN"])


def test_text_that_is_no_unicode_is_refused_without_showing_it() -> None:
    with pytest.raises(SecretAccessError, match="is not valid Unicode") as caught:
        fetch(MappingSecrets({"TOKEN": "value\ud800"}), ["TOKEN"])
    assert caught.value.__suppress_context__
    assert "value" not in caught.value.message.replace("valid", "")


@pytest.mark.parametrize(
    "text", ["", "vault", "env:", "env:X", "dir", "dir:", "keyring:x", "ENV", "/path", "dir=/x"]
)
def test_what_names_no_store(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a store of secrets") as caught:
        secret_store(text)
    assert caught.value.hint == "choose `env`, `dir:/path` or `keyring`"


class TestEnvironment:
    def test_only_variables_with_the_prefix(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TOKEN", VALUE)
        monkeypatch.setenv("OTHER_TOKEN", VALUE)
        assert EnvironmentSecrets().get("TOKEN") is None
        assert EnvironmentSecrets("OTHER_").get("TOKEN") == VALUE.encode()

    def test_bytes_are_bytes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(os.environb, b"OMNIBASE_SECRET_RAW", b"\xff\xfe\xfd\xfc")
        assert EnvironmentSecrets().get("RAW") == b"\xff\xfe\xfd\xfc"

    def test_a_name_that_no_shell_sets_has_a_hint_of_its_own(self) -> None:
        store = EnvironmentSecrets()
        assert "`env '" not in store.hint("API_TOKEN")
        assert "`env 'OMNIBASE_SECRET_api-token=…' …`" in store.hint("api-token")


class TestDirectory:
    def get(self, directory: Path, name: str = "TOKEN") -> bytes | None:
        return DirectorySecrets(str(directory)).get(name)

    def refusal(self, directory: Path, name: str = "TOKEN") -> OmniBaseError:
        write(directory, "GOOD", VALUE)
        with pytest.raises(OmniBaseError) as caught:
            self.get(directory, name)
        assert "s3cr3t" not in repr(caught.value.to_dict())
        assert caught.value.hint
        return caught.value

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o777])
    def test_a_file_that_others_have_a_right_to(self, directory: Path, mode: int) -> None:
        write(directory, "TOKEN", VALUE, mode)
        error = self.refusal(directory)
        assert isinstance(error, SecretAccessError)
        assert "not yours alone" in error.message
        assert f"chmod 600 {directory}/TOKEN" in str(error.hint)

    @pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
    def test_a_file_that_is_ours_alone(self, directory: Path, mode: int) -> None:
        write(directory, "TOKEN", VALUE, mode)
        assert self.get(directory) == VALUE.encode()

    def test_somebody_elses_file(self, directory: Path) -> None:
        os.chown(write(directory, "TOKEN", VALUE), 12345, 0)
        assert "not yours alone" in self.refusal(directory).message

    def test_what_is_no_regular_file(self, directory: Path) -> None:
        target = write(directory, "real", VALUE)
        (directory / "link").symlink_to(target)
        os.mkfifo(directory / "fifo", 0o600)
        (directory / "folder").mkdir(0o700)
        for name in ("link", "folder"):
            assert "cannot be read" in self.refusal(directory, name).message
        assert "is not a regular file" in self.refusal(directory, "fifo").message

    @pytest.mark.parametrize("mode", [0o750, 0o705, 0o710, 0o701, 0o770, 0o1777])
    def test_a_directory_that_others_have_a_right_to(self, directory: Path, mode: int) -> None:
        write(directory, "TOKEN", VALUE)
        directory.chmod(mode)
        error = self.refusal(directory)
        assert isinstance(error, SecretAccessError)
        assert f"chown {os.geteuid()} {directory}" in str(error.hint)

    def test_somebody_elses_directory(self, directory: Path) -> None:
        write(directory, "TOKEN", VALUE)
        os.chown(directory, 12345, 0)
        assert isinstance(self.refusal(directory), SecretAccessError)

    def test_a_directory_that_others_can_replace(self, directory: Path) -> None:
        write(directory, "TOKEN", VALUE)
        directory.parent.chmod(0o777)
        assert f"others can write to `{directory.parent}`" in self.refusal(directory).message
        directory.parent.chmod(0o1777)
        assert self.get(directory) == VALUE.encode()
        directory.parent.chmod(0o755)
        os.chown(directory.parent, 12345, 0)
        assert f"others can write to `{directory.parent}`" in self.refusal(directory).message

    def test_no_directory(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        for name in ("absent", "file"):
            with pytest.raises(ConfigurationError, match="directory of secrets") as caught:
                self.get(tmp_path / name)
            assert caught.value.hint == "make it, with mode 700"

    def test_no_descriptor_stays_open(self, directory: Path) -> None:
        write(directory, "TOKEN", VALUE)
        write(directory, "OPEN", VALUE, 0o644)
        before = len(os.listdir("/proc/self/fd"))
        assert self.get(directory)
        assert self.get(directory, "absent") is None
        self.refusal(directory, "OPEN")
        directory.chmod(0o755)
        self.refusal(directory)
        assert len(os.listdir("/proc/self/fd")) == before

    def test_a_link_to_the_directory_is_followed_once(
        self, directory: Path, tmp_path: Path
    ) -> None:
        write(directory, "TOKEN", VALUE)
        link = tmp_path / "link"
        link.symlink_to(directory)
        store = DirectorySecrets(str(link))
        assert store.areas == (str(directory),)
        link.unlink()
        assert store.get("TOKEN") == VALUE.encode()

    def test_a_directory_at_the_root(self) -> None:
        assert DirectorySecrets("/")._above() == ["/"]
        assert DirectorySecrets("/a/b")._above() == ["/a", "/"]


class TestKeyring:
    def test_a_backend_that_fails_is_told_without_its_own_words(self, ring: MemoryKeyring) -> None:
        ring.locked = True
        with pytest.raises(
            SecretAccessError, match=r"from the keyring \(KeyringLocked\)"
        ) as caught:
            fetch(KeyringSecrets(), ["TOKEN"])
        assert "s3cr3t" not in repr(caught.value.to_dict())
        assert caught.value.__suppress_context__

    def test_a_service_of_its_own(self, ring: MemoryKeyring) -> None:
        ring.set_password("other", "TOKEN", VALUE)
        assert KeyringSecrets().get("TOKEN") is None
        assert KeyringSecrets("other").get("TOKEN") == VALUE.encode()

    def test_without_the_library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "keyring", None)
        with pytest.raises(ConfigurationError, match="need the library `keyring`") as caught:
            KeyringSecrets().get("TOKEN")
        assert caught.value.hint == "`pip install 'omnibase[keyring]'`"
