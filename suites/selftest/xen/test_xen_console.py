"""Console lines and markers: captured, from Xen's source, forged, and the emulator's own fault."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.address import Bdf
from harness.model.message import Marker, MarkerKind, Origin
from harness.xen.keys.console import console_lines, domain_name, emulator_triple_fault, find_markers
from suites.selftest.fakes.hostile import captured, damaged, every

NVME = Bdf.parse("0000:04:00.0")
E1000E = Bdf.parse("0000:01:00.0")

# From the documented format, not captured (Xen hvm_triple_fault, vcpu_show_execution_state, _show_registers).
TRIPLE_FAULT = """\
(XEN) d8v0 Triple fault - invoking HVM shutdown action 1
(XEN) *** Dumping Dom8 vcpu#0 state: ***
(XEN) ----[ Xen-4.20.4-pre  x86_64  debug=n  Not tainted ]----
(XEN) CPU:    1
(XEN) RIP:    0008:[<ffff82d04020abcd>]
(XEN) RFLAGS: 0000000000010002   CONTEXT: hvm guest (d8v0)
(XEN) rax: 0000000000000000   rbx: 0000000000116000   rcx: 0000000000000000
"""


def test_captured_marker() -> None:
    (marker,) = find_markers(captured("nvme_masked_by_injection.xl_dmesg.txt"))
    text = "cannot mask IRQ 44: masking MSI-X on Dom2's 0000:04:00.0"
    assert marker == Marker(MarkerKind.MASKALL_SET, 1, text, NVME, "d2", 44)
    assert marker.kind.is_hazard


def test_captured_refusals() -> None:
    markers = find_markers(captured("reset_without_effect_ends_in_ebusy.console.txt"))
    assert [(m.kind, m.domain, m.device, m.irq, m.error) for m in markers] == [
        (MarkerKind.MASKALL_SET, "d5", E1000E, 40, None),
        (MarkerKind.ASSIGN_FAILED, "d6", E1000E, None, -16),
        (MarkerKind.ASSIGN_FAILED, "DomIO", E1000E, None, -16),
        (MarkerKind.ASSIGN_FAILED, "DomIO", E1000E, None, -16),
    ]


@pytest.mark.parametrize("name", sorted({*every("xl_dmesg.txt"), *every("dmesg.txt")}))
def test_no_other_captured_log_has_a_marker(name: str) -> None:
    expected = 1 if name == "nvme_masked_by_injection.xl_dmesg.txt" else 0
    assert len(find_markers(captured(name))) == expected


@pytest.mark.parametrize(
    ("line", "kind", "domain", "device"),
    [
        ("cannot mask IRQ 45: masking MSI-X on Dom32753's 0000:04:00.0", "MASKALL_SET", "DomIO", NVME),
        ("cannot mask IRQ 45: masking MSI-X on d[IO]'s 0000:04:00.0", "MASKALL_SET", "DomIO", NVME),
        ("cannot mask IRQ 45: masking MSI-X on d3's 0000:04:00.0", "MASKALL_SET", "d3", NVME),
        ("cannot disable IRQ 45: masking MSI-X on 0000:04:00.0", "MASKALL_SET", None, NVME),
        ("[2026-11-23 07:00:00] d3: assign (0000:04:00.0) failed (-16)", "ASSIGN_FAILED", "d3", NVME),
        ("d3: assign 0000:04:00.0 failed (-16)", "ASSIGN_FAILED", "d3", NVME),
        ("assign 0000:04:00.0 to dom3 failed (-16)", "ASSIGN_FAILED", "d3", NVME),
        ("assign 0000:04:00.0 to Dom3 failed (-16)", "ASSIGN_FAILED", "d3", NVME),
        (
            "0000:04:00.0: unexpected initial MSI-X state (MASKALL=1, ENABLE=0), fixing",
            "INITIAL_STATE_FIXED",
            None,
            NVME,
        ),
        ("d8v0 Triple fault - invoking HVM shutdown action 1", "TRIPLE_FAULT", "d8", None),
        ("[   12.345678] d8v1 Triple fault - invoking HVM shutdown action 1", "TRIPLE_FAULT", "d8", None),
        ("Panic on CPU 1:", "XEN_PANIC", None, None),
        ("Xen BUG at arch/x86/msi.c:321", "XEN_PANIC", None, None),
        ("FATAL TRAP: vec 14, #PF[0000] IN INTERRUPT CONTEXT", "XEN_PANIC", None, None),
        ("Assertion 'pdev' failed at msi.c:12", "XEN_PANIC", None, None),
    ],
)
def test_markers_of_xen(line: str, kind: str, domain: str | None, device: Bdf | None) -> None:
    (marker,) = find_markers(f"(XEN) nothing\n(XEN) {line}\n")
    assert (marker.kind, marker.domain, marker.device, marker.line) == (MarkerKind[kind], domain, device, 2)
    assert (marker.irq, marker.error) == {"MASKALL_SET": (45, None), "ASSIGN_FAILED": (None, -16)}.get(
        kind, (None,) * 2
    )
    assert marker.kind.is_host_crash == (kind == "XEN_PANIC")
    assert find_markers(line) == (), "not without Xen's prefix"
    assert find_markers(f"(d3) (XEN) {line}\n(d3) {line}") == (), "not from a guest"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("[   12.345678] Kernel panic - not syncing: Fatal exception in interrupt", MarkerKind.LINUX_PANIC),
        ("[   12.345678][    T1] Kernel panic - not syncing: Attempted to kill init!", MarkerKind.LINUX_PANIC),
        ("[   12.345678] BUG: kernel NULL pointer dereference, address: 0000000000000008", MarkerKind.LINUX_OOPS),
        ("BUG: unable to handle page fault for address: ffffc90000000000", MarkerKind.LINUX_OOPS),
        ("[   12.345678] Oops: 0002 [#1] PREEMPT SMP NOPTI", MarkerKind.LINUX_OOPS),
        ("[   12.345678] kernel BUG at drivers/xen/events/events_base.c:123!", MarkerKind.LINUX_OOPS),
        ("[  112.345678] watchdog: BUG: soft lockup - CPU#1 stuck for 22s!", MarkerKind.LINUX_OOPS),
    ],
)
def test_markers_of_dom0(line: str, kind: MarkerKind) -> None:
    (marker,) = find_markers(f"boot\n{line}\n")
    assert (marker.kind, marker.line) == (kind, 2)
    assert marker.kind.is_host_crash == (kind is MarkerKind.LINUX_PANIC)
    assert find_markers(f"(d3) {line}") == (), "a guest's panic is its own"


@pytest.mark.parametrize("line", ["(XEN) d3: deassign (0000:04:00.0) failed (-16)", "(d2) BUILD: gcc", "DEBUG: Oopsy"])
def test_no_markers(line: str) -> None:
    assert find_markers(line) == ()


def test_marker_after_a_prompt_without_newline() -> None:
    text = "xenhost login: (XEN) d3: assign (0000:04:00.0) failed (-16)\n[    9.1] Kernel panic - not syncing: x\n"
    assert [marker.kind.name for marker in find_markers(text)] == ["ASSIGN_FAILED", "LINUX_PANIC"]


def test_interrupted_message_keeps_its_line_and_its_rest() -> None:
    lines = console_lines("(XEN) one \n(XEN) two (XEN) three\n(XEN) four\nrest\nroot\n")
    xen = [(line.number, line.text) for line in lines if line.origin is Origin.XEN]
    assert xen == [(1, "one "), (2, "two rest"), (2, "three"), (3, "four")]
    assert [line.text for line in lines if line.origin is Origin.DOM0] == ["rest", "root", ""]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("d0", "d0"),
        ("Dom7", "d7"),
        ("dom7", "d7"),
        ("dom 7", "d7"),
        ("Dom32753", "DomIO"),
        ("d32753", "DomIO"),
        ("d[IO]", "DomIO"),
        ("DomIO", "DomIO"),
        ("DomIO:8008", "DomIO"),
        ("d32754", "DomXEN"),
        ("d[XEN]", "DomXEN"),
        ("d[IDLE]", "d[IDLE]"),
        ("guest", None),
        ("", None),
    ],
)
def test_domain_name(text: str, name: str | None) -> None:
    assert domain_name(text) == name


def test_emulator_fault_is_recognised() -> None:
    fault = emulator_triple_fault("(XEN) before\n" + TRIPLE_FAULT)
    assert fault is not None
    assert (fault.domain, fault.rip, fault.line) == ("d8", 0xFFFF82D04020ABCD, 2)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ffff82d04020abcd", "0000000000100028"),  # a guest's own fault, as 32-bit code
        ("ffff82d04020abcd", "ffffffff8100712e"),  # or in its kernel
        ("ffff82d04020abcd", "ffff82cfffffffff"),  # or right beside Xen
        ("ffff82d04020abcd", "ffff82d100000000"),
        ("hvm guest (d8v0)", "hypervisor (d8v0)"),  # Xen's own state
        ("hvm guest (d8v0)", "pv guest (d8v0)"),
        ("hvm guest (d8v0)", "hvm guest (d9v0)"),  # another guest's dump
        ("d8v0 Triple fault - invoking HVM shutdown action 1", "domain_crash called from vmx.c:3758"),
        ("(XEN)", "(d8)"),  # forged by the guest
    ],
)
def test_other_faults_are_not_the_emulators(old: str, new: str) -> None:
    assert old in TRIPLE_FAULT
    assert emulator_triple_fault(TRIPLE_FAULT.replace(old, new)) is None


def test_second_fault_of_two_is_found() -> None:
    guests_own = TRIPLE_FAULT.replace("ffff82d04020abcd", "0000000000100028").replace("d8v0", "d7v0")
    fault = emulator_triple_fault(guests_own + TRIPLE_FAULT)
    assert fault is not None
    assert (fault.domain, fault.line) == ("d8", 8)


def test_emulator_fault_within_the_known_text_only() -> None:
    assert emulator_triple_fault(TRIPLE_FAULT, range(0xFFFF82D040200000, 0xFFFF82D040300000)) is not None
    assert emulator_triple_fault(TRIPLE_FAULT, range(0xFFFF82D040300000, 0xFFFF82D040400000)) is None


@pytest.mark.parametrize("rip", [0xFFFF82D000000000, 0xFFFF82D0FFFFFFFF])
def test_emulator_fault_at_each_end_of_xen(rip: int) -> None:
    fault = emulator_triple_fault(TRIPLE_FAULT.replace("ffff82d04020abcd", f"{rip:x}"))
    assert fault is not None and fault.rip == rip


def test_dump_far_behind_the_fault_is_another_ones() -> None:
    """A fault and its dump are sixteen lines of Xen's; a guest may talk as much as it likes."""
    first, rest = TRIPLE_FAULT.split("\n", 1)
    others = "(XEN) noise\n" * 10 + "(d8) (XEN) noise\n" * 40
    assert emulator_triple_fault(f"{first}\n{others}{rest}") is not None
    assert emulator_triple_fault(f"{first}\n{others}(XEN) noise\n{rest}") is None


def test_the_dump_of_a_fault_ends_with_its_context() -> None:
    others = TRIPLE_FAULT.replace("hvm guest (d8v0)", "hvm guest (d9v0)")
    assert emulator_triple_fault(others + TRIPLE_FAULT.split("\n", 1)[1]) is None


@given(damaged([TRIPLE_FAULT, captured("reset_without_effect_ends_in_ebusy.console.txt")]) | st.text())
def test_hostile(text: str) -> None:
    assert isinstance(find_markers(text), tuple)
    emulator_triple_fault(text)
    lines = console_lines(text)
    assert {line.number for line in lines} == set(range(1, text.count("\n") + 2))
