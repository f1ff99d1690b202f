"""What only root may do on a phone: keep its clocks at their highest, and read its thermal zones.

Root is looked for only when a phone is prepared, for su may ask on the phone's screen. Thermal engines
are left running: without them a phone can damage itself.
"""

import re
from dataclasses import dataclass

from latbench.device.android.link import AdbLink, quote

_ASK_S = 40.0  # somebody may have to tap Allow; Magisk waits 10 s, others 30 s
#: adb as root (adb root), Magisk's and other makers' su, then AOSP's (system/extras/su).
_WAYS = ("", "su -c", "su 0 sh -c")
_POLICIES = "/sys/devices/system/cpu/cpufreq"


@dataclass(frozen=True)
class Root:
    """A way to run commands as root; `way` is what stands before one, nothing where adb itself is root."""

    way: str

    def command(self, command: str) -> str:
        """The command line that runs `command` as root."""
        return f"{self.way} {quote(command)}" if self.way else command


@dataclass(frozen=True)
class Clock:
    """How the clock of a cluster is chosen now.

    Attributes:
        policy: the cluster, as the kernel names it: "policy4".
        governor: the kernel's rule (Linux, Documentation/admin-guide/pm/cpufreq.rst).
        governors: those that there are.
        least_khz, most_khz: between which it chooses.
    """

    policy: str
    governor: str
    governors: tuple[str, ...]
    least_khz: str
    most_khz: str

    @property
    def held(self) -> tuple[str, str, str]:
        """(file, value, value before): the rule that keeps the highest clock, or both limits there."""
        folder = f"{_POLICIES}/{self.policy}"
        if "performance" in self.governors:
            return f"{folder}/scaling_governor", "performance", self.governor
        return f"{folder}/scaling_min_freq", self.most_khz, self.least_khz


def find_root(link: AdbLink) -> Root | None:
    """How commands can be run as root; None if they cannot. The phone's owner may be asked.

    Raises:
        DeviceLost: the phone does not answer.
    """
    for root in map(Root, _WAYS):
        try:
            told = link.shell(root.command("id -u"), timeout_s=_ASK_S)
        except TimeoutError:  # nobody answered the question
            return None
        if told.exit_code == 0 and told.stdout.strip() == "0":
            return root
    return None


def ask_clocks(link: AdbLink, root: Root) -> list[Clock]:
    """How the clocks of all clusters are chosen; those that do not tell are left out.

    Raises:
        DeviceLost, TimeoutError: the phone does not answer.
    """
    names = ("governor", "min_freq", "max_freq", "available_governors")
    files = " ".join(f"$policy/scaling_{name}" for name in names)
    told = link.shell(
        root.command(
            f"cd {_POLICIES} && for policy in policy*; do echo $policy $(cat {files}); done"
        )
    ).stdout
    lines = re.findall(r"^(policy\d+) (\S+) (\d+) (\d+)((?: \S+)*)\s*$", told, re.MULTILINE)
    return [
        Clock(policy, governor, tuple(others.split()), least, most)
        for policy, governor, least, most, others in lines
    ]
