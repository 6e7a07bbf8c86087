"""Bundles of somebody's own tests, made up by whoever has the key: what is told of a test that it was not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.judge.judgement import Conclusion
from harness.run import cases
from suites.selftest.fakes.badbundle import Forger, edit_json, forger
from suites.selftest.fakes.retoldcase import edit_raw_of, retold
from suites.selftest.plugin.test_fixtures import PRELOADED, REPORT_OF_2019, Play, play

__all__ = ["PRELOADED", "forger", "play"]
pytest_plugins = ("pytester",)
pytestmark = pytest.mark.whole
Data = dict[str, Any]
STOCK, CONTROL = "raw/test_mine.test_next_guest/stock", "raw/test_mine.test_next_guest/no-maskall-reset"
OTHER = "raw/test_mine.test_other/stock"
LOOK, END = "0000-04-00.0/02-end", "0000-04-00.0/03-end"
TEXT = f"""{REPORT_OF_2019}
def test_other(pci_device, make_guest):
    make_guest(pci_device).destroy()
"""


@pytest.fixture
def root(play: Play) -> Path:
    """A run of two tests for the forger to work on."""
    return play(TEXT).folder


def wrong(forger: Forger, root: Path) -> list[str]:
    """What does not hold, of any layer."""
    found = forger.verify(forger.bundled(root, chain_anew=False))
    return [line for one in found.failed for line in one.said]


def test_one_that_is_told_again_as_it_was_holds(forger: Forger, root: Path) -> None:
    retold(root, lambda _: None)
    assert wrong(forger, root) == []


def of_side(change: Callable[[Data], object]) -> Callable[[Data], object]:
    return lambda told: change(told["side"])


def of_record(change: Callable[[Data], object]) -> Callable[[Data], object]:
    return lambda told: change(told["side"]["record"])


def without_step(record: Data) -> None:
    del record["actions"][2]


def look_left_out(record: Data) -> None:
    del record["readings"][0][1]
    del record["seen"][1]


def names_swapped(record: Data) -> None:
    first, last = record["seen"]
    first["name"], last["name"] = last["name"], first["name"]


def order_of_steps(record: Data) -> None:
    record["actions"].reverse()


def much_later(record: Data) -> None:
    record["readings"][0][1]["seconds"] = record["readings"][0][2]["seconds"] = 1e6


ON_STOCK: dict[str, tuple[Callable[[Data], object], str]] = {
    "it passed, and why it failed": (
        of_side(lambda side: side.update(reason="assert 0 > 0")),
        "it is told to be PASS, because of 'assert 0 > 0'",
    ),
    "a step that is left out": (
        of_record(without_step),
        "03-create.txt is the answer to a step that the record leaves",
    ),
    "steps in another order": (of_record(order_of_steps), "the answers to its steps are told out of their order"),
    "a look that is left out": (of_record(look_left_out), f"{LOOK} is a look that the record leaves out"),
    "the end of the logs is left out": (
        of_record(lambda record: record["readings"][0].pop()),
        f"{END} is a look that the record leaves out",
    ),
    "looks in another order": (
        of_record(lambda record: record["readings"][0].reverse()),
        f"{LOOK} is told out of its order",
    ),
    "looks under each other's names": (
        of_record(names_swapped),
        "the checkpoint 'end' is told to be in 0000-04-00.0/01-bound",
    ),
    "looks after its end": (of_record(much_later), "its looks are told to take 1000000 s"),
    "new lines of a log": (
        of_record(lambda record: record["readings"][0][1]["files"].remove("dom0_dmesg.txt")),
        f"{LOOK}/dom0_dmesg.txt is left out of its look",
    ),
    "a file that is not there": (
        of_record(lambda record: record["readings"][0][1]["files"].append("physdev.txt")),
        f"{LOOK}/physdev.txt is named by its look, and not there",
    ),
    "longer than its run": (of_side(lambda side: side.update(seconds=1e6)), "is told to take 1000000 s, and the run"),
    "what to paste": (
        lambda told: told.update(command_to_repeat="pytest test_mine.py::test_next_guest; rm -rf ~"),
        "which is no command of its run",
    ),
    "what to paste, with an option of pytest": (
        lambda told: told.update(command_to_repeat="pytest test_mine.py::test_next_guest -pevil"),
        "which is no command of its run",
    ),
    "another hypervisor was tested": (
        lambda told: told.update(tested="no-maskall-reset"),
        f"'{STOCK}/record.json' ended, and does not count",
    ),
    "a control that was not asked for": (
        lambda told: told.update(control=None),
        f"'{CONTROL}/record.json' ended, and does not count",
    ),
}


@pytest.mark.parametrize("what", ON_STOCK)
def test_another_story(forger: Forger, root: Path, what: str) -> None:
    change, told = ON_STOCK[what]
    retold(root, lambda data: change(data) if data["id"].endswith("next_guest") else None, "stock")
    found = wrong(forger, root)
    assert any(told in line for line in found), found


@pytest.mark.parametrize(("place", "look"), [(0, "0000-04-00.0/01-bound"), (2, END)])
def test_a_look_that_is_told_to_be_cut_short(forger: Forger, root: Path, place: int, look: str) -> None:
    """A test that passed has no such look but its last, and the logs were read behind that."""
    edit_raw_of(root, root / STOCK, f"{look}/cut_short.txt", lambda _: b"the answer was cut short\n")

    def hidden(record: Data) -> None:
        del record["readings"][0][place]
        record["seen"] = record["seen"][1:] if place == 0 else record["seen"]

    retold(root, lambda data: of_record(hidden)(data) if data["id"].endswith("next_guest") else None, "stock")
    found = wrong(forger, root)
    assert any(f"{look} is a look that the record leaves out" in line for line in found), found


def test_a_host_that_died(forger: Forger, root: Path) -> None:
    edit_raw_of(root, root / STOCK, f"{END}/xl_dmesg.txt", lambda log: log + b"(XEN) Panic on CPU 0:\n")
    retold(root, lambda _: None)
    found = wrong(forger, root)
    assert any(line.startswith(f"{STOCK}: it is told to be PASS, and the host died: ") for line in found), found


def test_the_hosts_console_is_left_out(forger: Forger, root: Path) -> None:
    edit_raw_of(root, root / STOCK, "07-host_console.txt", lambda _: b"Xen BUG at drivers/msi.c:42\n")
    retold(root, lambda _: None)
    assert wrong(forger, root) == [f"{STOCK}: 07-host_console.txt, what the host's console said, is left out"]


def test_a_failure_on_stock_stands_for_the_control(forger: Forger, play: Play) -> None:
    """Nothing was planted, and a test that fails anyway is told to be PROVEN."""
    text = "def test_{}(pci_device, make_guest):\n    make_guest(pci_device).destroy()\n    assert {}\n"
    root = play(text.format("good", "True") + text.format("bad", "False")).folder
    bad, good = "raw/test_mine.test_bad/stock", "raw/test_mine.test_good/stock"
    assert (root / bad).is_dir() and (root / good).is_dir()

    def change(told: Data) -> None:
        told.update(id="test_mine.py::test_good", title="", control="stock")

    retold(root, change)
    sides = {
        name: cases.CasePlayed.model_validate_json((root / name / "record.json").read_bytes()) for name in (bad, good)
    }
    (result,) = cases.results([sides[good]])
    forged = result.model_copy(update={"control": sides[bad].side, "conclusion": Conclusion.PROVEN})
    run = root / "results.json"
    edit_json(
        run, lambda data: data.update(cases=[forged.model_dump(mode="json")], counts={"PROVEN": 1}, exit_status=0)
    )
    found = wrong(forger, root)
    assert "results.json has a test twice on one hypervisor" in found, found


def test_a_control_that_did_not_notice_is_forgotten(forger: Forger, play: Play) -> None:
    """BLIND becomes UNPROVEN, where the records still have a control."""
    blind = (
        "import pytest\n@pytest.mark.control\ndef test_it(pci_device, make_guest): make_guest(pci_device).destroy()\n"
    )
    root = play(blind).folder

    def change(data: Data) -> None:
        (case,) = data["cases"]
        case.update(control_role="none", conclusion="UNPROVEN")
        data.update(counts={"UNPROVEN": 1}, exit_status=0)

    edit_json(root / "results.json", change)
    found = wrong(forger, root)
    assert any("control_role: results.json says" in line for line in found), found


def test_one_without_a_record(forger: Forger, root: Path) -> None:
    def change(data: Data) -> None:
        one = {**data["cases"][1], "id": "test_mine.py::test_more"}
        nothing = {"devices": [], "actions": [], "seen": [], "markers": [], "readings": [], "console": None}
        one["stock"] = {**one["stock"], "raw_directory": "", "record": nothing, "files": {}}
        data["cases"].append(one)
        data["counts"]["UNPROVEN"] += 1

    edit_json(root / "results.json", change)
    assert "test_mine.py::test_more has no record" in wrong(forger, root)


LINES = b"[   77.123456] virtio_rng virtio0: quite a moment\n"


def test_one_side_has_the_logs_of_another(forger: Forger, root: Path) -> None:
    for side in (STOCK, OTHER):
        edit_raw_of(root, root / side, f"{END}/dom0_dmesg.txt", lambda _: LINES)
    retold(root, lambda _: None)
    told = f"has raw files of {STOCK}: {END}/dom0_dmesg.txt is the same to the microsecond"
    assert wrong(forger, root) == [f"{OTHER} {told}"]


def test_a_guest_of_another_test_answers(forger: Forger, root: Path) -> None:
    for side in (STOCK, OTHER):
        edit_raw_of(root, root / side, "02-exercise-d1.txt", lambda text: text.rstrip(b"\n") + b"\n== dmesg\n" + LINES)
    retold(root, lambda _: None)
    told = f"{OTHER}/02-exercise-d1.txt: d1 says what d1 said in {STOCK}, to the microsecond"
    assert told in wrong(forger, root)


def test_an_earlier_log_in_the_place_of_a_later_one(forger: Forger, root: Path) -> None:
    edit_raw_of(root, root / STOCK, f"{LOOK}/dom0_dmesg.txt", lambda _: LINES)
    edit_raw_of(root, root / STOCK, f"{END}/dom0_dmesg.txt", lambda _: LINES.replace(b"77", b"11"))
    retold(root, lambda _: None)
    assert wrong(forger, root) == [f"{STOCK}: {END}/dom0_dmesg.txt goes on at 11 s, and has been at 77 s before"]


def test_a_look_says_two_things(forger: Forger, root: Path) -> None:
    edit_raw_of(root, root / STOCK, f"{LOOK}/lspci.txt", lambda text: text.replace(b"Masked-", b"Masked+"))
    retold(root, lambda _: None)
    found = wrong(forger, root)
    assert any(
        f"{STOCK}: {LOOK}: MSI-X is Enable+ Masked- in sysfs, and Enable+ Masked+ in lspci.txt" in one for one in found
    )


def test_another_card_of_the_same_name(forger: Forger, root: Path) -> None:
    """Both sides of a test, and all tests, are of the device that they name."""
    for look in ("0000-04-00.0/01-bound", LOOK):
        edit_raw_of(root, root / OTHER, f"{look}/config.hex", lambda text: text.replace(b" 36 1b", b" 86 80", 1))
        edit_raw_of(root, root / OTHER, f"{look}/lspci.txt", lambda text: text.replace(b"1b36", b"8086"))
    retold(root, lambda _: None)
    assert any(line.startswith("nvme is more than one device: 1b36:0010 rev 02") for line in wrong(forger, root))


def test_what_its_author_marks_as_failing_is_told(forger: Forger, play: Play) -> None:
    root = play("import pytest\n@pytest.mark.xfail\ndef test_it(pci_device): assert False, 'no'\n").folder
    found = forger.verify(forger.bundled(root, chain_anew=False))
    told = "test_mine.py::test_it on stock is marked by whoever wrote it as one that fails"
    assert found.status == 0 and told in found.notes, list(found.lines)
