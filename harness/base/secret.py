"""Secrets: the inventory holds only where one is to be found; the value shows itself to nobody by accident."""

from __future__ import annotations

import os
import re
import shlex
import stat
from pathlib import Path
from typing import Annotated, Any, NoReturn

from pydantic import AfterValidator, WithJsonSchema

from harness.base.deadline import Deadline
from harness.base.errors import LabError, MaskallError, UsageError
from harness.base.modelpath import HIDDEN
from harness.base.process import find, run, withhold
from harness.base.words import beside

_SECONDS = 30.0
_MAX_BYTES = 64 * 1024
_FORM = r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:~?/[ -~]+|command:[!-~][ -~]*)$"
_WANTED = "a secret is given by reference: env:NAME, file:/absolute/path or command:PROGRAM ARGUMENTS"


class Secret:
    """A value that no log, exception, argument list or result can show: every rendering of it is `***`.

    Two secrets are equal only if they are the same object: comparing is no way to guess one.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself; to be called where it is handed to the one program or library that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is not stored")

    __reduce__ = __getstate__ = __reduce_ex__  # type: ignore[assignment] # one refusal for every way to store it


def _form(text: str) -> str:
    if not re.fullmatch(_FORM.strip("^$"), text) or not _words(text.partition(":")[2]):
        raise ValueError(_WANTED)  # the text is not repeated: somebody may have written the password here
    if text.startswith("env:"):
        withhold(text.removeprefix("env:"))
    return text


def _words(line: str) -> list[str]:
    """As a shell would split it; empty when a quote is not closed."""
    try:
        return shlex.split(line)
    except ValueError:
        return []


SecretReference = Annotated[str, AfterValidator(_form), HIDDEN, WithJsonSchema({"type": "string", "pattern": _FORM})]
"""`env:NAME`, `file:/path` (mode 0600 or stricter) or `command:PROGRAM ARGUMENTS` as the inventory writes it."""


def resolve(reference: SecretReference, deadline: Deadline | None = None) -> Secret:
    """The secret behind a reference: one line, not empty, its line end taken off.

    UsageError when it is not there or others could read it, LabError when its program fails. They name the variable,
    the file or the program, never a value, an argument or what a program printed. A program gets 30 s at most.
    """
    try:
        kind, _, rest = _form(reference).partition(":")
    except ValueError:
        kind, rest = "", ""
    if kind == "env":
        return Secret(_one_line(_from_environment(rest), reference))
    if kind == "file":
        return Secret(_one_line(_from_file(beside(Path(), Path(rest))), reference))
    if kind == "command":
        argv = _words(rest)
        deadline = deadline.sooner(_SECONDS) if deadline else Deadline.after(_SECONDS)
        return Secret(_one_line(_from_command(argv, deadline), f"command:{argv[0]}"))
    raise UsageError(_WANTED)


def check_private(path: Path, status: os.stat_result, what: str) -> None:
    """UsageError unless this is a plain file of ours or of root's that nobody else can read. `what`: "this key"."""
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{path}: {what} is not a plain file")
    if status.st_uid not in (os.geteuid(), 0):
        raise UsageError(f"{path}: {what} belongs to user {status.st_uid}", hint="it must be yours or root's")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise UsageError(f"{path}: others can use {what}", hint=f"chmod 600 {shlex.quote(str(path))}")


def _from_environment(name: str) -> str:
    if name not in os.environ:
        raise UsageError(f"the secret env:{name} is not set", hint=f"export {name}=...")
    return os.environ[name]


def _from_file(path: Path) -> str:
    try:
        # not blocking: a FIFO would keep us waiting for a writer. What is checked is what was opened.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            check_private(path, os.fstat(descriptor), "this secret")
            raw = os.read(descriptor, _MAX_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UsageError(f"the secret file:{path} cannot be read: {error.strerror}") from error
    if len(raw) > _MAX_BYTES:
        raise UsageError(f"the secret file:{path} is larger than {_MAX_BYTES} bytes")
    return raw.decode("utf-8", "surrogateescape")


def _from_command(argv: list[str], deadline: Deadline) -> str:
    find(argv[0])
    try:
        done = run(argv, deadline=deadline, check=False)
    except MaskallError:
        reason = "did not end in time, or could not be started"
    else:
        if done.status == 0:
            return done.stdout
        reason = f"ended with status {done.status}"
    # its arguments and what it printed are for the eyes of who runs it by hand: they may hold the secret
    raise LabError(f"the secret command:{argv[0]} {reason}", hint="run it by hand to see why")


def _one_line(text: str, name: str) -> str:
    value = text.removesuffix("\n").removesuffix("\r")
    if not value:
        raise UsageError(f"the secret {name} is empty")
    if any(character in value for character in "\n\r\0"):
        raise UsageError(f"the secret {name} has more than one line")
    try:
        value.encode()
    except UnicodeEncodeError:
        value = ""  # the error holds the text: nothing may hang on to it
    if not value:
        raise UsageError(f"the secret {name} is not UTF-8 text")
    return value
