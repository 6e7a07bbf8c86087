"""From facts to the steps that are missing, or to what stands in the way. Pure: nothing is done here."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from harness.lab.lease.ownxen import GRUBENV
from harness.lab.provision.facts import SystemFacts
from harness.lab.provision.wanted import GRUB_FILE, MENU, ProvisionGoal, grub_text, sha256

_FREE_MIB = {"/": 1500, "/boot": 64, "/var": 600}
"""What has to be free, by mount point; Xen with qemu takes some 300 MiB, apt as much again for what it fetches."""

_MIB = 1024 * 1024
_SYSTEMS = frozenset({"debian", "ubuntu"})
_ROOTS = frozenset({"ext4", "ext3", "ext2", "xfs", "btrfs"})
_WRITABLE = (("ext2",), ("xfs",), ("fat",))
"""Where GRUB's save_env finds the blocks of a file, by grub-probe's names (ext2 is ext3 and ext4 too); it refuses btrfs
and ZFS, and everything that lies on LVM, RAID or a cipher."""
BY_HAND = (
    "make it a Xen dom0 by hand: install Xen, its tools and a static busybox, make GRUB boot Xen with iommu=1, "
    "load xen-pciback, and see `xl info` say hvm_directio"
)


class StepKind(enum.Enum):
    """What a step does."""

    PACKAGES = "packages"
    FILE = "file"
    MENU = "menu"
    TRY = "boot once"
    DEFAULT = "default"


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
    steps = plan(facts, wanted)
    if not steps:
        return []
    if facts.os_id not in _SYSTEMS and not facts.os_like & _SYSTEMS:
        return [f"{facts.system} is no Debian or Ubuntu"]
    found = _unsuited(facts)
    missing = _missing(facts, wanted)
    if "busybox-static" in missing and "busybox" in facts.packages:
        found.append("busybox is installed, which excludes busybox-static: apt-get install busybox-static")
    if facts.dom0 and not facts.backup and (not facts.hvm_directio or _of_xen(missing)):
        found.append("somebody else made it a Xen host: what is missing is theirs to add, or boot plain Linux first")
    if missing:
        found += _no_room(facts)
        if facts.half and (others := sorted({*facts.half} - {*facts.ours})):
            found.append(f"dpkg has work left with {', '.join(others)}: dpkg --configure -a is for its owner to run")
    if any(step.kind is StepKind.TRY for step in steps):
        found += no_way_back(facts)
    return found


def _unsuited(facts: SystemFacts) -> list[str]:
    """The machine, its firmware and its system."""
    told = {
        f"the architecture is {facts.architecture or 'unknown'}, not amd64": facts.architecture != "amd64",
        "this is itself a guest of Xen": facts.domain == "domU",
        "it is not run by systemd": not facts.systemd,
        "Secure Boot is on, and Debian's Xen is not signed: the machine would not boot it": facts.secure_boot,
        "the firmware describes no IOMMU: switch VT-d or AMD-Vi on in its setup": not facts.iommu,
        "the CPU offers neither vmx nor svm: switch virtualization on in the firmware's setup": (
            not facts.hvm and not facts.dom0
        ),
    }
    found = [text for text, holds in told.items() if holds]
    found += [f"{place} is mounted read-only" for place in facts.loader.get("readonly", ())]
    found += [f"{place} is not there" for place in facts.loader.get("absent", ())]
    found += [f"{place} is in /etc/fstab and not mounted" for place in facts.loader.get("unmounted", ())]
    root = (facts.loader.get("root") or ("unknown",))[0]
    if root not in _ROOTS:
        found.append(f"the root file system is {root}: only {', '.join(sorted(_ROOTS))} are known to come up under Xen")
    return found


def _no_room(facts: SystemFacts) -> list[str]:
    """An initramfs is made anew beside the old one."""
    needed = dict(_FREE_MIB)
    needed["/boot"] += -(-max(facts.initrds.values(), default=0) // _MIB)
    return [
        f"only {facts.free_mib[place]} MiB are free on {place}, {least} are needed"
        for place, least in needed.items()
        if facts.free_mib.get(place, least) < least
    ]


def no_way_back(facts: SystemFacts) -> list[str]:
    """Why GRUB could not boot Xen once and then, whatever happens, what runs now."""
    if not facts.grub:
        return ["it is not booted by GRUB: /etc/default/grub, /boot/grub/grub.cfg and update-grub are not all there"]
    found = [f"{MENU}: {oddity}" for oddity in facts.menu.oddities]
    info = facts.loader.get("info", ())
    if any(not one.startswith("GRUB") for one in info) or not (facts.dom0 or "BOOT_IMAGE=" in facts.cmdline):
        found.append(f"it was not booted by GRUB but by {', '.join(info) or 'something else'}")
    if not facts.grubenv:
        found.append(f"{GRUBENV} is no plain file of 1024 bytes: grub-editenv {GRUBENV} create")
    below = facts.loader.get("abstraction", ())
    kinds = facts.loader.get("fs", ())
    if below or kinds not in _WRITABLE:
        what = " on ".join(kinds + below) or "of a kind that grub-probe does not tell"
        found.append(f"/boot/grub is {what}, where GRUB cannot write: it would not forget what it is to boot once")
    if facts.kexec:
        found.append("a reboot goes by kexec (/etc/default/kexec), past the boot loader")
    if facts.custom_default:
        found.append("/boot/grub/custom.cfg chooses what is booted")
    if facts.backup:
        return found  # what was begun is gone on with; before it is booted once the way back is looked at again
    if others := sorted({"next_entry", "fallback"} & {*facts.environment}):
        found.append(f"{GRUBENV} has {' and '.join(others)} set: somebody else's next boot")
    back = facts.menu.back(facts.environment)
    if back is None:
        found.append(f"which entry GRUB boots by default cannot be told ({facts.menu.default!r})")
    elif not facts.dom0 and (back.kernel != facts.running or back.hypervisor):
        found.append(
            f"GRUB's default is {back.title!r}, while {facts.running} runs: make what runs the default, or boot that"
        )
    return found


def plan(facts: SystemFacts, wanted: ProvisionGoal) -> tuple[Step, ...]:
    """What is missing, in the order it is done; nothing where nothing is missing.

    A Xen host that somebody else made, and that passes devices through, keeps its boot options. GRUB's default is
    another only after Xen was booted once and seen to work.
    """
    missing = _missing(facts, wanted)
    ready = facts.dom0 and facts.hvm_directio
    may_write = bool(facts.backup) or not ready
    works = {sha256(grub_text(facts.cmdline, one)) for one in facts.menu.all_of_xen()} if ready else set()
    differ = [
        path
        for path, text in wanted.files.items()
        if may_write and facts.files.get(path) not in ({sha256(text)} | (works if path == GRUB_FILE else set()))
    ]
    tried = ready and not differ and not (may_write and _of_xen(missing))
    steps: list[Step] = []
    if not tried and facts.files.get(GRUB_FILE) != sha256(wanted.files[GRUB_FILE]):
        steps.append(_write(GRUB_FILE, wanted.files[GRUB_FILE], facts))  # first: Xen's package has the menu made anew
    if missing:
        steps.append(_install(missing))
    steps += [_write(path, wanted.files[path], facts) for path in differ if path != GRUB_FILE]
    if not tried:
        steps += [_MENU, _TRY]
    back = facts.menu.back(facts.environment)
    if not tried or (may_write and not (back and back.hypervisor)):
        steps.append(_DEFAULT)
    return tuple(steps)


def describe(steps: tuple[Step, ...]) -> list[str]:
    """Lines for a person: what, why, and how it is taken back."""
    lines: list[str] = []
    for number, step in enumerate(steps, 1):
        lines += [f"{number}. {step.text}", f"   because: {step.reason}", f"   undo:    {step.undo}"]
    return lines


def _missing(facts: SystemFacts, wanted: ProvisionGoal) -> tuple[str, ...]:
    return tuple(name for name in wanted.packages if name not in facts.packages)


def _of_xen(names: tuple[str, ...]) -> bool:
    return any(name.startswith("xen-") for name in names)


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


_MENU = Step(
    StepKind.MENU,
    MENU,
    f"make GRUB's menu anew ({MENU})",
    "the old one, byte for byte, or made anew if kernels came or went meanwhile",
    "the Xen entry must be in it and have our options; the default stays as it is",
)
_TRY = Step(
    StepKind.TRY,
    GRUBENV,
    "boot the Xen entry once, with the kernel that runs now, and see Xen pass devices through",
    "reboot into plain Linux; if Xen does not come up, GRUB's fallback or any later reset boots what runs now",
    "Xen is started by the boot loader, and reads its options then",
)
_DEFAULT = Step(
    StepKind.DEFAULT,
    GRUB_FILE,
    "make the entry that was seen to work GRUB's default",
    "the old files, byte for byte",
    "the next boot is to be Xen's too",
)
