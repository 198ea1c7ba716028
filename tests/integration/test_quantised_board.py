"""One model in fp32 and in 4 bits in one store: two rows of the board, beside each other, with what each costs."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from command_line import moodbench
from tiny_models import rows

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, config):
    """The folder of both runs, and the board as JSON after the second."""
    folder = tmp_path_factory.mktemp("quantised")
    made = rows(240, 1)
    made["label"] = np.where(made["label"] == 1, "positive", "negative")
    made[["text", "label"]].to_csv(folder / "reviews.csv", index=False)
    request = ["run", "--models", "MiniLM-L3", "--data", "reviews.csv", "--text-column", "text", "--label-column", "label",
               "--protocol", "short", "--config", config, "--executor", "inline", "--train", "epochs=4", "learning_rate=3e-3",
               "evaluations_per_epoch=1", "--json"]  # fmt: skip
    moodbench(*request, cwd=folder)
    done = moodbench(*request, "--quantization", "nf4", cwd=folder)
    return folder, json.loads(done.stdout)


def test_the_board_has_a_row_for_each_way_to_store_the_weights_with_accuracy_and_memory(runs):
    board = [row for row in runs[1]["board"] if row["model"].startswith("MiniLM-L3")]
    assert len(board) == 2, board
    assert len({row["config_id"] for row in board}) == 2
    for row in board:
        assert row["accuracy"] > 0.6 and row["num_test"] > 30, "one of two words tells the class"
        assert row["memory_peak_batch1_bytes"] > 2**28 and row["latency_p50_s"] > 0


def test_4_bit_weights_are_smaller_by_what_the_layers_shrink_and_are_measured_with_their_adapter(runs):
    fits, measured = ({}, {})
    for kind, found in (("fits", fits), ("measurements", measured)):
        for path in (runs[0] / "results" / kind).glob("**/*.parquet"):
            (record,) = pq.read_table(path).to_pylist()
            found[record["fit_id"]] = record
    of = {
        json.loads(fit["spec"])["quantization"]: measured[i] for i, fit in fits.items() if fit["model"] == "MiniLM-L3"
    }
    assert set(of) == {"none", "nf4"}
    assert (of["none"]["form"], of["nf4"]["form"]) == ("merged", "native")
    saved = of["none"]["weights_bytes"] - of["nf4"]["weights_bytes"]
    # Three layers of 12 x 384^2 weights, in 0.516 bytes each instead of 4; the adapter adds less than a megabyte.
    assert saved == pytest.approx(3 * 12 * 384**2 * (4 - 0.516), abs=1.5e6)
