"""A plain Debian becomes a Xen dom0 and plain again: over a link that is cut in the middle of apt, and with a Xen that
cannot be loaded and one that dies, from which the host comes back by itself. A hypervisor of one's own is booted once.

In the order of the file: every test goes on where the one before it ended.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from harness.base.deadline import Deadline
from harness.base.errors import ExitStatus, LabError, SafetyRefusal
from harness.base.progress import PlainProgress
from harness.cli import main
from harness.cli import provision as cli
from harness.host.stacks import OWN_XEN
from harness.lab.lease import ownxen
from harness.lab.lease.claim_options import ClaimOptions
from harness.lab.lease.lease import Lease
from harness.lab.provision import apply, survey
from harness.lab.provision.apply import provision
from harness.lab.provision.boot import boot_once
from harness.lab.provision.facts import SystemFacts
from harness.lab.provision.job import BASE
from harness.lab.provision.plan import StepKind, plan
from harness.lab.provision.takeback import unprovision
from harness.lab.provision.wanted import GRUB_FILE, MENU
from harness.mutants.hypervisor_file import HypervisorFile, unpacked
from harness.transport.base import Script, quote
from suites.provision.conftest import Bench
from suites.provision.plain.machine import NAME

SECONDS = 120.0

# All that survives a reboot and that a person may have written: content, mode, owner. What apt and dpkg note for
# themselves elsewhere is no system's configuration.
_STATE = Script(
    "cd / && find etc boot -type f -exec sha256sum {} + -o -type l -printf '%l  %p\\n' | sort -k 2;"
    " find etc boot -printf '%m %U:%G %p\\n' | sort -k 3; dpkg-query -W -f '${Package} ${Version} ${Status}\\n'"
)
_MAKES_ITSELF = re.compile(r"etc/ld\.so\.cache|etc/mtab|etc/(passwd|group|shadow|gshadow)-?$")

kept: dict[str, object] = {}


def on_host(bench: Bench, script: str) -> str:
    return bench.link.run(Script(script), deadline=Deadline.after(SECONDS), changes=True).check().text


def facts(bench: Bench) -> SystemFacts:
    return survey.read(bench.link)


def state(bench: Bench) -> set[str]:
    lines = bench.link.run(_STATE, deadline=Deadline.after(SECONDS)).check().text.splitlines()
    return {line for line in lines if not _MAKES_ITSELF.search(line)}


class Cutter(PlainProgress):
    """Cuts the wire twice while apt unpacks and sets up."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.progress._stream)
        self.bench = bench
        self.cuts: list[str] = []

    def note(self, text: str) -> None:
        super().note(text)
        if len(self.cuts) < 2 and text.startswith(("Unpacking", "Setting up", "Selecting", "Preparing")):
            self.cuts.append(text)
            self.bench.wire.cut()


@contextmanager
def visit(bench: Bench, *, allowed: bool = True) -> Iterator[Lease]:
    made = Lease.begin(bench.site(allowed=allowed), ClaimOptions(reason="proof"), bench.progress.note)
    try:
        yield made
    finally:
        made.end()


def test_a_plain_machine_is_recognised(bench: Bench) -> None:
    found = facts(bench)
    assert (found.os_id, found.domain, found.xen_version, found.grub, found.iommu) == ("debian", "", "", True, True)
    steps = plan(found, survey.wanted_of(found))
    assert {step.kind for step in steps} == set(StepKind)
    assert survey.plan_lines(found)[0].startswith("1. write"), "nothing stands in the way"
    kept["facts"], kept["state"] = found, state(bench)


def test_without_leave_nothing_is_changed(bench: Bench) -> None:
    with visit(bench, allowed=False) as stay, pytest.raises(SafetyRefusal, match="does not allow"):
        provision(stay, None, bench.progress)
    assert facts(bench) == kept["facts"] and state(bench) == kept["state"]


def plain_still(bench: Bench, boot_id: str) -> None:
    """It was booted anew and came back by itself; Xen is on the menu, and what runs is the default."""
    found, before = facts(bench), kept["facts"]
    assert isinstance(before, SystemFacts)
    assert (found.domain, found.kernel) == ("", before.kernel) and found.boot_id != boot_id
    back = found.menu.back(found.environment)
    assert found.environment == {} and back is not None and not back.hypervisor
    assert found.menu.xen_with(found.running) is not None


