"""Light modules stay light, so that `moodbench --help` and `moodbench leaderboard` start at once."""

import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "transformers",
    "peft",
    "datasets",
    "ray",
    "gradio",
    "plotly",
    "mlflow",
    "sklearn",
    "scipy.stats",
    "accelerate",
    "bitsandbytes",
)
LIGHT = ("cli", "config.catalogue", "spec", "store", "analysis.leaderboard", "benchmark.plan", "schedule", "hardware", "metrics",
         "benchmark.resolve", "report.leaderboard_view", "models.locate", "evaluation.measuring",
         "serving.texts", "serving.classifier", "serving.export", "api")  # fmt: skip


def loaded_by(code):
    """The heavy modules that a fresh interpreter has loaded after `code`."""
    told = f"{code}\nimport sys\nprint(','.join(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [name for name in done.stdout.splitlines()[-1].split(",") if name]


def test_the_light_modules_together_load_no_heavy_library():
    assert loaded_by("".join(f"import moodbench.{name}\n" for name in LIGHT)) == []


@pytest.mark.parametrize("module", ["cli", "analysis.leaderboard", "hardware"])
def test_a_light_module_alone_loads_no_heavy_library(module):
    assert loaded_by(f"import moodbench.{module}") == []


def test_the_package_alone_loads_nothing_but_itself():
    told = "import moodbench, sys\nassert 'pandas' not in sys.modules and 'moodbench.api' not in sys.modules"
    assert loaded_by(told) == []


def test_the_python_functions_load_no_heavy_library_before_they_are_called():
    assert loaded_by("import moodbench\nmoodbench.run, moodbench.leaderboard, moodbench.load_predictor") == []


@pytest.mark.parametrize("arguments", [["--help"], ["models"], ["run", "--help"], ["plan", "quickstart"]])
def test_a_command_that_only_shows_loads_no_heavy_library(arguments, tmp_path):
    store = ["--store", str(tmp_path)] if arguments[0] in ("leaderboard", "plan") else []
    call = f"from moodbench.cli import main\ntry:\n main({arguments + store!r})\nexcept SystemExit: pass"
    assert loaded_by(call) == []


def test_help_loads_the_command_line_alone():
    code = (
        "import sys\nfrom moodbench.cli import main\ntry:\n main(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('numpy', 'pandas', 'pyarrow', 'pydantic', 'yaml') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_heavy_library_would_be_seen():
    assert "sklearn" in loaded_by("import sklearn")


@pytest.mark.slow
@pytest.mark.parametrize("quantised", [False, True])
def test_only_quantised_weights_bring_the_compiler(quantised):
    told = (
        "import os, sys\nfrom moodbench.models.device import import_peft\n"
        f"import_peft(quantised={quantised})\n"
        "print('torch._inductor.compile_fx' in sys.modules, 'bitsandbytes' in sys.modules, 'TORCHDYNAMO_DISABLE' in os.environ)"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=False)
    assert done.stdout.split()[-3:] == [str(quantised), "True", "False"], done.stderr
