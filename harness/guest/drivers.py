"""What each driver needs in a guest; the facts are in drivers.yaml."""

from __future__ import annotations

import functools
from pathlib import Path

from pydantic import Field, RootModel

from harness.base.strict import StrictModel
from harness.base.yamlfile import load_models


class Driver(StrictModel):
    """One entry of drivers.yaml."""

    modules: list[str] = Field(min_length=1)
    config: list[str] = Field(min_length=1)
    bound_as: str
    ready: str
    traffic: str
    in_dom0: bool


class _Drivers(RootModel[dict[str, Driver]]):
    pass


@functools.cache
def drivers() -> dict[str, Driver]:
    return load_models(Path(__file__).with_name("drivers.yaml"), _Drivers).root
