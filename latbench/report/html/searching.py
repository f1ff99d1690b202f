"""The section on a search: trajectory, Pareto front and the resulting networks."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from latbench.errors import BadRequest, CannotRead
from latbench.lut import Lut
from latbench.report.html.luts import series_of
from latbench.report.html.page import Chart, Figure, Section, Table
from latbench.space import Architecture, OpSpec, read_architecture
from latbench.space.search_space import size_text
from latbench.wording import count_of, milliseconds


def search(folder: Path, luts: Mapping[str, Lut]) -> Section:
    """The section on the search that `fbnet-search --out folder` wrote.

    Raises:
        LatbenchError: architecture.json or events.jsonl is missing or invalid.
    """
    results = _results(folder)
    epochs, start = _events(folder / "events.jsonl")
    figures = [_networks(folder, results, epochs)] if len(results) > 1 else []
    for tag in _tags(epochs):
        figures += _trajectory(
            _of(epochs, tag), _target(tag, start), f", target {tag}" if tag else ""
        )
    figures += _front([one for tag in _tags(epochs) for one in _of(epochs, tag)])
    for name, data, architecture in results:
        figures += _latencies(name, data)
        figures.append(_network(name, architecture, _lut_of(data, luts)))
    text = " ".join(_summary(data) for _, data, _ in results)
    return Section("search", "Search: trajectory and result", tuple(figures), text)


Result = tuple[str, dict[str, Any], Architecture]


def _results(folder: Path) -> list[Result]:
    """The resulting networks: one, or one for each target, with the name of the target."""
    front = folder / "front.json"
    if not front.is_file():
        return [_result_at("", folder / "architecture.json")]
    try:
        rows = json.loads(front.read_text(encoding="utf-8"))
        names = [Path(row["folder"]).name for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise BadRequest(f"{front} was not written by fbnet-search: {error}") from None
    return [_result_at(name, folder / name / "architecture.json") for name in names]


def _result_at(name: str, path: Path) -> Result:
    architecture = read_architecture(str(path))
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    _require_numbers(path, data, ("predicted_ms", "measured_ms", "target_ms"))
    for latency in data.get("latencies", ()):
        _require_numbers(path, latency, ("predicted_ms", "measured_ms"))
    return name, data, architecture


#: The numbers of an event, each for every target as `key@target` too.
_EVENT_NUMBERS = frozenset(
    {
        *("epoch", "expected_ms", "predicted_ms", "entropy"),
        *("w_accuracy", "theta_accuracy", "target_ms"),
    }
)


def _require_numbers(where: object, data: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Check that what `data` has under `keys` are numbers; null and missing keys are allowed.

    Raises:
        BadRequest: a value is something else, such as true or text.
    """
    for key in keys:
        value = data.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise BadRequest(f"{where}: {key} must be a number, got {value!r}")


def _networks(
    folder: Path, results: Sequence[Result], epochs: Sequence[Mapping[str, Any]]
) -> Figure:
    """The networks of several targets by latency and accuracy, and their Pareto front."""
    axis, note, values = _ranked_by(folder, results, epochs)
    rows, points = [], []
    front = _undominated(
        [
            (float(data["predicted_ms"]), value)
            for (_, data, _), value in zip(results, values, strict=True)
        ]
    )
    for number, ((name, data, architecture), value) in enumerate(zip(results, values, strict=True)):
        ms = float(data["predicted_ms"])
        shown = f"{value:.1%}" if axis == "accuracy" else f"{value:.1f}"
        measured = data.get("measured_ms")
        size = (f"{architecture.macs / 1e6:.1f}", f"{architecture.params / 1e6:.2f}")
        timed = "" if measured is None else milliseconds(measured)
        own = () if axis == "M MACs" else (shown,)
        on_front = "yes" if number in front else "no"
        rows.append((name, milliseconds(ms), timed, *own, *size, on_front, architecture.notation))
        points.append(
            {
                "x": ms,
                "y": value,
                "label": name,
                "s": 0 if number in front else 5,
                "t": f"{name}\n{milliseconds(ms)} ms, {axis} {shown}",
            }
        )
    value_column = () if axis == "M MACs" else (f"{axis}>",)
    columns = (
        "target", "predicted ms>", "measured ms>", *value_column, "M MACs>", "M weights>",
        "on the front", "layers",
    )  # fmt: skip
    line = [[points[number]["x"], points[number]["y"]] for number in front]
    return Figure(
        "Networks found",
        Table("networks found for several targets", columns, rows),
        Chart(
            "scatter",
            f"{axis} against predicted latency of {count_of(len(points), 'network')}, "
            f"{len(front)} on the Pareto front",
            {
                "points": points,
                "lines": [{"points": line, "step": True}],
                "xlabel": "predicted ms",
                "ylabel": axis,
            },
            ("on the front", "", "", "", "", "not on the front"),
        ),
        note,
    )


