"""`maskall explain`: what captured and public logs show, however they are quoted, wrapped, cut or torn."""

from __future__ import annotations

import itertools
import random
import re
import tarfile
import textwrap
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report.explain.reader import Reader
from harness.report.explain.signature import SIGNATURES, SignatureKind
from harness.report.explain.tell import ExplainStatus, Explanation, as_text, explain
from harness.scenario.choose import Candidate, all_scenarios
from harness.xen.keys.fixes import registry
from harness.xen.keys.version import Answer
from suites.selftest.fakes.goodrecord import CATALOGUE
from suites.selftest.fakes.hostile import CAPTURED, captured

LOGS = CAPTURED.parent / "logs"
Found = set[tuple[str, str]]


def told(*texts: str | bytes, block: int = 1 << 20) -> Explanation:
    reader = Reader()
    for number, text in enumerate(texts, 1):
        data = text.encode() if isinstance(text, str) else text
        reader.read(f"log{number}", (data[at : at + block] for at in range(0, len(data), block)))
    return explain(reader.close())


def found(explanation: Explanation, kind: SignatureKind | None = SignatureKind.CLASS) -> Found:
    """(device, signature), the device empty where the text names none."""
    shown = [("", one) for host in explanation.hosts for one in host.findings]
    shown += [(device.device, one) for host in explanation.hosts for device in host.devices for one in device.findings]
    return {(device, one.signature) for device, one in shown if kind is None or one.kind == kind.value}


