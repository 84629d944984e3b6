"""Tells a secret that it was granted: plainly, in encodings, in an error, in a file's name.

Threat: T-EXEC-10
Expected: no output, error or event has the value; that it was read is on record.
Granted: the script itself has the value, to the byte.
"""

import base64
import contextlib
import hashlib
import json
import sys
import urllib.parse

with open("/run/secrets/SELFTEST") as file:
    value = file.read()
for text in (
    value, base64.b64encode(value.encode()).decode(), value.encode().hex(), json.dumps(value),
    urllib.parse.quote(value), f"Authorization: Bearer {value}",
):  # fmt: skip
    print(text)
    print(text, file=sys.stderr)
with contextlib.suppress(OSError):
    open(f"/srv/{value}").close()
print(hashlib.sha256(value.encode()).hexdigest())
raise ValueError(value)
