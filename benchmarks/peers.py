"""Others that run Python in gVisor, and the floor: each with the same interpreter, isolated.

The packages are not among OmniBase's own: ``make bench`` puts them into an environment
of its own (extra ``bench``). Both are given OmniBase's ``runsc``.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import secrets
import subprocess
import sys
from typing import Any, Protocol

from omnibase.backend import backend

CODE = "print(1)"
EXPECTED = "1\n"


class Box(Protocol):
    """A sandbox that commands can be run in."""

    def execute(self) -> None:
        """Runs `CODE`, and checks what comes out."""

    def close(self) -> None:
        """Ends it."""


class GVisorBox:
    """The ``gvisor`` package: `Sandbox`, without a network."""

    def __init__(self) -> None:
        import gvisor  # type: ignore[import-not-found]

        base = sys.base_prefix
        self._sandbox: Any = gvisor.Sandbox(mounts=[gvisor.Mount.bind(base, base, readonly=True)])

    def execute(self) -> None:
        """See `Box`."""
        out, errors = self._sandbox.exec(*interpreter(), CODE)
        _check(out, errors)

    def close(self) -> None:
        """See `Box`."""
        self._sandbox.close()


class TemenosBox:
    """The ``temenos`` package: `Box`, without a network, its scratch in memory."""

    def __init__(self) -> None:
        from temenos import Box as TheirBox  # type: ignore[import-not-found]
        from temenos import Policy
        from temenos.backends.gvisor import GVisorBackend  # type: ignore[import-not-found]

        # Its own search tries kvm first, which takes half a minute to fail where that hangs.
        GVisorBackend._platform_cache = backend().gvisor.platform
        policy = Policy(read=(sys.base_prefix,), network=False, scratch="memory")
        self._box: Any = TheirBox(f"bench-{secrets.token_hex(8)}", policy).start()

    def execute(self) -> None:
        """See `Box`."""
        result = self._box.exec([*interpreter(), CODE])
        _check(result.stdout, result.stderr)

    def close(self) -> None:
        """See `Box`."""
        self._box.close()


PEERS: dict[str, type[GVisorBox] | type[TemenosBox]] = {
    "gvisor": GVisorBox,
    "temenos": TemenosBox,
}


def interpreter() -> list[str]:
    """Returns how Python is started: that of this process, without its environment."""
    return [os.path.realpath(sys.executable), "-I", "-c"]


def plain() -> None:
    """Runs `CODE` without a sandbox."""
    done = subprocess.run([*interpreter(), CODE], check=True, capture_output=True, text=True)
    _check(done.stdout, done.stderr)


def available() -> dict[str, str]:
    """Returns the peers that are installed, with their versions; lets them find ``runsc``."""
    runsc = backend().gvisor.runtime.path
    os.environ["PATH"] = f"{os.path.dirname(runsc)}:{os.environ['PATH']}"
    os.environ["RUNSC_PATH"] = runsc
    logging.getLogger("temenos").setLevel(logging.ERROR)
    return {
        name: importlib.metadata.version(name) for name in PEERS if importlib.util.find_spec(name)
    }


def _check(out: str, errors: str) -> None:
    if out != EXPECTED:
        raise RuntimeError(f"`{out[:80]}`, not `1`: {errors[:300]}")
