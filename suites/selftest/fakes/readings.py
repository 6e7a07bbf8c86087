"""Captured readings of harness/evidence/counts.sh, by version and property."""

from __future__ import annotations

from pathlib import Path

_DATA = Path(__file__).parents[1] / "data"
_KEYS = "counted_xl_dmesg.txt"

READINGS = sorted(f"{path.parent.name[4:]}/{path.name.split('.')[0]}" for path in _DATA.glob(f"xen-*/*.{_KEYS}"))


def files_of(reading: str) -> dict[str, bytes]:
    """Every section of one reading, by its name."""
    version, _, name = reading.partition("/")
    prefix = f"{name}.counted_"
    return {path.name.removeprefix(prefix): path.read_bytes() for path in (_DATA / f"xen-{version}").glob(f"{prefix}*")}


def keys_of(reading: str) -> str:
    """What the debug keys of one reading printed."""
    return files_of(reading)["xl_dmesg.txt"].decode()


KEYS = [keys_of(reading) for reading in READINGS]
