"""A guest of ours: a domain with devices, an agent on its console, and perhaps a device model."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TypeVar

from harness.base.deadline import Deadline, poll
from harness.base.errors import CommandFailed, GuestDied, HarnessBug, ParseError
from harness.guest.agent import Agent, AgentAnswer
from harness.guest.exercise import parse_exercise
from harness.host.deeds import Done
from harness.host.device import PATIENCE_SECONDS, Device
from harness.host.devicemodel import DeviceModel
from harness.host.host import Host
from harness.model.address import Bdf
from harness.model.change import ChangeKind, Deed
from harness.model.config import ConfigSpace, MsixControl
from harness.model.guestspec import GuestSpec
from harness.model.observation import GuestView
from harness.transport.base import CommandResult, Script
from harness.xen.keys.xl_output import DomainRow, parse_list
from harness.xen.toolstack.xl import REMOTE_RUN, Toolstack, owner_note

T = TypeVar("T")

TOOLSTACK_SECONDS = 120.0
UP_SECONDS = 150.0
_STARVED_TIMES = 3
_GONE_SECONDS = 30.0
_CRASH_SECONDS = 30.0
_RESTART_SECONDS = 60.0
_NO_DEVICE = Bdf(0, 0, 0, 0)  # of which libxl never notes an owner: a host bridge is not assignable
_ENABLE, _MASKALL = 0x8000, 0x4000  # message control, bits 15 and 14


def _domain(text: str, undo: str = "destroy {guest}") -> Deed:
    return Deed(ChangeKind.DOMAIN, text, undo)


CREATE = _domain("create domain {guest}", "xl destroy {guest}")
DESTROY = _domain("destroy domain {guest}", "nothing: it was created for this run")
SAVE = _domain(f"save domain {{guest}} to {REMOTE_RUN}/saved, which must be refused")
PAUSE = _domain("pause domain {guest}")
UNPAUSE = _domain("let domain {guest} run again")
ATTACH = _domain("attach {device} to domain {guest}")
DETACH = _domain("detach {device} from domain {guest}")
FORCE_DETACH = _domain("detach {device} from domain {guest} by force")
FORGET = _domain("make xenstore forget that domain {guest} has {device}")
SHUT_DOWN = _domain("shut down {guest} from inside")
POWER_OFF = _domain("power off {guest} from inside, past its drivers")
REBOOT = _domain("reboot {guest} from inside")
CRASH = _domain("panic the kernel of {guest}")
UNLOAD_DRIVER = _domain("take the driver of {guest} from {device}")
LOAD_DRIVER = _domain("give {device} to the driver of {guest} again")
START_LOAD = _domain("keep the driver of {guest} busy with {device}")
START_CHURN = _domain("let CPUs and vectors of {guest} come and go")
CLEAR_ENABLE = _domain("switch MSI-X of {device} off from inside {guest}")
SET_MASKALL = _domain("set MASKALL of {device} from inside {guest}")

# Linux deletes the directory in /sys/devices only once the driver's remove has returned, with the reset in it.
_LOSE_BACKEND = """\
device=$(readlink -f /sys/bus/xen-backend/devices/pci-{domid}-0) && [ -d "$device" ] || exit 2
xenstore-rm /local/domain/0/backend/pci/{domid}/0 || exit 3
if xenstore-read {note} >/dev/null 2>&1; then xenstore-rm {note} || exit 3; fi   # older libxl keeps no such note
tries=300
while [ -d "$device" ]; do
  tries=$((tries - 1))
  [ $tries -gt 0 ] || {{ echo "pciback still serves domain {domid}"; exit 4; }}
  sleep 0.1
