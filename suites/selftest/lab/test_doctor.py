"""What doctor says of the machine and asks for: the size of Xen's ring, vectors, who else makes domains."""

from __future__ import annotations

import re

import pytest

from harness.lab.doctor import _manager, _rings, _vectors
from harness.lab.safety.facts.parse import parse_facts
from harness.transport.sections import split
from suites.selftest.fakes.hostile import CAPTURED


@pytest.mark.parametrize(
    ("commandline", "cpus", "told"),
    [
        ("placeholder conring_size=1M loglvl=all", "8", "conring_size=1M"),
        ("conring_size=4M", "128", "conring_size=4M"),
        ("loglvl=all", "8", "conring_size is not set, .*: boot with conring_size=1M; log_buf_len=1M$"),
        ("conring_size=16k", "8", "conring_size=16k loses lines: boot with conring_size=1M"),
        ("conring_size=16384", "", "conring_size=16384 loses lines: boot with conring_size=1M"),
        ("conring_size=1M", "128", "conring_size=1M loses lines: boot with conring_size=4M"),
        ("xconring_size=1M conring_size=", "4", "conring_size is not set"),
    ],
)
def test_the_ring_that_is_asked_for(commandline: str, cpus: str, told: str) -> None:
    assert re.match(told, _rings(f"{commandline} guest_loglvl=info", cpus, "quiet log_buf_len=1M"))


@pytest.mark.parametrize(
    ("level", "told"), [("", True), ("guest_loglvl=none/warning", True), ("guest_loglvl=all", False),
                        ("guest_loglvl=warning/all", False), ("xguest_loglvl=all", True)]
)  # fmt: skip
def test_the_warnings_that_xen_leaves_out(level: str, told: bool) -> None:
    seen = _rings(f"conring_size=1M {level}", "8", "log_buf_len=1M")
    assert seen.endswith("boot with guest_loglvl=info") is told


def test_the_ring_of_dom0() -> None:
    for dom0, told in (("quiet", "log_buf_len is not set"), ("log_buf_len=256k", "log_buf_len=256k loses lines")):
        assert f"conring_size=1M; {told}" in _rings("conring_size=1M", "8", dom0)
        assert _rings("conring_size=1M guest_loglvl=all", "8", dom0).endswith("boot with log_buf_len=1M")


@pytest.mark.parametrize(
    ("system", "told"), [("XCP-ng 8.2.1", "xapi"), ("Qubes OS 4.2", "qubesd"), ("Debian GNU/Linux 13 (trixie)", "")]
)
def test_who_else_makes_domains(system: str, told: str) -> None:
    assert told in _manager(system)
    assert bool(_manager(system)) == bool(told)


@pytest.mark.parametrize(
    ("commandline", "told", "larger"),
    [
        ("loglvl=all", "extra_guest_irqs=32, the default:", True),
        ("extra_guest_irqs=64,1024 loglvl=all", "extra_guest_irqs=64:", True),
        ("extra_guest_irqs=256", "extra_guest_irqs=256:", False),
    ],
)
def test_the_vectors_that_a_guest_may_have(commandline: str, told: str, larger: bool) -> None:
    facts = parse_facts(split((CAPTURED / "facts_nvme_in_guest.txt").read_bytes(), "@facts"))
    sizes = [f.config.msix.control.table_size for f in facts.functions.values() if f.config and f.config.msix]
    assert max(sizes) == 65
    seen = _vectors(commandline, facts)
    assert seen.startswith(told)
    assert ("0000:04:00.0 (65)" in seen) is larger
