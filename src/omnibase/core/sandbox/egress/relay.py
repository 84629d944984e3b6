"""The connections of a run: made as the gate allows, and relayed in bounded memory."""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Callable, Sequence
from typing import Final

from omnibase.core.sandbox.egress import wire
from omnibase.core.sandbox.egress.channel import Channel
from omnibase.core.sandbox.egress.gate import Gate
from omnibase.core.sandbox.egress.reports import Denied, Limit, Reason, Report
from omnibase.core.sandbox.egress.resolver import Resolver
from omnibase.core.sandbox.egress.stream import Sockets, Stream
from omnibase.core.sandbox.spec import EgressLimits

__all__ = ["Relay"]

_BATCH: Final = 64  # events per turn
_MAX_HELD: Final = 32 << 20  # bytes that wait for peers
_CHECK_SECONDS: Final = 0.25
# Why a connection that was granted was not made, by the reason of its end.
_UNMADE: Final[dict[Reason, str]] = {
    "reset": "given up by the script",
    "run": "the run ended first",
    "bytes": "the limit of bytes",
}
_IN, _OUT, _BROKEN = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR | select.EPOLLHUP


class Relay:
    """Serves the guest's frames and the peers' sockets; it never blocks.

    Args:
        channel: To the guest.
        gate: Decides.
        limits: Of time.
        resolver: Looks names up; its answers are for `resolved`.
        tell: Takes what there is to report.

    Attributes:
        peers: Readable when a peer is to be served.
    """

    def __init__(
        self,
        channel: Channel,
        gate: Gate,
        limits: EgressLimits,
        resolver: Resolver,
        tell: Callable[[Report], None],
    ) -> None:
        self.peers = select.epoll()
        self._channel = channel
        self._gate = gate
        self._limits = limits
        self._resolver = resolver
        self._tell = tell
        self._streams: dict[int, Stream] = {}
        self._by_fd: dict[int, Stream] = {}
        self._last_stream = 0
        self._held = 0
        self._next_check = 0.0
        self._out = memoryview(bytearray(wire.MAX_FRAME))

    @property
    def active(self) -> bool:
        """Whether there is any connection."""
        return bool(self._streams)

    @property
    def crowded(self) -> bool:
        """Whether so much waits for peers that the guest should not be asked for more."""
        return self._held > _MAX_HELD

    def take(self, frame: wire.Frame) -> None:
        """Serves one frame of the guest.

        Raises:
            WireError: It has no place in the protocol.
        """
        serve = self._SERVE.get(frame.kind)
        if serve is None:
            raise wire.WireError(f"a frame of kind {frame.kind} from the guest")
        serve(self, frame)

    def hang_up(self) -> None:
        """The guest is gone: what it had finished sending goes on, all else ends.

        To a target that is still being looked up or connected to, too: in the guest,
        such a connection is up, and its data is as good as sent.
        """
        for stream in list(self._streams.values()):
            if stream.guest_done and stream.pending:
                stream.peer_done = True  # nobody is left to receive
                self._poll_peer(stream)
            else:
                self._remove(stream, "run", reset=not stream.guest_done)

    def close(self) -> None:
        """Ends all that is left."""
        for stream in list(self._streams.values()):
            self._remove(stream, "run")
        self.peers.close()

    def resolved(self) -> None:
        """Goes on with what the resolver has found."""
        for number, answers in self._resolver.answers():
            stream = self._streams.get(number)
            if stream is not None:
                self._resolved(stream, answers)

    # What the guest sends

    def _stream(self, frame: wire.Frame) -> Stream | None:
        """Returns the stream of a frame, or ``None`` if it is over and the guest may not know."""
        if frame.stream > self._last_stream:
            raise wire.WireError("a stream that was never opened")
        return self._streams.get(frame.stream)

    def _open(self, frame: wire.Frame) -> None:
        if frame.stream <= self._last_stream:
            raise wire.WireError("a stream that was opened before")
        self._last_stream = frame.stream
        decision = self._gate.decide(bytes(frame.payload), frame.code)
        if isinstance(decision, Denied):
            self._deny(frame.stream, decision)
            return
        wanted, grant = decision
        limit = self._gate.exceeded(grant, len(self._streams))
        if limit is not None:
            report = self._gate.over_limit(wanted, grant, *limit)
            if report is not None:
                self._tell(report)
            self._channel.send(wire.REFUSED, frame.stream, errno.EMFILE)
            return
        stream = Stream(frame.stream, wanted, grant, time.monotonic())
        self._streams[stream.number] = stream
        self._gate.opened(grant)
        if wanted.address is not None:
            self._resolved(stream, [str(wanted.address)])
        elif not self._resolver.ask(stream.number, wanted.host):
            self._fail(stream, "too many look-ups at once")

    def _looked_up(self, frame: wire.Frame) -> None:
        denied = self._gate.looked_up(bytes(frame.payload))
        if denied is not None:
            self._tell(denied)

    def _assigned(self, frame: wire.Frame) -> None:
        assigned = self._gate.assigned(bytes(frame.payload), frame.code)
        if assigned is not None:
            self._tell(assigned)

    def _data(self, frame: wire.Frame) -> None:
        stream = self._stream(frame)
        if stream is None:
            return
        data = frame.payload
        stream.window -= len(data)
        if stream.window < 0 or stream.guest_done:
            raise wire.WireError("more data than a stream may hold")
        stream.moved = time.monotonic()
        if not self._gate.moved(stream.grant, len(data)):
            self._break(stream, "bytes")
            return
        if stream.connected and not stream.pending:
            try:
                data = data[stream.push(data) :]
            except OSError:
                self._break(stream, "reset")
                return
            self._return_credit(stream)
        if data:
            stream.pending += data
            self._held += len(data)
            self._poll_peer(stream)

    def _credit(self, frame: wire.Frame) -> None:
        stream = self._stream(frame)
        if stream is None:
            return
        stream.credit += frame.credit
        if stream.credit > wire.WINDOW:
            raise wire.WireError("more credit than was used")
        self._poll_peer(stream)

    def _end(self, frame: wire.Frame) -> None:
        stream = self._stream(frame)
        if stream is None:
            return
        if stream.guest_done:
            raise wire.WireError("a second end of a stream")
        stream.guest_done = True
        stream.moved = time.monotonic()
        if stream.connected:
            self._push(stream)

    def _reset(self, frame: wire.Frame) -> None:
        stream = self._stream(frame)
        if stream is not None:
            self._remove(stream, "reset")

    _SERVE: Final = {
        wire.OPEN: _open,
        wire.LOOKUP: _looked_up,
        wire.ASSIGNED: _assigned,
        wire.DATA: _data,
        wire.CREDIT: _credit,
        wire.END: _end,
        wire.RESET: _reset,
    }

    # Peers

    def _resolved(self, stream: Stream, answers: Sequence[str]) -> None:
        addresses = self._gate.admit(stream.target, answers)
        if isinstance(addresses, Denied):
            self._forget(stream)
            self._deny(stream.number, addresses)
        elif not addresses:
            self._fail(stream, "the name has no address")
        else:
            stream.candidates = addresses
            self._connect(stream)

    def _connect(self, stream: Stream) -> None:
        self._unplug(stream)
        if not Sockets.take():
            self._fail(stream, "this host's limit of connections")
        elif stream.connect() and stream.peer is not None:
            self._by_fd[stream.peer.fileno()] = stream
            self._watch_peer(stream, _OUT)
        else:
            Sockets.give()
            self._fail(stream, os.strerror(stream.fault).lower())

    def serve_peers(self) -> None:
        """Serves peers that are ready, until the channel is full."""
        for fd, events in self.peers.poll(0, _BATCH):
            stream = self._by_fd.get(fd)
            if stream is None:
                continue
            if not stream.connected:
                self._settle(stream)
                continue
            if events & (_OUT | _BROKEN) and stream.pending:
                self._push(stream)
            if events & (_IN | _BROKEN) and self._by_fd.get(fd) is stream:
                self._pull(stream)
            if self._channel.waiting:
                return

    def _settle(self, stream: Stream) -> None:
        if not stream.settle():
            self._connect(stream)  # to the next candidate
            return
        stream.moved = time.monotonic()
        self._channel.send(wire.OPENED, stream.number)
        self._tell(stream.opened())
        self._push(stream)

    def _push(self, stream: Stream) -> None:
        """Writes what waits for the peer, and the end once there is nothing left."""
        try:
            taken = stream.push(stream.pending) if stream.pending else 0
        except OSError:
            self._break(stream, "reset")
            return
        if taken:
            stream.moved = time.monotonic()
            del stream.pending[:taken]
            self._held -= taken
            self._return_credit(stream)
        if stream.guest_done and not stream.pending:
            if stream.peer_done:
                self._remove(stream, "end", reset=False)
                return
            stream.shut()
        self._poll_peer(stream)

    def _return_credit(self, stream: Stream) -> None:
        if stream.owed >= wire.WINDOW // 2 and not stream.guest_done:
            self._channel.send(wire.CREDIT, stream.number, 0, stream.owed.to_bytes(4, "little"))
            stream.window += stream.owed
            stream.owed = 0

    def _pull(self, stream: Stream) -> None:
        """Reads from the peer straight into a frame."""
        head, room = wire.HEADER.size, min(stream.credit, wire.MAX_PAYLOAD)
        if stream.peer is None or stream.peer_done or not room:
            return
        try:
            size = stream.peer.recv_into(self._out[head : head + room])
        except BlockingIOError:
            return
        except OSError:
            self._break(stream, "reset")
            return
        if size == 0:
            stream.peer_done = True
            self._channel.send(wire.END, stream.number)
            self._push(stream)
            return
        stream.moved = time.monotonic()
        if not self._gate.moved(stream.grant, size):
            self._break(stream, "bytes")
            return
        stream.credit -= size
        stream.received += size
        wire.HEADER.pack_into(self._out, 0, wire.VERSION, wire.DATA, 0, stream.number)
        self._channel.transmit(self._out[: head + size])
        self._poll_peer(stream)

    def check_times(self) -> None:
        """Ends what has gone on, or been idle, for too long."""
        now = time.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + _CHECK_SECONDS
        limits = self._limits
        for stream in list(self._streams.values()):
            if not stream.connected:
                if now - stream.began > limits.connect_seconds:
                    stream.fault = errno.ETIMEDOUT
                    self._fail(stream, "no connection in time")
            elif now - stream.moved > limits.idle_seconds:
                self._break(stream, "idle")
            elif now - stream.began > limits.connection_seconds:
                self._break(stream, "time")

    # Ends

    def _deny(self, number: int, denied: Denied) -> None:
        self._tell(denied)
        self._channel.send(wire.REFUSED, number, denied.errno)

    def _fail(self, stream: Stream, reason: str) -> None:
        self._forget(stream)
        self._tell(stream.failed(reason))
        self._channel.send(wire.REFUSED, stream.number, stream.fault or errno.ECONNREFUSED)

    def _break(self, stream: Stream, reason: Reason) -> None:
        self._channel.send(wire.RESET, stream.number)
        self._remove(stream, reason)

    def _remove(self, stream: Stream, reason: Reason, *, reset: bool = True) -> None:
        """Ends a stream and reports that."""
        if stream.connected:
            self._tell(stream.closed(reason, time.monotonic()))
        else:
            limit: Limit | None = "egress_bytes" if reason == "bytes" else None
            self._tell(stream.failed(_UNMADE[reason], limit))
        self._forget(stream, reset=reset)

    def _forget(self, stream: Stream, *, reset: bool = True) -> None:
        del self._streams[stream.number]
        self._gate.closed(stream.grant)
        self._held -= len(stream.pending)
        stream.pending.clear()
        self._unplug(stream, reset=reset)

    def _unplug(self, stream: Stream, *, reset: bool = True) -> None:
        if stream.peer is not None:
            self._watch_peer(stream, 0)
            del self._by_fd[stream.peer.fileno()]
            stream.drop(reset=reset)
            Sockets.give()

    def _poll_peer(self, stream: Stream) -> None:
        if stream.connected:
            reading = bool(stream.credit) and not stream.peer_done
            self._watch_peer(stream, (_OUT if stream.pending else 0) | (_IN if reading else 0))

    def _watch_peer(self, stream: Stream, mask: int) -> None:
        """Polls for just what can be used: an end would be reported over and over."""
        if stream.peer is None or mask == stream.mask:
            return
        fd = stream.peer.fileno()
        if not stream.mask:
            self.peers.register(fd, mask)
        elif not mask:
            self.peers.unregister(fd)
        else:
            self.peers.modify(fd, mask)
        stream.mask = mask
