"""Check of models before anything runs: `python -m moodbench.models.check` loads each, without values, as its fit will.

Standard input has one fit spec per line, standard output gets one JSON document per model: notes for the reader, or the
error. With the argument `cuda`, the GPUs of this machine are checked first. What nobody foresaw ends the process, and
the caller reports its last line.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moodbench.errors import MoodBenchError, PrerequisiteError
from moodbench.hardware import hardware
from moodbench.models.device import check_cards
from moodbench.models.locate import weights_of
from moodbench.runtime.process import take_over_stdout
from moodbench.spec import FitSpec

PROBES = (
    "",
    "a",
    "Not bad: 9/10 \U0001f600",
    "\u4e0d\u9519 \u0e14\u0e35 \u062c\u064a\u062f na\u00efve",
    "word " * 3000,
)
"""Texts that a tokenizer must encode: nothing, a letter, emoji, other scripts, more than any model reads."""
MAX_HEADER_BYTES = 100_000_000
"""Limit of the safetensors format for its header."""


def check_model(fit: FitSpec) -> tuple[str, ...]:
    """Return what a reader of the results should know about the model of `fit`: a head that is not used, for example.

    Raises: PrerequisiteError if files are damaged or do not suit each other, the recipe or the dataset.
    """
    from moodbench.models.base import base_folder, load_classifier, load_encoder
    from moodbench.models.tokenizer import load_tokenizer

    name, folder = fit.model.name, base_folder(fit.model)
    for path in weights_of(name, folder):
        check_weights(name, path)
    tokenizer = load_tokenizer(fit, folder)
    if fit.model.method == "linear-probe":
        _check_vocabulary(name, tokenizer, load_encoder(fit, "meta"))
        _check_texts(name, tokenizer)
        return ()
    base = load_classifier(fit, 0, "meta", tokenizer=tokenizer)
    _check_vocabulary(name, tokenizer, base.model)
    if fit.lora is not None:
        from moodbench.models.adapter import check_rank, lora_targets

        check_rank(base.model, lora_targets(base.model, fit.target_modules, base.new_modules), fit.lora)
    _check_texts(name, tokenizer)
    return _head_notes(fit, folder, base.new_modules)


def check_weights(name: str, path: Path) -> None:
    """Raise PrerequisiteError if a safetensors file is not one, or is shorter or longer than its header says.

    Source: https://github.com/huggingface/safetensors#format.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        header = file.read(length) if length <= min(size, MAX_HEADER_BYTES) else b""
    try:
        tensors = {key: value for key, value in json.loads(header).items() if key != "__metadata__"}
        end = max((value["data_offsets"][1] for value in tensors.values()), default=0)
    except (ValueError, AttributeError, KeyError, TypeError, IndexError) as error:
        pointer = " (it is a pointer of Git LFS: fetch the file itself with `git lfs pull`)"
        hint = pointer if start == b"version " else ""
        raise PrerequisiteError(
            f"model {name}: {path} is not a safetensors file{hint}; get the file again, {size:,} bytes are there"
        ) from error
    if 8 + length + end != size:
        raise PrerequisiteError(
            f"model {name}: {path} has {size:,} bytes, its header says {8 + length + end:,}; get the file again"
        )


def _check_vocabulary(name: str, tokenizer: Any, model: Any) -> None:
    """Raise PrerequisiteError if the tokenizer gives ids that have no row in the model's embeddings."""
    rows = model.get_input_embeddings().weight.shape[0]
    own = tokenizer.hf.backend_tokenizer.get_vocab(with_added_tokens=False)
    used = {token: tokenizer.hf.convert_tokens_to_ids(token) for token in tokenizer.hf.all_special_tokens}
    token, largest = max({**own, **used}.items(), key=lambda each: each[1], default=("", -1))
    if largest >= rows:
        raise PrerequisiteError(
            f"model {name}: its tokenizer has token {token!r} with id {largest}, its embeddings have {rows} rows, so "
            f"ids up to {rows - 1} are allowed; get tokenizer and weights of the same model"
        )


def _check_texts(name: str, tokenizer: Any) -> None:
    """Raise PrerequisiteError if some text cannot be encoded, or is not cut at the limit."""
    kind = json.loads(tokenizer.hf.backend_tokenizer.to_str())["model"]
    unknown = kind.get("unk_token")
    lacks_word = kind.get("type") in ("WordLevel", "WordPiece") and unknown not in kind["vocab"]
    if lacks_word or (kind.get("type") == "Unigram" and kind.get("unk_id") is None and not kind.get("byte_fallback")):
        raise PrerequisiteError(
            f"model {name}: its tokenizer has no token for unknown words ({unknown!r} is not in its vocabulary), so "
            "that texts with others cannot be read; name one of its tokens as unk_token in tokenizer.json"
        )
    longest = int(tokenizer.encode(PROBES).num_tokens.max())
    if longest > tokenizer.limit:
        raise PrerequisiteError(
            f"model {name}: a text became {longest} tokens, {tokenizer.limit} is the limit; its tokenizer does not cut"
        )


def _head_notes(fit: FitSpec, folder: Path, new_modules: Sequence[str]) -> tuple[str, ...]:
    """Return a note if the checkpoint has a classifier whose classes are not those of the dataset."""
    if fit.prompt is not None:
        return ()
    architectures = json.loads((folder / "config.json").read_text("utf-8")).get("architectures") or ()
    if not any("ForSequenceClassification" in str(each) for each in architectures) or not new_modules:
        return ()
    from moodbench.models.base import stated_labels

    stated = ", ".join(stated_labels(folder) or ("unnamed",))
    return (
        f"model {fit.model.name}: the classification head of the checkpoint (classes {stated}) is replaced by a new "
        f"one for {', '.join(fit.dataset.labels)}, which is trained from random weights",
    )


def main() -> int:
    """Check the GPUs, if asked, and the models of the specs on standard input; return 0 if none is refused, else 2."""
    send, refused = take_over_stdout(), 0  # libraries must not print between the answers
    if "cuda" in sys.argv[1:]:
        import torch

        try:
            check_cards(hardware().gpus, torch.cuda.get_arch_list(), torch.__version__)
        except MoodBenchError as error:
            send({"error": str(error)})
            return 2
    for line in sys.stdin:
        fit = FitSpec.model_validate_json(line)
        try:
            answer: dict[str, Any] = {"notes": check_model(fit)}
        except MoodBenchError as error:
            answer, refused = {"error": str(error)}, 2
        send({"model": fit.model.name} | answer)
    return refused


if __name__ == "__main__":
    sys.exit(main())
