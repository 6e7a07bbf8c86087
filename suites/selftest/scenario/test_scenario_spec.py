"""The catalogue of scenarios, and choosing from it."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

import pytest

from harness.base.errors import HarnessBug, InventoryError, SafetyRefusal, UsageError
from harness.model.guestspec import GuestType
from harness.model.observation import Checkpoint
from harness.mutants.catalogue import catalogue as mutants
from harness.nested.devices import candidates
from harness.nested.devices import catalogue as models
from harness.play.stage.verb import verb
from harness.play.verbs import VERBS
from harness.scenario.catalogue import OURS, load_catalogue
from harness.scenario.choose import Candidate, all_scenarios, select
from harness.scenario.spec import CREATE, ControlRole, HostPower, Next, devices_of
from harness.xen.toolstack.choice import ToolstackName
from suites.selftest.fakes.goodrecord import CATALOGUE, scenario

DEVICES = ["nvme", "virtio-rng", "e1000e"]
# E4 is E3 by another signal, E8-preserve stands for E8, E21 takes QEMU 8, E22 takes minutes, E27 to E31 are for mutants
NOT_IN_CI = {"E4", "E8", "E21", "E22", "E27", "E28", "E29", "E30", "E31"}
ONE_DEVICE = ("F1", "F2", "F3", "F5", "F7", "F8")


def chosen(*patterns: str, profile: str = "ci", devices: list[str] = DEVICES) -> list[str]:
    return [row.id for row in select(CATALOGUE, Candidate.unlimited(devices), list(patterns), profile)]


def test_all_is_the_product_and_every_name_is_its_own() -> None:
    rows = all_scenarios(CATALOGUE, Candidate.unlimited(DEVICES))
    assert len(rows) == len({row.id for row in rows}) > len(CATALOGUE.endings) * len(CATALOGUE.follow_ons)
    assert "E14-F1-hvm-nvme" in {row.id for row in rows}


def test_every_verb_can_be_carried_out() -> None:
    used = {verb for end in CATALOGUE.endings.values() for verb in (*end.fault, *end.end, *end.late)}
    used |= {verb for follow in CATALOGUE.follow_ons.values() for verb in follow.steps}
    assert used | {CREATE} == set(VERBS), "a verb that no scenario uses"
    assert set(Next) <= set(VERBS)
    assert all(verb.meaning.endswith(".") for verb in VERBS.values())


class TestVerbs:
    """A name that nobody has declared is refused as the catalogue is read, with its place and the nearest right one."""

    @pytest.mark.parametrize(
        ("right", "wrong", "line", "near"),
        [
            ("fault: [guest_sets_maskall]", "fault: [guest_set_maskall]", "fault:", "guest_sets_maskall"),
            ("end: [destroy, bind_again]", "end: [destroy, bind_agin]", "end:", "bind_again"),
            ("late: [kill_stopped_device_model]", "late: [kill_stoped_device_model]", "late:", "kill_stopped_device"),
            ("steps: [rebind, other_guest]", "steps: [rebin, other_guest]", "steps:", "rebind"),
            ("refusals: {save:", "refusals: {safe:", "refusals:", "save"),
        ],
    )
    def test_a_typo(self, tmp_path: Path, right: str, wrong: str, line: str, near: str) -> None:
        text = OURS.read_text()
        assert right in text
        path = tmp_path / "catalogue.yaml"
        path.write_text(text.replace(right, wrong))
        number = next(n for n, one in enumerate(path.read_text().splitlines(), 1) if wrong in one)
        with pytest.raises(InventoryError, match=f"{path}:{number}:[0-9]+: there is no verb '.*did you mean '{near}"):
            load_catalogue(path, VERBS)

    def test_ours_is_right(self) -> None:
        assert load_catalogue(OURS, VERBS) == CATALOGUE

    def test_a_verb_is_declared_once_and_says_what_it_does(self) -> None:
        def silent(stage: object) -> None: ...

        def loud(stage: object) -> None:
            """It is there already."""

        with pytest.raises(HarnessBug, match="does not say"):
            verb("silent", at=None)(silent)
        with pytest.raises(HarnessBug, match="destroy is declared twice"):
            verb("destroy", at=None)(loud)

    def test_what_an_ending_leaves_at_c3_follows_its_steps(self) -> None:
        """MSI-X switched off and not on again: no vector is left. The judge has it from the ending, not the verb."""
        off = {"unload_driver", "guest_clears_enable"}
        for name, end in CATALOGUE.endings.items():
            assert end.after_fault.no_irqs == bool(off & set(end.fault) and not end.works_after_fault), name
            switches = {"decode_off", "destroy_with_decode_off"} & {*end.fault, *end.end}
            assert end.switches_decoding == bool(switches), name
            assert set(end.not_through) <= set(ToolstackName), name
        masked = {name: end.after_fault.masked for name, end in CATALOGUE.endings.items()}
        assert {name: one for name, one in masked.items() if one is not None} == {
            "E21": False,
            "E27": True,
            "E30": False,
        }
        lost = CATALOGUE.endings["E30"].after_fault
        assert (lost.memory, lost.enabled, lost.driver) == (True, False, "pciback")


def test_what_each_row_promises() -> None:
    end = CATALOGUE.endings
    hazards = ["E14", "E15", "E17", "E23", "E24", "E27", "decode-off-at-teardown"]
    assert [name for name, one in end.items() if one.hazard] == hazards
    assert [name for name, one in end.items() if HostPower.DEBUGGER in one.needs] == ["E17", "decode-off-at-teardown"]
    assert [name for name, one in CATALOGUE.follow_ons.items() if one.cures] == ["F3", "F8"]
    assert all(one.why for one in end.values())


class TestPatterns:
    def test_a_whole_name(self) -> None:
        assert chosen("E14-F1-hvm-nvme") == ["E14-F1-hvm-nvme"]

    @pytest.mark.parametrize(
        ("pattern", "wanted"),
        [
            ("E14", {f"E14-{follow}-hvm-{device}" for follow in ONE_DEVICE for device in DEVICES}),
            ("E14-F8", {f"E14-F8-hvm-{device}" for device in DEVICES}),
            ("E1-F[12]-*", {f"E1-{follow}-hvm-{device}" for follow in ("F1", "F2") for device in DEVICES}),
            ("E[12]-F1-hvm-nvme", {"E1-F1-hvm-nvme", "E2-F1-hvm-nvme"}),
            ("E14-F4", {f"E14-F4-hvm-{one}+{other}" for one in DEVICES for other in DEVICES if one != other}),
        ],
    )
    def test_parts_and_wildcards(self, pattern: str, wanted: set[str]) -> None:
        assert set(chosen(pattern)) >= wanted
        assert all(
            one in wanted for one in chosen(pattern) if "-pv-" not in one and ("+" not in one or "F4" in pattern)
        )

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

    def test_ci_has_every_ending_that_is_not_a_variant_and_both_hazards_against_the_control(self) -> None:
        rows = select(CATALOGUE, candidates(models()), [], "ci")
        plain = {name for name in CATALOGUE.endings if re.fullmatch(r"E\d+", name)}
        assert {row.ending for row in rows} & plain == plain - NOT_IN_CI
        notices = mutants()["no-maskall-reset"].notices
        noticing = {row.ending for row in rows if row.control_role(notices) is ControlRole.NOTICES}
        assert noticing >= {"E14", "decode-off-at-teardown"}
        assert len(rows) == len({row.id for row in rows})

    def test_full_has_every_ending_and_every_follow_on(self) -> None:
        rows = select(CATALOGUE, candidates(models()), [], "full")
        assert {row.ending for row in rows} == set(CATALOGUE.endings)
        assert {row.follow_on for row in rows} == set(CATALOGUE.follow_ons)

    def test_every_pattern_of_every_profile_matches_something(self) -> None:
        ids = [row.id for row in all_scenarios(CATALOGUE, candidates(models()))]
        for name, patterns in CATALOGUE.profiles.items():
            for pattern in patterns.rows:
                assert fnmatch.filter(ids, pattern), f"{name}: {pattern}"

    def test_an_unknown_profile(self) -> None:
        with pytest.raises(UsageError, match=r"no profile 'smok' \(did you mean 'smoke'\?\)"):
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
    assert len({one.moment for one in Checkpoint}) == 9


class TestWhatCannotBe:
    @pytest.mark.parametrize(
        ("pattern", "reason"),
        [
            ("E14-F1-pvh-nvme", "Xen does not support passthrough for x86 PVH guests"),
            ("E3-F1-pv-nvme", "a PV guest with a device has no device model"),
            ("E7-F2-hvm-nvme", "so only F1 can follow"),
            ("E14-F4-hvm-nvme", "it takes two devices, joined by a plus"),
            ("E14-F1-hvm-nvme+virtio-rng", "is about one device"),
            ("E1-F6-hvm-nvme", "F6 begins with a pv guest"),
            ("E15-F1-hvm-nvme", "only for a device whose reset does nothing"),
            ("E21-F1-hvm-nvme", "only for a virtual function"),
            ("E5-F3-hvm-nvme", "and here is none"),
            ("E25-F1-hvm-nvme", "it is about PVH guests"),
        ],
    )
    def test_it_is_refused_with_the_reason(self, pattern: str, reason: str) -> None:
        with pytest.raises(UsageError, match=f"{pattern.replace('+', '.')} cannot be: .*{reason}"):
            chosen(pattern)

    def test_a_device_whose_reset_does_nothing_may_have_e15(self) -> None:
        card = Candidate("nic0", "e1000e", reset_effective=False)
        assert select(CATALOGUE, [card], ["E15-F1"], "ci")

    def test_a_virtual_function_has_no_memory_decoding_to_switch(self) -> None:
        function = Candidate("igb-vf", "igb-vf", virtual_function=True)
        endings = {row.ending for row in all_scenarios(CATALOGUE, [function])}
        assert endings >= {"E1", "E3", "E21"}
        assert not endings & {"E14", "E24", "E27", "decode-off-at-teardown"}
        with pytest.raises(UsageError, match="is its physical function's"):
            select(CATALOGUE, [function], ["E14-F1-hvm-igb-vf"], "ci")

    def test_a_guest_is_either_offered_or_explained(self) -> None:
        for name, end in CATALOGUE.endings.items():
            assert set(end.kinds) | set(end.not_for) >= {GuestType.HVM, GuestType.PV} or name in (
                "E15",
                "E22",
                "E23",
                "E24",
                "E25",
            )


class TestDevicesOfALab:
    CARD = Candidate("nic0", "e1000e", frozenset({"E1", "E14"}))

    def test_profiles_speak_of_kinds(self) -> None:
        assert [row.id for row in select(CATALOGUE, [self.CARD], [], "ci")] == ["E14-F1-hvm-nic0"]

    def test_only_granted_endings_are_offered(self) -> None:
        assert {row.ending for row in all_scenarios(CATALOGUE, [self.CARD])} == {"E1", "E14"}
        assert {row.ending for row in select(CATALOGUE, [self.CARD], ["E1", "E14"], "full")} == {"E1", "E14"}

    def test_an_ending_that_is_not_granted_is_refused_by_name(self) -> None:
        with pytest.raises(SafetyRefusal, match="nic0 may not suffer E3"):
            select(CATALOGUE, [self.CARD], ["E3"], "ci")

    def test_an_empty_list_grants_nothing(self) -> None:
        assert all_scenarios(CATALOGUE, [Candidate("nic0", "e1000e", frozenset())]) == []


def test_every_row_names_its_devices() -> None:
    rows = all_scenarios(CATALOGUE, Candidate.unlimited(DEVICES))
    assert {"E8-preserve", "decode-off-at-teardown"} <= {row.ending for row in rows}
    assert any(len(row.devices) > 1 for row in rows)
    assert [row.id for row in rows if devices_of(row.id) != row.devices] == []
    assert devices_of("E1-hvm-nvme") == ()
