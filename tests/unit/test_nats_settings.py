"""Addresses and credentials of a NATS server: what is taken, and what is never shown."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from omnibase.core.events.nats_settings import NatsSettings
from omnibase.errors import ConfigurationError
from tests.helpers import tls


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("nats://localhost", ("nats://localhost:4222",)),
        ("nats://127.0.0.1:14222/", ("nats://127.0.0.1:14222",)),
        ("tls://nats.example.com", ("tls://nats.example.com:4222",)),
        ("nats://[::1]:4223", ("nats://[::1]:4223",)),
        ("nats://a, nats://b:1", ("nats://a:4222", "nats://b:1")),
    ],
)
def test_an_address_is_read(url: str, servers: tuple[str, ...]) -> None:
    settings = NatsSettings.of(url)
    assert settings.servers == servers
    assert settings.places == ", ".join(server.partition("://")[2] for server in servers)
    assert settings.subject == "omnibase.events"


@pytest.mark.parametrize(
    "url",
    [
        "", "localhost:4222", "http://localhost", "nats://", "nats://a/b", "nats://a?b", "nats://a#b",
        "nats://a:99999", "nats://a b", "nats://[::1", "nats://a,,nats://b", "nats://\n",
    ],
)  # fmt: skip
def test_another_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="is no NATS server's address") as raised:
        NatsSettings.of(url)
    assert "nats://127.0.0.1:4222" in (raised.value.hint or "")


def test_credentials_come_out_of_the_address() -> None:
    settings = NatsSettings.of("nats://me:p%40ss@a,nats://me:p%40ss@b")
    assert settings.servers == ("nats://a:4222", "nats://b:4222")
    assert (settings.user, settings.password, settings.token) == ("me", "p@ss", None)
    settings = NatsSettings.of("nats://s3cr3t@a")
    assert (settings.user, settings.password, settings.token) == (None, None, "s3cr3t")


@pytest.mark.parametrize("url", ["nats://me:Tr0ub4dor@a", "nats://Tr0ub4dor@a"])
def test_no_secret_is_shown(url: str) -> None:
    settings = NatsSettings.of(url)
    assert "Tr0ub4dor" not in repr(settings) + settings.places
    assert settings.redact("no Tr0ub4dor here") == "no *** here"
    with pytest.raises(ConfigurationError) as raised:
        NatsSettings.of(url + ":x")
    assert "Tr0ub4dor" not in str(raised.value) + repr(raised.value.details)


def test_nothing_is_taken_out_where_there_is_no_secret() -> None:
    assert NatsSettings.of("nats://a").redact("text") == "text"


@pytest.mark.parametrize(
    ("url", "more", "message"),
    [
        ("nats://a", {"subject": "a..b"}, "is no subject"),
        ("nats://a", {"subject": "a.*"}, "is no subject"),
        ("nats://a", {"subject": "a b\n"}, "is no subject"),
        ("nats://a,tls://b", {}, "some servers with TLS"),
        ("nats://a", {"password": "x"}, "a password without a user"),
        ("nats://token@a", {"user": "me"}, "two ways to log in"),
        ("tls://a", {"key": "x"}, "a key without its certificate"),
        ("nats://a", {"ca": "x"}, "certificates are for `tls://`"),
        ("nats://a", {"certificate": "x"}, "certificates are for `tls://`"),
    ],
)
def test_what_does_not_go_together_is_refused(url: str, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as raised:
        NatsSettings.of(url, **more)
    assert raised.value.hint


class TestTheEnvironment:
    @pytest.mark.parametrize("variables", [{}, {"OMNIBASE_NATS": ""}, {"OMNIBASE_NATS": "off"}])
    def test_may_ask_for_nothing(self, variables: dict[str, str]) -> None:
        assert NatsSettings.from_environment(variables) is None

    def test_says_everything(self, tmp_path: Path) -> None:
        secret = tmp_path / "password"
        secret.write_text("top secret\n")
        settings = NatsSettings.from_environment({
            "OMNIBASE_NATS": "tls://a", "OMNIBASE_NATS_SUBJECT": "x.y", "OMNIBASE_NATS_USER": "me",
            "OMNIBASE_NATS_PASSWORD_FILE": str(secret), "OMNIBASE_NATS_CA": "/ca.pem",
            "OMNIBASE_NATS_CERT": "/cert.pem", "OMNIBASE_NATS_KEY": "/key.pem",
        })  # fmt: skip
        assert settings == NatsSettings(
            servers=("tls://a:4222",), subject="x.y", user="me", password="top secret",
            ca="/ca.pem", certificate="/cert.pem", key="/key.pem",
        )  # fmt: skip

    def test_goes_before_the_address(self, tmp_path: Path) -> None:
        token = tmp_path / "token"
        token.write_text("of the file")
        variables = {"OMNIBASE_NATS": "nats://old@a", "OMNIBASE_NATS_TOKEN_FILE": str(token)}
        settings = NatsSettings.from_environment(variables)
        assert settings is not None
        assert settings.token == "of the file"

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "No such file"), (b"", "holds no secret"), (b"\n", "holds no secret"),
            (b"x" * 70_000, "too much"), (b"\xff", "not text"),
        ],
    )  # fmt: skip
    def test_names_a_file_that_is_of_no_use(
        self, tmp_path: Path, content: bytes | None, message: str
    ) -> None:
        path = tmp_path / "token"
        if content is not None:
            path.write_bytes(content)
        variables = {"OMNIBASE_NATS": "nats://a", "OMNIBASE_NATS_TOKEN_FILE": str(path)}
        with pytest.raises(ConfigurationError, match=message) as raised:
            NatsSettings.from_environment(variables)
        assert "OMNIBASE_NATS_TOKEN_FILE" in raised.value.message


class TestTls:
    def test_is_not_for_every_address(self) -> None:
        assert NatsSettings.of("nats://a").tls() is None

    def test_checks_the_server_by_default(self) -> None:
        context = NatsSettings.of("tls://a").tls()
        assert context is not None
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname

    def test_takes_files(self, tmp_path: Path) -> None:
        tls.certificate(tmp_path, "localhost")
        context = NatsSettings.of(
            "tls://a", ca=str(tmp_path / "ca.pem"), certificate=str(tmp_path / "server.pem"),
            key=str(tmp_path / "server.key"),
        ).tls()  # fmt: skip
        assert context is not None
        assert len(context.get_ca_certs()) == 1

    @pytest.mark.parametrize("name", ["missing.pem", "empty.pem"])
    def test_says_that_a_file_is_of_no_use(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "empty.pem").write_text("")
        with pytest.raises(ConfigurationError, match="certificates") as raised:
            NatsSettings.of("tls://a", ca=str(tmp_path / name)).tls()
        assert "OMNIBASE_NATS_CA" in (raised.value.hint or "")
