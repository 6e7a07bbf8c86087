"""What a run ends with at the terminal: the table, what is not as expected, and what is missing. Pure."""

from __future__ import annotations

from harness.report.case import cases
from harness.report.failure import failures, remarks, skipped
from harness.report.formats.base import Format
from harness.report.table import plain
from harness.report.told import Told


class Table(Format):
    """What a run ends with at the terminal, without colour."""

    def render(self, told: Told) -> bytes:
        run = told.run
        paragraphs = [*cases(run), *skipped(run), *remarks(run), *failures(run), *told.missing]
        text = plain(run, width=told.width) + "".join(f"{line}\n" for line in ["", *paragraphs] if paragraphs)
        return text.encode("utf-8", "backslashreplace")
