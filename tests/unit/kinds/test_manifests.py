"""Manifests are read as kubectl reads them, with the line of every field."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.kinds.manifests import MAX_NODES, ManifestError, read_documents

MANIFEST = """\
# a comment
apiVersion: pillion.dev/v1alpha1
kind: FeatureFlag
metadata: {name: checkout}
spec:
  variants:
    "on": true
    off: false
  quiet: 22:00
  when: 2027-03-01
  octal: 010
---
---
kind: Other
"""


def test_scalars_are_kubectls_and_neither_dates_nor_base_60():
    document = next(read_documents(MANIFEST))

    assert document.value["spec"] == {
        "variants": {"on": True, False: False},
        "quiet": "22:00",
        "when": "2027-03-01",
        "octal": 8,
    }


def test_every_field_knows_its_line():
    first, second = read_documents(MANIFEST)

    assert (first.line_of("spec.variants.on"), first.line_of("spec.quiet"), second.line_of("kind")) == (7, 9, 14)


def test_a_missing_field_is_told_at_its_nearest_ancestor():
    document = next(read_documents(MANIFEST))

    assert document.line_of("spec.variants.maybe[3].deep") == 6


def test_a_list_is_unfolded():
    documents = list(read_documents("kind: List\nitems:\n- kind: A\n  spec: 1\n- kind: B\n  spec: 2\n"))

    assert [(d.value["kind"], d.line_of("spec")) for d in documents] == [("A", 4), ("B", 6)]


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a: [1\n", "no YAML", 2),
        ("a: 1\na: 2\n", 'key "a" stands twice', 2),
        ("- 1\n", "must be a map", 1),
        ('a: 1\nb: "\\ud800"\n', "no YAML", 2),
        ("a: !!python/object/apply:os.system [ls]\n", "no YAML", 1),
        ("\tx: 1", "no YAML", 1),
    ],
)
def test_what_is_no_manifest_is_refused_with_its_line(text, message, line):
    with pytest.raises(ManifestError, match=message) as refused:
        list(read_documents(text))

    assert refused.value.line == line


def test_an_alias_bomb_is_refused_before_it_expands():
    levels = ["a: &a [x,x,x,x,x,x,x,x,x,x]"] + [
        f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ]

    with pytest.raises(ManifestError, match=str(MAX_NODES)):
        list(read_documents("\n".join(levels)))


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(ManifestError):
        assert all(isinstance(document.value, dict) for document in read_documents(text))
