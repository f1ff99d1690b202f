"""A home with a profile of a small space, and the command line as a shell runs it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from latbench.cli import main

SMALL_SPACE = ("--space", "fbnet-cifar", "--input", "16", "--width", "0.35")
Run = Callable[..., subprocess.CompletedProcess[str]]


def latbench(
    *words: str, home: Path, cwd: Path, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run `latbench` as a process of its own."""
    env = os.environ | {"LATBENCH_HOME": str(home), "COLUMNS": "80", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "latbench", *words],
        capture_output=True,
        text=True,
        env=env,
        cwd=cwd,
        timeout=timeout,
    )


@pytest.fixture(scope="session")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(home, working directory): the small space profiled on this machine, its LUT built."""
    home, cwd = tmp_path_factory.mktemp("profiled-home"), tmp_path_factory.mktemp("work")
    profile = latbench(
        "profile", "--device", "host", *SMALL_SPACE, "--ci", "10%", home=home, cwd=cwd
    )
    assert profile.returncode == 0, profile.stderr
    built = latbench("build-lut", home=home, cwd=cwd)
    assert built.returncode == 0, built.stderr
    return home, cwd


@pytest.fixture
def run(profiled: tuple[Path, Path]) -> Run:
    """Run `latbench` in the profiled home."""
    home, cwd = profiled

    def call(*words: str, **settings: float) -> subprocess.CompletedProcess[str]:
        return latbench(*words, home=home, cwd=cwd, **settings)

    return call


@pytest.fixture
def ask(profiled: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `latbench` in the profiled home, in this process; for commands that neither measure nor export."""
    home, cwd = profiled
    monkeypatch.chdir(cwd)
    env = {"LATBENCH_HOME": str(home), "COLUMNS": "80", "NO_COLOR": "1"}

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        done = CliRunner(env=env).invoke(main, words, prog_name="latbench")
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)

    return call


@pytest.fixture
def lut_path(profiled: tuple[Path, Path]) -> Path:
    """The LUT of the profiled home."""
    return profiled[1] / "luts" / "host.json"


def when_quiet(run: Run, *words: str, attempts: int = 3) -> subprocess.CompletedProcess[str]:
    """Run a command that fails on a noisy machine, up to `attempts` times."""
    for _ in range(attempts):
        done = run(*words)
        if "tainted trials only" not in done.stderr:
            assert done.returncode == 0, done.stderr
            return done
    pytest.skip(f"this machine was never quiet enough: {done.stderr}")
