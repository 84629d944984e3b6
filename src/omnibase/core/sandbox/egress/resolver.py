"""Looking names up on the host, in threads of one run, with an answer or a deadline.

``getaddrinfo`` cannot be interrupted. So a run has a few threads for it, and no
more: a name server that does not answer holds up the run that asked, and no other.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

__all__ = ["Resolver", "look_up"]

_THREADS: Final = 4
_WAITING: Final = 1024
_HOSTS: Final = "/etc/hosts"
_MAX_ANSWERS: Final = 64
_JOIN_SECONDS: Final = 1.0


def look_up(name: str) -> Sequence[str]:
    """Returns the addresses of a canonical host name, by this host's own configuration.

    A name with a dot is taken as it is: the host's search list is not tried, since
    it would lead to another name than the one that was granted.

    Raises:
        OSError: It has none, or there is no answer.
    """
    if "." not in name:
        return _addresses(name)
    listed = _in_hosts_file(name)
    return listed or _addresses(f"{name}.")


def _addresses(name: str) -> list[str]:
    answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))[:_MAX_ANSWERS]


def _in_hosts_file(name: str) -> list[str]:
    found = []
    try:
        with open(_HOSTS, encoding="utf-8", errors="replace") as file:
            for line in file:
                fields = line.partition("#")[0].split()
                if name in (field.lower() for field in fields[1:]):
                    found.append(fields[0])
    except OSError:
        return []
    return found[:_MAX_ANSWERS]


class Resolver:
    """Look-ups of one run.

    Args:
        look_up: Name → addresses; raises `OSError`.
        answered: Called from a thread of the resolver when there is an answer.
    """

    def __init__(
        self, look_up: Callable[[str], Sequence[str]], answered: Callable[[], None]
    ) -> None:
        self._look_up = look_up
        self._answered = answered
        self._questions: queue.SimpleQueue[tuple[int, str] | None] = queue.SimpleQueue()
        self._answers: deque[tuple[int, Sequence[str]]] = deque()
        self._threads: list[threading.Thread] = []
        self._open = 0
        self._closed = False
        self._lock = threading.Lock()  # no answer is told once it is closed

    def ask(self, key: int, name: str) -> bool:
        """Asks for a name; returns whether there is room for one more question."""
        if self._open >= _WAITING:
            return False
        self._open += 1
        if len(self._threads) < min(self._open, _THREADS):
            thread = threading.Thread(target=self._work, name="omnibase-resolver", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the process has no thread left
                if not self._threads:
                    self._open -= 1
                    return False
            else:
                self._threads.append(thread)
        self._questions.put((key, name))
        return True

    def answers(self) -> list[tuple[int, Sequence[str]]]:
        """Takes what has come: ``(key, addresses)``, none if the look-up failed."""
        taken = []
        while self._answers:
            taken.append(self._answers.popleft())
        self._open -= len(taken)
        return taken

    def close(self) -> None:
        """Ends the threads; one that waits for a name server ends when that gives up."""
        with self._lock:
            self._closed = True
        for _ in self._threads:
            self._questions.put(None)
        deadline = time.monotonic() + _JOIN_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while (question := self._questions.get()) is not None and not self._closed:
            key, name = question
            try:
                found = self._look_up(name)
            except (OSError, UnicodeError):
                found = ()
            with self._lock:
                if not self._closed:
                    self._answers.append((key, found))
                    self._answered()
