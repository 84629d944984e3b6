"""Run on the host, in a network namespace of its own: what of it does the broker call its own?"""

import ctypes
import fcntl
import json
import socket
import struct
import sys
from ipaddress import ip_address

from omnibase.core.sandbox.egress.routes import is_own_address
from tests.helpers import agent

CLONE_NEWNET, SIOCSIFFLAGS, IFF_UP = 0x40000000, 0x8914, 1

if ctypes.CDLL(None).unshare(CLONE_NEWNET):
    sys.exit("no network namespace")
with socket.socket() as control:
    fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))
# On a loopback, all of an address's network is local: 9.9.9.7 answers as 9.9.9.1 does.
egress = agent.load("egress")
egress.add_address(socket.AF_INET, socket.inet_aton("9.9.9.1"), 24)
egress.add_address(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, "2600::1"), 128)
report = {}
for host in sys.argv[1:]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    everywhere = ("::" if ":" in host else "0.0.0.0", 0)
    with socket.create_server(everywhere, family=family) as server, socket.socket(family) as client:
        client.settimeout(5)
        try:
            client.connect((host, server.getsockname()[1]))
            reached = True
        except OSError:
            reached = False
    report[host] = [is_own_address(ip_address(host)), reached]
print(json.dumps(report))
