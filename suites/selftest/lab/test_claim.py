"""One user at a time: the claim's scripts run for real on this machine, in a folder of the test's own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.base.deadline import poll
from harness.base.errors import LabError, LockHeld
from harness.lab.lease import claim as claims
from harness.lab.lease.claim import Claim, look, owner_of
from harness.lab.lease.holder import STALE, Holder, parse
from suites.selftest.fakes.faketransport import FakeTransport
from suites.selftest.fakes.localtransport import LocalTransport
from suites.selftest.fakes.patience import FOREVER, soon

HOLDER = Holder("ada@box", "a test", "noon", "t1")


@pytest.fixture
def run(tmp_path: Path) -> str:
    return str(tmp_path / "it's run")


class Taker:
    def __init__(self, run: str) -> None:
        self.run = run
        self.notices: list[str] = []
        self.held: list[Claim] = []

    def take(self, owner: str = "ada@box", reason: str = "a test", **more: object) -> Claim:
        transport = LocalTransport()
        transport.connect(soon())
        claim = Claim.take(transport, owner=owner, reason=reason, run=self.run, notice=self.notices.append, **more)  # type: ignore[arg-type]
        self.held.append(claim)
        return claim

    def silence(self, seconds: float) -> None:
        """As if the holder had died so long ago."""
        self.held[-1]._quiet()
        heart = Path(self.run) / "heartbeat"
        heart.write_text(f"{float(Path('/proc/uptime').read_text().split()[0]) - seconds:.2f}\n")


@pytest.fixture
def taker(run: str) -> Iterator[Taker]:
    taker = Taker(run)
    yield taker
    for one in taker.held:
        one.release()


def test_it_beats_by_itself(taker: Taker, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.lab.lease.claim.BEAT_SECONDS", 0.02)
    thread = taker.take()._thread
    assert thread is not None and thread.daemon, "it keeps no interpreter alive"
    heart, seen = Path(run) / "heartbeat", set[str]()
    assert poll(lambda: seen.add(heart.read_text()) or len(seen) > 3, soon(), every=0.005)  # type: ignore[func-returns-value]


def test_a_free_host_is_taken_and_given_back(taker: Taker, run: str) -> None:
    claim = taker.take()
    there = look(claim.transport, run)
    assert there is not None and there.live
    assert (there.holder.owner, there.holder.reason) == ("ada@box", "a test")
    claim.release()
    assert look(claim.transport, run) is None
    assert not Path(run).exists(), "not even an empty directory stays"


def test_what_was_given_back_is_not_taken_again(taker: Taker, run: str) -> None:
    """By whoever still asks whether it is ours: a heartbeat that was ended is none that a cut link has ended."""
    claim = taker.take()
    claim.release()
    claim.check()
    assert look(claim.transport, run) is None


def test_a_heartbeat_ends_at_once(taker: Taker, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not when it would have to beat again."""
    monkeypatch.setattr("harness.lab.lease.claim.BEAT_SECONDS", FOREVER)
    claim = taker.take()
    claim.release()
    assert poll(lambda: not claim.beating, soon())
    assert claim._thread is not None
    claim._thread.join(FOREVER / 2)
    assert not claim._thread.is_alive()


def test_a_claim_that_is_renewed_has_one_heartbeat(taker: Taker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.lab.lease.claim.BEAT_SECONDS", FOREVER)
    claim = taker.take()
    before = claim._stream
    claim.renew()
    assert claim.beating and before is not None and before is not claim._stream
    assert poll(lambda: before.ended, soon())


def test_why_it_cannot_say_why_it_stays_is_told_in_plain_words() -> None:
    told: list[str] = []
    Claim(FakeTransport("box"), HOLDER, {}, notice=told.append).let_go("a test")
    assert told == ["our claim on box stays, and cannot say why: there is no connection"]


@pytest.mark.parametrize(("silent", "live"), [(0.0, True), (59.0, True), (60.0, False), (61.0, False)])
def test_a_claim_is_stale_after_a_minute(silent: float, live: bool) -> None:
    there = parse(f"{HOLDER.as_json().decode().strip()}\n100.00\n{100 + silent}\nd1\n")
    assert there is not None and there.live is live


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "5", '"ada"', "[]", '{"reason": "r"}', '{"owner": "ada"}', '{"token": "t"}', "{"]
)
def test_whose_claim_it_is_may_be_unknown_and_it_is_a_claim(text: str) -> None:
    there = parse(f"{text}\n100.00\n101.00\nd1\njournal\n")
    assert there is not None and (there.live, there.digest, there.dirty) == (True, "d1", True)
    assert there.told.startswith("somebody whose claim cannot be read since unknown (unknown; ")


