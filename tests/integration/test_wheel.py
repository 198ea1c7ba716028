"""The built wheel, apart from this checkout: it carries its data and runs from an empty folder."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]
WHOLE = os.environ.get("MOODBENCH_WHEEL") == "whole"
"""Run the whole quickstart, some minutes, and not one fit alone."""


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
    assert not [n for n in packed if n.startswith(("tests/", "results/"))]


def test_the_wheel_runs_from_an_empty_folder(wheel, tmp_path):
    """Only moodbench comes from the wheel; its dependencies, 7 GB, are those of this environment, by a .pth file."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")}
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (site,) = (tmp_path / "venv" / "lib").glob("python3*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    (there,) = {p for p in sys.path if p.endswith("site-packages") and Path(p, "torch").is_dir()}
    # Appended, so that the wheel's own moodbench is found before the checkout that this environment may point to.
    (site / "dependencies.pth").write_text(f"{there}\n")
    work = tmp_path / "work"
    work.mkdir()
    python = tmp_path / "venv" / "bin" / "python"

    def call(*arguments):
        done = subprocess.run(
            [python, *arguments],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=1000 if WHOLE else 300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert call("-c", "import moodbench; print(moodbench.__file__)").startswith(str(site))
    run = ["-m", "moodbench", "run", "quickstart", "--json"]
    if WHOLE:
        assert len(json.loads(call(*run))["board"]) == 6
        return
    train = [
        "-m",
        "moodbench",
        "train",
        "--model",
        "vader",
        "--dataset",
        "icwsm-movie",
        "--executor",
        "inline",
        "--json",
    ]
    (fit,) = json.loads(call(*train))["fits"]
    assert (fit["model"], fit["num_train"]) == ("vader", 7050)
