"""The table of docs/messages.md, made from messages.yaml. Pure.

Publish it again after a change of the rules:

    python -c 'import pathlib, harness.xen.keys.messages_table as t; t.publish(pathlib.Path("docs/messages.md"))'
"""

from __future__ import annotations

from pathlib import Path

from harness.model.message import Origin
from harness.xen.keys.messages import Rule, Rules, catalogue

BEGIN = "<!-- the rules of messages.yaml, see harness/xen/keys/messages_table.py -->\n"
END = "<!-- end of the rules -->\n"
_TITLES = {
    Origin.XEN: "Xen's console (`xl dmesg`)",
    Origin.DOM0: "The kernel of dom0, or of a PV guest (`dmesg`)",
    Origin.GUEST: "What guests print on Xen's console",
}


def table(rules: Rules) -> str:
    """A section for each kind of log, a row for each rule in the order in which they are tried; then the causes."""
    parts = [_section(origin, rules) for origin in _TITLES]
    causes = "".join(f"| {name} | {_cell(text)} |\n" for name, text in rules.causes.items())
    return "\n".join([*parts, f"### Causes\n\n| cause | |\n|---|---|\n{causes}"])


def _section(origin: Origin, rules: Rules) -> str:
    rows = "".join(_row(name, rule) for name, rule in rules.rules.items() if rule.origin is origin)
    return f"### {_TITLES[origin]}\n\n| rule | class | a line of it | printed by; why |\n|---|---|---|---|\n{rows}"


def _row(name: str, rule: Rule) -> str:
    marks = [str(rule.meaning)]
    marks += ["**fails**"] if rule.fails else []
    marks += ["**lines are missing**"] if rule.loses else []
    marks += [f"cause: {rule.cause}"] if rule.cause else []
    marks += [f"question {rule.question}"] if rule.question else []
    marks += [f"since {rule.versions}"] if rule.versions else []
    lines = "<br>".join(f"`{_cell(line.strip())}`" for line in (rule.example, *rule.also))
    return f"| {name} | {', '.join(marks)} | {lines} | {_cell(rule.reason)} |\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def with_table(page: str, rules: Rules) -> str:
    """The page with the table of today between its two marks. ValueError when it has no such place."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"no place for the table: {BEGIN.strip()} ... {END.strip()}")
    return f"{before}{begin}\n{table(rules)}\n{end}{after}"


def publish(page: Path) -> None:
    page.write_text(with_table(page.read_text(), catalogue()))
