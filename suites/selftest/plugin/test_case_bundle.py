"""A bundle of a run with tests that somebody wrote, alone or beside scenarios: it holds, and no forged one does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.entry import main
from harness.judge.judgement import Verdict
from harness.run import side
from harness.run.bundle import redacted_bundle
from harness.run.store import write_atomically
from suites.selftest.fakes.badbundle import Forger, edit_json, forger
from suites.selftest.fakes.faketransport import Executed, Reply
from suites.selftest.fakes.replayrun import RECORDED, recorded_play
from suites.selftest.plugin.test_fixtures import PRELOADED, REPORT_OF_2019, Play, play

__all__ = ["PRELOADED", "forger", "play"]
pytest_plugins = ("pytester",)
pytestmark = pytest.mark.whole


def broken(forger: Forger, root: Path) -> dict[str, tuple[str, ...]]:
    """The layers that do not hold, and what they say."""
    found = forger.verify(forger.bundled(root, chain_anew=False))
    return {one.name: one.said for one in found.failed}


def test_tests_alone(play: Play, forger: Forger) -> None:
    played = play(REPORT_OF_2019)
    path = forger.bundled(played.folder, chain_anew=False)
    found = forger.verify(path)
    text = "\n".join(found.lines)
    assert found.status == 0, text
    assert "0 of 0 scenarios, 1 tests of the user's own, 2 sides" in text
    assert "no-maskall-reset, planted and read back on 1 sides" in text
    assert "2 SAME: 2 sides from" in text and "2 verdicts of tests" in text
    made, _ = redacted_bundle(played.folder, forger.folder / "redacted", b"k" * 32, keys=[forger.key])
    assert forger.verify(made.path).status == 0


SCENARIO = "\ndef test_scenario(maskall_scenario, maskall_run): maskall_run(maskall_scenario)\n"


@pytest.mark.parametrize("text", [REPORT_OF_2019 + SCENARIO, SCENARIO + REPORT_OF_2019], ids=["before", "after"])
def test_beside_a_scenario(play: Play, forger: Forger, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(side, "play", recorded_play())
    options = (f"--maskall-scenario={RECORDED.id}", "--maskall-device=virtio-rng", "--maskall-workers=1")
    played = play(text.replace("@pytest", '@pytest.mark.device("nvme")\n@pytest', 1), *options)
    shown = "\n".join(forger.verify(forger.bundled(played.folder, chain_anew=False)).lines)
    assert "1 of 1 scenarios, 1 tests of the user's own, 4 sides" in shown and "DOES NOT HOLD" not in shown, shown
    assert len(played.run.played) == 2


def test_long_before_a_scenario(play: Play, forger: Forger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run began with the first that was played, test or scenario."""
    monkeypatch.setattr(side, "play", recorded_play())
    test = '@pytest.mark.device("nvme")\ndef test_slow(pci_device): time.sleep(3)\n'
    options = (f"--maskall-scenario={RECORDED.id}", "--maskall-device=virtio-rng", "--maskall-workers=1")
    assert broken(forger, play(f"import time, pytest\n{test}{SCENARIO}", *options).folder) == {}


def failed_on_stock(told: Any) -> None:  # noqa: ANN401 - JSON
    told["side"]["verdict"] = "FAIL"


def nothing_planted(told: Any) -> None:  # noqa: ANN401 - JSON
    told["planted"] = []


def other_bytes(told: Any) -> None:  # noqa: ANN401 - JSON
    told["planted"][0]["changes"] = []


@pytest.mark.parametrize(
    ("change", "hypervisor", "layers"),
    [
        (failed_on_stock, "stock", {"chain", "consistency"}),
        (nothing_planted, "no-maskall-reset", {"chain", "control"}),
        (other_bytes, "no-maskall-reset", {"chain", "consistency", "control"}),
    ],
)
def test_a_record_that_tells_otherwise(
    play: Play, forger: Forger, change: Callable[[Any], None], hypervisor: str, layers: set[str]
) -> None:
    played = play(REPORT_OF_2019)
    (record,) = played.folder.glob(f"raw/*/{hypervisor}/record.json")
    edit_json(record, change)
    assert set(broken(forger, played.folder)) == layers


def test_a_run_that_was_touched(play: Play, forger: Forger) -> None:
    """A file of nobody, a log that was changed, an event that was taken out."""
    played = play(REPORT_OF_2019 + "def test_more(xen_host): pass\n")
    (record,) = played.folder.glob("raw/*test_more/stock/record.json")
    write_atomically(record.with_name("more.txt"), b"x")
    assert set(broken(forger, played.folder)) == {"completeness"}
    record.with_name("more.txt").unlink()

    (log,) = played.folder.glob("logs/*test_more.stock.log")
    whole = log.read_text()
    log.write_text(whole.replace("PASS", "FAIL", 1))
    assert set(broken(forger, played.folder)) == {"consistency"}
    log.write_text(whole)

    chained = played.folder / "run.jsonl"
    lines = chained.read_text().splitlines(keepends=True)
    assert [json.loads(one)["what"] for one in lines] == ["begun", "ended", "ended", "ended", "finished"]
    chained.write_text("".join(lines[:1] + lines[2:]))
    assert set(broken(forger, played.folder)) == {"chain"}


