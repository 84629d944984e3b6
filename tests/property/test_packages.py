"""Requirements: any text is read or refused, and what is read has one spelling."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from omnibase.core.packages.lock import Lock, from_rows, of_files, pinned_digest
from omnibase.core.packages.requirements import parse, to_text
from omnibase.core.packages.trouble import explain
from omnibase.errors import ConfigurationError

NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,4})?", fullmatch=True)
VERSIONS = st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,2}", fullmatch=True)
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
WORDS = st.sampled_from(
    ["a", "==", "1", "--hash=sha256:", "0" * 64, "\\\n", "\n", "#", " ", "-e", "[x]", ";", "@", "/"]
)


@given(st.text(max_size=200) | st.lists(WORDS, max_size=30).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigurationError):
        found = parse(text)
        assert parse(to_text(found)) == found
        for one in found:
            assert "\n" not in one.text and not one.text.startswith("-")
            assert "://" not in one.text and " @ " not in one.text


@given(st.dictionaries(NAMES, st.tuples(VERSIONS, DIGESTS), min_size=1, max_size=6))
def test_a_lock_names_its_layer_by_itself(packages: dict[str, tuple[str, str]]) -> None:
    files = [
        (f"{name.replace('-', '_')}-{version}-py3-none-any.whl", sha256)
        for name, (version, sha256) in packages.items()
    ]
    lock = of_files(files, "cp")
    assert from_rows(lock.to_rows(), "cp") == lock
    assert pinned_digest("cp", parse(lock.to_text())) == lock.digest
    assert Lock(platform="other", packages=lock.packages).digest != lock.digest


@given(st.text(max_size=300), st.lists(st.text(max_size=40), max_size=3))
def test_any_complaint_has_an_answer(log: str, denied: list[str]) -> None:
    error = explain(log, denied)
    assert error.hint and error.reason and len(error.message) < 1000
