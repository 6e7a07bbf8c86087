"""docs/ci.md: its examples are files that they say they are, and what they type is there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import yaml

from harness.cli.entry import main
from suites.selftest.fakes.badbundle import new_key

pytestmark = pytest.mark.whole

TEXT = (Path(__file__).parents[3] / "docs/ci.md").read_text()


def example(heading: str) -> str:
    found = re.search(rf"^## {heading}\n\n((?:    .*\n|\n)+)", TEXT, re.MULTILINE)
    assert found is not None
    return textwrap.dedent(found[1])


def test_gitlabs_is_whole() -> None:
    """Its published schema was held against it with gitlab-ci-local; here only what this file may break."""
    told = yaml.safe_load(example("GitLab"))
    jobs = {name: job for name, job in told.items() if name not in ("stages", "variables")}
    assert {job["stage"] for job in jobs.values()} == set(told["stages"])
    assert all(isinstance(line, str) for job in jobs.values() for line in job["script"])


def test_jenkins_closes_what_it_opens() -> None:
    bare = re.sub(r"//.*|'[^'\n]*'|\"[^\"\n]*\"", "", example("Jenkins"))
    for one, other in ("{}", "()", "[]"):
        assert bare.count(one) == bare.count(other) > 0


@pytest.mark.parametrize("line", sorted(set(re.findall(r"\./tools/maskall ([^'\n;`]+(?:\n +--[^'\n;`]+)?)", TEXT))))
def test_every_option_that_it_types_is_there(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    command, *words = shlex.split(line.replace("||", "#"), comments=True)
    assert main([command, "--help"]) == 0
    known = capsys.readouterr().out
    for word in words:
        assert not word.startswith("--") or re.search(rf"(?<![\w-]){word}(?![\w-])", known), word


MASKALL = """#!{python}
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from harness.cli.entry import main
from harness.report.results import RunResult
from harness.run import history, store
from harness.run.session import store_run
from suites.selftest.fakes.badbundle import chained, finished_run

given = sys.argv[1:]
if given[0] != "run":
    sys.exit(main(given))
folder = Path(given[given.index("--results") + 1])
folder.mkdir(parents=True)
finished_run("proven", folder)
store_run(store.load(folder / "results.json", RunResult), folder)
chained(folder)
history.add(Path(given[given.index("--history") + 1]), store.load(folder / "results.json", RunResult))
"""
"""In the place of ./tools/maskall: what it plays was recorded, and all else is done by the real one."""


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., None]:
    """Runs lines of an example by a shell, as a runner does, in a checkout with all that the runner has around it."""
    tool = tmp_path / "tools/maskall"
    tool.parent.mkdir()
    tool.write_text(MASKALL.format(python=sys.executable, root=str(Path(__file__).parents[3])))
    tool.chmod(0o755)
    for folder in ("srv", "prom", "home/.ssh"):
        (tmp_path / folder).mkdir(parents=True)
    new_key(tmp_path / "home/.ssh", "ci_ed25519")

    def run(lines: Iterable[str], **variables: str) -> None:
        script = "\n".join(["set -eo pipefail", *lines])
        for there, here in (("/srv/maskall/", "srv/"), ("/var/lib/node_exporter/", "prom/")):
            script = script.replace(there, f"{tmp_path}/{here}")
        environment = {**os.environ, "HOME": str(tmp_path / "home"), **variables}
        done = subprocess.run(  # noqa: S603 - the examples are ours
            ["/bin/bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return run


def test_gitlabs_jobs_leave_what_they_name(job: Callable[..., None], tmp_path: Path) -> None:
    told = yaml.safe_load(example("GitLab"))
    for number in ("1", "2"):
        job(told["play"]["script"], CI_NODE_INDEX=number, CI_NODE_TOTAL="2", CI_PIPELINE_ID="77")
        (report,) = tmp_path.glob(told["play"]["artifacts"]["reports"]["junit"].replace("*", f"77-{number}"))
        assert report.stat().st_size
    job(told["tell"]["script"])
    (pattern,) = told["tell"]["artifacts"]["paths"]
    assert sorted(one.name for one in tmp_path.glob(pattern)) == [f"77-{number}.maskall.tar.gz" for number in "12"]


def test_jenkins_steps_leave_what_it_names(job: Callable[..., None], tmp_path: Path) -> None:
    """Its shell steps, taken out of the Jenkinsfile; what its plugins pick up afterwards has to be there."""
    text = example("Jenkins")
    play, *always = re.findall(r"^ +sh '([^']+)'$", text, re.MULTILINE)
    job([play], BUILD_NUMBER="7")
    job(always, BUILD_NUMBER="7")
    named = re.findall(r'(?:testResults|reportDir): "([^"]+)"|archiveArtifacts artifacts: "([^"]+)"', text)
    places = ["".join(one).replace("${env.BUILD_NUMBER}", "7") for one in named]
    assert len(places) == 3 and all(any(tmp_path.glob(one)) for one in places)
    (page,) = re.findall(r"reportFiles: '([^']+)'", text)
    assert (tmp_path / "results/7" / page).read_bytes().startswith(b"<!doctype html>")
    assert (tmp_path / "prom/maskall.prom").read_bytes().endswith(b"# EOF\n")
    assert (tmp_path / "srv/lab.sqlite").exists()
