"""Versions of Xen and Linux as hosts tell them, and whether one is at least a certain release. Pure.

A host's word for its version is less than it seems. `4.20.5-pre` is what leads to 4.20.5 and not there yet, and
`5.10.0-35-amd64` names Debian's kernel ABI: which 5.10 it was built from cannot be told. So an answer may be UNKNOWN.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from harness.base.errors import ParseError

_RELEASE = re.compile(
    r"(?P<major>\d{1,4})\.(?P<minor>\d{1,4})(?:\.(?P<patch>\d{1,6}))?(?P<rest>$|[^\d.].*)", re.DOTALL | re.ASCII
)
_NOT_YET = re.compile(r"[-.~+ ]?(pre|rc|unstable|staging)", re.IGNORECASE)
_ABI = re.compile(r"-\d")  # 5.10.0-35-amd64, 5.15.0-91-generic


class Answer(enum.StrEnum):
    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Version:
    """`patch` is None where it was not told; `before`: on the way to this release, which is not out yet."""

    major: int
    minor: int
    patch: int | None = None
    before: bool = False

    @property
    def branch(self) -> tuple[int, int]:
        return self.major, self.minor

    def __str__(self) -> str:
        patch = "" if self.patch is None else f".{self.patch}"
        return f"{self.major}.{self.minor}{patch}{'-pre' if self.before else ''}"


def parse_xen(text: str) -> Version:
    """`xen_version` of `xl info`.

    Accepted format: `4.14.6`, `4.20.5-pre`, `4.19-unstable`, `4.19.0-rc2`, and anything behind it that begins with
    neither a digit nor a point, as in `4.17.6-1 (Debian)`. Raises ParseError.
    """
    return _parse(text, "a Xen version such as 4.17.5")


def parse_linux(text: str) -> Version:
    """A kernel's release (`uname -r`).

    Accepted format: `6.12.57+deb13-amd64`, `6.6.0-rc1`, and `5.10.0-35-amd64`, of which only the branch is told.
    Raises ParseError.
    """
    found = _parse(text, "a kernel release such as 6.12.57+deb13-amd64")
    rest = text.strip().removeprefix(str(found))
    if found.patch == 0 and _ABI.match(rest):
        return Version(found.major, found.minor)
    return found


def _parse(text: str, expected: str) -> Version:
    match = _RELEASE.fullmatch(text.strip())
    if match is None:
        raise ParseError(f"not a version: {text[:60]!r}", expected=expected)
    patch = int(match["patch"]) if match["patch"] is not None else None
    before = _NOT_YET.match(match["rest"]) is not None
    if before and patch is None:
        patch = 0  # 4.19-unstable leads to 4.19.0
    return Version(int(match["major"]), int(match["minor"]), patch, before)


def reached(version: Version, release: Version) -> Answer:
    """Whether `version` is `release` or a later one of the same branch. Both must be of one branch."""
    assert version.branch == release.branch and release.patch is not None  # noqa: S101 - the registry's models see to it
    if version.patch is None:
        return Answer.YES if release.patch == 0 else Answer.UNKNOWN
    if version.patch == release.patch and version.before:
        return Answer.UNKNOWN  # somewhere on the way there
    return Answer.YES if version.patch >= release.patch else Answer.NO


@dataclass(frozen=True)
class Span:
    """Releases from `first` to `last`, both among them; one without a patch stands for its whole branch."""

    first: Version
    last: Version

    def __contains__(self, version: Version) -> bool:
        if version.patch is None:
            return self.first.branch <= version.branch <= self.last.branch
        number = (*version.branch, version.patch)
        most = (*self.last.branch, version.patch if self.last.patch is None else self.last.patch)
        return (*self.first.branch, self.first.patch or 0) <= number <= most

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}..{self.last}"


def parse_span(text: str) -> Span:
    """Accepted format: `4.20`, `4.17.5`, `4.14..4.17`, `4.14.6..4.20`. Raises ParseError."""
    first, dots, last = text.partition("..")
    span = Span(parse_xen(first), parse_xen(last if dots else first))
    if str(span) != text or span.first not in span:
        raise ParseError(f"not a span of versions: {text[:60]!r}", expected="for example 4.20 or 4.14..4.17")
    return span
