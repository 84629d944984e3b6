"""Makes system calls that no script needs, by number, each in a child of its own.

Threat: T-EXEC-03
Expected: each is refused, or ends its child, and each is on record.
Granted: the everyday calls beside them succeed: there is no capability for the others.
"""

import ctypes
import json
import os
import sys

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
room = ctypes.create_string_buffer(4096)
NEW_USER, NEW_MOUNT, CHILD = 0x10000000, 0x00020000, 17

CALLS: dict[str, dict[str, tuple[object, ...]]] = {
    # The guest's kernel refuses these itself (numbers: Linux on x86-64).
    "refused": {
        "mount": (165, b"none", b"/tmp", b"tmpfs", 0, 0),
        "umount2": (166, b"/tmp", 2),
        "pivot_root": (155, b"/tmp", b"/tmp"),
        "ptrace": (101, 16, 1, 0, 0),
        "unshare": (272, NEW_USER),
        "setns": (308, 0, 0),
        "init_module": (175, room, 64, b""),
        "kexec_load": (246, 0, 0, 0, 0),
        "bpf": (321, 0, room, 128),
        "perf_event_open": (298, room, 0, -1, -1, 0),
        "userfaultfd": (323, 0),
        "io_uring_setup": (425, 8, room),
        "open_by_handle_at": (304, -100, room, 0),
        "reboot": (169, 0xFEE1DEAD, 672274793, 0x01234567, 0),
        "sethostname": (170, b"x", 1),
        "clock_settime": (227, 0, room),
        "chroot": (161, b"/tmp"),
        "setuid": (105, 0),
    },
    # These would succeed: the filter ends whoever makes them.
    "filtered": {
        "memfd_create": (319, b"x", 0),
        "process_vm_readv": (310, 1, 0, 0, 0, 0, 0),
        "keyctl": (250, 0, -3, 1),
        "mknod of a device": (133, b"/tmp/device", 0o020666, 0x103),
        "chmod to set-user-id": (90, b"/tmp", 0o4755),
        "clone of mounts": (56, NEW_MOUNT | CHILD, 0, 0, 0, 0),
        "openat2": (437, -100, b"/tmp", room, 24),
    },
    "everyday": {
        "mkdir": (83, b"/tmp/directory", 0o755),
        "chmod": (90, b"/tmp/directory", 0o700),
        "getpid": (39,),
        "pipe": (22, room),
        "rmdir": (84, b"/tmp/directory"),
    },
}
got: list[str] = []
refused: dict[str, str] = {}
for kind in sys.argv[1:]:
    for label, (number, *arguments) in CALLS[kind].items():
        child = os.fork()
        if child == 0:
            passed = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
            os._exit(0 if libc.syscall(ctypes.c_long(number), *passed) >= 0 else 77)  # type: ignore[arg-type]
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == 0:
            got.append(label)
        else:
            refused[label] = "refused" if code == 77 else f"signal {-code}"
print(json.dumps({"got": got, "refused": refused}))
