"""What a ring of messages has gained since it was read last. Pure.

`xl dmesg` and `dmesg` print rings: once they are full the oldest lines make room for new ones, so neither a number of
bytes nor one of lines says where to read on. Both are read whole each time and held against what was read before; what
is gone from the ring by then may stand on the host's own console, which somebody recorded.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from harness.xen.keys.messages import Log

_PROBE = 64  # bytes at the beginning of a reading that are looked for in the last one

_MARKS = {
    # what Xen prints for debug key t (read_clocks, time.c): it counts its samples, so no two lines are alike
    Log.XEN: re.compile(rb"Synced stime skew: max=[0-9]+ns avg=[0-9]+ns samples=[0-9]+ current=-?[0-9]+ns"),
    # a line of the kernel's log with its time in microseconds
    Log.DOM0: re.compile(rb"^(?:<[0-9]+>)?\[ *[0-9]+\.[0-9]{6}\](?:\[ *[CT][0-9]+\])? .{8,}$", re.MULTILINE),
}
BEGINS = {Log.XEN: re.compile(rb"Xen version [0-9]"), Log.DOM0: re.compile(rb"Linux version [0-9]")}
"""What each says at the beginning of a boot."""
COMMANDS: dict[Log, list[str]] = {Log.XEN: ["xl", "dmesg"], Log.DOM0: ["dmesg"]}
_NONE_LEFT = "no line of the last reading that is alone of its kind is left in it"
_OPTIONS = {Log.XEN: "conring_size", Log.DOM0: "log_buf_len"}
_OF_KERNEL = re.compile(rb"\[ *[0-9]+\.[0-9]{6}\](?:\[ *[CT][0-9]+\])? |\*\* [0-9]+ printk messages dropped \*\*")
_OF_XEN = re.compile(
    rb"\(XEN\) [^\n]*\(XEN\) [^\n]*\n(?![(\[])[^\n]*\n"  # torn by another message, and its rest (see console.py)
    rb"|\((?:XEN|d[0-9]{1,5})\) [^\n]*(?:\n|\Z)"
)
_TORN = re.compile(rb"\((?:XEN|d[0-9]{1,5})\) [^\n]*\[ *[0-9]+\.[0-9]{6}\] (?!\(XEN\))")


def marks(log: Log, text: bytes) -> list[re.Match[bytes]]:
    """The lines that can stand in a log only once."""
    return list(_MARKS[log].finditer(text))


@dataclass(frozen=True)
class Gain:
    """What is new; `lost` tells that lines between the last reading and this one may be missing, and why."""

    data: bytes
    lost: str = ""


def gained(log: Log, before: bytes | None, now: bytes) -> Gain:
    """`before` is the last reading, or all readings in one; None: there is none, or the ring began anew since.

    Where nothing has dropped out of the ring, `now` begins with all of `before`. Else the end of `before` must be the
    beginning of `now`, and in it the last line of `before` that can stand in a log only once: dumps of debug keys are
    alike, and a ring that has turned by whole dumps looks as if it had not turned.
    """
    if before is None or now.startswith(before):
        return Gain(now[len(before or b"") :])
    overlap = _overlap(before, now)
    alone = marks(log, before)
    known = alone and alone[-1].group() in overlap
    return Gain(now[len(overlap) :], "" if known else f"it has turned over since it was read last: {_NONE_LEFT}")


def _overlap(before: bytes, now: bytes) -> bytes:
    """The longest end of `before` that `now` begins with."""
    if len(now) < _PROBE:
        return b""
    ends = (before[place:] for place in _places(now[:_PROBE], before))
    return next((end for end in ends if now.startswith(end)), b"")


def _places(word: bytes, text: bytes) -> Iterator[int]:
    place = text.find(word)
    while place >= 0:
        yield place
        place = text.find(word, place + 1)


@dataclass(frozen=True)
class Recorded:
    """A stretch of the host's console that a ring has lost: as it was recorded, and the gain with it put in."""

    raw: bytes
    data: bytes
    lines: int  # of `data` that the console alone has


