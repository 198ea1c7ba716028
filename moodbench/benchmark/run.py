"""What `moodbench run` does: from a spec to a store with all its records."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing, redirect_stdout
from typing import Literal

import pyarrow as pa

from moodbench.benchmark.cluster_site import ClusterSite
from moodbench.benchmark.driver import Listener, RunSummary, run_plan
from moodbench.benchmark.estimating import estimates_of
from moodbench.benchmark.resolve import resolve
from moodbench.benchmark.room import check_room
from moodbench.benchmark.site import LocalSite, Site
from moodbench.config import Catalogue
from moodbench.config.cluster import ClusterFile
from moodbench.data.report import DataReport
from moodbench.data.source import load_source
from moodbench.execution.executor import Executor
from moodbench.execution.inline import InlineExecutor
from moodbench.hardware import Hardware
from moodbench.plan import PhaseName, Plan, make_plan
from moodbench.spec import BenchmarkSpec, TrialSpec
from moodbench.store import Store
from moodbench.store.schema import RECORDS
from moodbench.tracking.after_run import track
from moodbench.worker import Job, checkpoint_interval_s, run_job

ExecutorName = Literal["ray", "inline"]


def prepare(spec: BenchmarkSpec, catalogue: Catalogue, store: Store, machine: Hardware) -> tuple[list[TrialSpec], Plan]:
    """Return the trials of `spec` and the plan of what is missing; raise everything wrong with either."""
    trials = resolve(spec, catalogue, machine)
    return trials, plan_of(trials, store)


def plan_of(trials: Sequence[TrialSpec], store: Store, until: PhaseName = "measure") -> Plan:
    """Return the plan of what `store` lacks of `trials`, up to the phase `until`.

    Records are read, because the name of a file alone does not show that it is complete.

    Raises: StoreError if the store cannot be written, or has a record that cannot be read.
    """
    store.check_writable()
    stored = {kind: set(store.records(kind)[column]) for kind, (_, column) in RECORDS.items()}
    return make_plan(trials, stored, until)


def run(
    trials: Sequence[TrialSpec],
    plan: Plan,
    store: Store,
    machine: Hardware,
    *,
    executor: ExecutorName = "ray",
    site: Site | None = None,
    catalogue: Catalogue | None = None,
    reports: Sequence[DataReport] = (),
    listen: Listener,
) -> RunSummary:
    """Run what `plan` lacks of `trials` and return the outcome; if nothing is missing, start nothing.

    The run uses `executor` on this `machine`, or the target `site`, which the caller closes. With a `catalogue`, tasks
    are scheduled by their estimated needs. The `reports` on a user's own data are the first events of the run.

    Raises: PrerequisiteError if this machine lacks disk or memory, or the store of a cluster lacks disk space.
    """
    if not plan.trials:
        _store_examples(trials, store)
        track(store, has_new=False)
        return RunSummary(run_id="")
    checkpoint_interval_s()  # raises for an invalid setting before anything is written
    alone = site is None or site.alone
    num_cpus = machine.num_cores if site is None else sum(int(node.num_cpus) for node in site.nodes())
    at_once = 1 if executor == "inline" else max(1, num_cpus)
    check_room(plan, store, machine, num_fits_at_once=at_once, here=alone)
    store.sweep()
    _store_examples(trials, store)
    preface = [report.as_event() for report in reports]
    machines = (machine,) if site is None else site.machines()
    estimates = estimates_of(plan, catalogue, store, machines) if catalogue is not None else {}
    if site is not None:
        summary = run_plan(plan, store, site, estimates=estimates, preface=preface, listen=listen)
    else:
        with closing(LocalSite(_executor(executor, machine), machine, one_at_a_time=executor == "inline")) as here:
            summary = run_plan(plan, store, here, estimates=estimates, preface=preface, listen=listen)
    track(store, has_new=summary.num_committed > 0)
    return summary


def cluster_site(address: str, store: Store, rules: ClusterFile, *, said: str = "--address") -> ClusterSite:
    """Return the Ray cluster at `address` as the target of a run, to be closed by the caller.

    Raises: PrerequisiteError, which says why the cluster cannot be used.
    """
    from moodbench.execution.ray_cluster import ClusterExecutor

    store.check_writable()
    return ClusterSite(ClusterExecutor(address, said=said), store, rules, address=address)


def _executor(name: ExecutorName, machine: Hardware) -> Executor:
    if name == "ray":
        from moodbench.execution.ray_local import LocalRayExecutor

        return LocalRayExecutor(machine.num_cores)

    def entry(stdin: str, tell: Listener) -> int:
        with redirect_stdout(sys.stderr):  # libraries must not print into the command's own output
            return run_job(Job.model_validate_json(stdin), tell)

    return InlineExecutor(entry)


def _store_examples(trials: Sequence[TrialSpec], store: Store) -> None:
    for data in {t.fit.dataset.revision: t.fit.dataset for t in trials}.values():
        if store.has_examples(data.name, data.revision):
            continue
        examples = load_source(data.name, data).examples
        frame = examples.frame.assign(private=examples.private)
        store.put_examples(data.name, data.revision, pa.Table.from_pandas(frame, preserve_index=False))
