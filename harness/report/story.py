"""What became of a device's interrupts and who did it: all of it for the log, the gist for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from harness.base.text import inert
from harness.model.trace import Event
from harness.xen.trace.calls import line

# how a device is taken away; masking is left to the log, where drivers do it all the time
_GIST = ("map", "bind", "hvm unbind", "unbind", "unmap", "disable", "maskall", "prepare", "release", "reset", "kill")
_DECODING = "command"


def story(trace: Sequence[Event]) -> str:
    """Every event in a line."""
    return "".join(f"{inert(line(event))}\n" for event in trace)


def gist(trace: Sequence[Event]) -> list[str]:
    """The events that give or take interrupts, those of several vectors in one line, and decoding when it changes."""
    rows: list[list[Event]] = []
    decoding = ""
    for event in trace:
        if event.what == _DECODING:
            before, decoding = decoding, event.detail.partition(" ")[2]
            if decoding == before:
                continue
        elif event.what not in _GIST:
            continue
        if rows and _alike(rows[-1][0], event):
            rows[-1].append(event)
        else:
            rows.append([event])
    return [inert(_row(row)) for row in rows]


def _alike(one: Event, other: Event) -> bool:
    return (one.what, one.domid, one.caller) == (other.what, other.domid, other.caller) and one.what != _DECODING


def _row(row: Sequence[Event]) -> str:
    first = row[0]
    subject = "" if first.domid is None else f"d{first.domid}"
    for word, numbers in (("pirq", [one.pirq for one in row]), ("irq", [one.irq for one in row])):
        known = dict.fromkeys(str(number) for number in numbers if number is not None)
        subject += f" {word} {' '.join(known)}" if known else ""
    return f"+{first.seconds:.1f} s {first.what} {subject or first.detail} by {first.caller}"
