"""More bad bundles, signed by somebody who may: words that no raw file shows."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.run import chain, sidefile
from suites.selftest.fakes.badbundle import CONTROL, SIDE, Forger, edit_json, finish, finished_run, forger, root
from suites.selftest.run.test_verify_attacks import caught, only
from suites.selftest.run.test_verify_left_out import LSPCI, one_more

__all__ = ["forger", "root"]
pytestmark = pytest.mark.whole

Data = dict[str, Any]


def fact(name: str, value: str) -> Callable[[Data], object]:
    return lambda begun: begun["host"]["facts"].update({name: value})


def through_libvirt(begun: Data) -> None:
    begun["host"]["facts"]["toolstack"] = "libvirt"
    begun["repeat_options"] += " --toolstack libvirt"


OF_THE_HOST: dict[str, tuple[Callable[[Data], object], str]] = {
    "a fact of their own": (fact("certified_by", "a lab"), "no host tells of itself: 'certified_by'"),
    "a line of a certificate": (fact("scenarios", "31 PROVEN"), "no host tells of itself: 'scenarios'"),
    "no label": (lambda begun: begun["host"].update(label=""), "label of the host is '', and by its facts 'nested"),
    "another name": (lambda begun: begun["host"].update(name="lab1"), "name of the host is 'lab1', and by its facts"),
    "another toolstack": (through_libvirt, "03-create.txt is what xl says, and the run is told to be through libvirt"),
}


@pytest.mark.parametrize("what", OF_THE_HOST)
def test_of_the_host(forger: Forger, root: Path, what: str) -> None:
    change, told = OF_THE_HOST[what]
    edit_json(root / "run.json", change)
    finish(root)
    only(forger.verify(forger.bundled(root)), "consistency", told)


def test_a_run_from_before_the_toolstack_was_told_was_through_xl(forger: Forger, root: Path) -> None:
    edit_json(root / "run.json", lambda begun: begun["host"]["facts"].pop("toolstack"))
    finish(root)
    found = forger.verify(forger.bundled(root))
    assert found.status == 0, list(found.lines)


def test_a_control_for_a_row_that_is_not_there(forger: Forger, root: Path) -> None:
    edit_json(root / "run.json", lambda begun: begun.update(own_controls={"E1-F1-hvm-nvme": "always-refused"}))
    finish(root)
    told = "E1-F1-hvm-nvme has a control of its own, and run.json does not name it"
    only(forger.verify(forger.bundled(root)), "control", told)


ON_ALL_SIDES: dict[str, tuple[Callable[[Data], object], str]] = {
    "no quarantine": (lambda record: record.update(quarantines=False), "is told to be without quarantine, unlike xl"),
    "another driver in dom0": (
        lambda record: record.update(dom0_driver="e1000e"),
        "dom0's driver is told to be e1000e, and was virtio-pci",
    ),
    "no driver in dom0": (
        lambda record: record.update(dom0_driver=None),
        "dom0's driver is told to be None, and was virtio-pci",
    ),
    "dom0's driver at work": (
        lambda record: record.update(dom0_traffic=True),
        "dom0's driver is told to be exercised, and E14-F1-hvm-virtio-rng does not",
    ),
    "a step that failed is done": (
        lambda record: record["actions"][-1].update(detail="status 3: busy"),
        "same_guest is told to have been done, and ended with status 3",
    ),
    "a step that took no time": (
        lambda record: record["actions"][0].update(seconds=-4.0),
        "create is told to take -4 s",
    ),
    "another file is the console": (
        lambda record: record["host_console"].update(path="03-create.txt"),
        "03-create.txt is told to be host_console",
    ),
}


@pytest.mark.parametrize("what", ON_ALL_SIDES)
def test_of_the_device_and_what_was_done_to_it(forger: Forger, root: Path, what: str) -> None:
    change, told = ON_ALL_SIDES[what]
    for side in (SIDE, CONTROL):

        def edit(data: Data) -> None:
            change(data["record"])
            console = data["record"]["host_console"]
            console["sha256"] = data["files"][console["path"]]

        edit_json(root / side / sidefile.NAME, edit)
    finish(root)
    caught(forger.verify(forger.bundled(root)), "consistency", told)


def test_rows_with_and_without_dom0s_driver_in_one_run(forger: Forger, root: Path, tmp_path: Path) -> None:
    """It is exercised where the device goes back to it, and nowhere else."""
    other = finished_run("back-to-dom0", tmp_path / "other")
    begun, more = (json.loads((one / "run.json").read_text()) for one in (root, other))
    for name in more["scenarios"]:
        shutil.copytree(other / f"raw/{name}", root / f"raw/{name}")
    edit_json(
        root / "run.json",
        lambda data: data.update(
            scenarios=[*begun["scenarios"], *more["scenarios"]],
            started=min(begun["started"], more["started"]),
            own_controls=more.get("own_controls", {}),
        ),
    )
    finish(root)
    found = forger.verify(forger.bundled(root))
    (consistency,) = (one for one in found.layers if one.name == "consistency")
    assert not [line for line in consistency.said if "what is known of" in line or "dom0's driver" in line]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "driver in use: pciback",
            "driver in use: nvme",
            "13-C6: its driver is pciback in sysfs, and nvme in lspci.txt",
        ),
        ("1af4:1044", "8086:1521", "13-C6: the device is 1af4:1044 rev 01 in sysfs, and 8086:1521 rev 01 in lspci.txt"),
        ("(rev 01)", "(rev 03)", "13-C6: the device is 1af4:1044 rev 01 in sysfs, and 1af4:1044 rev 03 in lspci.txt"),
    ],
)
def test_lspci_shows_another_device(forger: Forger, root: Path, old: str, new: str, told: str) -> None:
    working = LSPCI.replace("Enable-", "Enable+")
    for side in (SIDE, CONTROL):
        for folder in sorted(path.name for path in (root / side).glob("*-C[1-8]")):
            one_more(root, side, f"{folder}/lspci.txt", working.encode())
    finish(root)
    honest = [line for one in forger.verify(forger.bundled(root)).failed for line in one.said]
    (root / SIDE / "13-C6/lspci.txt").write_text(working.replace(old, new))
    edit_json(
        root / SIDE / sidefile.NAME,
        lambda data: data["files"].update({"13-C6/lspci.txt": _sha256(root / SIDE / "13-C6/lspci.txt")}),
    )
    finish(root)
    found = [line for one in forger.verify(forger.bundled(root)).failed for line in one.said]
    new_lines = [line for line in found if line not in honest]
    assert new_lines == [f"{SIDE}: {told}"]
    assert not any("its driver" in line or "the device is" in line for line in honest)


class TestForPeople:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b"<properties>", b'<properties><property name="approved" value="yes" />'),
            (b"<testsuites", b'<!DOCTYPE testsuites [<!ENTITY x "y">]><testsuites'),
            (b'name="maskall"', b'name="maskall, certified"'),
            (b"</testcase>", b"<system-out>31 rows PROVEN</system-out></testcase>"),
        ],
    )
    def test_junit_says_more(self, forger: Forger, root: Path, old: bytes, new: bytes) -> None:
        path = root / "junit.xml"
        assert old in path.read_bytes()
        path.write_bytes(path.read_bytes().replace(old, new, 1))
        only(forger.verify(forger.bundled(root)), "consistency", "junit.xml is not what results.json says")

    def test_a_log_says_more(self, forger: Forger, root: Path) -> None:
        (path,) = (root / "logs").glob("*.stock.log")
        path.write_text(f"{path.read_text()}\nevery other row: PASS\n")
        only(forger.verify(forger.bundled(root)), "consistency", f"logs/{path.name} is not what results.json says")


class TestEvents:
    def written(self, root: Path, *events: tuple[str, str], year: str = "2026") -> None:
        path, previous, content = root / chain.NAME, chain.START, b""
        day = json.loads((root / "results.json").read_text())["ended"][4:10]
        for number, (what, name) in enumerate(events):
            link = {"previous": previous, "at": f"{year}{day}T23:00:{number:02d}+00:00", "what": what, "file": name}
            line = json.dumps({**link, "sha256": _sha256(root / name)}).encode() + b"\n"
            previous, content = hashlib.sha256(line).hexdigest(), content + line
        path.write_bytes(content)

    def test_of_a_time_to_come(self, forger: Forger, root: Path) -> None:
        sides = [("ended", f"{SIDE}/record.json"), ("ended", f"{CONTROL}/record.json")]
        self.written(root, ("begun", "run.json"), *sides, ("finished", "results.json"), year="2031")
        found = forger.verify(forger.bundled(root, chain_anew=False))
        only(found, "consistency", "run.jsonl ends at 2031-11-28 23:00:03+00:00, which is still to come")

    def test_how_often_it_was_gone_on_with_is_told(self, forger: Forger, root: Path) -> None:
        """It excuses a boot in between."""
        go_on = ("gone on", "run.json")
        sides = [("ended", f"{SIDE}/record.json"), go_on, ("ended", f"{CONTROL}/record.json"), go_on]
        self.written(root, ("begun", "run.json"), *sides, ("finished", "results.json"))
        found = forger.verify(forger.bundled(root, chain_anew=False))
        told = "it was broken off or ended, and gone on with, 2 times, the last at 2026-11-28 23:00:04 UTC"
        assert found.status == 0 and told in found.notes, list(found.lines)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
