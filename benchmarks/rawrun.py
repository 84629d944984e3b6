"""Raw ``runsc run`` of the bundle that OmniBase would run, without OmniBase."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import omnibase
from omnibase.backend import backend
from omnibase.core.sandbox import bundle


class RawRunsc:
    """A prepared bundle; each call runs it once and returns its output."""

    def __init__(self, script: str, context: omnibase.ExecutionContext | None = None) -> None:
        runner = backend().gvisor
        plan = omnibase.plan(script.encode(), context=context)
        self._directory = Path(tempfile.mkdtemp(prefix="bench-", dir=runner.state))
        self._scratch = self._directory / "scratch"
        self._scratch.mkdir()
        config = bundle.oci_config(
            plan.request.spec, scratch_dir=str(self._scratch), grants_dir=None
        )
        (self._directory / "config.json").write_bytes(bundle.to_bytes(config))
        self._job = bundle.job_message(
            plan.request.spec, name="script.py", script=script.encode(), argv=(), mounts=[]
        )
        self._command = [
            runner.runtime.path, f"--root={self._directory}/root", f"--platform={runner.platform}",
            "--network=none", "--ignore-cgroups", "--overlay2=root:memory",
            "--host-uds=none", "--host-fifo=none",
        ]  # fmt: skip

    def __call__(self, *, trace: str | None = None) -> bytes:
        """Runs it; ``trace`` names a pod-init configuration."""
        reader, writer = os.pipe()
        raised = os.open(os.devnull, os.O_WRONLY)
        flags = [f"--pod-init-config={trace}"] if trace else []
        process = subprocess.Popen(
            [*self._command, *flags, "run", f"--bundle={self._directory}",
             f"--pass-fd={reader}:3", f"--pass-fd={raised}:6", f"raw-{secrets.token_hex(8)}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            pass_fds=(reader, raised), env={"PATH": "/usr/bin:/bin"}, cwd="/",
        )  # fmt: skip
        os.close(reader)
        os.close(raised)
        feeder = threading.Thread(target=_feed, args=(writer, self._job))
        feeder.start()
        out, err = process.communicate()
        feeder.join()
        os.close(writer)
        if process.returncode != 0:
            raise RuntimeError(err.decode("utf-8", "replace"))
        return out

    def close(self) -> None:
        """Removes the bundle."""
        shutil.rmtree(self._directory, ignore_errors=True)


def _feed(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
