"""`maskall doctor`, `plan` and `restore`: a lab host examined, and brought back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import typer
from rich.console import Console

from harness.base.deadline import Deadline
from harness.base.errors import ExitStatus, LabError, RestoreFailed
from harness.base.progress import Progress, progress_for
from harness.base.text import inert
from harness.lab.doctor import Finding, examine
from harness.lab.lease.claim import look
from harness.lab.lease.site import Site
from harness.lab.lease.state import HostState
from harness.lab.lease.visit import CONNECT_SECONDS, Visit
from harness.lab.lease.wishes import Wishes, accepted
from harness.lab.planned import changes
from harness.lab.provision.survey import plan_lines
from harness.lab.provision.survey import read as read_system
from harness.lab.recorder import record
from harness.lab.rescue import Rescue
from harness.lab.safety.facts.collect import read_facts
from harness.lab.safety.facts.parse import parse_facts
from harness.lab.safety.gate import explain, refuse_unknown
from harness.lab.survey import Survey, joined
from harness.play.catalogue import catalogue
from harness.play.plan import Borrowed
from harness.run.options import OUR_INVENTORY
from harness.run.store import write_atomically
from harness.scenario.choose import all_scenarios
from harness.transport.ssh import SshTransport

_FACTS_SECONDS = 60.0


def doctor(host: str, inventory: Path | None, accept: tuple[str, ...], raw: Path | None) -> int:
    """`maskall doctor`: 0 when the host is ready and every device of it may be borrowed, else 1."""
    site, wanted = Site.find(inventory or OUR_INVENTORY, host), accepted(accept)
    refuse_unknown(wanted)
    with _reading(site) as (transport, progress):
        with progress.phase(f"read the facts of {host}"):
            sections = read_facts(transport, Deadline.after(_FACTS_SECONDS))
        if raw is not None:
            write_atomically(raw, joined(sections))
        facts = parse_facts(sections)
        findings = examine(site.entry, facts, look(transport), HostState.of(site.name).quarantine)
    survey = Survey.of(facts, site.entry.devices, wanted)
    for line in [*_told(findings), "", *_devices(survey)]:
        typer.echo(inert(line))
    good = all(one.good for one in findings)
    allowed = [name for name, one in survey.decisions.items() if one.allowed(wanted)]
    usable = f"{len(allowed)} of {len(survey.decisions)} devices may be borrowed"
    typer.echo(f"\n{host} is {'ready' if good else 'not ready'}; {usable}")
    return ExitStatus.OK if good and len(allowed) == len(survey.decisions) else ExitStatus.FAILED


def plan(host: str, inventory: Path | None, device: tuple[str, ...], accept: tuple[str, ...]) -> int:
    """`maskall plan`: 0 when a run could begin, else 1."""
    site, wanted = Site.find(inventory or OUR_INVENTORY, host), accepted(accept)
    refuse_unknown(wanted)
    devices = site.devices(device)
    with _reading(site) as (transport, progress), progress.phase(f"read the facts of {host}"):
        survey = Survey.of(parse_facts(read_facts(transport, Deadline.after(_FACTS_SECONDS))), devices, wanted)
        xen = survey.facts.xen_version is not None
        provisioning = [] if xen else plan_lines(read_system(transport))
    for line in provisioning:
        typer.echo(inert(line))
    refused = False
    held = {
        name: Borrowed(decision.bdf, survey.facts.functions[decision.bdf].driver)
        for name, decision in survey.decisions.items()
        if decision.allowed(wanted) and decision.bdf is not None
    }
    rows = [row for row in all_scenarios(catalogue(), site.candidates(device)) if held.keys() >= set(row.devices)]
    for name, decision in survey.decisions.items():
        if not decision.allowed(wanted):
            refused = True
            for line in [f"{name} would not be touched:", *(f"  {one}" for one in explain(decision, wanted))]:
                typer.echo(inert(line))
            continue
        typer.echo(inert(f"{name} at {held[name].address}, in the scenarios that it may be played with:"))
        about = [row for row in rows if row.devices[0] == name]
        for change in changes(site.name, site.entry, devices, held, about):
            typer.echo(inert(f"  {change.text:<58} undo: {change.undo}"))
    typer.echo(
        "\nEvery change is written into a journal, here and on the host, before it is made; afterwards the host is"
        "\ncompared with how it was. Whatever is wrong then is put right by 'maskall restore', from here or elsewhere."
    )
    return ExitStatus.FAILED if refused else ExitStatus.OK


def restore(host: str, inventory: Path | None, wait: int, take_over: str | None) -> int:
    """`maskall restore`: 0 when the host is as it was; RestoreFailed when it is not."""
    site = Site.find(inventory or OUR_INVENTORY, host)
    state = HostState.of(site.name)
    with progress_for(Console()) as progress, contextlib.ExitStack() as stack:
        console = record(state, site.entry, progress.note)
        if console is not None:
            stack.callback(console.stop)
        with progress.phase(f"claim {host}"):
            visit = _arrived(site, Wishes({}, wait, take_over, reason="maskall restore"), progress)
        stack.callback(visit.end)
        if not visit.left_behind:
            state.cure()
            progress.note(f"{host}: no run has left anything; nothing to do")
            return ExitStatus.OK
        for entry in visit.journal.entries:
            if "text" in entry.payload:
                progress.note(inert(f"on record: {entry.at} {entry.payload['text']}"))
        with progress.phase("put everything back"):
            try:
                visit.put_back(whole=True)
            except LabError as error:
                progress.note(f"not at once: {error}")
                climbed = Rescue(visit, site.power(), console).climb()
                if not climbed.restored:
                    raise RestoreFailed(f"{host} is still not as it was: {climbed.told}") from error
                visit.put_back(whole=True)
            visit.close_journal()
    typer.echo(f"{host} is as it was before, read back and compared")
    return ExitStatus.OK


def _arrived(site: Site, wishes: Wishes, progress: Progress) -> Visit:
    """A host that does not answer is switched off and on, if that is allowed: nothing else can bring it back."""
    try:
        return Visit.begin(site, wishes, progress.note)
    except LabError as error:
        power = site.power() if site.entry.allow_reboot else None
        if power is None or not HostState.of(site.name).journal.exists():
            raise
        progress.note(f"{error.message}; a run of ours is not undone there, so it is power cycled")
        power.cycle(Deadline.after(site.entry.boot_seconds))
        link = site.transport()
        link.connect(Deadline.after(site.entry.boot_seconds))
        link.close()
        return Visit.begin(site, wishes, progress.note)


@contextlib.contextmanager
def _reading(site: Site) -> Iterator[tuple[SshTransport, Progress]]:
    """A link that is used for reading only, without a claim."""
    transport = site.transport()
    with progress_for(Console(stderr=True)) as progress:
        try:
            with progress.phase(f"connect to {site.name}"):
                transport.connect(Deadline.after(CONNECT_SECONDS))
            yield transport, progress
        finally:
            transport.close()


def _told(findings: list[Finding]) -> Iterator[str]:
    for one in findings:
        yield f"{'ok' if one.good else 'NOT OK':<8}{one.name:<14}{one.seen}"
        if not one.good and one.mend:
            yield f"{'':<8}{'':<14}-> {one.mend}"


def _devices(survey: Survey) -> Iterator[str]:
    for name, decision in survey.decisions.items():
        verdict = "may be borrowed" if decision.allowed(survey.accepted) else "is not touched"
        yield f"{name} {f'at {decision.bdf} ' if decision.bdf else ''}{verdict}"
        yield from (f"    {line}" for line in explain(decision, survey.accepted))
