"""Facts are read from a machine through its ssh server, and decide who may be touched there."""

from __future__ import annotations

from harness.lab.inventory.models import DeviceEntry
from harness.lab.safety.facts.collect import read_facts
from harness.lab.safety.facts.parse import parse_facts
from harness.lab.safety.gate import Level, decide, explain
from suites.selftest.fakes.fakehost import board
from suites.selftest.fakes.fakelab import FakeLab, fake_host
from suites.selftest.fakes.patience import soon

__all__ = ["fake_host"]


def test_what_is_lent_is_allowed_and_what_the_machine_needs_is_not(fake_host: FakeLab) -> None:
    facts = parse_facts(read_facts(fake_host.transport(), soon()))
    assert facts.boot_id == fake_host.fake.boot_id
    for name, entry in fake_host.entry.devices.items():
        decision = decide(name, entry, facts)
        assert decision.allowed({}), explain(decision, {})
    needed = {
        "storage": {"id": "144d:a808", "serial": "ROOT0001"},
        "network": {"id": "8086:1533", "mac": "52:54:00:aa:00:01"},
        "console": {"id": "1234:1111", "path": "0000:00:01.0"},
        "kind": {"id": "8086:29c0", "path": "0000:00:00.0"},
    }
    for check, identity in needed.items():
        decision = decide(
            "x", DeviceEntry.model_validate({"identity": identity, "driver": "nvme", "endings": ()}), facts
        )
        assert check in [finding.check for finding in decision.findings if finding.level is Level.LETHAL], check
        assert not decision.allowed(dict.fromkeys([finding.check for finding in decision.findings], "I know"))
    assert str(decide("nic0", fake_host.entry.devices["nic0"], facts).bdf) == board.NIC
