"""Which translation a reader gets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.notifications.locales import ancestors, canonical, choose, is_known

# Read from CLDR's supplementalData (parentLocales, likelySubtags), not from the implementation.
CLDR = {
    "de-AT": ("de-AT", "de"),
    "en-AU": ("en-AU", "en-001", "en"),
    "en-IN": ("en-IN", "en-001", "en"),
    "en-US": ("en-US", "en"),
    "es-MX": ("es-MX", "es-419", "es"),
    "es-ES": ("es-ES", "es"),
    "pt-AO": ("pt-AO", "pt-PT", "pt"),
    "nb": ("nb", "no"),
    "nn": ("nn", "no"),
    "zh-Hant-HK": ("zh-Hant-HK", "zh-Hant"),
    "zh-TW": ("zh-TW", "zh-Hant-TW", "zh-Hant"),
    "zh-CN": ("zh-CN", "zh"),
    "zh-Hans-SG": ("zh-Hans-SG", "zh-Hans", "zh"),
    "sr-ME": ("sr-ME", "sr-Latn-ME", "sr-Latn"),
    "sr-Latn": ("sr-Latn",),
    "sr-Cyrl-RS": ("sr-Cyrl-RS", "sr-Cyrl", "sr"),
    "de-CH-1996": ("de-CH-1996", "de-CH", "de"),
    "ca-valencia": ("ca-valencia", "ca"),
}


@pytest.mark.parametrize("tag", CLDR)
def test_a_locale_inherits_as_cldr_says(tag):
    assert ancestors(tag) == CLDR[tag]


@pytest.mark.parametrize(
    ("written", "usual"),
    [("DE-at", "de-AT"), ("ZH-hANT-tw", "zh-Hant-TW"), ("ES-419", "es-419"), ("Sl-Rozaj", "sl-rozaj")],
)
def test_tags_are_written_in_their_usual_case(written, usual):
    assert canonical(written) == usual


@pytest.mark.parametrize(
    "tag", ["", "e", "english", "en_US", "en-", "en--US", "en-US-", "d\u00e9", "en-US-x", "a" * 99, "en\n", "*"]
)
def test_what_is_no_tag_is_refused_with_the_fix(tag):
    with pytest.raises(ValueError, match="write it as in en, de-AT"):
        canonical(tag)


def test_a_language_that_cldr_does_not_know_is_known_to_be_unknown():
    assert is_known("de-AT")
    assert not is_known("qq")


TAGS = st.from_regex(r"(de|en|zh|sr|pt|qx)(-(Hant|Latn|Cyrl))?(-(AT|TW|AU|ME|419))?(-1996)?", fullmatch=True)


@given(TAGS, st.sets(TAGS, max_size=5), TAGS)
def test_the_nearest_translation_that_the_locale_inherits_from_is_chosen(wanted, available, default):
    found = choose(wanted, available, default)

    inherited = [tag for tag in ancestors(wanted) if tag in available]
    assert found == (inherited[0] if inherited else default)
    assert all(tag.split("-")[0] in (wanted.split("-")[0], "no") for tag in ancestors(wanted))


@given(TAGS)
def test_a_chain_ends_and_repeats_nothing(tag):
    chain = ancestors(tag)

    assert chain[0] == tag
    assert len(set(chain)) == len(chain) <= 5


def test_without_a_wish_the_default_is_chosen():
    assert choose(None, ["de", "en"], "en") == "en"
