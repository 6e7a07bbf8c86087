"""Tests that somebody wrote with the fixtures, run by a pytest of their own over a make-believe lab."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import pytest

import harness.plugin.case
import harness.run.prepare
from harness.base.errors import EmulatorFault, HostUnreachable, RestoreFailed, SafetyRefusal
from harness.judge.judgement import Conclusion, Verdict
from harness.report.formats.base import load
from harness.report.results import CaseResult, RunResult
from harness.report.told import Told
from harness.run import store
from harness.run.comparison import compared
from suites.selftest.fakes.caselab import CaseLab
from suites.selftest.fakes.faketransport import Reply

pytest_plugins = ("pytester",)
pytestmark = pytest.mark.whole
PRELOADED = harness.plugin.case, harness.run.prepare
"""pytester forgets whatever is imported for the first time while it runs, and classes of two imports differ."""

REPORT_OF_2019 = """
import pytest

@pytest.mark.control("no-maskall-reset")
def test_next_guest(xen_host, pci_device, make_guest):
    '''The next guest works.'''
    guest = make_guest(pci_device)
    assert guest.interrupts(pci_device) > 0
    guest.destroy()
    again = make_guest(pci_device)
    assert again.interrupts(pci_device) > 0
"""


@dataclass
class Played:
    """What a pytest came to that ran one file."""

    status: int
    text: str
    folder: Path
    lab: CaseLab

    @property
    def run(self) -> RunResult:
        return store.load(self.folder / "results.json", RunResult)

    @property
    def case(self) -> CaseResult:
        (case,) = self.run.cases
        return case


@dataclass
class Play:
    pytester: pytest.Pytester
    monkeypatch: pytest.MonkeyPatch
    lab: CaseLab = field(default_factory=CaseLab)

    def __call__(self, text: str, *words: str) -> Played:
        self.monkeypatch.setattr("harness.run.prepare.lab_for", lambda *_: self.lab)
        self.pytester.makeini("[pytest]\naddopts = --strict-markers\n")
        self.pytester.makepyfile(test_mine=text)
        folder = self.pytester.path / "results"
        given = [] if any(word.startswith("--collect") for word in words) else [f"--maskall-results={folder}"]
        result = self.pytester.runpytest_inprocess(
            "-p", "no:cacheprovider", "-p", "no:xdist", *given, *words, no_reraise_ctrlc=True
        )
        return Played(int(result.ret), f"{result.stdout.str()}\n{result.stderr.str()}", folder, self.lab)


@pytest.fixture
def play(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Play:
    monkeypatch.setenv("COLUMNS", "200")
    return Play(pytester, monkeypatch)


def test_a_test_that_fails_on_its_control_is_proven(play: Play) -> None:
    played = play(REPORT_OF_2019, "-v")
    assert played.status == 0, played.text
    assert re.search(r"test_next_guest\[stock\] PASSED.*\n.*test_next_guest\[no-maskall-reset\] NOTICED", played.text)
    assert "1 passed, 1 noticed" in played.text
    assert "the harness itself" not in played.text, "which is not measured of tests"
    assert "PROVEN     test_mine.py::test_next_guest  stock PASS, control no-maskall-reset FAIL" in played.text
    case = played.case
    assert (case.id, case.title, case.conclusion) == (
        "test_mine.py::test_next_guest",
        "The next guest works.",
        Conclusion.PROVEN,
    )
    assert case.control is not None
    assert (case.control.reason.splitlines()[0], case.control.place) == ("assert 0 > 0", "test_mine.py:10")
    assert [one.verb for one in case.stock.record.actions] == ["create", "destroy", "create"]
    assert [one.name for one in case.stock.record.seen] == ["bound", "end"]
    assert [control.name for control in played.run.controls] == ["no-maskall-reset"]
    assert played.lab.log == ["host with nvme", "gone", "host with nvme", "gone", "closed"]
    for _, side in case.sides:
        assert (played.folder / side.log).read_text().startswith(f"{case.id} on {side.hypervisor}: {side.verdict}")
        assert list((played.folder / side.raw_directory).glob("*/*-end/config.hex"))
    assert "guest     d2: 0 interrupts" in played.text, "where stock and control part"
    assert json.loads(load("ctrf").render(Told(played.run)))["results"]["summary"]["passed"] == 1
    assert case.id in (played.folder / "report.html").read_text()
    (element,) = ElementTree.parse(played.folder / "junit.xml").iter("testcase")  # noqa: S314 - our own
    assert (element.get("classname"), element.get("name")) == ("test_mine.py", "test_next_guest")


@pytest.mark.parametrize("line", ["guest = make_guest(pci_device)", "guest = make_guest(pci_device).restarted()"])
def test_a_guest_is_handed_out_once_its_driver_is_ready(play: Play, line: str) -> None:
    """Userland is up before the driver is: a qemu that was stopped then would have no vectors to keep."""
    play.lab.restarts = "restarted" in line
    played = play(f"def test_it(pci_device, make_guest):\n    {line}\n    guest.run('the test goes on')\n")
    assert played.status == 0, played.text
    assert played.lab.dom0 is not None
    assert played.lab.dom0.said[-2:] == ["sh /exercise/nvme 1b36:0010 6 wait", "the test goes on"]


def test_a_mutant_under_test_is_a_failure_that_teaches(play: Play) -> None:
    played = play(REPORT_OF_2019, "--maskall-mutant=no-maskall-reset", "--maskall-no-control")
    assert played.status == 1
    assert ">       assert again.interrupts(pci_device) > 0" in played.text
    assert "where 0 = interrupts(<device nvme at 0000:04:00.0>)" in played.text
    assert "harness/" not in played.text.partition("maskall: the device at that moment")[0]
    shown = played.text.partition("maskall: the device at that moment")[2]
    assert "config.hex\n" in shown and "  no-maskall-reset: assert 0 > 0   test_mine.py:10" in shown
    assert "raw/test_mine" not in shown.partition("raw files")[0], "the folder is named once"
    for view in ("hardware  Enable+ Masked-", "Xen       owner", "guest     d2: 0 interrupts on 2 vectors"):
        assert view in shown
    assert re.search(r"repeat +pytest '?test_mine.py::test_next_guest\[no-maskall-reset\]'? --maskall-mutant", shown)
    assert (played.case.conclusion, played.case.stock.hypervisor) == (Conclusion.REGRESSION, "no-maskall-reset")
    assert played.run.exit_status == 1


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("xen_host.said('cannot mask')", "assert <'cannot mask' in none of 0 lines>"),
        ("guest.attach(pci_device)", "assert <attach: not done, status 1: refused>"),
        ("guest.destroy().name == 0", "where 'destroy' = <destroy: gone>.name"),
    ],
)
def test_what_a_failed_assertion_shows(play: Play, line: str, shown: str) -> None:
    play.lab.refuses = ("xl pci-attach",)
    text = f"def test_it(xen_host, pci_device, make_guest):\n    guest = make_guest(pci_device)\n    assert {line}\n"
    assert shown in play(text).text


def test_a_test_that_its_control_passes_is_blind(play: Play) -> None:
    played = play(
        "import pytest\n@pytest.mark.control\ndef test_it(pci_device, make_guest):\n"
        "    assert make_guest(pci_device).interrupts(pci_device)\n"
    )
    assert played.status == 1
    assert "BLIND: the test passes on the control no-maskall-reset" in played.text
    assert played.case.conclusion is Conclusion.BLIND


CONTROL_ENDS = """
import pytest
from harness.base.errors import LabError

