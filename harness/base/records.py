"""Log records, harmless to whoever prints or stores them."""

from __future__ import annotations

import logging

from harness.base.text import inert


def _harmless(record: logging.LogRecord) -> bool:
    record.msg, record.args = inert(record.getMessage()), None
    return True


def logger(name: str) -> logging.Logger:
    """The module's logger: what a host said cannot act on a terminal through it, nor begin a line."""
    made = logging.getLogger(name)
    made.addFilter(_harmless)  # once, however often it is asked for
    return made
