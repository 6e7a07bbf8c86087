"""Bisect over a real git repository, whose builds are a word and whose plays look at it."""

from __future__ import annotations

import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.base.errors import LabError, UsageError
from harness.cli import entry
from harness.judge.judgement import Conclusion
from harness.report.results import RunResult, ScenarioResult
from harness.run import bisect
from harness.run.bisect import Bisect, Bisecting, Culprit, NoSuchEnd, Term, answer_of, begun, least_rate, missed_risk
from suites.selftest.fakes.samplerun import build, scenarios

pytestmark = pytest.mark.whole

BY_CONCLUSION = {one.conclusion: one for one in scenarios()}
PASSES, FAILS = BY_CONCLUSION[Conclusion.PROVEN], BY_CONCLUSION[Conclusion.REGRESSION]
# what a commit's file says: its build copies it, or fails; a flaky one is bad the first time it is played
COMMITS = ["good", "good", "broken", "flaky", "good", "bad", "bad", "bad"]
FIRST_BAD = 5


def run_of(*results: ScenarioResult) -> RunResult:
    return build(list(results))


@dataclass
class Repository:
    root: Path
    commits: list[str] = field(default_factory=list)
    plays: Counter[str] = field(default_factory=Counter)
    lost: int = 0  # so many plays end by an error of the lab

    @classmethod
    def of(cls, root: Path, words: list[str]) -> Repository:
        made = cls(root)
        root.mkdir()
        made.git("init", "--quiet", "--initial-branch", "main")
        for number, word in enumerate(words):
            (root / "word").write_text(f"{word} {number}\n")
            made.git("add", "word")
            made.git("commit", "--quiet", "-m", f"{number}: {word}")
            made.commits.append(made.git("rev-parse", "HEAD"))
        return made

    def git(self, *words: str) -> str:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(self.root), *who, *words],  # noqa: S607
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def play(self, product: Path, results: Path) -> RunResult | None:
        results.mkdir(parents=True)
        word, number = product.read_text().split()
        self.plays[number] += 1
        if self.lost:
            self.lost -= 1
            return None
        bad = word == "bad" or (word == "flaky" and self.plays[number] == 1)
        return run_of(FAILS if bad else PASSES)

    def asked(self, **more: object) -> Bisecting:
        given: dict[str, object] = {
            "repo": str(self.root),
            "good": self.commits[0],
            "bad": "HEAD",
            "build": "grep -qv broken word && cp word made",
            "takes": "made",
            "scenarios": ("E14",),
            "bad_is": None,
            "rounds": 3,
            "bad_from": 2,
        }
        return Bisecting.model_validate(given | more)

    def bisect(self, folder: Path, play: bisect.Play | None = None, **more: object) -> Culprit:
        return Bisect(folder, self.asked(**more), play or self.play, lambda _: None).run()


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return Repository.of(tmp_path / "repo", COMMITS)


def test_it_names_the_commit_past_one_that_does_not_build_and_a_flaky_one(repo: Repository, tmp_path: Path) -> None:
    found = repo.bisect(tmp_path / "b")
    assert found.first_bad == repo.commits[FIRST_BAD]
    assert found.last_good == repo.commits[FIRST_BAD - 1]
    assert "showed in 4 of 4 rounds" in found.risk
    known = begun(tmp_path / "b")
    assert all(commit in repo.commits for commit in known.tried)
    assert "first bad commit" in (tmp_path / "b" / bisect.LOG).read_text()


@pytest.mark.parametrize("first", range(1, 8))
def test_whichever_it_is(tmp_path: Path, first: int) -> None:
    repo = Repository.of(tmp_path / "repo", ["good"] * first + ["bad"] * (8 - first))
    found = repo.bisect(tmp_path / "b", rounds=1, bad_from=1)
    assert found.first_bad == repo.commits[first]


def test_the_developers_checkout_is_not_touched(repo: Repository, tmp_path: Path) -> None:
    (repo.root / "word").write_text("not committed\n")
    before = repo.git("status", "--porcelain"), repo.git("rev-parse", "HEAD"), repo.git("for-each-ref")
    repo.bisect(tmp_path / "b")
    assert (repo.git("status", "--porcelain"), repo.git("rev-parse", "HEAD"), repo.git("for-each-ref")) == before
    assert len(repo.git("worktree", "list").splitlines()) == 1


def test_a_flaky_commit_misleads_who_plays_it_once_and_is_found_out(tmp_path: Path) -> None:
    """It failed by chance, so it looks like the first bad one; played once more it does not fail."""
    repo = Repository.of(tmp_path / "repo", ["good", "flaky", "bad"])
    with pytest.raises(LabError, match="the defect comes and goes"):
        repo.bisect(tmp_path / "b", rounds=1, bad_from=1)


