"""Arguments and options that several commands share and that are in no run."""

from __future__ import annotations

from typing import Annotated

import typer

Stack = Annotated[
    str | None, typer.Option(help="Xen host to build (default: the first that 'maskall list' names).", metavar="STACK")
]
Device = Annotated[str, typer.Option("--device", help="Device that the host gets.", metavar="DEVICE")]
Kept = Annotated[str | None, typer.Argument(metavar="[RUN]", help="A host left running, see 'maskall nested status'.")]
