"""Compression: what any gzip reads, on machines with the fast library and on others."""

import gzip
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.logs.compression import compress, fastest


@given(st.one_of(st.binary(max_size=5000), st.text("ab\n", max_size=5000).map(str.encode)))
def test_any_gzip_reads_it(data):
    assert gzip.decompress(compress(data)) == data
    assert compress(data) == compress(data)


def test_without_the_fast_library_the_standard_one_does_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "isal", None)
    monkeypatch.delitem(sys.modules, "isal.igzip", raising=False)

    assert fastest() is gzip.compress
