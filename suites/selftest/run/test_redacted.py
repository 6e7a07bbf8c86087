"""A bundle without names and addresses comes to the same judgement as the private one, for every recorded run."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.base.errors import UsageError
from harness.cli.entry import main
from harness.report.bundle.redact import Redaction
from harness.run.again import judged_again
from harness.run.bundle import redacted_bundle
from harness.run.comparison import compared
from suites.selftest.fakes.badbundle import SIDE, Forger, edit_raw, finish, finished_run, forger, members_of
from suites.selftest.replay.recording import recordings, told

__all__ = ["forger"]
pytestmark = pytest.mark.whole

KEY = bytes(range(32))
SECRETS = (
    b"[    1.0] systemd[1]: Hostname set to <rack7-xen.lab.example.com>.\n"
    b"[    1.1] usb 1-1: SerialNumber: PX4711ABC\n"
    b"[    1.2] e1000e 0000:04:00.0 eth0: MAC: 3, PBA No: x, 00:1b:21:aa:bb:cc\n"
    b"[    1.3] NFS: 192.0.2.17 and fe80::21b:21ff:feaa:bbcc, root=UUID=6b2e8c1a-1111-4222-8333-0123456789ab\n"
    b"[    1.4] Linux version 6.1.0 (ada@buildbox) #1\n"
    b"[    1.5] nvme0n1: eui.0025385b71b00e1f, at /home/lovelace/xen\n"
)
WORDS = (
    b"rack7-xen",
    b"PX4711ABC",
    b"00:1b:21:aa:bb:cc",
    b"192.0.2.17",
    b"fe80::",
    b"6b2e8c1a",
    b"ada@",
    b"buildbox",
    b"0025385b71b00e1f",
    b"lovelace",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run whose logs say who and where."""
    root = finished_run("proven", tmp_path / "run")
    edit_raw(root, SIDE, "01-C0/dom0_dmesg.txt", lambda data: data + SECRETS)
    finish(root)
    return root


@pytest.mark.parametrize("name", recordings())
def test_the_judgement_is_the_same(name: str, tmp_path: Path) -> None:
    root = finished_run(name, tmp_path / "run")
    made, _ = redacted_bundle(root, tmp_path / "b.tar.gz", KEY)
    copy = tmp_path / "copy"
    for member, content in members_of(made.path).items():
        path = copy / member.removeprefix("data/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert told(judged_again(copy)) == told(judged_again(root))
    assert compared(root, None).redefined == [], "else verify refuses it: tools/record-replay --redefine"


def test_who_and_where_are_in_no_file(root: Path, tmp_path: Path, forger: Forger) -> None:
    made, redaction = redacted_bundle(root, tmp_path / "b.tar.gz", KEY, keys=[forger.key])
    members = members_of(made.path)
    whole = b"\n".join(members.values())
    assert [word for word in WORDS if word in whole] == []
    assert all(word in b"\n".join(path.read_bytes() for path in root.rglob("*.txt")) for word in WORDS)
    assert {kind for kind, _ in redaction.replaced.values()} == {
        "host",
        "user",
        "UUID",
        "MAC address",
        "serial number",
        "IP address",
    }
    found = forger.verify(made.path)
    assert found.status == 0, list(found.lines)
    assert "redacted: " in "\n".join(found.lines)


def test_what_the_judge_and_people_go_by_stays(root: Path, tmp_path: Path) -> None:
    made, _ = redacted_bundle(root, tmp_path / "b.tar.gz", KEY)
    whole = b"\n".join(members_of(made.path).values())
    for word in (b"0000:04:00.0", b"lists.debian.org", b"E14-F1-hvm-virtio-rng", b"6.12.", b"4.20"):
        assert word in whole


def test_the_same_word_is_the_same_pseudonym_in_every_bundle_of_a_lab(root: Path, tmp_path: Path) -> None:
    _, first = redacted_bundle(root, tmp_path / "a.tar.gz", KEY)
    _, second = redacted_bundle(root, tmp_path / "b.tar.gz", KEY)
    _, other = redacted_bundle(root, tmp_path / "c.tar.gz", bytes(32))
    assert first.replaced == second.replaced
    assert first.replaced.keys() == other.replaced.keys()
    assert not set(first.replaced.values()) & set(other.replaced.values()), "another lab's are others"


def test_a_redaction_that_changes_the_judgement_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Redaction, "redacted", lambda self, text: text.replace("maskall", "redacted"))
    with pytest.raises(UsageError, match=r"redacted, the run|cannot be read|no record|version"):
        redacted_bundle(root, tmp_path / "b.tar.gz", KEY)
    assert not (tmp_path / "b.tar.gz").exists()


def test_the_command_explains(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    argv = ["bundle", str(root), "--redact", "--explain", "--output", str(tmp_path / "b.tar.gz")]
    assert main(argv) == 0
    first = capsys.readouterr().out
    assert (
        "MAC address    00:1b:21:aa:bb:cc is 02:" in first
        and "host           rack7-xen.lab.example.com is host-" in first
    )
    assert (tmp_path / "state/maskall/redaction.key").stat().st_mode & 0o777 == 0o600
    assert main(argv) == 0
    assert capsys.readouterr().out == first
    assert main(["bundle", str(root), "--explain"]) == 2


@pytest.mark.parametrize(
    "text",
    [
        "0000:04:00.0 [8086:1521] 00: 86 80 21 15 07 04 10 00",
        "(XEN) Xen version 4.20.2 (Debian 4.20.2+7-g1badcf5035-0+deb13u1) (pkg-xen-devel@lists.alioth.debian.org)",
        "Linux version 6.12.118+deb13-amd64 (debian-kernel@lists.debian.org) #1 SMP",
        "127.0.0.1 localhost ::1 0.0.0.0 255.255.255.0 ff:ff:ff:ff:ff:ff",
        "12:34:56 at [00:1f.2] 1:2:3 build-id 576c0736b3e38388c5afe9aaccc43a18d514e88e",
        "qemu 1:10.0.8+ds-0+deb13u1 4.20.2.1",
        "00000000-0000-0000-0000-000000000000",
        "usb usb1: SerialNumber: 0000:06:00.0",
    ],
)
def test_what_is_nobodys_stays(text: str) -> None:
    assert Redaction(KEY, frozenset({"4.20.2.1"})).redacted(text) == text
