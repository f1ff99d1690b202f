"""The commands `fbnet-search` and `fbnet-train`: parse, call, print."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fbnet_search.run.recipe import OnProgress
from latbench._version import __version__
from latbench.cli.group import ReportingCommand
from latbench.cli.options import output_path
from latbench.cli.output import emit_facts, emit_json, interval, milliseconds
from latbench.cli.progress import reporter
from latbench.errors import LatbenchError

if TYPE_CHECKING:
    from fbnet_search.choose.finalists import Measured
    from fbnet_search.result import SearchResult
    from fbnet_search.training.result import TrainResult
    from latbench.lut import Prediction

_DATA = (
    "digits (part of scikit-learn), imagefolder:PATH with one subfolder a class, or webdataset:PATH "
    "with train*.tar and val*.tar."
)


@contextmanager
def _progress(what: str) -> Iterator[OnProgress]:
    """A bar with the time left on stderr; nothing where stderr is no terminal."""
    with reporter() as report:
        yield lambda progress: report(
            what if progress.total else progress.doing,
            progress.done,
            progress.total,
            progress.doing,
        )


@contextmanager
def _interruptible(folder: Path, resume: bool) -> Iterator[None]:
    """Turn Ctrl-C into an error that says whether a checkpoint in `folder` is of this run."""
    before = _checkpoints(folder)
    try:
        yield
    except KeyboardInterrupt:
        now = _checkpoints(folder)
        if now and (resume or now != before):
            hint = f"{folder} keeps its checkpoint: go on with the same command and --resume"
        elif resume:
            hint = f"{folder} has no checkpoint to go on from: start anew, without --resume"
        else:
            hint = "nothing of this run was kept yet: the same command starts anew"
        raise LatbenchError("interrupted", hint=hint) from None


def _checkpoints(folder: Path) -> set[tuple[str, int, int]]:
    """Name, inode and time of each; a new one is another file, also where it has the same name."""
    found = set()
    for path in folder.glob("checkpoint*.pt"):
        with suppress(OSError):
            facts = path.stat()
            found.add((path.name, facts.st_ino, facts.st_mtime_ns))
    return found


_data_option = click.option("--data", required=True, metavar="DATA", help=_DATA)
_out_option = click.option(
    "--out",
    required=True,
    type=output_path,
    metavar="DIR",
    help="Folder for what comes out; created if it is not there.",
)
_seed_option = click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Same seed, same result: on one machine, with as many processes and threads.",
)
_recipe_option = click.option(
    "--recipe",
    metavar="NAME|FILE.toml",
    help="paper, budget, digits, or a file like those. Default: digits for digits, else paper.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.command(cls=ReportingCommand)
@click.option(
    "--lut",
    "luts",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The LUT; its search space is searched. With more than one, the slowest target counts.",
)
@_data_option
@_out_option
@_recipe_option
@click.option("--epochs", type=int, help="Instead of the recipe's; its schedules stretch with it.")
@_seed_option
@click.option(
    "--target-ms",
    "targets",
    type=float,
    multiple=True,
    help="Latency that the found network must not exceed; more than once for a network each.",
)
@click.option(
    "--constraint",
    "constraints",
    multiple=True,
    metavar="'KIND<=LIMIT,...'",
    help="What else it may cost, in quotes: macs, params, activations (values, at the peak), "
    "bytes (of the file).",
)
@click.option(
    "--verify",
    type=click.IntRange(0, 64),
    default=0,
    metavar="K",
    help="Time the K most probable networks on every LUT's device at hand, and choose by that.",
)
@click.option(
    "--compute",
    default="cpu",
    show_default=True,
    metavar="DEVICE",
    help="Where networks are computed: cpu, or an accelerator that PyTorch knows, such as cuda.",
)
@click.option("--require-measured", is_flag=True, help="Refuse LUTs that nobody measured.")
@click.option("--resume", is_flag=True, help="Go on from DIR's checkpoint.")
@_json_option
@click.version_option(__version__)
def search_main(
    luts: tuple[Path, ...],
    data: str,
    out: Path,
    recipe: str | None,
    epochs: int | None,
    seed: int,
    targets: tuple[float, ...],
    constraints: tuple[str, ...],
    verify: int,
    compute: str,
    require_measured: bool,
    resume: bool,
    as_json: bool,
) -> None:
    """Search for the FBNet that is best on a target, with the latencies of its LUT.

    Writes DIR/architecture.json, events.jsonl, tensorboard/ and checkpoint.pt. Without --target-ms
    the paper's loss trades accuracy for latency; with it, the found network is the most probable
    one that spends that budget and no more.
    """

    with _interruptible(out, resume):
        from fbnet_search.cost.constraints import parse_constraints
        from fbnet_search.engine import search_front
        from fbnet_search.run.distributed import is_first, is_restarted
        from latbench.lut import Lut
        from latbench.lut.provenance import provenance_note
        from latbench.lut.provenance import require_measured as refuse_unmeasured

        loaded = [Lut.load(path) for path in luts]
        for path, lut in zip(luts, loaded, strict=True):
            if require_measured:
                refuse_unmeasured(lut, str(path))
            if is_first() and (note := provenance_note(lut, str(path))):
                click.echo(note, err=True)
        anew = not (resume or is_restarted())
        if is_first() and anew and (out / "checkpoint.pt").exists():
            click.echo(
                f"note: {out} holds a search, whose place this one takes once it begins", err=True
            )
        with _progress("searching") as progress:
            results = search_front(
                loaded,
                data,
                out,
                targets_ms=sorted(targets) or [None],
                recipe=recipe,
                epochs=epochs,
                seed=seed,
                constraints=parse_constraints(constraints),
                verify=verify,
                compute=compute,
                resume=resume,
                progress=progress,
            )
    if not is_first():
        return
    if as_json:
        told = [result.to_dict() | {"out": str(result.out)} for result in results]
        emit_json(told[0] if len(told) == 1 else {"front": told})
    else:
        several = len(results) > 1
        for result in results:
            emit_facts(_search_facts(result, data, several=several))
            if several:
                click.echo()
        if several:
            emit_facts(
                [
                    ("files", f"{out}: front.json, events.jsonl, tensorboard/, checkpoint.pt"),
                    ("plot", f"{out}/front.html: open it in a browser"),
                ]
            )


@click.command(cls=ReportingCommand)
@click.argument("found", type=click.Path(path_type=Path), metavar="DIR|ARCHITECTURE.JSON")
@_data_option
@_out_option
@_recipe_option
@click.option("--epochs", type=int, help="Instead of the recipe's.")
@_seed_option
@click.option(
    "--lut",
    "luts",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Predict and measure the latency on this LUT's target; more than once for more targets.",
)
@click.option("--resume", is_flag=True, help="Go on from DIR's checkpoint.")
@_json_option
@click.version_option(__version__)
def train_main(
    found: Path,
    data: str,
    out: Path,
    recipe: str | None,
    epochs: int | None,
    seed: int,
    luts: tuple[Path, ...],
    resume: bool,
    as_json: bool,
) -> None:
    """Train a found architecture from scratch, test it, and export it.

    The first argument is the folder of a search, or an architecture.json. Writes DIR/weights.pth,
    network.py (needs PyTorch only), network.tflite, network.onnx, network.pt (TorchScript),
    MODEL_CARD.md and training.json.
    """

    with _interruptible(out / "training", resume):
        from fbnet_search.training.retrain import train
        from latbench.lut import Lut

        with _progress("training") as progress:
            result = train(
                found,
                data,
                out,
                recipe=recipe,
                epochs=epochs,
                seed=seed,
                luts=[Lut.load(path) for path in luts],
                resume=resume,
                progress=progress,
            )
    if as_json:
        emit_json(result.to_dict() | {"out": str(out)})
    else:
        emit_facts(_train_facts(result))


def _search_facts(result: "SearchResult", data: str, *, several: bool) -> Iterator[tuple[str, str]]:
    architecture, target_ms = result.architecture, result.target_ms
    yield "found", architecture.notation
    yield "space", f"{architecture.space}, head {architecture.head}"
    several_luts = len(result.latencies) > 1
    for one in result.latencies:
        on = f" on {one.target}" if several_luts else ""
        budget = (
            "" if several_luts or target_ms is None else f", target {milliseconds(target_ms)} ms"
        )
        yield "predicted", f"{_bounded(one.predicted)}{on}{budget}"
    if several_luts and target_ms is not None:
        yield "target", f"{milliseconds(target_ms)} ms on each"
    if target_ms is not None and result.prediction.ms < result.least_ms:
        yield "unspent", "no network within the limits spends more of the target"
    yield from _finalist_facts(result)
    for one in result.latencies:
        yield "on", f"{one.target} ({one.provenance})"
    yield (
        "size",
        f"{architecture.macs / 1e6:.4g} M MACs, {architecture.params / 1e6:.4g} M weights",
    )
    for kind, limit in result.limits.items():
        yield kind, f"{limit.spent:,.0f} of at most {limit.limit:,.0f}"
    if result.data["classes"] != architecture.space.classes:
        yield (
            "classes",
            f"{result.data['classes']} in {data}; the predicted latency is that of the LUT's "
            f"{architecture.space.classes}",
        )
    if several:
        yield "file", f"{result.out}/architecture.json"
    else:
        yield "files", f"{result.out}: architecture.json, events.jsonl, tensorboard/, checkpoint.pt"
    yield "next", f"fbnet-train {result.out} --data {data} --out {result.out}"


def _finalist_facts(result: "SearchResult") -> Iterator[tuple[str, str]]:
    target_ms, several = result.target_ms, len(result.latencies) > 1
    if not result.finalists:
        if result.crosses_target:
            yield (
                "uncertain",
                "the interval crosses the target; time the finalists with --verify 5",
            )
        return
    assert target_ms is not None
    for one in result.latencies:
        on = f" on {one.target}" if several else ""
        if one.measured is None:
            yield "unmeasured", f"{one.target}: {one.unmeasured}"
        else:
            yield "measured", f"{_bounded(one.measured)} at the LUT's level{on}"
    from fbnet_search.choose.finalists import ran

    timed = ran(result.finalists)
    within = sum(finalist.worst_ms <= target_ms for finalist in timed)
    for finalist in result.finalists:
        if finalist not in timed:
            why = next(told.unmeasured for told in finalist.latencies if told.measured is None)
            yield "failed", f"{finalist.architecture.notation}: {why}"
    yield "finalists", f"{within} of {len(result.finalists)} measured within the target"
    if not within:
        yield "too slow", "the least slow of the finalists is what was found"
    elif result.crosses_target:
        yield "uncertain", "an interval crosses the target, which a second look could find missed"


def _bounded(one: "Prediction | Measured") -> str:
    return f"{milliseconds(one.ms)} ms {interval((one.low, one.high))}"


def _train_facts(result: "TrainResult") -> Iterator[tuple[str, str]]:
    yield "trained", result.architecture.notation
    yield (
        "accuracy",
        f"{result.test_accuracy:.1%} of {result.data['test_images']} test images "
        f"({result.train_accuracy:.1%} of the training images, augmented)",
    )
    yield "took", f"{result.seconds:.0f} s, {result.recipe.epochs} epochs"
    for one in result.latencies:
        measured = "not measured"
        if one.measured is not None:
            measured = f"{milliseconds(one.measured.ms)} ms measured"
        yield (
            "latency",
            f"{milliseconds(one.predicted.ms)} ms predicted, {measured} on {one.target}",
        )
    yield "files", f"{result.out}: MODEL_CARD.md, training.json, weights.pth, network.py"
    yield from ((runtime, str(path)) for runtime, path in result.artifacts.items())
