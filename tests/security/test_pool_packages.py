"""Pools with packages of their own: what is there, and imported, before there is a run."""

from __future__ import annotations

import contextlib
import gc
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import omnibase
from omnibase import (
    ConfigurationError,
    EventBus,
    ExecutionContext,
    PackageError,
    Pool,
    RunResult,
)
from omnibase import pools as pools_module
from omnibase.core.events import CollectingSink, LayerAttached, SandboxStart
from omnibase.core.packages.layer import prune
from tests.helpers.wheels import make_index, make_wheel

pytestmark = [pytest.mark.sandbox, pytest.mark.threat("T-EXEC-22", "T-EXEC-26")]

READY_SECONDS = 60
RECORD = ExecutionContext(on_violation="record")


def ready(pool: Pool, count: int | None = None) -> Pool:
    assert pool.wait_ready(count, READY_SECONDS), pool.stats()
    return pool


def problem(pool: Pool) -> str:
    """Waits until one of its sandboxes has failed; returns why."""
    deadline = time.monotonic() + READY_SECONDS
    while pool.stats().problem is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return str(pool.stats().problem)


def install(index: Path, **packages: str) -> omnibase.PackageLayer:
    """Makes a layer of modules with such sources."""
    wheels = [
        make_wheel(index / "files", name, files={f"{name}.py": source.encode()})
        for name, source in packages.items()
    ]
    make_index(index, *wheels)
    return omnibase.install_packages(list(packages))


def watched(run: Any, *arguments: Any, **options: Any) -> tuple[RunResult, list[Any]]:
    """Runs something with a bus of its own; returns what was on it as well."""
    bus, sink = EventBus(), CollectingSink()
    bus.subscribe(sink)
    result = run(*arguments, bus=bus, **options)
    bus.close()
    return result, [event.data for event in sink.events]


NUMPY = """
import sys
print("numpy" in sys.modules, file=sys.stderr)
import json, os
import numpy
with open("/proc/self/mounts") as mounts:
    points = [line.split()[1] for line in mounts]
print(json.dumps({
    "sum": int((numpy.arange(5) ** 2).sum()),
    "path": sys.path,
    "mounted": sum(point.endswith("/site-packages") for point in points),
    "grants": sorted(os.listdir("/")) + [os.path.exists("/grants/early-0")],
    "tasks": len(os.listdir("/proc/self/task")),
    "granted": open(sys.argv[1]).read(),
}))
for act in (lambda: open(numpy.__file__, "w"), lambda: open("/srv/not-granted"),
            lambda: os.unlink(numpy.__file__)):
    try:
        act()
        print("did")
    except OSError as error:
        print(error.errno)
"""
STATE = """
import numpy
print(numpy.random.rand(), numpy.random.get_state()[1][:8].tolist(), hash("x"))
"""


def test_numpy_is_there_before_the_script_is(area: Path) -> None:
    """Of the index that this machine's pip is configured to use."""
    layer = omnibase.install_packages(["numpy"])
    granted = area / "granted"
    granted.write_text("of this run")
    options = {
        "args": (str(granted),), "capabilities": [f"FILE_READ:{granted}"], "context": RECORD,
    }  # fmt: skip
    cold, cold_events = watched(omnibase.run, NUMPY, packages=layer, **options)
    with Pool(size=1) as pool:
        late, _ = watched(ready(pool).run, NUMPY, packages=layer, **options)
    with Pool(size=2, preload=("numpy",), packages=layer) as pool:
        assert pool.layer == layer
        warm, warm_events = watched(ready(pool).run, NUMPY, **options)
        again, _ = watched(ready(pool).run, NUMPY, packages=layer, **options)
        drawn = [ready(pool).run(STATE) for _ in range(2)]
    assert [run.stderr for run in (cold, late, warm, again)] == [
        b"False\n", b"False\n", b"True\n", b"True\n",
    ]  # fmt: skip
    assert [run.warm for run in (cold, late, warm, again, *drawn)] == [False] + 5 * [True]
    assert cold.stdout == late.stdout == warm.stdout == again.stdout
    told = json.loads(warm.stdout.splitlines()[0])
    assert (told["sum"], told["mounted"], told["granted"]) == (30, 1, "of this run")
    assert warm.stdout.splitlines()[1:] == [b"30", b"13", b"30"]
    # The same is on record.
    assert cold.layer == warm.layer == layer.digest
    violations = [[(v.operation, v.capability, v.count) for v in r.violations]
                  for r in (cold, warm)]  # fmt: skip
    assert violations[0] == violations[1]
    assert {"FILE_READ:/srv/not-granted"} < {capability for _, capability, _ in violations[0]}
    assert [type(one) for one in warm_events] == [type(one) for one in cold_events]
    attached = [[one for one in told if isinstance(one, LayerAttached)]
                for told in (cold_events, warm_events)]  # fmt: skip
    assert attached[0] == attached[1]
    assert len(attached[0]) == 1
    starts = [one for one in warm_events if isinstance(one, SandboxStart)]
    assert [start.start for start in starts] == ["warm"]
    # Each sandbox has imported it for itself: no state is shared.
    drawn_text = [run.stdout for run in drawn]
    assert drawn_text[0] != drawn_text[1]
    for one, other in zip(*(text.split() for text in drawn_text), strict=True):
        assert one != other


