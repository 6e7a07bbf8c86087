"""This maskall by its digests: its own files, and those of its rules that decide what a verdict is."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
from pathlib import Path

from harness.evidence.store import digest
from harness.report.bundle.statement import Tool

_HARNESS = Path(__file__).parents[1]
_SOURCES = (".py", ".sh", ".yaml", ".json")
RULES = (
    "judge/known_issues.yaml",
    "mutants/mutants.yaml",
    "scenario/catalogue.yaml",
    "xen/keys/fixes.yaml",
    "xen/keys/messages.yaml",
)


@functools.cache
def this_tool() -> Tool:
    """As a bundle made now names it; the same for a clone and for what is installed from it."""
    files = sorted(path for path in _HARNESS.rglob("*") if path.suffix in _SOURCES and "__pycache__" not in path.parts)
    content = hashlib.sha256()
    for path in files:
        content.update(f"{digest(path.read_bytes())}  {path.relative_to(_HARNESS).as_posix()}\n".encode())
    rules = {name: digest((_HARNESS / name).read_bytes()) for name in RULES}
    return Tool(version=importlib.metadata.version("maskall"), sha256=content.hexdigest(), rules=rules)
