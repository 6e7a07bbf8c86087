"""A PCI function that the harness may borrow: lent to guests, harmed, reset, looked at, and given back."""

from __future__ import annotations

from dataclasses import dataclass

from harness.base.deadline import Deadline, poll
from harness.base.errors import LabError, ParseError, RestoreFailed, UsageError
from harness.base.yamlfile import nearest
from harness.guest.drivers import Driver, drivers
from harness.guest.exercise import parse_exercise
from harness.guest.initramfs import exercise_script
from harness.host.deeds import Done
from harness.host.host import Host, TargetDevice
from harness.host.pciback import CHANGED, PCIBACK, Guard, driver_of, unguarded
from harness.host.vectortable import mask_bits, read_table
from harness.model.address import Bdf
from harness.model.change import Change, ChangeKind, Deed
from harness.model.config import CommandRegister, ConfigSpace
from harness.model.identity import find_device
from harness.model.observation import GuestView, VectorMask, XenView
from harness.transport.base import Command as Argv
from harness.transport.base import CommandResult, Script
from harness.xen.keys.debugkeys import parse_irqs, parse_masks, parse_pci_devices
from harness.xen.keys.view import xen_view
from harness.xen.toolstack.xl import Toolstack

_SECONDS = 30.0
_DEED_SECONDS = 120.0
PATIENCE_SECONDS = 6
"""How long a burst of traffic may wait for an interrupt."""
_READINGS = 5
"""How often facts are read anew because they changed before the bind."""

BIND = Deed(ChangeKind.DRIVER, "bind {device} to pciback", "bind {device} to {driver}")
UNBIND = Deed(ChangeKind.DRIVER, "unbind {device} from pciback", "bind {device} to pciback")
GIVE_BACK = Deed(ChangeKind.DRIVER, "give {device} back to {driver}", "nothing: this is the undo")
DECODING_OFF = Deed(
    ChangeKind.CONFIG, "switch memory decoding of {device} off (COMMAND bit 1)", "switch memory decoding on again"
)
DECODING_ON = Deed(
    ChangeKind.CONFIG,
    "switch memory decoding of {device} on (COMMAND bit 1)",
    "nothing: the device has it on by itself",
)
CLEAR_MASKALL = Deed(
    ChangeKind.CONFIG,
    "write message control of {device} without MASKALL",
    "MASKALL is Xen's: a reset or the next assignment clears it",
)
RESET = {
    method: Deed(ChangeKind.RESET, f"reset {{device}} by {method}", "nothing: reset_method is put back at once")
    for method in ("flr", "af_flr", "pm", "bus", "device_specific")  # Linux pci_reset_fn_methods
}

# A write to `reset` may report an error and reset the device all the same, so the register is judged, not the status.
# reset_method exists since Linux 5.15; before, a device without FLR that sits behind its own bridge gets the bus reset.
_RESET = """\
device=/sys/bus/pci/devices/{device}
[ -e $device/reset ] || exit 2
old=$(cat $device/reset_method 2>/dev/null)
[ -z "$old" ] || echo {method} > $device/reset_method || exit 3
echo 1 > $device/reset
status=$?
[ -z "$old" ] || echo "$old" > $device/reset_method || exit 4
echo "write to reset: status $status"
"""


@dataclass(frozen=True, repr=False)
class Msix:
    """The device's MSI-X as its own registers show it. `table`: each entry's mask bit; None: not to be read here.

    The table is in the device's memory, so it takes memory decoding and a host whose memory can be read from outside.
    """

    enabled: bool
    masked: bool  # MASKALL
    table: tuple[bool, ...] | None = None

    def __repr__(self) -> str:
        """As lspci writes it, and which entries are masked."""
        enable, masked, table = self._words
        return f"<MSI-X {enable} {masked}, {table}>"

    @property
    def _words(self) -> tuple[str, str, str]:
        enable, masked = f"Enable{'+' if self.enabled else '-'}", f"Masked{'+' if self.masked else '-'}"
        if self.table is None:
            return enable, masked, "table not read"
        entries = " ".join(str(number) for number, masked in enumerate(self.table) if masked)
        return enable, masked, f"masked entries: {entries or 'none'}"

    def told_apart(self, other: Msix) -> list[str]:
        """Both, and what of it differs, in the words of lspci."""
        pairs = zip(self._words, other._words, strict=True)
        return [f"{self} == {other}", *(f"{mine} is not {wanted}" for mine, wanted in pairs if mine != wanted)]


