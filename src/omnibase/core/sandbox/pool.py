"""Warm sandboxes, kept in number, each for one run: a `SandboxRunner` that has some ready.

One thread keeps the pool: it starts members, lets them go, and removes what is left of
them. It is in the host's namespaces, as whoever removes a run's directory has to be.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import threading
import time
from collections import deque
from typing import Final

from omnibase.core.sandbox.admission import Admission
from omnibase.core.sandbox.cgroup import Cgroup
from omnibase.core.sandbox.pool_fit import misfit
from omnibase.core.sandbox.pool_member import LINGER_SECONDS, Member, MemberState
from omnibase.core.sandbox.pool_sandbox import Recipe
from omnibase.core.sandbox.pool_serving import NotBegun, Serving
from omnibase.core.sandbox.pool_stats import PoolStats
from omnibase.core.sandbox.runner import Cancel, Ended, Observer, RunRequest, SandboxRunner
from omnibase.core.sandbox.state import RunDirectory
from omnibase.errors import OmniBaseError

__all__ = ["PoolRunner"]

_TICK_SECONDS: Final = 0.1
_MOST_PAUSE_SECONDS: Final = 30.0
_REMEMBERED: Final = 512
_AWAKE: Final = 2
_TRIES: Final = 3  # as for a sandbox of its own: `resilience.RetryPolicy`


class PoolRunner:
    """Runs in warm sandboxes as long as there are some, and else as another runner does.

    Args:
        recipe: What its members are.
        cold: The other one.
        size: How many are to be ready.
        admission: Where their memory is counted.
        idle_seconds: A member that was not wanted for so long is replaced by none until
            the next run; ``None`` keeps them.
        boots_at_once: Most members that are started at one time.
        wait_seconds: How long a run waits for a member that is being started, before it
            starts a sandbox of its own.
    """

    def __init__(
        self,
        recipe: Recipe,
        cold: SandboxRunner,
        size: int,
        admission: Admission,
        *,
        idle_seconds: float | None = None,
        boots_at_once: int | None = None,
        wait_seconds: float = 1.0,
    ) -> None:
        self._recipe = recipe
        self._cold = cold
        self._reserved = recipe.base.memory_bytes
        self._size = size
        self._admission = admission
        self._idle_seconds = idle_seconds
        self._at_once = boots_at_once or max(1, (os.cpu_count() or 1) // 2)
        self._wait_seconds = wait_seconds
        self._changed = threading.Condition()
        self._members: dict[Member, None] = {}
        self._ready: deque[Member] = deque()
        self._waiting = 0
        self._closing = False
        self._pid = os.getpid()
        self._wanted = size
        self._last_run = time.monotonic()
        self._pause_until, self._pause = 0.0, 0.0
        self._news: queue.SimpleQueue[Member | None] = queue.SimpleQueue()
        self._warm_runs = self._cold_runs = self._failed = self._lost = 0
        self._reasons: dict[str, int] = {}
        self._teardowns: deque[float] = deque(maxlen=_REMEMBERED)
        self._boot_seconds = 0.0
        self._problem: tuple[str | None, str | None] = (None, None)
        self._keeper = threading.Thread(target=self._keep, name="omnibase-pool", daemon=True)
        self._keeper.start()

    # Runs

    def run(self, request: RunRequest, observer: Observer, cancel: Cancel) -> Ended:
        """See `SandboxRunner.run`; ``result.cold_reason`` says why a run had no member.

        Raises:
            SandboxUnavailable: The process is draining.
        """
        reason = misfit(self._recipe.base, request.spec, self._recipe.preload)
        failed = 0
        while reason is None:
            member = self._claim(cancel)
            if member is None:
                reason = "no sandbox of the pool was ready"
            elif member.memory_bytes >= request.spec.memory_bytes:
                self._give_back(member)
                reason = "a sandbox of the pool uses more memory than it may have"
            elif not self._get_place(member, request.spec.memory_bytes):
                reason = "there was no place for it at once"
            else:
                again = failed + 1 < _TRIES
                try:
                    ended = self._serve(member, request, observer, cancel, again=again)
                finally:
                    member.leave()  # an interrupt may have come before it was served
                    self._admission.leave(request.spec.memory_bytes)
                    self._news.put(None)  # not before: a start takes time from the run
                if isinstance(ended, Ended):
                    return ended
                failed += 1
                observer.on_retry(failed, ended, 0.0)
                if not again:
                    reason = ended
        return self._run_cold(reason, request, observer, cancel)

    def _serve(
        self,
        member: Member,
        request: RunRequest,
        observer: Observer,
        cancel: Cancel,
        *,
        again: bool,
    ) -> Ended | str:
        """Returns why another sandbox may have it, if one may.

        One that had begun may only ``again``, and never for what the script did.
        """
        try:
            ended = Serving(member, request, observer, cancel).serve()
        except NotBegun:
            with self._changed:
                self._lost += 1
            return "a warm sandbox failed before the script began"
        fault = ended.fault
        if fault is not None and again and request.idempotent and not ended.result.violations:
            return fault.message
        with self._changed:
            self._warm_runs += 1
        return ended

    def _run_cold(
        self, reason: str, request: RunRequest, observer: Observer, cancel: Cancel
    ) -> Ended:
        with self._changed:
            self._cold_runs += 1
            self._reasons[reason] = self._reasons.get(reason, 0) + 1
        shared = request.spec.layer is not None and request.spec.layer == self._recipe.base.layer
        with self._recipe.held() if shared else contextlib.nullcontext():
            ended = self._cold.run(request, observer, cancel)
        result = dataclasses.replace(ended.result, cold_reason=reason)
        if ended.fault is not None and ended.fault.result is not None:
            ended.fault.result = result
        return dataclasses.replace(ended, result=result)

    def _claim(self, cancel: Cancel) -> Member | None:
        """Takes a member; waits for one if that comes sooner than one of its own would."""
        deadline = time.monotonic() + self._wait_seconds
        with self._changed:
            self._last_run = time.monotonic()
            self._wanted = self._size
            try:
                self._waiting += 1
                while not self._closing:
                    for _ in range(len(self._ready)):
                        member = self._ready.popleft()
                        if member.claim():
                            return member
                        self._ready.append(member)  # it is being looked at, or is about to go
                    coming = len(self._ready)
                    coming += sum(m.state is MemberState.BOOTING for m in self._members)
                    left = deadline - time.monotonic()
                    if self._waiting > coming or left <= 0 or cancel.is_set():
                        return None
                    self._changed.wait(min(left, 0.05))
                return None
            finally:
                self._waiting -= 1

    def _get_place(self, member: Member, memory_bytes: int) -> bool:
        """Makes a place of what is set aside for a member; without one it is given back."""
        placed = False
        try:
            placed = self._admission.convert(self._reserved, memory_bytes)
        finally:
            if not placed:
                self._give_back(member)
        return placed

    def _give_back(self, member: Member) -> None:
        with self._changed:
            if member.unclaim():
                self._ready.appendleft(member)
                self._changed.notify_all()

    # What others ask of it

    def stats(self) -> PoolStats:
        """Tells how the pool is doing."""
        with self._changed:
            states = [member.state for member in self._members]
            ready = [m for m in self._members if m.state is MemberState.READY]
            running = sum(m.state is MemberState.CLAIMED and not m.ended_at for m in self._members)
            booting = states.count(MemberState.BOOTING)
            ended = sorted(self._teardowns)
            return PoolStats(
                size=self._size,
                ready=len(ready),
                booting=booting,
                running=running,
                ending=len(states) - len(ready) - running - booting,
                warm_runs=self._warm_runs,
                cold_runs=self._cold_runs,
                cold_reasons=dict(self._reasons),
                failed_boots=self._failed,
                lost=self._lost,
                idle_memory_bytes=sum(member.memory_bytes for member in ready),
                boot_seconds=self._boot_seconds,
                teardown_seconds=ended[len(ended) // 2] if ended else 0.0,
                problem=self._problem[0],
                hint=self._problem[1],
            )

    def wait_ready(self, count: int, timeout_seconds: float) -> bool:
        """Waits until so many members are ready; returns whether they are."""
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            while len(self._ready) < count:
                self._last_run, self._wanted = time.monotonic(), self._size  # somebody wants them
                left = deadline - time.monotonic()
                if left <= 0 or self._closing:
                    return False
                self._changed.wait(min(left, _TICK_SECONDS))
        return True

    def close(self) -> None:
        """Lets all members go, those with a run once that has ended, and waits for it.

        Further runs start sandboxes of their own.
        """
        if self._pid != os.getpid():
            return  # the parent's: none of its threads is here, and its locks may be held
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._news.put(None)
        self._keeper.join()

    # The keeper

    def _keep(self) -> None:
        while not (self._closing and not self._members):
            try:
                self._turn()
            except Exception as error:  # whatever it is, the pool goes on
                self._problem = f"{type(error).__name__}: {error}", None

    def _turn(self) -> None:
        with contextlib.suppress(queue.Empty):
            news = self._news.get(timeout=_TICK_SECONDS)
            if news is None and not self._closing:
                time.sleep(LINGER_SECONDS)
            self._note(news)
            while True:
                self._note(self._news.get_nowait())
        if not self._closing:
            self._expire()
            self._refill()
            self._rest()
            return
        for member in list(self._members):
            if member.state in (MemberState.BOOTING, MemberState.READY):
                member.leave()

    def _note(self, member: Member | None) -> None:
        """Takes what a member has told: that it is ready, or gone."""
        if member is None or member not in self._members:
            return  # that it was ready may come to be read once it is gone
        if member.state is not MemberState.GONE:
            with self._changed:
                if member.state is MemberState.READY:
                    self._boot_seconds, self._pause = member.boot_seconds, 0.0
                    self._problem = None, None
                    self._ready.append(member)
                    self._changed.notify_all()
            return
        if member.cgroup.remove():
            member.directory.remove()
        else:  # the next sweep finds it by the directory
            member.directory.release()
        with self._changed:
            del self._members[member]
            if member.used:
                self._teardowns.append(member.gone_at - member.ended_at)
            else:
                self._admission.unreserve(self._reserved)
                with contextlib.suppress(ValueError):
                    self._ready.remove(member)
            if member.fault is not None and not self._closing:
                self._problem = str(member.fault), getattr(member.fault, "hint", None)
                if member.ready_at:
                    self._lost += 1
                else:
                    self._hold_off()
            self._changed.notify_all()

    def _hold_off(self) -> None:
        """What does not start is not started again and again."""
        self._failed += 1
        self._pause = min(_MOST_PAUSE_SECONDS, max(0.25, 2 * self._pause))
        self._pause_until = time.monotonic() + self._pause

    def _expire(self) -> None:
        """Lets those go that nobody wants, or whose memory a run waits for."""
        idle = self._idle_seconds
        unwanted: list[Member] = []
        with self._changed:
            if idle is not None and time.monotonic() - self._last_run > idle:
                self._wanted = 0
                unwanted += self._ready
                self._ready.clear()
            elif self._ready and self._admission.pressed:
                unwanted.append(self._ready.pop())
        for member in unwanted:
            member.leave()

    def _rest(self) -> None:
        """Has all rest but those that are next."""
        with self._changed:
            ready = tuple(self._ready)
        for place, member in enumerate(ready):
            member.rest(place >= _AWAKE)

    def _refill(self) -> None:
        while True:
            states = [member.state for member in list(self._members)]
            booting = states.count(MemberState.BOOTING)
            have = booting + states.count(MemberState.READY)
            if (
                have >= self._wanted
                or booting >= self._at_once
                or time.monotonic() < self._pause_until
                or not self._admission.reserve(self._reserved)
            ):
                return
            try:
                self._start_one()
            except (OmniBaseError, OSError, RuntimeError) as error:
                self._admission.unreserve(self._reserved)
                with self._changed:
                    self._problem = str(error), getattr(error, "hint", None)
                    self._hold_off()

    def _start_one(self) -> None:
        runner = self._recipe.runner
        directory = RunDirectory.create(runner.state)
        cgroup = Cgroup(runner.hierarchy, directory.run_id)
        try:
            directory.record_cgroups(cgroup.paths)
            member = Member(self._recipe, directory, cgroup, self._news.put)
            with self._changed:
                self._members[member] = None
            try:
                member.start()
            except RuntimeError:
                with self._changed:
                    del self._members[member]
                raise
        except BaseException:
            directory.remove()
            raise
