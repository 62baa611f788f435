import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("changes/*.md")]
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_leads_somewhere(page: Path) -> None:
    missing = []
    for link in LINK.findall((ROOT / page).read_text()):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(link)
    assert not missing


def test_every_page_is_reached_from_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = [
        page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "decisions" and page.name != "README.md"
    ]
    assert [
        str(page.relative_to(ROOT / "docs")) for page in pages if f"({page.relative_to(ROOT / 'docs')})" not in index
    ] == []


def test_make_help_lists_every_target() -> None:
    listed = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    assert {line.split()[0] for line in listed.splitlines()} == set(phony.group(1).split())


def test_every_setting_is_documented() -> None:
    sources = [*ROOT.glob("services/dpud/**/*.py"), *ROOT.glob("client/dpu/*.py")]
    settings = {key for source in sources for key in re.findall(r'"(DPU_[A-Z_]+)"', source.read_text())}
    pages = "".join((ROOT / "docs" / "reference" / page).read_text() for page in ("services.md", "configuration.md"))
    assert sorted(key for key in settings if f"`{key}`" not in pages) == []


def test_every_command_is_documented() -> None:
    commands = re.findall(r"add_parser\(\s*\"(\w+)\"", (ROOT / "services" / "dpud" / "__main__.py").read_text())
    page = (ROOT / "docs" / "reference" / "services.md").read_text()
    assert commands
    assert [command for command in commands if f"`dpud {command}`" not in page] == []
