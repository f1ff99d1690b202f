"""Commands that measure nothing work on any operating system, in any shell, for people and programs."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import get_completion_class
from click.testing import CliRunner

from latbench.cli import main
from tests.docs.pages import ROOT, program_named

LUT = str(ROOT / "luts" / "host-amd-epyc.json")


def test_modules_import_and_pure_commands_work_on_other_systems(tmp_path: Path) -> None:
    """Windows lacks everything that macOS lacks, and more."""
    shown = CliRunner().invoke(main, ["arch", "show", "fbnet_a", "--release", "2019", "--json"])
    architecture = tmp_path / "architecture.json"
    architecture.write_text(shown.stdout)
    done = subprocess.run(
        [sys.executable, "-m", "tests.docs.other_system", "win32", LUT, str(architecture)],
        cwd=ROOT, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"^win32: \d{3} modules$", done.stdout, re.MULTILINE)


def leaves(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The names of the commands below `command` that can be called."""
    if not isinstance(command, click.Group):
        yield path
        return
    if command.invoke_without_command:
        yield path
    for name in command.list_commands(click.Context(command)):
        below = command.get_command(click.Context(command), name)
        assert below is not None
        yield from leaves(below, (*path, name))


def command_at(path: tuple[str, ...]) -> click.Command:
    """The command of that name."""
    found = program_named(path[0])
    for name in path[1:]:
        assert isinstance(found, click.Group)
        found = found.get_command(click.Context(found), name)
    assert found is not None
    return found


COMMANDS = [
    path
    for name in ("latbench", "fbnet-search", "fbnet-train")
    if (program := program_named(name)) is not None
    for path in leaves(program, (name,))
]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_can_answer_in_json(path: tuple[str, ...]) -> None:
    assert "--json" in {name for option in command_at(path).params for name in option.opts}


@pytest.mark.parametrize(
    "words",
    [("devices",), ("space", "show"), ("arch", "show", "fbnet_a"), ("show", LUT),
     ("predict", LUT, "fbnet_a"), ("drift", LUT, LUT), ("runner", "list")],
    ids=lambda words: words[0],
)  # fmt: skip
def test_json_is_all_that_is_printed(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(main, [*words, "--json"])
    assert done.exit_code == 0, done.output
    json.loads(done.stdout)


def test_nothing_is_printed_to_stdout_if_a_command_fails() -> None:
    done = CliRunner().invoke(main, ["predict", "none.json", "fbnet_a", "--json"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: cannot read none.json")


@pytest.mark.parametrize(
    ("program", "words", "code"),
    [
        ("latbench", ("--version",), 0),
        ("latbench", ("predict", LUT, "fbnet_a"), 0),
        ("latbench", ("predict", "none.json", "fbnet_a"), 2),
        ("latbench", ("predict", LUT, "fbnet_z"), 2),
        ("latbench", ("predict", LUT, "fbnet_a", "--nothing"), 2),
        ("latbench", ("nothing",), 2),
        ("latbench", ("profile", "--ci", "200%"), 2),
        ("latbench", ("drift", LUT, LUT), 0),
        ("latbench", ("drift", LUT, "none.json"), 2),
        ("fbnet-search", ("--lut", "none.json", "--data", "digits", "--out", "o"), 2),
        ("latbench", ("profile", "--device", "galaxy-s8", "--adb-server", "127.0.0.1:1"), 1),
        ("fbnet-search", ("--data", "digits"), 2),
        ("fbnet-train", ("none.json", "--data", "digits", "--out", "o"), 2),
    ],
)
def test_exit_codes_are_those_of_the_page(
    program: str, words: tuple[str, ...], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = program_named(program)
    assert command is not None
    assert CliRunner().invoke(command, words).exit_code == code


def test_no_color_is_obeyed() -> None:
    colour = re.compile(r"\x1b\[[\d;]*(?:3|4|9|10)\d")  # SGR 30-49, 90-107 (ECMA-48, 8.3.117)
    done = CliRunner(env={"NO_COLOR": "1", "FORCE_COLOR": "1"}).invoke(main, ["show", LUT])
    assert done.exit_code == 0
    assert not colour.search(done.stdout)


def test_python_m_latbench_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "latbench", "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: latbench")


@pytest.mark.parametrize(
    ("before", "typed", "offered"),
    [
        ([], "pre", {"predict"}),
        (["profile"], "--cali", {"--calibrate"}),
        (["predict", "x.json"], "fbnet_", {"fbnet_a", "fbnet_b", "fbnet_c"}),
        (["export", "--runtime"], "t", {"tflite", "torchscript"}),
        (["export", "--precision"], "", {"fp32", "int8"}),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_are_offered(shell: str, before: list[str], typed: str, offered: set[str]) -> None:
    kind = get_completion_class(shell)
    assert kind is not None
    completion = kind(main, {}, "latbench", "_LATBENCH_COMPLETE")
    assert offered <= {item.value for item in completion.get_completions(before, typed)}


def test_luts_are_completed_as_files_and_folders_as_folders() -> None:
    kind = get_completion_class("bash")
    assert kind is not None
    completion = kind(main, {}, "latbench", "_LATBENCH_COMPLETE")
    for words, wanted in (
        (["show"], "file"),
        (["predict"], "file"),
        (["drift", "a.json"], "file"),
        (["build-lut", "--out"], "file"),
        (["predict", "a.json"], "file"),
        (["export", "--out"], "dir"),
    ):
        (item,) = completion.get_completions(words, "luts/h")
        assert (item.value, item.type) == ("luts/h", wanted)


@pytest.mark.skipif(sys.platform == "win32", reason="bash there is Git's, and starts slowly")
def test_a_real_bash_completes_a_command(tmp_path: Path) -> None:
    """As docs/scripting.md says, in the shell itself."""
    program = tmp_path / "latbench"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m latbench "$@"\n')
    program.chmod(0o755)
    typed = """
        eval "$(_LATBENCH_COMPLETE=bash_source latbench)"
        COMP_WORDS=(latbench build); COMP_CWORD=1
        _latbench_completion latbench
        echo "${COMPREPLY[*]}"
    """
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", typed], capture_output=True, text=True, env=env, timeout=60
    )
    if "not supported" in done.stderr:
        pytest.skip(done.stderr)
    assert done.stdout.split() == ["build-lut"], done.stderr
