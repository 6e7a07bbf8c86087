"""The backup that provisioning leaves on a host: byte for byte, mode and owner, and what was not there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.base.errors import CommandFailed, LabError, ParseError
from harness.lab.provision import backup
from harness.lab.provision.backup import (
    BackupManifest,
    Kept,
    differences,
    forget,
    parse_kept,
    parse_manifest,
    put_back,
    take,
)
from suites.selftest.fakes.localtransport import LocalTransport

HOST = LocalTransport()
EMPTY = BackupManifest(("vmlinuz-1",))
BYTES = b"\0\xff no newline; $(reboot) 'x"


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the backup goes."""
    path = tmp_path / "var lib" / "provision"
    monkeypatch.setattr(backup, "BASE", str(path))
    return path


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    path = tmp_path / "e't c"
    path.mkdir()
    (path / "grub.cfg").write_bytes(BYTES)
    (path / "grub.cfg").chmod(0o640)
    os.utime(path / "grub.cfg", (1_000_000, 1_000_000))
    return path


def test_a_file_comes_back_byte_for_byte_with_mode_and_time(base: Path, etc: Path) -> None:
    path = etc / "grub.cfg"
    manifest = take(HOST, EMPTY, [str(path)], ["xen-a"])
    path.write_bytes(b"ours")
    path.chmod(0o644)
    assert differences(HOST, manifest.files) == [f"{path} has another content"]
    put_back(HOST, manifest.files[0])
    status = path.stat()
    assert (path.read_bytes(), status.st_mode & 0o7777, status.st_mtime) == (BYTES, 0o640, 1_000_000)
    assert differences(HOST, manifest.files) == []
    assert [one.name for one in etc.iterdir()] == ["grub.cfg"], "no temporary file is left"
    path.chmod(0o600)
    assert "600" in differences(HOST, manifest.files)[0]
    path.unlink()
    assert differences(HOST, manifest.files) == [f"{path} is missing"]
    assert base.stat().st_mode & 0o077 == 0, "others do not read what may be secret"


def test_what_was_not_there_goes_again_with_its_folder(base: Path, etc: Path) -> None:
    path = etc / "grub.d" / "ours.cfg"
    manifest = take(HOST, EMPTY, [str(path)], [])
    assert manifest.files == (Kept(str(path)),) and manifest.folders == (str(path.parent),)
    path.parent.mkdir()
    path.write_text("ours")
    assert differences(HOST, manifest.files) == [f"{path} should not be there"]
    put_back(HOST, manifest.files[0])
    put_back(HOST, manifest.files[0])  # again: it is gone already
    assert not path.exists() and differences(HOST, manifest.files) == []
    forget(HOST, manifest)
    assert not base.exists() and not path.parent.exists()


def test_a_folder_that_somebody_uses_now_stays(base: Path, etc: Path) -> None:
    path = etc / "grub.d" / "ours.cfg"
    manifest = take(HOST, EMPTY, [str(path)], [])
    path.parent.mkdir()
    (path.parent / "theirs").touch()
    forget(HOST, manifest)
    assert (path.parent / "theirs").exists() and not base.exists()


@pytest.mark.parametrize("number", ["\u00b2", "9" * 5000, "-1", ""], ids=["superscript", "long", "negative", "none"])
def test_a_number_that_is_none_is_refused(number: str) -> None:
    with pytest.raises(ParseError):
        parse_kept(f"file {number} 644 0:0 {'a' * 64} /etc/x")


def test_a_second_time_nothing_is_written_over(base: Path, etc: Path) -> None:
    path, other = etc / "grub.cfg", etc / "other"
    first = take(HOST, EMPTY, [str(path)], ["xen-a"])
    path.write_bytes(b"ours")
    other.write_bytes(b"theirs")
    again = take(HOST, parse_manifest((base / "manifest.json").read_text()), [str(path), str(other)], ["xen-b"])
    assert again.files[0] == first.files[0] and again.packages == ("xen-a", "xen-b")
    for file in again.files:
        put_back(HOST, file)
    assert (path.read_bytes(), other.read_bytes()) == (BYTES, b"theirs")
    assert parse_manifest((base / "manifest.json").read_text()) == again


def test_a_damaged_backup_is_not_put_back(base: Path, etc: Path) -> None:
    path = etc / "grub.cfg"
    manifest = take(HOST, EMPTY, [str(path)], [])
    (base / "files" / "0").write_bytes(b"rotten")
    path.write_bytes(b"ours")
    with pytest.raises(CommandFailed, match="damaged"):
        put_back(HOST, manifest.files[0])
    assert path.read_bytes() == b"ours"


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_what_is_no_plain_file_is_refused_before_anything_is_changed(base: Path, etc: Path, kind: str) -> None:
    path = etc / "odd"
    path.symlink_to(etc / "grub.cfg") if kind == "link" else path.mkdir()
    with pytest.raises(LabError, match="no plain file"):
        take(HOST, EMPTY, [str(path)], [])
    assert not (base / "manifest.json").exists()


def damaged() -> list[str]:
    good = BackupManifest(("k",), (Kept("/a", "0" * 64, "644", "0:0", 0),), ("/f",), ("p",)).as_json().decode()
    changes = {
        "format": 2,
        "packages": ["--purge"],
        "folders": ["relative"],
        "files": [{"path": "a"}],
    }
    return [json.dumps({**json.loads(good), key: value}) for key, value in changes.items()] + [
        good[:50],
        "[]",
        "null",
        good.replace('"/a"', "7"),
        good.replace("0" * 64, "../../etc"),
    ]


@pytest.mark.parametrize("text", damaged())
def test_a_damaged_manifest_is_told(text: str) -> None:
    with pytest.raises(ParseError):
        parse_manifest(text)


@settings(max_examples=20, deadline=None)
@given(st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.dictionaries(st.text(), inner)))
def test_any_json_is_a_manifest_or_told(value: object) -> None:
    base = json.loads(EMPTY.as_json())
    for key in base:
        try:
            parse_manifest(json.dumps({**base, key: value}))
        except ParseError:
            continue


MENU = Kept("/boot/grub/grub.cfg", "0" * 64, "600", "0:0", 0)
INITRD = Kept("/boot/initrd.img-1", "1" * 64, "600", "0:0", 1)
CONFIG = Kept("/etc/x", "2" * 64, "600", "0:0", 2)


def test_what_the_system_made_anew_meanwhile_is_left_to_it() -> None:
    left = BackupManifest(("k1",), (MENU, INITRD, CONFIG), left=((MENU.path, "a"), (INITRD.path, "b")))
    assert backup.generated(left) == (MENU, INITRD)
    assert backup.decide(left, ("k1",), {MENU.path: "a", INITRD.path: "b"}) == (MENU.path, INITRD.path)
    assert backup.decide(left, ("k1", "k2"), {MENU.path: "other", INITRD.path: "b"}) == (INITRD.path,)
    assert backup.decide(left, ("k1",), {MENU.path: "a"}) == (MENU.path,), "the initramfs went with its kernel"


def test_after_an_interrupted_provisioning_the_same_kernels_have_to_do() -> None:
    half = BackupManifest(("k1",), (MENU, INITRD, CONFIG))
    assert backup.decide(half, ("k1",), {MENU.path: "x"}) == (MENU.path, INITRD.path)
    assert backup.decide(half, ("k1", "k2"), {MENU.path: "x"}) == ()
