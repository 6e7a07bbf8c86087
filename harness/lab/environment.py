"""What dom0 consisted of when something was certified: read before and after, and held against each other.

A certificate is of a product as it is shipped; so dom0's files must be those of their packages, Xen that of /boot,
and nobody may have changed it meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from harness.base.deadline import Deadline
from harness.base.text import inert
from harness.lab.doctor import HostFinding
from harness.transport.base import Transport
from harness.transport.sections import ask

PROGRAM = Path(__file__).with_name("environment.sh")
_CLOCK_SECONDS = 300
_STEP_SECONDS = 30  # that a clock may be put back meanwhile
_SAME = {
    "commandlines": "command lines",
    "packages": "packages",
    "build": "Xen's build-id",
    "firmware": "firmware",
}
_IDLE = re.compile(r" c /etc/| /usr/share/(?:doc|lintian|locale|man)(?:/|$)")
"""Of `dpkg --verify`: a file that is there to be configured, and what no program reads."""
_NO_LIVEPATCH = "Function not implemented"
"""ENOSYS: this Xen was built without CONFIG_LIVEPATCH (livepatch_op, livepatch.h)."""
_KERNEL, _UNSIGNED = "linux-image-", "-unsigned"  # Debian has each kernel without the signature of Secure Boot, too
_HYPERVISOR = re.compile(r"xen-hypervisor-[0-9]")
_DMI_LETTERS = 127  # dmi_ids_string, drivers/firmware/dmi_scan.c
_MOST = 200  # letters of what was seen

Sections = Mapping[str, bytes]


def read_environment(transport: Transport, deadline: Deadline) -> dict[str, bytes]:
    """The raw sections of environment.sh; nothing there is changed. LabError."""
    return ask(transport, PROGRAM, deadline=deadline)


def examined(
    before: Sections | None, after: Sections | None, started: datetime, ended: datetime, *, reboots: bool
) -> list[HostFinding]:
    """Every question to the environment of a run from `started` to `ended`; `reboots`: the host may have been booted.

    Pure. What was not read is no good answer.
    """
    if before is None or after is None:
        missing = "before the run" if before is None else "after the run"
        return [HostFinding("environment", False, f"not read {missing}")]
    found = _findings(before, after, (started, ended), reboots)
    return [HostFinding(one.name, one.good, inert(one.seen)[:_MOST]) for one in found]


def moved(before: Sections, after: Sections) -> list[str]:
    """What is not the same in both. Pure."""
    then, now = _text(before), _text(after)
    pairs = ((title, then.get(name, ""), now.get(name, ""), name) for name, title in _SAME.items())
    return [inert(f"{title}: {_difference(then, now, name)}")[:_MOST] for title, was, is_, name in pairs if was != is_]


def of_another_host(
    sections: Sections, facts: Mapping[str, str], packages: Mapping[str, str], dmi: str, commandline: str
) -> list[str]:
    """Where what was read does not fit a run with these facts and packages, whose raw files show this machine and dom0.

    `dmi`, `commandline`: as dom0's kernel printed them, no more than it prints; empty: it did not. Pure.
    """
    text = _text(sections)
    told = [*text.get("commandlines", "").split("\n"), ""]
    seen = {"xen_build_id": text.get("build", "").split("\n")[0].removeprefix("running "), "xen_commandline": told[1]}
    wrong = [
        f"{name} is {now}, and the run's {facts[name]}" for name, now in seen.items() if now != facts.get(name, now)
    ]
    if commandline and told[0].strip()[: len(commandline)].strip() != commandline.strip():
        wrong.append(f"dom0's command line is {told[0]}, and the run's {commandline}")
    versions = dict(line.split(" ", 1) for line in text.get("packages", "").split("\n") if " " in line)
    wrong += [
        f"{name} is {now}, and the run's {packages[name]}"
        for name, now in versions.items()
        if now != packages.get(name, now)
    ]
    kernels = [name.removesuffix(_UNSIGNED) for name in versions if name.startswith(_KERNEL)]
    if (kernel := facts.get("kernel", "")) and not any(name.endswith(f"-{kernel}") for name in kernels):
        wrong.append(f"no package is that of the run's kernel {kernel}: {', '.join(kernels) or 'none of a kernel'}")
    hypervisors = [name for name in versions if _HYPERVISOR.match(name)]
    xen = ".".join(facts.get("xen_version", "").split(".")[:2])
    if xen and hypervisors and not any(name.startswith(f"xen-hypervisor-{xen}-") for name in hypervisors):
        wrong.append(f"no package is that of the run's Xen {xen}: {', '.join(hypervisors)}")
    wrong += _of_another_machine(text.get("firmware", ""), dmi)
    return [inert(one)[:_MOST] for one in wrong]


def _of_another_machine(firmware: str, dmi: str) -> Iterator[str]:
    """Linux prints vendor, product/board, BIOS version and date in one line (dmi_format_ids), of which 127 letters."""
    told = {name: value.strip() for name, _, value in (line.partition(" ") for line in firmware.split("\n"))}
    if not dmi or len(dmi) >= _DMI_LETTERS:
        return
    if not told.get("product_name"):
        yield f"the machine is not told, and the run's is {dmi}"
    for name in ("sys_vendor", "product_name", "bios_version", "bios_date"):
        if told.get(name, "") not in dmi:
            yield f"the machine's {name} is {told[name]}, and the run's {dmi}"


_Span = tuple[datetime, datetime]


def _findings(before: Sections, after: Sections, run: _Span, reboots: bool) -> Iterator[HostFinding]:
    then, now = _text(before), _text(after)
    taint = [one.get("taint", "").strip() for one in (then, now)]
    clean = taint == ["0", "0"]
    told = "not tainted" if clean else f"tainted: {taint[0] or 'not told'} before, {taint[1] or 'not told'} after"
    yield HostFinding("dom0's kernel", clean, told)
    packages = now.get("packages", "").split("\n")
    known = any(line.startswith("xen-hypervisor") for line in packages)
    yield HostFinding("packages", known, "; ".join(filter(None, packages)) or "no package of Xen is installed")
    verified = [line for one in (then, now) for line in one.get("verify", "").split("\n") if line]
    changed = [line for line in verified if not _IDLE.search(line)]
    yield HostFinding(
        "dpkg --verify", known and not changed, "; ".join(dict.fromkeys(changed)) or "every file as it was packed"
    )
    build = now.get("build", "").split("\n")
    on_disk = [line.removeprefix("in ") for line in build if line.startswith("in /boot/")]
    running = build[0].removeprefix("running ").strip()
    good = bool(running and on_disk)
    told = f"{running}, as in {on_disk[0]}" if good else f"{running or 'not told'}: no file of /boot has it"
    yield HostFinding("Xen that runs", good, told)
    patched = [line for one in (then, now) for line in _patches(one.get("livepatches", ""))]
    yield HostFinding("livepatches", not patched, "; ".join(patched) or "none before and after")
    modules = [line for line in now.get("modules", "").split("\n") if line]
    strange = [line for line in modules if not line.split()[1].startswith("linux-image")]
    yield HostFinding("modules", not strange, "; ".join(strange) or f"{len(modules)}, of the kernel's package")
    for name, title in _SAME.items():
        read = bool(then.get(name, "").strip())
        same = then.get(name) == now.get(name)
        told = "not told" if not read else "the same" if same else _difference(then, now, name)
        yield HostFinding(f"{title}, before and after", read and same, told)
    yield HostFinding("firmware", bool(now.get("firmware", "").strip()), "; ".join(now.get("firmware", "").split("\n")))
    yield _boots(then.get("boot", "").strip(), now.get("boot", "").strip(), reboots)
    yield _clock(then, now, run)


def _boots(then: str, now: str, reboots: bool) -> HostFinding:
    if not then or not now:
        return HostFinding("boots", False, "not told")
    if then == now:
        return HostFinding("boots", True, "one boot")
    return HostFinding("boots", reboots, f"booted anew, {'as the run says' if reboots else 'which no scenario does'}")


def _clock(then: Mapping[str, str], now: Mapping[str, str], run: _Span) -> HostFinding:
    """What was read before another run, or of a host that was clean another day, is of another time than this one."""
    try:
        began, ended = (int(one.get("clock", "").split("\n")[0]) for one in (then, now))
    except ValueError:
        return HostFinding("clock", False, "not told")
    took, here = ended - began, (run[1] - run[0]).total_seconds()
    early, late = began - run[0].timestamp(), ended - run[1].timestamp()
    if not here - _STEP_SECONDS <= took <= here + _CLOCK_SECONDS:  # it was read before the first, and after the last
        return HostFinding("clock", False, f"{took} s passed there, and {here:.0f} s here")
    off = max(early, late, key=abs)
    good = abs(off) <= _CLOCK_SECONDS
    told = f"{took} s passed there, and {here:.0f} s here"
    return HostFinding("clock", good, told if good else f"it is {off:+.0f} s from the times of the run")


def _text(sections: Sections) -> dict[str, str]:
    return {name: data.decode("utf-8", "replace").strip("\n") for name, data in sections.items()}


def _patches(told: str) -> list[str]:
    """Rows of `xen-livepatch list` that are no heading; all that it said where it failed, and Xen could have one."""
    lines = told.split("\n")
    if lines[-1] != "status 0":
        return [] if _NO_LIVEPATCH in told else [f"not told: {' '.join(lines)}"]
    return [line for line in lines if "|" in line and not line.lstrip().startswith(("ID", "Name"))]


def _difference(then: Mapping[str, str], now: Mapping[str, str], name: str) -> str:
    before, after = then.get(name, "").split("\n"), now.get(name, "").split("\n")
    gone, new = [line for line in before if line not in after], [line for line in after if line not in before]
    return f"was {'; '.join(gone) or 'without'}, is {'; '.join(new) or 'without'}"
