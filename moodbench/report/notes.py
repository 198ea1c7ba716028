"""Notes below the leaderboard: on its score, rank intervals, rows, training and searches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from moodbench.analysis.robustness import Robustness
from moodbench.analysis.scoring import Scoring
from moodbench.report.formatting import MARKS, NOT_TRAINED_ENOUGH, marks, milliseconds
from moodbench.statistics.all_pairs import AllPairs
from moodbench.statistics.bootstrap import FEW_TEXTS, BootstrapDraws
from moodbench.statistics.composite import CRITERIA, Weights, effective_shares, exchange_rate, latency_for_a_point
from moodbench.statistics.overall import MIXED, OVERALL
from moodbench.training.outcome import NOT_ENOUGH, longer_of, worst_training_verdict
from moodbench.tune.result import SearchResult, tuned_name

if TYPE_CHECKING:
    from moodbench.benchmark.from_store import Undertrained

LEAST_SHOWN = 5e-4
"""Smallest detectable difference that is shown; anything less would read 0.0 points."""
CHANCE = (
    "No entry is better than always giving the most frequent label (balanced accuracy above chance, one-sided at 2.5 % "
    "for all entries together), so that their order may be luck."
)
WHY = {"undertrained": "loss still falling", "chance": "validation accuracy not above the most frequent class"}
"""Training verdict to what the learning curve shows."""
OF_RECIPES = "a difference of recipes, not of models"


def robustness_notes(tested: list[Robustness]) -> list[str]:
    """Describe for each track how similar the orders are, and the smallest change of weights that moves the leader."""
    return [
        f"{_short(r.track)}: resampled weights and texts give orders with a mean Kendall tau of "
        f"{r.stability.kendall_tau:.2f} to the one shown. {_flip_text(r)}"
        for r in tested
    ]


def _flip_text(r: Robustness) -> str:
    if r.flip is None:
        return f"No weights rank another entry above {r.first}."
    if r.flip.distance < 1e-9:
        return f"{r.flip.rival} ties with {r.first}."
    before, after = r.weights.as_series().to_numpy(), r.flip.weights
    moved = ", ".join(
        f"{name} {100 * a:.1f} to {100 * b:.1f} %"
        for name, a, b in zip(CRITERIA, before, after, strict=True)
        if abs(a - b) > 5e-4
    )
    return f"Smallest change of weights that ties another entry with {r.first}: {moved} ({r.flip.rival})."


def score_notes(leaderboard: pd.DataFrame, scoring: Scoring, weights: Weights) -> list[str]:
    """Return notes on how the score of `leaderboard` is made by `scoring`.

    They give the effective share of each criterion and the worth of a point of accuracy.
    """
    if leaderboard.empty:
        return []
    scheme, composite = scoring.scheme, scoring.composite
    if scheme.utilities is None:
        return [
            "No score: rank 1 is the Pareto set of error, latency and memory, rank 2 the Pareto set of the rest, "
            "and so on."
        ]
    notes = [f"Score: {composite} ({scheme.help}), weights {rounded_shares(weights.as_series(), digits=1)}."]
    if composite == "pinned":
        notes += _pinned_notes(scoring, weights)
    shares, worth = [], []
    leaders = leaderboard[leaderboard["score"].notna()].drop_duplicates("track").set_index("track")["name"]
    for name, rows in scoring.complete.items():
        if len(rows) < 2:
            continue
        share = effective_shares(scoring.spreads[name], weights)
        if not np.isnan(share["accuracy"]):
            shares.append(f"{_short(name)} {rounded_shares(pd.Series(share), digits=0)}")
        first = rows.iloc[rows["name"].tolist().index(leaders[name])]
        spans = [float(np.ptp(rows[c].astype(float))) for c in ("accuracy", "latency_p50_s")]
        seconds = latency_for_a_point(
            composite, weights, scoring.anchors, {str(k): v for k, v in first.items()}, spans[0], spans[1]
        )
        if seconds is not None:
            worth.append(
                f"{_short(name)} {milliseconds(seconds)} ms "
                f"({first['name']}, now {milliseconds(first['latency_p50_s'])} ms)"
            )
    if shares:
        notes.append(f"Effective weights (weight x spread among the entries): {'; '.join(shares)}.")
    if worth:
        notes.append(
            f"Exchange rate: one point of accuracy offsets this much latency for the top entry: {'; '.join(worth)}."
        )
    return notes


def rounded_shares(values: pd.Series[float], digits: int) -> str:
    """Return shares that sum to 1 as percent with up to `digits` decimals that sum to 100.

    They are rounded down, and what is then missing goes to the largest remainders, a unit of the last digit each.
    """
    units = values * 100 * 10**digits
    whole = np.floor(units + 1e-9)
    missing_units = round(float(units.sum() - whole.sum()))
    whole[(units - whole).sort_values(ascending=False, kind="stable").index[:missing_units]] += 1
    return ", ".join(f"{value / 10**digits:g}% {name}" for name, value in whole.items())


def _pinned_notes(scoring: Scoring, weights: Weights) -> list[str]:
    """Return what 0 and 1 mean on each track and what a point weighs there, or that nothing is left to gain."""
    ends, rates, full = [], [], []
    anchors = scoring.anchors
    for name, zero in scoring.baselines.items():
        short = _short(name)
        tops = [1.0 if pd.isna(c) else float(c) for c in (zero["ceiling_accuracy"], zero["ceiling_f1_macro"])]
        if zero["accuracy"] >= tops[0] or zero["f1_macro"] >= tops[1]:
            full.append(f"{short} ({zero['name']} {100 * zero['accuracy']:.1f} % of {100 * tops[0]:.1f} %)")
            continue
        ends.append(f"{short} {zero['name']} {100 * zero['accuracy']:.1f} % to {100 * tops[0]:.1f} %")
        if weights.throughput + weights.latency > 0:
            spans = (tops[0] - float(zero["accuracy"]), tops[1] - float(zero["f1_macro"]))
            rates.append(f"{short} {exchange_rate(weights, anchors, *spans):.1f}x")
    notes = []
    if full:
        notes.append(
            f"No score where the baseline {anchors.baseline} already reaches the ceiling: {'; '.join(full)}. "
            "Compare accuracy and speed directly."
        )
    if ends:
        notes.append(
            f"Quality 0 is the baseline on the same data, quality 1 the agreement of two halves of the human raters "
            f"where raters are known, else 100 %. In accuracy: {'; '.join(ends)} (anchors version {anchors.version})."
        )
    if rates:
        notes.append(f"Exchange rate: one point of accuracy and F1 offsets this factor of speed: {'; '.join(rates)}.")
    return notes


def rank_notes(pairs: Mapping[str, AllPairs], draws: Mapping[str, BootstrapDraws], entries: pd.DataFrame) -> list[str]:
    """Return notes on rank intervals and groups, the noise of speed, and what the pairs of each track can show."""
    if not pairs:
        return []
    return [
        "Ranks are simultaneous 95 % rank intervals; entries that share a letter under Groups do not differ "
        "significantly in accuracy. "
        f"{_speed_sentence(draws, entries)}",
        *(f"{_short(track)}. {CHANCE}" for track, own in draws.items() if not own.beats_chance),
        *(_rare_class_sentence(track, own) for track, own in draws.items() if own.has_tiny_class),
        *(f"{_short(track)}. {effect_sentence(each)}" for track, each in pairs.items()),
    ]


def _rare_class_sentence(track: str, draws: BootstrapDraws) -> str:
    """Describe why the macro-F1 of a track with a tiny class has no interval and separates no entries."""
    texts = "1 test text" if draws.rarest_class == 1 else f"{draws.rarest_class} test texts"
    return (
        f"{_short(track)}: the rarest class has {texts}, too few to tell entries apart in macro-F1 or in that class; "
        f"macro-F1 has an interval from {FEW_TEXTS}."
    )


def _speed_sentence(draws: Mapping[str, BootstrapDraws], entries: pd.DataFrame) -> str:
    """Describe whether rank intervals and Pareto chances include the noise of speed, for measured entries."""
    timed = entries[entries["latency_p50_s"].notna()]
    measured = set(zip(timed["track"], timed["name"], strict=True))
    drawn = [
        bool(moves)
        for track, j in draws.items()
        if j.speed_noise is not None
        for name, moves in zip(j.names, np.ptp(j.speed_noise, axis=0).any(axis=1), strict=True)
        if (track, name) in measured
    ]
    if not any(drawn):
        return "Speed is taken as measured: rank intervals and Pareto probabilities ignore its noise."
    text = "Rank intervals and Pareto probabilities include the noise of speed, resampled over fresh processes"
    if all(drawn):
        return f"{text}."
    return (
        f"{text}, for {sum(drawn)} of {len(drawn)} results; "
        "the others are taken as measured (one process, or other load disturbed the clock)."
    )


def effect_sentence(each: AllPairs) -> str:
    """Describe the smallest difference that can be found and how many pairs each of two methods separates."""
    about = "these weights" if each.estimand == "checkpoint" else "retraining"
    text = "Smallest difference in accuracy detectable with 80 % power: "
    if each.one_pair < LEAST_SHOWN:
        text += "unknown, because most pairs agree on nearly all texts"
    else:
        text += f"{100 * each.one_pair:.1f} points for one pair"
        median = ""
        if each.num_pairs > 1:
            text += f", {100 * each.all_pairs:.1f} for all {each.num_pairs} at once"
            median = "median pair; "
        text += f" ({median}new texts, {about})"
    text += f". Significant pairs, all tested at once: {each.num_separated} of {each.num_pairs} by max-T"
    cross = "" if each.num_holm is None else f", {each.num_holm} by Holm on each pair's own test"
    return f"{text}{cross}."


def _short(track: str) -> str:
    return track.split(" (")[0]


def coverage_note(leaderboard: pd.DataFrame, every: Sequence[Any]) -> list[str]:
    """Return a sentence on the datasets of `every` that the overall rows of `leaderboard` omit; empty if none."""
    rows = leaderboard[leaderboard["dataset"] == OVERALL]
    if rows.empty:
        return []
    left = [str(t) for t in every if t not in rows["covers"].iloc[0]]
    if not left:
        return []
    return [
        f"Overall covers {'; '.join(rows['covers'].iloc[0])}. Omitted, for want of a baseline or of more than half "
        f"of the entries: {'; '.join(left)}."
    ]


def row_notes(leaderboard: pd.DataFrame, failures: pd.DataFrame, num_elsewhere: int) -> list[str]:
    """Return notes on marks, intervals and omitted measurements of the rows, and on failed phases."""
    if leaderboard.empty:
        return []
    notes = []
    if leaderboard["provisional"].any():
        notes.append(
            "* Other load disturbed the clock: these scores use CPU time and are provisional. They have no rank beside "
            "undisturbed ones; if all are disturbed, ranks are in brackets. Measure again on a quiet machine."
        )
    flags = ("verdict", "provisional", "slow_machine", "quick", "trivial", "on_all")
    given = [column for column in flags if column in leaderboard]
    kinds = leaderboard[given].drop_duplicates()  # few, and a slider of the page waits for this
    found = {mark for _, row in kinds.iterrows() for mark in marks(row)}
    for mark in ("quick", "not steady", "slow machine", "unknown", "invalid", "trivial", "partial"):
        if mark in found:
            notes.append(f"({mark}): {MARKS[mark]}.")
    if (leaderboard["num_seeds"] == 1).any():
        notes.append("One seed: intervals cover new texts with these weights, not retraining.")
    if (leaderboard["estimand"] == "recipe").any():
        notes.append("Several seeds: intervals cover retraining the recipe and new texts.")
    pooled = leaderboard["interval_method"].astype("string").str.contains("moderated", na=False)
    if (pooled & (leaderboard["num_seeds"] == 2)).any():
        notes.append(
            "Two seeds may hide that an entry is far less steady than the others of its method, with which its "
            "variance between seeds is pooled; its interval is then too narrow."
        )
    if (leaderboard["estimand"] == MIXED).any():
        notes.append(
            "Mixed: the overall interval combines datasets with one seed (these weights) and with several (retraining)."
        )
    if ((leaderboard["num_seeds"] > 1) & leaderboard["interval_method"].isna()).any():
        notes.append("No interval: the variance over several seeds and texts needs their stored predictions.")
    if num_elsewhere:
        notes.append(f"{num_elsewhere} measurements on other machine types are not shown: speeds are not comparable.")
    if len(failures):
        notes.append(f"{len(failures)} phases failed; see the list below.")
    return notes


def verdict_text(verdict: str, num_steps: int) -> str:
    """Return a verdict with its reason, such as undertrained (38 steps, loss still falling)."""
    return f"{NOT_TRAINED_ENOUGH[verdict]} ({num_steps:,} steps, {WHY[verdict]})"


def training_notes(leaderboard: pd.DataFrame, fits: pd.DataFrame) -> list[str]:
    """Return a note on the rows not trained enough, with what to do, and one on the over-fitted rows."""
    if leaderboard.empty or "training_verdict" not in leaderboard:
        return []
    rows = leaderboard[leaderboard["dataset"] != OVERALL]
    short, over = rows[rows["training_verdict"].isin(NOT_ENOUGH)], rows[rows["training_verdict"] == "overfitted"]
    notes = []
    if len(short):
        listed = "; ".join(_row_text(row, fits) for _, row in short.iterrows())
        notes.append(f"Not trained enough: {listed}. A lower rank or group of such an entry shows {OF_RECIPES}.")
    if len(over):
        listed = ", ".join(f"{row['name']} on {row['dataset']}" for _, row in over.iterrows())
        notes.append(
            f"Overfitted at the end: {listed}. "
            "Validation scores fell after the best checkpoint, which is the one evaluated."
        )
    return notes


def undertrained_text(found: Undertrained, command: str | None) -> str:
    """Return a model's verdict after a run, with the `command` that trains it longer.

    Without such a command (None), it advises another learning rate.
    """
    text = f"{found.model} on {found.dataset}: {verdict_text(found.verdict, found.num_steps)}; "
    if found.suggested is None or command is None:
        return f"{text}epochs are at their maximum; change the learning rate, as in --train learning_rate=1e-3."
    other = " (or change learning_rate or patience with --train)" if found.verdict == "chance" else ""
    return f"{text}train longer (epochs {found.epochs:g} to {found.suggested.epochs:g}){other}: {command}"


def recipes_text(names: Sequence[str]) -> str:
    """Return the sentence that a difference is one of recipes, because the models `names` were not trained enough."""
    be = "was" if len(names) == 1 else "were"
    return f"{' and '.join(names)} {be} not trained enough: this is {OF_RECIPES}"


def not_trained_enough(rows: pd.DataFrame) -> list[str]:
    """Return the names of the `rows` that were not trained enough."""
    if "training_verdict" not in rows:
        return []
    return [str(name) for name in rows.loc[rows["training_verdict"].isin(NOT_ENOUGH), "name"]]


def _row_text(row: pd.Series[Any], fits: pd.DataFrame) -> str:
    """Return a leaderboard row with its verdict and the command that trains it longer, where the store knows one."""
    own = fits[fits["fit_id"].isin(row["fit_ids"]) & fits["training_verdict"].isin(NOT_ENOUGH)]
    verdict = worst_training_verdict(own["training_verdict"])
    assert verdict is not None
    text = f"{row['name']} on {row['dataset']}: {verdict_text(verdict, int(own['num_steps'].max()))}"
    proposed = [train.epochs for record in own.to_dict("records") if (train := longer_of(record)) is not None]
    if not proposed:
        return text
    return (
        f"{text}; train longer: moodbench run ... --models {row['model']} --train epochs={max(proposed):g} "
        "--retrain undertrained"
    )


def search_notes(shown: Iterable[tuple[str, str, str]], searches: Sequence[SearchResult]) -> list[str]:
    """Return a sentence per tuned model in `shown`, triples of model, dataset and recipe id, in their order.

    Every recorded search of a model on its dataset counts, as the user has seen the outcome of all of them. So does
    every recipe that was tested under its name, as each raises the chance that one looks better by luck.
    """
    recipes: dict[tuple[str, str], set[str]] = {}
    for name, dataset, config_id in shown:
        recipes.setdefault((name, dataset), set()).add(config_id)
    notes = []
    for (name, dataset), tested in recipes.items():
        own = next((s for s in searches if name == tuned_name(s.model, s.search_id) and s.dataset == dataset), None)
        if own is None:
            continue
        behind = [s for s in searches if (s.model, s.dataset) == (own.model, own.dataset)]
        trials = [t for s in behind for t in s.trials]
        num = f"{len(behind)} search{'es' if len(behind) > 1 else ''} of {', '.join(sorted({s.space for s in behind}))}"
        texts, seconds = sum(t.texts_trained for t in trials), sum(t.train_time_s for t in trials)
        stays = own.best is not None and own.best.fit_id == own.default_fit_id
        how = "is the best after the default recipe, which remains the pick, of" if stays else "was chosen from"
        notes.append(
            f"{name} on {dataset} {how} {len(trials)} configurations ({num}, validation split): "
            f"{texts:,} texts trained in {seconds / 60:.1f} min of trials, beside its own training time."
            + (
                f" {len(tested)} configurations were tested under this name, so the best of them may be so by luck."
                if len(tested) > 1
                else ""
            )
        )
    return notes
