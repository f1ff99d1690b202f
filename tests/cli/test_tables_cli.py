"""The commands on LUTs, spaces and architectures: show, predict, space, arch, report and estimate."""

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from latbench.cli import main
from latbench.cli.show import FLAG_NAMES
from latbench.lut import Lut
from latbench.lut.flags import FLAGS, flagged_entries
from tests.lut.test_lut import make_lut
from tests.report.html_examples import LUTS, write_validation

HOST = LUTS / "host-amd-epyc.json"


def latbench(*words: str | Path) -> Result:
    return CliRunner(env={"COLUMNS": "120", "NO_COLOR": "1"}).invoke(main, [str(w) for w in words])


def keys_of(done: Result) -> list[str]:
    """The ops in a table that `show` printed, in order."""
    assert done.exit_code == 0, done.output
    words = [line.split()[0] for line in done.stdout.splitlines() if line.split()]
    return [word for word in words if "_" in word]


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    """A LUT with two wide entries, a mostly tainted one, and one that is both wide and bimodal."""
    lut = make_lut()
    changes: list[dict[str, object]] = [
        {"ci95": (0.5, 1.5), "ms": 1.0},
        {"ci95": (1.0, 3.0), "ms": 2.0, "warnings": ("bimodal",)},
        {"tainted": 9, "rounds": 8},
        {"tainted": 8, "rounds": 8},
    ]
    keys = [key for key in lut.entries if key.startswith("head")] + list(lut.keys())[:3]
    entries = {
        key: lut[key].model_copy(update=change) for key, change in zip(keys, changes, strict=False)
    }
    path = tmp_path / "marked.json"
    lut.model_copy(update={"entries": lut.entries | entries}).save(path)
    return path


@pytest.mark.parametrize(
    ("sort", "value"),
    [
        ("ms", lambda one: one.entry.ms),
        ("interval", lambda one: one.entry.relative_half_width),
        ("roofline", lambda one: one.over_roofline),
        ("macs", lambda one: one.entry.macs),
        ("tainted", lambda one: one.entry.tainted),
    ],
)
def test_show_sorts_the_largest_first(sort: str, value: object) -> None:
    assert callable(value)
    expected = sorted(map(value, flagged_entries(Lut.load(HOST))), reverse=True)
    by_key = {one.key: value(one) for one in flagged_entries(Lut.load(HOST))}
    assert [by_key[key] for key in keys_of(latbench("show", HOST, "--sort", sort))] == expected


def test_show_lists_by_key_unless_told_otherwise() -> None:
    assert keys_of(latbench("show", HOST)) == list(Lut.load(HOST).keys())


def test_show_top_keeps_the_first_entries() -> None:
    done = latbench("show", HOST, "--sort", "ms", "--top", "3")
    assert keys_of(done) == keys_of(latbench("show", HOST, "--sort", "ms"))[:3]
    assert "entries     3 of 109 shown" in done.stdout


def test_show_only_keeps_entries_with_a_flag(marked: Path) -> None:
    flagged = {one.key: one for one in flagged_entries(Lut.load(marked)) if one.flags}
    wide = {key for key, one in flagged.items() if "wide" in one.names}
    tainted = {key for key, one in flagged.items() if "tainted" in one.names}
    assert len(wide) == 2
    assert len(tainted) == 1
    assert set(keys_of(latbench("show", marked, "--only", "wide"))) == wide
    both = latbench("show", marked, "--only", "wide", "--only", "tainted")
    assert set(keys_of(both)) == wide | tainted
    assert set(keys_of(latbench("show", marked, "--only", "flagged"))) == set(flagged)
    assert "tainted 9 of 17" in latbench("show", marked, "--only", "tainted").stdout
    assert keys_of(latbench("show", marked, "--only", "step")) == []


def test_show_offers_every_flag() -> None:
    assert set(FLAG_NAMES) == set(FLAGS)
    refused = latbench("show", HOST, "--only", "clean")
    assert refused.exit_code == 2
    assert "wide" in refused.stderr


def test_show_prints_the_chosen_entries_as_json_and_csv(marked: Path) -> None:
    chosen = ("--only", "wide", "--sort", "ms", "--top", "1")
    lut = Lut.load(marked)
    (entry,) = json.loads(latbench("show", marked, *chosen, "--json").stdout)
    (key,) = keys_of(latbench("show", marked, *chosen))
    assert entry["key"] == key
    assert entry["flags"] == ["wide", "bimodal"]
    assert entry["ms"] == lut[key].ms
    header, row = latbench("show", marked, *chosen, "--csv").stdout.splitlines()
    assert header.startswith("key,kind,ms,")
    assert row.startswith(f"{key},head,{lut[key].ms}")
    assert json.loads(latbench("show", marked, "--json").stdout) == lut.to_dict()


def test_show_says_that_repeated_trials_need_no_action() -> None:
    """97 of the 109 entries of this LUT have a tainted trial, none more tainted than trusted ones."""
    assert "tainted" not in latbench("show", HOST).stdout


