"""`latbench import`, `latbench show --format`, and tables given where a LUT is wanted."""

import json
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from scipy.stats import t as student

from fbnet_search.cli import search_main
from latbench import Lut, SearchSpace
from latbench.cli import main
from latbench.cli.import_table import FORMATS
from latbench.lut import Entry
from latbench.lut.table import table_formats
from latbench.target import Precision, Runtime, Target

#: Blocks of MobileNetV3: with squeeze-and-excitation and hard-swish in the second stage.
SPACE = """
name = "small-v3"
classes = 10
input = 64
stem = { channels = 16, stride = 2, activation = "hswish" }
candidates = ["k3e3", "k5e6", "k3m88", "skip"]
stages = [
  { channels = 24, layers = 2, stride = 2 },
  { channels = 40, layers = 2, stride = 2, se = 0.25, activation = "hswish" },
]
head = { channels = 96, activation = "hswish" }
"""
TARGET = ("--device", "pixel-4", "--runtime", "tflite")


def latbench(*words: str | Path) -> Result:
    return CliRunner(env={"COLUMNS": "120", "NO_COLOR": "1"}).invoke(main, [str(w) for w in words])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a space file."""
    monkeypatch.chdir(tmp_path)
    Path("space.toml").write_text(SPACE)
    return tmp_path


def made(name: str, text: str, table: str, *words: str) -> Lut:
    """The LUT of a table."""
    Path(name).write_text(text)
    done = latbench("import", name, "--format", table, *TARGET, "--out", "lut.json", *words)
    assert done.exit_code == 0, done.output
    return Lut.load("lut.json")


def measured(space: SearchSpace) -> Lut:
    """A LUT whose entries are all different, some below a microsecond."""
    entries = {
        op.key: Entry(
            ms=ms, ci95=(0.98 * ms, 1.03 * ms), samples=80, rounds=8, spread=0.02, macs=op.macs
        )
        for number, op in enumerate(space.unique_ops, 1)
        for ms in [7e-5 * number**1.5]
    }
    return Lut(
        target=Target(device="pixel-4", runtime=Runtime.TFLITE, precision=Precision.FP32),
        space=space.to_dict(),
        provenance="measured",
        created=datetime(2026, 11, 30, tzinfo=UTC),
        tool={"name": "latbench", "version": "0.1.0"},
        entries=entries,
    )


def exported(lut: Lut, table: str) -> Result:
    lut.save("measured.json")
    done = latbench("show", "measured.json", "--format", table)
    assert done.exit_code == 0, done.output
    return done


@pytest.mark.parametrize(
    ("space", "suffix"),
    [
        ("space.toml", ".json"),
        ("space.toml", ".yaml"),
        ("ofa-mobilenetv3", ".yaml"),
        ("proxyless", ".json"),
    ],
)
def test_once_for_all_tables_come_back_as_they_were(space: str, suffix: str) -> None:
    lut = measured(SearchSpace.named(space))
    done = exported(lut, "once-for-all")
    data = json.loads(done.stdout)
    assert yaml.safe_load(done.stdout) == data  # YAML 1.1 would take 7e-05 for text
    text = done.stdout if suffix == ".json" else yaml.safe_dump(data)
    back = made(f"table{suffix}", text, "once-for-all", "--space", space)
    assert {key: one.ms for key, one in back.entries.items()} == {
        key: one.ms for key, one in lut.entries.items()
    }
    assert {one.samples for one in back.entries.values()} == {80}
    assert "left out" not in done.stderr


def test_proxyless_tables_hold_pool_and_classifier_together() -> None:
    space = SearchSpace.named("space.toml", input_size=32)
    plain = space.definition.model_copy(update={"stages": space.definition.stages[:1]})
    space = SearchSpace.of(plain, input_size=32)
    lut = measured(space)
    done = exported(lut, "proxyless")
    row = json.loads(done.stdout)["Logits-input:8x8x96-output:10"]
    pool, classifier = lut["pool_i96_h8_w8"], lut["classifier_i96_o10"]
    assert row["mean"] == pytest.approx(pool.ms + classifier.ms, rel=1e-12)
    back = made("table.json", done.stdout, "proxyless", "--space", "measured.json", "--input", "32")
    together = sum(back[key].ms for key in ("pool_i96_h8_w8", "classifier_i96_o10"))
    assert together == pytest.approx(pool.ms + classifier.ms, rel=1e-12)
    assert back["pool_i96_h8_w8"].ci95 is None
    others = back.entries.keys() - {"pool_i96_h8_w8", "classifier_i96_o10"}
    assert all(back[key].ms == lut[key].ms for key in others)
    without = lut.entries.keys() - back.entries.keys()
    assert without == {key for key in lut.entries if "_m88_" in key}
    assert "an expansion that is no whole number" in done.stderr


def test_proxyless_tables_hold_all_of_its_own_space() -> None:
    lut = measured(SearchSpace.named("proxyless"))
    done = exported(lut, "proxyless")
    assert done.stderr == ""
    back = made("table.json", done.stdout, "proxyless", "--space", "proxyless")
    network = lut.search_space.unique_ops
    assert list(back.keys()) == list(lut.keys())
    assert back.network_ms(network) == pytest.approx(lut.network_ms(network), rel=1e-12)


def test_a_csv_keeps_intervals_rounds_and_every_op() -> None:
    lut = measured(SearchSpace.named("space.toml"))
    for text in (exported(lut, "csv").stdout, latbench("show", "measured.json", "--csv").stdout):
        back = made("table.csv", text, "csv", "--space", "space.toml")
        assert {k: (e.ms, e.ci95, e.rounds, e.samples) for k, e in back.entries.items()} == {
            k: (e.ms, e.ci95, e.rounds, e.samples) for k, e in lut.entries.items()
        }


def test_what_a_format_cannot_say_is_named() -> None:
    lut = measured(SearchSpace.named("fbnet", input_size=64))
    for table in ("once-for-all", "proxyless"):
        told = exported(lut, table).stderr
        for what in ("1x1 convolutions in groups", "projections in place of skips"):
            assert f"{table} cannot say {what}" in told
        assert f"{table} cannot say a first 1x1 convolution at expansion 1" in told
    assert "squeeze-and-excitation" in exported(
        measured(SearchSpace.named("space.toml")), "proxyless"
    ).stderr  # fmt: skip


OFA_ROWS = """\
Conv-input:64x64x3-output:32x32x16:
  mean: 0.5
  count: 10
