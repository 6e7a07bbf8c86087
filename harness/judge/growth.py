"""What must be seen over the rounds of a scenario: every guest worked, and nothing they leave behind grew. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low

from harness.judge.judgement import Check
from harness.judge.rules import check, missing
from harness.model.observation import Checkpoint
from harness.scenario.record import Record

WARM_UP = 1  # rounds whose growth is not judged: first use fills caches, sets up GSIs, makes xenstore's directories


FEWEST_ROUNDS = WARM_UP + 2


@dataclass(frozen=True)
class Counter:
    """Something countable; `noise` is how much it may grow over a run without being a leak."""

    name: str
    title: str
    noise: int = 0


# Seen on Xen 4.20 after the first round, with nothing else growing: 8 KiB more in five rounds with nvme, none after the
# third; 16 KiB more in five rounds with virtio-rng. A page lost in every one of twenty rounds is 52 KiB between the
# thirds that `growth` compares.
_HEAP_NOISE_KIB = 32


COUNTERS = (
    Counter("device_irqs", "irqs of the device (key Q)"),
    Counter("msi_irqs", "PCI-MSI irqs in Xen (key i)"),
    Counter("unbound_irqs", "PCI-MSI irqs mapped, unbound (key i)"),
    Counter("foreign_irqs", "PCI-MSI irqs bound to other domains than dom0 (key i)"),
    Counter("dom0_irqs", "irqs dom0 may use, its pirqs (key q)"),
    Counter("domain_irqs", "irqs other domains may use, their pirqs (key q)"),
    Counter("dom0_event_channels", "event channels of dom0 (key e)"),
    Counter("event_channels", "event channels of all domains (key e)"),
    Counter("domains", "domains of the toolstack (xl list)"),
    Counter("dead_domains", "dead or dying domains in Xen (key q)"),
    Counter("dead_pages", "pages of dead or dying domains (key q)"),
    Counter("xen_memory_kib", "memory taken from Xen's heap, KiB (key m)", noise=_HEAP_NOISE_KIB),
    Counter("claimed_pages", "pages claimed for domains to come (xl info)"),
    Counter("xenstore", "xenstore nodes"),
    Counter("xenstore_dom0", "xenstore nodes below /local/domain/0"),
    Counter("xenstore_domains", "xenstore nodes below /local/domain of others"),
    Counter("xenstore_libxl", "xenstore nodes below /libxl"),
    Counter("xenstore_vm", "xenstore nodes below /vm"),
    Counter("irq_descriptors", "irq descriptors of dom0's kernel"),
    Counter("interrupt_rows", "rows of dom0's /proc/interrupts"),
    Counter("device_models", "qemu processes in dom0"),
    Counter("toolstack_processes", "xl processes in dom0"),
    Counter("pciback_slots", "devices bound to pciback"),
)


@dataclass(frozen=True)
class Growth:
    """How one counter went: from `first` to `last`, `rises` of `steps` rounds with more than the round before."""

    counter: Counter
    first: int
    last: int
    rises: int
    steps: int

    @property
    def grown(self) -> int:
        return self.last - self.first

    @property
    def leaked(self) -> bool:
        return self.grown > self.counter.noise

    def __str__(self) -> str:
        if self.grown <= 0:
            return f"{self.first} -> {self.last}"
        return f"{self.first} -> {self.last}, more in {self.rises} of {self.steps} rounds"


def growth(readings: Sequence[Mapping[str, int]]) -> tuple[Growth, ...]:
    """Each counter over the readings, one taken after each round with no guest alive. Empty for fewer than three.

    After the warm-up the median of the first third of the rounds is held against that of the last third: one reading
    that caught something in passing does not move a median, and what is never given back moves it, be it something in
    every round or once for all. Growth beyond the counter's noise is a leak.
    """
    if len(readings) < FEWEST_ROUNDS:
        return ()
    judged = readings[WARM_UP:]
    third = max(1, len(judged) // 3)
    found = []
    for counter in COUNTERS:
        values = [reading[counter.name] for reading in judged]
        rises = sum(after > before for before, after in itertools.pairwise(values))
        found.append(Growth(counter, median_low(values[:third]), median_low(values[-third:]), rises, len(values) - 1))
    return tuple(found)


_AT, _VIEW = Checkpoint.C4, "leaks"


def checks(record: Record) -> Iterator[Check]:
    """Of a scenario without rounds there are none."""
    wanted, rounds = record.scenario.follow.rounds, record.rounds
    if not wanted:
        return
    played = str(len(rounds))
    yield check(_AT, _VIEW, "rounds", str(wanted), played if len(rounds) == wanted else None, True, None)
    for one in rounds[1:]:  # the first is guest A's, which C2 is about
        if one.guest is None:
            yield missing(Checkpoint.C2, f"guest of round {one.number}")
            continue
        seen, subject = one.guest.delta, f"round {one.number}: interrupts under traffic"
        yield check(Checkpoint.C2, "guest", subject, "more than 0", seen, seen > 0, one.guest.raw)
    found = growth([one.counts for one in rounds])
    for counter in COUNTERS[: None if found else 1]:
        grown = next((one for one in found if one.counter is counter), None)
        expected = f"at most {counter.noise} more" if counter.noise else "no more"
        met = grown is not None and not grown.leaked
        yield check(_AT, _VIEW, counter.title, expected, grown, met, rounds[-1].raw if rounds else None)
