"""Opened snapshots: made once, only where it pays, and nothing is kept of a try that failed."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.base.errors import EmulatorFault, LabError, MaskallError
from harness.base.progress import PlainProgress, Progress
from harness.guest.initramfs import GuestFiles
from harness.host.host import Host, Opener
from harness.nested.cache import Cache
from harness.nested.snapshot import Snapshot
from harness.nested.warm_snapshot import WarmRecipe, WarmSnapshots
from suites.selftest.fakes.faketransport import Executed, FakeTransport, Reply
from suites.selftest.fakes.patience import FOREVER


@dataclass
class Bench:
    """A lab without an emulator: `faults` are raised by the openings to come, `readers` answers who reads consoles."""

    root: Path
    faults: list[MaskallError] = field(default_factory=list)
    readers: list[int] = field(default_factory=lambda: [0])
    played: int = 0
    connected_when_frozen: list[bool] = field(default_factory=list)
    screen: io.StringIO = field(default_factory=io.StringIO)

    def __post_init__(self) -> None:
        self.base = Snapshot(self.root / "base")
        self.base.path.mkdir()
        for name in ("ram", "state", "disk.qcow2", "guest.json", "facts.json"):
            (self.base.path / name).write_text(f"base {name}")
        self.openings = WarmSnapshots(Cache(self.root / "cache"))

    def play(self, host: Host, folder: Path, progress: Progress) -> None:
        self.played += 1
        (folder / "opening.json").write_text(f"played {self.played}")
        if self.faults:
            raise self.faults.pop(0)

    @contextlib.contextmanager
    def live(self, disk: Path, ram: Path) -> Iterator[tuple[Machine, Host]]:
        def readers(executed: Executed) -> Reply:
            return Reply(status=self.readers.pop(0) if len(self.readers) > 1 else self.readers[0])

        transport = FakeTransport(connected=True, commands={".*grep -lsx cat .*": readers})
        for file in (disk, ram):
            file.write_text(f"{file.read_text()}, and guest A")
        yield Machine(self, transport), Host("fake", transport, {}, GuestFiles("/k", "/i"))

    def recipe(self, key: str = "k" * 64, wanted: int = 2, base_digest: str = "b" * 64) -> WarmRecipe:
        opener = Opener(key, wanted, self.play)
        progress = PlainProgress(self.screen)
        return WarmRecipe(self.base, base_digest, ["rng"], opener, self.live, progress)  # type: ignore[arg-type]


@dataclass
class Machine:
    bench: Bench
    transport: FakeTransport

    def save(self, state: Path) -> None:
        self.bench.connected_when_frozen.append(self.transport.connected)
        state.write_text("state with guest A")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_copy_of_the_base_goes_on(bench: Bench) -> None:
    made = bench.openings.obtain(bench.recipe())
    assert made is not None
    assert made.ram.read_text() == "base ram, and guest A"
    assert made.disk.read_text() == "base disk.qcow2, and guest A"
    assert made.state.read_text() == "state with guest A"
    assert (made.path / "facts.json").read_text() == "base facts.json"
    assert (made.opening / "opening.json").read_text() == "played 1"
    assert bench.base.ram.read_text() == "base ram"
    assert bench.connected_when_frozen == [False]


def test_made_once_for_both_sides(bench: Bench) -> None:
    gate = threading.Barrier(2, timeout=FOREVER)

    def side(_: int) -> Path | None:
        gate.wait()
        made = bench.openings.obtain(bench.recipe())
        return made and made.path

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(side, range(2))
    assert first == second is not None
    assert bench.played == 1


def test_made_only_where_it_pays_and_used_where_it_is_there(bench: Bench) -> None:
    assert bench.openings.obtain(bench.recipe(wanted=1)) is None
    assert bench.played == 0
    assert bench.openings.obtain(bench.recipe(wanted=2)) is not None
    assert bench.openings.obtain(bench.recipe(wanted=1)) is not None
    assert bench.played == 1


@pytest.mark.parametrize("other", [{"key": "o" * 64}, {"base_digest": "o" * 64}])
def test_a_stale_one_is_not_used(bench: Bench, other: dict[str, str]) -> None:
    former = bench.openings.obtain(bench.recipe())
    now = bench.openings.obtain(bench.recipe(**other))  # type: ignore[arg-type]
    assert former and now and former.path != now.path
    assert bench.played == 2


def test_what_cannot_be_opened_is_tried_once(bench: Bench) -> None:
    bench.faults = [LabError("guest A does not work at C2")]
    assert bench.openings.obtain(bench.recipe()) is None
    assert bench.openings.obtain(bench.recipe()) is None
    assert bench.played == 1
    assert "no host with guest A running: guest A does not work at C2" in bench.screen.getvalue()
    assert not list((bench.root / "cache/building").iterdir()), "nothing is left of it"


def test_the_emulators_faults_are_tried_again_but_not_for_ever(bench: Bench) -> None:
    bench.faults = [EmulatorFault("triple fault")] * 2
    assert bench.openings.obtain(bench.recipe()) is not None
    assert bench.played == 3
    bench.faults = [EmulatorFault("triple fault")] * 9
    assert bench.openings.obtain(bench.recipe(key="o" * 64)) is None
    assert bench.played == 6


def test_no_reader_of_a_console_is_frozen(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.readers = [1, 1, 0]
    assert bench.openings.obtain(bench.recipe()) is not None
    assert bench.readers == [0], "it was waited for"
    monkeypatch.setattr("harness.nested.warm_snapshot._SECONDS", 0.0)
    bench.readers = [1]
    assert bench.openings.obtain(bench.recipe(key="o" * 64)) is None
    assert "a console's reader did not end" in bench.screen.getvalue()
    assert len(bench.connected_when_frozen) == 1
