"""A lent machine for real: a second controller, a foreign guest, another machine, a holder that sleeps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.base.deadline import Deadline, poll
from harness.base.errors import ExitStatus, MaskallError
from harness.cli import main
from harness.lab.lease.claim_options import ClaimOptions
from harness.lab.lease.lease import Lease
from harness.lab.lease.site import Site
from harness.lab.lease.state import HostState
from harness.mutants.livepatching import NAME
from harness.nested.practice import Practice
from harness.run.options import DEFAULT_CONTROL
from harness.transport.base import Script
from suites.lab.onsite import DEVICE, as_before, controller, link_to_site, livepatches, site
from suites.lab.practice_machine import link_to
from suites.lab.stay import arrive, borrow

__all__ = ["as_before", "controller", "site"]
_DRIVERS = "for one in /sys/bus/pci/devices/*; do echo $one $(readlink $one/driver); done"
_HOW_IT_IS = f"xl list | sed 's/  *[^ ]*$//; s/ [-a-z]* *$//'; {_DRIVERS}; ls /run/maskall 2>&1; true"


def on_host(site: Site, script: str) -> str:
    link = link_to_site(site)
    try:
        return link.run(Script(script), deadline=Deadline.after(60), changes=True).check().text
    finally:
        link.close()


def stay(practice: Practice, point: str) -> subprocess.Popen[str]:
    """A run of its own process, which stops or dies at a point of its journal."""
    argv = [sys.executable, "-m", "suites.lab.stay", str(practice.inventory), practice.name, DEVICE, point]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # noqa: S603


def stopped(process: subprocess.Popen[str]) -> bool:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def restore(practice: Practice, *words: str) -> int:
    return main(["restore", practice.name, "--inventory", str(practice.inventory), *words])


@pytest.mark.parametrize("point", [4, 10])
def test_a_holder_that_slept_through_a_take_over_changes_nothing(
    practice: Practice, site: Site, as_before: object, point: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stay(practice, f"stop:{point}") as process:
        assert poll(lambda: stopped(process), Deadline.after(400), every=0.5)
        with monkeypatch.context() as patch:
            patch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
            assert restore(practice, "--take-over", "it sleeps") == ExitStatus.OK
        before = on_host(site, _HOW_IT_IS)
        process.send_signal(signal.SIGCONT)
        said, _ = process.communicate(timeout=200)
        assert process.returncode != 0
        assert "no longer ours" in said or "was taken" in said, said
        assert on_host(site, _HOW_IT_IS) == before


def test_a_reboot_takes_the_control_of_a_killed_run_away(practice: Practice, site: Site, as_before: object) -> None:
    with stay(practice, "livepatch:3600") as process:
        said, _ = process.communicate(timeout=300)
    assert livepatches(site) == {NAME: "APPLIED"}, said
    power = site.power()
    assert power is not None
    boot = on_host(site, "cat /proc/sys/kernel/random/boot_id")
    power.reset(Deadline.after(60))
    assert poll(lambda: rebooted(site, boot), Deadline.after(400), every=2.0)
    assert livepatches(site) == {}
    assert restore(practice, "--take-over", "it was killed by a test") == ExitStatus.OK


def test_the_next_run_takes_the_control_of_a_killed_run_away(
    practice: Practice, site: Site, as_before: object, tmp_path: Path
) -> None:
    words = ["--host", practice.name, "--inventory", str(practice.inventory), "--device", DEVICE]
    words += ["--take-over", "it was killed by a test", "--no-control"]
    argv = [sys.executable, "-m", "harness.cli", "run", "E14-F1", "--mutant", DEFAULT_CONTROL, *words]
    with subprocess.Popen(  # noqa: S603
        [*argv, "--results", str(tmp_path / "killed")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if f"apply mutant {DEFAULT_CONTROL} done" in line:
                break
        process.kill()
    assert livepatches(site) == {NAME: "APPLIED"}, "".join(said)
    assert main(["run", "E1-F1-hvm-virtio-rng", *words, "--results", str(tmp_path / "next")]) == ExitStatus.OK


def rebooted(site: Site, before: str) -> bool:
    try:
        return on_host(site, "cat /proc/sys/kernel/random/boot_id") != before
    except MaskallError:  # going down, or not up yet
        return False


def test_another_ones_claim_is_no_reason_to_switch_it_off(
    practice: Practice, site: Site, as_before: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stay(practice, "10") as process:
        process.communicate(timeout=300)
    emulator = practice.emulator
    monkeypatch.setenv("USER", "bob")
    home = os.environ["XDG_STATE_HOME"]
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "bob"))
    theirs = Lease.begin(site, ClaimOptions(reason="bob's work", take_over="it was killed by a test"), print)
    theirs.put_back(whole=True)
    theirs.close_journal()
    monkeypatch.setenv("XDG_STATE_HOME", home)
    monkeypatch.setenv("USER", "ada")
    assert restore(practice) == ExitStatus.UNDECIDED
    assert practice.emulator == emulator, "it was not switched off"
    theirs.end()


def test_another_users_guest_and_login_are_no_leaks(practice: Practice, site: Site, as_before: object) -> None:
    told: list[str] = []
    visit, address = arrive(site, DEVICE)
    visit.notice = told.append
    borrow(visit, DEVICE, address)
    boot = visit.journal.boot_id
    mount = "mkdir -p /run/user/1000 && mount -t tmpfs tmpfs /run/user/1000"
    config = 'printf \'name="bob"\\nmemory=32\\ntype="hvm"\\n\' > /root/bob.cfg && xl create -p /root/bob.cfg'
    on_host(site, f"{mount}; {config}")
    try:
        visit.put_back()
        visit.end()
        assert not HostState.of(site.name).quarantine
        assert any("which is not ours" in line and "bob" in line for line in told), told
        assert "bob" in on_host(site, "xl list")
        assert on_host(site, "cat /proc/sys/kernel/random/boot_id").strip() == boot
    finally:
        on_host(site, "xl destroy bob; umount /run/user/1000; rm -f /root/bob.cfg; true")


def test_another_machines_journal_is_not_replayed(practice: Practice, site: Site, as_before: object) -> None:
    with stay(practice, "10") as process:
        process.communicate(timeout=300)
    link_to(practice).close()
    on_host(site, f"cp -p /etc/machine-id /root/machine-id && echo {'5' * 32} > /etc/machine-id")
    before = on_host(site, _DRIVERS)
    try:
        assert restore(practice, "--take-over", "it was killed by a test") == ExitStatus.UNDECIDED
        assert on_host(site, _DRIVERS) == before
    finally:
        on_host(site, "cat /root/machine-id > /etc/machine-id; rm /root/machine-id")
    assert restore(practice, "--take-over", "it was killed by a test") == ExitStatus.OK