def recorded(
    log: Log, before: bytes | None, now: bytes, console: bytes, breaks: Collection[int] = ()
) -> Recorded | None:
    """The gain, with what the ring has lost taken from the host's console; None where that does not show it whole.

    Both ends are anchored: the last line of `before` that can stand in a log only once, and the first such line of
    `now`; what the rings hold behind the one and before the other must stand on the console too. Without `before` it
    begins with the last such line that only the console has. `breaks` are offsets in `console` where the recording was
    interrupted. Whoever calls knows that the console loses nothing.
    """
    stream = _Stream.of(log, console)
    first = next((one for one in marks(log, now) if before is None or one.group() not in before), None)
    if first is None or first.group() not in stream.text:
        return None
    end = stream.text.rindex(first.group())
    alone = marks(log, stream.text[:end] if before is None else before)
    if not alone:
        return None
    if before is None:
        begin = stream.text[: alone[-1].start()].rfind(b"\n") + 1
        since = stream.raw(begin)
    else:
        _, known, behind = stream.text[:end].rpartition(before[alone[-1].start() :])
        if not known:
            return None
        begin = end - len(behind)
        since = stream.raw(begin - 1)  # the last line that is known: what is not whole may follow it at once
    seen = stream.text[begin:end]
    held = now[: first.start()].partition(b"\n")[2]  # the first line of a ring may be cut
    raw_begin, raw_end = stream.raw(begin), stream.raw(end)
    agree = seen.endswith(held) or held.endswith(seen)
    torn = log is Log.DOM0 and _TORN.search(console, since, raw_end)
    if not agree or torn or any(since <= at <= raw_end for at in breaks):
        return None
    lines = max(seen.count(b"\n") - held.count(b"\n"), 0)
    return Recorded(console[raw_begin:raw_end], seen + now[first.start() :], lines)


@dataclass(frozen=True)
class _Stream:
    """The lines of a console that belong to a log, and where each begins there.

    Xen writes whole lines, its own and its guests', also into the middle of a line of dom0's. What is left without them
    are lines of the kernel, which have their time in front, and those of programs. Only the rows of a dump
    are written piece by piece, and dom0 may write into them: such a row is refused by its parser.
    """

    text: bytes
    lines: tuple[tuple[int, int], ...]  # offsets in the text and on the console

    @classmethod
    def of(cls, log: Log, console: bytes) -> _Stream:
        found = list(_OF_XEN.finditer(console))
        if log is Log.XEN:
            lines = [(one.start(), one.group()) for one in found]
        else:
            lines = list(_dom0_lines(console, [one.span() for one in found]))
        text, places = bytearray(), []
        for at, line in lines:
            places.append((len(text), at))
            text += line.replace(b"\r", b"")
        return cls(bytes(text), tuple(places))

    def raw(self, offset: int) -> int:
        """Where the line begins on the console that has this byte of the text; its end for what is behind the text."""
        return next((at for start, at in reversed(self.lines) if start <= offset), 0)


def _dom0_lines(console: bytes, of_xen: Sequence[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    begun: tuple[int, bytes] | None = None
    place = 0
    for start, end in (*of_xen, (len(console), len(console))):
        while place < start:
            stop = console.find(b"\n", place, start) + 1 or start
            begin, line = begun or (place, b"")
            line += console[place:stop]
            begun = None if line.endswith(b"\n") else (begin, line)
            if begun is None and _OF_KERNEL.match(line):
                yield begin, line
            place = stop
        place = end


def last_dump(ring: bytes) -> bytes:
    """What stands between its last two marks, or all of it where there are none. Who pressed t just before and behind
    knows that it is his.
    """
    found = marks(Log.XEN, ring)[-2:]
    if len(found) < 2:
        return ring
    first, last = (one.start() for one in found)
    whole = ring[ring.find(b"\n", first) + 1 : last]
    return whole[: whole.rfind(b"\n") + 1]


def advice(log: Log, now: bytes, gain: bytes) -> str:
    """The size to boot with, for a ring that holds `now` and has got at least `gain` between two readings.

    Four times the most of them, 1 MiB at least.
    """
    wanted = 1 << 20
    while wanted < 4 * max(len(now), len(gain)):
        wanted *= 2
    return f"it holds {-(-len(now) // 1024)} KiB; boot with {_OPTIONS[log]}={wanted >> 20}M"
