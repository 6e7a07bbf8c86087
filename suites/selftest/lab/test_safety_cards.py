"""What a card is and what hangs on it, fact by fact: kinds, consoles, disks, users, siblings."""

from __future__ import annotations

import contextlib

import pytest

from harness.base.errors import SafetyRefusal
from harness.lab.inventory.models import DeviceEntry
from harness.lab.safety.checks.finding import Lending, Level
from harness.lab.safety.facts.resolve import resolve, where_hidden
from harness.lab.safety.gate import decide, decide_at, explain
from harness.model.address import Bdf
from suites.selftest.lab.test_safety_gate import (
    BASE,
    DISK,
    DISK_HOME,
    ETH0,
    IDENTITIES,
    NIC,
    NIC_HOME,
    ROOT,
    card,
    config,
    decision,
    facts,
    function,
    identity,
    level,
)
from suites.selftest.lab.test_safety_holes import TOP, VF, bridge
from suites.selftest.lab.test_safety_lists import levels


@pytest.mark.parametrize("word", ["/dev/nvme1n1", "/dev/nvme1n1p9"])
def test_pools_name_disks_and_partitions_that_nobody_lists(word: str) -> None:
    assert Level.LETHAL in levels(facts(zpool=f"\t  {word}  ONLINE 0 0 0\n"), "storage", "disk")


WORDS = [
    ("resume=UUID=77aa", "uuid/77aa"),
    ("resume=PARTUUID=77aa-02", "partuuid/77aa-02"),
    ("resume=LABEL=spare", "label/spare"),
    ("resume=PARTLABEL=spare", "partlabel/spare"),
    ("rd.luks.uuid=luks-77aa", "uuid/77aa"),
    ("rd.luks.name=77aa=vault", "uuid/77aa"),
    ("cryptdevice=UUID=77aa:vault", "uuid/77aa"),
    ("cryptdevice=LABEL=spare:vault", "label/spare"),
    ("dolvm root=/dev/disk/by-id/x", "id/x"),
]


@pytest.mark.parametrize(("word", "link"), WORDS)
def test_words_of_the_command_line_that_name_a_disk(word: str, link: str) -> None:
    links = f"/dev/disk/by-{link} -> ../../nvme1n1\n"
    assert Level.LETHAL in levels(facts(cmdline=f"= ro {word} quiet\n", devlinks=links), "storage", "disk")
    other = links.replace(link, f"{link}9")
    assert levels(facts(cmdline=f"= ro {word} quiet\n", devlinks=other), "storage", "disk") == [Level.OK]
    gone = links.replace("nvme1n1", "sdq")
    assert levels(facts(cmdline=f"= ro {word} quiet\n", devlinks=gone), "storage", "disk") == [Level.OK]


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        ("flr", Level.OK),
        ("af_flr", Level.OK),
        ("af_flr flr", Level.OK),
        ("flr bus", Level.DENY),
        ("bus", Level.DENY),
        (None, Level.DENY),
    ],
)
def test_a_virtual_function_shares_nothing_that_is_reset(methods: str | None, expected: Level) -> None:
    """Its physical function is at work in the next place, below a port that isolates."""
    beside, home = "0000:02:10.0", f"{TOP}/0000:02:10.0"
    pci = function("0000:00:1c.1", TOP, "8086:0001", "060400") + function(beside, home, "8086:10ed", "020000")
    told = f"{beside} reset_method flr bus\n"
    pci = pci.replace(told, f"{beside} reset_method {methods}\n" if methods else "") + f"{beside} physfn {NIC_HOME}\n"
    for acs, wanted in ((0x1D, expected), (0x1C, Level.DENY)):
        seen = facts(pci=pci, config=bridge("0000:00:1c.1", 4, acs), drivers=f"{beside} igbvf\n")
        found = decide_at(beside, Bdf.parse(beside), seen, Lending())
        assert {one.level for one in found.findings if one.check == "siblings"} == {wanted}


@pytest.mark.parametrize(
    ("name", "place", "expected"),
    [
        ("13:64", "usb3/3-2/3-2:1.0/0003:1.0001/input/input5/event2", Level.DENY),
        ("13:64", "usb3/3-2/3-2:1.0/0003:1.0001/input/input5/mouse0", Level.OK),
        ("13:64", "sound/card0/input5/event2", Level.OK),
    ],
)
def test_what_one_types_on(name: str, place: str, expected: Level) -> None:
    assert levels(facts(chars=f"{name} realpath {NIC_HOME}/{place}\n"), "console") == [expected]
    elsewhere = NIC_HOME.replace(NIC, "0000:09:00.0")
    assert levels(facts(chars=f"{name} realpath {elsewhere}/{place}\n"), "console") == [Level.OK]