NVME, RNG, E1000E = "0000:04:00.0", "0000:02:00.0", "0000:01:00.0"
KEPT = captured("nvme_in_running_guest.lspci.txt").replace("Masked-", "Masked+")
LIBVIRT = """\
(XEN) ==== PCI devices ====
(XEN) ==== segment 0000 ====
(XEN) 0000:02:00.0 - DomIO:8006 - node -1
(XEN) [VT-D]DMAR:[DMA Read] Request device [0000:02:00.0] fault addr 95ef4000
(XEN) [VT-D]DMAR: reason 02 - Present bit in context entry is clear
[  123.456789] virtio-pci 0000:02:00.0: xen map irq failed -19 for 32752 domain
"""
SAVED = """\
Saving to /tmp/guest.save new xl format (info 0x3/0x0/1731)
xc: info: Saving domain 1, type x86 HVM
xc: progress: End of stream: 0/0    0%
libxl: warning: libxl_pci.c:2167:pci_remove_timeout: Domain 1:timed out waiting for DM to remove pci-pt-02_00.0
"""
PV_ROWS = """\
(XEN) MSI information:
(XEN)  MSI-X   39 vec=94  fixed  edge   assert phys    cpu dest=00000000 mask=1/{mask}/1
(XEN)  MSI-X   40 vec=ac  fixed  edge   assert phys    cpu dest=00000001 mask=1/{mask}/1
(XEN) ==== PCI devices ====
(XEN) 0000:02:00.0 - d1 - node -1  - MSIs < 39 40 >
(XEN) IRQ information:
(XEN)    IRQ:  39 vec:94 PCI-MSI/-X      status=022 aff:{{0}}/{{0}} {first}
(XEN)    IRQ:  40 vec:ac PCI-MSI/-X      status=022 aff:{{1}}/{{1}} {second}
(XEN) Direct vector information:
"""
PV_WORKS = PV_ROWS.format(mask=" G", first="in-flight=0 d1: 55(---)", second="in-flight=0 d1: 54(---)")
PV_LEFT = PV_ROWS.format(mask="H ", first="mapped, unbound", second="mapped, unbound")
PV_LSPCI = captured("nvme_in_running_guest.lspci.txt").replace("04:00.0", "02:00.0") + "\n"
PV_KEEPS = PV_LSPCI + PV_WORKS + PV_LEFT
FIRMWARE = """\
(XEN) Xen version 4.17.5 (Debian 4.17.5-1) (builder@example.org) (gcc 12.2.0) debug=n Mon Jan  1 00:00:00 UTC 2026
(XEN) 0000:04:00.0: unexpected initial MSI-X state (MASKALL=1, ENABLE=0), fixing
"""
CASES: dict[str, tuple[str, Found]] = {
    "kept": (KEPT, {(NVME, "maskall-kept")}),
    "hazard": (captured("nvme_masked_by_injection.xl_dmesg.txt"), {(NVME, "maskall-set")}),
    "hazard and lspci": (
        captured("nvme_masked_by_injection.xl_dmesg.txt") + KEPT,
        {(NVME, "maskall-set"), (NVME, "maskall-kept")},
    ),
    "disable": ((LOGS / "cannot_disable_irq.console.txt").read_text(), {
        ("0000:00:14.3", "maskall-set"), ("0000:00:14.3", "assign-busy")}),
    "busy": (
        captured("reset_without_effect_ends_in_ebusy.console.txt"),
        {(E1000E, "maskall-set"), (E1000E, "assign-busy")},
    ),
    "stopped device model": (captured("stopped_qemu_leaks_vectors.rows.txt"), {(NVME, "leftover-pirqs")}),
    "next guest beside it": (captured("stopped_qemu_blocks_next_guest.rows.txt"), {(NVME, "leftover-pirqs")}),
    "late teardown": (captured("late_teardown_masks_new_owner.rows.txt"), {(RNG, "masked-by-xen")}),
    "zombies": (captured("zombies_of_stopped_qemu.counted_xl_dmesg.txt"), {(NVME, "leftover-pirqs")}),
    "forced detach": (captured("forced_detach_keeps_bindings.rows.txt"), {(NVME, "leftover-pirqs")}),
    "unbound in use": (
        captured("virtio_rng_hvm_unbound_from_pciback_in_use.dom0_dmesg_of_run.txt"),
        {(RNG, "leftover-pirqs")},
    ),
    "libvirt": (LIBVIRT, {(RNG, "quarantine-kept")}),
    "pv driver": (PV_KEEPS, {(RNG, "unbound-under-owner")}),
    "pv takes the hazard": (
        "(XEN) cannot mask IRQ 40: masking MSI-X on Dom32753's 0000:02:00.0\n",
        {(RNG, "maskall-set")},
    ),
    "firmware": (FIRMWARE, {(NVME, "firmware-maskall")}),
}  # fmt: skip
HEALTHY = [
    "nvme_assignable.xl_dmesg.txt",
    "nvme_in_running_guest.xl_dmesg.txt",
    "guest_running.counted_xl_dmesg.txt",
    "no_guest_alive.counted_xl_dmesg.txt",
    "virtio_rng_pv_unbound_from_pciback_in_use.xl_dmesg_of_run.txt",
    "virtio_rng_triple_fault.xl_dmesg_of_run.txt",
    "healthy_dom0.dmesg.txt",
    "nvme_assignable.lspci.txt",
    "nvme_in_running_guest.lspci.txt",
]


@pytest.mark.parametrize("name", CASES)
def test_known_signatures(name: str) -> None:
    text, expected = CASES[name]
    explanation = told(text)
    assert found(explanation) == expected
    assert explanation.verdict is ExplainStatus.SIGNATURE
    for host in explanation.hosts:
        for device in host.devices:
            for one in device.findings:
                assert one.lines, "each finding shows its lines"
                for place in one.lines:
                    assert text.splitlines()[place.line - 1].strip() == place.text


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_gives_nothing(name: str) -> None:
    explanation = told(captured(name))
    assert (found(explanation, None), explanation.verdict, explanation.reasons) == (set(), ExplainStatus.NOTHING, ())


def test_every_signature_is_seen_by_a_test_and_its_fix_is_registered() -> None:
    seen = {signature for _, expected in CASES.values() for _, signature in expected}
    assert seen == {name for name, one in SIGNATURES.items() if one.kind is SignatureKind.CLASS}
    assert all(commit in registry() for one in SIGNATURES.values() for commit in one.fixes)


