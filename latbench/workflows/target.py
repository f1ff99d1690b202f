"""From what a caller asks for to a target, and the units that it is measured on."""

import contextlib
from collections.abc import Iterator, Sequence

from latbench.device.base import Device, Particular
from latbench.device.catalogue import CatalogueDevice, Defaults, find_device, require_runtime
from latbench.device.registry import ANY_UNIT, UnitSelector, open_devices
from latbench.target import Precision, Runtime, Target


def open_target(
    device: str,
    runtime: Runtime | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    cores: Sequence[int] | None = None,
    where: UnitSelector = ANY_UNIT,
) -> tuple[Device, Target]:
    """A unit to measure on, and the target, with the device's own defaults for what is None.

    The accelerator is the CPU. The caller closes the unit.

    Raises:
        UnknownName, DeviceUnavailable, BadRequest: as `latbench.workflows.profile.profile`.
    """
    _, (unit,), target = _open(device, runtime, precision, threads, cores, (where,))
    return unit, target


def reopen_target(target: Target, where: UnitSelector = ANY_UNIT) -> tuple[Device, Target]:
    """A unit to measure on again as `target` was measured; as `open_target`.

    Where `target` leaves the cores to the scheduler, a device that now has cores of its own to choose
    chooses them.
    """
    unit, again = open_target(
        target.device, target.runtime, target.precision, target.threads, target.cores or None, where
    )
    return unit, again.model_copy(update={"accelerator": target.accelerator})


@contextlib.contextmanager
def opened_target(
    device: str,
    runtime: Runtime | None,
    precision: Precision | None,
    threads: int | None,
    cores: Sequence[int] | None,
    where: Sequence[UnitSelector],
    accelerator: str = "cpu",
) -> Iterator[tuple[CatalogueDevice, list[Device], Target]]:
    """The catalogue's entry, units and target, as `open_target`; the units are closed at the end."""
    entry, units, target = _open(device, runtime, precision, threads, cores, where, accelerator)
    with contextlib.ExitStack() as closing:
        for unit in units:
            closing.callback(unit.close)
        yield entry, units, target


def _open(
    device: str,
    runtime: Runtime | None,
    precision: Precision | None,
    threads: int | None,
    cores: Sequence[int] | None,
    where: Sequence[UnitSelector],
    accelerator: str = "cpu",
) -> tuple[CatalogueDevice, list[Device], Target]:
    """As `opened_target`, but the caller closes the units."""
    entry = find_device(device)
    defaults = entry.defaults
    chosen_runtime, chosen_precision = runtime or defaults.runtime, precision or defaults.precision
    require_runtime(entry, chosen_runtime, chosen_precision, accelerator)
    count = defaults.threads if threads is None else threads
    units = open_devices(entry.name, where)
    try:
        chosen = _cores(cores, defaults, count, units[0])
        for unit in units[1:] if chosen else ():
            unit.require_cores(chosen, count)
        target = Target(
            device=entry.name,
            runtime=chosen_runtime,
            precision=chosen_precision,
            accelerator=accelerator,
            threads=count,
            cores=chosen,
        )
        for unit in units:
            if isinstance(unit, Particular):
                unit.require_runtime(target.runtime)
    except BaseException:
        for unit in units:
            unit.close()
        raise
    return entry, units, target


def _cores(
    asked: Sequence[int] | None, defaults: Defaults, threads: int, unit: Device
) -> tuple[int, ...]:
    """The cores asked for; else the device's own, if they are as many as the threads."""
    if asked is not None:
        unit.require_cores(asked, threads)
        return tuple(asked)
    if len(defaults.cores) != threads:
        return unit.default_cores(threads)
    unit.require_cores(defaults.cores, threads)
    return defaults.cores
