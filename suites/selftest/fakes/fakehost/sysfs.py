"""Writes into /sys, /proc and /dev/kmsg that the kernel reacts to. The answer is an errno, as from write(2)."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable

from suites.selftest.fakes.fakehost.function import MSIX, PCIBACK, Function
from suites.selftest.fakes.fakehost.machine import FakeHost, Refused
from suites.selftest.fakes.fakehost.tree import PCI


def write(host: FakeHost, path: str, data: bytes) -> bool:
    """False when the kernel has no interest in this path; Refused with its errno."""
    path = os.path.normpath(os.path.realpath(host.tree.real(path))).removeprefix(str(host.root))
    value = data.decode("utf-8", "surrogateescape").strip()
    if match := re.fullmatch(rf"{PCI}/drivers/([^/]+)/(\w+)", path):
        _driver(host, match[1], match[2], value)
    elif match := re.fullmatch(r"/sys/devices/pci0000:00/(?:[0-9a-f:.]+/)*([0-9a-f:.]{12})/(power/control|\w+)", path):
        _device(host, host.functions[match[1]], match[2], value)
    elif path == f"{PCI}/drivers_probe":
        host.probe(value)
    elif path == f"{PCI}/rescan":
        _rescan(host)
    elif path == "/proc/sysrq-trigger":
        if value.startswith("b"):
            host.reboot()
    elif path == "/dev/kmsg":
        host.dmesg.append(f"[{host.uptime:12.6f}] {value}")
    elif path.startswith(("/sys/", "/proc/")):
        raise Refused(errno.EACCES)
    else:
        return False
    return True


def _driver(host: FakeHost, driver: str, control: str, value: str) -> None:
    if driver not in host.drivers:
        raise Refused(errno.ENOENT)
    if control == "bind":
        host.bind(value, driver)
    elif control == "unbind":
        host.unbind(value, driver)
    elif control == "new_id":
        for function in host.functions.values():
            if function.id.replace(":", " ") == value and not function.bound:
                host.drive(function, driver)
                host.tree.show(function)
    elif control in ("new_slot", "remove_slot") and driver == PCIBACK:
        if not re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", value):
            raise Refused(errno.EINVAL)
        if control == "remove_slot" and value not in host.slots:
            raise Refused(errno.ENOENT)
        (host.slots.add if control == "new_slot" else host.slots.discard)(value)
        host.tree.pciback()
    elif control not in ("remove_id", "permissive", "quirks"):
        raise Refused(errno.EACCES)


def _device(host: FakeHost, function: Function, control: str, value: str) -> None:
    def choose(options: tuple[str, ...], store: str) -> None:
        if value not in options:
            raise Refused(errno.EINVAL)
        setattr(function, store, value)

    def reset() -> None:
        if not function.resets:
            raise Refused(errno.ENOTTY)
        if function.resets[0] in ("flr", "bus"):  # a reset by pm does nothing to a function with NoSoftRst+
            function.reset()

    def method() -> None:
        able = next(known.resets for known in host.boot_functions if known.bdf == function.bdf)
        wanted = able if value == "default" else tuple(value.split())
        if not set(wanted) <= set(able):
            raise Refused(errno.EINVAL)
        function.resets = wanted
        host.tree.write(f"{host.tree.home(function)}/reset_method", " ".join(function.resets) + "\n")

    def virtual() -> None:
        count = int(value) if value.isdecimal() else -1
        if not 0 <= count <= function.total_vfs:
            raise Refused(errno.ERANGE)
        if count and function.numvfs:
            raise Refused(errno.EBUSY)
        function.numvfs = count

    reactions: dict[str, Callable[[], None]] = {
        "driver_override": lambda: setattr(function, "override", value),
        "power/control": lambda: choose(("on", "auto"), "power_control"),
        "reset": reset,
        "reset_method": method,
        "sriov_numvfs": virtual,
        "rescan": lambda: _rescan(host),
    }
    if control in ("remove", "reset", "rescan") and value != "1":  # reset_store, remove_store: a number, and this one
        raise Refused(errno.EINVAL)
    if control == "remove":
        host.tree.unplug(host.functions.pop(function.bdf))
        return
    if control not in reactions:
        raise Refused(errno.EACCES)
    reactions[control]()
    host.tree.show(function)


def _rescan(host: FakeHost) -> None:
    """What was removed is found again, in the state of power on as far as drivers go."""
    for known in host.boot_functions:
        if known.bdf not in host.functions and (not known.parent or known.parent in host.functions):
            function = host.functions[known.bdf] = Function(**vars(known))
            function.power_on()
            host.drive(function, function.driver)
            host.tree.plug(function)


_REGISTERS = {"COMMAND": (4, 2), "STATUS": (6, 2), "BRIDGE_CONTROL": (0x3E, 2), "CAP_MSIX": (MSIX, 2)}
_SIZES = {"b": 1, "w": 2, "l": 4}


def setpci(host: FakeHost, bdf: str, operation: str) -> str | None:
    """One operation of setpci(8): the value read, None for a write. ValueError for what is not modelled."""
    match = re.fullmatch(
        r"(?:(CAP_MSIX|CAP_EXP|CAP_PM|[A-Z_]+)|([0-9a-fA-F]+))(?:\+([0-9a-fA-F]+))?(?:\.([bwl]))?(?:=([0-9a-fA-F]+)(?::([0-9a-fA-F]+))?)?",
        operation,
    )
    function = host.functions.get(bdf)
    if not match or function is None or (match[1] and match[1] not in _REGISTERS):
        raise ValueError(f"setpci: {bdf} {operation}")
    offset, size = _REGISTERS[match[1]] if match[1] else (int(match[2], 16), 1)
    offset, size = offset + int(match[3] or "0", 16), _SIZES[match[4]] if match[4] else size
    old = function.word(offset, size=size)
    if match[5] is None:
        return f"{old:0{2 * size}x}"
    mask = int(match[6], 16) if match[6] else (1 << 8 * size) - 1
    new = old & ~mask | int(match[5], 16) & mask
    if function.msix is not None and offset == MSIX + 2:
        new = new & 0xC000 | old & 0x3FFF  # the table size is read only
    function.word(offset, new, size)
    host.tree.show(function)
    if function.bridge and offset == 0x3E and new & 0x40:  # Secondary Bus Reset
        for child in host.functions.values():
            if child.parent == bdf:
                child.word(4, 0)
                if child.msix is not None:
                    child.word(MSIX + 2, child.vectors - 1)
                host.tree.show(child)
    return None
