"""What provisioning plans: only what is missing, nothing twice, and nothing where something stands in the way."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.base.errors import SafetyRefusal, UsageError
from harness.lab.inventory.models import LabEntry
from harness.lab.lease.ownxen import GRUBENV
from harness.lab.provision import survey
from harness.lab.provision.backup import BackupManifest
from harness.lab.provision.facts import SystemFacts
from harness.lab.provision.menu import parse_menu
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
from suites.selftest.fakes.provisionfacts import KERNEL, LOADER, XL_INFO, facts, menu, sections

DOM0 = b"xen\ncontrol_d\n"


def planned(found: SystemFacts) -> list[StepKind]:
    return [step.kind for step in plan(found, survey.wanted_of(found))]


def hindered(found: SystemFacts) -> list[str]:
    return obstacles(found, survey.wanted_of(found))


def done(found: SystemFacts) -> SystemFacts:
    """The host when every step was done."""
    goal = survey.wanted_of(found)
    shown = parse_menu(menu(xen=True, default="xen-gnulinux-simple-u"))
    texts = {**goal.files, GRUB_FILE: grub_text(found.cmdline, "xen-gnulinux-simple-u")}
    return replace(
        found,
        domain="dom0",
        xen_version="4.20.4",
        hvm_directio=True,
        pciback=True,
        hvm=False,
        menu=shown,
        packages={**found.packages, **dict.fromkeys(goal.packages, "1")},
        files={**found.files, **{path: sha256(text) for path, text in texts.items()}},
        backup=BackupManifest((), packages=("ours",)).as_json().decode(),
    )


def plain_again(whole: SystemFacts) -> SystemFacts:
    return replace(whole, domain="", xen_version="", hvm_directio=False, pciback=False, hvm=True)


FILE, PACKAGES, GRUB, TRY, DEFAULT = (
    *(StepKind.FILE, StepKind.PACKAGES, StepKind.MENU),
    *(StepKind.TRY, StepKind.DEFAULT),
)


def test_a_plain_debian_needs_everything_in_this_order() -> None:
    found = facts()
    assert planned(found) == [FILE, PACKAGES, FILE, GRUB, TRY, DEFAULT]
    steps = plan(found, survey.wanted_of(found))
    assert [step.subject for step in steps[2:]] == [MODULES_FILE, MENU, GRUBENV, GRUB_FILE]
    assert steps[0].subject == GRUB_FILE, "installed without it, Debian's Xen is the default at once"
    assert not {"kmod", "iproute2"} & set(steps[1].packages), "they are there"
    assert hindered(found) == []
    assert all(step.text and step.undo and step.reason for step in steps)


def test_what_was_done_is_not_planned_again() -> None:
    assert planned(done(facts())) == []


@pytest.mark.parametrize(("path", "kinds"), [(GRUB_FILE, [FILE]), (MODULES_FILE, [FILE, FILE])])
def test_a_file_of_ours_that_somebody_changed_is_written_and_tried_again(path: str, kinds: list[StepKind]) -> None:
    whole = done(facts())
    changed = replace(whole, files={**whole.files, path: sha256("another")})
    assert planned(changed) == [*kinds, GRUB, TRY, DEFAULT]


def test_somebody_elses_xen_host_keeps_its_boot_options() -> None:
    whole = replace(done(facts()), files={MENU: "0" * 64}, backup="")
    assert planned(whole) == []
    packages = {name: version for name, version in whole.packages.items() if name != "pciutils"}
    assert planned(replace(whole, packages=packages)) == [PACKAGES]
    assert hindered(replace(whole, packages=packages)) == []


@pytest.mark.parametrize("what", ["hvm_directio", "xen-utils-common"])
def test_and_is_not_made_another(what: str) -> None:
    whole = replace(done(facts()), files={MENU: "0" * 64}, backup="")
    packages = {name: version for name, version in whole.packages.items() if name != what}
    odd = replace(whole, packages=packages, hvm_directio=what != "hvm_directio")
    assert any("somebody else made it" in one for one in hindered(odd))


def test_xen_without_an_iommu_is_no_dom0_yet() -> None:
    whole = replace(done(facts()), hvm_directio=False)
    assert planned(whole) == [FILE, GRUB, TRY, DEFAULT]


def test_an_interrupted_provisioning_is_continued() -> None:
    whole = done(facts())
    tried = {**whole.files, GRUB_FILE: sha256(grub_text(whole.cmdline))}
    booted = replace(whole, files=tried, menu=parse_menu(menu(xen=True)))
    assert planned(booted) == [DEFAULT], "Xen was booted once"
    assert planned(plain_again(booted)) == [GRUB, TRY, DEFAULT]
    assert planned(plain_again(whole)) == [FILE, GRUB, TRY, DEFAULT], "the default is taken from it before it is tried"
    assert hindered(booted) == hindered(plain_again(booted)) == hindered(plain_again(whole)) == []


def test_a_default_that_is_gone_from_the_menu_is_made_anew() -> None:
    assert planned(replace(done(facts()), menu=parse_menu(menu(xen=True, default="gone")))) == [DEFAULT]


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
    several = hindered(facts(architecture=b"arm64\n", boot=boot.replace(b"iommu\n", b"")))
    assert len(several) == 2


CAPTURED = Path(__file__).parents[1] / "data" / "grub" / "trixie-xen-4.20.cfg"
OLDER = ("6.12.200-amd64", KERNEL)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"boot": sections()["boot"].replace(b"grubenv\n", b"")}, "no plain file of 1024 bytes"),
        ({"grubenv": b"next_entry=2\n"}, "next_entry set"),
        ({"grubenv": b"saved_entry=0\nfallback=1\n"}, "fallback set"),
        ({"loader": b"fs btrfs\nroot btrfs\n"}, "/boot/grub is btrfs, where GRUB cannot write"),
        ({"loader": b"fs zfs\nroot ext4\n"}, "is zfs"),
        ({"loader": LOADER + b"abstraction lvm\n"}, "is ext2 on lvm"),
        ({"loader": LOADER + b"abstraction diskfilter\nabstraction mdraid1x\n"}, "on diskfilter on mdraid1x"),
        ({"loader": LOADER + b"abstraction cryptodisk\nabstraction luks2\n"}, "on cryptodisk on luks2"),
        ({"loader": b"root ext4\n"}, "grub-probe does not tell"),
        ({"loader": b"fs ext2\nfs ext2\nroot ext4\n"}, "GRUB cannot write"),
        ({"loader": b"fs ext2\nroot zfs\n"}, "root file system is zfs"),
        ({"loader": b"fs ext2\nroot overlay\n"}, "root file system is overlay"),
        ({"loader": b"fs ext2\n"}, "root file system is unknown"),
        ({"loader": LOADER + b"readonly /boot\n"}, "/boot is mounted read-only"),
        ({"loader": LOADER + b"unmounted /boot\n"}, "in /etc/fstab and not mounted"),
        ({"loader": LOADER + b"info systemd-boot 257.7-1\n"}, "not booted by GRUB but by systemd-boot"),
        ({"cmdline": b"initrd=\\initrd.img root=UUID=1\n"}, "not booted by GRUB but by something else"),
        ({"boot": sections()["boot"] + b"kexec\n"}, "kexec"),
        ({"boot": sections()["boot"] + b"custom_default\n"}, "custom.cfg"),
        ({"menu": b"set default=0\nmenuentry 'mine' {\nlinux /vmlinuz\n}\n"}, "not written by grub-mkconfig"),
        ({"menu": menu().replace("next_entry", "once").encode()}, "does not look at next_entry"),
        ({"menu": (menu() + "blscfg\n").encode()}, "blscfg"),
        ({"menu": (menu() + 'set superusers="root"\n').encode()}, "password"),
        ({"menu": (menu() + "  set timeout=-1\n").encode()}, "waits for somebody"),
        ({"menu": menu(default="gone").encode()}, "cannot be told ('gone')"),
        ({"menu": menu(default="1").encode()}, "cannot be told"),  # a submenu
        ({"menu": menu(kernels=OLDER).encode()}, f"while vmlinuz-{KERNEL} runs"),
        ({"menu": menu(xen=True, default="2").encode()}, "with Xen hypervisor"),
        ({"half": b"libc6 half-configured\n"}, "work left with libc6"),
        (
            {"space": b"Filesystem x\n/dev/a 1 1 9000000 1% /\n/dev/b 1 1 71680 1% /boot\n"},
            "only 70 MiB are free on /boot, 76 are needed",  # 64, and another initramfs of 12
        ),
    ],
)
def test_what_would_stand_between_it_and_the_way_back(changed: dict[str, bytes], said: str) -> None:
    initrd = f"vmlinuz-{KERNEL} 8000000\ninitrd.img-{KERNEL} 12000000\n".encode()
    assert said in told(**{"kernels": initrd, **changed})


def test_an_older_kernel_that_is_the_default_on_purpose_is_kept() -> None:
    named = f"gnulinux-advanced-u>gnulinux-{KERNEL}-advanced-u"
    assert told(menu=menu(kernels=OLDER, default=named).encode()) == ""
    saved = menu(kernels=OLDER, default="${saved_entry}").encode()
    assert told(menu=saved, grubenv=f"saved_entry={named}\n".encode()) == ""
    assert parse_menu(menu(xen=True, kernels=OLDER)).xen_with(f"vmlinuz-{KERNEL}") == (
        "Advanced options for Debian GNU/Linux (with Xen hypervisor)>xen-hypervisor-4.20-amd64-u"
        f">xen-gnulinux-{KERNEL}-advanced-u"
    )


def test_what_is_half_installed_by_us_is_gone_on_with() -> None:
    half = replace(plain_again(done(facts())), half=("ours",), packages={})
    assert hindered(half) == []
    assert any("libc6" in one for one in hindered(replace(half, half=("ours", "libc6"))))


def test_the_menu_is_read_as_grub_reads_it() -> None:
    shown = parse_menu(menu(xen=True, kernels=OLDER))
    assert [one.title.partition(",")[2] for one in shown.entries] == ["", "", " with Xen hypervisor", ""]
    simple, advanced, xen, deep = shown.entries
    assert (simple.kernel, simple.hypervisor) == (f"vmlinuz-{OLDER[0]}", "")
    assert (xen.kernel, xen.hypervisor, xen.below) == (f"vmlinuz-{OLDER[0]}", "xen-4.20-amd64.gz", None)
    assert advanced.below is not None and [one.recovery for one in advanced.below] == [False, True, False, True]
    assert shown.chosen("1>2") is advanced.below[2]
    assert shown.chosen("gnulinux-advanced-u>0") is advanced.below[0], "the first that bears the name"
    assert deep.below is not None and shown.chosen("3>0") is None and shown.chosen("3>0>9") is None
    for name in shown.all_of_xen():
        found = shown.chosen(name)
        assert found is not None and found.hypervisor
    assert len({id(shown.chosen(name)) for name in shown.all_of_xen()}) == 5
    assert shown.xen_with("vmlinuz-1") is None
    only_recovery = menu(xen=True).replace(", with Xen hypervisor'", ", with Xen hypervisor (recovery mode)'")
    assert parse_menu(only_recovery).xen_with(f"vmlinuz-{KERNEL}") == (
        f"Advanced options for Debian GNU/Linux (with Xen hypervisor)>xen-hypervisor-4.20-amd64-u"
        f">xen-gnulinux-{KERNEL}-advanced-u"
    )
    assert parse_menu(menu()).all_of_xen() == []


def test_a_menu_as_debian_has_written_it() -> None:
    """Of trixie's GRUB, with Xen just installed and our options; GRUB has booted both ways to it, once each."""
    shown = parse_menu(CAPTURED.read_text(encoding="utf-8"))
    back = shown.back({})
    assert back is not None and (back.title, back.kernel, back.hypervisor) == (
        "Debian GNU/Linux",
        f"vmlinuz-{KERNEL}",
        "",
    )
    assert shown.oddities == []
    disk = "819266b3-a00e-4609-88c6-9d894c8f85d5"
    above = "Advanced options for Debian GNU/Linux (with Xen hypervisor)>xen-hypervisor-4.20-amd64"
    below = f"xen-gnulinux-{KERNEL}-advanced-{disk}"
    ways = [f"xen-gnulinux-simple-{disk}", f"{above}-{disk}>{below}", f"{above}.efi-{disk}>{below}"]
    assert shown.all_of_xen() == ways and shown.xen_with(f"vmlinuz-{KERNEL}") == ways[0]


@given(st.text(max_size=300))
def test_a_menu_may_be_anything(text: str) -> None:
    shown = parse_menu(text)
    assert shown.back({}) is None or shown.entries
    parse_menu(menu(xen=True).replace("vmlinuz", text)).xen_with("x")


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
    assert len(lines) == 18 and lines[3].startswith("2. install xen-system-amd64") and "undo" in lines[2]
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
    for text in (grub_text(""), grub_text("", "xen")):
        assert "\nXEN_OVERRIDE_GRUB_DEFAULT=0\n" in text
    assert "GRUB_DEFAULT=" not in grub_text("").replace("OVERRIDE_GRUB_DEFAULT", "")


def test_a_hostile_title_stays_a_title() -> None:
    text = grub_text("", "a'; touch /tmp/x; 'b$(reboot)")
    program = f'{text}\nprintf %s "$GRUB_DEFAULT"'
    said = subprocess.run(["sh", "-c", program], capture_output=True, text=True, check=True)  # noqa: S603, S607
    assert said.stdout == "a'; touch /tmp/x; 'b$(reboot)"


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
