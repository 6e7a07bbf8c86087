"""The signatures that are known, and what each means for somebody who has it. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class SignatureKind(enum.Enum):
    """What a signature says about the defect of this project."""

    CLASS = "of this class"  # MSI-X interrupts lost or refused between two owners of a device
    OTHER = "not this"  # something else, which is often taken for it
    UNCLEAR = "cannot be told"  # one of several, and this text does not tell which


@dataclass(frozen=True)
class Signature:
    """`fixes` are upstream commits, keys of harness/xen/keys/fixes.yaml; `scenario` is what to give `maskall run`."""

    kind: SignatureKind
    title: str
    meaning: str
    fixes: tuple[str, ...] = ()
    help: str = ""
    scenario: str = ""
    document: str = ""


MASKALL, PIRQS = "575e18d54d19", "58427889f5"
SIGNATURES = {
    "maskall-kept": Signature(
        SignatureKind.CLASS,
        "MASKALL is set while MSI-X is enabled",
        "No vector of the device is delivered. Xen remembers host_maskall from an earlier owner and puts MASKALL back "
        "into every write of the next one.",
        (MASKALL,),
        "Unbind the device from pciback and bind it again; on a Xen with the fix this does not happen",
        "E14-F1-hvm-virtio-rng",
    ),
    "maskall-set": Signature(
        SignatureKind.CLASS,
        "Xen could not reach the vector table and set MASKALL",
        "Memory decoding was off when Xen tore an interrupt down. Harmless if the next assignment clears it; without "
        "the fix the next owner gets no interrupts.",
        (MASKALL,),
        "Look at the device while its next guest runs: Masked+ there is the defect",
        "decode-off-at-teardown-F1-hvm-virtio-rng",
        "docs/findings/pv-guest-takes-the-hazard.md",
    ),
    "masked-by-xen": Signature(
        SignatureKind.CLASS,
        "vectors of a living owner are masked by Xen or behind its back",
        "The owner has bound the vector, and it is masked though the owner wants it open. lspci says Enable+ Masked- "
        "all the while.",
        (),
        "No fix is known. Destroy every older domain that still holds vectors of the device, then make the guest anew",
        "E5-F5-hvm-virtio-rng",
        "docs/findings/stopped-device-model.md",
    ),
    "leftover-pirqs": Signature(
        SignatureKind.CLASS,
        "vectors of an earlier owner are left behind",
        "The device has vectors that are bound to another domain, or to nobody, after it was taken from its owner. "
        "They stand before the next owner's own: its interrupts do not arrive, or stop when the old domain ends.",
        (PIRQS,),
        "On a Xen with the fix no other is known: let the device model or domain that still holds them go before the "
        "device is given away",
        "E10-F2-hvm-virtio-rng",
        "docs/findings/forced-detach.md",
    ),
    "assign-busy": Signature(
        SignatureKind.CLASS,
        "Xen refuses the device with -EBUSY",
        "MASKALL outlived the device's reset, and a Xen that has the fix will not give the device away so. The fix at "
        "work: it cannot happen without it.",
        (),
        "Reset the device in a way that works: echo bus > /sys/bus/pci/devices/BDF/reset_method; "
        "echo 1 > /sys/bus/pci/devices/BDF/reset; then look whether Masked- is back",
        "E15-F1-hvm-e1000e",
    ),
    "firmware-maskall": Signature(
        SignatureKind.CLASS,
        "firmware left MSI-X state behind, and Xen cleared it at boot",
        "A warm reboot kept MASKALL or Enable. This Xen has the fix and has repaired it; an older one takes MASKALL "
        "over in silence.",
        ("913751d7af",),
        "Nothing to do on this Xen",
        "E17-F1-hvm-virtio-rng",
    ),
    "unbound-under-owner": Signature(
        SignatureKind.CLASS,
        "MSI-X stays on under its owner with all vectors mapped and bound to nobody",
        "The driver of a PV guest let go of the device and pciback kept MSI-X on. The next owner is not harmed.",
        (),
        "Nothing: the vectors go with the domain",
        "E1-F1-pv-virtio-rng",
        "docs/findings/pv-driver-keeps-msix.md",
    ),
    "quarantine-kept": Signature(
        SignatureKind.CLASS,
        "dom0's driver has the device, and for Xen it still is in quarantine",
        "It was given back to dom0 without telling Xen, as libvirt does: dom0 may not map its interrupts, and its DMA "
        "is stopped.",
        (),
        "xl pci-assignable-add BDF; xl pci-assignable-remove -r BDF",
        "--toolstack libvirt E14-F3-hvm-virtio-rng",
        "docs/findings/libvirt-leaves-quarantine.md",
    ),
    "saved-with-device": Signature(
        SignatureKind.OTHER,
        "a guest was saved with a passed-through device",
        "xl save does not refuse it, and the device's state is lost. Nothing of MSI-X.",
        scenario="E19-F1-pv-virtio-rng",
        document="docs/findings/save-with-device.md",
    ),
    "masked-idle": Signature(
        SignatureKind.UNCLEAR,
        "MASKALL is set while MSI-X is off",
        "Legal on a Xen with the fix: the next assignment clears it or says -EBUSY. The text does not show who set it: "
        "Xen at a teardown, firmware at boot, or a driver.",
        (MASKALL, "913751d7af"),
        "Look again while the next guest runs",
    ),
    "stale-or-spare": Signature(
        SignatureKind.UNCLEAR,
        "the owner has vectors that are bound to nobody beside bound ones",
        "Left over from an earlier owner, or allocated by the guest's driver and not requested yet. Key M does not "
        "tell here.",
    ),
    "masked-by-whom": Signature(
        SignatureKind.UNCLEAR,
        "Xen masks vectors that their guest does not, and the text does not show who they are bound to",
        "Bound to the owner, they are masked against its will; bound to nobody, they are left over from an earlier "
        "owner or its driver has let go of them. Key i tells.",
    ),
    "no-msix": Signature(
        SignatureKind.OTHER,
        "the device has no MSI-X",
        "MSI or the interrupt line at most, so it cannot be the maskall defect.",
    ),
    "intx": Signature(
        SignatureKind.OTHER,
        "the driver uses the interrupt line, not MSI-X",
        "MSI-X was refused or never asked for; the line is shared and may be slow, but MASKALL has no part in it.",
    ),
}
BUSY_OR_OWNED = (
    "Or Xen still counts the device to another domain (device_assigned), and the fix has no part in it: key Q names "
    "the owner. With the fix alone Xen says 'assign', and the address in brackets."
)
"""The causes of messages.yaml are signatures too, `SignatureKind.OTHER` (`other`)."""


def other(cause: str, sentence: str) -> Signature:
    """The signature of a cause of messages.yaml."""
    return Signature(SignatureKind.OTHER, cause.replace("-", " "), sentence)
