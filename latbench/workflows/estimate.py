"""Estimate the LUT of a device from published latencies of whole networks; `latbench estimate`.

The figures are in `devices/published/<device>.toml`, each with its source. Those of the requested precision
are fitted (`latbench.lut.roofline`): only those of the same kernel library and number of threads if there are
any; otherwise all of them, which then show how networks compare, but hardly how long they take.
"""

import math
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from latbench._version import __version__
from latbench.device.catalogue import CatalogueDevice, find_device, require_runtime
from latbench.errors import BadRequest
from latbench.files import home, shipped
from latbench.lut.roofline import ENTRY_DEVIATION, Core, Figure, Roofline, fit_roofline
from latbench.lut.schema import Correction, Entry, Lut
from latbench.quantiles import Z975
from latbench.record import Integer, PositiveNumber, Record
from latbench.runtime.registry import descriptor
from latbench.space import OpSpec, SearchSpace, published
from latbench.space.families.classifier import Classifier, Pool
from latbench.space.families.conv import Head, Stem
from latbench.space.families.inverted_residual import DepthwiseSeparable, InvertedResidual
from latbench.space.shipped import published_networks
from latbench.target import Precision, Runtime, Target

#: What the model does not include; stored in every modelled LUT.
UNKNOWN = (
    "layout conversions, caches and kernels chosen by shape: single entries may be far off",
    "the unit: its clock under load, temperature, versions of system and runtime",
    "how ops add up in a network: known only from the few published networks",
)

#: Prior deviation (logarithm) of the common factor of figures of the same engine and number of threads: on
#: the device itself, and on another one with the same SoC.
_SAME_DEVICE, _SAME_SOC = 0.10, 0.15
#: The same for another engine or number of threads: nearly free.
_OTHER_LEVEL = 1.0
#: Deviation (logarithm) of the ratio of two networks between engines.
_OTHER_ENGINE = 0.15
#: The clock of a core that the catalogue does not state, GHz.
_UNKNOWN_GHZ = 2.0


class PublishedFigure(Record):
    """A published latency of one network, milliseconds at batch 1.

    `engine` is the kernel library. `threads` is None if the source does not state it. `on` names the phone if
    it is another one than the device.
    """

    network: str
    release: Literal["2019", "2020"] = "2019"
    ms: PositiveNumber
    engine: str
    precision: Precision
    threads: Integer | None = Field(default=None, ge=1)
    on: str | None = None
    source: str = Field(min_length=10)


class PublishedComparison(Record):
    """A published ratio of the latencies of `network` and `versus`; engine and precision are not stated."""

    network: str
    versus: str
    release: Literal["2019", "2020"] = "2020"
    ratio: PositiveNumber
    source: str = Field(min_length=10)


class PublishedCore(Record):
    """Multiply-accumulates per cycle of the device's default core, by precision."""

    macs_per_cycle: dict[Precision, PositiveNumber]
    source: str = Field(min_length=10)


class PublishedFigures(Record):
    """The contents of `devices/published/<device>.toml`."""

    core: PublishedCore
    figure: tuple[PublishedFigure, ...] = ()
    comparison: tuple[PublishedComparison, ...] = ()


def published_figures(device: str, *, instead: str | None = None) -> PublishedFigures:
    """Return the published figures of `device`, a name of the catalogue.

    Args:
        instead: the command that measures the device; by default `latbench profile` with default options.

    Raises:
        BadRequest: there are none, or their file is invalid.
    """
    folders = [folder / "published" for folder in _folders()]
    paths = [folder / f"{device}.toml" for folder in folders]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        known = sorted({found.stem for folder in folders for found in folder.glob("*.toml")})
        raise BadRequest(
            f"no published figures of {device}; there are some of {', '.join(known)}",
            hint=f"measure it with: {instead or f'latbench profile --device {device}'}",
        )
    try:
        return PublishedFigures.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        reason = error.errors()[0] if isinstance(error, ValidationError) else None
        detail = f"{'.'.join(map(str, reason['loc']))}: {reason['msg']}" if reason else str(error)
        raise BadRequest(f"{path}: {detail}") from None


def _folders() -> tuple[Path, ...]:
    """The folders that are searched for devices, in order of precedence."""
    return (Path.cwd() / "devices", home() / "devices", shipped("devices"))


