"""The LUT file: it reads back, reads well, and refuses what must not be trusted."""

import copy
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from latbench import Lut, SearchSpace, predict_latency, published
from latbench.errors import LutRefused, MissingOps, OutputFailed
from latbench.files import shipped
from latbench.lut import Correction, Entry, Sentinel
from latbench.lut.predict import predict_ops
from latbench.lut.schema import SCHEMA
from latbench.space.boundaries import Boundary
from latbench.target import Precision, Runtime, Target

SPACE = SearchSpace.named("fbnet", input_size=96)


TIMED = {
    "layers": published("fbnet_c", space=SPACE).notation,
    "head": 1984,
    "ms": 2.0,
    "ci95": [1.9, 2.1],
}


def make_lut(**changes: Any) -> Lut:
    """A LUT whose entries take 1 ms for 10 M MACs, plus 10 µs."""
    entries = {}
    for op in SPACE.unique_ops:
        ms = 0.01 + op.macs / 1e7
        entries[op.key] = Entry(
            ms=ms, ci95=(ms * 0.99, ms * 1.01), samples=80, rounds=8, spread=0.02, macs=op.macs
        )
    content: dict[str, Any] = {
        "target": Target(device="host", runtime=Runtime.TFLITE, precision=Precision.FP32),
        "space": SPACE.to_dict(),
        "provenance": "measured",
        "created": datetime(2026, 11, 24, tzinfo=UTC),
        "tool": {"name": "latbench", "version": "0.1.0"},
        "entries": entries,
    }
    return Lut(**(content | changes))


def test_a_saved_lut_loads_as_it_was(tmp_path: Path) -> None:
    lut = make_lut(
        sentinel=Sentinel(
            architecture=published("fbnet_b").notation,
            head=1984,
            ms=9.0,
            ci95=(8.9, 9.1),
            visits=20,
            drift=0.01,
        ),
        correction=Correction(scale=0.98, residual=0.02, networks=1),
    )
    path = tmp_path / "deep" / "host.json"
    lut.save(path)
    assert Lut.load(path) == lut
    assert Lut.from_dict(json.loads(path.read_text())) == lut


def test_the_file_has_sorted_keys_and_one_entry_a_line(tmp_path: Path) -> None:
    path = tmp_path / "host.json"
    lut = make_lut()
    lut.save(path)
    text = path.read_text()
    data = json.loads(text)
    assert list(data) == sorted(data)
    assert list(data["entries"]) == sorted(data["entries"])
    for key in lut.entries:
        assert sum(line.lstrip().startswith(f'"{key}":') for line in text.splitlines()) == 1
    assert data["schema"] == SCHEMA
    assert data["provenance"] == "measured"
    assert data["target"]["runtime"] == "tflite"


def altered(change: Any) -> dict[str, Any]:
    data = make_lut().to_dict()
    change(data)
    return data


FIRST = next(make_lut().keys())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d["entries"][FIRST].update(ms=1.5), "edited or damaged"),
        (lambda d: d.pop("content_sha256"), "edited or damaged"),
        (lambda d: d.update(schema=99), "unknown schema 99"),
        (lambda d: d.update(schema="1"), "unknown schema '1'"),
        (lambda d: d.update(schema=True), "unknown schema True"),
        (lambda d: d.update(schema=3.0), "unknown schema 3.0"),
        (lambda d: d.pop("schema"), "unknown schema None"),
        (lambda d: d.pop("entries"), "no entries"),
    ],
)
def test_an_altered_or_foreign_lut_is_refused(change: Any, reason: str) -> None:
    with pytest.raises(LutRefused, match=reason):
        Lut.from_dict(altered(change))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["entries"][FIRST].update(ms=0.0),
        lambda d: d["entries"][FIRST].update(ms=-1.0),
        lambda d: d["entries"][FIRST].update(ms=float("nan")),
        lambda d: d["entries"][FIRST].update(ms=float("inf")),
        lambda d: d["entries"][FIRST].update(ms="fast"),
        lambda d: d["entries"][FIRST].update(ci95=[5.0, 6.0]),
        lambda d: d["entries"].update({"conv_i3_o8": d["entries"][FIRST]}),
        lambda d: d["entries"].clear(),
        lambda d: d.update(provenance="guessed"),
        lambda d: d.update(surprise=1),
        lambda d: d["space"].update(name="fbnet-imagenet"),
        lambda d: d["space"].pop("width"),
        lambda d: d["target"].update(threads=0),
    ],
)
def test_values_that_no_measurement_gives_are_refused_even_unverified(change: Any) -> None:
    with pytest.raises(LutRefused):
        Lut.from_dict(altered(change), verify=False)


