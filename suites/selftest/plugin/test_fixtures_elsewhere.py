"""The fixtures on a lab host, in pytest-xdist's processes, and what they cost a pytest that uses none of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import harness.plugin.case
import harness.run.prepare
from harness.base.deadline import poll
from harness.cli.entry import main
from harness.guest.initramfs import GuestFiles
from harness.judge.judgement import Conclusion, Verdict
from harness.report.results import RunResult
from harness.run import store
from harness.run.chain import events
from suites.selftest.fakes.fakehost import board
from suites.selftest.fakes.fakelab import NAME, FakeLab, fake_host
from suites.selftest.fakes.patience import soon

__all__ = ["fake_host"]
pytest_plugins = ("pytester",)
pytestmark = pytest.mark.whole
PRELOADED = harness.plugin.case, harness.run.prepare

BORROWS = """
def test_it(xen_host, pci_device):
    assert pci_device.driver == "pciback"
    {line}
"""


@pytest.mark.parametrize(
    ("line", "verdict"),
    [("pass", Verdict.PASS), ("assert 0", Verdict.FAIL), ("xen_host.xl('no-such-verb')", Verdict.PASS)],
)
def test_a_lab_host_is_leased_journaled_and_given_back(
    pytester: pytest.Pytester, fake_host: FakeLab, monkeypatch: pytest.MonkeyPatch, line: str, verdict: Verdict
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(pytester.path / "controller"))
    monkeypatch.setattr("harness.lab.lease.undo.GONE_SECONDS", 0.1)
    monkeypatch.setattr("harness.lab.real.install", lambda *_: GuestFiles("/boot/vmlinuz", "/guest.cpio"))
    before = fake_host.fake.state()
    pytester.makepyfile(test_mine=BORROWS.format(line=line))
    folder = pytester.path / "results"
    options = [f"--maskall-inventory={fake_host.inventory}", f"--maskall-host={NAME}", f"--maskall-results={folder}"]
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:xdist", *options, "--maskall-device=nic0")
    assert result.ret == (0 if verdict is Verdict.PASS else 1), result.stdout.str()
    run = store.load(folder / "results.json", RunResult)
    assert (run.host.name, run.host.nested, run.cases[0].stock.verdict) == (NAME, False, verdict)
    assert fake_host.fake.ran(f"pci-assignable-add {board.NIC}") == 1
    assert fake_host.fake.state() == before


_HOLDS = """
import time
from pathlib import Path

def test_it(pci_device):
    {line}

def test_next(pci_device):
    pass
"""
_CONFTEST = """
import harness.lab.lease.undo, harness.lab.real
from harness.guest.initramfs import GuestFiles
harness.lab.lease.undo.GONE_SECONDS = 0.1
harness.lab.real.install = lambda *_: GuestFiles("/boot/vmlinuz", "/guest.cpio")
"""


@dataclass
class Apart:
    """A pytest in a process of its own, whose test borrows a device of a lab host."""

    folder: Path
    lab: FakeLab

    def start(self, line: str, *words: str) -> subprocess.Popen[str]:
        (self.folder / "conftest.py").write_text(_CONFTEST)
        (self.folder / "test_mine.py").write_text(_HOLDS.format(line=line))
        argv = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:hypothesispytest"]
        argv += ["--assert=plain"]  # to rewrite all of the harness would take most of the time
        return subprocess.Popen(  # noqa: S603 - our own interpreter
            [*argv, f"--maskall-inventory={self.lab.inventory}", "--maskall-device=nic0", *words, "test_mine.py"],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


@pytest.fixture
def apart(tmp_path: Path, fake_host: FakeLab, monkeypatch: pytest.MonkeyPatch) -> Apart:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "controller"))
    monkeypatch.setattr("harness.lab.lease.undo.GONE_SECONDS", 0.1)
    folder = tmp_path / "mine"
    folder.mkdir()
    return Apart(folder, fake_host)


_WAITS = "Path('held').touch(); time.sleep(600)"


def test_a_killed_pytest_is_undone_by_restore(apart: Apart, capsys: pytest.CaptureFixture[str]) -> None:
    before = apart.lab.fake.state()
    process = apart.start(_WAITS)
    assert poll((apart.folder / "held").exists, soon())
    assert apart.lab.fake.state() != before, "the device is at pciback"
    process.kill()
    process.communicate()
    words = ["restore", NAME, "--inventory", str(apart.lab.inventory), "--take-over", "its pytest was killed"]
    assert main(words) == 0, capsys.readouterr().err
    assert apart.lab.fake.state() == before


def test_ctrl_c_undoes_before_it_ends(apart: Apart) -> None:
    before = apart.lab.fake.state()
    process = apart.start(_WAITS)
    assert poll((apart.folder / "held").exists, soon())
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate()
    assert process.returncode == pytest.ExitCode.INTERRUPTED, said
    assert apart.lab.fake.state() == before


def test_the_host_stays_as_it_is_while_pdb_is_open(apart: Apart) -> None:
    before = apart.lab.fake.state()
    process = apart.start("assert not pci_device.driver", "--pdb")
    assert process.stdin is not None
    said, _ = process.communicate("p pci_device.driver\nq\n")
    assert "'pciback'" in said.partition("(Pdb)")[2], said
    assert apart.lab.fake.state() == before


def test_the_first_failure_ends_it_and_the_last_failed_are_played_again(apart: Apart) -> None:
    before = apart.lab.fake.state()
    said, _ = apart.start("assert not pci_device.driver", "-x").communicate()
    assert " 1 failed " in said and "stopping after 1 failures" in said, said
    said, _ = apart.start("pass", "--lf").communicate()
    assert "1 passed" in said and "run-last-failure: rerun previous 1 failure" in said, said
    assert apart.lab.fake.state() == before


def test_processes_of_xdist_share_one_result(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    # the installed package has no suites; the processes find the fake lab in the checkout
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    pytester.makeconftest(
        "import harness.run.prepare\n"
        "from suites.selftest.fakes.caselab import CaseLab\n"
        "harness.run.prepare.lab_for = lambda *_: CaseLab()\n"
    )
    pytester.makepyfile(
        test_mine="import pytest\n"
        "@pytest.mark.parametrize('number', range(3))\n"
        "@pytest.mark.control('no-maskall-reset')\n"
        "def test_it(pci_device, make_guest, number):\n"
        "    make_guest(pci_device).destroy()\n"
        "    assert make_guest(pci_device).interrupts(pci_device)\n"
    )
    folder = pytester.path / "results"
    result = pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", "--assert=plain", "-p", "xdist", "-n", "2", f"--maskall-results={folder}"
    )
    assert result.ret == 0, result.stdout.str()
    run = store.load(folder / "results.json", RunResult)
    assert [case.conclusion for case in run.cases] == [Conclusion.PROVEN] * 3
    assert [one.what for one in events((folder / "run.jsonl").read_bytes())] == ["begun", *["ended"] * 6, "finished"]
    assert sorted(case.id for case in run.cases) == [f"test_mine.py::test_it[{number}]" for number in range(3)]


_LOADED = """
import sys, pytest
pytest.main(["-q", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *{words!r}])
print("LOADED", sorted(sys.modules))
"""
COLLECTED = """
import pytest
from harness.host.device import Device
from harness.host.guest import Guest
from harness.host.host import Host
from harness.plugin.fixtures import MakeGuest, TakeCheckpoint