@pytest.mark.control("no-maskall-reset")
def test_it(xen_host, pci_device, make_guest, maskall_hypervisor):
    make_guest(pci_device).destroy()
    again = make_guest(pci_device)
    if not again.interrupts(pci_device):
        {ending}
"""


@pytest.mark.parametrize(
    ("ending", "conclusion"),
    [
        ("assert again.interrupts(pci_device)", Conclusion.PROVEN),
        ("pytest.fail('no interrupts')", Conclusion.PROVEN),
        ("raise LabError('the cable')", Conclusion.UNDECIDED),
        ("xen_host.nothing", Conclusion.UNDECIDED),
        ("pci_device.reset('flt')", Conclusion.UNDECIDED),
        ("1 / 0", Conclusion.UNDECIDED),
        ("pytest.skip('not here')", Conclusion.UNPROVEN),
    ],
)
def test_only_an_assertion_of_the_test_is_a_proof(play: Play, ending: str, conclusion: Conclusion) -> None:
    played = play(CONTROL_ENDS.format(ending=ending))
    assert played.case.conclusion is conclusion, played.text
    assert played.status == (1 if conclusion is Conclusion.UNDECIDED else 0)


def test_an_assertion_in_the_harness_is_no_proof(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise AssertionError("a bug of ours")

    monkeypatch.setattr("harness.host.device.parse_exercise", broken, raising=True)
    monkeypatch.setattr("harness.host.guest.parse_exercise", broken)
    played = play(REPORT_OF_2019)
    assert (played.case.stock.verdict, played.case.conclusion) == (Verdict.ERROR, Conclusion.UNDECIDED)


def test_a_guest_that_is_refused_fails_the_test_under_test_alone(play: Play) -> None:
    play.lab.refuses = ("maskall-b",)
    played = play(REPORT_OF_2019)
    assert (played.case.stock.verdict, played.case.conclusion) == (Verdict.FAIL, Conclusion.REGRESSION)
    assert ">       again = make_guest(pci_device)" in played.text, "the user's own line is the last"
    assert "maskall-b was not created: status 3: libxl: error: Device or resource busy" in played.text
    assert "harness/" not in played.text.partition("maskall: the device at that moment")[0]
    assert played.case.control is not None
    assert (played.case.control.verdict, played.case.control.place) == (Verdict.ERROR, "test_mine.py:9")
    assert "no assertion of the test" in played.case.control.reason


def test_its_checkpoints_are_judged_again_from_its_raw_files(play: Play) -> None:
    played = play(REPORT_OF_2019)
    again = compared(played.folder, None)
    assert [one.word for one in again.parts] == ["SAME", "SAME"], list(again.lines)
    assert (again.status, again.again.sides_read, again.words["verdicts of tests"]) == (0, 2, 2)
    assert [one.name for one in compared(played.folder, "*next_guest").parts] == [played.case.id]

    results = played.folder / "results.json"
    whole = results.read_text()
    told = json.loads(whole)
    told["cases"][0]["stock"]["record"]["seen"][0]["observations"][0]["xen"]["owner"] = "d7"
    results.write_text(json.dumps(told))
    (changed, *_) = compared(played.folder, None).parts
    assert [one.what for one in changed.differences] == ["record.seen[0].observations[0].xen.owner"]

    results.write_text(whole)
    (file,) = (played.folder / played.case.stock.raw_directory).glob("*/01-bound/config.hex")
    file.write_text(file.read_text().replace("1b", "1c", 1))
    (damaged, *_) = compared(played.folder, None).parts
    assert damaged.word == "UNREADABLE" and "was changed after it was stored" in damaged.unreadable[0]


XFAIL = """
import pytest

