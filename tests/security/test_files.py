"""Files: what is not granted is not there, what is granted is there and no more."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from omnibase import Capability, CapabilityError, CapabilitySet, ExecutionContext
from omnibase.core.sandbox import _runsc, _sys, image, state
from omnibase.core.sandbox.compile import compile_spec
from omnibase.core.sandbox.resolving import MAX_GLOB_MATCHES
from omnibase.core.sandbox.spec import Mask
from tests.helpers.warm import always_warm
from tests.security.harness import Outcome, SandboxFixture

pytestmark = [pytest.mark.sandbox, pytest.mark.capabilities]

_REFUSED = {"EACCES", "ENOENT", "EPERM", "EXDEV", "ENOTDIR", "ELOOP"}
_SECRET = "bytes of the host that nobody granted"


def _secret(area: Path, name: str = "secret.txt") -> Path:
    path = area / name
    path.write_text(_SECRET)
    return path


@pytest.mark.threat("T-EXEC-01")
def test_no_way_round_reaches_a_host_file(sandbox: SandboxFixture, area: Path) -> None:
    secret = _secret(area)

    outcome = sandbox("escapes", args=[str(secret)], on_violation="record")

    assert _SECRET not in outcome.stdout
    assert set(outcome.report.values()) <= _REFUSED
    outcome.assert_violation(f"FILE_READ:{secret}", operation="open")
    for link in ("/tmp/link", f"/tmp/root{secret}"):
        outcome.assert_violation(f"FILE_READ:{link}", operation="open")
    outcome.assert_violation(f"FILE_READ:/proc/1/root{secret}")


@pytest.mark.threat("T-EXEC-01")
@pytest.mark.parametrize("target", ["/etc/shadow", "/etc/absent-4f1c", "/nowhere-4f1c/file"])
def test_no_way_round_reaches_what_the_guest_does_not_have(
    sandbox: SandboxFixture, target: str
) -> None:
    outcome = sandbox("escapes", args=[target], on_violation="record")

    assert set(outcome.report.values()) <= _REFUSED
    violation = outcome.assert_violation(f"FILE_READ:{target}", operation="open")
    # The others are told under the name that the script used.
    elsewhere = ("by_sym", "by_hard", "proc 1", "by_reopening")
    named = [label for label in outcome.report if not label.startswith(elsewhere)]
    assert violation.count >= len(named)
    if target == "/etc/shadow":
        for link in ("/tmp/link", "/tmp/root/etc/shadow"):
            outcome.assert_violation(f"FILE_READ:{link}", operation="open")


@pytest.mark.threat("T-EXEC-01")
def test_every_way_round_reaches_a_granted_file(sandbox: SandboxFixture, area: Path) -> None:
    secret = _secret(area)

    outcome = sandbox("escapes", [f"FILE_READ:{secret}"], args=[str(secret)], on_violation="record")

    ways = {label for label, text in outcome.report.items() if text in (_SECRET, "opened")}
    assert ways == set(outcome.report) - {"proc 1 root", "by_hard_link"}
    assert {v.capability for v in outcome.violations} <= {None, f"FILE_READ:/proc/1/root{secret}"}


@pytest.mark.threat("T-EXEC-02")
def test_proc_and_dev_belong_to_others(sandbox: SandboxFixture) -> None:
    outcome = sandbox("proc_walk", on_violation="record")

    report = outcome.report
    descriptors = report.pop("own descriptors")
    processes = report.pop("processes")
    assert set(report.values()) <= {"EACCES", "ENOENT", "EPERM"}, report
    # The script's world: three standard streams, PID 1 and itself.
    assert sorted(descriptors) == ["0", "1", "2", "3"]
    assert descriptors["3"] == "the listing"
    assert processes == [1, 2]
    for path in ("/proc/1/root", "/proc/1/fd/3", "/proc/1/mem"):
        outcome.assert_violation(f"FILE_READ:{path}", operation="open")
    for path in ("/proc/1/fd/3", "/proc/self/mem", "/proc/sys/kernel/hostname"):
        outcome.assert_violation(f"FILE_WRITE:{path}", operation="open")


@pytest.mark.threat("T-EXEC-02")
def test_a_read_grant_cannot_be_written(sandbox: SandboxFixture, area: Path) -> None:
    (area / "existing").write_text("kept")
    (area / "doomed").write_text("kept")

    outcome = sandbox("write_grant", [f"FILE_READ:{area}/**"], args=[str(area)])

    assert outcome.report["read existing"] == "kept"
    for label in ("overwrite existing", "create", "make directory", "remove", "plant a link"):
        assert outcome.report[label] in ("EROFS", "EACCES"), label
    for name in ("existing", "created"):
        outcome.assert_violation(f"FILE_WRITE:{area}/{name}", operation="open")
    for operation in ("mkdir", "unlink", "symlink"):
        outcome.assert_violation(operation=operation)
    outcome.assert_raised()
    assert sorted(os.listdir(area)) == ["doomed", "existing"]
    assert (area / "existing").read_text() == "kept"


@pytest.mark.threat("T-EXEC-02")
@pytest.mark.parametrize("owner", [0, 1234, 65534])
def test_a_write_grant_works_for_any_owner(sandbox: SandboxFixture, area: Path, owner: int) -> None:
    inside = area / "granted"
    inside.mkdir(mode=0o700)
    for name in ("existing", "doomed"):
        (inside / name).write_text("kept")
        os.chown(inside / name, owner, owner)
    os.chown(inside, owner, owner)

    outcome = sandbox("write_grant", [f"FILE_WRITE:{inside}/**"], args=[str(inside)])

    report = outcome.report
    assert report["read existing"] == "kept"
    assert report["overwrite existing"] == "7"
    assert report["large file"] == str(8 << 20)
    assert {report[label] for label in ("make directory", "rename", "remove")} == {"None"}
    assert (inside / "existing").read_text() == "changed"
    assert (inside / "directory" / "inner").read_text() == "new"
    assert not (inside / "doomed").exists()
    for path in (inside / "renamed", inside / "directory", inside / "directory" / "inner"):
        assert (path.stat().st_uid, path.stat().st_gid) == (owner, owner)
    # What the directory must not be good for.
    assert report["execute"] == "EACCES"
    outcome.assert_violation("EXTERNAL_COMMAND:renamed", operation="execve")
    assert report["read the planted link"] in _REFUSED
    outcome.assert_violation(f"FILE_READ:{inside}/link", operation="open")
    assert report["write outside"] in _REFUSED
    outcome.assert_violation(f"FILE_WRITE:{area}/outside", operation="open")
    assert not (area / "outside").exists()


@pytest.mark.threat("T-EXEC-02")
def test_the_granted_tree_outlives_the_run(sandbox: SandboxFixture, area: Path) -> None:
    """Tidying up after a run must not reach through its mounts."""
    (area / "deep").mkdir()
    (area / "deep" / "file").write_text("precious")

    sandbox("read_files", [f"FILE_WRITE:{area}/**"], args=[f"{area}/deep/file"]).assert_clean()

    assert (area / "deep" / "file").read_text() == "precious"


@pytest.mark.threat("T-EXEC-02")
def test_no_set_id_bit_reaches_the_host(sandbox: SandboxFixture, area: Path) -> None:
    outcome = sandbox(
        "set_id_bits", [f"FILE_WRITE:{area}/**"], args=[str(area)], on_violation="record"
    )

    for path in area.iterdir():
        assert not path.lstat().st_mode & (stat.S_ISUID | stat.S_ISGID), path
    # Each way but the call that gVisor does not have ends its process.
    assert {label for label, status in outcome.report.items() if status != 31} == {"fchmodat2"}
    outcome.assert_violation(operation="seccomp")
    assert (area / "by-chmod").exists()  # the directory itself could be written


@pytest.mark.threat("T-ORCH-05")
@pytest.mark.parametrize("path", ["/proc", "/sys", "/dev", "/proc/1", "/dev/shm", "/sys/kernel"])
@pytest.mark.parametrize("kind", ["FILE_READ", "FILE_WRITE"])
def test_refused_areas(sandbox: SandboxFixture, kind: str, path: str) -> None:
    for grant in (f"{kind}:{path}/**", f"{kind}:{path}/x"):
        outcome = sandbox("read_files", [grant])
        assert isinstance(outcome.error, CapabilityError)
        assert grant in outcome.error.message
        assert outcome.result is None


@pytest.mark.threat("T-ORCH-05")
def test_the_state_directory_is_refused(sandbox: SandboxFixture, state_dir: Path) -> None:
    for resource in (f"{state_dir}/**", f"{state_dir}/runs/**", f"{state_dir}/images/x"):
        outcome = sandbox("read_files", [f"FILE_READ:{resource}"])
        assert isinstance(outcome.error, CapabilityError)
        assert str(state_dir) in outcome.error.message


@pytest.mark.threat("T-ORCH-05")
def test_a_glob_does_not_reach_a_refused_area(sandbox: SandboxFixture, state_dir: Path) -> None:
    lock = next((state_dir / "images").glob("*.json"))
    for resource in (f"/*/{state_dir.name}/images/{lock.name}", "/*/self/environ", "/p??c/version"):
        outcome = sandbox("read_files", [f"FILE_READ:{resource}"])
        assert isinstance(outcome.error, CapabilityError), resource
        assert "matches no file" in outcome.error.message


@pytest.mark.threat("T-ORCH-05")
def test_a_tree_around_the_state_directory_is_masked(
    sandbox: SandboxFixture, area: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = area / "st"
    monkeypatch.setenv("OMNIBASE_STATE_DIR", str(inner))
    _secret(area)

    outcome = sandbox(
        "read_files",
        [f"FILE_READ:{area}/**"],
        args=[f"{area}/secret.txt", f"{inner}/platform.json", f"{inner}/runs/x"],
        on_violation="record",
    )

    assert outcome.report[f"{area}/secret.txt"] == _SECRET
    assert outcome.report[f"listing of {inner}"] == []
    violation = outcome.assert_violation(f"FILE_READ:{inner}/platform.json")
    assert violation.reason is not None
    assert sorted(os.listdir(inner)) != []
    assert os.listdir(inner / "runs") == []


@pytest.mark.threat("T-REG-04")
def test_the_policy_directory_cannot_be_granted_for_writing(
    sandbox: SandboxFixture, area: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policies = area / "policies"
    policies.mkdir()
    policy = policies / "x.cedar.json"
    policy.write_text("{}")
    monkeypatch.setenv("OMNIBASE_REGISTRY", str(area))

    for resource in (policy, f"{policies}/**", f"{policies}/*.json", f"{area}/pol*/x.cedar.json"):
        outcome = sandbox("read_files", [f"FILE_WRITE:{resource}"])
        assert isinstance(outcome.error, CapabilityError), resource
        assert outcome.result is None
    outcome = sandbox("read_files", [f"FILE_READ:{policies}/**"], args=[str(policy)])
    outcome.assert_clean()
    assert outcome.report[str(policy)] == "{}"


@pytest.mark.threat("T-ORCH-05")
def test_a_path_that_does_not_exist(sandbox: SandboxFixture, area: Path) -> None:
    for grant in (f"FILE_READ:{area}/none", f"FILE_READ:{area}/none/**", f"FILE_READ:{area}/*.x"):
        outcome = sandbox("read_files", [grant])
        assert isinstance(outcome.error, CapabilityError)
        assert str(area) in outcome.error.message
        assert outcome.events[-1].name != "SandboxExit" or outcome.result is None


@pytest.mark.threat("T-EXEC-20")
def test_a_symbolic_link_is_refused_by_name(sandbox: SandboxFixture, area: Path) -> None:
    real = area / "real"
    real.mkdir()
    _secret(real, "file")
    (area / "link-to-directory").symlink_to(real)
    (area / "link-to-file").symlink_to(real / "file")

    for granted, link in (
        ("link-to-file", "link-to-file"),
        ("link-to-directory/file", "link-to-directory"),
        ("link-to-directory/**", "link-to-directory"),
    ):
        outcome = sandbox("read_files", [f"FILE_READ:{area}/{granted}"])
        assert isinstance(outcome.error, CapabilityError)
        assert f"`{area}/{link}`" in outcome.error.message
        assert str(real) in outcome.error.message
        assert outcome.result is None


@pytest.mark.threat("T-EXEC-01")
def test_a_link_inside_a_granted_tree_leads_nowhere(sandbox: SandboxFixture, area: Path) -> None:
    outside, inside = area / "outside", area / "inside"
    outside.mkdir()
    inside.mkdir()
    _secret(outside, "file")
    (inside / "link").symlink_to(outside / "file")
    (inside / "up").symlink_to("../outside/file")

    outcome = sandbox(
        "read_files", [f"FILE_READ:{inside}/**"], args=[f"{inside}/link", f"{inside}/up"]
    )

    assert _SECRET not in outcome.stdout
    # Not told from a file that is missing in the tree: denied, but no violation.
    for name in ("link", "up"):
        assert outcome.report[f"{inside}/{name}"] in _REFUSED


@pytest.mark.threat("T-ORCH-05")
def test_special_files_are_refused(sandbox: SandboxFixture, area: Path) -> None:
    os.mkfifo(area / "fifo")
    os.mknod(area / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))

    for name in ("fifo", "null"):
        outcome = sandbox("read_files", [f"FILE_READ:{area}/{name}"])
        assert isinstance(outcome.error, CapabilityError)
        assert name in outcome.error.message
    # Below a granted tree they are seen, and cannot be opened.
    outcome = sandbox(
        "read_files", [f"FILE_READ:{area}/**"], args=[f"{area}/null"], on_violation="record"
    )
    assert outcome.report[f"{area}/null"] in ("EACCES", "EPERM", "ENXIO", "ENODEV")


@pytest.mark.threat("T-ORCH-05")
def test_a_glob_is_bounded(sandbox: SandboxFixture, area: Path) -> None:
    for number in range(MAX_GLOB_MATCHES + 1):
        (area / f"{number}.csv").touch()

    outcome = sandbox("read_files", [f"FILE_READ:{area}/*.csv"])

    assert isinstance(outcome.error, CapabilityError)
    assert str(MAX_GLOB_MATCHES) in outcome.error.message
    assert outcome.result is None


@pytest.mark.threat("T-ORCH-13")
def test_a_glob_shows_what_matches(sandbox: SandboxFixture, area: Path) -> None:
    for name in ("one.csv", "two.csv", "three.txt"):
        (area / name).write_text(name)
    paths = [f"{area}/{name}" for name in ("one.csv", "two.csv", "three.txt")]

    outcome = sandbox("read_files", [f"FILE_READ:{area}/*.csv"], args=paths)

    assert [outcome.report[path] for path in paths[:2]] == ["one.csv", "two.csv"]
    assert outcome.report[paths[2]] in _REFUSED
    outcome.assert_violation(f"FILE_READ:{paths[2]}")


@pytest.mark.threat("T-EXEC-20")
def test_swapping_a_file_for_a_link_never_wins(sandbox: SandboxFixture, area: Path) -> None:
    """Between the check and the mount: the file granted, or a refusal, but never the secret."""
    secret = _secret(area)
    granted, spare = area / "granted", area / "spare"
    stop = threading.Event()
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        while not stop.is_set():
            for _ in range(4):  # mostly a link, so that most tries end before a start
                spare.symlink_to(secret)
                spare.replace(granted)
            spare.write_text("harmless")
            spare.replace(granted)
            swaps += 1

    swapper = threading.Thread(target=swap)
    swapper.start()
    refused = read = 0
    tries = 40 if always_warm() else 200  # each starts a sandbox then, before it is refused
    try:
        for _ in range(tries):
            outcome = sandbox(
                "read_files", [f"FILE_READ:{granted}"], args=[str(granted)], on_violation="record"
            )
            if isinstance(outcome.error, CapabilityError):
                refused += 1
                continue
            assert outcome.report[str(granted)] in ("harmless", "")
            assert _SECRET not in outcome.stdout
            read += 1
    finally:
        stop.set()
        swapper.join()
    assert refused > 0
    assert refused + read == tries
    assert swaps > tries


def _masked_tree(area: Path) -> tuple[Mask, ...]:
    (area / "deep" / "secret").mkdir(parents=True)
    (area / "deep" / "secret" / "key").write_text(_SECRET)
    (area / "hidden.txt").write_text(_SECRET)
    (area / "open.txt").write_text("open")
    return (
        Mask(path=f"{area}/deep/secret", reason="kept back"),
        Mask(path=f"{area}/hidden.txt", reason="kept back"),
    )


@pytest.mark.threat("T-ORCH-02")
@pytest.mark.parametrize("kind", ["FILE_READ", "FILE_WRITE"])
def test_masks(sandbox: SandboxFixture, area: Path, kind: str) -> None:
    masks = _masked_tree(area)

    outcome = sandbox(
        "mask_bypass", [f"{kind}:{area}/**"], args=[str(area)], masks=masks, on_violation="record"
    )

    assert outcome.report["read open file"] == "open"
    assert _SECRET not in outcome.stdout
    assert (area / "deep" / "secret" / "key").read_text() == _SECRET
    assert (area / "hidden.txt").read_text() == _SECRET
    for path in ("deep/secret/key", "hidden.txt"):
        violation = outcome.assert_violation(f"FILE_READ:{area}/{path}", operation="open")
        assert violation.reason == "kept back"


@pytest.mark.threat("T-ORCH-02")
def test_a_mask_holds_in_the_next_run(sandbox: SandboxFixture, area: Path) -> None:
    masks, grants = _masked_tree(area), [f"FILE_WRITE:{area}/**"]
    for _ in range(2):
        outcome = sandbox(
            "mask_bypass", grants, args=[str(area)], masks=masks, on_violation="record"
        )
        assert _SECRET not in outcome.stdout


@pytest.mark.threat("T-ORCH-02")
def test_a_mask_that_cannot_be_applied_is_an_error(area: Path, sandbox: SandboxFixture) -> None:
    (area / "real").mkdir()
    (area / "link").symlink_to("real")

    outcome = sandbox(
        "read_files",
        [f"FILE_READ:{area}/**"],
        masks=(Mask(path=f"{area}/link", reason="kept back"),),
    )

    assert isinstance(outcome.error, CapabilityError)
    assert f"`{area}/link`" in outcome.error.message


@pytest.mark.threat("T-ORCH-02")
def test_masks_are_in_the_spec(state_dir: Path) -> None:
    mask = Mask(path="/data/x", reason="kept back")

    spec = compile_spec(
        CapabilitySet([Capability.parse("FILE_READ:/data/**")]),
        ExecutionContext(),
        image.ensure_image(state.state_dir()),
        masks=(mask,),
    )

    assert spec.masks == (mask,)


@pytest.mark.threat("T-EXEC-02")
def test_a_set_id_file_is_not_overwritten_in_place(sandbox: SandboxFixture, area: Path) -> None:
    tool = area / "tool"
    for grant in (f"{tool}", f"{area}/**", f"{area}/t*"):
        tool.write_text("original")
        tool.chmod(0o4755)

        sandbox("overwrite_mapped", [f"FILE_WRITE:{grant}"], args=[str(tool)])

        assert tool.read_text() == "original" or not tool.stat().st_mode & stat.S_ISUID, grant


@pytest.mark.threat("T-ORCH-05")
@pytest.mark.parametrize("kind", ["proc", "sysfs"])
def test_a_kernel_file_system_elsewhere_is_refused(
    sandbox: SandboxFixture, area: Path, kind: str
) -> None:
    """A chroot's `/proc` is the kernel's as well; mounted here for this test's thread only."""
    inner = area / "chroot" / kind
    inner.mkdir(parents=True)
    probe = inner / {"proc": "version", "sysfs": "kernel/ostype"}[kind]
    outcomes: dict[str, Outcome] = {}

    def in_own_namespace() -> None:
        _runsc.enter_mount_namespace()
        _sys.mount(kind, str(inner), kind, 0)
        for grant in (f"{area}/**", f"{inner}/**", f"{probe}", f"{area}/*/*/*"):
            outcomes[grant] = sandbox(
                "read_files", [f"FILE_READ:{grant}"], args=[str(probe)], on_violation="record"
            )

    _runsc.in_new_thread(in_own_namespace)

    for grant, outcome in outcomes.items():
        if outcome.result is not None:
            assert outcome.report[str(probe)] in _REFUSED, grant
        else:
            assert isinstance(outcome.error, CapabilityError), grant
    assert len(outcomes) == 4


