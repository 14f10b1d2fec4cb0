"""URLs are read strictly; what is read agrees with two other readers."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from pillion.webhooks.target import Target, parse_target

labels = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
hosts = st.one_of(
    st.lists(labels, min_size=1, max_size=4).map(".".join),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda a: f"[{a}]"),
)
paths = st.from_regex(r"(/[A-Za-z0-9._~%!$&'()*+,;=:@-]{0,8}){0,4}(\?[a-z0-9=&/?]{1,10})?", fullmatch=True)


@given(scheme=st.sampled_from(["http", "https"]), host=hosts, port=st.none() | st.integers(1, 65535), path=paths)
def test_two_other_readers_agree(scheme, host, port, path):
    url = f"{scheme}://{host}" + (f":{port}" if port else "") + path
    target = parse_target(url)
    split, yarl = urlsplit(url), URL(url, encoded=True)
    assert target.host == split.hostname == yarl.raw_host
    assert target.port == (split.port or (443 if scheme == "https" else 80)) == yarl.port
    assert target.path == yarl.raw_path_qs


@given(st.text(max_size=60))
def test_any_text_is_a_target_or_a_value_error(text):
    for candidate in (text, f"https://{text}", f"https://host/{text}"):
        refusal = ""
        try:
            target = parse_target(candidate)
        except ValueError as error:
            refusal = str(error)
        if refusal:
            assert "; " in refusal, "says what is wrong and the fix"
        else:
            assert all("!" <= c <= "~" for c in target.path + target.authority)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://Example.COM", Target("https", "example.com", 443, "/")),
        ("https://example.com.", Target("https", "example.com", 443, "/")),
        ("https://example.com?x=1", Target("https", "example.com", 443, "/?x=1")),
        ("http://[::1]:8080/a", Target("http", "::1", 8080, "/a")),
        ("https://10.0.0.1/a@b", Target("https", "10.0.0.1", 443, "/a@b")),
        ("https://my_service.ns.svc/", Target("https", "my_service.ns.svc", 443, "/")),
    ],
)
def test_what_is_read(url, target):
    assert parse_target(url) == target


@pytest.mark.parametrize(
    ("target", "authority"),
    [
        (Target("https", "a", 443, "/"), "a"),
        (Target("http", "a", 443, "/"), "a:443"),
        (Target("http", "::1", 80, "/"), "[::1]"),
        (Target("https", "::1", 8443, "/"), "[::1]:8443"),
    ],
)
def test_the_host_field(target, authority):
    assert target.authority == authority


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://user:pass@host/", "holds a user or password"),
        ("https://user@host/", "holds a user or password"),
        ("https://host/#frag", "has a fragment"),
        ("ftp://host/", "is no URL"),
        ("https:///x", "is no URL"),
        ("https://host:0/", "has a port beyond"),
        ("https://host:99999/", "has a port beyond"),
        ("https://höst/", "holds characters beyond ASCII"),
        ("https://host/a b", "is no URL"),
        ("https://host/a\r\nX: y", "is no URL"),
        ("https://host\\@evil/", "holds a user or password"),
        ("https://ho\\st/", "is no URL"),
        ("https://-a.example/", "has no valid host name"),
        ("https://a..b/", "has no valid host name"),
        ("https://" + "a" * 64 + ".example/", "has no valid host name"),
        ("https://2130706433/", "has an address in an unusual form"),
        ("https://127.1/", "has an address in an unusual form"),
        ("https://0x7f.0.0.1/", "has an address in an unusual form"),
        ("https://0x7f000001/", "has an address in an unusual form"),
        ("https://0177.0.0.1/", "has an address in an unusual form"),
        ("https://1.2.3.4.5/", "has an address in an unusual form"),
        ("https://[1.2.3.4]/", "has no IPv6 address"),
        ("https://[fe80::1%25eth0]/", "is no URL"),
    ],
)
def test_what_is_refused(url, message):
    with pytest.raises(ValueError, match=message):
        parse_target(url)
