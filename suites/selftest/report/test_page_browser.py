"""The page in a real browser, where there is one: what is hostile does not run, what is ours does."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.report.page.page import page
from harness.report.results import RunResult
from harness.report.told import Told
from suites.selftest.fakes.patience import FOREVER

CHROMIUM = shutil.which("chromium")
DATA = Path(__file__).parents[1] / "data/report/results.json"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
OWNED = "document.body.dataset.owned = 1"
HOSTILE = f"<script>{OWNED}</script><img src=x onerror='{OWNED}'><svg onload='{OWNED}'><style>*{{display:none}}</style>"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium")


def shown(document: bytes, folder: Path, *flags: str) -> str:
    """The document's tree as the browser has it once its scripts have run."""
    (folder / "report.html").write_bytes(document)
    argv = [str(CHROMIUM), *FLAGS, *flags, f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    done = subprocess.run(  # noqa: S603 - a browser that was found
        [*argv, (folder / "report.html").as_uri()], capture_output=True, text=True, timeout=FOREVER, check=True
    )
    assert "</html>" in done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def hostile() -> bytes:
    document = json.loads(DATA.read_text())
    document["host"]["facts"]["kernel"] = HOSTILE
    for scenario in document["scenarios"]:
        scenario["title"] = scenario["stock"]["judgement"]["reason"] = HOSTILE
        scenario["command_to_repeat"] = HOSTILE
    return page(Told(RunResult.model_validate(document)))


def test_hostile_text_does_not_run_and_our_script_does(hostile: bytes, tmp_path: Path) -> None:
    tree = shown(hostile, tmp_path)
    assert "data-owned" not in tree
    assert '<button class="copy" type="button">copy</button>' in tree, "the script has not run"


def test_even_markup_that_got_in_is_stopped_by_the_policy(hostile: bytes, tmp_path: Path) -> None:
    """The same without the policy shows that the browser would have run it."""
    planted = hostile.replace(b"<main>", f"<main>{HOSTILE}".encode())
    unguarded = planted.replace(b'http-equiv="Content-Security-Policy"', b'name="no-policy"')
    assert planted != unguarded
    assert "data-owned" in shown(unguarded, tmp_path)
    assert "data-owned" not in shown(planted, tmp_path)
