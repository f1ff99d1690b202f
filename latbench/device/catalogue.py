"""The device catalogue: one TOML file for each phone, board and host.

Files come from the shipped `devices/`, from `devices/` in latbench's home, and from `./devices`; a
later one replaces an earlier one of the same name.
"""

import tomllib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from latbench.errors import BadRequest, UnknownName
from latbench.files import home, shipped
from latbench.record import Integer, Number, Record, problems_of
from latbench.runtime.registry import descriptor, require_format
from latbench.target import Precision, Runtime

Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


class Cluster(Record):
    """Cores of one kind. A device lists its slowest cluster first.

    Attributes:
        count: the number of cores.
        cores: their numbers in the operating system; empty if it has none.
        peak_mhz: the highest clock that the maker states.
    """

    name: str = Field(min_length=1)
    count: Integer = Field(ge=1)
    cores: tuple[Annotated[Integer, Field(ge=0)], ...] = ()
    peak_mhz: Integer | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _counted(self) -> Self:
        if self.cores and len(set(self.cores)) != self.count:
            raise ValueError(f"count is {self.count}, but cores lists {list(self.cores)}")
        return self


class PeakRates(Record):
    """Theoretical peaks of all cores together, and their source.

    Rates are in 1e9 operations per second (a multiply-add is two) and 1e9 bytes per second.
    """

    fp32_gflops: Number | None = Field(default=None, gt=0)
    int8_gops: Number | None = Field(default=None, gt=0)
    memory_gbps: Number | None = Field(default=None, gt=0)
    source: str = Field(min_length=10)


class Defaults(Record):
    """The target that is measured by default. Without `cores`, they are chosen at run time."""

    runtime: Runtime = Runtime.TFLITE
    precision: Precision = Precision.FP32
    threads: Integer = Field(default=1, ge=1)
    cores: tuple[Integer, ...] = ()


class CatalogueDevice(Record):
    """One device of the catalogue.

    `recognise` maps properties that a unit reports to patterns of this device's values (fnmatch):
    `ro.product.model` of Android, `ProductType` of iOS, `devicetree.model` of a board.
    """

    name: Name
    title: str = Field(min_length=1)
    answers_to: tuple[Name, ...] = ()
    kind: Literal["phone", "board", "host"]
    os: Literal["android", "ios", "linux", "any"]
    soc: str | None = None
    released: Integer | None = Field(default=None, ge=2007, le=2100)
    clusters: tuple[Cluster, ...] = ()
    peak: PeakRates | None = None
    recognise: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    defaults: Defaults = Defaults()
    sources: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        cores = [core for cluster in self.clusters for core in cluster.cores]
        if len(cores) != len(set(cores)):
            raise ValueError("a core is in two clusters")
        if cores and not set(self.defaults.cores) <= set(cores):
            raise ValueError(f"defaults.cores {list(self.defaults.cores)} are in no cluster")
        if self.defaults.cores and len(self.defaults.cores) < self.defaults.threads:
            raise ValueError("defaults.threads exceeds the number of defaults.cores")
        systems = descriptor(self.defaults.runtime).systems
        if self.os not in systems:
            raise ValueError(
                f"defaults.runtime {self.defaults.runtime} needs os to be {' or '.join(systems)}"
            )
        return self

    @property
    def core_summary(self) -> str:
        """The clusters on one line, fastest first: '4x Cortex-A73 2.35 GHz + …'."""
        return " + ".join(
            f"{cluster.count}x {cluster.name}"
            + (f" {cluster.peak_mhz / 1000:.2f} GHz" if cluster.peak_mhz else "")
            for cluster in reversed(self.clusters)
        )


def load_catalogue() -> dict[str, CatalogueDevice]:
    """Return every device of the catalogue by name, sorted.

    Raises:
        BadRequest: a file is not TOML, or a field is missing or invalid; the error names both.
    """
    devices: dict[str, CatalogueDevice] = {}
    for path in _files():
        device = read_device(path)
        devices[device.name] = device
    return dict(sorted(devices.items()))


def read_device(path: Path) -> CatalogueDevice:
    """Read one file of the catalogue.

    Raises:
        BadRequest: as `load_catalogue`.
    """
    hint = f"correct {path}, or move it out of its folder"
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRequest(f"cannot read {path}: {error.strerror}", hint=hint) from None
    except ValueError as error:  # of TOML, or of UTF-8
        raise BadRequest(f"{path} is not valid TOML: {error}", hint=hint) from None
    try:
        device = CatalogueDevice.model_validate(data)
    except ValidationError as error:
        raise BadRequest(
            f"{path} is not a valid device description:", details=problems_of(error), hint=hint
        ) from None
    if device.name != path.stem:
        raise BadRequest(
            f"{path}: the name is {device.name!r}, but the file is called {path.name}", hint=hint
        )
    return device


def find_device(name: str) -> CatalogueDevice:
    """Return the device with that name or alias; case does not matter.

    Raises:
        UnknownName: there is none; the error suggests the nearest names.
        BadRequest: as `load_catalogue`.
    """
    catalogue = load_catalogue()
    lowered = name.lower()
    if lowered in catalogue:
        return catalogue[lowered]
    for device in catalogue.values():
        if lowered in device.answers_to:
            return device
    known = sorted({*catalogue, *(alias for one in catalogue.values() for alias in one.answers_to)})
    raise UnknownName("device", name, known)


def require_runtime(
    device: CatalogueDevice, runtime: Runtime, precision: Precision, accelerator: str = "cpu"
) -> None:
    """Check that `runtime` runs on a device in `precision`, and has such an accelerator.

    Raises:
        BadRequest: it does not run there, or not in that precision.
        UnknownName: it has no such accelerator on any device.
    """
    found = descriptor(runtime)
    if device.os not in found.systems:
        others = [other for other in Runtime if device.os in descriptor(other).systems]
        raise BadRequest(
            f"{found.title} does not run on {device.name}: it runs on {found.runs_on}",
            hint=f"choose --runtime {' or '.join(others)}, or another device: latbench devices",
        )
    require_format(runtime, precision)
    if accelerator not in found.accelerators:
        raise UnknownName("accelerator", accelerator, found.accelerators)


def recognise(properties: Mapping[str, str]) -> CatalogueDevice | None:
    """Return the catalogue device of a unit with these properties, or None if it is in none.

    Raises:
        BadRequest: as `load_catalogue`.
    """
    for device in load_catalogue().values():
        for name, patterns in device.recognise.items():
            value = properties.get(name)
            if value is not None and any(fnmatchcase(value, pattern) for pattern in patterns):
                return device
    return None


def _files() -> Iterator[Path]:
    seen: set[Path] = set()
    for folder in (shipped("devices"), home() / "devices", Path.cwd() / "devices"):
        for path in sorted(folder.glob("*.toml")):
            if path.resolve() not in seen:
                seen.add(path.resolve())
                yield path
