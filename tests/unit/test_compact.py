"""Snapshots speed reading up and change nothing: whatever happens to them or to the records, the records are shown."""

import os
import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from toy_store import change_row, path_of, toy_fit, write_toy_store, write_toy_trial

from moodbench.cli import main
from moodbench.errors import StoreError
from moodbench.store import Store
from moodbench.store.integrity import CHECKSUM_KEY
from moodbench.store.location import LocalLocation, RemoteLocation
from moodbench.store.reading import compact, read_records, read_snapshot
from moodbench.store.schema import RECORDS


@pytest.fixture
def store(tmp_path):
    """Two trials."""
    made = write_toy_store(tmp_path / "results")
    write_toy_trial(made, toy_fit("second"), "e1" + "0" * 18, "c1" + "0" * 18)
    return made


def compact_all(store) -> dict[str, tuple[int, int]]:
    """Kind to the number of records in the snapshot, and how many were read from their own files."""
    made = {kind: compact(store.location, kind) for kind in RECORDS}
    return {kind: (m.num_records, m.num_read) for kind, m in made.items()}


def assert_same_as_without(store) -> None:
    """Every kind reads as from a copy of the store that has no snapshots."""
    copy = Path(store.uri).with_name("copy")
    shutil.copytree(store.uri, copy, ignore=shutil.ignore_patterns("snapshots"))
    for kind in RECORDS:
        pd.testing.assert_frame_equal(store.records(kind), Store.open(copy).records(kind))
    shutil.rmtree(copy)


def test_a_compacted_store_reads_the_same_and_opens_no_record(store, monkeypatch):
    assert compact_all(store) == dict.fromkeys(RECORDS, (2, 2))
    assert_same_as_without(store)
    read = []
    real = pq.read_table
    monkeypatch.setattr(pq, "read_table", lambda path, **options: read.append(str(path)) or real(path, **options))
    assert len(store.records("measurements")) == 2
    assert [Path(path).parent.name for path in read] == ["snapshots"]


def test_a_stale_snapshot_hides_no_later_record_and_the_next_reads_only_that(store):
    compact_all(store)
    write_toy_trial(store, toy_fit("third"), "e01" + "0" * 17, "b1" + "0" * 18)  # sorts between and before
    assert_same_as_without(store)
    assert len(store.records("evaluations")) == 3
    assert compact_all(store) == dict.fromkeys(RECORDS, (3, 1))
    assert compact_all(store) == dict.fromkeys(RECORDS, (3, 0))
    assert_same_as_without(store)


def test_a_record_that_is_removed_is_not_shown(store):
    compact_all(store)
    path_of(store, "measurements/c0/*.parquet").unlink()
    assert store.records("measurements")["measurement_id"].tolist() == ["c1" + "0" * 18]
    assert_same_as_without(store)
    shutil.rmtree(Path(store.uri) / "measurements")
    assert store.records("measurements").empty


def test_a_record_made_anew_under_its_name_is_shown_as_it_is_now(store):
    compact_all(store)
    change_row(store, "measurements/c0/*.parquet", latency_p50_s=9.0)
    assert store.records("measurements")["latency_p50_s"].tolist()[0] == 9.0
    assert_same_as_without(store)


def test_a_record_cut_short_after_compacting_still_stops_the_reader(store):
    compact_all(store)
    os.truncate(path_of(store, "fits/*/" + toy_fit().fit_id + ".parquet"), 100)
    with pytest.raises(StoreError, match="cannot be read as Parquet"):
        store.records("fits")


@pytest.mark.parametrize(
    "damage", ["delete", "truncate", "empty", "foreign", "version", "column", "folder", "changed", "unsealed"]
)
def test_a_snapshot_that_is_gone_damaged_or_not_ours_changes_nothing(store, damage):
    compact_all(store)
    for path in (Path(store.uri) / "snapshots").glob("*.parquet"):
        table = pq.read_table(path, partitioning=None)
        path.unlink()
        if damage == "truncate":
            pq.write_table(table, path)
            os.truncate(path, path.stat().st_size // 2)
        elif damage == "empty":
            path.write_bytes(b"")
        elif damage == "foreign":
            pd.DataFrame({"price": [1]}).to_parquet(path)
        elif damage == "version":
            pq.write_table(table.replace_schema_metadata({b"moodbench.schema_version": b"1.6"}), path)
        elif damage == "column":
            pq.write_table(table.drop_columns(["model"]), path)
        elif damage == "folder":
            path.mkdir()
        elif damage == "changed":
            row = table.to_pylist()[0] | {"model": "another"}
            pq.write_table(pa.Table.from_pylist([row, *table.to_pylist()[1:]], schema=table.schema), path)
        elif damage == "unsealed":
            metadata = {key: value for key, value in table.schema.metadata.items() if key != CHECKSUM_KEY}
            pq.write_table(table.replace_schema_metadata(metadata), path)
    assert read_snapshot(store.location, "fits") is None
    assert_same_as_without(store)


def test_a_snapshot_keeps_what_reading_a_record_gives_to_the_last_field(store):
    before = {kind: read_records(store.location, kind)[0].to_pylist() for kind in RECORDS}
    compact_all(store)
    assert {kind: read_records(store.location, kind)[0].to_pylist() for kind in RECORDS} == before
    assert before["measurements"][0]["throughput_points"][2]["batch_size"] == 32


def test_a_store_without_exclusive_creation_can_be_compacted(tmp_path):
    local = write_toy_store(tmp_path / "bucket" / "results")
    filesystem = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    remote = Store(RemoteLocation(filesystem, "bucket/results"), "test://bucket/results")
    assert compact_all(remote) == dict.fromkeys(RECORDS, (1, 1))
    assert compact_all(remote) == dict.fromkeys(RECORDS, (1, 0))
    for kind in RECORDS:
        pd.testing.assert_frame_equal(remote.records(kind), local.records(kind))


def test_a_compaction_that_fails_leaves_the_old_snapshot_whole(store, monkeypatch):
    compact_all(store)
    before = path_of(store, "snapshots/fits.parquet").read_bytes()

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LocalLocation, "replace", refuse)
    with pytest.raises(OSError, match="No space left"):
        compact(store.location, "fits")
    assert path_of(store, "snapshots/fits.parquet").read_bytes() == before
    assert not list((Path(store.uri) / "staging").iterdir())


def test_the_command_says_what_was_read(store, capsys):
    for read in (2, 0):
        with pytest.raises(SystemExit) as ended:
            main(["store", "compact", "--store", store.uri])
        assert ended.value.code == 0
        assert f"snapshots/evaluations.parquet: 2 records, {read} of them newly read" in capsys.readouterr().out