def extended(*rows: tuple[int, bytes]) -> str:
    """The card's config space with these bytes in its extended part."""
    data = bytearray(4096)
    for at, text in ((0, bytes.fromhex("8680d31006041000")), *rows):
        data[at : at + len(text)] = text
    lines = [f"{at:06x} {data[at : at + 16].hex(' ')}" for at in range(0, 4096, 16)]
    return "\n".join([f"function {NIC}", *lines, "001000", ""])


CXL = bytes.fromhex("2300 0100 981e 8003 0000 0600 0400")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(0x100, CXL)], Level.LETHAL),
        ([(0x100, bytes.fromhex("01000120")), (0x200, CXL)], Level.LETHAL),
        ([(0x100, bytes.fromhex("0100 41ff")), (0xFF4, CXL[:12])], Level.OK),  # cut off where the control would be
        ([(0x100, CXL[:12] + b"\0")], Level.OK),  # memory not enabled
        ([(0x100, CXL[:12] + b"\3")], Level.OK),
        ([(0x100, CXL[:8] + b"\1" + CXL[9:])], Level.OK),  # another DVSEC of the consortium
        ([(0x100, CXL[:4] + bytes.fromhex("8680") + CXL[6:])], Level.OK),  # somebody else's
        ([(0x100, bytes.fromhex("0b00") + CXL[2:])], Level.OK),  # no DVSEC
        ([(0x100, bytes.fromhex("0100 0110"))], Level.OK),  # a circle
    ],
)
def test_memory_of_cxl(rows: list[tuple[int, bytes]], expected: Level) -> None:
    assert levels(facts(config="=" + extended(*rows)), "kind") == [expected]


@pytest.mark.parametrize(
    ("code", "driver", "expected"),
    [
        ("088000", "thunderbolt", Level.LETHAL),
        ("0c0340", "", Level.LETHAL),
        ("0c0330", "", Level.OK),
        ("088000", "other", Level.OK),
        ("0c0700", "", Level.LETHAL),
        ("0c0701", "ipmi_si", Level.LETHAL),
        ("0c0600", "", Level.OK),
        ("0c0800", "", Level.OK),
    ],
)
def test_kinds_that_the_machine_hangs_on(code: str, driver: str, expected: Level) -> None:
    pci = "=" + function(NIC, NIC_HOME, "8086:10d3", code)
    assert levels(facts(pci=pci, drivers=f"={NIC} {driver}\n" if driver else "="), "kind") == [expected]


@pytest.mark.parametrize(
    ("bar", "address", "expected"),
    [
        (0xE001, 0xDFFF, Level.OK),
        (0xE001, 0xE000, Level.LETHAL),
        (0xE001, 0xEFFF, Level.LETHAL),
        (0xE001, 0xF000, Level.OK),
        (0xF7000000, 0xF6FFFFFF, Level.OK),
        (0xF7000000, 0xF7000000, Level.LETHAL),
        (0xF7000000, 0xF700FFFF, Level.LETHAL),
        (0xF7000000, 0xF7010000, Level.OK),
        (0x10000, 0x1FFFF, Level.LETHAL),
    ],
)
def test_how_far_behind_a_bar_an_address_is_its_own(bar: int, address: int, expected: Level) -> None:
    pci = "=" + function(NIC, NIC_HOME, "8086:10d3", "070002")
    for at in (0x10, 0x1C, 0x24):
        row, place = at & ~15, at & 15
        told = (bytes(place) + bar.to_bytes(4, "little") + bytes(12 - place)).hex(" ")
        space = config(NIC).replace(f"{row:06x} {bytes(16).hex(' ')}", f"{row:06x} {told}")
        seen = facts(pci=pci, config=f"={space}", xen=f"xen_commandline : com1=115200,8n1,{address:#x},4\n")
        assert levels(seen, "console") == [expected]


def test_a_hint_tells_what_was_found_where_something_was() -> None:
    """Not what is of the same kind and elsewhere."""
    at = ("0000:09:00.0", "0000:08:00.0")
    twin, other = (function(one, f"{NIC_HOME}/{one}", "8086:10d3", "020000") for one in at)
    seen = facts(pci=twin + other, net=card("eth8", f"{NIC_HOME}/{at[0]}/net/"))
    with pytest.raises(SafetyRefusal, match="several functions are") as told:
        resolve(seen, IDENTITIES["nic"])
    assert told.value.hint is not None
    assert [one in told.value.hint for one in at] == [True, False]


