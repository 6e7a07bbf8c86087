"""Reads the facts of a host; the parsing is in parse.py."""

from __future__ import annotations

from pathlib import Path

from harness.base.deadline import Deadline
from harness.transport.base import Transport
from harness.transport.sections import ask

_PROGRAM = Path(__file__).with_name("facts.sh")


def read_facts(transport: Transport, deadline: Deadline) -> dict[str, bytes]:
    """The raw sections of facts.sh, in one round trip. Changes nothing there; the caller stores before parsing."""
    return ask(transport, _PROGRAM, deadline=deadline)
