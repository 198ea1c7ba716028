"""Datasets of the hub and Kaggle under their real ids, read from a server and a cache on this machine."""

import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import hub_data
from hub_server import HubServer, point_at

from moodbench.benchmark.data_report import data_report
from moodbench.benchmark.resolve import resolve
from moodbench.config import load_catalogue
from moodbench.config.schema import DatasetEntry, HubSource
from moodbench.data.loader import IN_TEST, load_source
from moodbench.errors import DataError, PrerequisiteError
from moodbench.hardware import Hardware
from moodbench.spec import BenchmarkSpec

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*socket.*"),
]
MACHINE = Hardware(cpu="Toy CPU", num_cores=2, memory_bytes=8 * 2**30, gpus=(), mps=False)
CATALOGUE = load_catalogue()


@pytest.fixture
def hub():
    with HubServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _fresh(hub, tmp_path, monkeypatch):
    fresh(hub, tmp_path, monkeypatch)


def fresh(hub, folder, monkeypatch, **more):
    """As a new process with its caches in `folder` would start."""
    point_at(hub, folder, monkeypatch, **more)
    monkeypatch.setenv("MOODBENCH_CACHE", str(folder / "moodbench"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(folder / "kaggle"))


def serve(hub, name):
    repository, files = hub_data.REPOSITORIES[name]
    return hub.add("dataset", repository, files())


def splits_of(examples):
    return {s: examples.split(s) for s in ("train", "validation", "test")}


# name: classes, then rows of train, validation and test that the small repository gives
GIVEN = {
    "imdb": (("negative", "positive"), (349, 50, 80)),
    "sst2": (("negative", "positive"), (350, 50, 60)),
    "amazon": (("negative", "positive"), (350, 50, 80)),
    "yelp": (("negative", "positive"), (350, 50, 80)),
    "rotten_tomatoes": (("negative", "positive"), (400, 60, 60)),
    "tweet_eval": (("negative", "neutral", "positive"), (400, 60, 60)),
    "financial_phrasebank": (("negative", "neutral", "positive"), (300, 60, 60)),
    "sst5": (("very negative", "negative", "neutral", "positive", "very positive"), (500, 100, 100)),
}


@pytest.mark.parametrize("name", GIVEN)
def test_a_hub_data_set_of_the_catalogue_gives_its_classes_and_official_test(hub, name):
    repository = serve(hub, name)
    entry = CATALOGUE.dataset(name)
    examples = load_source(name, entry)
    labels, sizes = GIVEN[name]
    assert examples.labels == labels and not examples.private
    rows = splits_of(examples)
    assert tuple(map(len, rows.values())) == sizes
    tested = "validation" if name == "sst2" else "test"
    assert all(words.splitlines()[-1].startswith(tested) for words in rows["test"]["text"])
    trained = [words.splitlines()[-1] for words in rows["train"]["text"]]
    assert sum(words.startswith(tested) for words in trained) == (1 if name == "imdb" else 0)  # the near-duplicate
    assert repository.commit[:12] in examples.reading.file
    assert rows["train"]["label"].diff().abs().sum() > 20  # the source is sorted by label, the examples are not
    told = "\n".join(data_report(examples, entry=entry).lines())
    assert f"licence: {entry.licence} · {entry.terms}" in told and "other sizes than published" in told


def test_sst2_reads_no_hidden_label_and_imdb_no_unsupervised_text(hub):
    serve(hub, "sst2")
    serve(hub, "imdb")
    for name, absent in (("sst2", "test "), ("imdb", "u ")):
        frame = load_source(name, CATALOGUE.dataset(name)).frame
        assert set(frame["label"]) == {0, 1} and not frame["text"].str.startswith(absent).any()


def test_training_texts_that_are_tested_on_are_left_out_and_near_ones_counted(hub):
    serve(hub, "imdb")
    examples = load_source("imdb", CATALOGUE.dataset("imdb"))
    assert examples.reading.dropped[IN_TEST] == 1 and examples.reading.num_near_duplicates == 1
    texts = set(splits_of(examples)["train"]["text"]) | set(splits_of(examples)["validation"]["text"])
    assert hub_data.words("test", 0).upper() + " !" not in texts and hub_data.words("test", 1) + " again" in texts
    assert "test texts with a near-duplicate in train: 1" in "\n".join(data_report(examples).lines())


def test_amazons_text_is_title_and_content(hub):
    serve(hub, "amazon")
    texts = set(load_source("amazon", CATALOGUE.dataset("amazon")).frame["text"])
    assert f"title3\n{hub_data.words('test', 3)}" in texts


def entry_of(**source):
    return DatasetEntry(
        hub=HubSource(**{"id": "shop/reviews", "text_columns": ["text"], "label_column": "label"} | source)
    )


def test_a_step_that_the_source_declares_cleans_its_texts_and_is_counted_also_from_the_cache(hub):
    files = {
        f"{s}.csv": "text,label\n" + "".join(f"{hub_data.words(s, i)}<br />end{i},{'ab'[i % 2]}\n" for i in range(n))
        for s, n in (("train", 300), ("test", 60))
    }
    hub.add("dataset", "shop/reviews", {k: v.encode() for k, v in files.items()})
    plain, clean = entry_of(), entry_of(prepare=("breaks",))
    for _ in range(2):
        examples = load_source("shop", clean)
        assert not examples.frame["text"].str.contains("<").any()
        assert examples.frame["text"].str.contains("\nend").all() and examples.reading.prepared == {"breaks": 360}
        assert "360 texts contained <br />; replaced" in "\n".join(data_report(examples).lines())
        assert load_source("shop", plain).frame["text"].str.contains("<br />end").all()


def test_any_hub_data_set_is_read_by_id_and_columns(hub):
    files = {
        f"{s}.csv": "body,mood\n" + "".join(f"{hub_data.words(s, i)},{'ab'[i % 2]}\n" for i in range(n))
        for s, n in (("train", 300), ("test", 60))
    }
    hub.add("dataset", "shop/reviews", {k: v.encode() for k, v in files.items()})
    entry = entry_of(text_columns=["body"], label_column="mood", label_map={"a": "bad", "b": "good"})
    examples = load_source("shop", entry)
    assert examples.labels == ("bad", "good") and len(splits_of(examples)["test"]) == 60
    assert examples.reading.split_rule == "official: train is 'train', test is 'test', validation is an eighth of train"


def test_a_repository_with_train_alone_is_split_by_content_and_its_stars_are_kept(hub):
    rows = {"text": [hub_data.words("r", i) for i in range(400)], "label": [i % 5 + 1 for i in range(400)]}
    hub.add("dataset", "shop/reviews", {"data.parquet": hub_data.parquet(**rows)})
    stars = {"1": "negative", "2": "negative", "3": "neutral", "4": "positive", "5": "positive"}
    examples = load_source("shop", entry_of(label_map=stars))
    frame = examples.frame
    assert examples.reading.split_rule.startswith("70/10/20 by content")
    expected = {t: s for t, s in zip(rows["text"], rows["label"], strict=True)}
    assert frame["stars"].tolist() == [expected[t] for t in frame["text"]]
    assert frame["label"].tolist() == [{1: 0, 2: 0, 3: 1, 4: 2, 5: 2}[s] for s in frame["stars"]]


@pytest.mark.parametrize("by", ["stratified", "balanced"])
def test_what_is_drawn_is_seeded_and_has_the_wanted_shares(hub, by):
    labels = [0] * 300 + [1] * 100
    for split in ("train", "test"):
        content = hub_data.parquet(text=[hub_data.words(split, i) for i in range(400)], label=labels)
        hub.add("dataset", "shop/reviews", {}) if split == "train" else None
        hub.repositories["dataset", "shop/reviews"].files[f"{split}.parquet"] = content
    draw = {"train": 80, "validation": 20, "test": 40}
    seeds = [load_source("shop", entry_of(draw=draw, draw_by=by, draw_seed=s)) for s in (0, 0, 1)]
    rows = splits_of(seeds[0])
    share = 0.75 if by == "stratified" else 0.5
    drawn = pd.concat([rows["train"], rows["validation"]])
    assert len(drawn) == 100 and (drawn["label"] == 0).sum() == 100 * share
    assert len(rows["test"]) == 40 and (rows["test"]["label"] == 0).sum() == 40 * share
    assert seeds[0].revision == seeds[1].revision != seeds[2].revision


def test_workers_and_later_runs_need_no_hub(hub, tmp_path, monkeypatch):
    serve(hub, "sst2")
    spec = BenchmarkSpec(models=("tfidf-logreg",), datasets=("sst2",))
    (trial,) = resolve(spec, CATALOGUE, MACHINE)
    assert trial.fit.dataset.hub.revision == hub.repositories["dataset", "stanfordnlp/sst2"].commit
    hub.repositories.clear()
    fresh(hub, tmp_path, monkeypatch, offline=True)
    first = len(hub.requests)
    (again,) = resolve(spec, CATALOGUE, MACHINE)
    assert again.fit.fit_id == trial.fit.fit_id and len(hub.requests) == first
    from moodbench.trial import examples_of

    assert examples_of(again.fit).revision == trial.fit.dataset.revision


def test_a_commit_that_changes_the_readme_alone_gives_the_same_fit_and_changed_texts_another(
    hub, tmp_path, monkeypatch
):
    spec, fits = BenchmarkSpec(models=("tfidf-logreg",), datasets=("sst2",)), []
    identifier, make = hub_data.REPOSITORIES["sst2"]
    files = make()
    readme = files["README.md"] + b"\nOther words.\n"
    (train,) = [path for path in files if "train" in path]
    texts = hub_data.parquet(sentence=[hub_data.words("new", i) for i in range(400)], label=[i % 2 for i in range(400)])
    for change in ({}, {"README.md": readme}, {train: texts}):
        repository = hub.add("dataset", identifier, files | change)
        fresh(hub, tmp_path, monkeypatch)
        fits.append(resolve(spec, CATALOGUE, MACHINE)[0].fit)
        assert fits[-1].dataset.hub.revision == repository.commit, "the commit is recorded"
    assert fits[0].fit_id == fits[1].fit_id != fits[2].fit_id


def test_offline_the_caches_of_the_hubs_own_libraries_are_enough(hub, tmp_path, monkeypatch):
    import shutil

    serve(hub, "sst2")
    online = load_source("sst2", CATALOGUE.dataset("sst2"))
    shutil.rmtree(tmp_path / "moodbench")
    fresh(hub, tmp_path, monkeypatch, offline=True)
    assert load_source("sst2", CATALOGUE.dataset("sst2")).revision == online.revision


def refusal(entry, name="shop", error=DataError):
    with pytest.raises(error) as raised:
        load_source(name, entry)
    return str(raised.value)


def test_offline_the_refusal_says_which_files_of_which_repository_and_how_to_get_them(hub, tmp_path, monkeypatch):
    fresh(hub, tmp_path, monkeypatch, offline=True)
    message = refusal(CATALOGUE.dataset("imdb"), "imdb", PrerequisiteError)
    assert "stanfordnlp/imdb is not in the cache, and the network is off (HF_HUB_OFFLINE)" in message
    assert "README.md and the data files of the splits train, test, configuration 'plain_text'" in message
    assert "moodbench catalogue fetch" in message and "HF_HOME" in message
    fresh(hub, tmp_path, monkeypatch, offline=False)
    hub.__exit__()
    assert "cannot be reached" in refusal(CATALOGUE.dataset("imdb"), "imdb", PrerequisiteError)


def test_missing_gated_and_unknown_revisions_are_told_apart(hub):
    assert "does not exist, or is private" in refusal(entry_of(), error=PrerequisiteError)
    repository = serve(hub, "yelp")
    yelp = CATALOGUE.dataset("yelp")
    other = yelp.model_copy(update={"hub": yelp.hub.model_copy(update={"revision": "v9"})})
    assert "at revision v9: the repository has no such revision" in refusal(other, error=PrerequisiteError)
    for status in (401, 403):
        repository.gated = status
        message = refusal(yelp, error=PrerequisiteError)
        assert (
            "is gated (" in message and f"accept its terms at {hub.url}/datasets/" in message and "HF_TOKEN" in message
        )


def test_wrong_columns_splits_and_labels_name_what_there_is(hub):
    hub.add("dataset", "shop/reviews", hub_data.repository("default", {"train": 300, "test": 60}, ("bad", "good")))
    assert "no label column 'lable': did you mean 'label'? its columns are text, label" in refusal(
        entry_of(label_column="lable")
    )
    assert "no text column 'body'" in refusal(entry_of(text_columns=["body"]))
    assert "text column 'label' is int64; expected string" in refusal(
        entry_of(text_columns=["label"], label_column="text")
    )
    assert "no split 'dev' (validation); it has train, test" in refusal(
        entry_of(splits={"train": "train", "validation": "dev", "test": "test"})
    )
    assert "'good' (train) is not in the label map or labels ('bad', 'fine')" in refusal(
        entry_of(label_map={"bad": "bad", "fine": "fine"})
    )
    assert "configuration 'large'" in refusal(entry_of(config="large"))
    sst2 = CATALOGUE.dataset("sst2")
    serve(hub, "sst2")
    hidden = sst2.hub.model_copy(update={"splits": {"train": "train", "test": "test"}})
    assert "the test split has no labels (they are hidden, -1 or null)" in refusal(replace_hub(sst2, hidden))


def replace_hub(entry, source):
    return entry.model_copy(update={"hub": source})


def test_a_data_set_made_by_a_script_is_refused(hub):
    hub.add("dataset", "shop/reviews", {"README.md": b"", "reviews.py": b"raise SystemExit"})
    message = refusal(entry_of())
    assert "is built by a script, and scripts are never run" in message and "refs/convert/parquet" in message


TRAIN = "default/train-00000-of-00001.parquet"


def test_an_interrupted_download_is_finished(hub):
    repository = serve(hub, "sst2")
    hub.cut[TRAIN] = len(repository.files[TRAIN]) // 2
    assert len(load_source("sst2", CATALOGUE.dataset("sst2")).split("test")) == 60
    assert not hub.cut and sum(path.endswith(TRAIN) and how == "GET" for how, path in hub.requests) == 2


def test_a_download_with_another_digest_is_refused_and_removed_and_the_next_one_is_right(hub):
    repository = serve(hub, "sst2")
    right = repository.files[TRAIN]
    assert right.count(b"sentence7") > 0
    hub.wrong[TRAIN] = right.replace(b"sentence7 ", b"sentence8 ", 1)
    message = refusal(CATALOGUE.dataset("sst2"), "sst2", PrerequisiteError)
    assert f"{TRAIN} differs from the digest that the hub states" in message and "it was removed" in message
    hub.wrong.clear()
    assert len(load_source("sst2", CATALOGUE.dataset("sst2")).split("train")) == 350


def kaggle_cache(folder, version=1):
    at = folder / "kaggle" / "datasets" / "arushchillar" / "disneyland-reviews"
    (at / "versions" / str(version)).mkdir(parents=True)
    (at / "versions" / str(version) / "DisneylandReviews.csv").write_bytes(hub_data.disney_csv())
    (at / f"{version}.complete").touch()
    return at


def test_disney_is_read_from_kaggles_cache_with_stars_and_branches(tmp_path):
    kaggle_cache(tmp_path)
    sizes = {}
    for name in ("disney", "disney-3", "disney-5"):
        examples = load_source(name, CATALOGUE.dataset(name))
        frame = examples.frame
        sizes[name] = len(frame)
        assert examples.reading.dropped["with an id seen before"] == 1 and not examples.private
        assert frame["text"].str.startswith("It’s café park sentence").all()
        first = frame[~frame["text"].str.endswith("once more")]
        number = first["text"].str.extract(r"sentence(\d+)")[0].astype(int)
        assert (first["stars"].astype(int) == number % 5 + 1).all()
        assert frame["text"].str.contains("sentence8 ").sum() == 1
        assert set(frame["segment"]) == {"Disneyland_HongKong", "Disneyland_California", "Disneyland_Paris"}
    assert sizes == {"disney": 240, "disney-3": 300, "disney-5": 300}


def test_without_kaggles_cache_the_refusal_says_what_to_fetch(hub, tmp_path, monkeypatch):
    fresh(hub, tmp_path, monkeypatch, offline=True)
    message = refusal(CATALOGUE.dataset("disney"), "disney", PrerequisiteError)
    assert "Kaggle dataset arushchillar/disneyland-reviews is not in the cache and the network is off" in message
    assert "kagglehub.dataset_download('arushchillar/disneyland-reviews')" in message and "KAGGLEHUB_CACHE" in message
    at = kaggle_cache(tmp_path)
    (at / "1.complete").unlink()
    assert "is not in the cache" in refusal(CATALOGUE.dataset("disney"), "disney", PrerequisiteError)
    (at / "1.complete").touch()
    (at / "versions/1/DisneylandReviews.csv").rename(at / "versions/1/other.csv")
    assert "no file 'DisneylandReviews.csv'; it has other.csv" in refusal(CATALOGUE.dataset("disney"), "disney")
