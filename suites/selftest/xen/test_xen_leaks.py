"""What rounds leave behind: counted on captured readings, and told from noise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.base.errors import ParseError
from harness.judge.growth import COUNTERS, FEWEST_ROUNDS, Growth, growth
from harness.model.address import Bdf
from harness.xen.keys.leaks import count
from suites.selftest.fakes.readings import READINGS, files_of

NVME = Bdf.parse("04:00.0")
CLEAN = count(files_of("4.20/no_guest_alive"), NVME)


def rounds(name: str, values: list[int]) -> Growth:
    """Growth of one counter that went through these values while all others stood still."""
    return next(one for one in growth([{**CLEAN, name: value} for value in values]) if one.counter.name == name)


@pytest.mark.parametrize("reading", READINGS)
def test_every_captured_reading_is_counted(reading: str) -> None:
    counts = count(files_of(reading), NVME)
    assert set(counts) == {counter.name for counter in COUNTERS}
    assert counts["dom0_event_channels"] > 20
    assert counts["pciback_slots"] == 1
    assert counts["xenstore"] >= sum(counts[f"xenstore_{place}"] for place in ("dom0", "domains", "libxl", "vm"))


@pytest.mark.parametrize("version", ["4.14", "4.17", "4.20"])
def test_a_running_guest_is_seen_by_every_counter_it_should_move(version: str) -> None:
    idle, running = (count(files_of(f"{version}/{reading}"), NVME) for reading in ("no_guest_alive", "guest_running"))
    moved = {name: running[name] - idle[name] for name in idle if running[name] != idle[name]}
    assert moved.pop("xen_memory_kib") > 128 * 1024
    assert moved.pop("xenstore_domains") > 30
    assert moved["device_irqs"] == moved["msi_irqs"] == moved["foreign_irqs"] == 2
    assert moved["domains"] == moved["device_models"] == moved["toolstack_processes"] == 1
    unmoved = {"unbound_irqs", "dead_domains", "dead_pages", "claimed_pages", "pciback_slots"}
    assert set(idle) - set(moved) - {"xen_memory_kib", "xenstore_domains"} == unmoved


def test_zombies_of_a_stopped_qemu_are_seen() -> None:
    """Real rounds in which qemu was stopped and left: every one leaves a dead domain with its pages and pirqs."""
    counts = count(files_of("4.20/zombies_of_stopped_qemu"), NVME)
    assert counts["dead_domains"] == counts["device_models"] - 1 >= 2
    assert counts["dead_pages"] > 0
    assert counts["unbound_irqs"] > CLEAN["unbound_irqs"]
    assert counts["domain_irqs"] > 0


@pytest.mark.parametrize("counter", COUNTERS, ids=lambda counter: counter.name)
def test_one_more_in_every_round_is_a_leak_in_every_counter(counter: object) -> None:
    name = counter.name  # type: ignore[attr-defined]
    step = 4 if name == "xen_memory_kib" else 1  # a page
    seen = rounds(name, [CLEAN[name] + step * number for number in range(20)])
    assert seen.leaked
    assert seen.rises == seen.steps == 18
    assert "more in 18 of 18 rounds" in str(seen)


def test_a_leak_once_for_all_is_one_too() -> None:
    assert rounds("msi_irqs", [17] * 10 + [18] * 10).leaked


def test_the_warm_up_is_not_judged() -> None:
    assert not rounds("xenstore", [45] + [46] * 19).leaked


def test_a_reading_that_caught_something_in_passing_is_no_leak() -> None:
    for place in range(20):
        values = [29] * 20
        values[place] = 31
        assert not rounds("dom0_event_channels", values).leaked


def test_memory_that_settles_is_no_leak() -> None:
    """Measured on Xen 4.20, in KiB: pages taken for good in the first rounds, none after the third."""
    assert not rounds("xen_memory_kib", [1079940, 1079944, 1079948, 1079948, 1079948, 1079948]).leaked


def test_more_memory_than_caches_take_is_a_leak() -> None:
    noise = next(counter.noise for counter in COUNTERS if counter.name == "xen_memory_kib")
    assert not rounds("xen_memory_kib", [1079948] * 10 + [1079948 + noise] * 10).leaked
    assert rounds("xen_memory_kib", [1079948] * 10 + [1079948 + noise + 4] * 10).leaked


def test_too_few_rounds_say_nothing() -> None:
    assert growth([CLEAN] * (FEWEST_ROUNDS - 1)) == ()
    assert growth([CLEAN] * FEWEST_ROUNDS) != ()


@given(st.lists(st.integers(0, 50), min_size=FEWEST_ROUNDS, max_size=30))
def test_what_never_rises_never_leaks(values: list[int]) -> None:
    assert not rounds("msi_irqs", sorted(values, reverse=True)).leaked


def test_a_process_may_have_no_arguments_and_none_may_lack_a_name() -> None:
    before = count(files_of("4.20/no_guest_alive"), NVME)["device_models"]
    said = files_of("4.20/no_guest_alive")["processes.txt"]
    for row in (b"901 S qemu-system-i38\n", b"901 S qemu-system-i38 qemu-system-i386 -xen-domid 3\n"):
        files = {**files_of("4.20/no_guest_alive"), "processes.txt": said + row}
        assert count(files, NVME)["device_models"] == before + 1
    with pytest.raises(ParseError, match="no process"):
        count({**files_of("4.20/no_guest_alive"), "processes.txt": said + b"901 S\n"}, NVME)


INFO = b"xen_version : 4.20\nvirt_caps :\nxen_commandline :\nbuild_id :\nrelease :\n"


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("xenstore.txt", b"", "no node"),
        ("xenstore.txt", b"xenstore-ls: could not access", "no node"),
        ("xenstore.txt", b'tool = ""', "no node"),
        ("xenstore.txt", b"/tool", "no node"),
        ("processes.txt", b"ps: not found", "no process"),
        ("xl_info.txt", INFO + b"total_memory : 2559\n", "outstanding_claims"),
        ("xl_info.txt", INFO + b"outstanding_claims : 0\n", "total_memory"),
        ("xl_info.txt", b"total_memory : 2559\noutstanding_claims : 0\n", "xen_version missing"),
        ("xl_dmesg.txt", b"(XEN) nothing\n", "debug key"),
        ("xl_list.txt", b"", "header"),
        ("interrupts.txt", b"", "header"),
    ],
)
def test_a_section_that_cannot_be_read_is_refused(file: str, content: bytes, expected: str) -> None:
    files = {**files_of("4.20/no_guest_alive"), file: content}
    with pytest.raises(ParseError, match=expected) as caught:
        count(files, NVME)
    assert caught.value.file == file