def test_the_scenarios_that_are_named_exist() -> None:
    devices = [Candidate("virtio-rng", "virtio-rng"), Candidate("e1000e", "e1000e", reset_effective=False)]
    known = {one.id for one in all_scenarios(CATALOGUE, devices)}
    for name, one in SIGNATURES.items():
        if one.scenario:
            assert one.scenario.split()[-1] in known, name
        if one.document:
            assert (CAPTURED.parents[3] / one.document).exists(), name


def test_debug_keys_in_any_order() -> None:
    header = {"M": "(XEN) MSI information:\n", "Q": "(XEN) ==== PCI devices ====\n", "i": "(XEN) IRQ information:\n"}
    rows = captured("late_teardown_masks_new_owner.rows.txt").splitlines(keepends=True)
    mark = {"M": "vec=", "Q": " - node ", "i": " vec:"}
    dumps = {key: header[key] + "".join(row for row in rows if mark[key] in row) for key in header}
    dumps["i"] += "(XEN) Direct vector information:\n"
    for order in itertools.permutations("MQi"):
        assert found(told("".join(dumps[key] for key in order))) == {(RNG, "masked-by-xen")}, order


def test_vectors_that_were_never_bound_may_be_spare_ones() -> None:
    for text in (PV_LSPCI + PV_LEFT, PV_WORKS + PV_LEFT):  # not seen bound; not seen enabled
        explanation = told(text)
        assert (found(explanation), found(explanation, SignatureKind.UNCLEAR)) == (set(), {(RNG, "stale-or-spare")})
        assert explanation.verdict is ExplainStatus.CANNOT_TELL


REPLAYS = {
    "known-forced-detach": {"leftover-pirqs"},
    "known-late-teardown": {"leftover-pirqs", "masked-by-xen"},
    "known-pv-keeps-msix": {"unbound-under-owner"},
    "known-save": set(),
    "known-stopped-device-model": {"leftover-pirqs"},
    "libvirt-known-quarantine": {"quarantine-kept"},
    "no-op-reset": {"maskall-set", "assign-busy"},
    "proven": {"maskall-set", "maskall-kept"},
    "crash": {"maskall-set"},
    "back-to-dom0": set(),
    "lab-error": set(),
    "lab-host": {"maskall-set"},
    "pv-pass": {"maskall-set"},
    "two-devices": {"maskall-set"},
    "libvirt-pass": set(),
    "rounds": set(),
}


def test_every_recorded_run_is_explained() -> None:
    recorded = {path.name.removesuffix(".tar.xz") for path in (CAPTURED.parents[1] / "replay").glob("*.tar.xz")}
    assert recorded == REPLAYS.keys()


@pytest.mark.parametrize("name", REPLAYS)
def test_recorded_runs_show_the_signature_of_their_verdict(name: str) -> None:
    reader = Reader()
    with tarfile.open(CAPTURED.parents[1] / "replay" / f"{name}.tar.xz") as archive:
        for member in sorted(archive.getmembers(), key=lambda one: one.name):
            if member.name.endswith(("xl_dmesg.txt", "dom0_dmesg.txt", "config.hex", "-save.txt")):
                file = archive.extractfile(member)
                assert file is not None
                reader.read(member.name, [file.read() or b"\n"])
    explanation = explain(reader.close())
    assert {signature for _, signature in found(explanation)} == REPLAYS[name]
    assert explanation.verdict is (ExplainStatus.SIGNATURE if REPLAYS[name] else ExplainStatus.NOTHING)
    if name == "known-save":
        assert ("", "saved-with-device") in found(explanation, SignatureKind.OTHER)


