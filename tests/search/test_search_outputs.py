"""The files of a training for others: `network.py`, timm's notation, and the model card."""

import itertools
import json
import random
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from fbnet_search import Recipe, TrainRecipe, search, train
from fbnet_search.data.images import ImageData
from fbnet_search.training.timm_arch import timm_arch_def, timm_file
from latbench.errors import BadRequest, DeviceUnavailable
from latbench.lut import Lut, predict_latency
from latbench.space import Architecture, SearchSpace
from latbench.space.architecture import random_architectures
from latbench.space.blocks import build_network
from latbench.target import Runtime, Target
from latbench.workflows.measure import Measurement
from latbench.workflows.networks import Together

CANDIDATES = SearchSpace.named("fbnet").candidates

ONE_EPOCH = replace(TrainRecipe.named("digits"), epochs=1, batch=20, warmup_epochs=0, threads=1)


# The file that needs PyTorch only

_ALONE = """
import sys
for name in ("latbench", "fbnet_search"):
    sys.modules[name] = None  # where they are installed too, importing one is an error
import torch

torch.set_num_threads(1)
for folder in sys.argv[1:]:
    sys.path.insert(0, folder)
    import network
    model = network.network(folder + "/weights.pth").eval()
    with torch.no_grad():
        logits = model(torch.load(folder + "/images.pt", weights_only=True))
    torch.save({"logits": logits, "classes": network.CLASSES}, folder + "/logits.pt")
    del sys.modules["network"]
"""

#: With all that a block can have, and once with another number of classes than the space's.
ALONE = {
    "paper": ("k3e6 k5e3|k3e1g2 skip|skip k5e1g2", 10, True),
    "2020": ("k3e1 k5e6sep|k5e1 k3e3|k3e6g2 k3e6", 3, False),
}


def test_the_file_for_pytorch_alone_computes_what_was_trained(
    tiny_space: SearchSpace, few_digits: ImageData, tmp_path: Path
) -> None:
    images = 2 * torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0)) - 1
    expected = {}
    for name, (layers, classes, first_1x1) in ALONE.items():
        network = Architecture.parse(layers, replace(tiny_space, keeps_first_1x1=first_1x1))
        data = fewer_classes(few_digits, classes)
        train(network, data, tmp_path / name, recipe=ONE_EPOCH, export=False)
        trained = build_network(network, classes=classes)
        trained.load_state_dict(torch.load(tmp_path / name / "weights.pth", weights_only=True))
        for module in trained.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_mean.abs().max() > 0
                # It is 0 to begin with in a residual branch's last.
                assert module.weight.abs().max() > 1e-3
        torch.save(images, tmp_path / name / "images.pt")
        with torch.no_grad():
            expected[name] = trained.eval()(images)
        assert expected[name].std(0).max() > 1e-3  # it looks at the images
    folders = [str(tmp_path / name) for name in ALONE]
    subprocess.run([sys.executable, "-I", "-c", _ALONE, *folders], check=True, cwd="/")
    for name, (_, classes, _) in ALONE.items():
        alone = torch.load(tmp_path / name / "logits.pt", weights_only=True)
        assert torch.allclose(alone["logits"], expected[name], rtol=1e-5, atol=1e-5), name
        assert alone["classes"] == list(few_digits.classes[:classes])


def fewer_classes(data: ImageData, classes: int) -> ImageData:
    """The same images; their labels are those of the first classes."""
    train, test = (replace(part, labels=part.labels % classes) for part in (data.train, data.test))
    return replace(data, classes=data.classes[:classes], train=train, test=test)


# timm's words


@dataclass(frozen=True)
class Block:
    """A block as timm builds it. A `cn` is one convolution, which expands nothing."""

    kind: str
    kernel: int
    stride: int
    expansion: int
    inputs: int
    outputs: int


