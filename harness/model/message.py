"""What Xen and dom0's kernel said: lines with their meaning, and the few that matter, markers. Pure."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from harness.model.address import Bdf
from harness.model.observation import Checkpoint, RawRef


class Origin(enum.Enum):
    """Who wrote a line of the console."""

    XEN = "xen"  # "(XEN) ", the only ones a fact about Xen is taken from
    GUEST = "guest"  # "(d3) ": a guest may print what it likes
    DOM0 = "dom0"  # no prefix: dom0's own console, or the rest of an interrupted line


class MarkerKind(enum.Enum):
    """What a marker says; the value is for reports."""

    MASKALL_SET = "Xen could not mask or disable a vector and set MASKALL"
    ASSIGN_FAILED = "Xen refused to assign a device"
    INITIAL_STATE_FIXED = "Xen found MSI-X state left by firmware and cleared it"
    TRIPLE_FAULT = "an HVM guest died of a triple fault"
    XEN_PANIC = "the hypervisor died"
    LINUX_PANIC = "dom0's kernel died"
    LINUX_OOPS = "dom0's kernel reported a fault of its own"

    @property
    def is_host_crash(self) -> bool:
        """The hypervisor or dom0 is dead: nothing observed afterwards counts."""
        return self in (MarkerKind.XEN_PANIC, MarkerKind.LINUX_PANIC)

    @property
    def is_hazard(self) -> bool:
        """The hazard of this suite was taken: host_maskall is set."""
        return self is MarkerKind.MASKALL_SET


@dataclass(frozen=True)
class Marker:
    """One line that matters. `domain` as `domain_name` spells it, `error` a negative errno of Xen."""

    kind: MarkerKind
    line: int
    text: str
    device: Bdf | None = None
    domain: str | None = None
    irq: int | None = None
    error: int | None = None


class Meaning(enum.StrEnum):
    """What a line says about the product."""

    HARMLESS = "harmless"  # expected, for the reason its rule gives
    SYMPTOM = "symptom"  # a sign that the product misbehaves
    DUMP = "dump"  # asked for by whoever pressed a debug key: data, not news
    UNKNOWN = "unknown"  # no rule

    @property
    def is_shown(self) -> bool:
        """Whether a report repeats the line."""
        return self in (Meaning.SYMPTOM, Meaning.UNKNOWN)


T = TypeVar("T")


@dataclass(frozen=True)
class Message:
    """A line of a log, read at a checkpoint. `lines` counts it and those that belong to it."""

    checkpoint: Checkpoint
    origin: Origin
    meaning: Meaning
    text: str
    raw: RawRef
    name: str | None = None  # of its rule in messages.yaml; None: none describes it
    reason: str = ""  # why it is said, by its rule
    lines: int = 1
    expected: bool = False  # a symptom that the ending provokes
    fails: bool = False  # it is wrong in every scenario that does not expect it
    esrch: bool = False  # what was to be unmapped was not there
    loses: bool = False  # it says that other lines were left out: what was not said may have been


def kinds(messages: Iterable[Message]) -> list[list[Message]]:
    """Messages that say the same, together; what a report shows is told apart by its words, the rest by its rule."""
    return grouped(messages, lambda one: (one.name, words(one.text) if one.meaning.is_shown else ""))


def grouped(items: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """Items of the same key, groups and their members in the order of their coming."""
    groups: dict[Hashable, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


_NUMBER = re.compile(r"0x[0-9a-f]+|[0-9a-f]*[0-9][0-9a-f]*")


def words(text: str) -> str:
    """`text` without its numbers: irqs, domids and addresses differ where the message is the same."""
    return _NUMBER.sub("#", text)
