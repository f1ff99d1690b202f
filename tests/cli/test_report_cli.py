"""`latbench report` and `latbench estimate`, in process."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from latbench.cli import main
from latbench.lut import Lut
from tests.report.html_examples import LUTS, write_journal, write_search, write_validation

HOST = LUTS / "host-amd-epyc.json"


def latbench(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_one_lut_makes_a_report(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    done = latbench("report", HOST, "--out", out, "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["path"] == str(out)
    assert document["bytes"] == out.stat().st_size
    assert document["sections"] == ["overview", "entries", "roofline", "networks", "conditions"]


def test_everything_makes_a_report(tmp_path: Path) -> None:
    lut = Lut.load(HOST)
    done = latbench(
        "report", HOST, LUTS / "galaxy-s8.json", "--out", tmp_path / "report.html",
        "--journal", write_journal(tmp_path / "run.sqlite", lut),
        "--search", write_search(tmp_path / "search", lut),
        "--validation", write_validation(tmp_path / "each.json", lut),
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "comparison" in done.output
    assert "search" in done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--journal", "none.sqlite"), "none.sqlite"),
        (("--search", "nowhere"), "nowhere"),
        (("--validation", "none.json"), "cannot read none.json"),
        (("--validation", str(HOST)), f"latbench validate {HOST} --json"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, words: tuple[str, str], message: str) -> None:
    out = tmp_path / "report.html"
    done = latbench("report", HOST, "--out", out, *words)
    assert done.exit_code in (1, 2)
    assert message in done.stderr
    assert not out.exists()


@pytest.mark.parametrize("each", ["5", "[1]", "[]", '[{"layers": 1}]'])
def test_what_validate_did_not_print_is_refused(tmp_path: Path, each: str) -> None:
    odd = tmp_path / "odd.json"
    odd.write_text(f'{{"each": {each}}}')
    done = latbench("report", HOST, "--out", tmp_path / "report.html", "--validation", odd)
    assert done.exit_code == 2
    assert f"latbench validate {HOST} --json" in done.stderr


def test_a_lut_given_twice_is_refused(tmp_path: Path) -> None:
    done = latbench("report", HOST, HOST, "--out", tmp_path / "report.html")
    assert done.exit_code == 2
    assert "twice" in done.stderr


def test_estimate_writes_a_modelled_lut(tmp_path: Path) -> None:
    out = tmp_path / "s8.json"
    done = latbench("estimate", "--device", "s8", "--out", out)
    assert done.exit_code == 0, done.output
    assert "mobilenet_v2" in done.stdout
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert "modelled" in lines[0]
    assert "latbench profile --device galaxy-s8" in lines[0]
    assert Lut.load(out).provenance == "modelled"
    assert "modelled" in latbench("show", out).stdout
    assert "(modelled)" in latbench("predict", out, "fbnet_b").stdout


def test_estimate_leaves_a_measured_lut_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = tmp_path / "luts" / "galaxy-s8.json"
    assert latbench("estimate", "--device", "s8").exit_code == 0
    Lut.load(kept).model_copy(update={"provenance": "measured"}).save(kept)
    before = kept.read_bytes()
    refused = latbench("estimate", "--device", "s8")
    assert refused.exit_code == 2
    assert "is a measured LUT and would be replaced" in refused.stderr
    assert kept.read_bytes() == before


def test_estimate_refuses_what_nobody_published(tmp_path: Path) -> None:
    done = latbench("estimate", "--device", "pixel-4", "--out", tmp_path / "p.json")
    assert done.exit_code == 2
    assert "latbench profile --device pixel-4" in done.stderr
    assert "galaxy-s8" in done.stderr
