"""Log records with a host's words in them."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from harness.base.records import make_inert

HOSTILE = "maskall\x1b]0;owned\x07\r\n2026 ERROR all is well\u202e"


@pytest.fixture
def heard() -> Iterator[io.StringIO]:
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(logging.LogRecord)
    make_inert()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)
    logging.setLogRecordFactory(before)


def test_what_a_host_said_stays_on_its_line(heard: io.StringIO) -> None:
    logging.getLogger("harness.transport.ssh").warning("%s: %s", "box", HOSTILE)
    assert heard.getvalue() == "box: maskall\\x1b]0;owned\\x07\\x0d\\x0a2026 ERROR all is well\\u202e\n"


def test_a_percent_sign_is_no_place_for_a_value(heard: io.StringIO) -> None:
    logging.getLogger("harness.lab").warning("%s: 100%% of %s", "box", "50 % done %d")
    assert heard.getvalue() == "box: 100% of 50 % done %d\n"


def test_records_of_others_are_theirs(heard: io.StringIO) -> None:
    logging.getLogger("harnessed").warning("%s", "two\nlines")
    assert heard.getvalue() == "two\nlines\n"


def test_it_is_done_once(heard: io.StringIO) -> None:
    made = logging.getLogRecordFactory()
    make_inert()
    assert logging.getLogRecordFactory() is made


def test_the_plugin_does_it(caplog: pytest.LogCaptureFixture) -> None:
    """Of this very run."""
    logging.getLogger("harness").warning("%s", "\x1b[2J")
    assert caplog.messages == ["\\x1b[2J"]


def test_the_command_does_it(heard: io.StringIO) -> None:
    from harness import cli

    logging.setLogRecordFactory(logging.LogRecord)
    cli.main(["--version"])
    logging.getLogger("harness").warning("%s", "\x1b[2J")
    assert heard.getvalue() == "\\x1b[2J\n"
