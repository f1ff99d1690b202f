"""This machine as a kind of device."""

from typing import TYPE_CHECKING

from latbench.device.catalogue import CatalogueDevice, recognise
from latbench.device.opener import AttachedUnit, DeviceOpener, split_runner
from latbench.device.selector import UnitSelector
from latbench.device.tools.programs import TOOLS

if TYPE_CHECKING:
    from latbench.device.base import Device

#: The name of the native runner, the one in C.
NATIVE = "native"


def _open(entry: CatalogueDevice, selector: UnitSelector) -> "Device":
    """Raises DeviceUnavailable: the chosen runner is not there; RunnerFailed: it does not start."""
    if selector.runner is None:
        from latbench.device.host.device import HostDevice

        return HostDevice()
    name, program = split_runner(selector.runner)
    if name == NATIVE:
        from latbench.device.host.native import native_host_device

        return native_host_device(program)
    from latbench.device.host.tool import tool_host_device

    return tool_host_device(TOOLS[name], program)


def _attached() -> list[AttachedUnit]:
    from latbench.device.host.device import HostDevice

    host = HostDevice()
    board = recognise(host.properties)
    note = None if board is None else f"this is a {board.title}; measure on it with --device host"
    return [AttachedUnit(host.name, host.unit, host.description, "ready", True, note)]


HOST = DeviceOpener(
    kind="this machine",
    opens=lambda entry: entry.kind == "host",
    open=_open,
    runners=(NATIVE, *TOOLS),
    attached=_attached,
)
