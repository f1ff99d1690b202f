"""`latbench drift` as scripts rely on it, and the action for GitHub that calls it."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest

from latbench import Lut
from latbench.errors import DeviceUnavailable, LatbenchError, OutputFailed
from latbench.lut import Entry, Reference
from latbench.target import Runtime
from tests.cli.conftest import Run

SCRIPT = Path(__file__).parents[2] / ".github/actions/latbench-drift/drift.sh"

#: The fixture's LUT was made in a hurry (`--ci 10%`): its intervals are wide.
HASTY = ("--tolerance", "99%", "--level-tolerance", "99%")


@pytest.fixture
def precise(lut_path: Path, tmp_path: Path) -> Path:
    """The profiled LUT with latencies by MACs, so that no timing decides what is found in it."""
    lut = Lut.load(lut_path)
    entries = {key: exact(entry, 0.1 + entry.macs / 1e7) for key, entry in lut.entries.items()}
    path = tmp_path / "baseline.json"
    lut.model_copy(update={"entries": entries, "correction": None, "reference": None}).save(path)
    return path


def exact(entry: Entry, ms: float) -> Entry:
    """`entry` with another latency, known to half a per cent."""
    certain = {"ms": ms, "ci95": (ms * 0.995, ms * 1.005), "placement": 0.0}
    return entry.model_copy(update=certain)


@pytest.fixture
def slowed(precise: Path, tmp_path: Path) -> tuple[Path, list[str]]:
    """A LUT in which three ops are slower by a fifth, and their keys."""
    lut = Lut.load(precise)
    keys = list(lut.keys())[10:13]
    slow = {key: exact(lut[key], 1.2 * lut[key].ms) for key in keys}
    path = tmp_path / "slowed.json"
    lut.model_copy(update={"entries": lut.entries | slow}).save(path)
    return path, keys


def test_a_lut_has_not_drifted_from_itself(ask: Run, precise: Path) -> None:
    done = ask("drift", str(precise), str(precise))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "no drift"
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_slower_ops_are_exit_code_1_and_are_named(
    ask: Run, precise: Path, slowed: tuple[Path, list[str]]
) -> None:
    path, keys = slowed
    done = ask("drift", str(precise), str(path))
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[-1].startswith("drift: ")
    assert "3 ops slower" in done.stdout
    assert all(key in done.stdout for key in keys)
    back = ask("drift", str(path), str(precise), "--json")
    assert back.returncode == 1
    assert sorted(json.loads(back.stdout)["faster"]) == keys
    # Three ops by a fifth are not a change where only half a change more is one.
    assert ask("drift", str(precise), str(path), "--tolerance", "60%").returncode == 0


def test_every_format_can_be_had(ask: Run, precise: Path, slowed: tuple[Path, list[str]]) -> None:
    path, keys = slowed
    said = {}
    for form in ("text", "json", "junit", "markdown", "github"):
        done = ask("drift", str(precise), str(path), "--format", form)
        assert (done.returncode, done.stderr) == (1, "")
        said[form] = done.stdout
    assert sorted(json.loads(said["json"])["slower"]) == keys
    failed = ElementTree.fromstring(said["junit"].encode()).findall(".//testcase[failure]")
    assert set(keys) <= {case.get("name") for case in failed}
    assert said["markdown"].startswith("### latbench drift: ")
    assert sum(line.startswith("::error ") for line in said["github"].splitlines()) >= 3
    assert ask("drift", str(precise), str(path), "--json").stdout == said["json"]


def test_missing_ops_are_drift(ask: Run, precise: Path, tmp_path: Path) -> None:
    lut = Lut.load(precise)
    gone = next(lut.keys())
    rest = {key: entry for key, entry in lut.entries.items() if key != gone}
    part = lut.model_copy(update={"entries": rest})
    part.save(tmp_path / "part.json")
    done = ask("drift", str(precise), str(tmp_path / "part.json"), "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["missing"] == [gone]


def test_another_target_cannot_be_compared(ask: Run, precise: Path, tmp_path: Path) -> None:
    lut = Lut.load(precise)
    other = tmp_path / "other.json"
    changed = lut.target.model_copy(update={"runtime": Runtime.TORCHSCRIPT})
    lut.model_copy(update={"target": changed}).save(other)
    done = ask("drift", str(precise), str(other))
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.splitlines()[-1] == "cannot compare: runtime"
    data = json.loads(ask("drift", str(precise), str(other), "--json").stdout)
    assert (data["comparable"], data["level"]) == (False, None)


def edited(lut: Path, path: Path) -> None:
    path.write_text(lut.read_text().replace('"ms": 0.', '"ms": 1.', 1))


def with_strange_settings(lut: Path, path: Path) -> None:
    Lut.load(lut).model_copy(update={"method": {"settings": [1, 2]}}).save(path)


def with_a_lone_surrogate(lut: Path, path: Path) -> None:
    conditions = Lut.load(lut).conditions | {"unit": "\ud800"}
    Lut.load(lut).model_copy(update={"conditions": conditions}).save(path)


@pytest.mark.parametrize(
    ("damage", "said", "place"),
    [
        (edited, "edited or damaged", 0),
        (lambda lut, path: path.write_bytes(lut.read_bytes()[:5000]), "is not a LUT", 1),
        (lambda lut, path: path.write_text('{"latency": 3}'), "no entries", 0),
        (lambda lut, path: None, "cannot read", 1),
    ],
    ids=["edited", "cut", "foreign", "absent"],
)
def test_what_is_no_lut_is_exit_code_2(
    ask: Run,
    precise: Path,
    tmp_path: Path,
    damage: Callable[[Path, Path], object],
    said: str,
    place: int,
) -> None:
    bad = tmp_path / "bad.json"
    damage(precise, bad)
    files = [str(precise)]
    files.insert(place, str(bad))
    done = ask("drift", *files)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert "bad.json" in done.stderr


@pytest.mark.parametrize("damage", [with_strange_settings, with_a_lone_surrogate])
def test_a_lut_that_holds_strange_things_is_never_called_drift(
    ask: Run, precise: Path, tmp_path: Path, damage: Callable[[Path, Path], None]
) -> None:
    path = tmp_path / "strange.json"
    damage(precise, path)
    done = ask("drift", str(precise), str(path))
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("BASELINE",), "--remeasure"),
        (("BASELINE", "BASELINE", "--remeasure"), "--remeasure"),
        (("BASELINE", "BASELINE", "--out", "never.json"), "--remeasure"),
        ((), "BASELINE"),
        (("BASELINE", "BASELINE", "--tolerance", "much"), "1%"),
        (("BASELINE", "BASELINE", "--tolerance", "0%"), "1%"),
        (("BASELINE", "BASELINE", "--level-tolerance", "100%"), "1%"),
        (("BASELINE", "BASELINE", "--format", "html"), "markdown"),
    ],
)
def test_requests_that_make_no_sense_are_exit_code_2(
    ask: Run, precise: Path, words: tuple[str, ...], said: str
) -> None:
    done = ask("drift", *(str(precise) if word == "BASELINE" else word for word in words))
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_what_was_not_measured_cannot_be_measured_again(
    ask: Run, precise: Path, tmp_path: Path
) -> None:
    imported = tmp_path / "imported.json"
    Lut.load(precise).model_copy(update={"provenance": "imported"}).save(imported)
    done = ask("drift", str(imported), "--remeasure")
    assert (done.returncode, done.stdout) == (2, "")
    assert "not measured" in done.stderr
    phone = Lut.load(precise).target.model_copy(update={"device": "pixel-6"})
    Lut.load(precise).model_copy(update={"target": phone}).save(imported)
    done = ask("drift", str(imported), "--remeasure")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_a_part_of_a_lut_is_measured_again(run: Run, lut_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "now.json"
    words = ("--remeasure", "--budget", "25s", "--out", str(out), "--json")
    done = run("drift", str(lut_path), *words, *HASTY)
    assert done.stdout, done.stderr
    report, baseline, now = json.loads(done.stdout), Lut.load(lut_path), Lut.load(out)
    reasons = [change["what"] for change in report["changes"] if change["blocks"]]
    if reasons:  # a machine that is never quiet gives intervals that say nothing, and says so
        assert (reasons, done.returncode) == (["intervals"], 2)
        return
    assert done.returncode in (0, 1), done.stderr + done.stdout
    assert report["current"]["content_sha256"] == now.content_sha256
    assert set(now.entries) < set(baseline.entries)
    assert report["missing"] == []
    assert [one["key"] for one in report["entries"]] == sorted(now.entries)
    names = [one["name"] for one in report["networks"]]
    assert names[:3] == ["fbnet_a", "fbnet_b", "fbnet_c"]
    assert (now.target, now.space) == (baseline.target, baseline.space)
    again = run("drift", str(lut_path), str(out), "--json", *HASTY)
    assert len(json.loads(again.stdout)["missing"]) == len(baseline) - len(now)
    # What `build-lut` builds is still what was profiled.
    built = tmp_path / "built.json"
    assert run("build-lut", "--out", str(built)).returncode == 0
    assert set(Lut.load(built).entries) == set(baseline.entries)


@pytest.fixture
def slow_moment(precise: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The LUT with a reference, and one in which everything took 10 % longer, the reference too."""
    paths = tmp_path / "then.json", tmp_path / "now.json"
    lut = Lut.load(precise)
    for path, slowdown in zip(paths, (1.0, 1.1), strict=True):
        ms = 10.0 * slowdown
        reference = Reference(workload="products", ms=ms, ci95=(ms, ms), visits=30)
        entries = {key: exact(entry, slowdown * entry.ms) for key, entry in lut.entries.items()}
        lut.model_copy(update={"entries": entries, "reference": reference}).save(path)
    return paths


