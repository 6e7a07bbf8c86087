"""Livepatch payloads: another's ELF reader reads them as we mean them; nothing is made that Xen would refuse."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.base.errors import HarnessBug, LabError, ParseError
from harness.lab.safety.livepatch_gate import ALLOWED_MUTANTS
from harness.model.observation import RawRef
from harness.mutants.catalogue import HypervisorMutant, catalogue
from harness.mutants.change import ENDBR64, Returns, TextChange
from harness.mutants.hypervisor import XenFunction, function
from harness.mutants.hypervisor_file import HypervisorFile
from harness.mutants.livepatch import Replacement, comparison, payload, room_needed
from harness.mutants.livepatching import COMPARISON, NAME, Applied, Livepatches, applied
from harness.xen.trace.symbols import parse_xensyms
from suites.selftest.fakes.faketransport import Executed, FakeTransport, Reply
from suites.selftest.fakes.hypervisorfile import BUILD_ID, START, elf32, image, xl_info
from suites.selftest.fakes.mutatedcode import STACKS, captured

RESET = START + 0x1000
BY_TABLE = START + 0x1040
INLINED = START + 0x1080
SHORT = START + 0x10C0
CODE = {
    RESET: bytes.fromhex("53 0f b6 77 45 48 89 fb 8b 7f 40 83 c6 02").ljust(64, b"\x90"),
    BY_TABLE: (ENDBR64 + bytes.fromhex("0f b6 17 31 f6")).ljust(64, b"\x90"),
    INLINED: bytes.fromhex("41 57 41 56").ljust(64, b"\x90"),
    SHORT: b"\x90\xc3",
}
XENSYMS = f"""\
{START:016x} T _stext
{RESET:016x} T pci_reset_msix_state
{BY_TABLE:016x} t msi.c#startup_msi_irq
{INLINED:016x} T inlined
{SHORT:016x} t msi.c#short
{SHORT + 2:016x} T _etext
"""
NEW_CODE = struct.pack("<QQ", 8, 1 << 32 | 1)
"""The relocation of the first function's `new_addr`."""
FILE = elf32(image(CODE, called=[RESET, SHORT], pointed=[BY_TABLE]))


def one(**others: object) -> Replacement:
    given = {"symbol": "pci_reset_msix_state", "address": RESET, "size": 64, "expected": CODE[RESET][:31]}
    return Replacement(**(given | {"code": b"\x31\xc0\xc3"} | others))  # type: ignore[arg-type]


class TestPayload:
    @pytest.mark.skipif(shutil.which("readelf") is None, reason="binutils not installed")
    def test_readelf_reads_what_is_meant(self, tmp_path: Path) -> None:
        (tmp_path / "payload").write_bytes(payload(BUILD_ID, [one()]))
        command = ["readelf", "-aW", str(tmp_path / "payload")]
        said = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - a file of ours
        assert said.stderr == ""
        assert re.search(r"Type: +REL ", said.stdout)
        assert re.search(r"\.livepatch\.funcs +PROGBITS +0+ \w+ 000068 00  WA", said.stdout)
        assert said.stdout.count(f"Build ID: {BUILD_ID.hex()}") == 2
        assert len(set(re.findall(r"Build ID: (\w+)", said.stdout))) == 2, "its own build-id is another"
        assert said.stdout.count("R_X86_64_64") == 2

    def test_the_function_is_as_xen_reads_it(self) -> None:
        """struct livepatch_func of xen/include/public/sysctl.h, field by field."""
        data = payload(BUILD_ID, [one(expected=b"\x53\x0f\xb6\x77\x45")])
        start = data.index(struct.pack("<Q", RESET)) - 16
        name, new, old, new_size, old_size = struct.unpack_from("<QQQII", data, start)
        assert (name, new, old, new_size, old_size) == (0, 0, RESET, 3, 64), "the pointers are relocated"
        assert data[start + 32] == 2
        assert not any(data[start + 33 : start + 72])
        assert data[start + 72] == 1 | 5 << 1
        assert data[start + 73 : start + 78] == b"\x53\x0f\xb6\x77\x45"

    def test_instructions_become_nops_without_new_code(self) -> None:
        """Xen writes as many NOPs as `new_size` says where `new_addr` is 0 (arch_livepatch_apply)."""
        data = payload(BUILD_ID, [one(address=RESET + 9, size=4, expected=CODE[RESET][9:13], code=b"", nops=4)])
        start = data.index(struct.pack("<Q", RESET + 9)) - 16
        name, new, old, new_size, old_size = struct.unpack_from("<QQQII", data, start)
        assert (name, new, old, new_size, old_size) == (0, 0, RESET + 9, 4, 4)
        assert data.count(NEW_CODE) == 0, "no relocation to new code"
        assert data[start + 72] == 1 | 4 << 1

    def test_two_builds_and_two_changes_are_two_payloads(self) -> None:
        ids = {payload(build, [one(code=code)])[-1200:] for build in (BUILD_ID, bytes(20)) for code in (b"\xc3", b"")}
        assert len(ids) == 4

    def test_a_comparison_has_no_code_and_no_endbr64(self) -> None:
        compared = comparison("startup_msi_irq", BY_TABLE, 64, CODE[BY_TABLE])
        assert (compared.address, compared.size, compared.code) == (BY_TABLE + 4, 60, b"")
        assert compared.expected == CODE[BY_TABLE][4:35]
        assert comparison("x", RESET, 64, CODE[RESET]).address == RESET

    def test_what_xen_would_refuse_is_never_made(self) -> None:
        with pytest.raises(HarnessBug, match="hold no jump"):
            one(size=4)
        with pytest.raises(HarnessBug, match="hold no jump"):
            one(size=8, expected=ENDBR64)
        for wrong in ({"nops": 4}, {"nops": 5, "size": 4, "code": b""}, {"nops": 32, "code": b""}):
            with pytest.raises(HarnessBug, match="cannot become NOPs"):
                one(**wrong)
        with pytest.raises(HarnessBug, match="can be compared"):
            one(expected=b"")
        with pytest.raises(HarnessBug, match="can be compared"):
            one(expected=bytes(32))
        assert (room_needed(b"\x53"), room_needed(ENDBR64 + b"\x53")) == (5, 9)


