"""Is it a device that can be lent at all? Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.base.errors import ParseError
from harness.lab.safety.checks.finding import Finding, Lending, Level
from harness.lab.safety.facts.extended import capabilities
from harness.lab.safety.facts.facts import PCI_PATH, Function, HostFacts
from harness.model.config import ConfigSpace

_BRIDGE, _MEMORY, _SYSTEM = "06", "05", "08"
_SMBUS, _IPMI, _USB4 = "0c05", "0c07", "0c0340"
_DVSEC, _CXL = 0x23, bytes.fromhex("981e")  # linux/pci_regs.h; vendor of the CXL consortium
_SYSTEM_DEVICES = {"0805", "0880"}  # SD host controllers, and what has no subclass; the rest is the machine itself
_DMA = "0801"  # of the chipset's own buses; or an add-in card's, as the management function of a SmartNIC
_NAMELESS = {"0880", "1101"}  # also channels of memory controllers, power control, counters: Intel's uncore
_KNOWN = {*(f"{code:02x}" for code in range(1, 0x14)), "40", "ff"}  # PCI ID database, device classes
_ENTROPY = {"1af4:1005", "1af4:1044"}  # virtio 1.2, 5: transitional and modern; of class 00ff as others of virtio are
# virtio 1.2, 5.13; Xen's platform device, below which all paravirtual ones of a guest are (drivers/xen/platform-pci.c).
_MACHINE = {"1af4:1057", "5853:0001", "5853:0002"}
_VIRTIO_MEMORY = {"1af4:1058", "1af4:105b"}  # virtio-mem, virtio-pmem
_WATCHDOG = re.compile(r"/watchdog/watchdog\d+$")
_SERIAL_BUS, _FLASH = "0c80", re.compile(r"/spi\d+\.\d+/mtd/mtd\d+$")
_BMC = re.compile(r"/ipmi/ipmi\d+$")  # of SSIF, at a bus of I2C (drivers/char/ipmi)
_TPM, _CLOCK = re.compile(r"/tpm/tpm\d+$"), re.compile(r"/rtc/rtc\d+$")


def check(function: Function, facts: HostFacts, context: Lending) -> Iterator[Finding]:
    """LETHAL: a bridge, memory, a part of the machine itself, its watchdog, TPM or firmware; or Xen has no name for it.

    DENY: a class that cannot be told, a function of which the host said two things, or a real-time clock.
    """
    here = function.where
    if not function.bdf.known_to_xen:
        text = "it is behind a controller that hides it (VMD): Xen has no name for its PCI domain"
        yield Finding("kind", Level.LETHAL, text, here)
    for text, line in function.doubts:
        yield Finding("kind", Level.DENY, f"unknown: {text}", (line,))
    if not function.code:
        yield Finding("kind", Level.DENY, "unknown: its class cannot be read", here)
    elif function.base == _BRIDGE:
        yield Finding("kind", Level.LETHAL, "it is a bridge", here)
    elif function.base == _MEMORY or function.id in _VIRTIO_MEMORY:
        yield Finding("kind", Level.LETHAL, "it is memory, which may be the machine's own", here)
    elif function.kind == _SMBUS:
        yield Finding("kind", Level.LETHAL, "it is the board's SMBus: memory modules, voltages, clocks", here)
    elif function.id in _MACHINE or (function.base == _SYSTEM and not _separate(function)):
        yield Finding("kind", Level.LETHAL, "it is a part of the machine itself: IOMMU, timer, interrupts", here)
    elif function.kind in _NAMELESS and _bare(function):
        text = "it is registers of the processor or the chipset itself, with neither a reset nor MSI"
        yield Finding("kind", Level.LETHAL, text, here)
    elif function.base not in _KNOWN and function.id not in _ENTROPY:
        yield Finding("kind", Level.DENY, f"unknown: class {function.code}", here)
    if function.driver == "thunderbolt" or function.code == _USB4:
        text = "it is a Thunderbolt or USB4 host interface: whatever is docked hangs on its tunnels"
        yield Finding("kind", Level.LETHAL, text, here)
    if function.kind == _IPMI:
        text = "it is the interface of the board's management controller, which may watch over the machine"
        yield Finding("kind", Level.LETHAL, text, here)
    if function.config is not None and _cxl_memory(function.config):
        yield Finding("kind", Level.LETHAL, "its CXL memory is enabled, and may be the machine's own", here)
    for level, node, text in (  # whoever has it open: firmware has started the one, and the kernel uses the others
        (Level.LETHAL, _WATCHDOG, "it is a watchdog, which resets the machine once nobody feeds it"),
        (Level.LETHAL, _TPM, "the machine's TPM is behind it"),
        (Level.LETHAL, _BMC, "the board's management controller is behind it, which may watch over the machine"),
        *([(Level.LETHAL, _FLASH, "a flash chip of the board is behind it")] if function.kind == _SERIAL_BUS else []),
        (Level.DENY, _CLOCK, "a real-time clock is behind it, by which the machine may set its own"),
    ):
        for line in facts.lines("chars"):
            if node.search(line.text) and str(function.bdf) in PCI_PATH.findall(line.text):
                yield Finding("kind", level, text, (line,))
    if function.config is None:
        yield Finding("kind", Level.DENY, "unknown: its config space cannot be read", here)
    elif not function.config.gone and function.config.header_type != 0:
        yield Finding("kind", Level.LETHAL, "its config space is that of a bridge", here)


def _separate(function: Function) -> bool:
    """Whether a system device is not the machine's own by its class."""
    return function.kind in _SYSTEM_DEVICES or (function.kind == _DMA and len(function.chain) > 1)


def _bare(function: Function) -> bool:
    """On a root bus, and known to have neither a reset nor MSI."""
    config = function.config
    if config is None or len(function.chain) > 1 or function.reset_methods != ():
        return False
    try:
        return config.msix is None and not config.msi
    except ParseError:
        return False


def _cxl_memory(config: ConfigSpace) -> bool:
    """Whether CXL.mem is enabled: bit 2 of the control register of the DVSEC with ID 0 (CXL 3.1, 8.1.3)."""
    return any(
        text[4:6] == _CXL and text[8:10] == bytes(2) and bool(int.from_bytes(text[12:13], "little") & 0b100)
        for text in capabilities(config, _DVSEC)
    )
