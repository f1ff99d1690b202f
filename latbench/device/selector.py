"""Which unit of a device to use, and how: the options of the command line as one value."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class UnitSelector:
    """Selects a unit of a device, the way to it, and what may be done to it.

    Attributes:
        unit: a serial number as adb lists it, HOST:PORT, or an iPhone's UDID; None: the only one attached.
        adb_server: HOST:PORT of the adb server; None: as adb's own environment variables say.
        skip_identity_check: accept the unit as the named device, whatever it identifies itself as.
        prepare: change its settings for steadier times, and restore them afterwards.
        address: HOST:PORT of the companion app of an iPhone on Wi-Fi; None: on USB.
        runner: NAME or NAME=FILE of the program that loads and times models; None: latbench's own.
    """

    unit: str | None = None
    adb_server: str | None = None
    skip_identity_check: bool = False
    prepare: bool = False
    address: str | None = None
    runner: str | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """The names of the fields that differ from their defaults."""
        return tuple(
            field.name for field in fields(self) if getattr(self, field.name) != field.default
        )


ANY_UNIT = UnitSelector()


def option_of(field: str) -> str:
    """Return the command-line option that sets a field of `UnitSelector`."""
    return "--as" if field == "skip_identity_check" else f"--{field.replace('_', '-')}"
