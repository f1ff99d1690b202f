"""Request a target, open it, and get the units it is measured on."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from latbench.device.base import Device, LimitsRuntimes
from latbench.device.catalogue import CatalogueDevice, Defaults, find_device, require_runtime
from latbench.device.registry import ANY_UNIT, UnitSelector, open_devices
from latbench.errors import BadRequest
from latbench.target import Precision, Runtime, Target
from latbench.workflows.delegation import CPU


@dataclass(frozen=True, kw_only=True)
class TargetRequest:
    """What to measure on. None means the default of the device.

    Attributes:
        device: a device of the catalogue.
        runtime, precision: the library that runs models, and their number format.
        accelerator: as the runner names it (docs/runner-protocol.md); None means the CPU.
        threads: inference threads.
        cores: CPU cores to pin to.
        units: the units of the device. Several share the work.

    Raises:
        BadRequest: `units` is empty.
    """

    device: str = "host"
    runtime: Runtime | None = None
    precision: Precision | None = None
    accelerator: str | None = None
    threads: int | None = None
    cores: tuple[int, ...] | None = None
    units: tuple[UnitSelector, ...] = (ANY_UNIT,)

    def __post_init__(self) -> None:
        if not self.units:
            raise BadRequest("a target request must select at least 1 unit, got 0")

    @classmethod
    def of(cls, target: "TargetRequest | str") -> "TargetRequest":
        """`target`, or a request for the device of that name with its defaults."""
        return cls(device=target) if isinstance(target, str) else target

    @classmethod
    def repeat(cls, target: Target, unit: UnitSelector = ANY_UNIT) -> "TargetRequest":
        """A request for the target of an earlier run.

        If that run left the choice of cores to the operating system, the device's current default
        applies.
        """
        return cls(
            device=target.device,
            runtime=target.runtime,
            precision=target.precision,
            accelerator=target.accelerator,
            threads=target.threads,
            cores=target.cores or None,
            units=(unit,),
        )


@dataclass(frozen=True)
class OpenedTarget:
    """A target and its open units. Use it as a context manager, or call `close`."""

    target: Target
    entry: CatalogueDevice
    units: tuple[Device, ...]
    _closing: ExitStack = field(repr=False)

    @property
    def unit(self) -> Device:
        """The only unit.

        Raises:
            BadRequest: several were requested.
        """
        if len(self.units) > 1:
            raise BadRequest(
                f"this measurement takes 1 unit, got {len(self.units)}",
                hint="select one of them with --unit",
            )
        return self.units[0]

    def close(self) -> None:
        """Close all units."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def open_target(request: TargetRequest | str = "host") -> OpenedTarget:
    """Open the units of a target. The caller closes it.

    Raises:
        UnknownName: the catalogue has no such device.
        DeviceUnavailable: a unit cannot be reached, or is in use.
        BadRequest: the device does not support the runtime, the precision or the cores, or several
            units are attached and none is selected.
    """
    request = TargetRequest.of(request)
    entry = find_device(request.device)
    runtime = request.runtime or entry.defaults.runtime
    precision = request.precision or entry.defaults.precision
    accelerator = request.accelerator or CPU
    threads = entry.defaults.threads if request.threads is None else request.threads
    require_runtime(entry, runtime, precision, accelerator)
    units = open_devices(entry.name, request.units)
    with ExitStack() as closing:
        for unit in units:
            closing.callback(unit.close)
        target = Target(
            device=entry.name,
            runtime=runtime,
            precision=precision,
            accelerator=accelerator,
            threads=threads,
            cores=_cores_of(request, entry.defaults, threads, units[0]),
        )
        _require_support(units, target)
        return OpenedTarget(target, entry, tuple(units), closing.pop_all())
    raise AssertionError("an exit stack suppresses no error")


def _cores_of(
    request: TargetRequest, defaults: Defaults, threads: int, unit: Device
) -> tuple[int, ...]:
    """The requested cores, or the device's own if their number equals that of the threads."""
    if request.cores is None and len(defaults.cores) != threads:
        return unit.default_cores(threads)
    cores = defaults.cores if request.cores is None else request.cores
    unit.require_cores(cores, threads)
    return cores


def _require_support(units: list[Device], target: Target) -> None:
    """Make sure that all units have the target's cores and runtime."""
    for unit in units[1:] if target.cores else ():
        unit.require_cores(target.cores, target.threads)
    for unit in units:
        if isinstance(unit, LimitsRuntimes):
            unit.require_runtime(target.runtime)