def test_what_it_is_not() -> None:
    dead = told((LOGS / "dead_link.dom0.txt").read_text())
    assert found(dead, SignatureKind.OTHER) == {("0000:05:00.0", "dead-link"), ("0000:00:1d.0", "dead-link")}
    refused = told((LOGS / "msix_refused.dom0.txt").read_text())
    assert found(refused, SignatureKind.OTHER) == {("0000:65:00.0", "no-vectors"), ("0000:83:00.0", "no-vectors")}
    storm = told('[  10.000000] irq 16: nobody cared (try booting with the "irqpoll" option)\n')
    assert found(storm, None) == {("", "storm")}
    vpd = told("[  10.000000] pciback 0000:05:00.0: failed VPD read at offset 0\n")
    assert found(vpd, None) == {("0000:05:00.0", "vpd")}
    clash = told((LOGS / "bars_clash.console.txt").read_text())
    assert found(clash, None) == {("", "bar-clash")}
    assert found(told(SAVED), None) == {("", "saved-with-device")}
    assert {one.verdict for one in (dead, refused, storm, vpd, clash)} == {ExplainStatus.NOTHING}


def test_a_device_with_msi_alone_cannot_have_it() -> None:
    text = captured("nvme_assignable.lspci.txt").replace("MSI-X: Enable- Count=65 Masked-", "MSI: Enable+ Count=1/1")
    explanation = told(text)
    assert found(explanation, SignatureKind.OTHER) == {(NVME, "no-msix")}
    assert explanation.verdict is ExplainStatus.NOTHING
    cut = told(text[: text.index("\tCapabilities")])
    assert (cut.verdict, found(cut, None)) == (ExplainStatus.CANNOT_TELL, set())


def test_the_fix_and_whether_this_xen_has_it() -> None:
    for version, answer in (("4.12.1", Answer.NO), ("4.12.2", Answer.YES), ("4.20.4-pre", Answer.YES)):
        (host,) = told(f"xen_version            : {version}\n" + CASES["hazard"][0]).hosts
        (fix,) = host.devices[0].findings[0].fixes
        assert (fix.commit, fix.present) == ("575e18d54d19", answer), version
    (host,) = told(CASES["kept"][0]).hosts
    assert host.devices[0].findings[0].fixes[0].present is Answer.UNKNOWN
    assert "xl info" in host.devices[0].capture


CORRECTED = "[    3.499123] pcieport 0000:00:1d.0: AER: Multiple Corrected error received: 0000:05:00.0\n"
NO_DETAILS = "[    3.499130] pcieport 0000:00:1d.0: AER: found no error details for 0000:05:00.0\n"
RETRAINING = "[    1.100000] pci 0000:00:01.1: broken device, retraining non-functional downstream link at 2.5GT/s\n"
SLOW = "[    3.209981] pciback 0000:05:00.0: not ready 1023ms after FLR; waiting\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CORRECTED, {("0000:00:1d.0", "corrected-errors")}),
        (CORRECTED.replace("Corrected", "Uncorrected (Fatal)"), {("0000:00:1d.0", "dead-link")}),
        (CORRECTED + NO_DETAILS, {("0000:00:1d.0", "corrected-errors")}),
        (
            "[    9.100000] pcieport 0000:00:1c.0: pciehp: Timeout on hotplug command 0x1038 (issued 65 msec ago)\n",
            set(),
        ),
        (
            "[   10.000000] dpc 0000:00:1d.0:pcie010: DPC containment event, status:0x1f01 source:0x0000\n"
            "[   10.000001] pciehp 0000:00:1c.4:pcie004: Slot(4): Link Down\n",
            {("0000:00:1d.0", "dead-link"), ("0000:00:1c.4", "dead-link")},
        ),
        (RETRAINING, set()),
        (RETRAINING + "[    2.1] pci 0000:00:01.1: removing 2.5GT/s downstream link speed restriction\n", set()),
        (RETRAINING + "[    2.100000] pci 0000:00:01.1: retraining failed\n", {("0000:00:01.1", "dead-link")}),
        ("[    3.100000] pcieport 0000:00:1d.0: Data Link Layer Link Active not cleared in 1000 msec\n", set()),
        (SLOW, {("0000:05:00.0", "dead-link")}),
        (SLOW + "[    5.400000] pciback 0000:05:00.0: ready 4095ms after FLR\n", set()),
        (SLOW + "[    5.400000] pciback 0000:06:00.0: ready 4095ms after FLR\n", {("0000:05:00.0", "dead-link")}),
        (
            SLOW
            + "[   90.000000] pciback 0000:05:00.0: not ready 65535ms after FLR; giving up\n"
            + "[   95.400000] pciback 0000:05:00.0: ready 1023ms after bus reset\n",
            {("0000:05:00.0", "dead-link")},
        ),
        (
            "(XEN) AMD-Vi: IO_PAGE_FAULT: 0000:00:14.0 d0 addr fffffffdf8000000 flags 0x8 I\n",
            {("0000:00:14.0", "stopped-interrupts")},
        ),
        (
            "(XEN) AMD-Vi: IO_PAGE_FAULT: 0000:00:14.0 d3 addr 00000000f0001000 flags 0x20 RW\n",
            {("0000:00:14.0", "dma-fault")},
        ),
        (
            "(XEN) [VT-D]INTR-REMAP: Request device [0000:f0:1f.0] fault index 0, iommu reg = ffff82c00021f000\n",
            {("0000:f0:1f.0", "stopped-interrupts")},
        ),
    ],
)
def test_the_cause_is_the_one_that_the_line_names(text: str, expected: Found) -> None:
    explanation = told(text)
    assert (explanation.verdict, found(explanation, None)) == (ExplainStatus.NOTHING, expected)


