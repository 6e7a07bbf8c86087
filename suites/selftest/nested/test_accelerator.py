"""Which accelerator is chosen: KVM only where everything it needs is really there."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from harness.nested import accelerator
from harness.nested.accelerator import choose
from harness.run.options import RunOptions

SVM = "processor\t: 0\nflags\t\t: fpu vme svm npt lm\n"
VMX = "processor\t: 0\nflags\t\t: fpu vme vmx lm\nvmx flags\t: vnmi\n"
NONE = "processor\t: 0\nflags\t\t: fpu vme lm\nvmx flags\t: vnmi\n"
SIMILAR = "flags\t\t: fpu svm_lock xsvm vmxoff\n"


@pytest.mark.parametrize(
    ("cpuinfo", "nested", "usable"),
    list(itertools.product([SVM, VMX, NONE, SIMILAR, ""], ["1", "Y", "0", "N", "", None], [True, False])),
)
def test_the_truth_table(cpuinfo: str, nested: str | None, usable: bool) -> None:
    chosen = choose(cpuinfo, nested, usable)
    if cpuinfo in (SVM, VMX) and nested in ("1", "Y") and usable:
        assert (chosen.name, chosen.argument) == ("kvm", "kvm")
        assert chosen.cpu == ("host,+svm" if cpuinfo == SVM else "host,+vmx")
    else:
        assert (chosen.name, chosen.argument, chosen.cpu) == ("tcg", "tcg,thread=multi", "qemu64,+svm,+npt")
    assert chosen.why


@pytest.mark.parametrize(
    ("cpuinfo", "nested", "usable", "why"),
    [
        (NONE, "1", True, "this CPU offers neither svm nor vmx"),
        (SVM, "0", True, "the CPU has svm, but kvm does not nest (nested=0)"),
        (VMX, None, True, "the CPU has vmx, but kvm does not nest (nested=None)"),
        (SVM, "1", False, "/dev/kvm cannot be opened by this user"),
        (SVM, "Y", True, "svm with nesting"),
    ],
)
def test_a_slow_run_explains_itself(cpuinfo: str, nested: str | None, usable: bool, why: str) -> None:
    assert choose(cpuinfo, nested, usable).why == why


@pytest.mark.parametrize(
    ("processors", "gib", "hosts"),
    [(1, 5, 1), (1, 6, 2), (2, 8, 2), (2, 9, 3), (16, 99, 3)],
)
def test_one_host_more_than_processors_where_memory_allows(
    processors: int, gib: int, hosts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "meminfo"
    told.write_text(f"MemTotal:       999999999 kB\nMemAvailable:   {gib << 20} kB\n")
    monkeypatch.setattr(accelerator, "MEMORY", told)
    monkeypatch.setattr("os.cpu_count", lambda: processors)
    assert RunOptions().hosts_at_a_time == hosts
    assert RunOptions(workers=7).hosts_at_a_time == 7


def test_memory_that_cannot_be_told_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "meminfo"
    told.write_text("MemTotal:       999999999 kB\n")
    monkeypatch.setattr(accelerator, "MEMORY", told)
    assert not accelerator.room_for(1)
