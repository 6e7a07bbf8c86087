"""Log records of ours, made harmless before anybody prints or stores them."""

from __future__ import annotations

import logging

from harness.base.text import inert

_OURS = "harness"


class _Factory:
    """What makes records: as before, those of the harness with their text inert."""

    def __init__(self, before: object) -> None:
        self._before = before

    def __call__(self, *args: object, **more: object) -> logging.LogRecord:
        assert callable(self._before)  # noqa: S101 - logging's own
        record: logging.LogRecord = self._before(*args, **more)
        if record.name.partition(".")[0] == _OURS:
            record.msg, record.args = inert(record.getMessage()), None
        return record


def make_inert() -> None:
    """From now on, for every handler: a host's words in a record cannot act on a terminal, nor begin a line."""
    before = logging.getLogRecordFactory()
    if not isinstance(before, _Factory):
        logging.setLogRecordFactory(_Factory(before))