def set_at(data: dict[str, Any], path: tuple[str | int, ...], value: object) -> None:
    """Put `value` into nested JSON data."""
    *parents, last = path
    at: Any = data
    for key in parents:
        at = at[key]
    at[last] = value


NUMBERS: tuple[tuple[str | int, ...], ...] = (
    *(("entries", FIRST, field) for field in ("ms", "spread", "placement", "samples", "rounds")),
    *(("entries", FIRST, field) for field in ("tainted", "outliers", "macs")),
    *(("entries", FIRST, "ci95", side) for side in (0, 1)),
    *(("sentinel", field) for field in ("head", "ms", "visits", "drift")),
    *(("reference", field) for field in ("ms", "visits")),
    *(("correction", field) for field in ("scale", "offset_ms", "residual", "networks")),
    *(("correction", field) for field in ("entry_deviation", "transition_deviation")),
    ("correction", "factors", FIRST),
    ("correction", "transitions", "to_grouped"),
    ("correction", "calibration", 0, "head"),
    ("correction", "calibration", 0, "ms"),
    ("target", "threads"),
    ("target", "cores", 0),
    ("validation", "mape"),
    *(("space", field) for field in ("input", "width", "classes")),
)


@pytest.fixture(scope="module")
def full() -> dict[str, Any]:
    """The JSON data of a LUT with every number that one can hold; all of them are 1."""
    data = make_lut().to_dict() | {
        "target": {"device": "host", "runtime": "tflite", "precision": "fp32", "threads": 1}
        | {"cores": [1]},
        "sentinel": {"architecture": TIMED["layers"], "head": 1984, "ms": 1.0, "ci95": [1.0, 1.0]}
        | {"visits": 1, "drift": 1.0},
        "reference": {"workload": "w", "ms": 1.0, "ci95": [1.0, 1.0], "visits": 1},
        "validation": {"mape": 1.0},
    }
    data["correction"] = {
        "scale": 1.0, "residual": 1.0, "networks": 1, "calibration": [TIMED],
        "factors": {FIRST: 1.0}, "transitions": {"to_grouped": 1.0},
    }  # fmt: skip
    assert Lut.from_dict(data, verify=False).target.threads == 1
    return data


@pytest.mark.parametrize("path", NUMBERS, ids=lambda path: ".".join(map(str, path)))
@pytest.mark.parametrize("value", [True, "1"], ids=repr)
def test_only_numbers_are_numbers(
    full: dict[str, Any], path: tuple[str | int, ...], value: object
) -> None:
    data = copy.deepcopy(full)
    set_at(data, path, value)
    with pytest.raises(LutRefused) as refused:
        Lut.from_dict(data, verify=False)
    (problem,) = refused.value.details
    assert path[0] in problem
    assert "valid" in problem or "must be" in problem


