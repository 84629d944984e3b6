"""The command line: ``omnibase COMMAND ...``.

Start-up time matters, so each command imports what it needs when it runs.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit code (see `omnibase.cli.exits`).

    It never raises: errors are printed to standard error with what to do about
    them. Ctrl-C, SIGTERM and SIGHUP end a run, and clean up after it; SIGTERM after
    ``OMNIBASE_GRACE`` seconds, if that is set.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    if argv is None:
        gc.set_threshold(50_000)  # importing makes no garbage worth ten searches
    from omnibase.cli import console

    try:
        if arguments in (["--version"], ["-V"]):
            from omnibase import __version__

            console.open_missing()
            console.out(f"omnibase {__version__}\n")
            return 0
        with _Signals(last=argv is None) as signals:
            return _guarded(arguments, signals)
    except _Signalled as signalled:
        if os.isatty(2):
            console.note("")  # leaves the line that `^C` is on
        return 128 + signalled.number
    except KeyboardInterrupt:  # before the handlers were there
        return 130
    except console.Closed:
        return 141
    except console.Unwritable as failure:
        console.error(f"standard output cannot be written: {failure}", "check where it goes")
        return 125
    finally:
        if argv is None:
            gc.freeze()  # the interpreter's end would search all of it for garbage


def _guarded(arguments: list[str], signals: _Signals) -> int:
    from omnibase.cli import console, exits
    from omnibase.cli.commands import dispatch
    from omnibase.errors import OmniBaseError

    console.open_missing()
    try:
        signals.grace_seconds = _grace()
        return dispatch(arguments)
    except OmniBaseError as error:
        console.report(error)
        return exits.for_error(error)
    except (console.Closed, console.Unwritable):
        raise
    except Exception as error:
        if os.environ.get("OMNIBASE_DEBUG"):
            import traceback

            console.note(traceback.format_exc().rstrip())
        first = str(error).partition("\n")[0]
        console.error(
            f"unexpected {type(error).__name__}: {first}" if first else
            f"unexpected {type(error).__name__}",
            "this is a defect: run it again with `OMNIBASE_DEBUG=1` and report what it prints",
        )  # fmt: skip
        return exits.FAILED


def _grace() -> float:
    """Returns how long a run may go on after SIGTERM.

    Raises:
        ConfigurationError: ``OMNIBASE_GRACE`` is malformed.
    """
    text = os.environ.get("OMNIBASE_GRACE", "")
    if not text:
        return 0.0
    if not (text.isascii() and text.isdecimal() and int(text) <= 86_400):
        from omnibase.errors import ConfigurationError

        raise ConfigurationError(
            f"`OMNIBASE_GRACE={text[:40]}` is no number of seconds",
            hint="set a whole number up to 86400, e.g. `OMNIBASE_GRACE=30`",
        )
    return float(text)


class _Signalled(BaseException):
    """A signal asked us to end; passes through every ``except Exception``."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Signals:
    """Turns SIGINT, SIGTERM and SIGHUP into `_Signalled`, once.

    The first ends the run and cleans up; the second is taken for the same
    impatient request; the third is obeyed at once: the next run cleans up then.

    Args:
        last: The process ends right after, so that one more signal should not
            interrupt that.

    Attributes:
        grace_seconds: A first SIGTERM is heeded that much later, if the command has not
            come to its own end by then.
    """

    def __init__(self, *, last: bool) -> None:
        self._last = last
        self.grace_seconds = 0.0
        self._waits = False

    def __enter__(self) -> _Signals:
        import signal
        import threading

        self._seen = 0
        self._before: dict[signal.Signals, object] = {}
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            before = signal.getsignal(number)
            if before is not signal.SIG_IGN:  # `nohup`, or `&` in a script
                self._before[number] = before
                signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        import signal

        if number == signal.SIGTERM and self.grace_seconds and not self._waits:
            self._waits = True
            self._before[signal.SIGALRM] = signal.signal(
                signal.SIGALRM, lambda _number, frame: self._handle(signal.SIGTERM, frame)
            )
            signal.setitimer(signal.ITIMER_REAL, self.grace_seconds)
            return
        self._seen += 1
        if self._seen != 2:
            raise _Signalled(number)

    def __exit__(self, *_: object) -> None:
        import signal

        if self._waits:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_IGN if self._last else before)  # type: ignore[arg-type]