def test_vectors_left_behind_need_a_fix_too_where_xen_lacks_it() -> None:
    for version, answer in (("4.14.1", Answer.NO), ("4.14.2", Answer.YES), ("4.19.3", Answer.YES)):
        (host,) = told(f"xen_version            : {version}\n" + CASES["forced detach"][0]).hosts
        (fix,) = host.devices[0].findings[0].fixes
        assert (fix.commit, fix.present) == ("58427889f5", answer), version


@pytest.mark.parametrize(
    ("text", "alone"),
    [
        ("(XEN) d6: assign (0000:04:00.0) failed (-16)\n", True),
        ("(XEN) XEN_DOMCTL_assign_device: assign 0000:04:00.0 to dom6 failed (-16)\n", False),
        ("libxl: libxl_pci.c:1498:pci_add_dm_done: xc_assign_device failed: Device or resource busy\n", False),
    ],
)
def test_a_refusal_that_another_owner_causes_too_says_so(text: str, alone: bool) -> None:
    (host,) = told(text).hosts
    (one,) = (*host.findings, *(finding for device in host.devices for finding in device.findings))
    assert one.signature == "assign-busy" and (not one.note) == alone


def test_maskall_that_did_not_survive_says_so() -> None:
    (host,) = told(captured("nvme_masked_by_injection.xl_dmesg.txt"), captured("nvme_in_running_guest.lspci.txt")).hosts
    (one,) = host.devices[0].findings
    assert (one.signature, "did not survive" in one.note) == ("maskall-set", True)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (captured("nvme_masked_by_injection.lspci.txt"), "MASKALL is set while MSI-X is off"),
        ((LOGS / "capability_chain_broken.lspci.txt").read_text(), "the list breaks off at [50] <chain broken>"),
        ((LOGS / "torn_by_dom0_console.console.txt").read_text(), "a line cannot be read: log1:5:"),
        ("(XEN) printk: 26235 messages suppressed.\n", "lines are missing: log1:1:"),
        ("(XEN) cannot mask IRQ 45: masking MSI-X on Dom3\n", "a line cannot be read: log1:1:"),
        ("(XEN) cannot mask 1RQ 45: masking MS1-X on Dom3's 0000:04:00.0\n", "a line cannot be read: log1:1:"),
        ((LOGS / "vmd.lspci_dn.txt").read_text(), "lspci only names devices"),
        (
            captured("nvme_assignable.lspci.txt").split("\tCapabilities")[0] + "\tCapabilities: <access denied>\n",
            "without privilege",
        ),
    ],
)
def test_what_cannot_be_told(text: str, why: str) -> None:
    explanation = told(text)
    assert (explanation.verdict, found(explanation)) == (ExplainStatus.CANNOT_TELL, set())
    assert why in explanation.reasons[0]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "compressed with gzip"),
        (bytes(range(256)) * 40, "binary"),
        (b"\x7fELF\x02\x01\x01" + bytes(200), "a program"),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), "a picture"),
        (b"Hello all,\n\nmy card does not work in the guest. What now?\n", "nothing of Xen, a kernel or lspci"),
        (b"(KEN) cann0t rnask lRQ 45; masklng MSl-X 0n D0m3's OOOO:O4:OO.O\n", "nothing of Xen, a kernel or lspci"),
    ],
)
def test_what_cannot_be_read(data: bytes, why: str) -> None:
    explanation = told(data)
    assert explanation.verdict is ExplainStatus.UNREADABLE
    assert why in explanation.files[0].told
    beside = told(data, CASES["hazard"][0])
    assert found(beside) == CASES["hazard"][1]


