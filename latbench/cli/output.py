"""How commands print results: JSON, tables, aligned facts."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from latbench.wording import count_of as count_of
from latbench.wording import milliseconds as milliseconds
from latbench.wording import percent as percent

if TYPE_CHECKING:
    from latbench.lut import Correction, Prediction
    from latbench.lut.faster_run import FasterRun
    from latbench.target import Target
    from latbench.workflows.delegation import Delegation


def emit_json(data: Any) -> None:
    """Print `data` as JSON."""
    click.echo(json.dumps(data, indent=1, sort_keys=True))


def emit_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None
) -> None:
    """Print a table; a column whose name ends in '>' is aligned right.

    The first column is never folded; the others are if the terminal is too narrow.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for number, column in enumerate(columns):
        right = column.endswith(">")
        table.add_column(
            column.removesuffix(">"),
            justify="right" if right else "left",
            overflow="fold",
            no_wrap=number == 0,
        )
    for row in rows:
        table.add_row(*[str(cell) for cell in row])
    Console(highlight=False).print(table)


def arithmetic_facts(target: "Target") -> Iterator[tuple[str, Any]]:
    """What the target's models are computed in, if that is not its precision."""
    from latbench.runtime.registry import descriptor

    found = descriptor(target.runtime).computes_in(target.precision, target.accelerator)
    if found is not None:
        yield "computes", found


def emit_facts(facts: Iterable[tuple[str, Any]]) -> None:
    """Print 'name  value' lines with aligned values."""
    pairs = [(name, str(value)) for name, value in facts]
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        click.echo(f"{name:{width}}  {value}")


def faster_run_for_machines(run: "FasterRun | None") -> dict[str, Any] | None:
    """The run in which a unit was faster, as JSON data."""
    return None if run is None else run.model_dump(mode="json") | {"slowdown": run.slowdown}


def interval(bounds: Sequence[float] | None) -> str:
    """'[low, high]' in milliseconds; 'unknown' without an interval."""
    if bounds is None:
        return "unknown"
    return f"[{milliseconds(bounds[0])}, {milliseconds(bounds[1])}]"


def predicted_latency(one: "Prediction") -> str:
    """A predicted latency and its interval, or that it has none."""
    bounds = one.bounds
    said = "uncertainty unknown" if bounds is None else f"95 % interval {interval(bounds)}"
    return f"{milliseconds(one.ms)} ms, {said}"


def described(correction: "Correction") -> str:
    """A LUT's correction in one line, with the number of networks that it was fitted to."""
    offset = f" {correction.offset_ms:+.4f} ms" if correction.offset_ms else ""
    terms = f", {count_of(len(correction.factors), 'factor')}" if correction.factors else ""
    terms += ", boundary costs" if correction.boundary_costs else ""
    fitted = count_of(correction.networks, "network")
    return f"sums x {correction.scale:.4f}{offset}{terms} ({fitted})"


def slowdown_line(slowdown: float) -> str:
    """The slowdown of a device relative to the run of a LUT, in words."""
    if percent(slowdown - 1) == "0.0%":
        return "the device is as fast as in the LUT's run"
    word = "slower" if slowdown > 1 else "faster"
    return f"the device is {percent(abs(slowdown - 1))} {word} than in the LUT's run"


def tell_fallbacks(delegated: "Iterable[Delegation]") -> None:
    """Print one line for each model that an accelerator left to the CPU in part."""
    for one in delegated:
        for key, left in one.fell_back.items():
            click.echo(f"fell back on {one.unit}: {key}: {left}")
