"""A mutant by livepatch: what a host without a debugger can be given. Applied, verified, and taken away again.

`xen-livepatch` of Xen's tools does the work (xen-livepatch(1)). Every step is read back: the tool's list, and a second
payload by which Xen itself compares the bytes of its text with those of its file. A livepatch makes a function return,
or makes NOPs of some of its instructions: both are what a mutant of Xen's text asks for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from harness.base.deadline import Deadline
from harness.base.errors import LabError
from harness.host.deeds import Keep, forgotten
from harness.mutants.change import Returns, TextChange
from harness.mutants.code import CodePlace, Replaced
from harness.mutants.hypervisor import XenFunction, functions, running_file, symbols
from harness.mutants.livepatch import EXPECTED_BYTES, Replacement, comparison, payload, room_needed
from harness.transport.base import CommandResult, Script, Transport, quote

NAME = "maskall-control"
COMPARISON = "maskall-stock"
FOLDER = PurePosixPath("/run")  # gone with a reboot, as the livepatch is
_SECONDS = 60.0
_TRIES = 5  # Xen gives up after 30 ms when the processors do not come together; it is busy then, and nothing is wrong
_ROW = re.compile(r"(\S+)\s*\|\s*([A-Z]+)\s*\|")

_UPLOAD = """\
umask 077
cat >{file} && xen-livepatch upload {name} {file}; status=$?
rm -f {file}
exit $status
"""


NOP = 0x90


@dataclass(frozen=True)
class Applied:
    """What was given to Xen, and the same as any mutant tells it: what stood there, and the code that runs instead."""

    replacement: Replacement
    replaced: Replaced


@dataclass(frozen=True)
class Livepatches:
    """The livepatches of one host. `keep` stores what goes there and what comes back."""

    transport: Transport
    keep: Keep = forgotten

    def there(self) -> dict[str, str]:
        """By name, CHECKED or APPLIED. LabError when this Xen knows no livepatches."""
        result = self._run(["xen-livepatch", "list"])
        if not result.ok:
            raise LabError(
                f"xen-livepatch list: {_said(result)}",
                hint="Xen needs CONFIG_LIVEPATCH, and dom0 xen-livepatch of its tools",
            )
        rows = (_ROW.match(line) for line in result.text.splitlines())
        return {row[1]: row[2] for row in rows if row}

    def assert_stock(self, wanted: Sequence[Replacement], build: bytes) -> None:
        """Xen itself compares its running text at these places with its file's. LabError when a byte differs."""
        compared = [comparison(one.symbol, one.address, one.size, one.expected) for one in wanted]
        self._upload(COMPARISON, payload(build, compared))
        try:
            self._apply(COMPARISON)
        except LabError as error:
            names = ", ".join(one.symbol for one in wanted)
            raise LabError(
                f"the running text of {names} is not that of its file: {error}",
                hint="somebody patched this hypervisor; a reboot makes it stock again",
            ) from error
        finally:
            self.remove(COMPARISON)

    def apply(self, changes: Sequence[Returns | TextChange]) -> tuple[Applied, ...]:
        """Make these changes, and see that Xen has done so. LabError, and nothing applied, when it cannot be.

        The caller has journaled it: `remove(NAME)` undoes it, and so does a reboot.
        """
        there = self.there()
        if there:
            raise LabError(
                f"livepatches are there already: {', '.join(there)}",
                hint="a control needs a hypervisor that nobody else patches",
            )
        file = running_file(self.transport)
        found = functions(changes, symbols(self.transport), self.transport)
        made = tuple(applied(change, found[change.symbol]) for change in changes)
        replacements = [one.replacement for one in made]
        self.assert_stock(replacements, file.build_id)
        self._upload(NAME, payload(file.build_id, replacements))
        try:
            self._apply(NAME)
        except BaseException:
            self.remove(NAME)
            raise
        return made

    def remove(self, name: str) -> None:
        """Revert and unload it; nothing happens when it is not there. LabError when it stays."""
        state = self.there().get(name)
        if state == "APPLIED":
            self._until_done("revert", name)
        if state is not None:
            self._run(["xen-livepatch", "unload", name], changes=True)
        if (state := self.there().get(name)) is not None:
            raise LabError(f"livepatch {name} is still {state}", hint="a reboot of the host takes it away")

    def _upload(self, name: str, data: bytes) -> None:
        file = FOLDER / f"{name}.livepatch"
        self.keep(file.name, data)
        script = Script(_UPLOAD.format(name=quote([name]), file=quote([str(file)])))
        result = self.transport.run(script, deadline=Deadline.after(_SECONDS), changes=True, stdin=data)
        if not result.ok or self.there().get(name) != "CHECKED":
            raise LabError(f"xen-livepatch upload {name}: {_said(result)}", hint="xl dmesg says why Xen refused it")

    def _apply(self, name: str) -> None:
        self._until_done("apply", name)
        if (state := self.there().get(name)) != "APPLIED":
            raise LabError(f"livepatch {name} is {state or 'gone'} after apply", hint="xl dmesg says why")

    def _until_done(self, action: str, name: str) -> None:
        wanted = {"apply": "APPLIED", "revert": "CHECKED"}[action]
        result = None
        for _ in range(_TRIES):
            result = self._run(["xen-livepatch", action, name], changes=True)
            if result.ok or self.there().get(name) == wanted:
                return
            if "busy" not in _said(result).lower() and "again" not in _said(result).lower():
                break
        raise LabError(f"xen-livepatch {action} {name}: {_said(result) if result else ''}", hint="xl dmesg says why")

    def _run(self, command: Sequence[str], *, changes: bool = False) -> CommandResult:
        return self.transport.run(list(command), deadline=Deadline.after(_SECONDS), changes=changes)


def applied(change: Returns | TextChange, found: XenFunction) -> Applied:
    """How a livepatch makes this change. LabError when none can: no room, not there once, or no NOPs."""
    if isinstance(change, Returns):
        return _returning(change, found)
    places = change.offsets_in(found.text)
    if len(places) != 1:
        raise LabError(
            f"{' '.join(change.find)} stands {len(places)} times in {change.symbol}",
            hint="it must stand there exactly once; give matching bytes with --mutants FILE",
        )
    before = found.text[places[0] : places[0] + change.length]
    after = change.applied_to(before)
    changed = [at for at in range(len(before)) if before[at] != after[at]]
    first, end = changed[0], changed[-1] + 1
    if set(after[first:end]) != {NOP} or end - first > EXPECTED_BYTES:
        raise LabError(
            f"{change.symbol}: {before.hex(' ')} cannot become {after.hex(' ')} by livepatch",
            hint="a livepatch makes a function return, or instructions NOPs",
        )
    start, nops = found.extent.start + places[0], end - first
    replacement = Replacement(change.symbol, start + first, nops, before[first:end], nops=nops)
    return Applied(replacement, Replaced(CodePlace(change.symbol, places[0], start), before, after))


def _returning(change: Returns, found: XenFunction) -> Applied:
    size, skipped = len(found.extent), Returns.entry(found.text)
    if size < room_needed(found.text):
        raise LabError(f"{change.symbol} has {size} bytes, and a livepatch needs {room_needed(found.text)}")
    replacement = Replacement(
        change.symbol, found.extent.start, size, found.text[: min(EXPECTED_BYTES, size)], change.code
    )
    before = found.text[skipped : skipped + len(change.code)]
    return Applied(replacement, Replaced(CodePlace(change.symbol, skipped, found.entry), before, change.code))


def _said(result: CommandResult) -> str:
    """The last line of what a tool printed, or its status."""
    lines = (result.stdout + result.stderr).decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"status {result.status}"
