"""Which upstream fixes a hypervisor or a dom0 kernel has, as far as its version tells. Pure but for our own data file.

A distribution may have taken a fix into an older release: NO by version is an expectation, and a host that behaves
otherwise is right.
"""

from __future__ import annotations

import enum
import functools
from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, RootModel, model_validator

from harness.base.errors import ParseError
from harness.base.strict import StrictModel
from harness.base.yamlfile import load_models
from harness.xen.keys.version import Answer, Version, parse_linux, parse_xen, reached

FIXES_FILE = Path(__file__).with_name("fixes.yaml")


class Product(enum.StrEnum):
    XEN = "xen"
    LINUX = "linux"

    @property
    def called(self) -> str:
        return {Product.XEN: "Xen", Product.LINUX: "dom0's Linux"}[self]

    @property
    def fact(self) -> str:
        """The fact of a host that tells its version."""
        return {Product.XEN: "xen_version", Product.LINUX: "kernel"}[self]

    def parse(self, text: str) -> Version:
        return parse_xen(text) if self is Product.XEN else parse_linux(text)


def _release(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError('a release is written in quotes, as "4.18.0"')
    try:
        version = parse_xen(value)
    except ParseError:
        raise ValueError(f"not a release: {value!r}, but for example 4.18.0") from None
    if str(version) != value or version.patch is None or version.before:
        raise ValueError(f"not a release: {value!r}, but for example 4.18.0")
    return version


Release = Annotated[Version, BeforeValidator(_release)]


class Fix(StrictModel):
    """One entry of fixes.yaml."""

    title: str
    product: Product
    first_fixed: tuple[Release, ...] = Field(min_length=1)
    complete: bool = True
    concerns: tuple[str, ...]
    without: str

    @model_validator(mode="after")
    def _branches_once(self) -> Self:
        branches = [release.branch for release in self.first_fixed]
        if branches != sorted(set(branches), reverse=True):
            raise ValueError("first_fixed names each branch once, the newest first")
        if self.first_fixed[0].patch != 0:
            raise ValueError("the newest branch of first_fixed got the fix before its first release, so it ends in .0")
        return self


class _Fixes(RootModel[dict[Annotated[str, Field(pattern=r"^[0-9a-f]{10,40}$")], Fix]]):
    pass


@functools.cache
def registry(path: Path = FIXES_FILE) -> dict[str, Fix]:
    """All fixes by commit. Raises InventoryError."""
    return load_models(path, _Fixes).root


def has_fix(fix: Fix, version: str) -> Answer:
    """Whether this version has the fix; UNKNOWN where the text does not tell, or is no version at all."""
    try:
        seen = fix.product.parse(version)
    except ParseError:
        return Answer.UNKNOWN
    if seen.branch > fix.first_fixed[0].branch:
        return Answer.YES
    for release in fix.first_fixed:
        if release.branch == seen.branch:
            return reached(seen, release)
    return Answer.NO if fix.complete else Answer.UNKNOWN