@pytest.mark.parametrize(
    ("code", "bar", "driver", "expected"),
    [
        ("078000", 0xE001, "", Level.LETHAL),
        ("078000", 0xE001, "some", Level.OK),
        ("078000", 0xF7000000, "", Level.OK),
        ("020000", 0xE001, "", Level.OK),
        ("070002", 0xF7000000, "some", Level.LETHAL),
    ],
)
def test_which_card_xen_takes_for_its_port(code: str, bar: int, driver: str, expected: Level) -> None:
    """`com1=...,pci`: one of serial ports, or of kind 0780 that nothing drives and that has I/O ports."""
    space = config(NIC).replace(
        f"000010 {bytes(16).hex(' ')}", f"000010 {(bar.to_bytes(4, 'little') + bytes(12)).hex(' ')}"
    )
    assert space != config(NIC)
    seen = facts(
        pci="=" + function(NIC, NIC_HOME, "8086:10d3", code),
        config=f"={space}",
        drivers=f"={NIC} {driver}\n" if driver else "=",
        xen="xen_commandline : com1=115200,8n1,pci\n",
    )
    assert max(levels(seen, "console")) is expected


@pytest.mark.parametrize("driver", ["", "pciback", "xen-pciback", "vfio-pci", "pci-stub", "e1000e"])
def test_drivers_that_hide_a_mac(driver: str) -> None:
    """Then our journal is asked where it was, and a person is told to name the device by path."""
    hidden = driver in ("pciback", "xen-pciback", "vfio-pci")
    gone = facts(net="=", drivers=f"={NIC} {driver}\n" if driver else "=")
    nic = IDENTITIES["nic"]
    with pytest.raises(SafetyRefusal) as told:
        resolve(gone, nic)
    assert ("hides serial numbers" in str(told.value)) is hidden
    with pytest.raises(SafetyRefusal) as told:
        resolve(gone, identity(id="8086:10d3", slot="77"))
    assert "hides serial numbers" not in str(told.value), "a slot is not hidden"
    with contextlib.nullcontext() if hidden or not driver else pytest.raises(SafetyRefusal):
        assert resolve(gone, nic, {nic.mark: Bdf.parse(NIC)}) == Bdf.parse(NIC)


def test_the_nearest_few_are_shown_of_many_that_could_be_meant() -> None:
    """Six ports of one kind, all with pciback: whoever reads the refusal wants to see how they are told apart."""
    places = [NIC.replace("02:00", f"{bus:02x}:00") for bus in range(4, 10)]
    pci = "=" + "".join(function(at, NIC_HOME.replace(NIC, at), "8086:10d3", "020000") for at in places)
    with pytest.raises(SafetyRefusal) as told:
        resolve(facts(net="=", pci=pci, drivers="=" + "".join(f"{at} pciback\n" for at in places)), IDENTITIES["nic"])
    assert [at for at in places if at in told.value.hint] == places[:4]
    assert [at for at in places if at in told.value.message] == places[:4]


@pytest.mark.parametrize(("code", "expected"), [("010000", True), ("020000", True), ("030000", False), ("", False)])
def test_what_a_driver_hides_is_told_of_disks_and_cards_alone(code: str, expected: bool) -> None:
    pci = "=" + function(NIC, NIC_HOME, "8086:10d3", code)
    silent = list(facts(pci=pci, drivers=f"={NIC} pciback\n").functions.values())
    assert bool(where_hidden(silent)) is expected


VIRTIO = [
    ("1af4:1005", "00ff00", "kind", Level.OK),
    ("1af4:1044", "00ff00", "kind", Level.OK),
    ("1af4:1045", "00ff00", "kind", Level.DENY),
    ("1af4:1058", "00ff00", "kind", Level.LETHAL),
    ("1af4:105b", "00ff00", "kind", Level.LETHAL),
    ("1af4:1003", "078000", "console", Level.LETHAL),
    ("1af4:1043", "078000", "console", Level.LETHAL),
    ("1af4:1044", "078000", "console", Level.OK),
]


@pytest.mark.parametrize(
    ("identity", "mounted", "expected"),
    [
        *((one, "9p share rw,trans=virtio", True) for one in ("1af4:1009", "1af4:1049")),
        *((one, "virtiofs share rw", False) for one in ("1af4:1009", "1af4:1049")),
        *((one, "9p share rw,trans=fd", False) for one in ("1af4:1009", "1af4:1049")),
        ("1af4:105a", "virtiofs share rw", True),
        ("1af4:105a", "9p share rw,trans=virtio", False),
    ],
)
def test_what_the_machine_below_shares_by_virtio(identity: str, mounted: str, expected: bool) -> None:
    pci = "=" + function(NIC, NIC_HOME, identity, "018000")
    seen = facts(pci=pci, net=f"={ETH0}", mounts=f"50 1 0:50 / /x rw - {mounted}\n")
    found = decide_at(NIC, Bdf.parse(NIC), seen, Lending()).findings
    assert any(one.check == "storage" and one.level is Level.LETHAL for one in found) is expected


