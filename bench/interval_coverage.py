"""Does ci95 cover what it should, and does something warn where it cannot? By simulation.

    python bench/interval_coverage.py [--draws N] [--json]

Four tables, of the real `summarise`, `warnings_of`, `modes` and `outliers`:

    coverage  share of draws whose ci95 holds the true median, and share that is warned of
    warnings  which warnings those are
    modes     share of samples in which `modes` sees more than one, where there is one and where
              there are two
    outliers  share of values that `outliers` counts

The interval's assumption holds for the first five rows of the first table, and fails for the rest.
A round is a level and 8 samples around it (log-normal, 1 %) whose median is that level exactly, so
the true median is that of the levels. Levels have a standard deviation of 1 %. Where the level
moves, the truth is where it began, which is what a fresh run would find. Warnings are drawn a
quarter as often as intervals, since they take longest. All of it takes two minutes.
"""

import argparse
import json
import math
import platform
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latbench.measure.diagnostics import WARNINGS, warnings_of
from latbench.measure.modes import modes, outliers
from latbench.statistics import summarise

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Floats]

SEED = 20_240_611
ROUNDS = (2, 3, 4, 6, 8, 12, 20, 40)
SIZES = (8, 12, 20, 40, 100, 200, 800)
SAMPLES = 8
LEVEL_NS = 1e6
SPREAD = 0.01

#: The median of a gamma distribution of shape 2: (1 + x) exp(-x) = 1/2.
GAMMA_2_MEDIAN = 1.678347


def normal(rng: np.random.Generator, draws: int, n: int) -> Floats:
    return rng.standard_normal((draws, n))


def log_normal(rng: np.random.Generator, draws: int, n: int) -> Floats:
    return np.exp(rng.standard_normal((draws, n))) - 1


def gamma(rng: np.random.Generator, draws: int, n: int) -> Floats:
    return rng.gamma(2, size=(draws, n)) - GAMMA_2_MEDIAN


def contaminated(rng: np.random.Generator, draws: int, n: int) -> Floats:
    """One round in ten is half as slow again."""
    slow = rng.random((draws, n)) < 0.1
    median = NormalDist().inv_cdf(0.5 / 0.9)
    return rng.standard_normal((draws, n)) + slow * 0.5 / SPREAD - median


def bimodal(rng: np.random.Generator, draws: int, n: int) -> Floats:
    """Four rounds in ten are 5 standard deviations slower."""
    slow = rng.random((draws, n)) < 0.4
    median = NormalDist().inv_cdf(0.5 / 0.6)
    return rng.standard_normal((draws, n)) + 5 * slow - median


def torn(rng: np.random.Generator, draws: int, n: int) -> Floats:
    """Rounds are independent, but almost half are half as slow again: no round is near the median."""
    slow = rng.random((draws, n)) < 0.49
    median = NormalDist().inv_cdf(0.5 / 0.51)
    return rng.standard_normal((draws, n)) + slow * 0.5 / SPREAD - median


def drifting(rng: np.random.Generator, draws: int, n: int) -> Floats:
    """The level rises by 5 standard deviations from the first round to the last."""
    return rng.standard_normal((draws, n)) + np.linspace(0, 5, n)


def stepping(rng: np.random.Generator, draws: int, n: int) -> Floats:
    """The level rises by 5 standard deviations at once, a quarter to three quarters in."""
    at = rng.integers(math.ceil(n / 4), math.floor(3 * n / 4) + 1, (draws, 1))
    return rng.standard_normal((draws, n)) + 5 * (np.arange(n) >= at)


def autoregressive(phi: float) -> Draw:
    def draw(rng: np.random.Generator, draws: int, n: int) -> Floats:
        values = rng.standard_normal((draws, n))
        values[:, 1:] *= math.sqrt(1 - phi**2)
        for i in range(1, n):
            values[:, i] += phi * values[:, i - 1]
        return values

    return draw


#: Levels in standard deviations from their true median.
HOLDS: dict[str, Draw] = {
    "normal": normal,
    "log-normal": log_normal,
    "gamma 2": gamma,
    "10 % slow x1.5": contaminated,
    "bimodal 60/40": bimodal,
}
FAILS: dict[str, Draw] = {
    "two levels 51/49": torn,
    "drift of 5 sd": drifting,
    "step of 5 sd": stepping,
    "AR(1) 0.3": autoregressive(0.3),
    "AR(1) 0.6": autoregressive(0.6),
    "AR(1) 0.9": autoregressive(0.9),
}

#: Samples with one mode and with two, for `modes` and `outliers`.
UNIMODAL: dict[str, Draw] = {
    "uniform": lambda rng, draws, n: rng.random((draws, n)),
    "normal": normal,
    "log-normal 0.5": lambda rng, draws, n: np.exp(rng.normal(0, 0.5, (draws, n))),
    "log-normal 1": log_normal,
    "gamma 2": gamma,
    "exponential": lambda rng, draws, n: rng.exponential(size=(draws, n)),
    "Laplace": lambda rng, draws, n: rng.laplace(size=(draws, n)),
}
TWO_MODES = ((5, 0.2), (5, 0.5), (8, 0.2), (8, 0.5))


