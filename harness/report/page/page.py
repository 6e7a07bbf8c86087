"""The page, made of its template. Text of a host, a guest or a device reaches it as text and as nothing else. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import jinja2
from markupsafe import Markup

from harness.base.text import inert
from harness.report.days import days
from harness.report.page import view
from harness.report.page.casesection import CaseSection
from harness.report.page.sentence import UNEXPECTED, sentence
from harness.report.table import duration
from harness.report.told import Told

WHOLE_BYTES = 2_000_000
"""How much of the page may be scenarios with all there is to them. Those that are not as expected come first; the rest
is told briefly, so that a run of 1,000 scenarios is a page of a few megabytes."""
_LARGEST = WHOLE_BYTES // 4


def page(told: Told) -> bytes:
    """The document in UTF-8."""
    run = told.run
    said = sentence(run, told.missing)
    return document(
        "page.html.j2",
        title=f"maskall {run.run_id}: {said}",
        run=run,
        sentence=said,
        bad=bool(told.missing) or any(one in UNEXPECTED for one in run.counts),
        missing=told.missing[1:],
        days=days(run),
        tested=view.tested(run),
        command=view.command(run),
        matrix=view.matrix(run),
        sections=_sections(told, _environment()),
        cases=[CaseSection.of(number, case) for number, case in enumerate(run.cases)],
    )


def document(template: str, *, title: str, **shown: object) -> bytes:
    """One file that needs nothing else: a template with our style and script, and a policy that lets in no other."""
    style, script = _text("page.css"), _text("page.js")
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    text = (
        _environment()
        .get_template(template)
        .render(
            title=title,
            policy=policy,
            style=Markup(style),  # noqa: S704 - a file of ours
            script=Markup(script),  # noqa: S704 - a file of ours
            **shown,
        )
    )
    return text.encode("utf-8", "backslashreplace")


def _sections(told: Told, made: jinja2.Environment) -> Sequence[Markup]:
    """Those that matter most come first, and get all there is to say, as long as there is room."""
    template = made.get_template("section.html.j2")
    scenarios = told.run.scenarios
    by_weight = sorted(range(len(scenarios)), key=lambda number: view.WEIGHT.index(scenarios[number].conclusion))
    found: list[str] = []
    left = WHOLE_BYTES
    for number in by_weight:
        text = template.render(section=view.whole(number, scenarios[number], told)) if left > 0 else ""
        size = len(text.encode("utf-8", "backslashreplace"))
        if size <= _LARGEST:  # one that is too large takes no room from the others
            left -= size
        if left <= 0 or size > _LARGEST:
            text = template.render(section=view.brief(number, scenarios[number]))
        found.append(text)
    return [Markup(text) for text in found]  # noqa: S704 - made by a template that escapes


@cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("harness.report", "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(letters=view.LETTERS, meanings=view.MEANINGS, headings=view.HEADINGS, duration=duration)
    return made


def _shown(value: object) -> object:
    """Every string that a template prints, before it is escaped: on one line, and nothing that repaints."""
    return inert(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _text(name: str) -> str:
    return (files("harness.report.page") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
