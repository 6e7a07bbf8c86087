"""The catalogue of scenarios, and choosing from it."""

from __future__ import annotations

import pytest
from goodrecord import CATALOGUE, scenario

from harness.errors import SafetyRefusal, UsageError
from harness.scenario.checkpoint import Checkpoint
from harness.scenario.spec import Candidate, Power, Verb, all_scenarios, select
from harness.scenario.verbs import VERBS
from harness.scenario.verdict import ControlRole
from harness.xen.mutants import catalogue as mutants

DEVICES = ["nvme", "virtio-rng", "e1000e"]


def chosen(*patterns: str, profile: str = "default", devices: list[str] = DEVICES) -> list[str]:
    return [row.id for row in select(CATALOGUE, Candidate.unlimited(devices), list(patterns), profile)]


def test_all_is_the_product_and_every_name_is_its_own() -> None:
    rows = all_scenarios(CATALOGUE, Candidate.unlimited(DEVICES))
    assert len(rows) == len({row.id for row in rows}) >= len(CATALOGUE.endings) * len(CATALOGUE.follow_ons) * 3
    assert "E14-F1-hvm-nvme" in {row.id for row in rows}


def test_every_verb_can_be_carried_out() -> None:
    used = {verb for end in CATALOGUE.endings.values() for verb in (*end.fault, *end.end)}
    used |= {verb for follow in CATALOGUE.follow_ons.values() for verb in follow.steps}
    assert used <= set(VERBS)
    assert set(VERBS) | {Verb.CREATE} == set(Verb), "a verb that nobody wrote"


def test_what_each_row_promises() -> None:
    end = CATALOGUE.endings
    assert [name for name, one in end.items() if one.hazard] == ["E14", "decode-off-at-teardown"]
    assert [name for name, one in end.items() if Power.DEBUGGER in one.needs] == ["decode-off-at-teardown"]
    assert [name for name, one in CATALOGUE.follow_ons.items() if one.cures] == ["F3", "F8"]
    assert all(one.why for one in end.values())


class TestPatterns:
    def test_a_whole_name(self) -> None:
        assert chosen("E14-F1-hvm-nvme") == ["E14-F1-hvm-nvme"]

    @pytest.mark.parametrize(
        ("pattern", "wanted"),
        [
            ("E14", {f"E14-{follow}-hvm-{device}" for follow in CATALOGUE.follow_ons for device in DEVICES}),
            ("E14-F8", {f"E14-F8-hvm-{device}" for device in DEVICES}),
            ("E1", {f"E1-{follow}-hvm-{device}" for follow in CATALOGUE.follow_ons for device in DEVICES}),
            ("E[12]-F1-hvm-nvme", {"E1-F1-hvm-nvme", "E2-F1-hvm-nvme"}),
            ("*-F3-hvm-e1000e", {f"{end}-F3-hvm-e1000e" for end in CATALOGUE.endings}),
        ],
    )
    def test_parts_and_wildcards(self, pattern: str, wanted: set[str]) -> None:
        assert set(chosen(pattern)) >= wanted
        assert all(one in wanted for one in chosen(pattern) if "-pv-" not in one)

    def test_several_patterns_name_a_scenario_once(self) -> None:
        assert chosen("E14-F1-hvm-nvme", "E1-F1-hvm-nvme", "E14-F1*nvme")[:2] == ["E14-F1-hvm-nvme", "E1-F1-hvm-nvme"]
        assert len(set(chosen("E14", "E14-F1"))) == len(chosen("E14", "E14-F1"))

    def test_each_pattern_must_match(self) -> None:
        with pytest.raises(UsageError, match=r"no scenario matches 'E14-F1-hvm-nvm' \(did you mean E14-F1-hvm-nvme\?"):
            chosen("E14", "E14-F1-hvm-nvm")

    def test_a_device_that_was_left_out(self) -> None:
        with pytest.raises(UsageError, match="no scenario matches"):
            chosen("E14-F1-hvm-nvme", devices=["e1000e"])


class TestProfiles:
    def test_smoke(self) -> None:
        assert chosen(profile="smoke") == ["E14-F1-hvm-nvme"]

    def test_default_has_the_deterministic_hazards_with_every_follow_on(self) -> None:
        names = chosen()
        assert {f"E14-{follow}-hvm-nvme" for follow in ("F1", "F2", "F3", "F8")} <= set(names)
        assert "decode-off-at-teardown-F1-hvm-nvme" in names
        assert len(names) == len(set(names))

    def test_full_is_everything(self) -> None:
        assert chosen(profile="full") == [row.id for row in all_scenarios(CATALOGUE, Candidate.unlimited(DEVICES))]

    def test_every_pattern_of_every_profile_matches_something(self) -> None:
        for name, patterns in CATALOGUE.profiles.items():
            for pattern in patterns:
                assert chosen(pattern), f"{name}: {pattern}"

    def test_an_unknown_profile(self) -> None:
        with pytest.raises(UsageError, match=r"no profile 'smok' \(did you mean smoke\?\)"):
            chosen(profile="smok")

    def test_a_profile_without_a_scenario_is_an_error_not_an_empty_run(self) -> None:
        with pytest.raises(UsageError, match="profile smoke has no scenario for e1000e"):
            chosen(profile="smoke", devices=["e1000e"])


@pytest.mark.parametrize(
    ("ending", "follow_on", "role"),
    [
        ("E14", "F1", ControlRole.NOTICES),
        ("E14", "F2", ControlRole.NOTICES),
        ("E14", "F8", ControlRole.CURES),
        ("decode-off-at-teardown", "F1", ControlRole.NOTICES),
        ("E1", "F1", ControlRole.NONE),
        ("E3", "F8", ControlRole.NONE),
    ],
)
def test_what_a_row_promises_of_the_known_bad_control(ending: str, follow_on: str, role: ControlRole) -> None:
    assert scenario(ending, follow_on).control_role(mutants()["no-maskall-reset"].notices) is role
    assert scenario(ending, follow_on).control_role(()) is ControlRole.NONE


def test_every_checkpoint_has_a_name() -> None:
    assert len({one.moment for one in Checkpoint}) == 8


class TestDevicesOfALab:
    CARD = Candidate("nic0", "e1000e", frozenset({"E1", "E14"}))

    def test_profiles_speak_of_kinds(self) -> None:
        assert [row.id for row in select(CATALOGUE, [self.CARD], [], "default")] == ["E14-F1-hvm-nic0"]

    def test_only_granted_endings_are_offered(self) -> None:
        assert {row.ending for row in all_scenarios(CATALOGUE, [self.CARD])} == {"E1", "E14"}
        assert {row.ending for row in select(CATALOGUE, [self.CARD], [], "full")} == {"E1", "E14"}

    def test_an_ending_that_is_not_granted_is_refused_by_name(self) -> None:
        with pytest.raises(SafetyRefusal, match="nic0 may not suffer E3"):
            select(CATALOGUE, [self.CARD], ["E3"], "default")

    def test_an_empty_list_grants_nothing(self) -> None:
        assert all_scenarios(CATALOGUE, [Candidate("nic0", "e1000e", frozenset())]) == []
