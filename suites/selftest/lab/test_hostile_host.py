"""A lab host may answer anything: nothing is written outside our folders, nothing it says is obeyed as it stands."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.base.errors import EvidenceError, HarnessBug, JournalDamaged, MaskallError
from harness.lab.lease import leftovers
from harness.lab.lease.baseline import Baseline
from harness.lab.lease.baseline import parse as parse_baseline
from harness.lab.lease.claim_options import ClaimOptions
from harness.lab.lease.entry import FIRST, JournalLine, MachineIdentity, What, parse
from harness.lab.lease.holder import parse as parse_claim
from harness.lab.lease.lease import Lease
from harness.lab.lease.state import HostState
from harness.lab.lease.undo import Touched
from harness.lab.survey import Survey
from harness.model.address import Bdf
from harness.transport.sections import ask, names
from suites.selftest.fakes.fakelab import FakeLab, fake_host
from suites.selftest.fakes.faketransport import Executed, FakeTransport, Reply
from suites.selftest.fakes.labrun import arrive, controller
from suites.selftest.fakes.patience import soon

__all__ = ["controller", "fake_host"]
HARNESS = Path(str(__import__("harness").__path__[0]))
PROGRAMS = sorted(path for path in HARNESS.rglob("*.sh") if "$separator" in path.read_text())
NASTY = ["../../.ssh/authorized_keys", "/etc/cron.d/x", "..", ".", "a/b", "x\0y", "end/../x", "\x1b[2J", "", " ", "~/x"]
nasty = st.one_of(st.sampled_from(NASTY), st.text(max_size=30))


@pytest.fixture(autouse=True)
def nothing_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every file that is opened for writing meanwhile lies in the test's folder, under a plain name."""
    real, outside = os.open, []

    def watched(path: Any, flags: int, *more: Any, **named: Any) -> int:  # noqa: ANN401
        text = os.fsdecode(path)
        ignored = text.startswith(("/dev/", "/proc/")) or ".hypothesis" in text
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes and not ignored and not Path(text).resolve().is_relative_to(tmp_path.resolve()):
            outside.append(text)
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", watched)
    yield
    assert outside == []


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: str(path.relative_to(HARNESS)))
class TestSections:
    def test_a_programs_names_are_known_and_plain(self, program: Path) -> None:
        found = names(program.read_text())
        assert len(found) > 2
        assert all(re.fullmatch(r"[a-z][\w.-]*", name) and ".." not in name for name in found)

    def test_every_section_is_on_a_line_of_its_own(self, program: Path) -> None:
        """Else its name would not be known, and an honest answer refused."""
        code = re.sub(r"#.*", "", program.read_text())
        written = set(re.findall(r"^ *section (\S+)", code, re.MULTILINE))
        assert written <= names(program.read_text())

    @settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(name=nasty, data=st.binary(max_size=40))
    def test_no_other_name_becomes_a_file(self, program: Path, name: str, data: bytes, tmp_path: Path) -> None:
        def answer(asked: Executed) -> Reply:
            separator = re.search(r"@[0-9a-f]{16}", asked.shown)[0].encode()  # type: ignore[index]
            said = name.encode("utf-8", "replace")
            return Reply(b"\n%s %s\n%s\n%s end\n" % (separator, said, data.replace(separator, b""), separator))

        state = HostState("box", tmp_path / "state")
        link = FakeTransport(connected=True, commands={".*": answer})
        first = name.encode("utf-8", "replace").decode().partition("\n")[0]
        known = first in names(program.read_text())
        try:
            ask(link, program, deadline=soon(), keep=lambda one, raw: state.keep(f"{one}.txt", raw) and None)
            assert known
        except EvidenceError:
            assert not known or first == "end"
        kept = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert all(path.parent.parent == state.folder for path in kept)


@given(name=nasty)
def test_a_store_takes_no_path(name: str) -> None:
    state = HostState("box", Path("/nonexistent/never"))
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name) or ".." in name:
        with pytest.raises(HarnessBug):
            state.new_file(name)


CLEAN = Baseline(
    "0000:02:00.0", "8086 10d3 8086 a01f 0000:00:1c.1/00.0", "e1000e", None, "on", "pm", "", 6, 0, 0, False
)
OPENED = JournalLine(1, "2026-01-02T03:04:05Z", "b1", "r1", What.OPENED, {"owner": "a", "reason": "b"}, FIRST)