@pytest.mark.xfail(strict=True, reason="docs/findings/stale.md")
def test_it(xen_host, pci_device, make_guest):
    guest = make_guest(pci_device)
    {line}
"""


@pytest.mark.parametrize(
    ("line", "conclusion", "status"),
    [
        ("assert not guest.interrupts(pci_device)", Conclusion.KNOWN, 0),
        ("assert guest.interrupts(pci_device)", Conclusion.CHANGED, 1),
        ("pci_device.reset('flt')", Conclusion.UNDECIDED, 1),
    ],
)
def test_a_known_issue_is_expected_and_an_error_of_the_lab_is_none(
    play: Play, line: str, conclusion: Conclusion, status: int
) -> None:
    played = play(XFAIL.format(line=line))
    assert (played.case.conclusion, played.status) == (conclusion, status), played.text


BAD = {
    "@pytest.mark.device('nvm')\ndef test_it(pci_device): pass": "there is no device 'nvm' (did you mean 'nvme'?)",
    "@pytest.mark.device\ndef test_it(pci_device): pass": "the mark 'device' names no device",
    "@pytest.mark.device('nvme', 'e1000e')\ndef test_it(pci_device): pass": "pci_device is one device",
    "@pytest.mark.device('nvme', 'nvme')\ndef test_it(pci_devices): pass": "the device 'nvme' is wanted twice",
    "@pytest.mark.device(nvme=1)\ndef test_it(pci_device): pass": "the mark 'device' has no argument 'nvme'",
    "def test_it(pci_device, pci_devices): pass": "pci_device and pci_devices would borrow the same device",
    "@pytest.mark.control('no-maskal-reset')\ndef test_it(xen_host): pass": "did you mean 'no-maskall-reset'?",
    "@pytest.mark.control('a', 'b')\ndef test_it(xen_host): pass": "takes 1 name, not 2",
    "@pytest.mark.control(3)\ndef test_it(xen_host): pass": "takes names, not 3",
    "@pytest.mark.stack('trixi')\ndef test_it(xen_host): pass": "unknown stack 'trixi' (did you mean 'trixie'?)",
    "@pytest.mark.guest(tipe='pv')\ndef test_it(make_guest): pass": "a guest has no 'tipe' (did you mean 'type'?)",
    "@pytest.mark.guest(type='pw')\ndef test_it(make_guest): pass": "type cannot be 'pw' (did you mean 'pv'?)",
    "@pytest.mark.guest(vcpus=0)\ndef test_it(make_guest): pass": "a guest's vcpus cannot be 0 (1 to 8)",
    "@pytest.mark.needs('debuger')\ndef test_it(xen_host): pass": "for 'debuger' (did you mean 'debugger'?)",
    "@pytest.mark.needs\ndef test_it(xen_host): pass": "the mark 'needs' names nothing",
    "@pytest.mark.needs('reset', insists=True)\ndef test_it(xen_host): pass": "has no argument 'insists'",
    "@pytest.mark.guest('pv')\ndef test_it(make_guest): pass": "takes named arguments, not 'pv'",
}


@pytest.mark.parametrize("text", BAD)
def test_a_mistake_is_one_line_at_collection(play: Play, text: str) -> None:
    played = play(f"import pytest\n{text}\n", "--collect-only", "-q")
    assert played.status == 2
    (line,) = [line for line in played.text.splitlines() if line.startswith("maskall: ")]
    assert re.match(r"maskall: test_mine.py:[23]: test_it: ", line) and BAD[text] in line
    assert "Traceback" not in played.text and played.lab.log == []


def test_collecting_asks_no_lab(play: Play) -> None:
    played = play(REPORT_OF_2019, "--collect-only", "-q")
    assert played.text.splitlines()[:2] == [
        "test_mine.py::test_next_guest[stock]",
        "test_mine.py::test_next_guest[no-maskall-reset]",
    ]
    assert played.lab.log == []


@dataclass
class Undone:
    """A lab host's way back."""

    how_often: int = 0
    error: Exception | None = None

    def __call__(self) -> None:
        self.how_often += 1
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("def test_it(pci_device): pass", 0),
        ("def test_it(pci_device): assert not pci_device", 1),
        ("@pytest.fixture\ndef bad(pci_device): 1 / 0\ndef test_it(bad): pass", 1),
        ("@pytest.fixture\ndef bad(pci_device):\n    yield\n    1 / 0\ndef test_it(bad): pass", 1),
        ("def test_it(pci_device): raise KeyboardInterrupt", 2),
        ("def test_it(pci_device): pytest.exit('enough')", 2),
    ],
)
def test_the_host_is_put_back_whatever_happens(play: Play, text: str, status: int) -> None:
    undone = Undone()
    play.lab.restore = undone
    played = play(f"import pytest\n{text}\n")
    assert (played.status, undone.how_often) == (status, 1)
    assert played.lab.log[-2:] == ["gone", "closed"]


