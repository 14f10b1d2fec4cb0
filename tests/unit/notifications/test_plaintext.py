"""The text part that is made from an HTML part."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.notifications.plaintext import from_html

CASES = {
    "<p>Hi Ada</p><p>Thanks</p>": "Hi Ada\n\nThanks",
    "<h1>A</h1>b<br>c": "A\n\nb\nc",
    "a   b\n c<b> d</b>": "a b c d",
    '<a href="https://x.example/?a=1&amp;b=2">Order</a>.': "Order (https://x.example/?a=1&b=2).",
    '<a href="https://x.example">https://x.example</a>': "https://x.example",
    '<a href="mailto:help@x.example">help@x.example</a>': "help@x.example",
    '<a href="#top">up</a>': "up",
    '<a href="https://x.example"><img src="logo.png" alt="Shop"></a>': "Shop (https://x.example)",
    "<ul><li>a</li><li>b<ol><li>c</li><li>d</li></ol></li></ul>": "- a\n- b\n  1. c\n  2. d",
    "<table><tr><td>Total</td><td>5</td></tr><tr><td>Tax</td><td>1</td></tr></table>": "Total  5\nTax  1",
    "<head><title>t</title><style>b{}</style></head><body>x<script>y</script></body>": "x",
    '<div style="display: none">preheader</div><p>x</p>': "x",
    "<div hidden>a<p>b</p></div>c": "c",
    "&lt;b&gt; &amp; &euro;&nbsp;5": "<b> & €\xa05",
    "<pre>a\n  b</pre>": "a\n  b",
    "a<!-- c -->b": "ab",
    "<p>a</p><hr><p>b</p>": "a\n\n----\n\nb",
    "<div>a</div></div></p>b<i>": "a\nb",
    "": "",
}


@pytest.mark.parametrize("html", CASES)
def test_html_reads_the_same_as_text(html):
    assert from_html(html) == CASES[html]


@given(
    st.lists(
        st.sampled_from(
            [
                "<p>",
                "</p>",
                "<ul>",
                "<li>",
                "</ul>",
                "<a href='x'>",
                "</a>",
                "<td>",
                "<br>",
                "<div hidden>",
                "</div>",
                "w ",
                "<",
                "&#",
                "<!--",
                "<pre>",
                "\n",
            ]
        )
    ).map("".join)
)
def test_any_markup_gives_clean_lines(html):
    text = from_html(html)

    assert "\n\n\n" not in text
    assert not any(line != line.rstrip() for line in text.split("\n"))


@given(st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8), min_size=1, max_size=6))
def test_no_word_is_lost_and_none_is_added(words):
    html = "<div>" + "</p><p>".join(f"<b>{word}</b>" for word in words) + "</div>"

    assert from_html(html).split() == words
