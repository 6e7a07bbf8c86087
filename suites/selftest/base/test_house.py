"""The house keeps what docs/architecture.md promises: no cycles, no name twice, a short road to a verdict."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.whole

ROOT = Path(__file__).parents[3]


def test_its_promises() -> None:
    counted = subprocess.run([sys.executable, ROOT / "tools/house"], capture_output=True, text=True, check=False)  # noqa: S603
    assert counted.returncode == 0, counted.stdout
    assert "packages in an import cycle          0" in counted.stdout


def test_a_second_class_of_a_name_is_told(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/house").write_text((ROOT / "tools/house").read_text())
    for folder, other in (("judge", "model"), ("model", "judge")):
        (tmp_path / "harness" / folder).mkdir(parents=True)
        (tmp_path / "harness" / folder / "__init__.py").write_text("")
        text = f"from harness.{other} import judge\n\n\nclass Twice:\n    pass\n"
        (tmp_path / "harness" / folder / "judge.py").write_text(text)
    command = [sys.executable, tmp_path / "tools/house"]
    counted = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert counted.returncode == 1
    assert "class names used twice               1  Twice" in counted.stdout
    assert "packages in an import cycle          2  harness.judge harness.model" in counted.stdout
