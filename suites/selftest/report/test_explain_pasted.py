"""Logs as other people's hosts and programs give them: stamps in any language, quoting, entities, old versions of Xen.

`data/pasted.txt` has them, each behind a line with its name, the exit status, and what of this class is in it; that was
decided from the sources before it was tried. A new case is a piece of that file.
"""

from __future__ import annotations

import random
import re
import textwrap

import pytest

from harness.report.explain.tell import ExplainStatus
from suites.selftest.fakes.hostile import CAPTURED
from suites.selftest.report.test_explain import Found, found, told

_HEAD = re.compile(rb"^=== (.+) \| ([0-3]) \| ?(.*)\n", re.MULTILINE)


def _cases() -> dict[str, tuple[bytes, int, Found]]:
    parts = _HEAD.split((CAPTURED.parent / "pasted.txt").read_bytes())
    cases = {}
    for name, status, shown, text in zip(*(parts[place::4] for place in range(1, 5)), strict=True):
        words = [one.split() for one in shown.decode().split(",") if one.strip()]
        cases[name.decode()] = text, int(status), {(device.strip("-"), what) for device, what in words}
    return cases


CASES = _cases()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("block", [1 << 20, 3])
def test_as_it_was_pasted(name: str, block: int) -> None:
    text, status, expected = CASES[name]
    explanation = told(text, block=block)
    assert found(explanation) == expected, explanation.reasons
    assert explanation.verdict == status, explanation.reasons


def test_there_are_cases() -> None:
    assert len(CASES) > 355


