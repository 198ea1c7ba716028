import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from moodbench.errors import StoreError
from moodbench.store import PREDICTIONS, Store, location, stamped, write_table
from moodbench.store.location import RemoteLocation
from moodbench.store.reading import refuse_other_version

FIT_ID = "ab" + "0" * 18
TRIAL = {"fit_id": FIT_ID, "config_id": "c", "model": "toy", "dataset": "none", "seed": 0}


def write_fit(store: Store, *, weights: bytes = b"weights", text: str = "{}") -> bool:
    with store.attempt() as attempt:
        folder = attempt.folder / "artifact"
        (folder / "inner").mkdir(parents=True)
        (folder / "inner" / "model.safetensors").write_bytes(weights)
        (folder / "config.json").write_text(text)
        record = {**TRIAL, "status": "ok", "dataset_revision": "1", "num_train": 1, "spec": "{}"}
        return attempt.commit("fits", FIT_ID, record, {f"artifacts/{FIT_ID}": folder})


def files_of(store: Store) -> list[dict]:
    return [f for files in store.records("fits")["files"] for f in files]


def assert_consistent(store: Store) -> None:
    """Every record names files that exist with the size and digest it states."""
    for file in files_of(store):
        path = Path(store.uri) / file["path"]
        assert path.stat().st_size == file["bytes"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == file["sha256"]


def test_a_committed_fit_is_read_back_with_its_files(tmp_path):
    store = Store.open(tmp_path / "results")
    assert write_fit(store)
    (row,) = store.records("fits").to_dict("records")
    assert (row["fit_id"], row["model"], row["status"]) == (FIT_ID, "toy", "ok")
    assert (store.artifact(FIT_ID) / "inner" / "model.safetensors").read_bytes() == b"weights"
    assert_consistent(store)
    assert not list((tmp_path / "results" / "staging").iterdir())


def test_the_loser_of_a_race_is_kept_aside_and_changes_nothing(tmp_path):
    store = Store.open(tmp_path / "results")
    assert write_fit(store, weights=b"first")
    assert not write_fit(store, weights=b"second")
    assert (store.artifact(FIT_ID) / "inner" / "model.safetensors").read_bytes() == b"first"
    (kept,) = (tmp_path / "results" / "duplicates" / FIT_ID).rglob("model.safetensors")
    assert kept.read_bytes() == b"second"


def test_a_file_left_without_a_record_is_never_mistaken_for_the_next_attempts(tmp_path):
    store = Store.open(tmp_path / "results")
    orphan = tmp_path / "results" / "artifacts" / FIT_ID
    orphan.mkdir(parents=True)
    (orphan / "config.json").write_text("half of something")
    assert store.record("fits", FIT_ID) is None
    assert write_fit(store)
    assert (store.artifact(FIT_ID) / "config.json").read_text() == "{}"
    assert_consistent(store)


KILLED_WRITER = textwrap.dedent("""
    import os, signal, sys
    sys.path.insert(0, sys.argv[2])
    from test_store import Store, write_fit
    import pyarrow.parquet as pq

    def write_and_die_at(root, limit):
        seen = 0

        def tick(event, args):
            nonlocal seen
            if event in ("open", "os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir") and str(args[0]).startswith(root):
                seen += 1
                if seen == limit:
                    os.kill(os.getpid(), signal.SIGKILL)

        whole = pq.write_table
        def torn_write(table, path, **options):
            nonlocal seen
            whole(table, path, **options)
            seen += 1
            if seen == limit:
                os.truncate(path, path.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)

        pq.write_table = torn_write
        store = Store.open(root)
        sys.addaudithook(tick)
        write_fit(store)

    for limit in range(1, 200):
        pid = os.fork()  # before anything has started a thread
        if pid == 0:
            write_and_die_at(f"{sys.argv[1]}/killed-{limit}", limit)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
        if status == 0:
            break
""")


def test_a_writer_killed_at_any_step_leaves_no_record_or_a_complete_one(tmp_path):
    command = [sys.executable, "-c", KILLED_WRITER, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    codes = [int(line) for line in done.stdout.split()]
    assert codes == [-signal.SIGKILL] * (len(codes) - 1) + [0], done.stderr
    outcomes = []
    for limit in range(1, len(codes) + 1):
        store = Store.open(tmp_path / f"killed-{limit}")
        outcomes.append(store.record("fits", FIT_ID) is not None)
        assert_consistent(store)
        write_fit(store)
        assert_consistent(store)
        assert (store.artifact(FIT_ID) / "inner" / "model.safetensors").read_bytes() == b"weights"
        assert len(store.records("fits")) == 1
    assert outcomes.count(False) >= 8, "the kills before the record must have been exercised"
    assert outcomes[:-1].count(True) >= 1, "a kill after the record must have been exercised"
    assert outcomes == sorted(outcomes), "once the record is there it stays"


RACERS = textwrap.dedent("""
    import os, sys
    sys.path.insert(0, sys.argv[2])
    from test_store import Store, write_fit

    store, (start, go), writers = Store.open(sys.argv[1]), os.pipe(), []
    for number in range(4):
        writers.append(os.fork())
        if not writers[-1]:  # before anything has started a thread
            os.close(go)
            os.read(start, 1)  # it ends when all are there
            os._exit(write_fit(store, weights=f"writer {number}".encode()))
    os.close(go)
    print(*(os.waitstatus_to_exitcode(os.waitpid(writer, 0)[1]) for writer in writers))
""")


def test_four_processes_racing_for_one_id_leave_exactly_one_record(tmp_path):
    root = tmp_path / "results"
    command = [sys.executable, "-c", RACERS, str(root), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    wrote = done.stdout.split()  # whether each writer's record was committed
    assert sorted(wrote) == ["0", "0", "0", "1"], done.stderr
    store = Store.open(root)
    assert len(store.records("fits")) == 1
    assert_consistent(store)
    assert (store.artifact(FIT_ID) / "inner" / "model.safetensors").read_text() == f"writer {wrote.index('1')}"


def test_a_loser_that_gives_its_name_up_leaves_the_files_of_who_takes_it_next(tmp_path, monkeypatch):
    store = Store.open(tmp_path / "results")
    published = tmp_path / "results" / "artifacts" / FIT_ID
    create, create_folder = location.LocalLocation.create, location.LocalLocation.create_folder

    def another_is_first(self, source, key):
        if key.startswith("fits/") and store.record("fits", FIT_ID) is None:
            monkeypatch.setattr(location.LocalLocation, "create", create)
            assert write_fit(store, weights=b"first")
        return create(self, source, key)

    def a_third_takes_the_name(self, source, key):
        done = create_folder(self, source, key)
        if source == published:
            published.mkdir()
            (published / "of a third").touch()
        return done

    monkeypatch.setattr(location.LocalLocation, "create", another_is_first)
    monkeypatch.setattr(location.LocalLocation, "create_folder", a_third_takes_the_name)
    assert not write_fit(store, weights=b"second")
    assert (published / "of a third").exists()
    assert_consistent(store)


def test_a_file_system_without_exclusive_creation_takes_the_first_attempt(tmp_path):
    remote = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    store = Store(RemoteLocation(remote, "bucket/results"), "test://bucket/results")
    assert write_fit(store, weights=b"first")
    with store.attempt() as late:  # a writer that did not see the first record
        (late.folder / "record.parquet").write_bytes(b"")
        key = f"fits/ab/{FIT_ID}@{late.name}.parquet"
    existing = next((tmp_path / "bucket/results/fits/ab").iterdir())
    (tmp_path / "bucket/results" / key).write_bytes(existing.read_bytes())
    assert len(store.records("fits")) == 1
    assert (store.artifact(FIT_ID) / "inner" / "model.safetensors").read_bytes() == b"first"
    assert "@" in existing.name and key > f"fits/ab/{existing.name}"


def test_a_file_that_was_replaced_in_a_remote_store_is_fetched_again_and_one_that_went_is_gone(tmp_path):
    remote = RemoteLocation(pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()), "bucket")
    (tmp_path / "text").write_text("first")
    remote.replace(tmp_path / "text", "a/one")
    remote.replace(tmp_path / "text", "a/two")
    kept = remote.local("a/one")
    assert (kept.read_text(), [p.name for p in kept.parent.iterdir()]) == ("first", ["one"])
    assert sorted(p.name for p in remote.local("a").iterdir()) == ["one", "two"], "though one was there alone"
    was = kept.stat().st_ino
    assert remote.local("a/one").stat().st_ino == was, "what is untouched is fetched once"
    (tmp_path / "text").write_text("the second")
    remote.replace(tmp_path / "text", "a/one")
    assert remote.local("a/one").read_text() == "the second"
    remote.delete("a/two")
    assert [p.name for p in remote.local("a").iterdir()] == ["one"]
    remote.delete("a")
    assert not remote.local("a/one").exists()


def test_a_download_that_was_cut_off_is_not_taken_for_the_file(tmp_path, monkeypatch):
    remote = RemoteLocation(pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()), "bucket")
    (tmp_path / "text").write_text("all of it")
    remote.replace(tmp_path / "text", "a/one")

    def cut_off(reader, writer, length):
        writer.write(reader.read(3))
        raise OSError("the connection was reset")

    monkeypatch.setattr(location.shutil, "copyfileobj", cut_off)
    with pytest.raises(OSError, match="reset"):
        remote.local("a/one")
    monkeypatch.undo()
    assert remote.local("a/one").read_text() == "all of it"
    assert [p.name for p in remote.local("a").parent.iterdir()] == ["a"], "no part is left"


def test_downloads_go_with_the_process(tmp_path):
    code = (
        "import sys, pyarrow.fs as fs\nfrom moodbench.store.location import RemoteLocation\n"
        "print(RemoteLocation(fs.SubTreeFileSystem(sys.argv[1], fs.LocalFileSystem()), 'bucket').local('a/one').read_text())"
    )
    (tmp_path / "bucket/a").mkdir(parents=True)
    (tmp_path / "bucket/a/one").write_text("read")
    (tmp_path / "temporary").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "read\n" and list((tmp_path / "temporary").iterdir()) == []


def test_failures_are_kept_per_attempt_and_block_nothing(tmp_path):
    store = Store.open(tmp_path / "results")
    for message in ("first", "second"):
        with store.attempt() as attempt:
            failure = {"phase": "fit", "model": "toy", "dataset": "d", "error_class": "ValueError"}
            attempt.fail(FIT_ID, failure | {"message": message})
    assert sorted(store.records("failures")["message"]) == ["first", "second"]
    assert store.record("fits", FIT_ID) is None
    assert write_fit(store)


def test_an_empty_store_has_frames_with_all_columns(tmp_path):
    store = Store.open(tmp_path / "nothing-yet")
    assert list(store.records("measurements")["latency_p99_s"]) == []
    assert not (tmp_path / "nothing-yet").exists(), "reading creates nothing"


def test_predictions_keep_float32_logits(tmp_path):
    store = Store.open(tmp_path / "results")
    rows = [
        {"evaluation_id": "e1", "example_id": "x", "label": 1, "predicted": 0, "logits": [0.1, -3.5]},
        {"evaluation_id": "e1", "example_id": "y", "label": 0, "predicted": 0, "logits": [1e-7, 2.0]},
    ]
    with store.attempt() as attempt:
        path = write_table(pa.Table.from_pylist(rows, schema=stamped(PREDICTIONS)), attempt.folder / "p.parquet")
        outputs = {"predictions/dataset=d/e1.parquet": path}
        attempt.commit("evaluations", "e1", {**TRIAL, "num_test": 1, "accuracy": 0.5, "f1_macro": 0.5}, outputs)
    back = store.predictions(["e1"])
    assert back["logits"][0].dtype == "float32"
    assert [list(map(float, x)) for x in back["logits"]] == [[pytest.approx(0.1), -3.5], [pytest.approx(1e-7), 2.0]]


class TestWrongPlaces:
    def test_a_folder_of_something_else_is_refused(self, tmp_path):
        (tmp_path / "thesis.tex").write_text("")
        with pytest.raises(StoreError, match=r"not a MoodBench store \(it holds thesis\.tex\)"):
            Store.open(tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]

    def test_a_file_is_refused(self, tmp_path):
        (tmp_path / "results").write_text("")
        with pytest.raises(StoreError, match="is a file; give a folder"):
            Store.open(tmp_path / "results")

    def test_an_unknown_uri_scheme_is_refused(self):
        with pytest.raises(StoreError, match="nope://somewhere"):
            Store.open("nope://somewhere")

    def test_a_truncated_record_names_the_file_and_what_to_do(self, tmp_path):
        store = Store.open(tmp_path / "results")
        write_fit(store)
        (path,) = (tmp_path / "results/fits").rglob("*.parquet")
        os.truncate(path, 100)
        with pytest.raises(StoreError, match=f"{path.name}: cannot be read as Parquet.*verify --set-aside"):
            store.records("fits")

    def test_a_parquet_file_of_somebody_else_is_refused(self, tmp_path):
        target = tmp_path / "results/fits/zz/zz.parquet"
        target.parent.mkdir(parents=True)
        pd.DataFrame({"a": [1]}).to_parquet(target)
        with pytest.raises(StoreError, match="not written by MoodBench"):
            Store.open(tmp_path / "results").records("fits")

    def test_a_newer_schema_is_refused_by_version(self, tmp_path):
        store = Store.open(tmp_path / "results")
        write_fit(store)
        (path,) = (tmp_path / "results/fits").rglob("*.parquet")
        table = pq.read_table(path, partitioning=None)
        pq.write_table(table.replace_schema_metadata({b"moodbench.schema_version": b"3"}), path)
        with pytest.raises(StoreError, match=r"schema version 3, this program reads version 2; upgrade"):
            store.records("fits")

    def test_a_store_of_an_earlier_schema_is_refused_as_soon_as_it_is_opened(self, tmp_path):
        store = Store.open(tmp_path / "results")
        write_fit(store)
        (path,) = (tmp_path / "results/fits").rglob("*.parquet")
        table = pq.read_table(path, partitioning=None)
        pq.write_table(table.replace_schema_metadata({b"moodbench.schema_version": b"1.6"}), path)
        told = (
            r"written by an earlier version .*version 1\.6, this program reads version 2\).*another folder with --store"
        )
        with pytest.raises(StoreError, match=told):
            Store.open(tmp_path / "results")
        with pytest.raises(StoreError, match=told):
            store.records("fits")
        remote = RemoteLocation(pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()), "results")
        with pytest.raises(StoreError, match=told):
            refuse_other_version(remote)


def test_records_hold_their_own_schema_version_and_plain_types(tmp_path):
    store = Store.open(tmp_path / "results")
    write_fit(store, text=json.dumps({"a": 1}))
    (path,) = (tmp_path / "results/fits").rglob("*.parquet")
    schema = pq.read_schema(path)
    assert schema.metadata[b"moodbench.schema_version"] == b"2"
    assert str(schema.field("started_at").type) == "timestamp[us, tz=UTC]"
