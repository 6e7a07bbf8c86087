"""What a run would do to a lab host, said beforehand: the changes of its scenarios, and those around them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from harness.lab.inventory.models import DeviceEntry, LabEntry
from harness.model.change import Change, ChangeKind
from harness.play.plan import Borrowed, plan
from harness.play.verbs import VERBS
from harness.scenario.spec import Scenario
from harness.xen.toolstack.xl import REMOTE_RUN

PCIBACK_MODULE = "xen-pciback"


def changes(
    host: str,
    entry: LabEntry,
    devices: Mapping[str, DeviceEntry],
    held: Mapping[str, Borrowed],
    rows: Iterable[Scenario],
) -> tuple[Change, ...]:
    """Every change that any of these scenarios makes to the host, each once; last what is done only in need.

    `held` says of each device where it is and whose; rows that need what no lab host has are skipped by a run.
    """
    return tuple(dict.fromkeys(_changes(host, entry, devices, held, [row for row in rows if not row.end.needs])))


def _changes(
    host: str, entry: LabEntry, devices: Mapping[str, DeviceEntry], held: Mapping[str, Borrowed], rows: list[Scenario]
) -> Iterator[Change]:
    yield Change(ChangeKind.MODULE, PCIBACK_MODULE, f"load {PCIBACK_MODULE}, unless it is loaded", "unload it")
    yield Change(ChangeKind.FILE, REMOTE_RUN, f"put guest files, claim and journal into {REMOTE_RUN}", "remove them")
    touched = list(dict.fromkeys(name for row in rows for name in row.devices))
    for name in touched:
        bdf = str(held[name].address)
        yield Change(ChangeKind.DRIVER, bdf, f"arm a timer that gives {bdf} back by itself after 60 s", "disarm it")
    for row in rows:
        yield from plan(row, [held[name] for name in row.devices], host, VERBS)
    for name in touched:
        ladder = [method for method in devices[name].recover if method != "reboot"]
        if ladder:
            bdf = str(held[name].address)
            text = f"only if {bdf} does not go back: reset by {', '.join(ladder)}"
            yield Change(ChangeKind.RESET, bdf, text, "none needed")
    if entry.allow_reboot:
        by = "reboot, then power cycle" if entry.power else "reboot"
        yield Change(ChangeKind.REBOOT, "", f"only if nothing else helps: {by}", "none: it undoes all of the above")
