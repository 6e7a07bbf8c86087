"""Who and where, taken out of evidence: the same word is always the same pseudonym, and nothing that is judged changes.

Replaced are names of hosts and users, MAC and IP addresses, UUIDs and serial numbers. Never: PCI addresses and ids,
registers, irqs, build-ids, versions. Pure.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

_HEX = "[0-9a-fA-F]"
_UUID = re.compile(rf"(?<![\w-]){_HEX}{{8}}-(?:{_HEX}{{4}}-){{3}}{_HEX}{{12}}(?![\w-])", re.ASCII)
_MAC = re.compile(rf"(?<![\w:]){_HEX}{{2}}(?::{_HEX}{{2}}){{5}}(?![\w:])", re.ASCII)
_IPV4 = re.compile(r"(?<![\w.+~-])\d{1,3}(?:\.\d{1,3}){3}(?![\w+~-]|\.\d)", re.ASCII)
_IPV6 = re.compile(rf"(?<![\w:.])(?={_HEX}*:{_HEX}*:)[0-9a-fA-F:]{{4,39}}(?![\w:])", re.ASCII)
_DSN = re.compile(rf"(?<![\w-]){_HEX}{{2}}(?:-{_HEX}{{2}}){{7}}(?![\w-])", re.ASCII)
_EUI = re.compile(rf"(?<=eui\.){_HEX}{{16,32}}\b|(?<=wwn-0x){_HEX}{{16,32}}\b", re.ASCII)
_SERIAL = re.compile(
    r"\bserial(?: ?(?:number|no))?\.?[:=] ?"
    r"(?![0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]\b)"  # a root hub is called by the address of its controller
    r"([A-Za-z0-9._-]*\d[A-Za-z0-9._-]*)",
    re.ASCII | re.IGNORECASE,
)
_BUILT_BY = re.compile(r"\b(?:Xen|Linux) version \S+ \(([\w.+-]+)@([\w.-]+)\)", re.ASCII)
_HOSTNAME = re.compile(r"Hostname set to <([\w.-]+)>|^([\w.-]+) login:", re.ASCII | re.MULTILINE)
_HOME = re.compile(r"/home/([\w.-]+)", re.ASCII)
_PUBLIC = frozenset({"root", "localhost", "(none)", "none", "user", "builder", "debian", "ubuntu", "xen", "linux"})
"""Words that say nothing of anybody, or that stand in every log."""
_LEAST = 3  # letters of a name: a shorter one is part of other words


@dataclass
class Redaction:
    """By a lab's own key: nobody else can tell which pseudonym is whose, nor try names. `versions` stay as they are.

    `replaced`: kind and pseudonym by what was there.
    """

    key: bytes
    versions: frozenset[str] = frozenset()
    names: dict[str, str] = field(default_factory=dict)  # hosts and users, by what they become
    replaced: dict[str, tuple[str, str]] = field(default_factory=dict)
    _pattern: re.Pattern[str] | None = None

    def know(self, kind: str, names: Iterable[str]) -> None:
        """These are names of a "host" or a "user"; they are replaced wherever they stand alone as a word."""
        for name in names:
            if len(name) >= _LEAST and name.lower() not in _PUBLIC and not name.isdigit():
                self.names.setdefault(name, f"{kind}-{self._digest(kind, name)[:8]}")
        words = sorted(self.names, key=len, reverse=True)
        self._pattern = (
            re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(map(re.escape, words))})(?![A-Za-z0-9])") if words else None
        )

    def learn(self, text: str) -> None:
        """Names that a log tells: of the host, and of whoever built Xen or the kernel for themselves."""
        hosts = [one or other for one, other in _HOSTNAME.findall(text)]
        built = [(user, host) for user, host in _BUILT_BY.findall(text) if not host.startswith("lists.")]
        self.know("host", [*hosts, *(host for _, host in built)])
        self.know("user", [*_HOME.findall(text), *(user for user, _ in built)])

    def redacted(self, text: str) -> str:
        for pattern, kind, made in self._kinds:
            text = pattern.sub(lambda match, kind=kind, made=made: self._one(match, kind, made), text)  # type: ignore[misc]
        if self._pattern is not None:
            text = self._pattern.sub(lambda match: self._named(match[0]), text)
        return text

    @property
    def _kinds(self) -> tuple[tuple[re.Pattern[str], str, Callable[[str], str]], ...]:
        return (
            (_UUID, "UUID", self._uuid),
            (_MAC, "MAC address", self._mac),
            (_DSN, "serial number", self._dsn),
            (_EUI, "serial number", lambda text: self._digest("serial", text)[: len(text)].ljust(len(text), "0")),
            (_SERIAL, "serial number", lambda text: f"S{self._digest('serial', text)[:11]}"),
            (_IPV6, "IP address", self._ipv6),
            (_IPV4, "IP address", self._ipv4),
        )

    def _one(self, match: re.Match[str], kind: str, made: Callable[[str], str]) -> str:
        whole, word = match[0], match[match.lastindex or 0]
        other = made(word)
        if other == word:
            return whole
        self.replaced[word] = (kind, other)
        return whole[: len(whole) - len(word)] + other

    def _named(self, word: str) -> str:
        other = self.names[word]
        self.replaced[word] = (other.split("-")[0], other)
        return other

    def _digest(self, kind: str, text: str) -> str:
        return hmac.new(self.key, f"{kind}:{text.lower()}".encode(), hashlib.sha256).hexdigest()

    def _uuid(self, text: str) -> str:
        if not text.strip("0-"):
            return text
        made = self._digest("uuid", text)
        return f"{made[:8]}-{made[8:12]}-{made[12:16]}-{made[16:20]}-{made[20:32]}"

    def _mac(self, text: str) -> str:
        if text.lower() in ("ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"):
            return text
        made = self._digest("mac", text)
        return ":".join(["02", *(made[at : at + 2] for at in range(0, 10, 2))])

    def _dsn(self, text: str) -> str:
        made = self._digest("serial", text)
        return "-".join(made[at : at + 2] for at in range(0, 16, 2))

    def _ipv4(self, text: str) -> str:
        try:
            address = ipaddress.IPv4Address(text)
        except ValueError:
            return text
        if text in self.versions or address.is_loopback or address.is_unspecified or text.startswith(("255.", "0.")):
            return text
        made = bytes.fromhex(self._digest("ip", text)[:6])
        return f"10.{made[0]}.{made[1]}.{made[2]}"

    def _ipv6(self, text: str) -> str:
        try:
            address = ipaddress.IPv6Address(text)
        except ValueError:
            return text
        if address.is_loopback or address.is_unspecified:
            return text
        made = self._digest("ip", address.compressed)
        return f"fd00::{made[:4]}:{made[4:8]}:{made[8:12]}"


_SHA256 = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


def with_digests(text: str, digests: Mapping[str, str]) -> str:
    """Every SHA-256 of a file that became another, as it is now."""
    return _SHA256.sub(lambda match: digests.get(match[0], match[0]), text)