def test_a_host_that_does_not_go_back_is_no_pass(play: Play) -> None:
    play.lab.restore = Undone(error=RestoreFailed("the device stayed at pciback"))
    played = play("def test_it(pci_device): pass\n")
    assert "maskall: the device stayed at pciback" in played.text
    assert (played.status, played.case.stock.verdict) == (1, Verdict.ERROR)


@pytest.mark.parametrize("error", [HostUnreachable("no answer"), SafetyRefusal("the root disk is on it")])
def test_a_host_that_cannot_be_had_is_one_line(play: Play, error: Exception) -> None:
    play.lab.unreachable = error
    played = play("def test_it(xen_host): pass\n")
    assert (
        f"maskall: {error}" in played.text
        and "Traceback" not in played.text
        and ".py:"
        not in played.text.partition("short test summary")[0].partition("ERRORS")[2].replace("test_mine.py", "")
    )
    assert (played.status, played.case.stock.verdict, played.case.conclusion) == (
        1,
        Verdict.ERROR,
        Conclusion.UNDECIDED,
    )


def test_what_is_asked_for_too_late_is_refused(play: Play) -> None:
    played = play(
        "import pytest\n@pytest.fixture\ndef late(make_guest):\n    yield\n    kept.append(make_guest)\nkept = []\n"
        "def test_first(late): pass\n"
        "def test_second(xen_host):\n    kept[0]()\n"
    )
    assert "a guest was asked for when the test was over: fake is given back" in played.text
    assert [case.conclusion for case in played.run.cases] == [Conclusion.UNPROVEN, Conclusion.UNDECIDED]


