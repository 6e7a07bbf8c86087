"""A scenario as a mail to a developers' list: plain text of 72 columns. Pure."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

from harness.base.text import inert
from harness.judge.judgement import Check, Conclusion, Outcome
from harness.model.message import Meaning
from harness.report.page.divergence import Divergence
from harness.report.page.registers import Register
from harness.report.results import RunResult, ScenarioResult, Side

COLUMNS = 72
_MOST = 6
FACTS = (
    ("Xen", "xen_version"),
    ("build-id", "xen_build_id"),
    ("Xen options", "xen_commandline"),
    ("dom0 kernel", "kernel"),
    ("QEMU", "qemu"),
    ("toolstack", "toolstack"),
    ("stack", "stack"),
    ("accelerator", "accelerator"),
)


def mail(
    run: RunResult, scenario: ScenarioResult, divergence: Divergence | None, registers: Sequence[Register]
) -> list[str]:
    """Its lines, the first being the subject; none is longer than COLUMNS."""
    lines = [*_wrapped(f"Subject: {_gist(scenario)}", "  "), ""]
    lines += _wrapped(f"What was played ({scenario.id}): {scenario.title}.", "")
    lines += _wrapped(f"{scenario.conclusion}: {_why(scenario)}", "  ")
    lines += [*(line for path in scenario.expected.documents for line in _wrapped(f"Written up in {path}.", "  ")), ""]
    lines += _tested(run, scenario)
    stands_for = {control.name: control.stands_for for control in run.controls}
    for name, side in scenario.sides:
        lines += ["", *_side(name, side, stands_for.get(side.hypervisor, ""))]
    if divergence:
        lines += ["", *_parting(divergence, registers)]
    lines += ["", "To repeat just this:", *_command(scenario.command_to_repeat)]
    return [inert(line) for line in lines]


def _gist(scenario: ScenarioResult) -> str:
    side = scenario.stock
    if side.verdict.blames_product and side.judgement.violations:
        first = side.judgement.violations[0]
        told = f"{first.subject}: expected {_plain(first.expected)}, seen {_plain(first.seen) or 'nothing'}"
        return f"{scenario.title.partition(';')[0]}: {told}"
    return f"{scenario.id}: {scenario.conclusion}"


def _why(scenario: ScenarioResult) -> str:
    """The reason; where all is well that of stock, for a control is meant to fail."""
    well = scenario.conclusion in (Conclusion.PROVEN, Conclusion.UNPROVEN)
    return _plain(f"stock {scenario.stock.verdict}, {scenario.stock.reason}" if well else scenario.reason)


def _plain(text: str) -> str:
    """Without the expression by which a refusal is known, which tells a reader nothing."""
    return re.sub(r"refused: \S*\(\?i\)[^,]*", "refused", text)


def _tested(run: RunResult, scenario: ScenarioResult) -> Iterator[str]:
    yield "Tested:"
    rows = [(word, run.host.facts[name]) for word, name in FACTS if name in run.host.facts]
    rows += [("device", f"{scenario.device_kind} at {scenario.device}"), ("guest", scenario.guest)]
    rows += [("host", run.host.label or "hardware"), ("tool", f"maskall {run.tool_version}, run {run.run_id}")]
    for word, value in rows:
        yield from _wrapped(f"  {word:12} {value}", " " * 15)


def _side(name: str, side: Side, stands_for: str) -> Iterator[str]:
    told = f" ({stands_for})" if stands_for else ""
    yield from _wrapped(
        f"On {'the control ' if name == 'control' else ''}{side.hypervisor}{told}: {side.verdict}", "  "
    )
    for done in side.record.actions:
        yield from _wrapped(
            f"  {done.checkpoint}  {done.verb}: {done.detail or ('ok' if done.ok else 'failed')}", " " * 6
        )
    unmet = [one for one in side.judgement.violations if one.outcome is Outcome.VIOLATED]
    yield from (line for check in unmet[:_MOST] for line in _check(check))
    if len(unmet) > _MOST:
        yield f"  and {len(unmet) - _MOST} more expectations that were not met"
    if missing := len(side.judgement.violations) - len(unmet):
        yield from _wrapped(f"  {missing} expectations were not looked at: the scenario did not come so far", "    ")
    hazard = side.judgement.hazard
    if hazard.taken and hazard.how:
        yield from _wrapped(f"  the dangerous moment was reached: {hazard.how}", "    ")
    said = [
        one for one in side.record.messages or () if one.meaning is Meaning.SYMPTOM or one.meaning is Meaning.UNKNOWN
    ]
    if said:
        yield "  Xen and dom0 said:"
        for one in said[:_MOST]:
            yield from _wrapped(f"    {one.text}", " " * 8)
    if side.record.call_chain:
        yield "  Xen's call chain, outermost first:"
        yield from (line for frame in reversed(side.record.call_chain) for line in _wrapped(f"    {frame}", " " * 8))


def _check(check: Check) -> list[str]:
    place = f" ({check.raw})" if check.raw else ""
    seen = check.seen or "nothing"
    moment = f"{check.checkpoint}, {check.checkpoint.moment}"
    text = f"  * {moment}, {check.view}: {check.subject}: expected {_plain(check.expected)}, seen {seen}"
    return _wrapped(f"{text}{place}", "    ")


def _parting(divergence: Divergence, registers: Sequence[Register]) -> Iterator[str]:
    at = divergence.checkpoint
    yield from _wrapped(f"Stock and control part at {at}, {at.moment}:", "  ")
    for one in divergence.facts:
        yield from _wrapped(f"  {one.lane} {one.name}: stock {one.stock}; control {one.control}", "    ")
    for register in registers[:_MOST]:
        where = f"config {register.offset:#04x} {register.name}"
        yield from _wrapped(f"  {where}: stock {register.stock}; control {register.control}", "    ")


def _command(text: str) -> Iterator[str]:
    """As it can be pasted: every line but the last ends with a backslash."""
    lines = textwrap.wrap(inert(text), COLUMNS - 6, break_on_hyphens=False, break_long_words=False) or [""]
    for number, line in enumerate(lines, 1):
        end = " \\" if number < len(lines) else ""
        yield from textwrap.wrap(f"    {line}{end}", COLUMNS, drop_whitespace=False) or [""]


def _wrapped(text: str, further: str) -> list[str]:
    return textwrap.wrap(inert(text), COLUMNS, subsequent_indent=further, break_on_hyphens=False) or [""]
