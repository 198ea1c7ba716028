"""Memory of drawing 20,000 rows of a large source; of one of 3.6 million beside reading all its rows with -m performance."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import hub_data
from hub_server import HubServer

ROWS, PART = 3_600_000, 100_000
DRAW = """
import json, resource, sys, threading, time
def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))
peak = [0]
def watch():
    while True:
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.02)
import datasets, pandas, pyarrow.parquet, scipy.sparse
before = anonymous()
threading.Thread(target=watch, daemon=True).start()
started = time.perf_counter()
if sys.argv[1] == "drawn":
    from moodbench.config import load_catalogue
    from moodbench.data.loader import load_source
    examples = load_source("amazon", load_catalogue().dataset("amazon"))
    rows, source = len(examples.frame), examples.reading.num_rows
else:
    from datasets import load_dataset
    data = load_dataset("fancyzhx/amazon_polarity", "amazon_polarity", split="train")
    rows = source = len(data.to_pandas())
resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"before": before, "anonymous": peak[0], "resident": resident, "rows": rows, "source": source,
                  "seconds": time.perf_counter() - started}))
"""


def large(num_rows, tag):
    """A Parquet file sorted by label, of texts of some 40 words."""
    rng = np.random.default_rng(0)
    vocabulary = np.array([f"word{i}" for i in range(5000)])
    bodies = [" ".join(vocabulary[rng.integers(0, 5000, 40)]) for _ in range(2000)]
    schema = pa.schema([("label", pa.int64()), ("title", pa.string()), ("content", pa.string())])
    out = io.BytesIO()
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for start in range(0, num_rows, PART):
            numbers = range(start, min(start + PART, num_rows))
            columns = {
                "label": [int(i >= num_rows // 2) for i in numbers],
                "title": [f"{tag} title {i}" for i in numbers],
                "content": [f"{tag}{i} {bodies[i % 2000]}" for i in numbers],
            }
            writer.write_table(pa.table(columns, schema=schema))
    return out.getvalue()


def files_of(num_rows):
    """The repository of amazon_polarity with so many training rows, and a ninth of them in the test."""
    files = {
        "README.md": hub_data.card(
            "amazon_polarity", ("train", "test"), "label", ("negative", "positive"), ("title", "content")
        )
    }
    for split, count in (("train", num_rows), ("test", num_rows // 9)):
        files[f"amazon_polarity/{split}-00000-of-00001.parquet"] = large(count, split)
    return files


def loaded(how, hub, folder, name):
    """What DRAW tells after loading from the hub with caches of its own."""
    environment = os.environ | {
        "HF_ENDPOINT": hub.url, "HF_HOME": str(folder / f"hf-{name}"), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1",
        "MOODBENCH_CACHE": str(folder / f"cache-{name}"),
        # One thread and one arena that give memory back: else the peak depends on what other load leaves of the processor.
        "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "ARROW_DEFAULT_MEMORY_POOL": "system",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", DRAW, how], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.integration
@pytest.mark.slow
def test_four_times_the_rows_take_no_more_memory_to_draw_from(tmp_path):
    few, many = 100_000, 400_000
    told = {}
    for num_rows in (few, many):
        with HubServer() as hub:
            hub.add("dataset", "fancyzhx/amazon_polarity", files_of(num_rows))
            told[num_rows] = loaded("drawn", hub, tmp_path, num_rows)
    assert told[few]["rows"] == told[many]["rows"] >= 20_000
    assert told[many]["source"] > 3.9 * told[few]["source"]
    extra = (many - few) * 10 / 9 * 350  # bytes of text that only the larger source has
    grown = {num_rows: found["anonymous"] - found["before"] for num_rows, found in told.items()}
    # Whole in memory it would be all of it and more; run to run differs by about 12 MiB, a ninth of it.
    assert grown[many] - grown[few] < 0.4 * extra, {k: f"{v / 2**20:.0f} MiB" for k, v in grown.items()}


@pytest.mark.performance
def test_peak_memory_of_drawing_from_a_large_source(tmp_path):
    told = {}
    with HubServer() as hub:
        hub.add("dataset", "fancyzhx/amazon_polarity", files_of(ROWS))
        for number, how in enumerate(("drawn", "drawn", "whole")):
            told[f"{how} {number}"] = loaded(how, hub, tmp_path, "whole" if how == "whole" else number)
    grown = {how: found["anonymous"] - found["before"] for how, found in told.items()}
    for how, found in told.items():
        print(
            f"{how}: {found['rows']:,} of {found['source']:,} rows in {found['seconds']:.0f} s, anonymous memory "
            f"{grown[how] / 2**20:,.0f} MiB above the {found['before'] / 2**20:,.0f} MiB of the "
            f"libraries, resident with the mapped file {found['resident'] / 2**20:,.0f} MiB"
        )
    # Most of either is the library's own conversion from Parquet: pandas leaves the texts of all rows in the mapped file. What
    # drawing adds, in numbers that grow with the rows drawn and not with the source, is the search for near-duplicates.
    assert max(v for how, v in grown.items() if how.startswith("drawn")) < 2 * grown["whole 2"]
