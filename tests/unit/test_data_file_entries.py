"""A person's own file as a dataset: its entry in a catalogue, its place in a run, and the ids of its fits."""

import dataclasses
import json
from pathlib import Path

import pytest
from own_files import STARS, rows, source, table

from moodbench.benchmark.context import RunContext
from moodbench.benchmark.plan import make_plan
from moodbench.benchmark.preflight import check_preflight
from moodbench.benchmark.resolve import resolve
from moodbench.cli import main
from moodbench.cli.commands import parser
from moodbench.cli.options import spec_of
from moodbench.config.catalogue import load_catalogue
from moodbench.config.schema import DatasetEntry, FileSource
from moodbench.errors import DataError
from moodbench.hardware import Hardware
from moodbench.spec import BenchmarkSpec, TrialSpec
from moodbench.store import Store

pytestmark = pytest.mark.usefixtures("empty_folder")

MACHINE = Hardware(cpu="Toy CPU", num_cores=2, memory_bytes=8 * 2**30, gpus=(), mps=False)


def entry(path, **more):
    return DatasetEntry(file=source(path, **more))


def resolved(name, path, models=("tfidf-logreg",), **more):
    catalogue = dataclasses.replace(load_catalogue(), datasets={name: entry(path, **more)})
    return resolve(BenchmarkSpec(models=models, datasets=(name,)), catalogue, MACHINE)


def test_ids_do_not_depend_on_where_the_file_is_but_on_what_it_says():
    for folder in ("here", "there"):
        Path(folder).mkdir()
        Path(folder, "a.csv").write_bytes(table(rows()))
    (here,), (there,) = resolved("mine", "here/a.csv"), resolved("mine", "there/a.csv")
    assert here.fit.dataset.file.path != there.fit.dataset.file.path
    assert Path(here.fit.dataset.file.path).is_absolute() and here.fit.dataset.private
    assert (here.fit.config_id, here.evaluate.evaluation_id) == (there.fit.config_id, there.evaluate.evaluation_id)
    Path("there/a.csv").write_bytes(table([*rows(), ("one more text", "negative")]))
    (changed,) = resolved("mine", "there/a.csv")
    assert changed.fit.config_id != here.fit.config_id
    assert TrialSpec.model_validate_json(here.model_dump_json()).fit.fit_id == here.fit.fit_id


def test_a_worker_refuses_a_file_that_has_changed_since_the_plan():
    from moodbench.trial import examples_of

    Path("a.csv").write_bytes(table(rows()))
    (trial,) = resolved("mine", "a.csv")
    assert examples_of(trial.fit).revision == trial.fit.dataset.revision
    Path("a.csv").write_bytes(table(rows(n=160)))
    with pytest.raises(DataError, match=r"a\.csv has changed since"):
        examples_of(trial.fit)


def test_a_catalogue_entry_may_be_a_file():
    Path("a.csv").write_bytes(table(STARS))
    Path("mine.yaml").write_text(
        "datasets:\n  shop:\n    file:\n      path: a.csv\n      text_column: text\n      label_column: label\n"
        "      label_map: {1: negative, 2: negative, 3: drop, 4: positive, 5: positive}\n"
    )
    (trial,) = resolve(
        BenchmarkSpec(models=("tfidf-logreg",), datasets=("shop",)), load_catalogue(Path("mine.yaml")), MACHINE
    )
    assert trial.fit.dataset.labels == ("negative", "positive")


def test_the_list_of_data_sets_shows_a_file_without_reading_it(capsys):
    Path("mine.yaml").write_text("datasets: {shop: {file: {path: gone.csv, text_column: t, label_column: l}}}")
    with pytest.raises(SystemExit) as ended:
        main(["datasets", "--config", "mine.yaml", "--json"])
    assert ended.value.code == 0
    (row,) = (r for r in json.loads(capsys.readouterr().out) if r["name"] == "shop")
    assert (row["num_texts"], row["labels"], row["licence"]) == (None, None, "not stated")


@pytest.mark.parametrize(
    ("arguments", "datasets"),
    [
        (["quickstart"], ("my-shop",)),
        (["--models", "vader", "--datasets", "icwsm-movie"], ("my-shop", "icwsm-movie")),
        (["quickstart", "--data-name", "shop_2.0"], ("shop_2.0",)),
    ],
)
def test_own_data_take_the_place_of_a_presets_data_and_stand_beside_named_ones(arguments, datasets):
    given = parser().parse_args(
        ["run", *arguments, "--data", "my shop!.csv", "--text-column", "t", "--label-column", "l"]
    )
    spec = spec_of(given, load_catalogue())
    name, entry = spec.own
    assert entry.file == FileSource(path="my shop!.csv", text_column="t", label_column="l")
    assert (name, *spec.datasets) == datasets


def test_own_data_with_a_label_map_pass_the_check_of_disk_and_memory():
    Path("a.csv").write_bytes(table(STARS))
    (trial,) = resolved(
        "mine", "a.csv", label_map={"1": "negative", "5": "positive", "2": "drop", "3": "drop", "4": "drop"}
    )
    plan = make_plan([trial], {"fits": set(), "evaluations": set(), "measurements": set()})
    check_preflight(plan, RunContext(Store.open("results"), load_catalogue(), MACHINE))
