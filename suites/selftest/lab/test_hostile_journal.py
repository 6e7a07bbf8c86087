"""Whatever stands in a journal, here or on the host, and whatever the host answers meanwhile: it is refused with one
line, or what is sent to change the host is of the closed set, and nothing is written outside our folders."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from harness.base.errors import AnotherMachine, JournalDamaged, MaskallError
from harness.lab.lease import undo as undoing
from harness.lab.lease.baseline import Baseline
from harness.lab.lease.claim_options import ClaimOptions
from harness.lab.lease.entry import FIRST, JournalLine, MachineIdentity, What
from harness.lab.lease.lease import Lease
from harness.lab.lease.state import HostState
from suites.selftest.fakes.closedset import COMMANDS, PROGRAMS, outside
from suites.selftest.fakes.faketransport import Executed, FakeTransport, Reply
from suites.selftest.fakes.labrun import controller
from suites.selftest.fakes.patience import soon
from suites.selftest.lab.test_hostile_host import nasty, nothing_outside

__all__ = ["controller", "nothing_outside"]
pytestmark = pytest.mark.whole
BOOT, RUN, REMOTE = "b1", "20260102-030405-abcdef", "/run/maskall/journal.jsonl"
US = MachineIdentity("SHA256:" + "A" * 43, "0" * 32, "01234567-0123-0123-0123-0123456789ab")
NIC = "0000:02:00.0"
FOUND = Baseline(NIC, "8086 10d3 8086 a01f 0000:00:1c.1/00.0", "e1000e", None, "on", "pm", "2", 6, 4, 1, False)

sound = st.sampled_from([NIC, "0000:03:00.1", "maskall-a", "xen-pciback", "maskall", "/run/maskall/guest", BOOT])
word = st.one_of(sound, st.sampled_from(["bob", "e1000e", "bob; reboot"]), nasty)
subjects = {
    "domain": "maskall-a",
    "module": "xen-pciback",
    "livepatch": "maskall",
    "file": "/run/maskall/guest",
    "reboot": BOOT,
}
seldom = st.integers(0, 9).map(lambda number: number == 7)
values: dict[str, st.SearchStrategy[object]] = {
    "device": st.one_of(st.sampled_from([NIC, "0000:03:00.1"]), nasty),
    "who": st.one_of(st.sampled_from([FOUND.who, ""]), nasty),
    "driver": st.one_of(st.sampled_from(["e1000e", "nvme", "pciback", None]), nasty),
    "driver_override": st.one_of(st.sampled_from(["pciback", None]), nasty),
    "power_control": st.one_of(st.sampled_from(["on", "auto", ""]), nasty),
    "reset_method": st.one_of(st.sampled_from(["flr bus", "pm", ""]), nasty),
    "numvfs": st.one_of(st.sampled_from(["0", "2", "7", ""]), nasty),
    "command": st.sampled_from([0, 6, 0x407, None, -1, 1 << 20, "6", 6.5]),
    "msix_control": st.sampled_from([0, 4, 0x4004, None, "4"]),
    "interfaces_up": st.sampled_from([0, 1, 2, -1, True]),
    "pciback_slot": st.sampled_from([False, True, 0, None]),
    "settings": st.one_of(
        st.sampled_from([[], [["net0 name", "eth0"], ["net0 mtu", "9000"]], [["net0 mtu", "1; reboot"]], "x"]),
        st.lists(st.lists(nasty, max_size=3), max_size=2),
    ),
}


@st.composite
def payloads(draw: st.DrawFn, what: What) -> dict[str, object]:
    if what is What.BASELINE:
        said = FOUND.as_payload()
        for name in draw(st.lists(st.sampled_from(sorted(values)), max_size=3)) if draw(seldom) else []:
            said[name] = draw(values[name])
        return said
    if what is What.INTENT:
        kinds = ["driver", "config", "reset", "domain", "module", "livepatch", "file", "reboot", "persistent", "x"]
        kind = draw(st.sampled_from(kinds if draw(seldom) else kinds[:-1]))
        subject = draw(word) if draw(seldom) else subjects.get(kind, NIC)
        return {"kind": kind, "subject": subject, "text": draw(nasty) if draw(seldom) else "t", "undo": "u"}
    if what is What.OPENED:
        return {"owner": "a", "reason": "x", **draw(st.sampled_from([US, US, MachineIdentity()])).as_payload()}
    return {} if what is What.RESTORED else {"reason": draw(nasty) if draw(seldom) else "r"}


@st.composite
def stories(draw: st.DrawFn) -> list[bytes]:
    """Lines whose hashes are right; whether the rest is, is for the reader to find out."""
    opened = {"owner": "a", "reason": "b", **(replace(US, product="") if draw(seldom) else US).as_payload()}
    lines, prev = list[bytes](), FIRST
    usual = st.sampled_from([What.BASELINE, What.INTENT, What.INTENT])
    kinds = [What.OPENED, *draw(st.lists(st.one_of(usual, usual, st.sampled_from(list(What))), min_size=2, max_size=6))]
    for number, what in enumerate(kinds, start=2 if draw(seldom) else 1):
        said = draw(payloads(what)) if lines else opened
        run, boot = (draw(nasty) if draw(seldom) and draw(seldom) else same for same in (RUN, BOOT))
        line = JournalLine(number, "2026-01-02T03:04:05Z", boot, run, what, said, prev)
        lines, prev = [*lines, line.line], line.hash
    return lines


@dataclass(frozen=True)
class Damage:
    """What became of the lines, by numbers that are taken modulo what there is."""

    kind: str
    at: int
    data: bytes

    def done(self, lines: Sequence[bytes]) -> bytes:
        place = self.at % max(1, len(lines))
        match self.kind:
            case "doubled":
                lines = [*lines[: place + 1], *lines[place:]]
            case "lost":
                lines = [*lines[:place], *lines[place + 1 :]]
            case "turned":
                lines = lines[::-1]
        whole = b"".join(lines)
        byte = self.at % max(1, len(whole))
        match self.kind:
            case "cut":
                return whole[:byte]
            case "overwritten":
                return whole[:byte] + self.data + whole[byte + len(self.data) :]
            case "followed":
                return whole + self.data
            case "anything":
                return self.data
        return whole


damages = st.builds(
    Damage,
    st.sampled_from(["none"] * 40 + ["doubled", "lost", "turned", "cut", "overwritten", "followed", "anything"]),
    st.integers(0, 5000),
    st.binary(max_size=40),
)
answers = st.fixed_dictionaries(
    {
        "driver": st.sampled_from(["/sys/bus/pci/drivers/pciback", "/sys/bus/pci/drivers/e1000e", "", "../..", "a b"]),
        "slots": st.sampled_from(["", NIC]),
        "driver_override": st.sampled_from(["(null)", "pciback", "../x"]),
        "power_control": st.sampled_from(["on", "auto", "x\ny"]),
        "reset_method": st.sampled_from(["pm", "flr bus", "$(reboot)"]),
        "sriov_numvfs": st.sampled_from(["", "0", "2", "../3"]),
        "interfaces": st.sampled_from(["eth0 0x1003", "eth0 0x1002", "eth0 x", "eth0"]),
        "settings": st.sampled_from(["", "net0 name eth0\nnet0 mtu 1500", "net0 name -x\nblock0 scheduler [a] b"]),
    }
)


def host(said: dict[str, str], status: int) -> FakeTransport:
    """A host that answers so, and where a guest of ours and one of bob's run."""
    config = bytes.fromhex("8680d310 06000000") + bytes(56)
    known = {
        "path": "/sys/devices/pci0000:00/0000:00:1c.1/0000:02:00.0",
        "ids": "0x8086\n0x10d3\n0x8086\n0xa01f",
        "config": config.hex(" "),
        "boot_id": BOOT,
        **said,
    }

    def answer(asked: Executed) -> Reply:
        mark = re.search(r"set -- '?(@[0-9a-f]{16})", asked.shown)
        if mark:
            names = sorted(set(re.findall(r"^ *(?:section|attribute) ([a-z][\w.-]*)", asked.shown, re.MULTILINE)))
            parts = [f"\n{mark[1]} {name}\n{known.get(name, '')}" for name in names if name != "end"]
            return Reply("".join([*parts, f"\n{mark[1]} end\n"]).encode())
        return Reply(f"{said['slots']}\n".encode(), b"", status)

    rows = [
        f"{name:<40} {domid:5d} 128 1 -b---- 1.0\n" for name, domid in (("Domain-0", 0), ("maskall-a", 7), ("bob", 8))
    ]
    table: dict[str, Any] = {
        "cat /proc/sys/kernel/random/boot_id": Reply(f"{BOOT}\n".encode()),
        ".*machine-id.*": Reply(f"{US.machine_id}\n\n{US.product}\n".encode()),
        "xl list": Reply(("Name ID Mem VCPUs State Time(s)\n" + "".join(rows)).encode()),
        "test -e .*": Reply(status=1 if status in (0, 1) else 0),
        "test .*": Reply(status=status),
        "xl debug-keys.*": Reply(status=95),
        ".*say claim.*": Reply(),
        ".*umask 022.*": Reply(stderr=said["slots"].encode(), status=status),
        ".*(?:flock|deadman|umask).*": Reply(),
        ".*": answer,
    }
    return FakeTransport("box", connected=True, commands=table, streams={".*": bytes})


