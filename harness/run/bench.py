"""How long each phase takes, and what is gained where. Figures, no judgement: nothing is asserted."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.base.deadline import Deadline
from harness.base.progress import Progress
from harness.host.stacks import Stack
from harness.nested.lab import NestedLab
from harness.nested.machine import Machine
from harness.nested.rundir import RunDir
from harness.nested.snapshot import connect
from harness.play.stage.warm_files import TAKE_OVER
from harness.run.options import RunOptions
from harness.run.plan import Plan
from harness.run.prepare import prepared_lab
from harness.run.selection import chosen
from harness.run.session import Session

_RESTORES = 3
_COLD_BOOT_SECONDS = 300.0
_SCENARIO = "E14-F1-hvm"
_GUEST_PHASES = ("create", "guest A boots")


@dataclass
class Figures:
    """Seconds by phase, in the order of measuring, and what goes with them."""

    facts: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    conclusions: dict[str, str] = field(default_factory=dict)
    overhead: dict[str, float] = field(default_factory=dict)

    @property
    def ratios(self) -> dict[str, float]:
        """How many times the first is as long as the second, for those that were measured."""
        pairs = {
            "cold boot / restore to ssh": ("cold boot to ssh", "restore to ssh"),
            "one host / two hosts": ("scenario, one host", "scenario, two hosts"),
            "from C0 / from C2": ("scenario, two hosts", "scenario, from C2"),
            "until C2: played / restored": ("until C2, played", "until C2, restored"),
        }
        return {
            name: self.seconds[first] / self.seconds[second]
            for name, (first, second) in pairs.items()
            if self.seconds.get(second)
        }

    def as_json(self) -> str:
        rounded = {name: round(value, 3) for name, value in self.seconds.items()}
        ratios = {name: round(value, 2) for name, value in self.ratios.items()}
        overhead = {name: round(value, 2) for name, value in self.overhead.items()}
        whole = {"facts": self.facts, "seconds": rounded, "ratios": ratios, "overhead_percent": overhead}
        return json.dumps({**whole, "conclusions": self.conclusions}, indent=2) + "\n"

    def table(self) -> list[str]:
        lines = [f"{name:<12} {value}" for name, value in self.facts.items()]
        lines += ["", f"{'phase':<32} seconds"]
        lines += [f"{name:<32} {value:7.2f}" for name, value in self.seconds.items()]
        lines += ["", f"{'ratio':<32}   times"]
        lines += [f"{name:<32} {value:7.1f}" for name, value in self.ratios.items()]
        lines += ["", f"{'harness overhead':<32} percent"]
        lines += [f"{name:<32} {value:7.1f}" for name, value in self.overhead.items()]
        return lines


def measure(stack: Stack, device: str, progress: Progress) -> Figures:
    """Boots, restores, and one scenario in each of the ways. Raises UsageError, LabError."""
    options = RunOptions(scenario=(f"{_SCENARIO}-{device}",), stack=stack.name, device=(device,))
    chosen(options)
    figures = Figures()
    lab = prepared_lab(stack, [device], progress)
    facts = lab.facts()
    figures.facts = {key: facts[key] for key in ("stack", "xen_version", "qemu", "accelerator")}
    _cold_boot(lab, progress.side("cold boot"), figures)
    _restores(lab, device, progress, figures)
    played = _scenario(lab, options, "one host", progress, figures, workers=1, cold=True)
    figures.seconds |= {f"guest: {name}": played[name] for name in _GUEST_PHASES if name in played}
    figures.seconds["until C2, played"] = _until(played, "observe C2")
    _scenario(lab, options, "two hosts", progress, figures, cold=True)
    if lab.devices[device].freezes(lab.emulator.release):
        _scenario(lab, options, "from C2, opening made", progress, figures)
        restored = _scenario(lab, options, "from C2", progress, figures)
        figures.seconds["until C2, restored"] = _until(restored, TAKE_OVER)
    return figures


def _cold_boot(lab: NestedLab, progress: Progress, figures: Figures) -> None:
    """From power-on to an answering dom0, as the snapshot's build does it."""
    run_dir = RunDir.create(lab.cache.root / "runs")
    try:
        disk = run_dir.path / "disk.qcow2"
        lab.emulator.overlay(lab.image.disk, "raw", disk)
        began = time.monotonic()
        machine = Machine.start(lab.machine_spec, run_dir, disk=disk, ram=run_dir.path / "ram")
        try:
            connect(machine, lab.image, Deadline.after(_COLD_BOOT_SECONDS), progress).close()
        finally:
            machine.close()
        figures.seconds["cold boot to ssh"] = time.monotonic() - began
    finally:
        run_dir.close()


def _restores(lab: NestedLab, device: str, progress: Progress, figures: Figures) -> None:
    """From nothing to an answering dom0 with the device in it; the median of several."""
    whole: list[float] = []
    added: list[float] = []
    for number in range(_RESTORES):
        side = progress.side(f"restore {number + 1}")
        began = time.monotonic()
        with lab.host([device], side) as host:
            whole.append(time.monotonic() - began)
            host.transport.close()
        added.append(side.phases.seconds.get(f"hot-add {device}", 0.0))
    figures.seconds["restore to ssh"] = statistics.median(whole)
    figures.seconds["of that: hot-add"] = statistics.median(added)


def _scenario(
    lab: NestedLab,
    options: RunOptions,
    name: str,
    progress: Progress,
    figures: Figures,
    *,
    workers: int = 2,
    cold: bool = False,
) -> dict[str, float]:
    """One scenario with its control, in one of the ways; the seconds of the stock side's phases in their order."""
    with tempfile.TemporaryDirectory(prefix="maskall-bench-") as results:
        ways = replace(options, results=Path(results), workers=workers, cold=cold)
        (scenario,) = chosen(ways)
        session = Session(lab, Plan.of(ways, [scenario]), progress.side(name))
        outcome = session.run(scenario)
        finished = session.finish()
    figures.seconds[f"scenario, {name}"] = outcome.seconds
    figures.conclusions[name] = outcome.conclusion
    figures.overhead[name] = 100 * finished.overhead_seconds / finished.seconds if finished.seconds else 0.0
    return outcome.stock.phases


def _until(phases: dict[str, float], last: str) -> float:
    """Seconds from the beginning to the end of phase `last`; 0 if it was not reached."""
    names = list(phases)
    return sum(phases[name] for name in names[: names.index(last) + 1]) if last in phases else 0.0
