"""`fbnet-search` and `fbnet-train` from the command line, end to end, on good and bad input."""

import json
import multiprocessing
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fbnet_search.cli import search_main, train_main
from latbench.lut import Lut, predict_latency
from latbench.space import SearchSpace, read_architecture

MakeLut = Callable[..., Lut]
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def lut_file(tiny_lut: Lut, tmp_path: Path) -> Path:
    path = tmp_path / "host.json"
    tiny_lut.save(path)
    return path


@pytest.fixture
def arguments(lut_file: Path, digit_folder: Path, tmp_path: Path) -> list[str]:
    data, out = f"imagefolder:{digit_folder}", str(tmp_path / "out")
    return ["--lut", str(lut_file), "--data", data, "--out", out, "--epochs", "2"]


def refused(result: Result, exit_code: int, *words: str) -> None:
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    assert "error: " in result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


def last_shown_at_80_columns(command: Callable[[list[str]], None], arguments: list[str]) -> str:
    """What a command's progress bar shows on a terminal when it was drawn for the last time."""
    ours, theirs = os.openpty()

    def run() -> None:
        os.environ |= {"COLUMNS": "80", "TERM": "xterm"}
        os.dup2(theirs, 2)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        command(arguments)

    process = FORK.Process(target=run)
    process.start()
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    process.join()
    assert process.exitcode == 0, shown.decode()
    line_is_cleared = "\x1b[2K"
    return shown.decode().split(line_is_cleared)[-1]


def test_the_progress_bar_shows_the_current_task(arguments: list[str], tmp_path: Path) -> None:
    judging = [*arguments, "--target-ms", "0.1", "--recipe", "budget"]
    shown = last_shown_at_80_columns(search_main, judging)
    found = re.match("ranking ([0-9]+) networks", shown)
    assert found is not None, shown
    assert int(found[1]) > 100, "of the 160 that are drawn some are among the 40 most probable"
    out = str(tmp_path / "out")
    training = [out, "--data", arguments[3], "--out", out, "--epochs", "1"]
    assert last_shown_at_80_columns(train_main, training).startswith("training, epoch 1 of 1")


def test_search_then_train_gives_a_network_in_three_formats(
    arguments: list[str], lut_file: Path, digit_folder: Path, tmp_path: Path
) -> None:
    searched = CliRunner().invoke(search_main, [*arguments, "--target-ms", "0.3"])
    assert searched.exit_code == 0, searched.output
    assert "is a modelled LUT; replace it with: latbench profile" in searched.stderr
    out = tmp_path / "out"
    names = ("architecture.json", "events.jsonl", "tensorboard", "checkpoint.pt")
    assert all((out / name).exists() for name in names)
    written = json.loads((out / "architecture.json").read_text())
    found = read_architecture(str(out / "architecture.json"))
    assert written["predicted_ms"] == predict_latency(Lut.load(lut_file), found).ms <= 0.3
    assert written["layers"].replace(" ", "") in "".join(searched.stdout.split())
    # The LUT's networks have 10 classes, the data 3.
    assert "3 in imagefolder:" in searched.stdout
    assert "the predicted latency is for 10, as in the LUT" in searched.stdout

    data = ["--data", f"imagefolder:{digit_folder}", "--out", str(out), "--epochs", "2", "--json"]
    trained = CliRunner().invoke(train_main, [str(out), *data])
    assert trained.exit_code == 0, trained.output
    told = json.loads(trained.stdout)
    assert set(told["artifacts"]) == {"tflite", "onnx", "torchscript"}
    assert all(Path(path).stat().st_size > 10_000 for path in told["artifacts"].values())
    assert 0 <= told["test_accuracy"] <= 1
    # Training in the search's folder leaves what the search said as it was.
    assert json.loads((out / "architecture.json").read_text()) == written


