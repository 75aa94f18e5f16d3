"""The wheel holds every package and the shared files, and works in an environment that has never seen the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    run("git", "clone", "-q", REPOSITORY, source)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, source)
    return next(folder.glob("unreel-*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel. Its dependencies are those of this one, without the editable install."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel)
    packages = next(folder.glob("lib/python*/site-packages"))
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
    return python


def run(*command: str | Path, cwd: Path | None = None) -> str:
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}  # only what is installed counts
    done = subprocess.run([str(c) for c in command], text=True, capture_output=True, cwd=cwd, env=clean, timeout=600)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
    return done.stdout


def test_the_wheel_holds_every_package_and_the_shared_files(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = run("git", "ls-files", "pipeline", "unreel", cwd=REPOSITORY).split()
    assert {name for name in sources if name.endswith((".py", ".typed"))} <= names
    configs = run("git", "ls-files", "configs", cwd=REPOSITORY).split()
    assert {f"pipeline/share/{name}" for name in configs} <= names
    assert "pipeline/share/puppets/prepare.py" in names and "pipeline/share/puppets/README.md" in names
    assert not [name for name in names if name.startswith(("tests/", "scripts/", "datasets/"))]


def test_the_wheel_works_far_from_the_checkout(python: Path, tmp_path: Path) -> None:
    place = run(python, "-c", "import pipeline, unreel; print(pipeline.__file__, unreel.__version__)", cwd=tmp_path)
    assert str(python.parents[1]) in place
    assert "unreel train" in run(python, "-m", "unreel", "-h", cwd=tmp_path)
    assert "rate: 2.0" in run(python, "-m", "unreel", "config", "yoga6/action.yaml", cwd=tmp_path)
    assert run(python.with_name("unreel"), "--version", cwd=tmp_path).startswith("unreel 0.2")


def test_an_editable_install_works_from_the_folder_above_a_clone_of_the_same_name(tmp_path: Path) -> None:
    clone, environment = tmp_path / "unreel", tmp_path / "environment"
    run("git", "clone", "-q", REPOSITORY, clone)
    run(sys.executable, "-m", "venv", environment)
    python = environment / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "--no-deps", "-e", clone)
    place = run(python, "-c", "import unreel; print(unreel.__file__, unreel.__version__)", cwd=tmp_path)
    assert place.startswith(f"{clone}/unreel/__init__.py 0.2")
