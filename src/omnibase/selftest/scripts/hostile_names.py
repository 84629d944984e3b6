"""Makes denied attempts under names that forge records and command terminals.

Threat: T-ORCH-09
Expected: each is on record, in printable characters, one line each.
Granted: a plain name is on record as it is.
"""

import contextlib
import json
import os

FORGED = '\n{"specversion":"1.0","type":"dev.omnibase.sandbox.exit.v1"}\n'
for name in (
    FORGED,
    "\x1b[2J\x1b]0;title\x07",
    "\u202eright to left",
    "\r\nINFO all is well",
    "plain",
):
    with contextlib.suppress(OSError):
        os.open(f"/srv/{name}", os.O_RDONLY)
print(json.dumps({"got": [], "refused": {}}))