@pytest.mark.parametrize("name", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "latin-1"])
def test_other_encodings(name: str) -> None:
    text = "Grüße\n" * 3 + CASES["hazard and lspci"][0]
    assert found(told(text.encode(name))) == CASES["hazard and lspci"][1]


def quoted(text: str, mark: str = "> ") -> str:
    return "".join(f"{mark}{line}" for line in text.splitlines(keepends=True))


PREFIXES: list[Callable[[int], str]] = [
    lambda number: f"[2026-11-23 07:{number // 60 % 60:02}:{number % 60:02}] ",
    lambda number: f"2026-11-23T07:{number // 60 % 60:02}:{number % 60:02}.123Z ",
    lambda number: f"07:{number // 60 % 60:02}:{number % 60:02} ",
    lambda number: f"[Mon Nov 23 07:{number // 60 % 60:02}:{number % 60:02} 2026] ",
]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("mark", ["> ", ">", "> > ", ">> ", "| "])
def test_quoted(name: str, mark: str) -> None:
    text, expected = CASES[name]
    assert found(told("On Monday somebody wrote:\n" + quoted(text, mark))) == expected


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_with_the_time_of_a_logger(name: str, prefix: Callable[[int], str]) -> None:
    text, expected = CASES[name]
    lines = [f"{prefix(number)}{line}" for number, line in enumerate(text.splitlines(keepends=True))]
    assert found(told("".join(lines))) == expected


def wrapped(text: str, width: int) -> str:
    """As a mail program breaks lines: at blanks, which are lost there."""
    out = []
    for line in text.splitlines():
        out += textwrap.wrap(line, width, break_long_words=False, drop_whitespace=True) if len(line) > width else [line]
    return "\n".join(out) + "\n"


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("width", [72, 76, 78])
def test_wrapped_by_a_mail_program(name: str, width: int) -> None:
    text, expected = CASES[name]
    assert found(told(wrapped(text, width))) == expected
    assert found(told(quoted(wrapped(text, width)))) == expected


def test_blocks_of_any_size_give_the_same() -> None:
    text = "".join(text for text, _ in CASES.values())
    whole = told(text)
    for block in (1, 7, 100, 4096):
        assert told(text if block > 1 else text[:20000], block=block).hosts == (
            whole.hosts if block > 1 else told(text[:20000]).hosts
        )


def less(explanation: Explanation, expected: Found) -> None:
    """Nothing but what the whole text shows, and what is lost of it is not called healthy where lines are broken."""
    assert found(explanation) <= expected | {("", name) for _, name in expected}  # whose it is may be lost
    if not found(explanation) and explanation.reasons:
        assert explanation.verdict in (ExplainStatus.CANNOT_TELL, ExplainStatus.UNREADABLE)