class TestHypervisorFile:
    def test_packed_and_not(self) -> None:
        import gzip

        for data in (FILE, gzip.compress(FILE)):
            found = HypervisorFile.parse(data, "xen")
            assert (found.build_id, found.start) == (BUILD_ID, START)
            assert found.read(RESET, 4).hex() == "530fb677"
            assert found.read(START - 4, 4) == b""

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"MZ" + bytes(100), "EFI program"),
            (b"\x7fELF\x02" + bytes(100), "64-bit ELF, as xen-syms is"),
            (b"\x7fELF\x01" + bytes(20), "no hypervisor"),
            (b"#!/bin/sh\n" + bytes(100), "no hypervisor"),
            (b"\x1f\x8b\x08\x00" + bytes(20), "unpacked|early"),
            (elf32(b"\x90" * 64, build_id=None), "no build-id"),
            (FILE[:60], "headers are cut"),
            (b"", "no hypervisor"),
        ],
    )
    def test_every_other_file_is_refused_with_the_reason(self, data: bytes, words: str) -> None:
        with pytest.raises(ParseError, match=words):
            HypervisorFile.parse(data, "FILE")

    @given(data=st.binary(max_size=200), cut=st.integers(0, len(FILE)))
    def test_damage_is_an_error_and_no_crash(self, data: bytes, cut: int) -> None:
        for damaged in (data, FILE[:cut], b"\x1f\x8b" + data, b"\x7fELF\x01" + data):
            try:
                HypervisorFile.parse(damaged, "FILE")
            except ParseError:
                continue

    def test_callers_are_counted_from_outside(self) -> None:
        file = HypervisorFile.parse(FILE, "xen")
        text = range(START, SHORT + 2)
        assert file.callers(range(RESET, RESET + 64), text) == 1
        assert file.callers(range(INLINED, INLINED + 64), text) == 0
        assert (file.pointers(BY_TABLE), file.pointers(INLINED)) == (1, 0)
        loop = dict(CODE) | {INLINED: (b"\x90" * 8 + b"\xeb\x00\xe9" + struct.pack("<i", -15)).ljust(64, b"\x90")}
        again = HypervisorFile.parse(elf32(image(loop)), "xen")
        assert again.callers(range(INLINED, INLINED + 64), text) == 0, "a loop of its own is no caller"


class TestFunction:
    TABLE = parse_xensyms(XENSYMS, file="xensyms")
    FILE = HypervisorFile.parse(FILE, "xen")

    def find(self, symbol: str, value: int = 0) -> int:
        return function(Returns(symbol, value), self.TABLE, self.FILE).entry

    def test_one_that_is_called_and_one_of_a_table(self) -> None:
        assert self.find("pci_reset_msix_state") == RESET
        assert self.find("startup_msi_irq") == BY_TABLE + 4, "its endbr64 stays"

    @pytest.mark.parametrize(
        ("symbol", "value", "words"),
        [
            ("inlined", 0, "nobody calls inlined: it is inlined in this build"),
            ("short", 0, "has room for 2 bytes"),
            ("pci_reset_msi_state", 0, "the nearest is pci_reset_msix_state"),
        ],
    )
    def test_what_does_not_fit_says_why(self, symbol: str, value: int, words: str) -> None:
        with pytest.raises(LabError, match=words):
            self.find(symbol, value)

    @given(value=st.integers(-0x80000000, 0xFFFFFFFF))
    def test_the_code_returns_that_number(self, value: int) -> None:
        code = Returns("f", value).code
        assert code[-1] == 0xC3
        if value:
            assert code[0] == 0xB8 and int.from_bytes(code[1:5], "little") == value & 0xFFFFFFFF
        else:
            assert code == b"\x31\xc0\xc3"
        assert Returns("f", "nothing").code == b"\xc3"


