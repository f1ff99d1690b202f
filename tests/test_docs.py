"""The pages: their code runs, their links lead somewhere, and what they name exists."""

import importlib
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
_FENCED = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)


def test_the_python_page_runs_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "python-api.md").read_text()
    session: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "docs/python-api.md", "exec"), session)
    printed = capsys.readouterr().out
    assert "89 ops, such as ir_k3_e1_g1_s1_i8_o8_h16_w16" in printed
    assert "did you mean fbnet" in printed
    assert (tmp_path / "host.json").is_file()


def _anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links, as mkdocs and GitHub both call them."""
    headings = re.findall(r"^#+ (.*)$", _FENCED.sub("", page.read_text()), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"[\s]+", "-", heading) for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", page.read_text()):
        if "://" not in target:
            there = page.parent / target if target else page
            assert there.exists(), target
            assert not anchor or anchor in _anchors(there), f"{target}#{anchor}"


def test_the_site_has_every_page_and_no_other() -> None:
    nav = re.findall(r"^ +- [^:]+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(nav) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


def test_the_reference_names_what_exists() -> None:
    for name in re.findall(r"^::: (\S+)$", (DOCS / "reference.md").read_text(), re.MULTILINE):
        module, _, attribute = name.rpartition(".")
        found = importlib.import_module(module)
        assert hasattr(found, attribute) or importlib.import_module(name), name


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 1000


def test_the_glossary_has_at_most_thirty_terms_and_every_reader_finds_it() -> None:
    terms = re.findall(
        r"^\| (?!term|---)(.+?) \|", (DOCS / "glossary.md").read_text(), re.MULTILINE
    )
    assert 20 <= len(terms) <= 30
    others = {ROOT / "README.md", *DOCS.rglob("*.md")} - {DOCS / "glossary.md"}
    assert [page for page in others if "glossary.md" not in page.read_text()] == []


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout")
def test_no_placeholder_is_left() -> None:
    names = subprocess.run(
        ["git", "grep", "-lE", r"\b(OWNER|YOUR_NAME|USERNAME)/"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert names.stdout.split() == [], "a placeholder stands in these files"
    assert names.returncode == 1, names.stderr


def test_workflows_name_what_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for workflow in (ROOT / ".github" / "workflows").iterdir():
        text = workflow.read_text()
        assert set(re.findall(r"run: make ([\w-]+)", text)) <= targets
        for path in re.findall(r"\b(?:tests|luts)/\S+\.(?:py|json)|\./\.github/\S+", text):
            assert (ROOT / path).exists(), f"{workflow.name}: {path}"
