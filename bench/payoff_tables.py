"""The verdicts and tables that the payoff bench prints."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from latbench.target import Runtime

EQUAL_MS = 0.02  # largest difference of latencies that are called equal


@dataclass(frozen=True)
class Group:
    """Networks searched for one runtime: their accuracies, and their latencies, ms, on every runtime."""

    accuracies: Sequence[float]
    ms: dict[Runtime, Sequence[float]]


def verdict(target: Runtime, groups: dict[Runtime, Group], error: float | None) -> str:
    """Whether the networks searched for `target` are the fastest of their accuracy class there.

    Args:
        target: the runtime in question.
        groups: the networks searched for each runtime.
        error: the standard error of one network's accuracy; None if unknown.
    """
    own = groups[target]
    # The largest difference of two networks' accuracies within a class.
    allowed = None if error is None else 2 * error * math.sqrt(2)

    def fastest(group: Group, accuracy: float) -> float:
        """The least latency in the class around `accuracy`, ms; infinite if the group has none there."""
        pairs = zip(group.accuracies, group.ms[target], strict=True)
        within = [ms for one, ms in pairs if allowed is None or abs(one - accuracy) <= allowed]
        return min(within, default=math.inf)

    lines: list[str] = []
    behind: list[Runtime] = []
    level: list[Runtime] = []
    ahead: list[Runtime] = []
    for runtime, other in groups.items():
        if runtime is target:
            continue
        pairs = [(fastest(other, one), fastest(own, one)) for one in own.accuracies]
        ratios = [theirs / mine for theirs, mine in pairs if theirs < math.inf]
        if not ratios:
            lines.append(f"  no network for {runtime} has the accuracy of an own one")
            continue
        factors = ", ".join(f"{ratio:.2f}x" for ratio in ratios)
        lines.append(
            f"  the fastest for {runtime} takes {factors} as long there, in {len(ratios)} of "
            f"{len(own.accuracies)} classes around own ones"
        )
        ratio = statistics.geometric_mean(ratios)
        if ratio < 1 - EQUAL_MS:
            behind.append(runtime)
        else:
            (ahead if ratio > 1 + EQUAL_MS else level).append(runtime)
    if allowed is None:
        head = "unknown whether accuracies match"
    elif behind:
        head = f"NOT the fastest of their accuracy class: {', '.join(map(str, behind))}"
    elif level:
        head = f"as fast as those for {', '.join(map(str, level))}, to {EQUAL_MS:.0%}"
    elif ahead:
        head = f"the fastest of their accuracy class, against {len(ahead)} of {len(groups) - 1}"
    else:
        head = "no other network is in the accuracy class of an own one"
    within = "" if allowed is None else f" (accuracies match within {allowed:.1%})"
    return "\n".join([f"networks searched for {target}, on it: {head}{within}", *lines])


def deviation(values: Iterable[float]) -> float:
    """The standard deviation of a sample; 0 for one value."""
    known = list(values)
    return statistics.stdev(known) if len(known) > 1 else 0.0


def print_course(results: dict[str, Any]) -> None:
    """Print entropy, expected latency and accuracy over the epochs of each search."""
    for key, result in sorted(results.items()):
        if key.startswith(("search ", "transfer ")):
            for found in result["found"].values():
                _print_course_of(key, found)


def _print_course_of(search: str, found: dict[str, Any]) -> None:
    print(f"\n{search}: target {found['target_ms']:.4f} ms, found {found['predicted_ms']:.4f}")
    for one in found["course"]:
        accuracy = one["theta_accuracy"]
        print(
            f"  epoch {one['epoch']:2} {one['phase']:8} w loss {one['w_loss']:.2f}, "
            f"theta's accuracy {'-' if accuracy is None else f'{accuracy:.1%}'}, E[LAT] "
            f"{one['expected_ms']:.4f} ms, entropy {one['entropy']:.2f}"
        )
