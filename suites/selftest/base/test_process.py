"""The door to local subprocesses: output, deadlines, and nothing left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness.base import process
from harness.base.deadline import poll
from harness.base.errors import CommandFailed, UsageError
from harness.base.process import package_of, pasteable, run
from suites.selftest.fakes.patience import Once, soon


def gone(pid: int) -> bool:
    """No such process, or only its entry waiting for whoever adopted it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def number_in(path: Path) -> int:
    assert poll(lambda: path.exists() and path.read_text().endswith("\n"), soon())
    return int(path.read_text())


def test_streams_are_apart_and_status_is_kept() -> None:
    done = run(["sh", "-c", "echo out; echo err >&2; exit 3"], deadline=soon(), check=False)
    assert (done.stdout, done.stderr, done.status) == ("out\n", "err\n", 3)


def test_arguments_are_not_seen_by_a_shell() -> None:
    assert run(["printf", "%s", "$HOME `id` ; *"], deadline=soon()).stdout == "$HOME `id` ; *"


def test_stdin_environment_and_folder(tmp_path: Path) -> None:
    done = run(["sh", "-c", "cat; pwd; echo $X"], deadline=soon(), stdin="in\n", env={"X": "x y"}, cwd=tmp_path)
    assert done.stdout == f"in\n{tmp_path}\nx y\n"


def test_stdin_is_empty_by_default() -> None:
    assert run(["cat"], deadline=soon()).stdout == ""


def test_what_it_says_is_on_no_disk() -> None:
    """It may be a password, and a disk may be full."""
    said = run(["readlink", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"], deadline=soon(), stdin="x")
    assert [line.partition(":")[0] for line in said.stdout.splitlines()] == ["/memfd"] * 3


def test_one_that_says_too_much_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MOST", 1 << 20)
    with pytest.raises(CommandFailed, match="yes says more than 1 MiB"):
        run(["yes"], deadline=soon(), check=False)


def test_failure_shows_the_pasteable_line_and_the_tail() -> None:
    with pytest.raises(CommandFailed, match=r"exit status 7: sh -c 'echo \"no luck\" >&2; exit 7'\n    no luck"):
        run(["sh", "-c", 'echo "no luck" >&2; exit 7'], deadline=soon())


def test_log_holds_the_line_and_both_streams_while_running(tmp_path: Path) -> None:
    log = tmp_path / "sub" / "log"
    with pytest.raises(CommandFailed, match=str(log)) as caught:
        run(["sh", "-c", "echo out; echo err >&2; exit 1"], deadline=soon(), log=log)
    assert log.read_text() == "$ sh -c 'echo out; echo err >&2; exit 1'\nout\nerr\n"
    assert "err" in str(caught.value)


def test_missing_program_names_the_package() -> None:
    with pytest.raises(UsageError, match=r"'qemu-no-such' is missing.*package qemu-no-such"):
        run(["qemu-no-such"], deadline=soon())
    assert package_of("mkfs.ext4") == "e2fsprogs"


def test_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot start"):
        run(["true"], deadline=soon(), cwd=tmp_path / "none")


def test_deadline_ends_the_whole_group(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with pytest.raises(CommandFailed, match="no end after"):
        run(["sh", "-c", f"sleep 3600 & echo $! > {note}; wait"], deadline=Once.it(lambda: number_in(note)))
    assert poll(lambda: gone(number_in(note)), soon())


def test_interrupt_ends_the_whole_group(tmp_path: Path) -> None:
    note = tmp_path / "pid"

    def interrupt() -> None:
        number_in(note)
        os.kill(os.getpid(), signal.SIGINT)

    helper = threading.Thread(target=interrupt)
    helper.start()
    with pytest.raises(KeyboardInterrupt):
        run(["sh", "-c", f"sleep 3600 & echo $! > {note}; wait"], deadline=soon())
    helper.join()
    assert poll(lambda: gone(number_in(note)), soon())


def test_killed_harness_leaves_nothing_running(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = (
        "from harness.base.process import run; from harness.base.deadline import Deadline\n"
        f"run(['sh', '-c', 'sleep 3600 & echo $! > {note}; wait'], deadline=Deadline.after(3600))"
    )
    harness = subprocess.Popen([sys.executable, "-c", code])  # noqa: S603 - our own interpreter
    sleeper = number_in(note)
    harness.kill()
    harness.wait()
    assert poll(lambda: gone(sleeper), soon())


@pytest.mark.parametrize("busy", ["", "sleep 0.3\n"], ids=["at once", "before the guard waits for it"])
def test_a_command_may_clean_up_before_it_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: str) -> None:
    began = "3<&- &\n"
    assert began in process._GUARD
    monkeypatch.setattr(process, "_GUARD", process._GUARD.replace(began, began + busy))
    ready, cleaned = tmp_path / "ready", tmp_path / "cleaned"
    script = f"trap 'sleep 0.2; echo done > {cleaned}; exit 1' TERM; echo > {ready}; while :; do sleep 0.1; done"
    with pytest.raises(CommandFailed):
        run(["sh", "-c", script], deadline=Once.it(ready.exists))
    assert cleaned.read_text() == "done\n"


def test_pasteable_line_quotes() -> None:
    assert pasteable(["a b", "c"], cwd=Path("/x y"), env={"V": "1 2"}) == "cd '/x y' && V='1 2' 'a b' c"
