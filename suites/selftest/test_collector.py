"""Evidence: raw bytes are on disk before anybody parses them, and half an observation is none."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
from hostile import CAPTURED, captured
from test_guest_exercise import text as exercised

from harness.deadline import Deadline
from harness.errors import EvidenceError, ParseError
from harness.evidence.collector import Collector
from harness.evidence.store import EvidenceStore
from harness.guest.agent import Agent
from harness.guest.drivers import drivers
from harness.lab.transport.fake import Executed, FakeStream, FakeTransport, Reply
from harness.pci.address import Bdf
from harness.scenario.checkpoint import Checkpoint
from harness.xen.console import MarkerKind
from harness.xen.messages import Meaning

NVME = Bdf.parse("04:00.0")
STATE = "nvme_in_running_guest"
KEYS = "".join(captured(f"{STATE}.debugkey_{key}.txt") for key in "MQi")
MARKER = "(XEN) cannot mask IRQ 45: masking MSI-X on Dom32753's 0000:04:00.0\n"


class Dom0:
    """Answers snapshot.sh from captured files; the ring and dom0's log grow as the test says."""

    def __init__(self) -> None:
        self.sections: dict[str, bytes] = {
            "config.hex": dump((CAPTURED / f"{STATE}.config.bin").read_bytes()),
            "driver.txt": b"../../../../bus/pci/drivers/pciback\n",
            "physfn.txt": b"",
            "lspci.txt": captured(f"{STATE}.lspci.txt").encode(),
            "xl_list.txt": captured(f"{STATE}.xl_list.txt").encode(),
            "xl_pci_assignable.txt": b"",
            "owner_domid.txt": b"2\n",
            "dom0_dmesg.txt": b"",
            "debugkeys.txt": b"",
            "xl_dmesg.txt": b"",
        }
        self.keys = KEYS
        self.ring = "(XEN) Xen version 4.20\n"
        self.log = "[    0.0] Linux\n"
        self.spoil: Callable[[bytes], bytes] = lambda output: output
        self.seen: list[tuple[int, int]] = []  # offsets asked for
        self.transport = FakeTransport(connected=True, commands={"sh -c 'set -- @.*": self.snapshot})

    def snapshot(self, executed: Executed) -> Reply:
        match = re.match(r"sh -c 'set -- (@\w+) (?:(\S+) )?(\d+) (\d+)\n", executed.shown)
        assert match is not None and match[2] in (str(NVME), None) and not executed.changes
        ring, log = int(match[3]), int(match[4])
        self.seen.append((ring, log))
        self.ring += self.keys if match[2] else ""
        self.sections["xl_dmesg.txt"] = self.ring.encode()[ring:]
        self.sections["dom0_dmesg.txt"] = b"".join(self.log.encode().splitlines(keepends=True)[log:])
        separator = match[1].encode()
        parts = [b"\n%s %s\n%s" % (separator, name.encode(), data) for name, data in self.sections.items()]
        return Reply(self.spoil(b"".join([*parts, b"\n%s end\n" % separator])))

    def collector(self, root: Path, **more: object) -> Collector:
        return Collector(self.transport, NVME, EvidenceStore(root), **more)  # type: ignore[arg-type]


def dump(data: bytes) -> bytes:
    """As `od -An -v -tx1` prints it."""
    rows = [data[start : start + 16] for start in range(0, len(data), 16)]
    return "".join(" " + row.hex(" ") + "\n" for row in rows).encode()


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
    first = len(host.ring.encode())
    host.ring += MARKER
    host.log += "[    9.0] one\n[    9.1] two\n"
    collector.observe(Checkpoint.C3)
    collector.observe(Checkpoint.C4)
    assert host.seen == [(0, 0), (first, 1), (first + len((MARKER + KEYS).encode()), 3)]
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
        ("uart-slow", Checkpoint.C2, "raw/02-C2/xl_dmesg.txt:79", False),  # in the middle of a row of the dump
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
    with pytest.raises(EvidenceError, match="cut short"):
        host.collector(tmp_path).observe(Checkpoint.C2)


def test_a_device_that_is_gone(tmp_path: Path) -> None:
    host = Dom0()
    host.sections["config.hex"] = dump(b"\xff" * 4096)
    host.sections["driver.txt"] = b""
    host.sections["owner_domid.txt"] = b"xenstore-read: couldn't read path /libxl/pci/0000-04-00-0/domid\n"
    seen = host.collector(tmp_path).observe(Checkpoint.C4)
    assert seen.hardware is not None and seen.domains is not None
    assert (seen.hardware.gone, seen.hardware.control, seen.hardware.command) == (True, None, None)
    assert (seen.hardware.driver, seen.domains.device_owner) == (None, None)


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