@pytest.mark.parametrize(("identity", "code", "check", "expected"), VIRTIO)
def test_what_virtio_is_by_its_number(identity: str, code: str, check: str, expected: Level) -> None:
    pci = "=" + function(NIC, NIC_HOME, identity, code)
    seen = facts(pci=pci, consoles="hvc1 -W- (E) 229:1\n")
    found = decide_at(NIC, Bdf.parse(NIC), seen, Lending())
    assert [one.level for one in found.findings if one.check == check] == [expected]
    board = facts(pci=pci, consoles="hvc0 -W- (E) 229:0\n")
    found = decide_at(NIC, Bdf.parse(NIC), board, Lending())
    assert check == "kind" or [one.level for one in found.findings if one.check == check] == [Level.OK]


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("0000:00:05.1", Level.DENY),
        ("0000:00:06.1", Level.OK),
        ("0000:00:05.1/0000:09:00.0", Level.OK),
        ("0000:00:15.1", Level.OK),
    ],
)
def test_functions_nobody_can_make_out_on_the_root_bus(place: str, expected: Level) -> None:
    root = "/sys/devices/pci0000:00"
    pci = "=" + function("0000:00:05.0", f"{root}/0000:00:05.0", "8086:10d3", "020000")
    strange = f"odd realpath {root}/{place}\nodd vendor 0x8086\n"
    seen = facts(pci=pci + strange, net=f"={ETH0}", drivers="=")
    found = decide_at("nic", Bdf.parse("0000:00:05.0"), seen, Lending())
    assert [one.level for one in found.findings if one.check == "siblings"] == [expected]


EVIDENCE = [
    ("nic", {"pci": f"{NIC} driver_override vfio-pci\n"}, f"(pci:0: {NIC} driver_override vfio-pci)"),
    ("nic", {"drivers": f"={NIC} pciback\n"}, f"(drivers:0: {NIC} pciback)"),
    ("nic", {"pci": f"{NIC} sriov_numvfs 2\n"}, f"its virtual functions are enabled (pci:17: {NIC} sriov_numvfs 2)"),
    ("nic", {"config": "=" + config(NIC, 0xC004)}, f"(config:0: {NIC} MSI-X control c004)"),
    ("disk", {"signatures": "="}, "(signatures:0: nvme1n1 was not looked at)"),
    ("disk", {"signatures": "-"}, "(signatures:0: not read)"),
    ("disk", {"exclusive": "vda free\n"}, "(exclusive:0: nvme1n1 was not tried)"),
    ("disk", {"mounts": "-"}, "(mounts:0: not read)"),
    ("disk", {"block": "nvme1n1 holder dm-7\n"}, "(block:0: dm-7)"),
    (
        "nic",
        {"addresses": "=2: eth1    inet 192.0.2.1/24 x\n"},
        "(addresses:1: 2: eth1    inet 192.0.2.1/24 x; ssh:1: 192.0.2.10 50000 192.0.2.1 22)",
    ),
    (
        "nic",
        {"pci": "=" + function(NIC, NIC_HOME, "8086:10d3", "020000").partition(f"{NIC} reset")[0]},
        f"it has no reset method (pci:1: {NIC} realpath {NIC_HOME})",
    ),
    ("nic", {"pci": "=" + function(NIC, NIC_HOME, "8086:10d3", "030000")}, f"(pci:1: {NIC} realpath {NIC_HOME})"),
    ("nic", {"pci": "=" + function(NIC, NIC_HOME, "8086:10d3", "038000")}, f"(pci:1: {NIC} realpath {NIC_HOME})"),
]


@pytest.mark.parametrize(("device", "changed", "told"), EVIDENCE)
def test_evidence(device: str, changed: dict[str, str], told: str) -> None:
    assert any(told in line for line in explain(decision(device, facts(**changed)), {}))


@pytest.mark.parametrize(("code", "expected"), [("070002", Level.LETHAL), ("078000", Level.OK), ("020000", Level.OK)])
@pytest.mark.parametrize("where", ["pci", "amt"])
def test_serial_cards_that_xen_looks_for_by_itself(where: str, code: str, expected: Level) -> None:
    pci = "=" + function(NIC, NIC_HOME, "8086:10d3", code)
    assert levels(facts(pci=pci, xen=f"xen_commandline : com1=115200,8n1,{where}\n"), "console") == [expected]


