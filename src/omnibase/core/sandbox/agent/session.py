"""A session: the script's process runs piece after piece of code in one interpreter.

It runs inside the sandbox and uses the standard library only. What it tells the host is
the code's own word, since the code could do all that it does: nothing is decided by it.
The end of a call is a sign in the trace, among the attempts that came before it; a sign
that comes too early leaves what follows to the next call of the same session.
"""

import _ast
import linecache
import os
import sys
import traceback

_REPORT = 6  # the pipe that a script's exception takes by way of PID 1
# Out of the way of code that closes what it did not open.
_CHANNEL_FD, _REPORT_FD = 1000, 1001
_SIGN = "/.call/"
_MOST_VALUE = 16_384
_MOST_SOURCES = 256


def serve(job: dict, script) -> None:  # type: ignore[no-untyped-def, type-arg]
    """Runs what comes over standard input until that ends.

    Args:
        job: As of a script.
        script: The module `script`.
    """
    os.dup2(0, _CHANNEL_FD, inheritable=False)
    os.dup2(_REPORT, _REPORT_FD, inheritable=False)
    os.set_blocking(_REPORT_FD, False)
    os.close(_REPORT)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    main, courtesy = script.prepare(job)
    own, sources = os.getpid(), []  # type: ignore[var-annotated]
    while head := _read(36):
        token = os.fsdecode(head[4:])
        name = f"<call {len(sources)}>" if sources else job["path"]
        sources.append(name)
        if len(sources) > _MOST_SOURCES:
            linecache.cache.pop(sources[-_MOST_SOURCES - 1], None)
        report = _run(_read(int.from_bytes(head[:4], "little")), name, main, script, courtesy)
        _flush()
        if os.getpid() != own:
            os._exit(0)  # a child that it forked, and that came out here as well
        try:
            os.write(_REPORT_FD, report)
        except OSError:
            pass  # the code has filled it, or closed it
        try:
            os.close(os.open(_SIGN + token, os.O_RDONLY))
        except OSError:
            pass  # it always fails: the attempt itself is the sign


def _run(code, name, main, script, courtesy) -> bytes:  # type: ignore[no-untyped-def]
    """Runs one piece; returns its report: see `session.report` of the host."""
    value = None
    try:
        text = code.decode("utf-8", "replace")
        linecache.cache[name] = (len(text), None, text.splitlines(True), name)
        flags: int = _ast.PyCF_ONLY_AST
        tree = compile(code, name, "exec", flags, dont_inherit=True)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], _ast.Expr) else None
        if tree.body:
            exec(compile(tree, name, "exec", dont_inherit=True), main.__dict__)  # noqa: S102
        if last is not None:
            expression = compile(_ast.Expression(last.value), name, "eval", dont_inherit=True)
            found = eval(expression, main.__dict__)  # noqa: S307
            if found is not None:
                main.__dict__["_"] = found
                value = _cut(repr(found))
        return _report(0, value, b"")
    except SystemExit as leaving:
        code = leaving.code
        if code is None or isinstance(code, int):
            return _report((code or 0) & 0xFF, None, b"")
        print(code, file=sys.stderr)
        return _report(1, None, b"")
    except BaseException as error:
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        try:
            script.explain(error, courtesy)
            shown = "".join(traceback.format_exception(error))
            hook = sys.excepthook
            if hook is sys.__excepthook__:
                sys.stderr.write(shown)
            else:
                hook(type(error), error, error.__traceback__)
        except BaseException:
            shown = f"{type(error).__qualname__}: it could not be shown\n"
        interrupted = isinstance(error, KeyboardInterrupt)
        return _report(130 if interrupted else 1, None, script.told(error, shown))


def _report(code: int, value: "bytes | None", error: bytes) -> bytes:
    size = b"\xff" * 4 if value is None else len(value).to_bytes(4, "little")
    return b"OBS1" + code.to_bytes(4, "little") + size + (value or b"") + error


def _flush() -> None:
    for stream in {sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__}:
        try:
            stream.flush()  # type: ignore[union-attr]
        except BaseException:  # noqa: S110
            pass  # the code has put something else in its place


def _read(size: int) -> bytes:
    parts = []
    while size:
        part = os.read(_CHANNEL_FD, size)
        if not part:
            return b""  # the session is over
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _cut(text: str) -> bytes:
    data = text[:_MOST_VALUE].encode("utf-8", "backslashreplace")[:_MOST_VALUE]
    return data.decode("utf-8", "ignore").encode()
