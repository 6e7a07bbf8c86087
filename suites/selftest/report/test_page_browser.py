"""The page in a real browser, where there is one: what is hostile does not run, what is ours does."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html import escape
from pathlib import Path

import pytest

from harness.report.page.many import soak_page
from harness.report.page.page import page
from harness.report.results import RunResult
from harness.report.soak import SoakKind
from harness.report.told import Told
from suites.selftest.fakes.patience import FOREVER
from suites.selftest.report.test_page_many import soak

CHROMIUM = shutil.which("chromium")
DATA = Path(__file__).parents[1] / "data/report/results.json"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
OWNED = "document.body.dataset.owned = 1"
HOSTILE = f"<script>{OWNED}</script><img src=x onerror='{OWNED}'><svg onload='{OWNED}'><style>*{{display:none}}</style>"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium")


def shown(document: bytes, folder: Path, *flags: str, at: str = "") -> str:
    """The document's tree as the browser has it once its scripts have run, come to by a link to the place `at`."""
    (folder / "report.html").write_bytes(document)
    argv = [str(CHROMIUM), *FLAGS, *flags, f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    done = subprocess.run(  # noqa: S603 - a browser that was found
        [*argv, (folder / "report.html").as_uri() + at], capture_output=True, text=True, timeout=FOREVER, check=True
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
    tree = shown(hostile, tmp_path, at="#s0")
    assert "data-owned" not in tree
    assert '<button class="copy" type="button">copy</button>' in tree, "the script has not run"


FOLDED = re.compile(r'<details class="scenario PROVEN" id="(s\d+)">\s*<summary>.*?</summary>\s*<noscript>', re.DOTALL)


def test_what_is_folded_is_made_when_it_is_asked_for(hostile: bytes, tmp_path: Path) -> None:
    """The text of a scenario that is closed costs nothing until then, and is as harmless as the rest."""
    found = FOLDED.search(hostile.decode())
    assert found is not None
    opened = f'<details class="scenario PROVEN" id="{found[1]}" open="">'
    tree = shown(hostile, tmp_path, at=f"#{found[1]}-none")
    assert "data-owned" not in tree and opened not in tree, "there is no such place in it"
    part = tree.partition(f'id="{found[1]}"')[2].partition('</details><details class="scenario')[0]
    assert "<noscript>" not in part.partition('class="scenario')[0] and '<dl class="facts">' in part
    assert opened in shown(hostile, tmp_path, at=f"#{found[1]}")


def test_without_script_all_of_it_is_there(hostile: bytes, tmp_path: Path) -> None:
    """In a frame that may not run any."""
    tell = "document.body.dataset.told = frames[0].document.querySelectorAll('dl.facts, .mail pre').length"
    frame = f'<iframe sandbox="allow-same-origin" srcdoc="{escape(hostile.decode())}"></iframe>'
    tree = shown(f'<!doctype html><html><body onload="{tell}">{frame}</body></html>'.encode(), tmp_path)
    wanted = hostile.count(b'<dl class="facts">') + hostile.count(b"<summary>Copy for xen-devel</summary>")
    assert f'data-told="{wanted}"' in tree and b"<noscript>" in hostile


def test_even_markup_that_got_in_is_stopped_by_the_policy(hostile: bytes, tmp_path: Path) -> None:
    """The same without the policy shows that the browser would have run it."""
    planted = hostile.replace(b"<main>", f"<main>{HOSTILE}".encode())
    unguarded = planted.replace(b'http-equiv="Content-Security-Policy"', b'name="no-policy"')
    assert planted != unguarded
    assert "data-owned" in shown(unguarded, tmp_path)
    assert "data-owned" not in shown(planted, tmp_path)


AXE = os.environ.get("MASKALL_AXE", "")
AUDIT = """<script>axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}).then(found => {
  const told = document.createElement("pre"); told.id = "axe";
  told.textContent = JSON.stringify(found.violations.map(one => [one.id, one.nodes[0].failureSummary]));
  document.body.append(told);
});</script>"""


@pytest.mark.skipif(not AXE, reason="npm pack axe-core; MASKALL_AXE=package/axe.min.js")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["run", "soak"])
def test_axe_finds_nothing(kind: str, scheme: str, tmp_path: Path) -> None:
    """WCAG 2.1 A and AA, with everything open."""
    run = RunResult.model_validate_json(DATA.read_text())
    document = page(Told(run)) if kind == "run" else soak_page(soak(SoakKind.PASSED, SoakKind.FALSE_ALARM))
    audited = document.decode().replace("<details", "<details open").replace("Content-Security-Policy", "no-policy")
    audited = re.sub("</?noscript>", "", audited).replace(
        "</body>", f"<script>{Path(AXE).read_text()}</script>{AUDIT}</body>"
    )
    flags = ["--virtual-time-budget=60000", f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"]
    tree = shown(audited.encode(), tmp_path, *flags)
    found = re.search(r'<pre id="axe">(.*?)</pre>', tree, re.DOTALL)
    assert found is not None and found[1] == "[]", found and found[1]