@pytest.mark.control("no-maskall-reset")
@pytest.mark.device("virtio-rng")
@pytest.mark.stack("trixie")
@pytest.mark.guest(type="pv")
def test_it(xen_host, pci_device, make_guest, toolstack, checkpoint): ...
"""
_LIGHT = {
    "harness",
    "harness.base",
    "harness.base.errors",
    "harness.plugin",
    "harness.plugin.fixtures",
    "harness.plugin.marks",
    "harness.plugin.running",
    "harness.run",
    "harness.run.option",
    "harness.run.options",
}


def loaded(folder: Path, text: str, *words: str) -> tuple[str, set[str]]:
    """What a pytest says that has a process of its own, and the modules it ended with."""
    file = folder / "test_it.py"
    file.write_text(text)
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", _LOADED.format(words=[*words, str(file)])],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("LOADED")]
    return done.stdout, set(eval(line.removeprefix("LOADED ")))  # noqa: S307 - a list we have just printed


def test_a_pytest_that_uses_none_of_it_loads_nothing_of_it(tmp_path: Path) -> None:
    said, modules = loaded(tmp_path, "def test_plain(): pass\n")
    assert "1 passed" in said
    ours = {one for one in modules if one.split(".")[0] in ("harness", "paramiko", "pydantic", "yaml", "rich")}
    assert ours <= _LIGHT


def test_collecting_loads_neither_players_nor_reports(tmp_path: Path) -> None:
    """What a test asks for is checked by what is cheap to load: names, the inventory, the types of its words."""
    said, modules = loaded(tmp_path, COLLECTED, "--collect-only")
    assert "test_it[no-maskall-reset]" in said
    players = ("play", "evidence", "judge", "report", "nested.lab", "nested.snapshot", "run.prepare", "plugin.case")
    heavy = {*(f"harness.{name}" for name in players), "rich", "paramiko", "libvirt"}
    assert not heavy & modules


def test_a_lab_host_plays_one_test_at_a_time(pytester: pytest.Pytester, fake_host: FakeLab) -> None:
    before = fake_host.fake.state()
    pytester.makepyfile(test_mine="def test_it(xen_host): pass\n")
    options = [f"--maskall-inventory={fake_host.inventory}", f"--maskall-host={NAME}", "--maskall-device=nic0"]
    words = ["-p", "no:cacheprovider", "--assert=plain", "-p", "xdist", "-n", "2", *options]
    result = pytester.runpytest_subprocess(*words)
    assert result.ret != 0
    assert "maskall: test_mine.py:1: test_it: -n 2: a lab host plays one test at a time" in result.stdout.str()
    assert fake_host.fake.state() == before
