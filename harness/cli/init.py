"""`maskall init`: a project of one's own, outside of any checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.base.errors import UsageError

app = typer.Typer()

_INI = """\
[pytest]
addopts = --strict-markers
xfail_strict = true
# Where the tests run; every --maskall- option that says something about the place can stand here.
maskall_inventory = inventory.yaml
maskall_host = nested
"""

_INVENTORY = """\
# The hosts that tests may use. `maskall_host` in pytest.ini, or --maskall-host, picks one.
hosts:
  nested:
    kind: nested      # a Xen host in QEMU on this machine; needs no lab
    stack: trixie     # see 'maskall list'
    devices: [nvme, virtio-rng]
  # A machine on a bench, reached over ssh. Whatever is not granted here is not done; see docs/inventory.md.
  # xenbox1:
  #   kind: lab
  #   address: 192.0.2.10
  #   key: ~/.ssh/xenbox1
  #   host_key: ssh-ed25519 AAAA...
  #   devices:
  #     nic0:
  #       identity: {id: "8086:10d3", mac: "52:54:00:12:34:56"}
  #       driver: e1000e
  #       endings: []     # of 'maskall list'; what tests do to it is their own affair
  #       recover: [bus]
"""

_TEST = '''\
"""A device that Xen had to mask by MASKALL works for the next guest that gets it."""

import pytest


@pytest.mark.control("no-maskall-reset")
def test_next_guest_gets_interrupts(xen_host, pci_device, make_guest):
    guest = make_guest(pci_device)
    assert guest.interrupts(pci_device) > 0  # under forced traffic

    pci_device.memory_decoding(False)
    guest.clear_msix_enable(pci_device)
    pci_device.memory_decoding(True)
    assert pci_device.msix.masked  # lspci says Masked+
    assert xen_host.said("cannot mask IRQ")  # Xen's console since the test began

    guest.destroy()
    again = make_guest(pci_device)
    assert again.interrupts(pci_device) > 0
    assert not pci_device.msix.masked
'''

_README = """\
# Passthrough tests

    pytest                # on the host that pytest.ini names; the first time it builds a Xen host in QEMU
    pytest --fixtures     # what a test may ask for: xen_host, pci_device, make_guest, checkpoint

A test with the mark `control` is played twice, on the stock hypervisor and on one with the defect, where it must fail.
Results, logs and raw files are below `results/`.
"""

FILES = {"pytest.ini": _INI, "inventory.yaml": _INVENTORY, "test_next_guest.py": _TEST, "README.md": _README}


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to; made when it is not there.", metavar="DIR")],
) -> None:
    """Write a project of your own: one test, a pytest.ini, an inventory. Nothing is written over."""
    there = [name for name in FILES if (folder / name).exists()]
    if there:
        raise UsageError(f"{folder / there[0]} is there already", hint="name a new directory")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in FILES.items():
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise UsageError(f"cannot write into {folder}: {error.strerror}", hint="name another directory") from error
    typer.echo(f"written: {', '.join(str(folder / name) for name in FILES)}\nnow: cd {folder} && pytest")
