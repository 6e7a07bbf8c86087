"""What a verifier gives, for a run or a bundle to answer."""

from __future__ import annotations

import re

from harness.base.errors import UsageError

_CHALLENGE = re.compile(r"[A-Za-z0-9]{1,40}", re.ASCII)


def answerable(challenge: str) -> str:
    """The same: a guest is told it on its kernel's command line. UsageError for what could not stand there."""
    if not _CHALLENGE.fullmatch(challenge):
        raise UsageError(f"--challenge {challenge!r} is none", hint="letters and digits, at most 40")
    return challenge
