"""What the command line does, as functions: profile a space, build its LUT, measure a model.

`latbench profile` is `profile`, `latbench build-lut` is `build_lut`, `latbench measure` is `measure_latency`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from latbench.delegation import CPU, Delegation, require_delegations
from latbench.device.base import Device
from latbench.device.catalogue import CatalogueDevice, find_device
from latbench.device.open import ANYWHERE, Where
from latbench.errors import BadRequest, LatbenchError, LutRefused
from latbench.export import ArtifactStore, export_architecture, export_ops, require_writer
from latbench.export.metadata import is_torchscript, read_metadata, runtime_of
from latbench.files import home, sha256_of, write_atomically
from latbench.lut import Lut, Prediction, predict_latency, predict_ops
from latbench.lut.anchor import anchors_of, level_of
from latbench.lut.build import build_lut as build_lut_of_run
from latbench.measure import (
    Journal,
    Plan,
    Result,
    Role,
    RunReport,
    Settings,
    Subject,
    measure_fleet,
)
from latbench.measure import Progress as MeasureProgress
from latbench.measure.plan import reference_subject
from latbench.opening import opened_target
from latbench.space import Architecture, OpSpec, SearchSpace, parse_key, published
from latbench.space.design import SENTINEL, calibration_architectures
from latbench.space.sandwich import frames_of, sandwich_of
from latbench.target import Precision, Runtime, Target
from latbench.verification import Verification, Verified, require_verifiable
from latbench.verification import verify as verify_ops

#: Told what is going on, how much of it is done, and of how much.
Progress = Callable[[str, int, int], None]

#: Whole networks that a run times to learn how its ops add up.
CALIBRATE = 12


@dataclass(frozen=True)
class Profile:
    """What `profile` did: the report of the run, and the journal that holds its trials.

    `verified` says of each unit how far it was from PyTorch; it is empty if that was not asked for.
    `delegated` says of each unit what its accelerator takes; it is empty if the target is the CPU.
    """

    target: Target
    space: SearchSpace
    journal: Path
    report: RunReport
    verified: tuple[Verification, ...] = ()
    delegated: tuple[Delegation, ...] = ()


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


def silent(what: str, done: int, total: int) -> None:
    """The progress of a caller who asked for none."""


def profile(
    device: str = "host",
    space: SearchSpace | None = None,
    *,
    runtime: Runtime | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    cores: Sequence[int] | None = None,
    where: Where | Sequence[Where] = ANYWHERE,
    calibrate: int = CALIBRATE,
    ci: float = 0.01,
    budget_s: float = 600.0,
    journal: Path | None = None,
    fresh: bool = False,
    verify: bool = False,
    accelerator: str | None = None,
    allow_partial: bool = False,
    progress: Progress = silent,
) -> Profile:
    """Time every op of `space` on a device, and journal every trial.

    A run that was cut short is continued, and one that is complete costs nothing.

    Args:
        device: a name of the catalogue.
        space: by default FBNet's at 224.
        runtime, precision, threads, cores: by default the device's own.
        where: which unit of the device, and how to reach it. Several share the work.
        calibrate: whole networks to time in the same rounds, from which the LUT learns how ops add
            up; ops then stand between frames (`latbench.space.sandwich`). With 0 they are timed
            alone, and the sentinel's latency gives the one scale that sums are corrected by.
        ci: relative half width of the 95 % interval at which an op is done.
        budget_s: seconds after which the run stops, whatever is left.
        journal: where the trials go; by default a file of this target in latbench's home.
        fresh: measure anew even if the journal has a run of the same plan.
        verify: first make sure that every op computes on each unit what PyTorch computes.
        accelerator: what to run on, as the runner calls it (docs/runner-protocol.md).
        allow_partial: measure ops too that the accelerator leaves to the CPU in part.

    Raises:
        UnknownName: there is no such device.
        DeviceUnavailable: no unit of it can be measured on.
        ExportFailed, RunnerFailed, JournalRefused, OutputFailed: see there.
    """
    space = space or SearchSpace.named()
    networks = calibration_architectures(space, calibrate) if calibrate else []
    several = (where,) if isinstance(where, Where) else tuple(where)
    asked = (runtime, precision, threads, cores, several, accelerator or CPU)
    with opened_target(device, *asked) as (
        entry,
        units,
        target,
    ):
        require_writer(target.runtime, target.precision)
        if verify:
            require_verifiable(target)
        plan, about = planned(
            units[0],
            target,
            space,
            space.unique_ops,
            networks,
            Settings(ci=ci, budget_s=budget_s),
            progress,
            sandwiched=bool(networks),
        )
        delegated = require_delegations(
            units, target, plan.all_subjects, allow_partial=allow_partial, progress=progress
        )
        if delegated:
            about |= {"delegated": [asdict(one) for one in delegated]}
        verified: tuple[Verification, ...] = ()
        if verify:
            verified = tuple(
                _verified(unit, plan, space, bool(networks), progress) for unit in units
            )
            about |= {"verified": [asdict(one) for one in verified]}
        path = journal or journals() / f"{_stem(entry, target)}-{_space_stem(space)}.sqlite"
        with Journal(path) as opened:
            note = json.dumps({"journal": str(path.absolute())})
            write_atomically(_pointer(), note + "\n")
            report = measured_together(plan, units, opened, progress, about, fresh=fresh)
    return Profile(target, space, path, report, verified, delegated)


def _verified(
    unit: Device, plan: Plan, space: SearchSpace, sandwiched: bool, progress: Progress
) -> Verification:
    """Make sure that a unit computes what PyTorch computes, at every op of `space`."""
    chains = {key: ops for key, _, ops in _chains(space.unique_ops, (), sandwiched)}
    ops = [
        Verified(subject.key, chains[subject.key], subject.path)
        for subject in plan.subjects
        if subject.role is Role.OP and subject.path is not None
    ]
    return verify_ops(
        unit, plan.target, ops, lambda done, total: progress("verifying", done, total)
    )


def planned(
    unit: Device,
    target: Target,
    space: SearchSpace,
    ops: Sequence[OpSpec],
    networks: Sequence[Architecture],
    settings: Settings,
    progress: Progress,
    *,
    sandwiched: bool,
) -> tuple[Plan, dict[str, Any]]:
    """The plan that times `ops` and `networks` of a space, and what its run must say of itself.

    Everything is exported that the store lacks. A LUT can be built from its run.

    Raises:
        ExportFailed, OutputFailed: see there.
    """
    store, sentinel = ArtifactStore(), published(SENTINEL, space=space)
    chains = _chains(ops, networks, sandwiched)
    subjects = []
    for key, role, chain in chains:
        made = export_ops(chain, key, target.runtime, target.precision, store)
        subjects.append(Subject(key, role, made.path, made.sha256))
        progress("exporting", len(subjects), len(chains))
    plan = Plan(
        target,
        tuple(subjects),
        sentinel_subject(sentinel, target, store),
        settings,
        None if unit.reference is None else reference_subject(unit.reference),
    )
    return plan, {
        "space": space.to_dict(),
        "context": "sandwich" if sandwiched else "alone",
        "sentinel": _noted(sentinel),
        "calibration": [_noted(network) for network in networks],
    }


def _chains(
    ops: Sequence[OpSpec], networks: Sequence[Architecture], sandwiched: bool
) -> list[tuple[str, Role, tuple[OpSpec, ...]]]:
    """What `planned` times: key, role, and the ops in sequence."""
    chains = [(op.key, Role.OP, sandwich_of(op) if sandwiched else (op,)) for op in ops]
    if sandwiched:
        frames = dict.fromkeys(frame for op in ops for frame in frames_of(op))
        chains += [(frame.key, Role.FRAME, (frame, frame)) for frame in frames]
    return chains + [(_network_key(network), Role.NETWORK, network.ops) for network in networks]


def _network_key(network: Architecture) -> str:
    return f"network:{network.head}:{network.notation}"


def _noted(network: Architecture) -> dict[str, str | int]:
    """What a run's record says of a network."""
    return {
        "subject": _network_key(network),
        "layers": network.notation,
        "head": network.head,
    }


