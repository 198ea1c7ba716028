"""How long the embedded matrix takes on local Ray, beside the shortest time that any schedule of the same phases could take.

`uv run pytest -n 0 -s -m performance tests/performance/test_matrix.py`; MOODBENCH_TRAIN_TEXTS=5000 trains on more than 600 texts per
dataset. The bound comes from the records' own times; nothing is asserted about how near the run came to it.
"""

import os
import subprocess
import sys

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodbench.config import load_catalogue
from moodbench.hardware import hardware
from moodbench.schedule import Need, Node, Task
from moodbench.schedule.accounting import Capacity, Spent, lower_bound_s
from moodbench.store import Store

pytestmark = [pytest.mark.performance, pytest.mark.timeout(3600)]
NUM_TEXTS = int(os.environ.get("MOODBENCH_TRAIN_TEXTS", "600"))


def bound_s(trials, num_cores):
    """No schedule is shorter, when a fit with its evaluation takes one core and a measurement all of them.

    `trials` are pairs of their seconds: one after the other for each, and so much work for `num_cores`.
    """
    work = sum(packed for packed, _ in trials) / num_cores + sum(measured for _, measured in trials)
    return max([work, *(packed + measured for packed, measured in trials)])


@given(st.lists(st.tuples(st.floats(0.1, 50), st.floats(0.1, 20)), min_size=1, max_size=9), st.integers(1, 4))
def test_the_bound_is_that_of_the_schedule(trials, num_cores):
    spent = []
    for i, (packed, measured) in enumerate(trials):
        spent.append(Spent(Task(f"f{i}", Need()), packed))
        spent.append(Spent(Task(f"m{i}", Need(), exclusive=True, after=f"f{i}"), measured))
    assert bound_s(trials, num_cores) == pytest.approx(
        lower_bound_s(spent, Capacity.of([Node("n", "n", num_cpus=num_cores)]))
    )


def seconds(row):
    """How long a record's phase took; of a measurement that took turns with others, its own turns."""
    turns = row.get("turns")
    spans = turns if turns is not None else [row]
    return sum((pd.Timestamp(s["ended_at"]) - pd.Timestamp(s["started_at"])).total_seconds() for s in spans)


def test_the_embedded_matrix_beside_its_lower_bound(tmp_path):
    preset = load_catalogue().preset("embedded")
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        f"models: [{', '.join(preset.models)}]\ndatasets: [{', '.join(preset.datasets)}]\nprotocol: quick\n"
        f"max_train_examples: {NUM_TEXTS}\nmax_validation_examples: 200\ntrain: {{epochs: 1, evaluations_per_epoch: 1}}\n"
    )
    command = [sys.executable, "-m", "moodbench", "run", str(spec), "--store", str(tmp_path / "store")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=3600)

    store = Store.open(tmp_path / "store")
    rows = {kind: store.records(kind).set_index("fit_id") for kind in ("fits", "evaluations", "measurements")}
    assert [len(frame) for frame in rows.values()] == [18, 18, 18]
    took = {kind: {id_: seconds(row) for id_, row in frame.iterrows()} for kind, frame in rows.items()}
    alone = [(took["fits"][id_] + took["evaluations"][id_], took["measurements"][id_]) for id_ in took["fits"]]

    (path,) = (tmp_path / "store" / "events").glob("*.jsonl")
    events = pd.read_json(path, lines=True)
    ended = events[events["event"] == "job_ended"].set_index("job")["seconds"]
    jobs = [(ended[f"{id_}-train"], ended[f"{id_}-measure"]) for id_ in took["fits"]]
    at = events.set_index("event")["at"]
    makespan = (pd.Timestamp(at["run_ended"]) - pd.Timestamp(at["run_started"])).total_seconds()

    cores = hardware().num_cores
    for what, trials in (("phases", alone), ("jobs, with the start of their processes", jobs)):
        bound = bound_s(trials, cores)
        assert bound <= makespan, "no run is shorter than its bound"
        print(
            f"\n18 trials on {cores} cores in {makespan:.1f} s: {makespan / bound:.3f} of the bound of their {what}, {bound:.1f} s"
        )
    print(f"load average {os.getloadavg()[0]:.2f} at the end; {NUM_TEXTS} texts to train on per dataset")
