"""`maskall certify` and `maskall countersign`: from a card on a bench to a certificate that others can make again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.base.errors import ExitStatus, UsageError
from harness.cli.options import takes
from harness.run.options import RunOptions

if TYPE_CHECKING:
    from harness.report.bundle.certificate import Certificate

app = typer.Typer()
_RUN = "run"
_PACKAGES_SECONDS = 1800.0  # every file of Xen, QEMU and the kernel is read, on an emulated disk too


@app.command(
    epilog="""Examples:

\b
  maskall certify xenbox1 --inventory inventory/lab.yaml --device nic0 --sign ~/.ssh/id_ed25519 --challenge 7f3a9c
  maskall certify --resume certificates/xenbox1-20260102-030405 --sign ~/.ssh/id_ed25519
  maskall certify --only-failed certificates/xenbox1-20260102-030405 --sign ~/.ssh/id_ed25519
  maskall certify xenbox1 --inventory inventory/lab.yaml --device nic0 --repeat 5   every row, and not 3 times what
                                                                                    takes the hazard

One directory: run/, the bundle, certificate.json, certificate.txt. docs/certification.md goes through all of it.

Exit status: 0 CERTIFIED; 1 NOT CERTIFIED, or the host is not ready; 2 wrong options or files; 3 INCOMPLETE."""
)
@takes("certify", profile="certify")
def certify(
    options: RunOptions,
    host: Annotated[
        str | None,
        typer.Argument(help="Name of a host in the inventory; --resume and --only-failed know it.", metavar="[HOST]"),
    ] = None,
    sign: Annotated[
        list[Path] | None, typer.Option(help="Sign the bundle with this ssh key; may be repeated.", metavar="KEY")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="New directory (default: certificates/HOST-<UTC time>).", metavar="DIR")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the certification in this directory.", metavar="DIR")
    ] = None,
    only_failed: Annotated[
        Path | None,
        typer.Option(
            help="A supplement: play again what this certification (or the run in it) does not show.", metavar="DIR"
        ),
    ] = None,
) -> int:
    """Certify a device on a stack: examine the host, play profile certify, bundle, verify, and write a certificate.

    What an emulator yields is labelled, and is never CERTIFIED.
    """
    from harness.cli.doctor import _online
    from harness.cli.plan import plan
    from harness.cli.run import run_scenarios
    from harness.lab.safety.facts.stored import kept
    from harness.run import store
    from harness.run.bundle import signed
    from harness.run.environment import FILES
    from harness.run.selection import chosen

    if only_failed is not None and only_failed.name == _RUN and not (only_failed / _RUN).exists():
        only_failed = only_failed.parent
    folder, options = _asked(options, host, output, resume, only_failed)
    run, keep = folder / _RUN, [folder / Path(name).name for name in FILES]
    chosen(options)  # whatever is wrong is said before a directory is made
    for key in sign or ():
        signed(b"", key)  # and not after hours
    if options.in_lab and resume is None:
        typer.echo("== is the host ready? (maskall doctor)")
        if _online(options, None) != ExitStatus.OK:
            return ExitStatus.FAILED
        typer.echo("\n== what a run will do (maskall plan)")
        given = {"inventory": options.inventory, "device": list(options.device), "accept": list(options.accept)}
        if plan(host=options.host, **given) != ExitStatus.OK:
            return ExitStatus.FAILED
    if options.in_lab and not keep[0].exists():
        typer.echo("\n== what dom0 consists of, before")
        store.write_atomically(keep[0], kept(_environment(options)))
    go_on = f"maskall certify --resume {folder}"
    typer.echo(f"\n== the run (maskall run --profile certify); should it break off: {go_on}")
    run_scenarios(options, go_on)
    if options.in_lab:
        store.write_atomically(keep[1], kept(_environment(options)))
        for name, path in zip(FILES, keep, strict=True):
            store.write_atomically(run / name, path.read_bytes())
    return _certified(folder, sign or [], only_failed)


def _asked(
    options: RunOptions, host: str | None, output: Path | None, resume: Path | None, only_failed: Path | None
) -> tuple[Path, RunOptions]:
    """The directory, and what is to be played into its run. UsageError."""
    from harness.run.resume import settled

    if resume is not None and (only_failed is not None or output is not None):
        other = "--only-failed" if only_failed is not None else "--output"
        raise UsageError(f"--resume and {other} are two things", hint="--resume goes on in its own directory")
    before = resume or only_failed
    if before is None and host is None:
        raise UsageError(
            "which host?", hint="maskall certify HOST --device D; --resume DIR and --only-failed DIR know it"
        )
    options = options if before is None else _of_before(options, host, before)
    if resume is not None:
        return resume, settled(replace(options, resume=resume / _RUN))
    stem = host if before is None else before.resolve().name
    folder = output or Path("certificates") / f"{stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} holds something already", hint="give --output a new directory")
    if only_failed is not None:
        return folder, _again(replace(options, failed=only_failed / _RUN, results=folder / _RUN), only_failed)
    if len(options.device) != 1:
        raise UsageError("one device is certified at a time", hint="name it: --device NAME")
    return folder, replace(options, host=host, results=folder / _RUN)


def _of_before(options: RunOptions, host: str | None, folder: Path) -> RunOptions:
    """What a certification that is there already says by itself: its profile, and its host if one was named."""
    from harness.base.errors import EvidenceError
    from harness.run.again import begun_in

    try:
        begun = begun_in(folder / _RUN)
    except EvidenceError as error:
        raise UsageError(
            f"{folder / _RUN}: {error.message}", hint="'maskall certify' makes such a directory"
        ) from error
    was = RunOptions.of_words(begun.repeat_options).host or begun.host.name
    if host not in (None, was):
        raise UsageError(f"{folder} is of {was}, and not of {host}", hint="leave the host out, or certify anew")
    return replace(options, profile=RunOptions().profile)


def _again(options: RunOptions, before: Path) -> RunOptions:
    """With what the certification in `before` does not show: rows that are not good each time, and missing ones."""
    from harness.judge.judgement import Conclusion
    from harness.report.bundle.certificate import NAME
    from harness.run.again import begun_in
    from harness.run.certify import load_certificate
    from harness.run.resume import settled
    from harness.run.selection import chosen
    from harness.scenario.repeats import row_of, times_of

    rows = load_certificate(before / NAME).rows
    shown = {name for name, row in rows.items() if row.conclusion in (Conclusion.PROVEN, Conclusion.KNOWN)}
    planned = begun_in(before / _RUN).scenarios
    left = [name for name in planned if row_of(name) not in shown]
    same = settled(replace(options, scenario=tuple(planned)))  # the devices and the options of then
    of_profile = chosen(replace(same, scenario=(), failed=None))
    left += [row.id for row in of_profile if row.row not in times_of(planned)]
    if not left:
        raise UsageError(f"{before}: every row is shown", hint="there is nothing to play again")
    return settled(replace(options, scenario=tuple(left)))


def _environment(options: RunOptions) -> dict[str, bytes]:
    from harness.base.deadline import Deadline
    from harness.cli.reading import reading
    from harness.lab.environment import read_environment

    with reading(options.site) as (transport, progress), progress.phase("read what dom0 consists of"):
        return read_environment(transport, Deadline.after(_PACKAGES_SECONDS))


def _certified(folder: Path, keys: list[Path], only_failed: Path | None) -> int:
    from harness.report.bundle.certificate import NAME, text
    from harness.run.bundle import bundle
    from harness.run.certify import certificate, load_certificate, nobody, store_certificate

    path = folder / f"{folder.resolve().name}.maskall.tar.gz"
    bundle(folder / _RUN, path, keys=keys)
    bundles = [path]
    if only_failed is not None:
        earlier = load_certificate(only_failed / NAME)
        bundles = [*(only_failed / one.file for one in earlier.bundles), path]
    made, verifications = certificate(folder, bundles, nobody())
    store_certificate(made, folder)
    typer.echo("\n== the bundle (maskall verify)")
    for line in (line for one in verifications for line in one.lines):
        typer.echo(line)
    typer.echo(f"\n== the certificate\n{text(made)}")
    typer.echo(f"certificate: {folder / NAME}\nbundle:      {path}\npage:        {folder / _RUN / 'report.html'}")
    return _status(made)


def _status(made: Certificate) -> int:
    from harness.report.bundle.certificate import Result

    return {Result.CERTIFIED: ExitStatus.OK, Result.NOT_CERTIFIED: ExitStatus.FAILED}.get(
        made.result, ExitStatus.UNDECIDED
    )


@app.command(
    epilog="""Examples:

