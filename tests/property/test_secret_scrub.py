"""The scrubber against a slow reference: a byte goes if, and only if, it is part of a form."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from omnibase.core.secrets import Scrubber, Secret
from omnibase.core.secrets.scrub import forms
from omnibase.core.secrets.store import MIN_SECRET_BYTES

# Few letters, so that values repeat themselves, overlap, and turn up by chance.
letters = st.sampled_from([b"a", b"b", b"+", b"%"])
values = st.one_of(
    st.lists(letters, min_size=4, max_size=9).map(b"".join),
    st.binary(min_size=4, max_size=12).filter(lambda value: len(value.strip()) >= 4),
)
secrets = st.lists(values, min_size=1, max_size=3).map(
    lambda found: tuple(Secret(name=f"S{n}", value=value) for n, value in enumerate(found))
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[tuple[Secret, ...], bytes]:
    """Secrets, and a text with whole forms, pieces of forms, and noise."""
    chosen = draw(secrets)
    found = [form for secret in chosen for form in forms(secret.value)]
    piece = st.sampled_from(found).flatmap(
        lambda form: st.tuples(st.integers(0, len(form)), st.integers(0, len(form))).map(
            lambda ends: form[min(ends) : max(ends)]
        )
    )
    part = st.one_of(st.sampled_from(found), piece, st.binary(max_size=4), letters)
    return chosen, b"".join(draw(st.lists(part, max_size=12)))


def reference(chosen: tuple[Secret, ...], text: bytes) -> bytes:
    """Finds every occurrence at every place, merges those that overlap, and puts in the marks."""
    names: dict[bytes, str] = {}
    for secret in chosen:
        for form in forms(secret.value):
            names.setdefault(form, secret.name)
    shown, until = b"", 0
    for at in range(len(text)):
        here = [form for form in names if text[at : at + len(form)] == form]
        if here and at >= until:
            shown += f"***{names[max(here, key=len)]}***".encode()
        until = max([until, *(at + len(form) for form in here)])
        if at >= until:
            shown += text[at : at + 1]
    return shown


def chunks(text: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[a:b] for a, b in pairwise(places)]


@given(cases(), st.lists(st.integers(0, 1 << 16), max_size=12))
def test_chunks_make_no_difference(case: tuple[tuple[Secret, ...], bytes], cuts: list[int]) -> None:
    chosen, text = case
    scrubber = Scrubber(chosen)
    stream = scrubber.stream()
    assert b"".join(map(stream.feed, chunks(text, cuts))) + stream.finish() == scrubber.data(text)


@given(cases())
def test_byte_by_byte_makes_no_difference(case: tuple[tuple[Secret, ...], bytes]) -> None:
    chosen, text = case
    stream = Scrubber(chosen).stream()
    fed = b"".join(stream.feed(text[at : at + 1]) for at in range(len(text)))
    assert fed + stream.finish() == Scrubber(chosen).data(text)


@given(cases())
def test_a_byte_goes_if_and_only_if_it_belongs_to_a_form(
    case: tuple[tuple[Secret, ...], bytes],
) -> None:
    chosen, text = case
    assert Scrubber(chosen).data(text) == reference(chosen, text)


@given(cases(), st.lists(st.integers(0, 1 << 16), max_size=6))
def test_no_more_is_held_back_than_may_begin_a_form(
    case: tuple[tuple[Secret, ...], bytes], cuts: list[int]
) -> None:
    chosen, text = case
    found = [form for secret in chosen for form in forms(secret.value)]
    stream = Scrubber(chosen).stream()
    seen = given_back = b""
    for chunk in chunks(text, cuts):
        seen += chunk
        given_back += stream.feed(chunk)
        held = max(
            (n for n in range(len(seen) + 1) if any(f.startswith(seen[len(seen) - n :]) and
             n < len(f) for f in found)),
            default=0,
        )  # fmt: skip
        # All that is certain has been given: what comes before the longest beginning.
        assert given_back == _certain(chosen, seen, held)


def _certain(chosen: tuple[Secret, ...], seen: bytes, held: int) -> bytes:
    stream = Scrubber(chosen).stream()
    given_back = b"".join(stream.feed(seen[at : at + 1]) for at in range(len(seen)))
    assert reference(chosen, seen).startswith(given_back)
    if not held:
        assert given_back == reference(chosen, seen)
    return given_back


@given(cases(), st.lists(st.integers(0, 1 << 16), max_size=6))
def test_a_cut_leaves_less_than_four_bytes_of_a_beginning(
    case: tuple[tuple[Secret, ...], bytes], cuts: list[int]
) -> None:
    chosen, text = case
    stream = Scrubber(chosen).stream()
    whole = b"".join(map(stream.feed, chunks(text, cuts))) + stream.finish(cut=True)
    begun = [
        size
        for secret in chosen
        for form in forms(secret.value)
        for size in range(MIN_SECRET_BYTES, len(form))
        if text.endswith(form[:size])
    ]
    if begun:
        assert whole.endswith(b"***")
    else:
        assert whole == reference(chosen, text)
