"""Who waits for a host that may be booting, and who is told at once that it cannot be reached."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.base.deadline import Deadline
from harness.base.errors import HostUnreachable, Unreachable
from harness.lab.lease.site import Site

WAITED = (Unreachable.SILENT, Unreachable.SPEAKS)


class Link:
    """One that fails so often."""

    def __init__(self, why: Unreachable, times: int) -> None:
        self.why, self.times, self.tried = why, times, 0

    def connect(self, deadline: Deadline) -> None:
        self.tried += 1
        if self.tried <= self.times:
            raise HostUnreachable("no connection", why=self.why)


def reached(link: Link) -> list[str]:
    entry: Any = SimpleNamespace(boot_seconds=300)
    told: list[str] = []
    Site("box", entry, Path("lab.yaml")).reach(link, told.append)  # type: ignore[arg-type]
    return told


@pytest.mark.parametrize("why", WAITED)
def test_a_host_that_may_be_booting_has_a_boots_time(why: Unreachable) -> None:
    link = Link(why, times=1)
    assert reached(link) == ["no connection; it may be booting: it gets 300 s"]
    assert link.tried == 2


@pytest.mark.parametrize("why", [why for why in Unreachable if why not in WAITED])
def test_no_boot_cures_any_other_reason(why: Unreachable) -> None:
    link = Link(why, times=1)
    with pytest.raises(HostUnreachable):
        reached(link)
    assert link.tried == 1
