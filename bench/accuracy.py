"""How well LUTs predict networks on this machine: `python bench/accuracy.py --journals FOLDER --all`.

As a user does it: `latbench profile`, `build-lut`, and then, in later sessions, `validate` with random
networks that the LUT was not built from, others each time. With `--all`, for every runtime that is installed
here, in every precision, with 1 and 2 threads; the sessions of the targets alternate, so that those of one
target lie minutes apart. A LUT of FBNet's space takes about a minute, a validation half of that.

FOLDER keeps all journals, and a note of each finished session. The same command continues where it stopped
(Ctrl-C is fine), and with everything measured it measures nothing: it evaluates the stored trials with the
present code. More `--profiles` or `--validations` add sessions. All targets in FOLDER are evaluated, also
those that are not requested. A validation that latbench refuses is kept, and counted.

The figures go to bench/results/accuracy/CPU-DATE.json (`--out`); `python bench/accuracy_tables.py` puts them
into the pages. `--space fbnet-cifar --input 16 --width 0.35
--out try.json` tries it out in a minute.
"""

import argparse
import contextlib
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.accuracy_results import (
    FOLDER,
    LutFigures,
    Machine,
    Results,
    Row,
    Session,
    ValidationFigures,
    file_stem,
    summary_of,
)
from latbench._version import __version__
from latbench.errors import LatbenchError
from latbench.files import write_atomically
from latbench.lut import Lut
from latbench.measure import Journal, Plan, Role, RunReport, Settings
from latbench.measure.ledger import Ledger
from latbench.measure.records import Run
from latbench.measure.report import report_of
from latbench.record import Count, Record
from latbench.runtime.registry import descriptor, is_installed, runtime_version
from latbench.space import Architecture, SearchSpace
from latbench.target import Precision, Runtime
from latbench.workflows.build_lut import build_lut
from latbench.workflows.networks import measured_together
from latbench.workflows.profile import profile
from latbench.workflows.runs import journals
from latbench.workflows.target import TargetRequest
from latbench.workflows.validate import validate, validation_of

