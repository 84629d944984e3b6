"""Grants and quotas become a spec, or an error that names the grant."""

from __future__ import annotations

from typing import Any

import pytest

from omnibase.core.context import MIB, ExecutionContext
from omnibase.core.sandbox import compile
from omnibase.core.sandbox.compile import ENFORCEMENT
from omnibase.core.sandbox.spec import FileGrant, Mask
from omnibase.core.security.capabilities import CapabilityType
from omnibase.errors import CapabilityError, ConfigurationError
from tests.helpers.specs import IMAGE, compiled

STATE, POLICIES = "/var/lib/omnibase", "/srv/registry/policies"
AREAS: dict[str, Any] = {"refused_areas": (STATE,), "read_only_areas": (POLICIES,)}


def test_nothing_granted() -> None:
    spec = compiled()
    assert (spec.files, spec.masks, spec.grants) == ((), (), ())
    assert (spec.image_path, spec.image_digest, spec.python) == (
        IMAGE.path, IMAGE.digest, IMAGE.python,
    )  # fmt: skip
    assert spec.memory_bytes == 50_000_000
    assert not spec.truncate_output
    assert not spec.kill_on_violation
    assert set(IMAGE.probes) <= spec.watch.probes


def test_quotas_are_carried_over() -> None:
    context = ExecutionContext(
        cpus=2, pids=9, wall_seconds=3, cpu_seconds=1.5, output_bytes=7, scratch_bytes=MIB,
        on_violation="kill", on_output_limit="truncate",
    )  # fmt: skip
    spec = compiled(context=context)
    assert (spec.cpus, spec.pids, spec.wall_seconds, spec.cpu_seconds) == (2, 9, 3, 1.5)
    assert (spec.output_bytes, spec.scratch_bytes) == (7, MIB)
    assert spec.truncate_output
    assert spec.kill_on_violation


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ("NETWORK_CONNECT:API.example.com:443", ("api.example.com", 443, 443)),
        ("NETWORK_CONNECT:*.example.com:8000-8010", ("*.example.com", 8000, 8010)),
        ("NETWORK_CONNECT:*:443", ("*", 443, 443)),
        ("NETWORK_CONNECT:127.0.0.1:5432", ("127.0.0.1", 5432, 5432)),
        ("NETWORK_CONNECT:[2001:DB8::1]:1-256", ("[2001:db8::1]", 1, 256)),
        ("NETWORK_CONNECT:0.example.com:1", ("0.example.com", 1, 1)),
        ("NETWORK_CONNECT:198.19.0.1:1", ("198.19.0.1", 1, 1)),
    ],
)
def test_network_grants(capability: str, expected: tuple[str, int, int]) -> None:
    spec = compiled(capability)
    (grant,) = spec.egress
    assert (grant.host, grant.low, grant.high) == expected
    assert spec.grants == (grant.capability,)


@pytest.mark.parametrize(
    ("resource", "fault"),
    [
        ("a.example:*", "more than 256 ports"),
        ("a.example:1-257", "more than 256 ports"),
        ("localhost:80", "the script's own loopback"),
        ("x.localhost:80", "the script's own loopback"),
        ("192.0.2.53:53", "itself uses inside"),
        ("198.18.3.4:80", "itself uses inside"),
        ("0.0.0.0:80", "no address of a host"),
        ("[::]:80", "no address of a host"),
        ("224.0.0.251:80", "no address of a host"),
        ("239.1.2.3:80", "no address of a host"),
        ("255.255.255.255:80", "no address of a host"),
        ("[ff02::1]:80", "no address of a host"),
    ],
)
def test_network_grants_that_cannot_be_served(resource: str, fault: str) -> None:
    with pytest.raises(CapabilityError, match=fault) as caught:
        compiled(f"NETWORK_CONNECT:{resource}")
    assert caught.value.details == {"capability": f"NETWORK_CONNECT:{resource}"}
    assert caught.value.hint


@pytest.mark.parametrize(
    "grants",
    [
        [f"NETWORK_CONNECT:h{n}.example:443" for n in range(201)],
        [f"NETWORK_CONNECT:h{n}.example:1-256" for n in range(5)],
    ],
)
def test_too_many_network_grants(grants: list[str]) -> None:
    assert len(compiled(*grants[:4]).egress) == 4
    with pytest.raises(CapabilityError, match="more than 200 network grants or 1024 ports"):
        compiled(*grants)