def test_report_has_a_default_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = latbench("report", HOST)
    assert done.exit_code == 0, done.output
    assert "report    host-amd-epyc.html" in done.stdout
    assert (tmp_path / "host-amd-epyc.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize("value", [True, "1.0", None, float("nan")])
def test_a_validation_without_numbers_is_refused(tmp_path: Path, value: object) -> None:
    path = write_validation(tmp_path / "each.json", Lut.load(HOST))
    data = json.loads(path.read_text())
    data["each"][2]["measured"] = value
    path.write_text(json.dumps(data))
    done = latbench("report", HOST, "--out", tmp_path / "report.html", "--validation", path)
    assert done.exit_code == 2
    assert f"latbench validate {HOST} --json > {path}" in done.stderr


def test_a_lut_given_twice_is_named(tmp_path: Path) -> None:
    done = latbench("report", HOST, LUTS / "galaxy-s8.json", HOST, "--out", tmp_path / "r.html")
    assert done.exit_code == 2
    assert f"{HOST} is given twice" in done.stderr


def test_predict_names_the_heads_of_the_space() -> None:
    done = latbench("predict", HOST, "fbnet_b", "--head", "1000")
    assert done.exit_code == 2
    assert "head must be 1984 or 1504 channels in this LUT, got 1000" in done.stderr


def test_predict_refuses_a_head_for_a_file(tmp_path: Path) -> None:
    path = tmp_path / "architecture.json"
    shown = json.loads(latbench("arch", "show", "fbnet_b", "--json").stdout)
    path.write_text(json.dumps({key: shown[key] for key in ("name", "space", "layers", "head")}))
    done = latbench("predict", HOST, path, "--head", "1984")
    assert done.exit_code == 2
    assert "do not apply" in done.stderr


def test_the_command_for_missing_ops_measures_exactly_them(tmp_path: Path) -> None:
    lut = make_lut()
    entries = dict(lut.entries)
    del entries[lut.search_space.stem.key]
    path = tmp_path / "part.json"
    lut.model_copy(update={"entries": entries}).save(path)
    done = latbench("predict", path, "fbnet_b")
    assert done.exit_code != 0
    command = next(line for line in done.stderr.splitlines() if "latbench profile" in line)
    words = shlex.split(command.partition("latbench ")[2])
    parsed = CliRunner().invoke(main, [*words, "--help"])
    assert parsed.exit_code == 0
    space = {"--space": "fbnet", "--input": "96", "--width": "1"}
    target = {"--device": "host", "--runtime": "tflite", "--precision": "fp32"}
    assert dict(zip(words[1::2], words[2::2], strict=True)) == space | target


def test_the_hint_for_an_architecture_of_another_space_runs(tmp_path: Path) -> None:
    """A network of the space that drops the first 1x1, with a LUT that keeps it: give its notation."""
    path = tmp_path / "architecture.json"
    shown = json.loads(latbench("arch", "show", "fbnet_b", "--json").stdout)
    path.write_text(json.dumps({key: shown[key] for key in ("name", "space", "layers", "head")}))
    refused = latbench("predict", HOST, path)
    assert refused.exit_code == 2
    assert "keeps_first_1x1 is False, must be True" in refused.stderr
    hint = next(line for line in refused.stderr.splitlines() if "notation" in line)
    (notation,) = shlex.split(hint.partition("file: ")[2])
    assert notation == shown["layers"]
    assert latbench("predict", HOST, notation).exit_code == 0


@pytest.mark.parametrize(
    ("device", "options"),
    [
        ("pixel-4", ("--runtime", "onnx")),
        ("galaxy-s8", ("--precision", "int8", "--space", "fbnet")),
    ],
)
def test_the_hint_of_estimate_repeats_every_option(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str, options: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    figures = (LUTS.parent / "devices" / "published" / "galaxy-s8.toml").read_text()
    folder = tmp_path / "devices" / "published"
    folder.mkdir(parents=True)
    (folder / "galaxy-s8.toml").write_text(figures.partition("[[figure]]")[0])
    words = (*options, "--threads", "2", "--input", "96", "--width", "0.5", "--drop-first-1x1")
    refused = latbench("estimate", "--device", device, *words)
    assert refused.exit_code == 2
    hint = next(line for line in refused.stderr.splitlines() if "latbench profile" in line)
    typed = shlex.split(hint.partition("latbench ")[2])
    assert f"--device {device}" in hint
    assert CliRunner().invoke(main, [*typed, "--help"]).exit_code == 0
    for option, value in zip(words[:-1:2], words[1::2], strict=True):
        assert f"{option} {value}" in hint
    assert "--drop-first-1x1" in hint


def test_the_hint_of_estimate_writes_to_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("estimate", "--device", "s8", "--threads", "4", "--space", "fbnet-cifar")
    assert latbench(*words).exit_code == 0
    (path,) = (tmp_path / "luts").iterdir()
    Lut.load(path).model_copy(update={"provenance": "measured"}).save(path)
    refused = latbench(*words)
    assert refused.exit_code == 2
    hint = next(line for line in refused.stderr.splitlines() if "latbench estimate" in line)
    retyped = shlex.split(hint.partition("latbench ")[2].replace("FILE", "other.json"))
    assert latbench(*retyped).exit_code == 0
    other = Lut.load(tmp_path / "other.json")
    assert (other.target.threads, other.search_space.name) == (4, "fbnet-cifar")
