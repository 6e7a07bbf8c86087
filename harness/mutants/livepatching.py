"""A mutant by livepatch: what a host without a debugger can be given. Applied, verified, and taken away again.

`xen-livepatch` of Xen's tools does the work (xen-livepatch(1)). Every step is read back: the tool's list, and a second
payload by which Xen itself compares the bytes of its text with those of its file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from harness.base.deadline import Deadline
from harness.base.errors import LabError
from harness.mutants.change import Returns
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


@dataclass(frozen=True)
class Applied:
    """What stands in the place of which function; `expected` are the bytes that were there."""

    function: XenFunction
    expected: bytes
    code: bytes

    @property
    def replaced(self) -> Replaced:
        """As any mutant tells it: the function's first bytes, and the code that runs in their place."""
        skipped = Returns.entry(self.function.text)
        before = self.function.text[skipped : skipped + len(self.code)]
        return Replaced(CodePlace(self.function.symbol, skipped, self.function.entry), before, self.code)


@dataclass(frozen=True)
class Livepatches:
    """The livepatches of one host."""

    transport: Transport

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

    def assert_stock(self, wanted: Sequence[XenFunction], build: bytes) -> None:
        """Xen itself compares its running text of these functions with its file. LabError when a byte differs."""
        compared = [
            comparison(one.symbol, one.extent.start, len(one.extent), one.text[: EXPECTED_BYTES + 4]) for one in wanted
        ]
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

    def apply(self, changes: Sequence[Returns]) -> tuple[Applied, ...]:
        """Make these functions return, and see that Xen has done so. LabError, and nothing applied, when it cannot be.

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
        wanted = list(found.values())
        self.assert_stock(wanted, file.build_id)
        replacements = [_replacement(change, found[change.symbol]) for change in changes]
        self._upload(NAME, payload(file.build_id, replacements))
        try:
            self._apply(NAME)
        except BaseException:
            self.remove(NAME)
            raise
        return tuple(
            Applied(found[change.symbol], one.expected[: len(change.code)], change.code)
            for change, one in zip(changes, replacements, strict=True)
        )

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


def _replacement(change: Returns, found: XenFunction) -> Replacement:
    if len(found.extent) < room_needed(found.text):
        raise LabError(
            f"{change.symbol} has {len(found.extent)} bytes, and a livepatch needs {room_needed(found.text)}"
        )
    expected = found.text[: min(EXPECTED_BYTES, len(found.extent))]
    return Replacement(change.symbol, found.extent.start, len(found.extent), expected, change.code)


def _said(result: CommandResult) -> str:
    """The last line of what a tool printed, or its status."""
    lines = (result.stdout + result.stderr).decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"status {result.status}"
