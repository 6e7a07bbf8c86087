"""The base of the models that our files and the user's are read into. Pure."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """Unknown keys are refused, instances do not change."""

    model_config = ConfigDict(frozen=True, extra="forbid")
