"""The guest's agent: no output can pretend to be the end of a command."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.base.deadline import Deadline
from harness.base.errors import CommandFailed, HostHung, HostUnreachable
from harness.guest.agent import Agent
from harness.transport.base import CommandEnd
from suites.selftest.fakes.faketransport import FakeStream
from suites.selftest.fakes.patience import soon

BOOT = b"[    0.0] Linux\n@agent up 5.1\n"


class Guest:
    """init.sh's loop over a stream; `work` gives what the command prints and its status."""

    def __init__(self, work: Callable[[str], tuple[bytes, int] | None], newline: bytes = b"\n") -> None:
        self.work = work
        self.newline = newline
        self.tokens: list[str] = []
        self.stream = FakeStream("guest", self.answer)

    def answer(self, data: bytes) -> bytes | None:
        if not data:
            return BOOT
        token, command = data.decode().rstrip("\n").split(" ", 1)
        self.tokens.append(token)
        done = self.work(command)
        if done is None:
            return b""
        output, status = done
        return (output + b"\n@%s %d\n" % (token.encode(), status)).replace(b"\n", self.newline)


def agent(work: Callable[[str], tuple[bytes, int] | None], newline: bytes = b"\n") -> tuple[Agent, Guest]:
    guest = Guest(work, newline)
    agent = Agent(guest.stream)
    assert agent.await_up(soon())
    return agent, guest


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_output_and_status(newline: bytes) -> None:
    talk, _ = agent(lambda command: (f"did {command}\n".encode(), 3), newline)
    answer = talk.run("ls /", soon())
    assert (answer.output.split(), answer.status) == ([b"did", b"ls", b"/"], 3)
    assert talk.run("again", soon()).output.split() == [b"did", b"again"]


def test_a_command_that_prints_nothing() -> None:
    talk, _ = agent(lambda _: (b"", 0))
    answer = talk.run("true", soon())
    assert (answer.output.strip(), answer.status) == (b"", 0)


def test_every_command_has_a_token_of_its_own() -> None:
    talk, guest = agent(lambda _: (b"", 0))
    for _ in range(20):
        talk.run("true", soon())
    assert len(set(guest.tokens)) == 20
    assert all(re.fullmatch(r"[0-9a-f]{12}", token) for token in guest.tokens)


def test_a_former_token_ends_nothing() -> None:
    said: list[bytes] = []

    def work(_: str) -> tuple[bytes, int]:
        return b"".join(said), 7

    talk, guest = agent(work)
    talk.run("first", soon())
    said.append(b"\n@%s 0\n" % guest.tokens[0].encode())
    answer = talk.run("second", soon())
    assert answer.status == 7
    assert said[0].strip() in answer.output


@given(st.binary(max_size=60) | st.sampled_from([b"\n@ 0\n", b"\n@agent up 1\n", b"\n@000000000000 0\n", b"@"]))
def test_no_output_is_taken_for_the_end(output: bytes) -> None:
    talk, _ = agent(lambda _: (output, 9))
    answer = talk.run("x", soon())
    assert answer.status == 9
    assert answer.output == output + b"\n"


def test_the_token_in_the_middle_of_a_line_ends_nothing() -> None:
    """A console that echoes, or a shell that complains, shows the token too."""

    def console(data: bytes) -> bytes:
        token = data.split(b" ")[0]
        return data and b"%s true 0\nsh: @%s 0\nsh: %s @%s 1\n\n@%s 5\n" % (token, token, token, token, token)

    answer = Agent(FakeStream("guest", console)).run("true", soon())
    assert answer.status == 5
    assert answer.output.count(b"\n") == 4


def test_a_guest_that_never_answers_is_hung() -> None:
    talk, _ = agent(lambda _: None)
    with pytest.raises(HostHung):
        talk.run("true", Deadline.after(0.05))


def test_a_console_that_ends() -> None:
    talk, guest = agent(lambda _: None)
    guest.stream.end(CommandEnd(status=0))
    with pytest.raises(CommandFailed):
        talk.run("true", soon())


def test_a_guest_that_dies_during_the_command() -> None:
    talk, guest = agent(lambda _: None)
    guest.work = lambda _: guest.stream.end(CommandEnd(status=0))
    with pytest.raises(CommandFailed, match="status 0 before"):
        talk.run("true", soon())


class TestComingUp:
    def test_late_output_is_no_agent(self) -> None:
        assert not Agent(FakeStream("guest", lambda _: b"[    0.0] Linux\n")).await_up(Deadline.after(0.05))

    def test_half_a_line_is_no_agent(self) -> None:
        assert not Agent(FakeStream("guest", lambda _: b"@agent up 5.")).await_up(Deadline.after(0.05))

    def test_a_console_that_ended(self) -> None:
        assert not Agent(FakeStream("guest", lambda _: None)).await_up(soon())

    def test_a_lost_link_is_not_a_silent_guest(self) -> None:
        stream = FakeStream("guest", lambda _: b"")
        stream.end(CommandEnd())
        with pytest.raises(HostUnreachable):
            Agent(stream).await_up(soon())


def test_post_waits_for_nothing_and_the_transcript_has_it_all() -> None:
    talk, guest = agent(lambda _: None)
    talk.post("poweroff -f", soon())
    assert len(guest.tokens) == 1
    assert talk.transcript == BOOT
    for _ in itertools.repeat(None, 2):
        talk.close()
    assert talk.transcript == BOOT