TEXT = range(RESET, RESET + 64)
_MARK = "Synced stime skew: max=1ns avg=1ns samples={} current=1ns"


class XenLivepatch:
    """xen-livepatch and the hypervisor behind it: payloads by name, and whose text differs from the file."""

    def __init__(self, *, busy: int = 0, patched: bool = False, stuck: bool = False) -> None:
        self.loaded: dict[str, str] = {}
        self.shifted = 0  # bytes by which Xen patches beside the place
        self.busy, self.patched, self.stuck = busy, patched, stuck
        self.log: list[str] = []
        self._said = 0
        answers = {
            "cat /proc/xen/xensyms": Reply(XENSYMS.encode()),
            "xl info": Reply(xl_info()),
            "cat /boot/xen.gz": Reply(FILE),
            "(?s)sh -c .*zcat.*": Reply(b"/boot/xen.gz"),
            "(?s)sh -c .*xen-livepatch upload.*": self._upload,
            "xen-livepatch .*": self._run,
            "xl debug-keys txt": self._dump,
            "xl dmesg": lambda _: Reply(self.ring),
        }
        self.ring = b""
        self._rows: dict[str, str] = {}
        self.transport = FakeTransport(connected=True, commands=answers)

    def _upload(self, executed: Executed) -> Reply:
        name = re.search(r"upload (\S+)", executed.shown)
        assert name and executed.stdin.startswith(b"\x7fELF")
        self.log.append(f"upload {name[1]}")
        self.loaded[name[1]] = "CHECKED"
        # a relocation of 64 bits for the name, and one for new code; Xen reads the rest as it stands
        start = min(executed.stdin.find(address.to_bytes(8, "little")) & 0xFFFF for address in TEXT) - 16
        _, _, old, new_size, old_size = struct.unpack_from("<QQQII", executed.stdin, start)
        new = 0xFFFF82D0405B5000 if executed.stdin.count(NEW_CODE) else 0
        self._rows[name[1]] = (
            f"pci_reset_msix_state patch {old + self.shifted:016x}({old_size}) with {new:016x} ({new_size})"
        )
        return Reply()

    def _dump(self, _: Executed) -> Reply:
        lines = ["'x' pressed - Dumping all livepatch patches"]
        for name, state in self.loaded.items():
            lines.append(f" name={name} state={state}(2) ffff82d0405b5000 (.data=0, .rodata=0) using 3 pages.")
            lines.append(f"    {self._rows[name]}")
        for text in (_MARK, *lines, _MARK):
            self._said += 1
            self.ring += f"(XEN) {text.format(self._said)}\n".encode()
        return Reply()

    def _run(self, executed: Executed) -> Reply:
        action, *rest = executed.shown.split()[1:]
        if action == "list":
            rows = "".join(f"{name:<40}| {state:<11}| \n" for name, state in self.loaded.items())
            return Reply(f" ID {' ' * 36}| status     | metadata\n{'-' * 40}+------------+---\n{rows}".encode())
        self.log.append(f"{action} {rest[0]}")
        if action == "apply":
            if self.busy:
                self.busy -= 1
                return Reply(b"failed\n", b"Error 16: Device or resource busy\n", 1)
            if self.patched and rest[0] == COMPARISON:
                return Reply(b"failed\n", b"Error 22: Invalid argument\n", 1)
            self.loaded[rest[0]] = "APPLIED"
        if action == "revert" and not self.stuck:
            self.loaded[rest[0]] = "CHECKED"
        if action == "unload" and self.loaded[rest[0]] == "CHECKED":
            del self.loaded[rest[0]]
        return Reply()


RETURNS = [Returns("pci_reset_msix_state", 0)]


