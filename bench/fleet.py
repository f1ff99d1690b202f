"""How much faster several units are than one: `python bench/fleet.py`.

The units have runners whose runs take a fixed time (`tests/measure/fixed_units.py`), so what is timed is
how well the work is shared and what this end costs, not how fast a machine is. The ratio is that of the
wall times of a whole call of `measure_fleet`, the start of all runners included.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/measure"))

from fixed_units import FixedUnit, fixed_plan

from latbench.measure import Journal, measure_fleet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=120)
    parser.add_argument("--run-ms", type=float, default=10.0, help="what a run takes")
    parser.add_argument("--units", type=int, nargs="+", default=[1, 2, 4, 8])
    options = parser.parse_args()
    plan = fixed_plan(options.subjects, min_samples=8, sentinel_every=24)
    alone_s = None
    print(f"{options.subjects} subjects, runs of {options.run_ms:g} ms")
    print(
        f"{'units':>5} {'s':>7} {'visits':>6} {'of them sentinel':>16} {'speed-up':>8} {'ideal':>6}"
    )
    for count in options.units:
        units = [FixedUnit(f"u{n}", sleep_s=options.run_ms / 1e3) for n in range(count)]
        with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "j") as journal:
            report = measure_fleet(plan, units, journal, fresh=True)
            trials = journal.trials(report.run.id)
        assert report.complete, "no budget was given"
        alone_s = alone_s or report.session_wall_s
        ratio = alone_s / report.session_wall_s
        print(
            f"{count:5} {report.session_wall_s:7.2f} {len(trials):6} "
            f"{sum(trial.role.watches for trial in trials):16} {ratio:8.2f} {ratio / count:6.0%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
