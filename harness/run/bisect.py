"""Bisect: which commit of a developer's tree brought the defect. git does the walking, in a worktree of its own.

Each commit is built, its product is played, and what came of it is written down before the next one is taken. So a
bisect that was interrupted goes on from its file, and a commit is never judged twice.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import Field

from harness.base.deadline import Deadline
from harness.base.errors import CommandFailed, ExitStatus, LabError, MaskallError, UsageError
from harness.base.process import Completed
from harness.base.process import run as call
from harness.base.strict import StrictModel
from harness.judge.judgement import Check, Conclusion
from harness.report.results import RunResult, ScenarioResult
from harness.run.store import write_atomically

FILE = "bisect.json"
LOG = "bisect.log"
_GIT_SECONDS = 300.0
_CONFIDENCE = 0.95


class Term(StrEnum):
    """What `git bisect` is told of a commit."""

    GOOD = "good"
    BAD = "bad"
    SKIP = "skip"


STATUS: dict[Term | None, int] = {Term.GOOD: 0, Term.BAD: 1, Term.SKIP: 125, None: 129}
"""As `git bisect run` reads the exit status of a command; from 128 on it gives up."""


def signature(check: Check) -> str:
    """How a violated check is named by --bad-is."""
    return f"{check.checkpoint} {check.view}: {check.subject}"


def answer_of(result: RunResult, bad_is: str | None) -> Term | None:
    """What a run says of the commit that it played; None: nothing that may be relied on, so bisecting must end.

    Bad is a product failure, one that was expected too; with `bad_is` only one that violates this check.
    """
    if not result.scenarios or any(one.conclusion is Conclusion.BLIND for one in result.scenarios):
        return None
    answers = [_answer(one, bad_is) for one in result.scenarios]
    return next((one for one in (Term.BAD, Term.SKIP) if one in answers), Term.GOOD)


def _answer(scenario: ScenarioResult, bad_is: str | None) -> Term:
    stock = scenario.stock
    if stock.verdict.blames_product:
        shown = [signature(check) for check in stock.judgement.violations]
        return Term.BAD if bad_is is None or bad_is in shown else Term.SKIP
    return {Conclusion.REGRESSION: Term.BAD, Conclusion.UNDECIDED: Term.SKIP, Conclusion.SKIPPED: Term.SKIP}.get(
        scenario.conclusion, Term.GOOD
    )


class Tried(StrictModel):
    """One commit: what each round of it said, and why when it could not be played."""

    rounds: tuple[Term, ...] = ()
    why: str = ""


class Bisecting(StrictModel):
    """bisect.json: what is asked, and what is known by now."""

    version: Literal["1"] = "1"
    repo: str
    good: str
    bad: str
    build: str
    takes: str
    scenarios: tuple[str, ...]
    bad_is: str | None
    rounds: int = Field(ge=1, description="how often each commit is played")
    bad_from: int = Field(ge=1, description="so many bad rounds make it bad")
    tried: dict[str, Tried] = Field(default={})
    confirmed: dict[str, Tried] = Field(
        default={}, description="the last good and the first bad commit, played once more"
    )


Play = Callable[[Path, Path], "RunResult | None"]
"""Plays a product into a directory of results; None: the lab or the harness failed, and has said how."""


class NoSuchEnd(UsageError):
    """A range whose ends are not what they were said to be."""

    exit_status = ExitStatus.FAILED


@dataclass
class Culprit:
    """How it ended. `first_bad` is None where only skipped commits are left, which `candidates` names."""

    first_bad: str | None
    last_good: str | None
    candidates: tuple[str, ...] = ()
    risk: str = ""


@dataclass
class Bisect:
    """One bisect in `folder`, which holds everything: its file, a worktree, builds, logs and results."""

    folder: Path
    asked: Bisecting
    play: Play
    note: Callable[[str], None]
    build_seconds: float = 7200.0
    _tree: Path = field(init=False)

    def __post_init__(self) -> None:
        self._tree = self.folder / "tree"

    def run(self) -> Culprit:
        """The first bad commit. NoSuchEnd, UsageError, LabError when the ends or the confirmation contradict."""
        good, bad = self.ends()
        self._worktree(bad)
        try:
            for commit, wanted in ((good, Term.GOOD), (bad, Term.BAD)):
                told = self._answer(commit)
                if told is not wanted:
                    why = self.asked.tried[commit].why
                    raise NoSuchEnd(f"{commit[:12]}, the {wanted} end, is {told}{f': {why}' if why else ''}")
            found = self._walk(good, bad)
            if found.first_bad is not None:
                self._confirm(found)
                found.risk = self._risk(bad)
            return found
        finally:
            self._git("bisect", "reset", check=False)
            self._repo("worktree", "remove", "--force", str(self._tree), check=False)

    def ends(self) -> tuple[str, str]:
        """Both commits, the older one first. UsageError when they are none, or no range."""
        if self._repo("rev-parse", "--git-dir", check=False).status:
            raise UsageError(f"{self.asked.repo} is no git repository", hint="give the product's with --repo")
        good, bad = self._commit(self.asked.good), self._commit(self.asked.bad)
        if self._repo("merge-base", "--is-ancestor", good, bad, check=False).status:
            raise UsageError(f"{self.asked.good} is no ancestor of {self.asked.bad}", hint="--good is the older one")
        return good, bad

    def _walk(self, good: str, bad: str) -> Culprit:
        self._git("bisect", "start", "--no-checkout", bad, good)
        while True:
            commit = self._git("rev-parse", "BISECT_HEAD").stdout.strip()
            answer = self._answer(commit)
            done = self._git("bisect", str(answer), check=False)
            write_atomically(self.folder / LOG, self._git("bisect", "log").stdout.encode())
            if match := re.search(r"^([0-9a-f]{40}) is the first bad commit", done.stdout, re.MULTILINE):
                return Culprit(match[1], self._commit(f"{match[1]}^"))
            if "only 'skip'ped commits left" in done.stdout:
                return Culprit(None, None, tuple(re.findall(r"^([0-9a-f]{40})$", done.stdout, re.MULTILINE)))
            if done.status:
                raise LabError(f"git bisect {answer}: {(done.stderr or done.stdout).strip()}")
            self.note(done.stdout.splitlines()[0] if done.stdout else "")

    def _answer(self, commit: str) -> Term:
        """From what is known, and as many rounds more as it takes to tell."""
        tried = self.asked.tried.get(commit, Tried())
        while (answer := self._told(tried)) is None:
            tried = self._round(commit, tried)
            self.asked.tried[commit] = tried
            self._write()
        return answer

    def _told(self, tried: Tried) -> Term | None:
        """None: it takes another round. Enough bad ones make it bad; it is good once there can be no more of them."""
        bad = tried.rounds.count(Term.BAD)
        if bad >= self.asked.bad_from:
            return Term.BAD
        if tried.why or Term.SKIP in tried.rounds:
            return Term.SKIP
        left = self.asked.rounds - len(tried.rounds)
        return Term.GOOD if bad + left < self.asked.bad_from else None

    def _round(self, commit: str, tried: Tried) -> Tried:
        number = len(tried.rounds) + 1
        try:
            product = self._product(commit)
        except CommandFailed as error:
            self.note(f"{commit[:12]} cannot be built: {error.hint}")
            return tried.model_copy(update={"why": "it cannot be built"})
        self.note(f"{commit[:12]} round {number} of at most {self.asked.rounds}: {self._subject(commit)}")
        result = self.play(product, self.folder / "results" / f"{commit[:12]}-{self._next(commit)}")
        answer = Term.SKIP if result is None else answer_of(result, self.asked.bad_is)
        if answer is None:
            raise LabError(f"{commit[:12]}: the run proves nothing, for its control passes", hint="see its results")
        self.note(f"{commit[:12]} round {number}: {answer}")
        return tried.model_copy(update={"rounds": (*tried.rounds, answer)})

    def _next(self, commit: str) -> int:
        """Results of an earlier round, or of one that was broken off, are never written over."""
        return len(list((self.folder / "results").glob(f"{commit[:12]}-*"))) + 1

    def _product(self, commit: str) -> Path:
        """What the commit's build leaves, kept. CommandFailed when it does not build."""
        kept = self.folder / "builds" / commit
        if kept.exists():
            return kept
        log = self.folder / "logs" / f"{commit[:12]}.build.log"
        self._git("checkout", "--quiet", "--detach", "--force", commit)
        self.note(f"{commit[:12]} builds: {self.asked.build}")
        call(["sh", "-c", self.asked.build], deadline=Deadline.after(self.build_seconds), cwd=self._tree, log=log)
        made = self._tree / self.asked.takes
        if not made.is_file():
            raise CommandFailed(f"the build left no {self.asked.takes}", hint=f"it left no {self.asked.takes}; {log}")
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made, kept.with_suffix(".new"))
        kept.with_suffix(".new").rename(kept)
        return kept

    def _confirm(self, found: Culprit) -> None:
        """Both ends of what is left are played anew; LabError when one is another now."""
        for commit, wanted in ((found.last_good, Term.GOOD), (found.first_bad, Term.BAD)):
            if commit is None:
                continue
            again = self.asked.confirmed.get(commit, Tried())
            while (told := self._told(again)) is None:
                again = self._round(commit, again)
                self.asked.confirmed[commit] = again
                self._write()
            if told is not wanted:
                raise LabError(
                    f"{commit[:12]} was {wanted} and is {told} now: the defect comes and goes",
                    hint="more --rounds tell it from chance",
                )

    def _risk(self, bad: str) -> str:
        """How likely a bad commit passes for a good one, by how often the defect showed where it is for certain."""
        played = [*self.asked.tried[bad].rounds, *(one for each in self._confirmed_bad() for one in each.rounds)]
        shown, plays = played.count(Term.BAD), len(played)
        least = least_rate(shown, plays)
        missed = missed_risk(least, self.asked.rounds, self.asked.bad_from)
        return (
            f"the defect showed in {shown} of {plays} rounds of bad commits, so with {_CONFIDENCE:.0%} confidence in "
            f"at least {least:.0%} of them: a bad commit passes for a good one with at most {missed:.1%}"
        )

    def _confirmed_bad(self) -> Iterator[Tried]:
        return (one for one in self.asked.confirmed.values() if self._told(one) is Term.BAD)

    # -- git -----------------------------------------------------------------------------------------------------------

    def _worktree(self, commit: str) -> None:
        """A worktree of our own: the developer's is not touched, and its bisect is another one."""
        self._repo("worktree", "remove", "--force", str(self._tree), check=False)
        self._repo("worktree", "prune")
        self._repo("worktree", "add", "--quiet", "--detach", str(self._tree), commit)

    def _commit(self, name: str) -> str:
        found = self._repo("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", check=False)
        if found.status:
            raise UsageError(f"{self.asked.repo} has no commit {name!r}", hint="name one that 'git log' shows")
        return found.stdout.strip()

    def _subject(self, commit: str) -> str:
        return self._repo("show", "--no-patch", "--format=%s", commit).stdout.strip()

    def _repo(self, *words: str, check: bool = True) -> Completed:
        return call(["git", "-C", self.asked.repo, *words], deadline=Deadline.after(_GIT_SECONDS), check=check)

    def _git(self, *words: str, check: bool = True) -> Completed:
        return call(["git", "-C", str(self._tree), *words], deadline=Deadline.after(_GIT_SECONDS), check=check)

    def _write(self) -> None:
        write_atomically(self.folder / FILE, self.asked.model_dump_json(indent=1).encode() + b"\n")