def rounds_of(rng: np.random.Generator, levels: Floats) -> NDArray[np.int64]:
    """Samples (draws, rounds, SAMPLES), ns, of levels (draws, rounds) in standard deviations."""
    noise = np.exp(rng.normal(0, 0.01, (*levels.shape, SAMPLES)))
    noise /= np.median(noise, axis=-1, keepdims=True)
    return np.rint(LEVEL_NS * (1 + SPREAD * levels[..., None]) * noise).astype(np.int64)


def coverage(draws: int) -> list[dict[str, Any]]:
    rows = []
    for name, draw in (HOLDS | FAILS).items():
        for n in ROUNDS:
            rng = np.random.default_rng((SEED, n))
            samples = rounds_of(rng, draw(rng, draws, n))
            intervals = np.array([summarise(list(rounds)).ci95 for rounds in samples])
            truth = LEVEL_NS / 1e6
            covered = (intervals[:, 0] <= truth) & (truth <= intervals[:, 1])
            few = samples[: max(1, draws // 4)]
            found = [warnings_of(list(rounds)) for rounds in few]
            kinds = Counter(kind for warnings in found for kind in warnings)
            rows.append(
                {
                    "levels": name,
                    "holds": name in HOLDS,
                    "rounds": n,
                    "coverage": float(covered.mean()),
                    "warned": sum(map(bool, found)) / len(few),
                    "warnings": {kind: kinds[kind] / len(few) for kind in WARNINGS},
                }
            )
    return rows


def modes_seen(draws: int) -> list[dict[str, Any]]:
    rows = []
    for n in SIZES:
        rng = np.random.default_rng((SEED, n))
        samples = {name: draw(rng, draws, n) for name, draw in UNIMODAL.items()}
        for distance, share in TWO_MODES:
            slow = rng.random((draws, n)) < share
            samples[f"{distance} sd, {share:.0%}"] = normal(rng, draws, n) + distance * slow
        seen = {
            name: float(np.mean([len(modes(row)) > 1 for row in drawn]))
            for name, drawn in samples.items()
        }
        rows.append({"values": n, "seen": seen})
    return rows


def outliers_counted(draws: int) -> list[dict[str, Any]]:
    rows = []
    for n in SIZES:
        rng = np.random.default_rng((SEED, n))
        counted = {}
        for name, draw in UNIMODAL.items():
            found = [outliers(row) for row in draw(rng, draws, n)]
            counted[name] = {
                "low": sum(each.low for each in found) / draws / n,
                "high": sum(each.high for each in found) / draws / n,
            }
        rows.append({"values": n, "counted": counted})
    return rows


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    print(f"\n{title}")
    for row in [head, *rows]:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *cells]))


def print_tables(result: dict[str, Any]) -> None:
    about = result["about"]
    print(
        f"{about['draws']} draws, seed {about['seed']}, numpy {about['numpy']}, "
        f"Python {about['python']}, {about['machine']}"
    )
    rows = result["coverage"]
    levels = list(dict.fromkeys(row["levels"] for row in rows))
    cells = {(row["levels"], row["rounds"]): row for row in rows}
    print_table(
        "coverage of ci95, % / warned of, %, by rounds",
        ["levels", *map(str, ROUNDS)],
        [
            [name]
            + [
                f"{100 * cell['coverage']:.1f} /{100 * cell['warned']:4.0f}"
                for cell in (cells[name, n] for n in ROUNDS)
            ]
            for name in levels
        ],
    )
    for n in (8, 20, 40):
        print_table(
            f"warnings, %, of {n} rounds",
            ["levels", *WARNINGS],
            [
                [name] + [f"{100 * cells[name, n]['warnings'][kind]:.1f}" for kind in WARNINGS]
                for name in levels
            ],
        )
    seen = result["modes"]
    print_table(
        "more than one mode seen, %, by values",
        ["values of", *(str(row["values"]) for row in seen)],
        [[name, *(f"{100 * row['seen'][name]:.1f}" for row in seen)] for name in seen[0]["seen"]],
    )
    counted = result["outliers"]
    print_table(
        "values counted as outliers, low / high, %, by values",
        ["values of", *(str(row["values"]) for row in counted)],
        [
            [name]
            + [
                f"{100 * row['counted'][name]['low']:.2f} / {100 * row['counted'][name]['high']:.2f}"
                for row in counted
            ]
            for name in UNIMODAL
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulated coverage of ci95, and of warnings.")
    parser.add_argument("--draws", type=int, default=2000, help="samples for each figure")
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    options = parser.parse_args()
    if options.draws < 1:
        parser.error("--draws must be positive")
    result = {
        "about": {
            "draws": options.draws,
            "seed": SEED,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
        "coverage": coverage(options.draws),
        "modes": modes_seen(options.draws),
        "outliers": outliers_counted(options.draws),
    }
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        print_tables(result)


if __name__ == "__main__":
    main()
