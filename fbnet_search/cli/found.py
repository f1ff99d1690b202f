"""The facts that `fbnet-search` prints of a found network."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fbnet_search.cli.options import same_command
from latbench.cli.output import interval, milliseconds

if TYPE_CHECKING:
    from fbnet_search.latencies import Measured
    from fbnet_search.result import SearchResult
    from latbench.lut import Prediction


def search_facts(
    result: "SearchResult", data: str, command: str, *, several: bool
) -> Iterator[tuple[str, str]]:
    """Yield name and text of each fact.

    Args:
        data: the data set's name.
        command: the command to type next.
        several: whether the network is one of several targets.
    """
    architecture, target_ms = result.architecture, result.target_ms
    space = architecture.space
    yield "found", architecture.notation
    yield "space", f"{space}, head {architecture.head}"
    several_luts = len(result.latencies) > 1
    for one in result.latencies:
        on = f" on {one.target}" if several_luts else ""
        target = (
            "" if several_luts or target_ms is None else f", target {milliseconds(target_ms)} ms"
        )
        yield "predicted", f"{_with_interval(one.predicted)}{on}{target}"
    if several_luts and target_ms is not None:
        yield "target", f"{milliseconds(target_ms)} ms on each"
    if target_ms is not None and result.prediction.ms < result.least_ms:
        yield (
            "unused",
            f"no network within the limits takes {result.recipe.target_share:.0%} of the target",
        )
    yield from _finalist_facts(result)
    for one in result.latencies:
        yield "on", f"{one.target} ({one.provenance})"
    yield (
        "size",
        f"{architecture.macs / 1e6:.4g} M MACs, {architecture.params / 1e6:.4g} M weights",
    )
    for kind, limit in result.limits.items():
        yield kind, f"{limit.spent:,.0f} of at most {limit.limit:,.0f}"
    if result.image_size != space.input_size:
        yield (
            "images",
            f"{result.image_size}x{result.image_size}; latency and size are for "
            f"{space.input_size}x{space.input_size}",
        )
    if result.data["classes"] != space.classes:
        yield (
            "classes",
            f"{result.data['classes']} in {data}; the predicted latency is for {space.classes}, as in "
            "the LUT",
        )
    if several:
        yield "file", f"{result.out}/architecture.json"
    else:
        yield "files", f"{result.out}: architecture.json, events.jsonl, tensorboard/, checkpoint.pt"
    yield "next", command


def _finalist_facts(result: "SearchResult") -> Iterator[tuple[str, str]]:
    target_ms, several = result.target_ms, len(result.latencies) > 1
    if not result.finalists:
        if result.crosses_target:
            command = same_command("--resume", "--verify", "5")
            known = all(one.predicted.bounds for one in result.latencies)
            why = (
                "the 95 % interval reaches above the target"
                if known
                else "the LUT is imported, so the prediction has no interval"
            )
            yield "uncertain", f"{why}; verify finalists with: {command}"
        return
    from fbnet_search.choose.finalists import completed

    assert target_ms is not None
    for one in result.latencies:
        on = f" on {one.target}" if several else ""
        if one.measured is None:
            yield "unmeasured", f"{one.target}: {one.unmeasured}"
        else:
            yield "measured", f"{_with_interval(one.measured)}, normalised to the LUT's run{on}"
    timed = completed(result.finalists)
    within = sum(finalist.worst_ms <= target_ms for finalist in timed)
    for finalist in result.finalists:
        if finalist not in timed:
            why = next(one.unmeasured for one in finalist.latencies if one.measured is None)
            yield "failed", f"{finalist.architecture.notation}: {why}"
    yield "finalists", f"{within} of {len(result.finalists)} measured within the target"
    if not within:
        yield "too slow", "no finalist keeps the target; the fastest was chosen"
    elif result.crosses_target:
        yield "uncertain", "a 95 % interval reaches above the target"


def _with_interval(one: "Prediction | Measured") -> str:
    if one.low is None or one.high is None:
        return f"{milliseconds(one.ms)} ms, uncertainty unknown"
    return f"{milliseconds(one.ms)} ms {interval((one.low, one.high))}"
