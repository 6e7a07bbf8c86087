"""The fixtures with which anybody writes their own passthrough test. Imports nothing heavy: every pytest loads it.

What they hand out are the nouns of harness/host: Host, Device, Guest, as the scenarios use them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.host.device import Device
    from harness.host.guest import Guest
    from harness.host.host import Host
    from harness.play.trial import Trial
    from harness.plugin.running import Running
    from harness.scenario.case import CaseView
    from harness.xen.toolstack.xl import Toolstack

Fate = Literal["preserve", "destroy", "restart"]


class MakeGuest(Protocol):
    """What make_guest hands out."""

    def __call__(
        self,
        *devices: Device,
        type: Literal["hvm", "pv", "pvh"] | None = None,
        name: str | None = None,
        vcpus: int | None = None,
        memory: int | None = None,
        cmdline: str | None = None,
        on_reboot: Fate | None = None,
        on_crash: Fate | None = None,
        start: bool = True,
    ) -> Guest: ...


class TakeCheckpoint(Protocol):
    """What checkpoint hands out."""

    def __call__(self, name: str) -> CaseView: ...


@pytest.fixture
def maskall_hypervisor(request: pytest.FixtureRequest) -> str:
    """On which hypervisor this item is played: 'stock', or the name of a mutant."""
    return str(getattr(request, "param", "stock"))


@pytest.fixture
def maskall_trial(request: pytest.FixtureRequest, maskall_running: Running, maskall_hypervisor: str) -> Iterator[Trial]:
    """The test under way, with all that goes on record; the fixtures below are parts of it."""
    from harness.plugin.case import play

    with play(request.node, maskall_running, maskall_hypervisor) as trial:
        yield trial


@pytest.fixture
def xen_host(maskall_trial: Trial) -> Host:
    """A Xen host, to be changed at will: a `Host` (harness/host/host.py).

    A nested one is fresh for each test and thrown away after it. A lab host is leased for the run; what a test does to
    it is journaled, undone in reverse order and verified, whatever happens. `run` (argv in dom0), `xl`, `said` (lines
    of Xen's console since the test began), `xen_console`, `dmesg`, `debug_key`, `reboot`, `reset`.

    With @pytest.mark.control("no-maskall-reset") the test is played on that known-bad hypervisor too, and must fail
    there by an assertion of its own. Errors of the lab are no failures of the product, and count as UNDECIDED.
    """
    return maskall_trial.host


@pytest.fixture
def pci_device(request: pytest.FixtureRequest, maskall_trial: Trial) -> Device:
    """A PCI device of xen_host, identified, checked to be safe to take, and bound to pciback: a `Device`.

    Which one: @pytest.mark.device("nvme"), a parametrized `pci_device` (indirect), else the first of --maskall-device
    or of the inventory. It is given back after the test. `msix` (enabled, masked, table), `config`, `lspci`, `owner`,
    `irqs` and `masks` as Xen's debug keys tell them; `memory_decoding(False)`, `reset("flr")`, `bind`, `unbind`.
    """
    device = maskall_trial.borrow(next(iter(maskall_trial.host.devices)))
    maskall_trial.bound()
    return device


@pytest.fixture
def pci_devices(maskall_trial: Trial) -> list[Device]:
    """Several devices, each as pci_device: those of @pytest.mark.device("nvme", "virtio-rng"), in this order.

    Without the mark all of --maskall-device, else all of the inventory.
    """
    devices = [maskall_trial.borrow(name) for name in maskall_trial.host.devices]
    maskall_trial.bound()
    return devices


@pytest.fixture
def make_guest(maskall_trial: Trial) -> MakeGuest:
    """Makes guests on xen_host: make_guest(pci_device) is an HVM guest with that device, its driver at work: a `Guest`.

    make_guest(*devices, type="hvm" | "pv" | "pvh", name="maskall-...", vcpus=1, memory=128 (MiB), cmdline="",
    on_reboot="preserve" | "restart" | "destroy", on_crash=..., start=True). Usual values: @pytest.mark.guest(...).
    With start=False it is only described: `guest.create()` tells how the toolstack answers, `guest.wait_up()` whether
    it boots. With start=True a refusal of the toolstack fails the test, and a guest that never boots leaves it
    UNDECIDED.

    `interrupts(device)` under forced traffic, `msix(device)` as the guest reads it, `run("command")` inside, `reboot`,
    `crash`, `shut_down`, `power_off_with_msix_on`, `destroy`, `attach`, `detach`, `device_model.kill()` (stop,
    segfault, abort), `console`. A deed returns how it went, false when the product refused. Guests are ended after
    the test.
    """
    from harness.plugin.asked import guest_wishes

    def make(
        *devices: Device,
        name: str | None = None,
        start: bool = True,
        type: str | None = None,
        vcpus: int | None = None,
        memory: int | None = None,
        cmdline: str | None = None,
        on_reboot: str | None = None,
        on_crash: str | None = None,
    ) -> Guest:
        given = {
            "type": type,
            "vcpus": vcpus,
            "memory": memory,
            "cmdline": cmdline,
            "on_reboot": on_reboot,
            "on_crash": on_crash,
        }
        told = {key: value for key, value in given.items() if value is not None}
        return maskall_trial.make_guest(devices, guest_wishes(maskall_trial.wishes, told), name, start=start)

    return make


@pytest.fixture
def toolstack(maskall_trial: Trial) -> Toolstack:
    """Who makes and ends domains on xen_host, by --maskall-toolstack: xl or libvirt. Its calls bypass the record."""
    return maskall_trial.tools


@pytest.fixture
def checkpoint(maskall_trial: Trial) -> TakeCheckpoint:
    """checkpoint("after the fault") keeps all views of every borrowed device as evidence, under that name.

    Hardware (config space), the vector table where it can be read, Xen (debug keys M, Q, i), the guest's as of its last
    traffic. Stock and control are compared at checkpoints of the same name. Two are taken in every test: `bound`, and
    `end` when its last line was played or failed.
    """
    return maskall_trial.checkpoint