_VECTORS = re.compile(r"avx\w*|amx\w*|asimd\w*|sve\w*|neon")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the bench with these arguments, by default those of the command line."""
    options = parsed(sys.argv[1:] if arguments is None else arguments)
    folder = options.journals.resolve()
    os.environ["LATBENCH_HOME"] = str(folder / "home")
    space = SearchSpace.named(options.space, input_size=options.input, width=options.width)
    requested = targets_of(options)
    for step in steps(requested, options.profiles, options.validations):
        step.take(folder, space, options)
    rows = [row for stem in stems(folder) if (row := evaluated(folder / stem)) is not None]
    date = datetime.now(UTC).date().isoformat()
    machine = this_machine()
    results = Results(
        kind="measured",
        source="measured with journals by bench/accuracy.py",
        date=date,
        command=command_of(options),
        latbench=version(),
        python=platform.python_version(),
        machine=machine,
        rows=tuple(sorted(rows, key=lambda row: row.identity)),
    )
    out = options.out or FOLDER / f"{file_stem(machine, date)}.json"
    if out.exists():
        results = results.with_rows(Results.read(out).rows)
    write_atomically(out, results.to_json())
    print(f"wrote {out}")


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--journals", type=Path, required=True, help="keep all trials here")
    parser.add_argument("--all", action="store_true", help="all targets that this machine has")
    parser.add_argument("--runtime", type=Runtime, action="append", help="may be repeated")
    parser.add_argument("--precision", type=Precision, action="append", help="may be repeated")
    parser.add_argument("--threads", type=int, action="append", help="may be repeated")
    parser.add_argument("--profiles", type=int, default=1, help="LUTs of each target")
    parser.add_argument("--validations", type=int, default=1, help="of each LUT")
    parser.add_argument("--networks", type=int, default=40, help="of each validation")
    parser.add_argument("--budget", type=float, help="time limit of every session, seconds")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between two sessions")
    parser.add_argument("--beside", metavar="COMMAND", help="run it all the while, over and over")
    parser.add_argument("--space", default="fbnet")
    parser.add_argument("--input", type=int, default=None)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--out", type=Path, help="the file of figures")
    options = parser.parse_args(arguments)
    if options.out is None and (options.space, options.input, options.width) != (
        "fbnet",
        None,
        1.0,
    ):
        parser.error(
            "the pages are about FBNet's space: name a file with --out, as in --out try.json"
        )
    return options


def command_of(options: argparse.Namespace) -> str:
    """The command, without the paths of this machine."""
    words = ["python", "bench/accuracy.py", "--journals", "FOLDER"]
    for name, value in vars(options).items():
        default = {"profiles": 1, "validations": 1, "networks": 40, "pause": 0.0, "width": 1.0}
        if name in ("journals", "out") or not value or value == default.get(name):
            continue
        if (name, value) == ("space", "fbnet"):
            continue
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{name}"] if one is True else [f"--{name}", str(one)]
    return shlex.join(words)


# Sessions


@dataclass(frozen=True)
class BenchTarget:
    """A runtime, a precision and a number of threads on this machine."""

    runtime: Runtime
    precision: Precision
    threads: int

    @property
    def stem(self) -> str:
        """Its name in FOLDER."""
        return f"{self.runtime}-{self.precision}-{self.threads}"

    @property
    def request(self) -> TargetRequest:
        """What to ask latbench for."""
        return TargetRequest(runtime=self.runtime, precision=self.precision, threads=self.threads)


def targets_of(options: argparse.Namespace) -> list[BenchTarget]:
    """The requested targets, without those that this machine does not have; says which."""
    if not (options.all or options.runtime or options.precision or options.threads):
        return []
    cores = len(os.sched_getaffinity(0))
    found = []
    for runtime in options.runtime or Runtime:
        if not descriptor(runtime).runs_here:
            continue
        if not is_installed(runtime):
            print(f"{runtime}: not installed, left out: {descriptor(runtime).install_command}")
            continue
        every = options.all or options.precision
        precisions = options.precision or (Precision if every else [Precision.FP32])
        threads = options.threads or ([1, 2] if options.all else [1])
        found += [
            BenchTarget(runtime, precision, count)
            for precision in precisions
            if precision in descriptor(runtime).precisions
            for count in threads
            if count <= cores
        ]
    return found


class Note(Record):
    """The note of a finished session: what it was.

    `run` is that of a validation in the home's journal; a profile has a journal of its own. `failed` says why
    a validation could not even be measured. One that was measured and then refused has a run, like others,
    and is judged again whenever the journals are evaluated.
    """

    runtime: Runtime
    precision: Precision
    threads: Count
    beside: str | None
    session: Session
    seed: Count = 0
    run: Count | None = None
    failed: str | None = None


@dataclass(frozen=True)
class Step:
    """One session of a target: a profile, or a validation of one (`validation` 1 and up)."""

    target: BenchTarget
    profile: int
    validation: int = 0

    def take(self, home: Path, space: SearchSpace, options: argparse.Namespace) -> None:
        """Measure it, unless it was measured already, and leave its note."""
        beside = "-beside" if options.beside else ""
        folder = home / f"{self.target.stem}{beside}"
        name = f"{self.profile}-{self.validation}" if self.validation else str(self.profile)
        note = folder / f"{'validation' if self.validation else 'profile'}-{name}.json"
        if note.exists():
            return
        if self.validation and not (folder / f"profile-{self.profile}.json").exists():
            return  # the profile failed, and was reported
        time.sleep(options.pause)
        print(f"{datetime.now(UTC):%H:%M:%S} {folder.name}: {note.stem}", flush=True)
        limit = {} if options.budget is None else {"budget_s": options.budget}
        load, started, clock = os.getloadavg()[0], datetime.now(UTC), time.perf_counter()
        with beside_command(options.beside):
            if self.validation:
                details = self._validate(folder, options.networks, limit)
            else:
                details = self._profile(folder, space, limit)
        if details is None:
            return
        session = Session(
            started=started.isoformat(timespec="seconds"),
            latbench=version(),
            load_average=round(load, 2),
            whole_s=round(time.perf_counter() - clock, 1),
        )
        target = {name: getattr(self.target, name) for name in ("runtime", "precision", "threads")}
        taken = Note(**target, beside=options.beside, session=session, **details)
        write_atomically(note, taken.model_dump_json(indent=1) + "\n")

    def _profile(
        self, folder: Path, space: SearchSpace, limit: dict[str, float]
    ) -> dict[str, object] | None:
        """Profile into the folder; None if that gave no LUT: the same command then continues."""
        folder.mkdir(parents=True, exist_ok=True)
        try:
            journal = folder / f"profile-{self.profile}.sqlite"
            done = profile(self.target.request, space, journal=journal, **limit)
            build_lut(journal)
        except LatbenchError as error:
            print(f"  failed: {error.message}")
            return None
        _print_run(done.report)
        return {}

    def _validate(self, folder: Path, networks: int, limit: dict[str, float]) -> dict[str, object]:
        seed = 100 * self.profile + self.validation
        before = last_validation()
        try:
            lut = build_lut(folder / f"profile-{self.profile}.sqlite")
            _print_run(validate(lut, networks=networks, seed=seed, **limit).report)
        except LatbenchError as error:
            print(f"  {error.message}")
            if last_validation() == before:
                return {"seed": seed, "failed": error.message}
        return {"seed": seed, "run": last_validation()}


def _print_run(report: RunReport) -> None:
    """Say how a session went: with most trials tainted, its figures describe other work on the machine."""
    print(
        f"  {report.session_wall_s:.0f} s, {report.tainted / report.trials:.0%} of "
        f"{report.trials} trials tainted, sentinel drift {report.drift or 0:.0%}",
        flush=True,
    )


def last_validation() -> int | None:
    """The last run in the journal of validations."""
    path = journals() / "networks.sqlite"
    if not path.exists():
        return None
    with Journal(path, readonly=True) as opened:
        return max((run.id for run in opened.runs()), default=None)


def steps(targets: Sequence[BenchTarget], profiles: int, validations: int) -> Iterator[Step]:
    """All sessions, in the order in which they are taken."""
    for number in range(1, profiles + 1):
        for validation in range(validations + 1):
            for target in targets:
                yield Step(target, number, validation)


@contextlib.contextmanager
def beside_command(command: str | None) -> Iterator[None]:
    """Run a shell command over and over while inside."""
    if command is None:
        yield
        return
    process = subprocess.Popen(
        ["sh", "-c", f"while :; do {command}\ndone"],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# Evaluation


def stems(folder: Path) -> list[str]:
    """The folders of targets that have a finished profile."""
    return sorted({note.parent.name for note in folder.glob("*/profile-*.json")})


def evaluated(folder: Path) -> Row | None:
    """The row of a target, from its journals; None if no validation is finished."""
    luts, note = [], None
    for path in sorted(folder.glob("profile-*.json"), key=_number):
        note = Note.model_validate_json(path.read_text())
        number = path.stem.removeprefix("profile-")
        try:
            lut, figures = _lut_figures(folder / f"profile-{number}.sqlite", note)
        except LatbenchError as error:
            print(f"{folder.name}: {path.stem} is left out: {error.message}")
            continue
        validations = [
            _validation_figures(lut, Note.model_validate_json(one.read_text()))
            for one in sorted(folder.glob(f"validation-{number}-*.json"), key=_number)
        ]
        luts.append(figures.model_copy(update={"validations": tuple(validations)}))
    if note is None or not any(lut.validations for lut in luts):
        return None
    summary = summary_of(luts)
    shown = {name: getattr(summary, name) for name in ("mape", "worst", "coverage", "level")}
    print(
        f"{folder.name:22} {summary.validations} validations, {summary.refused} refused; "
        + "; ".join(
            f"{name} {found.low:.2f} to {found.high:.2f}"
            for name, found in (shown | {"outside": summary.outside}).items()
            if found is not None
        ),
        flush=True,
    )
    return Row(
        runtime=note.runtime,
        precision=note.precision,
        threads=note.threads,
        circumstances=f"beside {note.beside}" if note.beside else "",
        runtime_version=runtime_version(note.runtime),
        summary=summary,
        luts=tuple(luts),
    )


def _number(path: Path) -> list[int]:
    return [int(word) for word in re.findall(r"\d+", path.stem)]


def _lut_figures(journal: Path, note: Note) -> tuple[Lut, LutFigures]:
    lut = build_lut(journal)
    with Journal(journal, readonly=True) as opened:
        report = stored_report(opened, opened.run())
    return lut, LutFigures(
        session=note.session,
        wall_s=round(report.run.wall_s, 2),
        timed_s=round(report.timed_s, 2),
        drift=round(100 * (report.drift or 0.0), 1),
        tainted=round(100 * report.tainted / report.trials, 2),
        trials=report.trials,
        converged=len(report.statuses) - len(report.unconverged),
        workloads=len(report.statuses),
    )


def _validation_figures(lut: Lut, note: Note) -> ValidationFigures:
    """The figures of a stored validation, by the present code."""
    if note.run is None:
        return ValidationFigures(session=note.session, seed=note.seed, refused=note.failed)
    with Journal(journals() / "networks.sqlite", readonly=True) as opened:
        report = stored_report(opened, opened.run(note.run))
    networks = held_out(lut, report.run)
    try:
        done = validation_of(lut, networks, measured_together(networks, lut, report))
    except LatbenchError as error:
        return ValidationFigures(session=note.session, seed=note.seed, refused=error.message)
    return ValidationFigures(
        session=note.session,
        seed=note.seed,
        figures={name: round(value, 4) for name, value in done.figures.to_dict().items()},
        tainted=round(100 * report.tainted / report.trials, 2),
        warnings=done.warnings,
    )


def held_out(lut: Lut, run: Run) -> list[Architecture]:
    """The networks of a run that were not timed in the run of `lut`."""
    known = {one.layers for one in lut.correction.calibration} if lut.correction else set()
    known |= {lut.sentinel.architecture} if lut.sentinel else set()
    pairs = [
        key.removeprefix("network:").partition(":")
        for key, workload in run.workloads.items()
        if workload.role is Role.NETWORK
    ]
    return [
        Architecture.parse(layers, lut.search_space, head=int(head))
        for head, _, layers in pairs
        if layers not in known
    ]


def stored_report(journal: Journal, run: Run) -> RunReport:
    """The report on a run in a journal, by the present code."""
    watching = (run.sentinel, run.reference)
    plan = Plan(
        run.target,
        tuple(one for one in run.workloads.values() if not one.role.watches),
        *watching[:1],
        settings_of(run),
        *watching[1:],
    )
    return report_of(plan, run, Ledger(plan, journal.trials(run.id)))


def settings_of(run: Run) -> Settings:
    """The settings of a run, as far as this version knows them."""
    known = {field.name for field in fields(Settings)}
    return Settings(**{name: value for name, value in run.settings.items() if name in known})


# The machine


def version() -> str:
    """The version of latbench with its commit; '-dirty' if files differ from it."""
    root = Path(__file__).parents[1]
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    commit = found.stdout.strip()
    return f"{__version__} ({commit})" if commit else __version__


def this_machine() -> Machine:
    """The machine that this runs on."""
    text = Path("/proc/cpuinfo").read_text()
    known = dict(re.findall(r"^(\S[^\t:]*?)\s*:\s*(.*)$", text, re.MULTILINE))
    flags = known.get("flags", known.get("Features", "")).split()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        cpu=known.get("model name") or platform.processor() or platform.machine(),
        cores=os.cpu_count() or 1,
        caches=_caches(),
        hypervisor=_hypervisor() if "hypervisor" in flags else None,
        vectors=" ".join(sorted(flag for flag in flags if _VECTORS.fullmatch(flag))),
        memory_gib=round(memory / 2**30, 1),
    )


def _caches() -> dict[str, str]:
    """Size of each cache of the first core, by level and type, as Linux reports it."""
    caches = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        with contextlib.suppress(OSError):
            level, kind, size = (
                (folder / name).read_text().strip() for name in ("level", "type", "size")
            )
            caches[f"L{level} {kind.lower()}"] = size
    return caches


def _hypervisor() -> str:
    """Its vendor, as lscpu finds it."""
    with contextlib.suppress(OSError):
        shown = subprocess.run(["lscpu"], capture_output=True, text=True, check=False).stdout
        if found := re.search(r"^Hypervisor vendor:\s*(.+)$", shown, re.MULTILINE):
            return found[1]
    return "unknown"


if __name__ == "__main__":
    main()
