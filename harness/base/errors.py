"""Every error the harness raises, named by who must act on it.

Product misbehaviour is never an exception: it is an observation that the judge turns into a verdict.
"""

from __future__ import annotations

import enum
from typing import ClassVar


class ExitStatus(enum.IntEnum):
    """What the `maskall` command tells its caller."""

    OK = 0  # all as expected
    FAILED = 1  # FAIL, CRASH, REGRESSION or BLIND
    USAGE = 2  # wrong option, name, file or inventory; nothing was changed
    UNDECIDED = 3  # ERROR or UNDECIDED: the lab or the harness, not the product
    NOTHING_RAN = 5  # the number pytest uses for the same thing


class MaskallError(Exception):
    """Base of all. `message` says what and where in one line, `hint` what to do about it."""

    exit_status: ClassVar[ExitStatus] = ExitStatus.UNDECIDED

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(MaskallError):
    """The caller asked for something that does not exist or cannot be."""

    exit_status = ExitStatus.USAGE


class InventoryError(UsageError):
    """A YAML file of ours or of the user's is wrong at one place."""

    def __init__(self, message: str, *, file: str, line: int = 0, column: int = 0, hint: str = "") -> None:
        place = ":".join([file, *(str(number) for number in (line, column) if number)])
        super().__init__(f"{place}: {message}", hint=hint)
        self.file = file
        self.line = line
        self.column = column


class SafetyRefusal(UsageError):
    """The change asked for could hurt the machine or its users; nothing was done."""


class LabError(MaskallError):
    """The lab (a host, its power, its network, the emulator) did not do its part."""


class Unreachable(enum.Enum):
    """Why there is no connection. SILENT alone says something of the host: power is for no other."""

    SILENT = "nothing at its address answers"
    REFUSED = "it refuses the login"
    SPEAKS = "something at its address answers, and no connection comes of it"
    NAME = "its name does not resolve"
    OURS = "this controller cannot reach out"
    LOST = "the link broke"


class HostUnreachable(LabError):
    """No connection to the host could be made, or the one we had is gone."""

    def __init__(self, message: str, *, hint: str = "", why: Unreachable = Unreachable.LOST) -> None:
        super().__init__(message, hint=hint)
        self.why = why


class HostHung(LabError):
    """The host is connected but a command did not end before its deadline."""


class HostKeyMismatch(LabError):
    """The host presented another key than the pinned one: perhaps another machine."""


class PowerFailed(LabError):
    """The host could not be switched on, off or over."""


class LockHeld(LabError):
    """Somebody else uses this resource now."""


class OutcomeUnknown(LabError):
    """The link broke during a command that changes state: it ran, or it did not. Ask the host, never resend."""


class RestoreFailed(LabError):
    """A change could not be undone, or its undoing could not be verified."""


class HostQuarantined(LabError):
    """An earlier run could not restore this host; it is not used before `maskall restore` succeeds."""


class JournalDamaged(LabError):
    """The record of what was done to a host cannot be trusted; somebody has to look."""


class AnotherMachine(JournalDamaged):
    """The record is of another machine than the one that answers; nothing in it is replayed."""


class NotRecorded(LabError):
    """A line could not be written into a journal. What it announces is not made, unless it goes back."""


class DeviceTaken(LabError):
    """Somebody else has the device by now: it is not taken back from them."""


class CommandFailed(LabError):
    """A command of the harness's own preparations ended with an error; not a product observation."""


class EmulatorFault(LabError):
    """The machine emulator itself misbehaved, shown by evidence; worth a bounded retry."""


class NotAvailable(LabError):
    """The host cannot do this at all; a test that wants it is skipped there."""


class GuestDied(LabError):
    """A guest never reached its userland, before anything was done to it or its device; worth a bounded retry."""


class EvidenceError(MaskallError):
    """Evidence could not be stored, or what was stored is incomplete."""


class ParseError(MaskallError):
    """Text was not in the accepted format. Never a silent None."""

    def __init__(self, message: str, *, file: str = "<text>", line: int = 0, expected: str = "") -> None:
        place = f"{file}:{line}" if line else file
        wanted = f"; expected {expected}" if expected else ""
        super().__init__(f"{place}: {message}{wanted}", hint="please report this with the raw file")
        self.file = file
        self.line = line
        self.expected = expected


class HarnessBug(MaskallError):
    """The harness broke a promise of its own."""