def estimate(
    device: str,
    space: SearchSpace | None = None,
    *,
    runtime: Runtime | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    cores: Sequence[int] | None = None,
) -> Lut:
    """Return a modelled LUT of `device`.

    Args:
        device: a name of the catalogue with published figures.
        space: by default the default search space.
        runtime, precision, threads, cores: by default those of the device.

    Raises:
        UnknownName: the device is unknown.
        BadRequest: it has no published figures, or none of the precision.
    """
    entry = find_device(device)
    require_runtime(entry, runtime or entry.defaults.runtime, precision or entry.defaults.precision)
    target = Target(
        device=entry.name,
        runtime=runtime or entry.defaults.runtime,
        precision=precision or entry.defaults.precision,
        threads=threads or entry.defaults.threads,
        cores=tuple(entry.defaults.cores if cores is None else cores),
    )
    if len(target.cores) < target.threads:
        target = target.model_copy(update={"cores": ()})
    space = space or SearchSpace.named()
    instead = f"latbench profile {target.arguments} {space.arguments}"
    known = published_figures(entry.name, instead=instead)
    fitted = _fitted(known, target)
    figures = [*(_figure(one, target) for one in fitted), *map(_compared, known.comparison)]
    if not figures:
        raise BadRequest(
            f"no published figures of {entry.name} are for {target.precision}",
            hint=f"measure it with: {instead}",
        )
    core = _core(entry, known.core, target)
    roofline = fit_roofline(core, target.precision, figures)
    about = {
        "clock_ghz": core.ghz,
        "macs_per_cycle": core.macs_per_cycle,
        "core_source": known.core.source,
        "published": _compared_figures(roofline, known, fitted),
    }
    return modelled_lut(target, space, core, roofline, figures, about)


def _fitted(known: PublishedFigures, target: Target) -> list[PublishedFigure]:
    """The figures to fit: those most like `target`."""
    same = [one for one in known.figure if one.precision is target.precision]
    return [one for one in same if _alike(one, target)] or same


def _alike(figure: PublishedFigure, target: Target) -> bool:
    return figure.engine == descriptor(target.runtime).kernels and figure.threads == target.threads


def _figure(one: PublishedFigure, target: Target) -> Figure:
    spread = (_SAME_SOC if one.on else _SAME_DEVICE) if _alike(one, target) else _OTHER_LEVEL
    group = f"{one.engine}, {one.threads} threads, {one.on}"
    return Figure(one.network, network_ops(one.network, one.release), one.ms, group, spread)


def _compared(one: PublishedComparison) -> Figure:
    ops, versus = network_ops(one.network, one.release), network_ops(one.versus, one.release)
    name = f"{one.network} / {one.versus}"
    return Figure(name, ops, one.ratio, name, 0.0, versus, _OTHER_ENGINE)


def _core(entry: CatalogueDevice, known: PublishedCore, target: Target) -> Core:
    """The core that the target runs on: of its cluster, or else the fastest."""
    chosen = [one for one in entry.clusters if set(target.cores) & set(one.cores)]
    clocks = [one.peak_mhz for one in (chosen or entry.clusters[-1:]) if one.peak_mhz]
    ghz = max(clocks) / 1000 if clocks else _UNKNOWN_GHZ
    if target.precision not in known.macs_per_cycle:
        raise BadRequest(
            f"[core] in the published figures of {entry.name} has no macs_per_cycle for {target.precision}",
            hint="add it, or choose another precision with --precision",
        )
    return Core(ghz, known.macs_per_cycle[target.precision], target.threads)


def _compared_figures(
    roofline: Roofline, known: PublishedFigures, fitted: Sequence[PublishedFigure]
) -> list[dict[str, Any]]:
    """Every published figure, fitted or not, with the model's value."""
    rows: list[dict[str, Any]] = []
    for one in known.figure:
        if one.precision is roofline.precision:
            modelled = roofline.ms(network_ops(one.network, one.release))
            row = one.model_dump(mode="json", exclude_none=True)
            rows.append(row | {"modelled_ms": round(modelled, 2), "fitted": one in fitted})
    for ratio in known.comparison:
        ops = (network_ops(name, ratio.release) for name in (ratio.network, ratio.versus))
        first, second = map(roofline.ms, ops)
        row = ratio.model_dump(mode="json")
        rows.append(row | {"modelled_ratio": round(first / second, 3), "fitted": True})
    return rows


