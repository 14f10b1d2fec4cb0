"""Ids, clocks and places in lists."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.delivery.desk import _cursor, _place
from pillion.delivery.identifiers import make_message_id
from pillion.delivery.model import MESSAGE_ID, delivery_id, split_delivery_id
from pillion.delivery.steady import SteadyClock

ids = st.from_regex(MESSAGE_ID, fullmatch=True)
names = st.from_regex(r"[a-z0-9]([-.a-z0-9]{0,60}[a-z0-9])?", fullmatch=True)


@given(message=ids, destination=names)
def test_the_id_of_a_delivery_can_be_taken_apart(message, destination):
    assert split_delivery_id(delivery_id(message, destination)) == (message, destination)


@pytest.mark.parametrize("text", ["", "~", "msg_1", "msg_1~", "~billing", "a.b~billing", "msg_1~" + "x" * 254, "é~x"])
def test_what_is_no_delivery_id_is_recognised(text):
    assert split_delivery_id(text) is None


@given(st.lists(st.tuples(st.integers(0, 2**47), st.binary(min_size=10, max_size=10)), min_size=2, max_size=20))
def test_message_ids_sort_by_time_and_are_safe_to_sign(stamps):
    made = [(ms, make_message_id(ms * 1_000_000, entropy)) for ms, entropy in stamps]
    assert all(MESSAGE_ID.fullmatch(text) and len(text) == 36 for _, text in made)
    for ms, text in made:
        for other_ms, other in made:
            assert (ms < other_ms) <= (text < other)


class Hands:
    """A clock that is set by hand."""

    def __init__(self):
        self.wall = 1_000
        self.monotonic = 50

    def wall_ns(self):
        return self.wall

    def monotonic_ns(self):
        return self.monotonic


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(-200, 200)), max_size=50))
def test_a_steady_clock_never_goes_back_and_never_falls_behind_the_wall(moves):
    hands = Hands()
    steady = SteadyClock(hands)
    last = steady.now_ns()
    assert last == 1_000
    for passed, step in moves:
        hands.monotonic += passed
        hands.wall += passed + step
        now = steady.now_ns()
        assert now >= last + passed
        assert now >= hands.wall
        last = now


@given(st.lists(st.integers(0, 2**59), min_size=2, max_size=2).map(tuple))
def test_a_cursor_survives_its_way_through_a_url(place):
    assert _place(_cursor(place), 2) == place


@pytest.mark.parametrize("text", ["1", "1.2.3", "a.b", "1.-2", "1.٢", "9" * 30 + ".1", "."])
def test_a_foreign_cursor_is_refused(text):
    with pytest.raises(ValueError, match="is no cursor of this list"):
        _place(text, 2)
