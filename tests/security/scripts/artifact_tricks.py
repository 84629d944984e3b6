"""Leaves everything that is no plain file, in the hope that one of them comes out as another."""

import os
import socket

os.chdir("/artifacts/out")
with open("plain", "w") as file:
    file.write("plain")
os.link("plain", "hard-link")
os.symlink("/etc/shadow", "absolute-link")
os.symlink("../../etc/passwd", "relative-link")
os.symlink("nowhere", "dangling")
os.symlink("/", "directory-link")
os.symlink("/proc/1/root", "proc-link")
os.mkfifo("fifo")
socket.socket(socket.AF_UNIX).bind("socket")
with open("huge", "wb") as file:
    file.truncate(1 << 42)
os.mkdir("dir")
with open("dir/inner", "w") as file:
    file.write("inner")
os.chmod("dir", 0)
with open("closed", "w") as file:
    file.write("closed")
os.chmod("closed", 0)
print("done")
