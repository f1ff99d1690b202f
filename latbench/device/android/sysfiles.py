"""Reads the files of a phone's /proc and /sys that describe its state, in one round trip."""

import re
from typing import Self

from latbench.device.android.adb.link import AdbLink
from latbench.device.android.root import Root

_MARK = "latbench-file="
_PROC = ("loadavg", "meminfo", "stat", "uptime", "sys/kernel/osrelease")
_CLOCKS = ("cpuinfo_max_freq", "scaling_cur_freq", "scaling_governor", "scaling_max_freq")
_SYS = {
    "devices/system/cpu": " ".join(f"cpu[0-9]*/cpufreq/{name}" for name in _CLOCKS),
    "class/thermal": "thermal_zone*/type thermal_zone*/temp",
    "class/power_supply": "*/type */scope */status */capacity",
}
_QUERY = "; ".join(
    [f"echo; echo {_MARK}proc/{name}; cat /proc/{name}" for name in _PROC]
    + [
        f"cd /sys/{folder} && for file in {names}; do "
        f"[ -f $file ] && echo && echo {_MARK}sys/{folder}/$file && cat $file; done"
        for folder, names in _SYS.items()
    ]
)
_TIMEOUT_S = 30.0


class PhoneFiles:
    """`latbench.device.linux.Files` of a phone, as they were at one moment."""

    def __init__(self, texts: dict[str, str]) -> None:
        self._texts = texts

    @classmethod
    def query(cls, link: AdbLink, root: Root | None = None) -> Self:
        """Read all of them; as root also those that newer phones hide from a shell.

        Raises:
            DeviceLost, TimeoutError: the phone does not answer.
        """
        command = f"{{ {_QUERY}; }} 2>/dev/null"
        if root is not None:
            command = root.command(command)
        parts = re.split(
            rf"^{_MARK}(\S+)\r?\n",
            link.shell(command, timeout_s=_TIMEOUT_S).stdout,
            flags=re.MULTILINE,
        )
        return cls({f"/{name}": text for name, text in zip(parts[1::2], parts[2::2], strict=True)})

    def read(self, path: str) -> str | None:
        return self._texts.get(path, "").strip().strip("\0") or None

    def names(self, folder: str) -> list[str]:
        below = f"{folder}/"
        return sorted(
            {
                path.removeprefix(below).split("/")[0]
                for path in self._texts
                if path.startswith(below)
            }
        )
