"""The LUT file: its contents, how it is read and written, and what is refused.

A LUT is JSON with sorted keys and one entry per line, so that diffs are readable. `content_sha256` is
the SHA-256 of everything else as compact JSON with sorted keys. Reading a LUT never runs code.

History of the schema:
    1  (2026-11-24)  the first.
    2  (2026-11-24)  a correction has a factor for each entry, and its calibration networks; an
                     entry has its context, placement, outliers and warnings; a run has a reference.
    3  (2026-11-27)  a correction has boundary costs, under the keys `transitions` and
                     `transition_deviation`.
    4  (2026-11-30)  a correction has deviations of ops that share a trait, the deviation between runs, and
                     the factor of its intervals.
    5  (2026-11-30)  the space has its whole definition and the hash of it, the input's channels, and a batch;
                     the input may be a height and a width. An entry of an imported LUT may have no interval.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AwareDatetime, ConfigDict, Field, ValidationError, model_validator

from latbench.errors import BadRequest, LutRefused, MissingOps
from latbench.files import sha256_of, write_atomically
from latbench.record import (
    Count,
    Integer,
    NonNegativeNumber,
    Number,
    PositiveNumber,
    Record,
    problems_of,
)
from latbench.space.architecture import Architecture
from latbench.space.boundaries import Boundary, boundary_values
from latbench.space.opspec import OpSpec, parse_key
from latbench.space.search_space import SearchSpace
from latbench.space.shipped import space_file, space_names
from latbench.space.traits import Trait
from latbench.target import Precision, Runtime, Target

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 5


def _update_to_2(content: dict[str, Any]) -> dict[str, Any]:
    """Every new field has a default, which is what schema 1 meant."""
    return content | {"schema": 2}


def _update_to_3(content: dict[str, Any]) -> dict[str, Any]:
    """The new fields have defaults: schema 2 had no boundary costs."""
    return content | {"schema": 3}


def _update_to_4(content: dict[str, Any]) -> dict[str, Any]:
    """The new fields have defaults: schema 3 knew of no such deviations."""
    return content | {"schema": 4}


def _update_to_5(content: dict[str, Any]) -> dict[str, Any]:
    """Schema 4 only named its space, which is one of those that were shipped then."""
    space = content.get("space")
    if isinstance(space, dict) and space.get("name") in space_names():
        definition = space_file(space["name"]).definition
        space = {
            "channels": definition.input.channels,
            "batch": 1,
            "definition": definition.content(),
            "sha256": definition.sha256,
        } | space
    return content | {"schema": 5, "space": space}


#: Schema n -> the function that turns a file of schema n into one of schema n + 1.
UPDATES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: _update_to_2,
    2: _update_to_3,
    3: _update_to_4,
    4: _update_to_5,
}

Provenance = Literal["measured", "modelled", "imported"]


Milliseconds = PositiveNumber
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Entry(Record):
    """The statistic of one op's trials.

    `ms` is the median of the round medians, `ci95` its 95 % confidence interval, both in milliseconds at
    batch 1; `spread` is the robust relative spread of single samples (1.4826 MAD / median). `rounds` and
    `samples` count what the statistic was made of; `tainted` counts the op's tainted trials.

    In the context "sandwich", `ms` is the latency of the sandwich minus half that of each pair of frames, and
    `ci95` combines the errors of all three. `placement` is the relative standard error due to where models
    lie in memory, estimated from runners that keep them loaded. `outliers` counts samples far from their
    round's median (they are kept). `warnings` names reasons to doubt the interval
    (`latbench.measure.diagnostics`); "unresolved" means too cheap to be told from its frames.

    `ci95` is None where nothing is known of the uncertainty, as in tables that were made elsewhere.
    """

    ms: Milliseconds
    ci95: tuple[Milliseconds, Milliseconds] | None
    samples: Count
    rounds: Count
    spread: NonNegativeNumber
    tainted: Count = 0
    context: Literal["alone", "sandwich"] = "alone"
    placement: NonNegativeNumber = 0.0
    outliers: Count = 0
    warnings: tuple[str, ...] = ()
    macs: Count
    artifact_sha256: Sha256 | None = None

    @property
    def relative_half_width(self) -> float | None:
        """Half the width of the interval, relative to `ms`; None without an interval."""
        if self.ci95 is None:
            return None
        return (self.ci95[1] - self.ci95[0]) / (2 * self.ms)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.ci95 is not None and not self.ci95[0] <= self.ms <= self.ci95[1]:
            raise ValueError("ci95 must enclose ms")
        return self


class Sentinel(Record):
    """The whole network that was timed throughout the run; milliseconds at batch 1.

    `drift` is the relative difference between the highest and the lowest latency that three consecutive
    visits agreed on.
    """

    architecture: str
    head: Integer = Field(ge=1)
    ms: Milliseconds
    ci95: tuple[Milliseconds, Milliseconds]
    visits: Integer = Field(ge=1)
    drift: NonNegativeNumber


class Reference(Record):
    """A workload that uses no inference runtime, timed throughout the run; milliseconds.

    Compared with another run's, it separates a changed machine from a changed runtime.
    """

    workload: str
    ms: Milliseconds
    ci95: tuple[Milliseconds, Milliseconds]
    visits: Integer = Field(ge=1)


class TimedNetwork(Record):
    """A whole network that was timed in the rounds of a run; milliseconds at batch 1."""

    layers: str
    head: Integer = Field(ge=1)
    ms: Milliseconds
    ci95: tuple[Milliseconds, Milliseconds]


class Correction(Record):
    """How entries add up to a network's latency, in milliseconds; fitted by `latbench.lut.calibrate`.

        ms = offset_ms + scale * sum of factors[op] * entries[op].ms
             + sum of boundary_costs[boundary] * millions of values that cross it

    An op without a factor has the factor 1, and a boundary (`latbench.space.boundaries`) without a cost costs
    nothing. `residual` is the relative standard deviation left unexplained, `entry_deviation` that of a
    single entry, `trait_deviations` that of all ops that share a trait (`latbench.space.traits`), and
    `boundary_deviation` that of a boundary's cost for each value, as a share of the networks' latency for
    each value that enters an op. `between_runs` is the relative standard deviation of a network between runs,
    and `interval_factor` what the widths of intervals are multiplied by. `networks` counts the whole networks
    the correction was fitted to, and `calibration` lists them. In LUT files, `boundary_costs` and
    `boundary_deviation` have the names they were introduced with: `transitions` and `transition_deviation`.
    """

    model_config = ConfigDict(populate_by_name=True)

    scale: PositiveNumber
    offset_ms: Number = 0.0
    residual: NonNegativeNumber
    networks: Integer = Field(ge=1)
    entry_deviation: NonNegativeNumber = 0.0
    factors: dict[str, PositiveNumber] = Field(default_factory=dict)
    boundary_deviation: NonNegativeNumber = Field(default=0.0, alias="transition_deviation")
    boundary_costs: dict[Boundary, Number] = Field(default_factory=dict, alias="transitions")
    trait_deviations: dict[Trait, NonNegativeNumber] = Field(default_factory=dict)
    between_runs: NonNegativeNumber = 0.0
    interval_factor: PositiveNumber = 1.0
    calibration: tuple[TimedNetwork, ...] = ()


class Lut(Record):
    """A latency lookup table of one target and one search space."""

    model_config = ConfigDict(populate_by_name=True)

    schema_number: Integer = Field(default=SCHEMA, alias="schema")
    target: Target
    space: dict[str, Any]
    provenance: Provenance
    created: AwareDatetime
    tool: dict[str, str]
    method: dict[str, Any] = Field(default_factory=dict)
    conditions: dict[str, Any] = Field(default_factory=dict)
    entries: dict[str, Entry] = Field(min_length=1)
    sentinel: Sentinel | None = None
    reference: Reference | None = None
    correction: Correction | None = None
    validation: dict[str, Number] | None = None

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        try:
            known = self.search_space
        except KeyError as error:
            raise ValueError(f"space has no {error}") from None
        except BadRequest as error:
            raise ValueError(error.message) from None
        if "definition" not in self.space:
            raise ValueError(f"space has no 'definition' of {known.name}")
        for key in self.entries:
            try:
                parse_key(key)
            except BadRequest as error:
                raise ValueError(error.message) from None
        return self

    @model_validator(mode="after")
    def _whole_correction(self) -> Self:
        if self.provenance != "imported" and None in (one.ci95 for one in self.entries.values()):
            raise ValueError(f"a {self.provenance} entry must have ci95")
        if self.correction is None:
            return self
        strange = sorted(self.correction.factors.keys() - self.entries.keys())
        if strange:
            raise ValueError(f"correction has a factor for {strange[0]}, which has no entry")
        timed = self.correction.calibration
        if timed and len(timed) != self.correction.networks:
            raise ValueError(
                f"correction.networks is {self.correction.networks}, "
                f"but correction.calibration lists {len(timed)}"
            )
        for one in timed:
            try:
                network = Architecture.parse(one.layers, self.search_space, head=one.head)
            except BadRequest as error:
                raise ValueError(error.message) from None
            if any(op.key not in self.entries for op in network.ops):
                raise ValueError(f"calibration network {one.layers} has ops without entries")
        return self

    # Reading

    @classmethod
    def load(cls, path: str | Path) -> "Lut":
        """Read a LUT file.

        Raises:
            LutRefused: the file cannot be read, is not a LUT, was altered after it was written, has an
                unknown schema, or holds values that no measurement yields.
        """
        path = Path(path)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise LutRefused(
                f"cannot read {path}: {error.strerror}", hint="list yours with: ls luts/"
            ) from None
        try:
            data = json.loads(content.decode("utf-8"), object_pairs_hook=_no_duplicates)
            named = isinstance(data, dict) and "entries" in data
            if not named and (foreign := _foreign(path, content)) is not None:
                raise foreign
        except UnicodeDecodeError:
            raise _foreign(path, content) or LutRefused(
                f"{path} is not a LUT: it is not UTF-8 text"
            ) from None
        except (ValueError, RecursionError) as error:
            raise _foreign(path, content) or LutRefused(
                f"{path} is not a LUT: {_reason(error)}",
                hint="the file may be truncated; build it again with: latbench build-lut",
            ) from None
        try:
            return cls.from_dict(data)
        except LutRefused as refused:
            raise LutRefused(
                f"{path}: {refused.message}", details=refused.details, hint=refused.hint
            ) from None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], verify: bool = True) -> "Lut":
        """Read a LUT from JSON data.

        Args:
            data: what a LUT file holds.
            verify: whether `content_sha256` must be present and match.

        Raises:
            LutRefused: as `load`.
        """
        if not isinstance(data, Mapping) or "entries" not in data:
            raise LutRefused("not a LUT: it has no entries")
        content = {key: value for key, value in data.items() if key != "content_sha256"}
        schema = content.get("schema")
        # bool is a subclass of int, and True equals 1.
        if type(schema) is not int or not (schema == SCHEMA or schema in UPDATES):
            raise LutRefused(
                f"unknown schema {schema!r}: this version reads 1 to {SCHEMA}",
                hint="upgrade with: pip install --upgrade latbench",
            )
        if verify and data.get("content_sha256") != _hash(content):
            raise LutRefused(
                "content_sha256 does not match: the file was edited or damaged after it was written",
                hint="build it again with: latbench build-lut",
            )
        for step in range(schema, SCHEMA):
            content = UPDATES[step](content)
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            problems = problems_of(error)
            raise LutRefused("invalid values:", details=problems[:8]) from None

    # Writing

    def to_dict(self) -> dict[str, Any]:
        """The LUT as JSON data, `content_sha256` included."""
        content = self.model_dump(mode="json", by_alias=True)
        return content | {"content_sha256": _hash(content)}

    def save(self, path: str | Path) -> None:
        """Write the LUT to `path`, atomically.

        Raises:
            OutputFailed: the file cannot be written; an earlier file at `path` is intact.
        """
        write_atomically(Path(path), _render(self.to_dict()))

    # Using

    @property
    def content_sha256(self) -> str:
        """The SHA-256 of everything else in the file."""
        return str(self.to_dict()["content_sha256"])

    @property
    def search_space(self) -> SearchSpace:
        """The search space that the entries belong to."""
        return _space_of(json.dumps(self.space, sort_keys=True))

    def __contains__(self, op: OpSpec | str) -> bool:
        return str(op) in self.entries

    def __getitem__(self, op: OpSpec | str) -> Entry:
        return self.entries[str(op)]

    def __len__(self) -> int:
        return len(self.entries)

    def corrected_ms(self, op: OpSpec | str) -> float:
        """The latency an op adds to a network: its entry times scale and factor, milliseconds."""
        ms = self[op].ms
        if self.correction is None:
            return ms
        return self.correction.scale * self.correction.factors.get(str(op), 1.0) * ms

    @property
    def offset_ms(self) -> float:
        """The part of a network's latency that belongs to no op and no boundary, milliseconds."""
        return 0.0 if self.correction is None else self.correction.offset_ms

    def boundary_ms(self, boundary: Boundary, values: int) -> float:
        """The cost of `values` values that cross `boundary`, milliseconds; see `Correction`."""
        if self.correction is None:
            return 0.0
        return self.correction.boundary_costs.get(boundary, 0.0) * values / 1e6

    def network_ms(self, ops: Sequence[OpSpec]) -> float:
        """The latency of a network of `ops` in sequence, milliseconds at batch 1.

        Raises:
            KeyError: an op has no entry; see `require`.
        """
        crossings = boundary_values(ops).items()
        boundaries = sum(self.boundary_ms(boundary, values) for boundary, values in crossings)
        return self.offset_ms + sum(map(self.corrected_ms, ops)) + boundaries

    def keys(self) -> Iterator[str]:
        """The keys of the entries, sorted."""
        return iter(sorted(self.entries))

    def require(self, ops: Iterable[OpSpec], what: str) -> None:
        """Check that every one of `ops` has an entry; `what` names the network in the error.

        Raises:
            MissingOps: some have none; the message lists them and gives the command that measures them.
        """
        required = list(dict.fromkeys(ops))
        missing = [op.key for op in required if op not in self]
        if missing:
            raise MissingOps(
                missing, len(required), f"the LUT of {self.target}", what, self.command
            )

    @property
    def command(self) -> str:
        """The command that measures this LUT's space on its target."""
        return f"latbench profile {self.target.arguments} {self.search_space.arguments}"

    def require_target(
        self,
        *,
        device: str | None = None,
        runtime: Runtime | None = None,
        precision: Precision | None = None,
        threads: int | None = None,
    ) -> None:
        """Check that the LUT belongs to a target; what is None is not checked.

        Raises:
            LutRefused: it belongs to another target.
        """
        expected = {
            "device": device,
            "runtime": runtime,
            "precision": precision,
            "threads": threads,
        }
        for name, value in expected.items():
            actual = getattr(self.target, name)
            if value is not None and value != actual:
                raise LutRefused(f"the LUT is for {name} {actual}, not {value}")

    def to_frame(self) -> "pd.DataFrame":
        """The entries as a DataFrame, one row per op in key order.

        Columns: key (the index), kind, ms, ci95_low, ci95_high (milliseconds), samples, rounds,
        spread, context, placement, outliers, warnings, tainted, macs, params, artifact_sha256.
        """
        import pandas as pd

        rows = []
        for key in self.keys():
            entry, op = self.entries[key], parse_key(key)
            values = entry.model_dump(exclude={"warnings"}) | {"warnings": " ".join(entry.warnings)}
            low, high = values.pop("ci95") or (math.nan, math.nan)
            rows.append(
                {"key": key, "kind": op.kind, "ci95_low": low, "ci95_high": high}
                | values
                | {"params": op.params}
            )
        columns = ["key", "kind", "ms", "ci95_low", "ci95_high", "samples", "rounds", "spread"]
        columns += [
            "context",
            "placement",
            "outliers",
            "warnings",
            "tainted",
            "macs",
            "params",
            "artifact_sha256",
        ]
        return pd.DataFrame(rows, columns=columns).set_index("key")


@lru_cache(maxsize=16)
def _space_of(text: str) -> SearchSpace:
    """The search space of a LUT, from its JSON; a space keeps what it computed of its layers."""
    return SearchSpace.from_dict(json.loads(text))


def _foreign(path: Path, content: bytes) -> LutRefused | None:
    """The refusal of a table in another format; None for a file that is none."""
    from latbench.lut.table import foreign_file

    return foreign_file(path, content)


def _reason(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return data


def _hash(content: Mapping[str, Any]) -> str:
    try:
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (ValueError, TypeError):
        raise LutRefused("it contains NaN, infinity, or a value that is not JSON") from None
    return sha256_of(canonical.encode())


def _render(data: dict[str, Any]) -> str:
    """JSON with sorted keys, one top-level key per line, and one entry per line."""
    lines = []
    for key in sorted(data):
        if key == "entries":
            entries = ",\n".join(
                f"  {json.dumps(name)}: {json.dumps(entry, sort_keys=True)}"
                for name, entry in sorted(data[key].items())
            )
            lines.append(f' "entries": {{\n{entries}\n }}')
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(data[key], sort_keys=True)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
