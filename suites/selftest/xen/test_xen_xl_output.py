"""What xl prints: every captured output, zombies, empty lists, and damage."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

import harness.xen.keys
from harness.base.errors import ParseError
from harness.model.address import Bdf
from harness.xen.keys.xl_output import (
    DomainConfig,
    DomainRow,
    PciListRow,
    XlInfo,
    parse_assignable,
    parse_info,
    parse_list,
    parse_list_long,
    parse_pci_list,
)
from suites.selftest.fakes.hostile import captured, damaged, every

NVME = Bdf.parse("0000:04:00.0")
E1000E = Bdf.parse("0000:01:00.0")
HEADER = "Name                                        ID   Mem VCPUs\tState\tTime(s)\n"
DOM0 = "Domain-0                                     0  1024     2     r-----     136.1\n"


def test_what_is_no_file_is_called_text() -> None:
    names = [module.name for module in pkgutil.iter_modules(harness.xen.keys.__path__, "harness.xen.keys.")]
    members = [one for name in names for _, one in inspect.getmembers(importlib.import_module(name))]
    parsers = [one for one in map(inspect.unwrap, filter(callable, members)) if inspect.isfunction(one)]
    files = [inspect.signature(one).parameters.get("file") for one in parsers]
    given = [file.default for file in files if file is not None and file.default is not inspect.Parameter.empty]
    assert len(given) > 15 and set(given) == {"<text>"}


@pytest.mark.parametrize("name", [*every("xl_list.txt"), *every("xl_list_v.txt")])
def test_every_captured_list(name: str) -> None:
    text = captured(name)
    rows = parse_list(text)
    assert len(rows) == len(text.splitlines()) - 1
    assert (rows[0].name, rows[0].domid, rows[0].memory_mib, rows[0].vcpus) == ("Domain-0", 0, 1024, 2)
    for row in rows:
        assert text.splitlines()[row.line - 1].startswith(row.name)


def test_captured_list_of_a_running_guest() -> None:
    for kind in ("xl_list.txt", "xl_list_v.txt"):
        _, guest = parse_list(captured(f"nvme_in_running_guest.{kind}"))
        assert guest == DomainRow("g1", 2, 255, 1, "-b----", 17.7, 3)
        assert not (guest.zombie or guest.dying or guest.crashed)


def test_captured_zombie() -> None:
    rows = parse_list(captured("zombie_beside_new_guest.xl_list.txt"))
    assert [(row.domid, row.zombie, row.dying, row.paused) for row in rows] == [
        (0, False, False, False),
        (3, True, True, True),
        (4, False, False, False),
    ]


def test_captured_guest_that_rebooted_and_is_preserved() -> None:
    """Captured on Xen 4.20: on_reboot=preserve, the guest's kernel restarted while it booted."""
    text = (
        "Name                                        ID   Mem VCPUs\tState\tTime(s)\n"
        "Domain-0                                     0  1024     1     r-----      58.3\n"
        "maskall-a                                    1   127     1     ---sr-       2.5\n"
    )
    guest = parse_list(text)[1]
    assert (guest.name, guest.state) == ("maskall-a", "---sr-")
    assert not guest.crashed and not guest.dying and not guest.zombie


def test_crashed_guest_and_name_with_a_blank() -> None:
    row = parse_list(
        HEADER + DOM0 + "my guest                                     5   256     1     ---sc-       3.2\n"
    )[1]
    assert (row.name, row.crashed, row.dying) == ("my guest", True, False)
    shut_down = DomainRow("g", 5, 256, 1, "---s--", 3.2, 2)
    assert not shut_down.crashed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no header"),
        (DOM0, "no header"),
        (HEADER, "dom0 is not in the list"),
        (HEADER + DOM0.replace("    0  1024", "    1  1024"), "dom0 is not in the list"),
        (HEADER + DOM0 + "g1   2\n", ":3: "),
        (HEADER + DOM0.replace("r-----", "?-----"), ":2: "),
    ],
)
def test_list_not_understood(text: str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        parse_list(text)


@pytest.mark.parametrize("name", every("xl_list_l.json"))
def test_every_captured_long_list(name: str) -> None:
    domains = parse_list_long(captured(name))
    assert domains[0] == DomainConfig(0, "Domain-0", "pv", ())
    assert [domain.domid for domain in domains] == [entry["domid"] for entry in json.loads(captured(name))]


def test_captured_long_list_of_running_guests() -> None:
    assert parse_list_long(captured("nvme_in_running_guest.xl_list_l.json"))[1] == DomainConfig(2, "g1", "hvm", (NVME,))
    assert parse_list_long(captured("e1000e_masked_by_injection.xl_list_l.json"))[1].devices == (E1000E,)


def long_list(**changes: object) -> str:
    config = {"c_info": {"type": "pv", "name": "g"}, "pcidevs": [{"domain": 1, "bus": 2, "dev": 3, "func": 4}]}
    return json.dumps([{"domid": 1, "config": {**config, **changes}}])


def test_long_list_reads_every_part_of_an_address() -> None:
    assert parse_list_long(long_list())[0].devices == (Bdf(1, 2, 3, 4),)
    assert parse_list_long(long_list(pcidevs=[{}]))[0].devices == (Bdf(0, 0, 0, 0),)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("{}", "not a JSON list"),
        ("[1]", "a domain is int"),
        ('[{"domid": 1}]', "config is NoneType"),
        (long_list(c_info=[]), "c_info is list"),
        (long_list(c_info={"name": "g"}), "c_info or pcidevs"),
        (long_list(c_info={"type": "pv", "name": None}), "c_info or pcidevs"),
        (long_list(pcidevs={}), "c_info or pcidevs"),
        (long_list(pcidevs=[1]), "pcidevs is int"),
        (long_list(pcidevs=[{"domain": 1 << 32}]), "domain is 4294967296"),
        (long_list(pcidevs=[{"bus": 256}]), "bus is 256"),
        (long_list(pcidevs=[{"dev": 32}]), "dev is 32"),
        (long_list(pcidevs=[{"dev": "3"}]), "dev is 3"),
        (long_list(pcidevs=[{"func": 8}]), "func is 8"),
        (long_list(pcidevs=[{"func": True}]), "func is True"),
        (long_list().replace('"domid": 1, ', ""), "domid is None"),
        (long_list().replace('"domid": 1, ', '"domid": -1, '), "domid is -1"),
        (long_list().replace('"domid": 1, ', '"domid": 32768, '), "domid is 32768"),
    ],
)
def test_long_list_not_understood(text: str, told: str) -> None:
    with pytest.raises(ParseError, match=f"^xl list -l: {told}"):
        parse_list_long(text, file="xl list -l")