def test_the_json_answer_is_what_the_file_holds(arguments: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(search_main, [*arguments, "--seed", "5", "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told.pop("out") == str(tmp_path / "out")
    assert told == json.loads((tmp_path / "out" / "architecture.json").read_text())
    assert told["seed"] == 5


def test_a_modelled_lut_is_refused_where_a_measured_one_is_asked_for(arguments: list[str]) -> None:
    result = CliRunner().invoke(search_main, [*arguments, "--require-measured"])
    refused(result, 2, "is modelled", "measure it with: latbench profile")


def test_luts_that_must_not_be_trusted_are_refused(
    arguments: list[str], lut_file: Path, make_lut: MakeLut, tiny_space: SearchSpace
) -> None:
    whole = lut_file.read_text()
    lut_file.write_text(whole[:-200])
    refused(CliRunner().invoke(search_main, arguments), 2, "is not a LUT")
    lut_file.write_text(whole.replace('"samples": 80', '"samples": 81', 1))
    refused(CliRunner().invoke(search_main, arguments), 2, "edited or damaged")
    lut_file.unlink()
    refused(CliRunner().invoke(search_main, arguments), 2, "cannot read")
    make_lut(tiny_space, without=frozenset({"head"})).save(lut_file)
    refused(CliRunner().invoke(search_main, arguments), 1, "head_i24_o64", "latbench profile")


def test_invalid_data_are_refused(arguments: list[str], digit_folder: Path) -> None:
    refused(
        CliRunner().invoke(search_main, [*arguments, "--data", "digit"]),
        2, "unknown data set 'digit'", "did you mean digits?",
    )  # fmt: skip
    (digit_folder / "2" / "broken.png").write_bytes(b"no picture")
    refused(CliRunner().invoke(search_main, arguments), 1, "2/broken.png")
    (digit_folder / "2" / "list.csv").write_text("a,b")
    refused(CliRunner().invoke(search_main, arguments), 2, "2/list.csv is not an image")


def test_invalid_numbers_are_refused(arguments: list[str]) -> None:
    impossible = CliRunner().invoke(search_main, [*arguments, "--target-ms", "0.01"])
    refused(impossible, 2, "the fastest takes", "give --target-ms")
    refused(
        CliRunner().invoke(search_main, [*arguments, "--epochs", "0"]),
        2,
        "epochs must be at least 1, got 0",
    )
    refused(CliRunner().invoke(search_main, [*arguments, "--resume"]), 2, "no checkpoint")


def test_an_output_folder_that_cannot_be_written_is_an_error(
    arguments: list[str], lut_file: Path
) -> None:
    result = CliRunner().invoke(search_main, [*arguments, "--out", str(lut_file / "out")])
    refused(result, 1, "cannot write")


def test_train_names_the_missing_architecture(tmp_path: Path) -> None:
    common = ["--data", "digits", "--out", str(tmp_path / "out")]
    missing = CliRunner().invoke(train_main, [str(tmp_path / "none"), *common])
    refused(missing, 2, "there is no architecture at", "fbnet-search --lut")
    (tmp_path / "architecture.json").write_text('{"layers": "k3e1"}')
    refused(CliRunner().invoke(train_main, [str(tmp_path), *common]), 2, "not an architecture")


def test_train_names_the_folders_of_several_targets(arguments: list[str], tmp_path: Path) -> None:
    targets = ["--target-ms", "0.2", "--target-ms", "0.3"]
    assert CliRunner().invoke(search_main, [*arguments, *targets]).exit_code == 0
    out = str(tmp_path / "out")
    asked = CliRunner().invoke(train_main, [out, "--data", "digits", "--out", out])
    refused(asked, 2, f"give {out}/0.2ms or {out}/0.3ms")


def test_a_search_notes_that_it_overwrites_an_earlier_one_and_removes_its_results(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    first = CliRunner().invoke(search_main, arguments)
    assert first.exit_code == 0, first.output
    assert "holds an earlier search" not in first.stderr
    assert (out / "checkpoint.2.pt").exists()
    monkeypatch.setattr("fbnet_search.engine.EventLog", pressed)
    anew = CliRunner().invoke(search_main, [*arguments, "--seed", "1"])
    refused(anew, 1, f"{out} holds an earlier search, which this one will overwrite", "--resume")
    left = {path.name for path in out.iterdir() if path.suffix in (".json", ".pt", ".html")}
    assert left == {"checkpoint.pt"}


def test_a_search_removes_the_results_of_several_targets(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    targets = ["--target-ms", "0.2", "--target-ms", "0.3"]
    assert CliRunner().invoke(search_main, [*arguments, *targets]).exit_code == 0
    assert len(list(out.rglob("architecture.json"))) == 2
    monkeypatch.setattr("fbnet_search.engine.EventLog", pressed)
    refused(CliRunner().invoke(search_main, arguments), 1, "interrupted")
    assert not [*out.rglob("architecture.json"), *out.glob("front.*")]
    asked = CliRunner().invoke(train_main, [str(out), "--data", "digits", "--out", str(out)])
    refused(asked, 2, "there is no architecture at", "fbnet-search --lut")


def test_a_checkpoint_of_another_search_names_what_differs_and_nothing_else(
    arguments: list[str],
) -> None:
    assert CliRunner().invoke(search_main, arguments).exit_code == 0
    other = [*arguments[:-1], "3", "--target-ms", "0.3", "--resume"]
    told = CliRunner().invoke(search_main, other)
    refused(
        told,
        2,
        "target_ms: None in the checkpoint, 0.3 now",
        "recipe.epochs: 2 in the checkpoint, 3 now",
    )
    assert "batch" not in told.stderr


def pressed(*_: object, **__: object) -> None:
    """Ctrl-C, where the data would be opened."""
    raise KeyboardInterrupt


def test_ctrl_c_before_the_first_checkpoint_does_not_promise_one(
    arguments: list[str], digit_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    finished = CliRunner().invoke(search_main, [*arguments, "--epochs", "1"])
    assert finished.exit_code == 0, finished.output
    training = [str(out), "--data", f"imagefolder:{digit_folder}", "--out", str(out)]
    monkeypatch.setattr("fbnet_search.engine.open_or_check", pressed)
    monkeypatch.setattr("fbnet_search.training.retrain.open_or_check", pressed)
    empty = ["--out", str(tmp_path / "empty")]
    for command, words in (
        (search_main, [*arguments, *empty]),
        (search_main, arguments),  # what is there is the earlier search's
        (train_main, training),
    ):
        stopped = CliRunner().invoke(command, words)
        refused(stopped, 1, "interrupted", "there is no checkpoint of this run yet")
        assert "--resume" not in stopped.stderr.partition("error: ")[2]
    resumed = CliRunner().invoke(search_main, [*arguments, "--resume"])
    refused(resumed, 1, f"{out} has a checkpoint", "continue with: ", "--resume")
    nowhere = CliRunner().invoke(search_main, [*arguments, *empty, "--resume"])
    refused(nowhere, 1, "no checkpoint to resume from", "without --resume")


# What only a process of its own can show


class Started:
    """The command in a process of its own; forked, so that it need not import PyTorch again."""

    def __init__(self, arguments: list[str], folder: Path, most_bytes: int | None = None) -> None:
        self.out, self.err = folder / "stdout", folder / "stderr"
        self.process = FORK.Process(target=self._run, args=(arguments, most_bytes))
        self.process.start()

    def _run(self, arguments: list[str], most_bytes: int | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if most_bytes is not None:  # files that cannot grow, as on a disk with no more room
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
        with self.out.open("w") as out, self.err.open("w") as err:
            sys.stdout, sys.stderr = out, err
            try:
                search_main(arguments)
            finally:
                out.flush()
                err.flush()

    def ended(self) -> tuple[int | None, str, str]:
        """Its exit code, and what it wrote, when it has ended."""
        self.process.join(120)
        self.process.kill()
        return self.process.exitcode, self.out.read_text(), self.err.read_text()


def test_ctrl_c_ends_with_a_hint_and_the_search_goes_on_from_there(
    arguments: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = [*arguments, "--epochs", "3"]
    started = Started(arguments, tmp_path)
    deadline = time.monotonic() + 120
    while not (out / "checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert started.process.pid is not None
    os.kill(started.process.pid, signal.SIGINT)
    code, stdout, stderr = started.ended()
    assert code == 1, stderr
    assert stdout == ""
    assert "interrupted" in stderr
    assert "--resume" in stderr
    assert "Traceback" not in stderr
    assert not (out / "architecture.json").exists()

    _, _, command = stderr.partition("continue with: ")
    words = shlex.split(command)  # begin with the program, here that of the tests
    resumed = CliRunner().invoke(search_main, words[words.index("--lut") :])
    assert resumed.exit_code == 0, resumed.output
    other = CliRunner().invoke(search_main, [*arguments, "--out", str(tmp_path / "other")])
    assert other.exit_code == 0
    files = [(tmp_path / name / "architecture.json").read_bytes() for name in ("out", "other")]
    assert files[0] == files[1]


def test_a_file_that_cannot_grow_is_an_error_and_earlier_files_are_intact(
    arguments: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    names = (
        "architecture.json",
        "checkpoint.pt",
        "events.jsonl",
        "tensorboard/events.out.tfevents.1",
    )
    earlier = dict.fromkeys(names, b"earlier")
    for name, content in earlier.items():
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_bytes(content)
    code, stdout, stderr = Started(arguments, tmp_path, most_bytes=1 << 16).ended()
    assert code == 1, stderr
    assert stdout == ""
    assert f"error: cannot write {out / 'checkpoint.pt'}: File too large" in stderr
    assert "Traceback" not in stderr
    assert {name: (out / name).read_bytes() for name in earlier} == earlier
    assert {path.name for path in out.rglob("*") if path.is_file()} == {
        *(Path(name).name for name in names), "checkpoint.1.pt",
    }  # fmt: skip


def test_importing_the_package_and_its_commands_is_light() -> None:
    heavy = ("torch", "sklearn", "pandas", "PIL", "tensorboard", "onnxruntime")
    code = (
        "import sys, fbnet_search, fbnet_search.cli; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == "[]"
