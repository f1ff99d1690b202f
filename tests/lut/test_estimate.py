"""Modelled LUTs: the roofline, its fit, and its intervals."""

import math
from pathlib import Path

import numpy as np
import pytest

from latbench.errors import BadRequest, LutRefused
from latbench.lut import Lut, predict_latency
from latbench.lut.provenance import provenance_note, require_measured
from latbench.lut.roofline import Core, Figure, Roofline, Work, fit_roofline, parts_of
from latbench.quantiles import Z975
from latbench.space import SearchSpace, parse_key, published
from latbench.space.design import varied_architectures
from latbench.target import Precision, Runtime, Target
from latbench.workflows.estimate import (
    estimate,
    modelled_lut,
    network_ops,
    published_figures,
)

LUTS = Path(__file__).parents[2] / "luts"
SHIPPED = ("galaxy-s8", "iphonex")


def test_the_parts_of_every_op_make_up_its_macs() -> None:
    for space in (SearchSpace.named(), SearchSpace.named(keeps_first_1x1=False)):
        for op in space.unique_ops:
            assert sum(part.macs for part in parts_of(op, Precision.FP32)) == op.macs
    sep = parse_key("ir_k3sep_e6_g1_s2_i32_o64_h28_w28")
    assert sum(part.macs for part in parts_of(sep, Precision.FP32)) == sep.macs


def test_parts_of_a_block_touch_the_bytes_they_must() -> None:
    first, depthwise, last, add = parts_of(parse_key("ir_k3_e3_g1_s1_i8_o8_h4_w4"), Precision.INT8)
    assert [part.work for part in (first, depthwise, last, add)] == [
        Work.DENSE, Work.DEPTHWISE, Work.DENSE, Work.MOVE,
    ]  # fmt: skip
    assert first.bytes == 8 * 16 + 8 * 24 + 24 * 16
    assert depthwise.bytes == 24 * 16 + 24 * 9 + 24 * 16
    assert add.bytes == 3 * 8 * 16


@pytest.mark.parametrize(
    ("name", "macs", "params"), [("mobilenet_v1", 569e6, 4.2e6), ("mobilenet_v2", 300e6, 3.4e6)]
)
def test_mobilenets_are_as_large_as_their_papers_say(name: str, macs: float, params: float) -> None:
    ops = network_ops(name)
    assert sum(op.macs for op in ops) == pytest.approx(macs, rel=0.01)
    assert sum(op.params for op in ops) == pytest.approx(params, rel=0.03)


def test_a_fit_recovers_the_device_that_the_figures_were_made_with() -> None:
    core = Core(2.0, 8)
    true = Roofline(
        Precision.FP32, np.log([14e6, 2e6, 9e6, 0.004]), np.zeros((4, 4))
    )  # 14 and 2 GMAC/s, 9 GB/s, 4 µs
    networks = varied_architectures(SearchSpace.named(), 30)
    figures = [
        Figure(str(n), one.ops, true.ms(one.ops), "g", 0.01) for n, one in enumerate(networks)
    ]
    found = fit_roofline(core, Precision.FP32, figures)
    for one in varied_architectures(SearchSpace.named(), 10, seed=5):
        assert found.ms(one.ops) == pytest.approx(true.ms(one.ops), rel=0.02)
    assert found.dense_macs_per_ms == pytest.approx(14e6, rel=0.2)
    assert found.depthwise_macs_per_ms == pytest.approx(2e6, rel=0.2)


def test_more_figures_narrow_the_fit() -> None:
    networks = varied_architectures(SearchSpace.named(), 12)
    core, probe = Core(2.0, 8), networks[0].ops
    prior = fit_roofline(core, Precision.FP32, [])
    figures = [
        Figure(str(n), one.ops, prior.ms(one.ops), "g", 0.1) for n, one in enumerate(networks)
    ]
    spread = [fit_roofline(core, Precision.FP32, figures[:n]).deviation(probe) for n in (0, 1, 12)]
    assert spread[0] > spread[1] > spread[2]


