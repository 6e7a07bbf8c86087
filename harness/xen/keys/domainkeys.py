"""What `xl debug-keys e`, `q` and `m` print: event channels, domains with what they hold, free memory. Pure.

The text and the errors are those of `harness.xen.keys.debugkeys`: the last dump of the key counts, ParseError when
there is none or when a row cannot be read.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness.base.errors import ParseError
from harness.xen.keys.debugkeys import last_dump


class ChannelState(enum.IntEnum):
    """What an event channel is used for (Xen ECS_*, sched.h)."""

    RESERVED = 1
    UNBOUND = 2  # waits for another domain
    INTERDOMAIN = 3
    PIRQ = 4
    VIRQ = 5
    IPI = 6


@dataclass(frozen=True)
class EventChannel:
    """One event channel in use: `irq` is Xen's irq of a channel that stands for a pirq."""

    domid: int
    port: int
    state: ChannelState
    irq: int | None
    line: int


_CHANNELS_OF = re.compile(r"Event channel information for domain ([0-9]{1,5}):")
_CHANNEL_START = re.compile(r" +[0-9]+ \[")
_CHANNEL = re.compile(
    r" +([0-9]{1,9}) \[[01]/[01]/[^\]]*\]: s=(?:([16]) n=[0-9]+ x=[01]|(2) n=[0-9]+ x=[01] d=[0-9]+"
    r"|(3) n=[0-9]+ x=[01] d=[0-9]+ p=[0-9]+|(4) n=[0-9]+ x=[01] p=[0-9]+ i=(-?[0-9]{1,9})"
    r"|(5) n=[0-9]+ x=[01] v=[0-9]+)(?: Z=\S+)?"
)


def parse_event_channels(text: str, *, file: str = "<text>") -> tuple[EventChannel, ...]:
    """Key e: every event channel that is not free, of every domain, dead ones too.

    Accepted format (Xen `domain_dump_evtchn_info`, the same from 4.14 to 4.20):

        (XEN) 'e' pressed -> dumping event-channel info
        (XEN) Event channel information for domain 0:
        (XEN)     port [p/m/s]
        (XEN)       47 [0/0/  -   ]: s=3 n=1 x=0 d=2 p=9
        (XEN)       48 [0/0/  -   ]: s=4 n=0 x=0 p=189 i=43
    """
    channels: list[EventChannel] = []
    domid: int | None = None
    for line in last_dump(text, "'e' pressed -> ", "e", file):
        if header := _CHANNELS_OF.fullmatch(line.text.strip()):
            domid = int(header[1])
        elif _CHANNEL_START.match(line.text):
            row = _CHANNEL.fullmatch(line.text.rstrip())
            if row is None or domid is None:
                raise ParseError(f"{line.text!r}", file=file, line=line.number, expected="port [p/m/s]: s= n= x=")
            state = next(int(row[group]) for group in (2, 3, 4, 5, 7) if row[group])
            irq = int(row[6]) if row[6] else None
            channels.append(EventChannel(domid, int(row[1]), ChannelState(state), irq, line.number))
    if domid is None:
        raise ParseError("the dump of debug key e has no domain", file=file, expected="at least dom0's channels")
    return tuple(channels)


@dataclass(frozen=True)
class DomainUsage:
    """One domain as Xen holds it: `dying` is Xen's d->is_dying (0 alive, 1 dying, 2 dead but still referenced)."""

    domid: int
    dying: int
    pages: int  # of memory, 4 KiB each
    irqs: int  # irqs it may use: those of its mapped pirqs, and what dom0 has from the start
    line: int


_DOMAIN = re.compile(r"General information for domain ([0-9]{1,5}):")
_RANGE = "[0-9]{1,9}(?:-[0-9]{1,9})?"
_FACTS = {
    "dying": re.compile(r" +refcnt=[0-9]+ dying=([0-2]) .*"),
    "nr_pages": re.compile(r" +nr_pages=([0-9]{1,15}) .*"),
    "Interrupts": re.compile(rf" +Interrupts +\{{ ?((?:{_RANGE}(?:, {_RANGE})*)?) ?\}}\s*"),
}
"""What is read of each domain; all of it must be there."""


def parse_domains(text: str, *, file: str = "<text>") -> tuple[DomainUsage, ...]:
    """Key q: every domain Xen holds, the dead that something still refers to among them.

    Accepted format (Xen `dump_domains`, `rangeset_domain_printk`, the same from 4.14 to 4.20):

        (XEN) 'q' pressed -> dumping domain info (now = 32949527212)
        (XEN) General information for domain 2:
        (XEN)     refcnt=3 dying=0 pause_count=0
        (XEN)     nr_pages=32763 xenheap_pages=2 dirty_cpus={} max_pages=33024
        (XEN) Rangesets belonging to domain 2:
        (XEN)     Interrupts { 20, 42-43 }
    """
    begun: list[tuple[int, int, dict[str, str]]] = []
    for line in last_dump(text, "'q' pressed -> dumping domain info", "q", file):
        if header := _DOMAIN.fullmatch(line.text.strip()):
            begun.append((int(header[1]), line.number, {}))
        elif begun:
            begun[-1][2].update(
                {name: match[1] for name, fact in _FACTS.items() if (match := fact.fullmatch(line.text))}
            )
    if not any(domid == 0 for domid, _, _ in begun):
        raise ParseError("dom0 is not in the dump of debug key q", file=file, expected="every domain, dom0 first")
    return tuple(_usage(domid, facts, file, line) for domid, line, facts in begun)


def _usage(domid: int, facts: Mapping[str, str], file: str, line: int) -> DomainUsage:
    if missing := _FACTS.keys() - facts:
        expected = f"{', '.join(sorted(missing))} of every domain"
        raise ParseError("a domain in the dump of debug key q is incomplete", file=file, line=line, expected=expected)
    return DomainUsage(domid, int(facts["dying"]), int(facts["nr_pages"]), _size(facts["Interrupts"]), line)


def _size(ranges: str) -> int:
    """How many numbers `1-23, 25, 27-43` names."""
    total = 0
    for part in filter(None, ranges.split(", ")):
        first, _, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return total


_FREE = re.compile(r" +(?:Xen|Dom) heap: ([0-9]{1,15})kB free")


def parse_free_memory(text: str, *, file: str = "<text>") -> int:
    """Key m: free memory in KiB, to the page; `xl info` rounds it to MiB.

    Accepted format (Xen `dump_heap`, pagealloc.c): the line `    Dom heap: 1540476kB free` ends the dump.
    """
    total = 0
    for line in last_dump(text, "Physical memory information:", "m", file):
        if match := _FREE.fullmatch(line.text.rstrip()):
            total += int(match[1])
            if "Dom heap" in line.text:
                return total
    raise ParseError("the dump of debug key m is cut off", file=file, expected="a line 'Dom heap: NkB free'")
