"""The model as files: what /sys, /proc and /run show of it. Relative symlinks, as sysfs has them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from suites.selftest.fakes.fakehost import board
from suites.selftest.fakes.fakehost.function import PCIBACK, Function
from suites.selftest.fakes.fakehost.state import State

_NODES = ("sys", "proc", "run", "dev")  # what a reboot empties
PCI = "/sys/bus/pci"


def _resources(function: Function) -> list[tuple[int, int, int]]:
    """Start, end and flags of BARs, ROM and windows; only the first is there."""
    base = function.word(0x10, size=4) & ~0xF
    return [(base, base + 0x3FFF, 0x40200) if base else (0, 0, 0), *[(0, 0, 0)] * 12]


class Tree:
    """Paths are those of the host; `real` says where they are."""

    def __init__(self, root: Path, host: State) -> None:
        self.root = root
        self._host = host

    def real(self, path: str) -> Path:
        return Path(f"{self.root}{path}")

    def write(self, path: str, data: str | bytes = b"") -> None:
        target = f"{self.root}{path}"
        content = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        try:
            file = os.open(target, os.O_WRONLY | os.O_CREAT, 0o644)
            os.write(file, content)
            os.ftruncate(file, len(content))  # afterwards: whoever reads meanwhile never finds it empty
            os.close(file)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
            self.write(path, data)

    def link(self, path: str, target: str | None) -> None:
        """A relative symlink from one path of the host to another; None removes it."""
        place = self.real(path)
        place.unlink(missing_ok=True)
        if target is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(os.path.relpath(target, os.path.dirname(path)))  # noqa: PTH120

    def first(self) -> None:
        """What outlives a reboot."""
        for path, text in board.FILES.items():
            self.write(path, text)
        modules = f"/lib/modules/{board.RELEASE}"
        for name in board.MODULES:
            if name not in board.BUILT_IN:
                self.write(f"{modules}/kernel/{name}.ko", f"module {name}\n")
        self.write(f"{modules}/modules.dep", "".join(f"kernel/{name}.ko:\n" for name in board.MODULES))
        self.write(f"{modules}/modules.builtin", "".join(f"kernel/{name}.ko\n" for name in board.BUILT_IN))
        for path in ("/var/lib", "/var/log", "/etc/systemd/system"):
            self.real(path).mkdir(parents=True, exist_ok=True)

    def boot(self) -> None:
        """Everything volatile, from nothing."""
        for name in _NODES:
            shutil.rmtree(self.root / name, ignore_errors=True)
        for path, text in board.PROC.items():
            self.write(path, text)
        self.write("/proc/sys/kernel/random/boot_id", self._host.boot_id + "\n")
        self.uptime()
        mounts = "".join(f"{device} {place} {kind} rw,relatime 0 0\n" for device, place, kind, _ in board.MOUNTS)
        info = "".join(
            f"{number + 20} {1 if number == 0 else 20} {node} / {place} rw,relatime shared:1 - {kind} {device} rw\n"
            for number, (device, place, kind, node) in enumerate(board.MOUNTS)
        )
        for process in ("self", "1"):
            self.write(f"/proc/{process}/mounts", mounts)
            self.write(f"/proc/{process}/mountinfo", info)
        self.link("/proc/mounts", "/proc/self/mounts")
        for path in ("/run/systemd/system", "/run/lock", "/dev/disk/by-id", "/dev/mapper", f"{PCI}/devices"):
            self.real(path).mkdir(parents=True, exist_ok=True)
        for path in (
            "/sys/kernel/iommu_groups",
            "/sys/class/iommu",
            "/sys/class/net",
            "/sys/class/block",
            "/sys/block",
        ):
            self.real(path).mkdir(parents=True, exist_ok=True)
        shown: tuple[tuple[str, str | bytes], ...] = (
            ("/sys/hypervisor/type", "xen\n"),
            ("/sys/hypervisor/version/major", "4\n"),
            ("/sys/hypervisor/version/minor", "20\n"),
            ("/sys/hypervisor/version/extra", ".4\n"),
            ("/sys/hypervisor/uuid", "00000000-0000-0000-0000-000000000000\n"),
            ("/sys/class/tty/console/active", "tty0 hvc0\n"),
            ("/sys/devices/system/cpu/online", "0-1\n"),
            ("/sys/firmware/acpi/tables/DMAR", b"DMAR\x30\0\0\0\x01" + bytes(39)),
            ("/sys/power/state", "freeze mem disk\n"),
            ("/dev/kmsg", ""),
            (f"{PCI}/rescan", ""),
            (f"{PCI}/drivers_probe", ""),
            (f"{PCI}/drivers_autoprobe", "1\n"),
        )
        for path, data in shown:
            self.write(path, data)
        self.loopback()
        self.modules()
        for function in self._host.functions.values():
            self.plug(function)

    def loopback(self) -> None:
        for name, text in (("address", "00:00:00:00:00:00\n"), ("ifindex", "1\n"), ("type", "772\n")):
            self.write(f"/sys/devices/virtual/net/lo/{name}", text)
        self.link("/sys/class/net/lo", "/sys/devices/virtual/net/lo")

    def uptime(self) -> None:
        self.write("/proc/uptime", f"{self._host.uptime:.2f} {self._host.uptime:.2f}\n")

    def modules(self) -> None:
        """Loaded modules and the drivers they bring."""
        host = self._host
        self.write("/proc/modules", "".join(f"{name} 16384 0 - Live 0x0\n" for name in sorted(host.modules)))
        for name, driver in board.MODULES.items():
            folder = f"{PCI}/drivers/{driver}"
            if name in host.modules or name in board.BUILT_IN:
                self.write(f"/sys/module/{name}/initstate", "live\n")
                for control in ("bind", "unbind", "new_id", "remove_id", "uevent"):
                    self.write(f"{folder}/{control}")
                self.link(f"{folder}/module", f"/sys/module/{name}")
            elif self.real(folder).exists():
                shutil.rmtree(self.real(folder))
                shutil.rmtree(self.real(f"/sys/module/{name}"))
        self.pciback()

    def pciback(self) -> None:
        folder = f"{PCI}/drivers/{PCIBACK}"
        if self.real(folder).exists():
            for control in ("new_slot", "remove_slot", "permissive", "quirks", "irq_handlers"):
                self.write(f"{folder}/{control}")
            self.write(f"{folder}/slots", "".join(f"{slot}\n" for slot in sorted(self._host.slots)))

    def home(self, function: Function) -> str:
        """Its directory: below all its bridges."""
        above = self._host.functions.get(function.parent or "")
        return f"{self.home(above) if above else '/sys/devices/pci0000:00'}/{function.bdf}"

    def plug(self, function: Function) -> None:
        """A function that appeared."""
        home = self.home(function)
        vendor, device = function.id.split(":")
        sub_vendor, sub_device = function.subsystem.split(":")
        files = {
            "vendor": f"0x{vendor}", "device": f"0x{device}", "class": f"0x{function.class_code:06x}",
            "subsystem_vendor": f"0x{sub_vendor}", "subsystem_device": f"0x{sub_device}", "revision": "0x01",
            "irq": "11", "numa_node": "-1", "enable": "1", "msi_bus": "1", "d3cold_allowed": "1", "power_state": "D0",
            "broken_parity_status": "0", "remove": "", "rescan": "", "uevent": "", "local_cpulist": "0-1",
            "modalias": f"pci:v0000{vendor}d0000{device}".upper(),
            "resource": "\n".join(" ".join(f"0x{value:016x}" for value in line) for line in _resources(function)),
        }  # fmt: skip
        if function.resets:
            files["reset"] = ""
            files["reset_method"] = " ".join(function.resets)
        if function.class_code >> 16 == 3:
            files["boot_vga"] = "1" if function.boot_vga else "0"
        if function.total_vfs:
            files["sriov_totalvfs"] = str(function.total_vfs)
        for name, text in files.items():
            self.write(f"{home}/{name}", f"{text}\n" if text else "")
        self.link(f"{home}/subsystem", PCI)
        self.link(f"{PCI}/devices/{function.bdf}", home)
        if function.slot:
            below = next((f.bdf for f in self._host.functions.values() if f.parent == function.bdf), function.bdf)
            self.write(f"{PCI}/slots/{function.slot}/address", below[:10] + "\n")
            self.write(f"{PCI}/slots/{function.slot}/power", "1\n")
        self.show(function)

    def unplug(self, function: Function) -> None:
        if function.bound:
            self.link(f"{PCI}/drivers/{function.bound}/{function.bdf}", None)
        self._children(function, working=False)
        self.link(f"{PCI}/devices/{function.bdf}", None)
        shutil.rmtree(self.real(self.home(function)))

    def show(self, function: Function) -> None:
        """Its state that can change."""
        home = self.home(function)
        self.write(f"{home}/config", bytes(function.config))
        self.write(f"{home}/driver_override", f"{function.override or '(null)'}\n")
        self.write(f"{home}/power/control", f"{function.power_control}\n")
        self.write(f"{home}/power/runtime_status", "active\n")
        if function.total_vfs:
            self.write(f"{home}/sriov_numvfs", f"{function.numvfs}\n")
        for driver in self.real(f"{PCI}/drivers").iterdir():
            (driver / function.bdf).unlink(missing_ok=True)
        self.link(f"{home}/driver", f"{PCI}/drivers/{function.bound}" if function.bound else None)
        if function.bound:
            self.link(f"{PCI}/drivers/{function.bound}/{function.bdf}", home)
        shutil.rmtree(self.real(f"{home}/msi_irqs"), ignore_errors=True)
        if function.bound and function.bound == function.driver and (function.msix or 0) & 0x8000:
            for irq in self._host.irqs(function):
                self.write(f"{home}/msi_irqs/{irq}", "msix\n")
        self._children(function, working=bool(function.bound) and function.bound == function.driver)

    def _children(self, function: Function, *, working: bool) -> None:
        """What the driver makes of it: a network interface, a drive."""
        home = self.home(function)
        if function.net:
            self._interface(function, f"{home}/net/{function.net}", working=working)
        if function.nvme:
            self._drive(function, f"{home}/nvme/{function.nvme}", working=working)

    def _interface(self, function: Function, place: str, *, working: bool) -> None:
        name = function.net or ""
        self.link(f"/sys/class/net/{name}", place if working else None)
        if not working:
            shutil.rmtree(self.real(place).parent, ignore_errors=True)
            return
        for file, text in (
            ("address", function.mac), ("operstate", "up" if function.up else "down"), ("type", "1"), ("ifalias", ""),
            ("carrier", "1" if function.up else "0"), ("flags", "0x1003" if function.up else "0x1002"), ("mtu", "1500"),
            ("ifindex", str(int(name[3:] or 0) + 2)), ("iflink", str(int(name[3:] or 0) + 2)), ("dev_id", "0x0"),
            ("addr_assign_type", "0"),
        ):  # fmt: skip
            self.write(f"{place}/{file}", text + "\n")
        self.link(f"{place}/device", self.home(function))
        self.link(f"{place}/subsystem", "/sys/class/net")

    def _drive(self, function: Function, place: str, *, working: bool) -> None:
        name = function.nvme or ""
        disk = f"{name}n1"
        number = int(name[4:] or 0) * 4
        partitions = 3 if number == 0 else 0
        self.link(f"/sys/class/nvme/{name}", place if working else None)
        names = [disk, *(f"{disk}p{part}" for part in range(1, partitions + 1))]
        for order, block in enumerate(names):
            folder = f"{place}/{disk}" + (f"/{block}" if order else "")
            for alias in (f"/sys/class/block/{block}", *(() if order else (f"/sys/block/{block}",))):
                self.link(alias, folder if working else None)
            self.link(f"/sys/dev/block/259:{number + order}", folder if working else None)
            self.real(f"/dev/{block}").unlink(missing_ok=True)
            if not working:
                continue
            self.write(f"/dev/{block}")
            os.truncate(self.real(f"/dev/{block}"), 2097152 * 512)  # sparse: zeros that take no room
            for file, text in (("dev", f"259:{number + order}"), ("size", "2097152"), ("ro", "0")):
                self.write(f"{folder}/{file}", text + "\n")
            if order:
                self.write(f"{folder}/partition", f"{order}\n")
            for empty in ("holders", "slaves"):
                self.real(f"{folder}/{empty}").mkdir(exist_ok=True)
            self.link(f"{folder}/subsystem", "/sys/class/block")
        if not working:
            shutil.rmtree(self.real(place).parent, ignore_errors=True)
            return
        for file, raw in (("serial", function.serial), ("model", function.model), ("state", b"live")):
            self.write(f"{place}/{file}", raw.ljust({"serial": 20, "model": 40}.get(file, 0)) + b"\n")
        self.link(f"{place}/device", self.home(function))
        self.link(f"{place}/{disk}/device", place)
        self.link(f"{place}/subsystem", "/sys/class/nvme")
