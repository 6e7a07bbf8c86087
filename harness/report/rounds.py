"""The rounds of a scenario: each in a table for the log, and what grew in a few lines for the terminal. Pure."""

from __future__ import annotations

import textwrap

from harness.base.text import inert
from harness.judge.growth import Growth
from harness.report.results import Side

_WIDTH = 80


def history(side: Side) -> str:
    """One line for each round with the counters that moved, below them those that did not; empty without rounds."""
    rounds = side.record.rounds
    if not rounds:
        return ""
    names = list(rounds[0].counts)
    moved = [name for name in names if len({one.counts[name] for one in rounds}) > 1]
    rows = [("round", "domid", "interrupts", *moved)]
    rows += [
        (
            str(one.number),
            f"d{one.domid}",
            f"{one.guest.delta:+d} on {one.guest.vectors}" if one.guest else "-",
            *(str(one.counts[name]) for name in moved),
        )
        for one in rounds
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    still = [f"{name} {rounds[0].counts[name]}" for name in names if name not in moved]
    lines += textwrap.wrap("the same in every round: " + ", ".join(still), 120)
    return "\n".join(lines) + "\n\n"


def leaks(scenario: str, side: Side) -> list[str]:
    """The first, the last and the growth of every counter that did not stand still; one line when all did."""
    if not side.leaks:
        return []
    rounds = side.record.rounds
    worked = sum(one.guest is not None and one.guest.delta > 0 for one in rounds)
    still = sum(one.first == one.last for one in side.leaks)
    lines = [
        inert(f"leaks over {len(rounds)} rounds of {scenario} on {side.hypervisor}"),
        f"  the guest got interrupts in {worked} of {len(rounds)} rounds; "
        f"{still} of {len(side.leaks)} counters stood still",
    ]
    return [*lines, *(line for one in side.leaks if one.first != one.last for line in _leak(one))]


def _leak(one: Growth) -> list[str]:
    word = "LEAK " if one.leaked else ""
    why = f", noise is up to {one.counter.noise}" if one.counter.noise else ""
    rises = f"{one.grown:+d}; more in {one.rises} of {one.steps} rounds{why}"
    text = f"{word}{one.counter.title}: {one.first} -> {one.last} ({rises})"
    return textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
