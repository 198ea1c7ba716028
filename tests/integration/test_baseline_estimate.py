"""What the baseline takes on real texts, short and long, in a fresh process, against its estimates."""

import json
import subprocess
import sys

import pytest

from moodbench.benchmark.resolve import resolve
from moodbench.config import load_catalogue
from moodbench.estimate import DataSize, Estimator
from moodbench.hardware import Hardware
from moodbench.spec import BenchmarkSpec

pytestmark = [pytest.mark.integration, pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory")]
FITS = """
import json, sys, time, tempfile
from pathlib import Path
from moodbench.evaluation.process_clock import peak_resident_bytes
from moodbench.spec import FitSpec
from moodbench.training.fitting import fit_tfidf
from moodbench.trial import examples_of
spec, texts_in_one, num_texts = FitSpec.model_validate_json(sys.stdin.readline()), *map(int, sys.argv[1:])
examples = examples_of(spec)
def joined(split):
    rows = examples.split(split)
    text = [" ".join(rows["text"].sample(texts_in_one, random_state=n)) for n in range(min(num_texts, len(rows)))]
    return rows[:num_texts].assign(text=text)
train, validation = joined("train"), joined("validation")
began = time.process_time()
with tempfile.TemporaryDirectory() as folder:
    fit_tfidf(train, validation, spec.tfidf, 2, Path(folder))
    saved = sum(path.stat().st_size for path in Path(folder).iterdir())
print(json.dumps({"seconds": time.process_time() - began, "bytes": peak_resident_bytes(), "saved": saved,
    "sizes": [len(train), len(validation)], "words": train["text"].str.split().str.len().mean()}))
"""


@pytest.mark.parametrize(("texts_in_one", "num_texts"), [(1, 7050), (6, 1000)])
def test_the_estimates_of_the_baseline_cover_what_it_takes(texts_in_one, num_texts):
    catalogue = load_catalogue()
    machine = Hardware("Toy CPU", 2, 2**33, (), mps=False)
    (trial,) = resolve(BenchmarkSpec(models=("tfidf-logreg",), datasets=("icwsm-movie",)), catalogue, machine)
    command = [sys.executable, "-c", FITS, str(texts_in_one), str(num_texts)]
    printed = subprocess.run(
        command, input=trial.fit.model_dump_json(), capture_output=True, text=True, check=True
    ).stdout
    took = json.loads(printed)
    size = DataSize(*took["sizes"], num_test=2000, mean_words=took["words"])
    device = next(iter(catalogue.devices.values()))
    found = Estimator({}, {"icwsm-movie": size}).trial(trial.fit, device, trial.measure.protocol, batch_size=32)
    assert took["bytes"] <= found.fit.memory_bytes <= 3 * took["bytes"]
    assert took["saved"] <= took["sizes"][0] * (2048 + 64 * took["words"])
    ratio = found.fit.work_s / took["seconds"]
    assert 0.4 <= ratio <= 4, f"estimated {found.fit.work_s:.1f} s, took {took['seconds']:.1f} s; processors differ"
