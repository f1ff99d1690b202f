"""What a file in `bench/results/accuracy/` holds: how well LUTs predicted networks, target by target.

`bench/accuracy.py` writes such files; `bench/accuracy_tables.py` makes the tables of the pages from them.
Files of kind `reported` hold figures of earlier versions that were written down without journals, so they
have summaries only. When predictions change, evaluate the journals of a `measured` file again, or replace it.
"""

import json
import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field

from latbench.record import Count, Number, Record
from latbench.target import Precision, Runtime

FOLDER = Path(__file__).parent / "results" / "accuracy"

#: A validation whose level differs by no more than this from its LUT's run, %, is at an equal level.
EQUAL_LEVEL = 5.0


class Machine(Record):
    """The machine: its processor and number of cores, caches by level, hypervisor, flags of vectors."""

    cpu: str
    cores: Count
    caches: dict[str, str] = Field(default_factory=dict)
    hypervisor: str | None = None
    vectors: str = ""
    memory_gib: Number | None = None

    @property
    def title(self) -> str:
        """Its name in a table."""
        return f"{self.cpu}, {self.cores} {'virtual ' if self.hypervisor else ''}cores"


class Range(Record):
    """The least, the largest and the mean value of one figure over validations; the mean may be unknown."""

    low: Number
    high: Number
    mean: Number | None = None

    @classmethod
    def of(cls, values: Iterable[float]) -> "Range | None":
        """The range of values, rounded; None without any."""
        known = list(values)
        if not known:
            return None
        digits = 4 if max(map(abs, known)) <= 1 else 2
        figures = (min(known), max(known), statistics.fmean(known))
        low, high, mean = (round(value, digits) + 0.0 for value in figures)
        return cls(low=low, high=high, mean=mean)


class Summary(Record):
    """The figures of a target over all validations of all its LUTs.

    The ranges are over validations, in per cent except `spearman`; their names are those of
    `latbench.lut.accuracy.Figures`. `equal_mape` and `moved_mape` are the mean errors of the validations at
    an equal level (`EQUAL_LEVEL`) and of the others. `refused` counts validations that latbench refused to
    evaluate, and `warned` those with a warning. `floor` is how much two sessions disagree about the same
    networks, after their common slowdown is removed (`bench/additivity.py`). `sentinel` is the drift of the
    profiles, and `outside` their seconds outside timed inference for each second inside.
    """

    luts: Count
    validations: Count
    networks: Count
    refused: Count = 0
    warned: Count = 0
    mape: Range | None = None
    equal_mape: Range | None = None
    moved_mape: Range | None = None
    worst: Range | None = None
    within_3: Range | None = None
    within_5: Range | None = None
    coverage: Range | None = None
    spearman: Range | None = None
    level: Range | None = None
    floor: Range | None = None
    sentinel: Range | None = None
    outside: Range | None = None
    wall_s: Range | None = None


class Session(Record):
    """When a profile or a validation was taken, with which latbench, and the load average before it."""

    started: str
    latbench: str
    load_average: Number
    whole_s: Number


class ValidationFigures(Record):
    """One validation: the figures (%; `spearman` and `kendall` are none), or why latbench refused it."""

    session: Session
    seed: Count
    figures: dict[str, Number] = Field(default_factory=dict)
    tainted: Number | None = None
    warnings: tuple[str, ...] = ()
    refused: str | None = None


class LutFigures(Record):
    """One profile and the validations of its LUT.

    Attributes:
        session: of the profile; `whole_s` includes the export of models.
        wall_s: seconds that measuring took.
        timed_s: seconds in samples, those of sentinel and reference included. All else (loading, warm-ups,
            messages, commits, estimates) is outside.
        drift: of the sentinel, %.
        tainted: share of tainted trials, %.
        trials: their number.
        converged, workloads: how many workloads, of how many, have an interval as narrow as the target.
    """

    session: Session
    wall_s: Number
    timed_s: Number
    drift: Number
    tainted: Number
    trials: Count
    converged: Count
    workloads: Count
    validations: tuple[ValidationFigures, ...] = ()


