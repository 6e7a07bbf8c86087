"""Config space as lspci -xxx, xxd, hexdump and od show it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.base.errors import ParseError
from harness.model.config import MAX_BYTES, ConfigSpace

_BYTES = r"(?:[0-9a-f]{2} ){7}[0-9a-f]{2} {1,2}(?:[0-9a-f]{2} ){7}[0-9a-f]{2}"
_WORDS = r"(?:[0-9a-f]{4} ){7}[0-9a-f]{4}"
ROW = re.compile(
    rf"^[> |]*([0-9a-f]{{2,8}}: {{0,2}}|[0-9a-f]{{6,8}} {{1,2}})?({_BYTES}|{_WORDS})(?: {{2}}.{{1,18}})? *$",
    re.MULTILINE,
)
"""16 bytes, with their offset in front or not, and with their signs behind or not."""
_THE_SAME = re.compile(r"\n[> |]*\* *\n")  # hexdump and od: rows as the last one


def row_bytes(row: re.Match[str]) -> bytes:
    """hexdump and od -x show words of a little-endian machine; xxd, which has a colon, shows bytes two by two."""
    data = bytes.fromhex(row[2].replace(" ", ""))
    if row[2][4] == " " and row[2][2] != " " and ":" not in (row[1] or ""):
        return bytes(data[place ^ 1] for place in range(16))
    return data


def spaces(text: str) -> Iterator[tuple[int, bytes]]:
    """Each run of rows that begins at offset 0: where in the text, and its bytes."""
    begin, data, last, base = 0, b"", b"", 16
    end = -1
    for row in ROW.finditer(text):
        offset = row[1].strip(": ") if row[1] else ""
        between = text[end : row.start()] if end >= 0 else ""
        goes_on = bool(data) and bool(offset.strip("0") or not row[1])
        if goes_on and between == "\n":
            if len(data) == 16 and offset:
                base = next((one for one in (16, 8, 10) if _number(offset, one) == 16), 16)
        elif goes_on and offset and _THE_SAME.fullmatch(between) and 0 < _number(offset, base) - len(data) < MAX_BYTES:
            data += last * ((_number(offset, base) - len(data)) // 16)
        else:
            if data:
                yield begin, data
            begin, data = row.start(), b""
        last = row_bytes(row)
        if data or not offset.strip("0"):
            data, end = data + last, row.end()
    if data:
        yield begin, data


def _number(text: str, base: int) -> int:
    try:
        return int(text, base)
    except ValueError:
        return -1


def config_space(data: bytes) -> ConfigSpace | None:
    """None if it is no config space, or too little of one to tell whether it has MSI-X."""
    try:
        space = ConfigSpace(data[:MAX_BYTES])
        _ = space.gone or space.msix
    except ParseError:
        return None
    return space
