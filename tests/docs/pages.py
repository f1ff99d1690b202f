"""Pages of documentation as tests: their commands are run, and the output is compared with the page.

A ```console block has commands, each after "$ ", and their output. A ```python block is run. A ```toml or
```yaml block that begins with the name of a file, as in "# keywords.toml", is written to it. Other blocks
(```sh, …) are not run. In the output of a page a number matches any number, "…" anything in a line, and a
line of "…" alone any lines; the other lines must occur in that order.
"""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from click.testing import CliRunner

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

#: Options that make a command faster here than for a reader; they do not change the lines that it prints.
QUICKER = {
    ("latbench", "profile"): ("--ci", "20%", "--calibrate", "0"),
    ("latbench", "measure"): ("--ci", "20%", "--budget", "8s"),
    ("fbnet-search",): ("--epochs", "1"),
    ("fbnet-train",): ("--epochs", "1"),
}

_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
_NUMBER = re.compile(r"[-+]?\d(?:[\d.,]*\d)?(?:e[-+]?\d+)?")
_FOUND = re.compile(r"(?:(?:skip|k\de\d(?:g\d)?)[ |]?)+")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    language: str
    text: str


@dataclass(frozen=True)
class Step:
    """One command of a console block, and its output on the page."""

    command: str
    printed: tuple[str, ...]


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    for indent, language, text in _BLOCK.findall(page.read_text(encoding="utf-8")):
        yield Block(language, "\n".join(line.removeprefix(indent) for line in text.splitlines()))


def steps(console: str) -> Iterator[Step]:
    """The commands of a console block."""
    for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
        command, *printed = part.splitlines()
        yield Step(command, tuple(printed))


def run_page(page: Path, folder: Path, home: Path) -> None:
    """Run the blocks of a page in `folder`.

    Raises:
        AssertionError: a command fails, or its output differs from the page.
    """
    status, session = 0, {"__name__": "__main__"}
    for block in blocks(page):
        if named := re.match(rf"# (\S+\.{block.language})\n", block.text):
            (folder / named[1]).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(compile(block.text, str(page), "exec"), session)
        elif block.language == "console":
            for step in steps(block.text):
                if step.command == "echo $?":
                    assert step.printed == (str(status),), f"{page.name}: exit code {status}"
                    continue
                may_fail = _shows_status(block.text, step)
                status, printed = run_command(step.command, folder, home)
                assert may_fail or status == 0, f"{page.name}: {step.command}: {status}\n{printed}"
                _compare(page, step, printed)


def _shows_status(console: str, step: Step) -> bool:
    """Whether the page shows the exit code of a command."""
    following = [one.command for one in steps(console)]
    at = following.index(step.command)
    return following[at + 1 : at + 2] == ["echo $?"]


def run_command(command: str, folder: Path, home: Path) -> tuple[int, str]:
    """Run a command, and return its exit code and its output.

    latbench's commands run in this process, because importing PyTorch takes seconds.
    """
    words = shlex.split(command)
    program = program_named(words[0])
    if program is None:
        done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr
    for start, more in QUICKER.items():
        if tuple(words[: len(start)]) == start:
            words += more
    environment = {"LATBENCH_HOME": str(home), "COLUMNS": "80", "NO_COLOR": "1"}
    here = Path.cwd()
    os.chdir(folder)
    try:
        result = CliRunner(env=environment).invoke(program, words[1:], prog_name=words[0])
    finally:
        os.chdir(here)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def program_named(name: str) -> click.Command | None:
    """latbench's command of that name, or None."""
    from fbnet_search.cli import search_main, train_main
    from latbench.cli import main

    return {"latbench": main, "fbnet-search": search_main, "fbnet-train": train_main}.get(name)


def _compare(page: Path, step: Step, printed: str) -> None:
    """Check that the output has the lines of the page, in that order."""
    left = iter(printed.splitlines())
    for line in step.printed:
        if not line.strip() or line.strip() == "…":
            continue
        pattern = pattern_of(line)
        assert any(pattern.fullmatch(actual.rstrip()) for actual in left), (
            f"{page.name}: {step.command}: no line like {line!r} in\n{printed}"
        )


def pattern_of(line: str) -> re.Pattern[str]:
    """A line of a page as a pattern: any numbers and their plurals, any networks, any widths of columns."""
    pieces = []
    for piece in line.split("…"):
        held = _NUMBER.sub("\0", _FOUND.sub("\1", piece))
        written = re.sub(r"(?:\\ )+", r"\\s+", re.escape(held))
        written = re.sub(r"(\0\\s\+(?:epoch|network|round|sample|trial))s?\b", r"\1s?", written)
        pieces.append(written.replace("\0", f"(?:{_NUMBER.pattern})").replace("\1", _FOUND.pattern))
    return re.compile(".*".join(pieces))
