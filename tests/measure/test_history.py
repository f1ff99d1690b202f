"""What earlier runs found of a unit: a profile of a slow moment names the run that was faster.

The units are stand-ins: runners tell fixed latencies, and a slow moment is one in which all are larger.
"""

import json
import re
import shlex
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fixed_units import FixedUnit, fixed_plan

from latbench.cli import main
from latbench.device import registry
from latbench.device.catalogue import CatalogueDevice
from latbench.device.opener import DeviceOpener
from latbench.device.selector import UnitSelector
from latbench.lut import Lut
from latbench.lut.faster_run import FasterRun
from latbench.measure import Journal, RunReport, measure
from latbench.measure.plan import reference_workload
from latbench.workflows import history

SPACE = ("--space", "fbnet-cifar", "--input", "8", "--width", "0.35")


class Board(FixedUnit):
    """A single-board computer whose runners are stand-ins."""

    name = "raspberry-pi-5"
    reference: str | None = "products"


@dataclass
class Bench:
    """A board on which the command line measures; `slowness` is that of the moment."""

    slowness: float = 1.0
    reference: str | None = "products"

    def open(self, entry: CatalogueDevice, selector: UnitSelector) -> Board:
        """The board; entries and selectors do not matter."""
        board = Board("board-1", slowness=self.slowness)
        board.reference = self.reference
        return board

    def profile(self, slowness: float, *words: str) -> Result:
        """`latbench profile` at a moment."""
        self.slowness = slowness
        plain = ("--device", "raspberry-pi-5", "--runtime", "onnx", *SPACE, "--calibrate", "0")
        return typed("profile", *plain, "--fresh", *words)


