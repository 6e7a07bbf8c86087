"""How a device was before anything was done to it, and in what it differs now. Reading apart, pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from harness.base.deadline import Deadline
from harness.base.errors import JournalDamaged, ParseError
from harness.lab.lease.fields import Field, number, numbers, text, words
from harness.model.address import FUNCTION, Bdf
from harness.model.config import ConfigSpace
from harness.transport.base import Transport
from harness.transport.sections import ask

_PROGRAM = Path(__file__).with_name("baseline.sh")
_SECONDS = 20.0
_FUNCTION = re.compile(FUNCTION)
_RUNNING = re.compile(r"^\S+ 0x[0-9a-f]*[13579bdf]$", re.MULTILINE)
"""The flags of an interface with IFF_UP, netdevice(7): the lowest bit."""
COMMAND_BITS = 0x0407
"""I/O, memory, bus master and INTx disable (PCI 3.0, 6.2.2): what a driver leaves the same each time it is bound."""

RESET_METHODS = ("device_specific", "acpi", "flr", "af_flr", "pm", "bus", "cxl_bus")
"""What reset_method(5) may hold (Linux pci_reset_fn_methods)."""

_SETTING = re.compile(
    r"((?:net|block)[0-9]{1,2} (?:name|[a-z_]{1,24}|feature [a-z0-9-]{1,48}|(?:ring|channels) [A-Za-z]{1,16}))"
    r" ([A-Za-z0-9_.:@-]{1,64})"
)
_MASKALL = 0x4000  # of MSI-X message control
_SCHEDULER = re.compile(r"[^ ]* scheduler (?:.* )?\[([a-z0-9_-]+)\].*")


@dataclass(frozen=True)
class Baseline:
    """One function. BARs are left to the kernel, which restores them around every reset (pci_restore_state)."""

    device: str
    who: str
    """Vendor, device, subsystem and the way there by bridges; empty: nothing is at this address. The IDs are those the
    kernel read when it found the device (pci_setup_device): one that has fallen silent is still who it was."""
    driver: str | None
    driver_override: str | None
    power_control: str
    reset_method: str
    numvfs: str
    command: int | None  # None: the device does not answer (all ones)
    msix_control: int | None  # None: no MSI-X, or no answer
    interfaces_up: int  # how many of its network interfaces are up
    pciback_slot: bool  # pciback would seize it, whether it has it or not
    settings: tuple[tuple[str, str], ...] = ()
    """What an administrator may have set: `net0 mtu` to `9000`, as baseline.sh prints it. `net0 name` says whose."""

    def differences(self, seen: Baseline) -> list[str]:
        """In what `seen` is not as this was, one line each; empty when it is restored. Settings are `drift`'s."""
        if not seen.who:
            return [f"{self.device} is not there"]
        if seen.who != self.who:
            return [f"another device is at {self.device} now: {seen.who}"]
        found = []
        for field in fields(self):
            before, now = getattr(self, field.name), getattr(seen, field.name)
            if field.name == "command" and before is not None and now is not None:
                before, now = before & COMMAND_BITS, now & COMMAND_BITS
            if field.name == "msix_control" and self.has_msix_of(seen):
                continue
            if before != now and field.name != "settings":
                word = field.name.replace("_", " ")
                found.append(f"{self.device}: {word} is {_shown(now)}, was {_shown(before)}")
        return found

    def has_msix_of(self, seen: Baseline) -> bool:
        """MSI-X control is as it was; MASKALL that somebody had left may be gone, for it is a fault."""
        before, now = self.msix_control, seen.msix_control
        return before == now or (before is not None and now == before & ~_MASKALL)

    def drift(self, seen: Baseline) -> Iterator[tuple[str, str, str]]:
        """Settings that are not as they were: name, as it was, as it is. None where there is no such thing now."""
        now = dict(seen.settings)
        for name, before in self.settings:
            if name in now and now[name] != before and not name.endswith(" name"):
                yield name, before, now[name]

    def as_payload(self) -> dict[str, object]:
        return {**asdict(self), "settings": [list(pair) for pair in self.settings]}

    @classmethod
    def from_payload(cls, payload: Mapping[str, object]) -> Baseline:
        """JournalDamaged unless every field is one that `read` can have found."""
        problem = next((name for name in (*_FIELDS, *payload) if name not in payload or name not in _FIELDS), None)
        problem = problem or _odd(payload)
        if problem is not None:
            raise JournalDamaged(f"a journal's baseline cannot be read: {problem} is not one")
        settings = payload["settings"]
        pairs = tuple((str(name), str(value)) for name, value in settings)  # type: ignore[attr-defined]
        return cls(**{**payload, "settings": pairs})  # type: ignore[arg-type]  # checked field by field


