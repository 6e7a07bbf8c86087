"""The judge's output: checks with their evidence, and the verdict they add up to. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from harness.base.errors import ExitStatus
from harness.model.observation import Checkpoint, RawRef
from harness.scenario.spec import ControlRole


class Verdict(enum.StrEnum):
    """One run of one scenario on one hypervisor. Starts as UNDECIDED and must earn anything else."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL = "FAIL"  # the product (Xen, qemu, pciback, libxl) is wrong
    CRASH = "CRASH"  # hypervisor or dom0 died
    ERROR = "ERROR"  # the lab or the harness is at fault
    SKIP = "SKIP"  # cannot be run here, with a reason
    UNDECIDED = "UNDECIDED"  # evidence is missing

    @property
    def blames_product(self) -> bool:
        return self in (Verdict.FAIL, Verdict.CRASH)

    @property
    def unsettled(self) -> bool:
        return self in (Verdict.ERROR, Verdict.UNDECIDED)


class Conclusion(enum.StrEnum):
    """What the runs on the stock and on the known-bad hypervisor say together."""

    PROVEN = "PROVEN"  # stock as expected, and the control shows that the scenario can see the defect
    BLIND = "BLIND"  # the control did not fail: this scenario cannot see the defect
    REGRESSION = "REGRESSION"  # the hypervisor under test is wrong
    UNPROVEN = "UNPROVEN"  # stock passed, no control was run
    KNOWN = "KNOWN"  # stock failed just as a known issue or a missing fix says: expected, and no PASS
    CHANGED = "CHANGED"  # stock passed where a failure was expected: the expectation is out of date
    UNDECIDED = "UNDECIDED"  # a lab error or missing evidence on either side, or a control that died instead of failing
    SKIPPED = "SKIPPED"

    @property
    def as_expected(self) -> bool:
        """Nobody has to look."""
        return self in (Conclusion.PROVEN, Conclusion.UNPROVEN, Conclusion.KNOWN, Conclusion.SKIPPED)


def conclude(
    stock: Verdict, control: Verdict | None, role: ControlRole, *, due: bool = False, known: bool = False
) -> Conclusion:
    """The conclusion of a scenario from the verdicts of its sides and from what was expected of stock.

    `due`: a failure had to come. `known`: everything that was violated on stock is what an expected failure violates;
    only a FAIL can be that, never a CRASH. A product failure on stock outweighs everything. `control` is None when it
    was not run. A control that must notice proves the scenario only by FAIL, an expectation that was seen to be
    violated; one that died of a CRASH has shown nothing about the observation.
    """
    if stock is Verdict.FAIL and known:
        return Conclusion.KNOWN
    if stock is Verdict.PASS and due:
        return Conclusion.CHANGED
    if stock.blames_product:
        return Conclusion.REGRESSION
    if stock is Verdict.SKIP:
        return Conclusion.SKIPPED
    if stock.unsettled or (control is not None and control.unsettled):
        return Conclusion.UNDECIDED
    if control is None or control is Verdict.SKIP or role is ControlRole.NONE:
        return Conclusion.UNPROVEN
    if role is ControlRole.NOTICES:
        return {Verdict.FAIL: Conclusion.PROVEN, Verdict.CRASH: Conclusion.UNDECIDED}.get(control, Conclusion.BLIND)
    return Conclusion.PROVEN if control is Verdict.PASS else Conclusion.REGRESSION


def exit_status(conclusions: list[Conclusion]) -> ExitStatus:
    """Exit status of a whole run; a product failure, blindness or a change outweighs an undecided scenario."""
    ran = [conclusion for conclusion in conclusions if conclusion is not Conclusion.SKIPPED]
    if not ran:
        return ExitStatus.NOTHING_RAN
    if any(conclusion in (Conclusion.REGRESSION, Conclusion.BLIND, Conclusion.CHANGED) for conclusion in ran):
        return ExitStatus.FAILED
    if any(conclusion is Conclusion.UNDECIDED for conclusion in ran):
        return ExitStatus.UNDECIDED
    return ExitStatus.OK


class Outcome(enum.StrEnum):
    MET = "met"
    VIOLATED = "violated"
    MISSING = "missing"  # nothing was seen where something had to be


@dataclass(frozen=True)
class Check:
    """One expectation held against what was seen."""

    checkpoint: Checkpoint
    view: str  # hardware, table, xen, guest, toolstack
    subject: str  # "MASKALL", "owner", "interrupts"
    expected: str
    seen: str
    outcome: Outcome
    raw: RawRef | None = None


def sentence(one: Check) -> str:
    """A check in one line, for a person."""
    return f"{one.checkpoint} {one.view}: {one.subject}: expected {one.expected}, seen {one.seen}"


@dataclass(frozen=True)
class Hazard:
    """Whether the dangerous moment was really reached; a run without it proves nothing about the fix."""

    promised: bool
    taken: bool
    how: str = ""  # the marker line or register that shows it
    raw: RawRef | None = None


@dataclass(frozen=True)
class Judgement:
    verdict: Verdict
    reason: str
    hazard: Hazard
    checks: tuple[Check, ...] = field(default=())

    @property
    def violations(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.outcome is not Outcome.MET)