FOR_STACKS = """
import pytest
def test_any(xen_host, maskall_running): assert maskall_running.stack_of_tests == '{on}'
@pytest.mark.stack({first})
def test_first(xen_host): pass
@pytest.mark.stack({second})
def test_second(xen_host): pass
"""


@pytest.mark.parametrize(
    ("first", "second", "words", "on", "skipped"),
    [
        ("'bullseye'", "'trixie', 'bullseye'", (), "trixie", ["only for bullseye; this run is on trixie"]),
        ("'bullseye', 'bookworm'", "'bookworm'", (), "bookworm", []),
        ("'bullseye'", "'bookworm'", (), "bullseye", ["only for bookworm; this run is on bullseye"]),
        ("'bullseye'", "'bullseye'", ("--maskall-stack=bookworm",), "bookworm", ["only for bullseye; this run is on"]),
    ],
)
def test_a_mark_chooses_the_stack_where_no_option_does(
    play: Play, first: str, second: str, words: tuple[str, ...], on: str, skipped: list[str]
) -> None:
    played = play(FOR_STACKS.format(first=first, second=second, on=on), "-rs", *words)
    assert played.status == 0, played.text
    assert (" skipped" in played.text) == bool(skipped)
    assert all(text in played.text for text in skipped)


NEEDS = """
import pytest
{mark}
def test_it(xen_host):
    xen_host.reset()
"""


@pytest.mark.parametrize(
    ("mark", "status", "told"),
    [
        ("", 0, "fake has no reset button that may be pressed"),
        ("@pytest.mark.needs('reset')", 0, "fake has no reset"),
        ("@pytest.mark.needs('reset', insist=True)", 1, "maskall: fake has no reset, and the test insists on one"),
    ],
)
def test_what_a_host_cannot_do_skips_a_test_unless_it_insists(play: Play, mark: str, status: int, told: str) -> None:
    played = play(NEEDS.format(mark=mark), "-rs")
    assert (played.status, told in played.text) == (status, True), played.text
    assert (played.case.stock.verdict, played.case.conclusion) == (
        (Verdict.ERROR, Conclusion.UNDECIDED) if status else (Verdict.SKIP, Conclusion.SKIPPED)
    )