def _settings(value: object) -> bool:
    return isinstance(value, list) and all(map(_setting, value))


def _setting(pair: object) -> bool:
    match = _SETTING.fullmatch(" ".join(map(str, pair))) if isinstance(pair, list) else None
    return match is not None and [*match.groups()] == pair


_FIELDS: Mapping[str, Field] = {
    "device": words("bdf"),
    "who": text(r"|[0-9a-f]{4}(?: [0-9a-f]{4}){3} [0-9a-f:./]{0,400}"),
    "driver": words("driver", none=True),
    "driver_override": words("driver", none=True),
    "power_control": text("on|auto|"),
    "reset_method": text(rf"|(?:{'|'.join(RESET_METHODS)})(?: (?:{'|'.join(RESET_METHODS)}))*"),
    "numvfs": text(r"[0-9]{0,5}"),
    "command": numbers(0xFFFF),
    "msix_control": numbers(0xFFFF),
    "interfaces_up": number(255),
    "pciback_slot": lambda value: isinstance(value, bool),
    "settings": _settings,
}


def _odd(payload: Mapping[str, object]) -> str | None:
    """The name of a field that holds what cannot be there."""
    return next((name for name, holds in _FIELDS.items() if not holds(payload[name])), None)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:#06x}" if isinstance(value, int) else str(value or "none")


def read(transport: Transport, device: Bdf) -> Baseline:
    """As it is now."""
    return parse(device, ask(transport, _PROGRAM, str(device), deadline=Deadline.after(_SECONDS)))


def parse(device: Bdf, sections: Mapping[str, bytes]) -> Baseline:
    """Accepted format: the sections of baseline.sh."""
    text = {name: data.decode("utf-8", "replace").strip() for name, data in sections.items()}
    ids = [word.removeprefix("0x") for word in text["ids"].split()]
    space = _config(text["config"]) if ids else None
    capability = space.msix if space else None
    override = text["driver_override"]
    found = Baseline(
        device=str(device),
        who=" ".join([*ids, _way(text["path"])]) if ids else "",
        driver=text["driver"].rpartition("/")[2] or None,
        driver_override=None if override in ("", "(null)") else override,
        power_control=text["power_control"],
        reset_method=text["reset_method"],
        numvfs=text["sriov_numvfs"],
        command=space.command.value if space else None,
        msix_control=capability.control.value if capability else None,
        pciback_slot=str(device) in text["slots"].split(),
        interfaces_up=len(_RUNNING.findall(text["interfaces"])),
        settings=tuple(_known_settings(text["settings"])),
    )
    odd = _odd(found.as_payload())
    if odd is not None:
        raise ParseError(f"{odd} of {device}", file="baseline", expected="what the kernel shows there")
    return found


def _config(said: str) -> ConfigSpace | None:
    """None: nobody answers."""
    try:
        space = ConfigSpace(bytes.fromhex(said), "config")
    except ValueError as error:
        raise ParseError(str(error), file="config", expected="hexadecimal bytes") from error
    return None if space.gone else space


def _known_settings(said: str) -> Iterator[tuple[str, str]]:
    """Of a scheduler the one in brackets. A line that is none of ours is left out: it would only be compared."""
    for line in said.splitlines():
        chosen = _SCHEDULER.fullmatch(line)
        match = _SETTING.fullmatch(f"{line.split(' ')[0]} scheduler {chosen[1]}" if chosen else line)
        if match:
            yield match[1], match[2]


def _way(path: str) -> str:
    """Root port, then device.function below each bridge: what stays when buses are numbered anew."""
    way = [part for part in path.split("/") if _FUNCTION.fullmatch(part)]
    return "/".join([*way[:1], *(part.rpartition(":")[2] for part in way[1:])])