def _ranked_by(
    folder: Path, results: Sequence[Result], epochs: Sequence[Mapping[str, Any]]
) -> tuple[str, str, list[float]]:
    """How the networks are ranked: name of the axis, a note on it, and a value for each network."""
    trained = [
        _test_accuracy(folder / name / "training.json", architecture)
        for name, _, architecture in results
    ]
    tested = [one for one in trained if one is not None]
    if len(tested) == len(results):
        return "accuracy", "Test accuracy of the trained networks.", tested
    last = epochs[-1] if epochs else {}
    supernet = [last.get(f"theta_accuracy@{name}") for name, _, _ in results]
    accuracies = [float(one) for one in supernet if one is not None]
    if len(accuracies) == len(results):
        note = (
            "Accuracy of the supernet in the last epoch, with networks sampled for each target, on the "
            "images that train the architecture parameters. For the networks' own accuracy, train each with "
            "fbnet-train into its own folder, and make this page again with latbench report --search."
        )
        return "accuracy", note, accuracies
    return "M MACs", "", [architecture.macs / 1e6 for _, _, architecture in results]


def _test_accuracy(path: Path, architecture: Architecture) -> float | None:
    """The test accuracy that fbnet-train wrote; None if it has not trained this network."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        same = data["architecture"]["layers"] == architecture.notation
        _require_numbers(path, data, ("test_accuracy",))
        return float(data["test_accuracy"]) if same else None
    except OSError:
        return None
    except (ValueError, TypeError, KeyError):
        raise BadRequest(f"{path} was not written by fbnet-train") from None


def _undominated(points: Sequence[tuple[float, float]]) -> list[int]:
    """The indices of the Pareto front of (latency, accuracy), the fastest first."""
    front: list[int] = []
    order = sorted(range(len(points)), key=lambda number: (points[number][0], -points[number][1]))
    for number in order:
        if not front or points[number][1] > points[front[-1]][1]:
            front.append(number)
    return front


def _tags(epochs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The tags of values in events: the target of each search that shares the supernet, or ''."""
    tags = (key.partition("@")[2] for one in epochs for key in one if key.startswith("expected_ms"))
    return list(dict.fromkeys(tags))


def _of(epochs: Sequence[Mapping[str, Any]], tag: str) -> list[dict[str, Any]]:
    """The epochs of one search: its own values, and those shared by all."""
    own = []
    for one in epochs:
        shared = {key: value for key, value in one.items() if "@" not in key}
        tagged = {
            key.partition("@")[0]: value for key, value in one.items() if key.endswith(f"@{tag}")
        }
        own.append(shared | (tagged if tag else {}))
    return own


def _target(tag: str, start: Mapping[str, Any]) -> float | None:
    """The target of the search with this tag, milliseconds; None without a target."""
    if tag:
        return float(tag.removesuffix("ms"))
    targets = start.get("targets_ms", [start.get("target_ms")])
    return targets[0] if targets else None


def _summary(result: Mapping[str, Any]) -> str:
    parts = [f"Found {result['layers']}"]
    if result.get("predicted_ms") is not None:
        parts.append(f"predicted {milliseconds(result['predicted_ms'])} ms")
    if result.get("target_ms") is not None:
        parts.append(f"for a target of {milliseconds(result['target_ms'])} ms")
    if result.get("measured_ms") is not None:
        parts.append(f"measured {milliseconds(result['measured_ms'])} ms")
    targets = [f"{one['target']} ({one['provenance']})" for one in result.get("latencies", ())]
    on = f" on {' and '.join(targets)}" if targets else ""
    return f"{', '.join(parts)}{on}."