class TestByLivepatch:
    """What of the catalogue a livepatch can make, held against the code of the three releases."""

    @staticmethod
    def mutant(name: str) -> HypervisorMutant:
        found = catalogue()[name]
        assert isinstance(found, HypervisorMutant)
        return found

    @staticmethod
    def made(name: str, stack: str) -> list[Applied]:
        code = captured(stack)
        return [
            applied(change, XenFunction(change.symbol, range(RESET, RESET + len(text)), text))
            for change in TestByLivepatch.mutant(name).by_livepatch
            for text in [code["hypervisor", change.symbol]]
        ]

    @pytest.mark.parametrize("stack", STACKS)
    @pytest.mark.parametrize("name", ALLOWED_MUTANTS)
    def test_every_one_that_a_lab_host_may_be_made(self, name: str, stack: str) -> None:
        (one,) = self.made(name, stack)
        made = one.replacement
        if made.nops:  # by the debugger it is the same
            offset = made.address - one.replaced.place.address
            after = bytearray(one.replaced.before)
            after[offset : offset + made.nops] = b"\x90" * made.nops
            assert after == one.replaced.after
        assert payload(BUILD_ID, [one.replacement]).startswith(b"\x7fELF")

    def test_the_bytes_that_become_nops(self) -> None:
        (sticky,), (refused,) = (self.made(name, "trixie") for name in ("sticky-host-maskall", "maskall-not-refused"))
        assert re.fullmatch("c640..00", sticky.replacement.expected.hex()), "movb $0, host_maskall(%rax)"
        assert re.fullmatch("75..", refused.replacement.expected.hex()), "jne"
        assert [one.replacement.nops for one in (sticky, refused)] == [4, 2]

    @pytest.mark.parametrize(
        ("find", "replace", "words"),
        [
            ("0f b6", "0f b7", "0f b6 cannot become 0f b7 by livepatch"),
            ("0f b6 77", "90 b6 90", "cannot become"),
            ("0f b8", "90 90", "stands 0 times"),
            ("90", "cc", "stands 50 times"),
        ],
    )
    def test_what_none_can_make(self, find: str, replace: str, words: str) -> None:
        change = TextChange.model_validate({"symbol": "f", "find": find, "replace": replace})
        with pytest.raises(LabError, match=words):
            applied(change, XenFunction("f", range(RESET, RESET + 64), CODE[RESET]))


class TestLivepatches:
    def test_stock_is_shown_before_and_the_control_stands_alone(self) -> None:
        xen, kept = XenLivepatch(), dict[str, bytes]()

        def keep(name: str, data: bytes) -> RawRef:
            kept[name] = data
            return RawRef(name, "")

        (made,) = Livepatches(xen.transport, keep).apply(RETURNS)
        assert xen.log == [
            f"upload {COMPARISON}", f"apply {COMPARISON}", f"revert {COMPARISON}", f"unload {COMPARISON}",
            f"upload {NAME}", f"apply {NAME}",
        ]  # fmt: skip
        assert xen.loaded == {NAME: "APPLIED"}
        assert set(kept) == {f"{NAME}.livepatch", f"{COMPARISON}.livepatch"}
        assert (made.replaced.place.address, made.replaced.before.hex()) == (RESET, "530fb6")
        assert made.replaced.after.hex() == "31c0c3"
        Livepatches(xen.transport).remove(NAME)
        assert xen.loaded == {}

    def test_processors_that_do_not_come_together_are_asked_again(self) -> None:
        xen = XenLivepatch(busy=3)
        Livepatches(xen.transport).apply(RETURNS)
        assert xen.loaded == {NAME: "APPLIED"}
        xen = XenLivepatch(busy=99)
        with pytest.raises(LabError, match="busy"):
            Livepatches(xen.transport).apply(RETURNS)
        assert xen.loaded == {}

    def test_a_hypervisor_that_is_not_its_file_is_refused(self) -> None:
        xen = XenLivepatch(patched=True)
        with pytest.raises(LabError, match="running text of pci_reset_msix_state is not that of its file"):
            Livepatches(xen.transport).apply(RETURNS)
        assert xen.loaded == {}
        assert f"upload {NAME}" not in xen.log

    def test_nobody_elses_livepatch_is_joined(self) -> None:
        xen = XenLivepatch()
        xen.loaded["xsa-999"] = "APPLIED"
        with pytest.raises(LabError, match="livepatches are there already: xsa-999"):
            Livepatches(xen.transport).apply(RETURNS)
        assert xen.log == []

    def test_one_that_stays_is_told(self) -> None:
        xen = XenLivepatch(stuck=True)
        xen.loaded[NAME] = "APPLIED"
        with pytest.raises(LabError, match=f"livepatch {NAME} is still APPLIED|revert"):
            Livepatches(xen.transport).remove(NAME)

    def test_removing_what_is_not_there_does_nothing(self) -> None:
        xen = XenLivepatch()
        Livepatches(xen.transport).remove(NAME)
        assert xen.log == []

    def test_a_xen_without_livepatches(self) -> None:
        refused = Reply(b"", b"xen-livepatch: failed to list: Function not implemented\n", 1)
        transport = FakeTransport(connected=True, commands={"xen-livepatch list": refused})
        with pytest.raises(LabError, match="Function not implemented"):
            Livepatches(transport).apply(RETURNS)
