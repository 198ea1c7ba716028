"""`moodbench store verify --set-aside`: what is damaged goes, with what rests on it, and nothing else; nothing is deleted."""

from pathlib import Path

import pytest
from toy_store import EVALUATION_ID, MEASUREMENT_ID, change_row, path_of, toy_fit, write_toy_store, write_toy_trial

from moodbench.cli import main
from moodbench.errors import StoreError
from moodbench.store.reading import compact
from moodbench.store.verify import verify

FIT_ID = toy_fit().fit_id
OTHER = ("e1" + "0" * 18, "c1" + "0" * 18)
FIT, EVALUATION, MEASUREMENT = (FIT_ID, EVALUATION_ID, MEASUREMENT_ID)
HARM = {
    # what is cut short: the records of the first trial that go
    f"fits/*/{FIT}.parquet": {FIT, EVALUATION, MEASUREMENT},
    f"artifacts/{FIT}/model.json": {FIT, EVALUATION, MEASUREMENT},
    f"evaluations/*/{EVALUATION}.parquet": {EVALUATION},
    f"predictions/*/{EVALUATION}.parquet": {EVALUATION},
    f"measurements/*/{MEASUREMENT}.parquet": {MEASUREMENT},
    f"samples/{MEASUREMENT}.parquet": {MEASUREMENT},
    "examples/*/*.parquet": set(),
}


@pytest.fixture
def store(tmp_path):
    made = write_toy_store(tmp_path / "results")
    write_toy_trial(made, toy_fit(seed=1), *OTHER)
    return made


def ids(store) -> set[str]:
    return set().union(*(store.ids(kind) for kind in ("fits", "evaluations", "measurements")))


def contents(store) -> list[bytes]:
    return sorted(p.read_bytes() for p in Path(store.uri).rglob("*") if p.is_file())


def called(*arguments, store, capsys) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--store", store.uri])
    return ended.value.code, capsys.readouterr().out


@pytest.mark.parametrize("pattern", HARM)
def test_what_is_cut_short_goes_with_what_rests_on_it(store, capsys, pattern):
    before = ids(store)
    path = path_of(store, pattern)
    path.write_bytes(path.read_bytes()[:-5])
    files = contents(store)
    code, said = called("store", "verify", store=store, capsys=capsys)
    assert code == 1 and path.name in said and "verify --set-aside" in said
    code, said = called("store", "verify", "--set-aside", store=store, capsys=capsys)
    assert code == 0 and f"set aside: {path.relative_to(store.uri).parts[0]}/" in said
    assert before - ids(store) == HARM[pattern]
    assert contents(store) == files, "all of it is in duplicates/ still"
    left = verify(store.location)
    missing_examples = {d.kind for d in left.differences} == {"examples"} and pattern.startswith("examples")
    assert left.differences == [] or missing_examples
    assert left.orphans == []


def test_a_changed_figure_goes_and_a_stale_snapshot_row_too(store, capsys):
    compact(store.location, "evaluations")
    change_row(store, f"evaluations/*/{EVALUATION}.parquet", accuracy=1.0)
    assert called("store", "verify", "--set-aside", store=store, capsys=capsys)[0] == 0
    assert EVALUATION not in ids(store) and OTHER[0] in ids(store)
    assert called("store", "verify", store=store, capsys=capsys)[0] == 0


def test_a_whole_store_is_left_as_it_is(store, capsys):
    before = contents(store)
    code, said = called("store", "verify", "--set-aside", store=store, capsys=capsys)
    assert code == 0 and "set aside" not in said
    assert contents(store) == before
    assert not Path(store.uri, "duplicates").exists()


def test_an_artifact_that_is_not_as_it_was_committed_is_never_used(store):
    assert (store.artifact(FIT) / "model.json").is_file()
    path = path_of(store, f"artifacts/{FIT}/model.json")
    path.write_bytes(path.read_bytes()[:-5] + b"-----")
    with pytest.raises(StoreError, match=r"model.json: differs from what was committed with fit .*verify --set-aside"):
        store.artifact(FIT)
