"""Defaults of options, the image size, and the commands that the programs print to type next."""

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from fbnet_search import Recipe, TrainRecipe, search, train
from fbnet_search.cli import search_main, train_main
from fbnet_search.data.datasets import default_image_size
from latbench.cli import main
from latbench.errors import BadRequest
from latbench.files import shipped
from latbench.lut import Lut, predict_latency
from latbench.space import SearchSpace, read_architecture

MakeLut = Callable[..., Lut]
SHORT = replace(Recipe.named("digits"), epochs=2, warmup_epochs=1, batch=64, paths=1, last_paths=1)
PROGRAMS = {"fbnet-search": search_main, "fbnet-train": train_main}


def typed(line: str, *more: str) -> Result:
    """The outcome of a line as a user types it."""
    name, *words = shlex.split(line)
    return CliRunner().invoke(PROGRAMS[name], [*words, *more], prog_name=name)


def printed(result: Result, fact: str) -> str:
    """The value of a printed fact."""
    lines = [line for line in result.stdout.splitlines() if line.startswith(f"{fact} ")]
    assert len(lines) == 1, result.output
    return lines[0].removeprefix(fact).strip()


@pytest.fixture(scope="module")
def wide_space(tiny_space: SearchSpace) -> SearchSpace:
    """The tiny space with an input of 16, so that smaller images exist."""
    return tiny_space.at(input_size=16)


@pytest.fixture
def wide_lut(wide_space: SearchSpace, make_lut: MakeLut, tmp_path: Path) -> Path:
    path = tmp_path / "host.json"
    make_lut(wide_space).save(path)
    return path


# Takes about half a minute of a core: one epoch of FBNet's whole supernet instead of eight.
def test_the_shortest_line_works_in_an_empty_folder_and_so_does_what_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = typed("fbnet-search --lut luts/iphonex.json", "--epochs", "1")
    assert found.exit_code == 0, found.output
    for assumed in (
        "luts/iphonex.json does not exist here; using the shipped LUT",
        "is a modelled LUT",
        "handwritten digits; use your own images with --data imagefolder:PATH",
        "writing to runs/iphonex; choose another folder with --out DIR",
        "images of 64x64, while latencies are for 224x224; choose another size with --image-size",
    ):
        assert assumed in found.stderr
    content = json.loads(Path("runs/iphonex/architecture.json").read_text())
    assert (content["image_size"], content["space"]["input"]) == (64, 224)
    assert content["data"]["name"] == "digits"
    lut = Lut.load(shipped("luts") / "iphonex.json")
    architecture = read_architecture("runs/iphonex/architecture.json")
    assert content["predicted_ms"] == predict_latency(lut, architecture).ms

    trained = typed(printed(found, "next"), "--epochs", "1")
    assert trained.exit_code == 0, trained.output
    assert "1 epoch\n" in trained.stdout
    result = json.loads(Path("runs/iphonex/training.json").read_text())
    assert result["image_size"] == 64
    assert result["latencies"] == content["latencies"]
    assert "(N, 3, 64, 64)" in Path("runs/iphonex/network.py").read_text()
    card = Path("runs/iphonex/MODEL_CARD.md").read_text()
    assert "| input | 64x64 RGB" in card
    assert "images of 224x224; 95 % intervals" in card
    assert "files here take images of 64x64" in card


