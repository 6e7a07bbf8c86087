"""Every counter counts exactly: on captured readings, and by one more thing of each kind."""

from __future__ import annotations

import pytest

from harness.judge.growth import COUNTERS
from harness.model.address import Bdf
from harness.xen.keys.leaks import count
from suites.selftest.fakes.readings import READINGS, files_of

NVME = Bdf.parse("04:00.0")

# What the counters give today, pinned and not counted by hand; another number here is another meaning of a counter.
EXACT = {
    "4.20/no_guest_alive": {
        "device_irqs": 0, "msi_irqs": 17, "unbound_irqs": 3, "foreign_irqs": 0, "dom0_irqs": 40, "domain_irqs": 0,
        "dom0_event_channels": 29, "event_channels": 29, "domains": 1, "dead_domains": 0, "dead_pages": 0,
        "xenstore": 46, "xenstore_dom0": 32, "xenstore_domains": 0, "xenstore_libxl": 4, "xenstore_vm": 1,
        "irq_descriptors": 49, "interrupt_rows": 28, "device_models": 1, "toolstack_processes": 0, "pciback_slots": 1,
        "xen_memory_kib": 1079944, "claimed_pages": 0,
    },
    "4.20/guest_running": {
        "device_irqs": 2, "msi_irqs": 19, "unbound_irqs": 3, "foreign_irqs": 2, "dom0_irqs": 42, "domain_irqs": 3,
        "dom0_event_channels": 34, "event_channels": 43, "domains": 2, "dead_domains": 0, "dead_pages": 0,
        "xenstore": 181, "xenstore_dom0": 73, "xenstore_domains": 66, "xenstore_libxl": 24, "xenstore_vm": 9,
        "irq_descriptors": 54, "interrupt_rows": 33, "device_models": 2, "toolstack_processes": 1, "pciback_slots": 1,
        "xen_memory_kib": 1212684, "claimed_pages": 0,
    },
    "4.20/zombies_of_stopped_qemu": {
        "device_irqs": 3, "msi_irqs": 20, "unbound_irqs": 6, "foreign_irqs": 0, "dom0_irqs": 43, "domain_irqs": 3,
        "dom0_event_channels": 35, "event_channels": 35, "domains": 3, "dead_domains": 2, "dead_pages": 2,
        "xenstore": 46, "xenstore_dom0": 32, "xenstore_domains": 0, "xenstore_libxl": 4, "xenstore_vm": 1,
        "irq_descriptors": 55, "interrupt_rows": 34, "device_models": 3, "toolstack_processes": 0, "pciback_slots": 1,
        "xen_memory_kib": 1080268, "claimed_pages": 0,
    },
}  # fmt: skip


@pytest.mark.parametrize("reading", EXACT)
def test_every_counter(reading: str) -> None:
    found = count(files_of(reading), NVME)
    assert found == EXACT[reading]
    assert len(found) == len(COUNTERS)


ONE_MORE: dict[str, tuple[str, bytes, set[str]]] = {
    "a node of dom0": ("xenstore.txt", b'/local/domain/0/x = "1"\n', {"xenstore", "xenstore_dom0"}),
    "a node of a domain": ("xenstore.txt", b'/local/domain/17/x = "1"\n', {"xenstore", "xenstore_domains"}),
    "a node of libxl": ("xenstore.txt", b'/libxl/9 = ""\n', {"xenstore", "xenstore_libxl"}),
    "a node of /vm": ("xenstore.txt", b'/vm/9 = ""\n', {"xenstore", "xenstore_vm"}),
    "another node": ("xenstore.txt", b'/tool/x = ""\n', {"xenstore"}),
    "a device model": ("processes.txt", b" 9999 S qemu-system-i38 qemu-system-i386 -x\n", {"device_models"}),
    "an xl": ("processes.txt", b" 9999 S xl xl create x\n", {"toolstack_processes"}),
    "another program": ("processes.txt", b" 9999 S less less qemu xl\n", set()),
    "a program in another encoding": ("processes.txt", b" 9999 S caf\xe9 caf\xe9\n", set()),
    "a slot": ("pciback_slots.txt", b"0000:05:00.0\n", {"pciback_slots"}),
    "a descriptor": ("irq_desc.txt", b"/sys/kernel/irq/999/chip_name:xen-dyn\n", {"irq_descriptors"}),
    "a domain": ("xl_list.txt", b"bob 9 512 1 -b---- 1.0\n", {"domains"}),
}


@pytest.mark.parametrize("what", ONE_MORE)
@pytest.mark.parametrize("reading", READINGS)
def test_one_more(reading: str, what: str) -> None:
    file, line, counters = ONE_MORE[what]
    files = files_of(reading)
    before = count(files, NVME)
    after = count({**files, file: files[file] + line}, NVME)
    assert {name: after[name] - before[name] for name in after if after[name] != before[name]} == dict.fromkeys(
        counters, 1
    )