def read_by_timm(arch_def: Sequence[Sequence[str]], inputs: int) -> list[Block]:
    """The blocks of an `arch_def`, by the rules of timm's `_decode_block_str` and `EfficientNetBuilder`.

    Strings are words between underscores: the kind first, then an option each, a letter and a number. A
    string stands for `r` blocks, and in a stage only the first block of all has its stride. Channels are
    rounded to multiples of 8.
    """
    blocks: list[Block] = []
    for stage in arch_def:
        number = itertools.count()
        for text in stage:
            kind, *words = text.split("_")
            options = {}
            for word in words:
                match = re.fullmatch(r"([rksec])(\d+)", word)
                assert match, f"{word!r} of {text!r} is no option"
                assert match[1] not in options
                options[match[1]] = int(match[2])
            assert {"ir": "rksec", "ds": "rksec", "cn": "rksc"}[kind] == "".join(options)
            outputs = max(8, (options["c"] + 4) // 8 * 8)
            for _ in range(options["r"]):
                stride = options["s"] if next(number) == 0 else 1
                expansion = options["e"] if kind == "ir" else 1
                blocks.append(Block(kind, options["k"], stride, expansion, inputs, outputs))
                inputs = outputs
    return blocks


def random_sayable(space: SearchSpace, count: int, seed: int) -> list[Architecture]:
    """Random architectures without 1x1 convolutions in groups; runs of equal blocks are common."""
    rng = random.Random(seed)
    sayable = [candidate for candidate in CANDIDATES if getattr(candidate, "groups", 1) == 1]
    found = []
    for _ in range(count):
        few = rng.sample(sayable, rng.choice((1, 2, len(sayable))))
        choices = tuple(rng.choice(few) for _ in space.layers)
        found.append(Architecture(space, choices, rng.choice(space.heads)))
    return found


@pytest.mark.parametrize("first_1x1", [False, True])
@pytest.mark.parametrize("width", [1.0, 0.35])
def test_timms_words_mean_the_architecture(first_1x1: bool, width: float) -> None:
    space = replace(
        SearchSpace.named("fbnet", input_size=64, width=width), keeps_first_1x1=first_1x1
    )
    words = {"ir": "ir", "ds": "ds", "skip": "cn"}
    for network in random_sayable(space, 100, seed=3):
        wanted = [
            Block(
                words[op.kind],
                op.kernel,
                op.stride,
                getattr(op, "expansion", 1),
                op.in_channels,
                op.out_channels,
            )
            for op in network.layer_ops
            if op is not None
        ]
        told = json.loads(timm_file(network))
        assert read_by_timm(told["arch_def"], told["stem_size"]) == wanted, network.notation
        assert told["arch_def"] == timm_arch_def(network)
        assert (told["stem_size"], told["num_features"]) == (space.stem.out_channels, network.head)
        assert (told["num_classes"], told["input_size"]) == (space.classes, [3, 64, 64])


def test_what_timm_has_no_words_for_is_named() -> None:
    space = SearchSpace.named("fbnet", input_size=64)
    for network in random_architectures(space, 20, seed=2):
        grouped = [
            n for n, choice in enumerate(network.choices, 1) if getattr(choice, "groups", 1) > 1
        ]
        assert grouped
        with pytest.raises(BadRequest) as caught:
            timm_arch_def(network)
        assert [detail.split(" is ")[0] for detail in caught.value.details] == [
            f"layer {number}" for number in grouped
        ]
    small = SearchSpace.named("fbnet-cifar")
    with pytest.raises(BadRequest) as caught:
        timm_arch_def(random_sayable(small, 1, seed=0)[0])
    assert caught.value.details == ("a stem of stride 1",)


@pytest.mark.oracle
def test_timm_builds_the_network_from_its_words() -> None:
    efficientnet = pytest.importorskip("timm.models.efficientnet", reason="pip install timm")
    builder = pytest.importorskip("timm.models._efficientnet_builder")
    space = SearchSpace.named("fbnet", input_size=64, width=0.35)
    for network in random_sayable(space, 4, seed=5):
        told = json.loads(timm_file(network))
        model = efficientnet.EfficientNet(
            builder.decode_arch_def(told["arch_def"]),
            stem_size=told["stem_size"],
            fix_stem=told["fix_stem"],
            num_features=told["num_features"],
            num_classes=told["num_classes"],
            act_layer=torch.nn.ReLU,
        )
        ours = build_network(network)
        counts = [sum(one.numel() for one in net.parameters()) for net in (model, ours)]
        assert counts[0] == counts[1], network.notation
        assert model.eval()(torch.zeros(told["input_size"])[None]).shape == (1, space.classes)


# The model card


@pytest.fixture
def pixel_lut(tiny_lut: Lut) -> Lut:
    """A LUT of a phone that is not here, whose ops take twice as long."""
    entries = {
        key: entry.model_copy(update={"ms": 2 * entry.ms, "ci95": (1.9 * entry.ms, 2.1 * entry.ms)})
        for key, entry in tiny_lut.entries.items()
    }
    target = Target(device="pixel-6", runtime=Runtime.ONNX, precision=tiny_lut.target.precision)
    return tiny_lut.model_copy(update={"target": target, "entries": entries})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Milliseconds that the host measures, one after the other; the phone is not attached."""
    given: list[float] = []

    def measure(networks: Sequence[Architecture], lut: Lut, *, budget_s: float) -> Together:
        if lut.target.device != "host":
            raise DeviceUnavailable("no pixel-6 | none is attached")
        measured = []
        for network in networks:
            ms = given.pop(0)
            interval = 0.8 * ms, 1.25 * ms
            measured.append(
                Measurement(str(network), lut.target, ms, interval, 60, 6, 0, anchor=1.25)
            )
        return Together(tuple(measured), (1.25,), cast(Any, None))

    monkeypatch.setattr("fbnet_search.latencies.measure_networks", measure)
    return given


def card_rows(out: Path) -> dict[str, tuple[str, str]]:
    """The rows of the card's table of latencies: target, predicted, measured."""
    _, _, section = (out / "MODEL_CARD.md").read_text().partition("## Latency")
    table = [line for line in section.partition("##")[0].splitlines() if line.startswith("|")]
    assert table[:2] == ["| target | predicted | measured |", "| --- | --- | --- |"]
    rows = [re.split(r"(?<!\\)\|", line) for line in table[2:]]
    assert all(len(row) == 5 for row in rows)
    cells = [[cell.strip() for cell in row[1:-1]] for row in rows]
    return {target: (predicted, measured) for target, predicted, measured in cells}


def written(latency: dict[str, Any], kind: str) -> str:
    """A predicted or measured latency of a JSON file, as the card writes it."""
    ms, low, high = (latency[f"{kind}_{part}"] for part in ("ms", "low", "high"))
    return f"{ms:.4g} [{low:.4g}, {high:.4g}]"


def test_the_card_tells_the_latencies_that_the_search_found(
    tiny_lut: Lut, pixel_lut: Lut, few_digits: ImageData, tmp_path: Path, clock: list[float]
) -> None:
    clock += [0.4321, 0.5, 0.5]
    searching = replace(
        Recipe.named("digits"), epochs=1, warmup_epochs=0, batch=48, paths=1, last_paths=1
    )
    luts = [tiny_lut, pixel_lut]
    search(luts, few_digits, tmp_path, recipe=searching, target_ms=2.0, verify=3)
    train(tmp_path, few_digits, tmp_path, recipe=ONE_EPOCH, export=False)
    found = json.loads((tmp_path / "architecture.json").read_text())
    trained = json.loads((tmp_path / "training.json").read_text())
    assert trained["latencies"] == found["latencies"]
    near, far = found["latencies"]
    assert near["measured_ms"] == pytest.approx(0.4321 / 1.25)  # at the level of the LUT's run
    assert far["measured_ms"] is None
    assert near["predicted_ms"] != far["predicted_ms"]
    assert card_rows(tmp_path) == {
        str(tiny_lut.target): (written(near, "predicted"), written(near, "measured")),
        str(pixel_lut.target): (
            written(far, "predicted"), "not measured: no pixel-6 \\| none is attached"
        ),
    }  # fmt: skip
    card = (tmp_path / "MODEL_CARD.md").read_text()
    for lut in luts:
        assert f"- searched with the LUT of {lut.target}: modelled, `content_sha256`" in card
        assert card.count(lut.content_sha256) == 2
    assert "with a target of 2 ms, seed 0" in card


def test_the_card_has_the_latencies_that_the_training_measured(
    tiny_lut: Lut, few_digits: ImageData, tmp_path: Path, clock: list[float]
) -> None:
    (network,) = random_architectures(tiny_lut.search_space, 1, seed=8)
    clock += [0.777]
    luts = [tiny_lut]
    train(network, few_digits, tmp_path, recipe=ONE_EPOCH, luts=luts, export=False)
    (told,) = json.loads((tmp_path / "training.json").read_text())["latencies"]
    assert told["predicted_ms"] == predict_latency(tiny_lut, network).ms
    assert told["measured_ms"] == pytest.approx(0.777 / 1.25)
    row = written(told, "predicted"), written(told, "measured")
    assert card_rows(tmp_path) == {str(tiny_lut.target): row}
    assert (
        "the architecture was given, not searched for" in (tmp_path / "MODEL_CARD.md").read_text()
    )


def test_without_a_lut_the_card_tells_how_to_know_the_latency(
    tiny_space: SearchSpace, few_digits: ImageData, tmp_path: Path
) -> None:
    (network,) = random_architectures(tiny_space, 1, seed=8)
    train(network, few_digits, tmp_path, recipe=ONE_EPOCH, export=False)
    assert json.loads((tmp_path / "training.json").read_text())["latencies"] == []
    assert "fbnet-train --lut LUT" in (tmp_path / "MODEL_CARD.md").read_text()
