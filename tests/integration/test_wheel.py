"""The built wheel, apart from this checkout: it carries its data and runs from an empty folder."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that `uv build` makes."""
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        ["uv", "build", "--wheel", "--out-dir", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_carries_all_data_of_the_package_and_nothing_else(wheel):
    packed = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(["git", "ls-files", "moodbench"], cwd=ROOT, capture_output=True, text=True, check=True)
    expected = set(tracked.stdout.split())
    assert {n for n in packed if n.startswith("moodbench/")} >= expected
    data = {Path(name).name for name in packed}
    assert {"models.yaml", "datasets.yaml", "presets.yaml", "training.yaml", "evaluation.yaml", "anchors.toml"} <= data
    assert any(n.startswith("moodbench/data/embedded/") and n.endswith(".parquet") for n in packed)
    spaces = {path.name for path in (ROOT / "tune_spaces").glob("*.yaml")}
    assert len(spaces) >= 4 and {f"moodbench/tune_spaces/{name}" for name in spaces} <= packed
    assert not [n for n in packed if n.startswith(("tests/", "results/"))]


def test_the_wheel_runs_from_an_empty_folder(wheel, tmp_path):
    """Only moodbench comes from the wheel; its dependencies, 7 GB, are those of this environment, by a .pth file."""
    folder = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = (folder / "lib").glob("python3*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    (there,) = {p for p in sys.path if p.endswith("site-packages") and Path(p, "torch").is_dir()}
    # Appended, so that the wheel's own moodbench is found before the checkout that this environment may point to.
    (site / "dependencies.pth").write_text(f"{there}\n")

    call = caller(folder, tmp_path)
    train = ["train", "--model", "vader", "--dataset", "icwsm-movie", "--executor", "inline", "--json"]
    (fit,) = json.loads(call("-m", "moodbench", *train))["fits"]
    assert (fit["model"], fit["num_train"]) == ("vader", 7050)


@pytest.mark.slow
def test_the_wheel_installs_its_dependencies_anew_and_runs_the_quickstart(wheel, tmp_path):
    """Many minutes, and 7 GB of disk."""
    folder = tmp_path / "venv"
    subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, folder], check=True)
    subprocess.run(
        ["uv", "pip", "install", "--quiet", "--python", folder, "--compile-bytecode", f"{wheel}[offline]"],
        cwd=tmp_path,  # in the checkout, settings of its pyproject.toml would hold that no other user has
        check=True,
    )
    call = caller(folder, tmp_path)
    assert len(json.loads(call("-m", "moodbench", "run", "quickstart", "--json"))["board"]) == 6
    assert json.loads(call("-m", "moodbench", "store", "verify", "--json"))["differences"] == []


def caller(folder, tmp_path):
    """Return a function that runs the Python of the environment in `folder`, which holds the wheel, in an empty folder."""
    work = tmp_path / "work"
    work.mkdir()
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")}

    def call(*arguments):
        command = [folder / "bin" / "python", *arguments]
        done = subprocess.run(
            command, cwd=work, env=environment, capture_output=True, text=True, timeout=3000, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert call("-c", "import moodbench; print(moodbench.__file__)").startswith(f"{folder}/")
    found = "from moodbench.config import space_file as s; p = s.available_spaces(); print(len(p), p['qlora'])"
    number, qlora = call("-c", found).split()
    assert int(number) >= 4 and Path(qlora).is_relative_to(folder)
    return call
