"""The password file that PostgreSQL's clients read."""

from __future__ import annotations

import pytest

from omnibase.core.sandbox.databases.passwords import password_file
from omnibase.core.sandbox.spec import ServerGrant
from omnibase.core.secrets import Scrubber, Secret
from omnibase.errors import SecretAccessError


def server(role: str = "r", host: str = "db.example.com") -> ServerGrant:
    return ServerGrant(host=host, port=5432, role=role, database="sales", capability="c")


def test_a_line_for_each_server() -> None:
    secrets = [Secret(name="pg_r", value=b"pass:wo\\rd\n"), Secret(name="pg_s", value=b"other")]
    servers = [server(), server("s", "[2001:db8::1]")]
    assert password_file("pgpass", servers, secrets) == (
        Secret(
            name="pgpass",
            value=b"db.example.com:5432:sales:r:pass\\:wo\\\\rd\n"
            b"2001\\:db8\\:\\:1:5432:sales:s:other\n",
            hidden=(
                Secret(name="pg_r", value=b"pass\\:wo\\\\rd"), Secret(name="pg_s", value=b"other"),
            ),
        ),
    )  # fmt: skip


def test_of_the_file_the_passwords_alone_are_kept_out_of_the_output() -> None:
    secrets = (Secret(name="pg_r", value=b"pass:wo\\rd\n"),)
    (file,) = password_file("pgpass", [server()], secrets)
    scrubber = Scrubber((*secrets, file))
    assert scrubber.text("db.example.com:5432") == "db.example.com:5432"
    assert scrubber.text(file.value.decode()) == "db.example.com:5432:sales:r:***pg_r***\n"
    assert scrubber.text("pass:wo\\rd") == "***pg_r***"


def test_no_file_without_a_server() -> None:
    assert password_file("pgpass", [], [Secret(name="T", value=b"token")]) == ()


@pytest.mark.parametrize("value", [b"two\nlines", b"car\rriage", b"nul\0nul"])
def test_a_password_is_one_line(value: bytes) -> None:
    with pytest.raises(SecretAccessError, match="holds a line break or a NUL") as caught:
        password_file("pgpass", [server()], [Secret(name="pg_r", value=value)])
    assert value.decode() not in str(caught.value.to_dict())