def _events(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The epochs of a search, and its start event."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise CannotRead.because(
            path, error, hint="give the folder that fbnet-search wrote with --out"
        ) from None
    epochs: dict[int, dict[str, Any]] = {}
    start: dict[str, Any] = {}
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
        except ValueError:
            if number == len(lines):  # cut short when the search was killed
                break
            raise BadRequest(f"{path}, line {number}: not JSON") from None
        if not isinstance(event, dict):
            raise BadRequest(f"{path}, line {number}: not a JSON object")
        numbers = (key for key in event if key.partition("@")[0] in _EVENT_NUMBERS)
        _require_numbers(f"{path}, line {number}", event, numbers)
        if event.get("event") == "start":
            start = event
        elif event.get("event") == "epoch":
            epochs[int(event["epoch"])] = event
    return [epochs[number] for number in sorted(epochs)], start


def _trajectory(
    epochs: Sequence[Mapping[str, Any]], target_ms: float | None, of: str
) -> list[Figure]:
    """Latency, entropy and accuracy by epoch; `of` is appended to the headings."""
    if not epochs:
        return []
    columns = ("epoch", "phase", "expected ms>", "most probable ms>", "entropy>", "accuracy>")
    rows = [
        (
            str(one["epoch"]),
            str(one["phase"]),
            milliseconds(one["expected_ms"]),
            milliseconds(one["predicted_ms"]),
            f"{one['entropy']:.3f}",
            f"{one.get('theta_accuracy', one.get('w_accuracy', 0.0)):.1%}",
        )
        for one in epochs
    ]
    table = Table("epochs of the search", columns, rows)
    panels: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
        ("Latency", "ms", (("expected_ms", "expected over all candidates"),
                           ("predicted_ms", "of the most probable network"))),
        ("Entropy", "nats per layer", (("entropy", "entropy"),)),
        ("Accuracy of the supernet", "share", (("w_accuracy", "while weights train"),
                                               ("theta_accuracy", "while architecture parameters train"))),
    )  # fmt: skip
    figures = []
    for heading, unit, series in panels:
        points = [
            {
                "x": one["epoch"],
                "y": one[key],
                "s": number,
                "t": f"epoch {one['epoch']} ({one['phase']})\n{name}: {one[key]:.4g} {unit}",
            }
            for number, (key, name) in enumerate(series)
            for one in epochs
            if key in one
        ]
        values = [point["y"] for point in points]
        target = target_ms if unit == "ms" else None
        low, high = min(values), max(values)
        if target is not None:
            low, high = min(low, target), max(high, target)
            points += [
                {"x": one["epoch"], "y": target, "s": 3, "t": f"target {target:g} ms"}
                for one in epochs
            ]
        names = [name for _, name in series]
        figures.append(
            Figure(
                f"{heading}{of}",
                table,
                Chart(
                    "time",
                    f"{heading}{of} over {count_of(len(epochs), 'epoch')}",
                    {"points": points, "range": [low, high], "xlabel": "epoch", "ylabel": unit},
                    (*names, *[""] * (3 - len(names)), "target") if target else tuple(names),
                ),
            )
        )
    return figures


