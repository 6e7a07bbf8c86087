"""Whether the mutants fit a stack, found by really planting each on a live host and taking it back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.base.errors import LabError
from harness.base.progress import Progress
from harness.host.host import Host
from harness.mutants.catalogue import Mutant, changes_on
from harness.mutants.plant import plant, revert


def misfits(host: Host, mutants: Mapping[str, Mutant], progress: Progress) -> Iterator[tuple[str, str]]:
    """(name, why) of every mutant that says it is made for this host's stack and is not. The host is as it was then."""
    for name, mutant in mutants.items():
        if not changes_on(mutant, host.facts):
            progress.note(f"{name}: not made for {host.facts['stack']}")
            continue
        try:
            with progress.phase(f"plant {name}"):
                planted = plant(name, mutant, host)
                revert(name, mutant, host, planted)
        except LabError as error:
            progress.note(f"{name}: does NOT fit: {error}")
            yield name, str(error)
            continue
        progress.note(f"{name}: fits: {', '.join(f'{one.place} at {one.place.address:#x}' for one in planted)}")
