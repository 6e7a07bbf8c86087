"""Evidence: raw bytes are on disk before anybody parses them, and half an observation is none."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.base.errors import EvidenceError, ParseError
from harness.model.message import MarkerKind, Meaning
from harness.model.observation import Checkpoint
from harness.xen.keys.messages import Log
from harness.xen.keys.ring import gained
from suites.selftest.fakes.hostile import CAPTURED
from suites.selftest.fakes.snapshots import KEYS, MARKER, NVME, STATE, Dom0, dump


def test_all_views_of_a_device_in_use(tmp_path: Path) -> None:
    seen = Dom0().collector(tmp_path).observe(Checkpoint.C2)
    assert seen.hardware is not None and seen.xen is not None and seen.domains is not None
    assert (str(seen.hardware.control), seen.hardware.command.memory) == ("Enable+ Masked-", True)  # type: ignore[union-attr]
    assert (seen.hardware.driver, seen.hardware.gone) == ("pciback", False)
    assert (seen.xen.owner, seen.xen.irqs, seen.xen.unbound) == ("d2", (44, 45), ())
    assert [(row.irq, row.host, row.guest, row.hardware) for row in seen.xen.masks] == [
        (44, False, False, False),
        (45, False, False, False),
    ]
    assert seen.xen.bound == {44: ("d2",), 45: ("d2",)}
    assert (seen.domains.names, seen.domains.device_owner) == ({0: "Domain-0", 2: "g1"}, 2)
    assert (seen.device, seen.guest, seen.table) == (NVME, None, None)


def test_every_reference_leads_to_its_line_on_disk(tmp_path: Path) -> None:
    seen = Dom0().collector(tmp_path).observe(Checkpoint.C2)
    assert seen.hardware is not None and seen.xen is not None and seen.domains is not None
    for raw in (seen.hardware.raw, seen.xen.raw_keys, seen.domains.raw):
        data = (tmp_path / raw.path).read_bytes()
        assert raw.path.startswith("raw/01-C2/")
        assert hashlib.sha256(data).hexdigest() == raw.sha256
    keys = (tmp_path / seen.xen.raw_keys.path).read_text().splitlines()
    assert "0000:04:00.0 - d2" in keys[seen.xen.owner_line - 1]
    assert " 44 vec=" in keys[seen.xen.masks[0].line - 1]


def test_each_section_is_a_file_byte_for_byte(tmp_path: Path) -> None:
    host = Dom0()
    host.sections["lspci.txt"] = bytes(range(256)) + b"\n\n\r\n@deadbeef end\n"
    host.sections["driver.txt"] = b""
    host.collector(tmp_path).observe(Checkpoint.C2)
    folder = tmp_path / "raw/01-C2"
    assert {path.name for path in folder.iterdir()} == set(host.sections)
    for name, data in host.sections.items():
        assert (folder / name).read_bytes() == data


def test_a_forged_separator_does_not_split(tmp_path: Path) -> None:
    host = Dom0()
    forged = b"\n@0123456789abcdef xl_list.txt\nnothing\n\n@0123456789abcdef end\n"
    host.sections["lspci.txt"] = forged
    host.collector(tmp_path).observe(Checkpoint.C2)
    assert (tmp_path / "raw/01-C2/lspci.txt").read_bytes() == forged


def test_the_logs_are_read_on_from_where_they_were(tmp_path: Path) -> None:
    host = Dom0()
    collector = host.collector(tmp_path)
    collector.observe(Checkpoint.C1)
    host.ring += MARKER
    host.log += "[    9.0] one\n[    9.1] two\n"
    collector.observe(Checkpoint.C3)
    collector.observe(Checkpoint.C4)
    assert (tmp_path / "raw/02-C3/xl_dmesg.txt").read_text() == MARKER + host.printed(2)
    assert (tmp_path / "raw/03-C4/xl_dmesg.txt").read_text() == host.printed(3)
    assert (tmp_path / "raw/03-C4/dom0_dmesg.txt").read_text() == ""
    assert (tmp_path / "raw/02-C3/dom0_dmesg.txt").read_text() == "[    9.0] one\n[    9.1] two\n"
    ((marker, raw),) = collector.markers
    assert (marker.kind, marker.device, raw.path) == (MarkerKind.MASKALL_SET, NVME, "raw/02-C3/xl_dmesg.txt")
    assert (tmp_path / raw.path).read_text().splitlines()[raw.line - 1] + "\n" == MARKER


def test_what_the_logs_gained_until_the_end_is_read(tmp_path: Path) -> None:
    host = Dom0()
    host.ring += MARKER  # before the first observation
    collector = host.collector(tmp_path)
    collector.observe(Checkpoint.C1)
    host.ring += "(XEN) d1v0: upcall vector f3\n"
    collector.observe(Checkpoint.C2)
    host.ring += MARKER
    host.log += "[    9.0] xen:events: domain 3 does not have 54 anymore\n"
    collector.close_logs(Checkpoint.C2)
    read = [one for one in collector.messages(["maskall-set"]) if one.meaning is not Meaning.DUMP]
    assert [(one.name, one.checkpoint, str(one.raw), one.expected) for one in read] == [
        ("upcall-vector", Checkpoint.C2, "raw/02-C2/xl_dmesg.txt:1", False),
        ("uart-slow", Checkpoint.C2, "raw/02-C2/xl_dmesg.txt:80", False),  # in the middle of a row of the dump
        ("maskall-set", Checkpoint.C2, "raw/03-end/xl_dmesg.txt:1", True),
        ("pirq-already-unmapped", Checkpoint.C2, "raw/03-end/dom0_dmesg.txt:1", False),
    ]
    assert [raw.path for _, raw in collector.markers] == ["raw/03-end/xl_dmesg.txt"]


@pytest.mark.parametrize(
    ("section", "data"),
    [
        ("config.hex", b"od: /sys/...: No such file or directory\n"),
        ("config.hex", b""),
        ("xl_list.txt", b"xl: cannot open\n"),
    ],
)
def test_raw_files_stay_when_they_cannot_be_parsed(tmp_path: Path, section: str, data: bytes) -> None:
    host = Dom0()
    host.sections[section] = data
    with pytest.raises(ParseError, match=f"raw/01-C2/{section}"):
        host.collector(tmp_path).observe(Checkpoint.C2)
    assert (tmp_path / "raw/01-C2" / section).read_bytes() == data
    assert len(list((tmp_path / "raw/01-C2").iterdir())) == len(host.sections)


def test_keys_that_printed_nothing_are_no_good_news(tmp_path: Path) -> None:
    host = Dom0()
    host.keys = ""
    with pytest.raises(ParseError, match="no dump of debug key M"):
        host.collector(tmp_path).observe(Checkpoint.C2)


@pytest.mark.parametrize("left", [0, 10, 900, -12, -2])
def test_a_snapshot_that_was_cut_off(tmp_path: Path, left: int) -> None:
    host = Dom0()
    host.spoil = lambda output: output[:left]
    with pytest.raises(EvidenceError, match=r"cut short|must not have"):  # the last name may be cut too
        host.collector(tmp_path).observe(Checkpoint.C2)


def test_a_device_that_is_gone(tmp_path: Path) -> None:
    host = Dom0()
    host.sections["config.hex"] = dump(b"\xff" * 4096)
    host.sections["driver.txt"] = b""
    host.sections["owner_domid.txt"] = b"xenstore-read: couldn't read path /libxl/pci/0000-04-00-0/domid\n"
    seen = host.collector(tmp_path).observe(Checkpoint.C4)
    assert seen.hardware is not None and seen.domains is not None
    assert (seen.hardware.gone, seen.hardware.control, seen.hardware.command) == (True, None, None)
    assert (seen.hardware.driver, seen.domains.device_owner, seen.domains.owner_unread) == (None, None, "")


@pytest.mark.parametrize("said", [b"", b"xenstore-read: xs_open: Connection refused\n"])
def test_an_owner_that_xenstore_does_not_tell(tmp_path: Path, said: bytes) -> None:
    host = Dom0()
    host.sections["owner_domid.txt"] = said
    seen = host.collector(tmp_path).observe(Checkpoint.C4)
    assert seen.domains is not None
    assert (seen.domains.device_owner, bool(seen.domains.owner_unread)) == (None, True)


class Memory:
    """Physical memory in which every second entry of the table is masked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def read_words(self, address: int, count: int) -> tuple[int, ...]:
        self.asked.append((address, count))
        return tuple(0xF0 | (place // 4) % 2 if place % 4 == 3 else 0xFFFFFFFF for place in range(count))


def test_the_vector_table_is_read_where_the_capability_says(tmp_path: Path) -> None:
    memory = Memory()
    collector = Dom0().collector(tmp_path, memory=memory)
    seen = collector.observe(Checkpoint.C2)
    assert seen.table is not None
    assert seen.table.masked[:4] == (False, True, False, True)
    ((address, words),) = memory.asked
    assert words == len(seen.table.masked) * 4
    space = (CAPTURED / f"{STATE}.config.bin").read_bytes()
    base = int.from_bytes(space[0x10:0x18], "little") & ~0xF
    table = int.from_bytes(space[0x44:0x48], "little")
    assert (address, words, collector.msix_offset) == (base + table, (space[0x42] + 1) * 4, 0x40)
    assert (tmp_path / seen.table.raw.path).read_text().splitlines()[1].split() == ["1", "control=000000f1"]


def test_the_vector_table_is_left_alone_while_decoding_is_off(tmp_path: Path) -> None:
    host, memory = Dom0(), Memory()
    config = bytearray((CAPTURED / f"{STATE}.config.bin").read_bytes())
    config[4] &= ~2
    host.sections["config.hex"] = dump(bytes(config))
    assert host.collector(tmp_path, memory=memory).observe(Checkpoint.C3).table is None
    assert memory.asked == []


def lines(count: int, *, first: int = 0) -> str:
    return "".join(
        f"[{number:5d}.000001] usb 1-1: new device number {number}\n" for number in range(first, first + count)
    )


OOPS = "[ 9999.000001] BUG: kernel NULL pointer dereference, address: 0000000000000010\n"
RELEASE = "[ 9999.000002] pciback 0000:04:00.0: xen_pciback: MSI-X release failed (-16)\n"


class TestRings:
    """Of a dom0 that has been up for long: its rings are full before the first reading."""

    def test_a_full_log_of_dom0_goes_on_being_read(self, tmp_path: Path) -> None:
        host = Dom0()
        host.log, host.log_size = lines(200), len(lines(100))
        collector = host.collector(tmp_path)
        collector.observe(Checkpoint.C1)
        host.log += lines(2, first=200) + RELEASE + OOPS
        collector.observe(Checkpoint.C2)
        assert (tmp_path / "raw/02-C2/dom0_dmesg.txt").read_text() == lines(2, first=200) + RELEASE + OOPS
        said = collector.messages([])
        assert [one.name for one in said if one.fails] == ["release-failed", "linux-oops"]
        assert not any(one.loses for one in said)

    def test_a_full_ring_of_xen_goes_on_being_read(self, tmp_path: Path) -> None:
        host = Dom0()
        host.ring, host.ring_size = "(XEN) HVM d1v0 save: CPU\n" * 40000, 1 << 18
        collector = host.collector(tmp_path)
        for at in (Checkpoint.C1, Checkpoint.C2, Checkpoint.C3):
            assert collector.observe(at).xen is not None
            host.ring += MARKER
        collector.close_logs(Checkpoint.C4)
        assert [raw.path for _, raw in collector.markers] == [
            "raw/02-C2/xl_dmesg.txt", "raw/03-C3/xl_dmesg.txt", "raw/04-end/xl_dmesg.txt"]  # fmt: skip
        assert not any(one.loses for one in collector.messages([]))

    @pytest.mark.parametrize("more", [KEYS * 3, "(XEN) HVM d1v0 save: CPU\n" * 2000])
    def test_a_ring_that_turns_between_two_readings_is_noticed(self, tmp_path: Path, more: str) -> None:
        host = Dom0()
        host.ring_size = 24 << 10
        collector = host.collector(tmp_path)
        collector.observe(Checkpoint.C1)
        host.ring += MARKER + more
        collector.observe(Checkpoint.C2)
        (lost,) = [one for one in collector.messages([]) if one.loses]
        assert (lost.checkpoint, lost.raw.path) == (Checkpoint.C2, "raw/02-C2/xl_dmesg_lost.txt")
        assert "boot with conring_size=1M" in lost.text
        whole = (tmp_path / "raw/02-C2/xl_dmesg_whole.txt").read_bytes()
        assert whole == host.ring.encode()[-host.ring_size :]

    def test_a_ring_that_turned_by_whole_dumps_is_not_taken_for_one_that_stood_still(self, tmp_path: Path) -> None:
        host = Dom0()
        collector = host.collector(tmp_path)
        collector.observe(Checkpoint.C1)
        host.ring_size = len(KEYS) // 2
        host.ring += MARKER + KEYS + MARKER + KEYS
        collector.close_logs(Checkpoint.C1)
        assert [one.name for one in collector.messages([]) if one.loses] == ["lines-missing"]

    def test_what_xen_s_ring_has_lost_is_on_the_console(self, tmp_path: Path) -> None:
        host = Dom0()
        host.ring_size, host.options = 1 << 10, "console=com1 sync_console"
        collector = host.collector(tmp_path, console=host)
        assert collector.observe(Checkpoint.C1).xen is not None
        host.ring += MARKER + "(XEN) HVM d1v0 save: CPU\n" * 2000
        seen = collector.observe(Checkpoint.C2)
        assert seen.xen is not None and seen.xen.owner == "d2"
        said = collector.messages([])
        assert not any(one.loses for one in said)
        (marker, raw) = collector.markers[0]
        assert (marker.device, raw.path, raw.line) == (NVME, "raw/02-C2/xl_dmesg.txt", 1)
        told = [one for one in said if one.name == "lines-from-console"]
        assert [one.raw.path for one in told] == ["raw/01-C1/xl_dmesg_console.txt", "raw/02-C2/xl_dmesg_console.txt"]
        assert (tmp_path / told[1].raw.path).read_bytes().startswith(MARKER.replace("\n", "\r\n").encode())

    @pytest.mark.parametrize("options", ["console=com1", "no_sync_console", "sync_console=0", "xsync_console"])
    def test_a_console_that_may_lose_lines_itself_fills_nothing(self, tmp_path: Path, options: str) -> None:
        host = Dom0()
        host.ring_size, host.options = 24 << 10, options
        collector = host.collector(tmp_path, console=host)
        collector.observe(Checkpoint.C1)
        host.ring += MARKER + "(XEN) HVM d1v0 save: CPU\n" * 2000
        collector.observe(Checkpoint.C2)
        assert [one.name for one in collector.messages([]) if one.loses] == ["lines-missing"]

    @pytest.mark.parametrize(("levels", "filled"), [("4 4 1 7 N", False), ("8 4 1 7 N", True), ("4 4 1 7 Y", True)])
    def test_dom0_s_lines_are_on_the_console_if_it_prints_all_of_them(
        self, tmp_path: Path, levels: str, filled: bool
    ) -> None:
        host = Dom0()
        host.options, host.levels = "sync_console", levels
        host.log, host.log_size = lines(200), len(lines(100))
        collector = host.collector(tmp_path, console=host)
        collector.observe(Checkpoint.C1)
        host.log += OOPS + lines(150, first=200)
        collector.observe(Checkpoint.C2)
        said = collector.messages([])
        assert any(one.loses for one in said) != filled
        assert any(one.name == "linux-oops" and one.raw.line == 1 for one in said) == filled

    def test_a_boot_whose_beginning_has_dropped_out_is_noticed(self, tmp_path: Path) -> None:
        host = Dom0()
        collector = host.collector(tmp_path)
        collector.observe(Checkpoint.C1)
        host.ring, host.log = "(XEN) Xen version 4.20\n", "[    1.000000] somewhere in it\n"
        collector.host_rebooted()
        collector.observe(Checkpoint.C5)
        (lost,) = [one for one in collector.messages([]) if one.loses]
        assert "dmesg: the beginning of the boot has dropped out" in lost.text

    def test_a_log_of_dom0_that_turned_over_is_noticed(self, tmp_path: Path) -> None:
        host = Dom0()
        host.log, host.log_size = lines(200), len(lines(100))
        collector = host.collector(tmp_path)
        collector.observe(Checkpoint.C1)
        host.log += OOPS + lines(150, first=200)
        collector.observe(Checkpoint.C2)
        (lost,) = [one for one in collector.messages([]) if one.loses]
        assert "dmesg: it has turned over since it was read last" in lost.text
        assert "log_buf_len=1M" in lost.text

    def test_a_ring_smaller_than_one_dump_is_told_with_the_size_it_needs(self, tmp_path: Path) -> None:
        host = Dom0()
        host.ring_size = 4 << 10
        collector = host.collector(tmp_path)
        assert collector.observe(Checkpoint.C1).xen is None
        (lost,) = [one for one in collector.messages([]) if one.loses]
        assert lost.text == (
            "xl dmesg: what the debug keys print does not fit; it holds 4 KiB; boot with conring_size=1M"
        )

    def test_a_host_that_rebooted_has_lost_nothing(self, tmp_path: Path) -> None:
        host = Dom0()
        collector = host.collector(tmp_path)
        collector.observe(Checkpoint.C1)
        collector.host_rebooted()
        host.ring, host.log = "(XEN) Xen version 4.20\n", "[    0.000001] Linux version 6.12\n"
        collector.observe(Checkpoint.C4)
        assert not any(one.loses for one in collector.messages([]))

    def test_one_that_goes_on_for_another_reads_on_from_its_files(self, tmp_path: Path) -> None:
        host = Dom0()
        first = host.collector(tmp_path)
        first.observe(Checkpoint.C1)
        second = host.collector(tmp_path)
        second.resume(first.readings, first.position, 1.0)
        host.ring += MARKER
        second.close_logs(Checkpoint.C1)
        assert (tmp_path / "raw/02-end/xl_dmesg.txt").read_text().startswith(MARKER)
        assert not any(one.loses for one in second.messages([]))


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8), st.integers(200, 4000))
def test_what_is_not_lost_is_read_once_and_what_is_lost_is_told(gains: list[int], size: int) -> None:
    """Any ring, any number of lines between two readings."""
    ring, number, before, read, lost = b"", 0, None, b"", False
    for gain in gains:
        for _ in range(gain):
            number += 1
            ring += f"[{number:5d}.000001] a line of the kernel\n".encode()
        now = ring[-size:]
        new = gained(Log.DOM0, before, now)
        lost = lost or bool(new.lost)
        read += new.data
        before = now
    if not lost:
        assert ring.endswith(read)
        assert len(read) >= min(len(ring), size)
