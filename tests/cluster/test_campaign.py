"""What the campaign's exit status proves: a summary that falls short in any way is not good."""

import copy

import pytest
from campaign_verdict import KINDS_OF_FAULT, MIN_FAULTS, ROUNDS, Fault, RoundResult, good, shortfalls


def whole():
    """A campaign in which every fault struck and nothing went wrong."""
    results = []
    for number, kinds in enumerate(ROUNDS, 1):
        names = [
            f"{kind.removeprefix('measuring ')} while measuring" if kind.startswith("measuring ") else kind
            for kind in kinds
        ]
        faults = [Fault(number, name, "n2", 20.0 if name.startswith("cut") else None) for name in names]
        results.append(RoundResult(number, faults, duplicates=int("cut and late" in kinds)))
    return results


def without(kind):
    results = whole()
    for result in results:
        result.faults = [fault for fault in result.faults if fault.kind != kind]
    return results


def changed(number=1, **values):
    results = whole()
    for name, value in values.items():
        setattr(results[number - 1], name, value)
    return results


LATE = next(number for number, kinds in enumerate(ROUNDS, 1) if "cut and late" in kinds)


def test_a_campaign_in_which_everything_struck_and_held_is_good():
    assert shortfalls(whole()) == [] and good(whole())
    assert sum(len(result.faults) for result in whole()) >= MIN_FAULTS


@pytest.mark.parametrize("kind", sorted(KINDS_OF_FAULT))
def test_each_kind_of_fault_must_have_struck(kind):
    assert f"{kind}: never injected" in shortfalls(without(kind))


@pytest.mark.parametrize(
    ("results", "said"),
    [
        (changed(lost=1), "round 1: 1 lost"),
        (changed(doubled=2), "round 1: 2 doubled"),
        (changed(wrong=1), "round 1: 1 wrong"),
        (changed(left_over=["n2: ray::fit"]), "round 1: left over on n2: ray::fit"),
        (changed(verify=1), "round 1: moodbench store verify ended with 1"),
        (changed(missed=["worker"]), "round 1: worker struck nothing"),
        (changed(LATE, duplicates=0), f"round {LATE}: a cut node finished late, and no duplicate was kept"),
    ],
)
def test_each_thing_that_went_wrong_is_said(results, said):
    assert shortfalls(results) == [said] and not good(results)


@pytest.mark.parametrize("noticed", [None, 60.0, 400.0])
def test_every_partition_is_noticed_in_time(noticed):
    results = whole()
    cut = next(fault for result in results for fault in result.faults if fault.kind == "cut")
    cut.noticed_s = noticed
    (said,) = shortfalls(results)
    assert "allowed are 60 s" in said


def test_too_few_faults_are_not_enough_even_where_each_kind_is_there():
    results, seen = whole(), set()
    for result in results:
        result.faults = [fault for fault in result.faults if fault.kind not in seen and not seen.add(fault.kind)]
    assert shortfalls(results) == [f"{len(KINDS_OF_FAULT)} faults, expected at least {MIN_FAULTS}"]


def test_a_part_of_the_rounds_need_not_have_every_kind():
    assert good(whole()[:3]) and good(copy.deepcopy(whole())[3:]) and not good(changed(lost=1)[:3])
