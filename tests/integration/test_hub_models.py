"""Models from a hub on loopback under their real ids: fetched, pinned, cached, and refused with what to do."""

import json

import pytest
import yaml
from hub_server import HubServer, point_at
from tiny_models import save_checkpoint

from moodbench.cli import main
from moodbench.config import load_catalogue
from moodbench.config.schema import ModelSource
from moodbench.errors import PrerequisiteError
from moodbench.models.locate import locate

pytestmark = pytest.mark.integration
TINY = "prajjwal1/bert-tiny"


def source(**changes):
    return ModelSource.model_validate({"hub": TINY} | changes)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(folder, "bert", decoder=False)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with HubServer() as server:
        point_at(server, tmp_path, monkeypatch)
        yield server


def test_a_model_is_fetched_once_under_its_commit_and_is_there_without_the_hub(hub, files, tmp_path, monkeypatch):
    commit = hub.add("model", TINY, files).commit
    found = locate("BERT-tiny", load_catalogue().model("BERT-tiny").source)
    assert (found.revision, found.folder.name) == (commit, commit)
    assert (found.folder / "model.safetensors").read_bytes() == files["model.safetensors"]
    point_at(hub, tmp_path, monkeypatch, offline=True)
    asked = len(hub.requests)
    assert locate("BERT-tiny", source(revision=commit)) == found
    assert len(hub.requests) == asked


def test_without_network_the_message_names_files_and_how_to_fetch_them(hub, tmp_path, monkeypatch):
    point_at(hub, tmp_path, monkeypatch, offline=True)
    with pytest.raises(
        PrerequisiteError,
        match=r"no network, and hub repository prajjwal1/bert-tiny .*config.json.*safetensors.*moodbench fetch BERT-tiny",
    ):
        locate("BERT-tiny", source())


def test_a_gated_repository_says_where_to_accept_its_terms(hub, files):
    hub.add("model", TINY, files, gated=403)
    with pytest.raises(
        PrerequisiteError,
        match=r"is gated: accept its terms at https://huggingface.co/prajjwal1/bert-tiny, then log in",
    ):
        locate("BERT-tiny", source())


def test_a_missing_repository_and_a_missing_revision_are_told_apart(hub, files):
    with pytest.raises(PrerequisiteError, match="does not exist, or is private"):
        locate("BERT-tiny", source())
    hub.add("model", TINY, files)
    with pytest.raises(PrerequisiteError, match="no such revision"):
        locate("BERT-tiny", source(revision="f" * 40))


def test_pickled_weights_are_refused_and_never_fetched(hub, files):
    pickled = {name: content for name, content in files.items() if name != "model.safetensors"}
    hub.add("model", TINY, pickled | {"pytorch_model.bin": b"never read"})
    with pytest.raises(PrerequisiteError, match=r"pickled weights only \(pytorch_model.bin\), which can run any code"):
        locate("BERT-tiny", source())
    assert not any("resolve" in str(request) and "pytorch_model.bin" in str(request) for request in hub.requests)


def test_code_of_a_repository_is_refused_unless_allowed(hub, files):
    config = json.loads(files["config.json"]) | {"model_type": "novel", "auto_map": {"AutoModel": "novel.Model"}}
    hub.add("model", TINY, files | {"config.json": json.dumps(config).encode(), "novel.py": b""})
    with pytest.raises(PrerequisiteError, match=r"asks for code of its own \(AutoModel\).*trust_remote_code"):
        locate("BERT-tiny", source())
    assert (locate("BERT-tiny", source(trust_remote_code=True)).folder / "novel.py").exists()


def test_wrong_bytes_are_not_used(hub, files):
    hub.add("model", TINY, files)
    weights = files["model.safetensors"]
    hub.wrong["model.safetensors"] = weights[:-1] + bytes([weights[-1] ^ 1])
    with pytest.raises(PrerequisiteError, match=r"differs from the sha256 that the hub lists"):
        locate("BERT-tiny", source())


def test_pin_writes_revisions_that_the_catalogue_reads(hub, files, tmp_path, capsys):
    commit = hub.add("model", TINY, files).commit
    output = tmp_path / "pinned.yaml"
    with pytest.raises(SystemExit) as ended:
        main(["catalogue", "pin", "BERT-tiny", "BERT-mini", "--output", str(output)])
    assert ended.value.code == 1  # BERT-mini is not on this hub; what was found is kept
    assert "not pinned: model BERT-mini" in capsys.readouterr().out
    assert yaml.safe_load(output.read_text()) == {"models": {"BERT-tiny": {"source": {"revision": commit}}}}
    assert load_catalogue(output).model("BERT-tiny").source.revision == commit


def test_fetch_says_what_is_there_and_what_cannot_be_had(hub, files, capsys):
    commit = hub.add("model", TINY, files).commit
    with pytest.raises(SystemExit) as ended:
        main(["fetch", "BERT-tiny", "BERT-mini"])
    assert ended.value.code == 2
    told = capsys.readouterr().out
    assert f"BERT-tiny: revision {commit} is in" in told
    assert "not fetched: model BERT-mini" in told
