"""Machines as they are found: each is a file of facts, and beside it stands what the gate must say about its devices.

A new case is two files in data/topologies and no code: NAME.facts, as `maskall doctor --raw` keeps it, and NAME.yaml:

    what: one line about the machine
    wanted: [WORD, ...]        what is lent there, as --device takes it; default: none
    devices:
      WORD:
        verdict: allowed, DENY or LETHAL
        findings: {CHECK: LEVEL, ...}     the worst of each check that is not OK, all of them; WARN too
        why: [TEXT, ...]                  each stands in one of the reasons
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.base.errors import SafetyRefusal
from harness.lab.safety.checks.finding import Decision, Finding, Lending, Level
from harness.lab.safety.facts import stored
from harness.lab.safety.facts.facts import HostFacts
from harness.lab.safety.facts.wanted import find
from harness.lab.safety.gate import check_names, decide_at, explain

FOLDER = Path(__file__).parents[1] / "data" / "topologies"
NAMES = sorted(path.stem for path in FOLDER.glob("*.facts"))
ACCEPT_ALL = dict.fromkeys([*check_names(), "identity"], "a person said so")


def decided(word: str, facts: HostFacts, wanted: list[str]) -> Decision:
    lent = set()
    for one in wanted:
        try:
            lent.add(find(one, facts))
        except SafetyRefusal:
            continue
    try:
        bdf = find(word, facts)
    except SafetyRefusal as refusal:
        return Decision(word, None, (Finding("identity", Level.LETHAL, str(refusal)),))
    return decide_at(word, bdf, facts, Lending(lent=frozenset(lent)))


def read(name: str) -> tuple[dict[str, Any], HostFacts]:
    expected = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    assert set(expected) <= {"what", "wanted", "devices"} and expected["what"] and expected["devices"]
    return expected, stored.read(FOLDER / f"{name}.facts").facts


@pytest.mark.parametrize("name", NAMES)
def test_topology(name: str) -> None:
    expected, facts = read(name)
    for word, wanted in expected["devices"].items():
        assert set(wanted) <= {"verdict", "findings", "why"}
        found = decided(word, facts, expected.get("wanted", []))
        told = f"{name}: {word}\n" + "\n".join(explain(found, {}))
        worst: dict[str, Level] = {}
        for one in found.findings:
            worst[one.check] = max(one.level, worst.get(one.check, Level.OK))
        shown = {check: level.name for check, level in worst.items() if level is not Level.OK}
        assert shown == (wanted.get("findings") or {}), told
        assert wanted["verdict"] == ("allowed" if found.allowed({}) else found.level.name), told
        assert found.allowed(ACCEPT_ALL) is (wanted["verdict"] != "LETHAL"), told
        for text in wanted.get("why", []):
            assert text in told, told


def test_there_are_many_and_each_says_what_it_expects() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(NAMES)
    verdicts = [one["verdict"] for name in NAMES for one in read(name)[0]["devices"].values()]
    assert len(NAMES) >= 120
    assert all(verdicts.count(one) >= 30 for one in ("allowed", "DENY", "LETHAL")), "each side of the border"


@pytest.mark.parametrize(
    ("name", "section", "line", "verdict"),
    [
        ("storage-guest-by-its-vif-alone", "owners", "", Level.OK),
        ("storage-guest-by-its-vif-alone", "owners", '/libxl/pci/0000-00-14-0/domid = "1"', Level.LETHAL),
        ("storage-guest-by-its-vif-alone", "owners", '/libxl/pci/0000-00-14-0/domid = "2"', Level.OK),
        ("storage-guest-by-its-vif-alone", "backends", '/local/domain/0/backend/vusb/1/0/port/1 = "3-1"', Level.LETHAL),
        ("storage-guest-by-its-vif-alone", "owners", "missing xenstore-ls", Level.LETHAL),
        ("storage-guest-by-its-vif-alone", "backends", "missing xenstore-ls", Level.LETHAL),
        ("nfs-of-itself-by-loopback", "tables", "64.0.0.0/2 dev tun0 table 77 scope link", Level.OK),
        ("roce-card-at-rest", "rdma", "mlx5_0 qp [ib_ipoib]", Level.OK),
        ("roce-card-at-rest", "rdma", "mlx5_0 qp [rpcrdma]", Level.DENY),
        ("soft-iwarp-on-the-onboard-card", "rdma", "missing rdma", Level.DENY),
        *(("infiniband-without-an-interface", one, "missing x", Level.DENY) for one in ("rdma", "namespaces")),
    ],
)
def test_one_line_more_that_decides(name: str, section: str, line: str, verdict: Level, tmp_path: Path) -> None:
    """A guest that could reach further than its bridge; loopback beside a wide route of a tunnel; RDMA at rest."""
    text = (FOLDER / f"{name}.facts").read_text()
    path = tmp_path / "one.facts"
    path.write_text(text.replace(f"@@ {section}\n", f"@@ {section}\n{line}\n"))
    wanted = read(name)[0]["wanted"]
    assert (
        decided(
            wanted[-1] if name.startswith(("roce", "infiniband")) else wanted[0], stored.read(path).facts, wanted
        ).level
        is verdict
    )
