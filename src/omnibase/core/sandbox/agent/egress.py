"""Network egress, the guest's side: granted targets are served on the guest's loopback.

It runs inside the sandbox, in PID 1, and uses the standard library only. For
each grant it gives the loopback an address, listens there, and passes what the
script sends through a channel to the broker on the host, which decides again:
nothing depends on this side for confinement.
"""

from __future__ import annotations

import _socket as sockets  # the extension alone: `socket` costs some milliseconds more
import _struct as struct
import _thread
import os
import select

import channel as wire  # type: ignore[import-not-found]
import dns  # type: ignore[import-not-found]
from channel import Channel, Stream

NAMESERVER = "192.0.2.53"
POOL, POOL_BITS, FIRST_DYNAMIC = "198.18.0.0", 16, 256
UNICAST = (("0.0.0.0", 1), ("128.0.0.0", 2), ("192.0.0.0", 3))  # below 224.0.0.0
HOSTNAME = "sandbox"
MAX_NAMES, MAX_LISTENERS, MAX_STREAMS = 1024, 2048, 4096
_BATCH = 64
_FLUSH_SECONDS = 5.0
_IN, _OUT, _BROKEN = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR | select.EPOLLHUP
_RESET = struct.pack("ii", 1, 0)  # struct linger: closing resets


def add_address(family: int, address: bytes, prefix: int) -> None:
    """Gives an address, or a whole network, to the guest's loopback (RTM_NEWADDR, netlink(7))."""
    # struct ifaddrmsg: family, prefix, flags, scope, index (`lo` is the first); then
    # IFA_LOCAL and IFA_ADDRESS.
    size = 4 + len(address)
    body = struct.pack("<BBBBI", family, prefix, 0, 0, 1)
    for attribute in (2, 1):
        body += struct.pack("<HH", size, attribute) + address
    create_and_acknowledge = 0x0605
    head = struct.pack("<IHHII", 16 + len(body), 20, create_and_acknowledge, 1, 0)
    netlink = sockets.socket(sockets.AF_NETLINK, sockets.SOCK_RAW, 0)
    netlink.send(head + body)
    reply = netlink.recv(4096)
    netlink.close()
    error = -struct.unpack_from("<i", reply, 16)[0]
    if error not in (0, 17):  # EEXIST: the loopback's own
        raise OSError(error, f"no address {address.hex()}")


