"""Batches with little padding: parts by length of a random batch, and batches of similar length in an order without bias."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodbench.training.batches import MAX_PARTS, LengthBuckets, longest_first, parts_by_length

LENGTHS = np.random.default_rng(0).integers(3, 60, 1003)


def epoch(sampler, number):
    sampler.set_epoch(number)
    return list(sampler)


def batches(order, size=32):
    return [LENGTHS[order[i : i + size]] for i in range(0, len(order), size)]


def padded(parts):
    return sum(part.max() * len(part) for part in parts) / LENGTHS.sum()


@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=300), st.integers(1, 64), st.integers(0, 5), st.integers(0, 9)
)
def test_every_text_comes_once_an_epoch(lengths, batch_size, seed, number):
    order = epoch(LengthBuckets(lengths, batch_size, seed), number)
    assert sorted(order) == list(range(len(lengths))) and len(LengthBuckets(lengths, batch_size, seed)) == len(lengths)


def test_an_epoch_follows_from_the_seed_and_its_number_alone():
    one, other = LengthBuckets(LENGTHS, 32, 7), LengthBuckets(LENGTHS, 32, 7)
    first = epoch(one, 0)
    epoch(other, 3)
    assert epoch(other, 0) == first and list(other) == first
    orders = {tuple(epoch(LengthBuckets(LENGTHS, 32, seed), number)) for seed in range(3) for number in range(3)}
    assert len(orders) == 9, "no epoch of a seed is that of another"


def test_little_is_padded():
    rng = np.random.default_rng(1)
    for number in range(3):
        assert padded(batches(epoch(LengthBuckets(LENGTHS, 32, 0), number))) < 1.15
        assert padded(batches(rng.permutation(len(LENGTHS)))) > 1.7


def test_the_order_of_batches_says_nothing_about_their_length():
    def correlation(number):
        means = [part.mean() for part in batches(epoch(LengthBuckets(LENGTHS, 32, 0), number))[:-1]]
        return np.corrcoef(means[:-1], means[1:])[0, 1], np.corrcoef(range(len(means)), means)[0, 1]

    found = np.array([correlation(number) for number in range(200)])
    # 31 batches an epoch: standard deviations of about 0.18, of the mean over 200 epochs 0.013; sampling without putting
    # back makes neighbours differ by 1 / 30.
    assert found.mean(axis=0) == pytest.approx([-1 / 30, 0], abs=0.05)


def test_the_last_short_batch_is_drawn_at_random():
    last = [LENGTHS[epoch(LengthBuckets(LENGTHS, 32, 0), number)[-(1003 % 32) :]].mean() for number in range(200)]
    assert np.mean(last) == pytest.approx(LENGTHS.mean(), abs=1.5)  # 11 texts of deviation 16.4, 200 times: 0.35


def test_texts_of_one_length_are_in_random_order():
    order = np.array(epoch(LengthBuckets(np.full(512, 9), 32, 0), 0))
    assert abs(np.corrcoef(order, np.arange(512))[0, 1]) < 0.2


def test_validation_goes_from_the_longest_text_to_the_shortest():
    assert longest_first([3, 9, 3, 5]) == [1, 3, 0, 2]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("num_texts", [1, 5, 31, 32])
def test_the_parts_of_a_batch_hold_its_texts_with_less_padding(side, num_texts):
    import torch

    rng = np.random.default_rng(num_texts)
    lengths = rng.integers(3, 90, num_texts)
    width = lengths.max()
    columns = np.arange(width) if side == "right" else np.arange(width)[::-1]
    mask = torch.tensor((columns < lengths[:, None]).astype(int))
    ids = torch.tensor(rng.integers(5, 999, (num_texts, width))) * mask
    parts = parts_by_length({"input_ids": ids, "attention_mask": mask, "labels": torch.arange(num_texts)})
    assert len(parts) == min(MAX_PARTS, num_texts, ids.numel() // 256 or 1)
    assert sorted(torch.cat([part["labels"] for part in parts]).tolist()) == list(range(num_texts))
    for part in parts:
        assert part["attention_mask"].shape[1] == part["attention_mask"].sum(1).max(), "no column is padding alone"
        for row, own, label in zip(part["input_ids"], part["attention_mask"], part["labels"], strict=True):
            assert row[own == 1].tolist() == ids[label][mask[label] == 1].tolist()
    if len(parts) > 1:
        assert sum(part["input_ids"].numel() for part in parts) < 0.8 * ids.numel()