def typed(*words: str) -> Result:
    """Run `latbench` in this process."""
    done = CliRunner(env={"COLUMNS": "200"}).invoke(main, words, prog_name="latbench")
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported models, for all tests."""
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture
def bench(
    artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _own_home: Path
) -> Bench:
    bench = Bench()
    boards = DeviceOpener(
        kind="boards",
        opens=lambda entry: entry.kind == "board",
        open=bench.open,
        options=frozenset({"unit"}),
        runners=(),
        attached=list,
    )
    monkeypatch.setattr(registry, "OPENERS", (boards,))
    monkeypatch.chdir(tmp_path)
    (_own_home / "artifacts").symlink_to(artifacts)
    return bench


def faster_run_of(profiled: Result) -> dict[str, object] | None:
    """What `latbench profile --json` says of a faster run."""
    found: dict[str, object] | None = json.loads(profiled.stdout)["faster_run"]
    return found


def test_a_profile_of_a_slow_moment_says_by_how_much_when_and_what_to_type(bench: Bench) -> None:
    first = bench.profile(1.0, "--budget", "5m")
    assert "faster run" not in first.stdout
    slow = bench.profile(1.25, "--budget", "5m")
    (said,) = (line for line in slow.stdout.splitlines() if line.startswith("faster run: "))
    figures = re.fullmatch(
        r"faster run: the reference took (\S+) ms on board-1, (\S+)% more than the (\S+) ms "
        r"of \d{4}-\d\d-\d\d \d\d:\d\d UTC\. Later:",
        said,
    )
    assert figures is not None
    assert [float(one) for one in figures.groups()] == pytest.approx([12.5, 25, 10], rel=0.02)
    again = slow.stdout.splitlines()[slow.stdout.splitlines().index(said) + 1].strip()
    words = shlex.split(again)
    assert words[:2] == ["latbench", "profile"]
    assert {"--fresh", "--device", "--budget", "--input"} <= set(words)

    built = typed("build-lut", "--out", "slow.json")
    (told,) = (line for line in built.stdout.splitlines() if line.startswith("faster run"))
    assert f"{figures[2]}% more" in told
    assert "; later: latbench profile --device raspberry-pi-5 " in told
    assert told.endswith(" --fresh")
    lut = Lut.load("slow.json")
    seen = FasterRun.of(lut)
    assert seen is not None
    assert (seen.unit, seen.workload) == ("board-1", "reference")
    assert seen.slowdown == pytest.approx(1.25, rel=0.01)
    shown = typed("show", "slow.json")
    (told,) = (line for line in shown.stdout.splitlines() if line.startswith("faster run"))
    assert f"{figures[2]}% more" in told
    assert told.endswith(" --fresh")
    data = json.loads(typed("build-lut", "--out", "slow.json", "--json").stdout)
    assert data["faster_run"]["slowdown"] == pytest.approx(1.25, rel=0.01)

    # The measurement is what it is: only the warning is new.
    assert lut.reference is not None
    assert lut.reference.ms == pytest.approx(12.5, rel=0.01)


def test_moments_that_hardly_differ_are_not_warned_of(bench: Bench) -> None:
    assert faster_run_of(bench.profile(1.0, "--json")) is None
    assert faster_run_of(bench.profile(1.07, "--json")) is None
    assert faster_run_of(bench.profile(0.9, "--json")) is None
    seen = faster_run_of(bench.profile(1.0, "--json"))  # 11 % more than at its best
    assert seen is not None
    assert seen["best_ms"] == pytest.approx(9.0, rel=0.01)
    typed("build-lut", "--out", "now.json")
    assert FasterRun.of(Lut.load("now.json")) is not None


def test_without_a_reference_the_sentinel_tells(bench: Bench) -> None:
    bench.reference = None
    assert faster_run_of(bench.profile(1.0, "--json")) is None
    seen = faster_run_of(bench.profile(1.2, "--json"))
    assert seen is not None
    assert seen["workload"] == "sentinel"
    assert seen["slowdown"] == pytest.approx(1.2, rel=0.01)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b'\xff{"unit": 3}\n[]\n{"unit": "board-1"'),
        lambda path: path.write_text(""),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["strange", "empty", "folder"],
)
def test_a_damaged_history_is_no_reason_to_fail(
    bench: Bench, damage: Callable[[Path], object]
) -> None:
    bench.profile(1.0)
    damage(history.path())
    assert faster_run_of(bench.profile(1.3, "--json")) is None
    if history.path().is_file():  # what can be read is used again
        bench.profile(1.0)
        assert faster_run_of(bench.profile(1.3, "--json")) is not None


# The file


@pytest.fixture
def report(journal: Journal) -> RunReport:
    """The report on a run of one unit."""
    return timed(1.0, journal)


def timed(slowness: float, journal: Journal) -> RunReport:
    plan = replace(fixed_plan(12), reference=reference_workload("products"))
    unit = Board("board-1", slowness=slowness)
    return measure(plan, unit, journal, fresh=True)


def remember(report: RunReport, started: float, unit: str = "board-1") -> None:
    """Keep the run as one that started at another time, on another unit."""
    device = report.run.device | {"units": {unit: {}}}
    run = replace(report.run, created=started, device=device)
    history.remember(run, report.results, {})


def faster(report: RunReport) -> FasterRun | None:
    return history.faster_run(report.run, report.results, report.units)


def test_a_run_that_goes_on_replaces_what_it_left(report: RunReport) -> None:
    for _ in range(3):
        remember(report, 1.0)
    assert len(history.path().read_text().splitlines()) == 1


def test_the_history_is_bounded(report: RunReport, monkeypatch: pytest.MonkeyPatch) -> None:
    for started in range(120):
        remember(report, float(started))
    remember(report, 1.0, "board-2")
    lines = [json.loads(line) for line in history.path().read_text().splitlines()]
    assert [line["started"] for line in lines] == [*map(float, range(70, 120)), 1.0]
    monkeypatch.setattr(history, "_KEPT", 20)
    remember(report, 2.0, "board-2")
    lines = [json.loads(line) for line in history.path().read_text().splitlines()]
    assert len(lines) == 20
    assert [line["unit"] for line in lines[-2:]] == ["board-2", "board-2"]


def test_several_processes_lose_no_line_of_one_another(report: RunReport) -> None:
    writers = [threading.Thread(target=remember, args=(report, float(n))) for n in range(16)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    lines = [json.loads(line) for line in history.path().read_text().splitlines()]
    assert sorted(line["started"] for line in lines) == [float(n) for n in range(16)]


def test_only_the_same_unit_target_and_workload_are_compared(journal: Journal) -> None:
    fast, slow = timed(1.0, journal), timed(1.5, journal)
    remember(fast, 1.0, "board-2")
    assert faster(slow) is None
    pinned = fast.run.target.model_copy(update={"threads": 2})
    for strange in (
        replace(fast.run, created=2.0, target=pinned),
        replace(fast.run, created=3.0, workloads=renamed(fast)),
    ):
        results = {"reference:other": fast.results["reference:products"]} | dict(fast.results)
        history.remember(strange, results, fast.units)
        assert faster(slow) is None
    remember(fast, 4.0)
    seen = faster(slow)
    assert seen is not None
    assert seen.slowdown == pytest.approx(1.5, rel=0.01)


def renamed(report: RunReport) -> dict[str, object]:
    """The workloads of a run, with another reference."""
    workloads = {key: one for key, one in report.run.workloads.items() if "reference" not in key}
    other = reference_workload("other")
    return {**workloads, other.key: other}


def test_a_difference_within_the_intervals_is_not_warned_of(journal: Journal) -> None:
    fast, slow = timed(1.0, journal), timed(1.15, journal)
    remember(fast, 1.0)
    assert faster(slow) is not None
    key = "reference:products"
    doubtful = replace(slow.results[key], ci95=(9.9, 13.0))
    assert faster(replace(slow, results={**slow.results, key: doubtful})) is None