@pytest.mark.parametrize(
    ("where", "expected"),
    [("04:00.0", Level.OK), ("0000:04:00.7", Level.OK), ("msix", Level.LETHAL), ("04:00.8", Level.LETHAL)],
)
def test_serial_cards_where_xen_looks_elsewhere(where: str, expected: Level) -> None:
    """At another function's address; a word that nobody knows may mean any card."""
    pci = "=" + function(NIC, NIC_HOME, "8086:10d3", "070002")
    assert levels(facts(pci=pci, xen=f"xen_commandline : com1=115200,8n1,{where}\n"), "console") == [expected]


BOOT_DISPLAY = function("0000:00:0f.0", "/sys/devices/pci0000:00/0000:00:0f.0", "1234:1111", "030000")
BOOT_DISPLAY += "0000:00:0f.0 boot_vga 1\n"


@pytest.mark.parametrize(
    ("consoles", "display", "expected"),
    [
        ("tty0 -WU\n", f"fb0 realpath {NIC_HOME}/graphics/fb0\n", Level.LETHAL),
        ("tty0 -WU\n", f"fb1 realpath {NIC_HOME}/graphics/fb1\n", Level.OK),
        ("tty0 -WU\n", "fb0 realpath /sys/devices/pci0000:00/0000:00:0f.0/graphics/fb0\n", Level.OK),
        ("hvc0 -W-\n", f"fb0 realpath {NIC_HOME}/graphics/fb0\n", Level.OK),
    ],
)
def test_the_display_that_a_text_console_is_drawn_on(consoles: str, display: str, expected: Level) -> None:
    pci = "=" + function(NIC, NIC_HOME, "8086:10d3", "030000") + f"{NIC} boot_vga 0\n" + BOOT_DISPLAY
    seen = facts(pci=pci, consoles=f"={consoles}", display=f"={display}")
    assert level(decision("nic", seen), "console") is expected


def test_a_guests_node_of_its_own_is_told_by_the_number_beside_it() -> None:
    """XCP-ng's `/dev/sm/backend/...`: of the root disk here, so the other one is idle."""
    backend = "/local/domain/0/backend/vbd/3/51712"
    told = f'{backend}/physical-device-path = "/dev/sm/backend/a/b"\n'
    alone = facts(backends=told)
    beside = facts(backends=told + f'{backend}/physical-device = "fe:1"\n')
    assert level(decision("disk", alone), "storage") > Level.OK
    assert level(decision("disk", beside), "storage") is Level.OK


@pytest.mark.parametrize(
    ("user", "expected"), [("character e1:5", Level.DENY), ("block e1:5", Level.OK), ("character e1:6", Level.OK)]
)
def test_a_user_of_a_character_device_is_no_user_of_a_block_device(user: str, expected: Level) -> None:
    chars = f"225:5 realpath {NIC_HOME}/misc/card\n"
    assert level(decision("nic", facts(chars=chars, users=f"{user}\n")), "owner") == expected


@pytest.mark.parametrize(("number", "expected"), [("f1:0", Level.DENY), ("f2:0", Level.OK)])
def test_a_number_of_a_block_device_names_no_character_device(number: str, expected: Level) -> None:
    """/proc/devices lists both kinds, each with numbers of its own."""
    majors = "Character devices:\n241 somedrv\nBlock devices:\n242 somedrv\n"
    seen = facts(drivers=f"={NIC} somedrv\n", majors=majors, chars="", users=f"character {number} infer\n")
    assert level(decision("nic", seen), "owner") is expected


def test_the_other_ends_are_of_one_name() -> None:
    seen = facts(peers="drbd 192.0.2.7\nocfs2 192.0.2.8\ndrbd fd00::7\nodd\n")
    assert [seen.peers(name) for name in ("drbd", "ocfs2", "odd", "gfs2")] == [
        ("192.0.2.7", "fd00::7"), ("192.0.2.8",), (), ()
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("8086:10d3", Level.DENY), ("8086:10d4", Level.OK), ("8086:10D3:8086:A01F", Level.DENY)],
)
def test_a_card_is_of_its_kind_though_its_subsystem_cannot_be_read(kind: str, expected: Level) -> None:
    lines = BASE["pci"].splitlines(keepends=True)
    bare = "".join(line for line in lines if "subsystem_" not in line)
    assert level(decision("nic", facts(pci=f"={bare}", cmdline=f"vfio-pci.ids={kind}\n")), "owner") is expected


SECOND, SECOND_HOME = "0000:02:00.1", f"{NIC_HOME[:-1]}1"


