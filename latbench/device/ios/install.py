"""Put the companion app on an iPhone, and start it, by the tools that people have for that.

None of them is part of latbench: Xcode's devicectl on a Mac, go-ios or pymobiledevice3 elsewhere. They
differ in which phones they serve. Up to iOS 16 (an iPhone X ends there) apps are installed over lockdown and
started with a developer disk image mounted; from iOS 17 on the developer services lie behind a tunnel.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latbench.device.catalogue import CatalogueDevice
from latbench.device.ios.device import find_iphone
from latbench.device.ios.lockdown import properties
from latbench.device.ios.way import Cable
from latbench.errors import BadRequest, DeviceUnavailable, LatbenchError

BUNDLE = "org.latbench.companion"
_TIMEOUT_S = 300.0
_NO_TUNNEL_BEFORE = 17  # the first iOS whose developer services want one


@dataclass(frozen=True)
class Tool:
    """A program that installs and starts apps.

    Attributes:
        program: what it is called.
        install, launch: its words, with {udid}, {app} and {bundle} to be filled in.
        mount: what mounts the developer disk image before iOS 17; empty: it does by itself.
        tunnel: what must run beside it from iOS 17 on; None: nothing.
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
    """What came of it.

    Attributes:
        udid: of the phone.
        tool: the program that was used.
        version: of iOS.
        started: whether the app was started too; else `advice` says what to do.
    """

    udid: str
    tool: str
    version: str
    started: bool
    advice: str | None


def install_app(entry: CatalogueDevice, app: Path, unit: str | None) -> Installed:
    """Install the app, which was built and signed by Xcode, and start it if that can be done.

    Raises:
        BadRequest: there is no such app, or the phone is not to be told from others.
        DeviceUnavailable: no phone is attached, or there is no tool that serves it.
        LatbenchError: the tool failed; what it said last is told.
    """
    if app.suffix not in (".ipa", ".app") or not app.exists():
        raise BadRequest(
            f"there is no app {app}",
            hint="build it in Xcode as runner/ios/README.md says, and name its .ipa or .app",
        )
    way = find_iphone(entry, unit, None)
    assert isinstance(way, Cable), "without an address it is a cable"
    version = properties(way.udid).get("ProductVersion", "unknown")
    release = int(version.partition(".")[0]) if version.partition(".")[0].isdecimal() else 0
    tool = choose_tool(release)
    filled = {"udid": way.udid, "app": str(app), "bundle": BUNDLE}
    _call(tool.install, filled)
    try:
        if tool.mount and release < _NO_TUNNEL_BEFORE:
            _call(tool.mount, filled)
        _call(tool.launch, filled)
    except LatbenchError as error:
        tunnel = tool.tunnel if release >= _NO_TUNNEL_BEFORE else None
        beside = (
            f" (from iOS 17 on, to start it from here, run beside this: {tunnel})" if tunnel else ""
        )
        advice = f"open the latbench app on the phone{beside}: {error.message}"
        return Installed(way.udid, tool.name, version, False, advice)
    return Installed(way.udid, tool.name, version, True, None)


def choose_tool(release: int) -> Tool:
    """The tool for a phone with that major release of iOS, among those that are installed.

    devicectl serves iOS 17 and later only.

    Raises:
        DeviceUnavailable: there is none.
    """
    candidates = [GO_IOS, PYMOBILEDEVICE3]
    if sys.platform == "darwin" and release >= _NO_TUNNEL_BEFORE:
        candidates.insert(0, DEVICECTL)
    for tool in candidates:
        if shutil.which(tool.program) is not None:
            return tool
    raise DeviceUnavailable(
        f"there is no tool here that installs apps on iOS {release or 'of an unknown release'}",
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
            f"{command[0]} did not end within {_TIMEOUT_S:g} s",
            hint="unlock the phone, then run the same command again",
        ) from None
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines()[-4:]
        raise LatbenchError(
            f"{' '.join(command)} failed ({done.returncode}): {' / '.join(said)}",
            hint="unlock the phone and trust this computer; Developer Mode must be on from iOS 16 on",
        )
