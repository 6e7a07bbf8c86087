"""A change to machine code: found by the bytes that stand there, or a function that returns at once. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _pairs(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError('bytes are written as "31 c0 c3"')
    return tuple(value.split())


Byte = Annotated[str, Field(pattern=r"^([0-9a-f]{2}|\?\?)$")]
Bytes = Annotated[tuple[Byte, ...], BeforeValidator(_pairs), Field(min_length=1)]


class ByteChange(BaseModel):
    """Bytes to be found, and what replaces them from the first one on. "??" is any byte there, and kept here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    find: Bytes
    replace: Bytes

    @model_validator(mode="after")
    def _overwrites_only_what_was_compared(self) -> ByteChange:
        if len(self.replace) > len(self.find):
            raise ValueError("the replacement is longer than what is found, so it would overwrite unknown bytes")
        if all(new in ("??", old) for old, new in zip(self.find, self.replace, strict=False)):
            raise ValueError("the replacement changes nothing")
        return self

    @cached_property
    def regex(self) -> bytes:
        """What `find` means, for `re` and for `grep -P` with single bytes as characters."""
        return b"".join(b"[\\s\\S]" if byte == "??" else f"\\x{byte}".encode() for byte in self.find)

    def offsets_in(self, code: bytes) -> list[int]:
        """Where in `code` it stands; places that overlap count each."""
        return [match.start() for match in re.finditer(b"(?=%s)" % self.regex, code)]

    @property
    def length(self) -> int:
        """Bytes that it overwrites."""
        return len(self.replace)

    def applied_to(self, found: bytes) -> bytes:
        """The bytes that come in the place of the first of those that were `found`."""
        pairs = zip(self.replace, found, strict=False)
        return bytes(old if new == "??" else int(new, 16) for new, old in pairs)


class TextChange(ByteChange):
    """A change inside one function: between its symbol and the next."""

    symbol: str


ENDBR64 = bytes.fromhex("f3 0f 1e fa")
"""Where an indirect call may land (CET): how a function whose address is taken begins; in some builds each one."""

Returned = Annotated[int, Field(ge=-0x80000000, le=0xFFFFFFFF)] | Literal["nothing"]


@dataclass(frozen=True)
class Returns:
    """A function that does nothing and returns a number, or "nothing" where it is void. Fits every build."""

    symbol: str
    value: int | Literal["nothing"]

    @property
    def code(self) -> bytes:
        """x86-64: `ret`, `xor eax,eax; ret` or `mov eax,imm32; ret`."""
        if self.value == "nothing":
            return b"\xc3"
        if self.value == 0:
            return bytes.fromhex("31 c0 c3")
        return b"\xb8" + (self.value & 0xFFFFFFFF).to_bytes(4, "little") + b"\xc3"

    @property
    def length(self) -> int:
        """Bytes that it overwrites."""
        return len(self.code)

    def applied_to(self, found: bytes) -> bytes:
        """Its own code, whatever was `found`."""
        del found
        return self.code

    @staticmethod
    def entry(function: bytes) -> int:
        """Where the code goes in a function: at its first byte, or behind an endbr64, which must stay."""
        return len(ENDBR64) if function.startswith(ENDBR64) else 0

    def __str__(self) -> str:
        return f"{self.symbol} returns {self.value}"
