"""How much faster several units are than one: `python bench/fleet.py`.

The units have runners whose runs take a fixed time (`tests/measure/fixed_units.py`), so what is timed is
how well the work is shared and what this end costs, not how fast a machine is. The ratio is that of the
wall times of a whole call of `measure_fleet`, the start of all runners included.

With `--daemons` each unit is a phone behind an ADB daemon of its own (`tests/rigs/device_daemon.py`), to
which files are sent and whose state is asked; all daemons and phones run on this machine beside latbench.
"""

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/measure"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from fixed_units import FixedUnit, fixed_plan

from latbench.device.base import Device
from latbench.device.registry import UnitSelector, open_devices
from latbench.files import sha256_of
from latbench.measure import Journal, Plan, Workload, measure_fleet
from tests.rigs import fixed_phone
from tests.rigs.device_daemon import DeviceDaemon
from tests.rigs.profiles import GALAXY_S8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", type=int, default=120)
    parser.add_argument("--run-ms", type=float, default=10.0, help="what a run takes")
    parser.add_argument("--units", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--daemons", action="store_true", help="phones over ADB")
    options = parser.parse_args()
    plan = fixed_plan(options.workloads, min_samples=8, sentinel_every=24)
    sleep_s = options.run_ms / 1e3
    alone_s = None
    print(f"{options.workloads} workloads, runs of {options.run_ms:g} ms")
    print(
        f"{'units':>5} {'s':>7} {'visits':>6} {'of them sentinel':>16} {'speed-up':>8} {'ideal':>6}"
    )
    for count in options.units:
        with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
            folder = Path(name)
            journal = stack.enter_context(Journal(folder / "journal"))
            units: Sequence[Device]
            if options.daemons:
                units = stack.enter_context(_phones(folder, count, sleep_s))
                here = _on_disk(plan, folder)
            else:
                units = [FixedUnit(f"u{n}", sleep_s=sleep_s) for n in range(count)]
                here = plan
            report = measure_fleet(here, units, journal, fresh=True)
            trials = journal.trials(report.run.id)
        assert report.complete, "no budget was given"
        alone_s = alone_s or report.session_wall_s
        ratio = alone_s / report.session_wall_s
        print(
            f"{count:5} {report.session_wall_s:7.2f} {len(trials):6} "
            f"{sum(trial.role.watches for trial in trials):16} {ratio:8.2f} {ratio / count:6.0%}",
            flush=True,
        )


@contextlib.contextmanager
def _phones(folder: Path, count: int, sleep_s: float) -> Iterator[Sequence[Device]]:
    """So many phones with runners of fixed times, opened; latbench's home is in `folder`."""
    os.environ |= {"LATBENCH_HOME": str(folder / "home"), "ANDROID_ADB_SERVER_PORT": "1"}
    fixed_phone.equip(folder / "home")
    with contextlib.ExitStack() as stack:
        where = []
        for number in range(count):
            root = folder / f"phone{number}"
            daemon = stack.enter_context(DeviceDaemon(root, GALAXY_S8, map_input=True))
            fixed_phone.tell(root, sleep_s=sleep_s)
            where.append(UnitSelector(unit=daemon.address))
        units = open_devices("galaxy-s8", where)
        for unit in units:
            stack.callback(unit.close)
        yield units


def _on_disk(plan: Plan, folder: Path) -> Plan:
    """The same plan, of files that are there."""

    def put(workload: Workload) -> Workload:
        path = folder / f"{workload.key}.onnx"
        path.write_text(workload.key)
        return replace(workload, path=path, sha256=sha256_of(path.read_bytes()))

    return replace(
        plan,
        workloads=tuple(map(put, plan.workloads)),
        sentinel=plan.sentinel and put(plan.sentinel),
    )


if __name__ == "__main__":
    main()
