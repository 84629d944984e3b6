"""Makes a forbidden call where its signal is blocked, ignored or handled, in several ways.

The argument names the way. Whatever happens, the file in memory must not come to be.
"""

import ctypes
import os
import signal
import sys
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
MEMFD_CREATE, RT_SIGACTION, SIGSYS = 319, 13, 31


class KernelSigaction(ctypes.Structure):
    _fields_ = [
        ("handler", ctypes.c_void_p),
        ("flags", ctypes.c_ulong),
        ("restorer", ctypes.c_void_p),
        ("mask", ctypes.c_ulong),
    ]


def forbidden():
    fd = libc.syscall(MEMFD_CREATE, b"x", 0)
    print("returned", fd if fd < 0 or fd == MEMFD_CREATE else "a file", flush=True)


def handle_by_raw_number():
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: None)
    kept.append(handler)
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    old = KernelSigaction()
    libc.syscall(RT_SIGACTION, 10, None, ctypes.byref(old), 8)
    new = KernelSigaction(
        ctypes.cast(handler, ctypes.c_void_p).value, old.flags | 0x04000000, old.restorer, 0
    )
    # The high half of the number is nothing to the kernel, and something to a filter.
    libc.syscall(RT_SIGACTION, ctypes.c_long(SIGSYS | 1 << 32), ctypes.byref(new), None, 8)


kept = []
way = sys.argv[1]
if way == "blocked":
    signal.pthread_sigmask(signal.SIG_BLOCK, [SIGSYS])
    forbidden()
elif way == "ignored":
    signal.signal(SIGSYS, signal.SIG_IGN)
    forbidden()
elif way == "handled":
    handle_by_raw_number()
    forbidden()
elif way == "thread":
    signal.pthread_sigmask(signal.SIG_BLOCK, [SIGSYS])
    # ctypes lets go of the interpreter's lock, so that the others live on.
    threading.Thread(target=forbidden, daemon=True).start()
    time.sleep(1)
    print("the other thread lives", flush=True)
    os._exit(0)
elif way == "child":
    if os.fork() == 0:
        signal.pthread_sigmask(signal.SIG_BLOCK, [SIGSYS])
        forbidden()
        os._exit(0)
    os.wait()
