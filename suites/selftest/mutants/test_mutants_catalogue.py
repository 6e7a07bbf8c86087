"""Our mutants against the code of the three stacks, and what a file of mutants may say."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.base.errors import InventoryError, UsageError
from harness.host.stacks import stacks
from harness.mutants.catalogue import ANY, Mutant, catalogue, changes_on, load_mutants, pick
from harness.mutants.change import ByteChange
from harness.play.catalogue import catalogue as scenarios
from suites.selftest.fakes.mutatedcode import OWN, STACKS, captured, searched

CODE = {stack: captured(stack) for stack in (*STACKS, OWN)}
CHANGES = [
    pytest.param(mutant.layer, stack, change, id=f"{name}-{stack}-{number}")
    for name, mutant in catalogue().items()
    for stack in CODE
    for number, change in enumerate(mutant.changes(None if stack == OWN else stack))
    if isinstance(change, ByteChange)
]


@pytest.mark.parametrize(("layer", "stack", "change"), CHANGES)
class TestEveryPlace:
    def test_is_there_exactly_once(self, layer: str, stack: str, change: ByteChange) -> None:
        assert len(change.offsets_in(searched(CODE[stack], layer, change))) == 1

    def test_is_not_found_again_once_it_is_changed(self, layer: str, stack: str, change: ByteChange) -> None:
        code = searched(CODE[stack], layer, change)
        (offset,) = change.offsets_in(code)
        new = change.applied_to(code[offset : offset + len(change.replace)])
        changed = code[:offset] + new + code[offset + len(new) :]
        assert changed != code
        assert change.offsets_in(changed) == []

    def test_is_refused_when_any_byte_differs(self, layer: str, stack: str, change: ByteChange) -> None:
        code = searched(CODE[stack], layer, change)
        (offset,) = change.offsets_in(code)
        for place, byte in enumerate(change.find):
            if byte != "??":
                broken = bytearray(code)
                broken[offset + place] ^= 0xFF
                assert offset not in change.offsets_in(bytes(broken))


@pytest.mark.parametrize("stack", STACKS)
def test_changes_of_one_mutant_do_not_overlap(stack: str) -> None:
    for name, mutant in catalogue().items():
        taken: set[tuple[str, int]] = set()
        for change in mutant.changes(stack):
            if not isinstance(change, ByteChange):
                continue
            where = getattr(change, "symbol", "")
            (offset,) = change.offsets_in(searched(CODE[stack], mutant.layer, change))
            bytes_ = {(where, offset + place) for place in range(len(change.replace))}
            assert not taken & bytes_, name
            taken |= bytes_


def test_the_catalogue_is_wide_enough() -> None:
    known = catalogue().values()
    assert len(known) >= 12
    assert {mutant.layer for mutant in known} == {"hypervisor", "dom0", "device-model"}


def test_what_every_control_is_fits_a_build_of_ones_own() -> None:
    """The endings' own controls break the hypervisor: none of them is for the stacks' builds only."""
    of_xen = [name for name in scenarios().controls if catalogue()[name].layer == "hypervisor"]
    assert len(of_xen) >= 7
    assert [name for name in of_xen if not catalogue()[name].changes(None)] == []


def test_a_stack_with_another_qemu_has_the_mutants_of_its_hypervisor() -> None:
    known, usual, newer = catalogue(), {"stack": "trixie"}, {"stack": "trixie+qemu11"}
    for name in ("wrong-vector-masked", "pciback-reset-skipped", "no-maskall-reset"):
        assert changes_on(known[name], newer) == changes_on(known[name], usual) != ()
    assert changes_on(known["device-model-keeps-pirqs"], newer) == ()


@pytest.mark.parametrize(
    ("part", "name", "fits"),
    [
        ("own_xen", "no-maskall-reset", True),
        ("own_xen", "boot-state-kept", True),
        ("own_xen", "wrong-vector-masked", False),
        ("own_xen", "pciback-reset-skipped", True),
        ("own_dom0_kernel", "pciback-reset-skipped", False),
        ("own_dom0_kernel", "wrong-vector-masked", True),
        ("own_qemu", "device-model-keeps-pirqs", False),
        ("own_guest_kernel", "pciback-reset-skipped", True),
        ("own_xen_tools", "device-model-keeps-pirqs", True),
    ],
)
def test_bytes_of_a_stack_do_not_fit_what_took_its_place(part: str, name: str, fits: bool) -> None:
    assert bool(changes_on(catalogue()[name], {"stack": "trixie", part: "x, SHA-256 0"})) is fits


def test_a_stack_may_have_nothing_to_break() -> None:
    mutant = catalogue()["boot-state-kept"]
    assert mutant.changes("bullseye") == ()
    assert mutant.changes(None) == mutant.changes("trixie") != ()


def test_the_catalogue_names_what_there_is() -> None:
    endings = scenarios().endings
    for name, mutant in catalogue().items():
        assert set(mutant.notices) <= set(endings), f"{name} promises an ending nobody has"
        assert set(mutant.builds) <= {*stacks(), ANY}, f"{name} is made for a stack nobody has"


class TestChange:
    def test_question_marks_are_any_byte_and_are_kept(self) -> None:
        change = ByteChange(find="75 ?? 90", replace="eb ??")
        assert change.offsets_in(b"\x75\x0a\x90\x75\x90\x90") == [0, 3]
        assert change.applied_to(b"\x75\x0a") == b"\xeb\x0a"

    def test_places_that_overlap_count_each(self) -> None:
        assert ByteChange(find="90 90", replace="c3").offsets_in(b"\x90\x90\x90") == [0, 1]

    @given(code=st.binary(max_size=40), before=st.binary(max_size=40))
    def test_finds_every_literal_whatever_its_bytes(self, code: bytes, before: bytes) -> None:
        """Bytes that mean something to a regular expression are bytes here."""
        wanted = before[:4] + b"\n"
        change = ByteChange(find=wanted.hex(" "), replace=bytes(byte ^ 1 for byte in wanted).hex(" "))
        haystack = before + code + wanted
        expected = [at for at in range(len(haystack)) if haystack.startswith(wanted, at)]
        assert change.offsets_in(haystack) == expected

    @pytest.mark.parametrize(
        ("find", "replace", "words"),
        [
            ("53", "31 c0 c3", "longer than what is found"),
            ("53 0f", "?? ??", "changes nothing"),
            ("53 0f", "53", "changes nothing"),
            ("5g", "90", "pattern"),
            ("", "90", "at least 1"),
        ],
    )
    def test_nonsense_is_refused(self, find: str, replace: str, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            ByteChange(find=find, replace=replace)


def test_an_unknown_name_gives_the_nearest() -> None:
    known = catalogue()
    assert pick("no-maskall-reset", known) is known["no-maskall-reset"]
    with pytest.raises(UsageError, match=r"there is no mutant 'no-maskal-reset' \(did you mean 'no-maskall-reset'\?"):
        pick("no-maskal-reset", known)


FILE = """\
mine:
  layer: hypervisor
  stands_for: "something"
  notices: [E14]
  builds:
    trixie: [{symbol: foo, find: "90 ??", replace: "c3"}]
