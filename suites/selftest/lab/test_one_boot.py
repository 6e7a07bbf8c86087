"""A hypervisor of one's own for one boot of a lab host: nothing stays, whatever becomes of it."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from harness.base.errors import (
    CommandFailed,
    HostUnreachable,
    LabError,
    MaskallError,
    ParseError,
    RestoreFailed,
    SafetyRefusal,
    UsageError,
)
from harness.base.progress import PlainProgress
from harness.lab.lease import ownxen
from harness.lab.lease.entry import FIRST, JournalLine, What
from harness.lab.lease.lease import Lease
from harness.lab.lease.undo import Touched, Undo
from harness.lab.power.base import Power
from harness.lab.provision import boot, oneboot
from harness.lab.provision.facts import parse_facts
from harness.lab.provision.menu import parse_menu
from harness.lab.provision.oneboot import boot_own, go_back, obstacles
from harness.lab.provision.wanted import MENU
from harness.model.change import NoLedger
from harness.nested.ownparts import OwnXen
from harness.run.options import RunOptions
from harness.run.selection import refuse_mistakes
from suites.selftest.cli.test_cli_stacks import LAB
from suites.selftest.fakes.faketransport import Executed, FakeTransport, Reply
from suites.selftest.fakes.hypervisorfile import BUILD_ID, elf32
from suites.selftest.fakes.provisionfacts import XL_INFO, menu, sections
from suites.selftest.fakes.provisionhost import FakeSystem

QUIET = PlainProgress(io.StringIO())
XEN_MENU = menu(xen=True, default="xen-gnulinux-simple-u") + "source ${config_directory}/custom.cfg\n"
ID = BUILD_ID[::-1]  # another than that of other tests: a hypervisor's file is remembered by it
OURS, STOCK = ID.hex(), "0123"
PATH = ownxen.path_of(OURS)


@dataclass
class Box(FakeSystem):
    """A Xen host whose default is Xen. `runs`: the build-id that does."""

    runs: str = STOCK
    others: tuple[str, ...] = ()
    dies: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.xen = True
        self.transport.files[MENU] = (XEN_MENU.encode(), 0o600)
        self.transport.commands = {
            "xl info": lambda _: Reply(XL_INFO.replace(b"0123", self.runs.encode())),
            "sha256sum .*": self._sum,
            "test -e .*": lambda asked: Reply(status=0 if asked.shown.split()[2] in self.transport.files else 1),
            "(?s).*rm -f /boot/maskall-xen-.*": self._take_away,
        } | self.transport.commands

    def visit(self, *, allowed: bool = True) -> Lease:
        stay = cast(SimpleNamespace, super().visit(allowed=allowed))
        stay.journal.entries, stay.lent_xen, stay.before = [], "", None
        stay.undo = lambda: SimpleNamespace(others=lambda: list(self.others))
        stay.put_back = lambda: self.events.append(f"put back, {stay.lent_xen[:4] or 'its own'} may run")
        return cast(Lease, stay)

    @property
    def left(self) -> set[str]:
        return {path for path in self.transport.files if "maskall" in path or path == ownxen.CUSTOM}

    def reboot(self, link: object, power: object, deadline: object, how: object, before: object) -> None:
        once = self.environment.pop("next_entry", None)
        self.boots += 1
        self.runs = STOCK
        self.events.append(f"did {'reboot' if how is boot.How.SOFT else 'power cycle'}")
        if once is None:
            return
        (entry,) = parse_menu(self.transport.files[ownxen.CUSTOM][0].decode()).entries
        assert once == entry.id
        if not self.comes_up:
            self.comes_up = True
            raise HostUnreachable("box does not answer", why=boot.Unreachable.SILENT)
        if not self.dies:
            assert f"/boot/{entry.hypervisor}" in self.transport.files
            self.runs = OURS

    def _sum(self, asked: Executed) -> Reply:
        path = asked.shown.split()[1]
        return Reply(f"{hashlib.sha256(self.transport.files[path][0]).hexdigest()}  {path}\n".encode())

    def _take_away(self, _: Executed) -> Reply:
        self.events.append("did take away")
        for path in self.left:
            del self.transport.files[path]
        return Reply()


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> Box:
    made = Box()
    monkeypatch.setattr(boot, "reboot", made.reboot)
    monkeypatch.setattr(oneboot, "_SERVICES_SECONDS", 0.0)
    monkeypatch.setattr(oneboot.leftovers, "survey", lambda _: "what is there now")
    return made


@pytest.fixture
def own(tmp_path: Path) -> OwnXen:
    (tmp_path / "xen.gz").write_bytes(gzip.compress(elf32(b"\x90" * 64, build_id=ID)))
    return OwnXen.read(tmp_path / "xen.gz")


class Console:
    """What a console said before, and what it says of a boot."""

    def __init__(self, said: bytes) -> None:
        self.texts = [b"old\n", b"old\n" + said]

    def text(self) -> bytes:
        return self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]


def test_it_is_told_booted_seen_and_gone_from_the_disk(box: Box, own: OwnXen) -> None:
    visit = box.visit()
    boot_own(visit, own, None, None, QUIET)
    assert box.events == [
        "open maskall run --xen",
        f"told persistent {PATH}",
        f"told persistent {ownxen.CUSTOM}",
        "did set next_entry fallback",
        "told reboot boot-0",
        "did reboot",
        "did take away",
    ]
    assert (box.runs, visit.lent_xen, visit.before) == (OURS, OURS, "what is there now")
    assert (box.left, box.environment) == (set(), {})
    assert box.transport.files[MENU][0].decode() == XEN_MENU
    Lease.refuse_other_xen(visit)


def test_it_goes_back_by_a_reboot(box: Box, own: OwnXen) -> None:
    visit = box.visit()
    boot_own(visit, own, None, None, QUIET)
    box.events.clear()
    go_back(visit, None, QUIET)
    assert box.events == [f"put back, {OURS[:4]} may run", "told reboot boot-0", "did reboot"]
    assert (box.runs, visit.lent_xen) == (STOCK, "")
    go_back(visit, None, QUIET)
    assert box.boots == 2, "where it is back already nothing is rebooted"


def test_one_that_rebooted_meanwhile_is_told(box: Box, own: OwnXen) -> None:
    visit = box.visit()
    boot_own(visit, own, None, None, QUIET)
    box.runs = STOCK
    with pytest.raises(LabError, match=f"no longer runs the hypervisor of --xen: build-id {STOCK}"):
        Lease.refuse_other_xen(visit)
    go_back(visit, None, QUIET)
    assert box.boots == 1, "it is back already"


def test_one_that_does_not_go_back(box: Box, own: OwnXen, monkeypatch: pytest.MonkeyPatch) -> None:
    visit = box.visit()
    boot_own(visit, own, None, None, QUIET)
    monkeypatch.setattr(boot, "reboot", lambda *_: None)
    with pytest.raises(RestoreFailed, match=f"did not go back: build-id {OURS} runs"):
        go_back(visit, None, QUIET)
    assert visit.lent_xen == "", "the next look does not take it for ours"


PANIC = (
    b"(XEN) Xen version 4.20.4\n(XEN) Panic on CPU 0:\n(XEN) no host today\n(XEN) Xen version 4.20.5-pre\n(XEN) up\n"
)


@pytest.mark.parametrize("dies", [True, False], ids=["panics", "hangs"])
def test_one_that_does_not_come_up(box: Box, own: OwnXen, dies: bool) -> None:
    box.dies, box.comes_up = dies, dies
    said = io.StringIO()
    with pytest.raises(LabError, match=f"xen.gz did not come up; build-id {STOCK} runs, which is its default"):
        boot_own(box.visit(), own, cast(Power, object()), Console(PANIC), PlainProgress(said))  # type: ignore[arg-type]
    assert ("did power cycle" in box.events) != dies
    assert "console: (XEN) no host today" in said.getvalue()
    assert "console: old" not in said.getvalue() and "(XEN) up" not in said.getvalue()
    assert (box.left, box.environment, box.runs) == (set(), {}, STOCK)


def test_one_that_hangs_where_nothing_switches_it(box: Box, own: OwnXen) -> None:
    box.comes_up = False
    said = io.StringIO()
    with pytest.raises(HostUnreachable, match="does not answer"):
        boot_own(box.visit(), own, None, Console(b"(XEN) Xen version 4.20.4\n"), PlainProgress(said))  # type: ignore[arg-type]
    assert "console: (XEN) Xen version 4.20.4" in said.getvalue()


def no_menu(box: Box) -> None:
    box.transport.files[MENU] = (XEN_MENU.replace("custom.cfg", "x").encode(), 0o600)


def plain_default(box: Box) -> None:
    box.transport.files[MENU] = (XEN_MENU.replace("xen-gnulinux-simple-u", "0", 1).encode(), 0o600)


def others(box: Box) -> None:
    box.others = ("bob",)


def the_same(box: Box) -> None:
    box.runs = OURS


def no_xen(box: Box) -> None:
    box.xen = False


def theirs(box: Box) -> None:
    box.transport.files[ownxen.CUSTOM] = (b"menuentry 'mine' {\n}\n", 0o600)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_menu, f"GRUB's menu does not read {ownxen.CUSTOM}"),
        (plain_default, "GRUB's default is 'Debian GNU/Linux', which does not lead back to what runs now"),
        (others, "runs bob, which a reboot ends"),
        (the_same, "runs there already"),
        (no_xen, "it is no Xen host: see maskall provision"),
        (theirs, f"{ownxen.CUSTOM} is there already"),
    ],
)
def test_what_cannot_be_booted_once_is_not_begun(box: Box, own: OwnXen, spoil: object, words: str) -> None:
    spoil(box)  # type: ignore[operator]
    before = dict(box.transport.files)
    with pytest.raises((UsageError, SafetyRefusal), match=re.escape(words)):
        boot_own(box.visit(), own, None, None, QUIET)
    assert (box.events, box.transport.files) == ([], before)


def test_no_grub_is_an_obstacle() -> None:
    """A machine that something else loads, as a practice machine."""
    facts = parse_facts(sections(hypervisor=b"xen\ncontrol_d\n", xl_info=XL_INFO, boot=b"systemd\n", menu=b""))
    assert next(obstacles(facts)).startswith("it is not booted by GRUB")


def test_the_entry_is_that_of_the_default_but_for_the_hypervisor() -> None:
    text = (Path(__file__).parents[1] / "data/grub/trixie-xen-4.20.cfg").read_text()
    entry = next(one for one in parse_menu(text).entries if one.hypervisor)
    (made,) = parse_menu(entry.with_hypervisor("maskall-xen-01.gz", "once", "maskall-xen")).entries
    assert (made.id, made.hypervisor, made.kernel) == ("maskall-xen", "maskall-xen-01.gz", entry.kernel)
    (loads,) = [line for line in entry.body if line.startswith("multiboot2")]
    assert loads.replace("xen-4.20-amd64.gz", "maskall-xen-01.gz") in made.body, "options and folder stay"
    others = [line for line in entry.body if not line.startswith(("multiboot2", "echo"))]
    assert [line for line in made.body if not line.startswith("multiboot2")] == others


def test_the_default_of_the_next_boots_is_never_written() -> None:
    (entry,) = parse_menu("menuentry 'x' {\n\tsavedefault\n\tmultiboot2 /xen.gz\n\tmodule2 /vmlinuz-1\n}\n").entries
    assert entry.with_hypervisor("y.gz", "t", "i").splitlines()[1:-1] == ["multiboot2 /y.gz", "module2 /vmlinuz-1"]


@pytest.mark.parametrize("ours", [True, False])
def test_what_takes_it_away_leaves_what_is_others(tmp_path: Path, ours: bool) -> None:
    (tmp_path / "boot/grub").mkdir(parents=True)
    custom, file, kept = (tmp_path / name for name in ("boot/grub/custom.cfg", "boot/maskall-xen-01.gz", "boot/xen.gz"))
    custom.write_text(f"{ownxen.MARK}\nmenuentry\n" if ours else "menuentry 'mine' {\n}\n")
    for one in (file, kept):
        one.write_text("x")
    tool, said = tmp_path / "grub-editenv", tmp_path / "said"
    tool.write_text(
        f'#!/bin/sh\n[ "$1" = {tmp_path}/boot/grub/grubenv ] || exit 1\n'
        f'[ "$2" = list ] && echo next_entry={"maskall-xen" if ours else "x"} || echo "$@" >>{said}\n'
    )
    tool.chmod(0o755)
    script = ownxen._TAKE_AWAY.replace("/boot", f"{tmp_path}/boot")
    for _ in range(2):
        subprocess.run(["/bin/sh", "-c", script], check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})  # noqa: S603
        assert (custom.exists(), file.exists(), kept.exists()) == (not ours, False, True)
        assert "unset next_entry" in said.read_text() if ours else not said.exists()


class TestWhatIsThere:
    """Asked by whoever comes to a host, from whatever controller."""

    def link(self, said: bytes, status: int = 0) -> FakeTransport:
        return FakeTransport("box", connected=True, commands={".*": Reply(said, b"x\n", status)})

    def test_those_that_are_left_are_known_by_their_files(self) -> None:
        said = f"/boot/maskall-xen-{OURS}.gz\n/boot/maskall-xen-x.gz\n/boot/maskall-xen-{STOCK * 8}.gz\n"
        assert ownxen.left(self.link(said.encode())) == {OURS, STOCK * 8}
        assert ownxen.build_ids([PATH]) == {OURS}
        with pytest.raises(CommandFailed):
            ownxen.left(self.link(b"", status=1))

    def test_the_one_that_runs_is_what_xl_says(self) -> None:
        assert ownxen.running(self.link(XL_INFO)) == "0123"
        assert ownxen.running(self.link(XL_INFO, status=1)) == ""
        with pytest.raises(ParseError, match=r"^xl info:"):
            ownxen.running(self.link(b"x\n"))

    def test_taking_it_away_is_sent_as_a_change_and_must_succeed(self) -> None:
        link = self.link(b"")
        ownxen.take_away(link)
        assert [one.changes for one in link.executed] == [True]
        with pytest.raises(CommandFailed):
            ownxen.take_away(self.link(b"", status=1))


class TestUndo:
    def line(self, seq: int, subject: str, boot: str = "boot1") -> JournalLine:
        payload = {"kind": "persistent", "subject": subject, "text": "t", "undo": "u"}
        return JournalLine(seq, "", boot, "r", What.INTENT, payload, FIRST)

    def test_a_reboot_does_not_take_a_file_away(self) -> None:
        entries = [self.line(1, PATH), self.line(2, "/boot/xen.gz"), self.line(3, "/etc/passwd")]
        assert Touched.by(entries, "boot2").booted == {OURS}

    def undo(self, *, running: str, lent: str = "") -> tuple[Undo, FakeTransport]:
        box = Box(runs=running)
        box.transport.commands |= {"(?s)sh -c 'cat .*domids.*": Reply()}
        return Undo(box.transport, NoLedger(), Touched(booted=frozenset({OURS})), lent=lent), box.transport

    def test_it_takes_away_what_is_there(self) -> None:
        undo, link = self.undo(running=STOCK)
        undo.reconcile(whole=True)
        assert any("rm -f /boot/maskall-xen" in one.shown for one in link.executed)

    def test_one_that_still_runs_is_no_host_put_back(self) -> None:
        undo, _ = self.undo(running=OURS)
        with pytest.raises(RestoreFailed, match=f"still runs, build-id {OURS}: a reboot ends it"):
            undo.reconcile(whole=False)

    def test_the_one_of_this_visit_may_run(self) -> None:
        undo, link = self.undo(running=OURS, lent=OURS)
        undo.reconcile(whole=False)
        assert not any("rm -f /boot/maskall-xen" in one.shown for one in link.executed)


@pytest.mark.parametrize("grants", ["", "allow_reboot: true", "allow_persistent: true"])
def test_the_inventory_must_permit_it(tmp_path: Path, own: OwnXen, grants: str) -> None:
    inventory = tmp_path / "lab.yaml"
    inventory.write_text(LAB.replace("kind: lab\n", f"kind: lab\n    {grants}\n"))
    with pytest.raises(UsageError, match="--xen: the inventory does not allow to boot bench with another") as told:
        refuse_mistakes(RunOptions(inventory=inventory, xen=own.path))
    assert set(re.findall(r"allow_\w+", told.value.hint)) == {"allow_reboot", "allow_persistent"} - {
        grants.split(":")[0]
    }


@pytest.mark.parametrize("data", [b"MZ" + bytes(99), b"\x7fELF\x02" + bytes(99), b"\x7fELF\x01" + bytes(99), b"x"])
def test_what_is_no_hypervisor_is_refused_before_anything(tmp_path: Path, data: bytes) -> None:
    inventory = tmp_path / "lab.yaml"
    inventory.write_text(LAB.replace("kind: lab\n", "kind: lab\n    allow_reboot: true\n    allow_persistent: true\n"))
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(MaskallError, match=str(tmp_path / "file")):
        refuse_mistakes(RunOptions(inventory=inventory, xen=tmp_path / "file"))
