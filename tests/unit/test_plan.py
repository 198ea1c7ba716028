import copy

import pytest

from moodbench.benchmark.plan import make_plan, relative_work
from moodbench.benchmark.resolve import resolve
from moodbench.config.catalogue import load_catalogue
from moodbench.hardware import Hardware
from moodbench.spec import BenchmarkSpec

MACHINE = Hardware(cpu="Toy CPU", num_cores=2, memory_bytes=8 * 2**30, gpus=(), mps=False)
NOTHING = {"fits": set(), "evaluations": set(), "measurements": set()}
TRIALS = resolve(
    BenchmarkSpec(models=("majority", "MiniLM-L3", "tfidf-logreg", "MiniLM-L6-probe", "MiniLM-L6"), datasets=("icwsm-movie",)),
    load_catalogue(),
    MACHINE,
)  # fmt: skip
ONE = TRIALS[1]


def stored(*trials, kinds=("fits", "evaluations", "measurements")):
    ids = {
        "fits": {t.fit.fit_id for t in trials},
        "evaluations": {t.evaluate.evaluation_id for t in trials},
        "measurements": {t.measure.measurement_id for t in trials},
    }
    return NOTHING | {kind: ids[kind] for kind in kinds}


MISSING = {
    (): ("fit", "evaluate", "measure"),
    ("fits",): ("evaluate", "measure"),
    ("fits", "evaluations"): ("measure",),
    ("fits", "measurements"): ("evaluate",),
    ("evaluations", "measurements"): ("fit",),
}


@pytest.mark.parametrize("kinds", MISSING)
def test_only_phases_without_a_record_are_planned(kinds):
    plan = make_plan([ONE], stored(ONE, kinds=kinds))
    assert [(p.trial, p.missing) for p in plan.trials] == [(ONE, MISSING[kinds])]
    assert (plan.num_phases_missing, plan.num_phases_done) == (3 - len(kinds), len(kinds))


def test_a_finished_trial_is_not_planned_and_its_phases_are_counted():
    plan = make_plan(TRIALS, stored(*TRIALS))
    assert (plan.trials, plan.num_phases_missing, plan.num_phases_done) == ((), 0, 15)
    plan = make_plan(TRIALS, stored(ONE, TRIALS[3]))
    assert {p.trial.fit.model.name for p in plan.trials} == {"majority", "tfidf-logreg", "MiniLM-L6"}
    assert (plan.num_phases_missing, plan.num_phases_done) == (9, 6)


@pytest.mark.parametrize("until", ["fit", "evaluate", "measure"])
@pytest.mark.parametrize("kinds", MISSING)
def test_a_plan_ends_with_the_phase_that_is_asked_for(kinds, until):
    plan = make_plan([ONE], stored(ONE, kinds=kinds), until)
    wanted = {"fit": 1, "evaluate": 2, "measure": 3}
    missing = tuple(phase for phase in MISSING[kinds] if wanted[phase] <= wanted[until])
    assert [p.missing for p in plan.trials] == ([missing] if missing else [])
    assert plan.num_phases_done == wanted[until] - len(missing)


def test_records_of_other_trials_do_not_count():
    assert make_plan([ONE], stored(*(t for t in TRIALS if t is not ONE))).num_phases_done == 0


def test_the_longest_fits_come_first_and_equals_stay_in_order():
    # layers x passes, a training pass as 2.5: 12 (unlimited: counted as 12) x 2.5 x 2 epochs, 3 x 2.5 x 2, 12 x 1, 0, 0
    work = {t.fit.model.name: relative_work(t.fit) for t in TRIALS}
    names = [p.trial.fit.model.name for p in make_plan(TRIALS, NOTHING).trials]
    assert names == ["MiniLM-L6", "MiniLM-L3", "MiniLM-L6-probe", "majority", "tfidf-logreg"]
    assert [work[n] for n in names] == [60, 15, 12, 0, 0]


def test_steps_count_where_the_number_of_training_texts_is_known():
    fit = next(t.fit for t in TRIALS if t.fit.model.name == "MiniLM-L3")
    train = fit.train.model_copy(update={"max_steps": 5})
    few = fit.dataset.model_copy(update={"max_train_examples": 640})  # 20 steps an epoch: a quarter of one
    assert relative_work(fit.model_copy(update={"train": train, "dataset": few})) == 3 * 2.5 / 4
    assert relative_work(fit.model_copy(update={"train": train})) == relative_work(fit)


def test_planning_is_pure():
    trials, records = list(TRIALS), stored(ONE, kinds=("fits",))
    before = (list(trials), copy.deepcopy(records))
    assert make_plan(trials, records) == make_plan(trials, records)
    assert (trials, records) == before
    assert set(make_plan(trials[::-1], records).trials) == set(make_plan(trials, records).trials)