def test_network_limits_are_carried_over() -> None:
    context = ExecutionContext(
        egress_connections=3, egress_bytes=4, egress_idle_seconds=5, wall_seconds=6
    )
    limits = compiled("NETWORK_CONNECT:a.example:1", context=context).egress_limits
    assert (limits.at_once, limits.total_bytes) == (3, 4)
    assert (limits.idle_seconds, limits.connection_seconds) == (5, 6)


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ("FILE_READ:/data/a.txt", ("/data/a.txt", "file", False)),
        ("FILE_WRITE:/data/a.txt", ("/data/a.txt", "file", True)),
        ("FILE_READ:/data/**", ("/data", "tree", False)),
        ("FILE_WRITE:/data/**", ("/data", "tree", True)),
        ("FILE_READ:/data/*.csv", ("/data/*.csv", "glob", False)),
        ("FILE_READ:/data/?/x", ("/data/?/x", "glob", False)),
        ("FILE_READ:/etc/ssl/**", ("/etc/ssl", "tree", False)),
        ("FILE_READ:/etc/hosts", ("/etc/hosts", "file", False)),
        ("FILE_READ:/processes/x", ("/processes/x", "file", False)),
    ],
)
def test_file_grants(capability: str, expected: tuple[str, str, bool]) -> None:
    (grant,) = compiled(capability).files
    path, kind, writable = expected
    assert grant == FileGrant(path=path, kind=kind, writable=writable, capability=capability)  # type: ignore[arg-type]


def test_shallow_paths_come_first_and_grants_are_recorded() -> None:
    spec = compiled("FILE_READ:/a/b/c", "FILE_WRITE:/z/**", "FILE_READ:/a/**", "FILE_READ:/z/**")
    assert [(g.path, g.writable) for g in spec.files] == [
        ("/a", False), ("/z", False), ("/z", True), ("/a/b/c", False),
    ]  # fmt: skip
    assert spec.grants == (
        "FILE_READ:/a/**", "FILE_READ:/a/b/c", "FILE_READ:/z/**", "FILE_WRITE:/z/**",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("grants", "context", "expected"),
    [
        ((), {}, 50_000_000),
        (("MEMORY:128MiB",), {}, 128 * MIB),
        (("MEMORY:256MiB",), {}, 256 * MIB),
        (("MEMORY:64MiB", "MEMORY:128MiB"), {}, 128 * MIB),
        (("MEMORY:1MB",), {}, 50_000_000),
        ((), {"memory_bytes": 45_000_000}, 45_000_000),
        ((), {"default_memory_bytes": 60_000_000}, 60_000_000),
    ],
)
def test_memory(grants: tuple[str, ...], context: dict[str, int], expected: int) -> None:
    assert compiled(*grants, context=ExecutionContext(**context)).memory_bytes == expected


def test_memory_past_the_ceiling() -> None:
    with pytest.raises(CapabilityError, match="more than the ceiling") as caught:
        compiled("MEMORY:257MiB")
    assert caught.value.details == {
        "capability": "MEMORY:257MiB",
        "ceiling_bytes": 256 * MIB,
    }
    assert caught.value.hint


def test_what_cannot_be_enforced_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {CapabilityType.MEMORY: "how"}
    monkeypatch.setattr(compile, "ENFORCEMENT", known)
    assert compiled("MEMORY:64MiB")
    with pytest.raises(CapabilityError, match="cannot be enforced") as caught:
        compiled("FILE_READ:/data/a.txt")
    assert caught.value.details == {"capability": "FILE_READ:/data/a.txt"}
    assert caught.value.hint == "enforced today: MEMORY"


def test_every_type_is_enforced_or_refused_for_a_reason_of_its_own() -> None:
    assert set(ENFORCEMENT) == set(CapabilityType)


