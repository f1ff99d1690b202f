"""The command line as users and their scripts rely on it."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from latbench import Lut, SearchSpace, published
from latbench.cli import COMMANDS
from tests.cli.conftest import SMALL_SPACE, Run, latbench

ARCHITECTURE = "fbnet_b"
ARCHITECTURE_WITH_SEPARABLE = published("fbnet_c", release="2019").notation


def test_help_names_every_command_in_its_own_words(run: Run) -> None:
    text = run("--help").stdout
    for name, (module, line) in COMMANDS.items():
        assert name in text
        command = import_module(module).command
        assert command.name == name
        assert line.split()[0] == (command.help or "").split()[0], name


#: What `latbench --help` may import besides Python's own modules and click, so that it takes 0.1 s at most.
HELP_IMPORTS = {
    *("latbench", "latbench._version", "latbench.errors"),
    *("latbench.cli", "latbench.cli.group", "latbench.cli.interrupt"),
}


def test_help_imports_click_and_the_command_group_only() -> None:
    check = (
        "import sys; before = set(sys.modules)\n"
        "from latbench.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(*sorted(set(sys.modules) - before), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    foreign = {
        name
        for name in done.stderr.split()
        if name.partition(".")[0] not in {*sys.stdlib_module_names, "click"}
    }
    assert foreign == HELP_IMPORTS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_imports_nothing_heavy(command: str) -> None:
    check = (
        "import sys; from latbench.cli import main\n"
        f"try: main(['{command}', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'pandas', 'onnxruntime', 'onnx', 'pydantic', 'rich', 'scipy'}\n"
        "sys.exit(','.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_space_show(ask: Run) -> None:
    data = json.loads(ask("space", "show", "--space", "fbnet", "--input", "224", "--json").stdout)
    assert (len(data["layers"]), len(data["candidates"]), data["unique_blocks"]) == (22, 9, 96)
    assert {"key", "kind", "macs", "params"} <= set(data["ops"][0])
    assert "unique blocks  96" in ask("space", "show").stdout


@pytest.mark.parametrize(
    ("release", "macs", "params"), [("2019", 295561032, 4777296), ("2020", 291101640, 4766672)]
)
def test_arch_show_counts_by_release(ask: Run, release: str, macs: int, params: int) -> None:
    shown = ask("arch", "show", "fbnet_b", "--release", release, "--json")
    data = json.loads(shown.stdout)
    assert (data["macs"], data["params"]) == (macs, params)
    again = ask("arch", "show", data["layers"], "--release", release, "--json")
    assert json.loads(again.stdout)["macs"] == macs


def test_a_built_lut_is_complete_and_loads(lut_path: Path) -> None:
    lut = Lut.load(lut_path)
    space = SearchSpace.named("fbnet-cifar", input_size=16, width=0.35)
    assert set(lut.entries) == {op.key for op in space.unique_ops}
    assert lut.provenance == "measured"
    assert lut.sentinel is not None
    assert lut.correction is not None


def test_the_same_profile_twice_measures_nothing(run: Run) -> None:
    again = run("profile", "--device", "host", *SMALL_SPACE, "--ci", "10%", "--json")
    assert json.loads(again.stdout)["taken"] == 0


def test_predict_and_measure_agree_about_the_network(run: Run, lut_path: Path) -> None:
    predicted = json.loads(run("predict", str(lut_path), ARCHITECTURE, "--json").stdout)
    assert predicted["low"] < predicted["ms"] < predicted["high"]
    done = run("measure", ARCHITECTURE, "--lut", str(lut_path), "--ci", "10%", "--json")
    measured = json.loads(done.stdout)
    low, high = measured["ci95"]
    assert 0 < low <= measured["ms"] <= high
    assert measured["samples"] >= 8
    assert measured["predicted"]["ms"] == pytest.approx(predicted["ms"])
    assert measured["anchor"] > 0


@pytest.mark.parametrize(("runtime", "precision"), [("onnx", "int8"), ("torchscript", "fp32")])
def test_measure_times_architectures_in_other_formats(
    run: Run, runtime: str, precision: str
) -> None:
    words = ["measure", "fbnet_a", *SMALL_SPACE, "--runtime", runtime, "--precision", precision]
    data = json.loads(run(*words, "--ci", "20%", "--json").stdout)
    assert data["target"]["runtime"] == runtime
    assert data["target"]["precision"] == precision
    assert data["ms"] > 0


@pytest.mark.parametrize(
    ("runtime", "reason"),
    [
        ("tflite", "LiteRT computes in fp32 on CPUs"),
        ("onnx", "ONNX Runtime computes in fp32 on x86"),
    ],
)
def test_what_fp16_models_are_computed_in_is_said(run: Run, runtime: str, reason: str) -> None:
    chosen = ["fbnet_a", *SMALL_SPACE, "--runtime", runtime, "--precision", "fp16"]
    assert f"{runtime} fp16: {reason}" in run("export", *chosen).stdout
    assert reason in run("measure", *chosen, "--ci", "20%").stdout
    widened = run("export", *chosen[:-1], "fp32").stdout
    assert "computes in" not in widened


@pytest.fixture(scope="module")
def exported(profiled: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """fbnet_a of the small space, as files of every format."""
    home, folder = profiled[0], tmp_path_factory.mktemp("exported")
    words = ("export", "fbnet_a", *SMALL_SPACE, "--out", str(folder), "--json")
    listing = latbench(*words, home=home, cwd=folder).stdout
    return [folder / Path(made["path"]).name for made in json.loads(listing)]


def test_exported_files_can_be_measured(run: Run, exported: list[Path]) -> None:
    assert sorted(file.suffix for file in exported) == [".onnx", ".pt", ".tflite"]
    for file in exported:
        data = json.loads(run("measure", str(file), "--ci", "20%", "--json").stdout)
        assert data["name"] == file.name
        assert data["ms"] > 0


def test_a_foreign_torchscript_file_needs_its_input_shape(run: Run, tmp_path: Path) -> None:
    import torch

    path = tmp_path / "mine.pt"
    torch.jit.script(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())).save(str(path))
    refused = run("measure", str(path))
    assert refused.returncode == 2
    assert "--input-shape" in refused.stderr
    measured = run("measure", str(path), "--input-shape", "1x3x32x32", "--ci", "20%", "--json")
    assert json.loads(measured.stdout)["ms"] > 0


def test_show_prints_a_table_json_and_csv(ask: Run, lut_path: Path) -> None:
    lut = Lut.load(lut_path)
    table = ask("show", str(lut_path)).stdout
    assert all(key in table for key in lut.entries)
    assert all(len(line) <= 80 for line in table.splitlines())
    assert json.loads(ask("show", str(lut_path), "--json").stdout) == lut.to_dict()
    csv = ask("show", str(lut_path), "--csv").stdout.splitlines()
    assert len(csv) == len(lut) + 1


def test_devices_lists_the_catalogue_and_this_machine(ask: Run) -> None:
    listed = ask("devices").stdout
    assert "galaxy-s8" in listed
    assert "iphonex" in listed
    data = json.loads(ask("devices", "--json").stdout)
    assert len(data["catalogue"]) >= 8
    assert data["attached"][0]["device"] == "host"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("profile", "--device", "galaxy-s88"), 2, "galaxy-s8"),
        (
            ("profile", "--device", "galaxy-s8", "--adb-server", "127.0.0.1:1"),
            1,
            "adb start-server",
        ),
        (("profile", "--device", "iphonex"), 1, "--device host"),
        (("profile", "--unit", "R58J"), 2, "for Android phones"),
        (("devices", "clean", "--adb-server", "here"), 2, "localhost:5037"),
        (("runner", "install", "--engine", "absent.aar"), 2, "absent.aar"),
        (("profile", "--runtime", "tflight"), 2, "tflite"),
        (("profile", "--space", "fbnett"), 2, "fbnet"),
        (("profile", "--input", "100"), 2, "multiple of 32"),
        (("profile", "--ci", "a lot"), 2, "1%"),
        (("profile", "--budget", "soon"), 2, "10m"),
        (("profile", "--cores", "x"), 2, "4-7"),
        (("space", "show", "--width", "9"), 2, "0.35"),
        (("arch", "show", "fbnet_d"), 2, "fbnet_a"),
        (("arch", "show", "fbnet_a", "--release", "2021"), 2, "2020"),
        (("predict", "absent.json", "fbnet_a"), 2, "absent.json"),
        (("predict", "luts/host.json", "k3e1|k3e1"), 2, "layers in its stages"),
        (("measure", "absent.onnx"), 2, "absent.onnx"),
        (("measure", "fbnet_a", "--lut", "luts/host.json", "--threads", "2"), 2, "threads"),
        (
            ("measure", "fbnet_a", "--lut", "luts/host.json", "--input", "224"),
            2,
            "leave out the options of the space",
        ),
        (("predict", "luts/host.json", "fbnet_a", "--head", "99"), 2, "1504"),
        (("profile", *SMALL_SPACE, "--cores", "777"), 2, "core 777"),
        (("profile", "--cores", "1-0"), 2, "4-7"),
        (("profile", *SMALL_SPACE, "--threads", "2", "--cores", "0"), 2, "as many cores"),
        (("build-lut", "--out", ""), 2, "--out must be"),
        (("build-lut", "--out", "luts/host.json/deeper/host.json"), 1, "is not a folder"),
        (("measure", "fbnet_a", "--input-shape", "many"), 2, "1x3x224x224"),
        (("build-lut", "absent.sqlite"), 2, "absent.sqlite"),
        (("frobnicate",), 2, "unknown command"),
    ],
)
def test_bad_input_is_reported_without_a_traceback(
    ask: Run, words: tuple[str, ...], code: int, message: str
) -> None:
    done = ask(*words)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_prediction_for_missing_ops_names_the_command(ask: Run, lut_path: Path) -> None:
    done = ask("predict", str(lut_path), ARCHITECTURE_WITH_SEPARABLE)
    assert done.returncode == 1
    assert "ir_k3sep_e6_g1_s1_i16_o16_h8_w8" in done.stderr
    assert "measure them with: latbench profile --device host" in done.stderr


def test_hand_edited_truncated_and_foreign_files_are_refused(
    ask: Run, lut_path: Path, tmp_path: Path
) -> None:
    text = lut_path.read_text()
    bad = {
        "edited.json": text.replace('"ms": 0.', '"ms": 1.', 1),
        "cut.json": text[: len(text) // 2],
        "foreign.json": '{"latency": 3}',
    }
    for name, content in bad.items():
        path = tmp_path / name
        path.write_text(content)
        for words in (("show", str(path)), ("predict", str(path), "fbnet_a")):
            done = ask(*words)
            assert done.returncode == 2
            assert name in done.stderr
            assert "Traceback" not in done.stderr


def test_build_lut_before_any_profile_says_what_to_type(tmp_path: Path) -> None:
    from tests.cli.conftest import latbench

    done = latbench("build-lut", home=tmp_path, cwd=tmp_path)
    assert done.returncode == 1
    assert "latbench profile" in done.stderr


def test_a_full_disk_leaves_the_earlier_lut(run: Run, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine does not allow mounting")
    try:
        (disk / "host.json").write_text("what was here before")
        (disk / "ballast").write_bytes(bytes(56 * 1024))
        done = run("build-lut", "--out", str(disk / "host.json"))
        assert done.returncode == 1
        assert "No space left" in done.stderr
        assert "Traceback" not in done.stderr
        assert (disk / "host.json").read_text() == "what was here before"
        assert sorted(path.name for path in disk.iterdir()) == ["ballast", "host.json"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def _has_trials(folder: Path) -> bool:
    for path in folder.glob("*.sqlite"):
        with (
            contextlib.closing(sqlite3.connect(path)) as database,
            contextlib.suppress(
                sqlite3.OperationalError
            ),  # not laid out yet, or just being written
        ):
            return bool(database.execute("SELECT count(*) FROM trials").fetchone()[0])
    return False


def test_ctrl_c_keeps_what_was_measured(tmp_path: Path) -> None:
    home = tmp_path / "home"
    hasty = ("--ci", "10%", "--calibrate", "0")
    words = ("profile", "--device", "host", *SMALL_SPACE, *hasty)
    command = [sys.executable, "-m", "latbench", *words]
    env = os.environ | {"LATBENCH_HOME": str(home)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env, cwd=tmp_path)
    journal = home / "journals"
    deadline = time.monotonic() + 120
    while not _has_trials(journal) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1, stderr
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    (kept,) = journal.glob("*.sqlite")
    with contextlib.closing(sqlite3.connect(kept)) as database:
        ((trials,),) = database.execute("SELECT count(*) FROM trials")
    assert trials > 0
    done = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, env=env, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    continued = json.loads(done.stdout)
    assert continued["trials"] - continued["taken"] == trials


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        (".tflite", "half"),
        (".tflite", "flipped"),
        (".onnx", "half"),
        (".onnx", "junk"),
        (".pt", "flipped"),
    ],
)
def test_damaged_models_are_refused(
    run: Run, exported: list[Path], tmp_path: Path, suffix: str, damage: str
) -> None:
    (intact,) = (file for file in exported if file.suffix == suffix)
    whole, path = intact.read_bytes(), tmp_path / intact.name
    if damage == "half":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "flipped":
        path.write_bytes(whole[:8] + bytes(255 - byte for byte in whole[8:]))
    else:
        path.write_bytes(b"junk" * 1000)
    done = run("measure", str(path), "--budget", "20s")
    assert done.returncode == 1, done.stdout
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("delay", [0.15, 0.45, 0.9])
def test_ctrl_c_while_a_command_is_still_importing_is_no_traceback(
    tmp_path: Path, delay: float
) -> None:
    command = [sys.executable, "-m", "latbench", "export", *SMALL_SPACE]
    env = os.environ | {"LATBENCH_HOME": str(tmp_path)}
    while True:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
        if process.returncode != -signal.SIGINT:
            break
        delay *= 2  # on a busy machine Python itself had not begun
        assert delay < 30
    assert process.returncode == 1
    assert stderr.decode().startswith("interrupted") or b"error: interrupted" in stderr


def test_a_full_disk_stops_an_export_without_a_stump(run: Run, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this machine does not allow mounting")
    try:
        done = run("export", "fbnet_a", *SMALL_SPACE, "--out", str(disk))
        assert done.returncode == 1
        assert "No space left" in done.stderr
        assert "Traceback" not in done.stderr
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)
