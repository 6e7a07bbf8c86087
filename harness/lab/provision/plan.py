"""From facts to the steps that are missing, or to what stands in the way. Pure: nothing is done here."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from harness.lab.provision.facts import SystemFacts
from harness.lab.provision.wanted import MENU, ProvisionGoal, sha256

_FREE_MIB = {"/": 1500, "/boot": 64, "/var": 600}
"""What has to be free, by mount point; Xen with qemu takes some 300 MiB, apt as much again for what it fetches."""

_SYSTEMS = frozenset({"debian", "ubuntu"})
BY_HAND = (
    "make it a Xen dom0 by hand: install Xen, its tools and a static busybox, make GRUB boot Xen with iommu=1, "
    "load xen-pciback, and see `xl info` say hvm_directio"
)


class StepKind(enum.Enum):
    """What a step does."""

    PACKAGES = "packages"
    FILE = "file"
    MENU = "menu"
    REBOOT = "reboot"


@dataclass(frozen=True)
class Step:
    """One change to come: `text` says it, `undo` how it is taken back, `reason` why it is needed.

    `subject` is what the journal calls it; `packages` and `content` are what it works with.
    """

    kind: StepKind
    subject: str
    text: str
    undo: str
    reason: str
    packages: tuple[str, ...] = ()
    content: str = ""


def obstacles(facts: SystemFacts, wanted: ProvisionGoal) -> list[str]:
    """Why nothing may be tried on this system, one line each; empty when all is well or nothing is to be done."""
    if not plan(facts, wanted):
        return []
    if facts.os_id not in _SYSTEMS and not facts.os_like & _SYSTEMS:
        return [f"{facts.system} is no Debian or Ubuntu"]
    found = []
    if facts.architecture != "amd64":
        found.append(f"the architecture is {facts.architecture or 'unknown'}, not amd64")
    if facts.domain == "domU":
        found.append("this is itself a guest of Xen")
    if not facts.systemd:
        found.append("it is not run by systemd")
    if not facts.grub:
        found.append(
            "it is not booted by GRUB: /etc/default/grub, /boot/grub/grub.cfg and update-grub are not all there"
        )
    if facts.secure_boot:
        found.append("Secure Boot is on, and Debian's Xen is not signed: the machine would not boot it")
    if not facts.iommu:
        found.append("the firmware describes no IOMMU: switch VT-d or AMD-Vi on in its setup")
    if not facts.hvm and not facts.dom0:
        found.append("the CPU offers neither vmx nor svm: switch virtualization on in the firmware's setup")
    if "busybox-static" in _missing(facts, wanted) and "busybox" in facts.packages:
        found.append("busybox is installed, which excludes busybox-static: apt-get install busybox-static")
    if _missing(facts, wanted):
        found += [
            f"only {facts.free_mib[place]} MiB are free on {place}, {needed} are needed"
            for place, needed in _FREE_MIB.items()
            if facts.free_mib.get(place, needed) < needed
        ]
    return found


def plan(facts: SystemFacts, wanted: ProvisionGoal) -> tuple[Step, ...]:
    """What is missing, in the order it is done; nothing where nothing is missing.

    A Xen host that somebody else made, and that passes devices through, keeps its boot options.
    """
    steps: list[Step] = []
    missing = _missing(facts, wanted)
    if missing:
        steps.append(_install(missing))
    ours = bool(facts.backup)
    ready = facts.dom0 and facts.hvm_directio
    if not ready or ours:
        steps += [_write(path, text, facts) for path, text in wanted.files.items() if _differs(facts, path, text)]
    wrote = any(step.kind is StepKind.FILE for step in steps)
    if not ready or (wrote and ours) or any(name.startswith("xen-") for name in missing):
        steps.append(
            Step(
                StepKind.MENU,
                MENU,
                f"make GRUB's menu anew ({MENU})",
                "the old one, byte for byte, or made anew if kernels came or went meanwhile",
                "the Xen entry must be in it, be the default, and have our options",
            )
        )
        steps.append(
            Step(
                StepKind.REBOOT,
                facts.boot_id,
                "reboot",
                "reboot into plain Linux",
                "Xen is started by the boot loader" if not facts.dom0 else "Xen reads its options when it is booted",
            )
        )
    return tuple(steps)


def describe(steps: tuple[Step, ...]) -> list[str]:
    """Lines for a person: what, why, and how it is taken back."""
    lines: list[str] = []
    for number, step in enumerate(steps, 1):
        lines += [f"{number}. {step.text}", f"   because: {step.reason}", f"   undo:    {step.undo}"]
    return lines


def _missing(facts: SystemFacts, wanted: ProvisionGoal) -> tuple[str, ...]:
    return tuple(name for name in wanted.packages if name not in facts.packages)


def _differs(facts: SystemFacts, path: str, text: str) -> bool:
    return facts.files.get(path) != sha256(text)


def _install(missing: tuple[str, ...]) -> Step:
    return Step(
        StepKind.PACKAGES,
        " ".join(missing),
        f"install {', '.join(missing)} and what they depend on; nothing is upgraded or removed",
        "purge exactly the packages that came new",
        "they are not installed",
        packages=missing,
    )


def _write(path: str, text: str, facts: SystemFacts) -> Step:
    there = path in facts.files
    return Step(
        StepKind.FILE,
        path,
        f"write {path}",
        "the old one, byte for byte" if there else "remove it",
        "it has another content" if there else "it is not there",
        content=text,
    )
