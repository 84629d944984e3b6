"""Reads a secret by its name.

Threat: T-EXEC-09
Expected: it is not there, and `SECRET_ACCESS:` with its name is on record.
Granted: with that capability it is read, to the byte.
"""

import hashlib
import json

got: list[str] = []
refused: dict[str, str] = {}
try:
    with open("/run/secrets/SELFTEST", "rb") as file:
        got.append(hashlib.sha256(file.read()).hexdigest())
except OSError as error:
    refused["the secret"] = type(error).__name__
print(json.dumps({"got": got, "refused": refused}))