class TestDatabases:
    FILE, SERVER = "sqlite:/data/app.db", "postgres://reader@db.example.com:5432/sales"

    def test_an_sqlite_database_is_copied(self) -> None:
        spec = compiled(f"DATABASE_READ:{self.FILE}", "DATABASE_READ:sqlite:/a.db")
        assert [grant.path for grant in spec.databases] == ["/a.db", "/data/app.db"]
        assert spec.databases[1].capability == f"DATABASE_READ:{self.FILE}"
        assert (spec.files, spec.egress, spec.secrets, spec.servers) == ((), (), (), ())
        assert "PGPASSFILE" not in dict(spec.environment)

    def test_a_role_is_a_server_and_a_password(self) -> None:
        capability = f"DATABASE_WRITE:{self.SERVER}"
        spec = compiled(capability, "SECRET_ACCESS:TOKEN")
        (server,), (egress,) = spec.servers, spec.egress
        assert (server.host, server.port, server.role, server.database) == (
            "db.example.com", 5432, "reader", "sales",
        )  # fmt: skip
        assert (egress.host, egress.low, egress.high, egress.capability) == (
            "db.example.com", 5432, 5432, capability,
        )  # fmt: skip
        assert spec.secrets == ("TOKEN", "pg_reader")
        assert dict(spec.environment)["PGPASSFILE"] == "/run/secrets/pgpass"
        own = compiled(capability, environment={"PGPASSFILE": "/tmp/x"})
        assert dict(own.environment)["PGPASSFILE"] == "/tmp/x"

    @pytest.mark.parametrize(
        ("capability", "why"),
        [
            (f"DATABASE_WRITE:{FILE}", "would corrupt the file"),
            (f"DATABASE_READ:{SERVER}", "the server's to decide"),
        ],
    )
    def test_what_nobody_can_enforce_is_refused(self, capability: str, why: str) -> None:
        with pytest.raises(CapabilityError, match="cannot be enforced") as caught:
            compiled(capability)
        assert why in caught.value.message
        assert caught.value.details == {"capability": capability}
        assert "grant `DATABASE_" in str(caught.value.hint)

    @pytest.mark.parametrize(
        "path", ["/proc/x", "/run/secrets/x", f"{STATE}/x.db", f"{POLICIES}/registry.db"]
    )
    def test_no_database_is_where_no_grant_reaches(self, path: str) -> None:
        with pytest.raises(CapabilityError, match="which no grant may") as caught:
            compiled(f"DATABASE_READ:sqlite:{path}", **AREAS)
        assert caught.value.hint

    def test_a_server_that_cannot_be_served(self) -> None:
        with pytest.raises(CapabilityError, match="the script's own loopback"):
            compiled("DATABASE_WRITE:postgres://r@localhost:5432/x")

    @pytest.mark.parametrize("path", ["/data", "/data/app.db"])
    def test_no_database_lies_in_a_mask(self, path: str) -> None:
        capability = f"DATABASE_READ:{self.FILE}"
        with pytest.raises(CapabilityError, match="is masked by") as caught:
            compiled(capability, masks=(Mask(path=path, reason="closed"),))
        assert caught.value.details == {"capability": capability, "mask": path}
        assert compiled(capability, masks=(Mask(path="/data/app", reason="closed"),)).databases

    def test_too_many(self) -> None:
        grants = [f"DATABASE_READ:sqlite:/{n}.db" for n in range(9)]
        assert len(compiled(*grants[:8]).databases) == 8
        with pytest.raises(CapabilityError, match="more than 8 databases"):
            compiled(*grants)

    def test_the_name_of_the_password_file_is_taken(self) -> None:
        assert compiled("SECRET_ACCESS:pgpass").secrets == ("pgpass",)
        with pytest.raises(CapabilityError, match="passwords of databases are put"):
            compiled("SECRET_ACCESS:pgpass", f"DATABASE_WRITE:{self.SERVER}")


def test_components_are_shown_by_name() -> None:
    spec = compiled("REGISTRY_READ:report", "REGISTRY_READ:data-*")
    assert [grant.pattern for grant in spec.registry] == ["data-*", "report"]
    assert spec.registry[1].capability == "REGISTRY_READ:report"
    assert spec.files == ()


def test_components_are_proposed_by_name() -> None:
    spec = compiled("REGISTRY_WRITE:report", "REGISTRY_WRITE:data-*")
    (outlet,) = spec.outlets
    assert (outlet.path, outlet.capability) == ("/registry/out", "REGISTRY_WRITE")
    assert spec.registry == ()
    with pytest.raises(CapabilityError, match="names no component"):
        compiled("REGISTRY_WRITE:a/b")


