"""Leaves daemons behind that change its files while they are collected."""

import os

NAMES = [f"/artifacts/out/{number:02}" for number in range(40)]
for name in NAMES:
    with open(name, "wb") as file:
        file.write(b"x" * 200_000)
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        while True:
            for name in NAMES:
                fd = os.open(name, os.O_WRONLY)
                os.pwrite(fd, b"y" * 1000, 100_000)
                os.close(fd)
                os.symlink("/etc/shadow", name + "-new")
                os.unlink(name + "-new")