def test_a_hypervisor_that_cannot_be_loaded_over_a_link_that_is_cut(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    cutter, before = Cutter(bench), facts(bench).boot_id

    def broken(*given: object) -> None:
        on_host(bench, "for one in /boot/xen-*.gz; do mv $one $one.good && echo rubbish > $one; done; sync")
        boot_once(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(apply, "boot_once", broken)
    with visit(bench) as stay, pytest.raises(LabError, match="Xen did not come up; it is back in plain Linux"):
        provision(stay, None, cutter)
    assert cutter.cuts, "the link was to be cut"
    jobs = on_host(bench, f"ls {BASE}/jobs").split()
    assert len([job for job in jobs if job.startswith("install-")]) == 1, "apt ran once"
    plain_still(bench, before)
    on_host(bench, "for one in /boot/xen-*.good; do mv $one ${one%.good}; done; sync")


def test_a_hypervisor_that_dies_while_it_boots(bench: Bench) -> None:
    too_little = 'GRUB_CMDLINE_XEN_DEFAULT="$GRUB_CMDLINE_XEN_DEFAULT dom0_mem=2M,max:2M"'
    on_host(bench, f"echo {quote([too_little])} > /etc/default/grub.d/zz-bench.cfg")
    before = facts(bench).boot_id
    with visit(bench) as stay, pytest.raises(LabError, match="Xen did not come up; it is back in plain Linux"):
        provision(stay, None, bench.progress)
    assert b"Panic on CPU 0" in bench.machine.console()
    plain_still(bench, before)
    on_host(bench, "rm /etc/default/grub.d/zz-bench.cfg")


def test_it_becomes_a_dom0(bench: Bench) -> None:
    before = facts(bench)
    with visit(bench) as stay:
        steps = provision(stay, None, bench.progress)
    assert [step.kind for step in steps] == [StepKind.MENU, StepKind.TRY, StepKind.DEFAULT]
    found = facts(bench)
    assert found.boot_id != before.boot_id
    assert (found.domain, found.hvm_directio, found.pciback) == ("dom0", True, True)
    back = found.menu.back(found.environment)
    assert back is not None and back.hypervisor and back.kernel == found.running
    assert found.environment == {}


def test_a_second_time_there_is_nothing_to_do(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    found, there = facts(bench), state(bench)
    assert plan(found, survey.wanted_of(found)) == ()
    assert cli.provision(host=NAME, inventory=bench.inventory) == 0
    assert "already" in capsys.readouterr().out
    assert facts(bench) == found and state(bench) == there


def built(bench: Bench, folder: Path, *, runs: bool = True) -> Path:
    """A build of one's own: the host's hypervisor under another build-id; or one whose code is nothing but zeros."""
    (packed,) = on_host(bench, "ls /boot/xen-*-amd64.gz").split()
    data = bench.link.run(["cat", packed], deadline=Deadline.after(SECONDS)).check().stdout
    old = HypervisorFile.parse(data, packed).build_id
    image = unpacked(data, packed).replace(old, old[::-1])
    if not runs:
        at = image.index(old[::-1])
        image = image[:0x1000] + bytes(at - 0x1100) + image[at - 0x100 :]
    file = folder / "xen.gz"
    file.write_bytes(gzip.compress(image))
    return file


def play(bench: Bench, file: Path, results: Path) -> list[str]:
    host = ["--host", NAME, "--inventory", str(bench.inventory), "--device", "virtio-rng"]
    return ["run", "E14-F1", *host, "--xen", str(file), "--results", str(results)]


@contextmanager
def back_as_before(bench: Bench) -> Iterator[None]:
    """Whatever becomes of it, the host boots what it booted before, and nothing is left on its disk."""
    before, there, runs = facts(bench), state(bench), ownxen.running(bench.link)
    yield
    now = facts(bench)
    assert now.boot_id != before.boot_id, "it was booted anew"
    assert ownxen.running(bench.link) == runs
    assert replace(now, boot_id="", free_mib={}) == replace(before, boot_id="", free_mib={})
    assert state(bench) == there


def test_a_hypervisor_of_ones_own_is_booted_once(bench: Bench, tmp_path: Path) -> None:
    file = built(bench, tmp_path)
    with back_as_before(bench):
        assert main(play(bench, file, tmp_path / "results")) == 0
    result = json.loads((tmp_path / "results/results.json").read_text())
    assert result["scenarios"][0]["conclusion"] == "PROVEN"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert result["host"]["facts"][OWN_XEN] == f"xen.gz, SHA-256 {digest}"
    assert result["host"]["facts"]["xen_build_id"] == HypervisorFile.parse(file.read_bytes(), "").build_id.hex()


def test_a_run_that_is_killed_there_is_undone_by_restore(bench: Bench, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "harness.cli", *play(bench, built(bench, tmp_path), tmp_path / "results")]
    with back_as_before(bench):
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:  # noqa: S603
            assert process.stdout is not None
            said = []
            for line in process.stdout:
                said.append(line)
                if "observe C1 ..." in line:
                    break
            process.kill()
        assert process.wait() != 0 and "observe C1 ..." in said[-1], "".join(said)
        words = ["--inventory", str(bench.inventory), "--take-over", "it was killed by a test"]
        assert main(["restore", NAME, *words]) == ExitStatus.OK


def test_one_that_does_not_come_up_leads_back(bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with back_as_before(bench):
        status = main(play(bench, built(bench, tmp_path, runs=False), tmp_path / "results"))
    assert status == ExitStatus.UNDECIDED
    assert "xen.gz did not come up" in capsys.readouterr().err


def test_it_becomes_plain_again(bench: Bench) -> None:
    with visit(bench) as stay:
        assert unprovision(stay, None, bench.progress)
    found, before = facts(bench), kept["facts"]
    assert isinstance(before, SystemFacts)
    assert (found.domain, found.xen_version, found.kernel) == ("", "", before.kernel)
    assert (found.files, found.packages, found.backup) == (before.files, before.packages, "")
    assert GRUB_FILE not in found.files and found.files[MENU] == before.files[MENU]
    old = kept["state"]
    assert isinstance(old, set)
    now = state(bench)
    assert (sorted(now - old), sorted(old - now)) == ([], [])
    ours = bench.link.run(["find", "/var/lib/maskall", "/run/maskall", "-type", "f"], deadline=Deadline.after(SECONDS))
    assert ours.text == ""


def test_a_machine_that_was_not_provisioned_is_left_alone(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    there = state(bench)
    assert cli.unprovision(host=NAME, inventory=bench.inventory) == 0
    assert "was not provisioned" in capsys.readouterr().out
    assert state(bench) == there
