"""`maskall bisect`: which commit brought the defect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.base.errors import ExitStatus, UsageError
from harness.cli.options import takes
from harness.run.options import RunOptions

if TYPE_CHECKING:
    from harness.report.results import RunResult
    from harness.run.bisect import Bisecting, Culprit

app = typer.Typer()


@app.command(
    epilog="""Examples:

\b
  maskall bisect --repo ~/xen --good RELEASE-4.20.0 --bad HEAD --build 'make -C xen -j2' --takes xen/xen.gz E14
  maskall bisect ... --rounds 5 --bad-from 2    a defect that comes and goes: bad from 2 of 5 rounds on
  maskall bisect --resume results/DIR           go on after an interrupt; no commit is played twice
  git bisect run sh -c 'make -C xen || exit 125; maskall run --bisect E14 --xen xen/xen.gz'

Exit status: 0 the first bad commit was found and confirmed; 1 an end is not what it was said to be; 2 wrong options;
3 only skipped commits are left, the defect comes and goes, or the lab failed."""
)
@takes("bisect", no_control=True, scenario=typer.Argument(help="Ids or globs of what tells good from bad."))
def bisect(
    options: RunOptions,
    repo: Annotated[Path | None, typer.Option(help="The git repository of the product.", metavar="DIR")] = None,
    good: Annotated[str | None, typer.Option(help="A commit without the defect.", metavar="COMMIT")] = None,
    bad: Annotated[str | None, typer.Option(help="A later one that has it.", metavar="COMMIT")] = None,
    build: Annotated[str | None, typer.Option(help="Shell command that builds a commit.", metavar="COMMAND")] = None,
    takes: Annotated[str | None, typer.Option(help="What the build leaves, as for --xen.", metavar="PATH")] = None,
    bad_is: Annotated[
        str | None,
        typer.Option(help="Only this failure is bad, as 'C6 hardware: message control'; others are skipped."),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Play each commit at most so often.", min=1, max=50, metavar="N")] = 1,
    bad_from: Annotated[int, typer.Option(help="So many bad rounds make it bad.", min=1, max=50, metavar="N")] = 1,
    resume: Annotated[Path | None, typer.Option(help="Go on with the bisect in this directory.", metavar="DIR")] = None,
) -> int:
    """Find the commit of a developer's tree that brought the defect.

    git bisect in a worktree of its own: each commit is built and its hypervisor played on the nested host. Both ends
    are played first, and the two commits that are left once more at the end. A commit that cannot be built or judged
    is skipped. Without a control: the bad end shows that the scenario sees the defect.
    """
    from harness.run.bisect import Bisect, Bisecting, begun
    from harness.run.selection import chosen

    if resume is not None:
        return _go_on(options, begun(resume), resume.absolute())
    given = {"--repo": repo, "--good": good, "--bad": bad, "--build": build, "--takes": takes}
    if missing := [name for name, value in given.items() if not value]:
        raise UsageError(f"{' and '.join(missing)} must be given", hint="see maskall bisect --help")
    if not options.scenario:
        raise UsageError("which scenario tells good from bad?", hint="E14-F1-hvm-virtio-rng takes a minute")
    if bad_from > rounds:
        raise UsageError(f"--bad-from {bad_from} of --rounds {rounds} never comes", hint="give more --rounds")
    chosen(options)  # whatever is wrong with the options is said before anything is built
    asked = Bisecting(
        repo=str(repo and repo.absolute()),
        good=str(good),
        bad=str(bad),
        build=str(build),
        takes=str(takes),
        scenarios=options.scenario,
        bad_is=bad_is,
        rounds=rounds,
        bad_from=bad_from,
    )
    Bisect(options.results_directory(make=False), asked, lambda *_: None, typer.echo).ends()  # before anything is made
    return _go_on(options, asked, options.results_directory())


def _go_on(options: RunOptions, asked: Bisecting, folder: Path) -> int:
    from harness.cli.run import play
    from harness.run.bisect import LOG, Bisect, played_by

    timelines: dict[str, list[str]] = {}

    def one(product: Path, results: Path) -> RunResult | None:
        running = play(replace(options, scenario=asked.scenarios, xen=product, results=results))
        if running.result is None and running.error is not None:
            raise running.error
        if running.result is not None:
            timelines[product.name] = list(_timelines(running.result))
        return running.result

    try:
        found = Bisect(folder, asked, played_by(one, typer.echo), typer.echo).run()
    except KeyboardInterrupt:
        typer.echo(f"go on with: maskall bisect --resume {folder}")
        raise
    typer.echo("\n".join(["", *_told(found, asked, timelines), f"log: {folder / LOG}", f"results: {folder}"]))
    return ExitStatus.OK if found.first_bad else ExitStatus.UNDECIDED


def _timelines(result: RunResult) -> Iterator[str]:
    from harness.report.timeline import timeline

    for scenario in result.scenarios:
        side = scenario.stock
        yield f"{scenario.id}: {side.verdict}: {side.reason}"
        yield timeline(side.record.observations)


def _told(found: Culprit, asked: Bisecting, timelines: dict[str, list[str]]) -> Iterator[str]:
    from harness.run.bisect import names

    if found.first_bad is None:
        yield f"only commits are left that cannot be judged; the first bad one is among {names(found.candidates)}"
        return
    yield f"{found.first_bad} is the first bad commit"
    for title, commit in (("last good", found.last_good), ("first bad", found.first_bad)):
        yield from (f"{title}, {str(commit)[:12]}:", *timelines.get(str(commit), []))
    yield found.risk
