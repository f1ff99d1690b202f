"""Check that an accelerator runs whole ops: `latbench profile --accelerator NAME`.

An engine leaves ops that its accelerator cannot run to the CPU, mostly without saying so. The latency of
such an op is that of two processors and of the transfers between them, which is seldom what a user wants to
measure. So a target whose ops are not wholly delegated is refused; with `--allow-partial` such ops are
reported instead.

A runner's reply to `load` says in `coverage` what runs where (docs/runner-protocol.md). Where an engine does
not report that nothing is left to the CPU, the op counts as partly delegated.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from latbench.device.base import Device
from latbench.errors import LatbenchError, RunnerFailed
from latbench.measure import Workload
from latbench.target import Target

_SHOWN = 12
CPU = "cpu"


@dataclass(frozen=True)
class Delegation:
    """What runs on an accelerator of a unit.

    Args:
        subjects: how many artifacts were loaded (the JSON name of workloads).
        fell_back: those that do not run wholly on it, by key, and what is known of them.
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
    """Call `require_delegation` for each unit; empty if the target is the CPU."""
    if target.accelerator == CPU:
        return ()

    def report(done: int, total: int) -> None:
        progress("checking what runs on the accelerator", done, total)

    return tuple(
        require_delegation(unit, target, workloads, allow_partial=allow_partial, progress=report)
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
    """Load every workload on a unit's accelerator, and find what is left to its CPU.

    Raises:
        LatbenchError: some are partly left to the CPU and `allow_partial` is false; they are listed.
        RunnerFailed: a workload cannot be loaded; the engine may lack the accelerator.
        DeviceUnavailable: the unit cannot be reached.
    """
    files = {one.key: one.path for one in workloads if one.path is not None}
    shapes = {one.key: one.input_shapes for one in workloads}
    paths = device.send(list(files.values()))
    fell_back: dict[str, str] = {}
    with device.open_runner() as runner:
        for number, (key, path) in enumerate(files.items()):
            try:
                loaded = runner.load(
                    paths[path],
                    target.runtime,
                    threads=target.threads,
                    cores=target.cores,
                    accelerator=target.accelerator,
                    input_shapes=shapes[key],
                )
            except RunnerFailed as error:
                raise error.of(key) from None
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
            hint="add --allow-partial to measure them as they are",
        )
    return Delegation(device.unit, len(files), fell_back)


def _left_to_cpu(coverage: Mapping[str, int]) -> str | None:
    """What is left to the CPU; None if nothing."""
    left = coverage.get("ops_outside_delegates")
    if left is None:
        return "the engine does not report what runs where"
    if left == 0:
        return None
    ops = coverage.get("ops")
    nodes, verb = ("1 node", "is") if left == 1 else (f"{left} nodes", "are")
    return f"{nodes}{f' of {ops}' if ops else ''} {verb} left to the CPU"
