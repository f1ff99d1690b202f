"""latbench export: write a whole space, or one network, as model files."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import click

from latbench.cli.completion import (
    complete_architectures,
    complete_folders,
    complete_precisions,
    complete_runtimes,
)
from latbench.cli.options import (
    json_option,
    one_of,
    output_path,
    precision_name,
    read_space,
    runtime_name,
    space_options,
)
from latbench.cli.output import count_of, emit_json, emit_table
from latbench.cli.progress import track
from latbench.runtime.formats import Precision, Runtime
from latbench.runtime.registry import HOST_RUNTIMES, descriptor


@click.command(name="export")
@click.argument(
    "architecture_text", metavar="[ARCH]", required=False, shell_complete=complete_architectures
)
@space_options
@click.option(
    "--runtime",
    "runtimes",
    type=runtime_name,
    shell_complete=complete_runtimes,
    multiple=True,
    metavar="NAME",
    help=f"Runtime to write for: {', '.join(Runtime)}; may be repeated.  "
    f"[default: {', '.join(HOST_RUNTIMES)}]",
)
@click.option(
    "--precision",
    "precisions",
    type=precision_name,
    shell_complete=complete_precisions,
    multiple=True,
    metavar="NAME",
    help=f"{one_of(list(Precision))}; may be repeated.  [default: fp32]",
)
@click.option(
    "--out",
    type=output_path,
    shell_complete=complete_folders,
    metavar="DIR",
    help="Folder for copies, named by op.  [default: the artifact store alone]",
)
@json_option
def command(
    architecture_text: str | None,
    runtimes: tuple[Runtime, ...],
    precisions: tuple[Precision, ...],
    out: Path | None,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Export every op of a space, or the network ARCH, as model files.

    ARCH is a published name (fbnet_b), a notation, or an architecture.json. The outputs of every file are
    compared with PyTorch's before it is kept. Files that the artifact store has are not written again.
    """
    from latbench.export import (
        Artifact,
        ArtifactStore,
        export_architecture,
        export_op,
        require_writer,
    )
    from latbench.files import make_folder, write_atomically
    from latbench.space import read_architecture

    space = read_space(**chosen)
    store = ArtifactStore()
    formats = [(r, p) for r in runtimes or HOST_RUNTIMES for p in precisions or (Precision.FP32,)]
    for chosen_runtime, chosen_precision in formats:
        require_writer(chosen_runtime, chosen_precision)
    seconds = dict.fromkeys(formats, 0.0)
    artifacts: list[Artifact] = []

    def write(runtime: Runtime, precision: Precision, workload: Any) -> None:
        start = time.perf_counter()
        export = export_op if architecture is None else export_architecture
        artifacts.append(export(workload, runtime, precision, store))
        seconds[runtime, precision] += time.perf_counter() - start

    architecture = None
    if architecture_text is not None:
        architecture = read_architecture(
            architecture_text, None if architecture_text.endswith(".json") else space
        )
    workloads = space.unique_ops if architecture is None else (architecture,)
    if out is not None:
        make_folder(out)
    for workload in track(workloads, "exporting"):
        for runtime, precision in formats:
            write(runtime, precision, workload)
    copies = {}
    if out is not None:
        for made in artifacts:
            copies[made.sha256] = (
                out / f"{_file_name(made)}-{made.precision}{descriptor(made.runtime).suffix}"
            )
            write_atomically(copies[made.sha256], made.path.read_bytes())
    if as_json:
        emit_json(
            [
                {
                    "key": made.key,
                    "runtime": made.runtime.value,
                    "precision": made.precision.value,
                    "path": str(copies.get(made.sha256, made.path)),
                    "sha256": made.sha256,
                    "macs": made.macs,
                    "error": made.error,
                    "written_by": made.written_by,
                }
                for made in artifacts
            ]
        )
        return
    emit_table(
        ("runtime", "precision", "files>", "size>", "seconds>", "worst error>"),
        [_row(r, p, [a for a in artifacts if (a.runtime, a.precision) == (r, p)], seconds[r, p])
         for r, p in formats],
    )  # fmt: skip
    for runtime, precision in formats:
        if (note := descriptor(runtime).computes_in(precision, "cpu")) is not None:
            click.echo(f"{runtime} {precision}: {note}")
    for (runtime, precision, exporter), count in Counter(
        (made.runtime, made.precision, made.written_by) for made in artifacts
    ).items():
        if exporter is not None:
            files = count_of(count, "file")
            click.echo(
                f"{runtime} {precision}: {exporter} wrote {files}, which latbench has no node for"
            )
    click.echo(f"files: {store.root if out is None else out}")


def _row(
    runtime: Runtime, precision: Precision, made: list[Any], seconds: float
) -> tuple[str, ...]:
    size = sum(artifact.path.stat().st_size for artifact in made) / 2**20
    errors = [artifact.error for artifact in made if artifact.error is not None]
    if not errors:
        worst = "not run, structure checked"
    else:
        int8 = precision is Precision.INT8
        worst = f"{min(errors):.1f} dB SNR" if int8 else f"{max(errors):.1e} relative"
    return (runtime, precision, str(len(made)), f"{size:.1f} MiB", f"{seconds:.1f}", worst)


def _file_name(artifact: Any) -> str:
    """The key of an op; for a network, whose notation is no file name, its hash."""
    return artifact.key if artifact.key.isidentifier() else f"network-{artifact.sha256[:12]}"
