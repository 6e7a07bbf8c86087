"""The lab lane on a real Xen host, reached like any stranger's machine: over ssh, and by its management controller.

Each test leaves the machine on, and as it was.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.base.deadline import Deadline, poll
from harness.base.errors import ExitStatus, LabError, LockHeld
from harness.cli import main
from harness.host.pciback import PCIBACK
from harness.lab.inventory.models import DeviceEntry
from harness.lab.lease import baseline as baselines
from harness.lab.lease.baseline import Baseline
from harness.lab.lease.claim_options import ClaimOptions
from harness.lab.lease.deadman import DeadMan
from harness.lab.lease.ladder import Rung
from harness.lab.lease.lease import Lease
from harness.lab.lease.site import Site
from harness.lab.lease.state import HostState
from harness.lab.rescue import Rescue
from harness.lab.safety.facts.collect import read_facts
from harness.lab.safety.facts.facts import HostFacts
from harness.lab.safety.facts.parse import parse_facts
from harness.lab.safety.gate import Level
from harness.lab.survey import Survey
from harness.model.address import Bdf
from harness.model.identity import Identity
from harness.mutants.livepatching import COMPARISON, NAME
from harness.nested.practice import Practice
from harness.nested.workbench import DATA_DISK
from harness.transport.base import Script
from harness.xen.keys.debugkeys import parse_livepatches
from suites.lab.onsite import DEVICE, as_before, controller, link_to_site, livepatches, site
from suites.lab.stay import arrive, borrow
from suites.selftest.fakes.sshserver import Wire

__all__ = ["as_before", "controller", "site"]
ROOT_DISK, MANAGEMENT = "0000:00:03.0", "0000:00:04.0"
_DATA_DISK = """\
for c in /sys/class/nvme/*; do
  read -r serial <"$c/serial"
  [ "$serial" != maskall-datadisk ] || echo "$c"/nvme*n1
done
"""
KILLED_AT = (4, 10, 16)
"""Points of the journal: before the bind, behind it, and while the guest exists. The self-tests take every one."""


def facts_of(site: Site) -> HostFacts:
    link = link_to_site(site)
    try:
        return parse_facts(read_facts(link, Deadline.after(60)))
    finally:
        link.close()


def granted(identity: Identity) -> DeviceEntry:
    return DeviceEntry(identity=identity, driver="nvme", endings=("E3",), recover=(), reset_effective=True)


class TestGate:
    def test_doctor_tells_what_may_be_borrowed(
        self, practice: Practice, site: Site, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = main(["doctor", practice.name, "--inventory", str(practice.inventory)])
        told = capsys.readouterr().out
        for name in ("nvme", "virtio-rng", "e1000e"):
            assert any(line.startswith(f"{name} at") and "may be borrowed" in line for line in told.splitlines()), told
        assert f"{DATA_DISK} at 0000:05:00.0 is not touched" in told
        assert status == ExitStatus.FAILED, "the data disk is in the inventory and must not be touched"

    def test_what_the_host_lives_on_is_lethal(self, site: Site) -> None:
        facts = facts_of(site)
        for address, check in ((ROOT_DISK, "storage"), (MANAGEMENT, "network")):
            function = facts.functions[Bdf.parse(address)]
            entry = granted(Identity(id=function.id, path=function.path))
            decision = Survey.of(facts, {"it": entry}, {}).decisions["it"]
            lethal = [one.check for one in decision.findings if one.level is Level.LETHAL]
            assert check in lethal
            assert not decision.allowed(dict.fromkeys((one.check for one in decision.findings), "I insist"))

    def test_a_disk_in_use_is_lethal(self, site: Site) -> None:
        link = link_to_site(site)
        try:
            script = Script(_DATA_DISK)
            disk = link.run(script, deadline=Deadline.after(20)).check().text.split()[-1].rpartition("/")[2]
            mount = ["mount", f"/dev/{disk}", "/mnt"]
            link.run(mount, deadline=Deadline.after(20), changes=True).check()
            decision = Survey.of(facts_of(site), site.devices([DATA_DISK]), {}).decisions[DATA_DISK]
            assert decision.level is Level.LETHAL
            assert any("/mnt" in line.text for one in decision.findings for line in one.evidence)
        finally:
            link.run(["umount", "/mnt"], deadline=Deadline.after(20), changes=True)
            link.close()


def test_a_scenario_from_inventory_to_verdict(
    practice: Practice, site: Site, as_before: Baseline, tmp_path: Path
) -> None:
    words = ["--host", practice.name, "--inventory", str(practice.inventory), "--device", DEVICE]
    status = main(["run", "E14-F1", *words, "--results", str(tmp_path / "results")])
    assert status == ExitStatus.OK
    result = json.loads((tmp_path / "results/results.json").read_text())
    (scenario,) = result["scenarios"]
    assert scenario["conclusion"] == "PROVEN"
    stock, control = scenario["stock"]["judgement"], scenario["control"]["judgement"]
    assert (stock["verdict"], control["verdict"]) == ("PASS", "FAIL")
    assert stock["hazard"]["taken"] and control["hazard"]["taken"]
    violated = [one for one in control["checks"] if one["outcome"] == "violated"]
    seen = {f"{one['checkpoint']} {one['view']}: {one['subject']}" for one in violated}
    assert seen >= {"C6 hardware: message control", "C6 guest: interrupts under traffic"}, seen
    assert result["host"]["name"] == practice.name
    assert not result["host"]["nested"]
    assert_livepatched(tmp_path / "results" / scenario["control"]["raw_directory"])


def assert_livepatched(folder: Path) -> None:
    """The evidence of the control: what was given to Xen, and Xen's own word that it was there, and then gone."""
    raw = {path.name.partition("-")[2] or path.name: path for path in folder.iterdir()}
    control = folder / "control"
    assert {path.name for path in control.iterdir()} == {
        f"{NAME}.livepatch",
        f"{COMPARISON}.livepatch",
        "livepatch_applied.txt",
    }
    (patched,) = parse_livepatches((control / "livepatch_applied.txt").read_text())
    assert (patched.livepatch, patched.state, patched.name) == (NAME, "APPLIED", "pci_reset_msix_state")
    assert parse_livepatches(raw["livepatch_taken_away.txt"].read_text()) == ()


def test_a_trial_of_the_resets(
    practice: Practice, site: Site, as_before: Baseline, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["doctor", practice.name, "--inventory", str(practice.inventory), "--try-reset", DEVICE]
    status = main(words)
    told = capsys.readouterr().out
    assert f"reset of {DEVICE} by " in told and f"{DEVICE} was given back" in told, told
    assert (status == ExitStatus.OK) == ("NOT OK" not in told)
    assert "it came back after" in told


@pytest.mark.parametrize("point", KILLED_AT)
def test_killed_and_restored_from_another_controller(
    practice: Practice, site: Site, as_before: Baseline, point: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    argv = [sys.executable, "-m", "suites.lab.stay", str(practice.inventory), practice.name, DEVICE, str(point)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=300)  # noqa: S603
    assert done.returncode == -signal.SIGKILL, done.stderr
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    host = [practice.name, "--inventory", str(practice.inventory)]
    assert main(["restore", *host]) == ExitStatus.UNDECIDED, "the dead one's claim is fresh: it might be slow"
    assert main(["restore", *host, "--take-over", "it was killed by a test"]) == ExitStatus.OK


class TestKilledWithTheControlApplied:
    """By kill -9: nothing of the run is left to take the livepatch away."""

    def kill(self, practice: Practice, seconds: int = 3600) -> None:
        argv = [sys.executable, "-m", "suites.lab.stay", str(practice.inventory), practice.name, DEVICE]
        done = subprocess.run([*argv, f"livepatch:{seconds}"], check=False, capture_output=True, text=True, timeout=300)  # noqa: S603
        assert done.returncode == -signal.SIGKILL, done.stderr

    def restore(self, practice: Practice) -> int:
        host = [practice.name, "--inventory", str(practice.inventory)]
        return main(["restore", *host, "--take-over", "it was killed by a test"])

    def test_restore_takes_it_away(self, practice: Practice, site: Site, as_before: Baseline) -> None:
        self.kill(practice)
        assert livepatches(site) == {NAME: "APPLIED"}
        assert self.restore(practice) == ExitStatus.OK
        assert livepatches(site) == {}

    def test_the_timer_takes_it_away(self, practice: Practice, site: Site, as_before: Baseline) -> None:
        self.kill(practice, seconds=10)
        assert poll(lambda: livepatches(site) == {}, Deadline.after(60), every=1.0)
        link = link_to_site(site)
        assert f"dead-man timer: taking livepatch {NAME} away" in link.run(["dmesg"], deadline=Deadline.after(30)).text
        link.close()
        assert self.restore(practice) == ExitStatus.OK


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_mid_run_gives_the_device_back(
    practice: Practice, site: Site, as_before: Baseline, number: signal.Signals, tmp_path: Path
) -> None:
    words = ["--host", practice.name, "--inventory", str(practice.inventory), "--device", DEVICE]
    argv = [sys.executable, "-m", "harness.cli", "run", "E1-F1", *words, "--results", str(tmp_path / "results")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "boots ..." in line:
                os.kill(process.pid, number)
                break
        rest, _ = process.communicate(timeout=200)
    assert process.returncode == 128 + number, "".join(said) + rest
    assert "Traceback" not in rest


def test_the_link_breaks_at_the_bind(practice: Practice, site: Site, as_before: Baseline) -> None:
    wire = Wire(site.entry.port)
    try:
        behind = Site(site.name, site.entry.model_copy(update={"port": wire.port}), site.inventory)
        visit, address = arrive(behind, DEVICE)
        visit.journal.trace = lambda point: wire.cut() if point.startswith("after host intent") else None
        with pytest.raises(LabError):
            borrow(visit, DEVICE, address)
        visit.journal.trace = lambda _: None
        visit.put_back()
        visit.end()
    finally:
        wire.stop()


def test_the_timer_strikes_at_what_no_domain_has_alone(site: Site, as_before: Baseline) -> None:
    """Nobody disarms it, twice: while a guest has the device, and when the guest is gone."""
    visit, address = arrive(site, DEVICE)
    borrow(visit, DEVICE, address)
    domid = visit.transport.run(["xl", "domid", "maskall-a"], deadline=Deadline.after(30)).check().text.strip()
    timer = DeadMan(site.transport, seconds=1)

    def struck(what: str) -> bool:
        said = visit.transport.run(["dmesg"], deadline=Deadline.after(30)).check().text
        return f"dead-man timer: {what}" in said

    timer.arm(visit.transport, address, as_before.driver)
    assert poll(
        lambda: struck(f"a domain has {address} now, or nobody says ({domid}): it stays there"), Deadline.after(60)
    )
    assert baselines.read(visit.transport, address).driver == PCIBACK
    visit.transport.run(["xl", "destroy", domid], deadline=Deadline.after(60), changes=True).check()
    timer.arm(visit.transport, address, as_before.driver)
    assert poll(lambda: struck(f"giving {address} back to {as_before.driver}"), Deadline.after(60))
    assert poll(lambda: baselines.read(visit.transport, address).driver == as_before.driver, Deadline.after(60))
    visit.put_back()
    visit.end()


def test_two_controllers(site: Site, as_before: Baseline) -> None:
    visit, _ = arrive(site, DEVICE)
    with pytest.raises(LockHeld, match="the lab lane"):
        Lease.begin(site, ClaimOptions(reason="somebody else"), print)
    visit.put_back()
    visit.end()


def test_the_host_reboots_by_itself(practice: Practice, site: Site, as_before: Baseline) -> None:
    visit, address = arrive(site, DEVICE)
    borrow(visit, DEVICE, address)
    power = site.power()
    assert power is not None
    power.reset(Deadline.after(60))
    climbed = Rescue(visit, power, None).climb()
    assert climbed.restored
    assert climbed.tried[-1].rung in (Rung.RECONNECT, Rung.UNDO), "its own reboot has undone everything"
    visit.end()


def test_a_host_that_hangs_is_power_cycled(practice: Practice, site: Site, as_before: Baseline) -> None:
    visit, address = arrive(site, DEVICE)
    borrow(visit, DEVICE, address)
    emulator = practice.emulator
    assert emulator is not None
    os.kill(emulator, signal.SIGSTOP)  # as QMP's stop: every CPU stands still, the controller lives
    visit.transport.close()
    visit.site = Site(site.name, site.entry.model_copy(update={"boot_seconds": 60}), site.inventory)
    climbed = Rescue(visit, site.power(), None).climb()
    assert climbed.restored, climbed.told
    assert climbed.tried[-1].rung is Rung.POWER_CYCLE
    assert poll(lambda: practice.emulator not in (None, emulator), Deadline.after(5))
    visit.end()
    assert not HostState.of(site.name).quarantine
