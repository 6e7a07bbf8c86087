"""What a word of the inventory may be, so that no program takes it for an option and no shell or terminal for its own.

Pure but for `beside`, which looks up home directories.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema

from harness.base.errors import UsageError
from harness.base.modelpath import HIDDEN

_WORD = r"^[A-Za-z0-9_][A-Za-z0-9_.:@%/+-]*$"
_ADDRESS = r"^(?=[^.]{1,63}(\.[^.]{1,63})*\.?$)(?=.{1,253}$)([A-Za-z0-9_]|::)[A-Za-z0-9_.:%-]*$"
_URL = r"^https?://[A-Za-z0-9\[][A-Za-z0-9.:\[\]_-]*(/[A-Za-z0-9._/-]*)?$"
_LIBVIRT = (
    r"^[a-z][a-z0-9+]*://([A-Za-z0-9_][A-Za-z0-9_.-]*@)?([A-Za-z0-9_\[][A-Za-z0-9_.:\[\]-]*)?"
    r"(/[A-Za-z0-9_.:/?=&%~-]*)?$"
)
_PATH = r"^[^\u0000-\u001f\u007f-][^\u0000-\u001f\u007f]*$"
_HOST_KEY = r"^[a-z0-9@.-]+ [A-Za-z0-9+/]+=*( [ -~]*)?$"


def _matching(pattern: str, otherwise: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if not re.fullmatch(pattern.removeprefix("^").removesuffix("$"), text):
            raise ValueError(otherwise)
        return text

    return check


def _as(pattern: str, **more: object) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, **more})


def _program(argv: tuple[str, ...]) -> tuple[str, ...]:
    if not argv or not argv[0] or argv[0].startswith("-") or any(not word.isprintable() for word in argv):
        raise ValueError("a list of printable words that begins with a program")
    return argv


def _path(path: Path) -> Path:
    text = str(path)
    if text == "." or text.startswith("-") or not text.isprintable():
        raise ValueError("a path of printable characters, not beginning with -")
    return path


def _host_key(line: str) -> str:
    """RFC 4253, section 6.6: the blob begins with the key type, four bytes of length before it."""
    if re.fullmatch(_HOST_KEY.strip("^$"), line):
        kind, blob = line.split(" ")[:2]
        try:
            raw = base64.b64decode(blob, validate=True)
        except binascii.Error:
            raw = b""
        if raw.startswith(len(kind).to_bytes(4, "big") + kind.encode()):
            return line
    raise ValueError("a public key as in known_hosts, without the host's name before it, and not a fingerprint")


Word = Annotated[
    str,
    AfterValidator(_matching(_WORD, "letters, digits and _.:@%/+- only, not beginning with a sign")),
    _as(_WORD),
]
"""A name for another program to read."""

Address = Annotated[
    str,
    AfterValidator(_matching(_ADDRESS, "a host name or an IP address, without user and port, not in brackets")),
    _as(_ADDRESS),
    Field(examples=["192.0.2.10"]),
]

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$", examples=["xenbox1"])]
"""A name given in the inventory itself."""

Program = Annotated[tuple[str, ...], AfterValidator(_program), HIDDEN]
"""A program and its arguments, started without a shell."""

Url = Annotated[
    str,
    AfterValidator(_matching(_URL, "a URL as https://192.0.2.20, without user, password and query")),
    HIDDEN,
    _as(_URL),
]

LibvirtUri = Annotated[
    str,
    AfterValidator(_matching(_LIBVIRT, "a URI of libvirt, as qemu:///system or qemu+ssh://lab@192.0.2.30/system")),
    HIDDEN,
    _as(_LIBVIRT),
]

HostKey = Annotated[
    str,
    AfterValidator(_host_key),
    HIDDEN,  # a private key pasted here by mistake is not shown
    _as(_HOST_KEY),
    Field(examples=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA..."]),
]

LocalPath = Annotated[Path, AfterValidator(_path), _as(_PATH)]
"""A file on the controller: absolute, below `~`, or beside the inventory file. See `beside`."""

Switch = Annotated[bool, Field(strict=True)]
"""`true` or `false` and nothing that might pass for it: a permission is not guessed."""

Port = Annotated[int, Field(strict=True, ge=1, le=65535)]


def beside(base: Path, path: Path) -> Path:
    """A LocalPath made absolute: `base` is the folder of the inventory file. UsageError for an unknown `~user`."""
    try:
        return (base / path.expanduser()).absolute()
    except RuntimeError as error:
        raise UsageError(f"{path}: no such home directory", hint="write the path out") from error


def home(variable: str) -> Path:
    """The user's home directory. UsageError where there is none, as for a container's user without a name; `variable`
    of the environment makes it needless."""
    try:
        return Path.home()
    except RuntimeError as error:
        raise UsageError("this user has no home directory", hint=f"set HOME or {variable}") from error


def bounded(default: Any, low: int, high: int, description: str) -> Any:  # noqa: ANN401 - as Field itself
    """A whole number within limits, not a text that looks like one."""
    return Field(default, strict=True, ge=low, le=high, description=description)
