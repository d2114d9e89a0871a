"""The documents: links that lead somewhere, generated pages that are up to date, a README that stays short."""

import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest

from tools.reference import COMMANDS, RECORDS, REFERENCE, pages, with_record_table

ROOT = Path(__file__).resolve().parents[1]
README_BYTES = 8 * 1024

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def documents() -> list[Path]:
    """The Markdown files of the project, without those of packages and outputs."""
    ignored = {".venv", "demo", "build"}
    found = [path.relative_to(ROOT) for path in ROOT.rglob("*.md")]
    return sorted(path for path in found if not (ignored & set(path.parts) or path.parts[0].startswith(".")))


def prose(page: Path) -> str:
    """The text of a page without its code, in which brackets are not links."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`(?!\])", "", text)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        repeated = sum(
            anchor == slug or re.fullmatch(rf"{re.escape(slug)}-\d+", anchor) is not None for anchor in found
        )
        found.add(slug if not repeated else f"{slug}-{repeated}")
    return found


def problem(page: Path, link: str) -> str | None:
    """What is wrong with a link of a page; None: nothing, or it leads out of the project."""
    if re.match(r"[a-z]+:", link):
        return None
    path, _, anchor = unquote(link).partition("#")
    target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
    if not target.is_relative_to(ROOT) or not target.exists():
        return f"{page}: {link} leads to no file"
    if anchor and anchor not in anchors(target.relative_to(ROOT)):
        return f"{page}: {link} leads to no heading"
    return None


def test_every_link_leads_to_a_file_and_a_heading() -> None:
    links = [(page, link) for page in documents() for link in LINK.findall(prose(page))]
    assert len(links) > 50
    assert [found for page, link in links if (found := problem(page, link))] == []


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("docs/remove.md#exit-codes", None),
        ("docs/reference/remove.md#detector-ultralytics", None),
        ("https://example.com/nothing", None),
        ("#limits", None),
        ("docs/missing.md", "README.md: docs/missing.md leads to no file"),
        ("docs/remove.md#missing", "README.md: docs/remove.md#missing leads to no heading"),
        ("../outside.md", "README.md: ../outside.md leads to no file"),
    ],
)
def test_a_broken_link_is_found(link: str, expected: str | None) -> None:
    assert problem(Path("README.md"), link) == expected


def test_every_page_of_docs_is_linked() -> None:
    linked = {
        ((ROOT / page).parent / link.partition("#")[0]).resolve()
        for page in documents()
        for link in LINK.findall(prose(page))
        if not re.match(r"[a-z]+:|#", link)
    }
    assert [page for page in documents() if page.parts[0] == "docs" and (ROOT / page).resolve() not in linked] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= README_BYTES


def test_generated_pages_are_those_of_the_code() -> None:
    stale = [str(path) for path, text in pages().items() if (ROOT / path).read_text(encoding="utf-8") != text]
    assert stale == [], "run `make docs`"
    assert {path.stem for path in (ROOT / REFERENCE).glob("*.md")} == set(COMMANDS)


def test_the_record_table_stands_between_its_markers() -> None:
    text = (ROOT / RECORDS).read_text(encoding="utf-8")
    assert text.count("<!-- table: record -->") == text.count("<!-- end -->") == 1
    emptied = re.sub(r"(<!-- table: record -->\n).*?(<!-- end -->)", r"\1\2", text, flags=re.DOTALL)
    assert emptied != text
    assert with_record_table(emptied) == text


@pytest.mark.parametrize("name", COMMANDS)
def test_each_kind_has_a_heading(name: str) -> None:
    text = pages()[REFERENCE / f"{name}.md"]
    kinds = re.findall(r"^`(\w+)\.kind=(\w+)`", text, re.MULTILINE)
    assert all(f"## {section}: {kind}\n" in text for section, kind in kinds)
    assert ".kind` |" not in text


def test_make_docs_is_the_command_that_writes_them() -> None:
    told = subprocess.run(["make", "--dry-run", "docs"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "python -m tools.reference" in told
