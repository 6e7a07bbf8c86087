"""The plain machine on paper: its disk's partition table, what is on it, and the command that refuses in time."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from harness.base.errors import SafetyRefusal
from harness.cli import provision as cli
from harness.nested import boottime
from suites.provision.plain import files as plainfiles
from suites.provision.plain.image import partition_table
from suites.selftest.fakes.sshlink import new_key

MIB = 1 << 20


def test_the_partition_table_has_one_active_linux_partition_at_the_given_place() -> None:
    sector = partition_table(1, 4095)
    assert len(sector) == 512 and sector[510:] == b"\x55\xaa"
    active, kind, start, length = (sector[446], sector[450], *struct.unpack_from("<II", sector, 454))
    assert (active, kind, start * 512, length * 512) == (0x80, 0x83, MIB, 4095 * MIB)
    assert sector[462:510] == bytes(48), "the other three are empty"


def test_the_machine_knows_nothing_of_xen() -> None:
    assert not any("xen" in name for name in plainfiles.PACKAGES)
    paths = {*plainfiles.FILES, *plainfiles.LINKS}
    assert not any("grub.d" in path or "modules-load" in path for path in paths)


def test_it_mounts_its_root_as_everywhere() -> None:
    assert "/etc/systemd/system/systemd-remount-fs.service" in boottime.LINKS
    assert "/etc/systemd/system/systemd-remount-fs.service" not in plainfiles.LINKS


def test_its_scripts_are_good_shell() -> None:
    for path, (_, text) in plainfiles.FILES.items():
        if text.startswith("#!/bin/sh"):
            done = subprocess.run(["sh", "-n"], input=text, text=True, capture_output=True, check=False)  # noqa: S607
            assert done.returncode == 0, f"{path}: {done.stderr}"


@pytest.mark.parametrize("verb", [cli.provision, cli.unprovision])
def test_a_host_that_is_not_ours_to_change_is_not_contacted(tmp_path: Path, verb: Callable[..., int]) -> None:
    key = tmp_path / "key"
    public = new_key(key)
    entry = {
        "kind": "lab",
        "address": "192.0.2.1",  # TEST-NET-1: a connection would hang
        "key": str(key),
        "host_key": f"{public.get_name()} {public.get_base64()}",
        "allow_reboot": True,
        "devices": {},
    }
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(yaml.safe_dump({"hosts": {"box": entry}}))
    with pytest.raises(SafetyRefusal, match="does not allow") as caught:
        verb(host="box", inventory=inventory)
    assert "allow_persistent: true" in caught.value.hint
