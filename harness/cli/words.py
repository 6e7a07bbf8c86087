"""Options and arguments that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Stack = Annotated[str, typer.Option(help="Xen host to build, see 'maskall list'.", metavar="STACK")]
UsualStack = Annotated[
    str | None, typer.Option("--stack", help="trixie, bookworm or bullseye (default: trixie).", metavar="STACK")
]
Devices = Annotated[
    list[str] | None,
    typer.Option("--device", help="Target device, may be repeated (default: the inventory's).", metavar="DEVICE"),
]
Device = Annotated[str, typer.Option("--device", help="Device that the host gets.", metavar="DEVICE")]
Mirror = Annotated[
    str | None, typer.Option(help="Debian mirror to build from: 'URI' or 'URI SECURITY-URI'.", metavar="URIS")
]
HostName = Annotated[str, typer.Argument(help="Name of a host in the inventory.", metavar="HOST")]
InventoryFile = Annotated[
    Path | None, typer.Option("--inventory", help="The hosts (default: inventory/nested.yaml).", metavar="FILE")
]
Accept = Annotated[
    list[str] | None,
    typer.Option(
        help="Accept one refusal that can be accepted, with the reason; may be repeated.", metavar="CHECK=REASON"
    ),
]
Wait = Annotated[int, typer.Option(help="Seconds to wait for a host that somebody else uses.", metavar="SECONDS")]
TakeOver = Annotated[
    str | None, typer.Option(help="Take a host from whoever claims it; the reason is recorded.", metavar="REASON")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Not root: install missing packages through sudo.")]
Workers = Annotated[
    int | None,
    typer.Option(help="Hosts at a time (default: one for each processor, at most 2).", min=1, max=16, metavar="N"),
]
Results = Annotated[
    Path | None,
    typer.Option("--results", help="New directory for the results (default: results/<UTC time>).", metavar="DIR"),
]
Kept = Annotated[str | None, typer.Argument(metavar="[RUN]", help="A host left running, see 'maskall nested status'.")]
