"""Compiling seccomp rules to classic BPF, which the agent installs for the script. Pure.

Layout of ``struct seccomp_data``: ``nr`` at 0, ``arch`` at 4, arguments from 16
in 8-byte words, low half first (``linux/seccomp.h``). Only low halves are
compared: all arguments judged are 32-bit to the kernel, which ignores the rest.
"""

from __future__ import annotations

import struct
from typing import Final

from omnibase.core.sandbox.syscalls import SeccompRule

__all__ = ["compile_filter"]

_LOAD, _AND, _JUMP_EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_AUDIT_ARCH_X86_64: Final = 0xC000003E
_ALLOW: Final = 0x7FFF_0000
_ERRNO: Final = 0x0005_0000
_KILL: Final = 0x8000_0000  # the process; gVisor 20240729 ends the thread


def compile_filter(rules: tuple[SeccompRule, ...]) -> bytes:
    """Returns an array of ``struct sock_filter``: the first rule that holds decides."""
    program = [_op(_LOAD, 4), _op(_JUMP_EQUAL, _AUDIT_ARCH_X86_64, 1, 0), _op(_RETURN, _KILL)]
    program.append(_op(_LOAD, 0))
    for rule in rules:
        verdict = _op(_RETURN, _KILL if rule.errno is None else _ERRNO | rule.errno)
        for number in rule.numbers:
            body: list[bytes] = []
            tests = len(rule.args)
            for position, arg in enumerate(rule.args):
                # To the reload behind the verdict, past the tests that are left.
                missed = 3 * (tests - position - 1) + 1
                body += [
                    _op(_LOAD, 16 + 8 * arg.index),
                    _op(_AND, arg.mask),
                    _op(_JUMP_EQUAL, arg.value, 0, missed),
                ]
            body.append(verdict)
            if tests:
                body.append(_op(_LOAD, 0))
            program += [_op(_JUMP_EQUAL, number, 0, len(body)), *body]
    program.append(_op(_RETURN, _ALLOW))
    return b"".join(program)


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)
