"""`run --force` does everything again beside the store, says what differs, and leaves the first results as they were."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import SHORT, moodbench

from moodbench.benchmark.context import RunContext
from moodbench.benchmark.from_store import compare_repeats, open_rerun, stored_fits, trials_from_store
from moodbench.cli import main
from moodbench.config import load_catalogue
from moodbench.hardware import hardware
from moodbench.store import Store
from moodbench.store.verify import verify

pytestmark = pytest.mark.integration
RUN = ["run", "--models", "vader", "tfidf-logreg", "--datasets", "icwsm-tweets", "--protocol", "short",
       "--max-train-examples", "96", "--max-validation-examples", "48", "--config", "overlay.yaml", "--executor", "inline"]  # fmt: skip


def call(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    return printed


def test_everything_again_is_compared_and_the_first_results_stand(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("overlay.yaml").write_text(SHORT)
    assert "there is nothing to compare with" in call([*RUN, "--force", "--store", "other"], capsys).out
    call(RUN, capsys)
    before = {p: p.read_bytes() for p in Path("results").rglob("*.parquet") if "snapshots" not in p.parts}
    printed = call([*RUN, "--force", "--json"], capsys)
    told = json.loads(printed.out)
    assert sorted(r["model"] for r in told["repeats"]) == ["tfidf-logreg", "vader"]
    assert all(r["num_flips"] == 0 and r["max_logit_difference"] == 0 for r in told["repeats"])
    assert "2 trials repeated: 2 with identical logits" in printed.err
    assert all(path.read_bytes() == content for path, content in before.items())
    assert verify(Store.open("results").location).differences == []
    again = Store.open(told["store"])
    assert Path(again.uri).parent == tmp_path / "results" / "reruns"
    assert len(again.ids("fits")) == 2, "nothing was taken from the first"
    assert len(Store.open("results").records("fits")) == 2, "and nothing is counted twice"
    changed = _with_one_flip(again)
    (repeat,) = [r for r in compare_repeats(Store.open("results"), again) if r.evaluation_id == changed]
    assert (repeat.num_flips, repeat.num_texts) == (1, repeat.num_texts)
    assert repeat.max_logit_difference > 0


@pytest.mark.slow
def test_an_interrupted_rerun_goes_on_where_it_was_and_a_whole_one_is_followed_by_a_new_one(tmp_path):
    (tmp_path / "overlay.yaml").write_text(SHORT)
    arguments = ["run", "--models", "MiniLM-L3", "--datasets", "icwsm-tweets", "--protocol", "short", "--force", "--train", "epochs=4",
                 "evaluations_per_epoch=1", "effective_batch_size=8", "--max-train-examples", "64", "--max-validation-examples",
                 "32", "--config", "overlay.yaml", "--executor", "inline"]  # fmt: skip
    environment = os.environ | {"MOODBENCH_CHECKPOINT_S": "0.01"}
    process = subprocess.Popen(
        [sys.executable, "-m", "moodbench", *arguments],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 200
    while not list(tmp_path.glob("results/reruns/*/staging/fit-*/*/checkpoint-*/moodbench.json")):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=100)
    assert process.returncode == 130
    (begun,) = (tmp_path / "results" / "reruns").iterdir()
    assert Store.open(begun).ids("fits") == set()

    moodbench(*arguments, cwd=tmp_path)
    assert list((tmp_path / "results" / "reruns").iterdir()) == [begun]
    assert len(Store.open(begun).ids("measurements")) == 2, "of the majority baseline too"
    told = [json.loads(line) for path in begun.glob("events/*.jsonl") for line in path.read_text().splitlines()]
    assert any("continues from the checkpoint" in event.get("note", "") for event in told)
    attempts = Store.open(begun).records("fits").set_index("model")["attempts"]
    assert attempts["MiniLM-L3"] == 2

    catalogue = load_catalogue(tmp_path / "overlay.yaml")
    context = RunContext(Store.open(begun), catalogue, hardware())
    trials = trials_from_store(context, stored_fits(context.store), protocol="short")
    context = RunContext(Store.open(tmp_path / "results"), catalogue, hardware())
    rerun, plan = open_rerun(context, trials)
    again = rerun.store
    assert Path(again.uri) != begun and plan.num_phases_done == 0
    assert begun.name.partition("-")[2] == Path(again.uri).name.partition("-")[2], "the same request"


def _with_one_flip(store):
    """The id of an evaluation of which the logits of one text have changed places."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = sorted(Path(store.uri, "predictions").rglob("*.parquet"))[0]
    table = pq.read_table(path, partitioning=None)
    logits = table["logits"].to_pylist()
    row = int(np.argmax([abs(a[0] - a[-1]) for a in logits]))
    logits[row] = logits[row][::-1]
    column = table.schema.get_field_index("logits")
    pq.write_table(
        table.set_column(column, table.schema.field("logits"), pa.array(logits, table.schema.field("logits").type)),
        path,
    )
    return path.stem