"""


def test_a_file_of_the_users_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(FILE)
    assert set(catalogue(file)) == {"mine", *catalogue()}
    file.write_text(FILE.replace("mine:", "no-maskall-reset:"))
    ours: Mutant = catalogue(file)["no-maskall-reset"]
    assert ours.stands_for == "something", "the user's own is on top"


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('"90 ??"', '"9 ??"', 6, "pattern"),
        ('"90 ??"', "90", 6, "bytes are written as"),
        ('"c3"', '"??"', 6, "changes nothing"),
        ('"c3"', '"31 c0 c3"', 6, "longer than what is found"),
        ("symbol: foo", "symbl: foo", 6, "symbl"),
        ("symbol: foo, ", "", 6, "symbol"),
        ("layer: hypervisor", "layer: hypervizor", 2, "did you mean 'hypervisor'"),
        ("layer: hypervisor", "layr: hypervisor", 2, "did you mean 'layer'"),
        ("layer: hypervisor", "layer: device-model", 6, "unknown key 'symbol'"),
        ("[E14]", "[]", 2, "says why it is equivalent"),
        ("[E14]", "[E14]\n  equivalent: it is", 2, "says why it is equivalent"),
        ("mine:", "mine", 2, "not YAML"),
    ],
)
def test_a_malformed_file_is_told_with_its_line(tmp_path: Path, old: str, new: str, line: int, words: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(FILE.replace(old, new))
    with pytest.raises(InventoryError, match=words) as caught:
        load_mutants(file)
    assert str(caught.value).startswith(f"{file}:{line}:")
