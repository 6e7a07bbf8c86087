"""What makes a bundle a bag (RFC 8493, BagIt 1.0): its payload files by their SHA-256. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from harness.base.errors import EvidenceError
from harness.base.text import inert

DATA = "data/"
BAGIT = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
BAGIT_NAME, INFO_NAME = "bagit.txt", "bag-info.txt"
MANIFEST_NAME: Final = "manifest-sha256.txt"
STATEMENT_NAME, SIGNATURES = "statement.json", "signatures/"
_LINE = re.compile(r"([0-9a-f]{64})  (data/[!-~]+)")


def manifest(digests: Mapping[str, str]) -> bytes:
    """A line for each file of the payload, in the order of their names; `sha256sum -c` reads it."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()


def parse_manifest(content: bytes) -> dict[str, str]:
    """SHA-256 by name. EvidenceError unless `manifest` would write it just so.

    Accepted format: 64 hexadecimal digits, two spaces, `data/...`.
    """
    digests: dict[str, str] = {}
    for number, line in enumerate(content.decode("utf-8", "backslashreplace").splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise EvidenceError(f"{MANIFEST_NAME}:{number}: not a SHA-256 and the name of a file below data/")
        digests[match[2]] = match[1]
    if manifest(digests) != content:
        raise EvidenceError(f"{MANIFEST_NAME} is not in order, or names a file twice")
    return digests


def info(run_id: str, tool: str, octets: int, files: int) -> bytes:
    """bag-info.txt: the run, what made the bag, and how much is in it."""
    return (
        f"External-Identifier: {inert(run_id)}\n"
        f"Bag-Software-Agent: maskall {inert(tool)}\n"
        f"Payload-Oxum: {octets}.{files}\n"
    ).encode()
