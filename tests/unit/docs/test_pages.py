"""The pages hang together: every link leads to a file and to a heading, the index names every page, and every alert has its runbook."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
ALERTS = ROOT / "charts" / "pillion" / "files" / "alerts.yaml"


def pages():
    out = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if out.returncode:
        return sorted(DOCS.glob("*.md"))
    return [ROOT / name for name in sorted(out.stdout.decode().split("\0")) if name and (ROOT / name).is_file()]


PAGES = pages()


def prose(page):
    """The page without its fences and comments, in which brackets mean other things."""
    text = re.sub(r"^( *)```.*?^\1```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def anchors(page):
    """Anchors of the headings, as GitHub makes them."""
    seen: dict[str, int] = {}
    found = set()
    for heading in re.findall(r"^#{1,6} (.+)$", prose(page), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
        count = seen.get(slug, 0)
        seen[slug] = count + 1
        found.add(f"{slug}-{count}" if count else slug)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page):
    broken = []
    for target in re.findall(r"\]\((?!https?://|mailto:)([^)\s]+)\)", prose(page)):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)

    assert broken == []


def test_the_index_names_every_page():
    index = (DOCS / "README.md").read_text()

    assert [page.name for page in DOCS.glob("*.md") if page.name != "README.md" and f"({page.name})" not in index] == []


def test_the_readme_leads_to_every_page_for_those_who_run_it():
    text = (ROOT / "README.md").read_text()

    assert [page.name for page in DOCS.glob("*.md") if f"(docs/{page.name})" not in text] == []


def test_every_alert_has_its_runbook():
    """The chart appends the alert's name in lower case to `runbookBase`."""
    alerts = [rule["alert"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    page = (DOCS / "troubleshooting.md").read_text()
    section = page.partition("\n## Alerts\n")[2]

    assert re.findall(r"^### (\w+)$", section, re.MULTILINE) == alerts
    assert {alert.lower() for alert in alerts} <= anchors(DOCS / "troubleshooting.md")


def test_metrics_that_the_pages_tell_to_look_at_exist():
    """A runbook that names a metric which nobody exports is worse than none."""
    page = (DOCS / "troubleshooting.md").read_text()
    sources = [*(ROOT / "sidecars" / "src").rglob("*.py"), *(ROOT / "operator" / "src").rglob("*.py")]
    code = "\n".join(file.read_text() for file in sources)
    documented = "\n".join(file.read_text() for file in DOCS.glob("*.md") if file.name != "troubleshooting.md")

    for name in set(re.findall(r"`(pillion_[a-z_]+)", page)):
        assert name in code or name in documented, name