def test_what_a_claim_says_is_cut_and_plain() -> None:
    said = {"owner": "o" * 300, "reason": "\x1b[2J", "token": "t1"}
    there = parse(f"{json.dumps(said)}\n100.00\n101.00\nd1\n")
    assert there is not None and there.told.startswith(f"{'o' * 200} since unknown (\\x1b[2J; ")


def test_a_claim_is_one_line_that_a_person_can_read(taker: Taker, run: str) -> None:
    claim = taker.take()
    line, rest = (Path(run) / "claim").read_text().split("\n")
    found = json.loads(line)
    assert rest == "" and found.keys() == {"owner", "reason", "since", "token"}
    assert (found["owner"], found["reason"], found["token"]) == ("ada@box", "a test", claim.holder.token)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", found["since"])


def test_where_a_claim_cannot_be_put_is_no_host_of_somebody_else(taker: Taker, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    taker.run = str(tmp_path / "file/run")
    with pytest.raises(LabError, match="Not a directory"):
        taker.take()


def test_a_host_with_an_open_journal_is_not_given_free(taker: Taker, run: str) -> None:
    """Whoever asks for it: what is not undone stays somebody's, and the claim says why."""
    claim = taker.take()
    (Path(run) / "journal.jsonl").write_text("a line\n")
    claim.release()
    there = look(claim.transport, run)
    assert there is not None and there.dirty
    assert there.holder.reason == "what a run has changed there is not undone"
    (Path(run) / "journal.jsonl").unlink()
    claim.release()
    assert look(claim.transport, run) is None


def test_a_live_claim_is_nobody_elses_and_says_whose(taker: Taker) -> None:
    taker.take()
    (Path(taker.run) / "journal.jsonl").touch()
    for owner in ("bob@box", "ada@box"):
        with pytest.raises(LockHeld, match=r"used by ada@box since .* \(a test; last heard of \d+ s ago\)") as raised:
            taker.take(owner)
        assert raised.value.hint == "--wait SECONDS, or ask them; --take-over REASON"
        assert str(raised.value).startswith(taker.notices[-1][:40]) and "waiting" not in taker.notices[-1]
    (Path(taker.run) / "journal.jsonl").unlink()


def test_who_has_it_is_heard_of_before_it_is_asked_for(taker: Taker) -> None:
    """So that a controller that is told no knows afterwards that the host went to somebody else."""
    heard: list[str | None] = []
    taker.take(heard=lambda there: heard.append(there and there.holder.owner))
    assert heard == [None]
    with pytest.raises(LockHeld):
        taker.take("bob@box", heard=lambda there: heard.append(there and there.holder.owner))
    with pytest.raises(LockHeld):
        taker.take(heard=lambda there: heard.append("an owner hears nothing of himself"))
    assert heard == [None, "ada@box"]


def test_how_long_ago_is_said_in_seconds() -> None:
    there = parse(f"{HOLDER.as_json().decode().strip()}\n100.10\n107.40\nd1\n")
    assert there is not None and there.told == "ada@box since noon (a test; last heard of 7 s ago)"


def test_a_dead_claim_of_the_same_owner_needs_no_human(taker: Taker, run: str) -> None:
    taker.take("group/project:job")
    taker.silence(STALE + 1)
    claim = taker.take("group/project:job")
    assert "is dead" in taker.notices[-1]
    assert json.loads((Path(run) / "claim").read_text())["taken_from"] == "group/project:job"
    claim.check()


def test_a_slow_holder_is_not_a_dead_one(taker: Taker) -> None:
    taker.take()
    taker.silence(STALE / 2)
    with pytest.raises(LockHeld):
        taker.take()


def test_a_dead_claim_of_somebody_else_is_not_broken_silently(taker: Taker, run: str) -> None:
    taker.take("bob@box")
    taker.silence(STALE + 100)
    with pytest.raises(LockHeld) as raised:
        taker.take("ada@box")
    assert raised.value.hint == "it looks dead: --take-over REASON"
    taker.take("ada@box", take_over="bob left the company")
    found = json.loads((Path(run) / "claim").read_text())
    assert (found["taken_from"], found["taken_because"]) == ("bob@box", "bob left the company")


def test_who_was_taken_over_hears_of_it(taker: Taker) -> None:
    first = taker.take("bob@box")
    taker.take("ada@box", take_over="urgent")
    assert first._stream is not None
    first._stream.write(b"\n")
    assert poll(lambda: b"lost" in first._stream.received, soon())  # type: ignore[union-attr]
    with pytest.raises(LockHeld, match="taken from us"):
        first.check()
    with pytest.raises(LockHeld, match="meanwhile"):
        first.renew()
    first.release()
    assert look(first.transport, first.run) is not None, "releasing must not end somebody else's claim"


def test_a_reboot_ends_the_claim_and_the_holder_takes_it_up_again(taker: Taker, run: str) -> None:
    claim = taker.take()
    claim._quiet()
    for file in Path(run).iterdir():
        file.unlink()
    claim.renew()
    there = look(claim.transport, run)
    assert there is not None and there.holder.token == claim.holder.token


def test_waiting_ends_when_the_host_is_free(taker: Taker, monkeypatch: pytest.MonkeyPatch) -> None:
    first = taker.take("bob@box")
    told = taker.notices.append

    class Freed(list[str]):
        """Whoever waits has said so: now the host is given free."""

        def append(self, text: str) -> None:
            told(text)
            first.release()

    taker.notices, notices = Freed(), taker.notices
    claim = taker.take("ada@box", wait=FOREVER)
    assert claim.holder.owner == "ada@box"
    assert "waiting" in notices[0]


def test_who_waits_says_so_once(taker: Taker, monkeypatch: pytest.MonkeyPatch) -> None:
    taker.take("bob@box")
    monkeypatch.setattr(claims, "poll", lambda probe, *_, **__: next(filter(None, (probe() for _ in range(3))), None))
    with pytest.raises(LockHeld):
        taker.take(wait=FOREVER)
    assert [one.partition(" since")[0] for one in taker.notices] == ["localhost is used by bob@box"]
    assert taker.notices[0].endswith("; waiting")


def test_who_comes_a_moment_too_late_is_told_what_to_do(taker: Taker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one came, of whom nothing is there any more when it is asked who that was."""
    monkeypatch.setattr(Claim, "_put", lambda *_, **__: False)
    with pytest.raises(LockHeld, match="used by somebody who came a moment earlier") as raised:
        taker.take()
    assert raised.value.hint == "--wait SECONDS, or ask them; --take-over REASON"


def test_of_many_takers_exactly_one_wins(taker: Taker, run: str) -> None:
    for round_ in range(3):
        won: list[Claim] = []

        def race(number: int, won: list[Claim] = won, round_: int = round_) -> None:
            with_reason = {"take_over": "a race"} if round_ == 2 else {}
            with contextlib.suppress(LockHeld):
                won.append(taker.take(f"owner{number}", **with_reason))

        racers = [threading.Thread(target=race, args=(number,)) for number in range(6)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        there = look(won[0].transport, run)
        assert there is not None
        holders = [claim for claim in won if claim.holder.token == there.holder.token]
        assert len(holders) == 1
        if round_ < 2:
            assert len(won) == 1
        for claim in won:
            claim.release()


def test_a_claim_that_cannot_be_read_is_somebodys(taker: Taker, run: str) -> None:
    Path(run).mkdir()
    (Path(run) / "claim").write_text("\x1b[31mgarbage {\n")
    with pytest.raises(LockHeld, match="cannot be read"):
        taker.take()
    taker.take(take_over="it is garbage")


@given(st.text(max_size=200))
def test_whatever_stands_there_is_somebodys_or_nobodys(text: str) -> None:
    there = parse(text)
    lines = text.split("\n")
    assert (there is None) is not bool(lines and lines[0].strip())
    assert there is None or not (there.live and there.age is None)


def test_a_ci_job_is_the_same_owner_each_time() -> None:
    job = {"CI_JOB_NAME": "msix", "CI_PROJECT_PATH": "lab/xen", "CI_JOB_ID": "1", "USER": "runner"}
    assert owner_of(job) == owner_of({**job, "CI_JOB_ID": "2"}) == "lab/xen:msix"


@pytest.mark.parametrize(
    ("environment", "owner"),
    [
        ({"CI_JOB_NAME": "msix"}, "ci:msix"),
        ({"CI_JOB_NAME": "msix", "CI_PROJECT_PATH": "lab/xen", "USER": "runner"}, "lab/xen:msix"),
        ({"GITHUB_JOB": "msix", "GITHUB_REPOSITORY": "lab/xen", "USER": "runner"}, "lab/xen:msix"),
        ({"JOB_NAME": "msix", "JENKINS_URL": "https://ci.example/", "USER": "jenkins"}, "https://ci.example/:msix"),
        ({"USER": "ada"}, f"ada@{socket.gethostname()}"),
        ({"USER": "root", "SUDO_USER": "ada"}, f"ada@{socket.gethostname()}"),
        ({}, f"uid{os.getuid()}@{socket.gethostname()}"),
    ],
)
def test_who_claims(environment: dict[str, str], owner: str) -> None:
    assert owner_of(environment) == owner
