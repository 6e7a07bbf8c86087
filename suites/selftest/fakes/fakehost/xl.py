"""xl, as far as the harness speaks with it: libxl's order of steps, its marks in xenstore and its messages."""

from __future__ import annotations

import json
import re

from suites.selftest.fakes.fakehost import board
from suites.selftest.fakes.fakehost.function import PCIBACK
from suites.selftest.fakes.fakehost.machine import Domain, FakeHost, Refused

Answer = tuple[int, str, str]  # status, stdout, stderr
_FULL = re.compile(r"(?:([0-9a-fA-F]{1,4}):)?([0-9a-fA-F]{1,2}):([0-9a-fA-F]{1,2})\.([0-7])")


def xl(host: FakeHost, words: list[str]) -> Answer:
    """One call of xl."""
    while words[:1] in (["-v"], ["-f"], ["-t"], ["-N"]):
        words = words[1:]
    verb, rest = (words[0], words[1:]) if words else ("", [])
    if verb not in _VERBS:
        return 1, "", f"xl: unknown command '{verb}'\n"
    return _VERBS[verb](host, rest)


def changes(words: list[str]) -> bool:
    return any(word in ("create", "destroy", "pci-assignable-add", "pci-assignable-remove") for word in words[:2])


def _error(text: str, status: int = 1) -> Answer:
    return status, "", f"libxl: error: {text}\n"


def _find(host: FakeHost, name: str) -> Domain | None:
    """By number or name; a zombie has no name."""
    for domain in host.domains.values():
        if str(domain.domid) == name or (domain.name == name and not domain.zombie):
            return domain
    return None


def _list(host: FakeHost, words: list[str]) -> Answer:
    long = "-l" in words
    names = [word for word in words if not word.startswith("-")]
    domains = [domain for name in names if (domain := _find(host, name))] if names else [*host.domains.values()]
    if names and not domains:
        return _error(f"libxl_domain.c:337:libxl_domain_info: Domain {names[0]} not found", 1)
    if long:
        found = [
            {
                "domid": domain.domid,
                "config": {
                    "c_info": {"type": domain.kind, "name": domain.name},
                    "pcidevs": [_fields(bdf) for bdf in domain.devices],
                },
            }
            for domain in domains
            if not domain.zombie
        ]
        return 0, json.dumps(found, indent=4) + "\n", ""
    text = "Name                                        ID   Mem VCPUs\tState\tTime(s)\n"
    for domain in domains:
        name, state = (
            ("(null)", "--p--d") if domain.zombie else (domain.name, "r-----" if not domain.domid else "-b----")
        )
        memory = 0 if domain.zombie else domain.memory
        text += f"{name:<40} {domain.domid:5d} {memory:5d} {1:5d}     {state}   {1.0:5.1f}\n"
    return 0, text, ""


def _fields(bdf: str) -> dict[str, int]:
    numbers = {"domain": bdf[:4], "bus": bdf[5:7], "dev": bdf[8:10], "func": bdf[11]}
    return {name: int(text, 16) for name, text in numbers.items() if int(text, 16)}


def _domid(host: FakeHost, words: list[str]) -> Answer:
    domain = _find(host, words[0])
    return (0, f"{domain.domid}\n", "") if domain else (1, "", f"Can't get domid of domain name '{words[0]}'\n")


