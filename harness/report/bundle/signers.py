"""Who may sign: the format of ALLOWED SIGNERS of ssh-keygen(1), and lists of keys that may not any more. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from harness.base.errors import InventoryError
from harness.report.bundle.sshsig import SshSignature

_KEY_TYPE = re.compile(r"(ssh|ecdsa|sk)-[a-z0-9@.-]+")
_OPTION = re.compile(r'([A-Za-z-]+)(?:="((?:[^"\\]|\\.)*)")?(,(?=.)|$)')
_WORD = re.compile(r'((?:[^\s"]|"(?:[^"\\]|\\.)*")+)\s*')
_VALUED = {"cert-authority": False, "namespaces": True, "valid-after": True, "valid-before": True}
_MANUAL = "see ALLOWED SIGNERS in ssh-keygen(1)"
_TIMES = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


@dataclass(frozen=True)
class Signer:
    """A line of the file. `authority`: it is there for certificates, which no bundle is signed by."""

    principals: str
    key: bytes
    line: int
    namespaces: str | None = None
    valid_after: datetime | None = None
    valid_before: datetime | None = None
    authority: bool = False

    def why_not(self, namespace: str, now: datetime) -> str:
        """Why it does not allow a signature in this namespace now; empty: it does."""
        if self.authority:
            return "it is listed for certificates only"
        if self.namespaces is not None and not _matches(namespace, self.namespaces):
            return f"it is listed for other namespaces: {self.namespaces}"
        if self.valid_after and now < self.valid_after:
            return f"it is not valid before {self.valid_after:%F %T %Z}"
        if self.valid_before and now >= self.valid_before:
            return f"it has expired: valid before {self.valid_before:%F %T %Z}"
        return ""


@dataclass(frozen=True)
class Signers:
    allowed: tuple[Signer, ...]
    revoked: frozenset[bytes] = frozenset()

    def judge(self, signature: SshSignature, namespace: str, now: datetime) -> tuple[str, str]:
        """(principals, "") of somebody who may sign so, or ("", why nobody may)."""
        if signature.key in self.revoked:
            return "", "its key is revoked"
        why = "its key is not listed"
        for one in self.allowed:
            if one.key == signature.key:
                why = one.why_not(namespace, now)
                if not why:
                    return one.principals, ""
        return "", why


def parse_signers(text: str, file: str) -> tuple[Signer, ...]:
    """InventoryError, with the line, for one that is not understood: who may sign is not guessed.

    Accepted format: `principals [options] keytype base64 [comment]`; options cert-authority, namespaces="...",
    valid-after="...", valid-before="..." with times as 20260102[0304[05]][Z].
    """
    return tuple(_signer(line, number, file) for number, line in _lines(text))


def parse_keys(text: str, file: str) -> frozenset[bytes]:
    """Public keys, one a line, as in a file for `ssh-keygen -Y verify -r`; InventoryError for a line that is none."""
    return frozenset(_key(line.split(), number, file) for number, line in _lines(text))


def _lines(text: str) -> list[tuple[int, str]]:
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1)]
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def _signer(line: str, number: int, file: str) -> Signer:
    found = list(_WORD.finditer(line))
    principals = found[0][1].strip('"') if found else ""
    if not principals or "".join(one[0] for one in found) != line:
        told = "a quotation mark has no other" if principals else "it does not say who"
        raise InventoryError(told, file=file, line=number, hint=_MANUAL)
    words = [one[1] for one in found[1:]]
    options: dict[str, str] = {}
    if words and not _KEY_TYPE.fullmatch(words[0]):
        options, words = _options(words[0], number, file), words[1:]
    return Signer(
        principals,
        _key(words, number, file),
        number,
        options.get("namespaces"),
        _time(options.get("valid-after"), number, file),
        _time(options.get("valid-before"), number, file),
        "cert-authority" in options,
    )


def _options(word: str, number: int, file: str) -> dict[str, str]:
    """Each once, with a value where it has one: whichever of two counted, somebody else would go by the other."""
    options: dict[str, str] = {}
    at, told = 0, ""
    while not told and (match := _OPTION.match(word, at)):
        name, value, at = match[1].lower(), match[2], match.end()
        if name not in _VALUED:
            told = f"no option {name}"
        elif name in options:
            told = f"{name} is there twice"
        elif _VALUED[name] is (value is None):
            told = f"{name} has {'no value' if value is None else 'a value'}"
        options[name] = value or ""
        if at == len(word):
            break
    if not told and at != len(word):
        told = f"{word!r} is neither options nor a kind of key"
    if told:
        raise InventoryError(told, file=file, line=number, hint=_MANUAL)
    return options


def _key(words: list[str], number: int, file: str) -> bytes:
    try:
        kind, blob = words[0], base64.b64decode(words[1], validate=True)
        if _KEY_TYPE.fullmatch(kind) and blob.startswith(len(kind).to_bytes(4, "big") + kind.encode()):
            return blob
    except (IndexError, binascii.Error, ValueError):
        pass
    raise InventoryError("there is no public key", file=file, line=number, hint="as in a .pub file: kind and base64")


def _time(text: str | None, number: int, file: str) -> datetime | None:
    """Without a Z it is the time of this machine's zone, as for ssh-keygen."""
    if text is None:
        return None
    digits = text.removesuffix("Z")
    try:
        found = datetime.strptime(digits, _TIMES[len(digits)])
        return found.replace(tzinfo=UTC) if text != digits else found.astimezone()
    except (KeyError, ValueError, OverflowError) as error:
        raise InventoryError(
            f"{text!r} is no time", file=file, line=number, hint="as 20260102 or 202601020304Z"
        ) from error


def _matches(namespace: str, patterns: str) -> bool:
    """A list of patterns as in ssh_config(5): one with `!` that matches refuses."""
    found = False
    for pattern in patterns.split(","):
        literal = pattern.removeprefix("!").replace("[", "[[]")
        if fnmatchcase(namespace, literal):
            if pattern.startswith("!"):
                return False
            found = True
    return found
