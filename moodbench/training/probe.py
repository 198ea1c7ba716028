"""Fitting of a linear probe on frozen embeddings."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from moodbench.hardware import Device
from moodbench.metrics import score_all
from moodbench.models.base import base_folder, load_encoder
from moodbench.models.encoder import PROBE_HEAD, TOKENIZER, Embedder, LinearProbe, encode_tokens
from moodbench.models.predictor import Encoded
from moodbench.models.tokenizer import load_tokenizer
from moodbench.spec import FitSpec
from moodbench.training.baselines import fit_logistic
from moodbench.training.outcome import FitOutcome, Report

BATCH = 32


def fit_probe(
    spec: FitSpec, train: pd.DataFrame, validation: pd.DataFrame, folder: Path, device: Device, report: Report
) -> FitOutcome:
    """Fit logistic regression on embeddings, select C by validation macro F1, and save the probe in `folder`."""
    from safetensors.numpy import save_file

    assert spec.probe is not None
    tokenizer = load_tokenizer(spec, base_folder(spec.model))
    encoder = load_encoder(spec)
    embedder = Embedder(encoder, tokenizer, spec.probe.pooling, device)
    started = time.perf_counter()
    vectors = _embed(embedder, encode_tokens(tokenizer, train["text"].tolist()), report)
    validation_encoded = encode_tokens(tokenizer, validation["text"].tolist())
    validation_vectors = _embed(embedder, validation_encoded, lambda _: None)
    labels = validation["label"].to_numpy()
    best: tuple[float, float, LinearProbe, dict[str, float | None], dict[str, npt.NDArray[np.float32]]] | None = None
    for c in spec.probe.inverse_regularisation:
        weight, bias = fit_logistic(vectors, train["label"].to_numpy(), c)
        if len(weight) == 1:  # two labels: scikit-learn returns only the log odds
            weight, bias = np.concatenate([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
        head = {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}
        scores = score_all(validation_vectors @ head["weight"].T + head["bias"], labels)
        f1 = scores["f1_macro"] or 0.0
        if best is None or f1 > best[0]:
            probe = LinearProbe(encoder, tokenizer, spec.probe.pooling, head["weight"], head["bias"], device)
            best = (f1, c, probe, scores, head)
    assert best is not None
    elapsed = time.perf_counter() - started
    save_file(best[4], folder / PROBE_HEAD)
    tokenizer.hf.save_pretrained(folder / TOKENIZER)
    num_head = best[4]["weight"].size + best[4]["bias"].size
    num_encoder = sum(p.numel() for p in encoder.parameters())
    return FitOutcome(
        num_encoder + num_head,
        num_head,
        len(train),
        len(validation),
        elapsed,
        len(train),
        None,
        best[3],
        {"C": best[1]},
    )


def _embed(embedder: Embedder, encoded: Encoded, report: Report) -> npt.NDArray[np.float32]:
    """Return embeddings (texts, width) in the order of `encoded`, computed in batches of similar length."""
    order = np.argsort(encoded.num_tokens, kind="stable")
    vectors: npt.NDArray[np.float32] | None = None
    num_steps = -(-len(order) // BATCH)
    for step in range(num_steps):
        rows = order[step * BATCH : (step + 1) * BATCH]
        part = embedder.embed(encoded.take(rows))
        if vectors is None:
            vectors = np.empty((len(order), part.shape[1]), dtype=np.float32)
        vectors[rows] = part
        report({"step": step + 1, "num_steps": num_steps})
    assert vectors is not None
    return vectors
