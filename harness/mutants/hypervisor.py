"""The running hypervisor, and the file it was booted from: where a function is, and whether it can be changed.

The file is the one in dom0's /boot that has the running build-id. It is read once for each build.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.base.deadline import Deadline
from harness.base.errors import LabError
from harness.mutants.change import Returns, TextChange
from harness.mutants.hypervisor_file import HypervisorFile
from harness.mutants.imagesymbols import symbols_in
from harness.transport.base import Script, Transport
from harness.xen.keys.xl_output import parse_info
from harness.xen.trace.symbols import SymbolTable, parse_xensyms

_SECONDS = 60.0
_FIND = """\
for file in /boot/*xen*; do
  case $file in *.efi|*-syms*|*.config) continue ;; esac
  [ -f "$file" ] || continue
  if zcat -f -- "$file" 2>/dev/null | LC_ALL=C grep -aqP '{pattern}'; then printf '%s' "$file"; exit; fi
done
"""


def symbols(transport: Transport) -> SymbolTable:
    """Xen's own symbols as dom0 shows them (CONFIG_KALLSYMS, /proc/xen/xensyms)."""
    text = transport.run(["cat", "/proc/xen/xensyms"], deadline=Deadline.after(_SECONDS)).check().text
    return parse_xensyms(text, file="xensyms")


def build_id(transport: Transport) -> bytes:
    """The running hypervisor's. LabError when `xl info` names none."""
    text = transport.run(["xl", "info"], deadline=Deadline.after(_SECONDS)).check().text
    said = parse_info(text, file="xl info").build_id
    if not re.fullmatch(r"([0-9a-f]{2}){8,32}", said):
        raise LabError("xl info names no build_id", hint="Xen since 4.7 has one when the linker knows --build-id")
    return bytes.fromhex(said)


_files: dict[bytes, HypervisorFile] = {}
_reading = threading.Lock()


def running_file(transport: Transport) -> HypervisorFile:
    """The file of the running hypervisor. LabError when no file in /boot has its build-id."""
    wanted = build_id(transport)
    with _reading:
        if wanted not in _files:
            _files[wanted] = _read(transport, wanted)
        return _files[wanted]


def remember(file: HypervisorFile) -> None:
    """A file that a host may run though it is not in its /boot."""
    with _reading:
        _files[file.build_id] = file


def _read(transport: Transport, wanted: bytes) -> HypervisorFile:
    pattern = "".join(f"\\x{byte:02x}" for byte in wanted)
    script = Script(_FIND.format(pattern=pattern))
    path = transport.run(script, deadline=Deadline.after(_SECONDS)).check().text
    if not path.startswith("/boot/"):
        raise LabError(
            f"no file in /boot has the running hypervisor's build-id {wanted.hex()}",
            hint="was Xen upgraded without a reboot, or booted from elsewhere?",
        )
    data = transport.run(["cat", path], deadline=Deadline.after(_SECONDS)).check().stdout
    found = HypervisorFile.parse(data, path)
    if found.build_id != wanted:
        raise LabError(f"{path} has build-id {found.build_id.hex()}, and {wanted.hex()} is running")
    return found


@dataclass(frozen=True)
class XenFunction:
    """A function of the running hypervisor that can be changed: it stands there once, and somebody calls it."""

    symbol: str
    extent: range
    text: bytes  # as the file has it

    @property
    def entry(self) -> int:
        """Address of the first byte that may be overwritten."""
        return self.extent.start + Returns.entry(self.text)


def function(change: Returns | TextChange, table: SymbolTable, file: HypervisorFile) -> XenFunction:
    """Where it stands. LabError, which says why, when it cannot be changed: gone, inlined or too short to return."""
    extent = table.extent_of(change.symbol)
    text = file.read(extent.start, len(extent))
    if len(text) < len(extent):
        raise LabError(f"{change.symbol} at {extent.start:#x} is not in the hypervisor's file")
    room = len(extent) - Returns.entry(text)
    if isinstance(change, Returns) and room < len(change.code):
        raise LabError(f"{change.symbol} has room for {room} bytes and `{change}` takes {len(change.code)}")
    if not file.callers(extent, table.text_range) and not file.pointers(extent.start):
        raise LabError(
            f"nobody calls {change.symbol}: it is inlined in this build",
            hint="give bytes that match this build with --mutants FILE",
        )
    return XenFunction(change.symbol, extent, text)


def fit(changes: Iterable[TextChange | Returns], file: HypervisorFile) -> None:
    """LabError for the first of these that could not be made once this file runs; nothing where it has no symbols."""
    table = symbols_in(file)
    if table is None:
        return
    for change in changes:
        if isinstance(change, Returns):
            function(change, table, file)
            continue
        extent = table.extent_of(change.symbol)
        if (found := len(change.offsets_in(file.read(extent.start, len(extent))))) != 1:
            raise LabError(
                f"{' '.join(change.find)} stands {found} times in {change.symbol}, and must stand there once"
            )


def functions(
    changes: Sequence[Returns | TextChange], table: SymbolTable, transport: Transport
) -> dict[str, XenFunction]:
    """By symbol. The file is only read when there is a change."""
    read = functools.partial(running_file, transport)
    return {one.symbol: function(one, table, read()) for one in changes}