def stay(link: FakeTransport, which: str) -> None:
    """As `maskall restore` does it."""
    site: Any = SimpleNamespace(
        name="box",
        entry=SimpleNamespace(devices={}, boot_seconds=1, allow_persistent=False),
        transport=lambda: link,
        host_key_fingerprint=US.host_key,
        reach=lambda link, _: link.connect(soon()),
    )
    visit = Lease.begin(site, ClaimOptions(reason="x", take_over="y", journal=which), lambda _: None)
    try:
        visit.put_back(whole=True)
    finally:
        visit.end()


@settings(max_examples=120, phases=[Phase.generate], deadline=None, suppress_health_check=list(HealthCheck))
@given(
    story=stories(),
    other=st.one_of(st.none(), st.none(), st.none(), stories()),
    damage=st.tuples(damages, damages),
    said=answers,
    status=st.sampled_from([0] * 12 + [1, 7, 9, 95, 96, 97, 98, 127]),
    which=st.sampled_from(["", "", "", "host", "controller"]),
    kept=st.sampled_from([(True, True), (True, True), (True, False), (False, True)]),
)
def test_a_journal_of_any_kind(
    story: list[bytes],
    other: list[bytes] | None,
    damage: tuple[Damage, Damage],
    said: dict[str, str],
    status: int,
    which: str,
    kept: tuple[bool, bool],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path_factory.mktemp("state", numbered=True)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    monkeypatch.setattr(undoing, "GONE_SECONDS", 0.0)
    link, state = host(said, status), HostState.of("box")
    here, there = damage[0].done(story), damage[1].done(story if other is None else other)
    if kept[0]:
        state.folder.mkdir(parents=True)
        state.journal.write_bytes(here)
    if kept[1]:
        link.files[REMOTE] = (there, 0o600)
    try:
        stay(link, which)
    except MaskallError as error:
        assert "\n" not in str(error)
        if isinstance(error, JournalDamaged | AnotherMachine):
            assert all("claim" in one.shown for one in link.executed if one.changes), "nothing was touched"
    assert list(outside(link.executed)) == []
    assert not any("xl destroy 8" in one.shown for one in link.executed), "bob's"
    assert all(path.parent == state.folder or path.parent.parent == state.folder for path in _files(folder))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_set_is_closed() -> None:
    for good in ("xl destroy 7", f"tee /sys/bus/pci/devices/{NIC}/reset", "ip link set dev eth0 mtu 9000"):
        assert COMMANDS.fullmatch(good)
    for bad in (
        "xl destroy 0",
        "tee /sys/bus/pci/drivers/../x",
        "modprobe -r e1000e",
        "xl destroy 7; reboot",
        "reboot",
    ):
        assert not COMMANDS.fullmatch(bad) and not PROGRAMS.fullmatch(bad)
        assert list(outside([Executed(shlex.join(bad.split()), True, b"")]))


def test_a_sound_journal_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the test above would have seen nothing."""
    monkeypatch.setattr(undoing, "GONE_SECONDS", 0.0)
    opened = JournalLine(1, "", BOOT, RUN, What.OPENED, {"owner": "a", "reason": "b", **US.as_payload()}, FIRST)
    was = JournalLine(2, "", BOOT, RUN, What.BASELINE, FOUND.as_payload(), opened.hash)
    words = {"kind": "domain", "subject": "maskall-a", "text": "t", "undo": "u"}
    guest = JournalLine(3, "", BOOT, RUN, What.INTENT, words, was.hash)
    said = {
        "driver": "/sys/bus/pci/drivers/pciback", "slots": NIC, "driver_override": "pciback", "power_control": "auto",
        "reset_method": "bus", "sriov_numvfs": "0", "interfaces": "eth0 0x1002", "settings": "",
    }  # fmt: skip
    link = host(said, 0)
    link.files[REMOTE] = (opened.line + was.line + guest.line, 0o600)
    with pytest.raises(MaskallError, match="is not as it was"):
        stay(link, "")
    sent = "\n".join(one.shown for one in link.executed if one.changes)
    for part in (
        "xl destroy 7",
        f"xl pci-assignable-remove -r {NIC}",
        "remove_slot",
        "driver_override",
        "power/control",
    ):
        assert part in sent
    assert list(outside(link.executed)) == []