def test_figures_of_another_engine_do_not_set_the_speed() -> None:
    network = published("fbnet_b").ops
    core = Core(2.0, 8)
    prior = fit_roofline(core, Precision.FP32, []).ms(network)
    fitted = {
        spread: fit_roofline(
            core, Precision.FP32, [Figure("b", network, 3 * prior, "g", spread)]
        ).ms(network)
        for spread in (0.05, 3.0)
    }
    assert fitted[0.05] > 2 * prior
    assert fitted[3.0] < 1.2 * prior


def test_modelled_intervals_include_how_units_differ() -> None:
    core = Core(2.0, 8)
    space = SearchSpace.named("fbnet-cifar")
    target = Target(device="iphonex", runtime=Runtime.TFLITE, precision=Precision.FP32)
    prior = fit_roofline(core, Precision.FP32, [])

    def variance(*spreads: float) -> float:
        figures = [
            Figure(str(spread), space.unique_ops, 1.0, str(spread), spread) for spread in spreads
        ]
        lut = modelled_lut(target, space, core, prior, figures, {})
        entry = lut[space.unique_ops[3]]
        return (math.log(entry.ci95[1] / entry.ms) / Z975) ** 2

    # A figure of another engine, of spread 1, tells nothing of a unit.
    assert variance(0.1) - variance(1.0) == pytest.approx(0.1**2)
    assert variance(0.15, 0.1) == pytest.approx(variance(0.1))  # the figure most like the unit


def test_a_published_ratio_moves_the_networks_that_it_compares() -> None:
    slow, fast = (network_ops(name, "2020") for name in ("fbnet_samsung_s8", "fbnet_iphonex"))
    core = Core(2.0, 8)
    ratios = []
    for figures in ([], [Figure("r", slow, 1.4, "r", 0.0, fast, 0.05)]):
        found = fit_roofline(core, Precision.FP32, figures)
        ratios.append(found.ms(slow) / found.ms(fast))
    assert ratios[0] < ratios[1]


@pytest.mark.parametrize("device", SHIPPED)
def test_shipped_luts_are_what_the_command_makes(device: str) -> None:
    shipped, made = Lut.load(LUTS / f"{device}.json"), estimate(device)
    assert shipped.provenance == made.provenance == "modelled"
    assert shipped.target == made.target
    assert shipped.entries.keys() == made.entries.keys()
    for key, entry in made.entries.items():
        assert shipped[key].ms == pytest.approx(entry.ms, rel=1e-6)
        assert shipped[key].samples == 0
    assert all(one["source"] for one in shipped.method["published"])
    assert shipped.method["unknown"]


@pytest.mark.parametrize("device", SHIPPED)
def test_modelled_intervals_are_wide(device: str) -> None:
    lut = Lut.load(LUTS / f"{device}.json")
    for entry in lut.entries.values():
        low, high = entry.ci95
        assert low < 0.65 * entry.ms
        assert high > 1.5 * entry.ms
    network = predict_latency(lut, published("fbnet_b", space=lut.search_space))
    assert network.high / network.low > 1.8  # errors that ops share do not average out


def test_figures_of_the_same_engine_and_threads_are_fitted_alone() -> None:
    rows = estimate("galaxy-s8").method["published"]
    fitted = {(one["network"], one["engine"], one.get("threads")) for one in rows if one["fitted"]}
    assert fitted == {("mobilenet_v1", "xnnpack", 1), ("mobilenet_v2", "xnnpack", 1)}
    modelled = [one["modelled_ms"] for one in rows if one["fitted"]]
    assert modelled == pytest.approx([one["ms"] for one in rows if one["fitted"]], rel=0.1)
    others = [one for one in rows if not one["fitted"]]
    assert {one["network"] for one in others} > {"fbnet_a", "fbnet_b", "fbnet_c"}
    assert all(one["engine"] == "nnpack" or one["threads"] > 1 for one in others)


