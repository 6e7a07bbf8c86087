"""The programs whose effect is the kernel's, systemd's or Xen's; everything else is the real one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from fnmatch import fnmatch

from suites.selftest.fakes.fakehost import board, sysfs
from suites.selftest.fakes.fakehost import xl as xen
from suites.selftest.fakes.fakehost.function import MSIX, Function
from suites.selftest.fakes.fakehost.machine import FakeHost, Refused, Timer

Answer = tuple[int, bytes, bytes]  # status, stdout, stderr
# What would reach the machine that runs the tests, or tell of it, and is not modelled.
ABSENT = [
    *("apt-get", "apt", "dpkg", "dpkg-query", "update-grub", "grub-mkconfig", "grub-reboot", "grub-editenv"),
    *("update-initramfs", "mount", "umount", "lsblk", "findmnt", "blkid", "lvs", "vgs", "pvs", "dmsetup", "mdadm"),
    *("zpool", "multipath", "ss", "ifconfig", "ethtool", "bridge", "ovs-vsctl", "insmod", "kexec", "halt"),
    *("swapon", "swapoff", "fuser", "lsof", "journalctl", "loginctl", "hostnamectl"),
]


def run(host: FakeHost, argv: tuple[str, ...], stdin: bytes) -> Answer:
    """One program to its end, traps included. Lost when nobody shall hear of it."""
    name, words = argv[0], list(argv[1:])
    changing = _changes(name, words)

    def effect() -> Answer:
        with host.lock:
            if changing:
                host.executed.append(argv)
            if name == "tee":
                return _tee(host, words, stdin)
            if name == "sha512sum":  # of what a program said of this machine, wherever the machine is kept
                return 0, f"{hashlib.sha512(stdin).hexdigest()}  -\n".encode(), b""
            status, out, err = _PROGRAMS[name](host, words)
            return status, out.encode("utf-8", "surrogateescape"), err.encode("utf-8", "surrogateescape")

    answer: Answer = host.traps.around(" ".join(argv), effect, changes=changing, line=False)
    return answer


def known(name: str) -> bool:
    return name in ("tee", "sha512sum") or name in _PROGRAMS


def names() -> list[str]:
    """Of all that is not taken from the real machine."""
    return ["tee", "sha512sum", *_PROGRAMS]


def _changes(name: str, words: list[str]) -> bool:
    match name:
        case "xl":
            return xen.changes(words)
        case "setpci":
            return any("=" in word for word in words)
        case "modprobe":
            return not {"--show-depends", "-D", "-n", "--dry-run"} & set(words)
        case "systemctl":
            return bool({"stop", "start", "reboot"} & set(words))
        case "ip":
            return "set" in words
        case "tee":
            return any(word.startswith(("/sys/", "/proc/")) for word in words)
    return name in ("rmmod", "reboot", "shutdown", "poweroff", "systemd-run", "xenstore-write", "xenstore-rm")


def _tee(host: FakeHost, words: list[str], data: bytes) -> Answer:
    append = "-a" in words
    status, err = 0, b""
    for path in (word for word in words if not word.startswith("-")):
        try:
            with contextlib.suppress(KeyError):
                if sysfs.write(host, path, data):
                    continue
            if host.full:
                raise Refused(28)
            with host.tree.real(path).open("ab" if append else "wb") as file:
                file.write(data)
        except (Refused, OSError) as error:
            status = 1
            err += f"tee: {path}: {os.strerror(error.errno or 5)}\n".encode("utf-8", "surrogateescape")
    return status, data, err


def _lspci(host: FakeHost, words: list[str]) -> xen.Answer:
    options = "".join(word[1:] for word in words if word.startswith("-") and word != "-s")
    wanted = words[words.index("-s") + 1] if "-s" in words else None
    if not set(options) <= set("Dnvk"):
        return 1, "", f"lspci: -{options} is not modelled\n"
    text = ""
    for function in sorted(host.functions.values(), key=lambda function: function.bdf):
        if wanted and wanted not in (function.bdf, function.bdf[5:]):
            continue
        bdf = function.bdf if "D" in options else function.bdf[5:]
        text += f"{bdf} {function.class_code >> 8:04x}: {function.id} (rev 01)\n"
        text += _verbose(function) if "v" in options else ""
    return 0, text, ""


def _verbose(function: Function) -> str:
    flags = ["I/O", "Mem", "BusMaster", "SpecCycle", "MemWINV", "VGASnoop", "ParErr", "Stepping", "SERR", "FastB2B"]
    flags.append("DisINTx")
    signs = " ".join(f"{flag}{'+' if function.command >> bit & 1 else '-'}" for bit, flag in enumerate(flags))
    text = f"\tSubsystem: {function.subsystem}\n\tControl: {signs}\n"
    if function.msix is not None:
        enable, masked = ("+" if function.msix >> bit & 1 else "-" for bit in (15, 14))
        count = (function.msix & 0x7FF) + 1
        text += f"\tCapabilities: [{MSIX:02x}] MSI-X: Enable{enable} Count={count} Masked{masked}\n"
    return text + (f"\tKernel driver in use: {function.bound}\n" if function.bound else "") + "\n"


def _setpci(host: FakeHost, words: list[str]) -> xen.Answer:
    bdf = words[words.index("-s") + 1]
    bdf = bdf if bdf.count(":") == 2 else f"0000:{bdf}"
    try:
        read = [sysfs.setpci(host, bdf, word) for word in words if word != "-s" and word not in (bdf, bdf[5:])]
    except ValueError as error:
        return 1, "", f"setpci: {error}\n"
    return 0, "".join(f"{value}\n" for value in read if value is not None), ""


def _modprobe(host: FakeHost, words: list[str]) -> xen.Answer:
    wanted = [word.replace("-", "_") for word in words if not word.startswith("-") and "=" not in word]
    unknown = [name for name in wanted if name not in board.MODULES]
    if unknown:
        said = f"modprobe: FATAL: Module {unknown[0]} not found in directory /lib/modules/{board.RELEASE}\n"
        return 1, "", "" if "-q" in words else said
    if {"--show-depends", "-D"} & set(words):
        folder = f"/lib/modules/{board.RELEASE}/kernel"
        lines = [f"builtin {name}" if name in board.BUILT_IN else f"insmod {folder}/{name}.ko" for name in wanted]
        return 0, "".join(f"{line}\n" for line in lines), ""
    if {"-n", "--dry-run"} & set(words):
        return 0, "", ""
    return _rmmod(host, wanted) if "-r" in words else _load(host, wanted)


def _load(host: FakeHost, wanted: list[str]) -> xen.Answer:
    host.modules |= set(wanted) - board.BUILT_IN
    host.tree.modules()
    for function in host.functions.values():
        if not function.bound and function.driver in {board.MODULES[name] for name in wanted}:
            host.probe(function.bdf)
    return 0, "", ""


def _rmmod(host: FakeHost, words: list[str]) -> xen.Answer:
    name = words[-1].replace("-", "_")
    if name not in host.modules:
        return 1, "", f"rmmod: ERROR: Module {name} is not currently loaded\n"
    for function in host.functions.values():
        if function.bound == board.MODULES[name]:
            host.unbind(function.bdf, function.bound)
    host.modules.discard(name)
    host.tree.modules()
    return 0, "", ""


def _lsmod(host: FakeHost, words: list[str]) -> xen.Answer:
    rows = "".join(f"{name:<19} 16384  0\n" for name in sorted(host.modules))
    return 0, f"Module                  Size  Used by\n{rows}", ""


def _reboot(host: FakeHost, words: list[str]) -> xen.Answer:
    """Ordered, it answers first; forced (`reboot -f`) it does not."""
    if host.answers_reboot and not {"-f", "--force", "-ff"} & set(words):
        host.later.append(host.reboot)
    else:
        host.reboot()
    return 0, "", ""


def _systemctl(host: FakeHost, words: list[str]) -> xen.Answer:
    verb, *rest = [word for word in words if not word.startswith("-")] or [""]
    units = {unit.removesuffix(".timer").removesuffix(".service") for unit in rest}
    match verb:
        case "reboot":
            return _reboot(host, words)
        case "is-system-running":
            return 0, "running\n", ""
        case "is-active" | "status" | "show":
            active = bool(units) and units <= {*host.timers, "ssh", "xenstored", "xenconsoled", "xen-init-dom0"}
            return (0, "active\n", "") if active else (3, "inactive\n", "")
        case "list-timers" | "list-units":
            return 0, "".join(f"{name}.timer loaded active waiting\n" for name in host.timers), ""
        case "stop" | "reset-failed":
            globs = {unit for unit in units if "*" in unit}
            units = units - globs | {name for name in host.timers if any(fnmatch(name, glob) for glob in globs)}
            missing = units - host.timers.keys()
            for unit in units & host.timers.keys():
                del host.timers[unit]
            return (5, "", f"Failed to {verb} {min(missing)}: Unit not loaded.\n") if missing else (0, "", "")
    return 1, "", f"systemctl: {verb} is not modelled\n"


def _systemd_run(host: FakeHost, words: list[str]) -> xen.Answer:
    unit, seconds = f"run-r{len(host.executed)}", 0.0
    while words and words[0].startswith("-"):
        word = words.pop(0)
        option, _, value = word.partition("=")
        if option in ("--unit", "-u", "--on-active", "--on-boot", "--description", "-p", "--property") and not value:
            value = words.pop(0)
        if option in ("--unit", "-u"):
            unit = value.removesuffix(".timer").removesuffix(".service")
        elif option == "--on-active":
            match = re.fullmatch(r"(\d+)(s|sec|m|min|h)?", value)
            if match is None:
                return 1, "", f"systemd-run: Failed to parse timer value: {value}\n"
            seconds = int(match[1]) * {"m": 60, "min": 60, "h": 3600}.get(match[2] or "s", 1)
    if unit in host.timers:
        return 1, "", f"Failed to start transient timer unit: Unit {unit}.timer was already loaded\n"
    host.timers[unit] = Timer(host.uptime + seconds, tuple(words))
    return 0, "", f"Running timer as unit: {unit}.timer\n"


def _ip(host: FakeHost, words: list[str]) -> xen.Answer:
    """What is asked of links, addresses and routes, and `ip link set [dev] NAME up|down`."""
    asked = [word for word in words if not word.startswith("-")]
    if asked[:1] in (["link"], ["addr"]) and len(asked) == 1:
        return 0, "".join(_links(host) if asked == ["link"] else board.ADDRESSES), ""
    if asked == ["route", "show", "table", "all"]:
        return 0, board.ROUTES6 if "-6" in words else board.ROUTES, ""
    if words[:2] != ["link", "set"] or words[-1] not in ("up", "down"):
        return 1, "", f"ip: {' '.join(words)} is not modelled\n"
    for function in host.functions.values():
        if function.net == words[-2] and function.bound == function.driver:
            function.up = words[-1] == "up"
            host.tree.show(function)
            return 0, "", ""
    return 1, "", f'Cannot find device "{words[-2]}"\n'


def _links(host: FakeHost) -> Iterator[str]:
    yield "1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN\\    link/loopback promiscuity 0 \n"
    for function in host.functions.values():
        if function.net and function.bound == function.driver:
            number, up = int(function.net[3:]) + 2, ",UP,LOWER_UP" if function.up else ""
            head = f"{number}: {function.net}: <BROADCAST,MULTICAST{up}> mtu 1500"
            yield f"{head}\\    link/ether {function.mac} promiscuity 0 \n"


def _uname(host: FakeHost, words: list[str]) -> xen.Answer:
    parts = {"-s": "Linux", "-n": "xenbox1", "-r": board.RELEASE, "-v": "#1 SMP", "-m": "x86_64"}
    asked = parts if "-a" in words else words or ["-s"]
    return 0, " ".join(parts.get(word, "") for word in asked) + "\n", ""


def _date(host: FakeHost, words: list[str]) -> xen.Answer:
    now = time.time() + host.clock_offset
    shape = next((word[1:] for word in words if word.startswith("+")), "%a %b %d %H:%M:%S UTC %Y")
    shape = shape.replace("%s", str(int(now))).replace("%N", f"{int(now % 1 * 1e9):09d}")
    return 0, time.strftime(shape, time.gmtime(now)) + "\n", ""


def _xenstore_read(host: FakeHost, words: list[str]) -> xen.Answer:
    keys = [word for word in words if not word.startswith("-")]
    for key in keys:
        if key not in host.xenstore:
            return 1, "", f"xenstore-read: couldn't read path {key}\n"
    return 0, "".join(host.xenstore[key] + "\n" for key in keys), ""


def _xenstore_ls(host: FakeHost, words: list[str]) -> xen.Answer:
    top = next((word for word in words if not word.startswith("-")), "/").rstrip("/")
    found = {key: value for key, value in sorted(host.xenstore.items()) if key.startswith(f"{top}/")}
    if not found and top not in host.xenstore:
        return 1, "", "xenstore-ls: xs_directory (" + (top or "/") + "): No such file or directory\n"
    short = 0 if "-f" in words else len(top) + 1
    return 0, "".join(f'{key[short:]} = "{value}"\n' for key, value in found.items()), ""


def _xenstore_list(host: FakeHost, words: list[str]) -> xen.Answer:
    top = words[-1].rstrip("/") + "/"
    names = sorted({key.removeprefix(top).split("/")[0] for key in host.xenstore if key.startswith(top)})
    return (0, "".join(f"{name}\n" for name in names), "") if names else (1, "", f"xenstore-list: {top}: not found\n")


def _xenstore_rm(host: FakeHost, words: list[str]) -> xen.Answer:
    host.xenstore = {key: value for key, value in host.xenstore.items() if not f"{key}/".startswith(f"{words[-1]}/")}
    return 0, "", ""


def _xenstore_write(host: FakeHost, words: list[str]) -> xen.Answer:
    host.xenstore |= dict(zip(words[::2], words[1::2], strict=True))
    return 0, "", ""


def _dmesg(host: FakeHost, words: list[str]) -> xen.Answer:
    return 0, "".join(f"{line}\n" for line in host.dmesg), ""


_PROGRAMS: dict[str, Callable[[FakeHost, list[str]], xen.Answer]] = {
    "xl": xen.xl, "lspci": _lspci, "setpci": _setpci, "modprobe": _modprobe, "rmmod": _rmmod, "lsmod": _lsmod,
    "reboot": _reboot, "systemctl": _systemctl, "systemd-run": _systemd_run, "uname": _uname, "date": _date,
    "dmesg": _dmesg, "xenstore-read": _xenstore_read, "xenstore-ls": _xenstore_ls, "xenstore-list": _xenstore_list,
    "xenstore-rm": _xenstore_rm, "xenstore-write": _xenstore_write,
    "ip": _ip, "hostname": lambda host, words: (0, "xenbox1\n", ""),
}  # fmt: skip
_PROGRAMS["shutdown"] = _PROGRAMS["reboot"]
