"""Arm64 phones behind AOSP's own adbd are profiled by the command line into LUTs marked emulated.

The one of Android 9 runs LiteRT and the one of Android 14 ONNX Runtime: together they cover both of each.

The runner is the one that `tests.rigs.setup` builds by Zig's compiler.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from latbench.device.android.adb.direct import DirectLink
from latbench.device.android.adb.keys import own_key, signer
from latbench.device.native.engines import install
from latbench.device.registry import UnitSelector, open_device
from latbench.errors import RunnerFailed
from latbench.lut import Lut
from latbench.target import Runtime
from latbench.workflows.measure import measure_latency
from latbench.workflows.target import TargetRequest
from tests.rigs.parts import default_cache
from tests.rigs.phone import Phone

pytestmark = pytest.mark.rig

# As many ops as at 16x16, and a quarter of what qemu has to compute.
SPACE = ("--space", "fbnet-cifar", "--input", "8", "--width", "0.35")
LIBRARIES = {"onnx": "libonnxruntime.so", "tflite": "libLiteRt.so"}
#: Asked for before a test has a HOME of its own.
CACHE = default_cache()


@pytest.fixture
def phone(
    request: pytest.FixtureRequest,
    _own_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Phone]:
    """A phone that lets this test in, and a home with what it runs."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "1")  # nothing listens there
    with Phone(request.param, cache=CACHE) as switched_on:
        shutil.copytree(switched_on.parts.runner / "runners", _own_home / "runners")
        for library in LIBRARIES.values():
            install(switched_on.parts.runtimes / library)
        signer(own_key())  # makes the key
        switched_on.allow(own_key().with_name("adbkey.pub").read_text())
        yield switched_on


def latbench(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "latbench", *words], capture_output=True, text=True, cwd=cwd
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class Expected:
    """What a LUT says of a phone of the rig, in the catalogue's name, and of what is prepared there."""

    device: str
    core: int
    build: str
    prepared: str
    thermal_status: list[int] | None


EXPECTED = {
    "galaxy-s8": Expected(
        device="galaxy-s8",
        core=7,
        build="samsung/dreamqltesq/",
        prepared="prepared: stay on, steady brightness, dim screen; "
        "not airplane mode: before Android 11 it takes root, or the phone's menu",
        thermal_status=None,
    ),
    "current": Expected(
        device="pixel-8",
        core=8,
        build="Google/shiba/",
        prepared="prepared: fixed-performance mode, stay on, steady brightness, dim screen, airplane mode",
        thermal_status=[0, 0],
    ),
}


@pytest.mark.parametrize(
    ("phone", "runtime", "calibrate"),
    [("galaxy-s8", "tflite", "3"), ("current", "onnx", "0")],
    indirect=["phone"],
)
def test_a_space_is_profiled_into_a_lut(
    phone: Phone, runtime: str, calibrate: str, tmp_path: Path
) -> None:
    expected = EXPECTED[phone.profile.name]
    said = latbench(
        *("profile", "--device", expected.device, "--unit", phone.address, "--runtime", runtime),
        *(*SPACE, "--calibrate", calibrate, "--ci", "20%", "--budget", "30m"),
        *("--prepare", "--verify", "--json"),
        cwd=tmp_path,
    )
    report = json.loads(said)
    assert report["target"]["cores"] == [expected.core], "the catalogue's, a big one"
    assert (report["given_up"], report["failed"]) == ([], 0)
    assert report["complete"]
    (verified,) = report["verified"]
    assert len(verified["errors"]) == 89, "every op was compared with PyTorch"
    assert verified["errors"][verified["worst"]] < 1e-4
    assert phone.state.setting("global", "stay_on_while_plugged_in") is None
    assert not phone.state.fixed_performance
    assert not phone.profile.fixed_performance or phone.state.read("airplane_mode") == "disabled"
    latbench("build-lut", "--out", "lut.json", cwd=tmp_path)
    lut = Lut.load(tmp_path / "lut.json")
    assert lut.conditions["emulated"] is True
    assert (lut.method["operating_system"], lut.method["abi"]) == ("linux", "aarch64")
    assert lut.method["engine"]["library"] == LIBRARIES[runtime]
    assert lut.conditions["affinity"] == [expected.core]
    assert lut.conditions["screen_on"] == [True]
    assert lut.conditions["build"].startswith(expected.build)
    assert lut.conditions["description"].endswith(expected.prepared)
    assert lut.conditions.get("thermal_status") == expected.thermal_status
    assert lut.reference is None, "an emulated phone's tells nothing"
    on_phone = phone.data / "local/tmp/latbench"
    assert len(list(on_phone.glob("artifacts/*"))) >= len(lut.entries)
    latbench("devices", "clean", "--unit", phone.address, cwd=tmp_path)
    assert not on_phone.exists()


#: What onnxruntime_perf_test writes, as a program for the phone's own shell and tools.
PERF_TEST = """#!/system/bin/sh
if [ -f /data/local/tmp/hang ]; then echo $$ > /data/local/tmp/hang; sleep 600; fi
for last; do :; done
for run in 0 1 2 3 4 5 6 7; do echo "model.onnx,0.00123456,48234496,98,$run" >> "$last"; done
"""


@pytest.mark.parametrize("phone", ["galaxy-s8", "current"], indirect=True)
def test_a_phone_is_measured_by_a_program(phone: Phone, tmp_path: Path) -> None:
    where, model = _perf_test(phone, tmp_path)
    name = EXPECTED[phone.profile.name].device
    measured = measure_latency(
        model, TargetRequest(device=name, runtime=Runtime.ONNX, units=(where,))
    )
    assert measured.ms == pytest.approx(1.23456)
    assert measured.samples == 8 * measured.rounds
    left = phone.data / "local/tmp/latbench"
    assert {one.name for one in left.iterdir()} == {"artifacts", "programs"}


@pytest.mark.parametrize("phone", ["galaxy-s8"], indirect=True)
def test_a_program_that_hangs_is_ended(phone: Phone, tmp_path: Path) -> None:
    where, model = _perf_test(phone, tmp_path)
    hang = phone.data / "local/tmp/hang"
    hang.touch()
    hang.chmod(0o666)
    with closing(open_device("galaxy-s8", where)) as device:
        place = device.send([model])[model]
        runner = device.open_runner()
        with pytest.raises(RunnerFailed, match="no answer within 8 s"):
            runner.run(runner.load(place, Runtime.ONNX).handle, timeout_s=8.0)
        pid = hang.read_text().strip()
        assert pid, "it had begun"
        with closing(DirectLink.tcp(phone.address)) as link:
            assert link.shell(f"kill -0 {pid}").exit_code != 0, "it was ended"
        hang.unlink()
        runner = device.open_runner()
        assert runner.run(runner.load(place, Runtime.ONNX).handle).samples_ns


def _perf_test(phone: Phone, folder: Path) -> tuple[UnitSelector, Path]:
    """The phone as one that a program of that kind measures on, and a model."""
    program = folder / "onnxruntime_perf_test"
    program.write_text(PERF_TEST)
    latbench("export", "fbnet_a", *SPACE, "--runtime", "onnx", "--out", "models", cwd=folder)
    (model,) = (folder / "models").rglob("*.onnx")
    return UnitSelector(unit=phone.address, runner=f"onnxruntime_perf_test={program}"), model
