"""Whether an accelerator takes whole ops: `latbench profile --accelerator NAME`.

An engine gives what an accelerator cannot do to the CPU, and says little of it. The time of such an op is
one of two processors and of the way between them, and seldom what somebody wants to know; so a target
whose ops are not wholly delegated is refused, unless that is allowed, and then reported.

What runs where says `coverage` in a runner's answer to `load` (docs/runner-protocol.md). Where an engine
does not tell that nothing is left to the CPU, it is taken that something may be.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from latbench.device.base import Device
from latbench.errors import LatbenchError
from latbench.measure import Workload
from latbench.target import Target

_SHOWN = 12
CPU = "cpu"


@dataclass(frozen=True)
class Delegation:
    """What an accelerator of a unit takes.

    Args:
        subjects: how many artifacts were asked about. (the name that JSON and journals have for workloads)
        fell_back: those that it does not take wholly, by key, and what is known of them.
    """

    unit: str
    subjects: int
    fell_back: Mapping[str, str]


def require_delegations(
    units: Sequence[Device],
    target: Target,
    workloads: Sequence[Workload],
    *,
    allow_partial: bool,
    progress: Callable[[str, int, int], None],
) -> tuple[Delegation, ...]:
    """`require_delegation` of each unit; nothing where the target is the CPU."""
    if target.accelerator == CPU:
        return ()

    def tell(done: int, total: int) -> None:
        progress("asking what runs where", done, total)

    return tuple(
        require_delegation(unit, target, workloads, allow_partial=allow_partial, progress=tell)
        for unit in units
    )


def require_delegation(
    device: Device,
    target: Target,
    workloads: Sequence[Workload],
    *,
    allow_partial: bool,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Delegation:
    """Load every workload on a unit's accelerator, and see what is left to its CPU.

    Raises:
        LatbenchError: something is, and `allow_partial` is not set; it is listed.
        RunnerFailed: a workload cannot be loaded; the engine may not know the accelerator.
        DeviceUnavailable: the unit cannot be reached.
    """
    files = {one.key: one.path for one in workloads if one.path is not None}
    shapes = {one.key: one.input_shapes for one in workloads}
    places = device.send(list(files.values()))
    fell_back: dict[str, str] = {}
    with device.open_runner() as runner:
        for number, (key, path) in enumerate(files.items()):
            loaded = runner.load(
                places[path],
                target.runtime,
                threads=target.threads,
                cores=target.cores,
                accelerator=target.accelerator,
                input_shapes=shapes[key],
            )
            runner.unload(loaded.handle)
            left = _left_to_cpu(loaded.coverage)
            if left is not None:
                fell_back[key] = left
            progress(number + 1, len(files))
    if fell_back and not allow_partial:
        details = [f"{key}: {left}" for key, left in list(fell_back.items())[:_SHOWN]]
        more = len(fell_back) - len(details)
        raise LatbenchError(
            f"{len(fell_back)} of {len(files)} artifacts do not run wholly on {target.accelerator} of "
            f"{device.unit}:",
            details=[*details, f"… and {more} more"] if more else details,
            hint="to measure them as they run all the same, add --allow-partial",
        )
    return Delegation(device.unit, len(files), fell_back)


def _left_to_cpu(coverage: Mapping[str, int]) -> str | None:
    """What is left to the CPU; None if nothing is."""
    left = coverage.get("ops_outside_delegates")
    if left is None:
        return "the engine does not tell that all of it does"
    if left == 0:
        return None
    ops = coverage.get("ops")
    return f"{left} nodes" + (f" of {ops}" if ops else "") + " are left to the CPU"
