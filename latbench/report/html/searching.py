"""What the report says of a search: its trajectory, its Pareto front, and what it found."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latbench.errors import BadRequest, CannotRead
from latbench.lut import Lut
from latbench.report.drift_text import milliseconds
from latbench.report.html.luts import series_of
from latbench.report.html.page import Chart, Figure, Section, Table
from latbench.space import Architecture, OpSpec, read_architecture


def search(folder: Path, luts: Mapping[str, Lut]) -> Section:
    """What `fbnet-search --out folder` left there.

    Raises:
        LatbenchError: there is no architecture.json or events.jsonl, or they are not what they must be.
    """
    found = _found(folder)
    epochs, start = _events(folder / "events.jsonl")
    figures = [_networks(folder, found, epochs)] if len(found) > 1 else []
    for tag in _tags(epochs):
        figures += _trajectory(
            _of(epochs, tag), _target(tag, start), f", target {tag}" if tag else ""
        )
    figures += _front([one for tag in _tags(epochs) for one in _of(epochs, tag)])
    for name, told, architecture in found:
        figures += _latencies(name, told)
        figures.append(_network(name, architecture, _lut_of(told, luts)))
    text = " ".join(_told(told) for _, told, _ in found)
    return Section("search", "Search: trajectory and what it found", tuple(figures), text)


Found = tuple[str, dict[str, Any], Architecture]


def _found(folder: Path) -> list[Found]:
    """What was found: one network, or one a target, each by the name of its target."""
    front = folder / "front.json"
    if not front.is_file():
        return [_one_found("", folder / "architecture.json")]
    try:
        rows = json.loads(front.read_text(encoding="utf-8"))
        names = [Path(row["folder"]).name for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise BadRequest(f"{front} is not what fbnet-search writes: {error}") from None
    return [_one_found(name, folder / name / "architecture.json") for name in names]


def _one_found(name: str, path: Path) -> Found:
    architecture = read_architecture(str(path))
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return name, told, architecture


def _networks(folder: Path, found: Sequence[Found], epochs: Sequence[Mapping[str, Any]]) -> Figure:
    """The networks of several targets by latency and worth, and those that no other beats in both."""
    axis, note, worths = _worths(folder, found, epochs)
    rows, points = [], []
    front = _undominated(
        [
            (float(told["predicted_ms"]), worth)
            for (_, told, _), worth in zip(found, worths, strict=True)
        ]
    )
    for number, ((name, told, architecture), worth) in enumerate(zip(found, worths, strict=True)):
        ms = float(told["predicted_ms"])
        shown = f"{worth:.1%}" if axis == "accuracy" else f"{worth:.1f}"
        measured = told.get("measured_ms")
        size = (f"{architecture.macs / 1e6:.1f}", f"{architecture.params / 1e6:.2f}")
        timed = "" if measured is None else milliseconds(measured)
        own = () if axis == "M MACs" else (shown,)
        on_front = "yes" if number in front else "no"
        rows.append((name, milliseconds(ms), timed, *own, *size, on_front, architecture.notation))
        points.append(
            {
                "x": ms,
                "y": worth,
                "label": name,
                "s": 0 if number in front else 5,
                "t": f"{name}\n{milliseconds(ms)} ms, {axis} {shown}",
            }
        )
    worth_column = () if axis == "M MACs" else (f"{axis}>",)
    columns = (
        "target", "predicted ms>", "measured ms>", *worth_column, "M MACs>", "M weights>",
        "on the front", "layers",
    )  # fmt: skip
    line = [[points[number]["x"], points[number]["y"]] for number in front]
    return Figure(
        "Found networks",
        Table("networks of several targets", columns, rows),
        Chart(
            "scatter",
            f"{axis} against predicted latency of {len(points)} found networks; "
            f"{len(front)} are on the front",
            {
                "points": points,
                "lines": [{"points": line, "step": True}],
                "xlabel": "predicted ms",
                "ylabel": axis,
            },
            ("on the front", "", "", "", "", "beaten in both"),
        ),
        note,
    )


def _worths(
    folder: Path, found: Sequence[Found], epochs: Sequence[Mapping[str, Any]]
) -> tuple[str, str, list[float]]:
    """What the networks are held to be worth: the axis, a note on it, and a value for each."""
    trained = [
        _test_accuracy(folder / name / "training.json", architecture)
        for name, _, architecture in found
    ]
    tested = [one for one in trained if one is not None]
    if len(tested) == len(found):
        return "accuracy", "Accuracy is that of the trained networks on the test images.", tested
    last = epochs[-1] if epochs else {}
    supernet = [last.get(f"theta_accuracy@{name}") for name, _, _ in found]
    told = [float(one) for one in supernet if one is not None]
    if len(told) == len(found):
        note = (
            "Accuracy is that of the supernet in the last epoch, with networks drawn for each target, on "
            "the images that train its choices. Train each (fbnet-train, into its own folder) and make "
            "this page again with latbench report --search to see the networks' own."
        )
        return "accuracy", note, told
    return "M MACs", "", [architecture.macs / 1e6 for _, _, architecture in found]


def _test_accuracy(path: Path, architecture: Architecture) -> float | None:
    """What fbnet-train wrote of a network, if it has trained it, and not one of an earlier search."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        same = told["architecture"]["layers"] == architecture.notation
        return float(told["test_accuracy"]) if same else None
    except OSError:
        return None
    except (ValueError, TypeError, KeyError):
        raise BadRequest(f"{path} is not what fbnet-train writes") from None


