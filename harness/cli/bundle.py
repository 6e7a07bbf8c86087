"""`maskall bundle`: the evidence of a run in one file, for somebody else to check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command(
    epilog="""Examples:

\b
  maskall bundle results/20260102-030405
  maskall bundle results/20260102-030405 --sign ~/.ssh/id_ed25519 --challenge 7f3a9c
  maskall bundle results/20260102-030405 --redact --explain
  tar xzf 20260102-030405.maskall.tar.gz && cd maskall-evidence && sha256sum -c manifest-sha256.txt

The same run, challenge and keys give the same bytes. A key is signed with by ssh-keygen: a private key file without a
passphrase, or the .pub file of a key that ssh-agent holds. docs/bundle.md has the layout and what it proves."""
)
def bundle(
    run: Annotated[Path, typer.Argument(help="The directory of a run that came to its end.", metavar="RUN")],
    sign: Annotated[
        list[Path] | None, typer.Option(help="Sign with this ssh key; may be repeated.", metavar="KEY")
    ] = None,
    challenge: Annotated[
        str | None, typer.Option(help="What the verifier gave you, to answer it.", metavar="N")
    ] = None,
    redact: Annotated[
        bool,
        typer.Option("--redact", help="With pseudonyms for names, MAC and IP addresses, UUIDs and serial numbers."),
    ] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Say what --redact replaced, and by what.")] = False,
    output: Annotated[
        Path | None, typer.Option(help="Where to (default: RUN's name with .maskall.tar.gz, here).", metavar="FILE")
    ] = None,
) -> int:
    """Write the evidence of a run as one signed file.

    Results, records and raw files in a BagIt layout, with a statement of what they are; see 'maskall verify'.
    """
    from harness.base.errors import UsageError
    from harness.base.text import inert
    from harness.run.bundle import bundle as make
    from harness.run.bundle import redacted_bundle
    from harness.run.comparison import run_directory

    root = run_directory(run)
    target = output or Path(f"{root.resolve().name}.maskall.tar.gz")
    if explain and not redact:
        raise UsageError("--explain says what --redact replaces", hint="give both")
    if redact:
        from harness.run.redacted import own_key

        made, redaction = redacted_bundle(root, target, own_key(), keys=sign or [], challenge=challenge)
        for word, (kind, other) in sorted(redaction.replaced.items(), key=lambda one: one[1]) if explain else ():
            typer.echo(inert(f"{kind:14} {word} is {other}"))
    else:
        made = make(root, target, keys=sign or [], challenge=challenge)
    by = f"signed by {', '.join(made.signers)}" if made.signers else "UNSIGNED: nobody vouches for it (--sign KEY)"
    size = made.path.stat().st_size
    typer.echo(inert(f"{made.path}: {made.files} files, {made.octets / 1e6:.1f} MB in {size / 1e6:.1f} MB; {by}"))
    return 0
