"""`run --force` does everything again beside the store, says what differs, and leaves the first results as they were."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import SHORT

from moodbench.benchmark.repeat import compare_repeats
from moodbench.cli import main
from moodbench.store import Store
from moodbench.store.verify import verify

pytestmark = pytest.mark.integration
RUN = ["run", "--models", "vader", "tfidf-logreg", "--datasets", "icwsm-tweets", "--protocol", "short",
       "--config", "overlay.yaml", "--executor", "inline"]  # fmt: skip


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
    assert "2 trials done again: 2 with the very same logits" in printed.err
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
