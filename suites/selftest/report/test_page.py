"""report.html: what it says of recorded runs and of an example, and that nothing in it acts but its own script."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from harness.evidence.sealed import bytes_of
from harness.judge.judgement import Conclusion
from harness.model.observation import RawRef
from harness.report.page.cited import Cited, link
from harness.report.page.divergence import ShownFact, first_divergence
from harness.report.page.mail import COLUMNS
from harness.report.page.page import page
from harness.report.page.sentence import sentence
from harness.report.results import RunResult
from harness.report.told import Told
from harness.run import store
from harness.run.again import judged_again
from suites.selftest.replay.recording import recordings, unpacked

pytestmark = pytest.mark.whole

DATA = Path(__file__).parents[1] / "data/report/results.json"
HOSTILE = (
    "</pre></script><script>alert(1)</script><img src=x onerror=alert(2)>\"'><a href=javascript:alert(3)>"
    "{{ 7 * 7 }}\x1b[2J\u202e\ud800"
)


class Document(HTMLParser):
    """All elements in order, the text of each `pre`, `h1`, `style` and `script`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"pre": [], "h1": [], "style": [], "script": []}
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in self.texts:
            self._open.append(tag)
            self.texts[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1] == tag:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open[-1]][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def values(self, attribute: str) -> list[str]:
        return [attributes[attribute] or "" for _, attributes in self.elements if attribute in attributes]


@pytest.fixture(scope="module")
def run() -> RunResult:
    return store.load(DATA, RunResult)


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, RunResult]]:
    """The recorded runs, by name."""
    found = {}
    for name in ("proven", "crash", "two-devices"):
        root = unpacked(name, tmp_path_factory.mktemp(name))
        found[name] = (root, judged_again(root).result())
    return found


def made(run: RunResult, root: Path | None = None, missing: tuple[str, ...] = ()) -> tuple[str, Document]:
    told = Told(run, missing, partial(bytes_of, root)) if root else Told(run, missing)
    text = page(told).decode("utf-8")
    return text, Document(text)


def section(text: str, name: str) -> str:
    """The part of the page that tells of one scenario."""
    (found,) = [one for one in re.split(r'(?=<details class="scenario )', text)[1:] if f'"id">{name}</span>' in one]
    return found


def test_the_sentence_names_what_is_not_as_expected_and_counts_the_rest(run: RunResult) -> None:
    assert sentence(run) == (
        "1 regression: E3-F1 on e1000e, interrupts 0 at C6; 1 blind: E14-F2 on nvme, the control did not fail; "
        "1 changed: E17-F1 on nvme, passed where a failure was expected; 1 undecided: E14-F8 on nvme, on the control "
        "no-maskall-reset: the host \x1b[31mhung\r; 2 proven; 1 known; 1 unproven; 1 skipped"
    )
    assert sentence(run, ["CUT SHORT: 9 of 10"]).startswith("CUT SHORT: 9 of 10; 1 regression")
    several = [run.scenarios[4].model_copy(update={"id": f"E{number}-F1-hvm-e1000e"}) for number in range(1, 6)]
    many = run.model_copy(update={"scenarios": tuple(several), "counts": {Conclusion.REGRESSION: 5}})
    assert sentence(many).startswith("5 regressions: E1-F1-hvm-e1000e, interrupts 0 at C6; E2-F1")
    assert sentence(many).endswith("; and 2 more")
    assert sentence(run.model_copy(update={"scenarios": (), "counts": {}})) == "nothing ran"


def test_the_first_screen_says_what_was_tested_and_how_to_repeat_it(run: RunResult) -> None:
    text, document = made(run)
    first = text.partition("<main>")[0]
    for value in (*run.host.facts.values(), run.host.label, run.run_id):
        assert value in first
    assert "./tools/maskall run E3-F1 --device e1000e" in first
    assert document.texts["h1"] == [sentence(run).replace("\x1b", "\\x1b").replace("\r", "\\x0d")]


def test_every_scenario_is_in_the_matrix_in_its_twin_and_has_its_section(run: RunResult) -> None:
    text, document = made(run)
    ids = [attributes["id"] for attributes in document.all("details") if "id" in attributes]
    assert sorted(map(str, ids)) == [f"s{number}" for number in range(len(run.scenarios))]
    assert str(ids[0]) == "s4", "what is wrong stands first"
    matrix = text[text.index('<table class="matrix">') : text.index("</table>")]
    twin = text[text.index('<table class="list">') :].partition("</table>")[0]
    for number, one in enumerate(run.scenarios):
        assert f'href="#s{number}" title="{one.id}: {one.conclusion}"' in matrix
        assert f'<a href="#s{number}">{one.id}</a></td><td>{one.conclusion}</td>' in twin