@pytest.mark.parametrize(("name", "device"), [("nvme_in_running_guest", NVME), ("e1000e_masked_by_injection", E1000E)])
def test_captured_pci_list(name: str, device: Bdf) -> None:
    assert parse_pci_list(captured(f"{name}.xl_pci_list.txt")) == (PciListRow("03.0", device, 2),)


def test_pci_list_of_nothing_and_of_no_domain() -> None:
    assert parse_pci_list("") == ()
    with pytest.raises(ParseError, match="g1 is an invalid domain identifier"):
        parse_pci_list(captured("no_such_domain.xl_pci_list_error.txt"))
    with pytest.raises(ParseError, match=":2: "):
        parse_pci_list("Vdev Device\n03.0\n")


@pytest.mark.parametrize(
    ("name", "devices"),
    [
        ("nvme_assignable", (NVME,)),
        ("nvme_in_running_guest", ()),
        ("e1000e_masked_while_idle", (E1000E, NVME)),
    ],
)
def test_captured_assignable(name: str, devices: tuple[Bdf, ...]) -> None:
    assert parse_assignable(captured(f"{name}.xl_pci_assignable.txt")) == devices


def test_every_captured_pci_output_is_used() -> None:
    assert len(every("xl_pci_assignable.txt")) == 3
    assert len(every("xl_pci_list.txt")) == 2


def test_assignable_with_a_name_and_with_an_error() -> None:
    assert parse_assignable("0000:04:00.0 nvme\n") == (NVME,)
    with pytest.raises(ParseError, match="libxl"):
        parse_assignable("libxl: error: something\n")


INFO = "xen_version : 4.20\nvirt_caps :\nxen_commandline :\nbuild_id :\nrelease :\n"


def test_what_is_not_printed_is_unknown_and_not_nothing() -> None:
    info = parse_info(INFO)
    assert info.total_memory_mib is None and info.outstanding_claims is None
    assert info.facts == {"xen_version": "4.20", "xen_build_id": "unknown", "xen_commandline": "", "kernel": "unknown"}


def test_what_is_printed_identifies_the_host() -> None:
    facts = parse_info("xen_version : 4.20\nvirt_caps :\nxen_commandline : a b\nbuild_id : c0\nrelease : 6.1\n").facts
    assert facts == {"xen_version": "4.20", "xen_build_id": "c0", "xen_commandline": "a b", "kernel": "6.1"}


@pytest.mark.parametrize("name", every("xl_info.txt"))
def test_every_captured_info(name: str) -> None:
    assert parse_info(captured(name)) == XlInfo(
        xen_version="4.20.4-pre",
        virt_caps=frozenset({"pv", "hvm", "hvm_directio", "pv_directio", "hap", "gnttab-v1", "gnttab-v2"}),
        commandline="console=com1 com1=115200,8n1 dom0_mem=1024M,max:1024M dom0_max_vcpus=2 loglvl=all "
        "guest_loglvl=all iommu=force,no-sharept conring_size=1M",
        build_id="ea92b67a6c7ec0dc9541bc73daef97756b70e672",
        release="6.12.107+deb13-amd64",
        total_memory_mib=2559,
        outstanding_claims=0,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "build_id, release, virt_caps, xen_commandline, xen_version missing"),
        ("xen_version : 4.20\n", "build_id, release, virt_caps, xen_commandline missing"),
        (INFO.replace("4.20", ""), "xen_version missing"),
        ("libxl_get_physinfo failed.\n", ":1: "),
        (f"{INFO}total_memory : 12k\n", "total_memory is '12k'; expected a number"),
    ],
)
def test_info_not_understood(text: str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        parse_info(text)


KINDS = ["xl_list.txt", "xl_list_v.txt", "xl_list_l.json", "xl_pci_list.txt", "xl_pci_assignable.txt", "xl_info.txt"]


@given(damaged([captured(name) for kind in KINDS for name in every(kind)]) | st.text())
def test_hostile(text: str) -> None:
    for parse in (parse_list, parse_list_long, parse_pci_list, parse_assignable, parse_info):
        try:
            value = parse(text)
        except ParseError:
            continue
        assert isinstance(value, tuple | XlInfo)
