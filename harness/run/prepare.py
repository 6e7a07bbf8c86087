"""Labs made ready: packages installed, a nested host built and frozen, or a lab host claimed and checked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from harness.base.beside import beside
from harness.base.progress import Progress
from harness.host.host import Lab
from harness.host.stacks import Stack, stack
from harness.lab.provision.oneboot import OneBoot
from harness.lab.real import RealLab
from harness.nested import prerequisites
from harness.nested.apt_sources import find_mirrors, use_mirror
from harness.nested.cache import Cache
from harness.nested.image import ensure_image
from harness.nested.lab import NO_PARTS, NestedLab
from harness.nested.ownparts import OwnParts
from harness.run.options import CONTROL_XEN, RunOptions


def lab_for(options: RunOptions, wanted: Iterable[str], progress: Progress) -> Lab:
    """What these options name, with the devices `wanted`. Raises UsageError, LabError."""
    devices = list(dict.fromkeys(wanted))
    if options.libvirt:
        log = Cache().root / "logs" / "packages.log"
        prerequisites.install_libvirt(progress, log=log, sudo=options.yes)
    if options.in_lab:
        own = options.own_parts().xen
        once = OneBoot(own) if own is not None else None
        return RealLab.opened(options.site, devices, options.wishes("maskall run"), progress, once)
    use_mirror(options.mirror)
    return prepared_lab(stack(options.stack_name), devices, progress, sudo=options.yes, own=options.own_parts())


def controls_for(options: RunOptions, wanted: Iterable[str], progress: Progress) -> Lab | None:
    """Where the hosts come from that run the hypervisor of --control-xen; None without it."""
    if options.control != CONTROL_XEN:
        return None
    return lab_for(replace(options, xen=options.control_xen), wanted, progress)


def prepared_lab(
    chosen: Stack, devices: list[str], progress: Progress, *, sudo: bool = False, own: OwnParts = NO_PARTS
) -> NestedLab:
    """A nested lab that hands out hosts at once. Raises UsageError, LabError."""
    cache = Cache()
    prerequisites.install(progress, log=cache.root / "logs" / "packages.log", sudo=sudo)
    with beside(lambda: ensure_image(chosen, cache, progress, mirrors=find_mirrors())):
        lab = NestedLab(chosen, devices, cache, progress, own)  # with its emulator
    progress.note(f"accelerator {lab.accelerator.name}: {lab.accelerator.why}")
    assert lab.snapshot  # noqa: S101 - a cached property: made here, before two threads could both want to
    return lab