def _undominated(points: Sequence[tuple[float, float]]) -> list[int]:
    """The numbers of the (latency, worth) that no other beats in both, the fastest first."""
    front: list[int] = []
    order = sorted(range(len(points)), key=lambda number: (points[number][0], -points[number][1]))
    for number in order:
        if not front or points[number][1] > points[front[-1]][1]:
            front.append(number)
    return front


def _tags(epochs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What values are tagged with: the target of each search that shares the supernet, or nothing."""
    tags = (key.partition("@")[2] for one in epochs for key in one if key.startswith("expected_ms"))
    return list(dict.fromkeys(tags))


def _of(epochs: Sequence[Mapping[str, Any]], tag: str) -> list[dict[str, Any]]:
    """The epochs of one search: what is tagged with it, and what is of all."""
    own = []
    for one in epochs:
        shared = {key: value for key, value in one.items() if "@" not in key}
        tagged = {
            key.partition("@")[0]: value for key, value in one.items() if key.endswith(f"@{tag}")
        }
        own.append(shared | (tagged if tag else {}))
    return own


def _target(tag: str, start: Mapping[str, Any]) -> float | None:
    """The target in milliseconds of the search that `tag` names, if it has one."""
    if tag:
        return float(tag.removesuffix("ms"))
    targets = start.get("targets_ms", [start.get("target_ms")])
    return targets[0] if targets else None


def _told(found: Mapping[str, Any]) -> str:
    parts = [f"Found {found['layers']}"]
    if found.get("predicted_ms") is not None:
        parts.append(f"predicted {milliseconds(found['predicted_ms'])} ms")
    if found.get("target_ms") is not None:
        parts.append(f"for a target of {milliseconds(found['target_ms'])} ms")
    if found.get("measured_ms") is not None:
        parts.append(f"measured {milliseconds(found['measured_ms'])} ms")
    targets = [f"{one['target']} ({one['provenance']})" for one in found.get("latencies", ())]
    on = f" on {' and '.join(targets)}" if targets else ""
    return f"{', '.join(parts)}{on}."


def _events(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The epochs of a search, and the event that it started with."""
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
        if event.get("event") == "start":
            start = event
        elif event.get("event") == "epoch":
            epochs[int(event["epoch"])] = event
    return [epochs[number] for number in sorted(epochs)], start


def _trajectory(
    epochs: Sequence[Mapping[str, Any]], target_ms: float | None, of: str
) -> list[Figure]:
    """Latency, certainty and accuracy by epoch; `of` says whose, after the headings."""
    if not epochs:
        return []
    columns = ("epoch", "phase", "expected ms>", "likeliest ms>", "entropy>", "accuracy>")
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
        ("Latency", "ms", (("expected_ms", "expected over all choices"),
                           ("predicted_ms", "of the likeliest network"))),
        ("Certainty", "entropy a layer, nats", (("entropy", "entropy"),)),
        ("Accuracy of the supernet", "share", (("w_accuracy", "while weights train"),
                                               ("theta_accuracy", "while choices train"))),
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
                    f"{heading}{of} over {len(epochs)} epochs",
                    {"points": points, "range": [low, high], "xlabel": "epoch", "ylabel": unit},
                    (*names, *[""] * (3 - len(names)), "target") if target else tuple(names),
                ),
            )
        )
    return figures


