"""`moodbench plan`: show what a run would do, its time and memory, and what will not fit where, without running it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from moodbench.benchmark.data_report import english_models, language_warnings
from moodbench.benchmark.estimates import class_here, estimator_of, machine_of
from moodbench.benchmark.plan import PHASES, Intended, intended_trials, plan_of
from moodbench.benchmark.resolve import entries_of, fit_device, fit_device_of, with_own_data
from moodbench.cli.options import DATA, TRAINING, WHAT, add_options, catalogue_of, print_json, print_lines, spec_of
from moodbench.config import Catalogue
from moodbench.data.loader import Sources
from moodbench.errors import SpecError
from moodbench.estimate import TrialEstimate
from moodbench.estimate.shape import Shape
from moodbench.hardware import Hardware, hardware
from moodbench.report.plan import HEADINGS, LEFT, DevicePlan, PlanRow, absent_sentence, basis
from moodbench.report.terminal import make_console, print_table
from moodbench.spec import BenchmarkSpec
from moodbench.spec.job import PhaseName
from moodbench.store import Store

HERE = "this machine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and options of the command."""
    parser.description = (
        "Takes what `run` takes, and runs nothing: what is done already, what would run, seconds and bytes "
        "of each phase, cost where a price is known, and what fits on which class of devices. Models and datasets "
        "that are not on this machine are planned from the catalogue's figures."
    )
    add_options(parser, *WHAT, *DATA, *TRAINING, "--inference-dtype", "--protocol", "--device")
    parser.add_argument(
        "--device-class",
        nargs="+",
        metavar="CLASS",
        help="plan for these classes of devices instead of this machine, such as rtx-3080-10g mac-16g",
    )
    add_options(parser, "--config", "--store", "--json")
    parser.set_defaults(command=execute, name="plan")


def execute(arguments: argparse.Namespace) -> int:
    """Print the plan and return 0."""
    catalogue = catalogue_of(arguments)
    spec = spec_of(arguments, catalogue)
    catalogue = with_own_data(catalogue, spec)
    store = Store.open(arguments.store)
    sources = Sources()
    views = plan_views(spec, catalogue, store, hardware(), arguments.device_class or (), sources)
    english = english_models(entries_of(spec, catalogue), catalogue)
    warnings = [
        f"data {examples.name}: {warning}"
        for examples in sources.loaded
        for warning in language_warnings(examples, english)
    ]
    if arguments.json:
        print_json({"classes": [view.as_json() for view in views], "warnings": warnings})
        return 0
    out = make_console()
    rows = next(view.trials for view in views if not view.problem)
    num_done = sum(len(row.done) for row in rows)
    total = (
        f"{len(rows)} trials ({len({r.model for r in rows})} models, {len({r.dataset for r in rows})} datasets, "
        f"{len(spec.seeds)} seeds), {3 * len(rows)} phases: {num_done} done already, {3 * len(rows) - num_done} to "
        "run. Nothing is started."
    )
    print_lines(out, [total, *(f"warning: {warning}" for warning in warnings)])
    for view in views:
        print_lines(out, ["", view.title()])
        if not view.problem:
            print_table(HEADINGS, view.table(), out, left=LEFT)
        print_lines(out, view.sentences())
    absent = absent_sentence(rows)
    print_lines(out, [*(["", absent] if absent else []), basis(row for view in views for row in view.trials)])
    return 0


def plan_views(
    spec: BenchmarkSpec,
    catalogue: Catalogue,
    store: Store,
    machine: Hardware,
    classes: Sequence[str],
    sources: Sources,
) -> list[DevicePlan]:
    """Return the plan for each device class, or for this machine if none is named. Datasets are loaded into `sources`.

    A class whose devices cannot do what the request asks, such as 4-bit weights, has a plan that says so.

    Raises: UnknownNameError for an unknown class, which suggests the nearest name; SpecError if no class can run the
    request.
    """
    here = class_here(machine, machine.device(spec.device), catalogue)
    devices = {name: catalogue.device_class(name) for name in classes} or {HERE: here}
    views: list[DevicePlan] = []
    problems: list[SpecError] = []
    estimator = None
    for name, device in devices.items():
        where = fit_device(machine, device.device) if name == HERE else fit_device_of(device)
        try:
            intended = intended_trials(spec, catalogue, machine, where, sources)
        except SpecError as error:
            problems.append(error)
            views.append(DevicePlan(name, device, (), str(error)))
            continue
        plan = plan_of([each.trial for each in intended if each.trial is not None], store)
        missing = {planned.trial.fit.fit_id: planned.missing for planned in plan.trials}
        estimator = estimator or estimator_of([each.fit for each in intended], catalogue, store, sources)
        key = machine_of(machine, device.device) if name == HERE else name
        rows = []
        for each in intended:
            left = missing.get(each.fit.fit_id, ()) if each.trial is not None else PHASES
            done = tuple(phase for phase in PHASES if phase not in left)
            needs = None
            if estimator.knows(each.fit):
                needs = estimator.trial(
                    each.fit,
                    device,
                    catalogue.protocol(spec.protocol),
                    batch_size=catalogue.evaluation.prediction_batch_size,
                    machine=key,
                    inference_dtype=each.dtype,
                    may_change=True,
                )
            rows.append(_row(each, done, estimator.shapes.get(each.fit.model.name), needs))
        views.append(DevicePlan(name, device, rows))
    if len(problems) == len(views):
        raise problems[0]
    return views


def _row(each: Intended, done: tuple[PhaseName, ...], shape: Shape | None, needs: TrialEstimate | None) -> PlanRow:
    model = each.fit.model
    kept = shape.first_layers(model.num_hidden_layers or shape.num_layers) if shape else None
    return PlanRow(
        model=model.name,
        dataset=each.fit.dataset.name,
        seed=each.fit.seeds.init,
        done=done,
        absent=each.absent,
        num_params=kept.num_params if kept else None,
        estimate=needs,
        inference_dtype=each.dtype,
    )