def test_what_is_not_as_expected_is_open_and_the_rest_folded(run: RunResult) -> None:
    _, document = made(run)
    state = {attributes["id"]: "open" in attributes for attributes in document.all("details") if "id" in attributes}
    assert {int(str(name)[1:]) for name, is_open in state.items() if is_open} == {
        number
        for number, one in enumerate(run.scenarios)
        if one.conclusion in (Conclusion.REGRESSION, Conclusion.BLIND, Conclusion.CHANGED, Conclusion.UNDECIDED)
    }


@pytest.mark.parametrize("name", ["proven", "crash", "two-devices"])
def test_every_link_leads_to_something(name: str, replayed: dict[str, tuple[Path, RunResult]]) -> None:
    root, result = replayed[name]
    _, document = made(result, root)
    ids = document.values("id")
    assert len(set(ids)) == len(ids)
    hrefs = document.values("href")
    assert hrefs
    for href in hrefs:
        if href.startswith("#"):
            assert href[1:] in ids, href
        else:
            assert href.startswith("./raw/") and (root / unquote(href)).is_file(), href


def test_where_stock_and_control_part(replayed: dict[str, tuple[Path, RunResult]]) -> None:
    root, result = replayed["proven"]
    text, _ = made(result, root)
    part = section(text, "E14-F1-hvm-virtio-rng")
    assert "Stock and control part at C6, guest B&#39;s driver up" in part
    rows = re.findall(r"<tr><td>([^<]*)</td><td>([^<]*)</td><td>(?:<code>)?([^<]*).*?<td>(?:<code>)?([^<]*)", part)
    assert ("hardware", "MSI-X control", "Enable+ Masked- 0x8001", "Enable+ Masked+ 0xc001") in rows
    assert ("guest", "interrupts", "+16 on 2 vectors", "+0 on 2 vectors") in rows
    assert ("config 0xde", "MSI-X control", "0x8001 MASKALL-", "0xc001 MASKALL+") in rows
    assert 'class="parting"' in part


def test_what_a_boot_deals_out_is_no_difference(run: RunResult) -> None:
    stock = run.scenarios[0].stock
    record = replace(stock.record, guests={"A": 3}, observations=list(stock.record.observations))
    dealt = replace(record, guests={"A": 9})
    dealt.observations = [
        replace(
            seen,
            xen=seen.xen and replace(seen.xen, owner="d9" if seen.xen.owner == "d3" else seen.xen.owner),
            guest=seen.guest and replace(seen.guest, after=seen.guest.after + 5),
        )
        for seen in record.observations
    ]
    sides = [stock.model_copy(update={"record": one}) for one in (record, dealt)]
    assert first_divergence(*sides) is None
    dealt.observations[1] = replace(dealt.observations[1], xen=replace(dealt.observations[1].xen, owner="d9"))  # type: ignore[type-var]
    found = first_divergence(*sides)
    assert found is not None and found.checkpoint == "C4"
    assert found.facts == (ShownFact("Xen", "owner", "DomIO", "guest A (d9)"),)
    del dealt.observations[1]
    found = first_divergence(*sides)
    assert found is not None and found.facts == (ShownFact("scenario", "checkpoint", "reached", "not reached"),)


def test_marks_and_rows_lead_to_lines_on_the_page_where_they_are_cited(
    replayed: dict[str, tuple[Path, RunResult]],
) -> None:
    root, result = replayed["proven"]
    part = section(made(result, root)[0], "E14-F1-hvm-virtio-rng")
    assert re.search(
        r'<a href="#s0-r\d+" tabindex="-1"><title>C6 hardware: Mem\+ Bus\+ DisINTx\+, Enable\+ Masked\+', part
    )
    assert re.search(r"<tr><td>control</td><td>C6, [^<]*</td><td>111.4</td><td><a href=\"#s0-r\d+\">Mem", part)


def test_config_space_is_not_compared_where_it_was_changed(
    replayed: dict[str, tuple[Path, RunResult]], tmp_path: Path
) -> None:
    root, result = replayed["proven"]
    shutil.copytree(root, tmp_path / "run")
    for path in (tmp_path / "run").rglob("config.hex"):
        path.write_text(path.read_text().replace("f4 1a", "f4 1b"))
    text, _ = made(result, tmp_path / "run")
    assert "Config space is not compared: &#39;raw/" in text and "was changed after it was stored" in text
    assert "config 0xde" not in text


