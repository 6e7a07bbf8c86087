"""Which devices may be touched: default deny. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType

from harness.base.errors import ParseError, SafetyRefusal, UsageError
from harness.base.text import inert
from harness.base.yamlfile import nearest
from harness.lab.inventory.models import DeviceEntry
from harness.lab.safety.checks import console, iommu, kind, msix, network, owner, reset, siblings, storage
from harness.lab.safety.checks.finding import Decision, Finding, Lending, Level
from harness.lab.safety.facts.facts import Function, HostFacts
from harness.lab.safety.facts.resolve import resolve
from harness.model.address import Bdf

__all__ = ["Decision", "Finding", "Level", "check_names", "decide", "decide_at", "explain", "refuse_unknown"]

Check = Callable[[Function, HostFacts, Lending], Iterator[Finding]]
_CHECKS: Mapping[str, Check] = {
    module.__name__.rpartition(".")[2]: module.check
    for module in (storage, network, console, kind, siblings, reset, owner, msix, iommu)
}
_SHOWN = 3  # lines of evidence in one text
_NOWHERE: Mapping[tuple[str, ...], Bdf] = MappingProxyType({})


def decide(
    name: str,
    entry: DeviceEntry,
    facts: HostFacts,
    *,
    ours: frozenset[Bdf] = frozenset(),
    lent: frozenset[Bdf] = frozenset(),
    known: Mapping[tuple[str, ...], Bdf] = _NOWHERE,
) -> Decision:
    """Every check's finding about the device of the inventory; one that is not found for certain is LETHAL."""
    try:
        bdf = resolve(facts, entry.identity, known)
    except SafetyRefusal as refusal:
        return Decision(name, None, (Finding("identity", Level.LETHAL, str(refusal)),))
    return decide_at(name, bdf, facts, Lending(ours, lent))


def decide_at(name: str, bdf: Bdf, facts: HostFacts, context: Lending) -> Decision:
    """Every check's findings about the function at an address that is known to be meant."""
    function = facts.functions[bdf]
    found = [finding for check, call in _CHECKS.items() for finding in _ask(check, call, function, facts, context)]
    return Decision(name, bdf, tuple(found))


def _ask(name: str, check: Check, function: Function, facts: HostFacts, context: Lending) -> list[Finding]:
    """What a check says; nothing means that it has nothing against the device. What it said before it failed counts."""
    found = []
    try:
        for finding in check(function, facts, context):
            found.append(finding)  # one by one: what came before an error is kept
    except ParseError as error:
        found.append(Finding(name, Level.DENY, f"unknown: {error.message}"))
    return found or [Finding(name, Level.OK, "nothing against it")]


def explain(decision: Decision, accepted: Mapping[str, str]) -> list[str]:
    """One line for each finding that is not OK, the worst first, fit for a terminal."""
    shown = []
    for finding in sorted(decision.findings, key=lambda finding: -finding.level):
        if finding.level is Level.OK:
            continue
        lines = [f"{line.section}:{line.number}: {line.text[:120]}" for line in finding.evidence[:_SHOWN]]
        text = f"{finding.level.name} {finding.check}: {finding.reason}"
        text += f" ({'; '.join(lines)})" if lines else ""
        if finding.level is Level.DENY and accepted.get(finding.check):
            text += f"; accepted: {accepted[finding.check]}"
        shown.append(inert(text))
    return shown


def check_names() -> tuple[str, ...]:
    """Names of the checks whose DENY can be accepted."""
    return tuple(_CHECKS)


def refuse_unknown(accepted: Iterable[str]) -> None:
    """UsageError for a name that is no check's."""
    for name in accepted:
        if name not in _CHECKS:
            raise UsageError(f"'{inert(name)}' is no check of the safety gate", hint=nearest(name, _CHECKS))
