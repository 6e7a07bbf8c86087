"""The stacks are data: known by name, complete, and a wrong name gets the nearest right one."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.base.errors import InventoryError, UsageError
from harness.host.stacks import stack, stacks


def test_the_first_is_the_usual_one() -> None:
    assert stack() == next(iter(stacks().values()))
    assert stack("bullseye").xen == "4.14"


@pytest.mark.parametrize("name", list(stacks()))
def test_a_stack_is_complete(name: str) -> None:
    found = stack(name)
    assert found.security_suite == f"{found.suite}-security"
    assert {"xen-system-amd64", "linux-image-amd64", "busybox-static"} < set(found.packages)
    assert "iommu=force" in found.xen_options
    assert "root=/dev/vda" in found.dom0_options.split()


def test_one_with_packages_of_the_backports() -> None:
    newer, usual = stack("trixie+qemu11"), stack("trixie")
    assert (newer.backports, newer.base) == (("qemu-*",), "trixie")
    assert (newer.packages, newer.xen_options) == (usual.packages, usual.xen_options)
    assert (usual.backports, usual.base) == ((), "trixie")
    for one in stacks().values():
        assert stack(one.base).base == one.base and stack(one.base).xen == one.xen


def test_qemus_package_by_suite() -> None:
    assert "qemu-system-xen" in stack("bookworm").packages
    assert "qemu-system-x86" in stack("bullseye").packages


@pytest.mark.parametrize(
    ("name", "hint"), [("trixi", "did you mean 'trixie'"), ("jammy", r"there are trixie, trixie\+qemu11, book")]
)
def test_unknown_stack(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"unknown stack '{name}'.*{hint}"):
        stack(name)


def test_a_broken_stacks_file_points_at_the_line(tmp_path: Path) -> None:
    path = tmp_path / "stacks.yaml"
    path.write_text("stacks:\n  trixie:\n    sweet: trixie\n")
    with pytest.raises(InventoryError, match=r"stacks\.yaml:3:\d+"):
        stacks(path)