\b
  maskall countersign certificates/nic0/certificate.json --allowed-signers vendors --challenge 7f3a9c
  maskall countersign certificates/nic0/certificate.json --allowed-signers vendors --challenge 7f3a9c \\\\
      --sign ~/.ssh/certifier --verifier https://certify.example.com/maskall
  ssh-keygen -Y verify -f certifiers -I certifier@example.com -n maskall-certificate@v1 \\\\
      -s certificate.svr.json.sig < certificate.svr.json

Without --sign it only looks. Exit status: 0 the certificate is what its bundles say, whatever that is; 1 it is not, or
who signed them may not; 2 wrong usage or files."""
)
def countersign(
    certificate: Annotated[Path, typer.Argument(help="certificate.json, with its bundles beside it.", metavar="FILE")],
    allowed_signers: Annotated[
        Path, typer.Option(help="Who may sign bundles: a file as of ssh-keygen(1).", metavar="FILE")
    ],
    revoked: Annotated[
        Path | None, typer.Option(help="Public keys that count no more, one a line.", metavar="FILE")
    ] = None,
    challenge: Annotated[str | None, typer.Option(help="What you gave the vendor.", metavar="N")] = None,
    sign: Annotated[Path | None, typer.Option(help="Your ssh key.", metavar="KEY")] = None,
    verifier: Annotated[str, typer.Option(help="Who you are, as a URI.", metavar="URI")] = "urn:maskall:certifier",
) -> int:
    """Make a certificate again from its bundles, offline, and sign that it is what they say."""
    from harness.cli.verify import signers_of
    from harness.report.bundle.certificate import text
    from harness.run.certify import countersign as signed
    from harness.run.challenge import answerable
    from harness.run.verify import Wanted

    challenge = answerable(challenge) if challenge is not None else None
    wanted = Wanted(signers_of(allowed_signers, revoked), datetime.now(UTC), challenge)
    found = signed(certificate, wanted, sign, verifier)
    for line in (line for one in found.verifications for line in one.lines):
        typer.echo(line)
    typer.echo(f"\n{text(found.certificate)}")
    for line in found.wrong:
        typer.echo(f"NOT SO: {line}")
    if found.wrong:
        return ExitStatus.FAILED
    told = f"{found.svr} and its .sig say so" if found.svr else "not countersigned: give --sign KEY"
    typer.echo(f"the certificate is what its bundles say; {told}")
    return ExitStatus.OK
