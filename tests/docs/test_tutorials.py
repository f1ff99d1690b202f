"""The tutorials are true: every console and Python block runs, and prints what the page shows."""

import json
import shutil
from pathlib import Path

import click
import pytest

from tests.docs.pages import DOCS, ROOT, blocks, pattern_of, program_named, run_command, run_page
from tests.docs.test_schemas import check

_TUTORIALS = DOCS / "tutorials"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(working directory, home) after the first tutorial."""
    folder, home = tmp_path_factory.mktemp("tutorial"), tmp_path_factory.mktemp("home")
    run_page(_TUTORIALS / "first-lut.md", folder, home)
    return folder, home


def test_the_json_of_profile_obeys_the_published_schema(
    reader: tuple[Path, Path],
) -> None:
    again = "latbench profile --space fbnet-cifar --input 16 --width 0.35 --budget 1s --json"
    status, printed = run_command(again, *reader)
    assert status == 0, printed
    check("journal-report", json.loads(printed))


@pytest.mark.parametrize("page", ["your-model", "your-space", "reading-a-lut", "search"])
def test_tutorials_after_the_first_work(
    page: str, reader: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(reader[0])
    run_page(_TUTORIALS / f"{page}.md", *reader)


def test_the_page_for_scripts_works(
    reader: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(reader[0])
    run_page(DOCS / "scripting.md", *reader)


def test_the_page_on_tables_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(DOCS / "tables.md", tmp_path, tmp_path / "home")


def test_the_drift_tutorial_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a LUT of a quiet machine, since one of a busy machine may not be comparable."""
    monkeypatch.chdir(tmp_path)
    Path("luts").mkdir()
    shutil.copy(ROOT / "luts" / "host-amd-epyc.json", "luts/host.json")
    run_page(_TUTORIALS / "drift-in-ci.md", tmp_path, tmp_path / "home")


def test_a_page_that_is_no_longer_true_fails(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```console\n$ latbench --version\nlatbench one\n```\n")
    with pytest.raises(AssertionError, match="no line like 'latbench one'"):
        run_page(page, tmp_path, tmp_path)
    page.write_text("```console\n$ latbench predict none.json fbnet_b\n```\n")
    with pytest.raises(AssertionError, match=r"cannot read none\.json"):
        run_page(page, tmp_path, tmp_path)


def test_numbers_and_networks_may_differ_but_words_may_not() -> None:
    line = pattern_of("predicted  0.127 ms [0.125, 0.129] of k3e1|skip k5e1g2")
    assert line.fullmatch("predicted  12.7 ms [1e-05, 3] of skip|k3e6")
    assert not line.fullmatch("measured  12.7 ms [1, 3] of skip|k3e6")
    assert not line.fullmatch("predicted  0.127 ms [0.125] of skip")
    line = pattern_of("measured  1.2 ms, 40 samples in 6 rounds")
    assert line.fullmatch("measured  1.2 ms, 1 sample in 1 round")
    assert not line.fullmatch("measured  1.2 ms, 40 sampled in 6 rounds")


#: The prefix of a command, for each language of a block.
_PROMPTS = {"console": "$ ", "sh": "", "yaml": "- run: "}


def _commands_on_pages() -> list[tuple[str, str]]:
    """(page, command) for each of latbench's commands on any page."""
    found = []
    for page in sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")]):
        for block in blocks(page):
            prompt = _PROMPTS.get(block.language)
            lines = block.text.replace("\\\n", " ").splitlines() if prompt is not None else []
            for line in map(str.strip, lines):
                command = line.removeprefix(prompt or "")
                if line.startswith(prompt or "") and program_named(command.split(" ")[0]):
                    found.append((page.relative_to(ROOT).as_posix(), command))
    return found


@pytest.mark.parametrize(("page", "command"), _commands_on_pages())
def test_commands_on_pages_exist_and_take_the_options_shown(page: str, command: str) -> None:
    first, *words = command.partition("#")[0].partition(" > ")[0].split()
    found = program_named(first)
    while isinstance(found, click.Group) and words and not words[0].startswith("-"):
        found = found.get_command(click.Context(found), words.pop(0))
    assert found is not None, command
    known = {name for option in found.params for name in option.opts} | {"--help"}
    assert {word for word in words if word.startswith("--")} <= known