def test_another_runtime_is_less_certain() -> None:
    widths = []
    for runtime in (Runtime.TFLITE, Runtime.ONNX):
        lut = estimate("galaxy-s8", runtime=runtime)
        predicted = predict_latency(lut, published("fbnet_b", space=lut.search_space))
        widths.append(math.log(predicted.high / predicted.low))
    assert widths[1] > 1.2 * widths[0]


def test_int8_intervals_cover_the_published_figures() -> None:
    lut = estimate("galaxy-s8", SearchSpace.named(), precision=Precision.INT8)
    figures = [
        one for one in published_figures("galaxy-s8").figure if one.precision is Precision.INT8
    ]
    assert {one.network for one in figures} == {"fbnet_a", "fbnet_b", "fbnet_c"}
    for figure in figures:
        predicted = predict_latency(lut, published(figure.network, space=lut.search_space))
        assert predicted.low < figure.ms < predicted.high


def test_a_device_without_figures_is_refused_with_the_command_that_measures() -> None:
    with pytest.raises(BadRequest) as refused:
        estimate("iphone-15")
    assert "latbench profile --device iphone-15" in (refused.value.hint or "")


def test_figures_in_the_working_folder_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "devices" / "published"
    folder.mkdir(parents=True)
    (folder / "pixel-4.toml").write_text(
        '[core]\nmacs_per_cycle = { fp32 = 8 }\nsource = "a source of this test"\n'
        '[[figure]]\nnetwork = "fbnet_b"\nms = 30\nengine = "xnnpack"\nprecision = "fp32"\n'
        'threads = 1\nsource = "a source of this test"\n'
    )
    monkeypatch.chdir(tmp_path)
    lut = estimate("pixel-4")
    predicted = predict_latency(lut, published("fbnet_b", space=lut.search_space))
    assert predicted.low < 30 < predicted.high
    (folder / "pixel-4.toml").write_text("[core]\nmacs_per_cycle = { fp32 = 8 }\n")
    with pytest.raises(BadRequest, match=r"core\.source"):
        estimate("pixel-4")


FIGURES = """
[core]
macs_per_cycle = { fp32 = 8 }
source = "a source of this test"
[[figure]]
network = "fbnet_b"
ms = 30
engine = "xnnpack"
precision = "fp32"
threads = 1
source = "a source of this test"
[[comparison]]
network = "fbnet_a"
versus = "fbnet_b"
ratio = 1
source = "a source of this test"
"""


@pytest.mark.parametrize(
    ("before", "after", "where"),
    [
        ("fp32 = 8 }", "fp32 = true }", r"core\.macs_per_cycle"),
        ("fp32 = 8 }", 'fp32 = "8" }', r"core\.macs_per_cycle"),
        ("ms = 30", "ms = true", r"figure\.0\.ms"),
        ("ms = 30", "ms = inf", r"figure\.0\.ms"),
        ("threads = 1", "threads = true", r"figure\.0\.threads"),
        ("ratio = 1", "ratio = true", r"comparison\.0\.ratio"),
    ],
)
def test_only_numbers_are_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str, where: str
) -> None:
    path = tmp_path / "devices" / "published" / "pixel-4.toml"
    path.parent.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    path.write_text(FIGURES)
    assert published_figures("pixel-4").comparison[0].ratio == 1
    assert before in FIGURES
    path.write_text(FIGURES.replace(before, after))
    with pytest.raises(BadRequest, match=where):
        published_figures("pixel-4")


def test_only_measured_luts_pass_where_measured_ones_are_asked_for() -> None:
    measured = Lut.load(LUTS / "host-amd-epyc.json")
    modelled = Lut.load(LUTS / "iphonex.json")
    assert provenance_note(measured, "m.json") is None
    require_measured(measured, "m.json")
    note = provenance_note(modelled, "luts/iphonex.json")
    assert note is not None
    assert "\n" not in note
    assert "latbench profile --device iphonex" in note
    with pytest.raises(LutRefused) as refused:
        require_measured(modelled, "luts/iphonex.json")
    assert "latbench profile --device iphonex" in (refused.value.hint or "")
