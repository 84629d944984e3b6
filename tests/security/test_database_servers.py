"""A role on a real PostgreSQL, from a real sandbox: that server, that password, no more."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import omnibase
from omnibase import CapabilityError, EventBus, ExecutionContext, RunResult, SecretAccessError
from omnibase.core import events
from tests.helpers import registry_postgres
from tests.helpers.egress import unused_port
from tests.security.harness import Outcome, observed

pytestmark = [pytest.mark.capabilities, pytest.mark.egress, pytest.mark.threat("T-EXEC-23")]

PASSWORD = "p:w\\d-äé 99"
PACKAGES = Path(sysconfig.get_path("platlib"))
GRANTED = (f"FILE_READ:{PACKAGES}/**", "MEMORY:250MiB")
HEAD = """
import os, sys
sys.path.append(sys.argv[1])
port = int(sys.argv[2])
import psycopg
def connect(role="reader", to=port):
    return psycopg.connect(f"postgresql://{role}@127.0.0.1:{to}/postgres", connect_timeout=10)
"""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server with a table `orders`, and the role `reader`, who may read it."""
    port = unused_port()
    with registry_postgres.running(port) as server:
        with server.connect("postgres") as connection:
            connection.execute("CREATE TABLE orders (n int)")
            connection.execute("INSERT INTO orders SELECT generate_series(1, 100)")
            for role in ("reader", "other"):
                connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'".encode())
            connection.execute("GRANT SELECT ON orders TO reader")
            (server.folder / "data" / "pg_hba.conf").write_text(
                "local all omnibase trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
            )
            connection.execute("SELECT pg_reload_conf()")
        yield port


def run(source: str, port: int, *caps: str, secrets: Any = None, args: Any = None) -> Outcome:
    def body(bus: EventBus) -> RunResult:
        return omnibase.run(
            (HEAD + source).encode(),
            args=args or [str(PACKAGES), str(port)],
            capabilities=[*GRANTED, *caps],
            secrets={"pg_reader": PASSWORD} if secrets is None else secrets,
            context=ExecutionContext(on_violation="record"),
            bus=bus,
        )

    return observed(body)


def grant(port: int, role: str = "reader") -> str:
    return f"DATABASE_WRITE:postgres://{role}@127.0.0.1:{port}/postgres"


@pytest.mark.threat("T-EXEC-10")
def test_the_role_is_used_without_a_word_of_its_password(port: int) -> None:
    source = """
with connect() as db:
    print(db.execute("select count(*), sum(n) from orders").fetchone(), db.info.user)
    try: db.execute("insert into orders values (1)")
    except psycopg.errors.InsufficientPrivilege as error: print("the server:", error.sqlstate)
"""
    outcome = run(source, port, grant(port))
    assert outcome.stdout.splitlines() == ["(100, 5050) reader", "the server: 42501"], (
        outcome.finished.stderr.decode()
    )
    outcome.assert_clean()
    (opened,) = outcome.reported(events.EgressOpened)
    assert (opened.target, opened.capability) == (f"127.0.0.1:{port}", grant(port))
    assert [one.secret for one in outcome.reported(events.SecretRead)] == ["pgpass"]


@pytest.mark.threat("T-EXEC-10")
def test_the_password_is_a_secret(port: int) -> None:
    source = """
print(oct(os.stat("/run/secrets/pgpass").st_mode), sorted(os.listdir("/run/secrets")))
print(open("/run/secrets/pg_reader").read())
print(open("/run/secrets/pgpass").read().strip())
print([v for v in os.environ.values() if "99" in v], os.environ["PGPASSFILE"])
"""
    outcome = run(source, port, grant(port))
    outcome.assert_clean()
    mode, value, line, environment = outcome.stdout.strip().splitlines()
    assert mode == "0o100400 ['pg_reader', 'pgpass']"
    assert value == "***pg_reader***" and PASSWORD not in outcome.stdout
    assert line == f"127.0.0.1:{port}:postgres:reader:***pg_reader***"
    assert environment == "[] /run/secrets/pgpass"
    assert sorted(one.secret for one in outcome.reported(events.SecretRead)) == [
        "pg_reader", "pgpass",
    ]  # fmt: skip


@pytest.mark.threat("T-EXEC-07")
def test_no_other_port_and_no_server_without_the_grant(port: int) -> None:
    other = unused_port()
    source = f"""
try: connect(to={other})
except psycopg.OperationalError: print("denied")
"""
    outcome = run(source, port, grant(port))
    assert outcome.stdout == "denied\n", outcome.finished.stderr.decode()
    outcome.assert_violation(f"NETWORK_CONNECT:127.0.0.1:{other}", operation="connect")
    denied = run("connect()", port)
    denied.assert_violation(f"NETWORK_CONNECT:127.0.0.1:{port}", operation="connect")
    assert denied.finished.exit_code == 1


def test_another_role_has_no_password(port: int) -> None:
    source = """
try: connect("other")
except psycopg.OperationalError as error: print("no password" in str(error))
"""
    outcome = run(source, port, grant(port))
    assert outcome.stdout == "True\n", outcome.finished.stderr.decode()


def test_two_roles_of_one_server(port: int) -> None:
    source = """
for role in ("reader", "other"):
    with connect(role) as db: print(db.info.user)
"""
    secrets = {"pg_reader": PASSWORD, "pg_other": PASSWORD + "\n"}
    outcome = run(source, port, grant(port), grant(port, "other"), secrets=secrets)
    assert outcome.stdout == "reader\nother\n", outcome.finished.stderr.decode()


@pytest.mark.threat("T-ORCH-05")
def test_what_cannot_be_is_refused_before_the_start(port: int) -> None:
    outcome = run("print('ran')", port, grant(port), secrets={"OTHER": "other-value"})
    assert isinstance(outcome.error, SecretAccessError) and outcome.result is None
    assert "`pg_reader` is not there" in outcome.error.message
    outcome = run("print('ran')", port, grant(port), secrets={"pg_reader": "two\nlines"})
    assert isinstance(outcome.error, SecretAccessError) and outcome.result is None
    reading = grant(port).replace("WRITE", "READ")
    outcome = run("print('ran')", port, reading)
    assert isinstance(outcome.error, CapabilityError) and outcome.result is None
    (denied,) = outcome.reported(events.CapabilityDenied)
    assert denied.capability == reading