def test_cited_lines_have_three_more_on_each_side(replayed: dict[str, tuple[Path, RunResult]]) -> None:
    root, result = replayed["proven"]
    _, document = made(result, root)
    raw = next(one.raw for one in result.scenarios[0].control.judgement.violations if one.raw and one.raw.line)  # type: ignore[union-attr]
    lines = (root / raw.path).read_text().splitlines()[raw.line - 4 : raw.line + 3]
    wanted = [f"{number:5}  {line}".rstrip() for number, line in enumerate(lines, raw.line - 3)]
    assert any([line.rstrip() for line in pre.splitlines() if line] == wanted for pre in document.texts["pre"])


def test_without_raw_files_it_says_so(run: RunResult) -> None:
    assert "&#39;raw/c6-b.txt&#39; is not at hand" in made(run)[0]


@pytest.mark.parametrize("name", ["proven", "crash"])
def test_a_mail_has_72_columns_and_what_its_reader_needs(
    name: str, replayed: dict[str, tuple[Path, RunResult]]
) -> None:
    root, result = replayed[name]
    _, document = made(result, root)
    mail = next(pre for pre in document.texts["pre"] if pre.startswith("Subject: "))
    assert max(map(len, mail.splitlines())) <= COLUMNS
    assert all(0x20 <= ord(character) < 0x7F or character == "\n" for character in mail)
    assert result.host.facts["xen_build_id"] in mail
    assert "To repeat just this:" in mail
    if name == "proven":
        assert "Stock and control part at C6" in mail
        assert "config 0xde MSI-X control: stock 0x8001 MASKALL-; control" in mail


def test_its_policy_lets_nothing_in_but_its_own_style_and_script(run: RunResult) -> None:
    _, document = made(run)
    (policy,) = [one["content"] for one in document.all("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    allowed = dict(part.strip().split(" ", 1) for part in str(policy).split(";"))
    assert allowed["default-src"] == "'none'"
    for kind in ("style", "script"):
        (text,) = document.texts[kind]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert allowed[f"{kind}-src"] == f"'sha256-{digest}'"
    assert len(document.texts["script"][0].splitlines()) <= 32
    _inert(document)


def test_without_its_script_only_the_copy_buttons_are_missing(run: RunResult) -> None:
    _, document = made(run)
    hidden = [(tag, attributes) for tag, attributes in document.elements if "hidden" in attributes]
    assert [tag for tag, _ in hidden] == ["button"] * len(run.scenarios)


def _inert(document: Document) -> None:
    """Nothing of the document is asked for elsewhere, styled by attributes, or scripted."""
    tags = {tag for tag, _ in document.elements}
    assert not tags & {"img", "iframe", "object", "embed", "link", "base", "form", "input", "video", "audio", "image"}
    for tag, attributes in document.elements:
        for name, value in attributes.items():
            assert not name.startswith("on") and name not in ("style", "src", "srcset", "action"), (tag, name)
            if name in ("href", "xlink:href"):
                assert re.match(r"#|\./", str(value)), value


def _poisoned(value: object, path: tuple[str, ...] = ()) -> object:
    """Every text of stored results that a host, a guest, a device or an inventory has a say in, made hostile."""
    if isinstance(value, dict):
        return {name: _poisoned(one, (*path, name)) for name, one in value.items()}
    if isinstance(value, list):
        return [_poisoned(one, path) for one in value]
    free = {"title", "reason", "remark", "because", "seen", "expected", "subject", "view", "how", "text", "detail"}
    free |= {"said", "driver", "owner", "domain", "path", "symbol", "name", "label", "device_kind", "guest", "id"}
    free |= {"command_to_repeat", "log", "raw_directory", "hypervisor", "stands_for", "ending", "follow_on", "verb"}
    known = "record" in path and path[-1] in ("title", "name", "guest", "ending", "follow_on", "expected", "reason")
    scenario = "scenario" in path
    if isinstance(value, str) and (path[-1] in free or "facts" in path) and not known and not scenario:
        return f"{HOSTILE}{value}"
    return value


def test_hostile_text_is_only_text(run: RunResult) -> None:
    stored = json.loads(DATA.read_text())
    hostile = RunResult.model_validate(_poisoned(stored))
    text, document = made(hostile, Path("/nonexistent"))
    calm = made(run, Path("/nonexistent"))[1]
    _inert(document)
    counted = [sum(tag == wanted for tag, _ in document.elements) for wanted in ("script", "style", "h1", "details")]
    assert counted == [
        sum(tag == wanted for tag, _ in calm.elements) for wanted in ("script", "style", "h1", "details")
    ]
    assert document.texts["script"] == calm.texts["script"]
    assert text.count("&lt;script&gt;alert(1)") > 100, "the text that was planted is there to be read"
    assert "49\\x1b" not in text
    for character in ("\x1b", "\u202e", "\x00"):
        assert character not in text


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "raw/../../x", "//host/x", "raw//x", "raw\\x", "./x", "raw/\x00", "raw/\u202e", ""]
)
def test_a_path_that_leads_out_is_no_link(path: str) -> None:
    assert link(path) == ""


