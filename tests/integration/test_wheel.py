"""The built wheel, apart from this checkout: it carries its data and runs from an empty folder."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WHOLE = os.environ.get("MOODBENCH_WHEEL") == "whole"
"""Install all dependencies anew into an empty environment and run the whole quickstart: many minutes, and 7 GB of disk."""
pytestmark = [pytest.mark.integration, pytest.mark.timeout(3600 if WHOLE else 600)]


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


@pytest.fixture
def python(wheel, tmp_path):
    """The interpreter of an environment that holds the wheel, which is not this one's."""
    folder = tmp_path / "venv"
    if WHOLE:
        subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, folder], check=True)
        wanted = f"{wheel}[offline]"
        subprocess.run(
            ["uv", "pip", "install", "--quiet", "--python", folder, "--compile-bytecode", wanted],
            cwd=tmp_path,  # in the checkout, settings of its pyproject.toml would hold that no other user has
            check=True,
        )
        return folder / "bin" / "python"
    # Only moodbench comes from the wheel; its dependencies, 7 GB, are those of this environment, by a .pth file.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = (folder / "lib").glob("python3*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    (there,) = {p for p in sys.path if p.endswith("site-packages") and Path(p, "torch").is_dir()}
    # Appended, so that the wheel's own moodbench is found before the checkout that this environment may point to.
    (site / "dependencies.pth").write_text(f"{there}\n")
    return folder / "bin" / "python"


def test_the_wheel_runs_from_an_empty_folder(python, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")}

    def call(*arguments):
        done = subprocess.run(
            [python, *arguments],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=3000 if WHOLE else 300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert call("-c", "import moodbench; print(moodbench.__file__)").startswith(f"{tmp_path}/venv/")
    found = "from moodbench.config import space_file as s; p = s.available_spaces(); print(len(p), p['qlora'])"
    number, qlora = call("-c", found).split()
    assert int(number) >= 4 and Path(qlora).is_relative_to(tmp_path / "venv")
    if WHOLE:
        assert len(json.loads(call("-m", "moodbench", "run", "quickstart", "--json"))["board"]) == 6
        assert json.loads(call("-m", "moodbench", "verify", "--json"))["differences"] == []
        return
    train = ["train", "--model", "vader", "--dataset", "icwsm-movie", "--executor", "inline", "--json"]
    (fit,) = json.loads(call("-m", "moodbench", *train))["fits"]
    assert (fit["model"], fit["num_train"]) == ("vader", 7050)
