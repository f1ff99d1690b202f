"""JSON Schemas of the JSON that latbench writes, for other programs to rely on.

docs/schemas/NAME.schema.json holds each of them. The tests compare those files with the models here, and the
output of the commands with both. Regenerate them with:

    python -m latbench.report.json_schemas docs/schemas

    lut             a LUT file, and `latbench show LUT --json`
    shown-entries   `latbench show LUT --json` with --sort, --top or --only
    drift-report    `latbench drift BASELINE CURRENT --json`
    journal-report  a run according to its journal: `latbench profile --json`
    architecture    one network; fbnet-search's architecture.json has more keys
"""

import json
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from latbench.files import write_atomically
from latbench.lut.schema import Entry, Lut
from latbench.record import Record
from latbench.target import Target

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"

_Verdict = Literal["same", "slower", "faster", "missing", "new"]


class Space(Record):
    """A search space: everything that determines its ops.

    `input` is the side of a square, or height and width. `definition` is what the space's file says, and
    `sha256` its hash; files of schema 4 and before name a shipped space instead.
    """

    name: str
    input: int | tuple[int, int]
    channels: int = Field(default=3, ge=1)
    batch: int = Field(default=1, ge=1)
    width: float = Field(gt=0)
    classes: int = Field(ge=1)
    keeps_first_1x1: bool
    definition: dict[str, Any] | None = None
    sha256: str | None = None


class TargetLatencyOutput(Record):
    """A network's latency on one LUT's target, milliseconds at batch 1; null where it was not measured.

    `unmeasured` says why not.
    """

    target: str
    lut_sha256: str
    lut_created: str
    provenance: str
    predicted_ms: float
    predicted_low: float
    predicted_high: float
    measured_ms: float | None
    measured_low: float | None
    measured_high: float | None
    level: float | None
    unmeasured: str


class ArchitectureFile(BaseModel):
    """One network of a search space: `layers` has a token for each layer, and '|' between stages."""

    model_config = ConfigDict(extra="allow")

    name: str | None = None
    space: Space
    layers: str
    head: int = Field(ge=1)
    latencies: list[TargetLatencyOutput] | None = None


class ComparedLut(Record):
    """One of the two LUTs of a drift report."""

    target: str
    space: str
    created: str
    entries: int
    content_sha256: str
    reference: str | None


class ChangedCircumstance(Record):
    """Another difference between the LUTs; if it `blocks`, they cannot be compared."""

    what: str
    baseline: str
    current: str
    explanation: str
    blocks: bool


class MeasuredRatio(Record):
    """Current over baseline latency; [low, high] is its 95 % interval."""

    ratio: float | None
    low: float | None
    high: float | None
    p: float | None
    detectable: float | None
    verdict: _Verdict


class ComparedLevel(MeasuredRatio):
    """The overall change: what is common to all ops, whatever its cause; `drifted`: whether it counts."""

    source: Literal["entries", "sentinel", "nothing"]
    scale: float
    drifted: bool


class ComparedEntry(MeasuredRatio):
    """One op, the overall change divided out; milliseconds."""

    key: str
    baseline_ms: float | None
    current_ms: float | None
    q: float | None


class ComparedNetwork(MeasuredRatio):
    """One network, including the overall change beyond the machine's; milliseconds."""

    name: str
    baseline_ms: float
    current_ms: float


class DriftReportOutput(Record):
    """What `latbench drift --json` prints; docs/drift.md describes the keys."""

    baseline: ComparedLut
    current: ComparedLut
    tolerance: float
    level_tolerance: float
    strict_level: bool
    comparable: bool
    drifted: bool
    changes: list[ChangedCircumstance]
    reference_ratio: float | None
    level: ComparedLevel | None
    machine: MeasuredRatio | None
    beyond: MeasuredRatio | None
    entries: list[ComparedEntry]
    networks: list[ComparedNetwork]
    slower: list[str]
    faster: list[str]
    missing: list[str]
    new: list[str]
    remarks: list[str]


class UnitOutput(Record):
    """One unit's part of a run; its trials were divided by `factor`, null without a sentinel."""

    trials: int
    tainted: int
    failed: int
    factor: float | None
    dropped_out: int


class VerifiedOutput(Record):
    """A unit's outputs against PyTorch's: the largest relative deviation (floats) or SNR in dB (int8)."""

    unit: str
    errors: dict[str, float]
    worst: str


class DelegatedOutput(Record):
    """What a unit's accelerator runs; `fell_back`: the keys that it runs only in part, and why."""

    unit: str
    subjects: int
    fell_back: dict[str, str]


class FasterRunOutput(Record):
    """A run in which a unit was faster beyond noise: `slowdown` is `ms` now over `best_ms` then."""

    unit: str
    workload: Literal["reference", "sentinel"]
    ms: float
    best_ms: float
    when: str
    slowdown: float


class JournalReportOutput(Record):
    """What `latbench profile --json` prints: the run as its journal now holds it."""

    target: Target
    space: Space
    journal: str
    complete: bool
    subjects: int
    unconverged: list[str]
    given_up: list[str]
    trials: int
    taken: int
    tainted: int
    tainted_by: dict[str, int]
    distrusted: list[str]
    failed: int
    drift: float | None
    units: dict[str, UnitOutput]
    delegated: list[DelegatedOutput]
    verified: list[VerifiedOutput]
    faster_run: FasterRunOutput | None
    wall_seconds: float
    timed_seconds: float


class ShownEntry(Entry):
    """An entry of a LUT with its flags; `over_roofline` is its latency over its roofline bound."""

    key: str
    flags: list[str]
    over_roofline: float


class ShownEntries(RootModel[list[ShownEntry]]):
    """What `latbench show LUT --json` prints with --sort, --top or --only: the entries in order."""


#: Name of a schema -> its model.
PUBLISHED_MODELS: dict[str, type[BaseModel]] = {
    "architecture": ArchitectureFile,
    "drift-report": DriftReportOutput,
    "journal-report": JournalReportOutput,
    "lut": Lut,
    "shown-entries": ShownEntries,
}


def json_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema called `name`, one of `PUBLISHED_MODELS`.

    Raises:
        KeyError: the name is unknown.
    """
    schema = PUBLISHED_MODELS[name].model_json_schema(by_alias=True, mode="validation")
    if name == "lut":  # the hash covers all other keys, so the model has it as a property
        schema["properties"]["content_sha256"] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
        schema["required"] = ["schema", *schema["required"], "content_sha256"]
    return {"$schema": SCHEMA_DIALECT, "$id": f"{name}.schema.json"} | schema


def write_schemas(folder: Path) -> list[Path]:
    """Write every schema to `folder` as NAME.schema.json; return the paths."""
    paths = []
    for name in PUBLISHED_MODELS:
        paths.append(folder / f"{name}.schema.json")
        write_atomically(paths[-1], json.dumps(json_schema(name), indent=2, sort_keys=True) + "\n")
    return paths


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]))
