"""Folders that state their vocabulary in another way than tokenizer.json: read as their makers meant, and part of the digest."""

import json
from itertools import pairwise

import numpy as np
import pytest
from test_families import TEST, fit_once, spec_for
from tiny_models import WORDS, save_checkpoint

from moodbench.config import load_catalogue
from moodbench.config.schema import ModelSource
from moodbench.errors import PrerequisiteError
from moodbench.models.locate import locate
from moodbench.models.predictor import load_predictor, predict_texts
from moodbench.models.tokenizer import Tokenizer

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
SENTENCES = [f"good bad {' '.join(WORDS)}", *(f"{a} good {b} bad" for a, b in pairwise(WORDS))]
SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
TEXT = load_catalogue().training.text.model_copy(update={"max_length": 32})


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def without_tokenizer(folder, family, **changes):
    """The checkpoint of a family with no file of a tokenizer."""
    save_checkpoint(folder, family, decoder=family == "gpt2", **changes)
    for path in folder.iterdir():
        if "token" in path.name or path.name in ("vocab.json", "merges.txt"):
            path.unlink()


def train_sentencepiece(path, **more):
    """A unigram model with the special pieces and ids that DeBERTa-v3 has."""
    import sentencepiece

    ids = {f"{role}_id": i for i, role in enumerate(("pad", "bos", "eos", "unk"))}
    pieces = {f"{role}_piece": piece for role, piece in zip(("pad", "bos", "eos", "unk"), SPECIAL, strict=True)}
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(SENTENCES * 5), model_writer=file, vocab_size=60, model_type="unigram",
            hard_vocab_limit=False, minloglevel=2, **ids, **pieces, **more,
        )  # fmt: skip


@pytest.fixture(scope="module")
def deberta(tmp_path_factory):
    """A DeBERTa-v2 checkpoint as the microsoft/deberta-v3 repositories are: spm.model and a bare tokenizer_config.json."""
    folder = tmp_path_factory.mktemp("deberta")
    without_tokenizer(folder, "deberta-v2", vocab_size=80)
    train_sentencepiece(folder / "spm.model")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False, "vocab_type": "spm"}))
    return folder


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """A GPT-2 checkpoint with vocab.json and merges.txt only."""
    from tokenizers import ByteLevelBPETokenizer

    folder = tmp_path_factory.mktemp("gpt2")
    without_tokenizer(folder, "gpt2", vocab_size=420)
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        SENTENCES * 3, vocab_size=400, min_frequency=1, show_progress=False, special_tokens=["<|endoftext|>"]
    )
    trained.save_model(str(folder))
    return folder


def test_a_folder_with_only_a_sentencepiece_model_splits_texts_as_sentencepiece_does(deberta):
    import sentencepiece

    plain = sentencepiece.SentencePieceProcessor(model_file=str(deberta / "spm.model"))
    ours = Tokenizer.load(deberta, TEXT)
    for text in ("w3 good w17", "bad w1 w2", "good"):
        (found,) = ours.encode([text]).inputs
        assert found[1:-1] == plain.encode(text)
        assert [found[0], found[-1]] == [plain.bos_id(), plain.eos_id()]
    assert ours.pad_id == plain.pad_id()


def test_a_folder_with_only_vocab_and_merges_splits_texts_as_byte_level_bpe_does(gpt2):
    from tokenizers import ByteLevelBPETokenizer

    plain = ByteLevelBPETokenizer(str(gpt2 / "vocab.json"), str(gpt2 / "merges.txt"))
    found = Tokenizer.load(gpt2, TEXT).encode(["w3 good w17", "bad w1 w2"])
    assert found.inputs == [plain.encode(text).ids for text in ("w3 good w17", "bad w1 w2")]


@pytest.mark.parametrize("family", ["deberta-v2", "gpt2"])
def test_such_a_model_learns_and_its_fit_answers_alike_when_loaded_again(request, tmp_path, family):
    folder = request.getfixturevalue(family.partition("-")[0])
    (tmp_path / "artifact").mkdir()
    spec = spec_for(folder, family, "none")
    outcome = fit_once(spec, tmp_path / "artifact")
    losses = [point.loss for point in outcome.curve if point.loss is not None]
    assert np.mean(losses[-6:]) < 0.9 * np.mean(losses[:6])
    texts = TEST["text"].tolist()
    saved = Tokenizer.load(tmp_path / "artifact" / "tokenizer", TEXT)
    assert saved.encode(texts).inputs == Tokenizer.load(folder, TEXT).encode(texts).inputs
    assert np.isfinite(predict_texts(load_predictor(spec, tmp_path / "artifact", "merged", "cpu"), texts, 8)[0]).all()


def digest(folder):
    return locate("mine", ModelSource(path=str(folder))).tokenizer_sha256


@pytest.mark.parametrize(
    ("fixture", "file"), [("deberta", "spm.model"), ("gpt2", "vocab.json"), ("gpt2", "merges.txt")]
)
def test_another_vocabulary_is_another_tokenizer(request, fixture, file):
    folder = request.getfixturevalue(fixture)
    before, path = digest(folder), folder / file
    held = path.read_bytes()
    path.write_bytes(held + b"\n")
    try:
        assert digest(folder) != before
    finally:
        path.write_bytes(held)
    assert digest(folder) == before


def test_where_tokenizer_json_is_its_digest_and_so_the_ids_of_fits_stay_what_they_were(tmp_path):
    save_checkpoint(tmp_path, "bert", decoder=False)
    before = digest(tmp_path)
    for unread in ("vocab.json", "spm.model", "spiece.model", "tokenizer.model"):
        (tmp_path / unread).write_bytes(b"{}")
    assert digest(tmp_path) == before
    (tmp_path / "added_tokens.json").write_text(json.dumps({"[NEW]": 30}))
    assert digest(tmp_path) != before, "these are read beside tokenizer.json"


def test_a_folder_without_any_vocabulary_is_refused_with_what_could_be_there(tmp_path):
    save_checkpoint(tmp_path, "bert", decoder=False)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(
        PrerequisiteError, match=r"no tokenizer files in .*; expected tokenizer.json, or one of .*spm.model"
    ):
        digest(tmp_path)
