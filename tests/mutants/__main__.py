"""Run the mutants: `python -m tests.mutants [--only TEXT] [--workers N] [--timeout SECONDS]`.

Each worker has its own copy of the repository, in which one file at a time is mutated. A mutant is

    killed     a test failed, or ran out of time
    survived   all tests passed (or were skipped)
    broken     the tests could not be run: the mutant is at fault, not the tests

First the tests run once without a mutant, and must pass. The exit status is 0 if every mutant was killed.
"""

import argparse
import contextlib
import importlib.util
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.mutants import ROOT, Mutant, load_mutants

#: Seconds until the tests of a mutant count as hung; each takes some seconds.
_TIMEOUT_S = 600.0

#: pytest's exit statuses for passed, and for failed tests.
_PASSED, _FAILED = 0, 1


class Outcome(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    SURVIVED = "survived"
    BROKEN = "broken"


@dataclass(frozen=True)
class Verdict:
    """The outcome of a mutant; `reason` is the test that failed first, or the end of pytest's output."""

    mutant: Mutant
    outcome: Outcome
    reason: str
    seconds: float


def copy_of(root: Path, folder: Path) -> Path:
    """Copy the files of a git checkout that are tracked, or new and not ignored, into `folder`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        source, target = root / name, folder / name
        if source.is_file():  # not deleted since
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return folder


def run_tests(folder: Path, tests: Sequence[str], timeout_s: float) -> tuple[int | None, str]:
    """Run `tests` in a copy of the repository, up to the first failure.

    Returns:
        pytest's exit status, None if it ran out of time, and its output.
    """
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=line", "-p", "no:cacheprovider"]
    if importlib.util.find_spec("hypothesis"):
        command.append("--hypothesis-seed=0")
    environment = os.environ | {
        # Before an installed package, in subprocesses too.
        "PYTHONPATH": str(folder),
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
    }
    with subprocess.Popen(
        [*command, *tests],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=timeout_s)
            status: int | None = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            status = None
    return status, output.decode(errors="replace")


@contextlib.contextmanager
def mutated(folder: Path, mutant: Mutant) -> Iterator[None]:
    """Apply a mutant to its file in `folder`, and restore the file afterwards."""
    path = folder / mutant.file
    source = path.read_text(encoding="utf-8")
    path.write_text(mutant.applied_to(source), encoding="utf-8")
    _forget_bytecode(path)
    try:
        yield
    finally:
        path.write_text(source, encoding="utf-8")
        _forget_bytecode(path)


def _forget_bytecode(path: Path) -> None:
    """Remove the compiled file, which Python takes for current if time and size are the same."""
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
        compiled.unlink()


def judge(folder: Path, mutant: Mutant, timeout_s: float) -> Verdict:
    """Run the tests of a mutant in a copy of the repository."""
    started = time.monotonic()
    with mutated(folder, mutant):
        status, output = run_tests(folder, mutant.tests, timeout_s)
    seconds = time.monotonic() - started
    lines = [line for line in output.splitlines() if line.strip()] or ["pytest printed nothing"]
    if status == _PASSED:
        return Verdict(mutant, Outcome.SURVIVED, lines[-1], seconds)
    if status is None:
        return Verdict(mutant, Outcome.KILLED, f"no end within {timeout_s:g} s", seconds)
    failed = next((line for line in lines if line.startswith(("FAILED ", "ERROR "))), lines[-1])
    outcome = Outcome.KILLED if status == _FAILED else Outcome.BROKEN
    return Verdict(mutant, outcome, failed, seconds)


def run_mutants(
    root: Path,
    mutants: Sequence[Mutant],
    *,
    workers: int = 1,
    timeout_s: float = _TIMEOUT_S,
    check: bool = True,
    report: Callable[[Verdict], None] = lambda verdict: None,
) -> list[Verdict]:
    """Run mutants of the git checkout `root`; `report` is called after each.

    With `check`, the tests run once without a mutant first.

    Raises:
        RuntimeError: the tests fail without a mutant.
    """
    with tempfile.TemporaryDirectory(prefix="latbench-mutants-") as name:
        folders: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(workers):
            folders.put(copy_of(root, Path(name) / str(number)))
        if check:
            folder = folders.get()
            tests = dict.fromkeys(test for mutant in mutants for test in mutant.tests)
            status, output = run_tests(folder, list(tests), timeout_s * len(mutants))
            folders.put(folder)
            if status != _PASSED:
                raise RuntimeError(f"the tests fail without a mutant:\n{output}")
        turn = threading.Lock()

        def one(mutant: Mutant) -> Verdict:
            folder = folders.get()
            try:
                verdict = judge(folder, mutant, timeout_s)
            finally:
                folders.put(folder)
            with turn:
                report(verdict)
            return verdict

        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(one, mutants))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the mutants, print what became of each, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description="Run the mutants of tests/mutants/*.toml."
    )
    parser.add_argument("--only", default="", help="mutants whose file or name contains this text")
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument(
        "--timeout", type=float, default=_TIMEOUT_S, help="seconds for the tests of a mutant"
    )
    parser.add_argument(
        "--unchecked", action="store_true", help="do not run the tests without a mutant first"
    )
    chosen = parser.parse_args(arguments)
    mutants = [one for one in load_mutants() if chosen.only in f"{one.file} {one.name}"]
    if not mutants:
        parser.error(f"no mutant contains {chosen.only!r}")

    def report(verdict: Verdict) -> None:
        mutant = verdict.mutant
        print(
            f"{verdict.outcome:8} {verdict.seconds:5.0f} s  {mutant.file}: {mutant.name}"
            f"\n                  {verdict.reason}",
            flush=True,
        )

    try:
        verdicts = run_mutants(
            ROOT,
            mutants,
            workers=chosen.workers,
            timeout_s=chosen.timeout,
            check=not chosen.unchecked,
            report=report,
        )
    except RuntimeError as error:
        print(error)
        return 1
    killed = sum(verdict.outcome is Outcome.KILLED for verdict in verdicts)
    print(f"\n{killed} of {len(verdicts)} mutants killed ({killed / len(verdicts):.1%})")
    for verdict in verdicts:
        if verdict.outcome is not Outcome.KILLED:
            mutant = verdict.mutant
            print(f"{verdict.outcome}: {mutant.file}: {mutant.name}\n    {verdict.reason}")
    return 0 if killed == len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
