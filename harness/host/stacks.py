"""The Xen hosts that can be built: Debian suite, packages, boot options. A stack is an entry of stacks.yaml."""

from __future__ import annotations

import functools
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from harness.base.errors import UsageError
from harness.base.yamlfile import load_models, nearest

STACKS_FILE = Path(__file__).with_name("stacks.yaml")

OWN_XEN = "own_xen"
OWN_QEMU = "own_qemu"
OWN_TOOLS = "own_xen_tools"
OWN_DOM0 = "own_dom0_kernel"
OWN_GUEST = "own_guest_kernel"
"""The facts that name what a host has of a developer's instead of its stack's."""
FACTS = frozenset(
    {
        *("host", "nested", "stack", "xen_version", "xen_build_id", "xen_commandline", "kernel", "qemu", "accelerator"),
        *("toolstack", "livepatches", OWN_XEN, OWN_QEMU, OWN_TOOLS, OWN_DOM0, OWN_GUEST),
    }
)
"""What a lab tells of its host, by name, beside refusals that were accepted."""

COMMON_PACKAGES = (
    "linux-image-amd64",
    "xen-system-amd64",
    "xen-utils-common",
    "openssh-server",
    "dropbear-bin",  # a second ssh server, the one that the harness speaks to
    "pciutils",
    "kmod",
    "udev",
    "systemd-sysv",
    "dbus",
    "iproute2",
    "initramfs-tools",  # the kernel package wants it; it makes no initramfs here (INITRD=No)
    "busybox-static",
    "cpio",
    "procps",
)
"""What every stack needs: the host itself, and what its guests are made of (busybox, cpio, the kernel's modules)."""


class StackRecord(BaseModel):
    """One stack as stacks.yaml writes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    description: str
    suite: str = Field(pattern=r"^[a-z]+$")
    security_suite: str = Field(pattern=r"^[a-z]+(-security|/updates)$")
    xen: str = Field(pattern=r"^\d+\.\d+$")
    packages: list[str]
    backports: list[str] = []
    base: str | None = None
    xen_options: list[str]
    dom0_options: list[str]


class StacksFile(BaseModel):
    """The whole of stacks.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    stacks: dict[str, StackRecord] = Field(min_length=1)


class Stack(BaseModel):
    """A Debian suite as a Xen host: `name` is how people call it, `xen` its hypervisor's release (4.20).

    `backports` come from the suite's backports; `base` is the stack with the same hypervisor and kernel, mostly itself.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    description: str
    suite: str
    security_suite: str
    xen: str
    packages: tuple[str, ...]
    backports: tuple[str, ...]
    base: str
    xen_options: str
    dom0_options: str


@functools.cache
def stacks(path: Path = STACKS_FILE) -> dict[str, Stack]:
    """All stacks by name, in the order of the file: the first is the usual one. Raises InventoryError."""
    records = load_models(path, StacksFile).stacks
    return {
        name: Stack(
            name=name,
            description=record.description,
            suite=record.suite,
            security_suite=record.security_suite,
            xen=record.xen,
            packages=(*COMMON_PACKAGES, *record.packages),
            backports=tuple(record.backports),
            base=record.base or name,
            xen_options=" ".join(record.xen_options),
            dom0_options=" ".join(record.dom0_options),
        )
        for name, record in records.items()
    }


def stack(name: str | None = None) -> Stack:
    """The stack called `name`, without one the usual. Raises UsageError with the nearest name."""
    known = stacks()
    if name is None:
        return next(iter(known.values()))
    if name not in known:
        raise UsageError(f"unknown stack '{name}'", hint=nearest(name, known))
    return known[name]
