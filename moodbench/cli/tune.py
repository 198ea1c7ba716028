"""`moodbench tune`: search LoRA hyper-parameters on validation, and confirm the pick on test.

The confirmation trains the pick and the default recipe with the registered seeds and compares them. If the default is
the pick, the best of the other configurations is compared with it, so that the benefit of the search is shown either
way.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.console import Console

from moodbench.analysis.pairwise import compare_models
from moodbench.benchmark.context import RunContext
from moodbench.benchmark.estimates import class_here
from moodbench.benchmark.preflight import check_models
from moodbench.benchmark.target import ClusterTarget
from moodbench.cli.leaderboard import output
from moodbench.cli.options import DATA, TRAINING, add_options, spec_of_one
from moodbench.cli.running import carry_out, exit_code_of_run, open_context
from moodbench.config import load_catalogue
from moodbench.config.search_space import MIN_TRAINING_SEED
from moodbench.config.space_file import available_spaces
from moodbench.config.yaml_files import with_entry
from moodbench.errors import INTERRUPTED, UsageError
from moodbench.paths import write_output
from moodbench.report.leaderboard_view import view_leaderboard
from moodbench.report.report import write_search_page
from moodbench.report.search import budget_warning, describe_pick, search_sentences, shown
from moodbench.report.tables import pair_sentence
from moodbench.report.terminal import make_console
from moodbench.spec import BenchmarkSpec, TrialSpec
from moodbench.store import Store
from moodbench.tune.request import budget_seconds, make_search
from moodbench.tune.result import (
    challenger,
    evaluated,
    search_result,
    tested_before,
    tuned_entry,
    tuned_name,
    winner,
    with_unfinished,
)
from moodbench.tune.search import Search, register
from moodbench.tune.trials import SearchTrial, read_progress, search_trials

if TYPE_CHECKING:
    from moodbench.tune.trial_resources import Placement


@dataclass(frozen=True)
class TuneCommand:
    """One call of `moodbench tune`."""

    arguments: argparse.Namespace
    spec: BenchmarkSpec
    context: RunContext
    console: Console

    def say(self, text: str) -> None:
        """Print a line without markup."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = (
        "Try configurations of a search space on the validation split, then retrain the pick and the default with "
        "other seeds and compare the two on the test split. If the default is the pick, the best of the others is "
        "compared with it. Rerun the command to resume."
    )
    parser.add_argument(
        "action", nargs="?", choices=("apply",), help="apply: only write the winner so far into --config FILE"
    )
    parser.add_argument("--model", required=True, help="a model that is fitted by LoRA")
    parser.add_argument("--dataset", help="a dataset; or give --data")
    add_options(parser, *DATA, *TRAINING)
    parser.add_argument(
        "--space",
        default="lora_rank_alpha",
        metavar="NAME|FILE",
        help=f"search space: {', '.join(available_spaces())}, or a YAML file; default: %(default)s",
    )
    parser.add_argument("--trials", type=int, metavar="N", help="configurations to try; default: as the space says")
    parser.add_argument(
        "--budget",
        metavar="30m|$5",
        help="limit of wall-clock time (90s, 30m, 2h) or money for the search; trials that are running then are "
        "cancelled, and the confirmation is not included",
    )
    parser.add_argument("--price-per-hour", type=float, metavar="X", help="price of this machine, for --budget $N")
    parser.add_argument("--scheduler", choices=("asha", "hyperband", "median", "none"), default="asha")
    parser.add_argument("--search", choices=("optuna", "random", "grid"), default="optuna")
    parser.add_argument(
        "--objective",
        choices=("quality", "memory"),
        default="quality",
        help="memory: also minimise training memory, show the Pareto front, and pick the least memory within a point "
        "of the best score",
    )
    parser.add_argument(
        "--warm-start",
        choices=("auto", "none"),
        default="auto",
        help="auto: first try the best configurations of earlier searches of the model that lie in the space",
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds of the confirmation; 0 skips it")
    add_options(parser, "--protocol", "--device", "--address", "--cluster", "--config", "--store", "--json")
    parser.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Run the search and its confirmation, and return the exit code.

    It is 0 with a winner, 1 if no trial has a score or a trial of the confirmation failed, 130 if interrupted.
    """
    overlay = arguments.config if arguments.action is None or (arguments.config and arguments.config.exists()) else None
    catalogue = load_catalogue(overlay, trust_remote_code=arguments.trust_remote_code)
    num_seeds, arguments.seeds = arguments.seeds, None
    if not 0 <= num_seeds <= MIN_TRAINING_SEED:
        raise UsageError(f"--seeds {num_seeds}: must be 0 to {MIN_TRAINING_SEED}")
    spec = spec_of_one(arguments, "tune")
    console = make_console(stderr=arguments.json)
    with open_context(arguments, catalogue, console) as context:
        context.store.check_writable()
        command = TuneCommand(arguments, spec, context, console)
        return _apply(command) if arguments.action == "apply" else _tune(command, num_seeds)


def _without_score(trials: Sequence[SearchTrial], budget_s: float | None) -> str:
    """Return why a search in which no trial has a score has no pick, and what to do."""
    failed = [trial for trial in trials if trial.status == "failed"]
    if failed:
        error = (failed[-1].error or "no reason recorded").splitlines()[0]
        return (
            f"No pick: {len(failed)} of {len(trials)} configurations tried failed and no other has a score; the last "
            f"failed with {error!r}. `moodbench train` with the same --model, data and --train trains the default "
            "recipe alone and says more."
        )
    longer = "give a longer --budget" if budget_s is not None else "give the same command again, which goes on"
    return f"No configuration was trained to its first validation: {longer}."


def _tune(command: TuneCommand, num_seeds: int) -> int:
    store = command.context.store
    search, target = _search_of(command), command.context.target
    here = target is None or target.alone
    for note in check_models([search.base], cuda=here and search.device == "cuda"):
        command.say(note)
    placement = _placement(command, search)
    search = register(store, search, num_seeds)
    _announce(command, search, placement)
    try:
        trials = with_unfinished(store, search, _run(command, search, placement))
    except KeyboardInterrupt:
        command.say(f"Interrupted. Trials so far are in {store.uri}; rerun the command to resume.")
        return INTERRUPTED
    result = search_result(trials, search) if trials else None
    for line in search_sentences(result) if result else ():
        command.say(line)
    if result is None or result.best is None:
        command.console.print(_without_score(trials, search.budget_s), style="red", markup=False)
        return 1
    page = write_search_page(store, result)
    if page is not None:
        command.say(f"Plots: {page}")
    return 0 if num_seeds == 0 else _confirm(command, search, trials, result.best)


def _search_of(command: TuneCommand) -> Search:
    given = command.arguments
    return make_search(
        command.spec,
        given.space,
        command.context.catalogue,
        command.context.machine,
        searcher=given.search,
        scheduler=given.scheduler,
        num_trials=given.trials,
        budget_s=given.budget and budget_seconds(given.budget, given.price_per_hour or _price_per_hour(command)),
        store=command.context.store,
        warm_start=given.warm_start == "auto",
        objective=given.objective,
    )


def _price_per_hour(command: TuneCommand) -> float | None:
    """Return the price of all nodes, or of this machine by its catalogue class; None if a price is unknown."""
    context = command.context
    if context.target is not None:
        prices = [node.price_per_hour for node in context.target.nodes()]
    else:
        device = context.machine.device(command.spec.device)
        prices = [class_here(context.machine, device, context.catalogue).price_per_hour]
    known = [price for price in prices if price is not None]
    return sum(known) if known and len(known) == len(prices) else None


def _placement(command: TuneCommand, search: Search) -> Placement:
    from moodbench.tune.trial_resources import cluster_placement, local_placement

    context = command.context
    if isinstance(context.target, ClusterTarget):
        return cluster_placement(search, context.catalogue, context.target, context.store)
    return local_placement(search, context.catalogue, context.machine, context.store)


def _announce(command: TuneCommand, search: Search, placement: Placement) -> None:
    arguments, store = command.arguments, command.context.store
    done = {t.fit_id for t in search_trials(store, search.search_id)}
    num_resumed = len(read_progress(store, search.search_id).without_record(done))
    limit = f", at most {arguments.budget}" if arguments.budget else ""
    wanted = f"all {search.num_wanted}" if search.searcher == "grid" else f"up to {search.num_wanted}"
    command.say(
        f"Search {search.search_id[:12]} of {arguments.space} for {arguments.model} on "
        f"{search.base.dataset.name}: {wanted} configurations{limit}, {len(done)} already done"
        + (f", {num_resumed} started and resumed" if num_resumed else "")
        + f". Objective: validation {search.metric} with {search.num_train:,} training texts; the test split is not "
        "used."
    )
    if search.warm_points:
        sources = "; ".join(
            f"search {each.search_id[:12]} on {each.dataset}, {each.metric} {shown(each.score, each.metric)} there"
            for each in search.warm_points
        )
        command.say(f"Tried first, from earlier searches: {sources}.")
    if search.budget_s is not None:
        command.say(
            f"The budget of {search.budget_s:.0f} s is wall-clock time of all commands of this search: starting Ray, "
            "loading, and the training and validation of all trials, which run in parallel. The confirmation is not "
            "included."
        )
        worth = None if done or num_resumed else placement.resources.trainings(search.base, search.budget_s)
        if worth and (limits := budget_warning(search.num_wanted, search.budget_s, worth, search.scheduler)):
            command.say(limits)
    seeds = ", ".join(map(str, search.confirmation_seeds))
    command.say(f"Preregistered: the winner and the default will be compared on the test split with the seeds {seeds}.")


def _run(command: TuneCommand, search: Search, placement: Placement) -> list[SearchTrial]:
    from moodbench.tune.run import run_search

    def listen(event: Mapping[str, Any]) -> None:
        if event["event"] == "trial_unfinished":
            command.say(f"unfinished: {event['detail']}. Rerun the command to retry.")
            return
        trial = event["trial"]
        score = "no score" if trial.score is None else shown(trial.score, trial.metric)
        error = f" ({trial.error})" if trial.error else ""
        command.say(
            f"{event['num_done']}/{search.num_wanted} {trial.status} {score} after {trial.texts_trained:,} texts, "
            f"{trial.train_time_s:.0f} s: {json.dumps(trial.configuration)}{error}"
        )

    return run_search(search, command.context.store, placement, listen)


def _confirm(command: TuneCommand, search: Search, trials: Sequence[SearchTrial], best: SearchTrial) -> int:
    """Compare the pick with the default; return 0 if both are compared, 1 if a trial failed, 130 if interrupted.

    Quality comes first: the verdict is printed before anything is measured. Speed depends on the recipe and not on its
    seed, so one seed of each is measured.
    """
    default_wins = search.is_default(best.fit_id)
    other = challenger(trials, search.objective, search.base.fit_id) if default_wins else best
    model, catalogue = command.arguments.model, command.context.catalogue
    models: tuple[str, ...] = (model,)
    if other is not None:
        name = tuned_name(model, search.search_id)
        entry = tuned_entry(search, other, len(trials), catalogue, command.spec, default_wins=default_wins)
        catalogue, models = replace(catalogue, models={**catalogue.models, name: entry}), (model, name)
    spec = command.spec.model_copy(update={"models": models, "seeds": search.confirmation_seeds})
    context = replace(command.context, catalogue=catalogue)
    resolved = context.resolve(spec)
    plan = context.plan(resolved, "evaluate")
    _announce_confirmation(command, search, trials, other, plan.num_phases_missing, default_wins=default_wins)
    tested = carry_out(context, plan, command.console, spec)
    if tested is None:
        return INTERRUPTED
    if not tested.failures:
        _print_verdict(command, search, trials, best, other, resolved)
    to_measure = context.plan(evaluated(resolved, search.confirmation_seeds[0], context.store))
    measured = carry_out(context, to_measure, command.console)
    if measured is None:
        return INTERRUPTED
    output(view_leaderboard(context.store, context.machine), command.arguments, command.console)
    return max(exit_code_of_run(tested, command.console), exit_code_of_run(measured, command.console))


def _announce_confirmation(
    command: TuneCommand,
    search: Search,
    trials: Sequence[SearchTrial],
    other: SearchTrial | None,
    num_phases: int,
    *,
    default_wins: bool,
) -> None:
    model, seeds = command.arguments.model, ", ".join(map(str, search.confirmation_seeds))
    if other is None:
        command.say(
            f"Confirmation: only the default recipe has a score, so {model} alone is trained anew with seeds {seeds}."
        )
    else:
        command.say(
            f"Confirmation: {tuned_name(model, search.search_id)}, "
            f"{'the best of the others' if default_wins else 'the pick'}, and {model}, the default recipe, are trained "
            f"anew with seeds {seeds} and compared on the test split; {num_phases} phases to run."
        )
    before = tested_before(command.context.store, search, trials) - {other.fit_id if other else ""}
    if before:
        command.say(
            f"{len(before)} other configuration{'s' if len(before) > 1 else ''} of this search "
            f"{'were' if len(before) > 1 else 'was'} tested before: each comparison raises the chance that one looks "
            "better by luck."
        )


def _print_verdict(
    command: TuneCommand,
    search: Search,
    trials: Sequence[SearchTrial],
    best: SearchTrial,
    other: SearchTrial | None,
    resolved: Sequence[TrialSpec],
) -> None:
    model, store = command.arguments.model, command.context.store
    name, recipes = tuned_name(model, search.search_id), {trial.fit.config_id for trial in resolved}
    dataset = search.base.dataset.name
    compared = () if other is None else compare_models(store, name, model, dataset, config_ids=recipes)
    for each in compared:
        command.say(pair_sentence(name, model, each.track, each.difference, each.f1, same_recipe=each.same_recipe))
        command.say(describe_pick(search, best, other, each.difference))
    if not compared:
        command.say(describe_pick(search, best, other, None))
    command.say(_cost_sentence(store, search, trials))


def _cost_sentence(store: Store, search: Search, trials: Sequence[SearchTrial]) -> str:
    """Describe the cost of the search, relative to the full grid."""
    ended = [t for t in trials if t.status != "unfinished"]
    cut_off = read_progress(store, search.search_id).without_record({t.fit_id for t in ended}).values()
    cut_texts = sum(each.curve[-1][0] for each in cut_off if each.curve)
    texts = sum(t.texts_trained for t in ended) + cut_texts
    seconds = sum(t.train_time_s for t in ended) + sum(each.seconds for each in cut_off)
    return (
        f"The search cost {texts:,} texts trained, {100 * texts / search.grid_texts:.1f} % of the "
        f"{search.grid_texts:,} of the full grid of {search.num_grid:,}, in {seconds:.0f} s of trials; {cut_texts:,} "
        "of these texts were in trials that were cut off."
    )


def _apply(command: TuneCommand) -> int:
    """Write the winner so far into the file of `--config`."""
    search, store, spec, path = _search_of(command), command.context.store, command.spec, command.arguments.config
    if path is None:
        raise UsageError("tune apply: give the file to write with --config FILE.yaml")
    if path.is_dir():
        raise UsageError(f"--config {path}: is a folder; tune apply writes one YAML file")
    trials = with_unfinished(store, search, search_trials(store, search.search_id))
    best = winner(trials, search.objective, search.base.fit_id)
    if best is None:
        raise UsageError(
            f"tune apply: this search has no trial with a score in {store.uri}; run it first, without `apply`"
        )
    model = command.arguments.model
    if search.is_default(best.fit_id):
        command.say(
            f"The pick of this search is the default recipe, so {path} is unchanged: use {model} with the options "
            "given here."
        )
        return 0
    name = tuned_name(model, search.search_id)
    entry = tuned_entry(search, best, len(trials), command.context.catalogue, spec)
    text = path.read_text("utf-8") if path.exists() else ""
    changed, before = with_entry(text, str(path), "models", name, entry.model_dump(mode="json", exclude_defaults=True))
    write_output(path, changed.encode(), "--config")
    if before is not None:
        command.say(f"Replaced in {path}: {name} was {json.dumps(before, ensure_ascii=False)}")
    given = {"--prepare": spec.prepare, "--augment": [f"{k}={v}" for k, v in spec.augment.items()]}
    options = "".join(f" {option} {' '.join(values)}" for option, values in given.items() if values)
    command.say(
        f"{name} is in {path}: moodbench run --config {path} --models {name} --datasets {best.dataset}{options}"
    )
    return 0
