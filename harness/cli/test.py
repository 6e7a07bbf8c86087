"""`maskall test`: everything in tox.ini; with --fuzz the open-ended search for what the self-tests do not know yet."""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand

from harness.base.deadline import Deadline
from harness.base.errors import CommandFailed, ExitStatus, UsageError
from harness.base.process import run
from harness.cli.run import checkout

app = typer.Typer()


class _HandsOn(TyperCommand):
    """`--` is for tox, which hands on to pytest what stands behind it; click would keep it to itself."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        at = args.index("--") if "--" in args else len(args)
        return super().parse_args(ctx, [*args[:at], *args[at : at + 1], *args[at:]])


@app.command(
    cls=_HandsOn,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="""Examples:

\b
  maskall test                    lint, types, import rules, self-tests, and on a real Xen nested, examples, lab
  maskall test -e self            the self-tests, in a minute: no root, no QEMU, no network
  maskall test -e self,whole      and those that play a whole lease, run, bundle or program, on fakes
  maskall test -e nested -- -k E14    one lane, with arguments for pytest
  maskall test --fuzz 30          half an hour of input that was not tried before""",
)
def test(
    context: typer.Context,
    fuzz: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES",
            min=0.1,
            help="Instead: feed the parsers and the models other examples in each round until one fails or the time is "
            "over. Arguments go to pytest.",
        ),
    ] = None,
) -> int:
    """Test maskall itself by tox, and pass arguments on.

    Everything in tox.ini, with the nested lane in it. tox takes the place of this process.
    """
    root = checkout()
    if fuzz is not None:
        return _search(root, fuzz, [word for word in context.args if word != "--"])
    if find_spec("tox") is None:
        raise UsageError("tox is not installed", hint="call ./tools/maskall test, which installs it")
    os.chdir(root)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "tox", *context.args])  # noqa: S606 - list argv, our own interpreter


def _search(root: Path, minutes: float, arguments: list[str]) -> int:
    """Rounds over every test that takes examples, until the time is over. FAILED, with its output, for one that fails.

    The self-tests themselves take the same examples every time: suites/selftest/conftest.py.
    """
    if find_spec("hypothesis") is None:
        raise UsageError("hypothesis is not installed", hint="call ./tools/maskall test --fuzz, which installs it")
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "hypothesis", "-p", "no:cacheprovider"]
    words += arguments if any(Path(root, word).exists() for word in arguments) else ["suites/selftest", *arguments]
    deadline, rounds = Deadline.after(minutes * 60), 0
    with tempfile.TemporaryDirectory(prefix="maskall-fuzz-") as folder:
        while not deadline.expired:
            log = Path(folder) / f"round-{rounds + 1}"
            try:
                done = run(words, deadline=deadline, cwd=root, env={"MASKALL_EXAMPLES": "fuzz"}, log=log, check=False)
            except CommandFailed:  # the time is over in the middle of a round
                break
            if done.status != 0:
                print(log.read_text(errors="replace"))
                print(f"round {rounds + 1} did not pass: make the example above a test of its own, then mend it")
                return ExitStatus.FAILED
            rounds += 1
    print(f"{minutes:g} min, {rounds} whole rounds: nothing was found")
    return 0
