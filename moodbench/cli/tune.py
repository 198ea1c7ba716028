"""`moodbench tune`: search LoRA hyper-parameters on validation, and compare the winner with the default on test."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from moodbench.benchmark.cluster_target import ClusterTarget
from moodbench.benchmark.estimating import class_here
from moodbench.cli.options import add_cluster, add_config, add_json, add_store
from moodbench.cli.request import add_device, add_protocol, add_training, values_of
from moodbench.cli.target import open_context
from moodbench.cli.tune_confirm import Confirmation
from moodbench.cli.tune_context import TuneContext
from moodbench.config import load_catalogue
from moodbench.config.overlay import with_entry
from moodbench.config.search_space import MIN_TRAINING_SEED
from moodbench.config.space_file import available_spaces
from moodbench.errors import INTERRUPTED, UsageError
from moodbench.report.search import budget_warning, search_sentences, shown
from moodbench.report.search_figures import write_search_page
from moodbench.report.terminal import make_console
from moodbench.spec.benchmark_spec import spec_from_values
from moodbench.tune.tuned import tuned_name

if TYPE_CHECKING:
    from moodbench.tune.records import SearchTrial


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = (
        "Try configurations of a search space on the validation split, then train the pick and the default "
        "anew with other seeds (where the default is the pick, the best of the others beside it), and compare the two "
        "on the test split. The same command again goes on where it stopped."
    )
    parser.add_argument(
        "action", nargs="?", choices=("apply",), help="apply: only write the winner found so far into --config FILE"
    )
    parser.add_argument("--model", required=True, help="a model that is fitted by LoRA")
    parser.add_argument("--dataset", help="a dataset; or give --data")
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
        "--objective",
        choices=("quality", "memory"),
        default="quality",
        help="memory: search for quality and little training memory, show the front of both, and pick what takes the "
        "least memory within a point of the best score",
    )
    parser.add_argument(
        "--together",
        type=int,
        default=1,
        metavar="N",
        help="train so many configurations in one process, sharing passes through the base model; with --scheduler "
        "none",
    )
    parser.add_argument(
        "--warm-start",
        choices=("auto", "none"),
        default="auto",
        help="auto: what earlier searches of the model in the store found best is tried first where the space holds it",
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds of the confirmation; 0 leaves it out")
    add_protocol(parser)
    add_device(parser)
    add_cluster(parser)
    add_config(parser)
    add_store(parser)
    add_json(parser)
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
    given = values_of(arguments)
    if (arguments.dataset is None) == ("data" not in given):
        seen = f"--dataset {arguments.dataset} and --data {arguments.data}" if arguments.dataset else "neither"
        raise UsageError(f"tune: needs exactly one of --dataset and --data; given: {seen}")
    chosen = {"datasets": (arguments.dataset,)} if arguments.dataset is not None else {}
    spec = spec_from_values({**given, **chosen, "models": (arguments.model,)}, "command line")
    console = make_console(stderr=arguments.json)
    with open_context(arguments, catalogue, console) as context:
        context.store.check_writable()
        return _Tuning(arguments, spec, context, console).carry_out(num_seeds)


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


class _Tuning(TuneContext):
    def carry_out(self, num_seeds: int) -> int:
        """Run or apply the search, and return the exit code; see `execute`."""
        from moodbench.tune.preregistration import register
        from moodbench.tune.records import search_trials
        from moodbench.tune.result import searched
        from moodbench.tune.unfinished import with_unfinished

        request = self._request()
        if self.arguments.action == "apply":
            return self._apply(
                request,
                with_unfinished(self.context.store, request, search_trials(self.context.store, request.search_id)),
            )
        place = self._place(request)
        registered = register(self.context.store, request, num_seeds)
        request = replace(request, warm=tuple(each.configuration for each in registered.warm_start))
        self._announce(request, registered, place)
        try:
            trials = with_unfinished(self.context.store, request, self._search(request, place))
        except KeyboardInterrupt:
            self.say(f"Interrupted. What was tried is in {self.context.store.uri}; the same command goes on.")
            return INTERRUPTED
        found = searched(trials, request) if trials else None
        best = found.best if found else None
        for line in search_sentences(found) if found else ():
            self.say(line)
        if best is None:
            self.console.print(_without_score(trials, request.budget_s), style="red", markup=False)
            return 1
        assert found is not None
        page = write_search_page(self.context.store, found)
        if page is not None:
            self.say(f"Plots: {page}")
        return 0 if num_seeds == 0 else self._confirm(request, registered, trials, best)

    def _request(self) -> Any:
        from moodbench.tune.request import budget_seconds
        from moodbench.tune.requesting import make_request

        given = self.arguments
        return make_request(
            self.spec,
            given.space,
            self.context.catalogue,
            self.context.machine,
            searcher=given.search,
            scheduler=given.scheduler,
            num_trials=given.trials,
            budget_s=given.budget and budget_seconds(given.budget, given.price_per_hour or self._price_per_hour()),
            store=self.context.store,
            together=given.together,
            warm_start=given.warm_start == "auto",
            objective=given.objective,
        )

    def _price_per_hour(self) -> float | None:
        """Return the price of all nodes, or of this machine by its catalogue class; None if a price is unknown."""
        if self.context.target is not None:
            prices = [node.price_per_hour for node in self.context.target.nodes()]
        else:
            prices = [
                class_here(
                    self.context.machine, self.context.machine.device(self.spec.device), self.context.catalogue
                ).price_per_hour
            ]
        known = [price for price in prices if price is not None]
        return sum(known) if known and len(known) == len(prices) else None

    def _place(self, request: Any) -> Any:
        from moodbench.tune.trial_resources import cluster_place, local_place

        if not isinstance(self.context.target, ClusterTarget):
            return local_place(request, self.context.catalogue, self.context.machine, self.context.store)
        return cluster_place(request, self.context.catalogue, self.context.target, self.context.store)

    def _announce(self, request: Any, registered: Any, place: Any) -> None:
        from moodbench.tune.records import search_trials
        from moodbench.tune.underway import proposed

        arguments = self.arguments
        done = {t.fit_id for t in search_trials(self.context.store, request.search_id)}
        begun = len(proposed(self.context.store, request.search_id).keys() - done)
        limit = f", at most {arguments.budget}" if arguments.budget else ""
        wanted = f"all {request.num_wanted}" if request.searcher == "grid" else f"up to {request.num_wanted}"
        self.say(
            f"Search {request.search_id[:12]} of {arguments.space} for {arguments.model} on "
            f"{request.base.dataset.name}: {wanted} configurations{limit}, {len(done)} of them there already"
            + (f", {begun} begun and gone on with" if begun else "")
            + f". Judged by validation {request.metric} of {request.num_train:,} training texts; "
            "the test split is not looked at."
        )
        if registered.warm_start:
            sources = "; ".join(
                f"search {each.search_id[:12]} on {each.dataset}, {each.metric} {shown(each.score, each.metric)} there"
                for each in registered.warm_start
            )
            self.say(f"Tried first, from earlier searches: {sources}.")
        if arguments.together > 1 and request.device == "cpu":
            self.say(
                "On a CPU shared passes are the same sums as passes of one after another, and with batches of 32 they "
                "took longer where it was measured; leave --together out unless processes are what is dear here."
            )
        if arguments.budget:
            self.say(
                f"The budget of {request.budget_s:.0f} s is time by the clock of all commands of this search: starting "
                "Ray, loading, training and validation of everything tried, side by side. The confirmation comes on "
                "top."
            )
            worth = None if done or begun else place.bundles.trainings(request.base, request.budget_s)
            if worth and (limits := budget_warning(request.num_wanted, request.budget_s, worth, request.scheduler)):
                self.say(limits)
        seeds = ", ".join(map(str, registered.confirmation_seeds))
        self.say(
            "Registered beforehand: the winner and the default will be compared on the test split with the seeds "
            f"{seeds}."
        )

    def _search(self, request: Any, place: Any) -> Any:
        from moodbench.tune.search import search

        def tell(event: Any) -> None:
            if event["event"] == "trial_unfinished":
                self.say(f"not ended: {event['detail']}. The same command tries it again.")
                return
            trial = event["trial"]
            score = "no score" if trial.score is None else shown(trial.score, trial.metric)
            error = f" ({trial.error})" if trial.error else ""
            self.say(
                f"{event['num_done']}/{request.num_wanted} {trial.status} {score} after {trial.texts_trained:,} texts, "
                f"{trial.train_time_s:.0f} s: {json.dumps(trial.configuration)}{error}"
            )

        return search(request, self.context.store, place, tell)

    def _confirm(self, request: Any, registered: Any, trials: Any, best: Any) -> int:
        confirmation = Confirmation(self.arguments, self.spec, self.context, self.console)
        return confirmation.carry_out(request, registered.confirmation_seeds, trials, best)

    def _apply(self, request: Any, trials: Any) -> int:
        from moodbench.tune.objectives import winner
        from moodbench.tune.requesting import tuned_entry

        path = self.arguments.config
        if path is None:
            raise UsageError("tune apply: give the file to write with --config FILE.yaml")
        if path.is_dir():
            raise UsageError(f"--config {path}: is a folder; tune apply writes one YAML file")
        best = winner(trials, request.objective, request.base.fit_id)
        if best is None:
            raise UsageError(
                f"tune apply: this search has no trial with a score in {self.context.store.uri}; run it first, "
                "without `apply`"
            )
        if request.is_default(best.fit_id):
            self.say(
                f"The pick of this search is the default recipe, so {path} stays as it is: {self.arguments.model} with "
                "the options given here is what to run."
            )
            return 0
        name = tuned_name(self.arguments.model, request.search_id)
        entry = tuned_entry(request, best, len(trials), self.context.catalogue, self.spec)
        text = path.read_text("utf-8") if path.exists() else ""
        changed, before = with_entry(
            text, str(path), "models", name, entry.model_dump(mode="json", exclude_defaults=True)
        )
        staged = path.with_name(f".{path.name}.new")
        staged.write_text(changed, "utf-8")
        staged.replace(path)
        if before is not None:
            self.say(f"Replaced in {path}: {name} was {json.dumps(before, ensure_ascii=False)}")
        options = "".join(
            f" {option} {' '.join(values)}"
            for option, values in (
                ("--prepare", self.spec.prepare),
                ("--augment", [f"{k}={v}" for k, v in self.spec.augment.items()]),
            )
            if values
        )
        self.say(
            f"{name} is in {path}: moodbench run --config {path} --models {name} --datasets {best.dataset}{options}"
        )
        return 0
