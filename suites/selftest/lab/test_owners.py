"""Who has a device now: what Xen says, what xenstore must say where Xen does not, and who is nobody else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.base.errors import DeviceTaken
from harness.lab.lease.owners import Owners, ask, refuse_taken
from harness.transport.base import CommandResult, Script
from suites.selftest.fakes.faketransport import FakeTransport, Reply
from suites.selftest.fakes.plainbox import NIC

DEVICE = str(NIC)
DATA = Path(__file__).parents[1] / "data/xen-4.20/nvme_assignable.debugkey_Q.txt"


@pytest.mark.parametrize(
    ("owner", "taken"),
    [(None, False), ("d0", False), ("d3", False), ("DomIO", False), ("NULL", False), ("d7", True), ("d30", True)],
)
def test_a_domain_that_is_none_of_ours_has_taken_it(owner: str | None, taken: bool) -> None:
    owners = Owners({} if owner is None else {DEVICE: owner, "0000:04:00.0": "d8"}, frozenset({3}))
    if taken:
        with pytest.raises(DeviceTaken, match=f"^{DEVICE} is in use by others now: domain {owner[1:]} has it"):  # type: ignore[index]
            owners.refuse(DEVICE)
    else:
        owners.refuse(DEVICE)


def test_xen_says_who_has_each() -> None:
    link = FakeTransport("box", connected=True, commands={".*debug-keys Q.*": Reply(DATA.read_bytes())})
    found = ask(link, [3])
    assert {device: found.by_device[device] for device in (DEVICE, "0000:04:00.0")} == {
        DEVICE: "d0",
        "0000:04:00.0": "DomIO",
    }
    assert (found.ours, found.xen) == (frozenset({3}), True)


@pytest.mark.parametrize(("status", "xen"), [(0, True), (1, True), (95, False)])
def test_where_the_ring_has_lost_it_nothing_is_known(status: int, xen: bool) -> None:
    link = FakeTransport("box", connected=True, commands={".*": Reply(b"(XEN) something else\n", status=status)})
    assert ask(link, ()) == Owners({}, frozenset(), xen)


class TestInTheShell:
    """The real program, with stand-ins for xenstore and xl."""

    def run(self, folder: Path, owners: Owners, **programs: str) -> CommandResult:
        lines = {"xenstore-read": "exit 1", "xenstore-ls": "true", "xl": "true", **programs}
        for name, line in lines.items():
            (folder / name.replace("_", "-")).write_text(f"#!/bin/sh\n{line}\n")
            (folder / name.replace("_", "-")).chmod(0o755)
        done = folder / "done"
        script = owners.unless_taken(["touch", str(done)], DEVICE)
        assert script.text.endswith(f"exec touch {done}")
        assert owners.unless_taken(Script("a; b"), DEVICE).text.endswith("a; b")
        ended = subprocess.run(  # noqa: S603 - our own program
            ["/bin/sh", "-c", script.text], env={"PATH": f"{folder}:/usr/bin:/bin"}, capture_output=True, check=False
        )
        assert done.exists() is (ended.returncode == 0)
        return CommandResult("", ended.stdout, ended.stderr, ended.returncode, None, 0.0)

    @pytest.mark.parametrize(
        ("programs", "taken"),
        [
            ({}, False),
            ({"xenstore-read": "echo 7"}, True),
            ({"xenstore-read": "echo 3"}, False),
            ({"xenstore-read": "echo 4"}, False),
            ({"xenstore-ls": f"""echo '/local/domain/0/backend/pci/7/0/dev-0 = "{DEVICE}"'"""}, True),
            ({"xenstore-ls": """echo '/local/domain/0/backend/pci/7/0/dev-0 = "0000:04:00.0"'"""}, False),
            ({"xenstore-read": "echo 7", "xl": "[ $# = 1 ]"}, False),  # xl knows of no such domain
            ({"xenstore-read": "echo 7", "xl": "exit 1"}, True),  # xl does not tell
        ],
    )
    def test_the_note_of_a_living_domain_counts(self, tmp_path: Path, programs: dict[str, str], taken: bool) -> None:
        done = self.run(tmp_path, Owners({DEVICE: "d0"}, frozenset({4, 3})), **programs)
        if taken:
            with pytest.raises(DeviceTaken, match="domain 7 has it"):
                refuse_taken(done, DEVICE)
        else:
            assert refuse_taken(done, DEVICE) is done

    @pytest.mark.parametrize(
        ("owners", "taken"),
        [
            (Owners({}, frozenset()), True),
            (Owners({"0000:04:00.0": "d0"}, frozenset()), True),
            (Owners({DEVICE: "d0"}, frozenset()), False),
            (Owners({}, frozenset(), xen=False), False),
        ],
    )
    def test_a_silent_xenstore_is_a_no_where_xen_did_not_say(self, tmp_path: Path, owners: Owners, taken: bool) -> None:
        done = self.run(tmp_path, owners, **{"xenstore-ls": "exit 1"})
        if taken:
            with pytest.raises(DeviceTaken, match="who has it cannot be told"):
                refuse_taken(done, DEVICE)
        else:
            assert refuse_taken(done, DEVICE) is done


@pytest.mark.parametrize(("stderr", "told"), [(b"a\ndomain 7 has it\n", "domain 7 has it"), (b"", "status 96")])
def test_who_has_it_is_told_by_the_last_line(stderr: bytes, told: str) -> None:
    with pytest.raises(DeviceTaken, match=f"now: {told} "):
        refuse_taken(CommandResult("", b"", stderr, 96, None, 0.0), DEVICE)
    for status in (0, 1, 95, 97):
        assert refuse_taken(CommandResult("", b"", stderr, status, None, 0.0), DEVICE).status == status
