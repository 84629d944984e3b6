"""Says what it was trusted with, by accident, in every usual way; waits to be looked at."""

import base64
import contextlib
import ctypes
import os
import sys
import urllib.parse

with open("/run/secrets/TOKEN") as file:
    token = file.read().strip()
raw = token.encode()
print("plain", token)
print("repr", repr(token), repr(raw))
print("hex", raw.hex(), raw.hex().upper())
print("basic", base64.b64encode(b"user:" + raw).decode())
print("url", "https://example.com/?" + urllib.parse.urlencode({"key": token}))
for letter in token:
    sys.stdout.write(letter)
    sys.stdout.flush()
print()
sys.stderr.write(f"error with {token}\n")
for attempt in (
    lambda: os.open(f"/data/{token}", os.O_RDONLY),
    lambda: os.open(f"/srv/{raw.hex()}", os.O_WRONLY | os.O_CREAT),
    lambda: os.execv(f"/bin/{token}", ["x"]),
    lambda: os.chdir(f"/home/{urllib.parse.quote(token, safe='')}"),
):
    try:
        attempt()
    except OSError as error:
        print("denied", error)
ctypes.CDLL(None).prctl(15, raw, 0, 0, 0)  # PR_SET_NAME
with contextlib.suppress(OSError):
    os.open("/etc/shadow", os.O_RDONLY)
print("ready", flush=True)
sys.stdin.read()
raise ValueError(f"cannot use {token}")
