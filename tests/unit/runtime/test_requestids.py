"""Ids of requests."""

import re

from hypothesis import given
from hypothesis import strategies as st

from pillion.runtime import requestids


@given(st.text() | st.from_regex(requestids.PATTERN, fullmatch=True))
def test_a_valid_id_survives_every_place_it_is_written_to(text):
    if requestids.valid(text) is not None:
        assert 1 <= len(text) <= 128
        assert text.isascii()
        assert text.isprintable()
        assert not re.search(r"[\s\"'<>\\,;]", text)


def test_ids_that_are_made_are_valid_and_differ():
    made = {requestids.generate() for _ in range(1000)}
    assert len(made) == 1000
    assert all(requestids.valid(one) for one in made)


def test_no_id_is_no_valid_id():
    assert requestids.valid(None) is None
    assert requestids.valid("a\n") is None
