"""Verifying finalists: on which devices they are timed, and which one is chosen."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner

from fbnet_search.choose.finalists import best_finalist, verify_finalists
from fbnet_search.cli import search_main
from latbench.errors import DeviceUnavailable, ExportFailed, LatbenchError, RunnerFailed
from latbench.lut import Lut, predict_latency
from latbench.space import Architecture, SearchSpace, read_architecture
from latbench.space.architecture import random_architectures
from latbench.target import Runtime, Target
from latbench.workflows.measure import Measurement
from latbench.workflows.networks import Together

MakeLut = Callable[..., Lut]


@pytest.fixture(scope="module")
def onnx_lut(make_lut: MakeLut, tiny_space: SearchSpace) -> Lut:
    """The host's other runtime."""
    return make_lut(tiny_space, runtime=Runtime.ONNX)


@pytest.fixture(scope="module")
def far_lut(tiny_lut: Lut) -> Lut:
    """A LUT of a phone that is not here."""
    target = Target(device="pixel-6", runtime=Runtime.TFLITE, precision=tiny_lut.target.precision)
    return tiny_lut.model_copy(update={"target": target})


@dataclass
class Planted:
    """Devices whose latencies are given: milliseconds of the first networks asked for, by runtime.

    `half` is half of every interval, `anchor` the level; a device of `away` is not there.
    """

    ms: dict[Runtime, Sequence[float]]
    half: float = 0.001
    anchor: float | None = None
    away: Sequence[str] = ()
    asked: list[tuple[Architecture, Target]] = field(default_factory=list)

    def of(self, networks: Sequence[Architecture], lut: Lut) -> list[Measurement]:
        """As `fbnet_search.latencies.Measure`."""
        self.asked += [(network, lut.target) for network in networks]
        if lut.target.device in self.away:
            raise DeviceUnavailable(f"no {lut.target.device} is attached")
        return [
            Measurement(
                str(network), lut.target, ms, (ms - self.half, ms + self.half), 60, 6, 0,
                anchor=self.anchor,
            )
            for network, ms in zip(networks, self.ms[lut.target.runtime], strict=True)
        ]  # fmt: skip

    def __call__(self, networks: Sequence[Architecture], lut: Lut, *, budget_s: float) -> Together:
        """As `latbench.workflows.networks.measure_networks`."""
        return Together(tuple(self.of(networks, lut)), (), cast(Any, None))


@pytest.fixture
def networks(tiny_space: SearchSpace) -> list[Architecture]:
    return random_architectures(tiny_space, 3, seed=4)


# The choice


def test_the_most_probable_that_keeps_the_target_is_picked(
    networks: list[Architecture], tiny_lut: Lut
) -> None:
    timed = verify_finalists(networks, [tiny_lut], Planted({Runtime.TFLITE: (2.1, 1.9, 1.0)}).of)
    assert best_finalist(timed, 2.0).architecture == networks[1]
    assert best_finalist(timed, 2.2).architecture == networks[0]
    assert best_finalist(timed, 0.5).architecture == networks[2]  # none does: the fastest


def test_on_several_devices_the_slowest_counts(
    networks: list[Architecture], tiny_lut: Lut, onnx_lut: Lut
) -> None:
    devices = Planted({Runtime.TFLITE: (1.0, 1.5, 1.8), Runtime.ONNX: (2.5, 1.9, 1.7)})
    timed = verify_finalists(networks, [tiny_lut, onnx_lut], devices.of)
    assert [one.worst_ms for one in timed] == [2.5, 1.9, 1.8]
    assert best_finalist(timed, 2.0).architecture == networks[1]
    assert best_finalist(timed, 1.0).architecture == networks[2]


def test_measurements_are_normalised_to_the_luts_run(
    networks: list[Architecture], tiny_lut: Lut
) -> None:
    # The device is a quarter slower than it was.
    device = Planted({Runtime.TFLITE: (2.5, 2.5, 2.5)}, half=0.25, anchor=1.25)
    (latency,) = verify_finalists(networks, [tiny_lut], device.of)[0].latencies
    assert latency.measured is not None
    told = latency.measured
    assert (told.ms, told.low, told.high, told.slowdown) == pytest.approx((2.0, 1.8, 2.2, 1.25))
    assert latency.predicted == predict_latency(tiny_lut, networks[0])


def test_what_fails_on_a_device_is_not_chosen(networks: list[Architecture], tiny_lut: Lut) -> None:
    device = Planted({Runtime.TFLITE: (1.0, 1.5, 1.2)})

    def failing(asked: Sequence[Architecture], lut: Lut) -> list[Measurement | LatbenchError]:
        return [RunnerFailed("run", "crashed", "signal 11"), *device.of(asked, lut)[1:]]

    timed = verify_finalists(networks, [tiny_lut], failing)
    (failed,) = timed[0].latencies
    assert failed.measured is None
    assert "signal 11" in failed.unmeasured
    # It is predicted to keep the target, and the most probable.
    assert timed[0].worst_ms < 1.3
    assert best_finalist(timed, 1.3).architecture == networks[2]
    assert best_finalist(timed, 2.0).architecture == networks[1]


# Devices that are not there


def test_an_unreachable_device_is_tried_once_and_reported(
    networks: list[Architecture], tiny_lut: Lut, far_lut: Lut
) -> None:
    devices = Planted({Runtime.TFLITE: (1.0, 1.1, 1.2)}, away=["pixel-6"])
    timed = verify_finalists(networks, [far_lut, tiny_lut], devices.of)
    assert [target.device for _, target in devices.asked].count("pixel-6") == len(networks)
    for one in timed:
        far, near = one.latencies
        assert (far.measured, far.unmeasured) == (None, "no pixel-6 is attached")
        assert near.measured is not None
        # It counts with what was predicted.
        assert one.worst_ms == max(near.measured.ms, far.predicted.ms)