def _create(host: FakeHost, words: list[str]) -> Answer:
    path = next(word for word in words if not word.startswith("-"))
    try:
        text = host.tree.real(path).read_text()
    except OSError:
        return 1, "", f"Failed to read config file: {path}: No such file or directory\n"
    said = f"Parsing config from {path}\n"

    def setting(name: str, default: str = "") -> str:
        match = re.search(rf"^{name} *= *[\"']?([^\"'\n]*)", text, re.MULTILINE)
        return match[1] if match else default

    name = setting("name")
    listed = re.search(r"^pci *= *\[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    devices = [word.split(",")[0] for word in re.findall(r"['\"]([^'\"]+)['\"]", listed[1] if listed else "")]
    if _find(host, name):
        return 1, said, f'libxl: error: Domain with name "{name}" already exists.\n'
    for needed in ("kernel", "ramdisk"):
        if setting(needed) and not host.tree.real(setting(needed)).exists():
            return 3, said, f"libxl: error: failed to read {setting(needed)}: No such file or directory\n"
    domid = host.new_domid()
    for bdf in devices:
        function = host.functions.get(bdf)
        if function is None or function.bound != PCIBACK or function.owner not in ("DomIO", "d0"):
            return (
                3,
                said,
                f"libxl: error: libxl_pci.c:1676: Domain {domid}:PCI device {bdf} is not assignable\n",
            )
        if (function.msix or 0) & 0x4000:  # pci_reset_msix_state, after 575e18d54d19
            host.console.append(f"(XEN) d{domid}: assign ({bdf}) failed (-16)")
            return 3, said, "libxl: error: xc_assign_device failed: Device or resource busy\n"
    host.domains[domid] = Domain(name, domid, setting("type", "pv"), int(setting("memory", "128")), tuple(devices))
    host.xenstore |= {f"/local/domain/{domid}/name": name, f"/local/domain/{domid}/domid": str(domid)}
    for number, bdf in enumerate(devices):
        function = host.functions[bdf]
        function.owner = f"d{domid}"
        function.drive(working=True)
        host.xenstore[f"/libxl/pci/{function.key}/domid"] = str(domid)
        host.xenstore[f"/local/domain/0/backend/pci/{domid}/0/dev-{number}"] = bdf
        host.tree.show(function)
    return 0, said, ""


def _destroy(host: FakeHost, words: list[str]) -> Answer:
    domain = _find(host, next(word for word in words if not word.startswith("-")))
    if domain is None:
        return 1, "", f"{words[-1]} is an invalid domain identifier (rc=-6)\n"
    if domain.domid == 0:
        return 1, "", "Cannot destroy privileged domain 0.\n"
    for bdf in domain.devices:
        function = host.functions[bdf]
        function.owner = "DomIO"
        function.drive(working=False)
        function.reset()
        host.xenstore.pop(f"/libxl/pci/{function.key}/domid", None)
        host.tree.show(function)
    gone = (f"/local/domain/{domain.domid}/", f"/local/domain/0/backend/pci/{domain.domid}/")
    host.xenstore = {key: value for key, value in host.xenstore.items() if not key.startswith(gone)}
    if host.zombies:
        domain.zombie, domain.devices = True, ()
    else:
        del host.domains[domain.domid]
    return 0, "", ""


def _assignable_add(host: FakeHost, words: list[str]) -> Answer:
    match = _FULL.fullmatch(words[-1]) if words else None
    if match is None:
        return 1, "", f'pci-assignable-add: malformed BDF specification "{words[-1:] or ""}"\n'
    bdf = f"{int(match[1] or '0', 16):04x}:{int(match[2], 16):02x}:{int(match[3], 16):02x}.{match[4]}"
    function = host.functions.get(bdf)
    if PCIBACK not in host.drivers:
        return _error("failed to access pciback path /sys/bus/pci/drivers/pciback: No such file or directory")
    if function is None:
        return _error(f"Couldn't lstat /sys/bus/pci/devices/{bdf}: No such file or directory")
    if function.bound == PCIBACK:
        function.owner = "DomIO" if function.owner == "d0" else function.owner
        return 0, "", f"libxl: warning: {bdf} already assigned to pciback\n"
    path = f"/libxl/pci/{function.key}/driver_path"
    if function.bound:
        host.xenstore[path] = f"/sys/bus/pci/drivers/{function.bound}"
        host.unbind(bdf, function.bound)
    elif path not in host.xenstore:
        pass  # libxl warns only: it will not be rebound
    host.slots.add(bdf)
    host.tree.pciback()
    try:
        host.bind(bdf, PCIBACK)
    except Refused:
        return _error(f"Couldn't bind device to pciback!: Device or resource busy: {bdf}")
    if (function.msix or 0) & 0x4000:
        return _error(f"failed to quarantine {bdf}")
    function.owner = "DomIO"
    return 0, "", ""


