"""The last known good configuration: kept whole, or ignored with a reason."""

import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.kinds.snapshot import revision_of
from pillion.runtime.conditions import Conditions
from pillion.runtime.last_known_good import CONDITION, Damaged, Kept, LastKnownGood, decode, encode

names = st.text(min_size=1, max_size=10)
kept = st.builds(
    lambda text, secrets: Kept(revision=revision_of(text.encode()), document=text.encode(), secrets=secrets),
    st.text(),
    st.dictionaries(names, st.dictionaries(names, st.binary(max_size=40), max_size=3), max_size=3),
)


@given(kept)
def test_what_is_encoded_is_decoded(value):
    assert decode(encode(value)) == value


@given(kept, st.data())
def test_any_damage_is_noticed(value, data):
    good = encode(value)
    position = data.draw(st.integers(0, len(good) - 1))
    damaged = data.draw(
        st.sampled_from([good[:position], good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :]])
    )

    try:
        result = decode(damaged)
    except Damaged:
        return
    # JSON has several spellings of one value (a letter's case in an escape): the same configuration is no damage.
    assert result == value


def test_the_file_is_private_and_replaced_in_one_step(tmp_path):
    conditions = Conditions()
    file = LastKnownGood(tmp_path / "configuration.json", conditions)
    first, second = b'{"a":1}', b'{"a":2}'

    file.save(revision_of(first), first, {"s": {"k": b"\x00\xff"}})
    file.save(revision_of(second), second, {})

    assert file.load() == Kept(revision=revision_of(second), document=second, secrets={})
    assert stat.S_IMODE((tmp_path / "configuration.json").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["configuration.json"]  # noqa: PTH208 - the hidden ones too
    assert not list(conditions)


@pytest.mark.parametrize("content", [b"", b"{", b"null", b'{"format":99,"checksum":"","content":{}}', b"\xff" * 100])
def test_a_damaged_file_is_reported_and_ignored(tmp_path, content):
    (tmp_path / "configuration.json").write_bytes(content)
    conditions = Conditions()

    assert LastKnownGood(tmp_path / "configuration.json", conditions).load() is None
    (condition,) = conditions
    assert condition.name == CONDITION
    assert "is ignored" in condition.message


def test_a_missing_file_is_no_condition(tmp_path):
    conditions = Conditions()

    assert LastKnownGood(tmp_path / "none.json", conditions).load() is None
    assert not list(conditions)


def test_a_disk_that_refuses_is_a_condition_that_ends_when_it_accepts_again(tmp_path):
    conditions = Conditions()
    folder = tmp_path / "gone"
    file = LastKnownGood(folder / "configuration.json", conditions)

    file.save(revision_of(b"{}"), b"{}", {})
    assert [c.name for c in conditions] == [CONDITION]

    folder.mkdir()
    file.save(revision_of(b"{}"), b"{}", {})
    assert not list(conditions)


def test_secret_values_never_show(tmp_path):
    value = Kept(revision=revision_of(b"{}"), document=b"{}", secrets={"name": {"key": b"hunter2"}})

    assert "hunter2" not in repr(value)
    assert "name" in repr(value)