expanded_conv-input:32x32x16-output:16x16x24-expand:48-kernel:3-stride:2-idskip:0-se:0-hs:0:
  {mean: 1.5, count: 16, var: 0.04}
expanded_conv-input:16x16x24-output:16x16x24-expand:6-kernel:5-stride:1-idskip:1:
  {mean: 1.25, count: 16, std: 0.2}
expanded_conv-input:16x16x24-output:8x8x40-expand:88-kernel:3-stride:2-idskip:0-se:1-hs:1: {mean: 2.5}
Conv_1-input:8x8x40-output:8x8x96: {mean: 1e-05}
AvgPool2D-input:8x8x96-output:1x1x96: {mean: 0.125}
Conv_2-input:1x1x96-output:1x1x128: {mean: 7.0}
Logits-input:1x1x96-output:10: {mean: 0.25}
"""


def test_rows_of_once_for_all_mean_what_its_own_code_asks_for() -> None:
    """Names as its latency tables build them: channels in the middle, or a ratio without `se` and `hs`."""
    lut = made("note.yaml", OFA_ROWS, "once-for-all", "--space", "space.toml")
    assert {key: one.ms for key, one in lut.entries.items()} == {
        "stem_k3_s2_i3_o16_h64_w64_hswish": 0.5,
        "ir_k3_e3_g1_s2_i16_o24_h32_w32": 1.5,
        "ir_k5_e6_g1_s1_i24_o24_h16_w16": 1.25,
        "ir_k3_m88_g1_s2_i24_o40_h16_w16_se24_hswish": 2.5,
        "head_i40_o96_h8_w8_hswish": 1e-5,
        "pool_i96_h8_w8": 0.125,
        "classifier_i96_o10": 0.25,
    }
    assert lut.provenance == "imported"
    source = lut.method["source"]
    assert (source["file"], source["rows"], source["unused"]) == ("note.yaml", 8, 1)
    assert source["unused_rows"] == ["Conv_2-input:1x1x96-output:1x1x128"]
    assert len(lut.method["missing"]) + len(lut) == len(lut.search_space.unique_ops)
    half = student.ppf(0.975, 15) * 0.2 / 4
    for key, ms in (
        ("ir_k3_e3_g1_s2_i16_o24_h32_w32", 1.5),
        ("ir_k5_e6_g1_s1_i24_o24_h16_w16", 1.25),
    ):
        assert lut[key].ci95 == pytest.approx((ms - half, ms + half))
    assert lut["pool_i96_h8_w8"].ci95 is None
    assert any("intervals of" in what for what in lut.method["lacks"])


def test_missing_ops_and_unused_rows_are_told() -> None:
    Path("note.yaml").write_text(OFA_ROWS)
    done = latbench(
        "import", "note.yaml", "--format", "once-for-all", *TARGET, "--space", "space.toml"
    )
    assert done.exit_code == 0, done.output
    assert "entries  7 of the 16 ops of the space" in done.stdout
    assert "no row expanded_conv-input:32x32x16-output:16x16x24-expand:96-kernel:5" in done.stdout
    assert "unused   1 row of 8, such as Conv_2-input:1x1x96-output:1x1x128" in done.stdout
    assert Lut.load("luts/pixel-4-imported.json").target.device == "pixel-4"
    failed = latbench("predict", "luts/pixel-4-imported.json", "k5e6 skip|k3m88 skip")
    assert failed.exit_code == 1
    assert "ir_k5_e6_g1_s2_i16_o24_h32_w32" in failed.stderr


def test_hw_nas_bench_names_every_op_of_fbnet() -> None:
    """Names as its own code builds them, for every candidate of the space."""
    space = SearchSpace.named("fbnet")
    rows: dict[str, float] = {
        "ConvNorm_H224_W224_Cin3_Cout16_kernel3_stride2_group1": 1.0,
        "ConvNorm_H7_W7_Cin352_Cout1984_kernel1_stride1_group1": 2.0,
        "AvgP_H7_W7_Cin1984_Cout1984_kernel7_stride1": 3.0,
        "FC_Cin1984_Cout1000": 4.0,
        "Skip_H112_W112_Cin16_Cout24_stride2": 5.0,
        "Skip_H56_W56_Cin24_Cout24_stride1": 0.0,
        "ConvBlock_H112_W112_Cin16_Cout16_exp1_kernel5_stride1_group2": 6.0,
        "ConvBlock_H112_W112_Cin16_Cout24_exp6_kernel3_stride2_group1": 7.0,
    }
    text = json.dumps({"fbnet": {"pixel3_latency": rows}})
    lut = made("pixel3.json", text, "hw-nas-bench", "--space", "fbnet")
    assert {key: one.ms for key, one in lut.entries.items()} == {
        "stem_k3_s2_i3_o16_h224_w224": 1.0,
        "head_i352_o1984_h7_w7": 2.0,
        "pool_i1984_h7_w7": 3.0,
        "classifier_i1984_o1000": 4.0,
        "skip_s2_i16_o24_h112_w112": 5.0,
        "ir_k5_e1_g2_s1_i16_o16_h112_w112": 6.0,
        "ir_k3_e6_g1_s2_i16_o24_h112_w112": 7.0,
    }
    assert all("cannot say" not in why for why in lut.method["missing"].values())
    assert len(lut.method["missing"]) == len(space.unique_ops) - 7


ROW = "Conv-input:64x64x3-output:32x32x16"


@pytest.mark.parametrize(
    ("table", "text", "told"),
    [
        ("once-for-all", f"{ROW}: {{mean: .nan}}", "finite"),
        ("once-for-all", f'{{"{ROW}": {{"mean": Infinity}}}}', "finite"),
        ("once-for-all", f"{ROW}: {{mean: -1}}", "above 0, got -1"),
        ("once-for-all", f"{ROW}: {{mean: 0}}", "above 0, got 0"),
        ("once-for-all", f"{ROW}: {{mean: 1, std: -1}}", "below 0"),
        ("once-for-all", f"{ROW}: {{mean: fast}}", "must be numbers"),
        ("once-for-all", f"{ROW}: {{count: 3}}", "no mean"),
        ("once-for-all", f"{ROW}: {{mean: 1}}\n{ROW}: {{mean: 2}}", f"line 2: {ROW} occurs twice"),
        ("once-for-all", f'{{"{ROW}": 1, "{ROW}": 2}}', f"{ROW} occurs twice"),
        ("once-for-all", f"{ROW}: !!python/object/apply:os.getcwd []", "line 1"),
        ("once-for-all", "[1, 2]", "no mapping"),
        ("once-for-all", "", "no mapping"),
        ("once-for-all", "{}", "no rows"),
        ("once-for-all", "a: [1", "line 2"),
        ("csv", "key,ms\na,1\na,2\n", "line 3: a occurs twice"),
        ("csv", "key,ms\na,fast\n", "line 2: a has no valid numbers"),
        ("csv", "key,ms\na,\n", "line 2: a has no valid numbers"),
        ("csv", "key,ms\na,-2\n", "above 0"),
        ("csv", "key,ms,ci95_low,ci95_high\na,2,3,4\n", "must enclose"),
        ("csv", "op,latency\na,2\n", "no column key or ms"),
        (
            "hw-nas-bench",
            '{"fbnet": {"a": {"x": 1}, "b": {"x": 1}}}',
            "several tables, keep one: a, b",
        ),
    ],
)
def test_tables_with_mistakes_are_refused(table: str, text: str, told: str) -> None:
    Path("table").write_text(text)
    words = ("import", "table", "--format", table, *TARGET, "--space", "space.toml")
    done = latbench(*words, "--out", "lut.json")
    assert done.exit_code == 2, done.output
    assert told in done.stderr
    assert "table" in done.stderr
    assert not Path("lut.json").exists()


def test_a_table_of_another_format_or_space_says_which() -> None:
    Path("note.yaml").write_text(OFA_ROWS)
    done = latbench("import", "note.yaml", "--format", "csv", *TARGET, "--space", "space.toml")
    assert done.exit_code == 2
    assert "latbench import note.yaml --format once-for-all" in done.stderr
    done = latbench("import", "note.yaml", "--format", "once-for-all", *TARGET, "--space", "fbnet")
    assert done.exit_code == 2
    assert "no row of note.yaml is of an op of fbnet at 224x224" in done.stderr
    assert f"its first row is {ROW}" in done.stderr


class Trap:
    """Creates a file where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("code-ran"),)  # type: ignore[return-value]


