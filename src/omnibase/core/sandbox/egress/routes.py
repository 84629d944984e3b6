"""Whether an address is this host's own, asked of its kernel (rtnetlink(7))."""

from __future__ import annotations

import socket
import struct
from typing import Final

from omnibase.core.sandbox.egress.allowlist import Address

__all__ = ["is_own_address"]

_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr
_ROUTE: Final = struct.Struct("=BBBBBBBBI")  # struct rtmsg
_ATTRIBUTE: Final = struct.Struct("=HH")  # struct rtattr
_RTM_NEWROUTE, _RTM_GETROUTE, _NLM_F_REQUEST, _RTA_DST = 24, 26, 1, 1
_TYPE: Final = _HEADER.size + 7
_UNICAST: Final = 1  # RTN_UNICAST; local, broadcast and anycast are others


def is_own_address(address: Address) -> bool:
    """Whether what is sent to an address stays on this host, or may.

    The routes decide, not the addresses of interfaces: a whole network can be local.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    packed = address.packed
    attribute = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(packed), _RTA_DST) + packed
    route = _ROUTE.pack(family, address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    size = _HEADER.size + len(route) + len(attribute)
    request = _HEADER.pack(size, _RTM_GETROUTE, _NLM_F_REQUEST, 1, 0) + route + attribute
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
            kernel.send(request)
            reply = kernel.recv(4096)
    except OSError:
        return True  # e.g. no descriptor left: nobody can tell
    if _HEADER.unpack_from(reply)[1] != _RTM_NEWROUTE:
        return False  # no route: the connect will say so
    return reply[_TYPE] != _UNICAST
