"""What runs say of machines whose truth is known: `python bench/synthetic.py [SCENARIO ...] [--json]`.

Each scenario is played through the real measuring loop, the journal and the construction of a LUT; only the
machine is a stand-in (`tests/measure/standin.py`). 89 ops of a small space are timed in sandwiches, with 12
calibration networks; then 40 random networks are predicted. The columns:

    entries   share whose 95 % interval covers the truth, + named by a warning where it does not
    networks  the same of the predictions; a network is named by warned entries in it
    warned    share of all entries with a warning, and which
    bias      the median error of entries

A scenario passes if at least 90 % of entries, and of networks, are covered or named, or if the run refuses.
The exit status is 1 if one does not. On the simulated clock, all scenarios take some minutes; with
`--real-time` runners are processes, and each scenario takes up to `--budget` seconds.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from multiprocessing import Pool
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/measure"))

from standin_play import Verdict, play, stage
from standin_scenarios import SCENARIOS


def _played(task: tuple[str, int, bool, float, bool]) -> Verdict:
    name, seed, real_time, budget_s, thin = task
    with tempfile.TemporaryDirectory() as folder:
        return play(
            name,
            stage(budget_s=budget_s, thin=thin),
            Path(folder) / "journal.sqlite",
            seed=seed,
            real_time=real_time,
        )


def _row(one: Verdict) -> str:
    if one.refused is not None:
        return f"{one.scenario:25} refused: {one.refused[:80]}"
    share = 100 / max(1, one.entries)
    of_networks = 100 / max(1, one.networks)
    kinds = ", ".join(f"{kind} {count}" for kind, count in (one.warnings or {}).items())
    return (
        f"{'' if one.passed else 'FAILED ':7}{one.scenario:25} "
        f"{share * one.entries_covered:4.0f} +{share * one.entries_named:3.0f} "
        f"{of_networks * one.networks_covered:5.0f} +{of_networks * one.networks_named:3.0f} "
        f"{share * one.warned:4.0f} {100 * one.bias:+7.1f} {one.trials:6} {one.tainted:5} "
        f"{one.unconverged:4} {one.distrusted:4} {one.run_s:5.1f} {one.real_s:5.1f}  {kinds}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenario", nargs="*", choices=[[], *SCENARIOS], metavar="SCENARIO")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--budget", type=float, default=20.0, help="seconds for each run")
    parser.add_argument("--real-time", action="store_true", help="with runner processes")
    parser.add_argument("--thin", action="store_true", help="only a third of the space")
    parser.add_argument("--jobs", type=int, default=1, help="scenarios at the same time")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    tasks = [
        (name, options.seed, options.real_time, options.budget, options.thin)
        for name in options.scenario or SCENARIOS
    ]
    verdicts = []
    if not options.json:
        print(
            f"{'':7}{'scenario':25} {'entries %':>9} {'networks %':>10} warned  bias % trials"
            " taint  unc dist   run  real  warnings"
        )
    with Pool(options.jobs) as pool:
        for verdict in pool.imap(_played, tasks):
            verdicts.append(verdict)
            if not options.json:
                print(_row(verdict), flush=True)
    failed = [verdict.scenario for verdict in verdicts if not verdict.passed]
    if options.json:
        print(json.dumps([asdict(one) | {"passed": one.passed} for one in verdicts], indent=1))
    else:
        print(f"{len(verdicts) - len(failed)} of {len(verdicts)} scenarios hold the bar")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