@pytest.mark.parametrize(
    ("code", "more", "expected"),
    [
        ("010802", {}, Level.OK),
        ("010802", {"mounts": "21 20 259:9 / /srv rw - ext4 /dev/nvme9n1 rw\n"}, Level.DENY),
        ("020000", {"net": card("eth9", f"{SECOND_HOME}/net/", flags="0x1002")}, Level.OK),
        ("020000", {"net": card("eth9", f"{SECOND_HOME}/net/"), "addresses": "9: eth9    inet 198.51.100.1/24 brd x\n"},
         Level.DENY),
        ("030000", {"pci": f"{SECOND} boot_vga 0\n{BOOT_DISPLAY}"}, Level.OK),
        ("030000", {"pci": f"{SECOND} boot_vga 0\n"}, Level.DENY),
        ("030000", {"pci": f"{SECOND} boot_vga 1\n"}, Level.DENY),
        ("088000", {"chars": f"250:0 realpath {SECOND_HOME}/watchdog/watchdog0\n"}, Level.DENY),
        ("120000", {"users": "character e1:5 infer\n", "chars": f"225:5 realpath {SECOND_HOME}/misc/card\n"},
         Level.DENY),
        ("120000", {"chars": f"225:5 realpath {SECOND_HOME}/misc/card\n"}, Level.OK),
    ],
)  # fmt: skip
def test_what_a_sibling_that_is_lent_is_used_for(code: str, more: dict[str, str], expected: Level) -> None:
    """To be in the inventory is no leave to be reset with another, whatever the machine lives on by it."""
    beside = function(SECOND, SECOND_HOME, "1b36:0010", code)
    home = f"{SECOND_HOME}/nvme/nvme9/nvme9n1"
    disk = f"nvme9n1 realpath {home}\nnvme9n1 dev 259:9\nnvme9n1 size 2097152\n" if code == "010802" else ""
    seen = facts(
        **{
            **more,
            "pci": beside + more.get("pci", ""),
            "block": disk,
            "signatures": "nvme9n1 2 \n" if disk else "",
            "drivers": f"{SECOND} nvme\n",
            "config": config(SECOND),
        }
    )
    lent = frozenset({Bdf.parse(NIC), Bdf.parse(SECOND)})
    entry = DeviceEntry.model_validate({"identity": IDENTITIES["nic"], "driver": "nvme", "endings": ()})
    found = decide("nic", entry, seen, ours=frozenset(), lent=lent)
    assert (level(found, "siblings") >= Level.DENY) is (expected is Level.DENY), found.findings


BOARD = "ttyS0 realpath /sys/devices/pnp0/00:01/tty/ttyS0\n"


@pytest.mark.parametrize(("code", "name"), [("0c0330", "ttyUSB0"), ("0c0330", "ttyACM1"), ("070002", "ttyS9")])
@pytest.mark.parametrize(
    ("told", "driver", "expected"),
    [
        ({"tty": BOARD}, "some", Level.OK),
        ({"tty": BOARD}, "", Level.LETHAL),
        ({"tty": BOARD}, "pciback", Level.LETHAL),
        ({"tty": BOARD}, "xen-pciback", Level.LETHAL),
        ({"tty": BOARD}, "pci-stub", Level.LETHAL),
        ({"tty": BOARD}, "uio_pci_generic", Level.LETHAL),
        ({"tty": ""}, "some", Level.LETHAL),
        ({}, "some", Level.LETHAL),
        ({"tty": f"{BOARD}missing x\n"}, "some", Level.LETHAL),
        ({"tty": BOARD, "consoles": "NAME -W- (E) 188:0\n"}, "some", Level.LETHAL),
    ],
)
def test_a_console_that_is_asked_for_and_is_not_there(
    code: str, name: str, told: dict[str, str], driver: str, expected: Level
) -> None:
    """The command line still asks for it; what no driver of Linux has may have been its device."""
    told = {key: text.replace("NAME", name) for key, text in told.items()}
    seen = facts(
        pci="=" + function(NIC, NIC_HOME, "8086:10d3", code),
        drivers=f"={NIC} {driver}\n" if driver else "=",
        cmdline=f"= ro console={name},115200\n",
        **told,
    )
    assert max(levels(seen, "console")) is expected


