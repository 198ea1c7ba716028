"""A GGUF file of a random llama with 2 layers and a byte-level tokenizer, made with the gguf library's writer."""

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quants
from transformers.convert_slow_tokenizer import bytes_to_unicode

NUM_LAYERS, WIDTH, INNER, NUM_HEADS, NUM_KEY_VALUE_HEADS = 2, 64, 96, 4, 2
HEAD_DIM = WIDTH // NUM_HEADS
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TOKENS = [*SPECIAL, *bytes_to_unicode().values(), "ĠĠ"]
Q4_1, F32 = GGMLQuantizationType.Q4_1, GGMLQuantizationType.F32


def permuted_rows(num_heads: int) -> np.ndarray:
    """Row of transformers' query or key weights that each row of llama.cpp's is: halves of a head become neighbours."""
    order = [
        h * HEAD_DIM + half * HEAD_DIM // 2 + i
        for h in range(num_heads)
        for i in range(HEAD_DIM // 2)
        for half in (0, 1)
    ]
    return np.array(order)


def random_weights(seed: int = 0) -> dict[str, np.ndarray]:
    """GGUF name -> values as transformers orders them."""
    rng = np.random.default_rng(seed)
    keys = NUM_KEY_VALUE_HEADS * HEAD_DIM
    shapes = {"attn_q": (WIDTH, WIDTH), "attn_k": (keys, WIDTH), "attn_v": (keys, WIDTH), "attn_output": (WIDTH, WIDTH),
              "ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH), "ffn_down": (WIDTH, INNER),
              "attn_norm": (WIDTH,), "ffn_norm": (WIDTH,)}  # fmt: skip
    names = {f"blk.{i}.{name}.weight": shape for i in range(NUM_LAYERS) for name, shape in shapes.items()}
    names |= {"token_embd.weight": (len(TOKENS), WIDTH), "output_norm.weight": (WIDTH,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in names.items()}


def as_stored(name: str, values: np.ndarray) -> tuple[np.ndarray, GGMLQuantizationType]:
    """The values of one tensor as llama.cpp's converter writes them: matrices of layers in 4 bits, queries and keys permuted."""
    if "attn_q." in name or "attn_k." in name:
        values = values[permuted_rows(NUM_HEADS if "attn_q." in name else NUM_KEY_VALUE_HEADS)]
    return (quants.quantize(values, Q4_1), Q4_1) if name.startswith("blk") and values.ndim == 2 else (values, F32)


def write_gguf(path: Path, *, architecture: str = "llama", without: str = "", seed: int = 0) -> Path:
    """`path`, after writing the file there; a tensor can be left out."""
    writer = GGUFWriter(path, architecture)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(NUM_LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(NUM_HEADS)
    writer.add_head_count_kv(NUM_KEY_VALUE_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([TokenType.CONTROL] * len(SPECIAL) + [TokenType.NORMAL] * (len(TOKENS) - len(SPECIAL)))
    writer.add_token_merges(["Ġ Ġ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, values in random_weights(seed).items():
        if name != without:
            data, kind = as_stored(name, values)
            writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
