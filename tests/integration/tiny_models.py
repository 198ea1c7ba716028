"""Tiny random checkpoints of every family, with a tokenizer of their own, and texts that can be learned."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

WORDS = [f"w{i}" for i in range(20)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
VOCABULARY = [*SPECIAL, "good", "bad", *WORDS]
"""The models hold some more, as tokenizer classes of some families add special tokens of their own."""
ENCODER = {
    "vocab_size": len(VOCABULARY) + 6, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 64, "pad_token_id": 0,
    "initializer_range": 0.2,
}  # fmt: skip
DECODER = ENCODER | {"bos_token_id": 2, "eos_token_id": 3}
SHARED = DECODER | {"num_key_value_heads": 2}
SLIDING = SHARED | {"head_dim": 8, "sliding_window": 16}
MARKS = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
CONFIGURATIONS = {
    "bert": ENCODER,
    "electra": ENCODER | {"embedding_size": 16},
    "distilbert": {
        "vocab_size": len(VOCABULARY) + 6, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64,
        "max_position_embeddings": 64, "pad_token_id": 0,
    },
    "roberta": ENCODER | {"type_vocab_size": 1},
    "deberta-v2": ENCODER | {
        "relative_attention": True, "position_buckets": 16, "norm_rel_ebd": "layer_norm", "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "type_vocab_size": 0, "pooler_hidden_size": 32,
    },
    "albert": ENCODER | {"embedding_size": 16},
    "mobilebert": ENCODER | {
        "embedding_size": 16, "intra_bottleneck_size": 16, "num_feedforward_networks": 2, "true_hidden_size": 16,
    },
    "mpnet": ENCODER,
    "modernbert": ENCODER | MARKS | {"global_attn_every_n_layers": 2},
    "eurobert": DECODER | {"num_key_value_heads": 4},
    "gpt2": {
        "vocab_size": len(VOCABULARY) + 6, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 64, "n_positions": 64,
        "bos_token_id": 2, "eos_token_id": 3,
    },
    "gpt_neox": DECODER,
    "llama": SHARED,
    "qwen2": SHARED | {"vocab_size": 320},
    "qwen3": SHARED | {"head_dim": 8},
    "qwen3_5_text": SHARED | {
        "head_dim": 8, "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2,
        "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    },
    "gemma2": SLIDING,
    "gemma3_text": SLIDING,
    "phi3": SHARED,
    "smollm3": SHARED,
    "opt": {
        "vocab_size": len(VOCABULARY) + 6, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 64,
        "max_position_embeddings": 64, "word_embed_proj_dim": 32, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
    },
    "modernbert-decoder": ENCODER | MARKS,
}  # fmt: skip
"""Model type -> the arguments of a tiny configuration."""


def save_tokenizer(folder: Path, *, decoder: bool) -> None:
    """Nothing; writes a word tokenizer: encoders get [CLS] and [SEP] around the text, decoders no pad token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if decoder:
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=made, unk_token="[UNK]", bos_token="[CLS]", eos_token="[SEP]"
        )
    else:
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
            mask_token="[MASK]",
        )  # fmt: skip
    tokenizer.model_max_length = 32
    tokenizer.save_pretrained(folder)


def save_byte_tokenizer(folder: Path) -> None:
    """Nothing; writes a byte-level BPE tokenizer without pad token of its own."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import Qwen2Tokenizer

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        ["good bad " + " ".join(WORDS)] * 3, vocab_size=300, min_frequency=1, show_progress=False
    )
    vocabulary, merges = (folder / "vocab.json", folder / "merges.txt")
    trained.save_model(str(folder))
    tokenizer = Qwen2Tokenizer(vocab=str(vocabulary), merges=str(merges))
    tokenizer.model_max_length = 32
    tokenizer.save_pretrained(folder)


def save_checkpoint(folder: Path, model_type: str, *, decoder: bool, auto: str = "AutoModel", **changes) -> None:
    """Write a tiny random model that the class `auto` of transformers makes, and its tokenizer."""
    import torch
    import transformers
    from transformers import AutoConfig

    torch.manual_seed(1)
    model = getattr(transformers, auto).from_config(
        AutoConfig.for_model(model_type, **CONFIGURATIONS[model_type] | changes)
    )
    model.save_pretrained(folder)
    if model_type == "qwen2":  # transformers takes this family's own tokenizer class, which reads byte-level BPE only
        save_byte_tokenizer(folder)
    else:
        save_tokenizer(folder, decoder=decoder)


def rows(num: int, seed: int) -> pd.DataFrame:
    """Texts of 3 to 12 words of which one is `good` or `bad`, that being the label."""
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for _ in range(num):
        words = rng.choice(WORDS, rng.integers(2, 12)).tolist()
        label = int(rng.integers(2))
        words.insert(int(rng.integers(len(words) + 1)), ("bad", "good")[label])
        texts.append(" ".join(words))
        labels.append(label)
    ids = [f"{seed:016x}{i:016x}" for i in range(num)]
    return pd.DataFrame({"example_id": ids, "text": texts, "label": labels})


def selected_cases(request):
    """Return the values of parameter `case` among the tests of the module of `request` that this session runs."""
    items = (item for item in request.session.items if item.path == request.path and hasattr(item, "callspec"))
    return {item.callspec.params["case"] for item in items if "case" in item.callspec.params}


RELOAD = """
import json, sys
from pathlib import Path
import numpy as np
import torch
from moodbench.models.predictor import load_predictor
from moodbench.models.predictor import predict_texts
from moodbench.spec import FitSpec
torch.set_num_threads(1)
for line in sys.stdin:
    job = json.loads(line)
    spec = FitSpec.model_validate(job["spec"])
    predictor = load_predictor(spec, Path(job["artifact"]), "as_trained", "cpu")
    np.save(job["out"], predict_texts(predictor, job["texts"], 8)[0])
"""


def reload_in_a_new_process(fits, texts):
    """Write logits.npy beside each artifact of `fits` (spec, artifact, outcome): what a new process predicts of `texts`.

    With one thread: sums of two differ in their last bits.
    """
    jobs = [
        {"spec": spec.model_dump(mode="json"), "artifact": str(artifact), "out": str(artifact / "logits.npy"), "texts": texts}
        for spec, artifact, _ in fits
    ]  # fmt: skip
    given = "\n".join(map(json.dumps, jobs))
    done = subprocess.run(
        [sys.executable, "-c", RELOAD], input=given, text=True, capture_output=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