def modelled_lut(
    target: Target,
    space: SearchSpace,
    core: Core,
    roofline: Roofline,
    figures: Sequence[Figure],
    about: Mapping[str, Any],
) -> Lut:
    """Return a LUT of every op of `space` from a `roofline` of `core` that was fitted to `figures`.

    The interval of an entry combines the uncertainty of the fit and `ENTRY_DEVIATION`. Errors common to all
    entries are the residual of the LUT's correction, so that they do not average out in a network. `about` is
    added to the LUT's method.
    """
    levels = [one.factor_spread for one in figures if not one.versus]
    # The user's unit differs from the published one as published units differ from each other.
    unit = min((level for level in levels if level < _OTHER_LEVEL), default=0.0)
    entries = {}
    for op in space.unique_ops:
        ms = roofline.ms([op])
        deviation = math.hypot(ENTRY_DEVIATION, roofline.deviation([op]), unit)
        factor = math.exp(Z975 * deviation)
        entries[op.key] = Entry(
            ms=ms, ci95=(ms / factor, ms * factor), samples=0, rounds=0, spread=0.0, macs=op.macs
        )
    shared = math.hypot(unit, roofline.deviation(space.unique_ops))
    peak = core.peak_macs_per_ms
    return Lut(
        target=target,
        space=space.to_dict(),
        provenance="modelled",
        created=datetime.now(UTC).replace(microsecond=0),
        tool={"name": "latbench", "version": __version__},
        method={
            "model": "roofline",
            "dense_gmacs": roofline.dense_macs_per_ms / 1e6,
            "depthwise_gmacs": roofline.depthwise_macs_per_ms / 1e6,
            "dense_efficiency": roofline.dense_macs_per_ms / peak,
            "depthwise_efficiency": roofline.depthwise_macs_per_ms / peak,
            "bandwidth_gbps": roofline.bytes_per_ms / 1e6,
            "overhead_us": roofline.overhead_ms * 1e3,
            "log_deviations": [math.sqrt(one) for one in np.diag(roofline.covariance)],
            "entry_deviation": ENTRY_DEVIATION,
            "unknown": list(UNKNOWN),
            **about,
        },
        entries=entries,
        correction=Correction(scale=1.0, residual=shared, networks=len(figures)),
    )


def network_ops(name: str, release: str = "2019") -> tuple[OpSpec, ...]:
    """The ops of a published network: mobilenet_v1, mobilenet_v2, or one of a shipped space.

    Raises:
        BadRequest: the network is unknown.
    """
    if name == "mobilenet_v1":
        return _mobilenet_v1()
    if name == "mobilenet_v2":
        return _mobilenet_v2()
    if name not in published_networks():
        raise BadRequest(f"unknown network {name!r} in the published figures")
    return published(name, release=release).ops


def _mobilenet_v1() -> tuple[OpSpec, ...]:
    """MobileNet (Howard et al., arXiv:1704.04861, Table 1) at 224."""
    rows = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5]
    ops: list[OpSpec] = [_stem()]
    channels, size = 32, 112
    for outputs, stride in [*rows, (1024, 2), (1024, 1)]:
        ops.append(DepthwiseSeparable(**_shape(channels, outputs, size), kernel=3, stride=stride))
        channels, size = outputs, size // stride
    return (*ops, *_end(channels, size))


def _mobilenet_v2() -> tuple[OpSpec, ...]:
    """MobileNetV2 (Sandler et al., CVPR 2018, Table 2) at 224."""
    ops: list[OpSpec] = [_stem(), DepthwiseSeparable(**_shape(32, 16, 112), kernel=3)]
    channels, size = 16, 112
    table = [(24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1)]
    for outputs, repeats, first in table:
        for number in range(repeats):
            stride, shape = 1 if number else first, _shape(channels, outputs, size)
            ops.append(InvertedResidual(**shape, kernel=3, expansion=6, stride=stride))
            channels, size = outputs, size // stride
    ops.append(Head(**_shape(channels, 1280, size)))
    return (*ops, *_end(1280, size))


def _stem() -> OpSpec:
    return Stem(**_shape(3, 32, 224), kernel=3, stride=2)


def _shape(inputs: int, outputs: int, size: int) -> dict[str, Any]:
    return {"in_channels": inputs, "out_channels": outputs, "height": size, "width": size}


def _end(channels: int, size: int) -> tuple[OpSpec, OpSpec]:
    return (
        Pool(in_channels=channels, height=size, width=size),
        Classifier(in_channels=channels, out_channels=1000),
    )
