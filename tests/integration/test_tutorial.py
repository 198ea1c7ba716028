"""The README's tutorial, command by command, on 300 star-rated reviews: file, report, board, choice, predictions."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import moodbench

from moodbench.data.embedded import read_embedded
from moodbench.store import Store

pytestmark = [pytest.mark.integration, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def commands() -> list[list[str]]:
    block = re.search(r"<!-- tutorial -->\n```\n(.*?)```", README, flags=re.DOTALL).group(1)
    return [line.partition("#")[0].removeprefix("moodbench ").split() for line in block.splitlines()]


def rated() -> pd.DataFrame:
    """Sentences of product reviews with the stars that their raters' mean comes to."""
    products = read_embedded("icwsm-product").to_pandas().drop_duplicates("text")
    return products.assign(stars=np.clip(np.round(3 + products["mean_rating"]), 1, 5).astype(int)).sample(
        frac=1, random_state=1
    )


def write(path: Path, frame: pd.DataFrame, columns: dict[str, str]) -> None:
    frame.rename(columns=columns)[list(columns.values())].to_csv(path, index=False, quoting=csv.QUOTE_NONNUMERIC)


def test_the_tutorial_goes_from_a_file_to_labels_of_new_texts(tmp_path):
    by_stars = rated().groupby("stars")
    counts = {1: 30, 2: 90, 3: 20, 4: 100, 5: 60}
    mine = pd.concat(frame.head(counts[stars]) for stars, frame in by_stars)
    new = pd.concat(frame.iloc[200:220] for stars, frame in by_stars if stars in (2, 4))
    assert len(mine) == 300 and len(new) == 40
    write(tmp_path / "reviews.csv", mine, {"text": "review", "stars": "stars"})
    write(tmp_path / "new.csv", new, {"text": "review"})
    run, compare, predict, export = commands()

    shown = moodbench(*run, cwd=tmp_path).stdout
    report, board = shown.index("Your data reviews: reviews.csv, CSV"), shown.index(" Rank  Model")
    assert report < shown.index("MiniLM-L3 · reviews · seed 0: fit started") < board
    assert "300 read, 280 used" in shown and "20 by the label map" in shown
    store = Store.open(tmp_path / "results")
    assert sorted(store.records("measurements")["model"]) == ["MiniLM-L3", "tfidf-logreg"]
    assert set(store.records("measurements")["isolation"]) == {"alone"}, "measured without Ray beside it"
    again = moodbench(*run, cwd=tmp_path).stdout
    assert "0 phases to run, 6 done already and skipped" in again

    assert "MiniLM-L3" in moodbench(*compare, cwd=tmp_path).stdout
    moodbench(*predict, cwd=tmp_path)
    labels = pd.read_csv(tmp_path / "labels.csv")
    assert labels["index"].tolist() == list(range(40)) and set(labels["label"]) <= {"negative", "positive"}
    assert labels["probability"].between(0.5, 1).all()
    moodbench(*export, cwd=tmp_path)
    assert json.loads((tmp_path / "my-model" / "config.json").read_text())["id2label"] == {
        "0": "negative",
        "1": "positive",
    }


def test_the_python_of_the_documents_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for document in ("README.md", "docs/python.md"):
        code = re.search(r"```python\n(.*?)```", (ROOT / document).read_text(), flags=re.DOTALL).group(1)
        exec(code, {})
        printed = capsys.readouterr().out
        assert "MiniLM-L3" in printed and printed.splitlines()[-1].split()[0] in ("negative", "positive"), document