def test_only_booleans_are_booleans(full: dict[str, Any]) -> None:
    data = copy.deepcopy(full)
    data["space"]["keeps_first_1x1"] = 1
    with pytest.raises(LutRefused) as refused:
        Lut.from_dict(data, verify=False)
    assert "space.keeps_first_1x1 must be true or false, got 1" in refused.value.details[0]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"entries": ', '{"a": 1, "a": 2}', "[" * 100_000, "\x00\xff", "NaN"],
)
def test_what_is_no_lut_is_refused_with_the_file_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "host.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(LutRefused) as refused:
        Lut.load(path)
    assert str(path) in refused.value.message


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "host.json"
    make_lut().save(path)
    whole = path.read_bytes()
    for cut in range(1, len(whole) - 2, len(whole) // 23):
        path.write_bytes(whole[:cut])
        with pytest.raises(LutRefused):
            Lut.load(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(LutRefused, match="cannot read"):
            Lut.load(path)


def test_loading_runs_no_code(tmp_path: Path) -> None:
    path = tmp_path / "host.json"
    import pickle

    path.write_bytes(pickle.dumps({"entries": {}}))
    with pytest.raises(LutRefused):
        Lut.load(path)


def test_another_target_is_refused() -> None:
    lut = make_lut()
    lut.require_target(device="host", runtime=Runtime.TFLITE)
    with pytest.raises(LutRefused, match="device host, not galaxy-s8"):
        lut.require_target(device="galaxy-s8")
    with pytest.raises(LutRefused, match="runtime tflite, not onnx"):
        lut.require_target(runtime=Runtime.ONNX)


def test_missing_ops_are_listed_with_the_command_that_measures_them() -> None:
    whole = make_lut()
    gone = "pool_i1984_h3_w3"
    entries = {key: entry for key, entry in whole.entries.items() if key != gone}
    with pytest.raises(MissingOps) as missing:
        predict_latency(make_lut(entries=entries), published("fbnet_b", space=SPACE))
    assert missing.value.missing == (gone,)
    assert missing.value.command == (
        "latbench profile --device host --runtime tflite --precision fp32"
        " --space fbnet --input 96 --width 1"
    )


def test_a_failed_save_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "host.json"
    make_lut().save(path)
    before = path.read_bytes()
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(OutputFailed):
        make_lut().save(blocked / "host.json")
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "host.json"]


def test_the_frame_has_every_entry_in_key_order() -> None:
    lut = make_lut()
    frame = lut.to_frame()
    assert list(frame.index) == list(lut.keys())
    assert frame.loc[FIRST, "ms"] == lut[FIRST].ms
    assert {"kind", "ci95_low", "ci95_high", "samples", "macs", "params"} <= set(frame.columns)


def test_a_prediction_is_the_sum_of_its_ops() -> None:
    lut = make_lut()
    architecture = published("fbnet_c", space=SPACE)
    prediction = predict_latency(lut, architecture)
    assert prediction.ms == pytest.approx(
        architecture.macs / 1e7 + 0.01 * len(architecture.ops), rel=1e-12
    )
    assert prediction.low < prediction.ms < prediction.high


def test_a_correction_scales_the_sum_and_widens_the_interval() -> None:
    architecture = published("fbnet_c", space=SPACE)
    plain = predict_latency(make_lut(), architecture)
    corrected = predict_latency(
        make_lut(correction=Correction(scale=0.9, offset_ms=0.1, residual=0.05, networks=1)),
        architecture,
    )
    assert corrected.ms == pytest.approx(0.1 + 0.9 * plain.ms)
    assert corrected.high / corrected.ms == pytest.approx(1.10, abs=0.02)  # 1.96 * 5 %
    assert plain.high / plain.ms < 1.02


def test_the_errors_of_a_repeated_op_do_not_average_out() -> None:
    lut, op = make_lut(), SPACE.unique_ops[1]
    once, often = (predict_ops(lut, [op] * count, "a network") for count in (1, 9))
    assert often.ms == pytest.approx(9 * once.ms)
    assert often.high / often.ms == pytest.approx(once.high / once.ms)
    different = predict_ops(lut, SPACE.unique_ops[1:10], "a network")
    assert different.high / different.ms < once.high / once.ms


def test_the_drift_of_the_sentinel_widens_the_interval() -> None:
    architecture = published("fbnet_c", space=SPACE)

    def width(drift: float) -> float:
        sentinel = Sentinel(
            architecture=architecture.notation,
            head=architecture.head,
            ms=9.0,
            ci95=(8.9, 9.1),
            visits=9,
            drift=drift,
        )
        prediction = predict_latency(make_lut(sentinel=sentinel), architecture)
        return math.log(prediction.high / prediction.ms) / 1.96

    # The standard deviation of a uniform distribution is its range over sqrt(12).
    added = math.sqrt(width(0.3) ** 2 - width(0.0) ** 2)
    assert added == pytest.approx(0.3 / math.sqrt(12), rel=1e-3)


def test_schema_2_had_no_boundary_costs() -> None:
    lut = make_lut(correction=Correction(scale=0.9, residual=0.05, networks=1))
    before = lut.to_dict() | {"schema": 2}
    before["correction"] = {
        key: value for key, value in before["correction"].items() if "transition" not in key
    }
    read = Lut.from_dict(before, verify=False)
    assert read.correction is not None
    assert read.correction.boundary_costs == {}
    assert read.to_dict()["schema"] == SCHEMA


def test_boundary_costs_are_kept(tmp_path: Path) -> None:
    taken = {Boundary.TO_GROUPED: 0.4, Boundary.BETWEEN_GROUPED: -0.3}
    correction = Correction(scale=0.9, residual=0.05, networks=1, boundary_costs=taken)
    lut = make_lut(correction=correction)
    lut.save(tmp_path / "lut.json")
    read = Lut.load(tmp_path / "lut.json")
    assert read == lut
    assert read.boundary_ms(Boundary.TO_GROUPED, 500_000) == pytest.approx(0.2)
    assert read.boundary_ms(Boundary.FROM_GROUPED, 500_000) == 0
    data = lut.to_dict()
    data["correction"]["transitions"]["to_others"] = 1.0
    with pytest.raises(LutRefused):
        Lut.from_dict(data, verify=False)


@pytest.mark.parametrize("path", sorted(shipped("luts").glob("*.json")), ids=lambda path: path.stem)
def test_a_shipped_lut_is_written_again_to_the_byte(path: Path, tmp_path: Path) -> None:
    lut = Lut.load(path)  # checks content_sha256
    lut.save(tmp_path / "once.json")
    Lut.load(tmp_path / "once.json").save(tmp_path / "twice.json")
    assert (tmp_path / "twice.json").read_bytes() == (tmp_path / "once.json").read_bytes()
    before, after = (json.loads(one.read_text()) for one in (path, tmp_path / "once.json"))
    assert before.keys() <= after.keys()
    assert before["entries"].items() <= after["entries"].items()


def test_boundary_costs_have_their_first_names_in_files() -> None:
    correction = Correction(
        scale=1.0, residual=0.0, networks=1, boundary_deviation=0.1,
        boundary_costs={Boundary.TO_GROUPED: 0.5},
    )  # fmt: skip
    written = make_lut(correction=correction).to_dict()["correction"]
    assert written["transition_deviation"] == 0.1
    assert written["transitions"] == {"to_grouped": 0.5}
    assert not {"boundary_deviation", "boundary_costs"} & written.keys()


def test_schema_1_is_still_read() -> None:
    path = Path(__file__).parent / "data" / "schema-1.json"  # a part of one that was measured
    before, lut = json.loads(path.read_text()), Lut.load(path)
    assert before["schema"] == 1
    assert lut.to_dict()["schema"] == SCHEMA
    assert {entry.context for entry in lut.entries.values()} == {"alone"}
    op = lut.search_space.stem
    assert lut.corrected_ms(op) == before["correction"]["scale"] * before["entries"][op.key]["ms"]


@pytest.mark.parametrize("path", sorted(shipped("luts").glob("*.json")), ids=lambda path: path.stem)
def test_shipped_luts_predict_the_published_networks(path: Path) -> None:
    lut = Lut.load(path)
    for name in ("fbnet_a", "fbnet_b", "fbnet_c"):
        prediction = predict_latency(lut, published(name, space=lut.search_space))
        assert 0 < prediction.low <= prediction.ms <= prediction.high


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"factors": {"no_such_op": 1.1}}, "which has no entry"),
        ({"networks": 2}, "correction.networks is 2, but correction.calibration lists 1"),
        ({"calibration": [TIMED | {"layers": "k3e1"}]}, "layers in its stages"),
        ({"calibration": [TIMED | {"head": 1000}]}, "has ops without entries"),
    ],
)
def test_a_correction_that_makes_no_sense_is_refused(change: Any, reason: str) -> None:
    sound = {"scale": 1.0, "residual": 0.01, "networks": 1, "calibration": [TIMED]}
    data = make_lut().to_dict()
    assert Lut.from_dict(data | {"correction": sound}, verify=False).correction is not None
    with pytest.raises(LutRefused) as refused:
        Lut.from_dict(data | {"correction": sound | change}, verify=False)
    assert any(reason in detail for detail in refused.value.details)