@pytest.mark.parametrize(
    ("words", "said"),
    [(["bad", "bad"], "the good end, is bad"), (["good", "good"], "the bad end, is good"),
     (["broken", "bad"], "the good end, is skip: it cannot be built")],
)  # fmt: skip
def test_ends_that_are_none(tmp_path: Path, words: list[str], said: str) -> None:
    repo = Repository.of(tmp_path / "repo", words)
    with pytest.raises(NoSuchEnd, match=said) as raised:
        repo.bisect(tmp_path / "b")
    assert raised.value.exit_status == 1


def test_ends_in_the_wrong_order(repo: Repository, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no ancestor of"):
        repo.bisect(tmp_path / "b", good="HEAD", bad=repo.commits[0])
    with pytest.raises(UsageError, match="has no commit 'nowhere'"):
        repo.bisect(tmp_path / "b", good="nowhere")
    assert not repo.plays


def test_only_skipped_ones_are_left(tmp_path: Path) -> None:
    repo = Repository.of(tmp_path / "repo", ["good", "broken", "broken", "bad"])
    found = repo.bisect(tmp_path / "b")
    assert found.first_bad is None
    assert set(found.candidates) == set(repo.commits[1:])


def test_a_lab_that_fails_is_no_bad_commit(repo: Repository, tmp_path: Path) -> None:
    repo.lost = 1
    with pytest.raises(NoSuchEnd, match="the good end, is skip"):
        repo.bisect(tmp_path / "b")


def test_it_goes_on_and_plays_no_commit_twice(repo: Repository, tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def until_the_fifth(product: Path, results: Path) -> RunResult | None:
        if repo.plays.total() == 5:
            raise Interrupted
        return repo.play(product, results)

    folder = tmp_path / "b"
    with pytest.raises(Interrupted):
        repo.bisect(folder, until_the_fifth)
    found = Bisect(folder, begun(folder), repo.play, lambda _: None).run()
    assert found.first_bad == repo.commits[FIRST_BAD]
    whole = Repository.of(tmp_path / "again", COMMITS)
    whole.bisect(tmp_path / "c")
    assert repo.plays == whole.plays


def test_a_directory_that_holds_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no bisect"):
        begun(tmp_path)


class TestStatus:
    @pytest.mark.parametrize(
        ("conclusion", "answer"),
        [
            (Conclusion.PROVEN, Term.GOOD),
            (Conclusion.UNPROVEN, Term.GOOD),
            (Conclusion.CHANGED, Term.GOOD),
            (Conclusion.REGRESSION, Term.BAD),
            (Conclusion.KNOWN, Term.BAD),
            (Conclusion.UNDECIDED, Term.SKIP),
            (Conclusion.SKIPPED, Term.SKIP),
            (Conclusion.BLIND, None),
        ],
    )
    def test_of_each_conclusion(self, conclusion: Conclusion, answer: Term | None) -> None:
        assert answer_of(run_of(BY_CONCLUSION[conclusion]), None) is answer

    def test_bad_outweighs_skip_outweighs_good(self) -> None:
        undecided = BY_CONCLUSION[Conclusion.UNDECIDED]
        assert answer_of(run_of(PASSES, undecided, FAILS), None) is Term.BAD
        assert answer_of(run_of(PASSES, undecided), None) is Term.SKIP
        assert answer_of(run_of(), None) is None

    def test_another_failure_is_skipped(self) -> None:
        shown = bisect.signature(FAILS.stock.judgement.violations[0])
        assert answer_of(run_of(FAILS), shown) is Term.BAD
        assert answer_of(run_of(FAILS), "C6 guest: nothing that is there") is Term.SKIP
        assert answer_of(run_of(PASSES), shown) is Term.GOOD

    def test_as_git_reads_it(self) -> None:
        """git bisect run: 0 good, 1 to 127 bad but 125, from 128 on the end."""
        assert bisect.STATUS == {Term.GOOD: 0, Term.BAD: 1, Term.SKIP: 125, None: 129}

    @pytest.mark.parametrize(
        "words",
        ["run --bisect E99", "run --bisect --no-such", "run --bisect --stack nowhere", "run --bisect --xen /no"],
    )
    def test_a_mistake_is_no_bad_commit(self, words: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert entry.main(words.split()) == 129
        assert entry.main(words.replace("--bisect", "--cold").split()) == 2
        assert capsys.readouterr().err


@pytest.mark.parametrize(
    ("rate", "rounds", "bad_from", "risk"), [(1.0, 3, 1, 0.0), (0.5, 3, 1, 0.125), (0.5, 3, 2, 0.5), (0.0, 5, 1, 1.0)]
)
def test_the_risk_of_missing_it(rate: float, rounds: int, bad_from: int, risk: float) -> None:
    assert missed_risk(rate, rounds, bad_from) == pytest.approx(risk)


@pytest.mark.parametrize(("shown", "plays", "rate"), [(0, 5, 0.0), (3, 3, 0.368), (10, 10, 0.741), (5, 10, 0.222)])
def test_the_least_rate(shown: int, plays: int, rate: float) -> None:
    """Clopper-Pearson's lower bound, 95 %, one side: tables."""
    assert least_rate(shown, plays) == pytest.approx(rate, abs=0.001)
