"""What provisioning reads of a host: the program itself, and the parsing of whatever it prints."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.base.errors import ParseError
from harness.lab.packages import parse_packages
from harness.lab.provision import facts as module
from harness.lab.provision.facts import SECTIONS, parse_facts
from harness.lab.provision.simulation import parse_simulation
from harness.transport.sections import ask
from suites.selftest.fakes.localtransport import LocalTransport
from suites.selftest.fakes.patience import soon
from suites.selftest.fakes.provisionfacts import XL_INFO, facts, sections

PROGRAM = Path(module.__file__).with_name("facts.sh")


def test_a_plain_debian() -> None:
    found = facts()
    assert (found.os_id, found.os_version, found.system) == ("debian", "13", "Debian GNU/Linux 13 (trixie)")
    assert (found.domain, found.dom0, found.hvm_directio, found.xen_version) == ("", False, False, "")
    assert found.grub and found.systemd and found.iommu and found.hvm and not found.efi and not found.secure_boot
    assert found.packages == {"kmod": "34.2-2", "iproute2": "6.15.0-1"}
    assert found.free_mib == {"/": 3573}


def test_a_dom0_and_a_guest() -> None:
    dom0 = facts(hypervisor=b"xen\ncontrol_d\n", xl_info=XL_INFO)
    assert (dom0.dom0, dom0.xen_version, dom0.hvm_directio) == (True, "4.20.4", True)
    assert not facts(hypervisor=b"xen\ncontrol_d\n", xl_info=XL_INFO.replace(b"hvm_directio ", b"")).hvm_directio
    assert facts(hypervisor=b"xen\n").domain == "domU"
    assert facts(hypervisor=b"xen\ncontrol_d\n").xen_version == "", "xl does not answer yet"


@pytest.mark.parametrize("absent", ["grub_default", "grub_cfg", "update_grub"])
def test_grub_is_there_as_a_whole_or_not(absent: str) -> None:
    boot = sections()["boot"].replace(absent.encode() + b"\n", b"")
    assert not facts(boot=boot).grub


DIGITS = b"9" * 5000


@pytest.mark.parametrize("said", [DIGITS, "\u00b2".encode(), b"[" * 200_000], ids=["long", "superscript", "deep"])
@pytest.mark.parametrize("section", SECTIONS)
def test_a_number_that_is_none_is_refused_in_one_line(section: str, said: bytes) -> None:
    """int() fails on some that str.isdigit lets pass, and on thousands of digits."""
    menu = b'set default="%s"\nmenuentry a {\n}\n' % said
    for line in (said, b"a %s" % said, b"head\n/dev/x 1 1 %s 1%% /\n" % said, menu):
        try:
            found = facts(**{section: line})
            assert found.menu.back(found.environment) is None or section != "menu"
            assert isinstance(found.ours, tuple)
        except ParseError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("menu", b"\n" * 4_000_000),
        ("menu", b"{" * 4_000_000),
        ("menu", b"menuentry '" + b"a" * 4_000_000 + b"' {\n}\n"),
        ("os-release", b"ID='" + b"a" * 4_000_000 + b"'\n"),
        ("loader", b"a b\n" * 400_000),
    ],
    ids=["empty lines", "braces", "a title", "a name", "one word"],
)
def test_what_is_long_takes_no_square_of_its_length(section: str, said: bytes) -> None:
    """It would take longer than a test may."""
    assert isinstance(facts(**{section: said}).menu.oddities, list)


def test_only_whole_packages_count() -> None:
    text = "a ii  1\nb rc  2\nc un  \nd hi  3\ne iU  4\nf iFR 4\ng iHR 4\nlibx:amd64 ii  5\n"
    assert parse_packages(text) == {"a": "1", "d": "3", "libx": "5"}, "half configured is not installed"


def test_the_program_prints_every_section_on_any_linux(tmp_path: Path) -> None:
    here = tmp_path / "it's a file"
    here.write_bytes(b"content\n")
    transport = LocalTransport()
    transport.connect(soon())
    found = ask(transport, PROGRAM, "dpkg", "no-such-package", "--", str(here), "/no/such/file", deadline=soon())
    assert tuple(found) == SECTIONS
    parsed = parse_facts(found)
    assert parsed.files.keys() == {str(here)}
    assert "/" in parsed.free_mib
    assert "no-such-package" not in parsed.packages


def test_the_program_is_good_shell() -> None:
    for name in ("facts.sh", "backup.sh"):
        subprocess.run(["sh", "-n", str(PROGRAM.with_name(name))], check=True)  # noqa: S603, S607


@pytest.mark.parametrize("name", SECTIONS)
def test_a_missing_section_is_said(name: str) -> None:
    given_ = sections()
    del given_[name]
    with pytest.raises(ParseError, match=name):
        parse_facts(given_)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(SECTIONS), st.binary(max_size=200))
def test_whatever_a_host_says_ends_in_facts_or_a_parse_error(name: str, data: bytes) -> None:
    try:
        parse_facts({**sections(), name: data})
    except ParseError as error:
        assert "\n" not in error.message


def test_a_simulation_names_what_would_change() -> None:
    text = (
        "NOTE: This is only a simulation!\nReading package lists...\n"
        "Remv busybox [1:1.37.0-6]\n"
        "Inst pciutils (1:3.13.0-2 localhost [amd64])\n"
        "Inst libc6 [2.41-12] (2.41-13 Debian:13 [amd64]) []\n"
        "Conf pciutils (1:3.13.0-2 localhost [amd64])\nPurg old:i386 [1]\n"
    )
    found = parse_simulation(text)
    assert (found.new, found.upgraded, found.removed) == (("pciutils",), ("libc6",), ("busybox", "old"))
    assert found.harmful == "remove busybox, old and upgrade libc6"
    assert parse_simulation("Inst a (1 x [all])\n").harmful == ""


@pytest.mark.parametrize("line", ["Remv ", "Inst --option", "Purg a;b"])
def test_a_change_that_cannot_be_read_is_not_passed_over(line: str) -> None:
    with pytest.raises(ParseError):
        parse_simulation(line)