DEVICE = "0000:04:00.0"
MESSAGES = {  # what is of this class, from the word on from which it is told from anything else
    "Sep 02 12:03:44 node1 kernel: |pciback 0000:04:00.0: xen_pciback: MSI-X release failed (-16)": "leftover-pirqs",
    "[  123.456789] |pciback 0000:04:00.0: xen_pciback: MSI-X preparation failed (-16)": "leftover-pirqs",
    "[  123.456789] virtio-pci 0000:04:00.0: |xen map irq failed -19 for 32752 domain": "quarantine-kept",
    "(XEN) [2025-09-02 12:03:44] |cannot mask IRQ 145: masking MSI-X on Dom32753's 0000:04:00.0": "maskall-set",
    "(XEN) |cannot disable IRQ 145: masking MSI-X on 0000:04:00.0": "maskall-set",
    "(XEN) [ 1234.567890] d[IO]: |assign (0000:04:00.0) failed (-16)": "assign-busy",
    "(XEN) |XEN_DOMCTL_assign_device: assign 0000:04:00.0 to dom6 failed (-16)": "assign-busy",
    "(XEN) 0000:04:00.0: |unexpected initial MSI-X state (MASKALL=1, ENABLE=0), fixing": "firmware-maskall",
    "libxl: libxl_pci.c:1498:pci_add_dm_done: |xc_assign_device failed: Device or resource busy": "assign-busy",
    "\tCapabilities: [70] |MSI-X: Enable+ Count=10 Masked+": "maskall-kept",
}
MARKS = ">\N{HORIZONTAL ELLIPSIS}"  # of a pager
BEFORE = "[  120.000000] pciback 0000:05:00.0: xen_pciback: seizing device\n"
AFTER = "[  124.000000] pciback 0000:05:00.0: registering for 3\n"


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_that_a_mail_program_wrapped_is_still_seen(message: str) -> None:
    whole = message.replace("|", "").strip()
    device = DEVICE if DEVICE in whole else ""
    for width in range(44, len(whole) + 2):
        wrapped = textwrap.fill(
            whole,
            width,
            initial_indent="> > ",
            subsequent_indent="> > ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        explanation = told(f"{BEFORE}{wrapped}\n{AFTER}")
        assert found(explanation) == {(device, MESSAGES[message])}, wrapped


OTHERS = (
    "[  123.456789] pciback 0000:04:00.0: xen_pciback: MSI-X release failed (-22)",
    "[  123.456789] nvme 0000:04:00.0: xen map irq failed -28 for 32752 domain",
    "(XEN) d[IO]: assign (0000:04:00.0) failed (-22)",
    "(XEN) d3: deassign (0000:04:00.0) failed (-16)",
    "(XEN) Potentially insecure use of MSI-X on 0000:04:00.0 by d3",
    "libxl: error: libxl_pci.c:1561:pci_add_dm_done: Domain 7:xc_assign_device failed: Invalid argument",
    "libxl: error: libxl_pci.c:1440:pci_add_dm_done: Domain 7:xc_physdev_map_pirq irq=16 (error=-1): Not permitted",
    "libxl: error: libxl_pci.c:2009:do_pci_remove: Domain 7:xc_deassign_device failed: Device or resource busy",
)


@pytest.mark.parametrize("within_words", [False, True])
@pytest.mark.parametrize("message", OTHERS)
def test_a_message_of_another_error_that_was_wrapped_is_no_torn_one(message: str, within_words: bool) -> None:
    for width in range(44, len(message)):
        words = textwrap.wrap(message, width, break_long_words=False, break_on_hyphens=False)
        signs = [message[place : place + width] for place in range(0, len(message), width)]
        wrapped = "\n".join(signs if within_words else words)
        assert told(f"{BEFORE}{wrapped}\n{AFTER}").verdict is ExplainStatus.NOTHING, wrapped


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_that_is_cut_is_never_nothing(message: str) -> None:
    whole = message.replace("|", "")
    for end in range(whole.find(" ", message.index("|")), len(whole)):
        kept = f"{BEFORE}{whole[:end]}"
        for text in (kept, f"{kept}\n", *(f"{kept}{mark}\n{AFTER}" for mark in MARKS)):
            assert told(text).verdict != ExplainStatus.NOTHING, text


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_whose_beginning_is_gone_is_never_nothing(message: str) -> None:
    whole = message.replace("|", "").strip()
    for begin in range(1, len(whole) - 12):
        if whole[begin:].lstrip(" [").startswith(("2025", "1234")):
            continue  # Xen's own time, so that it looks like a kernel's
        assert told(f"{whole[begin:]}\n{BEFORE}").verdict != ExplainStatus.NOTHING, whole[begin:]


@pytest.mark.parametrize(("owner", "verdict"), [("d3", ExplainStatus.NOTHING), ("DomIO:8008", ExplainStatus.SIGNATURE)])
def test_a_device_with_very_many_vectors_wrapped(owner: str, verdict: ExplainStatus) -> None:
    irqs = " ".join(map(str, range(40, 240)))
    row = f"(XEN) 0000:04:00.0 - {owner} - node 1   - MSIs < {irqs} >"
    wrapped = textwrap.fill(row, 72, initial_indent="> ", subsequent_indent="> ")
    assert told(f"> (XEN) ==== PCI devices ====\n{wrapped}\n{AFTER}").verdict is verdict
    cut = wrapped.removesuffix(">")
    assert told(f"> (XEN) ==== PCI devices ====\n{cut}\n{AFTER}").verdict is ExplainStatus.CANNOT_TELL


@pytest.mark.parametrize("where", ["before", "behind", "within"])
def test_zeros_that_a_power_cut_leaves_in_a_log(where: str) -> None:
    hazard = b"(XEN) cannot disable IRQ 145: masking MSI-X on 0000:04:00.0\n"
    zeros = bytes(70_000)
    text = {"before": zeros + hazard, "behind": hazard + zeros, "within": BEFORE.encode() + zeros + hazard}[where]
    assert found(told(text)) == {(DEVICE, "maskall-set")}


@pytest.mark.parametrize(
    ("row", "last"),
    [
        ("(XEN)  MSI-X   44 vec=b2  fixed  edge   assert phys    cpu dest=00000000 mask=1/H /1", "mask="),
        ("(XEN) 0000:04:00.0 - DomIO:8008 - node -1  - MSIs < 44 45 >", "44"),
        ("(XEN)    IRQ:  44 vec:b2 PCI-MSI/-X      status=002 aff:{0}/{0} mapped, unbound", "mapped"),
    ],
)
def test_a_row_whose_beginning_is_gone_is_never_nothing(row: str, last: str) -> None:
    for begin in range(6, row.index(last) + 1):
        assert told(f"{row[begin:]}\n(XEN) d1v0: upcall vector f3\n").verdict is ExplainStatus.CANNOT_TELL, row[begin:]


DAMAGES = {
    "a sign lost": lambda text, place: text[:place] + text[place + 1 :],
    "three lost": lambda text, place: text[:place] + text[place + 3 :],
    "another sign": lambda text, place: f"{text[:place]}\N{REPLACEMENT CHARACTER}{text[place + 1 :]}",
    "a prompt in it": lambda text, place: f"{text[:place]}root@dom0:~# {text[place:]}",
    "a getty in it": lambda text, place: (
        f"{text[:place]}\n\nDebian GNU/Linux 12 dom0 hvc0\n\ndom0 login: {text[place:]}"
    ),
    "a guest in it": lambda text, place: f"{text[:place]}(d3) hello\n{text[place:]}",
    "a kernel in it": lambda text, place: f"{text[:place]}[  123.456789] usb 1-1: new device{text[place:]}",
    "Xen in it": lambda text, place: f"{text[:place]}(XEN) d1v0: upcall vector f3{text[place:]}",
    "wrapped": lambda text, place: f"{text[:place]}\n{text[place:]}",
}
NUMBERS = re.compile(r"\(-16\)|-19 for 32752")  # with another one it is another message, as whole as this one


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_that_is_damaged_anywhere_is_never_nothing(message: str, damage: str) -> None:
    whole = message.replace("|", "")
    number = NUMBERS.search(whole)
    for place in range(message.index("|"), len(whole) - 1):
        if number and place + 3 > number.start() and place < number.end() and damage in ("a sign lost", "three lost"):
            continue
        text = f"{BEFORE}{DAMAGES[damage](whole, place)}\n{AFTER}"
        assert told(text).verdict is not ExplainStatus.NOTHING, text


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_capability_that_is_damaged_is_never_none(damage: str) -> None:
    text = CASES["kept"][0].decode()
    begin = text.index("Capabilities: [b0]")
    for place in range(begin, text.index("Masked+") + len("Masked")):
        torn = DAMAGES[damage](text, place)
        assert told(torn).verdict is not ExplainStatus.NOTHING, torn


WRITERS = ("[  123.456789] usb 1-1: new device\n", "(XEN) d1v0: upcall vector f3\n")
WRITTEN = (
    "[  123.456789] pciback 0000:04:00.0: xen_pciback: MSI-X release failed (-16)",
    "(XEN) cannot mask IRQ 42: masking MSI-X on Dom2's 0000:04:00.0",
    "(XEN) cannot disable IRQ 42: masking MSI-X on 0000:04:00.0",
    "(XEN) d[IO]: assign (0000:04:00.0) failed (-16)",
    "(XEN) 0000:04:00.0: unexpected initial MSI-X state (MASKALL=1, ENABLE=0), fixing",
    "(XEN) 0000:04:00.0 - DomIO:8008 - node -1  - MSIs < 44 45 >",
)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("message", WRITTEN)
def test_a_message_in_which_another_writer_wrote_a_line_is_never_nothing(message: str, writer: str) -> None:
    for place in range(1, len(message)):
        torn = f"{message[:place]}{writer}{message[place:]}\n"
        assert told(f"{WRITERS[1]}{torn}{WRITERS[1]}").verdict is not ExplainStatus.NOTHING, torn


def mixed(first: str, second: str, most: int, chance: random.Random) -> str:
    """Both as they come out of a serial line that two write to at once."""
    texts, out = [first, second], []
    while any(texts):
        which = chance.randrange(2)
        size = chance.randint(1, most)
        out.append(texts[which][:size])
        texts[which] = texts[which][size:]
    return "".join(out)


@pytest.mark.parametrize("name", ["keys masked", "kept", "keys healthy"])
@pytest.mark.parametrize("most", [4, 16, 40])
def test_two_who_write_sign_by_sign_are_never_nothing(name: str, most: int) -> None:
    text, chance = CASES[name][0].decode(), random.Random(most)  # noqa: S311 - no secret
    other = "".join(f"[  123.45{number:04}] usb 1-1: new high-speed USB device\n" for number in range(40))
    for _ in range(10):
        explanation = told(mixed(text, other, most, chance) + other)
        assert explanation.verdict is not ExplainStatus.NOTHING
        assert explanation.verdict is ExplainStatus.CANNOT_TELL or CASES[name][1] == ExplainStatus.SIGNATURE


@pytest.mark.parametrize(
    "line",
    [
        "[  OK  ] Started a service.",
        "[  PASS ] test",
        "a (XFS) b (X11) c",
        "[1.5GB] [10de:1b80] [2a01::1]",
        "[ 0] RxErr",
        "[  1.2s] built (XE_LPD)",
    ],
)
def test_what_only_looks_like_two_writers_is_healthy(line: str) -> None:
    assert told(f"{BEFORE}{line}\n{AFTER}(XEN) d1v0: upcall vector f3\n").verdict is ExplainStatus.NOTHING


TWO_ROWS = (
    "(XEN) 0000:05:00.0 - d0 - node -1 \n(XEN) 0000:04:00.0 - d2 - node -1  - MSIs < 44 45 >\n",
    "(XEN) 0000:05:00.0 - d0 - node -1  - MSIs < 46 >\n(XEN) 0000:04:00.0 - d2 - node -1  - MSIs < 44 45 >\n",
)
HEALTHY = "(XEN)    IRQ:  44 vec:b2 PCI-MSI/-X      status=030 aff:{0}/{0} in-flight=0 d2: 55(-M-)\n"


@pytest.mark.parametrize("writer", ["\n", *WRITERS])
@pytest.mark.parametrize("rows", TWO_ROWS)
def test_the_rest_of_a_row_is_never_taken_for_that_of_another(rows: str, writer: str) -> None:
    for place in range(len(rows) // 2, len(rows) - 1):
        torn = f"{rows[:place]}{writer}{rows[place:]}{HEALTHY}"
        assert told(f"(XEN) ==== PCI devices ====\n{torn}{WRITERS[1]}").verdict is not ExplainStatus.SIGNATURE, torn


@pytest.mark.parametrize("sign", ["vec=", "dest=", "mask=1/H", "MSIs <", " - node", "status=", "in-flight", "vec:"])
def test_a_row_of_a_vector_that_xen_masks_is_never_nothing_when_another_writer_is_in_it(sign: str) -> None:
    text = CASES["hardware not readable"][0].decode()
    assert told(text).verdict is ExplainStatus.SIGNATURE
    for row in (row for row in text.splitlines() if sign in row and " 44 " in row):
        for place in range(row.index(sign) + 1, row.index(sign) + len(sign)):
            torn = f"{row[:place]}[  123.456789] usb 1-1: new device{row[place:]}"
            assert told(text.replace(row, torn)).verdict is not ExplainStatus.NOTHING, torn


@pytest.mark.parametrize("lines", range(1690, 1730))
def test_config_space_in_hexadecimal_is_read_wherever_a_block_ends(lines: int) -> None:
    text = "(XEN) d1v0: upcall vector f3\n" * lines + CASES["lspci -xxx"][0].decode()
    assert found(told(text, block=100)) == {(DEVICE, "maskall-kept")}


def test_capabilities_that_are_cut_before_a_sign_of_the_next_are_not_all() -> None:
    text = CASES["kept"][0].decode()
    for end in range(text.index("Capabilities: [50]"), text.index("MSI-X: ")):
        assert told(text[:end]).verdict is ExplainStatus.CANNOT_TELL, text[:end]
