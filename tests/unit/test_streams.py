"""Output is kept to a cap, exactly, with one mark where it was cut."""

from __future__ import annotations

import os

import pytest

from omnibase.core.sandbox.streams import Output, Pipes
from omnibase.core.secrets import Scrubber, Secret

MARK = b"\n[output cut at %d bytes]\n"


class Sink:
    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes]] = []

    def __call__(self, stream: str, chunk: bytes) -> None:
        self.seen.append((stream, chunk))


@pytest.mark.parametrize("truncate", [False, True])
def test_below_and_at_the_cap_nothing_is_cut(truncate: bool) -> None:
    sink = Sink()
    output = Output(limit=10, truncate=truncate, sink=sink)
    assert output.add("stdout", b"12345")
    assert output.add("stderr", b"678")
    assert output.add("stdout", b"90")
    assert (output.kept("stdout"), output.kept("stderr")) == (b"1234590", b"678")
    assert (output.total, output.truncated) == (10, False)
    assert sink.seen == [("stdout", b"12345"), ("stderr", b"678"), ("stdout", b"90")]


@pytest.mark.parametrize("truncate", [False, True])
@pytest.mark.parametrize("chunks", [[b"12345678901"], [b"1234567890", b"1"], [b"12345", b"678901"]])
def test_one_byte_past_the_cap_is_cut(truncate: bool, chunks: list[bytes]) -> None:
    sink = Sink()
    output = Output(limit=10, truncate=truncate, sink=sink)
    assert [output.add("stdout", chunk) for chunk in chunks][-1] is truncate
    assert output.kept("stdout") == b"1234567890" + MARK % 10
    assert (output.total, output.truncated) == (11, True)
    assert b"".join(chunk for _, chunk in sink.seen) == output.kept("stdout")


def test_the_mark_comes_once_and_all_is_counted() -> None:
    sink = Sink()
    output = Output(limit=4, truncate=True, sink=sink)
    for stream in ("stdout", "stderr", "stdout"):
        assert output.add(stream, b"abcdef")
    assert output.kept("stdout") == b"abcd" + MARK % 4
    assert output.kept("stderr") == b""
    assert output.total == 18
    assert sink.seen == [("stdout", b"abcd"), ("stdout", MARK % 4)]


def test_once_cut_a_run_may_not_go_on() -> None:
    output = Output(limit=1, truncate=False, sink=Sink())
    assert not output.add("stdout", b"ab")
    assert not output.add("stdout", b"c")


def test_a_cap_of_nothing() -> None:
    sink = Sink()
    output = Output(limit=0, truncate=False, sink=sink)
    assert output.add("stdout", b"")
    assert sink.seen == []
    assert not output.add("stderr", b"x")
    assert output.kept("stderr") == MARK % 0


def hiding(limit: int, sink: Sink, *, truncate: bool = True) -> Output:
    scrubber = Scrubber([Secret(name="T", value=b"hunter22")])
    return Output(limit=limit, truncate=truncate, sink=sink, scrubber=scrubber)


def test_secrets_are_taken_out_of_each_stream_across_chunks() -> None:
    sink = Sink()
    output = hiding(1000, sink)
    for stream, chunk in (("stdout", b"a hun"), ("stderr", b"hunt"), ("stdout", b"ter22 b"),
                          ("stderr", b"er"), ("stdout", b" hun")):  # fmt: skip
        assert output.add(stream, chunk)
    assert output.kept("stdout") == b"a ***T*** b "
    output.finish(cut=False)
    assert (output.kept("stdout"), output.kept("stderr")) == (b"a ***T*** b hun", b"hunter")
    for stream in ("stdout", "stderr"):
        assert b"".join(c for s, c in sink.seen if s == stream) == output.kept(stream)
    assert all(chunk for _, chunk in sink.seen)
    assert output.total == 22


@pytest.mark.parametrize("truncate", [False, True])
def test_a_secret_that_the_cap_cuts_is_not_begun(truncate: bool) -> None:
    sink = Sink()
    output = hiding(10, sink, truncate=truncate)
    output.add("stderr", b"hunt")
    assert output.add("stdout", b"a hunter22") is truncate
    output.finish(cut=False)
    assert output.kept("stdout") == b"a ***T***" + MARK % 10
    assert output.kept("stderr") == b"***T***"


def test_a_secret_that_the_end_of_the_run_cuts_is_not_begun() -> None:
    output = hiding(1000, Sink())
    assert output.add("stdout", b"hunter2")
    output.finish(cut=True)
    assert output.kept("stdout") == b"***T***"


def test_pipes_are_wired_the_right_way_round_and_close_once() -> None:
    pipes = Pipes()
    pipes.open()
    try:
        stdin, stdout, stderr, control, report = pipes.guest
        os.write(pipes.stdin, b"in")
        os.write(pipes.control, b"job")
        os.write(stdout, b"out")
        os.write(stderr, b"err")
        os.write(report, b"error")
        assert os.read(stdin, 9) == b"in"
        assert os.read(control, 9) == b"job"
        assert os.read(pipes.stdout, 9) == b"out"
        assert os.read(pipes.stderr, 9) == b"err"
        assert os.read(pipes.report, 9) == b"error"
        for host in (pipes.stdin, pipes.stdout, pipes.stderr, pipes.control, pipes.report):
            assert not os.get_blocking(host)
        assert not any(map(os.get_inheritable, (stdin, stdout, stderr, control, report)))
        pipes.close_guest()
        assert pipes.guest == []
        assert os.read(pipes.stdout, 9) == b""
        pipes.close("stdout")
        pipes.close("stdout")
        assert pipes.stdout == -1
    finally:
        pipes.close_all()
    assert {pipes.stdin, pipes.stdout, pipes.stderr, pipes.control, pipes.report} == {-1}
    pipes.close_all()