SAMPLES = list(CASES.values()) + [(captured(name), set()) for name in HEALTHY]


@given(st.sampled_from(SAMPLES), st.integers(0, 20000), st.integers(0, 20000))
def test_cut_at_both_ends(sample: tuple[str, Found], start: int, end: int) -> None:
    text, expected = sample
    less(told(text[start % len(text) : len(text) - end % len(text)]), expected)


@given(st.sampled_from(SAMPLES), st.integers(0, 20000), st.integers(1, 40))
def test_lines_lost_in_the_middle(sample: tuple[str, Found], start: int, lost: int) -> None:
    text, expected = sample
    lines = text.splitlines(keepends=True)
    at = start % len(lines)
    less(told("".join(lines[:at] + lines[at + lost :])), expected)


NOISE = [
    "\n",
    "\n[   12.345678] usb 1-1: new device\n",
    "(XEN) d1v0: upcall vector f3\n",
    "4",
    "]",
    "\x00",
    "\r\n",
    " \n",
]


@given(st.sampled_from(SAMPLES), st.lists(st.tuples(st.integers(0, 20000), st.sampled_from(NOISE)), max_size=8))
def test_torn(sample: tuple[str, Found], tears: list[tuple[int, str]]) -> None:
    text, expected = sample
    for at, noise in tears:
        text = text[: at % len(text)] + noise + text[at % len(text) :]
    less(told(text), {(device, name) for device, name in expected} | _renumbered(text, expected))


def _renumbered(text: str, expected: Found) -> Found:
    """A digit that was added to an address of the text makes it another device's; that is what the text then says."""
    addresses = set(
        re.findall(r"\b[0-9a-f]{1,5}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]|\b[0-9a-f]{2}:[01][0-9a-f]\.[0-7]", text)
    )
    whole = {address if address.count(":") == 2 else f"0000:{address}" for address in addresses}
    return {(device, name) for device in whole for _, name in expected}


@given(st.sampled_from(SAMPLES), st.integers(40, 120), st.integers(0, 3), st.integers(0, 5000))
def test_wrapped_and_quoted_at_any_width(sample: tuple[str, Found], width: int, depth: int, start: int) -> None:
    text, expected = sample
    text = text[start % len(text) :]
    for _ in range(depth):
        text = quoted(text)
    less(told(wrapped(text, width)), expected)


@given(st.text() | st.binary())
def test_anything_at_all(data: str | bytes) -> None:
    text = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    explanation = told(text)
    assert found(explanation) == set()
    assert all(line.isprintable() for line in as_text(explanation))


def test_ten_hosts_mixed() -> None:
    lines: list[str] = []
    for number in range(10):
        rows = CASES["forced detach"][0] if number == 3 else captured("nvme_assignable.debugkey_Q.txt")
        lines += [f"xenbox{number}: {line}" for line in rows.splitlines(keepends=True)]
    shuffled = sorted(range(len(lines)), key=lambda at: (at % 7, at))
    explanation = told("".join(lines[at] for at in shuffled))
    assert {host.host for host in explanation.hosts if any(device.findings for device in host.devices)} <= {"xenbox3"}
    assert len(explanation.hosts) == 10


def test_two_hosts_without_names_are_noticed() -> None:
    other = captured("nvme_assignable.lspci.txt").replace("Non-Volatile memory controller", "Ethernet controller")
    explanation = told(captured("nvme_assignable.lspci.txt") + other)
    assert explanation.verdict is ExplainStatus.CANNOT_TELL
    assert "more than one host" in explanation.reasons[0]


def test_a_guest_cannot_speak_for_xen() -> None:
    forged = "".join(f"(d3) {line}" for line in CASES["hazard"][0].splitlines(keepends=True))
    assert found(told(forged), None) == set()


