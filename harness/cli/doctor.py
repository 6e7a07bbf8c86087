"""`maskall doctor`: a lab host examined, over ssh or by facts in a file; nothing on it changed but by a trial reset."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.base.errors import ExitStatus, SafetyRefusal, UsageError
from harness.cli.options import takes
from harness.run.options import RunOptions

if TYPE_CHECKING:
    from harness.lab.doctor import HostFinding
    from harness.lab.safety.facts.facts import HostFacts
    from harness.lab.safety.gate import Decision

app = typer.Typer()
_BRIDGE = "06"


@app.command(
    epilog="""Examples:

\b
  maskall doctor xenbox1 --inventory inventory/lab.yaml
  maskall doctor xenbox1 --raw facts.txt     also keep what the host answered
  maskall doctor --print-program > facts.sh  where ssh is not possible: run it there as root,
                                             'sh facts.sh > facts.txt', and bring the answer here
  maskall doctor --facts facts.txt --device 0000:41:00.0 --device 8086:1521
  maskall doctor xenbox1 --facts facts.txt --inventory inventory/lab.yaml
  maskall doctor xenbox1 --try-reset nic0    borrow it, reset it by each method that Linux has, give it back

Exit status: 0 ready; 1 not usable as it is; 2 wrong options or files; 3 the host does not answer."""
)
@takes("doctor")
def doctor(
    options: RunOptions,
    host: Annotated[
        str | None, typer.Argument(help="Name of a host in the inventory; none with --facts.", metavar="[HOST]")
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this device, may be repeated: a name of the inventory; without HOST an address, "
            "vendor:device, a MAC, a serial number, or id=ID,mac=MAC.",
            metavar="DEVICE",
        ),
    ] = None,
    raw: Annotated[Path | None, typer.Option(help="Keep the host's raw answer here.", metavar="FILE")] = None,
    facts: Annotated[
        Path | None, typer.Option(help="Decide by the facts in this file; no host is asked.", metavar="FILE")
    ] = None,
    try_reset: Annotated[
        str | None,
        typer.Option(
            "--try-reset",
            help="Borrow this device, reset it by each method Linux has, and give it back, journaled as a run: does it "
            "come back, and without MASKALL?",
            metavar="DEVICE",
        ),
    ] = None,
    print_program: Annotated[
        bool, typer.Option("--print-program", help="Print the program that reads the facts, to run it by hand.")
    ] = False,
) -> int:
    """Say whether a lab host can be used, is safe to use, what is missing and how to mend it.

    Reads only; nothing on the host is changed, but for --try-reset.
    """
    from harness.lab.safety.facts import stored
    from harness.lab.safety.gate import refuse_unknown

    options = replace(options, host=host, device=tuple(device or ()))
    if print_program:
        if host or facts or raw or options.device or try_reset:
            raise UsageError("--print-program asks nothing of any host: it stands alone")
        typer.echo(stored.program(), nl=False)
        return ExitStatus.OK
    refuse_unknown(options.accepted)
    if try_reset is not None:
        if facts is not None or raw is not None or options.device or host is None:
            raise UsageError("--try-reset goes with a HOST alone", hint="maskall doctor HOST --try-reset DEVICE")
        return _try_reset(options, try_reset)
    if facts is not None:
        if raw is not None:
            raise UsageError("--raw keeps what a host answers, and with --facts none is asked")
        return _offline(options, facts)
    if host is None:
        raise UsageError("which host?", hint="maskall doctor HOST, or maskall doctor --facts FILE")
    return _online(options, raw)


def _try_reset(options: RunOptions, name: str) -> int:
    """0 when every reset brought the device back whole, else 1. UsageError, SafetyRefusal, LabError."""
    from rich.console import Console

    from harness.base.progress import progress_for
    from harness.base.text import inert
    from harness.lab.real import RealLab
    from harness.lab.tryreset import try_resets

    with progress_for(Console(stderr=True)) as progress:
        lab = RealLab.opened(options.site, [name], options.wishes("maskall doctor --try-reset"), progress)
        try:
            tried = try_resets(lab, name, progress)
        finally:
            lab.close()
    for one in tried:
        typer.echo(inert(f"{'ok' if one.good else 'NOT OK':<8}reset of {name} by {one.method}: {one.seen}"))
    typer.echo(f"\n{name} was given back")
    return ExitStatus.OK if all(one.good for one in tried) else ExitStatus.FAILED


def _online(options: RunOptions, raw: Path | None) -> int:
    """0 when the host is ready and every device that was asked for may be borrowed, else 1. UsageError, LabError."""
    from harness.base.deadline import Deadline
    from harness.base.text import inert
    from harness.cli.reading import FACTS_SECONDS, reading
    from harness.lab.doctor import examine
    from harness.lab.lease.claim import look, owner_of
    from harness.lab.lease.state import HostState
    from harness.lab.safety.facts import stored
    from harness.lab.safety.facts.collect import read_facts
    from harness.lab.safety.facts.parse import parse_facts
    from harness.lab.survey import Survey
    from harness.run.store import write_out

    site, wanted = options.site, options.accepted
    devices = site.devices(options.device) if options.device else site.entry.devices
    with reading(site) as (transport, progress):
        with progress.phase(f"read the facts of {site.name}"):
            sections = read_facts(transport, Deadline.after(FACTS_SECONDS))
        if raw is not None:
            write_out(raw, stored.kept(sections))
        facts = parse_facts(sections)
        state, claimed = HostState.of(site.name), look(transport)
        if claimed is not None and claimed.holder.owner != owner_of(os.environ):
            state.hear(claimed.told)  # so that no restore switches it off under them, should it fall silent
        findings = examine(site.entry, facts, claimed, state.quarantine)
    survey = Survey.of(facts, devices, wanted)
    for line in [*_told(findings), "", *_devices(survey.decisions, wanted)]:
        typer.echo(inert(line))
    good = all(one.good for one in findings)
    allowed, usable = _counted(survey.decisions, wanted)
    typer.echo(f"\n{site.name} is {'ready' if good else 'not ready'}; {usable}")
    return ExitStatus.OK if good and allowed else ExitStatus.FAILED


def _offline(options: RunOptions, path: Path) -> int:
    """0 when by the facts in a file every device that was asked for may be borrowed, else 1. UsageError."""
    from harness.base.text import inert
    from harness.lab.safety.facts import stored
    from harness.lab.survey import Survey

    if options.host is None and options.inventory is not None:
        raise UsageError("which host of the inventory are these the facts of?", hint="maskall doctor HOST --facts FILE")
    wanted, devices = options.accepted, None
    if options.host is not None:
        site = options.site
        devices = site.devices(options.device) if options.device else site.entry.devices
    seen = stored.read(path)
    if devices is not None:
        decisions = Survey.of(seen.facts, devices, wanted).decisions
    else:
        decisions = _meant(options.device, seen.facts)
    for note in seen.notes:
        typer.echo(inert(f"note: {note}"), err=True)
    for line in _devices(decisions, wanted):
        typer.echo(inert(line))
    allowed, usable = _counted(decisions, wanted)
    typer.echo(f"\nby {inert(str(path))}: {usable}")
    return ExitStatus.OK if allowed else ExitStatus.FAILED


def _meant(words: tuple[str, ...], facts: HostFacts) -> Mapping[str, Decision]:
    """Decisions about what the words mean; without any about all functions that are no bridges."""
    from harness.lab.safety.checks.finding import Finding, Lending, Level
    from harness.lab.safety.facts.wanted import find
    from harness.lab.safety.gate import Decision, decide_at

    places: dict[str, SafetyRefusal | None] = {}
    found = {}
    for word in words:
        try:
            found[word] = find(word, facts)
        except SafetyRefusal as refusal:
            places[word] = refusal
    if not words:
        ends = (one for one in facts.functions.values() if one.base != _BRIDGE)
        found = {str(one.bdf): one.bdf for one in ends}
    lent = frozenset(found.values()) if words else frozenset()
    decisions = {name: decide_at(name, bdf, facts, Lending(lent=lent)) for name, bdf in found.items()}
    for word, refused in places.items():
        decisions[word] = Decision(word, None, (Finding("identity", Level.LETHAL, str(refused)),))
    return decisions


def _counted(decisions: Mapping[str, Decision], wanted: Mapping[str, str]) -> tuple[bool, str]:
    allowed = [name for name, one in decisions.items() if one.allowed(wanted)]
    return len(allowed) == len(decisions), f"{len(allowed)} of {len(decisions)} devices may be borrowed"


def _told(findings: list[HostFinding]) -> Iterator[str]:
    for one in findings:
        yield f"{'ok' if one.good else 'NOT OK':<8}{one.name:<14}{one.seen}"
        if not one.good and one.mend:
            yield f"{'':<8}{'':<14}-> {one.mend}"


def _devices(decisions: Mapping[str, Decision], wanted: Mapping[str, str]) -> Iterator[str]:
    from harness.lab.safety.gate import explain

    for name, decision in decisions.items():
        verdict = "may be borrowed" if decision.allowed(wanted) else "is not touched"
        place = f"at {decision.bdf} " if decision.bdf and str(decision.bdf) != name else ""
        yield f"{name} {place}{verdict}"
        yield from (f"    {line}" for line in explain(decision, wanted))
