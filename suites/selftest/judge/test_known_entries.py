"""Entries of known issues: malformed ones are refused, ours are what real hosts have shown."""

from __future__ import annotations

import json
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from harness.base.errors import InventoryError
from harness.host.stacks import stacks
from harness.judge.forecast import Forecast
from harness.judge.judgement import Check, Outcome
from harness.judge.known import known_issues
from harness.model.observation import Checkpoint
from harness.nested.devices import candidates
from harness.nested.devices import catalogue as devices
from harness.play.catalogue import catalogue
from harness.scenario.choose import all_scenarios
from suites.selftest.fakes.maskedissue import MASKED, ROOT, issues


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("  document: docs/findings/masked.md\n", "", "either a document or the fix"),
        ("  xen: [", "  fix: 575e18d54d19\n  xen: [", "either a document or the fix"),
        ('  xen: ["4.20"]\n', "", "where it was seen"),
        ("document: docs/findings/masked.md", "fix: 575e18d54d19", "fixes.yaml, not here"),
        ('["4.20"]', "[4.20]", "in quotes"),
        ('["4.20"]', '["4.20..4.14"]', "not a span of versions"),
        ("docs/findings/masked.md", "../secret.md", "pattern"),
        ("at: C6", "at: C9", "C9"),
        ("violated:", "violates:", "did you mean 'violated'"),
        ("masked:", "Masked one:", "pattern"),
    ],
)
def test_a_malformed_entry_is_refused_with_its_place(tmp_path: Path, old: str, new: str, told: str) -> None:
    text = MASKED.replace(old, new, 1)
    assert text != MASKED
    with pytest.raises(InventoryError, match=r"issues\.yaml:\d") as caught:
        issues(tmp_path, text)
    assert told in str(caught.value)


def test_an_unknown_fix_is_refused(tmp_path: Path) -> None:
    text = MASKED.replace("document: docs/findings/masked.md", "fix: 575e18d54d18").replace('  xen: ["4.20"]\n', "")
    with pytest.raises(InventoryError, match="no fix 575e18d54d18"):
        issues(tmp_path, text)


SEEN = json.loads((Path(__file__).parents[1] / "data/report/unmet_checks.json").read_text())


@pytest.mark.parametrize("id", SEEN)
def test_our_entries_are_what_real_hosts_have_shown(id: str) -> None:
    """What was not met in real runs of stock Xen 4.20.5-pre, of 4.14.6 (E17), and of the known-bad control (E14)."""
    checks = [
        Check(Checkpoint(one["checkpoint"]), one["view"], one["subject"], "", one["seen"], Outcome(one["outcome"]))
        for one in SEEN[id]
    ]
    (row,) = (row for row in all_scenarios(catalogue(), candidates(devices())) if row.id == id)
    mine = tuple(
        (name, issue)
        for name, issue in known_issues().items()
        if issue.concerns(row) and (issue.fix or issue.due_on({"xen_version": "4.20.5-pre", "kernel": "6.12.118"}))
    )
    assert len(Forecast(due=mine).explains(checks)) == 1
    strange = replace(checks[0], view="toolstack", subject="destroy")
    assert Forecast(due=mine).explains([*checks, strange]) == ()
    assert Forecast(due=mine).explains([replace(one, outcome=Outcome.MISSING) for one in checks]) == ()


@pytest.mark.parametrize("device", ["virtio-rng", "e1000e"])
@pytest.mark.parametrize("id", [id for id in SEEN if "-pv-nvme" in id or id == "E5-F5-hvm-nvme"])
def test_what_nvme_lacks_in_a_pv_guest_is_excused_of_no_other_device(id: str, device: str) -> None:
    """Their drivers get MSI-X there, so a guest of theirs without it has met something new."""
    checks = [
        Check(Checkpoint(one["checkpoint"]), one["view"], one["subject"], "", one["seen"], Outcome(one["outcome"]))
        for one in SEEN[id]
    ]
    rows = {row.id: row for row in all_scenarios(catalogue(), candidates(devices()))}
    row = rows[id.replace("nvme", device)]
    mine = tuple((name, issue) for name, issue in known_issues().items() if issue.concerns(row))
    assert Forecast(due=mine).explains(checks) == ()


def test_our_entries_name_what_there_is() -> None:
    rows = all_scenarios(catalogue(), candidates(devices()))
    for name, issue in known_issues().items():
        assert issue.document is None or (ROOT / issue.document).is_file(), f"{name}: {issue.document} is not there"
        assert set(issue.stacks) <= set(stacks()), name
        for pattern in issue.scenarios:
            assert any(fnmatchcase(row.id, pattern) for row in rows), f"{name}: no scenario matches {pattern}"
