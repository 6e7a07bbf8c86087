"""`maskall nested`: the embedded lab by hand."""

from __future__ import annotations

import shlex
from pathlib import Path

import typer

from harness.base.errors import LockHeld, UsageError
from harness.cli.options import takes
from harness.cli.words import Device, Kept, Stack
from harness.run.options import RunOptions

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The Xen host that runs inside QEMU.")

_MIB = 1024 * 1024


@app.command(epilog="Example: maskall nested build --stack bookworm")
@takes("nested")
def build(options: RunOptions, stack: Stack = None) -> None:
    """Build the host where that is not done already.

    Installs what is missing, makes the image, boots it once and freezes it.
    """
    from rich.console import Console

    from harness.base.progress import progress_for
    from harness.host.stacks import stack as known_stack
    from harness.nested.apt_sources import use_mirror
    from harness.run.prepare import prepared_lab

    chosen = known_stack(stack)
    use_mirror(options.mirror)
    with progress_for(Console()) as progress:
        lab = prepared_lab(chosen, [], progress, sudo=options.yes)
    typer.echo(f"image     {lab.image.path}\nsnapshot  {lab.snapshot.path}")


@app.command("kernel-config", epilog="Example: maskall nested kernel-config > kernel/configs/maskall.config")
def kernel_config() -> None:
    """Print the options of Linux that a kernel of your own takes, for dom0 and for the guests.

    As 'make defconfig maskall.config' reads them from kernel/configs: all built in, so that it takes no modules.
    """
    from harness.guest.drivers import drivers
    from harness.nested.ownkernel import fragment

    typer.echo(fragment(drivers().values()), nl=False)


@app.command(epilog="Example: maskall nested up --device e1000e")
def up(stack: Stack = None, device: Device = "nvme") -> None:
    """Start a host and leave it running."""
    from rich.console import Console

    from harness.base.progress import progress_for
    from harness.host.stacks import stack as known_stack
    from harness.nested import access
    from harness.run.prepare import prepared_lab

    chosen = known_stack(stack)
    with progress_for(Console()) as progress:
        lab = prepared_lab(chosen, [device], progress)
        before = set(lab.kept())
        with lab.host([device], progress, keep=True) as host:
            host.transport.close()
    for path in set(lab.kept()) - before:
        typer.echo(f"{path.name} is up with {device}")
        typer.echo(f"  into dom0:  maskall shell {path.name}")
        typer.echo(f"         or:  {shlex.join(access.command(path) or [])}")
        typer.echo(f"  end it:     maskall nested down {path.name}")


@app.command(epilog="Examples: maskall nested down; maskall nested down run-k3jd82hs")
def down(run: Kept = None) -> None:
    """End hosts that were left running."""
    from harness.nested.cache import Cache
    from harness.nested.rundir import kept_runs, remove

    runs = Cache().root / "runs"
    paths = kept_runs(runs) if run is None else [kept_run(run, runs)]
    for path in paths:
        remove(path)
        typer.echo(f"{path.name} ended")
    if not paths:
        typer.echo("no host was left running")


@app.command(epilog="Example: maskall nested status")
def status() -> None:
    """Show what is built and what runs, and what this machine offers; change nothing."""
    from harness.nested import prerequisites
    from harness.nested.accelerator import detect
    from harness.nested.cache import Cache
    from harness.nested.emulator import known_emulator
    from harness.nested.rundir import all_runs

    cache = Cache()
    lacking = [need.package for need in prerequisites.missing()]
    emulator = known_emulator(cache)
    accelerator = emulator.usable(detect()) if emulator else detect()
    typer.echo(f"emulator     {f'QEMU {emulator.version}' if emulator else 'comes with the first run'}")
    typer.echo(f"accelerator  {accelerator.name}: {accelerator.why}")
    typer.echo(f"packages     {'missing: ' + ', '.join(lacking) if lacking else 'all there'}")
    typer.echo(f"cache        {cache.root}")
    entries = sorted((cache.root / "entries").glob("*")) if cache.root.is_dir() else []
    for entry in entries:
        used = sum(file.lstat().st_blocks * 512 for file in entry.rglob("*"))
        typer.echo(f"  {entry.name}  {used // _MIB} MiB")
    if not entries:
        typer.echo("  nothing built yet; maskall nested build")
    typer.echo("hosts")
    runs = all_runs(cache.root / "runs")
    for path in runs:
        typer.echo(f"  {path.name}  {_state(path)}")
    if not runs:
        typer.echo("  none")


@app.command(epilog="Example: maskall nested clean")
def clean() -> None:
    """Remove all images and snapshots.

    Refused while a host runs on them.
    """
    from harness.nested import practice
    from harness.nested.cache import Cache
    from harness.nested.rundir import all_runs, sweep

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


def kept_run(name: str, runs: Path) -> Path:
    """The run left running that is called `name`. UsageError with the nearest name."""
    from harness.base.yamlfile import nearest
    from harness.nested.rundir import kept_runs

    known = {path.name: path for path in kept_runs(runs)}
    if name not in known:
        hint = nearest(name, known) or "none was left running; see maskall nested up"
        raise UsageError(f"no host called {name!r} was left running", hint=hint)
    return known[name]


def _state(path: Path) -> str:
    from harness.nested.rundir import emulator_pid, kept_runs, owner_gone

    if path in kept_runs(path.parent):
        alive = emulator_pid(path) is not None
        return f"left running; maskall shell {path.name}" if alive else "left running, but its emulator is gone"
    return "left behind by a run that died; the next run removes it" if owner_gone(path) else "belongs to a run"
