"""The text that is being read, and what all kinds of lines share: those behind one, wrapped ones, causes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from harness.model.address import FUNCTION, Bdf
from harness.model.message import Origin
from harness.report.explain.facts import MOST_NOTES, Facts, FileFacts, PastedHost
from harness.report.explain.lines import PastedLine, PastedPlace, Speaker, clean
from harness.report.explain.unescaped import LONGEST_LINE
from harness.xen.keys.console import ConsoleLine
from harness.xen.keys.messages import Rule, Rules, catalogue

JOINS = 3  # lines that may belong to one that was wrapped or torn
MOST_KNOWN = 50_000  # lines remembered, so that what is repeated a million times is read once
_ADDRESS = re.compile(FUNCTION)
_NUMBERS = re.compile(r"\s*[0-9][0-9A-Fa-f]*")
_HEXADECIMAL = str.maketrans("", "", "0123456789abcdef")


def without_soft_end(text: str) -> str:
    """Of quoted-printable."""
    return text.rstrip().removesuffix("=")


def put_together(texts: list[str], more: str) -> list[str]:
    """In each way: a mail program wraps between words, a terminal also within one."""
    return [joined for text in texts for joined in (f"{text} {more.strip()}", f"{text}{more.rstrip()}")]


@dataclass
class Window:
    """A piece of a file, `text`, whose first line is `base` + 1; and all facts so far."""

    rules: Rules = field(default_factory=catalogue)
    facts: Facts = field(default_factory=Facts)
    file: FileFacts = field(default_factory=lambda: FileFacts(""))
    text: str = ""
    base: int = 0
    front: re.Pattern[str] | None = None  # what stands before each line of lspci in this file
    joined: int = 0  # the last line that was put together with one before it
    causes: dict[str, Rule] = field(init=False)
    _known: dict[tuple[Speaker, str], str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.causes = {name: rule for name, rule in self.rules.rules.items() if rule.cause or rule.loses}

    def following(self, at: int, most: int, number: int) -> Iterator[tuple[PastedLine, int]]:
        """The lines from position `at` on, and where each ends."""
        for count in range(1, most + 1):
            if at > len(self.text) or (at == len(self.text) and count > 1):
                return
            stop = self.text.find("\n", at)
            stop = len(self.text) if stop < 0 else stop
            pieces = self.pieces(at, stop, number + count)
            yield pieces[-1] if pieces else PastedLine(number + count, Speaker.TEXT, "", "", ""), stop
            at = stop + 1

    def pieces(self, at: int, stop: int, number: int) -> list[PastedLine]:
        """The line from position `at` to `stop`."""
        return list(self.clean(self.text[at : min(stop, at + LONGEST_LINE)], number))

    def clean(self, raw: str, number: int) -> Iterator[PastedLine]:
        """The pieces of a line, without what this file puts in front of each."""
        for piece in clean(raw, number):
            front = self.front.match(piece.text) if self.front and piece.speaker is Speaker.TEXT else None
            yield replace(piece, text=piece.text[front.end() :]) if front else piece

    def learn(self, front: str, at: int) -> bool:
        """Whether the line from position `at` on has the same in front of what lspci indents, but for the numbers."""
        parts = _NUMBERS.split(front)
        shape = r"\s*[0-9A-Fa-f]+".join(map(re.escape, parts))
        if front.endswith((":", "-")):
            shape = f"{shape[: -len(re.escape(front[-1]))]}[:-]"  # of grep, the latter for context
        wanted = re.compile(shape)
        for below, _ in self.following(at, JOINS, 0):
            found = wanted.match(below.text) if below.speaker is Speaker.TEXT else None
            if found and below.text.startswith(("\t", "    "), found.end()):
                self.front = wanted
                return True
            if below.text.strip() and (found is None or found.end() < len(below.text.rstrip())):
                return False  # neither an empty line nor one that has but this in it
        return False

    def beside_log(self, at: int) -> bool:
        """Whether the line that ends before position `at` has one of Xen, a kernel or lspci above or below it."""
        start = self.text.rfind("\n", 0, max(0, at - 1)) + 1
        above = self.text.rfind("\n", 0, max(0, start - 1)) + 1
        if start == 0 and self.base:
            return True  # what stood above was read before
        beside = [*self.pieces(above, max(0, start - 1), 0), *(line for line, _ in self.following(at, 1, 0))]
        return any(line.speaker in (Speaker.XEN, Speaker.LINUX) or line.text.startswith("\t") for line in beside)

    def whole(self, line: PastedLine, at: int, wanted: re.Pattern[str]) -> str | None:
        """The text of a line that `wanted` finds itself in, put together with those behind it where it was wrapped."""
        if wanted.search(line.text):
            return line.text
        texts = [without_soft_end(line.text)]
        for other, _ in self.following(at, JOINS, line.number):
            if other.speaker is Speaker.XEN or other.speaker is Speaker.GUEST:
                continue
            texts = put_together(texts, other.text)
            for joined in (*texts, f"{line.text}{other.text.rstrip()}"):
                if wanted.search(joined):
                    self.joined = other.number
                    return joined
        return None

    def above(self, at: int, text: str) -> Iterator[str]:
        """`text`, a line that ends before position `at`, put together with those above it."""
        start, texts = self.text.rfind("\n", 0, max(0, at - 1)) + 1, [text]
        for _ in range(JOINS):
            stop, start = start - 1, self.text.rfind("\n", 0, max(0, start - 1)) + 1
            if stop < 0:
                return
            piece = self.pieces(start, stop, 0)[-1:]
            texts = [one for rest in texts for line in piece for one in put_together([line.text.rstrip()], rest)]
            yield from texts

    def place(self, line: PastedLine) -> PastedPlace:
        return PastedPlace(self.file.name, line.number, line.raw[:240])

    def unreadable(self, host: PastedHost, line: PastedLine, key: str = "") -> None:
        """A line that begins as something known and is not; `key`: of whose dump it is a row."""
        if len(host.broken) < MOST_NOTES:
            host.broken.append(self.place(line))
        if key:
            host.round.broken.add(key)

    def lost(self, host: PastedHost, line: PastedLine) -> None:
        """A line that says that others are missing."""
        if len(host.losses) < MOST_NOTES:
            host.losses.append(self.place(line))

    def of_device(self, host: PastedHost, line: PastedLine, name: str) -> None:
        """The line shows this of the device that it names, of the host where it names none."""
        address = _ADDRESS.search(line.text)
        device = host.device(Bdf.parse(address.group())) if address else None
        place = self.place(line)
        if device is not None:
            device.show(name, place)
        else:
            host.show(name, place)

    def cause(self, host: PastedHost, line: PastedLine, origin: Origin) -> bool:
        """Causes of messages.yaml that are not this defect, and lines that say that others are missing."""
        name = self._rule(line, origin)
        if name is None:
            return False
        rule = self.causes[name]
        if rule.cause:
            self.of_device(host, line, rule.cause)
        elif name != "callbacks-suppressed":  # they say nothing of this class
            self.lost(host, line)
        return True

    def _rule(self, line: PastedLine, origin: Origin) -> str | None:
        """The rule of a line, remembered by its words. Those whose numbers count are not remembered."""
        text = line.text.rstrip()
        key = line.speaker, line.text.translate(_HEXADECIMAL)
        if key in self._known:
            return self._known[key]
        said = ConsoleLine(line.number, text, origin)
        name = next((name for name, rule in self.causes.items() if rule.fits(said)), None)
        if "failed (" not in text and not (origin is Origin.XEN and name is None):
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[key] = name
        return name

    def flooded(self, line: PastedLine) -> bool:
        """Whether another line with these words was looked at already, and its rule is known."""
        return (line.speaker, line.text.translate(_HEXADECIMAL)) in self._known
