"""More bad bundles, signed by somebody who may: no raw byte is changed, and the record tells another story of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.base.errors import UsageError
from harness.run.chain import Chain
from suites.selftest.fakes.badbundle import (
    CONTROL,
    SIDE,
    Forger,
    edit_json,
    edit_raw,
    finish,
    finished_run,
    forger,
    later,
    members_of,
    root,
)
from suites.selftest.run.test_verify_attacks import caught, only

__all__ = ["forger", "root"]
pytestmark = pytest.mark.whole

RECORD, OTHER = f"{SIDE}/record.json", f"{CONTROL}/record.json"
ROW = "E14-F1-hvm-virtio-rng"
Data = dict[str, Any]


def look(record: Data, folder: str) -> Data:
    return next(one for one in record["readings"] if one["folder"] == folder)


def an_earlier_look_in_its_place(record: Data) -> None:
    """The bad one is not shown, and nothing is edited but where the good one is."""
    early, late = look(record, "05-C2"), look(record, "13-C6")
    late |= {"folder": early["folder"], "files": early["files"]}


def what_a_guest_said_before(record: Data) -> None:
    look(record, "13-C6")["guest"]["file"] = "04-exercise-d1.txt"


def left_out(folder: str) -> Callable[[Data], None]:
    return lambda record: record.update(readings=[one for one in record["readings"] if one["folder"] != folder])


def at_another_checkpoint(record: Data) -> None:
    look(record, "11-C5")["checkpoint"] = "C4"


def steps_before(checkpoint: str) -> Callable[[Data], None]:
    return lambda record: [one.update(checkpoint=checkpoint) for one in record["actions"]] and None


def no_step(verb: str) -> Callable[[Data], None]:
    return lambda record: record.update(actions=[one for one in record["actions"] if one["verb"] != verb])


def answer_of_another(record: Data) -> None:
    first, last = record["actions"][0], record["actions"][-1]
    first["raw"], last["raw"] = last["raw"], first["raw"]


def later_and_later(record: Data) -> None:
    for one in record["readings"][3:]:
        one["seconds"] += 1e6


STORIES: dict[str, tuple[Callable[[Data], object], str]] = {
    "an earlier look in the place of the bad one": (an_earlier_look_in_its_place, "the look at C6 is told to be in 05"),
    "what guest A said, as guest B's": (what_a_guest_said_before, "13-C6 or what its guest said is told out of its"),
    "looks in another order": (lambda record: record["readings"].reverse(), "is told out of its order"),
    "the bad look is left out": (left_out("13-C6"), "13-C6 is a look that the record leaves out"),
    "a look in the middle is left out": (left_out("09-C4"), "09-C4 is a look that the record leaves out"),
    "the end of the logs is left out": (left_out("14-end"), "14-end is a look that the record leaves out"),
    "a look is of another checkpoint": (at_another_checkpoint, "the look at C4 is told to be in 11-C5"),
    "a look twice": (lambda record: record["readings"].append(record["readings"][-2]), "13-C6 or what its guest"),
    "looks before it began": (lambda record: record["readings"][0].update(seconds=-5.0), "01-C0 is told to be of -5"),
    "looks after it ended": (later_and_later, "its looks are told to take 1000"),
    "the host was booted, so older lines count for nothing": (
        lambda record: look(record, "13-C6").update(boot=True),
        "13-C6 is told to begin with a boot of the host, which E14 does not do",
    ),
    "steps at another checkpoint": (steps_before("C2"), "guest_clears_enable is told to be before C2, and 08-C3"),
    "steps in another order": (lambda record: record["actions"].reverse(), "is told to come after same_guest"),
    "a step that is left out": (no_step("guest_clears_enable"), "07-guest_clears_enable.txt is the answer to a step"),
    "answers to other steps": (answer_of_another, "the answers to its steps are told out of their order"),
    "played, and told to be skipped": (
        lambda record: record.update(skipped="the host has no reset"),
        "it is told to be skipped (the host has no reset), and was played",
    ),
    "a hazard that another file shows": (
        lambda record: record.update(planted=record["host_console"]),
        "MASKALL is told to be set before Xen booted, which 17-host_console.txt does not show",
    ),
    "a guest of another domain": (lambda record: record["guests"].update(B=1), "13-C6 is of d2, which is none of its"),
    "guest A of tomorrow": (lambda record: record.update(opened="2030-01-01T00:00:00Z"), "which is after its end"),
    "a device whose reset does nothing": (
        lambda record: record.update(reset_effective=False),
        "have a reset that d",
    ),
    "another driver in dom0": (lambda record: record.update(dom0_driver="nvme"), "what is known of virtio-rng is not"),
    "another address": (lambda record: record.update(device="0000:03:00.0"), "what is known of virtio-rng is not"),
    "lines that nobody can explain, here alone": (
        lambda record: record.update(strict_messages=True),
        "run.json is to be repeated with lines that nobody can explain fail a side {False}, and was played with {True}",
    ),
}


@pytest.mark.parametrize("story", STORIES)
def test_another_story(forger: Forger, root: Path, story: str) -> None:
    change, told = STORIES[story]
    edit_json(root / RECORD, lambda data: change(data["record"]))
    finish(root)
    only(forger.verify(forger.bundled(root)), "consistency", told)


def test_the_same_story_on_all_sides(forger: Forger, root: Path) -> None:
    """What is known of a device of a nested host is ours to say."""
    for record in (RECORD, OTHER):
        edit_json(root / record, lambda data: data["record"].update(reset_effective=False))
    finish(root)
    only(forger.verify(forger.bundled(root)), "consistency", "virtio-rng is told to have a reset that does nothing")


def test_a_failure_that_a_fault_of_the_lab_covers_is_told(forger: Forger, root: Path) -> None:
    """ERROR outweighs FAIL, for whoever is honest; so whoever reads it has to see both."""
    masked = (root / CONTROL / "13-C6/config.hex").read_bytes()
    edit_raw(root, SIDE, "13-C6/config.hex", lambda _: masked)
    edit_json(root / RECORD, lambda data: data["record"].update(broken={"kind": "LabError", "message": "a cable"}))
    finish(root)
    found = forger.verify(forger.bundled(root))
    assert found.notes[0].startswith(
        f"{SIDE} ended by LabError, and shows: C6 hardware: message control: expected Mask"
    )


class TestSides:
    def test_something_was_planted_on_stock(self, forger: Forger, root: Path) -> None:
        planted = json.loads((root / OTHER).read_text())["planted"]
        edit_json(root / RECORD, lambda data: data.update(planted=planted))
        finish(root)
        found = forger.verify(forger.bundled(root))
        caught(found, "control", f"{ROW} on stock: no-maskall-reset was planted")
        caught(found, "consistency", "it is told to be of stock, and no-maskall-reset was planted")

    def test_something_was_planted_where_no_control_was_played(self, forger: Forger, tmp_path: Path) -> None:
        root = finished_run("pv-pass", tmp_path / "run")
        (record,) = root.glob("raw/*/stock/record.json")
        planted = json.loads((finished_run("proven", tmp_path / "other") / OTHER).read_text())["planted"]
        edit_json(record, lambda data: data.update(planted=planted))
        edit_json(root / "run.json", lambda begun: begun.update(control=None, notices=[], own_controls={}))
        finish(root)
        caught(forger.verify(forger.bundled(root)), "control", "on stock: no-maskall-reset was planted")

    def test_sides_are_swapped(self, forger: Forger, root: Path) -> None:
        """The control's raw files as stock's, and the other way round."""
        (root / SIDE).rename(root / "aside")
        (root / CONTROL).rename(root / SIDE)
        (root / "aside").rename(root / CONTROL)
        stock, control = (json.loads((root / one).read_text()) for one in (RECORD, OTHER))
        edit_json(root / RECORD, lambda data: data.update(hypervisor="stock", planted=None))
        edit_json(root / OTHER, lambda data: data.update(hypervisor="no-maskall-reset", planted=stock["planted"]))
        assert control["planted"] is None
        finish(root)
        assert json.loads((root / "results.json").read_text())["scenarios"][0]["conclusion"] == "REGRESSION"

    @pytest.mark.parametrize("side", [SIDE, CONTROL])
    def test_one_that_is_played_has_the_logs_of_another(self, forger: Forger, root: Path, side: str) -> None:
        """All but one of its files are another's; one letter more, and they were not the same files."""
        name = Path(side).name
        twin = root / f"raw/{ROW}@2"
        (root / f"raw/{ROW}").rename(root / f"raw/{ROW}@1")
        shutil.copytree(root / f"raw/{ROW}@1", twin)
        for number in (1, 2):
            for one in ("stock", "no-maskall-reset"):
                record = root / f"raw/{ROW}@{number}/{one}/record.json"
                edit_json(record, lambda data, time=number: data["record"]["scenario"].update(repeat=time))  # type: ignore[misc]
        for one in ("stock", "no-maskall-reset"):
            edit_raw(root, f"raw/{twin.name}/{one}", "09-C4/xl_list.txt", lambda data: data + b"\n")
        for log in (root / "logs").iterdir():
            log.unlink()
        edit_json(root / "run.json", lambda begun: begun.update(scenarios=[f"{ROW}@1", f"{ROW}@2"]))
        finish(root)
        told = f"raw/{ROW}@2/{name} has raw files of raw/{ROW}@1/{name}: "
        only(forger.verify(forger.bundled(root)), "consistency", told)

    def test_a_control_of_stocks_own_files(self, forger: Forger, root: Path) -> None:
        """Where a control must PASS (F3, F8), stock's own files are one."""
        planted = json.loads((root / OTHER).read_text())["planted"]
        shutil.rmtree(root / CONTROL)
        shutil.copytree(root / SIDE, root / CONTROL)
        edit_json(root / OTHER, lambda data: data.update(hypervisor="no-maskall-reset", planted=planted))
        edit_raw(root, CONTROL, "09-C4/xl_list.txt", lambda data: data + b"\n")
        finish(root)
        only(forger.verify(forger.bundled(root)), "consistency", "dom0_dmesg.txt is the same to the microsecond")

    def test_two_at_once_on_one_lab_host(self, forger: Forger, root: Path) -> None:
        """Evidence of two machines, sold as of one."""

        def sold(begun: Any) -> None:  # noqa: ANN401
            begun["host"] |= {"name": "xenbox1", "nested": False, "label": ""}
            del begun["host"]["facts"]["nested"]

        edit_json(root / "run.json", sold)
        for record in (RECORD, OTHER):
            edit_json(
                root / record, lambda data: data.update(began="2026-11-28T21:59:20Z", ended="2026-11-28T22:00:50Z")
            )
        finish(root)
        found = forger.verify(forger.bundled(root))
        caught(found, "consistency", "2026-11-28 22:00:50+00:00: on one host")
        caught(found, "consistency", "went on from a frozen host, which a lab host is not")