@pytest.mark.parametrize("resource", ["Report", "a/b", "report@1.0.0", "a b", "x" * 65])
def test_what_names_no_component_is_refused(resource: str) -> None:
    with pytest.raises(CapabilityError, match="names no component") as caught:
        compiled(f"REGISTRY_READ:{resource}")
    assert caught.value.details == {"capability": f"REGISTRY_READ:{resource}"}


def test_secrets_are_names() -> None:
    spec = compiled("SECRET_ACCESS:b-key", "SECRET_ACCESS:A_TOKEN")
    assert spec.secrets == ("A_TOKEN", "b-key")
    assert spec.grants == ("SECRET_ACCESS:A_TOKEN", "SECRET_ACCESS:b-key")
    assert spec.files == compiled().files
    assert CapabilityType.SECRET_ACCESS in ENFORCEMENT


@pytest.mark.parametrize("host", ["api.example.com", "*.example.com", "10.0.0.1"])
def test_a_secret_for_a_host_alone_cannot_be_enforced(host: str) -> None:
    capability = f"SECRET_ACCESS:TOKEN@{host}"
    with pytest.raises(CapabilityError, match="cannot be enforced") as caught:
        compiled("SECRET_ACCESS:OTHER", capability)
    assert "TLS" in caught.value.message
    assert caught.value.details == {"capability": capability}
    assert "grant `SECRET_ACCESS:TOKEN`" in str(caught.value.hint)


