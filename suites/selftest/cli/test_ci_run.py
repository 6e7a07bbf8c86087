""".ci/run: every lane has its turn, the first that is not green decides, and pytest's summary is the last line."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from suites.selftest.fakes.patience import FOREVER

ROOT = Path(__file__).parents[3]
SUMMARY = "=== 3 passed, 1 skipped in 4.05s ==="
LANES = ["lint,types,imports,self,whole", "nested", "examples", "lab"]
TEST = f"""#!/bin/sh
echo "$*" >>asked
echo "{SUMMARY}"
echo "  $3: OK"
[ "$3" != "$RED" ] || exit 7
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for folder in (".ci", "tools"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    (tmp_path / "tools/maskall").write_text(TEST)
    (tmp_path / "tools/maskall").chmod(0o755)
    return tmp_path


def test_the_lanes_are_those_of_the_readme_s_test_command() -> None:
    told = configparser.ConfigParser()
    told.read(ROOT / "tox.ini")
    assert ",".join(LANES).split(",") == [name.strip() for name in told["tox"]["env_list"].split(",")]


@pytest.mark.parametrize(("red", "status"), [("", 0), ("nested", 7), ("lab", 7), (LANES[0], 7)])
def test_it_ends_as_the_lane_that_is_not_green(checkout: Path, red: str, status: int) -> None:
    done = subprocess.run(  # noqa: S603 - our own program
        [checkout / ".ci/run"], env={"RED": red, "PATH": "/usr/bin:/bin"}, capture_output=True, timeout=FOREVER
    )
    assert done.returncode == status
    assert done.stdout.decode().splitlines()[-1] == SUMMARY
    asked = [line.split() for line in (checkout / "asked").read_text().splitlines()]
    assert [words[:3] for words in asked] == [["test", "-e", lane] for lane in LANES], "each, whatever the others say"
    assert [len(words) for words in asked] == [3, 5, 5, 5], "all but the self-tests are given minutes"
