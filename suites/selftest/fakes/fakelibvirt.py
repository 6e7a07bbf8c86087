"""A module like libvirt-python with one domain, as much as power control calls. Put it into sys.modules."""

from __future__ import annotations

import threading
from types import ModuleType, SimpleNamespace

from suites.selftest.fakes.patience import FOREVER

DOMAIN = "box"


class FakeLibvirt(ModuleType):
    """Constants as in libvirt-domain.h."""

    VIR_DOMAIN_RUNNING, VIR_DOMAIN_BLOCKED, VIR_DOMAIN_PAUSED, VIR_DOMAIN_SHUTDOWN = 1, 2, 3, 4
    VIR_DOMAIN_SHUTOFF, VIR_DOMAIN_CRASHED, VIR_DOMAIN_PMSUSPENDED = 5, 6, 7

    class libvirtError(Exception): ...

    def __init__(self) -> None:
        super().__init__("libvirt")
        self.number = self.VIR_DOMAIN_RUNNING
        self.obeys = True
        self.orders: list[str] = []
        self.hears = threading.Event()
        self.hears.set()
        self.silenced = False

    def registerErrorHandler(self, function: object, context: object) -> None:
        self.silenced = True

    def open(self, uri: str) -> SimpleNamespace:
        self.hears.wait(FOREVER)
        return SimpleNamespace(lookupByName=self._lookup, close=lambda: 0)

    def _lookup(self, name: str) -> SimpleNamespace:
        if name != DOMAIN:
            raise self.libvirtError(f"Domain not found: no domain with matching name '{name}'")
        return SimpleNamespace(
            state=lambda: (self.number, 0), create=self._create, destroy=self._destroy, reset=self._reset
        )

    def _create(self) -> None:
        if self.number != self.VIR_DOMAIN_SHUTOFF:
            raise self.libvirtError("domain is already running")
        self._done("on", self.VIR_DOMAIN_RUNNING)

    def _destroy(self) -> None:
        if self.number == self.VIR_DOMAIN_SHUTOFF:
            raise self.libvirtError("domain is not running")
        self._done("off", self.VIR_DOMAIN_SHUTOFF)

    def _reset(self) -> None:
        self._done("reset", self.number)

    def _done(self, order: str, number: int) -> None:
        self.orders.append(order)
        if self.obeys:
            self.number = number