def test_a_test_that_reboots_its_host_reads_its_logs_anew(play: Play) -> None:
    boots = iter(["one", "one", *["two"] * 9])
    play.lab.commands = {
        "cat /proc/sys/kernel/random/boot_id": lambda _: Reply(f"{next(boots)}\n".encode()),
        "systemctl reboot": Reply(),
    }
    played = play("def test_it(xen_host, pci_device):\n    xen_host.reboot()\n    pci_device.bind()\n")
    assert played.case.stock.verdict is Verdict.PASS, played.text
    (readings,) = played.case.stock.record.readings
    assert [one.boot for one in readings] == [False, True, False]


def test_a_debugger_that_there_is_is_no_reason_to_skip(play: Play) -> None:
    played = play("import pytest\n@pytest.mark.needs('debugger')\ndef test_it(xen_host): pass\n")
    assert played.case.stock.verdict is Verdict.PASS


@pytest.mark.parametrize("line", ["raise HostHung('no answer')", "assert not guest.interrupts(pci_device)"])
def test_a_fault_of_the_emulator_is_never_the_products(play: Play, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """Neither a failure of what is under test, nor a proof on the control."""
    fault = EmulatorFault("the emulator, not Xen, killed d3: triple fault at 0x7 in Xen's text")
    monkeypatch.setattr("harness.play.trial.Trial.emulator_fault", lambda _: fault)
    played = play(
        "import pytest\nfrom harness.base.errors import HostHung\n@pytest.mark.control\n"
        f"def test_it(pci_device, make_guest):\n    guest = make_guest(pci_device)\n    {line}\n"
    )
    assert [(side.verdict, side.reason) for _, side in played.case.sides] == [(Verdict.ERROR, str(fault))] * 2
    assert (played.case.conclusion, played.status) == (Conclusion.UNDECIDED, 1)


def test_a_control_that_passes_by_a_fault_of_the_emulator_is_not_blind(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.play.trial.Trial.emulator_fault", lambda _: EmulatorFault("the emulator killed d3"))
    played = play("import pytest\n@pytest.mark.control\ndef test_it(pci_device): pass\n")
    assert [side.verdict for _, side in played.case.sides] == [Verdict.PASS, Verdict.ERROR]
    assert (played.case.conclusion, played.status) == (Conclusion.UNDECIDED, 1)
    assert "maskall: the emulator killed d3" in played.text and "BLIND" not in played.text


def test_a_device_by_parameter_and_several(play: Play) -> None:
    played = play(
        "import pytest\n"
        "@pytest.mark.parametrize('pci_device', ['nvme', 'virtio-rng'], indirect=True)\n"
        "@pytest.mark.control('no-maskall-reset')\n"
        "def test_one(pci_device): assert pci_device.target.name == 'nvme'\n"
        "@pytest.mark.device('virtio-rng', 'nvme')\n"
        "def test_two(pci_devices, checkpoint, make_guest):\n"
        "    seen = checkpoint('both are idle')\n"
        "    assert [str(one.device) for one in seen.observations] == ['0000:05:00.0', '0000:04:00.0']\n"
        "    guest = make_guest(*pci_devices, type='pv', name='maskall-mine', vcpus=2)\n"
        "    assert guest.name == 'maskall-mine'\n"
    )
    ids = [case.id for case in played.run.cases]
    assert ids == ["test_mine.py::test_one[nvme]", "test_mine.py::test_one[virtio-rng]", "test_mine.py::test_two"]
    assert played.run.cases[2].stock.verdict is Verdict.PASS, played.text
    assert [one.name for one in played.run.cases[2].stock.record.seen] == ["bound", "both are idle", "end"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("make_guest(pci_device, name='Debian')", "a guest cannot be called 'Debian'"),
        ("make_guest(pci_device, on_reboot='restrat')", "did you mean 'restart'?"),
        ("make_guest('nvme')", "make_guest takes devices of this test, not 'nvme'"),
        ("make_guest([pci_device])", "not [<device nvme at 0000:04:00.0>] (give it pci_device, or *pci_devices"),
        ("pci_device.host.said('(')", "'(' is no regular expression"),
        ("(checkpoint('a'), checkpoint('a'))", "there is a checkpoint 'a' already"),
        ("pci_device.memory_decoding('off')", "memory_decoding takes True or False, not 'off'"),
        ("pci_device.host.run('xl list')", "run takes a list of words, not 'xl list' (run(['xl', 'list']))"),
    ],
)
def test_a_wrong_word_in_a_test_is_told(play: Play, line: str, told: str) -> None:
    played = play(f"def test_it(pci_device, make_guest, checkpoint):\n    {line}\n")
    assert told in played.text and f">       {line}" not in played.text.partition(told)[2]
    assert "harness/" not in played.text.partition("maskall: the device")[0]


@pytest.mark.parametrize(
    ("line", "told", "place"),
    [
        ("make_guest(pci_device).interrupts('nvme')", "has no attribute 'target'", "guest.py:[0-9]+ _exercise"),
        ("pci_device.host.debug_key(3)", "TypeError: expected string", "host.py:[0-9]+ debug_key"),
    ],
)
def test_an_argument_of_a_wrong_type(play: Play, line: str, told: str, place: str) -> None:
    """The user's own line is the last, for it may be theirs; and where it was raised is told, for it may be ours."""
    text = f"def test_it(pci_device, make_guest):\n    {line}\n"
    played = play(text)
    shown = played.text.partition("maskall: the device")[0]
    assert f">       {line}\nE       " in shown and told in shown
    assert re.search(rf"E       in harness/host/{place}: a wrong argument, or a bug of maskall", shown), shown
    assert shown.count("harness/") == 1 and played.case.stock.place == "test_mine.py:2"
    assert played.case.stock.verdict is Verdict.ERROR
    shutil.rmtree(played.folder)
    assert "harness/host/" in play(text, "--full-trace").text.partition(">       ")[2]


def test_what_differs_between_two_looks(play: Play) -> None:
    played = play(
        "from harness.host.device import Msix\n"
        "def test_it(): assert Msix(True, False, (False,) * 65) == Msix(True, True, (True, *(False,) * 63, True))\n"
        "def test_more(): assert Msix(True, True) == (1, 2)\n"
    )
    assert "assert <MSI-X Enable+ Masked-, masked entries: none> == <MSI-X Enable+ Masked+, masked entries: 0 64>" in (
        played.text
    )
    assert "Masked- is not Masked+" in played.text and "masked entries: none is not masked entries: 0 64" in played.text
    assert "Enable+ is not" not in played.text


def test_habits_of_pytest_hold(play: Play) -> None:
    one_side = play(REPORT_OF_2019, "-k", "stock")
    assert (one_side.case.conclusion, one_side.status) == (Conclusion.UNPROVEN, 0)
    assert one_side.case.remark == "the side on no-maskall-reset was not played"


def test_the_debugger_is_not_entered_on_a_control_that_fails_as_it_must(play: Play) -> None:
    play.pytester.makeconftest("def pytest_exception_interact(call): print('ENTERED', call.excinfo.typename)\n")
    assert "ENTERED" not in play(REPORT_OF_2019, "-s").text


def test_markers_and_fixtures_are_told(play: Play) -> None:
    assert "@pytest.mark.control(mutant): play the test on this known-bad" in play("", "--markers").text
    told = play("", "--fixtures", "-v").text
    for name in ("xen_host", "pci_device", "pci_devices", "make_guest", "toolstack", "checkpoint"):
        assert re.search(rf"^{name} -- ", told, re.MULTILINE)
