"""Time one model file or architecture on a target: `latbench measure`."""

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
from latbench.lut.anchor import DeviceState, anchors_of, warning_of
from latbench.measure import Result, Role, Settings, Workload
from latbench.runtime.registry import descriptor, runtime_of
from latbench.space import Architecture, OpSpec, parse_key
from latbench.target import Precision, Runtime, Target
from latbench.workflows.delegation import Delegation, require_delegations
from latbench.workflows.runs import (
    Progress,
    device_state,
    journals,
    measured,
    plan_with_anchors,
    silent,
)
from latbench.workflows.target import TargetRequest, open_target


@dataclass(frozen=True)
class Measurement:
    """The latency of one model at batch 1.

    Attributes:
        name: the file name, or the notation.
        target: what it was measured on.
        ms, ci95: median latency and its 95 % interval, milliseconds.
        samples, rounds, tainted: number of samples and rounds in it, and of tainted trials.
        predicted: the LUT's prediction, at the slowdown of the LUT's run; None without a LUT.
        anchor: the device's slowdown relative to the LUT's run (above 1 is slower), measured with
            networks that the LUT was built from; None without them.
        delegated: what the accelerator runs; empty if the target is the CPU.
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
    def slowdown(self) -> float:
        """The device's slowdown relative to the LUT's run; 1 if it is unknown."""
        return self.anchor or 1.0

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why the comparison with the prediction is doubtful."""
        far = warning_of(self.slowdown)
        return () if far is None else (far,)

    @property
    def half_width(self) -> float:
        """Half the width of the 95 % interval, relative to the median."""
        return (self.ci95[1] - self.ci95[0]) / (2 * self.ms)

    @classmethod
    def of(cls, name: str, target: Target, result: Result, **others: Any) -> "Measurement":
        """The measurement of the model `name` with a run's `result` and the `others` of its fields."""
        statistic = (result.ms, result.ci95, result.samples, result.rounds, result.tainted)
        return cls(name, target, *statistic, **others)


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
        settings = Settings(ci=ci, budget_s=budget_s)
        plan = plan_with_anchors((workload,), anchors, opened.target, store, settings)
        delegated = require_delegations(
            (opened.unit,),
            opened.target,
            plan.workloads,
            allow_partial=allow_partial or lut is not None,  # as in the run of the LUT
            progress=progress,
        )
        report = measured(plan, (opened.unit,), journals() / "measure.sqlite", progress)
    ops = _ops_of(model, file)
    state = None if lut is None else device_state(lut, anchors, report)
    return Measurement.of(
        workload.key,
        opened.target,
        report.result(workload.key),
        predicted=None if lut is None else _prediction(lut, model, ops),
        anchor=None if state is None else _slowdown(state, ops),
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


def _ops_of(model: Path | Architecture, file: _ModelFile | None) -> tuple[OpSpec, ...]:
    """The ops of an architecture, or of a model file whose metadata names them; otherwise none."""
    if isinstance(model, Architecture):
        return model.ops
    return () if file is None else tuple(map(parse_key, file.metadata.get("ops", ())))


def _prediction(lut: Lut, model: Path | Architecture, ops: Sequence[OpSpec]) -> Prediction | None:
    """The LUT's prediction for a model of `ops`; None if they are unknown."""
    if isinstance(model, Architecture):
        return predict_latency(lut, model)
    return predict_ops(lut, ops, "this model") if ops else None


def _slowdown(state: DeviceState, ops: Sequence[OpSpec]) -> float:
    """The slowdown of a model of `ops`; that of a typical network if they are unknown or not in the LUT."""
    known = bool(ops) and all(op in state.lut for op in ops)
    return state.slowdown_of(ops) if known else state.slowdown


def _hash_of(path: Path) -> str:
    try:
        parts = descriptor(runtime_of(path)).parts(path)
        return sha256_of(b"".join(part.read_bytes() for part in parts))
    except OSError as error:
        raise CannotRead.because(path, error) from None
