"""Exit codes, help and usage errors: the same for every command of the three programs."""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from latbench.errors import ExitCode, LatbenchError
from tests.docs.pages import ROOT, program_named

LUT = str(ROOT / "luts" / "host-amd-epyc.json")
PROGRAMS = ("latbench", "fbnet-search", "fbnet-train")


def run(line: str, folder: Path) -> Result:
    """Type a line in `folder`, with a home of its own."""
    words = shlex.split(line)
    command = program_named(words[0])
    assert command is not None
    environment = {"LATBENCH_HOME": str(folder / "home"), "COLUMNS": "80", "NO_COLOR": "1"}
    result = CliRunner(env=environment).invoke(command, words[1:], prog_name=words[0])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def paths_below(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The name of a command and of all commands below it."""
    yield path
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            below = command.get_command(click.Context(command), name)
            assert below is not None
            yield from paths_below(below, (*path, name))


ALL_COMMANDS = [
    " ".join(path)
    for name in PROGRAMS
    if (program := program_named(name)) is not None
    for path in paths_below(program, (name,))
]


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_h_is_help_everywhere(command: str, tmp_path: Path) -> None:
    short, long = run(f"{command} -h", tmp_path), run(f"{command} --help", tmp_path)
    assert short.exit_code == long.exit_code == ExitCode.OK
    assert short.stdout == long.stdout
    assert short.stdout.startswith(f"Usage: {command} ")


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_usage_errors_look_like_all_others_and_say_what_to_type(
    command: str, tmp_path: Path
) -> None:
    result = run(f"{command} --no-such-option", tmp_path)
    assert (result.exit_code, result.stdout) == (ExitCode.BAD_REQUEST, "")
    first, *more = result.stderr.splitlines()
    assert first.startswith("error: no such option")
    assert any(f"{command} --help" in line for line in more)


def test_a_misspelt_option_is_answered_with_the_line_that_was_meant(tmp_path: Path) -> None:
    result = run("latbench space show --space fbnet-cifar --imput=32", tmp_path)
    assert result.exit_code == ExitCode.BAD_REQUEST
    prefix = "did you mean: "
    (hint,) = (line.strip() for line in result.stderr.splitlines() if prefix in line)
    meant = hint.removeprefix(prefix)
    assert meant == "latbench space show --space fbnet-cifar --input=32"
    assert run(meant, tmp_path).exit_code == ExitCode.OK


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("latbench show", "missing argument 'LUT'"),
        ("latbench profile --threads 0", "invalid value for '--threads'"),
        ("latbench profile --ci 200%", "--ci must be between 0 and 100 %, like 1%, got '200%'"),
        ("latbench profile --budget soon", "--budget must be a duration like 90s, 10m or 1h, got"),
        ("latbench profile --cores 4-", "--cores must be CPU numbers like 4,5 or 4-7, got '4-'"),
        (
            "latbench measure x.onnx --input-shape ax3",
            "--input-shape must be a shape like 1x3x224x224",
        ),
        ("latbench runner install", "give --engine FILE"),
        ("latbench space shwo", "no such command 'shwo'"),
        ("latbench shwo", "unknown command 'shwo'"),
        ("fbnet-train", "missing argument"),
    ],
)
def test_errors_of_parsing_are_bad_requests(line: str, message: str, tmp_path: Path) -> None:
    result = run(line, tmp_path)
    assert result.exit_code == ExitCode.BAD_REQUEST
    assert result.stderr.startswith(f"error: {message}"), result.stderr
    assert result.stdout == ""


def test_the_page_lists_every_exit_code() -> None:
    page = (ROOT / "docs" / "scripting.md").read_text()
    table = page[page.index("## Exit codes") : page.index("`latbench drift`")]
    assert re.findall(r"^\| (\d) \|", table, re.MULTILINE) == [str(code.value) for code in ExitCode]


def test_every_error_has_one_of_the_exit_codes() -> None:
    errors = [LatbenchError]
    for error in errors:
        errors += error.__subclasses__()
        assert error.exit_code in (ExitCode.FAILED, ExitCode.BAD_REQUEST), error


#: Every command that reads a file or folder: the line, with PATH where the input stands. The name of the
#: input ends as the command expects it.
READERS = (
    ("x.json", "latbench show PATH"),
    ("x.json", "latbench predict PATH fbnet_a"),
    *(
        ("x.json", f"latbench import PATH --format {name} --space fbnet --device s8 --runtime onnx")
        for name in ("csv", "hw-nas-bench", "once-for-all", "proxyless")
    ),
    ("x.json", f"latbench predict {LUT} PATH"),
    ("x.json", "latbench validate PATH"),
    ("x.json", f"latbench drift PATH {LUT}"),
    ("x.json", f"latbench drift {LUT} PATH"),
    ("x.json", "latbench report PATH --out report.html"),
    ("x.sqlite", f"latbench report {LUT} --out report.html --journal PATH"),
    ("x", f"latbench report {LUT} --out report.html --search PATH"),
    ("x.json", f"latbench report {LUT} --out report.html --validation PATH"),
    ("x.json", "latbench arch show PATH"),
    ("x.json", "latbench export PATH"),
    ("x.sqlite", "latbench build-lut PATH"),
    ("x.json", "latbench measure PATH"),
    ("x.onnx", "latbench measure PATH"),
    ("x.tflite", "latbench measure PATH"),
    ("x.pt", "latbench measure PATH"),
    ("x.pte", "latbench measure PATH"),
    ("x.mlpackage.tar", "latbench measure PATH --device iphonex"),
    ("x.json", "latbench measure fbnet_a --lut PATH"),
    ("x", "latbench measure fbnet_a --runner benchmark_model=PATH"),
    ("x", "latbench measure fbnet_a --runner native=PATH"),
    ("x.aar", "latbench runner install --engine PATH"),
    ("x.so", "latbench runner install --engine PATH"),
    ("x.json", "fbnet-search --lut PATH --data digits --out out"),
    ("x", f"fbnet-search --lut {LUT} --data imagefolder:PATH --out out"),
    ("x", f"fbnet-search --lut {LUT} --data webdataset:PATH --out out"),
    ("x.toml", f"fbnet-search --lut {LUT} --data digits --out out --recipe PATH"),
    ("x", "fbnet-train PATH --data digits --out out"),
    ("x.json", "fbnet-train PATH --data digits --out out"),
    ("x.json", "fbnet-train ARCHITECTURE --data digits --out out --lut PATH"),
    ("x", "fbnet-train ARCHITECTURE --data imagefolder:PATH --out out"),
    ("x.toml", "fbnet-train ARCHITECTURE --data digits --out out --recipe PATH"),
    ("x.toml", "latbench space show --space PATH"),
    ("x.json", "latbench space show --space PATH"),
    ("x.toml", "latbench space check PATH"),
)


@pytest.fixture(scope="module")
def architecture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An architecture.json of a small network."""
    folder = tmp_path_factory.mktemp("found")
    shown = run("latbench arch show fbnet_a --input 32 --json", folder)
    path = folder / "architecture.json"
    path.write_text(shown.stdout)
    return path


def make_input(path: Path, kind: str) -> None:
    """Make `path` an input that cannot be read."""
    if kind == "empty folder":
        path.mkdir()
    elif kind == "unreadable":
        if os.geteuid() == 0:  # reads any file, but not its own memory at 0
            path.symlink_to("/proc/self/mem")
        else:
            path.write_text("not for you")
            path.chmod(0)


@pytest.mark.parametrize("kind", ["missing", "empty folder", "unreadable"])
@pytest.mark.parametrize(("name", "line"), READERS, ids=[line for _, line in READERS])
def test_inputs_that_cannot_be_read_are_bad_requests(
    name: str,
    line: str,
    kind: str,
    architecture: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    make_input(tmp_path / name, kind)
    result = run(line.replace("PATH", name).replace("ARCHITECTURE", str(architecture)), tmp_path)
    assert result.exit_code == ExitCode.BAD_REQUEST, result.output
    errors = [line for line in result.stderr.splitlines() if not line.startswith("note: ")]
    assert errors[0].startswith("error: ")
    assert name in errors[0]
    assert result.stdout == ""
    assert not (tmp_path / "out").exists()


def test_options_that_take_a_file_or_folder_are_all_in_the_table() -> None:
    """So that a new option cannot be forgotten: who reads a path is found by its metavar."""
    written = {"--out"}
    tested = " ".join(line for _, line in READERS)
    for path in ALL_COMMANDS:
        command = program_named(path.split()[0])
        for word in path.split()[1:]:
            assert isinstance(command, click.Group)
            command = command.get_command(click.Context(command), word)
        assert command is not None
        for option in command.params:
            metavar = option.metavar or ""
            if isinstance(option, click.Option) and ("FILE" in metavar or "DIR" in metavar):
                name = max(option.opts, key=len)
                assert name in written or name in tested, f"{path} {name}"
