"""Which file is which: names of rotated generations, and what they are generations of."""

import pytest

from pillion.logs.identity import is_generation, origin_of


@pytest.mark.parametrize(
    ("path", "patterns", "origin"),
    [
        ("/l/app.log.1", ["/l/*.log"], "/l/app.log"),
        ("/l/app.log-20260501", ["/l/app.log"], "/l/app.log"),
        ("/l/app.log.2026-05-01_12", ["/l/*.log", "/m/*"], "/l/app.log"),
        ("/l/app.log.old", ["/l/a?p.log"], "/l/app.log"),
        ("/l/shop/app.log.3", ["/l/*/*.log"], "/l/shop/app.log"),
        ("/l/shop/app.log.3", ["/l/*.log"], None),
        ("/l/app.log.1.gz", ["/l/*.log"], None),
        ("/l/app.log.tmp", ["/l/*.log"], None),
        ("/l/other.txt.1", ["/l/*.log"], None),
        ("/l/app.log", ["/l/*.log"], None),
    ],
)
def test_the_origin_of_a_generation_is_what_the_patterns_match(path, patterns, origin):
    assert origin_of(path, patterns) == origin


@pytest.mark.parametrize(
    ("name", "yes"),
    [
        ("app.log.1", True),
        ("app.log-20260501", True),
        ("app.log.2026-05-01_12", True),
        ("app-2026-05-01T12-00-00.000.log", True),
        ("app.1.log", True),
        ("app.log.bak", True),
        ("app.log.1.gz", False),
        ("app.logs", False),
        ("apps.log.1", False),
        ("app.log.swp", False),
        ("app.log", False),
    ],
)
def test_names_of_generations(name, yes):
    assert is_generation(f"/l/{name}", "/l/app.log") == yes
    assert not is_generation(f"/m/{name}", "/l/app.log")
