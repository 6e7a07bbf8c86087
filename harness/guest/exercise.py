"""Parser of what exercise.sh prints. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.base.errors import ParseError
from harness.model.config import ConfigSpace
from harness.model.observation import GuestView, RawRef
from harness.xen.keys.interrupts import parse_interrupts

_SECTION = re.compile(r"^== (\w+)$")
_WANTED = ("ready", "interrupts_before", "traffic", "interrupts_after", "msi_irqs", "intx", "driver", "config", "end")


@dataclass(frozen=True)
class _ExerciseSection:
    line: int
    text: str


def _sections(text: str) -> dict[str, _ExerciseSection]:
    found: dict[str, tuple[int, list[str]]] = {}
    current: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        header = _SECTION.match(line.rstrip())
        if header:
            current = []
            found[header[1]] = (number, current)
        else:
            current.append(line)
    return {name: _ExerciseSection(line, "\n".join(lines).strip("\n")) for name, (line, lines) in found.items()}


def challenge_in(text: str) -> str:
    """What the guest was told on its kernel's command line to answer; empty: nothing."""
    section = _sections(text).get("challenge")
    return section.text.strip().partition("\n")[0] if section else ""  # what a driver prints may come behind it


def parse_exercise(text: str, domain: str, raw: RawRef) -> GuestView:
    """The view of the device's owner. An owner that has no such device sees no registers, vectors or interrupts.

    Accepted format: sections `== NAME` as exercise.sh writes them, closed by `== end`.
    """
    sections = _sections(text)
    if sections.get("device", _ExerciseSection(0, "")).text.strip() == "none":
        return GuestView(domain, None, None, vectors=0, before=0, after=0, traffic_ok=False, driver=None, raw=raw)
    missing = [name for name in _WANTED if name not in sections]
    if missing:
        raise ParseError(f"the section {missing[0]!r} is missing", file=raw.path, expected="the output of exercise.sh")
    config = sections["config"]
    try:
        space = ConfigSpace(bytes.fromhex("".join(config.text.split())), raw.path)
    except ValueError as error:
        raise ParseError(
            f"config space: {error}", file=raw.path, line=config.line, expected="hexadecimal bytes"
        ) from error
    vectors = _numbers(sections["msi_irqs"], raw)
    irqs = vectors or _numbers(sections["intx"], raw)
    capability = None if space.gone else space.msix
    return GuestView(
        domain=domain,
        command=None if space.gone else space.command,
        control=capability.control if capability else None,
        vectors=len(vectors),
        before=parse_interrupts(sections["interrupts_before"].text, file=raw.path).sum_of(irqs),
        after=parse_interrupts(sections["interrupts_after"].text, file=raw.path).sum_of(irqs),
        # the last line alone: above it the traffic prints what it likes
        traffic_ok=sections["traffic"].text.rpartition("\n")[2] == "status 0",
        driver=sections["driver"].text.strip() or None,
        raw=raw.at(sections["interrupts_after"].line),
    )


def _numbers(section: _ExerciseSection, raw: RawRef) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in section.text.split())
    except ValueError as error:
        raise ParseError(str(error), file=raw.path, line=section.line, expected="irq numbers") from error