class TestExercises:
    def test_in_a_guest(self, tmp_path: Path) -> None:
        commands: list[str] = []

        def console(data: bytes) -> bytes:
            if not data:
                return b""
            token, _, command = data.decode().strip().partition(" ")
            commands.append(command)
            return f"{exercised()}\n@{token} 0\n".encode()

        collector = Dom0().collector(tmp_path)
        view = collector.exercise_guest(
            Agent(FakeStream("g", console)), "d3", "nvme", "1b36:0010", 6, Deadline.after(5)
        )
        assert commands == ["sh /exercise/nvme 1b36:0010 6"]
        assert view is not None and (view.domain, view.delta) == ("d3", 9)
        assert exercised().encode() in (tmp_path / "raw/01-exercise-d3.txt").read_bytes()

    def test_a_line_that_the_console_lost_is_asked_for_again(self, tmp_path: Path) -> None:
        lost = exercised().replace("== interrupts_after\n", "")
        answers = [lost, exercised()]

        def console(data: bytes) -> bytes:
            token = data.decode().partition(" ")[0]
            return f"{answers.pop(0)}\n@{token} 0\n".encode()

        collector = Dom0().collector(tmp_path)
        agent = Agent(FakeStream("g", console))
        view = collector.exercise_guest(agent, "d3", "nvme", "1b36:0010", 6, Deadline.after(5))
        assert view.delta == 9
        assert lost.encode() in (tmp_path / "raw/01-exercise-d3.txt").read_bytes()
        answers += [lost, lost]
        with pytest.raises(ParseError):
            collector.exercise_guest(agent, "d3", "nvme", "1b36:0010", 6, Deadline.after(5))

    def test_in_dom0(self, tmp_path: Path) -> None:
        host = Dom0()
        host.transport.commands["sh -c 'set -- 1b36:0010 6\nready.*"] = Reply(exercised().encode())
        view = host.collector(tmp_path).exercise_dom0(drivers()["nvme"], "1b36:0010", 6, Deadline.after(5))
        assert view is not None and (view.domain, view.traffic_ok) == ("d0", True)
        assert host.transport.executed[-1].changes

    def test_what_cannot_be_parsed_is_kept(self, tmp_path: Path) -> None:
        host = Dom0()
        host.transport.commands["sh -c 'set -- 1b36:0010 6\nready.*"] = Reply(b"Segmentation fault\n")
        with pytest.raises(ParseError):
            host.collector(tmp_path).exercise_dom0(drivers()["nvme"], "1b36:0010", 6, Deadline.after(5))
        assert (tmp_path / "raw/01-exercise-d0.txt").read_bytes() == b"Segmentation fault\n"


class TestStore:
    def test_a_name_is_never_written_twice(self, tmp_path: Path) -> None:
        store = EvidenceStore(tmp_path)
        store.put("a", b"first")
        with pytest.raises(EvidenceError, match="File exists"):
            store.put("a", b"second")
        assert (tmp_path / "raw/a").read_bytes() == b"first"

    def test_the_same_observation_twice_makes_two_folders(self, tmp_path: Path) -> None:
        collector = Dom0().collector(tmp_path)
        collector.observe(Checkpoint.C2)
        collector.observe(Checkpoint.C2)
        assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == ["01-C2", "02-C2"]

    def test_a_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(self: Path, *mode: str) -> IO[bytes]:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "open", refuse)
        with pytest.raises(EvidenceError, match=r"No space left on device.*free some space"):
            EvidenceStore(tmp_path).put("a", b"x")

    @pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full here")
    def test_a_disk_that_fills_while_writing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        opened = Path.open
        monkeypatch.setattr(Path, "open", lambda self, mode: opened(Path("/dev/full"), "wb"))
        with pytest.raises(EvidenceError, match="No space left on device"):
            EvidenceStore(tmp_path).put("a", b"x" * 100)

    def test_references_are_relative_to_the_run(self, tmp_path: Path) -> None:
        reference = EvidenceStore(tmp_path).below("E14", "stock").put("a.txt", b"x")
        assert reference.path == "raw/E14/stock/a.txt"
        assert str(dataclasses.replace(reference, line=3)) == "raw/E14/stock/a.txt:3"
