"""`maskall doctor`: a lab host examined, and nothing on it changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.base.errors import ExitStatus
from harness.cli.options import HOST, takes
from harness.run.options import RunOptions

if TYPE_CHECKING:
    from harness.lab.doctor import Finding
    from harness.lab.survey import Survey

app = typer.Typer()


@app.command(
    epilog="""Examples:

\b
  maskall doctor xenbox1 --inventory inventory/lab.yaml
  maskall doctor xenbox1 --raw facts.txt     also keep what the host answered

Exit status: 0 ready; 1 not usable as it is; 2 wrong options or files; 3 the host does not answer."""
)
@takes("doctor", host=HOST)
def doctor(
    options: RunOptions,
    raw: Annotated[Path | None, typer.Option(help="Keep the host's raw answer here.", metavar="FILE")] = None,
) -> int:
    """Say whether a lab host can be used, is safe to use, what is missing and how to mend it.

    Reads only; nothing on the host is changed.
    """
    from harness.base.deadline import Deadline
    from harness.base.text import inert
    from harness.cli.reading import FACTS_SECONDS, reading
    from harness.lab.doctor import examine
    from harness.lab.lease.claim import look
    from harness.lab.lease.state import HostState
    from harness.lab.safety.facts.collect import read_facts
    from harness.lab.safety.facts.parse import parse_facts
    from harness.lab.safety.gate import refuse_unknown
    from harness.lab.survey import Survey, joined
    from harness.run.store import write_atomically

    site, wanted = options.site, options.accepted
    refuse_unknown(wanted)
    with reading(site) as (transport, progress):
        with progress.phase(f"read the facts of {site.name}"):
            sections = read_facts(transport, Deadline.after(FACTS_SECONDS))
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
    typer.echo(f"\n{site.name} is {'ready' if good else 'not ready'}; {usable}")
    return ExitStatus.OK if good and len(allowed) == len(survey.decisions) else ExitStatus.FAILED


def _told(findings: list[Finding]) -> Iterator[str]:
    for one in findings:
        yield f"{'ok' if one.good else 'NOT OK':<8}{one.name:<14}{one.seen}"
        if not one.good and one.mend:
            yield f"{'':<8}{'':<14}-> {one.mend}"


def _devices(survey: Survey) -> Iterator[str]:
    from harness.lab.safety.gate import explain

    for name, decision in survey.decisions.items():
        verdict = "may be borrowed" if decision.allowed(survey.accepted) else "is not touched"
        yield f"{name} {f'at {decision.bdf} ' if decision.bdf else ''}{verdict}"
        yield from (f"    {line}" for line in explain(decision, survey.accepted))
