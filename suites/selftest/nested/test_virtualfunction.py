"""Switching on a virtual function: the program itself, on a sysfs made of files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harness.nested import virtualfunction

PROGRAM = Path(virtualfunction.__file__).with_suffix(".sh").read_text()
CARD, OTHER = "0000:05:00.0", "0000:04:00.0"


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """Two cards with a network port; the virtual function of one already has its driver."""
    for address, device in ((CARD, "0x10c9"), (OTHER, "0x10d3")):
        folder = tmp_path / "devices" / address
        (folder / "net" / f"enp{address[5:7]}").mkdir(parents=True)
        (folder / "vendor").write_text("0x8086\n")
        (folder / "device").write_text(f"{device}\n")
        (folder / "sriov_numvfs").write_text("0\n")
    (tmp_path / "drivers" / "igbvf").mkdir(parents=True)
    (tmp_path / "devices" / CARD / "virtfn0").mkdir()
    (tmp_path / "devices" / CARD / "virtfn0" / "driver").symlink_to(tmp_path / "drivers" / "igbvf")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("ip", "modprobe"):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/said\n')
        (programs / name).chmod(0o755)
    return tmp_path


def switch_on(sysfs: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.replace("/sys/bus/pci/devices", f"{sysfs}/devices").replace("seq 150", "seq 2")
    path = f"{sysfs}/bin:{os.environ['PATH']}"
    return subprocess.run(  # noqa: S603
        ["/bin/sh", "-c", program, "sh", *words], env={"PATH": path}, capture_output=True, text=True, check=False
    )


def numbers(sysfs: Path) -> list[str]:
    return [(sysfs / "devices" / address / "sriov_numvfs").read_text().strip() for address in (CARD, OTHER)]


def test_one_function_of_the_card_that_is_meant(sysfs: Path) -> None:
    assert switch_on(sysfs, "8086", "10c9", "igbvf", "igbvf").returncode == 0
    assert numbers(sysfs) == ["1", "0"]
    assert (sysfs / "said").read_text().splitlines() == ["ip link set dev enp05 up", "modprobe igbvf"]


def test_a_card_that_never_comes(sysfs: Path) -> None:
    ended = switch_on(sysfs, "8086", "ffff", "igbvf", "igbvf")
    assert (ended.returncode, ended.stdout) == (1, "in vain: find_card\n")
    assert numbers(sysfs) == ["0", "0"]


def test_a_driver_that_does_not_take_it(sysfs: Path) -> None:
    ended = switch_on(sysfs, "8086", "10c9", "vfio-pci", "vfio_pci")
    assert (ended.returncode, ended.stdout) == (1, "in vain: bound\n")