@pytest.mark.threat("T-EXEC-01")
def test_c_code_opens_no_more_than_python(sandbox: SandboxFixture, area: Path) -> None:
    secret = _secret(area)

    denied = sandbox("open_in_c", args=[str(secret)], on_violation="record")
    granted = sandbox("open_in_c", [f"FILE_READ:{secret}"], args=[str(secret)])

    for label in ("ssl certificate", "ssl authority", "ssl parameters"):
        assert denied.report[label] == "EACCES"
    assert denied.report["sqlite"] == "unable to open database file"
    assert "Permission denied" in denied.report["dlopen"]
    violation = denied.assert_violation(f"FILE_READ:{secret}", operation="open")
    # SQLite stops at the path's status: the script's runtime opens it in its stead.
    assert violation.count == 5
    # The file is none of what they look for: they read it to find that out.
    granted.assert_clean()
    for label, words in (
        ("ssl certificate", "SSL"),
        ("ssl authority", "certificate"),
        ("ssl parameters", "PEM"),
        ("sqlite", "file is not a database"),
        ("dlopen", "file too short"),
    ):
        assert words in granted.report[label], label


@pytest.mark.threat("T-ORCH-13")
@pytest.mark.parametrize("owner", [0, 1234, 65534])
def test_a_read_grant_works_for_any_owner(sandbox: SandboxFixture, area: Path, owner: int) -> None:
    """A grant opens what it names, private to its owner or not."""
    secret = _secret(area)
    os.chown(secret, owner, owner)
    secret.chmod(0o600)

    outcome = sandbox("read_files", [f"FILE_READ:{secret}"], args=[str(secret)])

    outcome.assert_clean()
    assert outcome.report[str(secret)] == _SECRET
    assert secret.stat().st_uid == owner