done
"""


@dataclass(repr=False)
class Guest:
    """One domain. Whatever is done to it goes on record first (`Host.deeds`); a refusal is a `Done` that is false."""

    host: Host
    tools: Toolstack
    spec: GuestSpec
    label: str = ""
    """What evidence and results call it: A suffers, B follows, C stands by."""
    devices: tuple[Device, ...] = ()
    """Those of its `spec`, where its drivers shall be waited for."""
    agent: Agent | None = None
    """None before it was created, and once its console was closed."""
    views: dict[Bdf, GuestView] = field(default_factory=dict, init=False)
    """What each device was like for it when it was exercised last."""
    successor: Guest | None = field(default=None, init=False)
    """The domain that the toolstack made instead of it, once `restarted` has found it."""
    _domid: int | None = field(default=None, init=False)

    def __str__(self) -> str:
        return f"{self.name} (d{self._domid})" if self._domid is not None else self.name

    def __repr__(self) -> str:
        return f"<guest {self}>"

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def domid(self) -> int:
        if self._domid is None:
            raise HarnessBug(f"{self.name} was never created")
        return self._domid

    @cached_property
    def device_model(self) -> DeviceModel:
        """Its qemu."""
        return DeviceModel(self.host.deeds, self.tools, self.name, self.domid)

    # -- coming and going ----------------------------------------------------------------------------------------------

    def create(self) -> Done:
        """By the toolstack, within 120 s; then its console is open. Whether it boots is for `wait_up` to tell."""
        with self.host.deeds.doing("create", CREATE.to(guest=self.name)) as act:
            created = self.tools.create(self.spec, self._soon())
            act.by(created.result)
        self._domid = created.domid
        if act.done and created.domid is not None:
            self.adopt(created.domid)
        return act.done

    def adopt(self, domid: int) -> None:
        """The domain runs already, under this number."""
        self._domid = domid
        self.agent = Agent(self.tools.console(domid, self._soon()))

    @property
    def exists(self) -> bool:
        """Whether there was ever a domain of it; a create that fails may leave one."""
        return self._domid is not None

    def wait_up(self, seconds: float = UP_SECONDS) -> bool:
        """Whether its userland came up within `seconds`, as `_awaited`, and its agent answers."""
        return self.agent is not None and self._awaited(self.agent.await_up, seconds)

    def wait_ready(self, device: Device, patience: int = PATIENCE_SECONDS) -> bool:
        """Whether its driver can take traffic to the device; it comes a while after userland. Makes no traffic.

        A driver whose vectors are set up and silent for `patience` seconds is not waited for. Errors as `run`.
        """
        return self.run(f"{_exercise(device, patience)} wait").status == 0

    def destroy(self, *, wait: bool = True) -> Done:
        """By the toolstack; with `wait` it must be gone within 30 s, and libxl must have forgotten its devices."""
        with self.host.deeds.doing("destroy", DESTROY.to(guest=self.name)) as act:
            act.by(self.tools.destroy(self.domid, self._soon()))
            if wait and act.done:
                self.wait_gone()
        return act.done

    def wait_gone(self, seconds: float = _GONE_SECONDS) -> Done:
        """Until neither the domain is there nor libxl's note that it has a device; at most `seconds`, as `_awaited`."""
        with self.host.deeds.doing("wait_gone") as act:
            for device in self.spec.devices or (_NO_DEVICE,):
                gone = self._awaited(partial(self.tools.await_gone, self.domid, device), seconds, lambda one: one.ok)
                detail = "gone" if gone.ok else "the domain is still there"
                if not act.end(gone.ok, detail, gone.stdout + gone.stderr):
                    break
        return act.done

    def shut_down(self, *, wait: bool = True) -> Done:
        """Ask its userland to power off at once: drivers shut their devices down."""
        return self._ends_itself("shut_down", SHUT_DOWN, "poweroff -f", wait)

    def power_off_with_msix_on(self, *, wait: bool = True) -> Done:
        """Off past every driver's shutdown hook: the device keeps what it had. A PV guest reboots by sysrq instead."""
        return self._ends_itself("power_off_with_msix_on", POWER_OFF, "power_off_by_hand", wait)

    def reboot(self, *, wait: bool = True) -> Done:
        """From inside; what becomes of the domain is its spec's `on_reboot`. With `wait` the domain must go."""
        return self._ends_itself("reboot", REBOOT, "reboot -f", wait)

    def crash(self, *, wait: bool = True) -> Done:
        """Its kernel panics (sysrq c); what becomes of the domain is its spec's `on_crash`. `wait` as for `reboot`."""
        return self._ends_itself("crash", CRASH, "echo c > /proc/sysrq-trigger", wait)

    def wait_crashed(self, seconds: float = _CRASH_SECONDS) -> Done:
        """Until `xl list` shows it in the state `c`, for a domain that is preserved then."""
        with self.host.deeds.doing("wait_crashed") as act:
            said = b""

            def crashed() -> bool:
                nonlocal said
                said, rows = self._listed()
                return any(row.domid == self.domid and row.crashed for row in rows)

            seen = self._awaited(partial(poll, crashed, every=0.3), seconds)
            act.end(bool(seen), "crashed" if seen else "not crashed", said if seen else b"")
        return act.done

    def wait_restarted(self, seconds: float = _RESTART_SECONDS) -> int | None:
        """The domain that the toolstack has created under its name instead; None when there is none in `seconds`.

        It is created paused, and runs once it has its devices.
        """

        def successor() -> int | None:
            rows = self._listed()[1]
            new = [row.domid for row in rows if row.name == self.name and row.domid != self.domid]
            return new[0] if new and not any(row.paused for row in rows) else None

        return self._awaited(partial(poll, successor, every=0.3), seconds)

    def restarted(self) -> Guest:
        """The domain that the toolstack has made instead of it (`on_reboot`, `on_crash`), up as `make_guest` has it.

        CommandFailed when there is none within 60 s, GuestDied when its userland does not come up.
        """
        with self.host.deeds.doing("restarted") as act:
            domid = self.wait_restarted()
            act.end(domid is not None, f"d{domid}" if domid is not None else "not restarted")
        if domid is None:
            raise CommandFailed(f"the toolstack has made no domain instead of {self}")
        successor = Guest(self.host, self.tools, self.spec, self.label, self.devices)
        successor.adopt(domid)
        self.successor = successor
        if not successor.wait_up():
            raise GuestDied(f"{successor} did not reach its userland")
        for device in successor.devices:
            successor.wait_ready(device)
        return successor

    def save(self) -> Done:
        """`xl save`; of a guest with a device it must be refused."""
        return self._deed("save", SAVE, lambda: self.tools.save(self.domid, self._soon()))

    def pause(self) -> Done:
        """Its CPUs stand still."""
        return self._deed("pause", PAUSE, lambda: self.tools.pause(self.domid, self._soon()))

    def unpause(self) -> Done:
        return self._deed("unpause", UNPAUSE, lambda: self.tools.unpause(self.domid, self._soon()))

    # -- its devices ---------------------------------------------------------------------------------------------------

    def attach(self, device: Device) -> Done:
        """Hot-plug it. Whether its driver works then shows when it is exercised."""
        return self._deed("attach", ATTACH, lambda: self.tools.attach(self.domid, device.address, self._soon()), device)

    def detach(self, device: Device, *, force: bool = False) -> Done:
        """Hot-unplug it; with `force` whether the guest lets go of it or not."""
        name, change = ("force_detach", FORCE_DETACH) if force else ("detach", DETACH)
        return self._deed(
            name, change, lambda: self.tools.detach(self.domid, device.address, self._soon(), force=force), device
        )

    def lose_backend(self, device: Device) -> Done:
        """xenstore forgets that it has the device, and pciback takes that back (xen_pcibk_xenbus_remove)."""
        script = Script(_LOSE_BACKEND.format(domid=self.domid, note=owner_note(device.address)))
        run = self.host.transport.run
        return self._deed("lose_backend", FORGET, lambda: run(script, deadline=self._soon(), changes=True), device)

    def unload_driver(self, device: Device) -> Done:
        """Its driver lets go of the device, as on a clean shutdown."""
        return self._inside("unload_driver", UNLOAD_DRIVER, f"unload_driver {device.identity}", device)

    def load_driver(self, device: Device) -> Done:
        """Its driver takes the device again, which it had let go."""
        command = f"load_driver {device.identity} {device.guest_driver.bound_as}"
        return self._inside("load_driver", LOAD_DRIVER, command, device)

    def start_load(self, device: Device) -> Done:
        """Traffic without end, behind the agent's back."""
        command = f"start_load {device.target.driver} {device.identity}"
        return self._inside("start_load", START_LOAD, command, device)

    def start_churn(self, device: Device) -> Done:
        """Every CPU but the first goes and comes, and the device's vectors wander between them."""
        return self._inside("start_churn", START_CHURN, f"start_churn {device.identity}", device)

    def clear_msix_enable(self, device: Device) -> Done:
        """Switch MSI-X off past its driver, by one 16-bit write: qemu unmaps and unbinds the pirqs."""
        return self._write_control("clear_msix_enable", CLEAR_ENABLE, device, lambda value: value & ~_ENABLE)

    def set_maskall(self, device: Device) -> Done:
        """Mask the whole function, as a driver does for a moment while it enables MSI-X."""
        return self._write_control("set_maskall", SET_MASKALL, device, lambda value: value | _MASKALL)

    def exercise(self, device: Device, patience: int = PATIENCE_SECONDS) -> GuestView:
        """Let its driver work for a moment, and see the device and its interrupts as the guest does.

        `patience`: seconds that a burst of traffic may wait for an interrupt. HostHung when the guest does not answer,
        CommandFailed when its console has ended, ParseError when a line was lost twice.
        """
        command = _exercise(device, patience)
        try:
            view = self._exercised(command)
        except ParseError:  # a console may lose a line; what came is kept, and the driver works once more
            view = self._exercised(command)
        self.views[device.address] = view
        return view

    def interrupts(self, device: Device) -> int:
        """How many interrupts of the device arrive during a burst of forced traffic. Errors as `exercise`."""
        return self.exercise(device).delta

    def config(self, device: Device) -> ConfigSpace:
        """The first 256 bytes of the device's config space as the guest reads them.

        CommandFailed when it has no such device, ParseError when a line was lost twice; other errors as `run`.
        """
        try:
            return self._config(device)
        except ParseError:  # as `exercise`
            return self._config(device)

    def msix(self, device: Device) -> MsixControl | None:
        """Enable and MASKALL as the guest reads them; None when it sees no MSI-X capability."""
        capability = self.config(device).msix
        return capability.control if capability else None

    # -- inside --------------------------------------------------------------------------------------------------------

    def run(self, command: str, seconds: float = TOOLSTACK_SECONDS) -> AgentAnswer:
        """One shell command line in the guest (busybox): output and status.

        GuestDied without a console, HostHung without an answer, CommandFailed when the console has ended.
        """
        if self.agent is None:
            raise GuestDied(f"{self} has no console to be asked on")
        return self.agent.run(command, Deadline.after(seconds))

    @property
    def console(self) -> str:
        """All that its console has said so far."""
        return self.agent.transcript.decode("utf-8", "replace") if self.agent else ""

    def close(self) -> None:
        """Keep what its console said and let go of it. Safe to call twice; the domain does not notice."""
        if self.agent is not None:
            self.host.deeds.keep(f"console-{self.label or self.name}-d{self.domid}.txt", self.agent.transcript)
            self.agent.close()
            self.agent = None

    # -- how -----------------------------------------------------------------------------------------------------------

    @staticmethod
    def _soon() -> Deadline:
        return Deadline.after(TOOLSTACK_SECONDS)

    def _awaited(self, wait: Callable[[Deadline], T], seconds: float, good: Callable[[T], object] = bool) -> T:
        """What comes within `seconds`; on a starved host it is waited for as long three times more, for there it says
        nothing of the product that a guest is late."""
        found, left = wait(Deadline.after(seconds)), _STARVED_TIMES
        while not good(found) and left and self.host.starved:
            found, left = wait(Deadline.after(seconds)), left - 1
        return found

    def _deed(self, name: str, deed: Deed, command: Callable[[], CommandResult], device: Device | None = None) -> Done:
        change = deed.to(guest=self.name, device=device.address if device else "")
        return self.host.deeds.one(name, command, change)

    def _ends_itself(self, name: str, deed: Deed, command: str, wait: bool) -> Done:
        """No answer is waited for: the guest cannot give one."""
        with self.host.deeds.doing(name, deed.to(guest=self.name)) as act:
            if self.agent is None:
                act.end(False, "the guest has no agent")
            else:
                self.agent.post(f". /actions; {command}", self._soon())
                act.end(True, "sent")
                if wait:
                    self.wait_gone()
        return act.done

    def _inside(self, name: str, deed: Deed, command: str, device: Device) -> Done:
        """A command of actions.sh that the guest answers."""
        with self.host.deeds.doing(name, deed.to(guest=self.name, device=device.address)) as act:
            if self.agent is None:
                act.end(False, "the guest has no agent")
            else:
                answer = self.run(f". /actions; {command}")
                act.end(answer.status == 0, f"status {answer.status}", answer.output)
        return act.done

    def _write_control(self, name: str, deed: Deed, device: Device, change: Callable[[int], int]) -> Done:
        """One 16-bit write to message control from inside the guest, made from what it reads there."""
        if self.agent is None:
            return self._inside(name, deed, "", device)
        capability = self.config(device).msix
        if capability is None:
            raise CommandFailed(f"{self} sees no MSI-X capability of {device.identity}")
        low, high = (f"{byte:03o}" for byte in change(capability.control.value).to_bytes(2, "little"))
        return self._inside(name, deed, f"write_control {device.identity} {capability.offset + 2} {low} {high}", device)

    def _config(self, device: Device) -> ConfigSpace:
        """Accepted format: 16 lines of 16 bytes as `od -An -v -tx1` writes them, with the kernel's lines between."""
        answer = self.run(f'. /actions; d=$(find_device {device.identity}) && od -An -v -tx1 -N 256 "$d/config"')
        raw = self.host.deeds.keep(f"config-d{self.domid}.txt", answer.output)
        if answer.status != 0:
            raise CommandFailed(f"{self} has no device {device.identity}")
        rows = re.findall(rb"^((?: [0-9a-f]{2}){16})\r?$", answer.output, re.MULTILINE)
        if len(rows) != 16:
            raise ParseError(f"{len(rows)} rows of config space", file=raw.path, expected="16 rows of 16 bytes")
        return ConfigSpace(bytes.fromhex(b"".join(rows).decode()), raw.path)

    def _exercised(self, command: str) -> GuestView:
        domain = f"d{self.domid}"
        output = self.run(command).output
        raw = self.host.deeds.keep(f"exercise-{domain}.txt", output)
        return parse_exercise(output.decode("utf-8", "replace"), domain, raw)

    def _listed(self) -> tuple[bytes, tuple[DomainRow, ...]]:
        output = self.host.transport.run(["xl", "list"], deadline=self._soon()).check().stdout
        return output, tuple(parse_list(output.decode("utf-8", "replace"), file="xl list"))


def _exercise(device: Device, patience: int) -> str:
    """The guest's command line that runs exercise.sh."""
    return f"sh /exercise/{device.target.driver} {device.identity} {patience}"