class TestPlanAndTime:
    @pytest.mark.parametrize(
        ("options", "told"),
        [
            (" --challenge zzz", "--challenge zzz, and was played with None"),
            (" --toolstack libvirt", "--toolstack libvirt, and was played with xl"),
            (" --accept 'iommu=it is ours'", "--accept {'iommu': 'it is ours'}, and was played with {}"),
            (" --mutant sticky-host-maskall --no-control", "--no-control --mutant sticky-host-maskall, and was played"),
            (" --known-issues mine.yaml", "--known-issues True, and was played with False"),
            (" --profile certify", "lines that nobody can explain fail a side {True}, and was played with {False}"),
            (" --whatever", "it with is no command: there is no option --whatever"),
            (" 'x", "it with is no command: No closing quotation"),
        ],
    )
    def test_it_was_asked_for_something_else(self, forger: Forger, root: Path, options: str, told: str) -> None:
        edit_json(root / "run.json", lambda begun: begun.update(repeat_options=options))
        finish(root)
        only(forger.verify(forger.bundled(root)), "consistency", told)

    def test_a_refusal_that_was_accepted_is_hidden(self, forger: Forger, root: Path) -> None:
        edit_json(root / "run.json", lambda begun: begun["host"]["facts"].update({"accepted iommu": "it is ours"}))
        edit_json(root / "run.json", lambda begun: begun.update(repeat_options=" --accept 'iommu=it is ours'"))
        finish(root)
        assert forger.verify(forger.bundled(root)).status == 0
        edit_json(root / "run.json", lambda begun: begun["host"]["facts"].pop("accepted iommu"))
        finish(root)
        only(forger.verify(forger.bundled(root)), "consistency", "and was played with {}")

    def test_it_is_of_tomorrow(self, forger: Forger, root: Path) -> None:
        later(root, 3650)
        caught(forger.verify(forger.bundled(root)), "consistency", "it ended at 2036-11-25")

    def test_a_side_that_came_to_its_end_is_told_to_be_broken_off(self, forger: Forger, root: Path) -> None:
        """A power cut while the device goes back, or a bad one played again until it is good: nobody can tell."""
        left = root / f"{SIDE}.before-1"
        shutil.copytree(root / SIDE, left)
        (left / "record.json").unlink()
        found, told = forger.verify(forger.bundled(root)), "before-1 was broken off when it had been played to its end"
        assert found.status == 0 and sum(told in note for note in found.notes) == 1
        shutil.rmtree(left / "14-end")
        found = forger.verify(forger.bundled(root))
        assert found.status == 0 and not any(told in note for note in found.notes)
        (root / "run.jsonl").unlink()
        chain = Chain(root)
        for what, name in (("begun", "run.json"), ("ended", RECORD), ("ended", OTHER), ("finished", "results.json")):
            chain.add(what, name, _sha256(root / name))
        path = forger.bundled(root, chain_anew=False)
        only(forger.verify(path), "completeness", "was broken off, and nobody went on with the run")

    def test_by_another_version_is_told(self, forger: Forger, root: Path) -> None:
        edit_json(root / RECORD, lambda data: data.update(tool_version="9.9"))
        finish(root)
        assert "begun with maskall 0.1.0, and played with 0.1.0, 9.9" in forger.verify(forger.bundled(root)).notes


