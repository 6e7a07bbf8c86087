"""`maskall doctor` on facts in a file, and the program that reads them by hand."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.base.errors import ExitStatus
from harness.cli import main
from suites.selftest.fakes.fakelab import NAME, FakeLab, fake_host
from suites.selftest.fakes.patience import FOREVER
from suites.selftest.lab.test_topologies import FOLDER

__all__ = ["fake_host"]

BENCH, REPORT = FOLDER / "plain-idle-card.facts", FOLDER / "report-pppoe-uplink.facts"


def test_devices_by_words(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["0000:41:00.0", "SER0", "02:00:5e:00:00:41", "8086:1521", "0000:40:02.0/00.0", "id=144d:a808,serial=SER0"]
    asked = [part for word in words for part in ("--device", word)]
    assert main(["doctor", "--facts", str(BENCH), *asked]) == ExitStatus.OK
    told, noted = capsys.readouterr()
    assert not noted
    assert told.count("may be borrowed") == len(words) + 1
    assert "SER0 at 0000:42:00.0 may be borrowed" in told
    assert told.rstrip().endswith(f"by {BENCH}: 6 of 6 devices may be borrowed")


def test_refused_devices_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--device", "8086:1521", "--device", "144d:a808", "--device", "0000:77:00.0"]
    assert main(["doctor", "--facts", str(REPORT), *asked]) == ExitStatus.FAILED
    told = capsys.readouterr()
    assert "8086:1521 at 0000:41:00.0 is not touched" in told.out
    assert "LETHAL network: unknown: on which card ppp0 stands" in told.out
    assert "0000:77:00.0 is not touched\n    LETHAL identity: there is no function" in told.out
    assert "1 of 3 devices" in told.out
    assert "older program" in told.err


@pytest.mark.parametrize(
    ("version", "untold"),
    [("2", "namespaces have built"), ("3", "by RDMA"), ("4", "pNFS"), ("5", "SCSI targets"), ("6", "")],
)
def test_what_an_older_program_did_not_tell_is_said(
    tmp_path: Path, version: str, untold: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "read.facts"
    path.write_text(re.sub(r"(?m)^version \d$", f"version {version}", BENCH.read_text()))
    main(["doctor", "--facts", str(path)])
    told = capsys.readouterr().err
    assert ("read by an older program" in told and untold in told) if untold else not told


def test_accepted_refusals_count_as_on_a_host(capsys: pytest.CaptureFixture[str]) -> None:
    facts = str(FOLDER / "card-with-address.facts")
    asked = ["doctor", "--facts", facts, "--device", "8086:1521"]
    assert main(asked) == ExitStatus.FAILED
    assert main([*asked, "--accept", "network=nobody needs it"]) == ExitStatus.OK
    assert "accepted: nobody needs it" in capsys.readouterr().out


def test_without_words_every_function_but_bridges_is_judged(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--facts", str(BENCH)]) == ExitStatus.FAILED
    told = capsys.readouterr().out
    assert "0000:41:00.0 may be borrowed" in told and "0000:00:17.0 is not touched" in told
    assert "0000:40:01.0" not in [line.split(" ")[0] for line in told.splitlines()], "a root port"


def test_what_raw_kept_is_judged_as_the_host_was(
    fake_host: FakeLab, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "controller"))
    kept, inventory = tmp_path / "facts.txt", ["--inventory", str(fake_host.inventory)]
    assert main(["doctor", NAME, *inventory, "--raw", str(kept)]) == ExitStatus.OK
    online = capsys.readouterr().out
    assert main(["doctor", NAME, *inventory, "--facts", str(kept)]) == ExitStatus.OK
    offline = capsys.readouterr().out
    devices = [line for line in offline.splitlines() if line.startswith(("nic0", "disk0", "    "))]
    assert devices and all(line in online for line in devices)
    assert main(["doctor", NAME, *inventory, "--facts", str(kept), "--device", "nic0"]) == ExitStatus.OK
    assert "1 of 1 devices" in capsys.readouterr().out


GOOD = BENCH.read_bytes()
BAD = [
    (b"", "no line '@@ NAME'"),
    (b"\x7fELF\x02\x01\x00\xff\xfe", "no line '@@ NAME'"),
    (b"root:x:0:0::/root:/bin/sh\n", "no line '@@ NAME'"),
    (GOOD.removesuffix(b"@@ end\n"), "cut short"),
    (GOOD[: len(GOOD) // 2], "cut short"),
    (GOOD.replace(b"@@ net\n", b"@@ net\n@@ net\n"), "'net' stands in it twice"),
    (GOOD.replace(b"uid 0\n", b"uid 1000\n"), "read by user 1000"),
    (GOOD.replace(b"@@ pci\n", b"@@ pic\n"), "no section pci"),
    (GOOD.replace(b"1b4e28ba-", b"x"), "expected a boot ID"),
]


@pytest.mark.parametrize(("data", "why"), BAD)
def test_a_bad_file_is_one_clear_line(
    data: bytes, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "facts.txt"
    path.write_bytes(data)
    assert main(["doctor", "--facts", str(path), "--device", "8086:1521"]) == ExitStatus.USAGE
    told = capsys.readouterr()
    assert why in told.err and str(path) in told.err and "Traceback" not in told.err
    assert not told.out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "which host?"),
        (["--facts", "/nowhere/facts.txt"], "No such file"),
        (["--facts", "/"], "Is a directory"),
        (["--facts", str(BENCH), "--raw", "/tmp/x"], "none is asked"),  # noqa: S108
        (["--facts", str(BENCH), "--inventory", "inventory/example.yaml"], "which host of the inventory"),
        (["--facts", str(BENCH), "--device", ""], "names no device"),
        (["--facts", str(BENCH), "--device", "id=8086:1521,mac=zz"], "mac"),
        (["--facts", str(BENCH), "--device", "id=8086:1521,colour=red"], "colour"),
        (["--facts", str(BENCH), "--accept", "nonsense=x"], "no check"),
        (["--print-program", "--facts", str(BENCH)], "stands alone"),
        (["--print-program", NAME], "stands alone"),
    ],
)
def test_bad_words_are_one_clear_line(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *words]) == ExitStatus.USAGE
    told = capsys.readouterr().err
    assert why in told and "Traceback" not in told


def test_a_section_nobody_knows_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "facts.txt"
    path.write_bytes(GOOD.replace(b"@@ end", b"@@ weather\nsunny\n\n@@ end"))
    assert main(["doctor", "--facts", str(path), "--device", "8086:1521"]) == ExitStatus.OK
    assert "weather" in capsys.readouterr().err


def test_a_file_from_a_windows_machine_is_read(tmp_path: Path) -> None:
    path = tmp_path / "facts.txt"
    path.write_bytes(GOOD.replace(b"\n", b"\r\n"))
    assert main(["doctor", "--facts", str(path), "--device", "8086:1521"]) == ExitStatus.OK


@pytest.mark.skipif(not (shutil.which("dash") and Path("/sys/bus/pci").exists()), reason="needs dash and PCI")
def test_the_printed_program_makes_a_file_that_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--print-program"]) == ExitStatus.OK
    program, facts = tmp_path / "facts.sh", tmp_path / "facts.txt"
    program.write_text(capsys.readouterr().out)
    done = subprocess.run(["dash", str(program)], capture_output=True, timeout=FOREVER)  # noqa: S603, S607
    assert done.returncode == 0
    facts.write_bytes(done.stdout.replace(b"\nuid 1", b"\nuid 0 #1"))
    assert main(["doctor", "--facts", str(facts)]) in (ExitStatus.OK, ExitStatus.FAILED)
    assert "devices may be borrowed" in capsys.readouterr().out
