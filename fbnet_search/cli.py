"""The commands `fbnet-search` and `fbnet-train`: parse, call, print."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fbnet_search.recipe import OnProgress
from latbench import __version__
from latbench.cli.group import ReportingCommand, interruptible
from latbench.cli.options import output_path
from latbench.cli.output import emit_facts, emit_json, interval, milliseconds
from latbench.cli.progress import reporter

if TYPE_CHECKING:
    from fbnet_search.retrain import TrainResult
    from fbnet_search.trainer import SearchResult

_DATA = "digits (part of scikit-learn), or imagefolder:PATH with one subfolder a class."


@contextmanager
def _progress(what: str) -> Iterator[OnProgress]:
    """A bar with the time left on stderr; nothing where stderr is no terminal."""
    with reporter() as report:
        yield lambda progress: report(what, progress.done, progress.total)


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
    help="Same seed, same result.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.command(cls=ReportingCommand)
@click.option(
    "--lut",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The LUT; its search space is the one that is searched.",
)
@_data_option
@_out_option
@click.option("--epochs", type=int, help="Default: 8 for digits, else 90 as in the paper.")
@_seed_option
@click.option("--target-ms", type=float, help="Latency that the found network must not exceed.")
@click.option("--resume", is_flag=True, help="Go on from DIR's checkpoint.")
@_json_option
@click.version_option(__version__)
def search_main(
    lut: Path,
    data: str,
    out: Path,
    epochs: int | None,
    seed: int,
    target_ms: float | None,
    resume: bool,
    as_json: bool,
) -> None:
    """Search for the FBNet that is best on a target, with the latencies of its LUT.

    Writes DIR/architecture.json, events.jsonl, tensorboard/ and checkpoint.pt. Without --target-ms
    the paper's loss trades accuracy for latency; with it, the found network is the most probable
    one within that budget.
    """

    with interruptible(
        f"{out} keeps what it had, and the checkpoint of the last whole epoch if there was one: "
        "go on with the same command and --resume"
    ):
        from fbnet_search.trainer import search
        from latbench.lut import Lut

        loaded = Lut.load(lut)
        if loaded.provenance == "modelled":
            click.echo(
                f"note: {lut} is modelled, not measured; measure it with: {loaded.command}",
                err=True,
            )
        with _progress("searching") as progress:
            result = search(
                loaded,
                data,
                out,
                epochs=epochs,
                seed=seed,
                target_ms=target_ms,
                resume=resume,
                progress=progress,
            )
    if as_json:
        emit_json(result.to_dict() | {"out": str(out)})
    else:
        emit_facts(_search_facts(result, data))


@click.command(cls=ReportingCommand)
@click.argument("found", type=click.Path(path_type=Path), metavar="DIR|ARCHITECTURE.JSON")
@_data_option
@_out_option
@click.option("--epochs", type=int, help="Default: 24 for digits, else 120.")
@_seed_option
@_json_option
@click.version_option(__version__)
def train_main(
    found: Path, data: str, out: Path, epochs: int | None, seed: int, as_json: bool
) -> None:
    """Train a found architecture from scratch, test it, and export it.

    The first argument is the folder of a search, or an architecture.json. Writes DIR/weights.pth,
    network.tflite, network.onnx, network.pt (TorchScript) and training.json.
    """

    with interruptible(f"{out} keeps what it had, besides the log in training/"):
        from fbnet_search.retrain import train

        with _progress("training") as progress:
            result = train(found, data, out, epochs=epochs, seed=seed, progress=progress)
    if as_json:
        emit_json(result.to_dict() | {"out": str(out)})
    else:
        emit_facts(_train_facts(result))


def _search_facts(result: "SearchResult", data: str) -> Iterator[tuple[str, str]]:
    prediction, architecture = result.prediction, result.architecture
    yield "found", architecture.notation
    yield "space", f"{architecture.space}, head {architecture.head}"
    bounds = interval((prediction.low, prediction.high))
    budget = "" if result.target_ms is None else f", target {milliseconds(result.target_ms)} ms"
    yield "predicted", f"{milliseconds(prediction.ms)} ms {bounds}{budget}"
    yield "on", f"{result.lut_target} ({result.provenance})"
    yield (
        "size",
        f"{architecture.macs / 1e6:.4g} M MACs, {architecture.params / 1e6:.4g} M weights",
    )
    if result.data["classes"] != architecture.space.classes:
        yield (
            "classes",
            f"{result.data['classes']} in {data}; the predicted latency is that of the LUT's "
            f"{architecture.space.classes}",
        )
    yield "files", f"{result.out}: architecture.json, events.jsonl, tensorboard/, checkpoint.pt"
    yield "next", f"fbnet-train {result.out} --data {data} --out {result.out}"


def _train_facts(result: "TrainResult") -> Iterator[tuple[str, str]]:
    yield "trained", result.architecture.notation
    yield (
        "accuracy",
        f"{result.test_accuracy:.1%} of {result.data['test_images']} test images "
        f"({result.train_accuracy:.1%} of the training images, augmented)",
    )
    yield "took", f"{result.seconds:.0f} s, {result.recipe.epochs} epochs"
    yield "files", f"{result.out}: training.json, weights.pth"
    yield from ((runtime, str(path)) for runtime, path in result.artifacts.items())