def test_without_any_device_there_is_no_choice(
    networks: list[Architecture], tiny_lut: Lut, far_lut: Lut
) -> None:
    devices = Planted({}, away=["pixel-6", "host"])
    with pytest.raises(DeviceUnavailable, match="no pixel-6"):
        verify_finalists(networks, [far_lut, tiny_lut], devices.of)


def test_a_failure_that_is_not_the_devices_is_none_to_pass_over(
    networks: list[Architecture], tiny_lut: Lut, onnx_lut: Lut
) -> None:
    def failing(networks: Sequence[Architecture], lut: Lut) -> list[Measurement]:
        raise ExportFailed("it computes something else")

    with pytest.raises(ExportFailed):
        verify_finalists(networks, [tiny_lut, onnx_lut], failing)


# From the command line


def arguments(luts: Sequence[Lut], folder: Path, data: Path, target_ms: float) -> list[str]:
    words = []
    for number, lut in enumerate(luts):
        lut.save(folder / f"{number}.json")
        words += ["--lut", str(folder / f"{number}.json")]
    words += ["--data", f"imagefolder:{data}", "--out", str(folder / "out"), "--epochs", "2"]
    return [*words, "--target-ms", str(target_ms), "--verify", "3"]


TARGET_MS = 0.3


@pytest.mark.parametrize(
    ("first", "second", "half", "found", "facts"),
    [
        (0.25, 0.20, 0.01, 0, ["finalists  3 of 3 measured within the target"]),
        (0.31, 0.20, 0.01, 1, ["finalists  2 of 3 measured within the target"]),
        (0.31, 0.29, 0.02, 1, ["2 of 3", "uncertain  a 95 % interval reaches above the target"]),
        (0.33, 0.32, 0.001, 1, ["0 of 3", "too slow"]),
    ],
)
def test_the_search_finds_by_measurement_and_tells_what_crosses_the_target(
    tiny_lut: Lut, digit_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    first: float, second: float, half: float, found: int, facts: list[str],
) -> None:  # fmt: skip
    third = max(first, second) - 0.001 if first > TARGET_MS < second else 0.1
    device = Planted({Runtime.TFLITE: (first, second, third)}, half=half)
    monkeypatch.setattr("fbnet_search.latencies.measure_networks", device)
    done = CliRunner().invoke(search_main, arguments([tiny_lut], tmp_path, digit_folder, TARGET_MS))
    assert done.exit_code == 0, done.output
    text = " ".join(done.stdout.split())
    assert all(" ".join(fact.split()) in text for fact in facts)
    told = json.loads((tmp_path / "out" / "architecture.json").read_text())
    chosen = read_architecture(str(tmp_path / "out" / "architecture.json"))
    assert chosen == device.asked[found][0]
    ms = (first, second)[found]
    assert told["measured_ms"] == ms
    assert told["crosses_target"] == (ms + half > TARGET_MS)
    assert ("uncertain" in text) == (ms <= TARGET_MS < ms + half)


def test_a_failed_finalist_is_reported_and_never_chosen(
    tiny_lut: Lut, digit_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(Planted):
        def of(self, networks: Sequence[Architecture], lut: Lut) -> list[Any]:
            return [RunnerFailed("run", "crashed", "signal 11"), *super().of(networks, lut)[1:]]

    device = Failing({Runtime.TFLITE: (0.1, 0.33, 0.32)})
    monkeypatch.setattr("fbnet_search.latencies.measure_networks", device)
    done = CliRunner().invoke(search_main, arguments([tiny_lut], tmp_path, digit_folder, TARGET_MS))
    assert done.exit_code == 0, done.output
    text = " ".join(done.stdout.split())
    assert "0 of 3 measured within the target" in text
    assert "too slow" in text
    assert "signal 11" in text


def test_real_devices_are_measured_where_they_are_reachable(
    tiny_lut: Lut, onnx_lut: Lut, far_lut: Lut, digit_folder: Path, tmp_path: Path
) -> None:
    luts = [tiny_lut, onnx_lut, far_lut]
    done = CliRunner().invoke(search_main, arguments(luts, tmp_path, digit_folder, TARGET_MS))
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / "out" / "architecture.json").read_text())
    timed = [one["latencies"] for one in told["finalists"]]
    assert [[one["target"] for one in row] for row in timed] == [
        [str(lut.target) for lut in luts]
    ] * 3
    for row in timed:
        assert [one["measured_ms"] is not None for one in row] == [True, True, False]
        for one in row[:2]:
            assert one["measured_low"] <= one["measured_ms"] <= one["measured_high"]
        assert row[2]["unmeasured"]
    assert "unmeasured" in done.stdout
    assert str(far_lut.target) in done.stdout
    # Whatever the clock said, it was chosen by that.
    worst = [max(one["measured_ms"] or one["predicted_ms"] for one in row) for row in timed]
    within = [number for number, ms in enumerate(worst) if ms <= TARGET_MS]
    number = within[0] if within else worst.index(min(worst))
    assert told["layers"] == told["finalists"][number]["layers"]
    assert told["latencies"] == timed[number]


def test_an_unreachable_device_is_reported_before_the_search(
    far_lut: Lut, digit_folder: Path, tmp_path: Path
) -> None:
    done = CliRunner().invoke(search_main, arguments([far_lut], tmp_path, digit_folder, TARGET_MS))
    assert done.exit_code == 1
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
