"""results.json: everything, by the schema docs/results.schema.json. Pure."""

from __future__ import annotations

from harness.base.stored import to_json
from harness.report.formats.base import Format
from harness.report.told import Told


class Json(Format):
    """Everything, as results.json has it."""

    file = "results.json"

    def render(self, told: Told) -> bytes:
        return to_json(told.run)
