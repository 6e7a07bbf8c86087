"""Raw lines that a scenario's statements rest on, with three above and three below. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import quote

from harness.base.errors import EvidenceError
from harness.model.observation import RawRef
from harness.report.page.sentence import clipped
from harness.report.told import Read

_AROUND = 3
_WIDE = 180
_MOST = 48


@dataclass(frozen=True)
class Excerpt:
    """Lines of a raw file: (number, text, whether it is the one that is cited). `why`: there are none."""

    anchor: str
    name: str
    href: str
    lines: tuple[tuple[int, str, bool], ...]
    why: str = ""


@dataclass
class Cited:
    """The excerpts of one scenario, each once; anchors begin with `prefix`."""

    prefix: str
    read: Read
    excerpts: dict[tuple[str, int], Excerpt] = field(default_factory=dict)
    _files: dict[str, list[str] | str] = field(default_factory=dict)

    def cite(self, raw: RawRef | None) -> str:
        """The anchor of the excerpt around what `raw` names, empty where there is none."""
        if raw is None:
            return ""
        key = (raw.path, raw.line)
        if key not in self.excerpts:
            if len(self.excerpts) >= _MOST:
                return ""
            self.excerpts[key] = self._excerpt(raw, f"{self.prefix}-r{len(self.excerpts)}")
        return self.excerpts[key].anchor

    def known(self, raw: RawRef | None) -> str:
        """The anchor of an excerpt that is there already, empty otherwise."""
        found = self.excerpts.get((raw.path, raw.line)) if raw else None
        return found.anchor if found else ""

    def _excerpt(self, raw: RawRef, anchor: str) -> Excerpt:
        if raw.path not in self._files:
            try:
                self._files[raw.path] = self.read(raw).decode("utf-8", "replace").split("\n")
            except EvidenceError as error:
                self._files[raw.path] = error.message
        found = self._files[raw.path]
        if isinstance(found, str):
            return Excerpt(anchor, str(raw), "", (), found)
        first = max(1, raw.line - _AROUND) if raw.line else 1
        part = found[first - 1 : first + 2 * _AROUND if not raw.line else raw.line + _AROUND]
        lines = tuple(
            (number, clipped(text.rstrip("\r"), _WIDE), number == raw.line) for number, text in enumerate(part, first)
        )
        return Excerpt(anchor, str(raw), link(raw.path), lines)


def link(path: str) -> str:
    """A file of the run as a link that can only lead below the page's own folder; empty for any other path."""
    if "\\" in path or any(part in ("", ".", "..") for part in path.split("/")):
        return ""
    return f"./{quote(path, safe='/')}" if path.isprintable() else ""
