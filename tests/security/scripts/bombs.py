"""Takes memory without end, in the way that the argument names."""

import os
import socket
import sys

MEBIBYTE = b"x" * (1 << 20)


def heap():
    kept = []
    while True:
        kept.append(bytearray(MEBIBYTE))


def shared_memory():
    with open("/dev/shm/file", "wb") as file:
        while True:
            file.write(MEBIBYTE)


def pipes():
    while True:
        _, writer = os.pipe()
        os.set_blocking(writer, False)
        while True:
            try:
                os.write(writer, MEBIBYTE)
            except BlockingIOError:
                break


def sockets():
    kept = []
    while True:
        left, right = socket.socketpair()
        left.setblocking(False)
        left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
        kept += [left, right]
        while True:
            try:
                left.send(MEBIBYTE)
            except BlockingIOError:
                break


def inodes():
    number = 0
    while True:
        number += 1
        os.close(os.open(f"/tmp/{number}-{'x' * 200}", os.O_CREAT))


def recursion():
    sys.setrecursionlimit(1 << 30)

    def deeper():
        return deeper() + 1

    deeper()


def mappings():
    import mmap

    kept = []
    while True:
        kept.append(mmap.mmap(-1, 1 << 20))
        kept[-1].write(MEBIBYTE)


globals()[sys.argv[1]]()