def test_a_slow_moment_is_no_drift_unless_the_level_is_strict(
    ask: Run, slow_moment: tuple[Path, Path]
) -> None:
    words = ("drift", *map(str, slow_moment))
    done = ask(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == (
        "no drift: the machine is 10.0% slower, by the reference too"
    )
    assert max(map(len, done.stdout.splitlines())) <= 80
    data = json.loads(ask(*words, "--json").stdout)
    assert data["machine"]["ratio"] == pytest.approx(1.1)
    assert data["beyond"]["ratio"] == pytest.approx(1.0, abs=1e-6)
    assert (data["drifted"], data["level"]["drifted"], data["strict_level"]) == (False,) * 3
    strict = ask(*words, "--strict-level")
    assert strict.returncode == 1
    assert strict.stdout.splitlines()[-1].startswith("drift: everything slower")
    for form in ("junit", "github"):
        told = ("<failure", "::error")
        assert not any(word in ask(*words, "--format", form).stdout for word in told)
        said = ask(*words, "--format", form, "--strict-level").stdout
        assert any(word in said for word in told)


# Exit code 1 is drift, and nothing else


@pytest.mark.parametrize(
    "error",
    [
        DeviceUnavailable("the phone is gone", hint="attach it"),
        OutputFailed("the disk is full"),
        click.ClickException("something of click"),
        KeyboardInterrupt(),
        MemoryError(),
        ZeroDivisionError("a mistake"),
        OSError(28, "No space left on device"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize(
    "place",
    ["latbench.lut.Lut.load", "latbench.lut.drift.compare_luts", "latbench.report.drift.render"],
)
def test_whatever_goes_wrong_is_exit_code_2(
    ask: Run, precise: Path, monkeypatch: pytest.MonkeyPatch, place: str, error: BaseException
) -> None:
    def fail(*words: object, **settings: object) -> None:
        raise error

    monkeypatch.setattr(place, fail)
    done = ask("drift", str(precise), str(precise))
    assert (done.returncode, done.stdout) == (2, "")
    if isinstance(error, LatbenchError):
        assert done.stderr.startswith(f"error: {error.message}")
    elif isinstance(error, KeyboardInterrupt):
        assert "interrupted" in done.stderr
        assert f"latbench drift {precise} {precise}" in done.stderr
    else:
        assert str(error) in done.stderr


@pytest.mark.parametrize("out", ["/dev/full", "a pipe that nobody reads"])
def test_a_report_that_cannot_be_printed_is_no_verdict(
    profiled: tuple[Path, Path], precise: Path, slowed: tuple[Path, list[str]], out: str
) -> None:
    if out == "/dev/full":
        stdout = os.open(out, os.O_WRONLY)
    else:
        reader, stdout = os.pipe()
        os.close(reader)
    words = ("drift", str(precise), str(slowed[0]))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "latbench", *words],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"LATBENCH_HOME": str(profiled[0])},
        )
    finally:
        os.close(stdout)
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot write the report: ")
    assert "Exception ignored" not in done.stderr


# The action for GitHub


class Step:
    """One run of the action's script, as a runner runs it."""

    def __init__(self, folder: Path, home: Path, **settings: str) -> None:
        folder.mkdir(exist_ok=True)
        shim = folder / "bin" / "latbench"
        shim.parent.mkdir(exist_ok=True)
        shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m latbench "$@"\n')
        shim.chmod(0o755)
        self.summary, self.output = folder / "summary.md", folder / "output"
        env = {
            "PATH": f"{shim.parent}{os.pathsep}{os.environ['PATH']}",
            "LATBENCH_HOME": str(home),
            "RUNNER_TEMP": str(folder),
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "GITHUB_OUTPUT": str(self.output),
            "TOLERANCE": "5%",
            "LEVEL_TOLERANCE": "3%",
            "JUNIT": "",
            "FAIL_ON_DRIFT": "true",
        }
        done = subprocess.run(
            ["bash", str(SCRIPT)],
            env=os.environ | env | settings,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.code, self.log, self.stderr = done.returncode, done.stdout, done.stderr

    @property
    def outputs(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.output.read_text().splitlines())


@pytest.fixture
def step(tmp_path: Path, profiled: tuple[Path, Path]) -> Callable[..., Step]:
    def call(baseline: Path, current: Path, **settings: str) -> Step:
        files = {"BASELINE": str(baseline), "CURRENT": str(current)}
        return Step(tmp_path / "step", profiled[0], **(files | settings))

    return call


def test_the_action_passes_where_nothing_drifted(step: Callable[..., Step], precise: Path) -> None:
    done = step(precise, precise)
    assert (done.code, done.stderr) == (0, "")
    assert done.outputs == {"exit-code": "0", "drifted": "false"}
    assert done.log.splitlines() == ["::notice title=latbench drift%2C verdict::no drift"]
    assert done.summary.read_text().startswith("### latbench drift: no drift\n")


def test_the_action_fails_where_something_drifted(
    step: Callable[..., Step], precise: Path, slowed: tuple[Path, list[str]], tmp_path: Path
) -> None:
    path, keys = slowed
    done = step(precise, path, JUNIT="deep/drift report.xml")
    assert done.code == 1
    assert done.outputs == {"exit-code": "1", "drifted": "true"}
    errors = [line for line in done.log.splitlines() if line.startswith("::error title=")]
    assert all(any(key in error for error in errors) for key in keys)
    assert all(f"`{key}`" in done.summary.read_text() for key in keys)
    suite = ElementTree.parse(tmp_path / "step/deep/drift report.xml").getroot()[0]
    assert int(suite.attrib["failures"]) >= 3


def test_the_action_only_tells_of_drift_if_it_shall_not_fail(
    step: Callable[..., Step], precise: Path, slowed: tuple[Path, list[str]]
) -> None:
    done = step(precise, slowed[0], FAIL_ON_DRIFT="false")
    assert done.code == 0
    assert done.outputs == {"exit-code": "1", "drifted": "true"}
    assert "::error title=" in done.log
    lenient = step(precise, slowed[0], TOLERANCE="60%")
    assert lenient.code == 0
    assert "no drift" in lenient.log


def test_the_action_lets_the_machine_count_on_request(
    step: Callable[..., Step], slow_moment: tuple[Path, Path]
) -> None:
    assert step(*slow_moment).outputs == {"exit-code": "0", "drifted": "false"}
    assert step(*slow_moment, STRICT_LEVEL="true").code == 1


def test_the_action_fails_where_nothing_can_be_compared(
    step: Callable[..., Step], precise: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.json"
    lut = Lut.load(precise)
    changed = lut.target.model_copy(update={"threads": 3})
    lut.model_copy(update={"target": changed}).save(other)
    done = step(precise, other, FAIL_ON_DRIFT="false", JUNIT="drift.xml")
    assert done.code == 2
    assert done.outputs == {"exit-code": "2", "drifted": ""}
    assert "::error title=latbench drift%2C cannot compare::threads: " in done.log
    assert done.summary.read_text().startswith("### latbench drift: cannot compare: threads")
    assert (tmp_path / "step/drift.xml").exists()


def test_the_action_says_why_there_is_no_report(
    step: Callable[..., Step], precise: Path, tmp_path: Path
) -> None:
    done = step(precise, tmp_path / "100% absent.json", FAIL_ON_DRIFT="false")
    assert done.code == 2
    assert done.outputs == {"exit-code": "2", "drifted": ""}
    (line,) = done.log.splitlines()
    assert line.startswith("::error title=latbench drift::error: cannot read ")
    assert "100%25 absent.json" in line
    assert "%0A" in line  # the hint is a line of its own
    assert "absent.json" in done.summary.read_text()
    assert "absent.json" in done.stderr


def test_the_action_takes_names_as_they_are(
    step: Callable[..., Step], precise: Path, tmp_path: Path
) -> None:
    strange = tmp_path / "--json; echo $(id) 'a b'.json"
    Lut.load(precise).save(strange)
    assert step(strange, strange).outputs["exit-code"] == "0"
    assert step(Path(strange.name), Path(strange.name)).outputs["exit-code"] == "2"
    (tmp_path / "step" / strange.name).write_bytes(strange.read_bytes())
    assert step(Path(strange.name), Path(strange.name)).outputs["exit-code"] == "0"
