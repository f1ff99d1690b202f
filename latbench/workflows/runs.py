"""What all workflows that measure share: plans of exported models, their runs, and the places of journals."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from latbench.device.base import Device
from latbench.device.catalogue import CatalogueDevice
from latbench.errors import LatbenchError
from latbench.export import ArtifactStore, export_architecture, export_ops
from latbench.files import home
from latbench.lut import Lut
from latbench.lut.anchor import Anchor, DeviceState, state_of
from latbench.measure import (
    Journal,
    Plan,
    Role,
    RunNote,
    RunReport,
    Settings,
    Workload,
    measure_fleet,
)
from latbench.measure import Progress as MeasureProgress
from latbench.measure.plan import reference_workload
from latbench.measure.records import NetworkNote
from latbench.space import Architecture, OpSpec, SearchSpace
from latbench.space.design import sentinel_of
from latbench.space.sandwich import frames_of, sandwich_of
from latbench.target import Target

#: Called with the current step, and how much of how much of it is done.
Progress = Callable[[str, int, int], None]


def silent(step: str, done: int, total: int) -> None:
    """Report no progress."""


@dataclass(frozen=True)
class Selection:
    """The ops and whole networks of a search space that a run times.

    Attributes:
        space: the search space.
        ops: ops of it, timed in a sandwich if `sandwiched`, otherwise alone.
        networks: architectures of it, timed in the same rounds.
    """

    space: SearchSpace
    ops: tuple[OpSpec, ...]
    networks: tuple[Architecture, ...] = ()
    sandwiched: bool = False

    @property
    def chains(self) -> list[tuple[str, Role, tuple[OpSpec, ...]]]:
        """Key, role, and sequence of ops of each workload."""
        chains = [
            (op.key, Role.OP, sandwich_of(op) if self.sandwiched else (op,)) for op in self.ops
        ]
        if self.sandwiched:
            frames = dict.fromkeys(frame for op in self.ops for frame in frames_of(op))
            chains += [(frame.key, Role.FRAME, (frame, frame)) for frame in frames]
        return chains + [(network_key(one), Role.NETWORK, one.ops) for one in self.networks]


def planned(
    unit: Device, target: Target, selection: Selection, settings: Settings, progress: Progress
) -> tuple[Plan, RunNote]:
    """The plan that times `selection`, and the note from which a LUT is built afterwards.

    Models that the store lacks are exported.

    Raises:
        ExportFailed, OutputFailed: see `latbench.export`.
    """
    store, sentinel = ArtifactStore(), sentinel_of(selection.space)
    chains, workloads = selection.chains, []
    for key, role, ops in chains:
        made = export_ops(ops, key, target.runtime, target.precision, store)
        workloads.append(Workload(key, role, made.path, made.sha256))
        progress("exporting", len(workloads), len(chains))
    plan = Plan(
        target,
        tuple(workloads),
        sentinel_workload(sentinel, target, store),
        settings,
        None if unit.reference is None else reference_workload(unit.reference),
    )
    return plan, RunNote(
        space=selection.space.to_dict(),
        context="sandwich" if selection.sandwiched else "alone",
        sentinel=_note_of(sentinel),
        calibration=tuple(_note_of(network) for network in selection.networks),
    )


def plan_with_anchors(
    workloads: Sequence[Workload],
    anchors: Sequence[Anchor],
    target: Target,
    store: ArtifactStore,
    settings: Settings,
) -> Plan:
    """The plan that times `workloads` in the same rounds as the anchors of a LUT.

    The first anchor is the sentinel too. Without anchors the run has no sentinel. A workload may be an
    anchor.
    """
    networks = [network_workload(anchor.architecture, target, store) for anchor in anchors]
    distinct = {workload.key: workload for workload in (*workloads, *networks)}
    sentinel = sentinel_workload(anchors[0].architecture, target, store) if anchors else None
    return Plan(target, tuple(distinct.values()), sentinel, settings)


def network_key(network: Architecture) -> str:
    """The key of the workload of a whole network."""
    return f"network:{network.head}:{network.notation}"


def network_workload(network: Architecture, target: Target, store: ArtifactStore) -> Workload:
    """The workload of a whole network, exported if the store lacks it."""
    made = export_architecture(network, target.runtime, target.precision, store)
    return Workload(network_key(network), Role.NETWORK, made.path, made.sha256)


def sentinel_workload(sentinel: Architecture, target: Target, store: ArtifactStore) -> Workload:
    """The workload of the sentinel, exported if the store lacks it."""
    made = export_architecture(sentinel, target.runtime, target.precision, store)
    return Workload(f"sentinel:{sentinel}", Role.SENTINEL, made.path, made.sha256)


def _note_of(network: Architecture) -> NetworkNote:
    return NetworkNote(workload=network_key(network), layers=network.notation, head=network.head)


def measured(
    plan: Plan,
    units: Sequence[Device],
    journal: Path,
    progress: Progress,
    note: RunNote | None = None,
    *,
    fresh: bool = True,
) -> RunReport:
    """Measure `plan` on all `units` into the journal at a path; see `latbench.measure.measure_fleet`."""

    def report(state: MeasureProgress) -> None:
        progress("measuring", state.done, state.expected)

    with Journal(journal) as opened:
        return measure_fleet(plan, units, opened, progress=report, note=note, fresh=fresh)


def device_state(lut: Lut, anchors: Sequence[Anchor], report: RunReport) -> DeviceState | None:
    """The state of the device in a run that timed `anchors` of `lut`; None without anchors.

    Anchors with tainted trials only do not count, unless there are no others.

    Raises:
        LatbenchError: one was not measured.
    """
    if not anchors:
        return None
    keys = [network_key(anchor.architecture) for anchor in anchors]
    results = [report.result(key) for key in keys]
    pairs = list(zip(anchors, results, strict=True))
    trusted = [(anchor, result) for anchor, result in pairs if not result.distrusted] or pairs
    return state_of(lut, [anchor for anchor, _ in trusted], [result.ms for _, result in trusted])


def journals() -> Path:
    """The folder of journals."""
    return home() / "journals"


def last_profile() -> Path:
    """The journal of the last profile.

    Raises:
        LatbenchError: there is none.
    """
    try:
        return Path(json.loads(profile_pointer().read_text(encoding="utf-8"))["journal"])
    except (OSError, ValueError, KeyError, TypeError):
        raise LatbenchError(
            "no profile was measured yet", hint="start with: latbench profile --device host"
        ) from None


def profile_pointer() -> Path:
    """The file that holds the path of the last profile's journal."""
    return home() / "last-profile.json"


def target_stem(entry: CatalogueDevice, target: Target) -> str:
    """The name of a target in file names."""
    return target.file_stem(entry.defaults.runtime, entry.defaults.precision)


def space_stem(space: SearchSpace) -> str:
    """The name of a search space in file names."""
    square = space.input_height == space.input_width
    words = [
        space.name,
        str(space.input_height) if square else space.size,
        f"w{space.width:g}",
        f"c{space.classes}",
        "" if space.keeps_first_1x1 else "drop",
        ""
        if space.input_channels == space.definition.input.channels
        else f"i{space.input_channels}",
        "" if space.batch == 1 else f"n{space.batch}",
        "" if space.shipped else space.definition.sha256[:8],
    ]
    return "-".join(filter(None, words))
