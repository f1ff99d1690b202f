"""The picture of the README is what the commands of the first tutorial print."""

import html
import re

import pytest

from tests.docs.pages import DOCS, ROOT, Step, blocks, pattern_of, steps

PICTURE = DOCS / "terminal.svg"
REDRAW = "draw it again: python docs/hooks/terminal_picture.py docs/terminal.svg"


def lines_of(svg: str) -> list[str]:
    """The lines of text in a picture, from top to bottom."""
    lines: dict[float, str] = {}
    for y, text in re.findall(
        r'<text class="latbench-r\d+" [^>]*?y="([\d.]+)"[^>]*>(.*?)</text>', svg
    ):
        lines[float(y)] = lines.get(float(y), "") + html.unescape(text).replace("\xa0", " ")
    return [lines[y] for y in sorted(lines)]


@pytest.fixture(scope="module")
def drawn() -> dict[str, Step]:
    """The commands of the picture, and what they print there."""
    text = "\n".join(lines_of(PICTURE.read_text(encoding="utf-8")))
    return {step.command: step for step in steps(text)}


TUTORIAL = [
    step
    for block in blocks(DOCS / "tutorials" / "first-lut.md")
    if block.language == "console"
    for step in steps(block.text)
]


def test_every_command_of_the_picture_is_in_the_tutorial(drawn: dict[str, Step]) -> None:
    assert len(drawn) >= 4
    assert set(drawn) <= {step.command for step in TUTORIAL}


@pytest.mark.parametrize("step", TUTORIAL, ids=lambda step: step.command)
def test_the_picture_has_the_lines_of_the_tutorial(step: Step, drawn: dict[str, Step]) -> None:
    if step.command not in drawn:
        return
    shown = iter(drawn[step.command].printed)
    for line in step.printed:
        if line.strip() != "…":
            pattern = pattern_of(line)
            assert any(pattern.fullmatch(actual.rstrip()) for actual in shown), f"{line}: {REDRAW}"


def test_the_picture_shows_a_prediction_and_its_measurement(drawn: dict[str, Step]) -> None:
    (measured,) = (step for step in drawn.values() if step.command.startswith("latbench measure"))
    text = "\n".join(measured.printed)
    assert re.search(r"^measured +\d", text, re.MULTILINE)
    assert re.search(r"^predicted +\d", text, re.MULTILINE)


def test_the_picture_is_shown_and_asks_no_other_server() -> None:
    assert "](docs/terminal.svg)" in (ROOT / "README.md").read_text()
    assert "](terminal.svg)" in (DOCS / "index.md").read_text()
    addresses = set(re.findall(r"https?://[^\s\"')]+", PICTURE.read_text(encoding="utf-8")))
    assert addresses <= {"http://www.w3.org/2000/svg", "https://www.textualize.io"}
