"""Fixtures of tests on the practice machine: a controller's own state, the site, the device as it was before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.base.deadline import Deadline
from harness.lab.lease import baseline as baselines
from harness.lab.lease import leftovers
from harness.lab.lease.baseline import Baseline
from harness.lab.lease.claim import look
from harness.lab.lease.leftovers import Ours
from harness.lab.lease.site import Site
from harness.model.address import Bdf
from harness.mutants.livepatching import Livepatches
from harness.nested.practice import Practice
from harness.transport.base import Script
from harness.transport.ssh import SshTransport
from suites.lab.practice_machine import link_to

DEVICE = "virtio-rng"


@pytest.fixture(autouse=True)
def controller(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("controller")))


@pytest.fixture
def site(practice: Practice) -> Site:
    link_to(practice).close()  # it may have been booted anew by the test before
    return Site.find(practice.inventory, practice.name)


@pytest.fixture
def as_before(site: Site) -> Iterator[Baseline]:
    """How the device is; afterwards it must be the same, nothing may be left, and nobody may hold the host."""

    def seen() -> tuple[Baseline, leftovers.Leftovers, list[str]]:
        link = link_to_site(site)
        try:
            raw = leftovers.read(link, Deadline.after(30))
            notes = [line for line in raw["owners"].decode().splitlines() if not line.endswith(' = ""')]
            return baselines.read(link, Bdf.parse("0000:02:00.0")), leftovers.parse(raw), notes
        finally:
            link.close()

    before, held, noted = seen()
    assert before.driver == "virtio-pci"
    yield before
    assert livepatches(site) == {}
    after, holds, notes = seen()
    assert before.differences(after) == []
    assert notes == noted, "libxl's notes of the devices"
    assert holds.more_than(held, Ours(frozenset({before.device}), frozenset({"maskall-a"}))) == ([], [])
    link = link_to_site(site)
    try:
        assert look(link) is None
        left = link.run(Script("ls /run/maskall 2>/dev/null; true"), deadline=Deadline.after(20)).text
        assert left == ""
    finally:
        link.close()


def link_to_site(site: Site) -> SshTransport:
    link = site.transport()
    link.connect(Deadline.after(site.entry.boot_seconds))
    return link


def livepatches(site: Site) -> dict[str, str]:
    link = link_to_site(site)
    try:
        return Livepatches(link).there()
    finally:
        link.close()