@pytest.mark.parametrize("how", ["raise KeyboardInterrupt", "pytest.exit('enough')"])
@pytest.mark.parametrize("where", ["test", "fixture"])
def test_one_that_was_broken_off_is_undecided_and_on_record(play: Play, forger: Forger, how: str, where: str) -> None:
    fixture = f"@pytest.fixture\ndef broken(pci_device):\n    {how if where == 'fixture' else 'pass'}\n"
    test = f"def test_second(broken):\n    {how}\n"
    played = play(f"import pytest\n{fixture}def test_first(pci_device): pass\n{test}def test_third(pci_device): pass\n")
    assert played.status == 2
    first, second = played.run.cases
    assert (first.stock.verdict, second.stock.verdict) == ("PASS", "UNDECIDED")
    assert second.stock.reason == "it did not come to its end" and second.stock.files
    assert broken(forger, played.folder) == {}


def cut_at(play: Play, number: int) -> None:
    """End this look, counted from 1, behind the lines of Xen's console."""
    looks = 0

    def cut(executed: Executed) -> Reply:
        nonlocal looks
        looks += 1
        assert play.lab.dom0 is not None
        whole = play.lab.dom0._sections(executed)
        return Reply(whole.stdout.rpartition(b"\n@")[0]) if looks == number else whole

    play.lab.commands = {r"sh -c 'set -- @.*": cut}


def test_a_look_that_was_cut_short_in_its_last_section(play: Play, forger: Forger) -> None:
    """The shell was killed behind the lines of Xen's console: they are stored, and the look is none."""
    cut_at(play, 2)
    played = play("def test_it(pci_device, checkpoint): checkpoint('seen')")
    assert played.case.stock.verdict is Verdict.ERROR, played.text
    assert "was cut short" in played.case.stock.reason
    look = played.folder / played.case.stock.raw_directory / "0000-04-00.0/02-seen"
    assert (look / "xl_dmesg.txt").exists() and "was cut short" in (look / "cut_short.txt").read_text()
    assert broken(forger, played.folder) == {}
    made, _ = redacted_bundle(played.folder, forger.folder / "redacted", b"k" * 32, keys=[forger.key])
    assert forger.verify(made.path).status == 0


def test_the_last_look_fails_nobody_and_is_cut_short(play: Play, forger: Forger) -> None:
    cut_at(play, 2)
    played = play("def test_it(pci_device): pass")
    assert played.case.stock.verdict is Verdict.PASS, played.text
    assert (played.folder / played.case.stock.raw_directory / "0000-04-00.0/02-end/cut_short.txt").exists()
    assert broken(forger, played.folder) == {}


def test_what_a_process_left_that_was_killed_is_set_aside(play: Play, forger: Forger) -> None:
    """As Ctrl-C does with those of pytest-xdist."""
    left = "left = Path('results/raw/test_mine.test_other/stock')\n    left.mkdir(parents=True)"
    test = f"def test_it(pci_device):\n    {left}\n    (left / '01.txt').write_text('x')\n"
    played = play(f"from pathlib import Path\n{test}")
    assert (played.folder / "raw/test_mine.test_other/stock.before-1/01.txt").exists()
    assert broken(forger, played.folder) == {}


class TestChallenge:
    """What a verifier gave is told to guests of such tests as to those of scenarios."""

    def test_every_guest_is_told(self, play: Play, forger: Forger) -> None:
        played = play(REPORT_OF_2019, "--maskall-challenge=7f3a9c")
        assert json.loads((played.folder / "run.json").read_text())["challenge"] == "7f3a9c"
        path = forger.bundled(played.folder, chain_anew=False)
        found = forger.verify(path, challenge="7f3a9c")
        assert found.status == 0, "\n".join(found.lines)
        assert "and 4 raw files of guests say it" in "\n".join(found.lines)

    def test_another_is_caught(self, play: Play, forger: Forger) -> None:
        played = play(REPORT_OF_2019, "--maskall-challenge=7f3a9c")
        path = forger.bundled(played.folder, chain_anew=False)
        found = forger.verify(path, challenge="80")
        assert [one.name for one in found.failed] == ["freshness"]


@pytest.mark.parametrize("flag", ["resume", "failed"])
def test_a_run_of_tests_is_not_gone_on_with(play: Play, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    played = play("def test_it(pci_device): pass\ndef test_more(pci_device): raise KeyboardInterrupt\n")
    before = {path: path.read_bytes() for path in played.folder.rglob("*") if path.is_file()}
    assert main(["run", f"--{flag}", str(played.folder)]) == 2
    told = f"has tests of your own (2 ended), and --{flag} plays scenarios alone"
    assert told in capsys.readouterr().err
    assert {path: path.read_bytes() for path in played.folder.rglob("*") if path.is_file()} == before
