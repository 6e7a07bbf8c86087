"""What provisioning plans: only what is missing, nothing twice, and nothing where something stands in the way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.base.errors import SafetyRefusal, UsageError
from harness.lab.inventory.models import LabEntry
from harness.lab.provision import survey
from harness.lab.provision.facts import SystemFacts
from harness.lab.provision.plan import StepKind, describe, obstacles, plan
from harness.lab.provision.wanted import (
    ASKED,
    GRUB_FILE,
    MENU,
    MODULES_FILE,
    console_options,
    grub_text,
    sha256,
    wanted,
)
from suites.selftest.fakes.provisionfacts import XL_INFO, facts, sections

DOM0 = b"xen\ncontrol_d\n"


def planned(found: SystemFacts) -> list[StepKind]:
    return [step.kind for step in plan(found, survey.wanted_of(found))]


def hindered(found: SystemFacts) -> list[str]:
    return obstacles(found, survey.wanted_of(found))


def done(found: SystemFacts) -> SystemFacts:
    """The host when every step was done."""
    goal = survey.wanted_of(found)
    return replace(
        found,
        domain="dom0",
        xen_version="4.20.4",
        hvm_directio=True,
        pciback=True,
        hvm=False,
        packages={**found.packages, **dict.fromkeys(goal.packages, "1")},
        files={**found.files, **{path: sha256(text) for path, text in goal.files.items()}},
        backup="{}",
    )


def test_a_plain_debian_needs_everything_in_this_order() -> None:
    found = facts()
    assert planned(found) == [
        StepKind.PACKAGES,
        StepKind.FILE,
        StepKind.FILE,
        StepKind.MENU,
        StepKind.REBOOT,
    ]
    steps = plan(found, survey.wanted_of(found))
    assert [step.subject for step in steps[1:4]] == [GRUB_FILE, MODULES_FILE, MENU]
    assert not {"kmod", "iproute2"} & set(steps[0].packages), "they are there"
    assert hindered(found) == []
    assert all(step.text and step.undo and step.reason for step in steps)


def test_what_was_done_is_not_planned_again() -> None:
    assert planned(done(facts())) == []


@pytest.mark.parametrize(
    ("path", "kinds"),
    [
        (GRUB_FILE, [StepKind.FILE, StepKind.MENU, StepKind.REBOOT]),
        (MODULES_FILE, [StepKind.FILE, StepKind.MENU, StepKind.REBOOT]),
    ],
)
def test_a_file_of_ours_that_somebody_changed_is_written_again(path: str, kinds: list[StepKind]) -> None:
    whole = done(facts())
    assert planned(replace(whole, files={**whole.files, path: sha256("another")})) == kinds


def test_somebody_elses_xen_host_keeps_its_boot_options() -> None:
    whole = replace(done(facts()), files={MENU: "0" * 64}, backup="")
    assert planned(whole) == []
    packages = {name: version for name, version in whole.packages.items() if name != "pciutils"}
    assert planned(replace(whole, packages=packages)) == [StepKind.PACKAGES]


def test_xen_without_an_iommu_is_no_dom0_yet() -> None:
    whole = replace(done(facts()), hvm_directio=False)
    assert planned(whole) == [StepKind.MENU, StepKind.REBOOT]


def test_an_interrupted_provisioning_is_continued() -> None:
    whole = done(facts())
    half = replace(whole, domain="", xen_version="", hvm_directio=False, pciback=False, hvm=True)
    assert planned(half) == [StepKind.MENU, StepKind.REBOOT]


def told(**changed: bytes) -> str:
    return "; ".join(hindered(facts(**changed)))


def test_every_obstacle_is_said_before_anything_is_done() -> None:
    boot = sections()["boot"]
    assert "amd64" in told(architecture=b"arm64\n")
    assert "guest" in told(hypervisor=b"xen\n")
    assert "GRUB" in told(boot=boot.replace(b"update_grub\n", b""))
    assert "Secure Boot" in told(boot=boot + b"efi\nsecure_boot\n")
    assert "IOMMU" in told(boot=boot.replace(b"iommu\n", b""))
    assert "svm" in told(boot=boot.replace(b"hvm\n", b""))
    assert "systemd" in told(boot=boot.replace(b"systemd\n", b""))
    assert "busybox" in told(packages=b"busybox ii  1:1.37\n")
    assert "MiB" in told(space=b"Filesystem x\n/dev/a 1 1 90000 1% /\n/dev/b 1 1 900000 1% /boot\n")
    several = hindered(facts(architecture=b"arm64\n", boot=boot.replace(b"iommu\n", b"")))
    assert len(several) == 2


def test_other_systems_are_told_what_to_do_by_hand() -> None:
    other = facts(os_release=b'ID=fedora\nID_LIKE="rhel"\nPRETTY_NAME="Fedora Linux 42"\n')
    assert hindered(other) == ["Fedora Linux 42 is no Debian or Ubuntu"]
    with pytest.raises(UsageError, match="Fedora") as caught:
        survey.refuse_unsuited("box", other)
    assert "by hand" in caught.value.hint and "hvm_directio" in caught.value.hint
    assert "by hand" in survey.plan_lines(other)[-1]
    mint = facts(os_release=b'ID=linuxmint\nID_LIKE="ubuntu debian"\n')
    assert hindered(mint) == []


def test_a_foreign_xen_host_of_any_system_is_no_obstacle() -> None:
    other = facts(os_release=b"ID=fedora\n", hypervisor=DOM0, xl_info=XL_INFO)
    goal = wanted("fedora", "", "")
    assert obstacles(replace(other, packages=dict.fromkeys(goal.packages, "1")), goal) == []


def test_the_plan_is_readable() -> None:
    found = facts()
    lines = describe(plan(found, survey.wanted_of(found)))
    assert len(lines) == 15 and lines[0].startswith("1. install xen-system-amd64") and "undo" in lines[2]
    assert survey.plan_lines(found) == lines and survey.plan_lines(done(found)) == []


@pytest.mark.parametrize(
    ("cmdline", "options"),
    [
        ("quiet", ["console=vga"]),
        ("console=ttyS0,115200n8", ["com1=115200,8n1", "console=com1,vga"]),
        ("console=tty0 console=ttyS1,57600 quiet", ["com2=57600,8n1", "console=com2,vga"]),
        ("console=ttyS0", ["com1=9600,8n1", "console=com1,vga"]),
        ("console=ttyS1,9600e7 console=ttyS0,115200n8 x", ["com1=115200,8n1", "console=com1,vga"]),
        ("xconsole=ttyS0 console=ttyS10 console=ttyS4,9600 console=ttyS0,$(reboot)", ["console=vga"]),
    ],
)
def test_xen_speaks_where_linux_does(cmdline: str, options: list[str]) -> None:
    assert console_options(cmdline) == options


def test_the_command_line_under_xen_gives_the_same_file() -> None:
    before = "BOOT_IMAGE=/x root=UUID=1 ro console=ttyS0,115200n8 quiet"
    assert grub_text(before) == grub_text("placeholder root=UUID=1 ro console=ttyS0,115200n8 quiet console=hvc0")


def test_debians_xen_cfg_sees_our_choice() -> None:
    assert GRUB_FILE < "/etc/default/grub.d/xen.cfg"
    assert "\nXEN_OVERRIDE_GRUB_DEFAULT=1\n" in grub_text("")


@pytest.mark.parametrize(
    ("system", "version", "emulator"),
    [
        ("debian", "13", "qemu-system-xen"),
        ("debian", "", "qemu-system-xen"),  # testing has no VERSION_ID
        ("debian", "11", "qemu-system-x86"),
        ("ubuntu", "22.04", "qemu-system-x86-xen"),
        ("ubuntu", "24.04", "qemu-system-xen"),
    ],
)
def test_the_emulators_package_by_its_name_there(system: str, version: str, emulator: str) -> None:
    packages = wanted(system, version, "").packages
    assert [name for name in packages if name.startswith("qemu")] == [emulator]
    assert set(packages) <= set(ASKED)


@pytest.mark.parametrize("allowed", [(), ("allow_reboot",), ("allow_persistent",)])
def test_both_permissions_are_needed(allowed: tuple[str, ...]) -> None:
    entry = LabEntry.model_construct(
        allow_reboot="allow_reboot" in allowed, allow_persistent="allow_persistent" in allowed
    )
    with pytest.raises(SafetyRefusal) as caught:
        survey.refuse_forbidden("box", entry)
    for field in ("allow_persistent", "allow_reboot"):
        assert (f"{field}: true" in caught.value.hint) == (field not in allowed)


def test_with_both_it_is_allowed() -> None:
    survey.refuse_forbidden("box", LabEntry.model_construct(allow_reboot=True, allow_persistent=True))
