"""What mail programs, trackers and loggers have made of a text, taken back, line by line. Pure."""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass

LONGEST_LINE = 64 << 10
LINE_WITHIN = "\x1e"  # between the lines that one line of the file holds
_TYPOGRAPHY = (
    dict.fromkeys("\u2018\u2019", "'")
    | dict.fromkeys("\u201c\u201d", '"')
    | dict.fromkeys("\u2010\u2011\u2013\u2212", "-")
    | dict.fromkeys("\u00a0\u2002\u2003\u2004\u2005\u2007\u2009\u200a\u202f", " ")
    | dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060", "")
)
_SHOWN = {  # what cannot be seen, told in signs: by rsyslog, cat -A, editors
    "#011": "\t",
    "^I": "\t",
    "#015\n": "\n",
    "^M\n": "\n",
    "^M$\n": "\n",
    "$\n": "\n",
}
_ENTITY = re.compile(r"&(?:amp;)?(#[0-9]{1,6}|#[xX][0-9a-fA-F]{1,5}|[A-Za-z]{2,12}[0-9]{0,2});")
_ESCAPED = re.compile(r"\\u00(22|26|27|3[cCeE])")  # JSON
_TAG = re.compile(
    r"</?(?:br|pre|code|p|div|span|tt|b|i|font|li|td|tr|blockquote|table|tbody|th|em|strong)(?: [^<>\n]*)? ?/?>"
)
_CELL = re.compile(r"</t[dh]>(?=<t[dh])")  # beside another one in the same row
_COLOURED = ("[0m", "[K")  # one of them ends what is coloured
_COLOUR = re.compile(  # where the escape is told in signs, as rsyslog and less do, or was dropped, as XML must
    r"(?:\x1b|\^\[|#033|\\033|\\x1[bB]|\\e|\\u001[bB]|\u241b)\[[0-9;]*[A-Za-z]|\[[0-9]{1,3}(?:;[0-9]{1,3})*m(?:\[K)?|\[m\[K"
)
_QUOTED_ENDS = ('",\n', '"\n', "',\n")
# a line that is a string in a list, and one that is an object of JSON, as the logs of containers are and journalctl's
_QUOTED = re.compile(r"""\n[ \t]*(["'])((?:(?!\1)[^\\\n]|\\.)*)\1,?(?=\n|$)""")
_OBJECT = re.compile(r'(?<=\n)\{"[^\n]*\}(?=\n|$)')
_SAID = ("MESSAGE", "message", "msg", "log", "body", "text")
_IN_QUOTES = re.compile(r"""\\([t"'\\])""")
_MARKDOWN = re.compile(r"\\(?=[][_*#<>(){}=+|!~.`-]|$)", re.MULTILINE)
_OCTET = re.compile(r"=([2-7][0-9A-F])")
_SOFT = re.compile(r"^(?:[^\n]*=\n)+[^\n]*", re.MULTILINE)


@dataclass
class Unescaped:
    """Takes a text in pieces of any size and gives it back in whole lines, as many as there were."""

    _rest: str = ""
    _printable: bool = False  # quoted-printable was seen

    def take(self, more: str, *, last: bool) -> str:
        text = self._rest + more.replace("\0", "").replace(LINE_WITHIN, "")  # a power cut leaves zeros in a log
        end = len(text) if last else self._whole(text)
        text, self._rest = text[:end], text[end:]
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        return plain(self._octets(text))

    def _whole(self, text: str) -> int:
        """Where the last whole line ends. The next line may belong to one with a soft end."""
        end = max(text.rfind("\n"), text.rfind("\r", 0, len(text) - 1)) + 1
        while text.endswith(("=\n", "=\r\n"), 0, end):
            end = text.rfind("\n", 0, end - 1) + 1
        return len(text) if len(text) - end > LONGEST_LINE else end

    def _octets(self, text: str) -> str:
        """Without quoted-printable, from the first line on that shows it: `=3D`, which no message has in it."""
        begin = 0
        if not self._printable:
            shown = text.find("=3D")
            if shown < 0:
                return text
            self._printable = True
            begin = text.rfind("\n", 0, shown) + 1
        told = _SOFT.sub(_hard, text[begin:])
        return text[:begin] + _OCTET.sub(lambda found: chr(int(found[1], 16)), told)


def _hard(soft: re.Match[str]) -> str:
    """One line of several, with as many line ends as before."""
    return soft[0].replace("=\n", "") + "\n" * soft[0].count("=\n")


def plain(text: str) -> str:
    """What a forum or a word processor has made of signs, taken back; as many lines as before."""
    if "&" in text:
        text = _ENTITY.sub(_sign, text)
        text = _TAG.sub("", _CELL.sub(" ", text))
    elif "<br" in text or "</" in text:
        text = _TAG.sub("", _CELL.sub(" ", text))
    if '"}\n' in text or '}\n{"' in text:
        text = _OBJECT.sub(_message, f"\n{text}")[1:]
    if "\\u00" in text:
        text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
    if any(mark in text for mark in _COLOURED):
        text = _COLOUR.sub("", text)
    for shown, meant in _SHOWN.items():
        if shown in text:
            text = text.replace(shown, meant)
    if any(end in text for end in _QUOTED_ENDS):
        text = _QUOTED.sub(lambda found: f"\n{_IN_QUOTES.sub(_unquoted, found[2])}", f"\n{text}")[1:]
    if "\\" in text:
        text = _MARKDOWN.sub("", text)
    if not text.isascii():
        for sign, meant in _TYPOGRAPHY.items():
            if sign in text:
                text = text.replace(sign, meant)
    return text


def _message(found: re.Match[str]) -> str:
    """What an object says, its lines in one; the object as it stands where that is not known."""
    try:
        told = json.loads(found[0])
    except (ValueError, RecursionError):
        return found[0]
    said = [told[name] for name in _SAID if isinstance(told.get(name), str)]
    lines = LINE_WITHIN.join(line.rstrip("\r") for text in said for line in text.rstrip("\r\n").split("\n"))
    return lines.replace("\r", "").encode(errors="replace").decode() or found[0]  # of a sign there may be half


def _unquoted(found: re.Match[str]) -> str:
    return "\t" if found[1] == "t" else found[1]


def _sign(found: re.Match[str]) -> str:
    sign = html.unescape(f"&{found[1]};")
    return found[0] if sign in "\n\r" else sign
