"""An iPhone's companion app, in C as on the phone, behind a stand-in usbmuxd, and its faults.

What takes longer is in tests/rigs/test_ios_faults.py.
"""

import hashlib
import hmac
import json
import os
import socket
import tarfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner
from tinymodels import Models

from latbench.cli import main
from latbench.device.catalogue import find_device
from latbench.device.ios import device as ios_device
from latbench.device.ios.device import IosDevice
from latbench.device.ios.link import NetworkLink
from latbench.device.ios.pairing import keep_token, known_token, read_token
from latbench.device.registry import UnitSelector, attached_units, open_device
from latbench.errors import BadRequest, DeviceLost, DeviceUnavailable, RunnerFailed
from latbench.export import ArtifactStore
from latbench.runtime.coreml import writer as coreml
from latbench.target import Runtime
from tests.rigs.ios_phone import DEVICE, TOKEN, UDID, IosPhone, built, can_build
from tests.rigs.usbmuxd import UsbmuxStandIn


@pytest.fixture(scope="module")
def companion() -> Path:
    if not can_build():
        pytest.skip("building the companion app takes cmake and a C compiler")
    return built()


@pytest.fixture
def phone(
    companion: Path, tmp_path: Path, _own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[IosPhone]:
    """A phone on a cable, described in latbench's home as iphonex-rig, whose token is not known yet."""
    (_own_home / "devices").mkdir()
    (_own_home / "devices/iphonex-rig.toml").write_text(DEVICE)
    monkeypatch.setattr(ios_device, "PATIENCE_S", 0.0)
    with (
        UsbmuxStandIn(tmp_path / "usbmuxd") as muxd,
        IosPhone(companion, tmp_path / "phone", muxd) as running,
    ):
        monkeypatch.setenv("USBMUXD_SOCKET_ADDRESS", muxd.address)
        yield running


@pytest.fixture
def device(phone: IosPhone, monkeypatch: pytest.MonkeyPatch) -> Iterator[IosDevice]:
    monkeypatch.setenv("LATBENCH_IPHONE_TOKEN", TOKEN)
    opened = open_device("iphonex-rig")
    assert isinstance(opened, IosDevice)
    yield opened
    opened.close()


@pytest.mark.rig  # it takes a minute
@pytest.mark.skipif(find_spec("coremltools") is None, reason="pip install latbench[coreml]")
def test_core_ml_packages_are_exported_and_sent(
    phone: IosPhone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the timing, which takes Core ML: the app of this machine says that it has no such engine."""
    monkeypatch.setenv("LATBENCH_IPHONE_TOKEN", TOKEN)
    words = ["profile", "--device", "iphonex-rig", "--runtime", "coreml", "--space", "fbnet-cifar"]
    words += ["--input", "16", "--width", "0.35", "--calibrate", "0", "--accelerator", "npu"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1, done.output
    assert "no engine for the runtime coreml" in done.output
    kept = sorted(phone.cache.iterdir())
    assert kept
    for path in kept:
        assert tarfile.is_tarfile(path)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--precision", "int8"), 2, "exported in fp32 and fp16, not in int8"),
        (("--accelerator", "nnapi"), 2, "unknown accelerator 'nnapi'"),
        ((), 1, "latbench[coreml]"),
    ],
)
def test_what_core_ml_cannot_do_is_refused_before_any_export(
    words: tuple[str, ...],
    code: int,
    said: str,
    phone: IosPhone,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LATBENCH_IPHONE_TOKEN", TOKEN)
    monkeypatch.setattr(coreml, "find_spec", lambda name: None)  # coremltools is not installed
    written: list[object] = []
    monkeypatch.setattr(ArtifactStore, "put", lambda *words: written.append(words))
    profile = ["profile", "--device", "iphonex-rig", "--runtime", "coreml"]
    done = CliRunner().invoke(main, [*profile, *words])
    assert (done.exit_code, said in done.output) == (code, True), done.output
    assert not written
    assert not list(phone.cache.glob("*"))


@pytest.mark.usefixtures("phone")
def test_a_phone_on_a_cable_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [unit for unit in attached_units() if unit.device == "iphonex-rig"]
    assert [(unit.unit, unit.state, unit.measurable) for unit in listed] == [(UDID, "ready", True)]
    monkeypatch.setenv("USBMUXD_SOCKET_ADDRESS", "UNIX:/nowhere/usbmuxd")
    assert "host" in [unit.device for unit in attached_units()]  # without usbmuxd too


def test_pairing_is_needed_once(phone: IosPhone) -> None:
    with pytest.raises(DeviceUnavailable, match=r"this computer is not paired with") as unknown:
        open_device("iphonex-rig")
    assert "latbench runner pair" in str(unknown.value.hint)
    pair = ("runner", "pair", "--device", "iphonex-rig", "--json", "--token")
    wrong = CliRunner().invoke(main, [*pair, "AAAA-AAAA-AAAA-AAAA"])
    assert wrong.exit_code == 1
    assert "not the one that this phone shows" in wrong.output
    right = CliRunner().invoke(main, [*pair, TOKEN.lower().replace("-", " ")])
    assert (right.exit_code, json.loads(right.output)) == (0, {"unit": phone.plug.udid})
    open_device("iphonex-rig").close()


def test_a_token_is_kept_for_its_owner_alone() -> None:
    with pytest.raises(BadRequest, match="not a pairing token"):
        read_token("ABCD-EFGH-JKMN-PQR0")
    path = keep_token("RIG", TOKEN)
    assert path.stat().st_mode & 0o077 == 0
    assert known_token("RIG") == TOKEN


def test_models_are_sent_once_and_run_on_the_phone(
    device: IosDevice, phone: IosPhone, models: Models
) -> None:
    assert device.emulated, "its times are this machine's"
    assert device.description == "Rig10,3, iOS 16.7.10"
    assert device.reference is not None
    assert device.default_cores(2) == ()
    with pytest.raises(BadRequest, match="iOS does not allow a process to choose"):
        device.require_cores([0], 1)
    paths = device.send([models.of[Runtime.TFLITE], models.of[Runtime.ONNX]])
    kept = {path.name: path.stat().st_mtime_ns for path in phone.cache.iterdir()}
    assert set(kept) == set(paths.values())
    for runtime in (Runtime.TFLITE, Runtime.ONNX):
        with device.open_runner() as runner:
            loaded = runner.load(paths[models.of[runtime]], runtime)
            assert len(runner.run(loaded.handle, min_samples=3, max_samples=3).samples_ns) == 3
    device.send([models.of[Runtime.TFLITE]])
    (phone.cache / paths[models.of[Runtime.ONNX]]).write_bytes(b"something else")
    device.send(list(paths))
    assert (phone.cache / paths[models.of[Runtime.TFLITE]]).stat().st_mtime_ns == kept[
        paths[models.of[Runtime.TFLITE]]
    ]
    for name in kept:
        assert hashlib.sha256((phone.cache / name).read_bytes()).hexdigest() == name
    assert device.clear() > 0
    assert list(phone.cache.iterdir()) == []


def test_three_runners_of_one_host_and_none_of_another(
    device: IosDevice, models: Models, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = device.send([models.of[Runtime.TFLITE]])[models.of[Runtime.TFLITE]]
    runners = [device.open_runner() for _ in range(3)]
    handles = [runner.load(path, Runtime.TFLITE).handle for runner in runners]
    runners[1].quit()
    for at in (0, 2):
        assert runners[at].run(handles[at], min_samples=2, max_samples=2).samples_ns
    monkeypatch.setenv("LATBENCH_HOME", str(tmp_path / "another"))  # as another computer would have
    (tmp_path / "another/devices").mkdir(parents=True)
    (tmp_path / "another/devices/iphonex-rig.toml").write_text(DEVICE)
    with pytest.raises(DeviceUnavailable, match="another host is measuring"):
        open_device("iphonex-rig")
    for runner in runners:
        runner.quit()
    device.close()
    open_device("iphonex-rig").close()


def test_the_phones_state_is_reported_as_androids(device: IosDevice, phone: IosPhone) -> None:
    expected = [((("thermal", 0),), 0), ((("thermal", 1),), 1), ((("thermal", 2),), 3)]
    expected += [((("thermal", 3),), 4), ((("low_power", 1),), 1)]
    for words, status in expected:
        phone.set_state(battery=55, charging=0, **dict(words))
        reported = device.conditions()
        assert reported.thermal_status == status
        assert (reported.battery_percent, reported.charging, reported.screen_on) == (
            55,
            False,
            True,
        )
        assert reported.build is not None
        assert reported.build.startswith("iOS 16.7.10, Rig10,3")


def test_low_power_mode_is_refused_when_opening(
    phone: IosPhone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATBENCH_IPHONE_TOKEN", TOKEN)
    phone.set_state(low_power=1)
    with pytest.raises(DeviceUnavailable, match="low-power mode") as refused:
        open_device("iphonex-rig")
    assert "Settings" in str(refused.value.hint)


def test_in_the_background_nothing_is_measured(
    device: IosDevice, phone: IosPhone, models: Models
) -> None:
    path = device.send([models.of[Runtime.ONNX]])[models.of[Runtime.ONNX]]
    with device.open_runner() as runner:
        handle = runner.load(path, Runtime.ONNX).handle
        phone.set_state(active=0)
        with pytest.raises(DeviceLost, match="in the background") as lost:
            runner.run(handle)
        assert "bring it to the front" in str(lost.value.hint)
        phone.set_state(active=1)
        assert runner.run(handle, min_samples=1, max_samples=1).samples_ns


def test_what_is_no_artifact_is_not_loaded(device: IosDevice) -> None:
    with device.open_runner() as runner:
        for path in ("/etc/passwd", "../../etc/passwd", "", "A" * 64, "0" * 64 + "/.."):
            with pytest.raises(RunnerFailed, match="it is an artifact's SHA-256"):
                runner.load(path, Runtime.ONNX)
        with pytest.raises(RunnerFailed, match="there is no file"):
            runner.load("0" * 64, Runtime.ONNX)


def test_another_phone_than_the_named_one_is_refused(
    phone: IosPhone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATBENCH_IPHONE_TOKEN", TOKEN)
    with pytest.raises(
        DeviceUnavailable, match="identifies itself as Rig10,3, which is iphonex-rig"
    ):
        open_device("iphonex")
    claimed = open_device("iphonex", UnitSelector(skip_identity_check=True))
    assert claimed.description.endswith("measured as iphonex by --as")
    claimed.close()
    for wrong in (UnitSelector(prepare=True), UnitSelector(adb_server="localhost:5037")):
        with pytest.raises(BadRequest, match="for Android phones"):
            open_device("iphonex-rig", wrong)
    with pytest.raises(BadRequest, match="--address is for iPhones"):
        open_device("host", UnitSelector(address="192.168.1.7"))


def test_an_address_does_without_a_cable(phone: IosPhone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USBMUXD_SOCKET_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("LATBENCH_IPHONE_TOKEN", TOKEN)
    opened = open_device("iphonex-rig", UnitSelector(address=f"127.0.0.1:{phone.port}"))
    assert opened.unit == "RIG-UNIT"
    opened.close()
    with pytest.raises(BadRequest, match="exclude each other"):
        open_device("iphonex-rig", UnitSelector(unit=UDID, address=f"127.0.0.1:{phone.port}"))
    phone.kill_app()
    with pytest.raises(DeviceUnavailable, match="no companion app answers"):
        open_device("iphonex-rig", UnitSelector(address=f"127.0.0.1:{phone.port}"))


def test_a_phone_that_does_not_know_the_token_is_not_believed(tmp_path: Path) -> None:
    """It takes any proof; it cannot make one."""
    entry = find_device("iphonex")
    with socket.create_server(("127.0.0.1", 0)) as server:
        if os.fork() == 0:
            try:
                client, _ = server.accept()
                for reply in ({"nonce": "0" * 32}, {"proof": "0" * 64, "model": "iPhone10,3"}):
                    client.recv(1 << 16)
                    client.sendall(json.dumps({"id": 1, "ok": True, **reply}).encode() + b"\n")
                client.recv(1)
            finally:
                os._exit(0)
        link = NetworkLink("127.0.0.1", server.getsockname()[1])
        with pytest.raises(DeviceUnavailable, match="does not know the token: it is not the phone"):
            IosDevice(link, entry, token=TOKEN)
        os.wait()


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ({"emulated": 1}, "emulated"),
        ({"emulated": "false"}, "emulated"),
        ({"low_power_mode": 0}, "low_power_mode"),
        ({"model": None}, "model"),
        ({"unit": 7}, "unit"),
    ],
)
def test_a_phone_with_invalid_facts_is_refused(facts: dict[str, object], field: str) -> None:
    valid = {"model": "iPhone10,3", "os_version": "16", "unit": "U", "emulated": False}
    with socket.create_server(("127.0.0.1", 0)) as server:
        if os.fork() == 0:
            try:
                client, _ = server.accept()
                asked = json.loads(client.recv(1 << 16))
                nonce = "0" * 32
                client.sendall(json.dumps({"ok": True, "nonce": nonce}).encode() + b"\n")
                client.recv(1 << 16)
                text = f"latbench phone:{asked['session']}:{asked['nonce']}:{nonce}"
                proof = hmac.new(TOKEN.encode(), text.encode(), "sha256").hexdigest()
                reply = {"ok": True, "proof": proof, **valid, **facts}
                client.sendall(json.dumps(reply).encode() + b"\n")
                client.recv(1)
            finally:
                os._exit(0)
        link = NetworkLink("127.0.0.1", server.getsockname()[1])
        with pytest.raises(DeviceUnavailable, match=f"reply is invalid: field {field}: "):
            IosDevice(link, find_device("iphonex"), token=TOKEN)
        os.wait()


def test_the_cable_and_the_app_can_go_and_come(
    device: IosDevice, phone: IosPhone, models: Models
) -> None:
    path = device.send([models.of[Runtime.ONNX]])[models.of[Runtime.ONNX]]
    runner = device.open_runner()
    phone.kill_app()
    with pytest.raises(RunnerFailed, match="it crashed, or was closed") as crashed:
        runner.load(path, Runtime.ONNX)
    assert crashed.value.kind == "crashed"
    with pytest.raises(DeviceLost, match="the companion app is not running"):
        device.open_runner()
    phone.open_app()
    # What was held ended with the app; sending holds anew.
    assert device.send([models.of[Runtime.ONNX]])[models.of[Runtime.ONNX]] == path
    with device.open_runner() as runner:
        assert runner.load(path, Runtime.ONNX).handle
