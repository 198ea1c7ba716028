"""A record that was changed is named, in the terminal, on the page and by verify; the other ones are shown."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from refused import fail
from toy_store import EVALUATION_ID, MEASUREMENT_ID, change_row, toy_fit, write_toy_store, write_toy_trial

from moodbench.app.privacy import failures_table
from moodbench.app.snapshot import SnapshotReader
from moodbench.cli import main
from moodbench.errors import StoreError
from moodbench.hardware import hardware
from moodbench.report.leaderboard_view import view_leaderboard
from moodbench.store import SCHEMA_VERSION, Store
from moodbench.store.integrity import CHECKSUM_KEY, REQUIRED
from moodbench.store.location import open_location
from moodbench.store.reading import read_bulk
from moodbench.store.schema import PREDICTIONS, RECORDS
from moodbench.store.verify import set_aside, verify

pytestmark = pytest.mark.usefixtures("empty_folder")
OTHER = toy_fit("other", seed=1)
KINDS = {"fits": toy_fit().fit_id, "evaluations": EVALUATION_ID, "measurements": MEASUREMENT_ID}


@pytest.fixture
def store():
    """A store of two trials, of which the first one is changed."""
    made = write_toy_store(Path("results"))
    write_toy_trial(made, OTHER, "e1" + "0" * 18, "c1" + "0" * 18)
    return made


def record(kind):
    return f"{kind}/*/{KINDS[kind]}.parquet"


def shown(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["leaderboard", "--store", "results"])
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    return printed.out


CHANGES = {
    "an accuracy of 7": ("evaluations", {"accuracy": 7.0}, "accuracy is '7.0', allowed is 0 to 1"),
    "an accuracy below 0": ("evaluations", {"accuracy": -0.25}, "accuracy is '-0.25', allowed is 0 to 1"),
    "an infinite latency": ("measurements", {"latency_p50_s": float("inf")}, "latency_p50_s is 'inf', allowed is a finite number"),
    "negative memory": ("measurements", {"memory_peak_bytes": -5}, "memory_peak_bytes is '-5', allowed is a finite number, 0 or more"),
    "no accuracy": ("evaluations", {"accuracy": None}, "accuracy is 'None', allowed is a value"),
    "no model": ("fits", {"model": None}, "model is 'None', allowed is a value"),
    "a negative time": ("fits", {"train_time_s": -1.0}, "train_time_s is '-1.0'"),
    "an mcc of -3": ("evaluations", {"mcc": -3.0}, "mcc is '-3.0', allowed is -1 to 1"),
    "a spec that is no JSON": ("fits", {"spec": "{"}, "spec is '{', allowed is JSON"),
    "another id": ("evaluations", {"evaluation_id": "e2" + "0" * 18}, "evaluation_id is 'e2"),
    "a file outside": (
        "evaluations", {"files": [{"path": "../../secret", "bytes": 1, "sha256": "0"}]},
        "files is '../../secret', allowed is a path inside the store",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_a_value_out_of_range_makes_its_row_damaged_and_the_rest_is_shown(case, store, capsys):
    kind, values, said = CHANGES[case]
    change_row(store, record(kind), **values)
    before = {str(p): p.read_bytes() for p in Path("results").rglob("*.parquet")}
    printed = shown(capsys)
    assert f"damaged record ({next(iter(values))})" in printed and said in printed
    assert "other" in printed
    view = view_leaderboard(Store.open("results"), hardware())
    assert list(view.rows["model"]) == (["other"] if kind != "measurements" else sorted(["other", "toy"]))
    found = {(d.kind, d.id, d.column) for d in verify(store.location).differences}
    assert (kind, KINDS[kind], next(iter(values))) in found
    assert {str(p): p.read_bytes() for p in Path("results").rglob("*.parquet")} == before
    message = fail(["plan", "--models", "vader", "--datasets", "icwsm-tweets", "--store", "results"], capsys)
    assert f"{KINDS[kind]}.parquet: is damaged" in message and "store verify --set-aside" in message


def _another_value(kind, value):
    if pa.types.is_string(kind):
        return "changed"
    if pa.types.is_integer(kind):
        return 1 + (value or 0)
    if pa.types.is_floating(kind):
        return 0.0123
    if pa.types.is_boolean(kind):
        return not value
    if value is not None:
        return None
    return 0 if pa.types.is_timestamp(kind) else []


@pytest.mark.parametrize("kind", KINDS)
def test_every_column_is_protected_by_the_checksum(kind):
    store = write_toy_store(Path("results"))
    location = store.location
    path = next(Path("results").glob(record(kind)))
    whole, table = path.read_bytes(), pq.read_table(path, partitioning=None)
    (row,) = table.to_pylist()
    for column in table.schema:
        changed = _another_value(column.type, row[column.name])
        change_row(store, record(kind), seal=False, **{column.name: changed})
        found = {d.column for d in verify(location).differences if d.id == KINDS[kind] and d.kind == kind}
        assert "checksum" in found, column.name
        path.write_bytes(whole)
    assert verify(location).differences == []


def test_a_changed_time_that_nothing_else_confirms_is_damaged_on_the_board_and_on_the_page(store, capsys):
    change_row(store, record("fits"), seal=False, train_time_s=1.0)
    assert "toy · toy-set · seed 0 · fit: damaged record (checksum)" in shown(capsys)
    snapshot = SnapshotReader(Store.open("results"), hardware()).current()
    table = failures_table(snapshot.results.records.failures, lambda dataset: False)
    assert "damaged record (checksum)" in table and "toy-set" in table
    assert snapshot.track_names


def test_a_store_of_damaged_records_alone_names_them(capsys):
    store = write_toy_store(Path("results"))
    change_row(store, record("evaluations"), accuracy=2.0)
    assert "damaged record (accuracy)" in shown(capsys)


def test_damaged_records_are_set_aside_with_what_depends_on_them(store, capsys):
    change_row(store, record("fits"), seal=False, train_time_s=1.0)
    set_aside(store.location, verify(store.location))
    assert store.ids("fits") == {OTHER.fit_id} and len(store.ids("evaluations")) == 1
    assert "damaged" not in shown(capsys)


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_column_is_an_error_that_names_it(kind, store, capsys):
    path = next(Path("results").glob(record(kind)))
    whole = path.read_bytes()
    for column in REQUIRED[kind]:
        table = pq.read_table(path, partitioning=None)
        pq.write_table(table.drop_columns([column]), path)
        message = fail(["leaderboard", "--store", "results"], capsys)
        assert f"{KINDS[kind]}.parquet: lacks columns of its kind" in message and column in message
        path.write_bytes(whole)


def test_a_missing_column_of_predictions_is_an_error_even_where_many_files_are_read_at_once(store):
    keys = store.location.keys("predictions")
    path = Path("results", keys[0])
    pq.write_table(pq.read_table(path, partitioning=None).drop_columns(["predicted"]), path)
    with pytest.raises(StoreError, match=r"lacks columns of its kind .*predicted"):
        read_bulk(store.location, keys, PREDICTIONS, ["evaluation_id", "predicted"])


def test_records_of_the_version_before_have_no_checksum_and_are_read(store, capsys):
    for kind in KINDS:
        for path in Path("results", kind).rglob("*.parquet"):
            table = pq.read_table(path, partitioning=None)
            assert CHECKSUM_KEY in table.schema.metadata
            old = {k: v for k, v in table.schema.metadata.items() if k != CHECKSUM_KEY}
            pq.write_table(table.replace_schema_metadata(old), path, compression="zstd")
    assert SCHEMA_VERSION == 2
    assert "damaged" not in shown(capsys)
    assert verify(store.location).differences == []


def test_a_copied_store_has_the_same_checksums(store, capsys):
    shutil.copytree("results", "copy")
    assert verify(open_location("copy")).differences == []
    assert {*RECORDS, "failures"} == set(REQUIRED)


def test_json_output_names_damaged_records_too(store, capsys):
    change_row(store, record("evaluations"), accuracy=7.0)
    with pytest.raises(SystemExit):
        main(["leaderboard", "--store", "results", "--json"])
    failures = json.loads(capsys.readouterr().out)["failures"]
    assert [f["error_class"] for f in failures] == ["damaged record (accuracy)"]


@pytest.mark.parametrize("key", ["../x", "/etc/passwd", "fits/../../x", "fits//x", "a\0b", "", "."])
def test_no_key_leaves_the_store(key, store):
    for use in (store.location.local, store.location.delete, store.location.keys, store.location.stamps):
        with pytest.raises(StoreError, match="no path inside the store"):
            use(key)
    for publish in (store.location.create, store.location.create_folder, store.location.replace):
        with pytest.raises(StoreError, match="no path inside the store"):
            publish(Path("results"), key)


FAILED = {
    "phase": "fit",
    "model": "other",
    "dataset": "toy-set",
    "seed": 2,
    "error_class": "OSError",
    "message": "was full",
}


@pytest.fixture
def failure(store):
    """The key of one of two failures in the store."""
    keys = []
    for id_, model in (("f1", "toy"), ("f2", "other")):
        with store.attempt() as attempt:
            keys.append(attempt.fail(id_, FAILED | {"model": model}))
    return keys[0]


@pytest.mark.parametrize(
    ("values", "seal", "said"),
    [
        ({"message": "another"}, False, "damaged record (checksum)"),
        ({"dataset": "elsewhere"}, False, "damaged record (checksum)"),
        ({"error_class": None}, True, "damaged record (error_class)"),
        ({"model": None}, True, "damaged record (model)"),
        ({"peak_memory_bytes": -1}, True, "damaged record (peak_memory_bytes)"),
        ({"id": "f3"}, True, "damaged record (id)"),
        ({"environment": "{"}, True, "damaged record (environment)"),
    ],
)
def test_a_failure_that_was_changed_is_named_and_the_others_are_shown(values, seal, said, store, failure, capsys):
    change_row(store, failure, seal=seal, **values)
    printed = shown(capsys)
    assert said in printed and f"{failure}: is damaged" in printed
    assert "other · toy-set · seed 2 · fit: OSError: was full" in printed, "the other failure"
    assert [(d.kind, d.id, d.column) for d in verify(store.location).differences] == [("failures", "f1", failure)]
    assert failure in set_aside(store.location, verify(store.location))
    assert "damaged" not in shown(capsys) and verify(store.location).differences == []


@pytest.mark.parametrize("column", REQUIRED["failures"])
def test_a_missing_column_of_a_failure_is_an_error_that_names_it(column, store, failure, capsys):
    path = Path("results", failure)
    pq.write_table(pq.read_table(path, partitioning=None).drop_columns([column]), path)
    message = fail(["leaderboard", "--store", "results"], capsys)
    assert f"{failure}: lacks columns of its kind" in message and column in message


def test_failures_of_the_version_before_have_no_checksum_and_are_read(store, failure, capsys):
    path = Path("results", failure)
    table = pq.read_table(path, partitioning=None)
    metadata = {k: v for k, v in table.schema.metadata.items() if k != CHECKSUM_KEY}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    assert "toy · toy-set · seed 2 · fit: OSError: was full" in shown(capsys)