@pytest.mark.parametrize(("place", "expected"), [(NIC_HOME, Level.LETHAL), (NIC_HOME[:-4], Level.OK)])
def test_a_console_that_is_there_and_not_in_use_yet(place: str, expected: Level) -> None:
    tty = f"{BOARD}ttyUSB0 realpath {place}/usb3/3-1/3-1:1.0/ttyUSB0/tty/ttyUSB0\n"
    pci = "=" + function(NIC, NIC_HOME, "8086:10d3", "0c0330")
    assert levels(facts(pci=pci, cmdline="= ro console=ttyUSB0\n", tty=tty), "console") == [expected]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("speakup.synth=dectlk speakup_dectlk.dev=ttyS4", Level.LETHAL),
        ("speakup_apollo.dev=ttyS4", Level.LETHAL),
        ("speakup_dectlk.dev=ttyS0", Level.OK),
        ("speakup_dectlk.ser=4", Level.OK),
        ("xspeakup_dectlk.dev=ttyS4", Level.OK),
    ],
)
def test_a_synthesizer_that_reads_the_screen(words: str, expected: Level) -> None:
    tty = f"{BOARD}ttyS4 realpath {NIC_HOME}/tty/ttyS4\n"
    seen = facts(pci="=" + function(NIC, NIC_HOME, "8086:10d3", "070002"), cmdline=f"= ro {words}\n", tty=tty)
    assert levels(seen, "console") == [expected]


def test_a_network_card_by_usbip_stands_on_a_card_nobody_knows() -> None:
    usb = card("eth5", "/sys/devices/platform/vhci_hcd.0/usb5/5-1/5-1:1.0/net/")
    for more, expected in ((usb, Level.LETHAL), (usb.replace("vhci_hcd.0", "xhci-hcd.0"), Level.OK)):
        routes = "=eth5 000200C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n"
        seen = facts(net=more, addresses="=9: eth5    inet 192.0.2.1/24 x\n", routes=routes)
        assert levels(seen, "network")[0] is expected


def capability(kind: int, after: int = 0) -> str:
    """A config space of one capability, or of two."""
    data = bytearray(256)
    data[0:8], data[0x34] = bytes.fromhex("86 80 d3 10 06 04 10 00".replace(" ", "")), 0x50
    data[0x50:0x52], data[0x60:0x62] = bytes([1, 0x60]), bytes([kind, after])
    rows = [f"{at:06x} {data[at : at + 16].hex(' ')}" for at in range(0, 256, 16)]
    return "\n".join([f"function {NIC}", *rows, "000100", ""])


ROOT_BUS = f"/sys/devices/pci0000:00/{NIC}"
BARE = ("", capability(0x10))  # how it is reset, and what it has


@pytest.mark.parametrize(
    ("home", "code", "told", "expected"),
    [
        (ROOT_BUS, "080100", BARE, Level.LETHAL),
        (NIC_HOME, "080100", BARE, Level.OK),
        (ROOT_BUS, "088000", BARE, Level.LETHAL),
        (ROOT_BUS, "110100", BARE, Level.LETHAL),
        (ROOT_BUS, "118000", BARE, Level.OK),
        (ROOT_BUS, "020000", BARE, Level.OK),
        (NIC_HOME, "088000", BARE, Level.OK),
        (ROOT_BUS, "088000", ("flr", BARE[1]), Level.OK),
        (ROOT_BUS, "088000", ("unknown", BARE[1]), Level.OK),
        (ROOT_BUS, "088000", ("", capability(0x05)), Level.OK),
        (ROOT_BUS, "088000", ("", capability(0x11)), Level.OK),
        (ROOT_BUS, "088000", ("", capability(0x10, 0x50)), Level.OK),  # a circle
        (ROOT_BUS, "088000", ("", f"function {NIC}\n000000 {' '.join(['ff'] * 16)}\n*\n000100\n"), Level.OK),
        (ROOT_BUS, "088000", ("", ""), Level.DENY),
    ],
)
def test_registers_of_the_machine_itself(home: str, code: str, told: tuple[str, str], expected: Level) -> None:
    """What has a class of many kinds is the machine's own where it is on a root bus and nobody could work with it."""
    pci = function(NIC, home, "8086:2fb4", code)
    reset = {"": "", "unknown": f"{NIC} reset 1\n"}.get(told[0], f"{NIC} reset_method {told[0]}\n{NIC} reset 1\n")
    pci = pci.replace(f"{NIC} reset_method flr bus\n{NIC} reset 1\n", reset)
    seen = facts(pci=f"={pci}", config=f"={told[1]}", net=f"={ETH0}")
    found = decide_at(NIC, Bdf.parse(NIC), seen, Lending())
    assert [one.level for one in found.findings if one.check == "kind"] == [expected]


TAPE = f"{NIC_HOME}/host6/target6:0:1/6:0:1:0"
NODES = f"9:1 realpath {TAPE}/scsi_tape/st1\n21:3 realpath {TAPE}/scsi_generic/sg3\n"


