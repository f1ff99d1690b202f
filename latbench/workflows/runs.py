"""What every workflow that measures has in common: a plan's artifacts, its run, and where journals lie."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from latbench.device.base import Device
from latbench.device.catalogue import CatalogueDevice
from latbench.errors import LatbenchError
from latbench.export import ArtifactStore, export_architecture, export_ops
from latbench.files import home
from latbench.measure import (
    Journal,
    Plan,
    Role,
    RunReport,
    Settings,
    Workload,
    measure_fleet,
)
from latbench.measure import Progress as MeasureProgress
from latbench.measure.plan import reference_workload
from latbench.space import Architecture, OpSpec, SearchSpace, published
from latbench.space.design import SENTINEL
from latbench.space.sandwich import frames_of, sandwich_of
from latbench.target import Target

#: Told what is going on, how much of it is done, and of how much.
Progress = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """The progress of a caller who asked for none."""


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
    chains = chains_of(ops, networks, sandwiched)
    workloads = []
    for key, role, chain in chains:
        made = export_ops(chain, key, target.runtime, target.precision, store)
        workloads.append(Workload(key, role, made.path, made.sha256))
        progress("exporting", len(workloads), len(chains))
    plan = Plan(
        target,
        tuple(workloads),
        sentinel_workload(sentinel, target, store),
        settings,
        None if unit.reference is None else reference_workload(unit.reference),
    )
    return plan, {
        "space": space.to_dict(),
        "context": "sandwich" if sandwiched else "alone",
        "sentinel": _noted(sentinel),
        "calibration": [_noted(network) for network in networks],
    }


def chains_of(
    ops: Sequence[OpSpec], networks: Sequence[Architecture], sandwiched: bool
) -> list[tuple[str, Role, tuple[OpSpec, ...]]]:
    """What `planned` times: key, role, and the ops in sequence."""
    chains = [(op.key, Role.OP, sandwich_of(op) if sandwiched else (op,)) for op in ops]
    if sandwiched:
        frames = dict.fromkeys(frame for op in ops for frame in frames_of(op))
        chains += [(frame.key, Role.FRAME, (frame, frame)) for frame in frames]
    return chains + [(network_key(network), Role.NETWORK, network.ops) for network in networks]


def network_key(network: Architecture) -> str:
    return f"network:{network.head}:{network.notation}"


def _noted(network: Architecture) -> dict[str, str | int]:
    """What a run's record says of a network."""
    return {
        "subject": network_key(network),
        "layers": network.notation,
        "head": network.head,
    }


def network_workload(network: Architecture, target: Target, store: ArtifactStore) -> Workload:
    """The workload that a whole network is, exported if the store lacks it."""
    made = export_architecture(network, target.runtime, target.precision, store)
    return Workload(network_key(network), Role.NETWORK, made.path, made.sha256)


def sentinel_workload(sentinel: Architecture, target: Target, store: ArtifactStore) -> Workload:
    """The workload that `sentinel` is in its role, exported if the store lacks it."""
    made = export_architecture(sentinel, target.runtime, target.precision, store)
    return Workload(f"sentinel:{sentinel}", Role.SENTINEL, made.path, made.sha256)


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


def last_profile() -> Path:
    """Return the journal of what was last profiled.

    Raises:
        LatbenchError: nothing was profiled yet.
    """
    try:
        return Path(json.loads(profile_pointer().read_text(encoding="utf-8"))["journal"])
    except (OSError, ValueError, KeyError, TypeError):
        raise LatbenchError(
            "nothing was profiled yet", hint="start with: latbench profile --device host"
        ) from None


def profile_pointer() -> Path:
    return home() / "last-profile.json"


def target_stem(entry: CatalogueDevice, target: Target) -> str:
    return target.file_stem(entry.defaults.runtime, entry.defaults.precision)


def space_stem(space: SearchSpace) -> str:
    first = "" if space.keeps_first_1x1 else "-drop"
    return f"{space.name}-{space.input_size}-w{space.width:g}-c{space.classes}{first}"
