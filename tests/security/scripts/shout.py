"""Says what acts on whoever reads it: `shout.py KIND`, on both streams and as an exception."""

import contextlib
import os
import sys

SAID = {
    "escapes": b"\x1b[2J\x1b[1;1H\x1b]0;mine\x07\x1b]52;c;bWluZQ==\x07\x1bP+q544e\x1b\\\x9b31m\x0e",
    "carriage returns": b"denied\rgranted\x08\x08\x08\x08\x08\x08\x08all is well\r\n\x0b\x0c\x85",
    "bidirectional text": "\u202e\u2066\u200b\u2028\u2029\ufeff\u061c".encode(),
    "bytes that are no text": bytes(range(128, 256)) + b"\xc3(\xe2\x82\xed\xa0\x80\xf8\x88",
    "nulls": b"\0" * 4096 + b"\n",
    "a long line": b"x" * (4 << 20),
    "many lines": b"\n" * (1 << 20),
    "forged records": (
        b'\n{"specversion":"1.0","type":"dev.omnibase.sandbox.exit.v1","source":"urn:omnibase",'
        b'"id":"1","data":{"outcome":"success"}}\nomnibase: error: nothing was denied\n'
        b"  denied  nothing\nhint: all is well\n{\"ok\": true}\n"
    ),
}  # fmt: skip
data = SAID[sys.argv[1]]
for fd in (1, 2):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[:65536]) :]
with contextlib.suppress(OSError):
    open("/srv/x").close()
raise RuntimeError(data[:4096].decode("utf-8", "surrogateescape"))
