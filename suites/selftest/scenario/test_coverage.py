"""The coverage map: no row of the matrix is silently missing, and what it calls a hole is refused by a run."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from harness.base.errors import UsageError
from harness.nested import devices
from harness.report.coverage import as_json, sign, signs, table
from harness.report.heatmap import page
from harness.run.options import RunOptions
from harness.run.selection import chosen
from harness.scenario.choose import select
from harness.scenario.coverage import PAIRS, Cell, coverage
from harness.scenario.hole import HoleKind
from suites.selftest.fakes.goodrecord import CATALOGUE

MODELS = devices.candidates(devices.catalogue())
LACKING = {"nonesuch": "the installed QEMU has no nonesuch"}
MAP = coverage(CATALOGUE, MODELS, LACKING)
CELLS = {cell.id: cell for cell in MAP.cells}
LINES = list(table(MAP, context="trixie"))


@pytest.mark.parametrize("row", [*(f"E{number}" for number in range(1, 27)), *(f"F{number}" for number in range(1, 9))])
def test_every_row_of_the_matrix_is_played_or_has_a_reason(row: str) -> None:
    hole = CATALOGUE.hole(row)
    assert (row in {**CATALOGUE.endings, **CATALOGUE.follow_ons}) == (hole is None)
    assert hole is None or len(hole.reason) > 20
    assert row in MAP.endings or row in MAP.follow_ons


# One cell of each reason, of a device that there is.
HOLES = [cells[0] for cells in MAP.reasons().values() if cells[0].device not in LACKING]


@pytest.mark.parametrize("cell", HOLES, ids=lambda cell: cell.id)
def test_a_hole_is_refused_before_anything_boots_with_that_reason(cell: Cell) -> None:
    assert cell.hole is not None
    with pytest.raises(UsageError) as refused:
        select(CATALOGUE, MODELS, [cell.id], "ci")
    assert cell.hole.reason in refused.value.message


def test_what_is_no_hole_can_be_chosen() -> None:
    possible = [cell.id for cell in MAP.cells if cell.hole is None][::11]  # all of them would take half a minute
    assert [row.id for row in select(CATALOGUE, MODELS, possible, "ci")] == possible


def test_profiles_are_those_that_play_the_cell_the_smallest_first() -> None:
    for name in CATALOGUE.profiles:
        played = {row.id for row in select(CATALOGUE, MODELS, [], name)}
        assert {cell.id for cell in MAP.cells if name in cell.profiles} == played
    assert CELLS["E14-F1-hvm-nvme"].profiles[0] == "smoke"


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        ("E14-F1-pvh-nvme", HoleKind.REFUSED),
        ("E5-F1-pv-virtio-rng", HoleKind.IMPOSSIBLE),
        ("E16-F1-hvm-nvme", HoleKind.HARDWARE),
        ("E18-F2-pv-nvme", HoleKind.HARDWARE),
        ("E14-F1-hvm-nonesuch", HoleKind.NO_DEVICE),
        ("E14-F1-hvm-nvme+virtio-rng", HoleKind.ELSEWHERE),
    ],
)
def test_kinds_of_holes(cell: str, kind: HoleKind) -> None:
    hole = CELLS[cell].hole
    assert hole is not None and hole.kind is kind


def test_no_cell_is_counted_twice_and_none_is_missing() -> None:
    assert len(CELLS) == len(MAP.cells)
    singles = [name for name in MAP.devices if "+" not in name]
    wanted = len(MAP.endings) * len(MAP.follow_ons) * len(MAP.guests) * len(singles)
    assert sum("+" not in cell.device for cell in MAP.cells) == wanted


def test_the_best_stands_for_several() -> None:
    letters = signs(MAP)
    by_guest = MAP.best_by(lambda cell: (cell.ending, cell.guest, cell.follow_on))
    by_column = MAP.best_by(lambda cell: (cell.ending, cell.column))
    assert sign(by_guest["E14", "hvm", "F1"], letters) == letters["smoke"]
    assert sign(by_column["E14", "nonesuch"], letters) == "%"
    assert sign(by_guest["E5", "pv", "F1"], letters) == "x"
    assert sign(by_column["E18", PAIRS], letters) == "#"
    assert sign(by_guest.get(("E5", "nobody", "F1")), letters) == " "
    assert len({*letters.values(), "+"}) == len(CATALOGUE.profiles) + 1


def test_the_table_fits_80_columns_and_names_every_row_and_reason() -> None:
    assert max(map(len, LINES)) <= 80
    text = " ".join(" ".join(LINES).split())
    for ending in MAP.endings:
        assert any(line.startswith(f"{ending} ") for line in LINES)
    for hole in MAP.reasons():
        assert hole.reason in text
    assert f"{len(MAP.cells)} cells" in text


def test_json_has_every_cell() -> None:
    loaded = json.loads(as_json(MAP, {"stack": "trixie"}))
    assert loaded["stack"] == "trixie"
    assert {cell["id"] for cell in loaded["cells"]} == set(CELLS)
    assert all(cell["hole"] is None or not cell["profiles"] for cell in loaded["cells"])


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.squares = 0
        self.foreign: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.squares += tag == "td" and (given.get("class") or "").startswith("c")
        if tag in ("script", "link", "img") or "src" in given or "href" in given:
            self.foreign.append(tag)


def test_the_page_has_every_square_and_needs_nothing_else() -> None:
    reader = _Reader()
    text = page(MAP, CATALOGUE.titles, {"stack": "<trixie>"})
    reader.feed(text)
    assert reader.squares == len(MAP.endings) * len(MAP.follow_ons) * len(MAP.guests) * len(MAP.columns)
    assert reader.foreign == []
    assert "<trixie>" not in text


def test_what_a_toolstack_cannot_do_is_a_hole_and_is_refused() -> None:
    through = {cell.id: cell for cell in coverage(CATALOGUE, MODELS, {}, "libvirt").cells}
    hole = through["E10-F2-hvm-virtio-rng"].hole
    assert CELLS["E10-F2-hvm-virtio-rng"].hole is None
    assert hole is not None and hole.kind is HoleKind.IMPOSSIBLE
    with pytest.raises(UsageError, match=f"E10-F2-hvm-virtio-rng cannot be: {hole.reason}"):
        chosen(RunOptions(scenario=("E10-F2-hvm-virtio-rng",), toolstack="libvirt"))
    rows = chosen(RunOptions(scenario=("E[29]-F2-hvm-virtio-rng", "E10-F2-*"), toolstack="libvirt"))
    assert {row.ending for row in rows} == {"E2", "E9"}