@pytest.mark.parametrize(
    ("line", "times"),
    [
        (f"MSI-X on=3D{'a' * 60_000}\n", 200),  # of quoted-printable
        (f"(XEN) ==== PCI devices ====\n(XEN) {NVME} - d3 - node 0 - MSIs < 1 2\n3\n4\n5\n{' 6' * 30_000}x\n", 40),
        (f"(XEN) ==== PCI devices ====\n(XEN) {NVME} - d3 - node 0 - MSIs < 1 2\n3\n4\n5\n6{' ' * 60_000}x\n", 40),
    ],
)
def test_long_lines_take_as_long_as_they_are(line: str, times: int) -> None:
    """Not as their square: then this would not come to its end in time."""
    assert told(line * times).verdict is not ExplainStatus.SIGNATURE


def test_memory_does_not_grow_with_the_text() -> None:
    reader = Reader()
    chunk = captured("nvme_masked_by_injection.xl_dmesg.txt").encode() * 8
    generator = random.Random(1)  # noqa: S311 - no secret
    reader.read("log", (chunk if generator.random() < 0.5 else b"(XEN) noise\n" * 5000 for _ in range(60)))
    assert len(reader._window.text) < 1 << 20
    (host,) = explain(reader.close()).hosts
    (one,) = host.devices[0].findings
    assert one.count > 100
    assert len(one.lines) <= 6


def of_one_boot(stamp: str, order: str) -> list[str]:
    """`xl dmesg` saved after each key that was pressed, without what was saved before but for the boot."""
    masked = PV_ROWS.format(mask="H ", first="in-flight=0 d1: 55(-M-)", second="in-flight=0 d1: 54(-M-)")
    begins = [masked.index(header) for header in ("(XEN) MSI info", "(XEN) ==== PCI", "(XEN) IRQ info")]
    dumps = dict(zip("MQi", (masked[a:b] for a, b in itertools.pairwise([*begins, None])), strict=True))
    boot = "(XEN) Xen version 4.17.5 (Debian 4.17.5-1) (builder@example.org)\n(XEN) Command line: loglvl=all\n"
    return [(boot + dumps[key]).replace("(XEN) ", f"(XEN) {stamp}") for key in order]


@pytest.mark.parametrize("order", ["".join(keys) for keys in itertools.permutations("MQi")])
@pytest.mark.parametrize("stamp", ["[0000001b2c3d4e5f] ", "[2024-01-05 10:11:12] ", "[    1.234567] "])
def test_a_boot_that_was_saved_once_per_key_is_one_boot(order: str, stamp: str) -> None:
    saved = of_one_boot(stamp, order)
    assert found(told(*saved)) == {(RNG, "masked-by-xen")}
    assert found(told("".join(saved))) == {(RNG, "masked-by-xen")}
    whole = [saved[0], saved[0] + saved[1], "".join(saved)]  # each saved with all that was said before
    for files in itertools.permutations(whole):
        assert found(told(*files)) == {(RNG, "masked-by-xen")}


@pytest.mark.parametrize("stamps", [("", ""), ("[    0.000000] ", "[    0.000000] "), ("[    1.2] ", "[    1.3] ")])
def test_boots_that_nothing_shows_to_be_one_are_not(stamps: tuple[str, str]) -> None:
    first, second = (of_one_boot(stamp, "MQi") for stamp in stamps)
    explanation = told(first[0], second[1] + second[2])
    assert found(explanation) == set()
    assert explanation.verdict is ExplainStatus.CANNOT_TELL


def test_a_key_that_was_pressed_again_in_one_boot_shows_another_moment() -> None:
    saved = of_one_boot("[    1.234567] ", "MQi")
    later = saved[0].replace("mask=1/H /1", "mask=1/  /0")
    explanation = told(saved[0], later, saved[1], saved[2])
    assert found(explanation) == set()
    assert explanation.verdict is ExplainStatus.CANNOT_TELL