@dataclass(repr=False)
class Device:
    """One device of a host, found by its identity. What is done to it goes on record first (`Host.deeds`).

    `original_driver` is dom0's driver when it was found, None when it had none.
    """

    host: Host
    tools: Toolstack
    target: TargetDevice
    address: Bdf
    original_driver: str | None

    @classmethod
    def identify(cls, host: Host, tools: Toolstack, target: TargetDevice) -> Device:
        """Find the device (only at `target.address` if that is known) and note whose it is; changes nothing.

        A hot-added device is waited for. LabError when there is none, or more than one.
        """
        deadline = Deadline.after(_SECONDS)
        at = ["-s", str(target.address)] if target.address else []

        def seen() -> str | None:
            text = host.transport.run(["lspci", "-D", "-n", *at], deadline=deadline).check().text
            return text if target.identity in text else None

        address = find_device(poll(seen, deadline) or "", target.identity)
        return cls(host, tools, target, address, driver_of(host.transport, address))

    def __str__(self) -> str:
        return f"{self.target.name} at {self.address}"

    def __repr__(self) -> str:
        return f"<device {self}>"

    @property
    def identity(self) -> str:
        """vendor:device as lspci -n prints it."""
        return self.target.identity

    @property
    def guest_driver(self) -> Driver:
        """What a guest needs to work with it."""
        return drivers()[self.target.driver]

    # -- whose it is ---------------------------------------------------------------------------------------------------

    def bind(self) -> Done:
        """To pciback. LabError when sysfs does not show it there afterwards, whatever the toolstack said."""
        with self.host.deeds.doing("bind", self._to(BIND)) as act:
            result = self._take(self.host.guard)
            if self.driver != PCIBACK:
                raise LabError(f"{self.address} could not be bound to pciback: {_last_line(result)}")
            act.by(result)
        return act.done

    def bind_again(self) -> Done:
        """To pciback, from which it was torn; whether that works is what is asked, so a failure is no error."""
        with self.host.deeds.doing("bind_again", self._to(BIND)) as act:
            result = self._take(unguarded)
            ended = act.by(result)
            act.end(ended.ok and self.driver == PCIBACK, ended.detail, ended.output)
        return act.done

    def _take(self, guard: Guard) -> CommandResult:
        """To pciback, if the gate lets it, and only while that holds. SafetyRefusal; LabError on a restless host.

        Reading is done before the guard is up: it takes its time, and the guard gives but a minute.
        """
        for _ in range(_READINGS):
            check = self.host.gate(self.address)
            with guard(self.address, self.original_driver):
                result = self.tools.make_assignable(self.address, Deadline.after(_DEED_SECONDS), check)
            if not check or result.status != CHANGED:
                return result
        raise LabError(
            f"{self.host.name} changes faster than the gate can decide whether {self.address} may be taken: "
            f"{_last_line(result)}",
            hint="mounts, guests or network interfaces come and go: wait until it is quieter",
        )

    def unbind(self) -> Done:
        """Off pciback, to no driver, by the toolstack."""
        deadline = Deadline.after(_SECONDS)
        take_back = self.tools.take_back
        return self.host.deeds.one("unbind", lambda: take_back(self.address, deadline, rebind=False), self._to(UNBIND))

    def rebind(self) -> Done:
        """Off pciback and on again: the historic cure."""
        with self.host.deeds.doing("rebind") as act:
            if self.unbind():
                self.bind()
        return act.done

    def tear_from_pciback(self) -> Done:
        """pciback lets go of it through sysfs, past the toolstack, also while a guest has it."""
        script = Script(f"echo {self.address} > /sys/bus/pci/drivers/pciback/unbind")
        return self._change("tear_from_pciback", UNBIND, script)

    def give_back(self) -> Done:
        """To the driver it came from. RestoreFailed when sysfs does not show it there afterwards."""
        with self.host.deeds.doing("give_back", self._to(GIVE_BACK)) as act:
            result = self.tools.take_back(self.address, Deadline.after(_SECONDS), rebind=True)
            if self.driver != self.original_driver:
                raise RestoreFailed(f"{self.address} did not go back to {self.original_driver}: {_last_line(result)}")
            act.by(result)
        return act.done

    # -- what is done to it --------------------------------------------------------------------------------------------

    def memory_decoding(self, on: bool) -> Done:
        """COMMAND bit 1, written by dom0 behind the back of whoever has the device."""
        if not isinstance(on, bool):
            raise UsageError(f"memory_decoding takes True or False, not {on!r}")
        value = "COMMAND=2:2" if on else "COMMAND=0:2"
        return self._setpci("memory_decoding", DECODING_ON if on else DECODING_OFF, value)

    def clear_maskall(self) -> Done:
        """dom0 writes message control without MASKALL; Xen puts it back while it wants it itself."""
        return self._setpci("clear_maskall", CLEAR_MASKALL, "CAP_MSIX+2.W=0:4000")

    def reset(self, method: str) -> Done:
        """A reset by this method of Linux (flr, pm, bus...), whatever it prefers for the device.

        Its status says little: judge by the registers. UsageError for a method that Linux does not know.
        """
        if method not in RESET:
            raise UsageError(f"there is no reset method {method!r}", hint=nearest(method, RESET))
        return self._change("reset", RESET[method], Script(_RESET.format(device=self.address, method=method)))

    def exercise(self, patience: int = PATIENCE_SECONDS) -> GuestView:
        """Let dom0's driver work for a moment, and see what arrives. HostHung, ParseError.

        `patience`: seconds that a burst of traffic may wait for an interrupt.
        """
        script = Script(f"set -- {self.identity} {patience}\n{exercise_script(self.guest_driver)}")
        done = self.host.transport.run(script, deadline=Deadline.after(_DEED_SECONDS), changes=True)
        raw = self.host.deeds.keep("exercise-d0.txt", done.stdout)
        return parse_exercise(done.text, "d0", raw)

    # -- what it looks like; each is read anew, and kept before it is parsed -------------------------------------------

    @property
    def driver(self) -> str | None:
        """The driver that dom0 has bound to it now; None when there is none."""
        return driver_of(self.host.transport, self.address)

    @property
    def config(self) -> ConfigSpace:
        """Config space as dom0 reads it (sysfs). CommandFailed when the device has left the bus."""
        data = self._read(["cat", f"/sys/bus/pci/devices/{self.address}/config"])
        return ConfigSpace(data, self.host.deeds.keep(f"config-{self._name}.bin", data).path)

    @property
    def command(self) -> CommandRegister:
        return self.config.command

    @property
    def msix(self) -> Msix:
        """Enable and MASKALL in config space, and the vector table where it can be read. ParseError without MSI-X."""
        space = self.config
        capability = space.msix
        if capability is None:
            raise ParseError(f"{self.address} has no MSI-X capability", file=space.file)
        words = read_table(self.host.memory, space)
        table = mask_bits(words) if words is not None else None
        return Msix(capability.control.enabled, capability.control.masked, table)

    @property
    def lspci(self) -> str:
        """What `lspci -n -vvv` prints of it."""
        data = self._read(["lspci", "-n", "-vvv", "-s", str(self.address)])
        self.host.deeds.keep(f"lspci-{self._name}.txt", data)
        return data.decode("utf-8", "replace")

    @property
    def xen(self) -> XenView:
        """The device and its vectors as Xen's debug keys M, Q and i print them now."""
        text = self.host.dump("MQi")
        raw = self.host.deeds.keep(f"keys-{self._name}.txt", text.encode())
        return xen_view(
            self.address,
            parse_masks(text, file=raw.path),
            parse_pci_devices(text, file=raw.path),
            parse_irqs(text, file=raw.path),
            raw,
        )

    @property
    def owner(self) -> str | None:
        """Whose it is, as Xen says: d0, d3, DomIO (quarantine); None when Xen does not list it."""
        return self.xen.owner

    @property
    def irqs(self) -> tuple[int, ...]:
        """Its vectors, as irq numbers of Xen."""
        return self.xen.irqs

    @property
    def masks(self) -> tuple[VectorMask, ...]:
        """For each vector, what Xen and its owner want and what the table entry reads."""
        return self.xen.masks

    # -- how -----------------------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return str(self.address).replace(":", "-")

    def _to(self, deed: Deed) -> Change:
        return deed.to(device=self.address, driver=self.original_driver)

    def _setpci(self, name: str, deed: Deed, value: str) -> Done:
        return self._change(name, deed, ["setpci", "-s", str(self.address), value])

    def _change(self, name: str, deed: Deed, command: Argv) -> Done:
        deadline = Deadline.after(_DEED_SECONDS)
        run = self.host.transport.run
        return self.host.deeds.one(name, lambda: run(command, deadline=deadline, changes=True), self._to(deed))

    def _read(self, command: list[str]) -> bytes:
        return self.host.transport.run(command, deadline=Deadline.after(_SECONDS)).check().stdout


def _last_line(result: CommandResult) -> str:
    lines = (result.stderr + result.stdout).decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"status {result.status}, no message"
