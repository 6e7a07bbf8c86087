"""The program that emulates a guest's devices: a changed copy lies over the installed one. It has no symbols."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from harness.base.deadline import Deadline
from harness.base.errors import HarnessBug, LabError
from harness.mutants.change import ByteChange, Returns
from harness.mutants.code import CodePlace
from harness.transport.base import Script, Transport, quote

PROGRAMS = ("/usr/libexec/xen-qemu-system-i386", "/usr/bin/qemu-system-i386")  # where libxl of Debian looks
COPY = "/var/tmp/maskall-device-model"  # noqa: S108 - on the host under test; /run is mounted noexec
_SECONDS = 120.0

_FIND = r"""
local $/; open my $file, "<:raw", $ARGV[0] or die "$ARGV[0]: $!\n"; my $data = <$file>;
while ($data =~ /$ARGV[1]/g) { print "$-[0]\n"; pos($data) = $-[0] + 1 }
"""

_WRITE = """\
set -e
if ! [ -e {copy} ]; then cp {program} {copy}.new; mv {copy}.new {copy}; mount --bind {copy} {program}; fi
dd of={copy} bs=1 seek={address} conv=notrunc status=none
"""


@dataclass(frozen=True)
class ProgramFile:
    """The device model's file in dom0."""

    transport: Transport
    path: str

    def name_of(self, change: ByteChange | Returns) -> str:
        del change
        return self.path

    def find(self, change: ByteChange | Returns) -> list[CodePlace]:
        if isinstance(change, Returns):
            raise HarnessBug(f"a program has no symbols: {change}")
        command = ["perl", "-e", _FIND, self.path, change.regex.decode("ascii")]
        found = self.transport.run(command, deadline=Deadline.after(_SECONDS)).check().text.split()
        return [CodePlace(self.path, int(offset), int(offset)) for offset in found]

    def read(self, address: int, length: int) -> bytes:
        command = ["dd", f"if={self.path}", "bs=1", f"skip={address}", f"count={length}", "status=none"]
        return self.transport.run(command, deadline=Deadline.after(_SECONDS)).check().stdout

    def write(self, address: int, data: bytes) -> None:
        script = Script(_WRITE.format(copy=COPY, program=quote([self.path]), address=address))
        self.transport.run(script, deadline=Deadline.after(_SECONDS), changes=True, stdin=data).check()


@contextlib.contextmanager
def open_device_model(transport: Transport) -> Iterator[ProgramFile]:
    """The installed one, or the copy that lies over it. LabError when there is none."""
    for path in PROGRAMS:
        if transport.run(["test", "-x", path], deadline=Deadline.after(_SECONDS)).ok:
            yield ProgramFile(transport, path)
            return
    raise LabError("the host has no device model", hint=f"looked for {' and '.join(PROGRAMS)}")