@pytest.mark.parametrize(
    ("exported", "tape", "disk"),
    [
        ("/dev/sg3", Level.LETHAL, Level.OK),
        ("/dev/st1", Level.LETHAL, Level.OK),
        (TAPE, Level.LETHAL, Level.OK),
        ("/dev/sg33", Level.DENY, Level.DENY),  # nobody knows what that is, and it could be any disk
        ("/dev/g3", Level.DENY, Level.DENY),
        (f"{DISK_HOME}/host7/target7:0:1/7:0:1:0", Level.DENY, Level.LETHAL),
        ("/dev/sg4", Level.DENY, Level.LETHAL),
        ("/srv/disk.img", Level.DENY, Level.OK),
    ],
)
def test_what_a_target_of_scsi_passes_through(exported: str, tape: Level, disk: Level) -> None:
    """A tape drive at one function, a blank disk at another: nothing of either is open."""
    scsi = f"{DISK_HOME}/host7/target7:0:1/7:0:1:0"
    seen = facts(
        pci=f"={function(NIC, NIC_HOME, '1000:0097', '010700')}{function(DISK, DISK_HOME, '1000:0097', '010700')}",
        drivers=f"={NIC} mpt3sas\n{DISK} mpt3sas\n",
        block=f"={ROOT}sdb realpath {scsi}/block/sdb\nsdb dev 8:16\nsdb size 2097152\n",
        signatures="=sdb 2 \n",
        nvme="=",
        chars=f"{NODES}21:4 realpath {scsi}/scsi_generic/sg4\n",
        exported=f"{exported}\n",
    )
    for place, expected in ((NIC, tape), (DISK, disk)):
        found = decide_at(place, Bdf.parse(place), seen, Lending())
        assert max(one.level for one in found.findings if one.check == "storage") is expected


OF_VF = '/libxl/pci/0000-02-10-0/domid = "2"\n'
NOT_OF_VF = OF_VF.replace("10-0", "11-0")


@pytest.mark.parametrize(
    ("code", "driver", "told", "expected"),
    [
        ("010802", "", {}, Level.DENY),
        ("010802", "pciback", {"owners": OF_VF}, Level.LETHAL),
        ("010802", "pciback", {"owners": NOT_OF_VF}, Level.DENY),
        ("010802", "vfio-pci", {"users": "character 1ff:0 spdk\n"}, Level.LETHAL),
        ("010802", "vfio-pci", {"users": "character 1ff:1 spdk\n"}, Level.DENY),
        ("0b4000", "pciback", {"owners": OF_VF}, Level.OK),
        ("0b4000", "vfio-pci", {"users": "character 1ff:0 qemu\n"}, Level.OK),
    ],
)
def test_what_is_stored_on_a_virtual_function_is_on_its_physical_one(
    code: str, driver: str, told: dict[str, str], expected: Level
) -> None:
    """Nothing is seen below the physical function itself."""
    home = NIC_HOME.replace(NIC, VF)
    pci = function(NIC, NIC_HOME, "144d:a824", code) + function(VF, home, "144d:a824", code)
    pci += function(DISK, DISK_HOME, "144d:a824", code)
    seen = facts(
        pci=f"={pci}{VF} physfn {NIC_HOME}\n",
        block=f"={ROOT}",
        drivers=f"={NIC} some\n{VF} {driver}\n" if driver else f"={NIC} some\n",
        chars=f"511:0 realpath {home}/vfio-dev/vfio0\n",
        **told,
    )
    found = decide_at(NIC, Bdf.parse(NIC), seen, Lending())
    assert max(one.level for one in found.findings if one.check == "storage") is expected
    another = decide_at(DISK, Bdf.parse(DISK), seen, Lending())
    assert not [one for one in another.findings if one.check == "storage" and one.level is Level.LETHAL]
    ours = decide_at(NIC, Bdf.parse(NIC), seen, Lending(ours=frozenset({Bdf.parse(VF)})))
    taken = Level.DENY if "owners" in told and expected is Level.LETHAL else expected
    assert max(one.level for one in ours.findings if one.check == "storage") is taken


def test_a_tape_behind_a_virtual_function_is_behind_its_physical_one() -> None:
    home = NIC_HOME.replace(NIC, VF)
    pci = function(NIC, NIC_HOME, "1000:0097", "010700") + function(VF, home, "1000:0097", "010700")
    tape = f"9:1 realpath {home}/host6/target6:0:1/6:0:1:0/scsi_tape/st1\n"
    for users, expected in (("character 9:1 tar\n", Level.LETHAL), ("", Level.DENY)):
        seen = facts(pci=f"={pci}{VF} physfn {NIC_HOME}\n", drivers=f"={NIC} a\n{VF} a\n", chars=tape, users=users)
        found = decide_at(NIC, Bdf.parse(NIC), seen, Lending())
        assert max(one.level for one in found.findings if one.check == "storage") is expected