def test_a_path_can_not_be_a_scheme() -> None:
    assert link("javascript:alert(1)") == "./javascript%3Aalert%281%29"


def test_a_file_outside_of_the_run_is_never_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "run").mkdir()
    digest = hashlib.sha256(b"x").hexdigest()
    cited = Cited("s0", partial(bytes_of, tmp_path / "run"))
    cited.cite(RawRef("../secret", digest, 1))
    (part,) = cited.excerpts.values()
    assert part.lines == () and part.href == "" and "no file of the run" in part.why


def thousand(replayed: dict[str, tuple[Path, RunResult]]) -> tuple[Path, RunResult]:
    """A made-up run of 1,000 scenarios: a recorded one over and over, every tenth of them a regression."""
    root, result = replayed["proven"]
    (one,) = result.scenarios

    def rows() -> Iterator[object]:
        for number in range(1000):
            names = {"ending": f"E{number // 8 + 1}", "follow_on": f"F{number % 8 + 1}"}
            conclusion = Conclusion.REGRESSION if number % 10 == 0 else Conclusion.PROVEN
            name = f"{names['ending']}-{names['follow_on']}-hvm-virtio-rng"
            yield one.model_copy(update={**names, "id": name, "conclusion": conclusion})

    counts = {Conclusion.REGRESSION: 100, Conclusion.PROVEN: 900}
    return root, result.model_copy(update={"scenarios": tuple(rows()), "counts": counts})


def test_a_thousand_scenarios_are_six_megabytes_at_most(replayed: dict[str, tuple[Path, RunResult]]) -> None:
    root, many = thousand(replayed)
    text, document = made(many, root)
    assert 2_000_000 < len(text.encode()) <= 6_000_000
    ids = document.values("id")
    assert all(f"s{number}" in ids for number in range(1000))
    told = [one for one in re.split(r'(?=<details class="scenario )', text)[1:] if "Told briefly" not in one]
    assert 20 < len(told) < 100
    assert all('class="scenario REGRESSION"' in one for one in told), "room is for what is wrong"


def test_each_row_says_where_its_sides_part(run: RunResult, replayed: dict[str, tuple[Path, RunResult]]) -> None:
    root, proven = replayed["proven"]
    text = made(proven, root)[0]
    told = "stock and control part at C6: hardware MSI-X control: Enable+ Masked- 0x8001 / Enable+ Masked+ 0xc001"
    assert f'<span class="parting">{told} and 3 more</span></span></summary>' in text
    assert 'class="scenario PROVEN" id="s0" open>' in text, "the only one is open"
    known = section(made(run)[0], next(one.id for one in run.scenarios if one.conclusion is Conclusion.KNOWN))
    assert '<span class="parting">' in known


def test_one_that_is_too_large_is_told_briefly_and_the_others_whole(run: RunResult) -> None:
    worst = run.scenarios[4]
    judged = replace(worst.stock.judgement, checks=worst.stock.judgement.checks * 6000)
    large = worst.model_copy(update={"stock": worst.stock.model_copy(update={"judgement": judged})})
    scenarios = (*run.scenarios[:4], large, *run.scenarios[5:])
    text, _ = made(run.model_copy(update={"scenarios": scenarios}))
    assert text.count("Told briefly") == 1
    assert "Told briefly" in section(text, "E3-F1")


def test_a_run_without_scenarios_is_a_page_too(run: RunResult) -> None:
    text, document = made(
        run.model_copy(update={"scenarios": (), "counts": {}}), missing=("CUT SHORT: 0 of 3", "E1: no")
    )
    assert document.texts["h1"] == ["CUT SHORT: 0 of 3; nothing ran"]
    assert "No scenario was played to its end." in text and ">E1: no<" in text


@pytest.mark.parametrize("name", recordings())
def test_every_recorded_run_has_its_page(name: str, tmp_path: Path) -> None:
    root = unpacked(name, tmp_path)
    _inert(made(judged_again(root).result(), root)[1])
