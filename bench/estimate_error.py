"""How far a modelled LUT is from a measured one, where both exist: on the host.

    python bench/estimate_error.py [LUT…]

For each measured LUT a roofline is fitted to what that LUT predicts for three published networks
(FBNet-A, B and C), as if those were all that anybody had published of the machine. Its entries are
compared with the measured ones (the correction included), one by one, and what it predicts for 100
varied networks with what the measured LUT does. Nothing is timed, so the machine need not be quiet.

deviation: standard deviation of log(modelled / measured), which `ENTRY_DEVIATION` is set by; bias:
the mean of that, as a share; mape: mean absolute error; within: share of entries in their 95 % interval;
rank: Spearman's correlation.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from latbench.lut import Lut, predict_latency
from latbench.lut.roofline import Core, Figure, fit_roofline
from latbench.space import published
from latbench.space.design import varied_architectures
from latbench.target import Precision
from latbench.workflows.estimate import modelled_lut

LUTS = sorted((Path(__file__).parents[1] / "luts").glob("host-*.json"))

#: One core of the machine that the shipped LUTs are of: two 256-bit multiply-adds a cycle.
CORES = {Precision.FP32: Core(2.6, 16), Precision.INT8: Core(2.6, 32)}


def compared(lut: Lut) -> dict[str, float | str]:
    """The figures of one comparison."""
    precision, space = lut.target.precision, lut.search_space
    networks = [published(name, space=space) for name in ("fbnet_a", "fbnet_b", "fbnet_c")]
    figures = [
        Figure(str(one), one.ops, predict_latency(lut, one).ms, "published", 0.1)
        for one in networks
    ]
    core = CORES[precision]
    roofline = fit_roofline(core, precision, figures)
    modelled = modelled_lut(lut.target, space, core, roofline, figures, {})
    keys = [key for key in sorted(lut.entries) if "unresolved" not in lut[key].warnings]
    measured = np.array([lut.corrected_ms(key) for key in keys])
    logs = np.log(np.array([modelled[key].ms for key in keys]) / measured)
    low, high = np.array([modelled[key].ci95 for key in keys]).T
    worst = int(np.abs(logs).argmax())

    others = varied_architectures(space, 100, seed=1)
    said = [predict_latency(modelled, other) for other in others]
    true = np.array([predict_latency(lut, other).ms for other in others])
    errors = np.array([one.ms for one in said]) / true - 1
    covered = [one.low <= ms <= one.high for one, ms in zip(said, true, strict=True)]
    return {
        "entries": str(len(keys)),
        "deviation": float(logs.std()),
        "bias": float(np.expm1(logs.mean())),
        "mape": float(np.abs(np.expm1(logs)).mean()),
        "worst": f"{keys[worst]} x{np.exp(logs[worst]):.2f}",
        "within": float(np.mean((low <= measured) & (measured <= high))),
        "rank": float(spearmanr(np.exp(logs) * measured, measured).statistic),
        "network mape": float(np.abs(errors).mean()),
        "network worst": float(np.abs(errors).max()),
        "network within": float(np.mean(covered)),
        "network rank": float(spearmanr([one.ms for one in said], true).statistic),
    }


def main() -> None:
    """Print one block a LUT."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("luts", nargs="*", type=Path, default=LUTS)
    for path in parser.parse_args().luts:
        print(path.name)
        for name, value in compared(Lut.load(path)).items():
            print(
                f"  {name:14}  {value:.3f}" if isinstance(value, float) else f"  {name:14}  {value}"
            )


if __name__ == "__main__":
    main()
