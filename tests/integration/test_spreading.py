"""Layers of a model on several GPUs: which goes where, from shapes alone."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodbench.models.device import empty_model, is_dispatched, layer_device_map, split
from moodbench.schedule.resources import EVENNESS

pytestmark = pytest.mark.integration

SHAPES = {
    "bert": {"num_hidden_layers": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16},
    "qwen2": {"num_hidden_layers": 24, "hidden_size": 896, "intermediate_size": 4864, "num_attention_heads": 14,
              "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True},
    "llama": {"num_hidden_layers": 22, "hidden_size": 2048, "intermediate_size": 5632, "num_attention_heads": 32},
    "gpt2": {"n_layer": 24, "n_embd": 1024, "n_head": 16},
}  # fmt: skip


@given(st.lists(st.integers(0, 30), min_size=1, max_size=9), st.integers(1, 4))
def test_no_split_into_neighbours_has_a_smaller_largest_group(sizes, num_groups):
    groups = split(sizes, num_groups)
    assert groups == sorted(groups) and groups[0] == 0 and groups[-1] < num_groups

    def largest(cuts):
        edges = [0, *cuts, len(sizes)]
        return max(sum(sizes[a:b]) for a, b in itertools.pairwise(edges))

    every = itertools.combinations_with_replacement(range(len(sizes) + 1), num_groups - 1)
    held = [sum(size for size, group in zip(sizes, groups, strict=True) if group == g) for g in range(num_groups)]
    assert max(held) == min(map(largest, every))


@pytest.fixture(scope="module", params=SHAPES)
def model(request):
    from transformers import AutoConfig, AutoModelForSequenceClassification

    return empty_model(
        AutoModelForSequenceClassification, AutoConfig.for_model(request.param, num_labels=3, **SHAPES[request.param])
    )


@pytest.mark.parametrize("num_gpus", [2, 3, 4])
def test_every_parameter_has_one_gpu_layers_are_whole_and_the_fullest_has_what_the_schedule_counts_on(model, num_gpus):
    places = layer_device_map(model, num_gpus)
    held = dict.fromkeys(range(num_gpus), 0)
    of_layer = {}
    for name, parameter in model.named_parameters():
        (owner,) = [part for part in places if name.startswith(f"{part}.")]
        held[places[owner]] += parameter.numel()
        layer = next((name[: name.index(f".{part}.")] + part for part in name.split(".") if part.isdigit()), name)
        of_layer.setdefault(layer, set()).add(places[owner])
    assert all(len(gpus) == 1 for gpus in of_layer.values())
    assert list(places.values()) == sorted(places.values()), "neighbours stay together"
    assert max(held.values()) <= sum(held.values()) / (EVENNESS * num_gpus)


def test_a_model_on_one_device_is_not_spread(model):
    assert not is_dispatched(model)
    model.hf_device_map = {"": "cpu"}
    assert not is_dispatched(model)
    model.hf_device_map = {"a": 0, "b": 1}
    assert is_dispatched(model)
    del model.hf_device_map