def _front(epochs: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """Epochs by latency and accuracy, and those that no other beats in both."""
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
                ("epoch", "expected ms>", "accuracy>", "on the front", "likeliest network"),
                rows,
            ),
            Chart(
                "scatter",
                f"Accuracy against expected latency of {len(searched)} epochs; "
                f"{len(front)} are on the front",
                data,
                ("on the front", "", "", "", "", "beaten in both"),
            ),
            "Accuracy is that of the supernet on the images that train its choices, not of a trained "
            "network.",
        )
    ]


def _latencies(name: str, found: Mapping[str, Any]) -> list[Figure]:
    """The latency of a network on each of several targets, predicted and measured."""
    told = found.get("latencies", ())
    if len(told) < 2:
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
        for one in told
    ]
    columns = ("target", "predicted ms>", "measured ms>", "LUT")
    of = f" for {name}" if name else ""
    return [
        Figure(
            f"Latency of the found network{of} on each target",
            Table(f"latency of the found network{of}", columns, rows),
        )
    ]


def _lut_of(found: Mapping[str, Any], luts: Mapping[str, Lut]) -> tuple[str, Lut] | None:
    """The LUT that the search used, else the first of the same space."""
    used = [one.get("lut_sha256") for one in found.get("latencies", ())]
    for name, lut in luts.items():
        if lut.content_sha256 in used:
            return f"{name}, which the search used", lut
    for name, lut in luts.items():
        if lut.space == found.get("space"):
            return f"{name}, which is not the one that the search used", lut
    return None


def _network(name: str, architecture: Architecture, lut: tuple[str, Lut] | None) -> Figure:
    """The found network called `name`, block by block."""
    title = f"The found network{f' for {name}' if name else ''}, block by block"
    ops: list[tuple[str, OpSpec | None]] = [("stem", architecture.space.stem)]
    for number, (choice, op) in enumerate(
        zip(architecture.choices, architecture.layer_ops, strict=True), 1
    ):
        ops.append((f"{number} {choice}", op))
    ops += zip(
        ("head", "pool", "classifier"), architecture.space.head_ops(architecture.head), strict=True
    )
    known = lut is not None and all(op is None or op in lut[1] for _, op in ops)
    costs = [
        0.0 if op is None else lut[1].corrected_ms(op) if known and lut else float(op.macs)
        for _, op in ops
    ]
    total = sum(costs) or 1.0
    what = "latency" if known else "MACs"
    rows, bars = [], []
    for (block, op), cost in zip(ops, costs, strict=True):
        shape = "" if op is None else f"{op.in_channels}→{op.out_channels}, {op.height}²"
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
    by = "No LUT of its space is here."
    if known and lut:
        rest = lut[1].network_ms([op for _, op in ops if op]) - sum(costs)
        besides = f" The network takes {rest:+.3f} ms besides." if rest else ""
        by = f"Latencies are those of {lut[0]}.{besides}"
    column = "ms>" if known else "MACs>"
    return Figure(
        title,
        Table(f"share of each block's {what}", ("block", "op", column, "share>"), rows),
        Chart(
            "bars",
            f"Share of the {what} of {len(bars)} blocks in network order",
            {"rows": bars, "xlabel": f"share of the {what}, %"},
            ("k3", "k5", "skip projection", "stem and head", "pool, classifier", "identity"),
        ),
        by,
    )
