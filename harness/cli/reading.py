"""A link to a lab host that is used for reading only, without a claim."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console

from harness.base.progress import Progress, progress_for
from harness.lab.lease.site import Site
from harness.transport.ssh import SshTransport

FACTS_SECONDS = 120.0


@contextlib.contextmanager
def reading(site: Site) -> Iterator[tuple[SshTransport, Progress]]:
    """The link, connected, and the progress on standard error; closed afterwards. Raises UsageError, LabError."""
    transport = site.transport()
    with progress_for(Console(stderr=True)) as progress:
        try:
            with progress.phase(f"connect to {site.name}"):
                site.reach(transport, progress.note)
            yield transport, progress
        finally:
            transport.close()