def _given_as_lut(path: str) -> Iterator[Result]:
    """What every command says to a file that is no LUT."""
    yield latbench("show", path)
    yield latbench("predict", path, "fbnet_b")
    yield latbench("drift", path, path)
    yield latbench("report", path)
    yield CliRunner().invoke(search_main, ["--lut", path, "--target-ms", "5"])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_refused_by_name_and_never_loaded(protocol: int) -> None:
    content = pickle.dumps({"fbnet": Trap()}, protocol)
    Path("HW-NAS-Bench-v1_0.pickle").write_bytes(content)
    done = latbench(
        "import",
        "HW-NAS-Bench-v1_0.pickle",
        "--format",
        "hw-nas-bench",
        *TARGET,
        "--space",
        "fbnet",
    )
    for refused in (done, *_given_as_lut("HW-NAS-Bench-v1_0.pickle")):
        assert refused.exit_code == 2
        assert "is a pickle, which can run code: it is never loaded" in refused.stderr
        assert "['fbnet']['pixel3_latency']" in refused.stderr
        assert (
            "latbench import HW-NAS-Bench-v1_0.json --format hw-nas-bench --space" in refused.stderr
        )
    Path("renamed.json").write_bytes(content)
    assert "is a pickle" in latbench("show", "renamed.json").stderr
    assert not Path("code-ran").exists()
    pickle.loads(content)
    assert Path("code-ran").exists()  # the trap works


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("note.yaml", OFA_ROWS, "a table of the format once-for-all"),
        ("ofa.json", json.dumps({ROW + "-se:0": {}, "AvgPool2D-input:": {}}), "once-for-all"),
        ("trim.yaml", f"{ROW}: {{mean: 1}}\n", "a table of the format proxyless"),
        ("mine.csv", "name,key,ms\nx,y,1\n", "a table of the format csv"),
        ("b.json", '{"AvgP_H7_W7_Cin8_Cout8_kernel7_stride1": 1}', "the format hw-nas-bench"),
        ("lookup.txt", "k3e1 0.5 0.25\n", "it is plain text"),
        ("other.yml", "a: 1\n", "it is YAML"),
        ("other.csv", "op,latency\n", "it is CSV"),
    ],
)
def test_a_table_in_place_of_a_lut_is_named_with_the_import(
    name: str, text: str, told: str
) -> None:
    Path(name).write_text(text)
    for done in _given_as_lut(name):
        assert done.exit_code == 2, done.output
        assert f"{name} is not a LUT: it is" in done.stderr
        assert told in done.stderr
        assert "latbench import " in done.stderr
        assert "--space SPACE --device DEVICE --runtime RUNTIME" in done.stderr
        assert "truncated" not in done.stderr


