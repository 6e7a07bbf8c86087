"""What the lines of the Xen console and of dom0's kernel log mean, by the rules of messages.yaml.

Pure but for reading our own data file.
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from harness.base.modelpath import misplaced
from harness.base.strict import StrictModel
from harness.base.yamlfile import load_models, nearest
from harness.model.message import Meaning, Origin
from harness.xen.keys.console import LINUX_STAMP, ConsoleLine, console_lines


class Log(enum.StrEnum):
    """Where a line was read; the value is the name of the raw file."""

    XEN = "xl_dmesg.txt"  # `xl dmesg`: Xen's lines and its guests'
    DOM0 = "dom0_dmesg.txt"  # `dmesg` in dom0

    def lines(self, text: str) -> Iterator[ConsoleLine]:
        """The lines of `text` that say something, without prefix and timestamp."""
        said = console_lines(text) if self is Log.XEN else _kernel_lines(text)
        return (line for line in said if not line.is_rest)


_STAMP = re.compile(f"^{LINUX_STAMP}")
# where a message of Xen's comes from: file and line (dprintk, a debug build), who called (gprintk), AMD's IOMMU
_SPOKEN = re.compile(
    r"^(?:[\w./-]{1,80}\.[ch][:#][0-9]{1,5}: ?)?(?:d(?:[0-9]{1,5}|\[[A-Z]+\])v(?:[0-9]{1,4}|\?) )?"
    r"(?:AMD-Vi: (?:Warning: |Error: )?)?"
)


def _kernel_lines(text: str) -> Iterator[ConsoleLine]:
    for number, raw in enumerate(text.split("\n"), 1):
        yield ConsoleLine(number, _STAMP.sub("", raw), Origin.DOM0)


def _expression(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return pattern


def _meaning(given: Meaning) -> Meaning:
    if given is Meaning.UNKNOWN:
        raise ValueError("unknown is what no rule describes; there are harmless, symptom, dump")
    return given


Expression = Annotated[str, AfterValidator(_expression)]


class Continuation(StrictModel):
    """Lines that belong to the one that began them: the rows of a dump, the registers and the trace of a crash."""

    lines: tuple[Expression, ...] = Field(min_length=1)
    example: str  # without prefix; each of its lines fits, and each expression fits one

    @model_validator(mode="after")
    def _fits_its_example(self) -> Continuation:
        shown = [line.rstrip() for line in self.example.split("\n") if line.strip()]
        for line in shown:
            if not self.has(line):
                raise misplaced(f"nothing under lines matches {line!r}", "example")
        for place, one in enumerate(self.lines):
            if not any(re.fullmatch(one, line) for line in shown):
                raise misplaced("matches no line of the example", "lines", place)
        return self

    def has(self, text: str) -> bool:
        """Also where dmesg(1) set it in: the further lines of one message stand under its text, not its timestamp."""
        return any(re.fullmatch(one, shown) for one in self.lines for shown in (text, text.lstrip()))


class Rule(StrictModel):
    """One kind of line. `pattern` describes all of it, without its prefix and timestamp."""

    origin: Origin
    meaning: Annotated[Meaning, AfterValidator(_meaning)] = Field(alias="class")
    pattern: Expression
    continues: str | None = None  # the continuation that may follow
    example: str  # as it stands in the log, prefix and all
    also: tuple[str, ...] = ()  # other wordings of it, likewise
    reason: str = Field(min_length=1)  # who prints it and why; for a symptom, of what
    versions: str | None = Field(None, pattern=r"^(xen|linux) [0-9.]+$")  # where not all of 4.14..4.20 or 5.10..6.12
    cause: str | None = None  # of several symptoms that one thing makes: a key of `causes`
    question: int | None = Field(None, ge=1, le=6)  # of docs/messages.md
    esrch: bool = False  # says that what was to be unmapped was not there
    fails: bool = False  # violates every scenario that does not expect it
    loses: bool = False  # says that other lines were not logged: what was not said then, may have been

    @model_validator(mode="after")
    def _fails_for_a_symptom_only(self) -> Rule:
        if self.fails and self.meaning is not Meaning.SYMPTOM:
            raise misplaced("only a symptom can fail a scenario", "fails")
        return self

    @property
    def log(self) -> Log:
        return Log.DOM0 if self.origin is Origin.DOM0 else Log.XEN

    def fits(self, line: ConsoleLine) -> bool:
        """With or without what Xen puts in front of a message to say where it comes from."""
        return self.describes(line.origin, line.text)

    def describes(self, origin: Origin, text: str) -> bool:
        if origin is not self.origin:
            return False
        bare = _SPOKEN.sub("", text) if origin is Origin.XEN else text
        return any(re.fullmatch(self.pattern, said) for said in {text, bare})

    @property
    def spoken_by(self) -> str:
        """The functions that print it, which the reason begins with."""
        return self.reason.partition("; ")[0] if "; " in self.reason else self.reason.partition(" ")[0]


class Rules(StrictModel):
    """messages.yaml: the rules by name, in the order in which they are tried."""

    continuations: dict[str, Continuation]
    causes: dict[str, str] = Field(default_factory=dict)  # in one sentence
    rules: dict[str, Rule]

    def __hash__(self) -> int:
        """What these very rules said of a text is kept."""
        return id(self)

    def first(self, line: ConsoleLine) -> str | None:
        """The name of the rule that counts for a line."""
        return _first(self, line.origin, line.text)

    @model_validator(mode="after")
    def _names_what_there_is(self) -> Rules:
        for name, rule in self.rules.items():
            if rule.continues is not None and rule.continues not in self.continuations:
                hint = nearest(rule.continues, self.continuations)
                raise misplaced(f"there is no continuation {rule.continues!r}; {hint}", "rules", name, "continues")
            if rule.cause is not None and rule.cause not in self.causes:
                hint = nearest(rule.cause, self.causes)
                raise misplaced(f"there is no cause {rule.cause!r}; {hint}", "rules", name, "cause")
        return self

    @model_validator(mode="after")
    def _each_can_match(self) -> Rules:
        """A rule whose own example is not its own would never be seen to do anything."""
        for name, rule in self.rules.items():
            for place, example in enumerate((rule.example, *rule.also)):
                at = ("rules", name, "also", place - 1) if place else ("rules", name, "pattern")
                seen = classify(example, rule.log, self)
                if len(seen) != 1 or not rule.fits(seen[0].line):
                    told = f"does not match its own example, read as one line from {rule.origin.value}"
                    raise misplaced(told, *at)
                if seen[0].name != name:
                    raise misplaced(f"never matches: {seen[0].name} takes its example first", *at)
        return self


@functools.lru_cache(maxsize=20_000)  # boots of one host say the same
def _first(rules: Rules, origin: Origin, text: str) -> str | None:
    return next((name for name, rule in rules.rules.items() if rule.describes(origin, text)), None)


@dataclass(frozen=True)
class Classified:
    """A line and what it means; `more` lines that follow belong to it."""

    line: ConsoleLine
    name: str | None  # of the rule
    rule: Rule | None
    more: int = 0

    @property
    def meaning(self) -> Meaning:
        return self.rule.meaning if self.rule else Meaning.UNKNOWN


@functools.lru_cache(maxsize=32)  # a run is judged, compared and checked by the same texts
def classify(text: str, log: Log, rules: Rules) -> tuple[Classified, ...]:
    """Every line of `text` that is not empty, by the first rule that fits; one without a rule is unknown.

    A line that goes on with what an earlier one began (a dump, a trace) is counted there, also when other messages came
    between; until another line of the same origin begins something.
    """
    found: list[Classified] = []
    begun: dict[Origin, tuple[int, Continuation]] = {}  # where in `found` the line stands that may go on, and how
    for raw in log.lines(text):
        line = replace(raw, text=raw.text.rstrip())
        if not line.text:
            continue
        if line.origin in begun:
            place, rest = begun[line.origin]
            if rest.has(line.text):
                found[place] = replace(found[place], more=found[place].more + 1)
                continue
        name = rules.first(line)
        rule = rules.rules[name] if name else None
        if rule is not None and rule.continues:
            begun[line.origin] = len(found), rules.continuations[rule.continues]
        found.append(Classified(line, name, rule))
    return tuple(found)


def load_rules(path: Path) -> Rules:
    """Raises InventoryError with file and line for a rule that is wrong or can never match."""
    return load_models(path, Rules)


@functools.cache
def catalogue() -> Rules:
    return load_rules(Path(__file__).with_name("messages.yaml"))
