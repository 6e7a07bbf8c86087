"""`maskall plan`: every change that a run would make to a lab host, and none of them made."""

from __future__ import annotations

import typer

from harness.base.errors import ExitStatus
from harness.cli.options import HOST, takes
from harness.run.options import RunOptions

app = typer.Typer()


@app.command(epilog="Example: maskall plan xenbox1 --inventory inventory/lab.yaml --device nic0")
@takes("plan", host=HOST)
def plan(options: RunOptions) -> int:
    """Show every change a run would make to a lab host, each with its undo.

    Reads only. What provisioning would change is shown too, where the host is no Xen host yet.
    """
    from harness.base.deadline import Deadline
    from harness.base.text import inert
    from harness.cli.reading import FACTS_SECONDS, reading
    from harness.lab.planned import changes
    from harness.lab.provision.survey import plan_lines
    from harness.lab.provision.survey import read as read_system
    from harness.lab.safety.facts.collect import read_facts
    from harness.lab.safety.facts.parse import parse_facts
    from harness.lab.safety.gate import explain, refuse_unknown
    from harness.lab.survey import Survey
    from harness.play.catalogue import catalogue
    from harness.play.plan import Borrowed
    from harness.scenario.choose import all_scenarios

    site, wanted = options.site, options.accepted
    refuse_unknown(wanted)
    devices = site.devices(options.device)
    with reading(site) as (transport, progress), progress.phase(f"read the facts of {site.name}"):
        survey = Survey.of(parse_facts(read_facts(transport, Deadline.after(FACTS_SECONDS))), devices, wanted)
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
    candidates = site.candidates(options.device)
    rows = [row for row in all_scenarios(catalogue(), candidates) if held.keys() >= set(row.devices)]
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
