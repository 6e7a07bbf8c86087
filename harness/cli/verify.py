"""`maskall verify`: whether a bundle holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from harness.report.bundle.signers import Signers

app = typer.Typer()


@app.command(
    epilog="""Examples:

\b
  maskall verify 20260102-030405.maskall.tar.gz --allowed-signers allowed_signers
  maskall verify FILE --allowed-signers allowed_signers --challenge 7f3a9c --profile certify
  maskall verify SECOND --parent FIRST --allowed-signers allowed_signers   of what 'certify --only-failed' made
  maskall verify FILE --allowed-signers allowed_signers --json | jq .layers

allowed_signers is the file of ssh-keygen(1): 'lab@example.com namespaces="maskall-evidence@v1" ssh-ed25519 AAAA...'.
No network is used and no host is asked; the payload is unpacked into a private folder that is gone afterwards. Known
issues, mutants, messages and the catalogue are those of this maskall: take the one that you trust.
docs/bundle.md says what each layer proves, and what none does.

Exit status: 0 holds, 1 does not hold, 2 wrong usage, or the file cannot be read or is no bundle."""
)
def verify(
    file: Annotated[Path, typer.Argument(help="A bundle, as 'maskall bundle' writes it.", metavar="FILE")],
    allowed_signers: Annotated[Path, typer.Option(help="Who may sign: a file as of ssh-keygen(1).", metavar="FILE")],
    revoked: Annotated[
        Path | None, typer.Option(help="Public keys that count no more, one a line.", metavar="FILE")
    ] = None,
    challenge: Annotated[
        str | None, typer.Option(help="What you gave whoever bundled it; it must answer that.", metavar="N")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="It must have every row of this profile, and a control.", metavar="PROFILE")
    ] = None,
    parent: Annotated[
        Path | None,
        typer.Option(help="The bundle of the run that it supplements; both have to hold.", metavar="FILE"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="For a program: every layer.")] = False,
) -> int:
    """Say of a bundle, layer by layer, whether it holds.

    Nobody's word is taken for a verdict: each is made anew from the raw files.
    """
    from datetime import UTC, datetime
    from json import dumps

    from harness.run.challenge import answerable
    from harness.run.verify import Wanted, verified

    challenge = answerable(challenge) if challenge is not None else None
    signers = signers_of(allowed_signers, revoked)
    found = verified(file, Wanted(signers, datetime.now(UTC), challenge, profile, parent))
    for line in [dumps(found.as_json, indent=2)] if json else found.lines:
        typer.echo(line)
    return found.status


def signers_of(allowed: Path, revoked: Path | None) -> Signers:
    """UsageError, InventoryError for a file that cannot be read or understood."""
    from harness.report.bundle.signers import Signers, parse_keys, parse_signers
    from harness.run.store import read_named

    def text(path: Path) -> str:
        return read_named(path).decode("utf-8", "backslashreplace")

    return Signers(
        parse_signers(text(allowed), str(allowed)), parse_keys(text(revoked), str(revoked)) if revoked else frozenset()
    )
