"""Lines of a text that somebody pasted, without quotes, logger prefixes and colours, each with its speaker. Pure."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.model.address import SEGMENT
from harness.report.explain.unescaped import LINE_WITHIN


class Speaker(enum.Enum):
    """Who printed a line."""

    XEN = "xen"
    GUEST = "guest"  # behind "(d3) ": it may print what it likes, and proves nothing
    LINUX = "linux"
    TEXT = "text"  # output of lspci or xl, or what people wrote


@dataclass(frozen=True, slots=True)
class PastedLine:
    """`number` counts from 1 in its file; `text` is what the speaker printed; `host` is empty where nobody names it."""

    number: int
    speaker: Speaker
    text: str
    host: str
    raw: str


@dataclass(frozen=True)
class PastedPlace:
    """A line of the input, as it stands there."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


_COLOUR = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[()][A-Z0-9]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\ufeff]")
QUOTE = re.compile(r"(?: {0,3}[>|])+ ?")
_QUOTE_WITHIN = re.compile(r"(?:[>|] ?)+(?=[ \t]*[^\s>|])")  # behind a time or a name
_CHANGED = re.compile(
    rf"[+-](?=\t|\[ *[0-9]+\.[0-9]|(?:{SEGMENT}:)?[0-9a-f]{{2}}:[01][0-9a-f]\.[0-7] [A-Z0-9])| (?=\t)"  # diff -u
)
_DATE = (  # `Jan  5`, `5. Januar`, `janv. 05`, `1月 05`: in any language
    r"(?:(?:[^\W\d_]{2,10}\.?|[0-9]{1,2}[月월]) {1,2}[0-9]{1,2}\.?|[0-9]{1,2}\.? {1,2}[^\W\d_]{2,10}\.?)"
)
_SYSLOG = re.compile(
    rf"(?:{_DATE} [0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}(?:\.[0-9]+)?"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(?!,)[0-9.:+-]*Z?"  # with a comma it is dmesg
    r"|(?:[^\W\d_]{2,4}\.? )?[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}(?:\.[0-9]+)? [A-Z]{2,5}"  # journalctl -o short-full
    r"|[0-9]{10}\.[0-9]{6})"  # -o short-unix
    r" ([A-Za-z0-9][A-Za-z0-9_.-]*) (?:kernel|xen|hypervisor|[A-Za-z_][\w.-]*(?:\[[0-9]+\])?): ?"
)
_MONOTONIC = re.compile(
    r"\[ *[0-9]+\.[0-9]{6}\] ([A-Za-z0-9][A-Za-z0-9_.-]*) kernel: ?"
)  # journalctl -o short-monotonic
_LISTED = rf"(?:\t|(?:{SEGMENT}:)?[0-9a-f]{{2}}:[01][0-9a-f]\.[0-7] [A-Z0-9]|$)"  # of lspci, or nothing
_STAMP = re.compile(
    rf"(?: {{0,6}}[0-9]{{1,7}}(?:\t| (?: *[|\u2502] )?)(?={_LISTED})|"  # the number of a line: cat -n, less -N, bat
    r"\[?[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?"
    r"(?: ?(?:Z|UTC|[+-][0-9]{2}:?[0-9]{2}))?\]?"
    r"(?: [0-9]{2}[OE](?=[ +]))?\+?"  # the stream, as GitLab names it
    # dmesg -T in any language, -H, --reltime; conserver
    r"|\[[^\]()]{0,30}[0-9]{2}:[0-9]{2}(?::[0-9]{2})?(?:[.,][0-9]{1,9})?(?: [A-Z]{3,4})?(?: [0-9]{4})?\]"
    r"|\[ *\+[0-9]+[.,][0-9]+\]"
    r"|(?:kern|user|daemon|syslog) *:[a-z]+ *:(?= )"  # dmesg -x
    r"| *MESSAGE=|[0-9]{10}\.[0-9]{6}|\[[0-9]{10}\.[0-9]{3,9}\]"  # journalctl -o verbose, export; loggers of consoles
    rf"|(?:[^\W\d_]{{2,4}}\.?,? )?{_DATE} [0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}(?:\.[0-9]{{1,6}})?(?: [0-9]{{4}})?"
    r"|\[?[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{2,6})?\]?(?=[ |>\]]))[:|>]? ?"  # 16:04:00.0 may be grep's of a device
)
_NAMED = re.compile(
    r"(?!(?:login|Password|console|XEN|xen|kernel|pci|lspci|libxl|xl):)"
    r"\[?([A-Za-z][A-Za-z0-9_.-]{0,62})\]?"
    rf"(?:[:|>] ?(?=\(XEN\)|\(d[0-9]+\)|\[ *[0-9]+\.)|(?:[:>]| {{0,12}}\|) (?={_LISTED}))"
)
_GUEST = re.compile(r"\(d[0-9]{1,5}\) ")
_XEN = re.compile(r"\(XEN\) ?(?:\[(?:[0-9]{4}-[0-9. :-]{10,24}| *[0-9]+\.[0-9]+|[0-9a-f]{16})\] ?)?")
_LINUX_WITHIN = re.compile(
    r".{0,100}?[][\s:>|\"'](?=\[ *[0-9]{1,9}\.[0-9]{6}\] )"
)  # behind what a logger puts before it
_MATTERS = re.compile(r"pciback|libxl|Capabilities|MSI|assign|map.irq")  # before another writer's in the same line
_MORE = re.compile(r"\(XEN\)|\(d[0-9]+\) |[0-9]{6}\] (?<=.{32})")  # of another writer, in a line that Xen began
_DROPPED = re.compile(r"\*\* [0-9]+ printk messages dropped \*\*")  # an old kernel goes on in the same line
_LINUX_BEHIND = re.compile(r"(?<=\S)\s*\[ *[0-9]{1,9}\.[0-9]{6}\] ")  # behind what Xen printed without a line end
_LINUX = re.compile(r"(?:<[0-9]{1,2}>)?\[ *[0-9]{1,9}\.[0-9]{3,9}\] ?(?:\[ *[CT][0-9]+\] ?)?")