class Row(Record):
    """One target: its summary, and the LUTs that it was computed from (none in a reported file)."""

    runtime: Runtime
    precision: Precision
    threads: Count
    circumstances: str = ""
    runtime_version: str | None = None
    summary: Summary
    luts: tuple[LutFigures, ...] = ()

    @property
    def identity(self) -> tuple[str, ...]:
        """What distinguishes it from the other rows of its file."""
        return (self.runtime, self.precision, str(self.threads), self.circumstances)


class Results(Record):
    """One file: a machine, where its figures come from, and a row for each target.

    Attributes:
        kind: `measured` by `bench/accuracy.py` with journals, or `reported` without.
        source: in a sentence.
        command: what made the figures; None if it is unknown.
        latbench: the version that computed them from the trials.
        python: the version of Python; empty if it is unknown.
    """

    kind: Literal["measured", "reported"]
    source: str
    date: str
    command: str | None
    latbench: str
    python: str = ""
    machine: Machine
    rows: tuple[Row, ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """The results in a file; raises pydantic's error if it holds others."""
        return cls.model_validate_json(path.read_text(encoding="utf-8"))

    def to_json(self) -> str:
        """The text of its file: what fits on a line is on one."""
        return _laid_out(self.model_dump(mode="json", exclude_defaults=True)) + "\n"

    def with_rows(self, others: Iterable[Row]) -> "Results":
        """These results, with `others` for targets that have no row here."""
        mine = {row.identity for row in self.rows}
        rows = (*self.rows, *(row for row in others if row.identity not in mine))
        return self.model_copy(update={"rows": tuple(sorted(rows, key=lambda row: row.identity))})


def summary_of(luts: Sequence[LutFigures]) -> Summary:
    """The summary of a target's LUTs."""
    validations = [one for lut in luts for one in lut.validations]
    judged = [one.figures for one in validations if one.refused is None]

    def over(name: str, among: Iterable[dict[str, float]] = judged) -> Range | None:
        return Range.of(figures[name] for figures in among if name in figures)

    equal = [figures for figures in judged if abs(figures["level"]) <= EQUAL_LEVEL]
    moved = [figures for figures in judged if abs(figures["level"]) > EQUAL_LEVEL]
    return Summary(
        luts=len(luts),
        validations=len(validations),
        networks=int(max((figures["networks"] for figures in judged), default=0)),
        refused=len(validations) - len(judged),
        warned=sum(bool(one.warnings) for one in validations),
        equal_mape=over("mape", equal),
        moved_mape=over("mape", moved),
        sentinel=Range.of(lut.drift for lut in luts),
        outside=Range.of((lut.wall_s - lut.timed_s) / lut.timed_s for lut in luts),
        wall_s=Range.of(lut.wall_s for lut in luts),
        **{
            name: over(name)
            for name in ("mape", "worst", "within_3", "within_5", "coverage", "spearman", "level")
        },
    )


def _laid_out(value: Any, indent: str = "") -> str:
    """`value` as JSON, in lines of at most 120 characters where that is possible."""
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(line) <= 120 or not isinstance(value, dict | list):
        return line
    deeper = indent + " "
    if isinstance(value, dict):
        inside = [f"{json.dumps(key)}: {_laid_out(one, deeper)}" for key, one in value.items()]
    else:
        inside = [_laid_out(one, deeper) for one in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    body = ",\n".join(deeper + one for one in inside)
    return f"{opening}\n{body}\n{indent}{closing}"


def all_results(folder: Path = FOLDER) -> dict[Path, Results]:
    """The results in a folder, by file, in the order of names."""
    return {path: Results.read(path) for path in sorted(folder.glob("*.json"))}


def file_stem(machine: Machine, date: str) -> str:
    """'intel-xeon-2-cores-2026-11-30': the name of the file of a machine and a date."""
    bare = re.sub(r"\((R|TM)\)|\b(Processor|CPU)\b|@.*", " ", machine.cpu, flags=re.IGNORECASE)
    words = re.findall(r"[a-z0-9]+", f"{bare} {machine.cores} cores".lower())
    return "-".join([*words, date])
