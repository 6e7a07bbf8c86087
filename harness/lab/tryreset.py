"""A trial of a device's resets before it is lent: does it come back, is MASKALL gone, and what did dom0 see?"""

from __future__ import annotations

from dataclasses import dataclass

from harness.base.deadline import Deadline
from harness.base.errors import LabError
from harness.base.progress import Progress
from harness.host.device import RESET, Device
from harness.host.host import Host
from harness.lab.real import RealLab
from harness.model.message import Meaning
from harness.xen.keys.messages import Log, catalogue, classify

_SECONDS = 30.0


@dataclass(frozen=True)
class ResetTrial:
    """One method of Linux. `good`: the device came back, without MASKALL, and dom0 complained of nothing."""

    method: str
    good: bool
    seen: str


def try_resets(lab: RealLab, name: str, progress: Progress) -> list[ResetTrial]:
    """Borrow the device, reset it by each method that Linux has for it, give it back. SafetyRefusal, LabError.

    Every step is journaled as in a run. The first reset that does not bring it back is the last.
    """
    with lab.host([name], progress) as host:
        device = Device.identify(host, host.toolstack.on(host.transport), host.devices[name])
        with progress.phase(f"bind {device.address} to pciback"):
            device.bind()
        path = f"/sys/bus/pci/devices/{device.address}"
        listed = host.run(["cat", f"{path}/reset_method"], seconds=_SECONDS)
        methods = [method for method in listed.text.split() if method in RESET] if listed.ok else ["pm"]
        if not methods:
            raise LabError(f"{device} has no reset that Linux knows", hint="it cannot be lent: see the check 'reset'")
        tried: list[ResetTrial] = []
        for method in methods:
            with progress.phase(f"reset {device.address} by {method}"):
                tried.append(_one(host, device, method if listed.ok else ""))
            if "does not answer" in tried[-1].seen:
                break
    return tried


def _one(host: Host, device: Device, method: str) -> ResetTrial:
    """Without `method`, on a Linux before 5.15, whatever it prefers."""
    before, mark = device.config, host.mark()
    deadline = Deadline.after(_SECONDS)
    done = device.reset(method or "pm")
    now = device.config
    took = f"{_SECONDS - deadline.remaining:.1f} s"
    complaints = [
        f"{one.line.text} ({one.rule.reason if one.rule else ''})"
        for one in classify(host.dmesg(mark), Log.DOM0, catalogue())
        if one.meaning is Meaning.SYMPTOM
    ]
    was = before.msix.control.masked if not before.gone and before.msix else False
    if now.gone:
        seen, good = "it does not answer: its config space reads as all ones", False
    elif now.msix is None:
        seen, good = "it came back without MSI-X", False
    elif now.msix.control.masked:
        seen, good = f"it came back with MASKALL set ({now.msix.control}): this reset does not clear it", False
    else:
        seen, good = f"it came back after {took}{', and MASKALL is gone' if was else ''}", True
    if not done.ok:
        seen, good = f"{seen}; Linux said: {done.detail}", False
    if complaints:
        seen, good = f"{seen}; dom0: {'; '.join(complaints[:4])}", False
    return ResetTrial(method or "what Linux prefers", good, seen)
