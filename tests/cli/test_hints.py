"""Printed commands repeat every option: each is run as it is printed."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result

from latbench.cli import main
from latbench.errors import BadRequest
from latbench.measure import Journal
from latbench.measure.ledger import ConvergenceStatus
from latbench.measure.ledger import Result as Statistic
from latbench.measure.records import Run, RunState
from latbench.measure.report import RunReport, UnitPart
from latbench.space import SearchSpace
from latbench.target import Precision, Runtime, Target
from latbench.workflows import profile as flow
from latbench.workflows.build_lut import build_lut, run_command
from tests.cli.conftest import Run as RunCommand

OPTIONS = (
    *("--space", "fbnet-cifar", "--input", "64", "--width", "0.5", "--classes", "7"),
    *("--drop-first-1x1", "--device", "host", "--runtime", "onnx", "--precision", "int8"),
    *("--threads", "2", "--cores", "0,1", "--accelerator", "xnnpack", "--allow-partial"),
    *("--calibrate", "5", "--ci", "3%", "--budget", "90s", "--journal", "my trials.sqlite"),
)


def report(*, complete: bool, distrusted: bool) -> RunReport:
    """A report on a run of one op."""
    run = cast(Run, type("Run", (), {"state": RunState.FINISHED if complete else RunState.STOPPED}))
    status = ConvergenceStatus.CONVERGED if complete else ConvergenceStatus.PENDING
    statistic = Statistic(1.0, (0.9, 1.1), 40, 8, 0.1, tainted=8, distrusted=distrusted)
    return RunReport(
        run=run,
        statuses={"op": status},
        results={"op": statistic},
        units={"u": UnitPart(8, 8, 0, 1.0, 0)},
        drift=-0.0,
        failures={},
        trials=8,
        taken=8,
        tainted=8,
        taints={"clock": 8},
        failed=0,
        runners_started=1,
        timed_s=3.6,
        session_timed_s=3.6,
        session_wall_s=10.0,
    )


@pytest.fixture
def profiles(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The calls of `profile`, each of which ends incomplete, with distrusted workloads."""
    calls: list[dict[str, Any]] = []

    def profile(target: Any, space: SearchSpace, **others: Any) -> flow.Profile:
        del others["progress"]
        calls.append({"target": target, "space": space, **others})
        known = Target(device="host", runtime=Runtime.ONNX, precision=Precision.INT8)
        outcome = report(complete=len(calls) > 3, distrusted=len(calls) <= 3)
        return flow.Profile(known, space, Path("trials.sqlite"), outcome)

    monkeypatch.setattr(flow, "profile", profile)
    return calls


def typed(line: str) -> Result:
    """Type a line."""
    program, *words = shlex.split(line)
    assert program == "latbench"
    done = CliRunner().invoke(main, words, prog_name="latbench")
    assert done.exit_code == 0, done.output
    return done


def commands(output: str) -> list[str]:
    """The lines of output that are commands."""
    return [line.strip() for line in output.splitlines() if line.startswith("  latbench ")]


def test_profile_prints_the_commands_that_repeat_and_continue_it(
    profiles: list[dict[str, Any]],
) -> None:
    printed = typed(shlex.join(["latbench", "profile", *OPTIONS])).stdout
    repeat, resume = commands(printed)
    for line in (repeat, resume):
        typed(line)
    first, repeated, resumed = profiles
    assert first["target"].cores == (0, 1)
    assert first["journal"] == Path("my trials.sqlite")
    assert not first["fresh"]
    assert repeated == first | {"fresh": True}
    assert resumed == first
    # A run that was started anew is continued without --fresh.
    last = typed(repeat).stdout
    assert profiles[-1] == repeated
    assert "next: latbench build-lut 'my trials.sqlite'" in last


def test_profile_counts_in_words_that_agree(profiles: list[dict[str, Any]]) -> None:
    printed = typed(shlex.join(["latbench", "profile", *OPTIONS])).stdout
    assert "workloads   0 of 1 converged" in printed
    assert "time        10.0 s; 36% of the wall time was timed inference" in printed
    assert "drift       0.0%" in printed
    assert "distrusted: 1 workload has tainted trials only" in printed
    assert "not complete: 1 workload did not converge" in printed


def test_a_run_is_measured_again_by_the_command_that_is_printed_for_it(
    profiled: tuple[Path, Path], profiles: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, _ = profiled
    (journal,) = (home / "journals").glob("host-*.sqlite")
    typed(f"{run_command(journal)} --fresh")
    lut = build_lut(journal)
    (call,) = profiles
    assert call["space"] == lut.search_space
    assert (call["ci"], call["journal"], call["fresh"]) == (0.1, journal, True)
    assert call["calibrate"] == flow.CALIBRATE
    request = call["target"]
    assert (request.device, request.runtime) == (lut.target.device, lut.target.runtime)
    assert request.cores == lut.target.cores


def test_an_interrupted_profile_is_continued_by_the_printed_command(
    run: RunCommand, tmp_path: Path
) -> None:
    journal = tmp_path / "my trials.sqlite"
    words = ("--space", "fbnet-cifar", "--input", "32", "--width", "0.35", "--calibrate", "0")
    first = run("profile", *words, "--ci", "9%", "--budget", "1s", "--journal", str(journal))
    assert first.returncode == 0, first.stderr
    line = commands(first.stdout)[-1]
    program, *again = shlex.split(line)
    assert program == "latbench"
    second = run(*again)
    assert second.returncode == 0, second.stderr
    with Journal(journal, readonly=True) as opened:
        (only,) = opened.runs()
        trials = opened.trials(only.id)
    assert only.settings["ci"] == 0.09
    assert len(trials) > 1


@pytest.mark.parametrize("words", [("--out", "new.json"), ("--json", "--format", "junit")])
def test_drift_names_what_excludes_each_other(words: tuple[str, ...]) -> None:
    shipped = next((Path(__file__).parents[2] / "luts").glob("*.json"))
    done = CliRunner().invoke(main, ["drift", str(shipped), str(shipped), *words])
    assert done.exit_code == 2
    assert "--remeasure only" in done.output or "exclude each other" in done.output
    if "--out" in words:
        assert "latbench drift BASELINE --remeasure --out new.json" in done.output


def test_a_note_without_a_space_has_no_command(profiled: tuple[Path, Path]) -> None:
    from latbench.workflows.build_lut import profile_command

    home, _ = profiled
    (journal,) = (home / "journals").glob("host-*.sqlite")
    with Journal(journal, readonly=True) as opened:
        recorded = opened.run()
    bare = replace(recorded, note=recorded.note.model_copy(update={"space": None}))
    with pytest.raises(BadRequest, match="has no search space"):
        profile_command(bare, journal)