class TestProfile:
    def test_lines_that_nobody_looked_at(self, forger: Forger, root: Path) -> None:
        told = f"{ROW} was played without a look at lines that nobody can explain"
        caught(forger.verify(forger.bundled(root), profile="certify"), "completeness", told)

    def test_against_a_defect_that_is_easier_to_see(self, forger: Forger, root: Path) -> None:
        edit_json(root / "run.json", lambda begun: begun.update(control="always-refused", notices=["E14"]))
        told = "it is held against always-refused, and the profile is against no-maskall-reset"
        caught(forger.verify(forger.bundled(root), profile="certify"), "completeness", told)


class TestNames:
    @pytest.mark.parametrize(
        "name", ["E14-F1-hvm-virtio\u2010rng", "\u041514-F1-hvm-virtio-rng", "E14-F1-hvm-virtio-rng\u200b"]
    )
    def test_a_row_that_looks_like_another(self, forger: Forger, root: Path, name: str) -> None:
        edit_json(root / "run.json", lambda begun: begun["scenarios"].append(name))
        finish(root)
        found = forger.verify(forger.bundled(root))
        only(found, "completeness", "was to be played, and has no result")
        assert all(line.isascii() or "\u0415" in line or "\u2010" in line for line in found.lines)

    def test_a_row_in_another_case(self, forger: Forger, root: Path) -> None:
        path = forger.bundled(root)
        members = members_of(path)
        more = {name.replace("virtio-rng", "VIRTIO-RNG"): data for name, data in members.items() if "/raw/" in name}
        only(forger.verify(forger.resigned({**members, **more})), "container", "are one file where case does not count")

    @pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/", "/nowhere"])
    def test_what_is_no_file(self, forger: Forger, path: str) -> None:
        with pytest.raises(UsageError, match=r"no ordinary file|No such file"):
            forger.verify(Path(path))

    def test_a_pipe_that_nobody_writes_to(self, forger: Forger, tmp_path: Path) -> None:
        import os

        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(UsageError, match="is no ordinary file"):
            forger.verify(tmp_path / "pipe")


def _sha256(path: Path) -> str:
    from hashlib import sha256

    return sha256(path.read_bytes()).hexdigest()
