"""Takes 60 MB of memory, and uses it.

Threat: T-EXEC-11
Expected: without a `MEMORY` grant it is ended at 50 MB.
Granted: with `MEMORY:128MiB` it has its 60 MB.
"""

import json

taken = bytearray(60_000_000)
for at in range(0, len(taken), 4096):
    taken[at] = 1
print(json.dumps({"got": ["60 MB"], "refused": {}}))
