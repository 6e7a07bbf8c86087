"""More bad bundles, sealed and signed by somebody who may: what the files of a run say against each other."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.base.errors import UsageError
from harness.report.begun import KNOWN_ISSUES
from harness.report.bundle import bag
from harness.run.chain import NAME as CHAIN
from suites.selftest.fakes.badbundle import (
    CONTROL,
    SIDE,
    Forger,
    edit_json,
    edit_raw,
    finish,
    finished_run,
    forger,
    members_of,
    played_anew,
    root,
    told_again,
)
from suites.selftest.run.test_verify_attacks import caught, only

__all__ = ["forger", "root"]
pytestmark = pytest.mark.whole

RECORD, OTHER = f"{SIDE}/record.json", f"{CONTROL}/record.json"
ID = "E14-F1-hvm-virtio-rng"


@pytest.fixture(scope="module")
def good(forger: Forger) -> dict[str, bytes]:
    """The members of a bundle that holds."""
    path = forger.bundled(finished_run("proven", forger.folder / "run"))
    assert forger.verify(path).status == 0
    return members_of(path)


def of_2020(record: Any) -> None:  # noqa: ANN401 - JSON
    record.update(began="2020-01-01T00:00:00Z", ended="2020-01-01T00:10:00Z")
    record["record"].update(opened=None)


@pytest.mark.parametrize("name", ["two-devices", "known-late-teardown", "lab-error"])
def test_honest_ones_hold(forger: Forger, tmp_path: Path, name: str) -> None:
    found = forger.verify(forger.bundled(finished_run(name, tmp_path / "run")))
    assert found.status == 0, "\n".join(found.lines)


class TestWhen:
    def test_the_side_under_test_is_of_an_earlier_run(self, forger: Forger, root: Path) -> None:
        """A control may be a kept proof, and nothing else."""
        edit_json(root / OTHER, of_2020)
        played_anew(root, CONTROL)
        finish(root)
        found = forger.verify(forger.bundled(root))
        assert found.status == 0 and "1 controls are kept proofs of earlier runs" in found.notes[0]
        edit_json(root / RECORD, of_2020)
        finish(root)
        only(forger.verify(forger.bundled(root)), "consistency", f"{ID} on stock was played from 2020-01-01")

    def test_a_lab_host_keeps_no_proof(self, forger: Forger, root: Path) -> None:
        edit_json(root / OTHER, of_2020)

        def sold(begun: Any) -> None:  # noqa: ANN401
            begun["host"] |= {"name": "xenbox1", "nested": False, "label": ""}
            del begun["host"]["facts"]["nested"]

        edit_json(root / "run.json", sold)
        finish(root)
        caught(forger.verify(forger.bundled(root)), "consistency", f"{ID} on no-maskall-reset was played from 2020")

    @pytest.mark.parametrize("key", ["started", "ended"])
    def test_the_run_is_of_another_time(self, forger: Forger, root: Path, key: str) -> None:
        edit_json(root / "results.json", lambda results: results.update({key: "2020-01-01T00:00:00Z"}))
        caught(forger.verify(forger.bundled(root)), "consistency", "results.json is of 2")

    def test_it_ended_after_the_last_event(self, forger: Forger, root: Path) -> None:
        edit_json(root / "results.json", lambda results: results.update(ended="2027-01-01T00:00:00Z"))
        told_again(root)
        only(forger.verify(forger.bundled(root)), "chain", "and the file says that it is of 2027-01-01")

    def test_an_event_is_told_before_it_happened(self, forger: Forger, root: Path) -> None:
        path = root / CHAIN
        previous, lines = "0" * 64, []
        for text in path.read_bytes().splitlines():
            event = json.loads(text) | {"previous": previous, "at": "2026-11-28T22:00:00+00:00"}
            lines.append(json.dumps(event).encode() + b"\n")
            previous = hashlib.sha256(lines[-1]).hexdigest()
        path.write_bytes(b"".join(lines))
        found = forger.verify(forger.bundled(root, chain_anew=False))
        only(found, "chain", f"ended raw/{ID}/no-maskall-reset/record.json is of 2026-11-28 22:00")

    @pytest.mark.parametrize("at", ["2026-11-29T01:00:00", "yesterday", "1e400", None, 10**400])
    def test_a_time_that_is_none(self, forger: Forger, root: Path, at: object) -> None:
        path = root / CHAIN
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([*lines[:-1], json.dumps(json.loads(lines[-1]) | {"at": at}).encode() + b"\n"]))
        only(forger.verify(forger.bundled(root, chain_anew=False)), "chain", f"{CHAIN}:4: ")


class TestWhat:
    def test_another_command_line(self, forger: Forger, root: Path) -> None:
        edit_json(root / "run.json", lambda begun: begun["host"]["facts"].update(xen_commandline="iommu=strict"))
        finish(root)
        only(forger.verify(forger.bundled(root)), "consistency", "01-C0 shows other options of Xen than the run says")

    def test_the_raw_files_of_one_side_stand_for_two(self, forger: Forger, root: Path) -> None:
        """Whoever has one good side has a second row."""
        twin = root / "raw/E14-F2-hvm-virtio-rng"
        shutil.copytree(root / f"raw/{ID}", twin)
        for side in ("stock", "no-maskall-reset"):
            edit_json(twin / side / "record.json", lambda data: data["record"]["scenario"].update(follow_on="F2"))
        edit_json(root / "run.json", lambda begun: begun["scenarios"].append(twin.name))
        finish(root)
        found = forger.verify(forger.bundled(root))
        caught(found, "consistency", f"raw/{twin.name}/stock has raw files of {SIDE}")

    def test_a_card_in_place_of_the_card(self, forger: Forger, root: Path) -> None:
        edit_raw(root, SIDE, "13-C6/config.hex", lambda data: data.replace(b"f4 1a 44 10", b"86 80 44 10"))
        finish(root)
        only(forger.verify(forger.bundled(root)), "consistency", "virtio-rng is more than one device: 1af4:1044")

    def test_the_control_had_another_card(self, forger: Forger, root: Path) -> None:
        for look in (root / CONTROL).glob("*/config.hex"):
            name = look.relative_to(root / CONTROL).as_posix()
            edit_raw(root, CONTROL, name, lambda data: data.replace(b"f4 1a 44 10", b"86 80 44 10"))
        finish(root)
        only(forger.verify(forger.bundled(root)), "consistency", "8086:1044 rev 01, subsystem 1af4:1100 in raw/")

    def test_the_record_of_another_schema(self, forger: Forger, root: Path) -> None:
        before = hashlib.sha256((root / RECORD).read_bytes()).hexdigest()
        edit_json(root / RECORD, lambda data: data.update(version="2"))
        after = hashlib.sha256((root / RECORD).read_bytes()).hexdigest()
        path = root / "results.json"
        path.write_text(path.read_text().replace(before, after))
        caught(forger.verify(forger.bundled(root)), "rejudged", "record.json' is of version '2'")

    def test_a_record_that_says_a_thing_twice(self, forger: Forger, root: Path) -> None:
        path = root / RECORD
        path.write_text(path.read_text().replace('"hypervisor"', '"hypervisor": "no-maskall-reset", "hypervisor"', 1))
        finish(root)
        only(forger.verify(forger.bundled(root)), "consistency", f"{RECORD}: 'hypervisor' is there twice")

    def test_the_statement_says_a_thing_twice(self, forger: Forger, good: dict[str, bytes]) -> None:
        members = {name: data for name, data in good.items() if not name.startswith(bag.SIGNATURES)}
        members[bag.STATEMENT_NAME] = members[bag.STATEMENT_NAME].replace(b'"counts"', b'"counts": {}, "counts"', 1)
        found = forger.verify(forger.written(forger.with_signature(members)))
        only(found, "consistency", "statement.json is not written as maskall writes it")

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("</testcase>", '<failure message="x"/></testcase>'),
            ('failures="0"', 'failures="9"'),
            ('tests="1"', 'tests="2"'),
            ("</testsuite>", '<testcase name="E1-F1-hvm-nvme" classname="x"/></testsuite>'),
        ],
    )
    def test_what_makes_a_pipeline_red(self, forger: Forger, root: Path, old: str, new: str) -> None:
        path = root / "junit.xml"
        path.write_text(path.read_text().replace(old, new, 1))
        only(forger.verify(forger.bundled(root)), "consistency", "junit.xml is not what results.json says")


class TestThrownAway:
    """A try that failed is told to be spoiled, and the next one counts."""

    def again(self, root: Path, kind: str) -> None:
        shutil.copytree(root / SIDE, root / f"{SIDE}-retry1")
        played_anew(root, f"{SIDE}-retry1")
        masked = (root / CONTROL / "13-C6/config.hex").read_bytes()
        edit_raw(root, SIDE, "13-C6/config.hex", lambda _: masked)
        broken = {"kind": kind, "message": "guest A (d1) did not reach its userland, before any fault was made"}
        edit_json(root / RECORD, lambda data: data["record"].update(broken=broken))
        edit_json(root / f"{SIDE}-retry1/record.json", lambda data: data.update(phases={}))
        finish(root)

    def test_by_a_fault_of_the_emulator_that_nothing_shows(self, forger: Forger, root: Path) -> None:
        self.again(root, "EmulatorFault")
        told = f"{SIDE} was thrown away, and no raw file shows a fault of the emulator"
        only(forger.verify(forger.bundled(root)), "rejudged", told)

    def test_by_a_guest_that_died_although_it_shows_the_failure(self, forger: Forger, root: Path) -> None:
        self.again(root, "GuestDied")
        told = f"{SIDE} was thrown away, and it shows: C6 hardware: message control: expected Masked-"
        only(forger.verify(forger.bundled(root)), "rejudged", told)

    def test_a_guest_that_never_came_up_may_be_tried_again(self, forger: Forger, root: Path) -> None:
        shutil.copytree(root / SIDE, root / f"{SIDE}-retry1")
        played_anew(root, f"{SIDE}-retry1")
        broken = {"kind": "GuestDied", "message": "guest A (d1) did not reach its userland, before any fault was made"}
        edit_json(root / RECORD, lambda data: data["record"].update(broken=broken))
        edit_json(root / f"{SIDE}-retry1/record.json", lambda data: data.update(phases={}))
        finish(root)
        found = forger.verify(forger.bundled(root))
        assert found.status == 0, "\n".join(found.lines)


class TestChallenge:
    def test_a_guest_whose_answer_is_called_otherwise(self, forger: Forger, root: Path) -> None:
        """What a record takes for a guest's answer is one, whatever its name."""
        edit_json(root / "run.json", lambda begun: begun.update(challenge="abc", repeat_options=" --challenge abc"))
        for path in root.glob("raw/*/*/*-exercise-d[1-9]*.txt"):
            side = path.parent.relative_to(root).as_posix()
            if path.name.startswith("04"):
                edit_raw(root, side, path.name, lambda data: b"== challenge\nabc\n\n" + data)
            else:
                path.rename(path.with_name("12-said.txt"))
                record = path.parent / "record.json"
                record.write_text(record.read_text().replace(path.name, "12-said.txt"))
        finish(root)
        found = forger.verify(forger.bundled(root), challenge="abc")
        only(found, "freshness", "12-said.txt: the guest was to answer 'abc', and says ''")


