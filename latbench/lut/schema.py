"""The LUT file: what it holds, how it is read, and what makes it refused.

A LUT is JSON with sorted keys and one entry a line, so that a diff reads well. `content_sha256` is
the SHA-256 of everything else as compact JSON with sorted keys. Reading one never runs code.

History of the schema:
    1  (2026-11-24)  the first.
    2  (2026-11-24)  a correction has one factor an entry, and the networks it was learnt from; an
                     entry has its context, placement, outliers and warnings; a run has a reference.
    3  (2026-11-27)  a correction has what values take at transitions.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from latbench.errors import BadRequest, LutRefused, MissingOps
from latbench.files import sha256_of, write_atomically
from latbench.space.architecture import Architecture
from latbench.space.boundaries import Transition, transitions
from latbench.space.opspec import OpSpec, parse_key
from latbench.space.search_space import SearchSpace
from latbench.target import Precision, Runtime, Target

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 3


def _update_to_2(content: dict[str, Any]) -> dict[str, Any]:
    """What is new has defaults, and they are what schema 1 meant."""
    return content | {"schema": 2}


def _update_to_3(content: dict[str, Any]) -> dict[str, Any]:
    """What is new has a default: transitions took nothing in schema 2."""
    return content | {"schema": 3}


#: Schema n -> the function that turns a file of schema n into one of schema n + 1.
UPDATES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _update_to_2, 2: _update_to_3}

Provenance = Literal["measured", "modelled", "imported"]


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


Finite = Annotated[float, AfterValidator(_finite)]
Milliseconds = Annotated[float, Field(gt=0), AfterValidator(_finite)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(_Record):
    """The statistic of one op's trials.

    `ms` is the median of the round medians, `ci95` its 95 % confidence interval, both in
    milliseconds at batch 1; `spread` is the robust relative spread of single samples
    (1.4826 MAD / median); `tainted` counts trials that were distrusted and taken again.

    In a sandwich, `ms` is what the sandwich takes less half of each pair of frames, and `ci95` adds
    the errors of all three. `placement` is the relative standard error that comes with where models lie in
    memory, as the disagreement of runners shows it that keep them loaded. `outliers` counts samples far
    from their round's median (they are kept); `warnings` names what makes the interval doubtful
    (`latbench.measure.diagnostics`), and "unresolved" an op too cheap to be told from its frames.
    """

    ms: Milliseconds
    ci95: tuple[Milliseconds, Milliseconds]
    samples: int = Field(ge=0)
    rounds: int = Field(ge=0)
    spread: Annotated[float, Field(ge=0), AfterValidator(_finite)]
    tainted: int = Field(default=0, ge=0)
    context: Literal["alone", "sandwich"] = "alone"
    placement: Annotated[float, Field(ge=0), AfterValidator(_finite)] = 0.0
    outliers: int = Field(default=0, ge=0)
    warnings: tuple[str, ...] = ()
    macs: int = Field(ge=0)
    artifact_sha256: Sha256 | None = None

    @property
    def relative_half_width(self) -> float:
        """Half the width of the interval, relative to `ms`."""
        return (self.ci95[1] - self.ci95[0]) / (2 * self.ms)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.ci95
        if not low <= self.ms <= high:
            raise ValueError("ci95 must enclose ms")
        return self


class Sentinel(_Record):
    """The whole network that was timed again and again through the run.

    `drift` is the relative difference between the highest and the lowest level that three
    consecutive visits agreed on.
    """

    architecture: str
    head: int
    ms: Milliseconds
    ci95: tuple[Milliseconds, Milliseconds]
    visits: int = Field(ge=1)
    drift: Annotated[float, Field(ge=0), AfterValidator(_finite)]


class Reference(_Record):
    """A workload without an inference engine that was timed through the run, milliseconds.

    How it compares with another run's tells how the machines differ, whatever the engines do.
    """

    workload: str
    ms: Milliseconds
    ci95: tuple[Milliseconds, Milliseconds]
    visits: int = Field(ge=1)


class TimedNetwork(_Record):
    """A whole network that was timed in the rounds of a run; milliseconds at batch 1."""

    layers: str
    head: int
    ms: Milliseconds
    ci95: tuple[Milliseconds, Milliseconds]


class Correction(_Record):
    """What turns entries into a network's latency; see `latbench.lut.calibrate`.

        ms = offset_ms + scale * sum of factors[op] * entries[op].ms
             + sum of transitions[kind] * millions of values that make it

    An op that `factors` leaves out has the factor 1, and a transition (`latbench.space.boundaries`)
    that `transitions` leaves out takes nothing. `residual` is the relative standard deviation that stays
    unexplained, `entry_deviation` that of an entry by itself, and `transition_deviation` that of what a
    value takes at a transition, as a share of what networks take for each value that goes into an op;
    `networks` is how many whole networks the correction was learnt from, and `calibration` holds them.
    """

    scale: Annotated[float, Field(gt=0), AfterValidator(_finite)]
    offset_ms: Finite = 0.0
    residual: Annotated[float, Field(ge=0), AfterValidator(_finite)]
    networks: int = Field(ge=1)
    entry_deviation: Annotated[float, Field(ge=0), AfterValidator(_finite)] = 0.0
    factors: dict[str, Annotated[float, Field(gt=0), AfterValidator(_finite)]] = Field(
        default_factory=dict
    )
    transition_deviation: Annotated[float, Field(ge=0), AfterValidator(_finite)] = 0.0
    transitions: dict[Transition, Finite] = Field(default_factory=dict)
    calibration: tuple[TimedNetwork, ...] = ()


class Lut(BaseModel):
    """A latency lookup table of one target and one search space."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_number: int = Field(default=SCHEMA, alias="schema")
    target: Target
    space: dict[str, str | bool | int | float]
    provenance: Provenance
    created: AwareDatetime
    tool: dict[str, str]
    method: dict[str, Any] = Field(default_factory=dict)
    conditions: dict[str, Any] = Field(default_factory=dict)
    entries: dict[str, Entry] = Field(min_length=1)
    sentinel: Sentinel | None = None
    reference: Reference | None = None
    correction: Correction | None = None
    validation: dict[str, Finite] | None = None

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        try:
            SearchSpace.from_dict(self.space)
        except (KeyError, TypeError) as error:
            raise ValueError(f"space lacks {error}") from None
        except BadRequest as error:
            raise ValueError(error.message) from None
        for key in self.entries:
            try:
                parse_key(key)
            except BadRequest as error:
                raise ValueError(error.message) from None
        return self

    @model_validator(mode="after")
    def _whole_correction(self) -> Self:
        if self.correction is None:
            return self
        strange = sorted(self.correction.factors.keys() - self.entries.keys())
        if strange:
            raise ValueError(f"correction has a factor for {strange[0]}, which is no entry")
        timed = self.correction.calibration
        if timed and len(timed) != self.correction.networks:
            raise ValueError(f"correction has {len(timed)} networks, not as many as it says")
        for one in timed:
            try:
                network = Architecture.parse(one.layers, self.search_space, head=one.head)
            except BadRequest as error:
                raise ValueError(error.message) from None
            if any(op.key not in self.entries for op in network.ops):
                raise ValueError(f"{one.layers} has ops that are no entries")
        return self

    # Reading

    @classmethod
    def load(cls, path: str | Path) -> "Lut":
        """Read a LUT file.

        Raises:
            LutRefused: the file cannot be read, is no LUT, was altered after it was written, is of
                an unknown schema, or holds values that no measurement gives.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise LutRefused(
                f"cannot read {path}: {error.strerror}", hint="list yours with: ls luts/"
            ) from None
        except UnicodeDecodeError:
            raise LutRefused(f"{path} is not a LUT: it is not text") from None
        try:
            data = json.loads(text, object_pairs_hook=_no_duplicates)
        except (ValueError, RecursionError) as error:
            raise LutRefused(
                f"{path} is not a LUT: {_reason(error)}",
                hint="it may be cut short; build it again with: latbench build-lut",
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
            verify: whether `content_sha256` must be there and match.

        Raises:
            LutRefused: as `load`.
        """
        if not isinstance(data, Mapping) or "entries" not in data:
            raise LutRefused("not a LUT: it has no entries")
        content = {key: value for key, value in data.items() if key != "content_sha256"}
        schema = content.get("schema")
        if not isinstance(schema, int) or not (schema == SCHEMA or schema in UPDATES):
            raise LutRefused(
                f"schema {schema!r} is unknown to this version, which reads up to {SCHEMA}",
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
            problems = [
                f"{'.'.join(map(str, problem['loc'])) or 'lut'}: {problem['msg']}"
                for problem in error.errors()
            ]
            raise LutRefused("it holds what no LUT may hold:", details=problems[:8]) from None

    # Writing

    def to_dict(self) -> dict[str, Any]:
        """The LUT as JSON data, `content_sha256` included."""
        content = self.model_dump(mode="json", by_alias=True)
        return content | {"content_sha256": _hash(content)}

    def save(self, path: str | Path) -> None:
        """Write the LUT to `path`, whole or not at all.

        Raises:
            OutputFailed: the file cannot be written; what was there is intact.
        """
        write_atomically(Path(path), _render(self.to_dict()))

    # Using

    @property
    def content_sha256(self) -> str:
        """The hash that the file carries."""
        return str(self.to_dict()["content_sha256"])

    @property
    def search_space(self) -> SearchSpace:
        """The space whose ops the entries are."""
        return SearchSpace.from_dict(self.space)

    def __contains__(self, op: OpSpec | str) -> bool:
        return str(op) in self.entries

    def __getitem__(self, op: OpSpec | str) -> Entry:
        return self.entries[str(op)]

    def __len__(self) -> int:
        return len(self.entries)

    def corrected_ms(self, op: OpSpec | str) -> float:
        """What an op adds to a network's latency, milliseconds, the correction's offset aside."""
        ms = self[op].ms
        if self.correction is None:
            return ms
        return self.correction.scale * self.correction.factors.get(str(op), 1.0) * ms

    @property
    def offset_ms(self) -> float:
        """What a network takes besides its ops and transitions, milliseconds."""
        return 0.0 if self.correction is None else self.correction.offset_ms

    def transition_ms(self, kind: Transition, values: int) -> float:
        """What so many values take at a transition besides what ops hold, milliseconds."""
        if self.correction is None:
            return 0.0
        return self.correction.transitions.get(kind, 0.0) * values / 1e6

    def network_ms(self, ops: Sequence[OpSpec]) -> float:
        """What a network of `ops`, in sequence, takes, milliseconds.

        Raises:
            KeyError: there is no entry for an op; see `require`.
        """
        made = transitions(ops).items()
        passing = sum(self.transition_ms(kind, values) for kind, values in made)
        return self.offset_ms + sum(map(self.corrected_ms, ops)) + passing

    def keys(self) -> Iterator[str]:
        """The keys of the entries, sorted."""
        return iter(sorted(self.entries))

    def require(self, ops: Iterable[OpSpec], what: str) -> None:
        """Make sure that every one of `ops` has an entry.

        Raises:
            MissingOps: some have none; the message lists them and names the command that
                measures them.
        """
        wanted = list(dict.fromkeys(ops))
        missing = [op.key for op in wanted if op not in self]
        if missing:
            raise MissingOps(missing, len(wanted), f"the LUT of {self.target}", what, self.command)

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
        """Make sure that the LUT is of the target asked for.

        Raises:
            LutRefused: it is of another.
        """
        asked = {"device": device, "runtime": runtime, "precision": precision, "threads": threads}
        for name, wanted in asked.items():
            actual = getattr(self.target, name)
            if wanted is not None and wanted != actual:
                raise LutRefused(f"the LUT is of {name} {actual}, but {wanted} was asked for")

    def to_frame(self) -> "pd.DataFrame":
        """The entries as a DataFrame, one row an op in key order.

        Columns: key (the index), kind, ms, ci95_low, ci95_high (milliseconds), samples, rounds,
        spread, context, placement, outliers, warnings, tainted, macs, params, artifact_sha256.
        """
        import pandas as pd

        rows = []
        for key in self.keys():
            entry, op = self.entries[key], parse_key(key)
            values = entry.model_dump(exclude={"warnings"}) | {"warnings": " ".join(entry.warnings)}
            low, high = values.pop("ci95")
            rows.append(
                {"key": key, "kind": op.kind.value, "ci95_low": low, "ci95_high": high}
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


def _reason(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return data


def _hash(content: Mapping[str, Any]) -> str:
    try:
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (ValueError, TypeError):
        raise LutRefused("it holds NaN, infinity, or something that is not JSON") from None
    return sha256_of(canonical.encode())


def _render(data: dict[str, Any]) -> str:
    """JSON with sorted keys, one top-level key a line, and one entry a line."""
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
