"""Which accelerator can really run Xen here.

The mere presence of /dev/kvm says nothing: there are machines where it opens and even creates VMs, yet no nested
hypervisor runs. Xen needs svm or vmx in its own CPU, so KVM is chosen only where the CPU has it and kvm nests.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Accelerator:
    name: str  # tcg or kvm
    cpu: str  # QEMU's -cpu
    why: str  # printed, so that a slow run explains itself

    @property
    def cpus(self) -> int:
        """CPUs of the machine. Emulated ones are threads of QEMU: with more of them than cores they wait for each
        other's spinlocks while the holder is not even running. One each lets two hosts run side by side on two cores.
        """
        return 1 if self.name == "tcg" else 2

    @property
    def argument(self) -> str:
        return "tcg,thread=multi" if self.name == "tcg" else self.name


def emulated(why: str) -> Accelerator:
    """QEMU's own translator, which needs nothing of the machine."""
    return Accelerator("tcg", _TCG_CPU, why)


# Models with smap/smep crash a PV dom0 under TCG, and monitor/mwait gives #GP in Xen's idle loop.
_TCG_CPU = "qemu64,+svm,+npt"


def choose(cpuinfo: str, nested: str | None, kvm_usable: bool) -> Accelerator:
    """Pure choice. `nested` is the kvm module's parameter ("1", "Y", "0", "N" or None when not loaded)."""
    extension = re.search(r"^flags\s*:.*\b(svm|vmx)\b", cpuinfo, re.MULTILINE)
    if extension is None:
        return emulated("this CPU offers neither svm nor vmx")
    if nested not in ("1", "Y"):
        return emulated(f"the CPU has {extension[1]}, but kvm does not nest (nested={nested})")
    if not kvm_usable:
        return emulated("/dev/kvm cannot be opened by this user")
    return Accelerator("kvm", f"host,+{extension[1]}", f"{extension[1]} with nesting")


def detect() -> Accelerator:
    """The choice for this machine, as far as its files tell; whether QEMU can use it, QEMU says (`Emulator.usable`)."""
    nested = None
    for module in ("kvm_amd", "kvm_intel"):
        parameter = Path("/sys/module") / module / "parameters/nested"
        if parameter.exists():
            nested = parameter.read_text().strip()
    return choose(Path("/proc/cpuinfo").read_text(), nested, os.access("/dev/kvm", os.R_OK | os.W_OK))


MEMORY = Path("/proc/meminfo")
_HOST_KIB = 3 << 20
_AVAILABLE = re.compile(r"^MemAvailable: +(\d+) kB$", re.MULTILINE)


def room_for(hosts: int) -> bool:
    """Whether this machine has the memory for so many emulated hosts. Source: proc(5), MemAvailable."""
    available = _AVAILABLE.search(MEMORY.read_text())
    return available is not None and int(available[1]) >= hosts * _HOST_KIB
