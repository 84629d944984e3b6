"""Makes one denied attempt among many, in the hope that it drowns.

Threat: T-EXEC-17
Expected: the attempt is on record, and all of the flood is counted or said to be lost.
Granted: with the capabilities, the same flood makes no violation.
"""

import contextlib
import json
import os
import sys

loud, quiet = sys.argv[1:]
got: list[str] = []
for number in range(20_000):
    with contextlib.suppress(OSError):
        os.close(os.open(loud, os.O_RDONLY))
    if number == 10_000:
        with contextlib.suppress(OSError):
            os.close(os.open(quiet, os.O_RDONLY))
            got.append("the quiet one")
print(json.dumps({"got": got, "refused": {}}))
