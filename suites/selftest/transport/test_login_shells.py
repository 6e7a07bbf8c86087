"""Root's login shell may be any: it hands a program on to sh(1) as it is. And nobody may say without end."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.base.errors import CommandFailed, EvidenceError, LabError
from harness.transport import base, received, sections, ssh
from harness.transport.base import Command, Script
from harness.transport.received import Received
from harness.transport.ssh import line_for
from suites.selftest.fakes.faketransport import FakeTransport, Reply
from suites.selftest.fakes.patience import FOREVER, soon
from suites.selftest.fakes.sshlink import Dial
from suites.selftest.fakes.sshserver import SshServer

SHELLS = [
    shell for shell in ("sh", "bash", "dash", "zsh", "ksh", "fish", "tcsh", "csh", "busybox") if shutil.which(shell)
]
AWKWARD = Script(
    "# a comment first; it's got quotes\n"
    "word='a!b' other=\"$(printf '%s' x)\" # $HOME `id` \\\\ \\' %s %%\n"
    "echo \"$word $other $# $0\" '*' '~' =ls {a,b} [x] '\\n' \"back\\\\slash\"\n"
    "case $word in a*) echo 'in case';; esac\n"
    "cat; exit 7\n"
)


def through(shell: str, command: Command, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """As sshd does it."""
    argv = [shell, *(["sh"] if shell == "busybox" else []), "-c", line_for(command, sudo=False, posix=False).decode()]
    env = {"PATH": "/usr/bin:/bin", "HOME": "/root", "SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22"}
    return subprocess.run(argv, input=stdin, capture_output=True, check=False, env=env, timeout=FOREVER)  # noqa: S603


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "command", [AWKWARD, ["printf", "%s|", "it's", "a!b", "\n", "$HOME", "\\", "*", ""], ["echo", "x=y"]]
)
def test_it_is_the_same_in_every_shell(shell: str, command: Command) -> None:
    argv = ["sh", "-c", command.text, "sh"] if isinstance(command, Script) else list(command)
    wanted = subprocess.run(argv, input=b"from stdin\n", capture_output=True, check=False)  # noqa: S603
    seen = through(shell, command, b"from stdin\n")
    assert (seen.stdout, seen.returncode) == (wanted.stdout, wanted.returncode), seen.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_the_programs_of_the_harness_too(shell: str) -> None:
    program = sections.Path(sections.__file__).parents[1] / "lab/lease/baseline.sh"
    script = Script(f"set -- @separator 0000:ff:1f.7\n{program.read_text()}")
    assert b"@separator end" in through(shell, script).stdout


@settings(max_examples=30)
@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12), min_size=1, max_size=4))
def test_any_words_arrive(words: list[str]) -> None:
    for shell in [one for one in SHELLS if one in ("sh", "tcsh", "fish")][:2]:
        seen = through(shell, ["printf", "%s\\n", *words])
        assert seen.stdout.decode() == "".join(f"{word}\n" for word in words)


def test_a_program_under_sudo_is_one_line_for_any_shell() -> None:
    line = line_for(Script("echo 'a\nb'"), sudo=True, posix=False).decode()
    assert line.startswith("exec sudo -n -- env SSH_CONNECTION=") and "\n" not in line and "\\'" not in line


class TestCaps:
    def test_a_command_that_says_too_much(self, server: SshServer, dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ssh, "MOST", 1 << 20)
        link = dial(server.port)
        link.connect(soon())
        with pytest.raises(LabError, match="says more than 1 MiB: head"):
            link.run(["head", "-c", "9000000", "/dev/zero"], deadline=soon())
        assert link.run(["head", "-c", "1000", "/dev/zero"], deadline=soon()).ok

    def test_a_stream_that_does(self, server: SshServer, dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(received, "MOST", 1 << 20)
        link = dial(server.port)
        link.connect(soon())
        stream = link.open_stream(["cat", "/dev/zero"], deadline=soon())
        with pytest.raises(CommandFailed, match="says more than 1 MiB"):
            stream.read_until(b"never", soon())
        assert len(stream.received) <= 1 << 20

    def test_an_answer_in_sections_that_does(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sections, "MOST", 1000)
        link = FakeTransport(connected=True, commands={".*": Reply(b"x" * 2000)})
        program = sections.Path(sections.__file__).parents[1] / "lab/lease/holdings.sh"
        with pytest.raises(EvidenceError, match="more than 1000"):
            sections.ask(link, program, deadline=soon())

    def test_the_mark_is_one_for_all(self) -> None:
        assert base.MOST == received.MOST == ssh.MOST
        assert Received("x").feed(b"y")