JUNK: dict[str, Callable[[bytes], bytes]] = {
    "nested": lambda _: b"[" * 200_000,
    "nested objects": lambda _: b'{"a":' * 100_000,
    "a number of 6,000 digits": lambda data: data.replace(b": 0", b": 1" + b"0" * 6000),
    "empty": lambda _: b"",
    "null": lambda _: b"null",
    "a list": lambda _: b"[]",
    "half a surrogate": lambda data: data.replace(b'"', b'"\\ud800', 1),
    "not a number": lambda data: data.replace(b": 0", b": NaN"),
    "all bytes": lambda _: bytes(range(256)),
    "UTF-16": lambda data: data.decode().encode("utf-16"),
}


@pytest.mark.parametrize("name", ["data/run.json", "data/results.json", f"data/{CHAIN}", f"data/{RECORD}"])
def test_junk_in_place_of_json_is_caught_in_one_line(forger: Forger, good: dict[str, bytes], name: str) -> None:
    for junk, make in JUNK.items():
        bad = make(good[name])
        if bad != good[name]:
            found = forger.verify(forger.resigned({**good, name: bad}))
            assert found.status == 1, junk
            assert all(line.isprintable() for line in found.lines), junk


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            b"a: &a [x,x,x,x]\n"
            + b"".join(b"%c: &%c [*%c,*%c,*%c,*%c]\n" % (n + 1, n + 1, n, n, n, n) for n in range(97, 115)),
            "too large",
        ),
        (b"[" * 20_000, "nested too deeply"),
        (b"\xff\xfe\0", "is not UTF-8 text"),
        (b"!!python/object/apply:os.system ['id']", "Input should be a valid dictionary"),
    ],
)
def test_known_issues_that_are_none(forger: Forger, root: Path, content: bytes, told: str) -> None:
    (root / KNOWN_ISSUES).write_bytes(content)
    sha = hashlib.sha256(content).hexdigest()
    edit_json(root / "run.json", lambda begun: begun.update(known_issues=sha))
    caught(forger.verify(forger.bundled(root)), "consistency", told)


def test_a_bundle_of_a_later_schema_is_wrong_usage(forger: Forger, root: Path) -> None:
    path = forger.bundled(root)
    members = members_of(path)
    members["data/results.json"] = members["data/results.json"].replace(
        b'"schema_version": "2"', b'"schema_version": "3"'
    )
    with pytest.raises(UsageError, match="schema version 3, and this maskall reads version 2 only"):
        forger.verify(forger.resigned(members))