def _assignable_remove(host: FakeHost, words: list[str]) -> Answer:
    function = host.functions.get(words[-1])
    if function is None:
        return _error(f"Couldn't lstat /sys/bus/pci/devices/{words[-1]}: No such file or directory")
    said = ""
    function.owner = "d0" if function.owner == "DomIO" else function.owner
    if function.bound == PCIBACK:
        host.unbind(function.bdf, PCIBACK)
        host.slots.discard(function.bdf)
        host.tree.pciback()
    else:
        said = "libxl: warning: Not bound to pciback\n"
    if "-r" not in words:
        return 0, "", said
    path = host.xenstore.pop(f"/libxl/pci/{function.key}/driver_path", None)
    if path is None:
        return 0, "", said + f"libxl: warning: Couldn't find path for original driver; not rebinding {function.bdf}\n"
    try:
        host.bind(function.bdf, path.rpartition("/")[2])
    except Refused:
        return 1, "", said + f"libxl: error: Couldn't bind device to {path}\n"
    return 0, "", said


def _assignable_list(host: FakeHost, words: list[str]) -> Answer:
    free = [f.bdf for f in host.functions.values() if f.bound == PCIBACK and f.owner in ("DomIO", "d0")]
    return 0, "".join(f"{bdf} \n" for bdf in free), ""


def _pci_list(host: FakeHost, words: list[str]) -> Answer:
    domain = _find(host, words[0]) if words else None
    if domain is None:
        return 1, "", f"{words[:1]} is an invalid domain identifier (rc=-6)\n"
    rows = "".join(f"{3 + slot:02x}.0 {bdf}\n" for slot, bdf in enumerate(domain.devices))
    return 0, f"Vdev Device\n{rows}" if rows else "", ""


def _debug_keys(host: FakeHost, words: list[str]) -> Answer:
    owners = [(function, irq) for function in host.functions.values() for irq in host.irqs(function)]
    for key in words[0]:
        if key == "M":
            host.console.append("(XEN) MSI information:")
            row = "(XEN)  MSI-X {:4d} vec={:02x}  fixed  edge   assert phys    cpu dest=00000000 mask=1/  /0"
            host.console += [row.format(irq, irq + 0x40) for _, irq in owners]
        elif key == "Q":
            host.console += ["(XEN) ==== PCI devices ====", "(XEN) ==== segment 0000 ===="]
            for function in host.functions.values():
                irqs = " ".join(map(str, host.irqs(function)))
                more = f" - MSIs < {irqs} >" if irqs else ""
                host.console.append(f"(XEN) {function.bdf} - {function.owner} - node -1 {more}")
        elif key == "i":
            host.console.append("(XEN) IRQ information:")
            row = "(XEN)    IRQ:{:4d} vec:{:02x} PCI-MSI/-X      status=030 aff:{{0}}/{{0}} in-flight=0 {}:{:3d}(---)"
            host.console += [row.format(irq, irq + 0x40, f.owner, irq) for f, irq in owners if f.owner != "DomIO"]
            host.console.append("(XEN) Direct vector information:")
    return 0, "", ""


def _info(host: FakeHost, words: list[str]) -> Answer:
    fields = {
        "host": "xenbox1", "release": board.RELEASE, "version": "#1 SMP PREEMPT_DYNAMIC Debian", "machine": "x86_64",
        "nr_cpus": 2, "virt_caps": "pv hvm hvm_directio pv_directio hap", "total_memory": 4096, "free_memory": 2048,
        "xen_major": 4, "xen_minor": 20, "xen_extra": ".4", "xen_version": "4.20.4", "xen_scheduler": "credit2",
        "xen_commandline": "placeholder dom0_mem=1024M,max:1024M iommu=force conring_size=1M",
        "build_id": "ea92b67a6c7ec0dc9541bc73daef97756b70e672", "xend_config_format": 4,
    }  # fmt: skip
    return 0, "".join(f"{name:<23}: {value}\n" for name, value in fields.items()), ""


def _dmesg(host: FakeHost, words: list[str]) -> Answer:
    return 0, "".join(line + "\n" for line in host.console), ""


_VERBS = {
    "info": _info, "list": _list, "domid": _domid, "create": _create, "destroy": _destroy, "dmesg": _dmesg,
    "pci-assignable-add": _assignable_add, "pci-assignable-remove": _assignable_remove,
    "pci-assignable-list": _assignable_list, "pci-list": _pci_list, "debug-keys": _debug_keys,
}  # fmt: skip
