"""docs/ci.md: its examples are files that they say they are, and what they type is there."""

from __future__ import annotations

import re
import shlex
import textwrap
from pathlib import Path

import pytest
import yaml

from harness.cli.entry import main

TEXT = (Path(__file__).parents[3] / "docs/ci.md").read_text()


def example(heading: str) -> str:
    found = re.search(rf"^## {heading}\n\n((?:    .*\n|\n)+)", TEXT, re.MULTILINE)
    assert found is not None
    return textwrap.dedent(found[1])


def test_gitlabs_is_whole() -> None:
    """Its published schema was held against it with gitlab-ci-local; here only what this file may break."""
    told = yaml.safe_load(example("GitLab"))
    jobs = {name: job for name, job in told.items() if name != "stages"}
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