def test_what_a_run_names_decides(index: Path, area: Path) -> None:
    first = install(index, alpha="V = 1")
    second = install(index, beta="V = 2")
    site = area / "venv" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    (site / "site-packages").mkdir(parents=True)
    (site / "site-packages" / "gamma.py").write_text("V = 3")
    (site / "site-packages" / "alpha.py").write_text("V = 'shadowed'")
    version = ".".join(map(str, sys.version_info[:2]))
    (area / "venv" / "pyvenv.cfg").write_text(f"version = {version}.0\n")
    with Pool(size=1, preload=("alpha",), packages=first) as pool:
        same = ready(pool).run("import alpha; print(alpha.V)", packages=["alpha"])
        assert (same.stdout, same.warm, same.layer) == (b"1\n", True, first.digest)
        other = ready(pool).run("import beta, sys; print('alpha' in sys.modules)", packages=second)
        assert (other.stdout, other.warm, other.layer) == (b"False\n", False, second.digest)
        assert other.cold_reason == "it comes with other packages than the pool"
        # A virtual environment comes late, and after them.
        script = "import alpha, gamma, sys; print(alpha.V, gamma.V, sys.path[-2:])"
        both = ready(pool).run(script, venv=area / "venv")
        cold = omnibase.run(script, packages=first, venv=area / "venv")
        assert both.stdout.startswith(b"1 3 ")
        assert (both.stdout, both.warm) == (cold.stdout, True)
        small = ExecutionContext(scratch_bytes=1 << 20)
        unfit = ready(pool).run("import alpha; print(alpha.V)", context=small)
        assert (unfit.stdout, unfit.warm, unfit.layer) == (b"1\n", False, first.digest)
        env = ready(pool).run("print(1)", env={"ALPHA_MODE": "x"})
        assert env.cold_reason == "`ALPHA_MODE` acts when `alpha` is imported"
        assert ready(pool).run("print(1)", env={"MODE": "x"}).warm


def test_what_cannot_be_imported_is_told(index: Path) -> None:
    leave = "leave the module out of `preload`"
    cases = {
        "alpha": ("1 / 0", "`alpha` cannot be imported: ZeroDivisionError: division by zero",
                  leave),
        "beta": ("raise SystemExit('no\\nmore')", "`beta` cannot be imported: SystemExit: no more",
                 leave),
        "gamma": ("x = b'x' * 10**9", "a warm sandbox did not start: it died",
                  "give it more memory: `default_memory_bytes` of the pool's context, or "
                  "`pool start --idle-memory SIZE`"),
        "delta": ("import os; os._exit(0)", "a warm sandbox did not start: it died",
                  "run `omnibase doctor`"),
    }  # fmt: skip
    layer = install(index, **{name: source for name, (source, _, _) in cases.items()})
    for name, (_, why, hint) in cases.items():
        with Pool(size=1, preload=("json", name), packages=layer) as pool:
            assert why in problem(pool)
            assert pool.stats().hint == hint
            if name == "alpha":
                result = pool.run("import beta")
                assert (result.exit_code, result.warm, result.layer) == (1, False, layer.digest)
                assert result.cold_reason == "no sandbox of the pool was ready"


def test_what_tries_something_as_it_is_imported_is_not_used(index: Path) -> None:
    """And its twin, which does what it may, is."""
    cases = {
        "alpha": ("open('/srv/not-granted')", "FILE_READ:/srv/not-granted"),
        "beta": ("open(__file__, 'w')", "FILE_WRITE:/opt/omnibase/lib/python"),
        "gamma": ("import socket; socket.create_connection(('192.0.2.1', 80), 1)",
                  "NETWORK_CONNECT:192.0.2.1:80"),
    }  # fmt: skip
    tries = "try:\n    {}\nexcept OSError:\n    pass\n"
    sources = {name: tries.format(source) for name, (source, _) in cases.items()}
    may = "open(__file__).read(); open('/tmp/x', 'w').close()\nimport os; U = os.getuid()\n"
    layer = install(index, delta=may, **sources)
    for name, (_, capability) in cases.items():
        with Pool(size=1, preload=(name,), packages=layer) as pool:
            told = problem(pool)
            assert "tried what no script is granted" in told
            assert capability in told
            if name == "alpha":
                result = pool.run("print(1)")
                assert (result.stdout, result.warm, result.violations) == (b"1\n", False, ())
    with Pool(size=1, preload=("delta",), packages=layer) as pool:
        result = ready(pool).run("import delta; print(delta.U)")
        assert (result.stdout, result.warm) == (b"65534\n", True)


