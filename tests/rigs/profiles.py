"""The properties of the rig's phones.

Features and versions are those that such phones announce (AOSP: adb transport.cpp of the release),
less those that the daemon does not serve: compression of transfers and delayed_ack. Figures of
clocks, batteries and temperatures are made up; nothing is measured with them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Profile:
    """One model of phone.

    Attributes:
        properties: what getprop prints.
        features: what its adb daemon announces.
        max_payload: the largest message that it takes, in bytes.
        version: of the ADB protocol; from 0x01000001 on sums are not checked.
        dumps: what dumpsys prints, by service; others are not there.
        files: contents of files below /proc and /sys, by path.
        fixed_performance: whether `cmd` knows fixed-performance mode and airplane mode (Android 11).
        rooted: whether it has a su that lets a shell in.
    """

    name: str
    properties: Mapping[str, str]
    features: tuple[str, ...]
    max_payload: int
    version: int = 0x01000001
    dumps: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    fixed_performance: bool = True
    rooted: bool = False

    def without(self, feature: str) -> Self:
        """The same phone, had its daemon not this feature."""
        return replace(self, features=tuple(one for one in self.features if one != feature))

    def install(self, root: Path) -> None:
        """Lay out `root` as the phone's file system, with its tools in /system/bin."""
        for folder in ("data/local/tmp", "sdcard", "system/bin", "rig/dumps", "rig/settings"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        lines = "".join(f"[{name}]: [{value}]\n" for name, value in self.properties.items())
        (root / "rig/properties").write_text(lines)
        for service, text in self.dumps.items():
            (root / "rig/dumps" / service).write_text(text)
        for path, text in self.files.items():
            target = root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        if self.fixed_performance:
            (root / "rig/fixed_performance").write_text("false\n")
            (root / "rig/airplane_mode").write_text("disabled\n")
        for tool, script in (_TOOLS | (_ROOT_TOOLS if self.rooted else {})).items():
            target = root / "system/bin" / tool
            target.write_text(f"#!/bin/sh\nrig='{root}/rig'\n{script}")
            target.chmod(0o755)


# Each script finds the rig's own files in $rig.
_TOOLS = {
    "getprop": r"""
[ $# -eq 0 ] && exec cat "$rig/properties"
while read -r line; do
  case $line in "[$1]: ["*) value=${line#*: \[}; echo "${value%]}"; exit 0;; esac
done < "$rig/properties"
echo "$2"
""",
    "dumpsys": r"""
[ -f "$rig/dumps/$1" ] && exec cat "$rig/dumps/$1"
echo "Can't find service: $1" >&2
""",
    "settings": r"""
file="$rig/settings/$2.$3"
case $1 in
  get) if [ -f "$file" ]; then cat "$file"; else echo null; fi;;
  put) echo "$4" > "$file";;
  delete) if rm "$file" 2>/dev/null; then echo "Deleted 1 rows"; else echo "Deleted 0 rows"; fi;;
  *) echo "Invalid command: $1" >&2; exit 255;;
esac
""",
    "cmd": r"""
if [ "$1 $2" = "power set-fixed-performance-mode-enabled" ] && [ -f "$rig/fixed_performance" ]; then
  echo "$3" > "$rig/fixed_performance"
  exit 0
fi
if [ "$1 $2" = "connectivity airplane-mode" ] && [ -f "$rig/fixed_performance" ]; then
  case $3 in
    "") cat "$rig/airplane_mode";;
    enable|disable) echo "${3}d" > "$rig/airplane_mode";;
    *) exit 255;;
  esac
  exit 0
fi
echo "Unknown command: $2"
exit 255
""",
    "id": 'echo "${rig_user-2000}"\n',
    "su": "exit 127\n",
    "am": r"""
[ "$rig_user" = 0 ] || { echo "java.lang.SecurityException: Permission Denial: not allowed"; exit 255; }
echo "am $*" >> "$rig/log"
""",
    "svc": 'echo "svc $*" >> "$rig/log"\n',
    "input": 'echo "input $*" >> "$rig/log"\n',
}

_ROOT_TOOLS = {
    "cat": r"""
case "$PWD/$*" in */thermal/*) [ "$rig_user" = 0 ] || exit 1;; esac
exec /bin/cat "$@"
""",
    "su": r"""
[ -f "$rig/root_is_refused" ] && { echo "Permission denied" >&2; exit 1; }
[ "$1" = -c ] && rig_user=0 exec /bin/sh -c "$2"
""",
}


def _clocks(peaks_khz: tuple[int, ...]) -> dict[str, str]:
    """The files that tell the cores' clocks, running at their peaks."""
    files = {"/sys/devices/system/cpu/possible": f"0-{len(peaks_khz) - 1}\n"}
    for core, peak in enumerate(peaks_khz):
        folder = f"/sys/devices/system/cpu/cpu{core}/cpufreq"
        for name in ("cpuinfo_max_freq", "scaling_max_freq", "scaling_cur_freq"):
            files[f"{folder}/{name}"] = f"{peak}\n"
        files[f"{folder}/scaling_governor"] = "schedutil\n"
    return files


_MEMORY = {
    "/proc/meminfo": "MemTotal: 3800000 kB\nMemAvailable: 1900000 kB\n",
    "/proc/loadavg": "0.52 0.48 0.44 1/1900 4242\n",
}

_BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  status: 2
  health: 2
  present: true
  level: 80
  scale: 100
  voltage: 4200
  temperature: 312
  technology: Li-ion
"""

_POWER = """POWER MANAGER (dumpsys power)

Power Manager State:
  mWakefulness=Asleep
"""

#: The phone of FBNet: Android 9 was its last release. It has no thermal service (Android 10) and no
#: fixed-performance mode (Android 11), but the shell protocol (Android 7).
GALAXY_S8 = Profile(
    name="galaxy-s8",
    properties={
        "ro.product.manufacturer": "samsung",
        "ro.product.brand": "samsung",
        "ro.product.model": "SM-G950U",
        "ro.product.name": "dreamqltesq",
        "ro.product.device": "dreamqltesq",
        "ro.product.cpu.abi": "arm64-v8a",
        "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a,armeabi",
        "ro.build.version.release": "9",
        "ro.build.version.sdk": "28",
        "ro.build.fingerprint": "samsung/dreamqltesq/dreamqltesq:9/RIG/1:user/release-keys",
        "ro.build.type": "user",
        "sys.boot_completed": "1",
        "ro.boot.qemu": "1",  # it says itself that its times mean nothing
        "ro.serialno": "RIG0S8",
    },
    features=("cmd", "stat_v2", "shell_v2"),
    max_payload=256 << 10,
    dumps={"battery": _BATTERY, "power": _POWER},
    files=_clocks((1900800,) * 4 + (2361600,) * 4) | _MEMORY,
    fixed_performance=False,
)

#: A phone of today.
PIXEL_8 = Profile(
    name="pixel-8",
    properties={
        "ro.product.manufacturer": "Google",
        "ro.product.brand": "google",
        "ro.product.model": "Pixel 8",
        "ro.product.name": "shiba",
        "ro.product.device": "shiba",
        "ro.product.cpu.abi": "arm64-v8a",
        "ro.product.cpu.abilist": "arm64-v8a",
        "ro.build.version.release": "14",
        "ro.build.version.sdk": "34",
        "ro.build.fingerprint": "google/shiba/shiba:14/RIG/1:user/release-keys",
        "ro.build.type": "user",
        "sys.boot_completed": "1",
        "ro.boot.qemu": "1",  # it says itself that its times mean nothing
        "ro.soc.model": "Tensor G3",
        "ro.serialno": "RIG0P8",
    },
    features=(
        "shell_v2",
        "cmd",
        "stat_v2",
        "ls_v2",
        "fixed_push_mkdir",
        "apex",
        "fixed_push_symlink_timestamp",
        "sendrecv_v2",
    ),
    max_payload=1 << 20,
    dumps={
        "battery": _BATTERY,
        "power": _POWER,
        "thermalservice": "IsStatusOverride: false\nThermalEventListeners:\n\tcallbacks: 1\n"
        "Thermal Status: 0\nCached temperatures:\n"
        "\tTemperature{mValue=41.2, mType=0, mName=BIG, mStatus=0}\n"
        "\tTemperature{mValue=33.5, mType=3, mName=VIRTUAL-SKIN, mStatus=0}\n",
    },
    files=_clocks((1704000,) * 4 + (2367000,) * 4 + (2914000,)) | _MEMORY,
)
