"""Known issues: failures of the product that are understood, and where they are expected. Pure but for reading files.

An entry knows a failure by its signature, never by the verdict alone, so that it cannot hide another one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, RootModel, model_validator

from harness.base.errors import ParseError
from harness.base.strict import StrictModel
from harness.base.yamlfile import load_models
from harness.judge.judgement import Check
from harness.judge.signature import CheckPattern, left_over, shown
from harness.scenario.spec import Scenario
from harness.xen.keys.fixes import has_fix, registry
from harness.xen.keys.version import Answer, Span, Version, parse_linux, parse_span, parse_xen


def _span(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError('versions are written in quotes, as "4.20" or "4.14..4.17"')
    try:
        return parse_span(value)
    except ParseError as error:
        raise ValueError(f"not a span of versions: {value!r}, but for example 4.14..4.17") from error


Seen = Annotated[Span, BeforeValidator(_span)]


class KnownIssue(StrictModel):
    """One entry of known_issues.yaml: a defect with its document and where it was seen, or what lacks a fix."""

    title: str
    scenarios: tuple[str, ...] = Field(min_length=1)  # globs over whole rows
    document: str | None = Field(None, pattern=r"^docs/findings/[a-z0-9-]+\.md$")
    xen: tuple[Seen, ...] = ()
    linux: tuple[Seen, ...] = ()  # of dom0, which is that of the guests too
    stacks: tuple[str, ...] = ()
    toolstacks: tuple[Literal["xl", "libvirt"], ...] = ()  # none: whichever makes the domains
    fix: str | None = None
    always: bool = True  # false: it comes and goes, so a PASS is no change
    violated: tuple[CheckPattern, ...] = Field(min_length=1)
    also: tuple[CheckPattern, ...] = ()  # may be violated as well, or may not

    @model_validator(mode="after")
    def _either_seen_or_unfixed(self) -> Self:
        if (self.document is None) == (self.fix is None):
            raise ValueError("an issue has either a document or the fix whose absence it is")
        if self.document is not None and not (self.xen or self.linux or self.stacks):
            raise ValueError("an issue with a document says under 'xen', 'linux' or 'stacks' where it was seen")
        if self.fix is not None and (self.xen or self.linux or self.stacks):
            raise ValueError("where a fix is missing is in harness/xen/keys/fixes.yaml, not here")
        if self.fix is not None and self.fix not in registry():
            raise ValueError(f"there is no fix {self.fix} in harness/xen/keys/fixes.yaml")
        return self

    def concerns(self, scenario: Scenario) -> bool:
        return any(fnmatchcase(scenario.row, pattern) for pattern in self.scenarios)

    def due_on(self, facts: Mapping[str, str]) -> bool:
        """Whether it is expected of the host with these facts."""
        if self.toolstacks and facts.get("toolstack") not in self.toolstacks:
            return False
        if self.fix is not None:
            fix = registry()[self.fix]
            return has_fix(fix, facts.get(fix.product.fact, "")) is Answer.NO
        if self.stacks and facts.get("stack") not in self.stacks:
            return False
        versions = (parse_xen, "xen_version", self.xen), (parse_linux, "kernel", self.linux)
        return all(_within(read, facts.get(name, ""), spans) for read, name, spans in versions)

    def shows_in(self, checks: Sequence[Check]) -> bool:
        return shown(self.violated, checks)

    @property
    def seen_on(self) -> str:
        """For a person: where it was seen, or what must be missing."""
        if self.fix is not None:
            return f"hosts without fix {self.fix}"
        versions = [*(f"Xen {span}" for span in self.xen), *(f"Linux {span}" for span in self.linux)]
        return " and ".join([*versions, *self.stacks, *self.toolstacks])


def _within(read: Callable[[str], Version], told: str, spans: Sequence[Span]) -> bool:
    """Whether the version is in one of the spans, or none is asked for."""
    if not spans:
        return True
    try:
        version = read(told)
    except ParseError:
        return False
    return any(version in span for span in spans)


class _Issues(RootModel[dict[Annotated[str, Field(pattern=r"^[a-z0-9-]+$")], KnownIssue]]):
    pass


def load_issues(path: Path) -> dict[str, KnownIssue]:
    """The entries of a file by id. Raises InventoryError."""
    return load_models(path, _Issues).root


@functools.cache
def _ours() -> dict[str, KnownIssue]:
    return load_issues(Path(__file__).with_name("known_issues.yaml"))


def known_issues(own: Path | None = None) -> dict[str, KnownIssue]:
    """Ours, and the user's own file on top."""
    return _ours() | (load_issues(own) if own else {})


def unexplained(issues: Sequence[KnownIssue], checks: Sequence[Check]) -> list[Check]:
    """The checks not met that none of these issues accounts for."""
    return left_over((one for issue in issues for one in (*issue.violated, *issue.also)), checks)
