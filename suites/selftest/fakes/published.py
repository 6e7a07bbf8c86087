"""Examples in our pages: an indented `$ maskall ...` and below it, indented too, what that prints.

To publish them again, from the root of the repository:

    python -c 'import suites.selftest.fakes.published as p; p.publish("docs/explain.md")'
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
from pathlib import Path

_PROMPT = "    $ maskall explain "


def examples(page: str) -> list[list[str]]:
    """The words of each command behind `maskall explain`."""
    return [shlex.split(line.removeprefix(_PROMPT)) for line in page.splitlines() if line.startswith(_PROMPT)]


def with_outputs(page: str, outputs: list[str]) -> str:
    """The page with these outputs below its commands."""
    lines: list[str] = []
    todo = iter(outputs)
    skipping = False
    for line in page.splitlines():
        skipping = skipping and (line.startswith("    ") or not line)
        if skipping:
            continue
        if lines and lines[-1].startswith("    ") and line and not line.startswith("    "):
            lines.append("")
        lines.append(line)
        if line.startswith(_PROMPT):
            lines += [f"    {one}".rstrip() for one in next(todo).splitlines()]
            skipping = True
    return "\n".join(lines) + "\n"


def publish(name: str) -> None:
    from harness.cli import main

    page = Path(name).read_text()
    outputs = []
    os.environ["COLUMNS"] = "120"
    for words in examples(page):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            main(["explain", *words])
        outputs.append(output.getvalue())
    Path(name).write_text(with_outputs(page, outputs))
