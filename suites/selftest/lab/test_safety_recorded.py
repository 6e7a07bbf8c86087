"""The gate on what a real Xen host answered, while its first nvme was lent to a guest."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.lab.inventory.models import DeviceEntry
from harness.lab.safety.facts.facts import HostFacts
from harness.lab.safety.facts.parse import parse_facts
from harness.lab.safety.gate import Decision, Level, decide, explain
from harness.model.address import Bdf
from harness.transport.sections import split

_FILE = (Path(__file__).parents[1] / "data") / "xen-4.20" / "facts_nvme_in_guest.txt"
_NVME = Bdf.parse("0000:04:00.0")


@pytest.fixture(scope="module")
def facts() -> HostFacts:
    return parse_facts(split(_FILE.read_bytes(), "@facts"))


def ask(facts: HostFacts, identity: dict[str, str], ours: frozenset[Bdf] = frozenset()) -> Decision:
    entry = DeviceEntry.model_validate({"identity": identity, "driver": "x", "endings": ()})
    known = {entry.identity.mark: next(iter(ours))} if ours else {}
    return decide("device", entry, facts, ours=ours, known=known)


@pytest.mark.parametrize(
    "identity",
    [
        {"id": "8086:10d3", "mac": "52:54:00:6d:61:73"},
        {"id": "8086:10d3", "serial": "52-54-00-ff-ff-6d-61-73"},
        {"id": "1af4:1044", "path": "0000:00:12.0/00.0"},
    ],
)
def test_idle_devices_are_allowed(facts: HostFacts, identity: dict[str, str]) -> None:
    found = ask(facts, identity)
    assert found.allowed({}), explain(found, {})


@pytest.mark.parametrize(
    ("path", "check", "level"),
    [
        ("0000:00:03.0", "storage", Level.LETHAL),
        ("0000:00:04.0", "network", Level.LETHAL),
        ("0000:00:14.0/00.0", "owner", Level.DENY),
        ("0000:00:15.0/00.0", "storage", Level.DENY),
    ],
)
def test_what_is_in_use_is_refused(facts: HostFacts, path: str, check: str, level: Level) -> None:
    function = next(function for function in facts.functions.values() if function.path == path)
    found = ask(facts, {"id": function.id, "path": path})
    assert level in [finding.level for finding in found.findings if finding.check == check], explain(found, {})
    assert not found.allowed({})


def test_the_lent_drive_is_known_to_whoever_lent_it(facts: HostFacts) -> None:
    drive = {"id": "1b36:0010", "serial": "maskall0"}
    assert ask(facts, drive).level is Level.LETHAL
    assert ask(facts, drive, frozenset({_NVME})).allowed({})
