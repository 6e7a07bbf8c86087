"""Which function of stored facts a person means by a word. Pure."""

from __future__ import annotations

import re

from pydantic import ValidationError

from harness.base.errors import ParseError, SafetyRefusal, UsageError
from harness.base.text import inert
from harness.lab.safety.facts.facts import Function, HostFacts
from harness.lab.safety.facts.parse import below
from harness.lab.safety.facts.resolve import resolve, where_hidden
from harness.model.address import Bdf
from harness.model.identity import Identity

_HINT = "an address (0000:41:00.0), vendor:device, a MAC, a serial number, or id=8086:1521,mac=02:00:5e:00:00:41"


def find(word: str, facts: HostFacts) -> Bdf:
    """The one function that `word` means. UsageError for a word that is none; SafetyRefusal unless it is exactly one.

    Accepted format: an address; `vendor:device`; a MAC; a bridge path with `/`; a serial number; or `KEY=VALUE,...`
    with the keys that an identity has in the inventory.
    """
    if not word.strip():
        raise UsageError("--device names no device", hint=_HINT)
    if re.match(rf"(?:{'|'.join(Identity.model_fields)})=", word):
        return _identity(word, facts)
    if (address := _address(word)) is not None:
        if address not in facts.functions:
            raise SafetyRefusal(f"there is no function {address}, or nothing can be said of it")
        return address
    if re.fullmatch(r"[0-9a-fA-F]{4}:[0-9a-fA-F]{4}", word):
        return _one(word, [one for one in facts.functions.values() if one.id == word.lower()], facts)
    if re.fullmatch(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", word):
        return _one(word, [one for one in facts.functions.values() if word.lower() in one.macs], facts)
    if "/" in word:
        return _one(word, [one for one in facts.functions.values() if one.path == word.lower()], facts)
    return _one(word, [one for one in facts.functions.values() if word in one.serials], facts)


def _address(word: str) -> Bdf | None:
    try:
        return Bdf.parse(word)
    except ParseError:
        return None


def _identity(word: str, facts: HostFacts) -> Bdf:
    pairs = dict(part.partition("=")[::2] for part in word.split(","))
    if set(pairs) == {"id"}:
        return find(pairs["id"], facts)
    try:
        identity = Identity.model_validate(pairs)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"--device {inert(word)!r}: {'.'.join(map(str, first['loc']))}: {first['msg']}", hint=_HINT
        ) from error
    return resolve(facts, identity)


def _one(word: str, alike: list[Function], facts: HostFacts) -> Bdf:
    """What hangs below a bridge or a VMD marks that too; the function itself is the lowest of them."""
    found = [one for one in alike if not any(below(other.place, one.place) for other in alike if other is not one)]
    if len(found) == 1:
        return found[0].bdf
    if found:
        several = "; ".join(f"{one.bdf} has {inert(one.marks)}" for one in found[:4])
        raise SafetyRefusal(f"{len(found)} functions are {inert(word)}", hint=several)
    hidden = where_hidden(list(facts.functions.values()))
    raise SafetyRefusal(f"no function is {inert(word)}" + (f": {hidden}" if hidden else ""), hint=_HINT)
