"""report.html: the page that people look at. Pure."""

from __future__ import annotations

from harness.report.formats.base import Format
from harness.report.page.page import page
from harness.report.told import Told


class Html(Format):
    """One page that needs nothing else, opened by a double click."""

    file = "report.html"

    def render(self, told: Told) -> bytes:
        return page(told)
