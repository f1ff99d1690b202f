"""Time one model file or architecture on a device; `latbench measure` is `measure_latency`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latbench.device.registry import ANY_UNIT, UnitSelector
from latbench.errors import BadRequest, LatbenchError, LutRefused
from latbench.export import ArtifactStore, export_architecture
from latbench.export.metadata import read_metadata
from latbench.files import sha256_of
from latbench.lut import Lut, Prediction, predict_latency, predict_ops
from latbench.lut.anchor import anchors_of, level_of
from latbench.measure import (
    Journal,
    Plan,
    Result,
    Role,
    Settings,
    Workload,
)
from latbench.runtime.registry import descriptor, runtime_of
from latbench.space import Architecture, parse_key
from latbench.target import Precision, Runtime, Target
from latbench.workflows.delegation import CPU, Delegation, require_delegations
from latbench.workflows.runs import (
    Progress,
    journals,
    measured,
    network_workload,
    sentinel_workload,
    silent,
)
from latbench.workflows.target import opened_target


@dataclass(frozen=True)
class Measurement:
    """The latency of one model, milliseconds at batch 1.

    `predicted` is what a LUT said, at its own level, if one was given; `anchor` is how much slower
    (above 1) networks that it was made from ran beside this model (`latbench.lut.anchor`).
    """

    name: str
    target: Target
    ms: float
    ci95: tuple[float, float]
    samples: int
    rounds: int
    tainted: int
    predicted: Prediction | None = None
    anchor: float | None = None
    delegated: tuple[Delegation, ...] = ()

    @property
    def level(self) -> float:
        """How much slower the device is than in the LUT's run; 1 where nothing tells."""
        return self.anchor or 1.0

    @classmethod
    def of(cls, name: str, target: Target, result: Result, **facts: Any) -> "Measurement":
        """What a run says of the model `name`; `facts` are the fields that it does not know."""
        told = (result.ms, result.ci95, result.samples, result.rounds, result.tainted)
        return cls(name, target, *told, **facts)


def measure_latency(
    model: Path | Architecture,
    device: str = "host",
    *,
    runtime: Runtime | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    cores: Sequence[int] | None = None,
    where: UnitSelector = ANY_UNIT,
    accelerator: str | None = None,
    allow_partial: bool = False,
    lut: Lut | None = None,
    input_shape: tuple[int, ...] | None = None,
    ci: float = 0.01,
    budget_s: float = 120.0,
    progress: Progress = silent,
) -> Measurement:
    """Time one model file, or one architecture with untrained weights, on a device.

    Args:
        model: a .tflite, .onnx, .pt or .mlpackage.tar file, or an architecture.
        where, accelerator, allow_partial: as `profile`; with a LUT both are as in its run.
        lut: predict the latency too, and time networks it was made from beside the model.
        input_shape: for files that do not say theirs.

    Raises:
        BadRequest: there is no such file, or it needs what was not given.
        LutRefused: the LUT is of another target.
        LatbenchError: the accelerator does not take all of the model.
        RunnerFailed: the model does not load or run.
    """
    if lut is not None:
        if accelerator not in (None, lut.target.accelerator):
            raise LutRefused(f"the LUT is of {lut.target}, but {accelerator} was asked for")
        accelerator = lut.target.accelerator
        lut.require_target(device=device, runtime=runtime, precision=precision, threads=threads)
        runtime, precision = lut.target.runtime, lut.target.precision
        threads = lut.target.threads
        cores = lut.target.cores if cores is None and lut.target.cores else cores
    architecture = model if isinstance(model, Architecture) else None
    metadata: dict[str, Any] = {}
    digest = ""
    if isinstance(model, Path):
        digest = _hash_of(model)
        metadata = read_metadata(model)
        named = runtime_of(model)
        if runtime not in (None, named):
            raise LutRefused(f"{model} is a model for {named}, but {runtime} was asked for")
        runtime = named
        if input_shape is None and not descriptor(runtime).declares_inputs(model):
            raise BadRequest(
                f"{model} does not say what its inputs are",
                hint="say it, like: --input-shape 1x3x224x224",
            )
        precision = precision or Precision(metadata.get("precision", Precision.FP32))
    store = ArtifactStore()
    anchors = anchors_of(lut) if lut is not None else ()
    asked = (runtime, precision, threads, cores, (where,), accelerator or CPU)
    with opened_target(device, *asked) as (_, (unit,), target):
        if architecture is not None:
            progress("exporting", 0, 1)
            made = export_architecture(architecture, target.runtime, target.precision, store)
            workload = Workload(str(architecture), Role.NETWORK, made.path, made.sha256)
        else:
            assert isinstance(model, Path)
            shapes = None if input_shape is None else (input_shape,)
            workload = Workload(model.name, Role.NETWORK, model, digest, shapes)
        networks = [network_workload(anchor.architecture, target, store) for anchor in anchors]
        sentinel = sentinel_workload(anchors[0].architecture, target, store) if anchors else None
        plan = Plan(target, (workload, *networks), sentinel, Settings(ci=ci, budget_s=budget_s))
        delegated = require_delegations(
            (unit,),
            target,
            plan.workloads,
            allow_partial=allow_partial or lut is not None,  # its run allowed it, or had nothing to
            progress=progress,
        )
        with Journal(journals() / "measure.sqlite") as opened:
            report = measured(plan, unit, opened, progress, {}, fresh=True)
    result = report.result(workload.key)
    latencies = [report.result(network.key).ms for network in networks]
    return Measurement.of(
        workload.key,
        target,
        result,
        predicted=_prediction(lut, architecture, metadata),
        anchor=level_of(anchors, latencies) if anchors else None,
        delegated=delegated,
    )


def _prediction(
    lut: Lut | None, architecture: Architecture | None, metadata: dict[str, Any]
) -> Prediction | None:
    """What the LUT says of an architecture, or of a model file that names its ops."""
    if lut is None:
        return None
    if architecture is not None:
        return predict_latency(lut, architecture)
    ops = [parse_key(key) for key in metadata.get("ops", ())]
    return predict_ops(lut, ops, "this model") if ops else None


def _hash_of(path: Path) -> str:
    try:
        parts = descriptor(runtime_of(path)).parts(path)
        return sha256_of(b"".join(part.read_bytes() for part in parts))
    except OSError as error:
        raise LatbenchError(f"cannot read {path}: {error.strerror}") from None