def test_predictions_from_an_imported_lut_say_that_their_uncertainty_is_unknown() -> None:
    lut = measured(SearchSpace.named("space.toml"))
    rows = "".join(f"{key},{one.ms}\n" for key, one in lut.entries.items())
    back = made("table.csv", f"key,ms\n{rows}", "csv", "--space", "space.toml")
    assert all(one.ci95 is None for one in back.entries.values())
    network = "k3e3 skip|k5e6 skip"
    done = latbench("predict", "lut.json", network)
    assert "uncertainty unknown" in done.stdout
    assert "interval" not in done.stdout
    told = json.loads(latbench("predict", "lut.json", network, "--json").stdout)
    assert (told["low"], told["high"]) == (None, None)
    assert told["ms"] == pytest.approx(lut.network_ms([]) + sum(
        lut[op].ms for op in _ops(back, network)
    ))  # fmt: skip
    shown = latbench("show", "lut.json")
    assert shown.stdout.count("unknown") == len(back)
    assert "wide" not in shown.stdout
    assert latbench("show", "lut.json", "--sort", "interval").exit_code == 0
    drift = latbench("drift", "lut.json", "lut.json")
    assert drift.exit_code == 2
    assert "without the intervals of both" in " ".join(drift.stdout.split())
    assert latbench("report", "lut.json", "--out", "report.html").exit_code == 0