def clean(raw: str, number: int) -> Iterator[PastedLine]:
    """The pieces of one line, mostly one: Xen may begin a message in the middle of another one."""
    if raw.startswith("(XEN) ") and raw.isprintable() and not _MORE.search(raw, 6):
        start = _XEN.match(raw) if raw.startswith("[", 6) else None
        yield PastedLine(number, Speaker.XEN, raw[start.end() if start else 6 :], "", raw.strip())
        return
    if LINE_WITHIN in raw:
        for within in raw.split(LINE_WITHIN):
            yield from clean(within, number)
        return
    text = _COLOUR.sub("", raw) if not raw.isprintable() else raw
    shown = text.strip()
    quote = QUOTE.match(text)
    text = text[quote.end() :] if quote else text
    changed = _CHANGED.match(text)
    text = text[changed.end() :] if changed else text
    host = ""
    kernel = False
    for _ in range(3):
        if logged := _SYSLOG.match(text) or _MONOTONIC.match(text):
            host, kernel = logged.group(1), "kernel:" in logged.group()
        elif named := _NAMED.match(text):
            logged, host = named, named.group(1)
        else:
            logged = _STAMP.match(text)
        if logged is None:
            break
        text = text[logged.end() :]
        if kernel and _LINUX.match(text):
            break
        if quoted := _QUOTE_WITHIN.match(text):
            text = text[quoted.end() :]
    if "(d" in text and (guest := _GUEST.search(text)):
        if text[: guest.start()].strip():
            yield from clean(raw[: raw.find(guest.group())], number)  # what stands before it is not the guest's
        yield PastedLine(number, Speaker.GUEST, text[guest.start() :], host, shown)
        return
    starts = list(_XEN.finditer(text)) if "(XEN)" in text else []
    if starts and _MATTERS.search(text, 0, starts[0].start()):
        yield from clean(text[: starts[0].start()], number)  # Xen wrote in the middle of what others say
    for place, start in enumerate(starts):
        end = starts[place + 1].start() if place + 1 < len(starts) else len(text)
        kernel_began = _LINUX_BEHIND.search(text, start.end(), end)
        stop = kernel_began.start() if kernel_began else end
        yield PastedLine(number, Speaker.XEN, text[start.end() : stop], host, shown)
        if kernel_began:
            yield PastedLine(number, Speaker.LINUX, text[kernel_began.end() : end], host, shown)
    if starts:
        return
    if "] " in text and (before := _LINUX_WITHIN.match(text)) and "pciback" not in before.group():
        if lost := _DROPPED.search(text, 0, before.end()):
            yield PastedLine(number, Speaker.LINUX, lost.group(), host, shown)
        if _MATTERS.search(before.group()):
            yield from clean(before.group(), number)
        text = text[before.end() :]
    stamp = _LINUX.match(text)
    if stamp or kernel:
        yield PastedLine(number, Speaker.LINUX, text[stamp.end() if stamp else 0 :], host, shown)
    else:
        yield PastedLine(number, Speaker.TEXT, text, host, shown)


class Unreadable(Exception):
    """Bytes that are no text. The message says what they are and what to do."""


_MAGIC = {
    b"\x1f\x8b": "compressed with gzip: unpack it first, as in  zcat FILE | maskall explain -",
    b"BZh": "compressed with bzip2: unpack it first, as in  bzcat FILE | maskall explain -",
    b"\xfd7zXZ": "compressed with xz: unpack it first, as in  xzcat FILE | maskall explain -",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it first, as in  zstdcat FILE | maskall explain -",
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"\x89PNG": "a picture: give the text itself",
    b"\xff\xd8\xff": "a picture: give the text itself",
    b"%PDF": "a PDF: give the text itself",
    b"\x7fELF": "a program, no log",
}
_CONTROLS = bytes(range(7)) + bytes(range(14, 27)) + bytes(range(28, 32))


def encoding(head: bytes) -> str:
    """How a file that begins with `head` is written. Refused when it is no text."""
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            raise Unreadable(what)
    for mark, name in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig")):
        if head.startswith(mark):
            return name
    even, odd = head[0:4096:2].count(0), head[1:4096:2].count(0)
    half = len(head[:4096]) // 2
    if half >= 8 and odd > half * 0.7 > even:
        return "utf-16-le"
    if half >= 8 and even > half * 0.7 > odd:
        return "utf-16-be"
    sample = head[:65536].replace(b"\0", b"")
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    foreign = len(sample) - len(sample.translate(None, bytes(range(128, 256))))
    undecodable = sample.decode("utf-8", "replace").count("\ufffd")
    if controls * 10 > len(sample) or undecodable * 5 > len(sample) > foreign >= 0 < undecodable:
        raise Unreadable("binary data, no text")
    return "utf-8"
