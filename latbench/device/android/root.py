"""Root access to a phone, to hold its clocks at their highest and to read its thermal zones.

Root is requested only if the phone is prepared, since su may ask on the phone's screen. Thermal engines
keep running: without them a phone can damage itself.
"""

import re
from dataclasses import dataclass

from latbench.device.android.adb.link import AdbLink, quote

_ANSWER_S = 40.0  # for the user to tap Allow; Magisk waits 10 s, others 30 s
#: adb as root (adb root), Magisk's and other makers' su, then AOSP's (system/extras/su).
_PREFIXES = ("", "su -c", "su 0 sh -c")
_POLICIES = "/sys/devices/system/cpu/cpufreq"


@dataclass(frozen=True)
class Root:
    """How to run commands as root: by a prefix, which is empty if adb itself is root."""

    prefix: str

    def command(self, command: str) -> str:
        """The command line that runs `command` as root."""
        return f"{self.prefix} {quote(command)}" if self.prefix else command


@dataclass(frozen=True)
class Clock:
    """The present clock settings of a cluster.

    Attributes:
        policy: the kernel's name of the cluster, such as "policy4".
        governor: the active governor (Linux, Documentation/admin-guide/pm/cpufreq.rst).
        governors: the available ones.
        least_khz, most_khz: the limits of the clock.
    """

    policy: str
    governor: str
    governors: tuple[str, ...]
    least_khz: str
    most_khz: str

    @property
    def held(self) -> tuple[str, str, str]:
        """(file, value, present value) that hold the highest clock, by the governor or the lower limit."""
        folder = f"{_POLICIES}/{self.policy}"
        if "performance" in self.governors:
            return f"{folder}/scaling_governor", "performance", self.governor
        return f"{folder}/scaling_min_freq", self.most_khz, self.least_khz


def find_root(link: AdbLink) -> Root | None:
    """Find out how to run commands as root; None if that is impossible. The phone may ask its user.

    Raises:
        DeviceLost: the phone does not answer.
    """
    for root in map(Root, _PREFIXES):
        try:
            result = link.shell(root.command("id -u"), timeout_s=_ANSWER_S)
        except TimeoutError:  # nobody answered on the phone
            return None
        if result.exit_code == 0 and result.stdout.strip() == "0":
            return root
    return None


def query_clocks(link: AdbLink, root: Root) -> list[Clock]:
    """The clock settings of all clusters; those that cannot be read are left out.

    Raises:
        DeviceLost, TimeoutError: the phone does not answer.
    """
    names = ("governor", "min_freq", "max_freq", "available_governors")
    files = " ".join(f"$policy/scaling_{name}" for name in names)
    output = link.shell(
        root.command(
            f"cd {_POLICIES} && for policy in policy*; do echo $policy $(cat {files}); done"
        )
    ).stdout
    lines = re.findall(r"^(policy\d+) (\S+) (\d+) (\d+)((?: \S+)*)\s*$", output, re.MULTILINE)
    return [
        Clock(policy, governor, tuple(others.split()), least, most)
        for policy, governor, least, most, others in lines
    ]
