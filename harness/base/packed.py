"""Bytes as gzip, xz, lzma, bzip2 or zstd packed them, told apart by how they begin."""

from __future__ import annotations

import bz2
import lzma
import tempfile
import zlib
from pathlib import Path

from harness.base.deadline import Deadline
from harness.base.errors import ParseError
from harness.base.process import run

_MOST = 256 << 20  # bytes unpacked: a kernel with everything built in has 100 MB
_SECONDS = 60.0


def unpacked(data: bytes, file: str) -> bytes:
    """What is in it, whatever stands behind; bytes that nobody packed as they are. ParseError for what is not whole."""
    try:
        if data.startswith(b"\x1f\x8b"):
            return zlib.decompressobj(wbits=31).decompress(data, _MOST)
        if data.startswith((b"\xfd7zXZ\0", b"\x5d\0\0")):
            return lzma.LZMADecompressor().decompress(data, _MOST)
        if data.startswith(b"BZh"):
            return bz2.BZ2Decompressor().decompress(data, _MOST)
    except (zlib.error, lzma.LZMAError, OSError) as error:
        raise ParseError(f"cannot be unpacked: {error}", file=file, expected="a whole file") from error
    return _zstd(data) if data.startswith(b"\x28\xb5\x2f\xfd") else data


def _zstd(data: bytes) -> bytes:
    """By zstd(1): Python's own comes with 3.14. It complains about bytes behind the end, having unpacked the rest."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain"
        run(["zstd", "-dqc", "-o", str(plain)], deadline=Deadline.after(_SECONDS), stdin=data, check=False)
        return plain.read_bytes() if plain.exists() else b""