def _front(epochs: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """Epochs by latency and accuracy, and their Pareto front."""
    searched = [one for one in epochs if "theta_accuracy" in one]
    if len(searched) < 2:
        return []
    numbers = _undominated([(one["expected_ms"], one["theta_accuracy"]) for one in searched])
    front = [searched[number] for number in numbers]
    on_front = {id(one) for one in front}
    points = [
        {
            "x": one["expected_ms"],
            "y": one["theta_accuracy"],
            "s": 0 if id(one) in on_front else 5,
            "t": f"epoch {one['epoch']}\nexpected {milliseconds(one['expected_ms'])} ms\n"
            f"accuracy {one['theta_accuracy']:.1%}",
        }
        for one in searched
    ]
    rows = [
        (
            str(one["epoch"]),
            milliseconds(one["expected_ms"]),
            f"{one['theta_accuracy']:.1%}",
            "yes" if id(one) in on_front else "no",
            str(one["layers"]),
        )
        for one in searched
    ]
    data = {
        "points": points,
        "lines": [
            {"points": [[one["expected_ms"], one["theta_accuracy"]] for one in front], "step": True}
        ],
        "xlabel": "expected ms",
        "ylabel": "accuracy",
    }
    return [
        Figure(
            "Pareto front of the epochs",
            Table(
                "epochs by latency and accuracy",
                ("epoch", "expected ms>", "accuracy>", "on the front", "most probable network"),
                rows,
            ),
            Chart(
                "scatter",
                f"Accuracy against expected latency of {count_of(len(searched), 'epoch')}, "
                f"{len(front)} on the Pareto front",
                data,
                ("on the front", "", "", "", "", "not on the front"),
            ),
            "Accuracy of the supernet on the images that train the architecture parameters, not of a trained "
            "network.",
        )
    ]


def _latencies(name: str, result: Mapping[str, Any]) -> list[Figure]:
    """The latency of a network on each of several targets, predicted and measured."""
    data = result.get("latencies", ())
    if len(data) < 2:
        return []
    rows = [
        (
            one["target"],
            milliseconds(one["predicted_ms"]),
            one["unmeasured"] or ""
            if one["measured_ms"] is None
            else milliseconds(one["measured_ms"]),
            one["lut_sha256"],
        )
        for one in data
    ]
    columns = ("target", "predicted ms>", "measured ms>", "LUT")
    of = f" for {name}" if name else ""
    return [
        Figure(
            f"Latency of the network found{of} on each target",
            Table(f"latency of the network found{of}", columns, rows),
        )
    ]


def _lut_of(result: Mapping[str, Any], luts: Mapping[str, Lut]) -> tuple[str, Lut] | None:
    """The LUT that the search used, or else the first of the same space, with its name."""
    used = [one.get("lut_sha256") for one in result.get("latencies", ())]
    for name, lut in luts.items():
        if lut.content_sha256 in used:
            return f"{name}, which the search used", lut
    for name, lut in luts.items():
        if lut.space == result.get("space"):
            return f"{name}, which the search did not use", lut
    return None


def _network(name: str, architecture: Architecture, lut: tuple[str, Lut] | None) -> Figure:
    """The network found for the target `name`, block by block."""
    title = f"The network found{f' for {name}' if name else ''}, block by block"
    ops: list[tuple[str, OpSpec | None]] = []
    ops += [(op.kind, op) for op in architecture.space.stem_ops]
    for number, (choice, op) in enumerate(
        zip(architecture.choices, architecture.layer_ops, strict=True), 1
    ):
        ops.append((f"{number} {choice}", op))
    ops += [(op.kind, op) for op in architecture.head_ops]
    known = lut is not None and all(op is None or op in lut[1] for _, op in ops)
    costs = [
        0.0 if op is None else lut[1].corrected_ms(op) if known and lut else float(op.macs)
        for _, op in ops
    ]
    total = sum(costs) or 1.0
    what = "latency" if known else "MACs"
    rows, bars = [], []
    for (block, op), cost in zip(ops, costs, strict=True):
        shape = (
            ""
            if op is None
            else f"{op.in_channels}→{op.out_channels}, {size_text(op.height, op.width)}"
        )
        amount = milliseconds(cost) if known else f"{cost / 1e6:.2f} M"
        rows.append((block, "identity" if op is None else op.key, amount, f"{cost / total:.1%}"))
        bars.append(
            {
                "n": f"{block} {shape}".strip(),
                "v": 100 * cost / total,
                "l": "" if op is None else f"{cost / total:.1%}",
                "s": 5 if op is None else series_of(op),
                "t": f"{block}\n{op or 'the identity'}\n{amount}{' ms' if known else ' MACs'}",
            }
        )
    by = "None of the LUTs belongs to its space, so shares are of the MACs."
    if known and lut:
        rest = lut[1].network_ms([op for _, op in ops if op]) - sum(costs)
        besides = f" Offset and boundary costs add {rest:+.3f} ms." if rest else ""
        by = f"Latencies from {lut[0]}.{besides}"
    column = "ms>" if known else "MACs>"
    return Figure(
        title,
        Table(f"share of each block's {what}", ("block", "op", column, "share>"), rows),
        Chart(
            "bars",
            f"Share of the {what} of {count_of(len(bars), 'block')} in network order",
            {"rows": bars, "xlabel": f"share of the {what}, %"},
            (
                "k3",
                "k5 or more",
                "skip projection",
                "stem and head",
                "pool, classifier",
                "identity",
            ),
        ),
        by,
    )
