"""`maskall explain` from its command line: the page's examples, exit statuses, standard input, bad input."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from harness.cli import main
from harness.report.explain.signature import SIGNATURES
from suites.selftest.fakes.hostile import CAPTURED
from suites.selftest.fakes.published import examples, with_outputs

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "explain.md"
HAZARD = CAPTURED / "nvme_masked_by_injection.xl_dmesg.txt"


def ran(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    status = main(["explain", *words])
    return status, capsys.readouterr().out


def test_the_examples_of_the_page_are_what_it_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    page = PAGE.read_text()
    assert len(examples(page)) >= 4
    outputs = [ran(capsys, *words)[1] for words in examples(page)]
    assert with_outputs(page, outputs) == page


def test_the_page_has_every_signature() -> None:
    page = PAGE.read_text()
    for name, one in SIGNATURES.items():
        assert f"| {name} | {one.kind.value} | {one.title} |" in page, name


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (CAPTURED / "nvme_assignable.xl_dmesg.txt", 0),
        (HAZARD, 1),
        (CAPTURED / "nvme_masked_by_injection.config.bin", 2),
        (CAPTURED / "nvme_masked_by_injection.lspci.txt", 3),
    ],
)
def test_exit_status(capsys: pytest.CaptureFixture[str], path: Path, status: int) -> None:
    assert ran(capsys, str(path))[0] == status
    told, output = ran(capsys, "--json", str(path))
    assert (told, json.loads(output)["verdict"]) == (status, status)


@pytest.mark.parametrize("words", [(), ("-",)])
def test_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(HAZARD.read_bytes())))
    status, output = ran(capsys, *words)
    assert status == 1
    assert "<stdin>:1: (XEN) cannot mask IRQ 44" in output


def test_a_file_among_others_that_cannot_be_opened_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    healthy = CAPTURED / "nvme_assignable.xl_dmesg.txt"
    status, output = ran(capsys, str(tmp_path), str(healthy), str(tmp_path / "nothing"))
    assert status == 3, "what the others say is not known"
    assert f"{tmp_path}: 0 lines; Is a directory" in output and "nothing: 0 lines; No such file" in output
    assert ran(capsys, str(tmp_path), str(HAZARD))[0] == 1


@pytest.mark.parametrize(("name", "why"), [("nothing.txt", "No such file"), (".", "Is a directory")])
def test_a_file_that_cannot_be_opened_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, why: str
) -> None:
    assert main(["explain", str(tmp_path / name)]) == 2
    said = capsys.readouterr()
    assert why in said.err.splitlines()[0]
    assert "Traceback" not in said.err + said.out
