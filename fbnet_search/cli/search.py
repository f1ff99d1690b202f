"""`fbnet-search`: parse, call, print."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fbnet_search.cli.found import search_facts
from fbnet_search.cli.options import (
    data_option,
    epochs_option,
    image_size_option,
    json_option,
    out_option,
    recipe_option,
    resume_option,
    seed_option,
    train_command,
)
from fbnet_search.cli.progress import interruptible, note, progress_bar
from latbench._version import __version__
from latbench.cli.completion import complete_files
from latbench.cli.group import ReportingCommand
from latbench.cli.output import emit_facts, emit_json

if TYPE_CHECKING:
    from latbench.lut import Lut


@click.command(cls=ReportingCommand)
@click.option(
    "--lut",
    "luts",
    required=True,
    multiple=True,
    metavar="FILE",
    shell_complete=complete_files,
    help="LUT whose space is searched: a file, or a shipped LUT by its name, such as iphonex.json. With "
    "several, a network's slowest target counts.",
)
@data_option("digits")
@out_option("runs/DEVICE, the LUT's device")
@recipe_option
@epochs_option
@image_size_option("the space's input; at most 64 for digits")
@seed_option
@click.option(
    "--target-ms",
    "targets",
    type=float,
    multiple=True,
    metavar="MS",
    help="Limit of the network's predicted latency; give several for a network each.  "
    "[default: none; the paper's loss trades accuracy for latency]",
)
@click.option(
    "--constraint",
    "constraints",
    multiple=True,
    metavar="'KIND<=LIMIT,...'",
    help="Limits of macs, params, activations (values in memory at the peak) or bytes (file size), such "
    "as 'macs<=300M'; quote it.",
)
@click.option(
    "--verify",
    type=click.IntRange(0, 64),
    default=0,
    show_default=True,
    metavar="K",
    help="Time the K most probable networks on every LUT's device that is reachable, and choose the "
    "first that keeps the target. Needs --target-ms.",
)
@click.option(
    "--compute",
    default="cpu",
    show_default=True,
    metavar="DEVICE",
    help="PyTorch device that trains the networks: cpu, or an accelerator such as cuda.",
)
@click.option("--require-measured", is_flag=True, help="Refuse LUTs that are not measured.")
@resume_option
@json_option
@click.version_option(__version__)
def search_main(
    luts: tuple[str, ...],
    data: str | None,
    out: Path | None,
    recipe: str | None,
    epochs: int | None,
    image_size: int | None,
    seed: int,
    targets: tuple[float, ...],
    constraints: tuple[str, ...],
    verify: int,
    compute: str,
    require_measured: bool,
    resume: bool,
    as_json: bool,
) -> None:
    """Search a LUT's space for an accurate network with a low latency on its target.

    \b
    fbnet-search --lut luts/iphonex.json
    fbnet-search --lut luts/host.json --data imagefolder:PATH --target-ms 12.5

    Writes architecture.json, events.jsonl, tensorboard/ and checkpoint.pt to the output folder. Then
    fbnet-train trains the network.
    """
    loaded = _load(luts, require_measured)
    folder = Path("runs", "-".join(lut.target.device for lut in loaded)) if out is None else out
    with interruptible(folder, resume):
        from fbnet_search.cost.constraints import parse_constraints
        from fbnet_search.data.datasets import EMBEDDED
        from fbnet_search.engine import search_front
        from fbnet_search.run.distributed import is_first

        images = data or EMBEDDED
        if is_first():
            _note_assumptions(loaded, data, out, folder, image_size, resume)
        with progress_bar("searching") as progress:
            results = search_front(
                loaded,
                images,
                folder,
                targets_ms=sorted(targets) or [None],
                recipe=recipe,
                epochs=epochs,
                image_size=image_size,
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
        answers = [result.to_dict() | {"out": str(result.out)} for result in results]
        emit_json(answers[0] if len(answers) == 1 else {"front": answers})
        return
    several = len(results) > 1
    for result in results:
        small = result.image_size != result.architecture.space.input_size
        command = train_command(
            result.out, images, recipe=recipe, seed=seed,
            image_size=result.image_size if small else None,
        )  # fmt: skip
        emit_facts(search_facts(result, images, command, several=several))
        if several:
            click.echo()
    if several:
        emit_facts(
            [
                ("files", f"{folder}: front.json, events.jsonl, tensorboard/, checkpoint.pt"),
                ("plot", f"{folder}/front.html: open it in a browser"),
            ]
        )


def _load(paths: tuple[str, ...], require_measured: bool) -> "list[Lut]":
    """Load the LUTs; notes say which are shipped, and which are not measured."""
    from fbnet_search.run.distributed import is_first
    from latbench.lut import Lut
    from latbench.lut.find import find_lut
    from latbench.lut.provenance import provenance_note
    from latbench.lut.provenance import require_measured as refuse_unmeasured

    luts = []
    for path in paths:
        file, shipped_note = find_lut(path)
        lut = Lut.load(file)
        if require_measured:
            refuse_unmeasured(lut, path)
        for text in (shipped_note, provenance_note(lut, path)):
            if is_first() and text:
                click.echo(text, err=True)
        luts.append(lut)
    return luts


def _note_assumptions(
    luts: "list[Lut]",
    data: str | None,
    out: Path | None,
    folder: Path,
    image_size: int | None,
    resume: bool,
) -> None:
    """Say which options were assumed, and how to give others."""
    from fbnet_search.data.datasets import EMBEDDED, default_image_size
    from fbnet_search.run.distributed import is_restarted

    space = luts[0].search_space
    if data is None:
        note(
            "training on scikit-learn's handwritten digits; use your own images with "
            "--data imagefolder:PATH"
        )
    if out is None:
        note(f"writing to {folder}; choose another folder with --out DIR")
    size = default_image_size(data or EMBEDDED, space.input_size, space.definition.input.multiple)
    if image_size is None and size != space.input_size:
        note(
            f"training on images of {size}x{size}, while latencies are for {space.input_size}x"
            f"{space.input_size}; choose another size with --image-size PIXELS"
        )
    if not (resume or is_restarted()) and (folder / "checkpoint.pt").exists():
        note(
            f"{folder} holds an earlier search, which this one will overwrite; --resume continues it"
        )
