"""Text that came from a device, a guest or a host, made harmless before a person or a parser meets it. Pure.

A guest decides what its console prints and a device what its name is. Escape sequences, carriage returns and
direction overrides in there could repaint a verdict on the terminal, or make the XML of a report unreadable.
Nothing is dropped: what cannot be shown as it is becomes its escape, so a reader still sees that it was there.
"""

from __future__ import annotations

import unicodedata

# Cc: control characters; Cf: invisible ones, direction overrides among them; Cs: lone surrogates, which stand
# for undecodable bytes; Co, Cn: no agreed picture (Cn holds U+FFFE and U+FFFF, illegal in XML); Zl, Zp: line breaks.
_UNSHOWABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def _escape(character: str) -> str:
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def inert(text: str) -> str:
    """`text` on one line: every character a terminal or XML could act on is written as its escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(c) if unicodedata.category(c) in _UNSHOWABLE else c for c in text)


def whole(text: str) -> int | None:
    """The number from 0 on that a program printed, in ASCII and of 18 digits at most; None for anything else: int()
    fails on some of what str.isdigit lets pass, and on thousands of digits."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None


def storable(text: str) -> str:
    """`text` with lone surrogates escaped, the one thing JSON in UTF-8 cannot hold; all else is kept exactly."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