def build_lut(journal: Path | None = None, *, partial: bool = False) -> Lut:
    """Build the LUT of the last run in a journal, by default of what was last profiled.

    Raises:
        LatbenchError: nothing was profiled yet.
        JournalRefused: the journal cannot be read.
        MissingOps: the run lacks ops and `partial` is not set.
    """
    path = journal or last_profile()
    with Journal(path, readonly=True) as opened:
        return build_lut_of_run(opened, macs=lambda key: parse_key(key).macs, partial=partial)


def lut_stem(lut: Lut) -> str:
    """The name of a LUT's file, without suffix, that tells its target."""
    return _stem(find_device(lut.target.device), lut.target)


def last_profile() -> Path:
    """Return the journal of what was last profiled.

    Raises:
        LatbenchError: nothing was profiled yet.
    """
    try:
        return Path(json.loads(_pointer().read_text(encoding="utf-8"))["journal"])
    except (OSError, ValueError, KeyError, TypeError):
        raise LatbenchError(
            "nothing was profiled yet", hint="start with: latbench profile --device host"
        ) from None


def measure_latency(
    model: Path | Architecture,
    device: str = "host",
    *,
    runtime: Runtime | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    cores: Sequence[int] | None = None,
    where: Where = ANYWHERE,
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
        says_nothing = runtime is Runtime.TORCHSCRIPT and not metadata and is_torchscript(model)
        if says_nothing and input_shape is None:
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
            subject = Subject(str(architecture), Role.NETWORK, made.path, made.sha256)
        else:
            assert isinstance(model, Path)
            shapes = None if input_shape is None else (input_shape,)
            subject = Subject(model.name, Role.NETWORK, model, digest, shapes)
        networks = [network_subject(anchor.architecture, target, store) for anchor in anchors]
        sentinel = sentinel_subject(anchors[0].architecture, target, store) if anchors else None
        plan = Plan(target, (subject, *networks), sentinel, Settings(ci=ci, budget_s=budget_s))
        delegated = require_delegations(
            (unit,),
            target,
            plan.subjects,
            allow_partial=allow_partial or lut is not None,  # its run allowed it, or had nothing to
            progress=progress,
        )
        with Journal(journals() / "measure.sqlite") as opened:
            report = measured(plan, unit, opened, progress, {}, fresh=True)
    result = report.result(subject.key)
    latencies = [report.result(network.key).ms for network in networks]
    return Measurement.of(
        subject.key,
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
        return sha256_of(path.read_bytes())
    except OSError as error:
        raise LatbenchError(f"cannot read {path}: {error.strerror}") from None


def network_subject(network: Architecture, target: Target, store: ArtifactStore) -> Subject:
    """The subject that a whole network is, exported if the store lacks it."""
    made = export_architecture(network, target.runtime, target.precision, store)
    return Subject(_network_key(network), Role.NETWORK, made.path, made.sha256)


def sentinel_subject(sentinel: Architecture, target: Target, store: ArtifactStore) -> Subject:
    """The subject that `sentinel` is in its role, exported if the store lacks it."""
    made = export_architecture(sentinel, target.runtime, target.precision, store)
    return Subject(f"sentinel:{sentinel}", Role.SENTINEL, made.path, made.sha256)


def measured(
    plan: Plan,
    unit: Device,
    journal: Journal,
    progress: Progress,
    about: dict[str, Any],
    *,
    fresh: bool,
) -> RunReport:
    """Measure `plan` on one unit, telling `progress` of it; see `latbench.measure.measure`."""
    return measured_together(plan, [unit], journal, progress, about, fresh=fresh)


def measured_together(
    plan: Plan,
    units: Sequence[Device],
    journal: Journal,
    progress: Progress,
    about: dict[str, Any],
    *,
    fresh: bool,
) -> RunReport:
    """Measure `plan` on all `units`, telling `progress` of it; see `latbench.measure.measure_fleet`."""

    def tell(state: MeasureProgress) -> None:
        progress("measuring", state.done, state.expected)

    return measure_fleet(plan, units, journal, progress=tell, about=about, fresh=fresh)


def journals() -> Path:
    """The folder that journals lie in."""
    return home() / "journals"


def _pointer() -> Path:
    return home() / "last-profile.json"


def _stem(entry: CatalogueDevice, target: Target) -> str:
    return target.file_stem(entry.defaults.runtime, entry.defaults.precision)


def _space_stem(space: SearchSpace) -> str:
    first = "" if space.keeps_first_1x1 else "-drop"
    return f"{space.name}-{space.input_size}-w{space.width:g}-c{space.classes}{first}"
