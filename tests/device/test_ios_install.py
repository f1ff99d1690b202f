"""The companion app is installed by an available tool, and the rest is reported."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from latbench.device.catalogue import find_device
from latbench.device.ios.install import BUNDLE, install_app
from latbench.errors import BadRequest, DeviceUnavailable, LatbenchError
from tests.rigs.usbmuxd import PluggedPhone, UsbmuxStandIn

UDID = "0123456789abcdef0123456789abcdef01234567"
Tool = Callable[..., Path]


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PluggedPhone]:
    with UsbmuxStandIn(tmp_path / "usbmuxd") as muxd:
        monkeypatch.setenv("USBMUXD_SOCKET_ADDRESS", muxd.address)
        plugged = PluggedPhone(UDID, {"ProductType": "iPhone10,3", "ProductVersion": "16.7.10"})
        muxd.plug(plugged)
        yield plugged


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "Latbench.ipa"
    path.touch()
    return path


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    """Put a program on an otherwise empty PATH that notes its words, and fails at `failing`."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(name: str, failing: str = "nothing") -> Path:
        log = folder / f"{name}.log"
        script = (
            f'#!/bin/sh\necho "$*" >> {log}\ncase "$*" in *{failing}*) echo no >&2; exit 3;; esac\n'
        )
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
        return log

    return make


def test_an_old_phone_gets_a_disk_image(phone: PluggedPhone, app: Path, tool: Tool) -> None:
    log = tool("ios")
    tool("pymobiledevice3")
    done = install_app(find_device("iphonex"), app, None)
    assert (done.udid, done.tool, done.version) == (UDID, "go-ios", "16.7.10")
    assert (done.started, done.advice) == (True, None)
    assert log.read_text().splitlines() == [
        f"install --path={app} --udid={UDID}",
        f"image auto --udid={UDID}",
        f"launch {BUNDLE} --udid={UDID}",
    ]


def test_a_new_phone_gets_no_image_but_may_want_a_tunnel(
    phone: PluggedPhone, app: Path, tool: Tool
) -> None:
    phone.properties["ProductVersion"] = "17.4"
    log = tool("pymobiledevice3", failing="launch")
    done = install_app(find_device("iphonex"), app, UDID)
    assert (done.tool, done.started) == ("pymobiledevice3", False)
    assert done.advice is not None
    assert "open the latbench app" in done.advice
    assert "remote tunneld" in done.advice
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["apps", "developer"]


def test_failures_are_reported(phone: PluggedPhone, app: Path, tool: Tool) -> None:
    iphonex = find_device("iphonex")
    with pytest.raises(DeviceUnavailable, match="no tool for installing apps on iOS 16") as none:
        install_app(iphonex, app, None)
    assert "go-ios" in str(none.value.hint)
    tool("ios", failing="install")
    with pytest.raises(LatbenchError, match=r"ios install .* failed \(3\): no"):
        install_app(iphonex, app, None)
    with pytest.raises(BadRequest, match="no such app") as missing:
        install_app(iphonex, app.with_suffix(".zip"), None)
    assert "runner/ios/README.md" in str(missing.value.hint)
