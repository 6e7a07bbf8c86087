"""Mutants: nothing is changed unless exactly the expected bytes stand there, and what was written is read back."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakemachine import FakeMachine

from harness.errors import InventoryError, LabError, UsageError
from harness.scenario.spec import catalogue as scenarios
from harness.xen.mutants import Mutant, apply, catalogue, load_mutants, pick
from harness.xen.symbols import parse_xensyms

ENTRY = 0xFFFF82D040300000
TABLE = parse_xensyms(
    f"{ENTRY - 0x1000:016x} T _stext\n{ENTRY:016x} T pci_reset_msix_state\n{ENTRY + 0x1000:016x} T _etext"
)


def mutant(**changed: object) -> Mutant:
    fields = {
        "symbol": "pci_reset_msix_state",
        "original": "53 0f b6 ?? 45",
        "replacement": "31 c0 c3",
        "stands_for": "a defect",
        "notices": ["E14"],
    }
    return Mutant.model_validate(fields | changed)


@pytest.fixture
def machine() -> FakeMachine:
    machine = FakeMachine()
    machine.put(ENTRY, bytes.fromhex("530fb6774548"))
    return machine


def test_it_is_applied_and_read_back(machine: FakeMachine) -> None:
    applied = apply("m", mutant(), TABLE, machine)
    assert machine.log == [f"write {ENTRY:#x} 31c0c3"]
    assert (applied.address, applied.before.hex(), applied.after.hex()) == (ENTRY, "530fb67745", "31c0c3")
    assert not machine.attached


def test_an_offset_is_from_the_start_of_the_function(machine: FakeMachine) -> None:
    applied = apply("m", mutant(offset=1, original="0f b6", replacement="90 90"), TABLE, machine)
    assert (applied.address, machine.log) == (ENTRY + 1, [f"write {ENTRY + 1:#x} 9090"])


def test_the_bytes_of_another_known_build_fit_too(machine: FakeMachine) -> None:
    applied = apply("m", mutant(original="90 90 90 90 90", also=["53 0f b6 ?? 45"]), TABLE, machine)
    assert applied.after == applied.mutant.new_bytes


def test_bytes_of_another_build_that_are_too_few_are_refused() -> None:
    with pytest.raises(ValueError, match="must be as many"):
        mutant(also=["53"])


@pytest.mark.parametrize("original", ["53 0f b7 ?? 45", "54 0f b6 77 45", "53 0f b6 77 45 49"])
def test_other_bytes_are_refused_and_nothing_is_written(machine: FakeMachine, original: str) -> None:
    with pytest.raises(LabError, match=r"mutant m does not fit .* pci_reset_msix_state\+0x0 stands 53 0f b6"):
        apply("m", mutant(original=original), TABLE, machine)
    assert machine.log == []
    assert not machine.attached


def test_text_that_cannot_be_written_is_an_error(machine: FakeMachine) -> None:
    machine.read_only = True
    with pytest.raises(LabError, match=r"reads 53 0f b6 after writing 31 c0 c3"):
        apply("m", mutant(), TABLE, machine)


def test_an_unknown_function_is_refused_before_attaching(machine: FakeMachine) -> None:
    with pytest.raises(LabError, match="the nearest is pci_reset_msix_state"):
        apply("m", mutant(symbol="pci_reset_msi_state"), TABLE, machine)
    assert machine.log == []


@pytest.mark.parametrize(
    ("data", "fits"),
    [("530fb60045", True), ("530fb6ff45", True), ("530fb60046", False), ("530fb600", False), ("", False)],
)
def test_question_marks_match_any_byte(data: str, fits: bool) -> None:
    assert mutant().matches(bytes.fromhex(data)) is fits


def test_our_own_file() -> None:
    known = catalogue()
    assert {"no-maskall-reset"} <= set(known)
    endings = set(scenarios().endings)
    for one in known.values():
        assert set(one.notices) <= endings, "a mutant that promises an ending nobody has"
        assert len(one.replacement) <= len(one.original), "bytes would be overwritten that were never compared"


def test_an_unknown_name_gives_the_nearest() -> None:
    known = catalogue()
    assert pick("no-maskall-reset", known) is known["no-maskall-reset"]
    with pytest.raises(UsageError, match=r"there is no mutant 'no-maskal-reset' \(did you mean no-maskall-reset\?"):
        pick("no-maskal-reset", known)


FILE = """\
mine:
  symbol: foo
  original: "90 ??"
  replacement: "c3"
  stands_for: "something"
  notices: [E14]
"""


def test_a_file_of_the_users_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(FILE)
    assert set(catalogue(file)) == {"mine", *catalogue()}
    file.write_text(FILE.replace("mine:", "no-maskall-reset:"))
    assert catalogue(file)["no-maskall-reset"].symbol == "foo", "the user's own is on top"


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('"90 ??"', '"9 ??"', 3, "pattern"),
        ('"90 ??"', '"90 GG"', 3, "pattern"),
        ('"90 ??"', "90", 3, "bytes are written as"),
        ('"c3"', '"??"', 4, "pattern"),
        ('"c3"', '""', 4, "at least 1"),
        ("  symbol: foo", "  symbol: foo\n  symbl: bar", 3, "symbl"),
        ("[E14]", "[]", 6, "at least 1"),
        ("mine:", "mine", 2, "not YAML"),
        ('"c3"', '"31 c0 c3"', 2, "longer than the original"),
        ('"90 ??"', '"90"\n  offset: -1', 4, "greater than or equal to 0"),
    ],
)
def test_a_malformed_file_is_told_with_its_line(tmp_path: Path, old: str, new: str, line: int, words: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(FILE.replace(old, new))
    with pytest.raises(InventoryError, match=words) as caught:
        load_mutants(file)
    assert str(caught.value).startswith(f"{file}:{line}:")


def test_a_replacement_longer_than_what_was_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="longer"):
        mutant(original="53", replacement="31 c0 c3")
