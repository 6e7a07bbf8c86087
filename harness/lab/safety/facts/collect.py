"""Reads the facts of a host, and finds out later whether they still hold; the parsing is in parse.py."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from harness.base.deadline import Deadline
from harness.host.pciback import CHANGED
from harness.transport.base import Transport
from harness.transport.sections import ask

PROGRAM = Path(__file__).with_name("facts.sh")
RESTLESS = ("config", "tools", "run")  # not printed by `facts.sh SEPARATOR stable`

_STILL = """\
facts() {{
{program}
}}
if [ "$(facts @@ stable | sha512sum)" != '{digest}  -' ]; then
  echo "the host is no longer as it was when the device was judged" >&2
  exit {changed}
fi
"""


def read_facts(transport: Transport, deadline: Deadline) -> dict[str, bytes]:
    """The raw sections of facts.sh, in one round trip. Changes nothing there; the caller stores before parsing."""
    return ask(transport, PROGRAM, deadline=deadline)


def still(sections: Mapping[str, bytes]) -> str:
    """A program for sh that reads the facts anew and ends its shell with CHANGED unless they are these, byte by byte.

    Left out is what changes by itself: config space, and what we leave on the host ourselves.
    """
    text = b"".join(b"\n@@ %s\n%s" % (name.encode(), data) for name, data in sections.items() if name not in RESTLESS)
    return _STILL.format(program=PROGRAM.read_text(), digest=hashlib.sha512(text).hexdigest(), changed=CHANGED)