@pytest.mark.parametrize(
    "resource",
    [
        "/proc/**", "/proc/cpuinfo", "/sys/**", "/dev/null", "/dev/**", "/proc/*/environ",
        "/guest/x", "/grants/**", "/opt/omnibase/**", "/opt/omnibase/lib/x.py", "/run/script/**",
        "/registry/x", "/registry/**", "/run/secrets/**", "/run/secrets/TOKEN", "/run/secrets/*",
        "/.lookup/x", STATE + "/**", STATE + "/runs/x", STATE + "/images/*",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["FILE_READ", "FILE_WRITE"])
def test_no_grant_reaches_these(kind: str, resource: str) -> None:
    with pytest.raises(CapabilityError, match="which no grant may") as caught:
        compiled(f"{kind}:{resource}", **AREAS)
    assert resource.startswith(caught.value.details["area"])
    assert caught.value.hint


@pytest.mark.parametrize("resource", ["/etc/**", "/opt/**", "/run/**", "/tmp/**", "/lib64/**"])
def test_no_tree_covers_the_guests_own(resource: str) -> None:
    with pytest.raises(CapabilityError, match="would cover the sandbox's own") as caught:
        compiled(f"FILE_READ:{resource}")
    assert caught.value.hint


def test_the_root_is_no_tree() -> None:
    with pytest.raises(CapabilityError):
        compiled("FILE_READ:/**")


@pytest.mark.parametrize("resource", ["/data/*/**", "/d?ta/**"])
def test_a_wildcard_above_a_tree(resource: str) -> None:
    with pytest.raises(CapabilityError, match="has a wildcard above"):
        compiled(f"FILE_READ:{resource}")


def test_policies_can_be_read_and_not_written() -> None:
    assert compiled(f"FILE_READ:{POLICIES}/**", **AREAS).files
    for resource in (f"{POLICIES}/**", f"{POLICIES}/x.cedar.json", f"{POLICIES}/*.cedar.json"):
        with pytest.raises(CapabilityError, match="which no grant may"):
            compiled(f"FILE_WRITE:{resource}", **AREAS)
    assert compiled("FILE_WRITE:/srv/reg*/policies/x", **AREAS).read_only_areas == (POLICIES,)


def test_what_a_tree_to_be_read_merely_contains_is_masked() -> None:
    assert compiled("FILE_READ:/var/lib/**", **AREAS).masks == (
        Mask(path=STATE, reason="the sandbox's own state and stores of secrets are never visible"),
    )
    assert compiled("FILE_READ:/srv/**", **AREAS).masks == ()
    assert compiled("FILE_READ:/var/libs/**", **AREAS).masks == ()


@pytest.mark.parametrize(("tree", "area"), [("/srv", POLICIES), ("/var/lib", STATE)])
def test_a_tree_to_be_written_must_not_contain_it(tree: str, area: str) -> None:
    with pytest.raises(CapabilityError, match=f"contains `{area}`") as caught:
        compiled(f"FILE_WRITE:{tree}/**", **AREAS)
    assert "beside it" in str(caught.value.hint)
    assert compiled(f"FILE_WRITE:{tree}s/**", **AREAS).masks == ()


def test_masks_of_a_policy_are_kept_once_and_sorted() -> None:
    masks = (Mask(path="/b", reason="x"), Mask(path="/a", reason="y"), Mask(path="/b", reason="x"))
    assert [mask.path for mask in compiled(masks=masks).masks] == ["/a", "/b"]


def test_areas_for_globs_reach_the_spec() -> None:
    areas = compiled("FILE_READ:/v?r/*/x", **AREAS).refused_areas
    assert {"/proc", "/sys", "/dev", "/guest", "/opt/omnibase", STATE} <= set(areas)


class TestEnvironment:
    def test_fixed_variables(self) -> None:
        assert dict(compiled().environment) == {
            "HOME": "/tmp", "LANG": "C.UTF-8", "LOGNAME": "nobody", "PATH": "/opt/omnibase/bin",
            "TMPDIR": "/tmp", "TZ": "UTC", "USER": "nobody",
        }  # fmt: skip

    def test_variables_of_the_caller(self) -> None:
        spec = compiled(environment={"TZ": "Europe/Rome", "_x9": "", "API": "ü=1\n"})
        environment = dict(spec.environment)
        assert (environment["TZ"], environment["_x9"], environment["API"]) == (
            "Europe/Rome", "", "ü=1\n",
        )  # fmt: skip
        assert list(spec.environment) == sorted(spec.environment)

    @pytest.mark.parametrize("name", ["", "9A", "A-B", "A=B", "A B", "É", "A\0", "A" * 129, "A\n"])
    def test_names_that_are_none(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match="is not the name") as caught:
            compiled(environment={name: "x"})
        assert caught.value.hint
        assert len(caught.value.message) < 200

    @pytest.mark.parametrize(
        "name", ["PYTHONPATH", "PYTHONSTARTUP", "PYTHONX", "LD_PRELOAD", "LD_AUDIT", "GCONV_PATH"]
    )
    def test_variables_that_steer_the_interpreter(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match="would steer the interpreter") as caught:
            compiled(environment={name: "x"})
        assert caught.value.hint

    @pytest.mark.parametrize("value", ["a\0b", "\udcff", "\ud800", 5, None, b"x"])
    def test_values_that_are_none(self, value: Any) -> None:
        with pytest.raises(ConfigurationError, match="the value of `A`"):
            compiled(environment={"A": value})

    def test_the_size_is_bounded(self) -> None:
        assert compiled(environment={"A": "x" * 130_000})
        with pytest.raises(ConfigurationError, match="larger than 131072 bytes") as caught:
            compiled(environment={"A": "x" * 131_073})
        assert caught.value.hint


class TestArtifacts:
    def test_grants_become_names_and_an_outlet(self) -> None:
        spec = compiled(
            "ARTIFACT_READ:b/*", "ARTIFACT_READ:a", "ARTIFACT_WRITE:c", "ARTIFACT_WRITE:d*",
            context=ExecutionContext(artifact_count=3, artifact_bytes=5),
        )  # fmt: skip
        assert spec.artifacts == ("a", "b/*")
        (outlet,) = spec.outlets
        assert (outlet.path, outlet.capability) == ("/artifacts/out", "ARTIFACT_WRITE")
        assert (outlet.max_files, outlet.max_bytes) == (3, 5)

    def test_without_them_there_is_neither(self) -> None:
        assert (compiled().artifacts, compiled().outlets) == ((), ())

    @pytest.mark.parametrize("kind", ["ARTIFACT_READ", "ARTIFACT_WRITE"])
    @pytest.mark.parametrize("name", ["out", "out/x", ".x", "a/.x", "a\\b", "x" * 201])
    def test_a_name_that_no_artifact_has_is_refused(self, kind: str, name: str) -> None:
        with pytest.raises(CapabilityError, match="names no artifact: the name ") as error:
            compiled(f"{kind}:{name}")
        assert error.value.details == {"capability": f"{kind}:{name}"}

    def test_the_guests_own_place_is_none_for_files(self) -> None:
        for grant in ("FILE_READ:/artifacts/**", "FILE_WRITE:/artifacts/out/x"):
            with pytest.raises(CapabilityError, match="reaches `/artifacts`"):
                compiled(grant)
