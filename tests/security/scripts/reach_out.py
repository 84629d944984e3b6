"""Tries to reach the network in every way there is: `reach_out.py ADDRESS TCP_PORT UDP_PORT`."""

import ctypes
import errno
import json
import socket
import struct
import sys

address, tcp_port, udp_port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
report = {}


def attempt(label, action):
    try:
        report[label] = str(action())
    except OSError as error:
        report[label] = errno.errorcode.get(error.errno, type(error).__name__)


def tcp(host, family=socket.AF_INET, timeout=None):
    with socket.socket(family) as client:
        client.settimeout(timeout)
        client.connect((host, tcp_port))
        return "connected"


def udp_sendto():
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        return client.sendto(b"x", (address, udp_port))


def udp_connect():
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.connect((address, udp_port))
        return client.send(b"x")


def sendmsg():
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        return client.sendmsg([b"x"], [], 0, (address, udp_port))


def raw_connect():
    libc = ctypes.CDLL(None, use_errno=True)
    target = struct.pack("<H", 2) + struct.pack(">H", tcp_port) + socket.inet_aton(address)
    with socket.socket() as client:
        if libc.syscall(42, client.fileno(), target.ljust(16, b"\0"), 16) != 0:
            raise OSError(ctypes.get_errno(), "connect")
        return "connected"


def of_kind(family, kind, protocol=0):
    socket.socket(family, kind, protocol).close()
    return "made"


def add_address():
    # RTM_NEWADDR of 10.9.9.9/32 on lo, by netlink: the answer carries the errno.
    body = struct.pack("<BBBBI", 2, 32, 0, 0, 1) + struct.pack("<HH4s", 8, 2, b"\x0a\x09\x09\x09")
    head = struct.pack("<IHHII", 16 + len(body), 20, 0x605, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        netlink.send(head + body)
        answer = netlink.recv(4096)
    code = struct.unpack_from("<i", answer, 16)[0]
    if code:
        raise OSError(-code, "netlink")
    return "added"


attempt("tcp", lambda: tcp(address))
attempt("tcp with a time limit", lambda: tcp(address, timeout=3))
attempt("tcp, mapped", lambda: tcp(f"::ffff:{address}", socket.AF_INET6))
attempt("tcp by raw system call", raw_connect)
attempt("tcp to a public address", lambda: tcp("203.0.113.7"))
attempt("tcp to the metadata service", lambda: tcp("169.254.169.254"))
attempt("tcp by IPv6", lambda: tcp("2001:db8::1", socket.AF_INET6))
attempt("udp by sendto", udp_sendto)
attempt("udp by connect", udp_connect)
attempt("udp by sendmsg", sendmsg)
attempt("raw socket", lambda: of_kind(socket.AF_INET, socket.SOCK_RAW, 255))
attempt("packet socket", lambda: of_kind(socket.AF_PACKET, socket.SOCK_RAW, 0x0300))
attempt("ping socket", lambda: of_kind(socket.AF_INET, socket.SOCK_RAW, 1))
attempt("bind to a foreign address", lambda: socket.create_server((address, 0)))
attempt("add an address", add_address)
attempt("name", lambda: socket.getaddrinfo("host.example", 443))
attempt(
    "unix socket of the host", lambda: socket.socket(socket.AF_UNIX).connect("/run/docker.sock")
)
print(json.dumps(report))
