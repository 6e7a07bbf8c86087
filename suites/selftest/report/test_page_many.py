"""The pages of a campaign of mutants and of a soak."""

from __future__ import annotations

from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness.cli.entry import main
from harness.judge.judgement import Verdict
from harness.report.matrix import KillMatrix
from harness.report.page.many import matrix_page, soak_page
from harness.report.soak import Soak, SoakKind, SoakRun, rate
from harness.run.many import store_matrix, store_soak
from suites.selftest.report.test_mutants_matrix import KILLED, SURVIVED, matrix, row

HOSTILE = "<script>document.body.dataset.owned=1</script>\x1b[2J"


def soak(*kinds: SoakKind) -> Soak:
    begun = Soak(
        tool_version="1",
        started=datetime(2026, 1, 2, tzinfo=UTC),
        stack="trixie",
        profile="ci",
        devices=("nvme",),
        scenarios=("E14-F1-hvm-nvme", "E3-F1-hvm-nvme"),
        wanted=max(1, len(kinds)),
        facts={"xen_version": HOSTILE},
    )
    for number, kind in enumerate(kinds, 1):
        begun = begun.with_run(
            SoakRun(
                number=number,
                scenario=begun.scenario_of(number),
                kind=kind,
                verdict=Verdict.FAIL if kind is SoakKind.FALSE_ALARM else Verdict.PASS,
                reason=HOSTILE,
                hazard_taken=True,
                emulator_faults=(),
                seconds=61,
                results=f"runs/{number:04d}",
            )
        )
    return begun


class _Page(HTMLParser):
    def __init__(self, document: bytes) -> None:
        super().__init__()
        self.scripts = 0
        self.links: list[str] = []
        self.feed(document.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        if tag == "a":
            self.links.append(dict(attrs)["href"] or "")


def test_every_run_of_a_soak_leads_to_its_own_page() -> None:
    document = soak_page(soak(SoakKind.PASSED, SoakKind.PASSED, SoakKind.FALSE_ALARM))
    page = _Page(document)
    everyone = [f"runs/000{number}/report.html" for number in (1, 3, 2)]
    assert page.links[1:] == [*everyone, everyone[1]], "and once more the one that somebody has to look at"
    assert b"false alarm in run 3, E14-F1-hvm-nvme: &lt;script&gt;" in document
    assert b"nested host: says nothing about hardware" in document
    assert page.scripts == 1, "hostile text is text"
    assert b"\x1b" not in document
    assert b"1 false alarms in 3 decided runs" in document
    assert b"50.0 % (9.5 to 90.5 %) of 2" in document


def test_a_campaign_shows_every_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made: KillMatrix = matrix(row(KILLED), row(SURVIVED), row())
    cells = sum(len(one.cells) for one in made.mutants) + len(made.stock)
    assert len(_Page(matrix_page(made)).links) == cells + 1
    store_matrix(made, tmp_path)
    assert main(["report", str(tmp_path), "--html"]) == 0
    assert capsys.readouterr().out.encode() == (tmp_path / "report.html").read_bytes()


def test_a_soak_has_a_page_of_its_own_from_its_first_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store_soak(soak(), tmp_path)
    assert main(["report", str(tmp_path), "--html"]) == 0
    assert "no run was decided" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("times", "of", "told"),
    [
        (0, 0, "not known"),
        (0, 100, "0.0 % (0.0 to 3.7 %) of 100"),
        (50, 100, "50.0 % (40.4 to 59.6 %) of 100"),
        (10, 10, "100.0 % (72.2 to 100.0 %) of 10"),
    ],
)
def test_a_rate_has_its_interval(times: int, of: int, told: str) -> None:
    """Wilson's, as tables have it."""
    assert rate(times, of) == told
