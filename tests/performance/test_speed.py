"""MoodBench beside what one would write by hand with transformers: ratios of time in one process, ours to theirs.

`uv run pytest -n 0 -s -m performance tests/performance/test_speed.py`; MOODBENCH_REPEATS=5 repeats more often. Both sides take
turns on the same model, LoRA, texts and number of steps. A ratio below 1 means that MoodBench is faster. Nothing is
asserted about time; that both sides compute the same is.
"""

import os
import statistics
import time
from contextlib import contextmanager

import numpy as np
import pytest

from moodbench.benchmark.resolve import resolve
from moodbench.config import load_catalogue
from moodbench.data.examples import subsample
from moodbench.hardware import hardware
from moodbench.models.adapter import add_lora
from moodbench.models.base import base_folder, load_classifier
from moodbench.models.device import prepare_torch
from moodbench.models.predictor import predict_texts
from moodbench.models.tokenizer import Tokenizer
from moodbench.models.transformer import TransformerClassifier
from moodbench.spec import BenchmarkSpec
from moodbench.spec.fit_schedule import schedule_of, steps_of
from moodbench.training.checkpoints import CheckpointArea
from moodbench.training.fine_tuning import training_arguments
from moodbench.training.fitting import fit
from moodbench.trial import examples_of

pytestmark = [
    pytest.mark.performance,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
REPEATS = int(os.environ.get("MOODBENCH_REPEATS", "3"))
NUM_TRAIN, NUM_TEXTS, BATCH = 256, 512, 32


@pytest.fixture(scope="module")
def entry():
    """The resolved fit of MiniLM-L3 on sentences of very different lengths, and its texts."""
    request = BenchmarkSpec(
        models=("MiniLM-L3",),
        datasets=("icwsm-movie",),
        max_train_examples=NUM_TRAIN,
        train={"epochs": 1, "evaluations_per_epoch": 1},
    )
    spec = next(t.fit for t in resolve(request, load_catalogue(), hardware()) if t.fit.model.name == "MiniLM-L3")
    examples = examples_of(spec)
    prepare_torch(hardware().num_cores)
    train, validation = subsample(examples.split("train"), NUM_TRAIN, 0), subsample(examples.split("validation"), 64, 0)
    return spec, train, validation, examples.split("test")["text"].tolist()[:NUM_TEXTS]


@contextmanager
def timed(into):
    began = time.perf_counter()
    yield
    into.append(time.perf_counter() - began)


def say(what, ours, theirs):
    """Prints the ratio of medians with its repetitions and their spread."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    print(
        f"\n{what}: ours/theirs {statistics.median(ours) / statistics.median(theirs):.3f} "
        f"({len(ratios)} repetitions: {', '.join(f'{r:.3f}' for r in ratios)}; ours {statistics.median(ours):.2f} s, "
        f"theirs {statistics.median(theirs):.2f} s; load average {os.getloadavg()[0]:.2f})"
    )


def plain_fit(spec, train, validation, folder, padding):
    """A script such as tutorials show: tokenised and padded to 128 or by the dynamic collator, then Trainer.train()."""
    from datasets import Dataset
    from transformers import AutoTokenizer, DataCollatorWithPadding, Trainer

    tokenizer = AutoTokenizer.from_pretrained(base_folder(spec.model))
    cut = {"truncation": True, "max_length": 128} | ({"padding": "max_length"} if padding == "to 128" else {})
    sets = [
        Dataset.from_dict(
            {**tokenizer(rows["text"].tolist(), **cut), "labels": [int(label) for label in rows["label"]]}
        )
        for rows in (train, validation)
    ]
    model = add_lora(load_classifier(spec, 0), spec.lora, spec.target_modules)
    schedule = schedule_of(spec.train, len(train), len(validation))
    arguments = training_arguments(spec.train, schedule, 0, 0, "cpu", folder)
    arguments.metric_for_best_model, arguments.greater_is_better = "eval_loss", False
    collator = DataCollatorWithPadding(tokenizer)
    trainer = Trainer(model=model, args=arguments, train_dataset=sets[0], eval_dataset=sets[1], data_collator=collator)
    trainer.train()
    return trainer.state.global_step


@pytest.mark.parametrize("padding", ["to 128", "dynamically"])
def test_fine_tuning_beside_a_plain_trainer(entry, padding, tmp_path):
    spec, train, validation, _ = entry
    ours, theirs = [], []
    for repetition in range(REPEATS + 1):  # the first fills caches and is left out
        folder = tmp_path / f"{repetition}"
        for name in ("plain", "area", "artifact"):
            (folder / name).mkdir(parents=True)
        with timed(theirs):
            steps = plain_fit(spec, train, validation, folder / "plain", padding)
        area = CheckpointArea(folder / "area", lambda: 0)
        with timed(ours):
            outcome = fit(spec, train, validation, folder / "artifact", "cpu", lambda _: None, area)
        assert outcome.num_texts_trained == steps_of(spec.train, len(train)).texts_at(steps), (
            "both sides train as many steps"
        )
    say(f"fine-tuning, theirs padded {padding}", ours[1:], theirs[1:])


def hand_written(model, tokenizer, texts):
    """Logits by the loop one writes by hand: sorted by length, padded batch by batch, in the order of `texts`."""
    import torch

    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    logits = np.empty((len(texts), model.config.num_labels), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            batch = tokenizer(
                [texts[i] for i in rows], padding=True, truncation=True, max_length=256, return_tensors="pt"
            )
            logits[rows] = model(**batch).logits.numpy()
    return logits


@pytest.mark.parametrize("other", ["pipeline(batch_size=32)", "a loop sorted by length"])
def test_inference_beside(entry, other):
    from transformers import AutoTokenizer, pipeline

    spec, _, _, texts = entry
    tokenizer = AutoTokenizer.from_pretrained(base_folder(spec.model))
    model = load_classifier(spec, 0).model.eval()
    predictor = TransformerClassifier(model, Tokenizer.load(base_folder(spec.model), spec.text), "cpu")
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None, device="cpu")
    ours, theirs = [], []
    for _ in range(REPEATS + 1):
        with timed(theirs):
            if other.startswith("pipeline"):
                found = classify(texts, batch_size=BATCH, truncation=True, max_length=256, function_to_apply="none")
            else:
                expected = hand_written(model, tokenizer, texts)
        with timed(ours):
            logits, _ = predict_texts(predictor, texts, BATCH)
    if other.startswith("pipeline"):
        names = list(spec.dataset.labels)
        expected = np.array([[next(e["score"] for e in row if e["label"] == n) for n in names] for row in found])
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    say(f"inference of {len(texts)} texts beside {other}", ours[1:], theirs[1:])
