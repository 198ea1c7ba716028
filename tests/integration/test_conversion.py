"""Repositories whose main branch holds pickles only: what the hub's conversion bot proposes, and when it is taken."""

import pytest
import yaml
from hub_server import point_at

from moodbench.cli import main
from moodbench.config import load_catalogue
from moodbench.config.schema import ModelSource
from moodbench.errors import PrerequisiteError
from moodbench.models.hub import BOT, TITLE, conversion_of, pull_request_at
from moodbench.models.locate import locate

pytestmark = pytest.mark.integration
TINY, OTHER = "prajjwal1/bert-tiny", "owner/pickled"
PROPOSAL = {"num": 7, "title": TITLE, "author": BOT}


def pickles_only(checkpoint, pickle=b"never read"):
    return {k: v for k, v in checkpoint.items() if k != "model.safetensors"} | {"pytorch_model.bin": pickle}


def add_pickled(hub, checkpoint, name=TINY, *, proposals=(PROPOSAL,), **ref):
    """The repository, with the files of the proposal at refs/pr/7."""
    refs = {
        "refs/pr/7": ref.get(
            "proposed", pickles_only(checkpoint) | {"model.safetensors": checkpoint["model.safetensors"]}
        )
    }
    return hub.add("model", name, pickles_only(checkpoint), refs=refs, discussions=list(proposals))


def test_bert_tiny_is_taken_from_the_bots_proposal_under_its_commit_and_is_there_without_the_hub(
    hub, checkpoint, tmp_path, monkeypatch
):
    repository = add_pickled(hub, checkpoint)
    commit = repository.at("refs/pr/7").commit
    source = load_catalogue().model("BERT-tiny").source
    found = locate("BERT-tiny", source)
    assert found.revision == commit != repository.commit
    assert (found.folder / "model.safetensors").read_bytes() == checkpoint["model.safetensors"]
    assert pull_request_at(TINY, commit) == "refs/pr/7" and pull_request_at(TINY, repository.commit) is None
    assert not any("resolve" in path and path.endswith(".bin") for _, path in hub.requests), "no pickle is fetched"
    point_at(hub, tmp_path, monkeypatch, offline=True)
    assert locate("BERT-tiny", source) == found
    assert locate("BERT-tiny", ModelSource(hub=TINY, revision=commit)) == found, "as a worker looks for it"


def test_safetensors_of_the_owner_go_before_any_proposal(hub, checkpoint):
    repository = hub.add(
        "model", TINY, checkpoint, refs={"refs/pr/7": checkpoint | {"other.txt": b""}}, discussions=[PROPOSAL]
    )
    assert locate("BERT-tiny", load_catalogue().model("BERT-tiny").source).revision == repository.commit


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"author": "somebody"}, "anyone can propose under this title"),
        ({"status": "closed"}, "the owner has refused it"),
        ({"title": "Add better weights"}, "not a conversion"),
        ({"pull_request": False}, "a discussion holds no files"),
    ],
)
def test_only_an_open_conversion_of_the_bot_counts(hub, checkpoint, change, why):
    add_pickled(hub, checkpoint, proposals=[PROPOSAL | change])
    assert conversion_of(TINY) is None, why
    with pytest.raises(PrerequisiteError, match=r"pickled weights only \(pytorch_model.bin\)"):
        locate("BERT-tiny", load_catalogue().model("BERT-tiny").source)


def test_a_proposal_made_of_other_pickles_than_those_of_today_does_not_count(hub, checkpoint):
    stale = pickles_only(checkpoint, b"old bytes") | {"model.safetensors": checkpoint["model.safetensors"]}
    add_pickled(hub, checkpoint, proposed=stale)
    assert conversion_of(TINY) is None


def test_a_proposal_without_safetensors_does_not_count(hub, checkpoint):
    add_pickled(hub, checkpoint, proposed=pickles_only(checkpoint))
    assert conversion_of(TINY) is None


def test_a_repository_that_nobody_asked_to_convert_is_refused_with_the_way_to_ask(hub, checkpoint):
    add_pickled(hub, checkpoint, OTHER)
    told = r"pickled weights only .* at refs/pr/7 \(commit \w{12}, a pull request .*`moodbench catalogue pin owner/pickled --converted`"
    with pytest.raises(PrerequisiteError, match=told):
        locate(OTHER, load_catalogue().model(OTHER).source)


def pin(*words):
    with pytest.raises(SystemExit) as ended:
        main(["catalogue", "pin", *map(str, words)])
    return ended.value.code


def test_pin_records_a_conversion_only_when_asked_and_the_file_makes_the_model_run(hub, checkpoint, tmp_path, capsys):
    commit = add_pickled(hub, checkpoint, OTHER).at("refs/pr/7").commit
    output = tmp_path / "pinned.yaml"
    assert pin(OTHER, "--output", output) == 1 and not output.exists()
    assert "--converted" in " ".join(capsys.readouterr().out.split())
    assert pin(OTHER, "--output", output, "--converted") == 0
    assert f"{OTHER}: {commit}, which is refs/pr/7" in capsys.readouterr().out
    assert yaml.safe_load(output.read_text())["models"][OTHER]["source"] == {"hub": OTHER, "revision": commit}
    assert locate(OTHER, load_catalogue(output).model(OTHER).source).revision == commit


def test_pin_records_the_conversion_of_a_model_whose_entry_asks_for_it(hub, checkpoint, tmp_path):
    commit = add_pickled(hub, checkpoint).at("refs/pr/7").commit
    output = tmp_path / "pinned.yaml"
    assert pin("BERT-tiny", "--output", output) == 0
    assert yaml.safe_load(output.read_text()) == {"models": {"BERT-tiny": {"source": {"revision": commit}}}}
    assert locate("BERT-tiny", load_catalogue(output).model("BERT-tiny").source).revision == commit
