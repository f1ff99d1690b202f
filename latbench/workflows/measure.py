"""Time one model file or architecture on a device; `latbench measure` is `measure_latency`."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from latbench.errors import BadRequest, CannotRead, LutRefused
from latbench.export import ArtifactStore, export_architecture
from latbench.export.metadata import read_metadata
from latbench.files import sha256_of
from latbench.lut import Lut, Prediction, predict_latency, predict_ops
from latbench.lut.anchor import Anchor, anchors_of, slowdown_of
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
from latbench.workflows.delegation import Delegation, require_delegations
from latbench.workflows.runs import (
    Progress,
    journals,
    measured,
    network_workload,
    sentinel_workload,
    silent,
)
from latbench.workflows.target import TargetRequest, open_target


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
    target: TargetRequest | str = "host",
    *,
    allow_partial: bool = False,
    lut: Lut | None = None,
    input_shape: tuple[int, ...] | None = None,
    ci: float = 0.01,
    budget_s: float = 120.0,
    progress: Progress = silent,
) -> Measurement:
    """Time one model file, or one architecture with untrained weights, on a target.

    Args:
        model: a model file of any runtime, or an architecture.
        target: a request for one unit, or the name of a device.
        allow_partial: also time a model that the accelerator leaves to the CPU in part.
        lut: also predict the latency, and time networks that the LUT was built from beside the model.
            The target is then that of the LUT.
        input_shape: of the only input, for files that do not state it.
        ci: target half-width of the 95 % interval, relative.
        budget_s: time limit, seconds.

    Raises:
        BadRequest: there is no such file, it states no input shape, or several units are requested.
        LutRefused: the LUT is of another target, or the model of another runtime.
        LatbenchError: the model runs partly on the CPU.
        RunnerFailed: the model cannot be loaded or run.
    """
    request = TargetRequest.of(target)
    if lut is not None:
        request = _as_in_run(request, lut)
    file = None if isinstance(model, Architecture) else _ModelFile.read(model, input_shape)
    if file is not None:
        request = file.completed(request)
    store = ArtifactStore()
    anchors = () if lut is None else anchors_of(lut)
    with open_target(request) as opened:
        workload = (
            _workload(model, opened.target, store, progress) if file is None else file.workload
        )
        plan = _plan(workload, anchors, opened.target, store, Settings(ci=ci, budget_s=budget_s))
        delegated = require_delegations(
            (opened.unit,),
            opened.target,
            plan.workloads,
            allow_partial=allow_partial or lut is not None,  # as in the run of the LUT
            progress=progress,
        )
        with Journal(journals() / "measure.sqlite") as journal:
            report = measured(plan, opened.unit, journal, progress, {}, fresh=True)
    latencies = [report.result(network.key).ms for network in plan.workloads[1:]]
    return Measurement.of(
        workload.key,
        opened.target,
        report.result(workload.key),
        predicted=None if lut is None else _prediction(lut, model, file),
        anchor=slowdown_of(anchors, latencies) if anchors else None,
        delegated=delegated,
    )


def _as_in_run(request: TargetRequest, lut: Lut) -> TargetRequest:
    """`request`, completed with the target of `lut`.

    Raises:
        LutRefused: they contradict each other.
    """
    target = lut.target
    if request.accelerator not in (None, target.accelerator):
        raise LutRefused(f"the LUT is for {target}, but the request for {request.accelerator}")
    lut.require_target(
        device=request.device,
        runtime=request.runtime,
        precision=request.precision,
        threads=request.threads,
    )
    recorded = TargetRequest.repeat(target)
    cores = recorded.cores if request.cores is None else request.cores
    return replace(recorded, cores=cores, units=request.units)


@dataclass(frozen=True)
class _ModelFile:
    """A model file: its workload, its runtime, and the metadata that `latbench.export` wrote into it."""

    workload: Workload
    runtime: Runtime
    metadata: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path, input_shape: tuple[int, ...] | None) -> Self:
        """Read the file at `path`.

        Raises:
            BadRequest: its input shape is unknown, or its suffix is of no runtime.
            LatbenchError: it cannot be read.
        """
        digest, metadata, runtime = _hash_of(path), read_metadata(path), runtime_of(path)
        if input_shape is None and not descriptor(runtime).declares_inputs(path):
            raise BadRequest(
                f"{path} does not state the shape of its input",
                hint=f"latbench measure {shlex.quote(str(path))} --input-shape 1x3x224x224",
            )
        shapes = None if input_shape is None else (input_shape,)
        return cls(Workload(path.name, Role.NETWORK, path, digest, shapes), runtime, metadata)

    def completed(self, request: TargetRequest) -> TargetRequest:
        """`request` with the runtime and precision of this file.

        Raises:
            LutRefused: another runtime is requested.
        """
        if request.runtime not in (None, self.runtime):
            raise LutRefused(
                f"{self.workload.path} is a model for {self.runtime}, not for {request.runtime}"
            )
        stated = Precision(self.metadata.get("precision", Precision.FP32))
        return replace(request, runtime=self.runtime, precision=request.precision or stated)


def _workload(
    architecture: Path | Architecture, target: Target, store: ArtifactStore, progress: Progress
) -> Workload:
    """The workload of an architecture, exported if the store lacks it."""
    assert isinstance(architecture, Architecture)
    progress("exporting", 0, 1)
    made = export_architecture(architecture, target.runtime, target.precision, store)
    return Workload(str(architecture), Role.NETWORK, made.path, made.sha256)


def _plan(
    workload: Workload,
    anchors: Sequence[Anchor],
    target: Target,
    store: ArtifactStore,
    settings: Settings,
) -> Plan:
    """Time `workload` first, and the networks of a LUT beside it."""
    networks = [network_workload(anchor.architecture, target, store) for anchor in anchors]
    sentinel = sentinel_workload(anchors[0].architecture, target, store) if anchors else None
    return Plan(target, (workload, *networks), sentinel, settings)


def _prediction(lut: Lut, model: Path | Architecture, file: _ModelFile | None) -> Prediction | None:
    """The LUT's prediction for an architecture, or for a model file whose metadata names its ops."""
    if isinstance(model, Architecture):
        return predict_latency(lut, model)
    keys = () if file is None else file.metadata.get("ops", ())
    return predict_ops(lut, [parse_key(key) for key in keys], "this model") if keys else None


def _hash_of(path: Path) -> str:
    try:
        parts = descriptor(runtime_of(path)).parts(path)
        return sha256_of(b"".join(part.read_bytes() for part in parts))
    except OSError as error:
        raise CannotRead.because(path, error) from None
