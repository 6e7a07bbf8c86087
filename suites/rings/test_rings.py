"""A dom0 that has been up for long, for real: rings that turn between two looks. A verdict is right, or UNDECIDED.

Xen's ring is its smallest, 16 KiB, and both logs are flooded before every look, behind what the scenario provoked.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.base.deadline import Deadline
from harness.base.progress import PlainProgress
from harness.evidence.observe import observed
from harness.evidence.store import EvidenceStore
from harness.host.host import Host
from harness.host.stacks import Stack, stack
from harness.judge.judge import judge
from harness.judge.judgement import Verdict
from harness.model.message import MarkerKind, Meaning
from harness.model.observation import Checkpoint
from harness.nested.lab import NestedLab
from harness.play.catalogue import catalogue
from harness.play.run import PlayedSide, play
from harness.play.stage.stage import Stage
from harness.run.prepare import prepared_lab
from harness.scenario.choose import Candidate, all_scenarios
from harness.transport.base import Script

HAZARD = "E14-F1-hvm-virtio-rng"
DEVICE = "virtio-rng"
# 150 lines of 900 bytes are more than the 128 KiB of dom0's log, the list of debug keys eight times more than 16 KiB
FLOOD = """\
echo on > /proc/sys/kernel/printk_devkmsg
line=$(printf '%0880d' 0)
for number in $(seq 150); do echo "<6>a driver that talks: $number $line" > /dev/kmsg || exit 1; done
xl debug-keys hhhhhhhh
"""
FLOOD_SECONDS = 240.0


def with_small_rings(usual: Stack) -> Stack:
    """Xen's ring as small as it gets, and a console that shows every line and drops none."""
    xen = [one for one in usual.xen_options.split() if not one.startswith("conring_size=")]
    dom0 = [one for one in usual.dom0_options.split() if one != "quiet"]
    return usual.model_copy(
        update={
            "xen_options": " ".join([*xen, "conring_size=16k", "sync_console"]),
            "dom0_options": " ".join([*dom0, "ignore_loglevel"]),
        }
    )


@pytest.fixture(scope="module")
def lab() -> NestedLab:
    return prepared_lab(with_small_rings(stack()), [DEVICE], PlainProgress(sys.__stderr__ or sys.stderr))


@pytest.fixture
def host(lab: NestedLab) -> Iterator[Host]:
    with lab.host([DEVICE], lab.progress) as host:
        yield host


def played(host: Host, lab: NestedLab, store: EvidenceStore, monkeypatch: pytest.MonkeyPatch) -> PlayedSide:
    look = Stage.observe

    def flooded(stage: Stage, checkpoint: Checkpoint) -> None:
        stage.host.transport.run(Script(FLOOD), deadline=Deadline.after(FLOOD_SECONDS)).check()
        look(stage, checkpoint)

    monkeypatch.setattr(Stage, "observe", flooded)
    (scenario,) = [one for one in all_scenarios(catalogue(), [Candidate(DEVICE, DEVICE)]) if one.id == HAZARD]
    side = play(scenario, host, store, lab.progress)
    again = observed(replace(side.record, observations=[], markers=[], messages=None), store)
    assert judge(again) == side.judgement, "judged again from its files it is the same"
    return side


def hazards(side: PlayedSide) -> list[str]:
    return [raw.path for one, raw in side.record.markers if one.kind is MarkerKind.MASKALL_SET]


def test_without_the_console_it_is_undecided(
    host: Host, lab: NestedLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.console = None
    side = played(host, lab, EvidenceStore(tmp_path), monkeypatch)
    assert hazards(side) == [], "the flood has taken the line that tells of the hazard"
    assert side.judgement.verdict is Verdict.UNDECIDED, side.judgement.reason
    assert {one.origin.value for one in side.record.messages or () if one.loses} == {"xen", "dom0"}


def test_with_the_console_it_is_right(
    host: Host, lab: NestedLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = played(host, lab, EvidenceStore(tmp_path), monkeypatch)
    assert side.judgement.verdict is Verdict.PASS, side.judgement.reason
    assert side.judgement.hazard.taken and hazards(side)
    said = side.record.messages or []
    assert not [one for one in said if one.loses]
    filled = [one for one in said if one.name == "lines-from-console"]
    assert {one.origin.value for one in filled} == {"xen", "dom0"}
    assert all(one.meaning is Meaning.HARMLESS and (tmp_path / one.raw.path).stat().st_size for one in filled)
