"""The console of a real libvirt domain, and Serial over LAN of a real controller, through power cycles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.base.deadline import Deadline, poll
from harness.base.secret import resolve
from harness.lab.console.base import Source
from harness.lab.console.ipmi import IpmiSource
from harness.lab.power.base import Power
from harness.lab.power.libvirt import LibvirtPower
from harness.lab.recorder import Recorder
from suites.lab.bench import FIRMWARE, ipmi_bench, libvirt_bench

HOST = "bench"


def soon(seconds: float = 20.0) -> Deadline:
    return Deadline.after(seconds)


@pytest.fixture
def told() -> list[str]:
    return []


def recorder(source: Source, folder: Path, told: list[str]) -> Recorder:
    return Recorder(HOST, source, folder / "console.log", folder / "console.lock", told.append)


@pytest.fixture
def libvirt_entry() -> Iterator[LibvirtPower]:
    with libvirt_bench() as bench:
        yield bench.entry


def boots(record: Recorder, power: Power, pattern: bytes) -> None:
    """Two boots are both recorded, with the gap between them."""
    power.on(soon())
    first = record.await_bytes(re.compile(pattern), soon())
    assert first, record.text()
    power.cycle(soon())
    assert record.await_bytes(re.compile(pattern), soon(), since=first.end()), record.text()
    marks = record.path.with_suffix(".times").read_text()
    assert marks.count("attached to") >= 2 and "the source ended" in marks
    record.stop()
    assert poll(lambda: not record.attached, soon())


def test_libvirt_from_before_it_is_switched_on(libvirt_entry: LibvirtPower, tmp_path: Path, told: list[str]) -> None:
    from harness.lab.console.libvirt import LibvirtSource

    record = recorder(LibvirtSource(libvirt_entry), tmp_path, told).start()
    assert poll(lambda: record.attached, soon())  # to a domain that is off
    boots(record, libvirt_entry.control(HOST, Path()), FIRMWARE)
    assert told == []


def test_libvirt_that_goes_away_ends_nothing(
    libvirt_entry: LibvirtPower, tmp_path: Path, told: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    from harness.lab.console.libvirt import LibvirtSource

    missing = libvirt_entry.model_copy(update={"domain": "nobody"})
    record = recorder(LibvirtSource(missing), tmp_path, told).start()
    assert poll(lambda: bool(told), soon())
    record.stop()
    assert "Domain not found" in told[0] and len(told) == 1
    assert "libvirt" not in capfd.readouterr().err  # which the library would write by itself


def test_serial_over_lan(tmp_path: Path, told: list[str]) -> None:
    with ipmi_bench(tmp_path / "bmc") as bench:
        record = recorder(IpmiSource(bench.entry, resolve(bench.entry.password)), tmp_path, told).start()
        power = bench.entry.control(HOST, Path())
        try:
            power.on(soon())
            # ipmi_sim looks for the serial line every 10 s; the bytes are those that were sent, none added to a newline
            first = record.await_bytes(re.compile(rb"machine (\d+) booted\r\n\xff\x00end\r\n"), soon())
            assert first, (record.text(), told, record.path.with_suffix(".times").read_text())
            assert int(first[1]) == bench.machine
        finally:
            record.stop()
        assert poll(lambda: not record.attached, soon())
