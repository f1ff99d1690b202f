"""The state of the machine that this process runs on, on any operating system."""

import platform
import time

from latbench.device.conditions import Conditions
from latbench.device.host import affinity
from latbench.device.linux import LocalFiles, read_conditions


def host_conditions(files: LocalFiles) -> Conditions:
    """Read the host's state; `affinity` is that of this process."""
    if platform.system() == "Linux":
        return read_conditions(files, affinity.observed_cores())
    import psutil  # every runner is started before a run; this saves Linux 20 ms each time

    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    return Conditions(
        affinity=affinity.observed_cores(),
        load_average=psutil.getloadavg()[0],
        memory_available_mib=psutil.virtual_memory().available / 2**20,
        battery_percent=None if battery is None else float(battery.percent),
        charging=None if battery is None else battery.power_plugged,
        uptime_s=time.time() - psutil.boot_time(),
        build=platform.platform(),
    )