@pytest.mark.threat("T-EXEC-04")
def test_nothing_in_a_granted_tree_can_be_executed(sandbox: SandboxFixture) -> None:
    """A tree may hold programs: reading them is granted, and no more."""
    outcome = sandbox.source(
        b"import os\nprint(len(open('/usr/bin/env', 'rb').read()) > 0, flush=True)\n"
        b"os.execv('/usr/bin/env', ['env'])\n",
        ["FILE_READ:/usr/bin/**"],
    )

    assert outcome.stdout == "True\n"
    assert b"PermissionError" in outcome.finished.stderr
    outcome.assert_violation("EXTERNAL_COMMAND:env", operation="execve")
    outcome.assert_raised()


@pytest.mark.threat("T-EXEC-17")
def test_a_file_of_the_host_in_tmp_is_an_attempt(sandbox: SandboxFixture, tmp_path: Path) -> None:
    """The guest has a ``/tmp`` of its own, and yet asking for one of the host's is told."""
    secret = _secret(tmp_path)
    source = f"import json\ntry: print(open({str(secret)!r}).read())\nexcept OSError as e: print(e)"

    denied = sandbox.source(source.encode())
    assert _SECRET not in denied.stdout
    denied.assert_violation(f"FILE_READ:{secret}", operation="open")

    granted = sandbox.source(source.encode(), [f"FILE_READ:{secret}"])
    granted.assert_clean()
    assert _SECRET in granted.stdout


