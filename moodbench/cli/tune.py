"""`moodbench tune`: search LoRA's rank, alpha and more on validation; confirm the winner on test beside the default."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml

from moodbench.benchmark.run import prepare
from moodbench.cli.carrying_out import carry_out, exit_code
from moodbench.cli.leaderboard import output
from moodbench.cli.options import add_config, add_json, add_store
from moodbench.cli.request import add_device, add_protocol, add_training, values_of
from moodbench.config import load_catalogue
from moodbench.config.search_space import MIN_TRAINING_SEED, available_spaces
from moodbench.errors import INTERRUPTED, UsageError
from moodbench.hardware import hardware
from moodbench.spec.benchmark_spec import spec_from_values
from moodbench.store import Store
from moodbench.tuning.tuned import tuned_name
from moodbench.visualization.board_view import view_board
from moodbench.visualization.comparison_view import compare_models, sentence
from moodbench.visualization.search_view import search_lines, write_search_page
from moodbench.visualization.terminal import console


def add_to(commands: Any) -> None:
    """Nothing; adds the command."""
    parser = commands.add_parser(
        "tune",
        help="search LoRA's rank, alpha and learning rate for one model and data set",
        description="Try configurations of a search space on the validation split, then train the best and the default "
        "anew with other seeds, and compare the two on the test split. The same command again goes on where it stopped.",
    )
    parser.add_argument(
        "action", nargs="?", choices=("apply",), help="apply: only write the winner found so far into --config FILE"
    )
    parser.add_argument("--model", required=True, help="a model that is fitted by LoRA")
    parser.add_argument("--dataset", help="a data set; or give --data")
    add_training(parser)
    parser.add_argument(
        "--space",
        default="lora_rank_alpha",
        metavar="NAME|FILE",
        help=f"what may change: {', '.join(available_spaces())}, or a YAML file; default: %(default)s",
    )
    parser.add_argument("--trials", type=int, metavar="N", help="configurations to try; default: what the space says")
    parser.add_argument(
        "--budget",
        metavar="30m|$5",
        help="end the search after so long (90s, 30m, 2h) or so much money; what is running then is given up, and "
        "the confirmation comes on top",
    )
    parser.add_argument("--price-per-hour", type=float, metavar="X", help="what this machine costs, for --budget $N")
    parser.add_argument("--scheduler", choices=("asha", "hyperband", "median", "none"), default="asha")
    parser.add_argument("--search", choices=("optuna", "random", "grid"), default="optuna")
    parser.add_argument(
        "--together",
        type=int,
        default=1,
        metavar="N",
        help="train so many configurations in one process, sharing passes through the base model; with --scheduler none",
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds of the confirmation; 0 leaves it out")
    add_protocol(parser)
    add_device(parser)
    add_config(parser)
    add_store(parser)
    add_json(parser)
    parser.set_defaults(command=execute)


def execute(arguments: argparse.Namespace) -> int:
    """0 with a winner, 1 when no trial finished or one of the confirmation failed, 130 when interrupted."""
    from moodbench.tuning.records import search_trials, winner
    from moodbench.tuning.registered import register
    from moodbench.tuning.request import budget_seconds
    from moodbench.tuning.requesting import make_request, tuned_entry, with_tuned
    from moodbench.tuning.search import search
    from moodbench.tuning.searched import searched

    overlay = arguments.config if arguments.action is None or (arguments.config and arguments.config.exists()) else None
    catalogue = load_catalogue(overlay, trust_remote_code=arguments.trust_remote_code)
    num_seeds, arguments.seeds = arguments.seeds, None
    if not 0 <= num_seeds <= MIN_TRAINING_SEED:
        raise UsageError(f"--seeds {num_seeds}: must be 0 to {MIN_TRAINING_SEED}")
    given = values_of(arguments)
    if (arguments.dataset is None) == ("data" not in given):
        seen = f"--dataset {arguments.dataset} and --data {arguments.data}" if arguments.dataset else "neither"
        raise UsageError(f"tune: needs exactly one of --dataset and --data; given: {seen}")
    chosen = {"datasets": (arguments.dataset,)} if arguments.dataset is not None else {}
    spec = spec_from_values({**given, **chosen, "models": (arguments.model,)}, "command line")
    store = Store.open(arguments.store)
    store.check_writable()
    machine = hardware()
    request = make_request(
        spec,
        arguments.space,
        catalogue,
        machine,
        searcher=arguments.search,
        scheduler=arguments.scheduler,
        num_trials=arguments.trials,
        budget_s=arguments.budget and budget_seconds(arguments.budget, arguments.price_per_hour),
        store=store,
        together=arguments.together,
    )
    words = console(stderr=arguments.json)
    if arguments.action == "apply":
        return _apply(arguments, request, winner(search_trials(store, request.search_id)), store, catalogue)
    registered = register(store, request, num_seeds)
    already = len(search_trials(store, request.search_id))
    limit = f", at most {arguments.budget}" if arguments.budget else ""
    words.print(
        f"Search {request.search_id[:12]} of {arguments.space} for {arguments.model} on {request.base.dataset.name}: up to "
        f"{request.num_wanted} configurations{limit}, {already} of them there already. Judged by validation "
        f"{request.metric} of {request.num_train:,} training texts; the test split is not looked at.",
        soft_wrap=True,
        markup=False,
    )
    seeds = ", ".join(map(str, registered.confirmation_seeds))
    words.print(
        f"Registered beforehand: the winner and the default will be compared on the test split with the seeds {seeds}.",
        soft_wrap=True,
        markup=False,
    )

    def tell(event: Any) -> None:
        trial = event["trial"]
        score = (
            "no score"
            if trial.score is None
            else f"{100 * trial.score:.1f}"
            if trial.metric != "nll"
            else f"{trial.score:.3f}"
        )
        error = f" ({trial.error})" if trial.error else ""
        words.print(
            f"{event['num_done']}/{request.num_wanted} {trial.status} {score} after {trial.texts_trained:,} texts, "
            f"{trial.train_time_s:.0f} s: {json.dumps(trial.configuration)}{error}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    try:
        trials = search(request, store, tell)
    except KeyboardInterrupt:
        words.print(f"Interrupted. What was tried is in {store.uri}; the same command goes on.")
        return INTERRUPTED
    found = searched(trials, request) if trials else None
    best = winner(trials)
    for line in search_lines(found) if found else ():
        words.print(line, markup=False, highlight=False, soft_wrap=True)
    if best is None:
        words.print(
            "No configuration was trained to its end: give a longer --budget, or --scheduler none.", style="red"
        )
        return 1
    assert found is not None
    page = write_search_page(store, found)
    if page is not None:
        words.print(f"Plots: {page}", markup=False, soft_wrap=True)
    if num_seeds == 0:
        return 0
    name = tuned_name(arguments.model)
    both = with_tuned(catalogue, name, tuned_entry(request, best, len(trials), catalogue))
    confirm = spec.model_copy(update={"models": (arguments.model, name), "seeds": registered.confirmation_seeds})
    resolved, plan = prepare(confirm, both, store, machine)
    words.print(
        f"Confirmation: {name} and {arguments.model} trained anew with seeds {', '.join(map(str, confirm.seeds))}, "
        f"compared on the test split; {plan.num_phases_missing} phases to run.",
        markup=False,
        soft_wrap=True,
    )
    summary = carry_out(
        resolved, plan, store, machine, catalogue=both, executor="ray", site=None, words=words, spec=confirm
    )
    if summary is None:
        return INTERRUPTED
    output(view_board(store, machine), arguments, words)
    if summary.failures:
        return exit_code(summary, words)
    recipes = {trial.fit.config_id for trial in resolved}
    for compared in compare_models(store, name, arguments.model, request.base.dataset.name, config_ids=recipes):
        said = sentence(
            name,
            arguments.model,
            compared.track,
            compared.difference,
            compared.f1,
            same_recipe=compared.same_recipe,
        )
        words.print(said, markup=False, soft_wrap=True)
    return 0


def _apply(arguments: Any, request: Any, best: Any, store: Store, catalogue: Any) -> int:
    from moodbench.tuning.records import search_trials
    from moodbench.tuning.requesting import tuned_entry

    if arguments.config is None:
        raise UsageError("tune apply: give the file to write with --config FILE.yaml")
    if arguments.config.is_dir():
        raise UsageError(f"--config {arguments.config}: is a folder; tune apply writes one YAML file")
    if best is None:
        raise UsageError(f"tune apply: this search has no finished trial in {store.uri}; run it first, without `apply`")
    name = tuned_name(arguments.model)
    entry = tuned_entry(request, best, len(search_trials(store, request.search_id)), catalogue)
    path = Path(arguments.config)
    from moodbench.config.yaml_text import load_yaml

    old = load_yaml(path.read_text("utf-8"), str(path)) if path.exists() else {}
    old.setdefault("models", {})[name] = entry.model_dump(mode="json", exclude_defaults=True)
    text = yaml.safe_dump(old, sort_keys=False, allow_unicode=True)
    staged = path.with_name(f".{path.name}.new")
    staged.write_text(text, "utf-8")
    staged.replace(path)
    console(stderr=arguments.json).print(
        f"{name} is in {path}: moodbench run --config {path} --models {name} --datasets {best.dataset}",
        markup=False,
        soft_wrap=True,
    )
    return 0
