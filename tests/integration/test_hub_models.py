"""Models from a hub on loopback under their real ids: fetched, pinned, cached, and refused with what to do."""

import json

import pytest
import yaml
from hub_server import point_at

from moodbench.benchmark.resolve import resolve
from moodbench.cli import main
from moodbench.config import load_catalogue
from moodbench.config.schema import ModelSource
from moodbench.errors import PrerequisiteError
from moodbench.hardware import Hardware
from moodbench.models.locate import locate
from moodbench.spec import BenchmarkSpec

pytestmark = pytest.mark.integration
TINY = "prajjwal1/bert-tiny"
CPU = Hardware(cpu="Toy CPU", num_cores=2, memory_bytes=8 * 2**30, gpus=(), mps=False)


def source(**changes):
    return ModelSource.model_validate({"hub": TINY} | changes)


def test_a_model_is_fetched_once_under_its_commit_and_is_there_without_the_hub(hub, checkpoint, tmp_path, monkeypatch):
    commit = hub.add("model", TINY, checkpoint).commit
    found = locate("BERT-tiny", load_catalogue().model("BERT-tiny").source)
    assert (found.revision, found.folder.name) == (commit, commit)
    assert (found.folder / "model.safetensors").read_bytes() == checkpoint["model.safetensors"]
    point_at(hub, tmp_path, monkeypatch, offline=True)
    asked = len(hub.requests)
    assert locate("BERT-tiny", source(revision=commit)) == found
    assert len(hub.requests) == asked


def test_without_network_the_message_names_files_and_how_to_fetch_them(hub, tmp_path, monkeypatch):
    point_at(hub, tmp_path, monkeypatch, offline=True)
    with pytest.raises(
        PrerequisiteError,
        match=r"hub repository prajjwal1/bert-tiny is not in the cache, and the network is off .*config.json.*safetensors.*moodbench catalogue fetch BERT-tiny",
    ):
        locate("BERT-tiny", source())


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_repository_says_where_to_accept_its_terms(hub, checkpoint, status):
    hub.add("model", TINY, checkpoint, gated=status)
    with pytest.raises(
        PrerequisiteError,
        match=r"is gated \(40[13]\): accept its terms at http://\S*/prajjwal1/bert-tiny, then log in",
    ):
        locate("BERT-tiny", source())


def test_a_missing_repository_and_a_missing_revision_are_told_apart(hub, checkpoint):
    with pytest.raises(PrerequisiteError, match="does not exist, or is private"):
        locate("BERT-tiny", source())
    hub.add("model", TINY, checkpoint)
    with pytest.raises(PrerequisiteError, match="no such revision"):
        locate("BERT-tiny", source(revision="f" * 40))


def test_pickled_weights_are_refused_and_never_fetched(hub, checkpoint):
    pickled = {name: content for name, content in checkpoint.items() if name != "model.safetensors"}
    hub.add("model", TINY, pickled | {"pytorch_model.bin": b"never read"})
    with pytest.raises(PrerequisiteError, match=r"pickled weights only \(pytorch_model.bin\), which can run any code"):
        locate("BERT-tiny", source())
    assert not any("resolve" in str(request) and "pytorch_model.bin" in str(request) for request in hub.requests)


@pytest.mark.parametrize("pickle", ["pytorch_model.bin", "weights.pt", "model.PTH", "model.pkl", "last.ckpt"])
def test_pickles_are_told_alike_on_the_hub_and_in_a_folder(hub, checkpoint, tmp_path, pickle):
    kept = {name: content for name, content in checkpoint.items() if name != "model.safetensors"} | {
        pickle: b"never read"
    }
    hub.add("model", TINY, kept)
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, content in kept.items():
        (folder / name).write_bytes(content)
    for where in (source(), ModelSource(path=str(folder))):
        with pytest.raises(
            PrerequisiteError, match=rf"holds pickled weights only \({pickle}\), which can run any code"
        ):
            locate("mine", where)


def test_code_may_be_trusted_in_a_folder_and_not_in_a_package():
    assert ModelSource(path="/weights", trust_remote_code=True).trust_remote_code
    with pytest.raises(ValueError, match="trust_remote_code applies to hub repositories and folders only"):
        ModelSource(package="p", folder="f", trust_remote_code=True)


def test_code_of_a_repository_is_refused_unless_allowed(hub, checkpoint):
    config = json.loads(checkpoint["config.json"]) | {"model_type": "novel", "auto_map": {"AutoModel": "novel.Model"}}
    hub.add("model", TINY, checkpoint | {"config.json": json.dumps(config).encode(), "novel.py": b""})
    with pytest.raises(PrerequisiteError, match=r"requires custom code \(AutoModel\).*trust_remote_code"):
        locate("BERT-tiny", source())
    assert (locate("BERT-tiny", source(trust_remote_code=True)).folder / "novel.py").exists()


def test_wrong_bytes_are_not_used(hub, checkpoint):
    hub.add("model", TINY, checkpoint)
    weights = checkpoint["model.safetensors"]
    hub.wrong["model.safetensors"] = weights[:-1] + bytes([weights[-1] ^ 1])
    with pytest.raises(
        PrerequisiteError,
        match=r"model.safetensors of .* differs from the digest that the hub states, also when downloaded again",
    ):
        locate("BERT-tiny", source())


