"""The truth table of harness/judge/judgement.py: what two verdicts prove, and what the command exits with."""

from __future__ import annotations

import itertools

import pytest

from harness.base.errors import ExitStatus
from harness.judge.judgement import Conclusion, Verdict, conclude, exit_status
from harness.scenario.spec import ControlRole

V, C, R = Verdict, Conclusion, ControlRole
SIDES = [*Verdict, None]


def test_what_a_run_ended_with_is_written_as_it_is_called() -> None:
    assert [one.value for one in (*Verdict, *Conclusion)] == [one.name for one in (*Verdict, *Conclusion)]


@pytest.mark.parametrize(
    ("stock", "control", "role", "expected"),
    [
        (V.PASS, V.FAIL, R.NOTICES, C.PROVEN),
        (V.PASS, V.CRASH, R.NOTICES, C.UNDECIDED),
        (V.PASS, V.PASS, R.NOTICES, C.BLIND),
        (V.PASS, V.PASS, R.CURES, C.PROVEN),
        (V.PASS, V.FAIL, R.CURES, C.REGRESSION),
        (V.PASS, V.CRASH, R.CURES, C.REGRESSION),
        (V.PASS, None, R.NOTICES, C.UNPROVEN),
        (V.PASS, None, R.CURES, C.UNPROVEN),
        (V.PASS, V.SKIP, R.NOTICES, C.UNPROVEN),
        (V.PASS, V.SKIP, R.CURES, C.UNPROVEN),
        (V.PASS, V.FAIL, R.NONE, C.UNPROVEN),
        (V.PASS, V.PASS, R.NONE, C.UNPROVEN),
        (V.PASS, V.ERROR, R.NOTICES, C.UNDECIDED),
        (V.PASS, V.UNDECIDED, R.CURES, C.UNDECIDED),
        (V.FAIL, V.ERROR, R.NOTICES, C.REGRESSION),
        (V.SKIP, V.ERROR, R.NOTICES, C.SKIPPED),
    ],
)
def test_conclusion(stock: Verdict, control: Verdict | None, role: ControlRole, expected: Conclusion) -> None:
    assert conclude(stock, control, role) is expected


@pytest.mark.parametrize(("control", "role"), list(itertools.product(SIDES, ControlRole)))
@pytest.mark.parametrize("stock", [V.FAIL, V.CRASH])
def test_no_control_excuses_a_failure_on_stock(stock: Verdict, control: Verdict | None, role: ControlRole) -> None:
    assert conclude(stock, control, role) is C.REGRESSION


@pytest.mark.parametrize(("control", "role"), list(itertools.product(SIDES, ControlRole)))
@pytest.mark.parametrize("stock", [V.ERROR, V.UNDECIDED])
def test_no_control_settles_an_unsettled_stock(stock: Verdict, control: Verdict | None, role: ControlRole) -> None:
    assert conclude(stock, control, role) is C.UNDECIDED


def test_only_a_pass_on_stock_and_a_settled_control_prove_anything() -> None:
    proving = {
        (stock, control, role)
        for stock, control, role in itertools.product(Verdict, SIDES, ControlRole)
        if conclude(stock, control, role) is C.PROVEN
    }
    assert proving == {
        (V.PASS, V.FAIL, R.NOTICES),
        (V.PASS, V.PASS, R.CURES),
    }


@pytest.mark.parametrize(("control", "role"), list(itertools.product(SIDES, ControlRole)))
def test_only_a_failure_that_was_foreseen_in_every_check_is_known(control: Verdict | None, role: ControlRole) -> None:
    for stock in Verdict:
        plain = conclude(stock, control, role)
        assert conclude(stock, control, role, due=True) is (C.CHANGED if stock is V.PASS else plain)
        assert conclude(stock, control, role, due=True, known=True) is (
            C.CHANGED if stock is V.PASS else C.KNOWN if stock is V.FAIL else plain
        )


def test_a_control_that_crashed_is_neither_proof_nor_blindness() -> None:
    assert conclude(V.PASS, V.CRASH, R.NOTICES) is C.UNDECIDED
    assert exit_status([conclude(V.PASS, V.CRASH, R.NOTICES)]) is ExitStatus.UNDECIDED


def test_the_kinds_of_verdict_do_not_overlap() -> None:
    assert {one for one in Verdict if one.blames_product} == {V.FAIL, V.CRASH}
    assert {one for one in Verdict if one.unsettled} == {V.ERROR, V.UNDECIDED}


@pytest.mark.parametrize(
    ("conclusions", "expected"),
    [
        ([], ExitStatus.NOTHING_RAN),
        ([C.SKIPPED, C.SKIPPED], ExitStatus.NOTHING_RAN),
        ([C.PROVEN], ExitStatus.OK),
        ([C.PROVEN, C.UNPROVEN, C.SKIPPED], ExitStatus.OK),
        ([C.REGRESSION], ExitStatus.FAILED),
        ([C.KNOWN], ExitStatus.OK),
        ([C.KNOWN, C.REGRESSION], ExitStatus.FAILED),
        ([C.KNOWN, C.UNDECIDED], ExitStatus.UNDECIDED),
        ([C.CHANGED], ExitStatus.FAILED),
        ([C.CHANGED, C.UNDECIDED, C.PROVEN], ExitStatus.FAILED),
        ([C.BLIND], ExitStatus.FAILED),
        ([C.UNDECIDED], ExitStatus.UNDECIDED),
        ([C.PROVEN, C.UNDECIDED, C.SKIPPED], ExitStatus.UNDECIDED),
        ([C.UNDECIDED, C.BLIND, C.PROVEN], ExitStatus.FAILED),
        ([C.UNDECIDED, C.REGRESSION], ExitStatus.FAILED),
    ],
)
def test_exit_status(conclusions: list[Conclusion], expected: ExitStatus) -> None:
    assert exit_status(conclusions) is expected
    assert exit_status(conclusions[::-1]) is expected, "the order must not matter"


def test_nobody_has_to_look_at_what_was_expected() -> None:
    assert {one for one in C if one.as_expected} == {C.PROVEN, C.UNPROVEN, C.KNOWN, C.SKIPPED}


def test_the_numbers_are_the_documented_ones() -> None:
    assert {status.name: int(status) for status in ExitStatus} == {
        "OK": 0,
        "FAILED": 1,
        "USAGE": 2,
        "UNDECIDED": 3,
        "NOTHING_RAN": 5,
    }