def test_what_starts_a_process_as_it_is_imported_is_not_used(index: Path) -> None:
    """And what starts a thread is: that ends with the script, and is bound to its limits."""
    forks = "import os, time\nif not os.fork():\n    time.sleep(600)\n"
    threads = (
        "import threading, time\n"
        "T = threading.Thread(target=time.sleep, args=(600,), daemon=True)\nT.start()\n"
    )
    layer = install(index, alpha=forks, beta=threads)
    with Pool(size=1, preload=("alpha",), packages=layer) as pool:
        assert "has started a process" in problem(pool)
        assert not pool.run("print(1)").warm
    with Pool(size=1, preload=("beta",), packages=layer) as pool:
        script = "import os, beta; print(beta.T.is_alive(), len(os.listdir('/proc/self/task')))"
        result = ready(pool).run(script)
        assert (result.stdout, result.warm, result.exit_code) == (b"True 2\n", True, 0)


_LATE = """
import threading, time
START = time.monotonic()
def act():
    while True:
        time.sleep(0.05)
        if {when}:
            try:
                {what}
            except OSError:
                pass
threading.Thread(target=act, daemon=True).start()
"""


def test_what_a_module_does_while_it_waits_is_not_the_runs(index: Path) -> None:
    tries = _LATE.format(when="time.monotonic() > START + 1", what="open('/srv/not-granted')")
    says = _LATE.format(when="True", what="print('SAID', flush=True)")
    layer = install(index, alpha=tries, beta=says)
    with Pool(size=1, preload=("alpha",), packages=layer, wait_seconds=0) as pool:
        ready(pool)
        time.sleep(1.5)
        result = pool.run("print(1)")
        assert (result.stdout, result.warm, result.violations) == (b"1\n", False, ())
        assert pool.stats().lost == 1
    with Pool(size=1, preload=("beta",), packages=layer) as pool:
        ready(pool)
        time.sleep(0.5)
        result = pool.run("print(1)")
        assert result.warm
        assert result.stdout.count(b"SAID") < 5


def test_a_module_that_nobody_has_brought(index: Path) -> None:
    with Pool(size=1, preload=("alpha",)) as pool:
        assert "ModuleNotFoundError: No module named 'alpha'" in problem(pool)
        assert "name its packages: `packages=…`" in str(pool.stats().hint)
    with pytest.raises(ConfigurationError, match="names no package"):
        Pool(size=1, packages=[])
    with pytest.raises(PackageError):
        Pool(size=1, packages=["no-such-package-anywhere"])


def test_packages_are_kept_while_the_pool_is_there(
    index: Path, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = install(index, alpha="V = 1")
    there = Path(layer.path)
    with Pool(size=1, packages=layer) as pool:
        assert prune(state_dir) == []
        assert ready(pool).run("import alpha").ok
    assert prune(state_dir) == [there.parent]
    with pytest.raises(PackageError, match="is not there any more"):
        pool.run("import alpha")  # it would have to run without what it was promised
    with pytest.raises(PackageError, match="is not there any more"):
        Pool(size=1, packages=layer)

    layer = omnibase.install_packages(["alpha"])
    dropped = Pool(size=1, packages=layer)
    assert prune(state_dir) == []
    del dropped
    gc.collect()
    assert prune(state_dir) == [there.parent]

    layer = omnibase.install_packages(["alpha"])

    def no_thread(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(pools_module, "PoolRunner", no_thread)
        with pytest.raises(RuntimeError):
            Pool(size=1, packages=layer)
    assert prune(state_dir) == [there.parent]


def test_packages_that_were_changed_start_nothing(index: Path) -> None:
    layer = install(index, alpha="V = 1")
    with Pool(size=1, packages=layer, wait_seconds=0) as pool:
        assert ready(pool).run("import alpha; print(alpha.V)").stdout == b"1\n"
        ready(pool)
        Path(layer.path, "alpha.py").write_text("V = 2")
        # The one that is there was started with what was built; the next one is not.
        with contextlib.suppress(PackageError):
            pool.run("print(1)")
        assert "is not what was built" in problem(pool)
        with pytest.raises(PackageError) as raised:
            pool.run("import alpha")
        assert raised.value.reason == "tampered"


def test_several_at_once_have_them(index: Path) -> None:
    layer = install(index, alpha="import random\nV = random.random()")
    seen: list[bytes] = []
    with Pool(size=3, preload=("alpha",), packages=layer) as pool:
        ready(pool)

        def one() -> None:
            result = pool.run("import alpha; print(alpha.V)")
            assert result.warm, result.cold_reason
            seen.append(result.stdout)

        threads = [threading.Thread(target=one) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(set(seen)) == 3