@pytest.mark.parametrize(
    ("absent", "message"),
    [
        ("model.safetensors", r"has no \*.safetensors \(it has config.json, tokenizer.json, tokenizer_config.json\)"),
        ("config.json", r"config.json cannot be read as JSON"),
        ("tokenizer", r"no tokenizer files in .*; expected tokenizer.json"),
    ],
)
def test_a_file_that_the_repository_lacks_is_named(hub, checkpoint, absent, message):
    hub.add(
        "model", "owner/model", {name: content for name, content in checkpoint.items() if not name.startswith(absent)}
    )
    spec = BenchmarkSpec(models=("owner/model",), datasets=("icwsm-tweets",))
    with pytest.raises(PrerequisiteError, match=message):
        resolve(spec, load_catalogue(), CPU)


def test_an_interrupted_download_goes_on_where_it_broke_off(hub, checkpoint):
    hub.add("model", TINY, checkpoint)
    size = len(checkpoint["model.safetensors"])
    hub.cut["model.safetensors"] = size // 2
    try:
        found = locate("BERT-tiny", source())
    except PrerequisiteError as error:
        assert "the download was interrupted" in str(error) and "rerun the command to resume" in str(error)
        found = locate("BERT-tiny", source())
    assert not hub.cut and (found.folder / "model.safetensors").read_bytes() == checkpoint["model.safetensors"]
    assert sum("model.safetensors" in path and how == "GET" for how, path in hub.requests) == 2


def fit_of_hub_model():
    spec = BenchmarkSpec(models=("owner/model",), datasets=("icwsm-tweets",))
    return resolve(spec, load_catalogue(), CPU, with_baseline=False)[0].fit


def test_a_commit_that_changes_the_readme_alone_gives_the_same_fit_online_and_offline(
    hub, checkpoint, tmp_path, monkeypatch
):
    commits, fits = [], []
    for text in (b"first", b"second"):
        commits.append(hub.add("model", "owner/model", checkpoint | {"README.md": text}).commit)
        fits.append(fit_of_hub_model())
    point_at(hub, tmp_path, monkeypatch, offline=True)
    fits.append(fit_of_hub_model())
    assert commits[0] != commits[1]
    assert [fit.model.revision for fit in fits] == [*commits, commits[1]], "the commit is recorded"
    assert len({fit.fit_id for fit in fits}) == 1 == len({fit.config_id for fit in fits})


@pytest.mark.parametrize(
    "file",
    ["model.safetensors", "tokenizer.json", "config.json", "generation_config.json", "chat_template.jinja"],
)
def test_a_commit_that_changes_weights_tokenizer_or_configuration_gives_another_fit(hub, checkpoint, file):
    hub.add("model", "owner/model", checkpoint)
    before = fit_of_hub_model()
    hub.add("model", "owner/model", checkpoint | {file: checkpoint.get(file, b"{}") + b" "})
    assert fit_of_hub_model().fit_id != before.fit_id


def test_a_hub_model_that_no_memory_holds_is_refused_before_training(hub, checkpoint, tmp_path, capsys):
    huge = json.loads(checkpoint["config.json"]) | {
        "hidden_size": 8192,
        "num_hidden_layers": 80,
        "intermediate_size": 32768,
    }
    hub.add("model", "owner/huge", checkpoint | {"config.json": json.dumps(huge).encode()})
    arguments = [
        "run",
        "--models",
        "owner/huge",
        "--datasets",
        "icwsm-tweets",
        "--device",
        "cpu",
        "--executor",
        "inline",
    ]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--store", str(tmp_path / "store")])
    assert ended.value.code == 2 and not (tmp_path / "store").exists()
    assert "fitting needs about 28" in capsys.readouterr().err  # 4 bytes x 80 x 12 x 8192^2 and 15 % are 276 GiB


def test_pin_writes_revisions_that_the_catalogue_reads(hub, checkpoint, tmp_path, capsys):
    commit = hub.add("model", TINY, checkpoint).commit
    output = tmp_path / "pinned.yaml"
    with pytest.raises(SystemExit) as ended:
        main(["catalogue", "pin", "BERT-tiny", "BERT-mini", "--output", str(output)])
    assert ended.value.code == 1  # BERT-mini is not on this hub; what was found is kept
    assert "not pinned: model BERT-mini" in capsys.readouterr().out
    assert yaml.safe_load(output.read_text()) == {"models": {"BERT-tiny": {"source": {"revision": commit}}}}
    assert load_catalogue(output).model("BERT-tiny").source.revision == commit


def test_fetch_says_what_is_there_and_what_cannot_be_had(hub, checkpoint, capsys):
    commit = hub.add("model", TINY, checkpoint).commit
    with pytest.raises(SystemExit) as ended:
        main(["catalogue", "fetch", "BERT-tiny", "BERT-mini"])
    assert ended.value.code == 2
    told = capsys.readouterr().out
    assert f"BERT-tiny: revision {commit} is in" in told
    assert "not fetched: model BERT-mini" in told
