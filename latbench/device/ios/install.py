"""Installs the companion app on an iPhone, and starts it, with the user's own tools.

None of them is part of latbench: Xcode's devicectl on a Mac, go-ios or pymobiledevice3 elsewhere. They
support different phones. Up to iOS 16 (the last of an iPhone X) apps are installed over lockdown and started
with a mounted developer disk image; from iOS 17 on the developer services require a tunnel.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latbench.device.catalogue import CatalogueDevice
from latbench.device.ios.device import find_iphone
from latbench.device.ios.link import UsbLink
from latbench.device.ios.lockdown import properties
from latbench.errors import BadRequest, DeviceUnavailable, LatbenchError

BUNDLE = "org.latbench.companion"
_TIMEOUT_S = 300.0
_TUNNEL_FROM = 17  # the first iOS whose developer services require one


@dataclass(frozen=True)
class Tool:
    """A program that installs and starts apps.

    Attributes:
        program: its executable.
        install, launch: its commands, with placeholders {udid}, {app} and {bundle}.
        mount: the command that mounts the developer disk image before iOS 17; empty: not needed.
        tunnel: the command that must run in parallel from iOS 17 on; None: not needed.
    """

    name: str
    program: str
    install: tuple[str, ...]
    launch: tuple[str, ...]
    mount: tuple[str, ...] = ()
    tunnel: str | None = None


DEVICECTL = Tool(
    "xcrun devicectl",
    "xcrun",
    ("xcrun", "devicectl", "device", "install", "app", "--device", "{udid}", "{app}"),
    ("xcrun", "devicectl", "device", "process", "launch", "--device", "{udid}", "{bundle}"),
)
GO_IOS = Tool(
    "go-ios",
    "ios",
    ("ios", "install", "--path={app}", "--udid={udid}"),
    ("ios", "launch", "{bundle}", "--udid={udid}"),
    mount=("ios", "image", "auto", "--udid={udid}"),
    tunnel="sudo ios tunnel start",
)
PYMOBILEDEVICE3 = Tool(
    "pymobiledevice3",
    "pymobiledevice3",
    ("pymobiledevice3", "apps", "install", "--udid", "{udid}", "{app}"),
    ("pymobiledevice3", "developer", "dvt", "launch", "--udid", "{udid}", "{bundle}"),
    mount=("pymobiledevice3", "mounter", "auto-mount", "--udid", "{udid}"),
    tunnel="sudo pymobiledevice3 remote tunneld",
)


@dataclass(frozen=True)
class Installed:
    """The result of an installation.

    Attributes:
        udid: the phone's UDID.
        tool: the name of the tool.
        version: the version of iOS.
        started: whether the app was also started; if not, `advice` says what to do.
    """

    udid: str
    tool: str
    version: str
    started: bool
    advice: str | None


def install_app(entry: CatalogueDevice, app: Path, unit: str | None) -> Installed:
    """Install the app, built and signed by Xcode, and start it if possible.

    Raises:
        BadRequest: there is no such app, or several phones are attached and none is named.
        DeviceUnavailable: no phone is attached, or no tool supports it.
        LatbenchError: the tool failed; the error quotes its last output.
    """
    if app.suffix not in (".ipa", ".app") or not app.exists():
        raise BadRequest(
            f"no such app: {app}",
            hint="build it in Xcode (runner/ios/README.md), then: latbench runner install "
            f"--device {entry.name} --app FILE.ipa",
        )
    link = find_iphone(entry, unit, None)
    assert isinstance(link, UsbLink), "without an address it is on USB"
    version = properties(link.udid).get("ProductVersion", "unknown")
    release = int(version.partition(".")[0]) if version.partition(".")[0].isdecimal() else 0
    tool = choose_tool(release)
    filled = {"udid": link.udid, "app": str(app), "bundle": BUNDLE}
    _call(tool.install, filled)
    try:
        if tool.mount and release < _TUNNEL_FROM:
            _call(tool.mount, filled)
        _call(tool.launch, filled)
    except LatbenchError as error:
        tunnel = tool.tunnel if release >= _TUNNEL_FROM else None
        beside = (
            f" (to start it from here on iOS 17 or later, first run: {tunnel})" if tunnel else ""
        )
        advice = f"open the latbench app on the phone{beside}: {error.message}"
        return Installed(link.udid, tool.name, version, False, advice)
    return Installed(link.udid, tool.name, version, True, None)


def choose_tool(release: int) -> Tool:
    """Choose an installed tool for a phone with that major release of iOS.

    devicectl supports iOS 17 and later only.

    Raises:
        DeviceUnavailable: there is none.
    """
    candidates = [GO_IOS, PYMOBILEDEVICE3]
    if sys.platform == "darwin" and release >= _TUNNEL_FROM:
        candidates.insert(0, DEVICECTL)
    for tool in candidates:
        if shutil.which(tool.program) is not None:
            return tool
    raise DeviceUnavailable(
        f"no tool for installing apps on iOS {release or 'of an unknown release'} was found",
        hint="npm install -g go-ios, or pipx install pymobiledevice3; or run the app from Xcode",
    )


def _call(words: Sequence[str], filled: dict[str, str]) -> None:
    command = [word.format(**filled) for word in words]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise LatbenchError(
            f"{command[0]} did not finish within {_TIMEOUT_S:g} s",
            hint="unlock the phone, then run the same command again",
        ) from None
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).strip().splitlines()[-4:]
        raise LatbenchError(
            f"{' '.join(command)} failed ({done.returncode}): {' / '.join(lines)}",
            hint="unlock the phone and trust this computer; from iOS 16 on, enable Developer Mode",
        )
