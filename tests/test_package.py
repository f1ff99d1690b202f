"""The package as it is installed: the wheel carries what it must, the commands work anywhere."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout without a network."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    done = subprocess.run([*command, str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_carries_the_catalogue_and_the_luts(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("devices", "luts", "runner/core", "runner/cmake", "runner/plugins"):
        for file in filter(Path.is_file, (ROOT / folder).rglob("*")):
            assert f"latbench/_shipped/{file.relative_to(ROOT).as_posix()}" in names
    assert {"CMakeLists.txt", "CMakePresets.json"} <= {
        name.removeprefix("latbench/_shipped/runner/") for name in names
    }
    for recipe in (ROOT / "fbnet_search" / "recipes").glob("*.toml"):
        assert f"fbnet_search/recipes/{recipe.name}" in names
    assert {"latbench/py.typed", "fbnet_search/py.typed"} <= names
    (entry_points,) = (n for n in names if n.endswith(".dist-info/entry_points.txt"))
    text = zipfile.ZipFile(wheel).read(entry_points).decode()
    assert all(command in text for command in ("latbench", "fbnet-search", "fbnet-train"))


def test_the_installed_wheel_works_from_any_directory(wheel: Path, tmp_path: Path) -> None:
    """As after `pip install`: unpacked, away from the checkout, with the dependencies that are there."""
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    env = os.environ | {"PYTHONPATH": str(site), "LATBENCH_HOME": str(tmp_path / "home")}

    def run(code: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = run("import latbench, fbnet_search; print(latbench.__file__, fbnet_search.__file__)")
    assert str(site) in where
    assert str(ROOT / "latbench") not in where
    listed = run("from latbench.cli import main; main(['devices'])")
    assert "galaxy-s8" in listed
    shipped = run("from latbench.files import shipped; print(*shipped('luts').iterdir())")
    assert str(site) in shipped
    built_from = run("from latbench.files import shipped; print(shipped('runner'))")
    assert built_from.startswith(str(site))
    assert "paper" in run("from fbnet_search.run.recipe import shipped_recipes as s; print(s())")