def after(what: What, payload: dict[str, object]) -> bytes:
    """A journal whose second line says this; every hash is right."""
    return OPENED.line + JournalLine(2, OPENED.at, "b1", "r1", what, payload, OPENED.hash).line


class TestJournal:
    def test_what_we_write_is_read(self) -> None:
        assert len(parse(after(What.BASELINE, CLEAN.as_payload()), "j")) == 2

    @pytest.mark.parametrize("field", [*CLEAN.as_payload(), "more"])
    @pytest.mark.parametrize("value", [*NASTY[:-3], "x; reboot", "$(reboot)", -1, 1 << 70, ["a"], {"a": 1}, 1.5])
    def test_no_field_of_a_baseline_holds_anything_else(self, field: str, value: object) -> None:
        payload = {**CLEAN.as_payload(), field: value}
        with pytest.raises(JournalDamaged, match="j:2"):
            parse(after(What.BASELINE, payload), "j")

    @given(
        payload=st.fixed_dictionaries({name: st.one_of(nasty, st.integers(), st.none()) for name in CLEAN.as_payload()})
    )
    def test_what_is_believed_is_harmless(self, payload: dict[str, object]) -> None:
        try:
            (_, entry) = parse(after(What.BASELINE, payload), "j")
        except JournalDamaged:
            return
        (found,) = Touched.by([entry]).baselines
        for word in (found.device, found.driver or "x", found.driver_override or "x"):
            assert "/" not in word and ".." not in word and word.isprintable() and " " not in word

    @pytest.mark.parametrize(
        ("kind", "subject"),
        [
            ("module", "vfio-pci"), ("module", "ext4"), ("module", "-a"), ("module", "../x"),
            ("domain", "bob"), ("domain", "maskall-a b"), ("domain", "maskall-../x"),
            ("driver", "../../x"), ("config", "04:00.0"), ("reset", "0000:04:00.0 x"),
            ("file", "/etc/passwd"), ("file", "/run/maskall/../x"), ("reboot", "a\nb"), ("nothing", "x"),
        ],
    )  # fmt: skip
    def test_a_change_names_only_what_we_change(self, kind: str, subject: str) -> None:
        payload = {"kind": kind, "subject": subject, "text": "t", "undo": "u"}
        with pytest.raises(JournalDamaged, match="j:2"):
            parse(after(What.INTENT, payload), "j")

    @pytest.mark.parametrize("run", [name for name in NASTY if name])
    def test_a_runs_name_is_no_path(self, run: str) -> None:
        with pytest.raises(JournalDamaged, match="j:1"):
            parse(replace(OPENED, run=run).line, "j")

    @given(nasty, nasty)
    def test_nor_are_its_boot_and_its_time(self, boot: str, at: str) -> None:
        try:
            (entry,) = parse(replace(OPENED, boot_id=boot, at=at).line, "j")
        except JournalDamaged:
            return
        assert not set(entry.boot_id + entry.at) & set("/.\n\x1b'\"$")

    @given(st.dictionaries(st.sampled_from(["host_key", "machine_id", "product"]), nasty))
    def test_a_machine_is_nobodys_word(self, said: dict[str, str]) -> None:
        line = replace(OPENED, payload={**OPENED.payload, **said}).line
        try:
            (entry,) = parse(line, "j")
        except JournalDamaged:
            return
        assert MachineIdentity.from_payload(entry.payload) == MachineIdentity() or not any(said.values())


HONEST: dict[str, bytes] = {
    "path": b"/sys/devices/pci0000:00/0000:00:1c.1/0000:02:00.0",
    "ids": b"0x8086\n0x10d3\n0x8086\n0xa01f",
    "slots": b"0000:02:00.0",
    "driver": b"/sys/bus/pci/drivers/e1000e",
    "driver_override": b"(null)",
    "power_control": b"on",
    "reset_method": b"flr bus",
    "sriov_numvfs": b"0",
    "config": b" 86 80 d3 10 06 00 00 00" + b" 00" * 56,
    "interfaces": b"eth0 0x1003",
    "settings": b"net0 name eth0\nnet0 mtu 1500\nblock0 scheduler none [mq-deadline]",
    "boot_id": b"b1",
    "domains": b"Name ID Mem VCPUs State Time(s)\nDomain-0 0 1 1 r----- 1.0\n",
    "assignable": b"0000:02:00.0",
    "owners": b'/libxl/pci/0000-02-00-0/domid = "5"',
    "backends": b'/local/domain/0/backend/pci/5/0 = ""',
    "mounts": b"tmpfs /run/maskall/x tmpfs rw 0 0",
    "interrupts": b" 24:  1  0 PCI-MSI 524288-edge eth0",
    "processes": b"12 qemu qemu -xen-domid 5 -name maskall-a",
    "domids": b"5",
    "irqs": b"",
}
ODD = [
    b"",
    b" ",
    b"x",
    b"eth0",
    b"eth0 x",
    b"..",
    b"/a/..",
    b"a b",
    b"\xff\xfe",
    b"0x",
    b"-1",
    b"9" * 5000,
    b"a\nb",
    b"\0",
]
odd = st.one_of(st.sampled_from(ODD), st.binary(max_size=60))


