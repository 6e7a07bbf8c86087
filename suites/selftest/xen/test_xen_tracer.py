"""Stops of real hypervisors, replayed: registers and all memory that was read, in data/xen-*/stops.trace.json.gz."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harness.base.errors import LabError
from harness.model.address import Bdf
from harness.model.trace import Event
from harness.transport.debugger import Registers, Stop
from harness.xen.trace.symbols import Symbol, SymbolTable
from harness.xen.trace.tracer import Tracer
from suites.selftest.fakes.fakemachine import FakeMachine

RECORDINGS = sorted((Path(__file__).parents[1] / "data").glob("xen-*/stops.trace.json.gz"))


@cache
def recording(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return loaded


def table(rows: list[list[str]]) -> SymbolTable:
    return SymbolTable(tuple(Symbol(int(address, 16), kind, name) for address, kind, name in rows))


class Replayed(FakeMachine):
    """Memory as it was recorded; what was not read then cannot be read now."""

    def _read(self, memory: dict[int, int], address: int, length: int) -> bytes:
        try:
            return bytes(memory[address + place] for place in range(length))
        except KeyError:
            raise LabError(f"nothing was recorded at {address:#x}") from None


def replay(path: Path, hit: dict[str, Any]) -> list[Event]:
    whole = recording(path)
    machine = Replayed()
    for address, data in [*whole["code"].items(), *hit["reads"].items()]:
        machine.put(int(address, 16), bytes.fromhex(data))
    machine.stops = [Stop(Registers(**{"rip": 0, "rsp": 0, **hit["registers"]}))]
    tracer = Tracer(
        table(whole["xen"]), table(whole["dom0"]), Bdf.parse(whole["device"]), whole["msix_offset"], lambda: 1.0
    )
    with tracer.tracing(machine) as shared:
        while not shared.stops:
            pass
    return tracer.events


CASES = [
    pytest.param(path, hit, id=f"{path.parent.name}-{hit['event']['what']}-{number}")
    for path in RECORDINGS
    for number, hit in enumerate(recording(path)["hits"])
]


@pytest.mark.parametrize(("path", "hit"), CASES)
def test_a_real_stop_reads_as_it_did(path: Path, hit: dict[str, Any]) -> None:
    (event,) = replay(path, hit)
    expected = hit["event"]
    assert {key: getattr(event, key) for key in ("what", "domid", "pirq", "irq", "entry", "detail")} == {
        key: expected[key] for key in ("what", "domid", "pirq", "irq", "entry", "detail")
    }
    assert str(event.caller) == expected["caller"]
    assert [frame.symbol for frame in event.chain] == expected["chain"]
    dom0 = event.dom0 and [event.dom0.process, [frame.symbol for frame in event.dom0.chain]]
    assert dom0 == expected["dom0"]


def test_every_recording_has_what_matters() -> None:
    for path in RECORDINGS:
        seen = {hit["event"]["what"] for hit in recording(path)["hits"]}
        assert {"map", "bind", "unmap", "mask", "disable", "command"} <= seen, path
    assert RECORDINGS
