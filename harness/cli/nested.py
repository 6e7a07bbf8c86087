"""`maskall nested`: the embedded lab by hand."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import typer
from rich.console import Console

from harness.base.errors import LockHeld, UsageError
from harness.base.progress import progress_for
from harness.base.yamlfile import nearest
from harness.cli.run import use_mirror
from harness.host.stacks import stack
from harness.nested import access, practice, prerequisites
from harness.nested.accelerator import detect
from harness.nested.cache import Cache
from harness.nested.rundir import all_runs, emulator_pid, kept_runs, owner_gone, remove, sweep
from harness.run.prepare import prepared_lab

_MIB = 1024 * 1024


def build_host(stack_name: str, mirror: str | None, *, sudo: bool) -> None:
    stack(stack_name)
    use_mirror(mirror)
    with progress_for(Console()) as progress:
        lab = prepared_lab(stack_name, [], progress, sudo=sudo)
    typer.echo(f"image     {lab.image.path}\nsnapshot  {lab.snapshot.path}")


def start_host(stack_name: str, device: str) -> None:
    stack(stack_name)
    with progress_for(Console()) as progress:
        lab = prepared_lab(stack_name, [device], progress)
        before = set(lab.kept())
        with lab.host([device], progress, keep=True) as host:
            host.transport.close()
    for path in set(lab.kept()) - before:
        typer.echo(f"{path.name} is up with {device}")
        typer.echo(f"  into dom0:  maskall shell {path.name}")
        typer.echo(f"         or:  {shlex.join(access.command(path) or [])}")
        typer.echo(f"  end it:     maskall nested down {path.name}")


def kept_run(name: str, runs: Path) -> Path:
    """The run left running that is called `name`. UsageError with the nearest name."""
    known = {path.name: path for path in kept_runs(runs)}
    if name not in known:
        hint = nearest(name, known) or "none was left running; see maskall nested up"
        raise UsageError(f"no host called {name!r} was left running", hint=hint)
    return known[name]


def end_hosts(name: str | None) -> None:
    runs = Cache().root / "runs"
    paths = kept_runs(runs) if name is None else [kept_run(name, runs)]
    for path in paths:
        remove(path)
        typer.echo(f"{path.name} ended")
    if not paths:
        typer.echo("no host was left running")


def status_lines() -> Iterator[str]:
    """What is built, what runs, what this machine offers; changes nothing."""
    cache = Cache()
    lacking = [need.package for need in prerequisites.missing()]
    accelerator = detect()
    yield f"accelerator  {accelerator.name}: {accelerator.why}"
    yield f"packages     {'missing: ' + ', '.join(lacking) if lacking else 'all there'}"
    yield f"cache        {cache.root}"
    entries = sorted((cache.root / "entries").glob("*")) if cache.root.is_dir() else []
    for entry in entries:
        used = sum(file.lstat().st_blocks * 512 for file in entry.rglob("*"))
        yield f"  {entry.name}  {used // _MIB} MiB"
    if not entries:
        yield "  nothing built yet; maskall nested build"
    yield "hosts"
    runs = all_runs(cache.root / "runs")
    for path in runs:
        yield f"  {path.name}  {_state(path)}"
    if not runs:
        yield "  none"


def _state(path: Path) -> str:
    if path in kept_runs(path.parent):
        alive = emulator_pid(path) is not None
        return f"left running; maskall shell {path.name}" if alive else "left running, but its emulator is gone"
    return "left behind by a run that died; the next run removes it" if owner_gone(path) else "belongs to a run"


def clean_cache() -> None:
    cache = Cache()
    runs = cache.root / "runs"
    sweep(runs)
    used = all_runs(runs)
    if used:
        hint = "maskall nested down ends those left running; others end with their run"
        raise LockHeld(f"in use by {', '.join(path.name for path in used)}", hint=hint)
    practising = practice.machines(cache)  # their disks are overlays over the image
    if practising:
        hint = "maskall practice down ends it"
        raise LockHeld(f"in use by the practice machine {practising[0].name}", hint=hint)
    typer.echo(f"{cache.clean() // _MIB} MiB freed")
