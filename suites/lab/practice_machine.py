"""The practice machine as a fixture: one for all tests of this lane, or of each of its workers, gone at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from harness.base.deadline import Deadline
from harness.base.progress import PlainProgress
from harness.host.stacks import stack
from harness.lab.lease.site import Site
from harness.nested import practice as practice_machine
from harness.nested.cache import Cache
from harness.nested.practice import Practice
from harness.transport.ssh import SshTransport

NAME = f"lab-tests{os.environ.get('PYTEST_XDIST_WORKER', '')}"  # not the user's own


@pytest.fixture(scope="session")
def practice() -> Iterator[Practice]:
    """A practice machine that was just switched on; its boot is not waited for, see `link_to`."""
    if NAME in [machine.name for machine in practice_machine.machines(Cache())]:
        practice_machine.down(NAME)  # left behind by a run that died
    machine = practice_machine.up(NAME, stack(), PlainProgress(sys.stderr))
    yield machine
    practice_machine.down(NAME)


def link_to(machine: Practice, deadline: Deadline | None = None) -> SshTransport:
    """A connection to the machine by its own inventory, as soon as it answers."""
    site = Site.find(machine.inventory, machine.name)
    transport = site.transport()
    transport.connect(deadline or Deadline.after(site.entry.boot_seconds))
    return transport
