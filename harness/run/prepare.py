"""Labs made ready: packages installed, a nested host built and frozen, or a lab host claimed and checked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from harness.base.progress import Progress
from harness.host.host import Lab
from harness.host.stacks import stack
from harness.lab.lease.wishes import Wishes, accepted
from harness.lab.real import RealLab
from harness.nested import prerequisites
from harness.nested.cache import Cache
from harness.nested.lab import NestedLab
from harness.scenario.spec import Scenario

if TYPE_CHECKING:
    from harness.run.options import RunOptions


def lab_for(options: RunOptions, scenarios: Iterable[Scenario], progress: Progress) -> Lab:
    """What these options name, with the devices of these scenarios. Raises UsageError, LabError."""
    devices = list(dict.fromkeys(device for scenario in scenarios for device in scenario.devices))
    if options.libvirt:
        log = Cache().root / "logs" / "packages.log"
        prerequisites.install_libvirt(progress, log=log, sudo=options.yes)
    if options.in_lab:
        wishes = Wishes(accepted(options.accept), options.wait, options.take_over, reason="maskall run")
        return RealLab.opened(options.site, devices, wishes, progress)
    return prepared_lab(options.stack_name, devices, progress, sudo=options.yes)


def prepared_lab(stack_name: str, devices: list[str], progress: Progress, *, sudo: bool = False) -> NestedLab:
    """A nested lab that hands out hosts at once. Raises UsageError, LabError."""
    cache = Cache()
    prerequisites.install(progress, log=cache.root / "logs" / "packages.log", sudo=sudo)
    lab = NestedLab(stack(stack_name), devices, cache, progress)
    progress.note(f"accelerator {lab.accelerator.name}: {lab.accelerator.why}")
    assert lab.snapshot  # noqa: S101 - a cached property: made here, before two threads could both want to
    return lab
