"""The reader of commands: what it takes for a command, for output and for a mark, and what it refuses."""

import pytest
from tests.support.docs.commands import PageError, differs, read

PAGE = """# Page

<!-- setup
$ hidden
-->

```console
$ first --flag \\
    --more
shown …
$ second <<'EOF'
$ no command
EOF
```

<!-- needs: node; fails -->
```console
$ third
```

```yaml
$: no command
```
"""


def test_commands_come_with_their_lines_output_and_marks():
    found = list(read("page.md", PAGE))

    assert [(one.line, one.text, one.shown, one.needs, one.fails) for one in found] == [
        (4, "hidden", (), "", False),
        (8, "first --flag \\\n    --more", ("shown …",), "", False),
        (11, "second <<'EOF'\n$ no command\nEOF", (), "", False),
        (18, "third", (), "node", True),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("```bash\nls\n```", "console fences"),
        ("```console\nls\n```", "output before any command"),
        ("<!-- needs: moon -->\n```console\n$ ls\n```", "'moon' is none of"),
        ("<!-- maybe -->\n```console\n$ ls\n```", "no mark"),
    ],
)
def test_what_cannot_be_understood_is_refused(text, says):
    with pytest.raises(PageError, match=says):
        list(read("page.md", text))


@pytest.mark.parametrize(
    ("shown", "output", "missing"),
    [
        (("a  b",), "a b\n", ""),
        (("NAME  …", "orders …  3m"), "NAME   RULES\nother 1 2m\norders 1 3m\n", ""),
        (("orders …  3m",), "orders 1 4m\n", "orders …  3m"),
        (("second", "first"), "first\nsecond\n", "first"),
        (("…", ""), "", ""),
        (('{"a":…}',), '{"a":1}\n', ""),
    ],
)
def test_output_is_compared_line_by_line_in_order(shown, output, missing):
    assert differs(shown, output) == missing


def test_only_what_changes_nothing_is_asked_again():
    lines = ("kubectl -n shop get pods", "kubectl run probe --dry-run=server", "kubectl apply -f x")
    page = "```console\n" + "\n".join(f"$ {line}" for line in lines) + "\n```"

    assert [one.reads for one in read("p.md", page)] == [True, True, False]