@pytest.mark.threat("T-ORCH-13")
def test_grants_within_grants_add_up(sandbox: SandboxFixture, area: Path) -> None:
    """The stronger of two grants holds, and the host's own modes stay as they are."""
    private = area / "private"
    inner = private / "inner"
    inner.mkdir(parents=True)
    private.chmod(0o700)
    (private / "file").write_text("kept")
    source = f"""
import json
outcomes = {{}}
for path in ({str(area / "new")!r}, {str(private / "new")!r}, {str(inner / "new")!r}):
    try:
        open(path, "w").close()
        outcomes[path] = "ok"
    except OSError as error:
        outcomes[path] = "refused"
outcomes["file"] = open({str(private / "file")!r}).read()
print(json.dumps(outcomes))
""".encode()

    def tried(*caps: str) -> list[str]:
        outcome = sandbox.source(source, list(caps), on_violation="record")
        for path in (area / "new", private / "new", inner / "new"):
            path.unlink(missing_ok=True)
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        report = outcome.report
        assert report.pop("file") == "kept"
        return list(report.values())

    tree, deep = f"{area}/**", f"{inner}/**"
    assert tried(f"FILE_READ:{tree}", f"FILE_READ:{private}/file") == ["refused"] * 3
    assert tried(f"FILE_READ:{tree}", f"FILE_WRITE:{deep}") == ["refused", "refused", "ok"]
    assert tried(f"FILE_WRITE:{tree}", f"FILE_READ:{deep}") == ["ok", "ok", "ok"]
