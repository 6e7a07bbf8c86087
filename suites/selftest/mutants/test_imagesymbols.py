"""A hypervisor's symbols are in its image: what a mutant needs of a build is known before it boots."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.base.errors import LabError, UsageError
from harness.mutants.change import Returns, TextChange
from harness.mutants.hypervisor import fit
from harness.mutants.hypervisor_file import HypervisorFile
from harness.mutants.imagesymbols import symbols_in
from harness.nested.ownparts import OwnXen
from harness.run.options import RunOptions
from harness.run.selection import chosen
from suites.selftest.fakes.hypervisorfile import START, elf32, image, symbols

FUNCTION, OTHER, LAST = START + 0x2000, START + 0x2040, START + 0x2080
CODE = bytes.fromhex("f6 c4 40 75 18") + b"\x90" * 59
NAMED = {"pci_reset_msix_state": FUNCTION, "arch/x86/msi.c#again": OTHER, "_etext": LAST}


def built(named: dict[str, int] | None = None, *, called: tuple[int, ...] = (FUNCTION,), before: bytes = b"") -> bytes:
    text = image({FUNCTION: CODE, OTHER: CODE + b"\x90" * 64}, called=called)
    return elf32(text + before + symbols(NAMED if named is None else named) + b"\x01\x02" * 99)


def parsed(data: bytes) -> HypervisorFile:
    return HypervisorFile.parse(data, "xen.gz")


@pytest.mark.parametrize("before", [b"", b"\0" * 12, b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\0\0\0\0\0"])
def test_they_are_read_from_the_image(before: bytes) -> None:
    table = symbols_in(parsed(built(before=before)))
    assert table is not None
    assert len(table.symbols) == 1500 + len(NAMED)
    assert table.extent_of("pci_reset_msix_state") == range(FUNCTION, OTHER)
    assert table.address_of("again") == OTHER


def test_an_image_without() -> None:
    assert symbols_in(parsed(elf32(image({FUNCTION: CODE})))) is None
    fit([Returns("pci_reset_msix_state", 0)], parsed(elf32(image({FUNCTION: CODE}))))  # it will be seen when it runs


def test_addresses_that_do_not_grow_are_something_else() -> None:
    data = bytearray(elf32(image({FUNCTION: CODE}) + symbols(NAMED)))
    second = data.index(struct.pack("<2I", 0x200000, 0x200001)) + 4  # of `others`
    assert symbols_in(parsed(bytes(data))) is not None
    data[second : second + 4] = b"\xff" * 4
    assert symbols_in(parsed(bytes(data))) is None


@given(st.data())
def test_damaged_ones_are_none(data: st.DataObject) -> None:
    whole = symbols(NAMED)
    place = data.draw(st.integers(0, len(whole) - 1))
    broken = whole[:place] + data.draw(st.binary(min_size=1, max_size=4)) + whole[place + 1 :]
    symbols_in(parsed(elf32(image({FUNCTION: CODE}) + broken)))


RETURNS = Returns("pci_reset_msix_state", 0)
BYTES = TextChange(symbol="pci_reset_msix_state", find="f6 c4 40", replace="?? ?? 00")


@pytest.mark.parametrize("change", [RETURNS, BYTES])
def test_what_fits(change: Returns | TextChange) -> None:
    fit([change], parsed(built()))


@pytest.mark.parametrize(
    ("change", "data", "words"),
    [
        (RETURNS, built(called=()), "nobody calls pci_reset_msix_state: it is inlined"),
        (RETURNS, built({"elsewhere": FUNCTION, "_etext": LAST}), "Xen has no symbol pci_reset_msix_state"),
        (
            Returns("twice", 0),
            built({"a.c#twice": FUNCTION, "b.c#twice": OTHER, "_etext": LAST}),
            "several functions of Xen are called twice",
        ),
        (RETURNS, built({**NAMED, "next": FUNCTION + 2}), "has room for 2 bytes"),
        (BYTES, built({"pci_reset_msix_state": FUNCTION, "_etext": LAST}), "f6 c4 40 stands 2 times"),
        (BYTES, built({"pci_reset_msix_state": FUNCTION + 5, "next": OTHER, "_etext": LAST}), "stands 0 times"),
    ],
)
def test_what_does_not(tmp_path: Path, change: Returns | TextChange, data: bytes, words: str) -> None:
    (tmp_path / "xen.gz").write_bytes(data)
    own = OwnXen.read(tmp_path / "xen.gz")
    with pytest.raises(LabError, match=words):
        fit([change], parsed(data))
    with pytest.raises(UsageError, match="cannot be made it") as raised:
        own.fit_control("it", [change])
    assert "--control-xen" in raised.value.hint and "\n" not in raised.value.message


@pytest.mark.parametrize(
    ("called", "mutant", "told"),
    [
        (False, None, "nobody calls pci_reset_msix_state: it is inlined in this build"),
        (True, "wrong-vector-masked", "mutant wrong-vector-masked is bytes of trixie, bookworm, bullseye only"),
        (True, "always-refused", "f6 c4 40 75 .. stands 0 times in pci_reset_msix_state"),
    ],
)
def test_a_run_whose_control_does_not_fit(tmp_path: Path, called: bool, mutant: str | None, told: str) -> None:
    text = image({FUNCTION: b"\x90" * 64}, called=[FUNCTION] if called else [])
    (tmp_path / "xen.gz").write_bytes(elf32(text + symbols({"pci_reset_msix_state": FUNCTION, "_etext": OTHER})))
    with pytest.raises(UsageError, match=told) as raised:
        chosen(RunOptions(scenario=("E14",), xen=tmp_path / "xen.gz", mutant=mutant))
    assert "--control-xen FILE" in raised.value.hint
