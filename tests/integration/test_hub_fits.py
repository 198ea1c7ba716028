"""Every model of the catalogue that the hub has, fitted by its own recipe from a tiny checkpoint of its family under its id."""

import pytest
from hub_server import HubServer, point_at
from test_label_words import AUTO
from tiny_models import save_checkpoint

from moodbench.benchmark.resolve import resolve
from moodbench.config import load_catalogue
from moodbench.data.examples import subsample
from moodbench.hardware import Hardware
from moodbench.spec import BenchmarkSpec
from moodbench.training.checkpoints import CheckpointArea
from moodbench.training.fitting import fit
from moodbench.trial import examples_of

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
CATALOGUE = load_catalogue()
CPU = Hardware(cpu="Toy CPU", num_cores=2, memory_bytes=8 * 2**30, gpus=(), mps=False)
NAMES = [name for name, entry in CATALOGUE.models.items() if entry.source is not None and entry.source.hub]
FEW = {"min_steps": 2, "max_steps": 2, "epochs": 1}


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    """Model -> its trial, from a hub on loopback that holds a tiny checkpoint for each."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    root, files = tmp_path_factory.mktemp("hub"), {}
    with HubServer() as hub, pytest.MonkeyPatch.context() as patch:
        point_at(hub, root, patch)
        for name in NAMES:
            family = CATALOGUE.models[name].family
            decoder = CATALOGUE.families[family].kind == "decoder"
            if family not in files:
                (root / family).mkdir()
                save_checkpoint(root / family, family, decoder=decoder, auto=AUTO["causal"] if decoder else "AutoModel")
                files[family] = {path.name: path.read_bytes() for path in (root / family).iterdir()}
            hub.add("model", CATALOGUE.models[name].source.hub, files[family])
        prompt = root / "prompt.yaml"
        prompt.write_text('template: "w1 {text} w2"\nlabel_words: [" bad", " good"]\n')
        asked = BenchmarkSpec(models=NAMES, datasets=["icwsm-tweets"], train=FEW, prompt=str(prompt), device="cpu")
        yield {t.fit.model.name: t for t in resolve(asked, CATALOGUE, CPU, with_baseline=False)}
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", NAMES)
def test_a_named_model_is_fitted_by_its_own_recipe(trials, tmp_path, name):
    spec = trials[name].fit
    entry = CATALOGUE.models[name]
    kind = CATALOGUE.families[entry.family].kind
    own = CATALOGUE.default_recipe(kind, "label-words" if spec.prompt else "classification", entry.size.num_params)
    assert spec.train.learning_rate == CATALOGUE.recipe(own).train["learning_rate"]
    assert (spec.prompt is not None) == (kind == "decoder")
    examples = examples_of(spec)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "fit").mkdir()
    area = CheckpointArea(tmp_path / "checkpoints", lambda: 0)
    splits = [subsample(examples.split(split), 16, 0) for split in ("train", "validation")]
    outcome = fit(spec, *splits, tmp_path / "fit", "cpu", lambda _: None, area)
    assert (outcome.num_steps, outcome.num_validation) == (2, 16)
    assert outcome.validation["nll"] > 0 and list((tmp_path / "fit" / "adapter").glob("*.safetensors"))
