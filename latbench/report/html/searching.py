"""What the report says of a search: its trajectory, its Pareto front, and what it found."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latbench.errors import BadRequest, LatbenchError
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
    figures = [_networks(found)] if len(found) > 1 else []
    for tag in _tags(epochs):
        figures += _trajectory(
            _of(epochs, tag), _target(tag, start), f", target {tag}" if tag else ""
        )
    figures += _front([one for tag in _tags(epochs) for one in _of(epochs, tag)])
    for name, told, architecture in found:
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


def _networks(found: Sequence[Found]) -> Figure:
    """The networks of several targets, side by side."""
    rows, points = [], []
    for name, told, architecture in found:
        ms = float(told["predicted_ms"])
        size = (f"{architecture.macs / 1e6:.1f}", f"{architecture.params / 1e6:.2f}")
        rows.append((name, milliseconds(ms), *size, architecture.notation))
        points.append(
            {
                "x": ms,
                "y": architecture.macs / 1e6,
                "label": name,
                "t": f"{name}\n{milliseconds(ms)} ms, {size[0]} M MACs",
            }
        )
    columns = ("target", "predicted ms>", "M MACs>", "M weights>", "layers")
    label = f"MACs against predicted latency of {len(points)} found networks"
    return Figure(
        "Found networks",
        Table("networks of several targets", columns, rows),
        Chart("scatter", label, {"points": points, "xlabel": "predicted ms", "ylabel": "M MACs"}),
    )


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
    on = f" on {found['lut_target']} ({found.get('provenance')})" if "lut_target" in found else ""
    return f"{', '.join(parts)}{on}."


def _events(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The epochs of a search, and the event that it started with."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise LatbenchError(
            f"cannot read {path}: {error.strerror}",
            hint="give the folder that fbnet-search wrote with --out",
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
    best = -1.0
    front = []
    for one in sorted(searched, key=lambda one: (one["expected_ms"], -one["theta_accuracy"])):
        if one["theta_accuracy"] > best:
            best = one["theta_accuracy"]
            front.append(one)
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


def _lut_of(found: Mapping[str, Any], luts: Mapping[str, Lut]) -> tuple[str, Lut] | None:
    """The LUT that the search used, else the first of the same space."""
    for name, lut in luts.items():
        used = found.get("lut_sha256")
        if lut.content_sha256 in (used if isinstance(used, list) else [used]):
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
    by = f"Latencies are those of {lut[0]}." if known and lut else "No LUT of its space is here."
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
