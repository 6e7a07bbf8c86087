"""Twenty rounds: what the judge makes of them, and how a log and a terminal show them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.base.errors import UsageError
from harness.judge.growth import COUNTERS, FEWEST_ROUNDS, WARM_UP, growth
from harness.judge.judge import judge
from harness.judge.judgement import Outcome, Verdict
from harness.report.results import Side
from harness.report.rounds import history, leaks
from harness.run.options import RunOptions
from harness.run.selection import chosen
from harness.scenario.record import Record, Round
from suites.selftest.fakes.goodrecord import CATALOGUE, COUNTS, good, scenario


def changed(change: Callable[[Round], Round]) -> Record:
    record = good("E3", "F7")
    record.rounds = [change(one) for one in record.rounds]
    return record


def counting(name: str, each: int) -> Record:
    """`each` more of something in every round."""
    return changed(lambda one: replace(one, counts={**COUNTS, name: 20 + each * one.number}))


def side(record: Record) -> Side:
    grown = growth([one.counts for one in record.rounds])
    return Side(hypervisor="stock", judgement=judge(record), record=record, leaks=grown, raw_directory="raw", log="log")


def test_rounds_that_leave_nothing_pass() -> None:
    record = good("E3", "F7")
    judged = judge(record)
    assert judged.verdict is Verdict.PASS
    assert len(record.rounds) == CATALOGUE.follow_ons["F7"].rounds == 20
    assert {check.subject for check in judged.checks} >= {counter.title for counter in COUNTERS}


@pytest.mark.parametrize("counter", COUNTERS, ids=lambda counter: counter.name)
def test_growth_of_any_counter_is_a_failure(counter: object) -> None:
    name, title = counter.name, counter.title  # type: ignore[attr-defined]
    judged = judge(counting(name, 4))
    assert judged.verdict is Verdict.FAIL
    assert judged.reason.startswith(f"C4 leaks: {title}: expected ")
    assert [check.subject for check in judged.checks if check.outcome is Outcome.VIOLATED] == [title]


def test_the_fewest_rounds_that_can_be_judged_show_growth() -> None:
    name = COUNTERS[0].name
    readings = [{**COUNTS, name: 20 + number} for number in range(FEWEST_ROUNDS)]
    assert growth(readings[:-1]) == ()
    grown = growth(readings)[0]
    assert (grown.first, grown.last) == (20 + WARM_UP, 20 + FEWEST_ROUNDS - 1)


def test_a_guest_that_gets_no_interrupts_in_one_round_is_a_failure() -> None:
    def silent(one: Round) -> Round:
        assert one.guest is not None
        return replace(one, guest=replace(one.guest, after=one.guest.before)) if one.number == 7 else one

    judged = judge(changed(silent))
    assert judged.verdict is Verdict.FAIL
    assert judged.reason == "C2 guest: round 7: interrupts under traffic: expected more than 0, seen 0"


@pytest.mark.parametrize("played", [0, 1, 2, 19])
def test_rounds_that_were_not_played_prove_nothing(played: int) -> None:
    record = good("E3", "F7")
    del record.rounds[played:]
    assert judge(record).verdict is Verdict.UNDECIDED


def test_a_guest_that_never_answered_in_one_round_proves_nothing() -> None:
    assert judge(changed(lambda one: replace(one, guest=None))).verdict is Verdict.UNDECIDED


def test_a_scenario_without_rounds_is_not_asked_for_any() -> None:
    assert all(check.view != "leaks" for check in judge(good("E3", "F1")).checks)


def test_the_log_has_every_round_and_names_what_stood_still() -> None:
    text = history(side(counting("msi_irqs", 1)))
    lines = text.splitlines()
    assert lines[0].split() == ["round", "domid", "interrupts", "msi_irqs"]
    assert [line.split()[-1] for line in lines[1:21]] == [str(20 + number) for number in range(1, 21)]
    assert "device_irqs 20" in text
    assert history(side(good("E3", "F1"))) == ""


def test_the_terminal_has_first_last_and_growth() -> None:
    lines = leaks("E3-F7-hvm-nvme", side(counting("msi_irqs", 1)))
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert "leaks over 20 rounds of E3-F7-hvm-nvme on stock" in text
    assert "got interrupts in 20 of 20 rounds; 22 of 23 counters stood still" in text
    assert "LEAK PCI-MSI irqs in Xen (key i): 24 -> 37 (+13; more in 18 of 18 rounds)" in text
    assert not any("LEAK" in line for line in leaks("x", side(good("E3", "F7"))))
    assert leaks("x", side(good("E3", "F1"))) == []


def test_a_round_with_as_much_as_the_one_before_is_no_rise() -> None:
    once = changed(lambda one: replace(one, counts={**COUNTS, "msi_irqs": 20 if one.number < 12 else 40}))
    (grown,) = (one for one in growth([one.counts for one in once.rounds]) if one.counter.name == "msi_irqs")
    assert (grown.rises, str(grown)) == (1, "20 -> 40, more in 1 of 18 rounds")


def test_the_number_of_rounds_is_an_option_of_scenarios_that_have_them() -> None:
    rows = chosen(RunOptions(scenario=("E3-F[17]-hvm-nvme",), rounds=5))
    assert [row.follow.rounds for row in rows] == [0, 5]
    assert RunOptions(rounds=5).repeat_options == " --rounds 5"
    with pytest.raises(UsageError, match="rounds"):
        chosen(RunOptions(scenario=("E3-F1-hvm-nvme",), rounds=5))
    assert scenario("E3", "F7").with_rounds(3).follow.rounds == 3