class Egress:
    """Listeners, streams and names."""

    def __init__(self, channel: int, rows: list[str]) -> None:
        self.channel = Channel(channel)
        self.send, self.view = self.channel.send, self.channel.view
        self.rows = [
            (rows[n], rows[n + 1], int(rows[n + 2]), int(rows[n + 3]))
            for n in range(0, len(rows), 4)
        ]
        self.names: dict[str, str] = {}  # address → name
        # name → address
        self.addresses: dict[str, str] = {HOSTNAME: "127.0.0.1", "localhost": "127.0.0.1"}
        self.served: set[str] = set()  # names that have all their listeners
        self.listeners: dict[int, tuple[sockets.socket, str, int]] = {}
        self.endpoints: set[tuple[str, int]] = set()
        self.streams: dict[int, Stream] = {}
        self.by_fd: dict[int, Stream] = {}
        self.next_stream = 1
        self.epoll = select.epoll()
        self.finishing = False
        self.finished = _thread.allocate_lock()
        self.finished.acquire()
        self.wake_reader, self.wake_writer = os.pipe()
        self.dns = sockets.socket(sockets.AF_INET, sockets.SOCK_DGRAM)

    # Setting up

    def set_up(self) -> None:
        """Adds the addresses, listens, and tells the host."""
        self.epoll.register(self.channel.fd, _IN)
        self.epoll.register(self.wake_reader, _IN)
        inet, inet6 = sockets.AF_INET, sockets.AF_INET6
        add_address(inet, sockets.inet_aton(NAMESERVER), 32)
        add_address(inet, sockets.inet_aton(POOL), POOL_BITS)
        self.dns.bind((NAMESERVER, 53))
        self.dns.setblocking(False)
        self.epoll.register(self.dns.fileno(), _IN)
        # What listens on every address comes first: it serves the others' ports too.
        for address, host, low, high in sorted(self.rows, key=lambda row: row[1] != "*"):
            if host == "*":
                # Not those of no host, nor IPv6: gVisor's loopback takes a network of
                # IPv4 for its own. What is left out is unreachable, at once.
                for first, bits in UNICAST:
                    add_address(inet, sockets.inet_aton(first), bits)
                self.listen(inet, "0.0.0.0", low, high)
            elif ":" in address:
                add_address(inet6, sockets.inet_pton(inet6, address), 128)
                self.listen(inet6, address, low, high)
            elif address:
                if host != address:
                    self.addresses[host], self.names[address] = address, host
                elif not address.startswith("127."):
                    add_address(inet, sockets.inet_aton(address), 32)
                self.listen(inet, address, low, high)
        self.send(wire.READY, 0)

    def listen(self, family: int, address: str, low: int, high: int) -> None:
        """Listens on a range of ports of an address."""
        for port in range(low, high + 1):
            everywhere = () if family == sockets.AF_INET6 else (("0.0.0.0", port),)
            if self.endpoints & {(address, port), *everywhere}:
                continue  # two grants that overlap
            if len(self.listeners) >= MAX_LISTENERS:
                raise dns.Full
            listener = sockets.socket(family, sockets.SOCK_STREAM)
            if family == sockets.AF_INET6:
                listener.setsockopt(sockets.IPPROTO_IPV6, sockets.IPV6_V6ONLY, 1)
            listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
            listener.bind((address, port))
            listener.listen(1024)
            listener.setblocking(False)
            self.endpoints.add((address, port))
            self.listeners[listener.fileno()] = (listener, address, port)
            self.epoll.register(listener.fileno(), _IN)

    # Names

    def address_of(self, name: str) -> str | None:
        """Returns the address of a granted name, given to it at its first look-up."""
        address = self.addresses.get(name)
        if name in self.served:
            return address
        ranges = [
            (host, low, high)
            for _, host, low, high in self.rows
            if host == "*" or (host.startswith("*.") and name.endswith(host[1:]))
        ]
        offset = 0
        if address is None:
            last = name.rpartition(".")[2]
            if not ranges or last.isdigit() or last.startswith("0x") or len(name) > 253:
                return None
            count = len(self.names)
            if count >= MAX_NAMES:
                raise dns.Full
            offset = FIRST_DYNAMIC + count
            base = int.from_bytes(sockets.inet_aton(POOL), "big")
            address = sockets.inet_ntoa((base + offset).to_bytes(4, "big"))
        try:
            for host, low, high in ranges:
                if host != "*":
                    self.listen(sockets.AF_INET, address, low, high)
        except OSError:
            raise dns.Full from None  # the script listens there itself
        self.served.add(name)
        if offset:
            self.addresses[name], self.names[address] = address, name
            # Before the answer: whoever judges a connect to it is to know whose it is.
            self.send(wire.ASSIGNED, 0, offset, name.encode("ascii"))
        return address

    def serve_dns(self) -> None:
        """Answers queries."""
        for _ in range(_BATCH):
            try:
                query, client = self.dns.recvfrom(dns.MAX_QUERY + 1)
            except OSError:
                return
            reply = dns.answer(query, self.address_of, self.name_of, self.refuse_name)
            if reply is not None:
                try:
                    self.dns.sendto(reply, client)
                except OSError:
                    pass

    def name_of(self, address: str) -> str | None:
        """Returns the name of an address; an empty one if it has none and may be asked for."""
        if address == "127.0.0.1":
            return HOSTNAME
        granted = any(address == host for _, host, _, _ in self.rows)
        return "" if granted else self.names.get(address)

    def refuse_name(self, name: bytes, kind: int) -> None:
        if len(self.channel.queue) < 1024:  # else the host is told no more of a flood
            self.send(wire.LOOKUP, 0, kind, name)

    # The channel

    def read_channel(self) -> None:
        for _ in range(_BATCH):
            try:
                size = self.channel.receive()
            except BlockingIOError:
                return
            if size == 0:  # the host went away, or its end of the channel alone did
                os.write(2, b"the host's end of the guest's network is gone\n")
                _fail()
            _, kind, _, number = wire.HEADER.unpack_from(self.view)
            stream = self.streams.get(number)
            if stream is None:
                continue  # over here, and the host did not know yet
            if kind == wire.DATA:
                self.deliver(stream, self.view[wire.HEADER.size : size])
            elif kind == wire.CREDIT:
                stream.credit += int.from_bytes(self.view[wire.HEADER.size : size], "little")
                self.poll_script(stream)
            elif kind == wire.END:
                stream.host_done = True
                self.push(stream)
            elif kind in (wire.REFUSED, wire.RESET):
                self.drop(stream, reset=True)

    # Connections

    def accept(self, fd: int) -> None:
        listener, address, port = self.listeners[fd]
        for _ in range(_BATCH):
            try:
                accepted, _ = listener._accept()  # type: ignore[attr-defined]
            except OSError:
                return
            socket = sockets.socket(fileno=accepted)
            socket.setblocking(False)
            if len(self.streams) >= MAX_STREAMS:
                socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, _RESET)
                socket.close()
                continue
            host = address
            if address == "0.0.0.0":
                try:
                    host = socket.getsockname()[0]
                except OSError:
                    socket.close()
                    continue
            host = self.names.get(host) or (f"[{host}]" if ":" in host else host)
            socket.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
            stream = Stream(self.next_stream, socket)
            self.next_stream += 1
            self.streams[stream.number] = self.by_fd[stream.fd] = stream
            self.send(wire.OPEN, stream.number, port, host.encode("ascii"))
            self.poll_script(stream)

    def deliver(self, stream: Stream, data: memoryview) -> None:
        """Writes to the script what came from the host; what it does not take waits."""
        if not stream.pending:
            try:
                taken = os.write(stream.fd, data)
            except BlockingIOError:
                taken = 0
            except OSError:
                self.abort(stream)
                return
            self.taken(stream, taken)
            data = data[taken:]
        if data:
            stream.pending += data
            self.poll_script(stream)

    def push(self, stream: Stream) -> None:
        if stream.pending:
            try:
                taken = os.write(stream.fd, stream.pending)
            except BlockingIOError:
                taken = 0
            except OSError:
                self.abort(stream)
                return
            del stream.pending[:taken]
            self.taken(stream, taken)
        if stream.host_done and not stream.pending:
            if stream.script_done:
                self.drop(stream, reset=False)
                return
            try:
                stream.socket.shutdown(sockets.SHUT_WR)
            except OSError:
                pass
        self.poll_script(stream)

    def taken(self, stream: Stream, size: int) -> None:
        stream.owed += size
        if stream.owed >= wire.WINDOW // 2:
            self.send(wire.CREDIT, stream.number, 0, stream.owed.to_bytes(4, "little"))
            stream.owed = 0

    def pull(self, stream: Stream) -> None:
        """Reads from the script straight into a frame."""
        room = min(stream.credit, wire.MAX_PAYLOAD)
        if stream.script_done or not room:
            return
        head = wire.HEADER.size
        try:
            size = stream.socket.recv_into(self.view[head : head + room])
        except BlockingIOError:
            return
        except OSError:
            self.abort(stream)
            return
        if size == 0:
            stream.script_done = True
            self.send(wire.END, stream.number)
            self.push(stream)
            return
        stream.credit -= size
        wire.HEADER.pack_into(self.view, 0, wire.VERSION, wire.DATA, 0, stream.number)
        self.channel.transmit(self.view[: head + size])
        if not stream.credit:
            self.poll_script(stream)

    def abort(self, stream: Stream) -> None:
        self.send(wire.RESET, stream.number)
        self.drop(stream, reset=True)

    def drop(self, stream: Stream, *, reset: bool) -> None:
        self.watch(stream, 0)
        del self.streams[stream.number], self.by_fd[stream.fd]
        if reset:
            try:
                stream.socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, _RESET)
            except OSError:
                pass
        stream.socket.close()

    def poll_script(self, stream: Stream) -> None:
        reading = stream.credit and not stream.script_done
        self.watch(stream, (_IN if reading else 0) | (_OUT if stream.pending else 0))

    def watch(self, stream: Stream, mask: int) -> None:
        """Polls for just what can be used: an end would be reported over and over."""
        if mask != stream.mask:
            if not stream.mask:
                self.epoll.register(stream.fd, mask)
            elif not mask:
                self.epoll.unregister(stream.fd)
            else:
                self.epoll.modify(stream.fd, mask)
            stream.mask = mask

    # Serving

    def run(self) -> None:
        """Serves until `finish`; an end by a fault is the end of the guest."""
        try:
            while not self.turn():
                pass
        except BaseException:
            import traceback

            traceback.print_exc()
            _fail()
        self.finished.release()

    def turn(self) -> bool:
        """Serves what is ready; returns whether all is done."""
        if self.channel.queue:
            # The host does not keep up: nothing more is read from the script meanwhile.
            if self.channel.wait():
                self.read_channel()
            return False
        ready = self.epoll.poll(0.01 if self.finishing else -1, _BATCH)
        for fd, events in ready:
            stream = self.by_fd.get(fd)
            if stream is not None:
                if events & (_OUT | _BROKEN) and stream.pending:
                    self.push(stream)
                if events & (_IN | _BROKEN) and self.by_fd.get(fd) is stream:
                    self.pull(stream)
                if self.channel.queue:
                    return False
            elif fd == self.channel.fd:
                self.read_channel()
            elif fd in self.listeners:
                self.accept(fd)
            elif fd == self.wake_reader:
                os.read(fd, 1)
                self.finishing = True
            else:
                self.serve_dns()
        return self.finishing and not ready and all(s.script_done for s in self.streams.values())

    def finish(self) -> None:
        """Passes on what the script had sent before it ended, within reason."""
        os.write(self.wake_writer, b"x")
        self.finished.acquire(True, _FLUSH_SECONDS)


def start(channel: int, rows: list[str]) -> Egress:
    """Sets everything up and serves it in a thread."""
    egress = Egress(channel, rows)
    egress.set_up()
    _thread.start_new_thread(egress.run, ())
    return egress


def _fail() -> None:
    """Ends the guest, with a sign on the trace, as in `init`: it is no exit of the script."""
    try:
        os.open("/.agent-failed", os.O_RDONLY)
    finally:
        os._exit(125)
