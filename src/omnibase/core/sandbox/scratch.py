"""How much of its scratch space a run has used."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["ScratchMeter"]


class ScratchMeter:
    """Reads the size of the file that backs the guest's ``/tmp``.

    Attributes:
        peak_bytes: The highest use seen: at its own end the sandbox frees everything.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._fd = -1

    def hold(self, directory: Path) -> None:
        """Keeps a descriptor of the file: runsc deletes it at the end."""
        with contextlib.suppress(OSError, IndexError):
            name = os.listdir(directory)[0]
            self._fd = os.open(directory / name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)

    def sample(self) -> None:
        """Takes a reading."""
        if self._fd >= 0:
            self.peak_bytes = max(self.peak_bytes, os.fstat(self._fd).st_blocks * 512)

    def close(self) -> None:
        """Frees the descriptor."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