@pytest.mark.usefixtures("tiny_space")
def test_the_next_line_repeats_every_option_that_matters(wide_lut: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "my recipe.toml"
    shipped_text = (Path(__file__).parents[2] / "fbnet_search/recipes/digits.toml").read_text()
    recipe.write_text(shipped_text.replace("batch = 64", "batch = 50"))
    out = tmp_path / "my search"
    found = CliRunner().invoke(
        search_main,
        [
            *("--lut", str(wide_lut), "--data", "digits", "--out", str(out), "--epochs", "1"),
            *("--recipe", str(recipe), "--image-size", "8", "--seed", "3"),
        ],
    )
    assert found.exit_code == 0, found.output
    assert printed(found, "images") == "8x8; latency and size are for 16x16"
    trained = typed(printed(found, "next"), "--epochs", "1")
    assert trained.exit_code == 0, trained.output
    result = json.loads((out / "training.json").read_text())
    assert (result["recipe"]["batch"], result["seed"], result["image_size"]) == (50, 3, 8)
    assert result["data"]["name"] == "digits"


def test_train_takes_data_size_and_folder_from_the_search(wide_lut: Path, tmp_path: Path) -> None:
    out = tmp_path / "found"
    search(wide_lut, "digits", out, recipe=SHORT, image_size=8)
    trained = typed(f"fbnet-train {out}", "--epochs", "1")
    assert trained.exit_code == 0, trained.output
    assert "training on digits; use your own images with --data" in trained.stderr
    assert f"writing to {out}; choose another folder with --out" in trained.stderr
    assert "images of 8x8, while latencies are for 16x16" in trained.stderr
    result = json.loads((out / "training.json").read_text())
    assert (result["data"]["name"], result["image_size"]) == ("digits", 8)
    larger = typed(f"fbnet-train {out} --image-size 16", "--epochs", "1", "--json")
    assert json.loads(larger.stdout)["image_size"] == 16


def test_the_image_size_changes_neither_latency_nor_space(wide_lut: Path, tmp_path: Path) -> None:
    lut = Lut.load(wide_lut)
    found = search(lut, "digits", tmp_path, recipe=SHORT, image_size=8)
    assert found.image_size == 8
    assert found.architecture.space == lut.search_space
    assert found.prediction == predict_latency(lut, found.architecture)
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert events[0]["image_size"] == 8
    with pytest.raises(BadRequest, match="other settings") as other:
        search(lut, "digits", tmp_path, recipe=SHORT, resume=True)
    assert other.value.details == ("image_size: 8 in the checkpoint, None now",)


@pytest.mark.parametrize("size", [0, 4, 12, 24])
def test_an_image_size_that_does_not_suit_the_space_is_refused(
    wide_lut: Path, tmp_path: Path, size: int
) -> None:
    with pytest.raises(BadRequest, match=f"a multiple of 8 from 8 to .* 16, got {size}"):
        search(wide_lut, "digits", tmp_path / "out", recipe=SHORT, image_size=size)
    space = Lut.load(wide_lut).search_space
    network = read_architecture("k3e1 k3e1|k3e1 k3e1|k3e1 k3e1", space)
    with pytest.raises(BadRequest, match=f"got {size}"):
        train(
            network, "digits", tmp_path, recipe=TrainRecipe.named("digits"), image_size=size,
            export=False,
        )  # fmt: skip


def test_only_digits_are_smaller_than_the_input_by_default() -> None:
    assert default_image_size("digits", 224, 32) == 64
    assert default_image_size("digits", 32, 8) == 32
    assert default_image_size("digits", 512, 128) == 128
    assert default_image_size("imagefolder:photos", 224, 32) == 224


def test_earlier_checkpoints_are_read(wide_lut: Path, tmp_path: Path) -> None:
    lut, whole, resumed = Lut.load(wide_lut), tmp_path / "whole", tmp_path / "resumed"

    class Stopped(Exception):
        pass

    def stop(progress: object) -> None:
        if getattr(progress, "done", 0) == 40:
            raise Stopped

    expected = search(lut, "digits", whole, recipe=SHORT)
    with pytest.raises(Stopped):
        search(lut, "digits", resumed, recipe=SHORT, checkpoint_s=0, progress=stop)
    state = torch.load(resumed / "checkpoint.pt", weights_only=True)
    assert "image_size" not in state["identity"]
    assert state["own"]["phase"] == "theta"
    state["own"]["told"] = state["own"].pop("metrics")
    torch.save(state, resumed / "checkpoint.pt")
    again = search(lut, "digits", resumed, recipe=SHORT, resume=True)
    assert again.to_dict() == expected.to_dict()


@pytest.mark.parametrize("path", ["luts/iphonex.json", "iphonex.json"])
def test_every_command_finds_a_shipped_lut_by_its_name(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    predicted = CliRunner().invoke(main, ["predict", path, "fbnet_a"])
    assert predicted.exit_code == 0, predicted.output
    assert f"{path} does not exist here; using the shipped LUT" in predicted.stderr


@pytest.mark.usefixtures("tiny_space")
def test_an_existing_file_wins_over_a_shipped_lut(
    wide_lut: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wide_lut.rename("iphonex.json")
    shown = CliRunner().invoke(main, ["predict", "iphonex.json", "fbnet_a"])
    assert "shipped" not in shown.output
    missing = CliRunner().invoke(main, ["predict", "luts/nokia.json", "fbnet_a"])
    assert missing.exit_code != 0
    assert "cannot read luts/nokia.json: no such file" in missing.stderr
    assert "iphonex.json" in missing.stderr


@pytest.mark.parametrize("program", [search_main, train_main])
def test_help_is_short_and_usage_errors_look_like_all_others(program: object) -> None:
    shown = CliRunner().invoke(program, ["-h"])  # type: ignore[arg-type]
    assert shown.exit_code == 0
    assert "--image-size PIXELS" in shown.stdout
    wrong = CliRunner().invoke(program, ["--imagesize", "8"])  # type: ignore[arg-type]
    assert wrong.exit_code == 2
    assert wrong.stderr.startswith("error: ")