def missed_risk(rate: float, rounds: int, bad_from: int) -> float:
    """How likely fewer than `bad_from` of `rounds` show a defect that shows at this rate."""
    return sum(math.comb(rounds, k) * rate**k * (1 - rate) ** (rounds - k) for k in range(bad_from))


def least_rate(shown: int, plays: int) -> float:
    """The lowest rate at which `shown` or more of `plays` are not too unlikely (Clopper-Pearson, one side)."""
    if not shown:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(50):
        rate = (low + high) / 2
        low, high = (rate, high) if 1 - missed_risk(rate, plays, shown) < 1 - _CONFIDENCE else (low, rate)
    return low


def begun(folder: Path) -> Bisecting:
    """What an interrupted bisect in `folder` was asked and knows. UsageError."""
    try:
        return Bisecting.model_validate_json((folder / FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder} holds no bisect", hint=f"--resume wants a directory with {FILE}") from error


def played_by(play: Callable[[Path, Path], RunResult | None], note: Callable[[str], None]) -> Play:
    """The same, with errors of the lab told and made None; what the user got wrong still raises."""

    def guarded(product: Path, results: Path) -> RunResult | None:
        try:
            return play(product, results)
        except UsageError:
            raise
        except MaskallError as error:
            note(error.message)
            return None

    return guarded


def names(commits: Sequence[str]) -> str:
    """Commits for people."""
    return ", ".join(one[:12] for one in commits)