def _ops(lut: Lut, network: str) -> tuple[object, ...]:
    from latbench.space import Architecture

    return Architecture.parse(network, lut.search_space).ops


def test_only_imported_entries_may_lack_an_interval() -> None:
    lut = measured(SearchSpace.named("space.toml"))
    key = next(lut.keys())
    data = lut.to_dict()
    data["entries"][key]["ci95"] = None
    with pytest.raises(Exception, match="invalid values") as refused:
        Lut.from_dict(data, verify=False)
    assert "a measured entry must have ci95" in str(getattr(refused.value, "details", ""))
    assert Lut.from_dict(data | {"provenance": "imported"}, verify=False)[key].ci95 is None


def test_import_asks_for_the_space_and_lists_formats() -> None:
    Path("note.yaml").write_text(OFA_ROWS)
    done = latbench("import", "note.yaml", "--format", "once-for-all", *TARGET)
    assert done.exit_code == 2
    assert "--space" in done.stderr
    done = latbench("import", "note.yaml", "--format", "once", *TARGET, "--space", "fbnet")
    assert done.exit_code == 2
    assert "did you mean once-for-all" in done.stderr
    told = latbench("import", "--help").stdout
    assert [one.name for one in table_formats()] == FORMATS
    assert all(name in told for name in FORMATS)


def test_a_search_with_an_imported_lut_says_that_its_prediction_has_no_interval() -> None:
    space = ("--space", "fbnet-cifar", "--input", "16", "--width", "0.35")
    lut = measured(SearchSpace.named("fbnet-cifar", input_size=16, width=0.35))
    rows = "".join(f"{key},{one.ms}\n" for key, one in lut.entries.items())
    made("table.csv", f"key,ms\n{rows}", "csv", *space)
    words = ["--lut", "lut.json", "--data", "digits", "--epochs", "1", "--target-ms", "1e6"]
    done = CliRunner().invoke(search_main, [*words, "--out", "run"])
    assert done.exit_code == 0, done.output
    assert "uncertainty unknown, target" in done.stdout
    assert "the LUT is imported, so the prediction has no interval" in done.stdout
    found = json.loads(Path("run/architecture.json").read_text())
    assert (found["predicted_low"], found["predicted_high"]) == (None, None)
    assert found["crosses_target"] is True
    again = latbench("predict", "lut.json", "run/architecture.json", "--json")
    assert json.loads(again.stdout)["ms"] == pytest.approx(found["predicted_ms"])
    assert latbench("report", "lut.json", "--search", "run", "--out", "r.html").exit_code == 0
