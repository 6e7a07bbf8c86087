"""The gate before a lab host's hypervisor is livepatched: unknown means no, and every reason is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.lab.safety.checks.finding import Level
from harness.lab.safety.livepatch_gate import ALLOWED_MUTANTS, Livepatching
from harness.mutants.catalogue import catalogue

BOOT = "(XEN) Xen version 4.17.0 (Debian)\n(XEN) Command line: placeholder\n"
GOOD = Livepatching(
    mutant="no-maskall-reset", allowed=True, xen_version="4.20.1", console="", livepatches=(), domains=("maskall-a",)
)


def levels(one: Livepatching) -> list[Level]:
    return [found.level for found in one.refusals()]


@pytest.mark.parametrize("mutant", ["no-maskall-reset", "sticky-host-maskall", "maskall-not-refused"])
def test_a_host_that_may(mutant: str) -> None:
    assert levels(replace(GOOD, mutant=mutant)) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"allowed": False}, "inventory does not allow"),
        ({"mutant": "unmap-does-nothing"}, "unmap-does-nothing is none for a lab host"),
        ({"livepatches": ("xsa-423",)}, "livepatches are there: xsa-423"),
        ({"domains": ("maskall-a", "bob")}, "domains of others run: bob"),
    ],
)
def test_others_are_left_alone(change: dict[str, object], words: str) -> None:
    (found,) = replace(GOOD, **change).refusals()  # type: ignore[arg-type]
    assert found.level is Level.DENY and words in found.text


@pytest.mark.parametrize(
    ("version", "console", "expected"),
    [
        ("4.20.5-pre", "", []),
        ("4.18.0", "", []),
        ("4.17.1", "", []),
        ("4.16.4", "", []),
        ("4.17.0", BOOT, []),
        ("4.17.0", BOOT + "(XEN) Enabling Supervisor Shadow Stacks\n", [Level.LETHAL]),
        ("4.17.0", BOOT + "(XEN) Enabling Indirect Branch Tracking\n", [Level.LETHAL]),
        ("4.17.0", "(XEN) the ring has turned\n", [Level.LETHAL]),
        ("4.16.4-pre", "", [Level.LETHAL]),
        ("4.16.3", BOOT, []),
        ("4.15.9", "", [Level.LETHAL]),
        ("4.14.6", BOOT, []),
        ("4.14.6", "", [Level.LETHAL]),
        ("4.17", "", [Level.LETHAL]),
        ("of my own", BOOT, [Level.LETHAL]),
    ],
)
def test_shadow_stacks_are_deadly_before_the_fix(version: str, console: str, expected: list[Level]) -> None:
    assert levels(replace(GOOD, xen_version=version, console=console)) == expected


def test_every_reason_is_told() -> None:
    worst = Livepatching("x", False, "4.15.0", "", ("x",), ("bob",))
    assert levels(worst) == [Level.DENY] * 4 + [Level.LETHAL]


def test_what_a_lab_host_may_be_made_is_there() -> None:
    assert set(ALLOWED_MUTANTS) <= set(catalogue())
