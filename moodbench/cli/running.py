"""Shared steps of the commands that run phases: announce the plan, run it, and report failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from moodbench.benchmark.context import RunContext
from moodbench.benchmark.data_reports import data_reports
from moodbench.benchmark.driver import RunSummary
from moodbench.plan import Plan
from moodbench.report.terminal_progress import RunDisplay
from moodbench.spec import BASELINE_OF_SCORE, BenchmarkSpec, FitSpec


def carry_out(
    context: RunContext, plan: Plan, console: Console, spec: BenchmarkSpec | None = None
) -> RunSummary | None:
    """Run what `plan` lacks and return the outcome; if interrupted, print that and return None.

    With the `spec` of new fits, print what it adds and limits, and begin with a report on the user's own data.
    """
    if not plan.requested:
        return RunSummary(run_id="")
    reports = data_reports(plan.requested, context.catalogue) if spec else []
    for line in (line for report in reports for line in report.lines()):
        console.print(line, markup=False, emoji=False, soft_wrap=True)
    _announce(plan, spec, console)
    try:
        with RunDisplay(console) as view:
            return replace(context, listen=view).run(plan, reports)
    except KeyboardInterrupt:
        console.print(f"Interrupted. What was committed is in {context.store.uri}; the same command does the rest.")
        return None


def exit_code(summary: RunSummary, console: Console) -> int:
    """Print the failures; return 0 if every phase has its record, 1 if a trial failed."""
    for failure in summary.failures:
        console.print(f"failed: {failure}", style="red", markup=False)
    return 1 if summary.failures else 0


def _announce(plan: Plan, spec: BenchmarkSpec | None, console: Console) -> None:
    fits = [trial.fit for trial in plan.requested]
    models, datasets, seeds = {f.model.name for f in fits}, {f.dataset.name for f in fits}, {f.seeds.init for f in fits}
    console.print(
        f"{len(fits)} trials ({len(models)} models, {len(datasets)} datasets, {len(seeds)} seeds): "
        f"{plan.num_phases_missing} phases to run, {plan.num_phases_done} done already and skipped"
    )
    _name_conversions(fits, console)
    if not plan.trials:
        console.print("Nothing left to do.")
    elif spec:
        if spec.max_train_examples:
            console.print(
                f"Training on a stratified sub-sample of at most {spec.max_train_examples:,} texts per dataset."
            )
        if BASELINE_OF_SCORE in models - set(spec.models):
            console.print(f"{BASELINE_OF_SCORE} is added: the zero of the score is defined by it.")


def _name_conversions(fits: Sequence[FitSpec], console: Console) -> None:
    """Print which weights are not as their owners published them."""
    from moodbench.models.hub import BOT, pull_request_at

    found = {f.model.name: (str(s.hub), str(s.revision)) for f in fits if (s := f.model.source) and s.hub}
    for name, (repository, commit) in found.items():
        if ref := pull_request_at(repository, commit):
            console.print(
                f"{name}: weights are {ref} of {repository}, safetensors that the hub's {BOT} made of the owner's "
                "pickles.",
                soft_wrap=True,
            )