@given(name=st.sampled_from(sorted(HONEST)), said=odd, place=st.integers(0, 400), instead=st.booleans())
def test_whatever_a_section_says_it_is_read_or_refused_in_one_line(
    name: str, said: bytes, place: int, instead: bool
) -> None:
    """And what is read can be put on record: no word of it is a path, or more than a word."""
    honest = HONEST[name]
    told = {**HONEST, name: said if instead else honest[:place] + said + honest[place:]}
    for read in (lambda: parse_baseline(Bdf.parse(CLEAN.device), told), lambda: leftovers.parse(told)):
        try:
            found = read()
        except MaskallError as error:
            assert "\n" not in str(error)
            continue
        if isinstance(found, Baseline):
            assert Baseline.from_payload(found.as_payload()) == found


def test_an_honest_answer_is_read() -> None:
    assert parse_baseline(Bdf.parse(CLEAN.device), HONEST).driver == "e1000e"
    assert {one.kind for one in leftovers.parse(HONEST).things} > {"domain", "device on pciback", "mount", "process"}


@given(st.text(max_size=300))
def test_a_claim_cannot_repaint_a_terminal(text: str) -> None:
    there = parse_claim(text)
    assert there is None or there.told.isprintable()


ANSWERS = st.lists(
    st.one_of(st.binary(max_size=200), st.sampled_from([b"{}\n", b"\n", b"[]", b"x" * 5000])), min_size=3, max_size=6
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers=ANSWERS, status=st.sampled_from([0, 0, 1, 3, 7, 8, 9, 95, 96, 97, 98, 127, None]), whole=st.booleans())
def test_a_stay_on_a_host_that_answers_anything(
    answers: list[bytes], status: int | None, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends in one of our errors, or it does not; nothing else is thrown, and nothing is written elsewhere."""
    turn = iter(answers * 200)

    def answer(asked: Executed) -> Reply:
        separator = re.search(r"@[0-9a-f]{16}", asked.shown)
        data = next(turn)
        if whole and separator:
            mark = separator[0].encode()
            known = sorted(set(re.findall(r"section ([\w.-]+)", asked.shown)) - {"end"})
            data = b"".join(b"\n%s %s\n%s" % (mark, name.encode(), next(turn)) for name in known) + b"\n%s end\n" % mark
        return Reply(data, data, status, None if status is not None else "KILL")

    link = FakeTransport("box", connected=True, commands={".*": answer}, streams={".*": bytes})
    entry: Any = SimpleNamespace(devices={}, boot_seconds=1, allow_persistent=True)
    site: Any = SimpleNamespace(
        name="box",
        entry=entry,
        transport=lambda: link,
        host_key_fingerprint="",
        reach=lambda link, _: link.connect(soon()),
    )
    try:
        visit = Lease.begin(site, ClaimOptions(reason="x", take_over="y"), lambda _: None)
        Survey.take(visit, {}, {})
        visit.open_journal("x")
        visit.put_back(whole=True)
        visit.end()
    except MaskallError as error:
        assert "Traceback" not in str(error)


def test_a_journal_that_was_planted_is_not_obeyed(fake_host: FakeLab) -> None:
    """Every hash is right, and it is of this machine; but it names what we never touch."""
    visit = arrive(fake_host)
    first = visit.journal.entries[0]
    visit.end()
    planted = JournalLine(2, first.at, first.boot_id, first.run, What.INTENT,
                    {"kind": "module", "subject": "e1000e", "text": "load", "undo": "unload"}, first.hash)  # fmt: skip
    run = fake_host.fake.root / "run/maskall"
    run.mkdir(mode=0o700, exist_ok=True)
    (run / "journal.jsonl").write_bytes(first.line + planted.line)
    fake_host.fake.executed.clear()
    with pytest.raises(JournalDamaged):
        arrive(fake_host)
    assert fake_host.fake.executed == []
